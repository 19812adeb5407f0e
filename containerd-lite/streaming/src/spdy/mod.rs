//! SPDY/3.1, as much of it as Kubernetes' clients speak: many streams over one
//! connection, opened by the client.
//!
//! [`frame`] is the form of frames and [`headers`] that of the compressed
//! blocks in them; [`connection`] makes streams of both. Windows are not
//! kept, as no client in the field keeps them: what a stream's reader has not
//! taken holds up its connection, in bounded memory.

#[cfg(test)]
pub(crate) mod client_tests;
mod connection;
mod frame;
mod headers;

pub(crate) use connection::{Connection, Input, Output, Stream};
