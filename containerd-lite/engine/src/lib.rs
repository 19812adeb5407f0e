//! Docker's semantics: names, run, attach, exec, logs.
//!
//! Modules stand in the order in which data flows. First what is pure: the
//! words of users ([`names`], [`signals`], [`argv`], [`environment`],
//! [`user`]), what a container has of the host ([`host_config`], [`mounts`],
//! [`limits`], [`rights`], [`devices`]), the [`spec`] made of them, the [`state`]s of a container and its
//! [`record`]. Then what touches the world: [`files`], the log ([`jsonlog`]). Then the hub
//! ([`Engine`]), one supervisor per container, and the use cases, one file
//! each.

pub mod argv;
pub mod environment;
pub mod exit;
pub mod list_filter;
pub mod names;
pub mod rfc3339;
pub mod signals;
pub mod sizes;
pub use lite_core::user;

pub mod host_config;

pub mod devices;
pub mod limits;
pub mod mounts;
pub mod ports;
pub mod rights;

pub mod state;

pub mod record;
pub mod spec;
pub mod status;

pub mod files;
pub mod jsonlog;
pub mod pipe;

mod engine;
pub mod events;
pub mod health;

mod launch;
mod oom;
mod reconcile;
mod restart;
pub(crate) mod rootfs;
mod supervisor;

pub mod networks;
pub mod volumes;

pub mod images;
pub mod inspect;

pub mod commit;
pub mod copy;
pub mod create;
pub mod diff;
pub mod kill;
pub mod list;
pub mod pause;
pub mod prune;
pub mod remove;
pub mod rename;
pub mod start;
pub mod stats;
pub mod stop;
pub mod system;
pub mod top;
pub mod update;
pub mod wait;

pub mod logs;
pub mod streams;

pub mod accounts;
pub mod attach;
pub mod build;
pub mod exec;
pub mod import;
pub mod load;
pub mod pull;
pub mod push;

pub use engine::{Engine, EngineConfig};
pub use spec::Window;
