//! The commands, one file each: ask the daemon, render what it says.

pub(crate) mod archive;
pub(crate) mod attach;
pub(crate) mod build;
pub(crate) mod change;
pub(crate) mod completion;
pub(crate) mod copy;
pub(crate) mod create;
pub(crate) mod each;
pub(crate) mod events;
pub(crate) mod exec;
mod host;
pub(crate) mod images;
pub(crate) mod inspect;
pub(crate) mod load;
pub(crate) mod logs;
pub(crate) mod networks;
pub(crate) mod prune;
pub(crate) mod ps;
pub(crate) mod pull;
pub(crate) mod registry;
pub(crate) mod run;
pub(crate) mod start;
pub(crate) mod system;
pub(crate) mod tag;
pub(crate) mod version;
pub(crate) mod volumes;
pub(crate) mod watch;

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::failure::{Failure, reason};
use crate::parse::detach_keys::DetachKeys;
use crate::parse::environment;

/// The exit code of a command that did what was asked.
pub(crate) const DONE: u8 = 0;

/// The detach keys as typed, or Docker's.
fn detach_keys(typed: Option<&str>) -> Result<DetachKeys, Failure> {
    match typed.filter(|keys| !keys.is_empty()) {
        Some(keys) => DetachKeys::parse(keys).map_err(Failure::Client),
        None => Ok(DetachKeys::default()),
    }
}

/// The variables of `--env-file`, then those of `-e`, which override them.
fn variables(files: &[PathBuf], args: &[String]) -> Result<Vec<String>, Failure> {
    let lookup = |key: &str| std::env::var(key).ok();
    let mut all = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(file)
            .map_err(|err| Failure::Typed(format!("open {}: {}", file.display(), reason(&err))))?;
        let variables = environment::from_file(&text, lookup).map_err(|why| {
            Failure::Typed(format!("invalid env file ({}): {why}", file.display()))
        })?;
        all.extend(variables);
    }
    all.extend(environment::from_args(args, lookup).map_err(Failure::Typed)?);
    // A later one wins, in the place of the first.
    let mut places: BTreeMap<String, usize> = BTreeMap::new();
    let mut variables: Vec<String> = Vec::new();
    for variable in all {
        let key = variable.split('=').next().unwrap_or_default().to_owned();
        let place = *places.entry(key).or_insert(variables.len());
        match variables.get_mut(place) {
            Some(earlier) => *earlier = variable,
            None => variables.push(variable),
        }
    }
    Ok(variables)
}
