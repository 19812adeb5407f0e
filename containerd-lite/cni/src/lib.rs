//! A client of CNI plugins: the programs that give a network namespace its
//! interfaces. Follows the Container Network Interface's specification 1.1
//! and speaks every older version to plugins that need it.
//!
//! Modules stand in the order in which data flows. What is pure comes first:
//! [`version`]s, [`cidr`]s, the [`config`] of a network, what is asked for one
//! namespace ([`attachment`]), the [`outcome`] that plugins answer with. Then
//! what touches the world: the [`directory`] of configurations, the call of
//! one plugin (`call`), the [`cache`] that lets a network be taken away by
//! another process than the one that set it up, and the [`client`] over all of
//! them.

pub mod cidr;
pub mod version;

pub mod config;

pub mod attachment;
pub mod outcome;

pub mod directory;

mod call;

pub mod cache;

pub mod client;

pub use attachment::{Attachment, Capabilities};
pub use call::{CallError, PluginError};
pub use client::{Client, Error};
pub use config::Network;
pub use directory::Directory;
pub use outcome::Outcome;
pub use version::Version;
