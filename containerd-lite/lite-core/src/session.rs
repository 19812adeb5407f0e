//! The client's end of a shim's session socket: frames of eight bytes of
//! header `[kind, 0, 0, 0, length in big endian]` and a payload. After
//! connecting, the shim sends "attached"; every byte of output from then on
//! is delivered.

use std::path::{Path, PathBuf};

use crate::error::{Because, Error, Kind, Result};
use crate::shim::TaskIo;
use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

/// The longest payload either side sends.
const LONGEST: usize = 32 << 10;

const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const END: u8 = 3;
const ATTACHED: u8 = 4;

/// Output of the process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Bytes of standard output, or of the terminal.
    Stdout(Bytes),
    /// Bytes of standard error.
    Stderr(Bytes),
}

/// A connection that is attached. Dropping it detaches.
#[derive(Debug)]
pub struct Session {
    reader: Reader,
    writer: Writer,
}

/// The output side.
#[derive(Debug)]
pub struct Reader(BufReader<OwnedReadHalf>);

/// The input side.
#[derive(Debug)]
pub struct Writer(OwnedWriteHalf);

/// Where the streams of a process are: the socket, and the log if it has one.
#[derive(Debug, Clone)]
pub struct Endpoint {
    /// The unix socket.
    pub socket: PathBuf,
    /// The json-file log.
    pub log: Option<Log>,
    /// Whether standard input is wanted, and if so whether it closes with the
    /// first client.
    pub stdin: Option<bool>,
}

/// The form of a log's lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Docker's, each a JSON object.
    JsonFile,
    /// Kubernetes', each with time, stream and tag; rotated by the kubelet.
    Cri,
}

/// A log in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// Where it is.
    pub path: PathBuf,
    /// How its lines look.
    pub form: Form,
    /// It is rotated at this size.
    pub bytes: u64,
    /// So many files of it are kept.
    pub files: u32,
}

impl Log {
    /// A log of 10 MiB in each of three files.
    #[must_use]
    pub fn at(path: PathBuf) -> Self {
        Self {
            path,
            form: Form::JsonFile,
            bytes: 10 << 20,
            files: 3,
        }
    }

    /// A log for a kubelet, which rotates it.
    #[must_use]
    pub fn cri(path: PathBuf) -> Self {
        Self {
            form: Form::Cri,
            ..Self::at(path)
        }
    }
}

impl Endpoint {
    /// The shim's `session://` URI.
    #[must_use]
    pub fn uri(&self) -> String {
        let mut parameters = Vec::new();
        if let Some(log) = &self.log {
            parameters.push(format!("log={}", escape(&log.path)));
            match log.form {
                Form::Cri => parameters.push("driver=cri".to_owned()),
                Form::JsonFile => {
                    parameters.push(format!("max-size={}&max-file={}", log.bytes, log.files));
                }
            }
        }
        if let Some(once) = self.stdin {
            parameters.push(format!("stdin={}", if once { "once" } else { "keep" }));
        }
        let mut uri = format!("session://{}", escape(&self.socket));
        if !parameters.is_empty() {
            uri.push('?');
            uri.push_str(&parameters.join("&"));
        }
        uri
    }

    /// Standard streams for a task whose output goes to this endpoint.
    #[must_use]
    pub fn streams(&self, terminal: bool) -> TaskIo {
        let uri = self.uri();
        TaskIo {
            stdin: if self.stdin.is_some() {
                uri.clone()
            } else {
                String::new()
            },
            stderr: if terminal { String::new() } else { uri.clone() },
            stdout: uri,
            terminal,
        }
    }
}

/// Percent-encodes what would end the path or the parameter.
fn escape(path: &Path) -> String {
    let mut text = String::new();
    for byte in path.as_os_str().as_encoded_bytes() {
        match byte {
            b'%' | b'?' | b'#' | b'&' | b'+' | b' ' | 0..=0x1f | 0x7f.. => {
                text.push_str(&format!("%{byte:02X}"))
            }
            _ => text.push(char::from(*byte)),
        }
    }
    text
}

impl Session {
    /// Connects and waits until the shim says that it is attached.
    ///
    /// # Errors
    /// Those of the socket; Unavailable when the peer is no session.
    pub async fn connect(socket: &Path) -> Result<Self> {
        let what = || format!("attach to {}", socket.display());
        let stream = UnixStream::connect(socket).await.op(what)?;
        let (reader, writer) = stream.into_split();
        let mut reader = Reader(BufReader::with_capacity(LONGEST + 8, reader));
        match reader.frame().await? {
            Some((ATTACHED, _)) => Ok(Self {
                reader,
                writer: Writer(writer),
            }),
            _ => Err(Kind::Unavailable.error(what())),
        }
    }

    /// Both sides, to be used at the same time.
    #[must_use]
    pub fn split(self) -> (Reader, Writer) {
        (self.reader, self.writer)
    }
}

impl Reader {
    /// The next output; `None` when it is finished, or when the shim is gone.
    ///
    /// # Errors
    /// Those of the socket; Internal for a frame that cannot be.
    pub async fn next(&mut self) -> Result<Option<Output>> {
        loop {
            return match self.frame().await? {
                Some((STDOUT, bytes)) => Ok(Some(Output::Stdout(bytes))),
                Some((STDERR, bytes)) => Ok(Some(Output::Stderr(bytes))),
                Some((END, _)) | None => Ok(None),
                // Kinds that a later shim may add.
                Some(_) => continue,
            };
        }
    }

    async fn frame(&mut self) -> Result<Option<(u8, Bytes)>> {
        let mut header = [0; 8];
        match self.0.read_exact(&mut header).await {
            Ok(_) => {}
            Err(err) if is_end(&err) => return Ok(None),
            Err(err) => return Err(Error::io("read session", err)),
        }
        let [kind, _, _, _, length @ ..] = header;
        let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
        if length > LONGEST {
            return Err(Kind::Internal.error(format!("read session: frame of {length} bytes")));
        }
        let mut payload = vec![0; length];
        self.0
            .read_exact(&mut payload)
            .await
            .op(|| "read session".to_owned())?;
        Ok(Some((kind, payload.into())))
    }
}

/// A shim that was killed leaves a reset where others leave an end.
fn is_end(err: &std::io::Error) -> bool {
    use std::io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
    matches!(err.kind(), UnexpectedEof | ConnectionReset | BrokenPipe)
}

impl Writer {
    /// Sends bytes to standard input.
    ///
    /// # Errors
    /// Those of the socket.
    pub async fn stdin(&mut self, bytes: &[u8]) -> Result<()> {
        for chunk in bytes.chunks(LONGEST) {
            self.send(chunk).await?;
        }
        Ok(())
    }

    /// Closes standard input.
    ///
    /// # Errors
    /// Those of the socket.
    pub async fn close_stdin(&mut self) -> Result<()> {
        self.send(&[]).await
    }

    async fn send(&mut self, payload: &[u8]) -> Result<()> {
        let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
        let mut frame = Vec::with_capacity(8 + payload.len());
        frame.extend([STDIN, 0, 0, 0]);
        frame.extend(length.to_be_bytes());
        frame.extend(payload);
        self.0
            .write_all(&frame)
            .await
            .op(|| "write session".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::UnixListener;

    #[test]
    fn an_endpoint_is_written_as_the_shim_reads_it() {
        let endpoint = Endpoint {
            socket: "/s/a b".into(),
            log: Some(Log::at("/r/x-json.log".into())),
            stdin: Some(true),
        };
        assert_eq!(
            endpoint.uri(),
            "session:///s/a%20b?log=/r/x-json.log&max-size=10485760&max-file=3&stdin=once"
        );
        let bare = Endpoint {
            socket: "/s".into(),
            log: None,
            stdin: None,
        };
        let streams = bare.streams(true);
        assert_eq!(
            (streams.stdin.as_str(), streams.stdout.as_str()),
            ("", "session:///s")
        );
        assert_eq!(streams.stderr, "");
    }

    #[tokio::test]
    async fn a_session_goes_both_ways() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("s");
        let listener = UnixListener::bind(&socket).unwrap();
        let shim = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream
                .write_all(b"\x04\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\x02hi\x02\0\0\0\0\0\0\x01!")
                .await
                .unwrap();
            let mut got = [0; 8 + 3 + 8];
            stream.read_exact(&mut got).await.unwrap();
            stream.write_all(b"\x03\0\0\0\0\0\0\0").await.unwrap();
            got
        });
        let (mut reader, mut writer) = Session::connect(&socket).await.unwrap().split();
        assert_eq!(
            reader.next().await.unwrap(),
            Some(Output::Stdout("hi".into()))
        );
        assert_eq!(
            reader.next().await.unwrap(),
            Some(Output::Stderr("!".into()))
        );
        writer.stdin(b"abc").await.unwrap();
        writer.close_stdin().await.unwrap();
        assert_eq!(reader.next().await.unwrap(), None);
        assert_eq!(
            &shim.await.unwrap(),
            b"\0\0\0\0\0\0\0\x03abc\0\0\0\0\0\0\0\0"
        );
    }

    #[tokio::test]
    async fn a_peer_that_does_not_attach_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("s");
        let listener = UnixListener::bind(&socket).unwrap();
        let connect = Session::connect(&socket);
        let hang_up = async { drop(listener.accept().await.unwrap()) };
        let (session, ()) = tokio::join!(connect, hang_up);
        assert_eq!(session.unwrap_err().kind(), Kind::Unavailable);
    }
}
