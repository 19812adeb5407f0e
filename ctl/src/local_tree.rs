//! Files here, into a tar and out of one: this side of `ctl cp`.
//!
//! A tar that comes from a container is not to be trusted: nothing in it is
//! unpacked outside the directory that was named, whatever its paths and links
//! say.

use std::fs::{self, File, Metadata};
use std::io::{self, Read, Write};
use std::os::unix::fs::FileTypeExt;
use std::path::{Component, Path, PathBuf};

use bytes::Bytes;
use tar::{Archive, Builder, EntryType, Header};
use tokio::sync::mpsc;

use crate::failure::Failure;

/// Bytes that are handed on at a time.
const PIECE: usize = 256 << 10;

/// What is at a path, `None` where nothing is; with `follow` what a link leads to.
pub(crate) fn look(path: &str, follow: bool) -> Result<Option<Metadata>, Failure> {
    let found = match follow {
        true => fs::metadata(path),
        false => fs::symlink_metadata(path),
    };
    match found {
        Ok(found) => Ok(Some(found)),
        Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(err) => Err(Failure::io(format!("lstat {path}"), &err)),
    }
}

/// The last part of a path; of one that has none (`.`, `..`, `dir/..`) that of
/// the directory it means.
pub(crate) fn name_of(path: &str) -> Result<String, Failure> {
    let last = Path::new(path).components().next_back();
    let name = match last {
        Some(Component::Normal(name)) => name.to_owned(),
        _ => {
            let whole = fs::canonicalize(path);
            let whole = whole.map_err(|err| Failure::io(format!("lstat {path}"), &err))?;
            whole.file_name().unwrap_or_default().to_owned()
        }
    };
    Ok(name.to_string_lossy().into_owned())
}

/// A file or directory to be packed.
#[derive(Debug)]
pub(crate) struct Packing {
    /// Where it is.
    pub(crate) source: PathBuf,
    /// What it is called in the tar; `None`: only what is in it.
    pub(crate) name: Option<String>,
    /// If it is a link, what that leads to.
    pub(crate) follow: bool,
    /// Files belong to whom they belong to here; else to root.
    pub(crate) keep_owners: bool,
}

impl Packing {
    /// Hands the tar on in pieces, until nobody takes more.
    ///
    /// # Errors
    /// Those of reading files.
    pub(crate) fn run(self, send: &mut dyn FnMut(Vec<u8>) -> bool) -> io::Result<()> {
        let mut builder = Builder::new(Pieces {
            send,
            held: Vec::new(),
        });
        let source = match self.follow {
            true => fs::canonicalize(&self.source)?,
            false => self.source.clone(),
        };
        let packed = match &self.name {
            Some(name) => self.add(&mut builder, &source, Path::new(name)),
            None => self.add_children(&mut builder, &source, Path::new("")),
        };
        let finished = packed.and_then(|()| builder.into_inner()?.flush());
        match finished {
            // The daemon says why it takes no more.
            Err(err) if err.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            finished => finished,
        }
    }

    fn add<W: Write>(&self, builder: &mut Builder<W>, from: &Path, name: &Path) -> io::Result<()> {
        let about = fs::symlink_metadata(from)?;
        let kind = about.file_type();
        // Nobody listens on a copy.
        if kind.is_socket() {
            return Ok(());
        }
        let mut header = Header::new_gnu();
        header.set_metadata(&about);
        if !self.keep_owners {
            header.set_uid(0);
            header.set_gid(0);
        }
        if kind.is_symlink() {
            header.set_size(0);
            return builder.append_link(&mut header, name, fs::read_link(from)?);
        }
        if kind.is_dir() {
            builder.append_data(&mut header, name.join(""), io::empty())?;
            return self.add_children(builder, from, name);
        }
        if kind.is_file() {
            // As many bytes as its header says, whatever happens to it.
            let file = File::open(from)?.take(about.len());
            return builder.append_data(
                &mut header,
                name,
                file.chain(io::repeat(0)).take(about.len()),
            );
        }
        header.set_size(0);
        builder.append_data(&mut header, name, io::empty())
    }

    fn add_children<W: Write>(
        &self,
        builder: &mut Builder<W>,
        from: &Path,
        name: &Path,
    ) -> io::Result<()> {
        let mut names = Vec::new();
        for entry in fs::read_dir(from)? {
            names.push(entry?.file_name());
        }
        names.sort();
        for child in names {
            self.add(builder, &from.join(&child), &name.join(&child))?;
        }
        Ok(())
    }
}

/// A writer that hands on pieces.
struct Pieces<'a> {
    send: &'a mut dyn FnMut(Vec<u8>) -> bool,
    held: Vec<u8>,
}

impl Write for Pieces<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.held.extend_from_slice(bytes);
        if self.held.len() >= PIECE {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let piece = std::mem::take(&mut self.held);
        match piece.is_empty() || (self.send)(piece) {
            true => Ok(()),
            false => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }
}

/// Where a tar is unpacked.
#[derive(Debug)]
pub(crate) struct Unpacking {
    /// A directory that is there.
    pub(crate) directory: PathBuf,
    /// The first part of every path in the tar.
    pub(crate) first: Option<String>,
    /// What takes its place; `None`: nothing does.
    pub(crate) name: Option<String>,
    /// Files get the owners that the tar names; else they are the user's.
    pub(crate) keep_owners: bool,
}

impl Unpacking {
    /// Unpacks what comes in; returns how many bytes.
    ///
    /// # Errors
    /// Those of the tar and of the file system.
    pub(crate) fn run(self, pieces: mpsc::Receiver<io::Result<Bytes>>) -> io::Result<i64> {
        let mut reader = Received {
            pieces,
            held: Bytes::new(),
            total: 0,
        };
        let mut archive = Archive::new(&mut reader);
        archive.set_preserve_permissions(true);
        archive.set_preserve_ownerships(self.keep_owners);
        archive.set_unpack_xattrs(false);
        for entry in archive.entries()? {
            let mut entry = entry?;
            let path = entry.path()?.into_owned();
            let Some(place) = self.place(&path) else {
                continue;
            };
            let kind = entry.header().entry_type();
            self.check(&path, &place, kind)?;
            if kind == EntryType::Link {
                self.hard_link(&entry, &place)?;
                continue;
            }
            unpack_at(&mut entry, &self.directory, &place)?;
        }
        // To the end, so that the sender is not cut short.
        io::copy(&mut reader, &mut io::sink())?;
        Ok(reader.total)
    }

    /// Where an entry goes, from the directory on; `None` for the directory
    /// itself.
    fn place(&self, path: &Path) -> Option<PathBuf> {
        let mut parts = path.components().filter_map(|part| match part {
            Component::Normal(name) => Some(name),
            _ => None,
        });
        if self.first.is_some() {
            parts.next();
        }
        let rest: PathBuf = parts.collect();
        // Joined to nothing a name would end in a slash.
        let place = match &self.name {
            Some(name) if rest.as_os_str().is_empty() => PathBuf::from(name),
            Some(name) => Path::new(name).join(rest),
            None => rest,
        };
        (!place.as_os_str().is_empty()).then_some(place)
    }

    /// A directory takes the place of no file, and no file that of a directory.
    fn check(&self, path: &Path, place: &Path, kind: EntryType) -> io::Result<()> {
        let Ok(there) = fs::symlink_metadata(self.directory.join(place)) else {
            return Ok(());
        };
        let words = match (kind == EntryType::Directory, there.is_dir()) {
            (true, false) => "cannot overwrite non-directory with directory",
            (false, true) => "cannot overwrite directory with non-directory",
            _ => return Ok(()),
        };
        Err(io::Error::other(format!("{words}: {}", path.display())))
    }

    /// A further name of a file that was unpacked before.
    fn hard_link<R: Read>(&self, entry: &tar::Entry<'_, R>, place: &Path) -> io::Result<()> {
        let target = entry.link_name()?.unwrap_or_default().into_owned();
        let Some(target) = self.place(&target) else {
            return Ok(());
        };
        let (from, to) = (self.inside(&target)?, self.inside(place)?);
        match fs::remove_file(&to) {
            Err(err) if err.kind() != io::ErrorKind::NotFound => return Err(err),
            _ => {}
        }
        fs::hard_link(from, to)
    }

    /// The path of `place`, if the directory it lies in is below ours.
    fn inside(&self, place: &Path) -> io::Result<PathBuf> {
        inside(&self.directory, place)
    }
}

fn inside(directory: &Path, place: &Path) -> io::Result<PathBuf> {
    let path = directory.join(place);
    let parent = fs::canonicalize(path.parent().unwrap_or(directory))?;
    match parent.starts_with(fs::canonicalize(directory)?) {
        true => Ok(path),
        false => Err(io::Error::other(format!(
            "{} would be written outside of {}",
            place.display(),
            directory.display()
        ))),
    }
}

fn unpack_at<R: Read>(
    entry: &mut tar::Entry<'_, R>,
    directory: &Path,
    place: &Path,
) -> io::Result<()> {
    let path = inside(directory, place)?;
    // What is there is replaced, never written through: it may be a link.
    if fs::symlink_metadata(&path).is_ok_and(|there| !there.is_dir()) {
        fs::remove_file(&path)?;
    }
    entry.unpack(&path).map(drop)
}

/// Pieces as a reader.
struct Received {
    pieces: mpsc::Receiver<io::Result<Bytes>>,
    held: Bytes,
    total: i64,
}

impl Read for Received {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.held.is_empty() {
            match self.pieces.blocking_recv() {
                None => return Ok(0),
                Some(piece) => self.held = piece?,
            }
        }
        let len = buffer.len().min(self.held.len());
        buffer[..len].copy_from_slice(&self.held.split_to(len));
        self.total += i64::try_from(len).unwrap_or(0);
        Ok(len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn unpack(directory: &Path, tar: Vec<u8>) -> io::Result<i64> {
        let (sender, receiver) = mpsc::channel(1);
        sender.try_send(Ok(tar.into())).unwrap();
        drop(sender);
        let unpacking = Unpacking {
            directory: directory.to_owned(),
            first: Some("src".to_owned()),
            name: Some("dst".to_owned()),
            keep_owners: false,
        };
        unpacking.run(receiver)
    }

    #[test]
    fn what_is_packed_comes_out_under_another_name() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("src"), dir.path().join("to"));
        fs::create_dir_all(from.join("sub")).unwrap();
        fs::create_dir(&to).unwrap();
        fs::write(from.join("sub/file"), "text").unwrap();
        symlink("sub/file", from.join("link")).unwrap();
        let mut tar = Vec::new();
        let packing = Packing {
            source: from,
            name: Some("src".to_owned()),
            follow: false,
            keep_owners: true,
        };
        packing
            .run(&mut |piece| {
                tar.extend(piece);
                true
            })
            .unwrap();
        unpack(&to, tar).unwrap();
        assert_eq!(fs::read_to_string(to.join("dst/link")).unwrap(), "text");
        assert_eq!(
            fs::read_link(to.join("dst/link")).unwrap(),
            Path::new("sub/file")
        );
    }

    /// A tar of a link and of a file that would be written through it.
    fn hostile(link: &str) -> Vec<u8> {
        let mut builder = Builder::new(Vec::new());
        let mut header = Header::new_gnu();
        header.set_entry_type(EntryType::Directory);
        header.set_mode(0o755);
        header.set_size(0);
        builder
            .append_data(&mut header, "src/", io::empty())
            .unwrap();
        header.set_entry_type(EntryType::Symlink);
        builder.append_link(&mut header, "src/out", link).unwrap();
        header.set_entry_type(EntryType::Regular);
        header.set_size(4);
        builder
            .append_data(&mut header, "src/out/file", &b"evil"[..])
            .unwrap();
        builder.into_inner().unwrap()
    }

    #[test]
    fn nothing_is_written_outside() {
        let dir = tempfile::tempdir().unwrap();
        let (outside, to) = (dir.path().join("outside"), dir.path().join("to"));
        fs::create_dir(&outside).unwrap();
        fs::create_dir(&to).unwrap();
        for link in [outside.to_str().unwrap(), "../../outside"] {
            let err = unpack(&to, hostile(link)).unwrap_err();
            assert!(err.to_string().contains("outside of"), "{err}");
        }
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
    }

    #[test]
    fn the_name_of_a_path_is_that_of_what_it_means() {
        assert_eq!(name_of("/a/b/").unwrap(), "b");
        assert_eq!(name_of("/a/b/.").unwrap(), "b");
        let here = std::env::current_dir().unwrap();
        let here = here.file_name().unwrap().to_str().unwrap().to_owned();
        assert_eq!(name_of(".").unwrap(), here);
    }
}
