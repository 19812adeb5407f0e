//! ttrpc framing, client and server on prost and one thread of tokio.
