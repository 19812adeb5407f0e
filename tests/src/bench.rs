//! The parts of the benchmark that `tests/src/bin/bench.rs` puts together.
//!
//! - [`contest`]: runs contestants in turn, round by round.
//! - [`runtimes`]: the contests between OCI runtimes.
//! - [`clients`]: the contest between clients with their daemons.
//! - [`shims`]: the contests between shims, under real containerd.
//! - [`pulls`]: the contests around images, and a daemon that has much.
//! - [`report`]: the table, the machine, and what is kept.

pub mod clients;
pub mod contest;
pub mod pulls;
pub mod report;
pub mod runtimes;
pub mod shims;
