//! What a runtime makes in a root file system to mount on, and what takes it away again.
//!
//! A mount needs a file or directory under it. Where the image has none, the runtime makes one in the layer that is being
//! written, and it would stay there: empty `/proc`, `/etc/hosts`, `/run/secrets/…` that nobody wrote.

use std::io;
use std::path::Path;

use kernel::path::{Within, open_in};
use rustix::fs::{AtFlags, OFlags};

use crate::copy::Root;
use crate::source::look;

/// Paths that were not there before the step, deepest first.
#[derive(Debug, Default)]
pub struct Stubs(Vec<String>);

impl Stubs {
    /// Of `targets`, and the directories above them, what `root` does not have.
    #[must_use]
    pub fn before(root: &Root, targets: &[String]) -> Self {
        let mut missing = Vec::new();
        for target in targets {
            let mut path = String::new();
            for name in target.split('/').filter(|name| !name.is_empty()) {
                path.push('/');
                path.push_str(name);
                if !missing.contains(&path) && !exists(root, &path) {
                    missing.push(path.clone());
                }
            }
        }
        missing.sort_by_key(|path| std::cmp::Reverse(path.matches('/').count()));
        Self(missing)
    }

    /// Removes them where they are still empty: what the step wrote there is its own.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn remove(&self, root: &Root) -> io::Result<()> {
        for path in &self.0 {
            let (above, name) = path.rsplit_once('/').unwrap_or(("", path));
            let flags = OFlags::RDONLY | OFlags::DIRECTORY;
            let above = format!(".{above}");
            let dir = match open_in(
                root.fd(),
                Path::new(&above),
                flags.bits().cast_signed(),
                0,
                Within::Root,
            ) {
                Err(err) if err.kind() == io::ErrorKind::NotFound => continue,
                opened => opened?,
            };
            let flags = match look(&dir, name)? {
                Some(rustix::fs::FileType::Directory) => AtFlags::REMOVEDIR,
                Some(rustix::fs::FileType::RegularFile)
                    if rustix::fs::statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW)?.st_size == 0 =>
                {
                    AtFlags::empty()
                }
                _ => continue,
            };
            match rustix::fs::unlinkat(&dir, name, flags) {
                Err(rustix::io::Errno::NOTEMPTY | rustix::io::Errno::NOENT) | Ok(()) => {}
                Err(err) => return Err(err.into()),
            }
        }
        Ok(())
    }
}

fn exists(root: &Root, path: &str) -> bool {
    let path = format!(".{path}");
    let flags = OFlags::PATH.bits().cast_signed();
    open_in(root.fd(), Path::new(&path), flags, 0, Within::Root).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn only_what_was_made_for_mounts_goes() {
        let dir = tempfile::tempdir().unwrap();
        let at = |path: &str| dir.path().join(path);
        fs::create_dir_all(at("etc")).unwrap();
        fs::write(at("etc/hostname"), "").unwrap();
        let root = Root::new(kernel::path::open_dir(dir.path()).unwrap());
        let targets = [
            "/proc",
            "/etc/hosts",
            "/etc/hostname",
            "/run/secrets/key",
            "/cache",
        ];
        let stubs = Stubs::before(&root, &targets.map(str::to_owned));
        for path in ["proc", "run/secrets", "cache"] {
            fs::create_dir_all(at(path)).unwrap();
        }
        for path in ["etc/hosts", "run/secrets/key"] {
            fs::write(at(path), "").unwrap();
        }
        fs::write(at("run/kept"), "written").unwrap();
        stubs.remove(&root).unwrap();
        for gone in ["proc", "etc/hosts", "run/secrets", "cache"] {
            assert!(!at(gone).exists(), "{gone}");
        }
        for kept in ["etc/hostname", "run/kept"] {
            assert!(at(kept).exists(), "{kept}");
        }
    }
}
