//! What a container is not to see or to change: masked and read-only paths, and procfs of the host.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use kernel::mount::{self, Attr, Tree};
use kernel::path::{self, Within};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::{SFlag, fstat, major, minor};

use super::mounting::context;
use super::{Applied, Init, StepError};

impl Init<'_> {
    /// Every procfs and sysfs of the host stays below a root that was moved over it, where a container with a user namespace
    /// of its own could take them for a permission to mount others without the masks that ours have.
    pub(super) fn hide_kernel_filesystems(&self, rootfs: &Path) -> Applied {
        let own = Path::new("self/mountinfo");
        let flags = OFlag::O_RDONLY.bits();
        let file = path::open_in(self.proc.as_fd(), own, flags, 0, Within::Root)?;
        let mut mountinfo = Vec::new();
        File::from(file).read_to_end(&mut mountinfo)?;
        let mut hidden = mount::mount_points_of(&mountinfo, &["proc", "sysfs"]);
        hidden.retain(|place| !place.starts_with(rootfs));
        for place in hidden.iter().rev() {
            match mount::detach(place) {
                // Already gone with the one it lay on.
                Err(e) if e.raw_os_error() == Some(Errno::ENOENT as i32) => {}
                Err(_) => cover(place)?,
                Ok(()) => {}
            }
        }
        Ok(())
    }
}

/// Hides what is at `place` under an empty directory that nobody can write to.
fn cover(place: &Path) -> Applied {
    let place = mount::open_tree(mount::cwd(), place, Tree::Place)?;
    let tree = mount::new_filesystem("tmpfs", Some("tmpfs"), &[], mount::RDONLY)?;
    Ok(mount::attach(tree.as_fd(), place.as_fd())?)
}

/// Opens what is to be covered; `None` if the image has no such path.
fn covered(root: BorrowedFd<'_>, wanted: &Path) -> io::Result<Option<OwnedFd>> {
    match path::open_in(root, wanted, OFlag::O_PATH.bits(), 0, Within::Root) {
        Err(e) if matches!(e.raw_os_error(), Some(n) if n == Errno::ENOENT as i32 || n == Errno::ENOTDIR as i32) => {
            Ok(None)
        }
        other => other.map(Some),
    }
}

/// A file is covered by /dev/null, a directory by an empty read-only tmpfs, the same one for all of them.
pub(super) fn mask(
    root: BorrowedFd<'_>,
    wanted: &Path,
    label: Option<&str>,
    empty: &mut Option<OwnedFd>,
) -> Applied {
    let Some(place) = covered(root, wanted)? else {
        return Ok(());
    };
    let directory = fstat(&place)?.st_mode & SFlag::S_IFMT.bits() == SFlag::S_IFDIR.bits();
    let tree = if let (true, Some(empty)) = (directory, empty.as_ref()) {
        let clone = Tree::Clone { recursive: false };
        mount::open_tree(empty.as_fd(), Path::new(""), clone)?
    } else if directory {
        let mut options = vec![("mode".to_owned(), Some("755".to_owned()))];
        options.extend(context(label));
        mount::new_filesystem("tmpfs", Some("tmpfs"), &options, mount::RDONLY)?
    } else {
        let tree = mount::open_tree(
            mount::cwd(),
            Path::new("/dev/null"),
            Tree::Clone { recursive: false },
        )?;
        let number = fstat(&tree)?.st_rdev;
        if (major(number), minor(number)) != (1, 3) {
            return Err(StepError::words(
                "/dev/null of the host is not the null device".to_owned(),
            ));
        }
        tree
    };
    mount::attach(tree.as_fd(), place.as_fd())?;
    if directory {
        *empty = Some(tree);
    }
    Ok(())
}

pub(super) fn read_only(root: BorrowedFd<'_>, wanted: &Path) -> Applied {
    let Some(place) = covered(root, wanted)? else {
        return Ok(());
    };
    let tree = mount::open_tree(
        place.as_fd(),
        Path::new(""),
        Tree::Clone { recursive: true },
    )?;
    mount::set_attr(
        tree.as_fd(),
        false,
        &Attr {
            set: mount::RDONLY,
            ..Attr::default()
        },
    )?;
    Ok(mount::attach(tree.as_fd(), place.as_fd())?)
}
