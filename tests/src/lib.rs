//! Black-box harness, suites and benchmarks.
//!
//! The suites in `tests/tests/` drive the four programs from outside, with
//! real counterparts (registry, containerd, runc) and the real kernel. What
//! they share is here, in the order in which it builds up:
//!
//! - [`repository`]: where the sources and the built programs are.
//! - [`need`]: what a test needs of the machine, and what happens without it.
//! - [`command`]: runs a program with a deadline and keeps what it said.
//! - [`scratch`]: a directory and a name of one test's own, and the search
//!   for whatever it left behind.
//! - [`tar`], [`image`]: packs images out of busybox, the same bytes each time.
//! - [`pty`]: a program on a terminal.
//! - [`stack`]: a private daemon with `ctl` and `ctr` against it.
//! - [`kubelet`]: CRI's two services of it, as a kubelet calls them.
//! - [`stores`]: what a daemon's stores hold, against the disk.
//! - [`write_log`]: what a power cut would leave of what was written.
//! - [`registry`], [`containerd`], [`bundle`]: the counterparts.
//! - [`proxy`]: a registry behind a counter that can break off.
//! - [`both`]: the same commands against a daemon of ours and real containerd.
//! - [`enclosure`], [`dockerd`], [`podman`]: callers that would reach for
//!   the machine's own network and directories, shut in.
//! - [`mod@bench`]: the parts of the benchmark.

pub mod bench;
pub mod both;
pub mod bundle;
pub mod command;
pub mod containerd;
pub mod dockerd;
pub mod enclosure;
pub mod image;
pub mod kubelet;
pub mod need;
pub mod podman;
pub mod proxy;
pub mod pty;
pub mod registry;
pub mod repository;
pub mod scratch;
pub mod stack;
pub mod stores;
pub mod tar;
pub mod write_log;
