//! What is known of a task's processes. The task's own process is `init`; the
//! others were added to it by exec and have an exec id.

use std::time::SystemTime;

use crate::values::AnyValue;

/// The standard streams of a process, each a path or URI that the shim
/// understands; empty is `/dev/null`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TaskIo {
    /// Where standard input comes from.
    pub stdin: String,
    /// Where standard output goes.
    pub stdout: String,
    /// Where standard error goes; with a terminal nowhere.
    pub stderr: String,
    /// Whether the process gets a pseudo-terminal.
    pub terminal: bool,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exit {
    /// The exit code; 128 and the signal's number if a signal ended it.
    pub code: u32,
    /// When.
    pub at: SystemTime,
}

/// What a deleted process leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deleted {
    /// The pid it had.
    pub pid: u32,
    /// How it ended.
    pub exit: Exit,
}

/// Where in its life a process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Made, but its program has not been started.
    Created,
    /// Running.
    Running,
    /// Frozen.
    Paused,
    /// Being frozen.
    Pausing,
    /// Ended, not yet deleted.
    Stopped,
    /// The shim could not say.
    Unknown,
}

/// One process as last seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcessState {
    /// The exec id; for init the container's id.
    pub id: String,
    /// Its pid in the daemon's pid namespace; 0 before there is one.
    pub pid: u32,
    /// Where in its life it is.
    pub status: Status,
    /// Its streams, as given.
    pub io: TaskIo,
    /// How it ended, once it has.
    pub exit: Option<Exit>,
}

/// One process inside a task, whoever started it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcessEntry {
    /// Its pid in the daemon's pid namespace.
    pub pid: u32,
    /// What the shim adds, such as `containerd.runc.v1.ProcessDetails`.
    pub info: Option<AnyValue>,
    /// The exec id, if the shim says that exec started it.
    pub exec_id: Option<String>,
}
