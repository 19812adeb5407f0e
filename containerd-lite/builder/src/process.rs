//! Runs the process of a `RUN`: a task like every other, on the snapshot that becomes the layer.
//!
//! Its output comes through two fifos that we hold open for writing as well, so that they never end early; the shim has
//! written everything before it tells of the exit.

use std::fs;
use std::io;
use std::path::Path;

use lite_core::tasks::{CreateTask, TaskIo};
use lite_core::{Because as _, Core, Kind, Mount, Namespace, Result, Runtime, chain};
use nix::sys::stat::Mode;
use tokio::net::unix::pipe::{OpenOptions, Receiver};
use tokio::sync::watch;

use crate::news::{News, Teller};

/// A process to run.
#[derive(Debug)]
pub struct Process<'a> {
    /// The task's id.
    pub id: &'a str,
    /// `config.json`.
    pub spec: Vec<u8>,
    /// The root file system.
    pub rootfs: Vec<Mount>,
    /// containerd runtime name.
    pub runtime: &'a str,
    /// A directory of the step's own, for the fifos.
    pub dir: &'a Path,
    /// The step's number, for what it writes.
    pub step: u32,
}

/// A linux signal.
const SIGKILL: u32 = 9;

/// Runs it to its end and returns its exit code. When `cancelled` turns true it is killed.
///
/// # Errors
/// Cancelled; else what the runtime says. In every case the task is gone afterwards.
pub async fn run(
    core: &Core,
    ns: &Namespace,
    process: Process<'_>,
    teller: &Teller,
    mut cancelled: watch::Receiver<bool>,
) -> Result<u32> {
    let out = Output::make(process.dir, "stdout")?;
    let err = Output::make(process.dir, "stderr")?;
    let request = CreateTask {
        id: process.id.to_owned(),
        spec: process.spec,
        rootfs: process.rootfs,
        io: TaskIo {
            stdin: String::new(),
            stdout: out.path.clone(),
            stderr: err.path.clone(),
            terminal: false,
        },
        runtime: Runtime {
            name: process.runtime.to_owned(),
            options: None,
        },
        options: None,
    };
    core.tasks.create(ns, request).await?;
    let ended = async {
        core.tasks.start(ns, process.id, None).await?;
        let waited = core.tasks.wait(ns, process.id, None);
        tokio::pin!(waited);
        let mut buffers = [vec![0; CHUNK], vec![0; CHUNK]];
        let [first, second] = &mut buffers;
        loop {
            tokio::select! {
                ended = &mut waited => break ended,
                read = out.read(first) => tell(teller, process.step, false, &first[..read?]).await,
                read = err.read(second) => tell(teller, process.step, true, &second[..read?]).await,
                () = turned(&mut cancelled) => {
                    core.tasks.kill(ns, process.id, None, SIGKILL, true).await?;
                    let _killed = waited.await;
                    break Err(Kind::Cancelled.error("the build was cancelled"));
                }
            }
        }
    };
    let ended = ended.await;
    drain(&out, &err, teller, process.step).await;
    end(core, ns, process.id).await;
    Ok(ended?.code)
}

/// Bytes read at a time.
const CHUNK: usize = 32 << 10;

async fn turned(cancelled: &mut watch::Receiver<bool>) {
    // A sender that is gone can cancel nothing any more.
    if cancelled.wait_for(|cancelled| *cancelled).await.is_err() {
        std::future::pending::<()>().await;
    }
}

async fn tell(teller: &Teller, step: u32, stderr: bool, bytes: &[u8]) {
    if !bytes.is_empty() {
        let bytes = bytes.to_vec();
        teller
            .tell(News::Output {
                step,
                stderr,
                bytes,
            })
            .await;
    }
}

/// What is still in the fifos when everything has been written.
async fn drain(out: &Output, err: &Output, teller: &Teller, step: u32) {
    let mut buffer = vec![0; CHUNK];
    for (output, stderr) in [(out, false), (err, true)] {
        while let Ok(read) = output.pipe.try_read(&mut buffer) {
            if read == 0 {
                break;
            }
            tell(teller, step, stderr, &buffer[..read]).await;
        }
    }
}

/// Deletes the task, killing what still runs of it.
async fn end(core: &Core, ns: &Namespace, id: &str) {
    if core.tasks.delete(ns, id).await.is_ok() {
        return;
    }
    // It may have ended by itself meanwhile; then there is nothing to kill.
    let _gone = core.tasks.kill(ns, id, None, SIGKILL, true).await;
    let _ended = core.tasks.wait(ns, id, None).await;
    match core.tasks.delete(ns, id).await {
        Err(err) if err.kind() != Kind::NotFound => {
            tracing::warn!(task = id, error = %chain(&err), "delete task of a build");
        }
        _ => {}
    }
}

struct Output {
    path: String,
    pipe: Receiver,
}

impl Output {
    fn make(dir: &Path, name: &str) -> Result<Self> {
        let path = dir.join(name);
        let context = || format!("make fifo {}", path.display());
        match fs::remove_file(&path) {
            Err(err) if err.kind() != io::ErrorKind::NotFound => {
                return Err(lite_core::Error::io(context(), err));
            }
            _ => {}
        }
        nix::unistd::mkfifo(&path, Mode::S_IRUSR | Mode::S_IWUSR).op(context)?;
        let pipe = OpenOptions::new()
            .read_write(true)
            .open_receiver(&path)
            .op(context)?;
        Ok(Self {
            path: path.display().to_string(),
            pipe,
        })
    }

    async fn read(&self, buffer: &mut [u8]) -> Result<usize> {
        loop {
            self.pipe
                .readable()
                .await
                .op(|| format!("read {}", self.path))?;
            match self.pipe.try_read(buffer) {
                Err(err) if err.kind() == io::ErrorKind::WouldBlock => {}
                read => return read.op(|| format!("read {}", self.path)),
            }
        }
    }
}
