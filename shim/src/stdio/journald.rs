//! Entries of systemd's journal in its native protocol: one datagram of fields.
//!
//! A value without a newline is written `NAME=value`; any other as the name,
//! a newline, its length as eight little-endian bytes and the value.

use super::lines::Output;
use super::uri::JournaldUri;

/// One entry's datagram for a line of `output`.
pub(super) fn entry(uri: &JournaldUri, output: Output, line: &[u8]) -> Vec<u8> {
    let mut datagram = Vec::with_capacity(line.len() + 128);
    let whole = line.strip_suffix(b"\n");
    field(&mut datagram, "MESSAGE", whole.unwrap_or(line));
    // Syslog's numbers for an error and for information.
    let priority: &[u8] = match output {
        Output::Stdout => b"6",
        Output::Stderr => b"3",
    };
    field(&mut datagram, "PRIORITY", priority);
    if whole.is_none() {
        field(&mut datagram, "CONTAINER_PARTIAL_MESSAGE", b"true");
    }
    for (name, value) in &uri.fields {
        field(&mut datagram, name, value.as_bytes());
    }
    datagram
}

fn field(into: &mut Vec<u8>, name: &str, value: &[u8]) {
    into.extend_from_slice(name.as_bytes());
    if value.contains(&b'\n') {
        into.push(b'\n');
        into.extend_from_slice(&(value.len() as u64).to_le_bytes());
    } else {
        into.push(b'=');
    }
    into.extend_from_slice(value);
    into.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uri(value: &str) -> JournaldUri {
        JournaldUri {
            socket: "/j".into(),
            fields: vec![("CONTAINER_NAME".into(), value.into())],
        }
    }

    #[test]
    fn an_entry_holds_the_line_and_the_fields() {
        assert_eq!(
            entry(&uri("web"), Output::Stderr, b"oops\n"),
            b"MESSAGE=oops\nPRIORITY=3\nCONTAINER_NAME=web\n"
        );
        assert_eq!(
            entry(&uri("web"), Output::Stdout, b"part"),
            b"MESSAGE=part\nPRIORITY=6\nCONTAINER_PARTIAL_MESSAGE=true\nCONTAINER_NAME=web\n"
        );
    }

    #[test]
    fn a_value_of_two_lines_has_its_length() {
        let datagram = entry(&uri("a\nb"), Output::Stdout, b"x\n");
        assert!(datagram.ends_with(b"CONTAINER_NAME\n\x03\0\0\0\0\0\0\0a\nb\n"));
    }
}
