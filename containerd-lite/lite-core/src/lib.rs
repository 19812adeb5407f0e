//! The only owner of durable state: content, metadata, images, snapshots,
//! containers, leases and their collection.
//!
//! Modules stand in the order in which data flows; each uses only those above
//! it. Stores are synchronous, cheap to clone and safe to share; async callers
//! go through [`blocking()`].

pub mod accounts;
mod blocking;
pub mod capabilities;
mod containers;
pub mod content;
mod core;
pub mod counts;
mod db;
pub mod devices;
pub mod diff;
mod digest;
mod documents;
mod error;
pub mod events;
pub mod export;
pub mod files;
pub mod filter;
pub mod gc;
pub mod ids;
pub mod image;
mod images;
pub mod import;
mod labels;
pub mod layers;
mod leases;
mod namespace;
mod namespaces;
pub mod pull;
pub mod push;
mod remote;
mod sandboxes;
pub mod seccomp;
pub mod session;
pub mod shim;
pub mod snapshots;
pub mod stacked;
pub mod tasks;
mod time;
mod unpack;
pub mod user;
mod values;

pub use blocking::blocking;
pub use containers::{Container, Containers, Runtime};
pub use content::{Blob, ContentInfo, ContentStore, Ingest, IngestStatus};
pub use core::{Core, CoreConfig};
pub use db::Database;
pub use digest::{Descriptor, Digest, Expected};
pub use documents::Documents;
pub use error::{Because, Error, Kind, Result, chain};
pub use events::{Envelope, Events, Subscription};
pub use filter::Filters;
pub use images::{Image, Images};
pub use labels::{LabelUpdate, Labels, check_labels};
pub use leases::{Lease, Leases, Resource};
pub use namespace::{Namespace, check_identifier};
pub use namespaces::{NamespaceRecord, Namespaces};
pub use registry::{
    Client as RegistryClient, Config as RegistryConfig, Credentials, Hit, Reference,
};
pub use sandboxes::{Sandbox, Sandboxes};
pub use snapshots::{OVERLAYFS, SnapshotInfo, SnapshotKind, Snapshots, Usage};
pub use tasks::{
    CreateTask, Deleted, Exit, ProcessEntry, ProcessState, Status, TaskIo, Tasks, TasksConfig,
};
pub use time::to_rfc3339;
pub use unpack::{UnpackProgress, unpack};
pub use values::{AnyValue, Mount, Platform};
