//! Files into containers and out of them, whether they run or not.
//!
//! A path is looked up in the container's root by `openat2(2)` with
//! RESOLVE_IN_ROOT: links and `..` stay inside, whatever its processes change
//! meanwhile, and what is written is written below a directory's descriptor. Of
//! a container that does not run, what is mounted is reached where it lies on the
//! host; of one that runs, through its root.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use kernel::path::Within;
use lite_core::{Because, Error, Kind, Result, files};
use nix::fcntl::{AtFlags, OFlag, readlinkat};
use nix::sys::stat::{FileStat, SFlag, fstat, fstatat};
use tokio::sync::mpsc;

use crate::engine::Engine;
use crate::events::Event;
use crate::pipe::{self, Pieces, Sink};
use crate::record::Record;
use crate::rootfs;
use crate::state::Phase;

/// As many links as the kernel follows.
const MOST_LINKS: u32 = 40;

/// What is at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathStat {
    /// The last part of the path.
    pub name: String,
    /// Type and permissions, as `st_mode`.
    pub mode: u32,
    /// Bytes.
    pub size: u64,
    /// When it changed.
    pub modified: SystemTime,
    /// Of a symbolic link: the path in the container that it leads to.
    pub link_target: String,
}

/// A path that was found.
struct Place {
    /// The directory that holds it; for the root itself, the root.
    parent: OwnedFd,
    /// Its name there; `None` where the path is the directory itself.
    name: Option<String>,
    /// What the user would call it.
    shown: String,
    stat: FileStat,
    /// Absolute, without `.` and `..`.
    path: String,
}

impl Place {
    fn is(&self, kind: SFlag) -> bool {
        SFlag::from_bits_truncate(self.stat.st_mode) & SFlag::S_IFMT == kind
    }

    fn link_target(&self) -> Result<String> {
        let Some(name) = self.name.as_deref().filter(|_| self.is(SFlag::S_IFLNK)) else {
            return Ok(String::new());
        };
        let target = readlinkat(&self.parent, name).op(|| format!("read link {}", self.path))?;
        let target = target.to_string_lossy();
        let above = self.path.rsplit_once('/').map_or("", |(above, _)| above);
        Ok(clean(&match target.starts_with('/') {
            true => target.into_owned(),
            false => format!("{above}/{target}"),
        }))
    }

    fn describe(&self) -> Result<PathStat> {
        let seconds = u64::try_from(self.stat.st_mtime).unwrap_or_default();
        Ok(PathStat {
            name: self.shown.clone(),
            mode: self.stat.st_mode,
            size: u64::try_from(self.stat.st_size).unwrap_or_default(),
            modified: SystemTime::UNIX_EPOCH + Duration::from_secs(seconds),
            link_target: self.link_target()?,
        })
    }
}

/// What is at `path` in a container; of a link the link itself, unless the path
/// ends in a slash.
///
/// # Errors
/// NotFound for the container and for the path.
pub async fn stat(engine: &Engine, container: &str, path: &str) -> Result<PathStat> {
    let record = engine.find(container)?.record();
    let (engine, typed, path) = (engine.clone(), container.to_owned(), path.to_owned());
    lite_core::blocking(move || find(&engine, &record, &typed, &path)?.describe()).await
}

/// A file or directory as an archive, every path below its name. With `follow`
/// what a link at the path leads to, under the link's name.
///
/// # Errors
/// NotFound for the container and for the path.
pub async fn copy_from(
    engine: &Engine,
    container: &str,
    path: &str,
    follow: bool,
) -> Result<(PathStat, mpsc::Receiver<Result<Bytes>>)> {
    let record = engine.find(container)?.record();
    let event = Event::of_container(&record, "archive-path").with("path", path);
    let place = {
        let (engine, typed, path) = (engine.clone(), container.to_owned(), path.to_owned());
        lite_core::blocking(move || {
            let mut place = find(&engine, &record, &typed, &path)?;
            let shown = place.shown.clone();
            let mut links = 0;
            while follow && place.is(SFlag::S_IFLNK) {
                links += 1;
                if links > MOST_LINKS {
                    return Err(Kind::InvalidArgument.error(format!("{path}: too many links")));
                }
                place = find(&engine, &record, &typed, &place.link_target()?)?;
            }
            place.shown = shown;
            Ok(place)
        })
        .await?
    };
    engine.emit(event);
    let about = place.describe()?;
    let pieces = pipe::produce(move |output| {
        let what = || format!("copy {}", place.path);
        match &place.name {
            None => files::pack_directory(&rootfs::path_of(&place.parent), &place.shown, output),
            Some(name) => {
                files::pack_entry(&rootfs::path_of(&place.parent), name, &place.shown, output)
            }
        }
        .op(what)
    });
    Ok((about, pieces))
}

/// Unpacks an archive into the directory `path` of a container.
///
/// # Errors
/// NotFound for the container and the directory; FailedPrecondition where it may
/// not be written; those of [`files::unpack`].
pub async fn copy_to(engine: &Engine, container: &str, path: &str, pieces: Pieces) -> Result<()> {
    let record = engine.find(container)?.record();
    let event = Event::of_container(&record, "extract-to-dir").with("path", path);
    {
        let (engine, typed, path) = (engine.clone(), container.to_owned(), path.to_owned());
        lite_core::blocking(move || {
            let (root, rest, writable) = root_for(&engine, &record, &clean(&path))?;
            if let Err(why) = writable {
                return Err(Kind::FailedPrecondition.error(why));
            }
            let dir = open(&root, &rest, OFlag::O_DIRECTORY)
                .map_err(|err| missing(&typed, &path, err))?;
            files::unpack(Sink::new(pieces), &rootfs::path_of(&dir))
                .op(|| format!("copy into {path} of container {typed}"))
        })
        .await?;
    }
    engine.emit(event);
    Ok(())
}

/// Looks a path up. One that ends in a slash or in `/.` is a directory.
fn find(engine: &Engine, record: &Record, container: &str, typed: &str) -> Result<Place> {
    let path = clean(typed);
    let is_directory = typed.ends_with('/') || typed.ends_with("/.") || typed == ".";
    let (root, rest, _) = root_for(engine, record, &path)?;
    let missing = |err| missing(container, typed, err);
    let shown = path.rsplit('/').next().unwrap_or_default().to_owned();
    if rest == "/" || is_directory {
        let dir = open(&root, &rest, OFlag::O_DIRECTORY).map_err(missing)?;
        let stat = fstat(&dir).op(|| format!("look at {path}"))?;
        return Ok(Place {
            parent: dir,
            name: None,
            shown,
            stat,
            path,
        });
    }
    let (above, name) = rest.rsplit_once('/').unwrap_or(("", &rest));
    let parent = open(&root, above, OFlag::O_DIRECTORY).map_err(missing)?;
    let stat = fstatat(&parent, name, AtFlags::AT_SYMLINK_NOFOLLOW)
        .map_err(|errno| missing(errno.into()))?;
    Ok(Place {
        name: Some(name.to_owned()),
        parent,
        shown,
        stat,
        path,
    })
}

fn open(root: &OwnedFd, path: &str, flags: OFlag) -> io::Result<OwnedFd> {
    let flags = OFlag::O_RDONLY | flags;
    let path = format!("./{path}");
    kernel::path::open_in(
        root.as_fd(),
        Path::new(&path),
        flags.bits(),
        0,
        Within::Root,
    )
}

fn missing(container: &str, path: &str, err: io::Error) -> Error {
    match err.kind() {
        io::ErrorKind::NotFound => Kind::NotFound.error(format!(
            "Could not find the file {path} in container {container}"
        )),
        io::ErrorKind::NotADirectory => {
            Kind::InvalidArgument.error(format!("{path} in container {container}: not a directory"))
        }
        _ => Error::io(format!("open {path} in container {container}"), err),
    }
}

/// The directory from which `path` is reached, the rest of the path, and why it
/// cannot be written, where that is so.
fn root_for(
    engine: &Engine,
    record: &Record,
    path: &str,
) -> Result<(OwnedFd, String, std::result::Result<(), &'static str>)> {
    let mounted = record
        .mounts
        .iter()
        .filter(|mount| !mount.source.is_empty() && below(&mount.destination, path).is_some())
        .max_by_key(|mount| mount.destination.len());
    let writable = match mounted {
        Some(mount) if !mount.writable => Err("mounted volume is marked read-only"),
        None if record.host.read_only => Err("container rootfs is marked read-only"),
        _ => Ok(()),
    };
    if record.phase == Phase::Running {
        return Ok((
            rootfs::open(engine, &record.id, record.run.pid)?,
            path.to_owned(),
            writable,
        ));
    }
    if let Some(mount) = mounted {
        let source = PathBuf::from(&mount.source);
        let source = source.join(mount.subpath.trim_start_matches('/'));
        let rest = below(&mount.destination, path).unwrap_or("/").to_owned();
        // A file that is mounted is reached by the directory it lies in.
        if source.is_file() {
            let dir = source.parent().unwrap_or(Path::new("/"));
            let name = source.file_name().unwrap_or_default().to_string_lossy();
            let opened = kernel::path::open_dir(dir).op(|| format!("open {}", dir.display()))?;
            return Ok((opened, format!("/{name}"), writable));
        }
        let opened = kernel::path::open_dir(&source).op(|| format!("open {}", source.display()))?;
        return Ok((opened, rest, writable));
    }
    Ok((
        rootfs::open(engine, &record.id, 0)?,
        path.to_owned(),
        writable,
    ))
}

/// What of `path` is below `dir`: begins with a slash.
fn below<'a>(dir: &str, path: &'a str) -> Option<&'a str> {
    match path.strip_prefix(dir.trim_end_matches('/'))? {
        "" => Some("/"),
        rest => rest.starts_with('/').then_some(rest),
    }
}

/// The path from the root, without `.` and `..`.
fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_start_at_the_root_and_stay_there() {
        for (typed, want) in [
            ("", "/"),
            ("a/b", "/a/b"),
            ("/a/./b/../c/", "/a/c"),
            ("../../etc/passwd", "/etc/passwd"),
        ] {
            assert_eq!(clean(typed), want, "{typed}");
        }
        assert_eq!(below("/data", "/data/x"), Some("/x"));
        assert_eq!(below("/data", "/data"), Some("/"));
        assert_eq!(below("/data", "/database"), None);
        assert_eq!(below("/", "/x"), Some("/x"));
    }
}
