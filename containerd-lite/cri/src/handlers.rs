//! Runtimes by the names that a RuntimeClass calls them.

use lite_core::tasks::{DEFAULT_RUNTIME, runtime_options};
use lite_core::{Kind, Result, Runtime};

use crate::hub::Cri;

/// The handler of our own runtime.
pub const DEFAULT: &str = "runc-rs";

/// A runtime that pods can ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Handler {
    /// Its name; empty: the default.
    pub name: String,
    /// The shim, and what it is told.
    pub(crate) runtime: Runtime,
}

/// The handler `name`; the empty one is our own runtime's.
///
/// # Errors
/// NotFound, saying which there are.
pub fn find(cri: &Cri, name: &str) -> Result<Handler> {
    let binary = match name {
        "" | DEFAULT => "",
        other => cri.config().runtimes.get(other).ok_or_else(|| {
            let known: Vec<String> = all(cri).into_iter().map(|one| one.name).collect();
            Kind::NotFound.error(format!(
                "runtime handler {other:?}: not found, there are {known:?}: name it under [cri.runtimes] of the daemon's configuration"
            ))
        })?,
    };
    let options = runtime_options(binary, cri.config().systemd_cgroup);
    Ok(Handler {
        name: name.to_owned(),
        runtime: Runtime {
            name: DEFAULT_RUNTIME.to_owned(),
            options: Some(options),
        },
    })
}

/// All names that [`find`] knows.
#[must_use]
pub fn all(cri: &Cri) -> Vec<Handler> {
    let names = ["", DEFAULT].into_iter();
    let configured = cri.config().runtimes.keys().map(String::as_str);
    names
        .chain(configured.filter(|name| *name != DEFAULT))
        .filter_map(|name| find(cri, name).ok())
        .collect()
}
