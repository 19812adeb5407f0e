//! A program on a terminal, as a person would use it.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use nix::pty::{OpenptyResult, Winsize, openpty};

use crate::command::{self, DEADLINE, eventually};

/// A program whose standard streams and controlling terminal are a new
/// pseudo-terminal, with everything it printed so far.
pub struct Pty {
    master: File,
    // Kept open, so that the terminal's settings can be read after the end.
    slave: OwnedFd,
    child: Child,
    seen: Arc<Mutex<Vec<u8>>>,
}

impl Pty {
    /// Starts `program` with `args` and `env` on a terminal of this size.
    ///
    /// # Panics
    /// When there is no pseudo-terminal, or the program cannot be run.
    #[must_use]
    pub fn spawn(command: &Command, rows: u16, columns: u16) -> Self {
        let size = Winsize {
            ws_row: rows,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        let OpenptyResult { master, slave } =
            openpty(&size, None).expect("a pseudo-terminal opens");
        // setsid makes the terminal the session's own: no unsafe code here.
        let mut wrapped = Command::new("setsid");
        wrapped
            .arg("--ctty")
            .arg(command.get_program())
            .args(command.get_args());
        for (key, value) in command.get_envs() {
            match value {
                Some(value) => wrapped.env(key, value),
                None => wrapped.env_remove(key),
            };
        }
        let end = || Stdio::from(slave.try_clone().expect("a descriptor can be copied"));
        let child = wrapped.stdin(end()).stdout(end()).stderr(end()).spawn();
        let child = child.expect("setsid can be run");
        let master = File::from(master);
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (mut reader, sink) = (
            master.try_clone().expect("a descriptor can be copied"),
            Arc::clone(&seen),
        );
        thread::spawn(move || {
            let mut chunk = [0_u8; 4096];
            while let Ok(count @ 1..) = reader.read(&mut chunk) {
                sink.lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .extend_from_slice(&chunk[..count]);
            }
        });
        Self {
            master,
            slave,
            child,
            seen,
        }
    }

    /// Types these bytes.
    ///
    /// # Panics
    /// When the terminal is gone.
    pub fn send(&mut self, bytes: &[u8]) {
        self.master
            .write_all(bytes)
            .expect("the terminal takes input");
    }

    /// Everything printed so far.
    #[must_use]
    pub fn seen(&self) -> String {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&seen).into_owned()
    }

    /// Waits until `text` has been printed, and forgets everything up to its
    /// end, so that the next call finds only what comes later.
    ///
    /// # Panics
    /// When it does not come.
    #[track_caller]
    pub fn expect(&self, text: &str) {
        let deadline = std::time::Instant::now() + DEADLINE / 2;
        loop {
            {
                let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
                let found = seen
                    .windows(text.len())
                    .position(|window| window == text.as_bytes());
                if let Some(at) = found {
                    seen.drain(..at + text.len());
                    return;
                }
            }
            let now = std::time::Instant::now();
            assert!(
                now < deadline,
                "{text:?} was not printed, but:\n{}",
                self.seen()
            );
            thread::sleep(std::time::Duration::from_millis(10));
        }
    }

    /// Gives the terminal another size, as dragging a window does.
    pub fn resize(&self, rows: u16, columns: u16) {
        self.stty(&["rows", &rows.to_string(), "cols", &columns.to_string()]);
    }

    /// Whether the terminal passes each key on as it is typed, unechoed.
    #[must_use]
    pub fn is_raw(&self) -> bool {
        let settings = self.stty(&["-a"]);
        let settings: Vec<&str> = settings.split([' ', ';', '\n']).collect();
        settings.contains(&"-icanon") && settings.contains(&"-echo") && settings.contains(&"-isig")
    }

    /// Waits until the terminal is raw, or is not.
    #[track_caller]
    pub fn until_raw(&self, raw: bool) {
        eventually(
            if raw {
                "raw mode"
            } else {
                "the end of raw mode"
            },
            || (self.is_raw() == raw).then_some(()),
        );
    }

    /// Waits for the program's end and returns its exit code.
    ///
    /// # Panics
    /// When it does not end; prints what was seen.
    #[track_caller]
    pub fn wait(&mut self) -> i32 {
        let Some(status) = command::wait(&mut self.child, DEADLINE / 2) else {
            panic!(
                "the program on the terminal did not end; it printed:\n{}",
                self.seen()
            );
        };
        command::code_of(status)
    }

    fn stty(&self, args: &[&str]) -> String {
        let slave = self.slave.try_clone().expect("a descriptor can be copied");
        let out = Command::new("stty")
            .args(args)
            .stdin(slave)
            .output()
            .expect("stty can be run");
        assert!(
            out.status.success(),
            "stty {args:?}: {}",
            String::from_utf8_lossy(&out.stderr)
        );
        String::from_utf8_lossy(&out.stdout).into_owned()
    }
}

impl Drop for Pty {
    fn drop(&mut self) {
        // Ended already in a test that passed.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
