//! Dockerfile builds: text → typed instructions → graph of stages → cache → layers.
//!
//! Modules stand in the order in which data flows. Pure first:
//!
//! 1. [`dockerfile`] reads the text into typed instructions, and says where a mistake stands.
//! 2. [`pattern`] and [`ignore`] are the rules for names: wildcards and `.dockerignore`.

pub mod dockerfile;
pub mod ignore;
pub mod pattern;
