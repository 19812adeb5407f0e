//! `EXPOSE`: `port[-port][/protocol]`.

/// The most ports that one range may name.
const MOST: u32 = 65536;

/// Every port that `text` names, as `80/tcp`.
///
/// # Errors
/// A sentence that says what was expected.
pub fn parse(text: &str) -> Result<Vec<String>, String> {
    let expected = || format!("invalid port {text:?}: expected port[-port][/tcp|udp|sctp]");
    let (range, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let protocol = protocol.to_ascii_lowercase();
    if !["tcp", "udp", "sctp"].contains(&protocol.as_str()) {
        return Err(expected());
    }
    // `-p` writes a host's port in front; here it means nothing.
    let range = range.rsplit(':').next().unwrap_or(range);
    let (low, high) = range.split_once('-').unwrap_or((range, range));
    let number = |text: &str| text.parse::<u32>().ok().filter(|port| *port < MOST);
    match (number(low), number(high)) {
        (Some(low), Some(high)) if low <= high => Ok((low..=high)
            .map(|port| format!("{port}/{protocol}"))
            .collect()),
        _ => Err(expected()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports() {
        assert_eq!(parse("80").unwrap(), ["80/tcp"]);
        assert_eq!(
            parse("8000-8002/UDP").unwrap(),
            ["8000/udp", "8001/udp", "8002/udp"]
        );
        for bad in ["", "x", "80/icmp", "90-80", "65536", "-"] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
    }
}
