//! Images in and out: registries and archives.

mod export;
#[path = "../../../registry/tests/fixture/mod.rs"]
mod fixture;
mod import;
mod pull;
mod push;
mod stores;
