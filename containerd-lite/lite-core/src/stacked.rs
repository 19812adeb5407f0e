//! Reads single files of an image out of its layers without mounting them,
//! with overlayfs's rules: the topmost layer that has a name decides, a
//! whiteout hides it below, directories merge.
//!
//! Symbolic links are followed inside the merged tree, as the container would
//! see them; nothing outside the layers can be reached. (A directory that is
//! marked opaque is merged all the same: for the account files read here that
//! would matter only if a layer replaced the whole of `/etc` and left them out.)

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Component, Path, PathBuf};

use crate::values::Mount;

/// Files larger than this are not account files.
const LARGEST: u64 = 4 << 20;

/// As many symbolic links as the kernel follows.
const MOST_LINKS: u32 = 40;

/// The directories that `mounts` would stack, topmost first.
#[must_use]
pub fn of_mounts(mounts: &[Mount]) -> Vec<PathBuf> {
    let Some(root) = mounts
        .iter()
        .find(|mount| mount.target.is_empty() || mount.target == "/")
    else {
        return Vec::new();
    };
    if root.kind == "bind" {
        return vec![PathBuf::from(&root.source)];
    }
    let option = |key: &str| {
        root.options
            .iter()
            .find_map(|option| option.strip_prefix(key))
    };
    let upper = option("upperdir=").map(PathBuf::from);
    let lower = option("lowerdir=")
        .unwrap_or_default()
        .split(':')
        .filter(|dir| !dir.is_empty());
    upper.into_iter().chain(lower.map(PathBuf::from)).collect()
}

/// The text of the file at `path`; empty when there is none. Bytes that are
/// no UTF-8 are replaced.
///
/// # Errors
/// Those of reading; `InvalidData` for a link loop and for a file of unlikely
/// size.
pub fn read_text(layers: &[PathBuf], path: &str) -> io::Result<String> {
    let Some(found) = find(layers, Path::new(path))? else {
        return Ok(String::new());
    };
    let mut bytes = Vec::new();
    File::open(found)?
        .take(LARGEST + 1)
        .read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LARGEST {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("{path}: larger than {LARGEST} bytes"),
        ));
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// A merged directory: those of the layers that make it up, topmost first.
type Merged = Vec<PathBuf>;

enum Entry {
    Absent,
    File(PathBuf),
    Link(PathBuf),
    Directory(Merged),
}

fn find(layers: &[PathBuf], path: &Path) -> io::Result<Option<PathBuf>> {
    let mut names: VecDeque<OsString> = names_of(path).collect();
    let mut stack: Vec<Merged> = vec![layers.to_vec()];
    let mut links = 0;
    while let Some(name) = names.pop_front() {
        if name == ".." {
            if stack.len() > 1 {
                stack.pop();
            }
            continue;
        }
        match entry(&stack[stack.len() - 1], &name)? {
            Entry::Absent => return Ok(None),
            Entry::File(file) => return Ok(names.is_empty().then_some(file)),
            Entry::Directory(merged) => stack.push(merged),
            Entry::Link(target) => {
                links += 1;
                if links > MOST_LINKS {
                    return Err(io::Error::new(
                        io::ErrorKind::InvalidData,
                        format!("{}: too many links", path.display()),
                    ));
                }
                if target.is_absolute() {
                    stack.truncate(1);
                }
                for name in names_of(&target).collect::<Vec<_>>().into_iter().rev() {
                    names.push_front(name);
                }
            }
        }
    }
    Ok(None)
}

fn names_of(path: &Path) -> impl Iterator<Item = OsString> {
    path.components().filter_map(|part| match part {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some(OsString::from("..")),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    })
}

fn entry(merged: &Merged, name: &OsString) -> io::Result<Entry> {
    let mut directories = Vec::new();
    for layer in merged {
        let path = layer.join(name);
        let about = match fs::symlink_metadata(&path) {
            Ok(about) => about,
            Err(err) if err.kind() == io::ErrorKind::NotFound => continue,
            Err(err) => return Err(err),
        };
        let kind = about.file_type();
        if kind.is_dir() {
            directories.push(path);
            continue;
        }
        // What is no directory hides everything below it.
        if !directories.is_empty() || (kind.is_char_device() && about.rdev() == 0) {
            break;
        }
        if kind.is_symlink() {
            return Ok(Entry::Link(fs::read_link(path)?));
        }
        return Ok(if kind.is_file() {
            Entry::File(path)
        } else {
            Entry::Absent
        });
    }
    Ok(if directories.is_empty() {
        Entry::Absent
    } else {
        Entry::Directory(directories)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    /// Layers topmost first; `path=text` is a file, `path->target` a link,
    /// `path!` a whiteout.
    fn layers(described: &[&str]) -> (tempfile::TempDir, Vec<PathBuf>) {
        let dir = tempfile::tempdir().unwrap();
        let mut paths = Vec::new();
        for (number, layer) in described.iter().enumerate() {
            let root = dir.path().join(number.to_string());
            fs::create_dir(&root).unwrap();
            for thing in layer.split_whitespace() {
                make(&root, thing);
            }
            paths.push(root);
        }
        (dir, paths)
    }

    fn make(root: &Path, thing: &str) {
        use nix::sys::stat::{Mode, SFlag, mknod};
        let place = |path: &str| {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            path
        };
        if let Some((path, target)) = thing.split_once("->") {
            symlink(target, place(path)).unwrap();
        } else if let Some(path) = thing.strip_suffix('!') {
            mknod(&place(path), SFlag::S_IFCHR, Mode::empty(), 0).unwrap();
        } else if let Some((path, text)) = thing.split_once('=') {
            fs::write(place(path), text).unwrap();
        }
    }

    #[track_caller]
    fn check(described: &[&str], want: &str) {
        let (_dir, layers) = layers(described);
        assert_eq!(
            read_text(&layers, "/etc/passwd").unwrap(),
            want,
            "{described:?}"
        );
    }

    #[test]
    fn the_topmost_layer_decides() {
        check(&["", "etc/passwd=low"], "low");
        check(&["etc/passwd=top", "etc/passwd=low"], "top");
        check(&["etc/group=g", "etc/passwd=low"], "low");
        check(&["", ""], "");
    }

    #[test]
    fn a_whiteout_hides_what_is_below() {
        check(&["etc/passwd!", "etc/passwd=low"], "");
        check(&["etc!", "etc/passwd=low"], "");
        check(&["etc/x=1", "etc!", "etc/passwd=low"], "");
    }

    #[test]
    fn links_are_followed_across_layers_and_never_out() {
        check(&["etc/passwd->../usr/p", "usr/p=linked"], "linked");
        check(&["etc->usr/etc", "usr/etc/passwd=linked"], "linked");
        check(&["usr/p=new", "etc/passwd->/usr/p usr/p=old"], "new");
        check(
            &[
                "etc/passwd->/../../../../../../etc/passwd2",
                "etc/passwd2=inside",
            ],
            "inside",
        );
    }

    #[test]
    fn a_loop_of_links_is_an_error() {
        let (_dir, layers) = layers(&["etc/passwd->passwd"]);
        assert!(read_text(&layers, "/etc/passwd").is_err());
    }

    #[test]
    fn layers_are_read_off_the_mounts() {
        let overlay = Mount {
            kind: "overlay".to_owned(),
            options: ["workdir=/w", "upperdir=/u", "lowerdir=/b:/a"]
                .map(str::to_owned)
                .to_vec(),
            ..Mount::default()
        };
        assert_eq!(of_mounts(&[overlay]), ["/u", "/b", "/a"].map(PathBuf::from));
        let bind = Mount {
            kind: "bind".to_owned(),
            source: "/s".to_owned(),
            ..Mount::default()
        };
        assert_eq!(of_mounts(&[bind]), [PathBuf::from("/s")]);
    }
}
