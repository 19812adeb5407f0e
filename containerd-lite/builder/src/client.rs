//! The questions a build asks its client: for a directory's names, for a file's bytes. The daemon reads nothing of the client's
//! files itself, and only what it asks for travels.

use lite_core::{Kind, Result};
use tokio::sync::{mpsc, oneshot};

/// One question. The answer goes where it says.
#[derive(Debug)]
pub enum Ask {
    /// What is in the directory `path` of the context.
    List {
        /// Relative to the context; the context itself is empty.
        path: String,
        /// Where the answer goes.
        reply: oneshot::Sender<Result<Vec<Listed>>>,
    },
    /// The bytes of the file `path`.
    Read {
        /// Relative to the context.
        path: String,
        /// Where they go; an error ends them, the end of the channel is the end of the file.
        reply: mpsc::Sender<Result<Vec<u8>>>,
    },
}

/// One file of a context.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its name in its directory.
    pub name: String,
    /// Type and permissions, as `st_mode`.
    pub mode: u32,
    /// Size in bytes.
    pub size: u64,
    /// When it changed, in nanoseconds since 1970.
    pub modified_ns: i64,
    /// Its inode: a file that was replaced has another.
    pub inode: u64,
    /// Where it points, if it is a link.
    pub target: String,
}

/// The client of one build.
#[derive(Debug, Clone)]
pub struct Client(mpsc::Sender<Ask>);

/// Pieces of a file on their way; when there are so many, the client waits.
const PIECES: usize = 8;

impl Client {
    /// The client that answers what comes out of the other end of `asks`.
    #[must_use]
    pub fn new(asks: mpsc::Sender<Ask>) -> Self {
        Self(asks)
    }

    /// Asks for a directory.
    ///
    /// # Errors
    /// What the client says; Cancelled when it is gone.
    pub async fn list(&self, path: &str) -> Result<Vec<Listed>> {
        let (reply, answer) = oneshot::channel();
        let path = path.to_owned();
        let ask = Ask::List { path, reply };
        self.0.send(ask).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }

    /// Asks for a file.
    ///
    /// # Errors
    /// Cancelled when the client is gone.
    pub async fn read(&self, path: &str) -> Result<mpsc::Receiver<Result<Vec<u8>>>> {
        let (reply, pieces) = mpsc::channel(PIECES);
        let path = path.to_owned();
        let ask = Ask::Read { path, reply };
        self.0.send(ask).await.map_err(|_| gone())?;
        Ok(pieces)
    }
}

fn gone() -> lite_core::Error {
    Kind::Cancelled.error("the client of the build went away")
}
