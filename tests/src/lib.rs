//! Black-box harness, suites and benchmarks.
//!
//! The suites in `tests/tests/` drive the four programs from outside, with
//! real counterparts (registry, containerd, runc) and the real kernel. What
//! they share is here, in the order in which it builds up:
//!
//! - [`repository`]: where the sources, the built programs and the tools are.

pub mod repository;
