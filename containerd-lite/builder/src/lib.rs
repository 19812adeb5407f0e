//! Dockerfile builds: text → typed instructions → graph of stages → steps → cache → layers.
//!
//! Modules stand in the order in which data flows. Pure first:
//!
//! 1. [`dockerfile`] reads the text into typed instructions, and says where a mistake stands.
//! 2. [`pattern`], [`ignore`], [`paths`], [`modes`], [`ports`] and [`mounts`] read the small languages inside it.
//! 3. [`stages`] makes the graph: which stage is based on which, and what the target needs.
//! 4. [`config`] is the image's document; [`state`] takes a stage's instructions one by one and turns them into changes of it
//!    and into [`ops`], the steps that change files.
//!
//! Then what touches files: a [`source`] answers the same for a context and for a mounted tree, and [`copy`] writes from one
//! into an image; [`client`] asks for a [`context`]; [`joined`] is a step's network; [`rootfs`] opens snapshots, [`stubs`] cleans up after a runtime's mounts,
//! [`archive`] unpacks, [`remote`] fetches; [`process`] runs a step by its [`spec`].
//!
//! Last the build itself: [`cache`], [`layer`] and [`export`] keep results; `step`, `run_step` and `stage` do the work, and
//! [`Builder`] is the way in. [`news`] is what it tells meanwhile.

pub mod dockerfile;

pub mod ignore;
pub mod modes;
pub mod mounts;
pub mod paths;
pub mod pattern;
pub mod ports;

pub mod stages;

pub mod config;
pub mod ops;
pub mod state;

pub mod source;

pub mod copy;

pub mod client;
pub mod joined;
pub mod news;

pub mod context;

pub mod rootfs;
pub mod spec;
pub mod stubs;

pub mod archive;
pub mod process;
pub mod remote;

pub mod cache;
pub mod export;
pub mod layer;

mod build;
mod run_step;
mod stage;
mod step;

pub use build::{Builder, BuilderConfig, Request};
pub use export::Exported;

/// The snapshotter of everything that is built.
pub(crate) const SNAPSHOTTER: &str = "overlayfs";
