//! What a container's mounts are of: directories of the host, which are made
//! where they are missing, and the content of images.

use std::fs;
use std::path::{Path, PathBuf};

use lite_core::{Because, Kind, Result};
use serde_json::Value;

use super::image_volumes;
use crate::config::{ContainerConfig, Mount, Propagation};
use crate::hub::Cri;
use crate::spec::mounts;

/// The mounts that `config` asks for, in the runtime's words.
///
/// # Errors
/// InvalidArgument for one that cannot be; those of making directories.
pub(super) fn find(cri: &Cri, id: &str, config: &ContainerConfig) -> Result<Vec<Value>> {
    let mounts = config.mounts.iter().enumerate();
    mounts
        .map(|(number, mount)| one(cri, id, number, mount))
        .collect()
}

fn one(cri: &Cri, id: &str, number: usize, mount: &Mount) -> Result<Value> {
    let bad = |why: &str| {
        Kind::InvalidArgument.error(format!("mount on {:?}: {why}", mount.container_path))
    };
    if !mount.container_path.starts_with('/') {
        return Err(bad("expected an absolute path"));
    }
    if mount.recursive_readonly && !mount.readonly {
        return Err(bad("recursively read-only needs read-only"));
    }
    if mount.recursive_readonly && mount.propagation != Propagation::Private {
        return Err(bad("recursively read-only needs private propagation"));
    }
    if !mount.image.is_empty() {
        let (image, below) = (&mount.image, &mount.image_sub_path);
        let source = image_volumes::mount(cri, id, number, image, below)?;
        return Ok(mounts::asked(mount, &source.display().to_string()));
    }
    if mount.host_path.is_empty() {
        return Err(bad("it has no source"));
    }
    let source = source(Path::new(&mount.host_path))?;
    check_shared(mount, &source)?;
    Ok(mounts::asked(mount, &source.display().to_string()))
}

/// The real place of `path`, which becomes a directory where there is nothing.
fn source(path: &Path) -> Result<PathBuf> {
    match path.canonicalize() {
        Err(err) if err.kind() == std::io::ErrorKind::NotFound => {
            let what = || format!("make {}", path.display());
            fs::create_dir_all(path).op(what)?;
            path.canonicalize().op(what)
        }
        found => found.op(|| format!("look at {}", path.display())),
    }
}

/// Mounts travel only where the source's own mount lets them.
fn check_shared(mount: &Mount, source: &Path) -> Result<()> {
    if mount.propagation == Propagation::Private {
        return Ok(());
    }
    let table =
        fs::read_to_string("/proc/self/mountinfo").op(|| "read /proc/self/mountinfo".to_owned())?;
    let (at, tags) = mounted_at(&table, source);
    let fits = match mount.propagation {
        Propagation::Bidirectional => tags.contains("shared:"),
        _ => tags.contains("shared:") || tags.contains("master:"),
    };
    if fits {
        return Ok(());
    }
    let wanted = match mount.propagation {
        Propagation::Bidirectional => "a shared",
        _ => "a shared or slave",
    };
    Err(Kind::InvalidArgument.error(format!(
        "path {} is on mount {at}, which is not {wanted} mount",
        source.display()
    )))
}

/// The innermost mount point above `path`, and its propagation.
fn mounted_at<'a>(table: &'a str, path: &Path) -> (&'a str, &'a str) {
    let mut found = ("/", "");
    for line in table.lines() {
        let mut words = line.splitn(7, ' ').skip(4);
        let (Some(at), Some(_), Some(rest)) = (words.next(), words.next(), words.next()) else {
            continue;
        };
        let tags = rest.split(" - ").next().unwrap_or_default();
        let tags = if rest.starts_with("- ") { "" } else { tags };
        // A later line lies over an earlier one.
        if path.starts_with(at) && at.len() >= found.0.len() {
            found = (at, tags);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
1 0 8:1 / / rw,relatime shared:1 - ext4 /dev/sda rw
2 1 0:5 / /a rw master:3 - tmpfs tmpfs rw
3 2 0:6 / /a/b rw - tmpfs tmpfs rw
";

    #[test]
    fn the_innermost_mount_decides() {
        let at = |path: &str| mounted_at(TABLE, Path::new(path));
        assert_eq!(at("/x"), ("/", "shared:1"));
        assert_eq!(at("/a/c"), ("/a", "master:3"));
        assert_eq!(at("/a/b/c"), ("/a/b", ""));
    }
}
