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
//! into an image.

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
