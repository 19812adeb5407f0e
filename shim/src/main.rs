//! Keeps a container alive without the daemon: containerd shim v2.

fn main() {}
