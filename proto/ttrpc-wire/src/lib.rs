//! ttrpc: protobuf calls over a unix socket, as containerd and its shims speak it.
//!
//! 1. [`frame`] cuts a byte stream into frames: a ten-byte header and at most
//!    4 MiB of payload, and never holds more than that.
//! 2. [`status`] names the codes a call can end with; they are gRPC's.
//! 3. [`client`] multiplexes calls on one connection.
//! 4. [`server`] answers the requests of many connections.
//!
//! Only unary calls exist here, as containerd's task and event services have
//! no others. Each side survives whatever its peer sends: too long a frame is
//! skipped and refused, an undecodable one is answered with an error, a
//! truncated one ends the connection.

pub mod client;
pub mod frame;
pub mod server;
pub mod status;

pub use client::{CallError, Client};
pub use server::{Request, serve, serve_send};
pub use status::{Code, Status};
