//! Sessions on a real pseudo terminal.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use nix::pty::{Winsize, openpty};
use nix::sys::signal::{Signal, kill};
use nix::sys::termios::{LocalFlags, Termios, tcgetattr};
use nix::unistd::{Pid, ttyname};
use proto::engine::v1::{WindowSize, session_input};

use crate::fake::Fake;

/// A terminal of 80 columns and 24 rows with ctl on it.
struct Terminal {
    master: File,
    slave: OwnedFd,
    before: Termios,
    child: Child,
}

impl Terminal {
    /// Starts ctl as a shell would: leading the terminal's session, so that
    /// the terminal's signals reach it.
    fn run(fake: &Fake, args: &[&str]) -> Self {
        let size = Winsize {
            ws_row: 24,
            ws_col: 80,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        let pty = openpty(Some(&size), None).unwrap();
        let before = tcgetattr(&pty.slave).unwrap();
        let end = || Stdio::from(pty.slave.try_clone().unwrap());
        let ctl = fake.ctl(args);
        let child = Command::new("setsid")
            .arg("--ctty")
            .arg(ctl.get_program())
            .args(ctl.get_args())
            .stdin(end())
            .stdout(end())
            .stderr(end())
            .spawn()
            .unwrap();
        Self {
            master: pty.master.into(),
            slave: pty.slave,
            before,
            child,
        }
    }

    fn type_keys(&mut self, keys: &[u8]) {
        self.master.write_all(keys).unwrap();
    }

    /// Reads what is shown until it ends with `text`.
    fn read_until(&mut self, text: &str) -> String {
        let mut shown = Vec::new();
        while !shown.ends_with(text.as_bytes()) {
            let mut byte = [0];
            self.master.read_exact(&mut byte).unwrap();
            shown.extend(byte);
        }
        String::from_utf8(shown).unwrap()
    }

    fn is_raw(&self) -> bool {
        let now = tcgetattr(self.slave.as_fd()).unwrap();
        !now.local_flags
            .intersects(LocalFlags::ICANON | LocalFlags::ECHO | LocalFlags::ISIG)
    }

    fn signal(&self, signal: Signal) {
        kill(
            Pid::from_raw(i32::try_from(self.child.id()).unwrap()),
            signal,
        )
        .unwrap();
    }

    /// Waits for ctl's end and checks that the terminal is as it was.
    #[track_caller]
    fn ends_with(mut self, code: i32) {
        assert_eq!(self.child.wait().unwrap().code(), Some(code));
        assert_eq!(tcgetattr(self.slave.as_fd()).unwrap(), self.before);
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What the container's side of a session saw.
type Seen = Arc<Mutex<Vec<String>>>;

/// A shell of sorts: echoes what is typed, tells each size, and ends with
/// code 5 at `q`.
fn shell(fake: &Fake) -> Seen {
    let seen = Seen::default();
    let kept = Arc::clone(&seen);
    fake.daemon.play(move |mut session| {
        let seen = Arc::clone(&kept);
        async move {
            let note = |line: String| seen.lock().unwrap().push(line);
            while let Some(message) = session.next().await {
                match message {
                    session_input::Message::Attach(attach) => {
                        note(format!("attach {:?}", attach.window.map(size)));
                        session.started(true).await;
                        session.stdout("ready$").await;
                    }
                    session_input::Message::Exec(exec) => {
                        note(format!("exec {:?}", exec.window.map(size)));
                        session.started(true).await;
                        session.stdout("ready$").await;
                    }
                    session_input::Message::Resize(window) => {
                        note(format!("resize {:?}", size(window)));
                        session.stdout("resized$").await;
                    }
                    session_input::Message::Stdin(bytes) => {
                        note(format!("typed {:?}", String::from_utf8_lossy(&bytes)));
                        if bytes.as_ref() == b"q" {
                            session.exited(5).await;
                            return Ok(());
                        }
                        session.stdout("got it$").await;
                    }
                    other => note(format!("{other:?}")),
                }
            }
            Ok(())
        }
    });
    seen
}

fn size(window: WindowSize) -> (u32, u32) {
    (window.columns, window.rows)
}

#[test]
fn keys_sizes_and_the_exit_code_travel() {
    let fake = Fake::listen();
    let seen = shell(&fake);
    let mut terminal = Terminal::run(&fake, &["run", "-it", "busybox"]);
    terminal.read_until("ready$");
    assert!(terminal.is_raw());
    terminal.type_keys(b"\x03");
    // Nothing echoes: what is shown comes from the container alone.
    assert_eq!(terminal.read_until("$"), "got it$");
    let name = ttyname(&terminal.slave).unwrap();
    let stty = Command::new("stty")
        .arg("-F")
        .arg(&name)
        .args(["cols", "100", "rows", "30"])
        .status();
    assert!(stty.unwrap().success());
    // Two changes of the size are two signals, which may be seen as one.
    while !seen
        .lock()
        .unwrap()
        .contains(&"resize (100, 30)".to_owned())
    {
        terminal.read_until("resized$");
    }
    terminal.type_keys(b"q");
    terminal.ends_with(5);
    let seen = seen.lock().unwrap();
    assert_eq!(
        seen.first().map(String::as_str),
        Some("attach Some((80, 24))")
    );
    assert!(seen.contains(&"typed \"\\u{3}\"".to_owned()), "{seen:?}");
}

#[test]
fn detach_keys_leave_a_run_with_success() {
    let fake = Fake::listen();
    let seen = shell(&fake);
    let mut terminal = Terminal::run(&fake, &["run", "-it", "busybox"]);
    terminal.read_until("ready$");
    terminal.type_keys(b"\x10x");
    terminal.read_until("got it$");
    terminal.type_keys(b"\x10\x11");
    terminal.ends_with(0);
    let seen = seen.lock().unwrap();
    let typed: String = seen
        .iter()
        .filter(|line| line.starts_with("typed"))
        .cloned()
        .collect();
    assert_eq!(
        typed, "typed \"\\u{10}x\"",
        "a beginning of the keys is passed on, the keys are not"
    );
}

#[test]
fn own_detach_keys_leave_an_attach_and_say_so() {
    let fake = Fake::listen();
    let seen = shell(&fake);
    let mut terminal = Terminal::run(&fake, &["attach", "--detach-keys", "ctrl-x,a", "box"]);
    terminal.read_until("ready$");
    // A size that is not ours, then ours: so that the program draws again.
    terminal.read_until("resized$");
    terminal.read_until("resized$");
    assert!(terminal.is_raw());
    terminal.type_keys(b"\x18a");
    terminal.read_until("read escape sequence");
    terminal.ends_with(1);
    assert_eq!(
        *seen.lock().unwrap(),
        [
            "attach Some((80, 24))",
            "resize (81, 25)",
            "resize (80, 24)"
        ]
    );
}

#[test]
fn signals_from_outside_restore_the_terminal() {
    for (signal, code) in [(Signal::SIGTERM, 143), (Signal::SIGHUP, 129)] {
        let fake = Fake::listen();
        shell(&fake);
        let mut terminal = Terminal::run(&fake, &["exec", "-it", "box", "sh"]);
        terminal.read_until("ready$");
        assert!(terminal.is_raw());
        terminal.signal(signal);
        terminal.ends_with(code);
        assert!(fake.daemon.asked().is_empty(), "the process is not told");
    }
}

#[test]
fn a_failed_start_restores_the_terminal() {
    let fake = Fake::listen();
    fake.daemon
        .play(|_| async { Err(tonic::Status::internal("no such file")) });
    let mut terminal = Terminal::run(&fake, &["run", "-it", "busybox"]);
    // With the line break a restored terminal adds.
    assert_eq!(terminal.read_until("\r\n"), "ctl: no such file\r\n");
    terminal.ends_with(125);
}

#[test]
fn a_daemon_that_goes_away_restores_the_terminal() {
    let fake = Fake::listen();
    shell(&fake);
    let mut terminal = Terminal::run(&fake, &["run", "-it", "busybox"]);
    terminal.read_until("ready$");
    drop(fake);
    assert_eq!(
        terminal.read_until("\r\n"),
        "ctl: the daemon closed the connection\r\n"
    );
    terminal.ends_with(125);
}
