//! Frames: a big-endian length, a big-endian stream id, a type and flags, then
//! `length` bytes of payload.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// The longest payload a frame may carry; Go's ttrpc has the same limit.
pub const MAX_PAYLOAD_BYTES: usize = 4 << 20;

const HEADER_BYTES: usize = 10;

/// What a frame is for: the header's type byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameKind {
    /// A `ttrpc.Request`, from client to server.
    Request,
    /// A `ttrpc.Response`, from server to client.
    Response,
    /// A message of a stream; unary calls have none.
    Data,
    /// A type this version of the protocol does not define.
    Unknown(u8),
}

impl FrameKind {
    fn from_byte(byte: u8) -> Self {
        match byte {
            1 => Self::Request,
            2 => Self::Response,
            3 => Self::Data,
            other => Self::Unknown(other),
        }
    }

    fn to_byte(self) -> u8 {
        match self {
            Self::Request => 1,
            Self::Response => 2,
            Self::Data => 3,
            Self::Unknown(byte) => byte,
        }
    }
}

/// What [`read`] found.
#[derive(Debug, PartialEq, Eq)]
pub enum Frame {
    /// A whole frame.
    Whole {
        /// The call it belongs to.
        stream: u32,
        /// Its type.
        kind: FrameKind,
        /// Its contents.
        payload: Vec<u8>,
    },
    /// A frame over [`MAX_PAYLOAD_BYTES`]; its payload was read and dropped,
    /// so the next frame is in step.
    TooLong {
        /// The call it belongs to.
        stream: u32,
        /// Its type.
        kind: FrameKind,
        /// The length it announced.
        length: u32,
    },
}

/// Reads the next frame; `None` when the peer closed between two frames.
///
/// Memory grows with the bytes that arrive, not with the length announced.
///
/// # Errors
/// `UnexpectedEof` when the peer closed inside a frame, else the stream's own.
pub async fn read<R: AsyncRead + Unpin>(from: &mut R) -> io::Result<Option<Frame>> {
    let mut header = [0; HEADER_BYTES];
    let mut got = 0;
    while got < HEADER_BYTES {
        match from.read(&mut header[got..]).await? {
            0 if got == 0 => return Ok(None),
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            n => got += n,
        }
    }
    let length = u32::from_be_bytes([header[0], header[1], header[2], header[3]]);
    let stream = u32::from_be_bytes([header[4], header[5], header[6], header[7]]);
    let kind = FrameKind::from_byte(header[8]);
    let mut body = from.take(u64::from(length));
    if length as usize > MAX_PAYLOAD_BYTES {
        let dropped = tokio::io::copy(&mut body, &mut tokio::io::sink()).await?;
        if dropped < u64::from(length) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        return Ok(Some(Frame::TooLong {
            stream,
            kind,
            length,
        }));
    }
    let mut payload = Vec::new();
    if body.read_to_end(&mut payload).await? < length as usize {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(Some(Frame::Whole {
        stream,
        kind,
        payload,
    }))
}

/// One frame's bytes, or `None` when `payload` is over [`MAX_PAYLOAD_BYTES`].
#[must_use]
pub fn encode(stream: u32, kind: FrameKind, payload: &[u8]) -> Option<Vec<u8>> {
    if payload.len() > MAX_PAYLOAD_BYTES {
        return None;
    }
    let length = u32::try_from(payload.len()).ok()?;
    let mut bytes = Vec::with_capacity(HEADER_BYTES + payload.len());
    bytes.extend_from_slice(&length.to_be_bytes());
    bytes.extend_from_slice(&stream.to_be_bytes());
    bytes.extend_from_slice(&[kind.to_byte(), 0]);
    bytes.extend_from_slice(payload);
    Some(bytes)
}

/// Writes the bytes that [`encode`] made.
///
/// # Errors
/// The stream's own.
pub async fn write<W: AsyncWrite + Unpin>(to: &mut W, bytes: &[u8]) -> io::Result<()> {
    to.write_all(bytes).await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_all(mut bytes: &[u8]) -> Vec<io::Result<Option<Frame>>> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        runtime.block_on(async {
            let mut found = Vec::new();
            loop {
                let frame = read(&mut bytes).await;
                let more = matches!(frame, Ok(Some(_)));
                found.push(frame);
                if !more {
                    return found;
                }
            }
        })
    }

    #[test]
    fn the_header_is_big_endian_length_stream_type_flags() {
        assert_eq!(
            encode(7, FrameKind::Request, b"ab").unwrap(),
            [0, 0, 0, 2, 0, 0, 0, 7, 1, 0, b'a', b'b']
        );
    }

    #[test]
    fn a_frame_survives_the_round_trip() {
        let bytes = encode(0x0102_0305, FrameKind::Response, b"payload").unwrap();
        let found = read_all(&bytes);
        assert_eq!(
            found[0].as_ref().unwrap().as_ref().unwrap(),
            &Frame::Whole {
                stream: 0x0102_0305,
                kind: FrameKind::Response,
                payload: b"payload".to_vec()
            }
        );
        assert!(matches!(found[1], Ok(None)), "{:?}", found[1]);
    }

    #[test]
    fn every_truncation_is_an_unexpected_end() {
        let whole = encode(1, FrameKind::Request, b"abc").unwrap();
        for cut in 1..whole.len() {
            let found = read_all(&whole[..cut]);
            let Err(err) = &found[0] else {
                panic!("cut at {cut}: {found:?}")
            };
            assert_eq!(err.kind(), io::ErrorKind::UnexpectedEof, "cut at {cut}");
        }
    }

    #[test]
    fn too_long_a_frame_is_skipped_and_the_next_one_read() {
        let length = MAX_PAYLOAD_BYTES + 1;
        let mut bytes = u32::try_from(length).unwrap().to_be_bytes().to_vec();
        bytes.extend_from_slice(&[0, 0, 0, 9, 1, 0]);
        bytes.resize(bytes.len() + length, 0xaa);
        bytes.extend(encode(11, FrameKind::Request, b"next").unwrap());
        let found = read_all(&bytes);
        assert!(
            matches!(found[0], Ok(Some(Frame::TooLong { stream: 9, .. }))),
            "{:?}",
            found[0]
        );
        assert!(
            matches!(found[1], Ok(Some(Frame::Whole { stream: 11, .. }))),
            "{:?}",
            found[1]
        );
    }

    #[test]
    fn too_long_a_payload_does_not_encode() {
        assert!(encode(1, FrameKind::Response, &vec![0; MAX_PAYLOAD_BYTES]).is_some());
        assert!(encode(1, FrameKind::Response, &vec![0; MAX_PAYLOAD_BYTES + 1]).is_none());
    }
}
