//! A logging program of somebody else's (`binary://`, `binary-v2://`).
//!
//! It is born with standard output and errors of the process as descriptors 3
//! and 4, and with 5 to say on that it is ready: by closing it, or for
//! `binary-v2` by a byte. The container's id and namespace are in its environment,
//! which holds nothing else.
//!
//! The process writes to it directly. It sees the end when the process has
//! ended, and is then waited for, so that its log is whole when the exit is
//! told; one that does not go by itself is asked to, and then made to.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Command, Stdio};
use std::rc::Rc;
use std::time::Duration;

use nix::fcntl::OFlag;
use nix::libc::{SIGKILL, SIGTERM};
use nix::unistd::pipe2;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe::Receiver;
use tokio::sync::watch;

use super::copy::Outputs;
use super::uri::LoggerUri;
use crate::reaper::Reaper;

/// How long a logging program may take to be ready.
const READY: Duration = Duration::from_secs(30);

/// How long one that was asked to go may take.
const TERMINATED: Duration = Duration::from_secs(10);

/// Whose output it is.
pub(crate) struct Whose<'a> {
    /// containerd's tenant.
    pub(crate) namespace: &'a str,
    /// The container, or the exec.
    pub(crate) id: &'a str,
}

/// A running logging program.
pub(super) struct Logger {
    handle: OwnedFd,
    gone: watch::Receiver<bool>,
}

/// What a process writes to.
pub(super) struct Pipes {
    /// Standard output.
    pub(super) stdout: OwnedFd,
    /// Standard error.
    pub(super) stderr: OwnedFd,
}

impl Logger {
    /// Starts the program, and waits until it is ready. Its end counts as the
    /// end of one of `outputs`.
    pub(super) async fn start(
        uri: &LoggerUri,
        whose: &Whose<'_>,
        reaper: &Rc<Reaper>,
        outputs: Rc<Outputs>,
    ) -> io::Result<(Self, Pipes)> {
        let (out_reader, stdout) = pipe2(OFlag::O_CLOEXEC)?;
        let (err_reader, stderr) = pipe2(OFlag::O_CLOEXEC)?;
        let (ready, ready_writer) = pipe2(OFlag::O_CLOEXEC)?;
        let mut command = Command::new(&uri.program);
        command
            .args(&uri.args)
            .env_clear()
            .env("CONTAINER_ID", whose.id)
            .env("CONTAINER_NAMESPACE", whose.namespace)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        kernel::process::pass(&mut command, vec![out_reader, err_reader, ready_writer]);
        let child = command.spawn()?;
        let exited = reaper.watch(child.id());
        // Lets go of the program's ends.
        drop(command);
        let handle =
            kernel::process::pidfd_open(i32::try_from(child.id()).map_err(io::Error::other)?)?;
        let (tell_gone, gone) = watch::channel(false);
        tokio::task::spawn_local(async move {
            // An error means that the reaper is gone, and so is the shim.
            let _ = exited.await;
            tell_gone.send_replace(true);
            outputs.end_one();
        });
        let logger = Self { handle, gone };
        match tokio::time::timeout(READY, is_ready(ready, uri.strict)).await {
            Ok(Ok(())) => Ok((logger, Pipes { stdout, stderr })),
            Ok(Err(err)) => {
                logger.signal(SIGKILL);
                Err(err)
            }
            Err(_) => {
                logger.signal(SIGKILL);
                Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    format!("not ready after {} seconds", READY.as_secs()),
                ))
            }
        }
    }

    /// Ends the program if it has not ended yet.
    pub(super) async fn stop(&self) {
        let mut gone = self.gone.clone();
        if *gone.borrow() {
            return;
        }
        self.signal(SIGTERM);
        // An error of the wait means that it is gone.
        if tokio::time::timeout(TERMINATED, gone.wait_for(|&gone| gone))
            .await
            .is_err()
        {
            self.signal(SIGKILL);
        }
    }

    fn signal(&self, signal: i32) {
        // One that is gone needs none.
        let _ = kernel::process::pidfd_send_signal(self.handle.as_fd(), signal);
    }
}

async fn is_ready(from: OwnedFd, strict: bool) -> io::Result<()> {
    let mut byte = [0];
    let n = Receiver::from_owned_fd(from)?.read(&mut byte).await?;
    if strict && n == 0 {
        return Err(io::Error::new(
            io::ErrorKind::UnexpectedEof,
            "it ended, or closed its descriptor 5, without saying that it is ready",
        ));
    }
    Ok(())
}
