//! A registry's way through a counter: what is asked for of which blob, and how
//! many bytes of it were sent. After so many, it can break off or fall silent.

use std::collections::BTreeMap;
use std::io::{self, BufRead as _, BufReader, Read, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

/// What happens once the bytes that were allowed are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// The connection ends; later ones go on.
    Cut,
    /// Nothing more comes until [`Proxy::go_on`].
    Silence,
}

#[derive(Debug, Default)]
struct State {
    /// Bytes of blobs that may still be sent, and what comes after them.
    limit: Option<(u64, Then)>,
    /// Bytes sent of each blob.
    sent: BTreeMap<String, u64>,
    /// Requests for each blob.
    asked: BTreeMap<String, u64>,
}

struct Shared {
    upstream: String,
    state: Mutex<State>,
    changed: Condvar,
}

/// A running one. Its threads end with their connections, and all with the test.
pub struct Proxy {
    address: String,
    shared: Arc<Shared>,
}

impl Proxy {
    /// Starts one before the registry at `upstream`, in the caller's network.
    ///
    /// # Panics
    /// When there is no free port.
    #[must_use]
    pub fn start(upstream: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("there is a free port");
        let address = listener
            .local_addr()
            .expect("it has an address")
            .to_string();
        let shared = Arc::new(Shared {
            upstream: upstream.to_owned(),
            state: Mutex::default(),
            changed: Condvar::new(),
        });
        let serving = Arc::clone(&shared);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = Arc::clone(&serving);
                // A connection that breaks is the test's affair.
                thread::spawn(move || drop(shared.serve(&stream)));
            }
        });
        Self { address, shared }
    }

    /// `host:port/name`, as a reference for pull.
    #[must_use]
    pub fn reference(&self, name: &str) -> String {
        format!("{}/{name}", self.address)
    }

    /// Allows `bytes` of blobs from here on.
    pub fn limit(&self, bytes: u64, then: Then) {
        self.shared.lock().limit = Some((bytes, then));
    }

    /// Takes the limit away.
    pub fn go_on(&self) {
        self.shared.lock().limit = None;
        self.shared.changed.notify_all();
    }

    /// Bytes sent of each blob, by its digest.
    #[must_use]
    pub fn sent(&self) -> BTreeMap<String, u64> {
        self.shared.lock().sent.clone()
    }

    /// How often each blob was asked for.
    #[must_use]
    pub fn asked(&self) -> BTreeMap<String, u64> {
        self.shared.lock().asked.clone()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn serve(&self, client: &TcpStream) -> io::Result<()> {
        let mut requests = BufReader::new(client.try_clone()?);
        while let Some(request) = head(&mut requests)? {
            let mut upstream = TcpStream::connect(&self.upstream)?;
            upstream.write_all(&request)?;
            let mut answer = BufReader::new(upstream);
            let Some(answered) = head(&mut answer)? else {
                break;
            };
            let mut to = client;
            to.write_all(&answered)?;
            let line = String::from_utf8_lossy(&request).into_owned();
            if line.starts_with("HEAD ") {
                continue;
            }
            let path = line.split(' ').nth(1).unwrap_or_default();
            let blob = path.rsplit_once("/blobs/").map(|(_, digest)| digest);
            let length = length_of(&answered);
            let mut body = answer.take(length);
            match blob {
                None => drop(io::copy(&mut body, &mut to)?),
                Some(blob) => {
                    *self.lock().asked.entry(blob.to_owned()).or_default() += 1;
                    if !self.send(blob, &mut body, to)? {
                        return to.shutdown(Shutdown::Both);
                    }
                }
            }
        }
        Ok(())
    }

    /// Sends a blob; false when the limit came first.
    fn send(&self, blob: &str, body: &mut impl Read, mut to: &TcpStream) -> io::Result<bool> {
        let mut buffer = vec![0; 16 << 10];
        loop {
            let allowed = self.allowed();
            if allowed == 0 {
                return Ok(false);
            }
            let want = usize::try_from(allowed).map_or(buffer.len(), |all| all.min(buffer.len()));
            let read = body.read(&mut buffer[..want])?;
            if read == 0 {
                self.give_back(allowed);
                return Ok(true);
            }
            to.write_all(&buffer[..read])?;
            self.give_back(allowed - read as u64);
            let mut state = self.lock();
            *state.sent.entry(blob.to_owned()).or_default() += read as u64;
        }
    }

    /// Returns what was taken and not sent.
    fn give_back(&self, bytes: u64) {
        if let Some((left, _)) = &mut self.lock().limit {
            *left += bytes;
        }
    }

    /// Takes a piece of what may be sent. Waits in a silence, and is 0 after it
    /// and at a cut.
    fn allowed(&self) -> u64 {
        const PIECE: u64 = 16 << 10;
        let mut state = self.lock();
        match state.limit {
            None => PIECE,
            Some((0, Then::Cut)) => {
                state.limit = None;
                0
            }
            Some((0, Then::Silence)) => {
                while state.limit.is_some() {
                    let waited = self.changed.wait(state);
                    state = waited.unwrap_or_else(PoisonError::into_inner);
                }
                0
            }
            Some((left, then)) => {
                let piece = left.min(PIECE);
                state.limit = Some((left - piece, then));
                piece
            }
        }
    }
}

/// Everything up to an empty line; `None` at the end of the connection.
fn head(from: &mut BufReader<TcpStream>) -> io::Result<Option<Vec<u8>>> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if from.read_until(b'\n', &mut head)? == 0 {
            return Ok(None);
        }
    }
    Ok(Some(head))
}

fn length_of(head: &[u8]) -> u64 {
    let text = String::from_utf8_lossy(head).to_ascii_lowercase();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("content-length:").map(str::trim));
    line.and_then(|length| length.parse().ok()).unwrap_or(0)
}
