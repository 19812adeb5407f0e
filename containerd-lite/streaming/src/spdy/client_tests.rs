use std::collections::{BTreeMap, HashMap};
use std::io;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::frame::{self, HEAD, Head, Kind};
use super::headers;

/// A client's side of a connection.
pub(crate) struct Client<T> {
    io: T,
    headers: headers::Writer,
    next: u32,
    /// What came on each stream so far.
    pub came: HashMap<u32, Vec<u8>>,
    /// Streams that the server has ended.
    pub ended: Vec<u32>,
    /// Streams that the server has reset.
    pub reset: Vec<u32>,
    /// Streams that the server has taken.
    pub taken: Vec<u32>,
    /// Pings that the server has answered.
    pub pongs: Vec<u32>,
}

impl<T: AsyncRead + AsyncWrite + Unpin> Client<T> {
    pub(crate) fn new(io: T) -> Self {
        Self {
            io,
            headers: headers::Writer::new().expect("zlib works"),
            next: 1,
            came: HashMap::new(),
            ended: Vec::new(),
            reset: Vec::new(),
            taken: Vec::new(),
            pongs: Vec::new(),
        }
    }

    pub(crate) async fn open(&mut self, headers: &[(&str, &str)]) -> u32 {
        let id = self.next;
        self.next += 2;
        let headers: BTreeMap<_, _> = headers
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        let block = self.headers.write(&headers).expect("zlib works");
        self.raw(&frame::open(id, false, &block)).await;
        id
    }

    pub(crate) async fn send(&mut self, stream: u32, fin: bool, bytes: &[u8]) {
        self.raw(&frame::data_head(stream, fin, bytes.len())).await;
        self.raw(bytes).await;
    }

    pub(crate) async fn raw(&mut self, bytes: &[u8]) {
        // The server may have hung up: what it sent tells.
        let _ = self.io.write_all(bytes).await;
        let _ = self.io.flush().await;
    }

    pub(crate) async fn ping(&mut self, id: u32) {
        self.raw(&frame::ping(id)).await;
    }

    /// Takes one frame; false at the end.
    pub(crate) async fn take(&mut self) -> bool {
        let mut head = [0; HEAD];
        if self.io.read_exact(&mut head).await.is_err() {
            return false;
        }
        match frame::parse(head) {
            Head::Data {
                stream,
                fin,
                length,
            } => {
                let bytes = self.payload(length).await.expect("a frame is whole");
                self.came
                    .entry(stream)
                    .or_default()
                    .extend_from_slice(&bytes);
                if fin {
                    self.ended.push(stream);
                }
            }
            Head::Control { kind, length, .. } => {
                let bytes = self.payload(length).await.expect("a frame is whole");
                let number = frame::number(&bytes).expect("a frame has a number");
                match kind {
                    Kind::Reset => self.reset.push(number),
                    Kind::Ping => self.pongs.push(number),
                    Kind::GoAway => return false,
                    Kind::Open | Kind::Other => self.taken.push(number),
                }
            }
            Head::Foreign => panic!("a frame of another version"),
        }
        true
    }

    async fn payload(&mut self, length: usize) -> io::Result<Bytes> {
        let mut bytes = vec![0; length];
        self.io.read_exact(&mut bytes).await?;
        Ok(bytes.into())
    }

    /// Takes all until the server says good-bye or hangs up.
    pub(crate) async fn finish(&mut self) {
        while self.take().await {}
    }

    /// Takes frames until `done`.
    pub(crate) async fn until(&mut self, done: impl Fn(&Self) -> bool) {
        while !done(self) {
            assert!(self.take().await, "the server hung up");
        }
    }

    /// What came on a stream, as text.
    pub(crate) fn text(&self, stream: u32) -> String {
        let bytes = self.came.get(&stream).map_or(&[][..], Vec::as_slice);
        String::from_utf8_lossy(bytes).into_owned()
    }
}
