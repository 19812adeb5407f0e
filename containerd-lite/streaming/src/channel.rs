//! Messages of a `WebSocket` that carry several streams: the first byte is the
//! channel's number; in base64 it is the number's digit, and what follows is
//! encoded.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::{BufMut as _, Bytes, BytesMut};
use tokio_tungstenite::tungstenite::Message;

/// Standard input, from the client.
pub(crate) const STDIN: u8 = 0;
/// Standard output.
pub(crate) const STDOUT: u8 = 1;
/// Standard error.
pub(crate) const STDERR: u8 = 2;
/// How it ended.
pub(crate) const ERROR: u8 = 3;
/// The terminal's size, from the client.
pub(crate) const RESIZE: u8 = 4;
/// Version 5: the channel that is named by the next byte has ended.
pub(crate) const CLOSE: u8 = 255;

/// A message with `payload` on `channel`.
pub(crate) fn message(base64: bool, channel: u8, payload: &[u8]) -> Message {
    if base64 {
        let mut text = String::with_capacity(1 + payload.len().div_ceil(3) * 4);
        text.push(char::from(b'0'.saturating_add(channel)));
        BASE64.encode_string(payload, &mut text);
        Message::Text(text.into())
    } else {
        let mut bytes = BytesMut::with_capacity(1 + payload.len());
        bytes.put_u8(channel);
        bytes.put_slice(payload);
        Message::Binary(bytes.freeze())
    }
}

/// The channel and payload of what a client sent; `None` where the message is
/// none of ours: empty, badly encoded, or of the other kind.
pub(crate) fn parse(base64: bool, message: Message) -> Option<(u8, Bytes)> {
    match message {
        Message::Binary(bytes) if !base64 => {
            let channel = *bytes.first()?;
            Some((channel, bytes.slice(1..)))
        }
        Message::Text(text) if base64 => {
            let (channel, rest) = text.as_bytes().split_first()?;
            let payload = BASE64.decode(rest).ok()?;
            Some((channel.checked_sub(b'0')?, payload.into()))
        }
        // Browsers and simple clients send text on binary channels.
        Message::Text(text) => {
            let bytes = Bytes::copy_from_slice(text.as_bytes());
            Some((*bytes.first()?, bytes.slice(1..)))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_read_as_they_are_written() {
        for base64 in [false, true] {
            for payload in [&b""[..], b"a", b"\0\xffhello"] {
                let parsed = parse(base64, message(base64, STDERR, payload));
                assert_eq!(parsed, Some((STDERR, Bytes::copy_from_slice(payload))));
            }
        }
        assert_eq!(message(true, 3, b"hi"), Message::Text("3aGk=".into()));
        assert_eq!(
            message(false, 3, b"hi"),
            Message::Binary(Bytes::from_static(b"\x03hi"))
        );
    }

    #[test]
    fn nonsense_is_none_of_ours() {
        assert_eq!(parse(false, Message::Binary(Bytes::new())), None);
        assert_eq!(parse(true, Message::Text("".into())), None);
        assert_eq!(parse(true, Message::Text("1!!".into())), None);
        assert_eq!(parse(true, Message::Text("!aGk=".into())), None);
        assert_eq!(
            parse(true, Message::Binary(Bytes::from_static(b"1aGk="))),
            None
        );
    }
}
