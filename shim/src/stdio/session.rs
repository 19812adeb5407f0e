//! A session: output that the shim itself keeps, in a log and for clients.
//!
//! Clients come and go on a unix socket. Frames have eight bytes of header,
//! `[kind, 0, 0, 0, length be32]`, and at most 32 KiB of payload:
//!
//! | kind | from | payload |
//! |---|---|---|
//! | 0 | client | input; empty: end of input |
//! | 1, 2 | shim | output, errors |
//! | 3 | shim | none: output is over, the connection closes |
//! | 4 | shim | none: attached, every byte from here on is delivered |
//!
//! Whoever produces output waits for each client in turn, so a client that
//! does not read holds up the output of its container, and nothing else.
//! One that has gone is forgotten.

use std::cell::{Cell, RefCell};
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Mutex;
use tokio::task::JoinHandle;

use super::input::Input;
use super::lines::Output;
use super::log::Log;
use super::uri::SessionUri;
use crate::address;
use crate::failure::warn;

const MAX_FRAME_BYTES: usize = 32 << 10;

/// Clients of one session; one more is turned away.
const MAX_CLIENTS: usize = 64;

/// The longest path that fits a socket's address.
const MAX_SOCKET_PATH_BYTES: usize = 107;

const KIND_INPUT: u8 = 0;
const KIND_STDOUT: u8 = 1;
const KIND_STDERR: u8 = 2;
const KIND_END: u8 = 3;
const KIND_ATTACHED: u8 = 4;

/// One process's session.
pub(crate) struct Session {
    socket: PathBuf,
    log: Log,
    clients: RefCell<Vec<Rc<Client>>>,
    input: Option<Input>,
    stdin_once: bool,
    ended: Cell<bool>,
    server: RefCell<Option<JoinHandle<()>>>,
}

struct Client {
    writer: Mutex<OwnedWriteHalf>,
    gone: Cell<bool>,
}

impl Session {
    /// Opens the log and listens. `input` is where clients' input goes.
    pub(crate) fn open(uri: &SessionUri, input: Option<Input>) -> io::Result<Rc<Self>> {
        let log = Log::open(&uri.log)?;
        let listener = listen(&uri.socket)?;
        let session = Rc::new(Self {
            socket: uri.socket.clone(),
            log,
            clients: RefCell::default(),
            input,
            stdin_once: uri.stdin_once,
            ended: Cell::new(false),
            server: RefCell::default(),
        });
        let server = tokio::task::spawn_local(accept(Rc::clone(&session), listener));
        *session.server.borrow_mut() = Some(server);
        Ok(session)
    }

    /// Where clients attach.
    pub(crate) fn socket(&self) -> &Path {
        &self.socket
    }

    /// Logs `bytes` and delivers them to every client.
    pub(crate) async fn write(&self, output: Output, bytes: &[u8]) {
        self.log.append(output, bytes).await;
        let kind = match output {
            Output::Stdout => KIND_STDOUT,
            Output::Stderr => KIND_STDERR,
        };
        let clients = self.clients.borrow().clone();
        for client in clients {
            for chunk in bytes.chunks(MAX_FRAME_BYTES) {
                if client.send(kind, chunk).await.is_err() {
                    self.forget(&client);
                    break;
                }
            }
        }
    }

    /// Writes the last line of `output`, which will not grow any more.
    pub(crate) async fn finish(&self, output: Output) {
        self.log.finish(output).await;
    }

    /// Tells every client that output is over. Later ones are told at once.
    pub(crate) async fn end(&self) {
        self.ended.set(true);
        let clients = std::mem::take(&mut *self.clients.borrow_mut());
        for client in clients {
            // One that left needs no goodbye.
            let _ = client.send(KIND_END, &[]).await;
            client.hang_up().await;
        }
    }

    /// Stops listening and removes the socket.
    pub(crate) fn close(&self) {
        if let Some(server) = self.server.borrow_mut().take() {
            server.abort();
            if let Err(err) = address::remove(&self.socket) {
                warn("remove the session's socket", &err);
            }
        }
    }

    fn forget(&self, client: &Rc<Client>) {
        if !client.gone.replace(true)
            && self.stdin_once
            && let Some(input) = &self.input
        {
            input.close();
        }
        self.clients
            .borrow_mut()
            .retain(|other| !Rc::ptr_eq(other, client));
    }
}

/// Binds the session's socket, whose path may be longer than an address.
fn listen(path: &Path) -> io::Result<UnixListener> {
    address::remove(path)?;
    let listener = if path.as_os_str().len() <= MAX_SOCKET_PATH_BYTES {
        address::bind(path)?
    } else {
        let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        let dir = File::open(dir)?;
        address::bind(
            &Path::new("/proc/self/fd")
                .join(dir.as_raw_fd().to_string())
                .join(name),
        )?
    };
    listener.set_nonblocking(true)?;
    UnixListener::from_std(listener)
}

async fn accept(session: Rc<Session>, listener: UnixListener) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                tokio::task::spawn_local(serve(Rc::clone(&session), stream));
            }
            Err(err) => {
                warn("accept a session client", &err);
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
        }
    }
}

/// Attaches one client and takes its input until it leaves.
async fn serve(session: Rc<Session>, stream: UnixStream) {
    let (reader, writer) = stream.into_split();
    let client = Rc::new(Client {
        writer: Mutex::new(writer),
        gone: Cell::new(false),
    });
    if session.clients.borrow().len() >= MAX_CLIENTS {
        return;
    }
    {
        // Held from before output can find the client until it knows.
        let mut writer = client.writer.lock().await;
        let ended = session.ended.get();
        if !ended {
            session.clients.borrow_mut().push(Rc::clone(&client));
        }
        if write_frame(&mut writer, KIND_ATTACHED, &[]).await.is_err() {
            drop(writer);
            session.forget(&client);
            return;
        }
        if ended {
            let _ = write_frame(&mut writer, KIND_END, &[]).await;
            let _ = writer.shutdown().await;
            return;
        }
    }
    // A bad frame ends the client as its leaving does.
    let _ = take_input(&session, reader).await;
    session.forget(&client);
    client.hang_up().await;
}

async fn take_input(session: &Session, mut reader: OwnedReadHalf) -> io::Result<()> {
    let mut payload = Vec::new();
    loop {
        let mut header = [0; 8];
        reader.read_exact(&mut header).await?;
        let length = u32::from_be_bytes([header[4], header[5], header[6], header[7]]) as usize;
        if header[0] != KIND_INPUT || length > MAX_FRAME_BYTES {
            return Err(io::ErrorKind::InvalidData.into());
        }
        payload.resize(length, 0);
        reader.read_exact(&mut payload).await?;
        let Some(input) = &session.input else {
            continue;
        };
        if payload.is_empty() {
            input.close();
        } else {
            // A process that has closed its input misses nothing.
            let _ = input.write(&payload).await;
        }
    }
}

impl Client {
    async fn send(&self, kind: u8, payload: &[u8]) -> io::Result<()> {
        if self.gone.get() {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        write_frame(&mut *self.writer.lock().await, kind, payload).await
    }

    async fn hang_up(&self) {
        let _ = self.writer.lock().await.shutdown().await;
    }
}

async fn write_frame(to: &mut OwnedWriteHalf, kind: u8, payload: &[u8]) -> io::Result<()> {
    let length = u32::try_from(payload.len()).map_err(io::Error::other)?;
    let mut frame = Vec::with_capacity(8 + payload.len());
    frame.extend_from_slice(&[kind, 0, 0, 0]);
    frame.extend_from_slice(&length.to_be_bytes());
    frame.extend_from_slice(payload);
    to.write_all(&frame).await
}
