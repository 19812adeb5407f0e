//! Drives the real binary as a daemon does, on a real runtime and kernel.
#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod lab;

mod containerd;
mod outside;
mod sessions;
mod tasks;
