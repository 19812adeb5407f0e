//! The real ctl binary against a daemon that answers as told.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod commands;
mod embedded;
mod fake;
mod run;
mod terminal;
