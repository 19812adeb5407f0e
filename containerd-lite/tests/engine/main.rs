//! The engine through the real daemon: `engine.v1` over its socket, containers
//! of a busybox image made here, run by our own shim and runtime.
//!
//! Tasks are also driven past the engine, by `ctr` and on Debian's
//! `containerd-shim-runc-v2` as well as on ours.
//!
//! Needs root, `/bin/busybox` (static), containerd and runc for their share, and the binaries of the packages `shim`
//! and `runc-rs` beside the daemon's.
#![expect(
    clippy::unwrap_used,
    reason = "a test ends where its premises do, and clippy knows only functions marked as tests"
)]

mod archive;
mod client;
mod daemon;

mod exec;
mod images;
mod life;
mod restart;
mod run;
mod shims;
