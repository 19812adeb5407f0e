//! Pods, their containers and images, as a kubelet asks for them: the
//! semantics of Kubernetes' CRI over the core.
//!
//! Modules stand in the order in which data flows:
//!
//! 1. [`config`] is what a kubelet says, [`record`] what is kept of it, [`host`]
//!    what the host is like, [`events`] what is told.
//! 2. `bridge` is the network of pods without plugins; [`hub`] is what all use
//!    cases share: stores, index, names, turns; [`handlers`] the runtimes.
//! 3. [`images`] pulls, finds, lists and removes images.
//! 4. `namespaces` makes and pins what a pod shares, `connect` gives it its
//!    network, `spec` is the pure function to a runtime's configuration.
//! 5. [`pods`] and [`containers`] are the use cases, a file each.
//! 6. [`urls`] leads clients to streams and ports, [`stats`] measures.
//! 7. `open` brings everything in line when a daemon starts.
//!
//! Nothing here knows the wire: the daemon's adapters turn CRI's messages into
//! these types and back.

pub mod config;
pub mod events;
pub mod host;
pub mod record;

mod bridge;
pub mod handlers;
pub mod hub;

pub mod images;

mod connect;
mod namespaces;
mod spec;

pub mod containers;
pub mod pods;

pub mod stats;
pub mod urls;

mod open;

pub use hub::{Condition, Cri, CriConfig};
