//! Distribution-spec client: from the name a person typed to verified bytes.
//!
//! 1. [`Reference`] parses and completes the name, by the field's grammar and
//!    Docker's rules for short names.
//!
//! The crate knows registries and nothing else: no store, no image semantics
//! beyond "these bytes have that digest".

mod digest;
mod reference;

pub use digest::{Digest, ParseDigestError};
pub use reference::{BadReference, ParseReferenceError, Reference};
