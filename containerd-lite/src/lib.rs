//! The daemon: configuration, composition, API adapters.
//!
//! 1. [`config`] says what was typed.
//! 2. [`sockets`] takes the directories and sockets, against other daemons.
//! 3. [`collector`] says when garbage is collected.
//! 4. [`api`] turns wire types into the core's types and back, a file per service.
//! 5. [`metrics`] serves numbers to Prometheus.
//! 6. [`publish`] is the client side of one of them, run by shims.
//! 7. [`init`] is what the program is inside a container that wants an init.
//! 8. [`serve`] puts core and adapters together and runs them until told to stop.

pub mod config;
pub mod sockets;

pub mod collector;

pub mod api;
pub mod init;
pub mod metrics;
pub mod publish;
pub mod serve;
mod services;
