//! The form of frames: eight bytes of head, then a payload.
//!
//! A control frame's head is version and type, 16 bits each with the first set,
//! then flags and length; a data frame's is the stream's number, then the same.

/// The length of every head.
pub(crate) const HEAD: usize = 8;

/// SPDY/3.1 calls itself 3 on the wire.
const VERSION: u16 = 3;

/// The flag that ends one direction of a stream.
const FIN: u8 = 1;

/// What a head announces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Head {
    /// `length` bytes for `stream`.
    Data {
        stream: u32,
        fin: bool,
        length: usize,
    },
    /// A control frame with a payload of `length` bytes.
    Control {
        kind: Kind,
        fin: bool,
        length: usize,
    },
    /// A control frame of another version.
    Foreign,
}

/// The types of control frames that mean something here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Open,
    Reset,
    Ping,
    GoAway,
    /// Replies, settings, further headers, windows: they need no answer.
    Other,
}

/// Reads a head.
pub(crate) fn parse(head: [u8; HEAD]) -> Head {
    let [a, b, c, d, flags, x, y, z] = head;
    let length = u32::from_be_bytes([0, x, y, z]) as usize;
    let fin = flags & FIN != 0;
    if a & 0x80 == 0 {
        return Head::Data {
            stream: u32::from_be_bytes([a, b, c, d]),
            fin,
            length,
        };
    }
    if u16::from_be_bytes([a & 0x7f, b]) != VERSION {
        return Head::Foreign;
    }
    let kind = match u16::from_be_bytes([c, d]) {
        1 => Kind::Open,
        3 => Kind::Reset,
        6 => Kind::Ping,
        7 => Kind::GoAway,
        _ => Kind::Other,
    };
    Head::Control { kind, fin, length }
}

/// Why a stream is reset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Why {
    ProtocolError = 1,
    RefusedStream = 3,
    Cancel = 5,
}

fn control(kind: u16, flags: u8, payload: &[&[u8]]) -> Vec<u8> {
    let length: usize = payload.iter().map(|part| part.len()).sum();
    let mut frame = Vec::with_capacity(HEAD + length);
    frame.extend_from_slice(&(0x8000 | VERSION).to_be_bytes());
    frame.extend_from_slice(&kind.to_be_bytes());
    frame.extend_from_slice(&flags_and_length(flags, length));
    for part in payload {
        frame.extend_from_slice(part);
    }
    frame
}

/// Flags and a length of 24 bits; what is written here is never longer.
fn flags_and_length(flags: u8, length: usize) -> [u8; 4] {
    let [_, x, y, z] = u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes();
    [flags, x, y, z]
}

/// The head of a data frame.
pub(crate) fn data_head(stream: u32, fin: bool, length: usize) -> [u8; HEAD] {
    let [a, b, c, d] = (stream & 0x7fff_ffff).to_be_bytes();
    let [flags, x, y, z] = flags_and_length(u8::from(fin), length);
    [a, b, c, d, flags, x, y, z]
}

/// `SYN_STREAM` with a compressed block; only tests open streams.
#[cfg(test)]
pub(crate) fn open(stream: u32, fin: bool, block: &[u8]) -> Vec<u8> {
    control(1, u8::from(fin), &[&stream.to_be_bytes(), &[0; 6], block])
}

/// `SYN_REPLY` with a compressed block.
pub(crate) fn reply(stream: u32, block: &[u8]) -> Vec<u8> {
    control(2, 0, &[&stream.to_be_bytes(), block])
}

/// `RST_STREAM`.
pub(crate) fn reset(stream: u32, why: Why) -> Vec<u8> {
    control(3, 0, &[&stream.to_be_bytes(), &(why as u32).to_be_bytes()])
}

/// `PING`.
pub(crate) fn ping(id: u32) -> Vec<u8> {
    control(6, 0, &[&id.to_be_bytes()])
}

/// `GOAWAY`: all is well, and `last` is the last stream that was taken.
pub(crate) fn go_away(last: u32) -> Vec<u8> {
    control(7, 0, &[&last.to_be_bytes(), &0_u32.to_be_bytes()])
}

/// The number that a control frame's payload begins with.
pub(crate) fn number(payload: &[u8]) -> Option<u32> {
    let bytes = payload.first_chunk::<4>()?;
    Some(u32::from_be_bytes(*bytes) & 0x7fff_ffff)
}

/// Stream and compressed block of a `SYN_STREAM`.
pub(crate) fn opened(payload: &[u8]) -> Option<(u32, &[u8])> {
    Some((number(payload)?, payload.get(10..)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(frame: &[u8]) -> Head {
        parse(*frame.first_chunk().expect("a frame has a head"))
    }

    #[test]
    fn heads_are_read_as_they_are_written() {
        assert_eq!(
            parse(data_head(5, true, 70_000)),
            Head::Data {
                stream: 5,
                fin: true,
                length: 70_000
            }
        );
        let kinds = [
            (open(1, false, b"xy"), Kind::Open, 12),
            (reply(1, b"xy"), Kind::Other, 6),
            (reset(1, Why::Cancel), Kind::Reset, 8),
            (ping(9), Kind::Ping, 4),
            (go_away(3), Kind::GoAway, 8),
        ];
        for (frame, kind, length) in kinds {
            assert_eq!(
                head(&frame),
                Head::Control {
                    kind,
                    fin: false,
                    length
                }
            );
        }
        assert_eq!(parse([0x80, 2, 0, 1, 0, 0, 0, 0]), Head::Foreign);
    }

    #[test]
    fn a_stream_that_is_opened_says_its_number_and_headers() {
        let frame = open(7, false, b"block");
        assert_eq!(opened(&frame[HEAD..]), Some((7, &b"block"[..])));
        assert_eq!(opened(&frame[HEAD..12]), None);
        assert_eq!(number(&[1, 2]), None);
    }
}
