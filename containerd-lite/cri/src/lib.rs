//! Pods, their containers and images, as a kubelet asks for them: the
//! semantics of Kubernetes' CRI over the core.
//!
//! Modules stand in the order in which data flows:
//!
//! 1. [`hub`] is what all use cases share.
//! 2. [`images`] pulls, finds, lists and removes images.
//!
//! Nothing here knows the wire: the daemon's adapters turn CRI's messages into
//! these types and back.

mod hub;
pub mod images;

pub use hub::{Condition, Cri};
