//! Docker's semantics: names, run, attach, exec, logs.

pub mod argv;
pub mod environment;
pub mod exit;
pub mod ids;
pub mod inspect;
pub mod jsonlog;
pub mod names;
pub mod record;
pub mod rfc3339;
pub mod seccomp;
pub mod signals;
pub mod spec;
pub mod state;
pub mod status;
pub mod user;
