//! Standard streams and ports of containers over HTTP, in the protocols that
//! the kubelet, `crictl` and `kubectl` speak: SPDY/3.1 and `WebSocket`.
//!
//! Whoever runs containers asks the [`Server`] for a URL and says what is to
//! happen when somebody opens it: [`remote`] hands a program its streams,
//! [`forward`] opens ports. The URL holds a token that is good once and for a
//! short time, which is all that guards it.
//!
//! Modules stand in the order in which data flows. What is pure comes first:
//! the [`status`] that tells how a program ended, the names of `protocol`s,
//! `channel`s of a `WebSocket`. Then `spdy`, which makes streams of one
//! connection; [`remote`] and [`forward`], which give the streams their
//! meaning, and `websocket`, which does both over messages; at last the
//! `tokens` and the [`server`].

mod channel;
mod protocol;
pub mod status;

mod spdy;

pub mod forward;
pub mod remote;

mod websocket;

mod tokens;

pub mod server;

pub use server::{Config, Server};
pub use tokens::TooMany;
