//! Images in: pulled from registries and imported from archives.

#[path = "../../../registry/tests/fixture/mod.rs"]
mod fixture;
mod import;
mod pull;
mod push;
mod stores;
