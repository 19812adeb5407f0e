//! Distribution-spec client: from the name a person typed to verified bytes.
//!
//! 1. [`Reference`] parses and completes the name, by the field's grammar and
//!    Docker's rules for short names.
//! 2. [`Client::resolve`] asks its registry which manifest that is now.
//! 3. [`Client::manifest`] fetches manifests, [`Client::blob`] streams
//!    everything else, both through cut connections, rate limits and
//!    redirects, within limits of time and size.
//! 4. [`Client::push_blob`] and [`Client::push_manifest`] do the same the other
//!    way.
//!
//! Which servers stand behind a registry's name, and whom to trust there, is
//! read from `hosts.toml`; who asks, from the caller.
//!
//! The crate knows registries and nothing else: no store, no image semantics
//! beyond "these bytes have that digest".

mod auth;
mod blob;
mod body;
mod challenge;
mod client;
mod config;
mod digest;
mod download;
mod endpoint;
mod error;
mod hosts;
mod login;
mod payload;
mod push;
mod reference;
mod refusal;
mod resolve;
mod retry;
mod search;
mod tags;
mod tls;
mod transport;

pub use blob::BlobReader;
pub use client::Client;
pub use config::{Config, Credentials};
pub use digest::{Digest, ParseDigestError};
pub use download::Download;
pub use error::{Error, TransportError};
pub use push::{Upload, Uploaded};
pub use reference::{BadReference, ParseReferenceError, Reference};
pub use resolve::Resolved;
pub use retry::RetryPolicy;
pub use search::Hit;
