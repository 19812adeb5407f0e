//! The parts of the benchmark that `tests/src/bin/bench.rs` puts together.
//!
//! - [`contest`]: runs contestants in turn, round by round.
//! - [`runtimes`]: the contests between OCI runtimes.
//! - [`clients`]: the contest between clients with their daemons.
//! - [`shims`]: the contests between shims, under real containerd.
//! - [`report`]: the table, the machine, and what is kept.

pub mod clients;
pub mod contest;
pub mod report;
pub mod runtimes;
pub mod shims;
