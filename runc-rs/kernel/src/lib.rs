//! Safe wrappers of the kernel's interfaces where nix has none; the only package with unsafe code.
//!
//! Every function is one system call, or the short fixed sequence of calls that makes the one safe use of it. Nothing here decides
//! anything: which mounts a container has or which capabilities it loses is the runtime's business.
//!
//! - [`clone`]: new processes in new namespaces and cgroups
//! - [`process`]: handles to processes, namespaces, `prctl(2)` bits, exec
//! - [`identity`]: users, groups and capabilities
//! - [`path`]: opening and making files below a directory that cannot be left
//! - [`mount`]: the mount interface by file descriptors, and mounts in the words of `mount(8)`
//! - [`scm`]: passing file descriptors over unix sockets
//! - [`pty`]: pseudo terminals
//! - [`protect`]: copies of the running program that nobody can write to
//! - [`entry`]: the first instructions of the runtime, before the C library
//! - [`filter`]: loading seccomp and device programs
//! - [`landlock`]: rules about files that a process gives itself
//! - [`sched`]: priorities, affinity and personality
//! - [`signals`]: masks and signals as descriptors
//! - [`netdev`]: the loopback device
//! - [`netlink`]: finding network devices and moving them between namespaces

mod raw;

pub mod clone;
pub mod entry;
pub mod filter;
pub mod identity;
pub mod landlock;
pub mod memory;
pub mod mount;
pub mod netdev;
pub mod netlink;
pub mod path;
pub mod process;
pub mod protect;
pub mod pty;
pub mod sched;
pub mod scm;
pub mod signals;

pub use process::subreaper;
