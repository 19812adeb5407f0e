//! Adapters, a file per service: wire types in, the core's types out, and back.
//! Nothing generated passes beyond this folder.

pub mod status;
pub(crate) mod wire;

pub mod containers;
pub mod content;
pub mod cri;
pub mod diff;
pub mod engine;
pub mod events;
pub mod images;
pub mod introspection;
pub mod leases;
pub mod namespaces;
pub mod snapshots;
pub mod streaming;
pub mod tasks;
pub mod transfer;
pub mod ttrpc_events;
pub mod version;
