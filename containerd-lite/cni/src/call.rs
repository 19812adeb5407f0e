//! One call of one plugin: a program that is started with its command in the
//! environment and its configuration on standard input, and answers on
//! standard output.
//!
//! A plugin is not trusted to behave: it has a time limit, after which it and
//! all that it started are killed; what it may write is bounded; and an answer
//! counts by its exit status first.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};

/// No answer is longer.
const LONGEST_ANSWER: usize = 1 << 20;
/// So much of what a plugin says on standard error is kept.
const KEPT_OF_STDERR: usize = 4096;
/// How long a program that is being written is waited for.
const BUSY_TRIES: u32 = 20;

/// A call that came to nothing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// No plugin of this name.
    #[error("plugin is in none of {}", join(.searched))]
    Missing {
        /// Where it was looked for.
        searched: Vec<PathBuf>,
    },
    /// It could not be run, or spoken to.
    #[error("run {}", .program.display())]
    Run {
        /// The program.
        program: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It did not end in time.
    #[error("plugin did not end within {} s and was killed", .limit.as_secs_f32())]
    Timeout {
        /// The time it had.
        limit: Duration,
    },
    /// It writes without end.
    #[error("plugin wrote more than {LONGEST_ANSWER} bytes and was killed")]
    TooMuch,
    /// It said that it failed.
    #[error(transparent)]
    Refused(#[from] PluginError),
    /// It ended badly without saying why in the specification's form.
    #[error("plugin ended with {status}{}", after_colon(.said))]
    Died {
        /// How.
        status: String,
        /// What it wrote on standard error, or else on standard output.
        said: String,
    },
}

/// What a plugin said about its failure.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, thiserror::Error)]
#[error("{}", self.words())]
pub struct PluginError {
    /// The specification's code, or the plugin's own from 100 on.
    pub code: u32,
    /// A short text.
    #[serde(default, rename = "msg")]
    pub message: String,
    /// A longer one.
    #[serde(default)]
    pub details: String,
}

impl PluginError {
    /// The network does not know this container, or it is gone: the call may
    /// not be tried again.
    pub const UNKNOWN_CONTAINER: u32 = 3;
    /// The call should be tried again later.
    pub const TRY_AGAIN: u32 = 11;
    /// STATUS: ADD cannot be served now.
    pub const NOT_AVAILABLE: u32 = 50;
    /// STATUS: as 50, and what is attached may be without connection.
    pub const LIMITED: u32 = 51;

    /// The meaning that the specification gives to the code.
    #[must_use]
    pub fn meaning(&self) -> Option<&'static str> {
        Some(match self.code {
            1 => "incompatible CNI version",
            2 => "unsupported field in the configuration",
            3 => "unknown container",
            4 => "missing or wrong variable of the environment",
            5 => "input or output",
            6 => "content cannot be decoded",
            7 => "wrong configuration",
            11 => "try again later",
            50 => "plugin is not available",
            51 => "plugin is not available, and containers may have limited connectivity",
            _ => return None,
        })
    }

    fn words(&self) -> String {
        let mut words = self.message.trim().to_owned();
        if words.is_empty() {
            words = "plugin refused".to_owned();
        }
        let details = self.details.trim();
        if !details.is_empty() {
            words = format!("{words}; {details}");
        }
        match self.meaning() {
            Some(meaning) => format!("{words} (CNI error {}: {meaning})", self.code),
            None => format!("{words} (CNI error {})", self.code),
        }
    }
}

fn join(paths: &[PathBuf]) -> String {
    let paths: Vec<_> = paths.iter().map(|p| p.display().to_string()).collect();
    paths.join(", ")
}

fn after_colon(text: &str) -> String {
    if text.is_empty() {
        String::new()
    } else {
        format!(": {text}")
    }
}

/// Finds the program of a plugin in the first directory that has it.
pub(crate) fn find(kind: &str, dirs: &[PathBuf]) -> Result<PathBuf, CallError> {
    dirs.iter()
        .map(|dir| dir.join(kind))
        .find(|program| program.is_file())
        .ok_or_else(|| CallError::Missing {
            searched: dirs.to_vec(),
        })
}

/// Calls `program` with `environment` beside the daemon's own, sends `input`
/// and returns what it answered, if it ended well.
///
/// When the future is dropped, the plugin is killed.
pub(crate) async fn call(
    program: &Path,
    environment: Vec<(&'static str, OsString)>,
    input: &[u8],
    limit: Duration,
) -> Result<Vec<u8>, CallError> {
    let run = |source| CallError::Run {
        program: program.to_owned(),
        source,
    };
    let mut child = spawn(program, environment).await.map_err(run)?;
    let group = Group(child.id());
    let spoke = match tokio::time::timeout(limit, converse(&mut child, input)).await {
        Ok(spoke) => spoke,
        Err(_) => Err(Broken::Late),
    };
    let broken = match spoke {
        Ok(spoke) => {
            // It was waited for: its number may be another's by now.
            group.forget();
            if spoke.status.success() {
                return Ok(spoke.stdout);
            }
            return Err(failure(&spoke));
        }
        Err(broken) => broken,
    };
    drop(group);
    // Killed, so it is gone at once, and must not stay as a zombie.
    let _ = child.wait().await;
    Err(match broken {
        Broken::Late => CallError::Timeout { limit },
        Broken::TooMuch => CallError::TooMuch,
        Broken::Io(err) => run(err),
    })
}

/// A conversation that did not come to an end.
enum Broken {
    Late,
    TooMuch,
    Io(io::Error),
}

/// What a plugin wrote, and how it ended.
struct Spoke {
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    status: ExitStatus,
}

async fn converse(child: &mut Child, input: &[u8]) -> Result<Spoke, Broken> {
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let send = async {
        if let Some(mut stdin) = stdin {
            // A plugin that reads nothing fails by its answer.
            let _ = stdin.write_all(input).await;
        }
        Ok(())
    };
    let hear = async {
        let mut heard = Vec::new();
        if let Some(stdout) = stdout {
            let mut stdout = stdout.take(LONGEST_ANSWER as u64 + 1);
            stdout.read_to_end(&mut heard).await.map_err(Broken::Io)?;
        }
        if heard.len() > LONGEST_ANSWER {
            return Err(Broken::TooMuch);
        }
        Ok(heard)
    };
    let listen = async {
        match stderr {
            Some(stderr) => first_of(stderr).await.map_err(Broken::Io),
            None => Ok(Vec::new()),
        }
    };
    let (stdout, stderr, ()) = tokio::try_join!(hear, listen, send)?;
    let status = child.wait().await.map_err(Broken::Io)?;
    Ok(Spoke {
        stdout,
        stderr,
        status,
    })
}

/// The first bytes of what is read to its end.
async fn first_of(mut from: impl AsyncRead + Unpin) -> io::Result<Vec<u8>> {
    let mut first = Vec::new();
    let mut chunk = [0; 1024];
    loop {
        let read = from.read(&mut chunk).await?;
        if read == 0 {
            return Ok(first);
        }
        let room = KEPT_OF_STDERR - first.len();
        first.extend_from_slice(&chunk[..read.min(room)]);
    }
}

async fn spawn(program: &Path, environment: Vec<(&'static str, OsString)>) -> io::Result<Child> {
    let mut command = Command::new(program);
    for (key, _) in std::env::vars_os() {
        if key.as_encoded_bytes().starts_with(b"CNI_") {
            command.env_remove(key);
        }
    }
    command
        .envs(environment)
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0);
    let mut tries = 0;
    loop {
        match command.spawn() {
            // An add-on installs its plugins while pods are started.
            Err(err) if err.kind() == io::ErrorKind::ExecutableFileBusy && tries < BUSY_TRIES => {
                tries += 1;
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            spawned => return spawned,
        }
    }
}

/// A plugin and all that it started; killed when dropped.
struct Group(Option<u32>);

impl Group {
    fn forget(mut self) {
        self.0 = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(leader) = self.0.and_then(|pid| i32::try_from(pid).ok()) {
            // Gone already is what is wanted.
            let _ = killpg(Pid::from_raw(leader), Signal::SIGKILL);
        }
    }
}

/// Why a plugin that ended badly did.
fn failure(spoke: &Spoke) -> CallError {
    if let Ok(refused) = serde_json::from_slice::<PluginError>(&spoke.stdout) {
        return PluginError {
            message: printable(&refused.message),
            details: printable(&refused.details),
            ..refused
        }
        .into();
    }
    let status = match (spoke.status.code(), spoke.status.signal()) {
        (Some(code), _) => format!("status {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => spoke.status.to_string(),
    };
    let stderr = printable(&String::from_utf8_lossy(&spoke.stderr));
    let said = if stderr.is_empty() {
        printable(&String::from_utf8_lossy(&spoke.stdout))
    } else {
        stderr
    };
    CallError::Died { status, said }
}

/// `text` on one line of bearable length, for a message.
fn printable(text: &str) -> String {
    let mut line: String = text
        .trim()
        .chars()
        .take(KEPT_OF_STDERR / 4)
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    line.truncate(line.trim_end().len());
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        let error: PluginError = serde_json::from_str(text).expect("it is one");
        error.to_string()
    }

    #[test]
    fn codes_have_their_words() {
        assert_eq!(
            error(r#"{"cniVersion": "1.0.0", "code": 7, "msg": "no bridge", "details": "in x"}"#),
            "no bridge; in x (CNI error 7: wrong configuration)"
        );
        assert_eq!(
            error(r#"{"code": 120, "msg": "own"}"#),
            "own (CNI error 120)"
        );
        assert_eq!(
            error(r#"{"code": 11}"#),
            "plugin refused (CNI error 11: try again later)"
        );
    }

    #[test]
    fn what_a_plugin_says_fits_into_a_message() {
        assert_eq!(printable("  a\nb\u{1b}[31m \n"), "a b [31m");
        assert_eq!(printable(&"x".repeat(100_000)).len(), KEPT_OF_STDERR / 4);
    }

    #[test]
    fn a_plugin_that_is_nowhere_says_where_it_was_looked_for() {
        let dirs = [PathBuf::from("/nowhere/a"), PathBuf::from("/nowhere/b")];
        let err = find("bridge", &dirs).expect_err("it is not there");
        assert_eq!(
            err.to_string(),
            "plugin is in none of /nowhere/a, /nowhere/b"
        );
    }
}
