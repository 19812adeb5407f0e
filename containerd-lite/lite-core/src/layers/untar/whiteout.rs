//! Whiteouts: from the names that OCI layers use to overlay's own form.
//!
//! `.wh.<name>` says that the layers' below `name` is gone: overlay wants a
//! character device 0:0 of that name. `.wh..wh..opq` says that all below this
//! directory is gone: overlay wants the attribute `trusted.overlay.opaque`.
//! Neither speaks of what the layer itself holds.

use std::os::fd::BorrowedFd;

use rustix::fs::{AtFlags, FileType, Mode, XattrFlags};
use rustix::io::Errno;

use super::{Layer, dirs, sys};
use crate::error::{Error, Kind, Result};

pub(super) const PREFIX: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";

/// aufs's own files, which old layers carry.
const META_PREFIX: &[u8] = b".wh..wh.";

impl Layer {
    pub(super) fn whiteout(&mut self, parent: &[Vec<u8>], name: &[u8]) -> Result<()> {
        if name == OPAQUE {
            let overlay = self.overlay;
            let dir = self.dirs.parent(parent)?;
            return if overlay { make_opaque(dir) } else { Ok(()) };
        }
        if name.starts_with(META_PREFIX) {
            return Ok(());
        }
        let hidden = &name[PREFIX.len()..];
        if matches!(hidden, b"" | b"." | b"..") {
            return Err(Kind::InvalidArgument.error("a whiteout of nothing"));
        }
        if !self.overlay {
            return self.remove_hidden(parent, hidden);
        }
        let dir = self.dirs.parent(parent)?;
        match rustix::fs::mknodat(dir, hidden, FileType::CharacterDevice, Mode::empty(), 0) {
            // What the layer holds hides the one below by itself, but
            // directories are merged unless they are opaque.
            Err(Errno::EXIST) => match dirs::open_directory(dir, hidden) {
                Ok(held) => make_opaque(std::os::fd::AsFd::as_fd(&held)),
                Err(err) if err.kind() == Kind::InvalidArgument => Ok(()),
                Err(err) => Err(err),
            },
            made => sys(made, "make whiteout"),
        }
    }

    /// Without layers below, a whiteout can only mean what is there already.
    fn remove_hidden(&mut self, parent: &[Vec<u8>], hidden: &[u8]) -> Result<()> {
        let dir = self.dirs.parent(parent)?;
        let found = match rustix::fs::statat(dir, hidden, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(found) => found,
            Err(Errno::NOENT) => return Ok(()),
            Err(errno) => return Err(Error::io("look", errno.into())),
        };
        if FileType::from_raw_mode(found.st_mode) == FileType::Directory {
            dirs::remove_tree(dir, hidden)?;
            self.dirs.forget();
            return Ok(());
        }
        sys(
            rustix::fs::unlinkat(dir, hidden, AtFlags::empty()),
            "remove",
        )
    }
}

/// Hides all that the layers below have in this directory.
pub(super) fn make_opaque(dir: BorrowedFd<'_>) -> Result<()> {
    sys(
        rustix::fs::fsetxattr(dir, "trusted.overlay.opaque", b"y", XattrFlags::empty()),
        "make opaque",
    )
}
