//! Containers, each in a pod.
//!
//! 1. [`create`](mod@create) writes the record, with the spec made and the
//!    root file system prepared.
//! 2. [`start`](mod@start) brings the task into being; [`watch`] records its end.
//! 3. [`stop`](mod@stop) asks it to end, and makes it.
//! 4. [`remove`](mod@remove) takes everything away.
//! 5. [`update`](mod@update) changes limits; [`log`] goes on in a new file;
//!    [`exec_sync`](mod@exec_sync) runs one more process in it.

pub(crate) mod create;
pub(crate) mod sources;
pub(crate) mod watch;

mod exec_sync;
mod image_volumes;
mod list;
mod log;
mod remove;
mod start;
mod stop;
mod update;

pub use create::create;
pub use exec_sync::{Output, exec_sync, process};
pub use list::{ContainerFilter, get, list};
pub use log::reopen as reopen_log;
pub use remove::remove;
pub use start::start;
pub use stop::stop;
pub use update::update;
