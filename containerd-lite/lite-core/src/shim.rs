//! The daemon's side of containerd's shim protocol, version 2 and 3.
//!
//! 1. [`process`] holds the words: a process's state, its standard streams, its exit.
//! 2. [`endpoint`] reads where a shim said it listens.
//! 3. [`Launcher`] finds shim binaries and runs their `start` and `delete`.
//! 4. [`Shim`] calls a running shim's Task service over ttrpc.
//! 5. [`event`] reads what shims report, and writes what they no longer can.
//! 6. [`log`] passes on what they have to say.
//!
//! Wire types stop here: no other part of the core knows protobuf messages or
//! ttrpc.

pub mod client;
pub mod endpoint;
pub mod event;
pub mod launch;
pub mod log;
pub mod process;
mod wire;

pub use client::Shim;
pub use endpoint::Endpoint;
pub use launch::Launcher;
pub use process::{Deleted, Exit, ProcessEntry, ProcessState, Status, TaskIo};
pub use wire::runtime_options;
pub(crate) use wire::with_runtime_root;

/// The runtime used where none is named: our own shim with our own runtime.
pub const DEFAULT_RUNTIME: &str = "io.containerd.runc-rs.v2";
