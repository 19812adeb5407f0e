//! What containers need of the kernel's network: mechanism without policy.
//! Which container is on which network is the caller's to know.
//!
//! Modules stand in the order in which data flows: [`subnet`] is arithmetic on
//! addresses; [`netns`] makes, keeps and enters network namespaces;
//! [`netlink`] speaks to the kernel, [`link`] says what to it; [`firewall`]
//! turns wishes into one ruleset and that into one transaction, [`deletions`]
//! hears of somebody else taking it away; [`reserve`]
//! keeps ports of the host from others; [`dns`] answers for names of
//! containers, and [`resolver`] serves it inside a namespace.

pub mod subnet;

mod netlink;
pub mod netns;

pub mod link;

pub mod deletions;
pub mod firewall;
pub mod reserve;

pub mod dns;
pub mod resolver;

pub use subnet::Subnet;
