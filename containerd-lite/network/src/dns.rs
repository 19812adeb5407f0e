//! DNS messages, as far as names of containers need them: RFC 1035 questions,
//! and answers of addresses and names. No I/O.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Seconds an answer may be kept; containers come and go.
const TTL: u32 = 600;

const HEADER: usize = 12;

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// IPv4 addresses.
    A,
    /// IPv6 addresses.
    Aaaa,
    /// The name of an address.
    Ptr,
    /// Anything else.
    Other,
}

/// The one question of a query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// The name, in lower case, without the final dot.
    pub name: String,
    /// What about it.
    pub kind: Kind,
    /// Where the question ends in the message.
    end: usize,
}

/// What there is to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// These addresses; none is "the name is known, but not of this kind".
    Addresses(Vec<IpAddr>),
    /// This name.
    Name(String),
    /// There is no such name.
    NoSuchName,
    /// It cannot be found out now.
    Failure,
}

/// Reads a query; `None` for what is none, or has not one question.
#[must_use]
pub fn question(message: &[u8]) -> Option<Question> {
    let [_, _, flags, _, 0, 1, ..] = *message else {
        return None;
    };
    // A response, or an operation that is no query.
    if flags & 0xf8 != 0 {
        return None;
    }
    let mut name = String::new();
    let mut at = HEADER;
    loop {
        let length = usize::from(*message.get(at)?);
        at += 1;
        match length {
            0 => break,
            1..=63 => {
                let label = message.get(at..at + length)?;
                if !name.is_empty() {
                    name.push('.');
                }
                name.push_str(&String::from_utf8_lossy(label).to_ascii_lowercase());
                at += length;
            }
            // A question has nothing before it to point to.
            _ => return None,
        }
    }
    let kind = u16::from_be_bytes(*message.get(at..)?.first_chunk()?);
    let class = u16::from_be_bytes(*message.get(at + 2..)?.first_chunk()?);
    let kind = match (kind, class) {
        (1, 1) => Kind::A,
        (28, 1) => Kind::Aaaa,
        (12, 1) => Kind::Ptr,
        _ => Kind::Other,
    };
    Some(Question {
        name,
        kind,
        end: at + 4,
    })
}

/// The address that a question of a pointer is about.
#[must_use]
pub fn reversed(name: &str) -> Option<IpAddr> {
    if let Some(digits) = name.strip_suffix(".in-addr.arpa") {
        let mut octets = [0; 4];
        let mut parts = digits.split('.');
        for octet in octets.iter_mut().rev() {
            *octet = parts.next()?.parse().ok()?;
        }
        return parts
            .next()
            .is_none()
            .then(|| Ipv4Addr::from(octets).into());
    }
    let digits = name.strip_suffix(".ip6.arpa")?;
    let mut bits = 0_u128;
    let mut count = 0;
    for (at, digit) in digits.split('.').enumerate() {
        let value = u128::from_str_radix(digit, 16)
            .ok()
            .filter(|value| *value < 16)?;
        bits |= value.checked_shl(u32::try_from(at).ok()? * 4)?;
        count += 1;
    }
    (count == 32).then(|| Ipv6Addr::from(bits).into())
}

/// The response to `query`.
#[must_use]
pub fn response(query: &[u8], question: &Question, answer: &Answer) -> Vec<u8> {
    let records: Vec<(u16, Vec<u8>)> = match answer {
        Answer::Addresses(addresses) => addresses
            .iter()
            .filter_map(|address| match (address, question.kind) {
                (IpAddr::V4(v4), Kind::A) => Some((1, v4.octets().to_vec())),
                (IpAddr::V6(v6), Kind::Aaaa) => Some((28, v6.octets().to_vec())),
                _ => None,
            })
            .collect(),
        Answer::Name(name) => vec![(12, encode(name))],
        Answer::NoSuchName | Answer::Failure => Vec::new(),
    };
    let code = match answer {
        Answer::Addresses(_) | Answer::Name(_) => 0,
        Answer::NoSuchName => 3,
        Answer::Failure => 2,
    };
    let mut message = query.get(..question.end).unwrap_or(query).to_vec();
    // A response; what was desired of recursion is kept, and it is available.
    if let [_, _, flags, codes, ..] = message.as_mut_slice() {
        *flags = 0x80 | (*flags & 0x01);
        *codes = 0x80 | code;
    }
    let count = u16::try_from(records.len()).unwrap_or(u16::MAX);
    if let Some(counts) = message.get_mut(6..HEADER) {
        counts.fill(0);
        counts[..2].copy_from_slice(&count.to_be_bytes());
    }
    for (kind, data) in records {
        // The name is the question's: a pointer to it.
        message.extend([0xc0, 0x0c]);
        message.extend(kind.to_be_bytes());
        message.extend(1_u16.to_be_bytes());
        message.extend(TTL.to_be_bytes());
        message.extend(u16::try_from(data.len()).unwrap_or(u16::MAX).to_be_bytes());
        message.extend(data);
    }
    message
}

fn encode(name: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for label in name.split('.').filter(|label| !label.is_empty()) {
        let label = label.get(..63).unwrap_or(label);
        bytes.push(u8::try_from(label.len()).unwrap_or(63));
        bytes.extend(label.as_bytes());
    }
    bytes.push(0);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(name: &str, kind: u16) -> Vec<u8> {
        let mut message = vec![0xab, 0xcd, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        message.extend(encode(name));
        message.extend(kind.to_be_bytes());
        message.extend([0, 1]);
        message
    }

    #[test]
    fn a_name_is_answered_with_its_addresses() {
        let query = query("Web.Net", 1);
        let asked = question(&query).unwrap();
        assert_eq!((asked.name.as_str(), asked.kind), ("web.net", Kind::A));
        let addresses = vec!["10.0.0.2".parse().unwrap(), "fd00::2".parse().unwrap()];
        let said = response(&query, &asked, &Answer::Addresses(addresses));
        assert_eq!(said[..8], [0xab, 0xcd, 0x81, 0x80, 0, 1, 0, 1]);
        assert_eq!(said[said.len() - 6..], [0, 4, 10, 0, 0, 2]);
    }

    #[test]
    fn what_is_not_there_is_said_by_a_code() {
        let query = query("x", 28);
        let asked = question(&query).unwrap();
        assert_eq!(response(&query, &asked, &Answer::NoSuchName)[3] & 0xf, 3);
        let known = response(&query, &asked, &Answer::Addresses(Vec::new()));
        assert_eq!((known[3] & 0xf, known[7]), (0, 0));
    }

    #[test]
    fn addresses_are_read_backwards() {
        assert_eq!(
            reversed("2.0.17.172.in-addr.arpa"),
            Some("172.17.0.2".parse().unwrap())
        );
        let long = format!("2{}.d.f.ip6.arpa", ".0".repeat(29));
        assert_eq!(reversed(&long), Some("fd00::2".parse().unwrap()));
        assert_eq!(reversed("x.in-addr.arpa"), None);
        assert_eq!(reversed("1.2.3.4.5.in-addr.arpa"), None);
    }

    #[test]
    fn nonsense_is_no_question() {
        for message in [
            &b""[..],
            &[0; 12],
            &[0, 0, 0x80, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 1],
        ] {
            assert_eq!(question(message), None);
        }
        let mut endless = query("a", 1);
        endless[12] = 0xc0;
        assert_eq!(question(&endless), None);
        assert_eq!(question(&query("a", 1)[..14]), None);
    }
}
