//! The directory where administrators and network add-ons put configurations,
//! by default `/etc/cni/net.d`.
//!
//! It is read whenever somebody wants to know: it holds a handful of small
//! files, and so no change of it can be missed. Files count by their names,
//! `.conflist`, `.conf` and `.json`, in the order of the names. A bad one is
//! told of by name and hides no other. A list that does not forbid it
//! (`loadOnlyInlinedPlugins`) gets the plugins of the directory that has its
//! network's name appended.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::config::{BadConfig, Network, Plugin};

/// Larger files are no configurations.
const LARGEST: u64 = 1 << 20;

/// What the directory holds, in the order of the files' names.
#[derive(Debug, Default)]
pub struct Directory {
    /// The good ones.
    pub networks: Vec<(PathBuf, Network)>,
    /// The bad ones.
    pub bad: Vec<BadFile>,
}

/// A file that holds no configuration.
#[derive(Debug, thiserror::Error)]
#[error("read CNI configuration {}", .path.display())]
pub struct BadFile {
    /// Which.
    pub path: PathBuf,
    /// What is wrong with it.
    #[source]
    pub cause: BadFileCause,
}

/// What is wrong with a file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BadFileCause {
    /// It cannot be read.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// What it holds is no configuration.
    #[error(transparent)]
    Config(#[from] BadConfig),
}

impl Directory {
    /// Reads `dir`. A directory that is not there holds nothing.
    ///
    /// # Errors
    /// Those of reading the directory itself.
    pub fn read(dir: &Path) -> io::Result<Self> {
        let mut found = Self::default();
        for path in files(dir, &["conflist", "conf", "json"])? {
            match read(&path) {
                Ok(network) => found.networks.push((path, network)),
                Err(cause) => found.bad.push(BadFile { path, cause }),
            }
        }
        Ok(found)
    }

    /// The network that pods are on: the first by the names of the files.
    #[must_use]
    pub fn first(&self) -> Option<&Network> {
        self.networks.first().map(|(_, network)| network)
    }
}

/// The files in `dir` with one of these endings, sorted.
fn files(dir: &Path, endings: &[&str]) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(dir) {
        Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let counts = path
            .extension()
            .is_some_and(|ending| endings.iter().any(|e| ending == *e));
        if counts {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

fn read(path: &Path) -> Result<Network, BadFileCause> {
    let text = contents(path)?;
    if path.extension().is_some_and(|ending| ending == "conflist") {
        let mut network = Network::parse_list(&text)?;
        if !network.load_only_inlined {
            let dir = path.with_file_name(&network.name);
            for path in files(&dir, &["conf"])? {
                network.plugins.push(plugin(&path)?);
            }
        }
        if network.plugins.is_empty() {
            return Err(BadConfig::Empty.into());
        }
        Ok(network)
    } else {
        Ok(Network::parse_single(&text)?)
    }
}

fn plugin(path: &Path) -> Result<Plugin, BadFileCause> {
    let value = serde_json::from_slice(&contents(path)?).map_err(BadConfig::Json)?;
    let at = format!("{}: ", path.display());
    Ok(Plugin::read(&value, &at)?)
}

fn contents(path: &Path) -> Result<Vec<u8>, BadFileCause> {
    let mut text = Vec::new();
    let file = File::open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file").into());
    }
    file.take(LARGEST + 1).read_to_end(&mut text)?;
    if text.len() as u64 > LARGEST {
        return Err(BadConfig::TooLarge(LARGEST).into());
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(dir: &Path, name: &str, text: &str) {
        let path = dir.join(name);
        fs::create_dir_all(path.parent().expect("it has one")).expect("it can be made");
        fs::write(path, text).expect("it can be written");
    }

    #[test]
    fn files_count_in_the_order_of_their_names_and_bad_ones_are_named() {
        let dir = tempfile::tempdir().expect("it can be made");
        write(dir.path(), "20-b.conf", r#"{"name": "b", "type": "x"}"#);
        write(
            dir.path(),
            "10-a.conflist",
            r#"{"name": "a", "plugins": [{"type": "x"}]}"#,
        );
        write(dir.path(), "30-c.json", r#"{"name": "c", "type": "x"}"#);
        write(dir.path(), "05-bad.conflist", r#"{"name": "bad"}"#);
        write(dir.path(), "06-worse.conf", "{");
        write(dir.path(), "00-ignored.conf.bak", "{");
        let found = Directory::read(dir.path()).expect("it can be read");
        let names: Vec<_> = found
            .networks
            .iter()
            .map(|(_, n)| n.name.as_str())
            .collect();
        assert_eq!(names, ["a", "b", "c"]);
        assert_eq!(found.first().map(|n| n.name.as_str()), Some("a"));
        let bad: Vec<_> = found
            .bad
            .iter()
            .map(|bad| {
                let name = bad.path.file_name().expect("it has one");
                format!("{}: {}", name.to_string_lossy(), bad.cause)
            })
            .collect();
        assert_eq!(
            bad,
            [
                "05-bad.conflist: list has no plugins",
                "06-worse.conf: configuration is not JSON"
            ]
        );
    }

    #[test]
    fn a_directory_that_is_not_there_holds_nothing() {
        let dir = tempfile::tempdir().expect("it can be made");
        let found = Directory::read(&dir.path().join("none")).expect("that is fine");
        assert!(found.networks.is_empty() && found.bad.is_empty());
    }

    #[test]
    fn plugins_in_files_of_their_own_come_last() {
        let dir = tempfile::tempdir().expect("it can be made");
        let list = |only: bool| {
            format!(
                r#"{{"name": "a", "loadOnlyInlinedPlugins": {only}, "plugins": [{{"type": "x"}}]}}"#
            )
        };
        write(dir.path(), "a/20-z.conf", r#"{"type": "z"}"#);
        write(dir.path(), "a/10-y.conf", r#"{"type": "y"}"#);
        let kinds = || {
            let found = Directory::read(dir.path()).expect("it can be read");
            let plugins = &found.first().expect("there is one").plugins;
            plugins.iter().map(|p| p.kind.clone()).collect::<Vec<_>>()
        };
        write(dir.path(), "a.conflist", &list(false));
        assert_eq!(kinds(), ["x", "y", "z"]);
        write(dir.path(), "a.conflist", &list(true));
        assert_eq!(kinds(), ["x"]);
    }

    #[test]
    fn a_file_without_end_is_not_read_to_its_end() {
        let dir = tempfile::tempdir().expect("it can be made");
        let large = " ".repeat((1 << 20) + 1);
        write(dir.path(), "a.conf", &large);
        let found = Directory::read(dir.path()).expect("it can be read");
        assert_eq!(
            found.bad[0].cause.to_string(),
            "configuration is larger than 1048576 bytes"
        );
    }
}
