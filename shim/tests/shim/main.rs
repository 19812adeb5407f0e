//! Drives the real binary as a daemon does, on a real runtime and kernel.
#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod lab;

mod bootstraps;
mod checkpoints;
mod containerd;
mod faults;
mod loggers;
mod outside;
mod sandboxes;
mod sessions;
mod soak;
mod tasks;
