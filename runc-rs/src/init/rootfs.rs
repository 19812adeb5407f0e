//! The root filesystem: mounts, devices, masked paths, and the change of root.
//!
//! Every place is a descriptor that the kernel resolved inside the rootfs; every mount is made detached and then attached to
//! such a descriptor. Nothing here is looked up twice, so nothing can be exchanged in between.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use kernel::mount::{self, Attr, Propagation, Tree};
use kernel::path::{self, Within};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::{SFlag, fstat, major, minor};

use super::copy_up::copy_up;
use super::devices::{make_device, symlink};
use super::{Applied, Init, Progress, StepError};
use crate::host::CgroupView;
use crate::mount_options::{Mounting, What};
use crate::plan::Step;

impl Init<'_> {
    pub(super) fn rootfs(&mut self, step: &Step, progress: &mut Progress) -> Applied {
        match step {
            Step::HostPropagation { how, recursive } => {
                return host_propagation(*how, *recursive, progress);
            }
            Step::BindRootfs { path } => {
                let tree = bind_rootfs(path, progress.later.is_some())?;
                progress.root = Some(tree);
                return Ok(());
            }
            _ => {}
        }
        let root = match &progress.root {
            Some(root) => root.try_clone()?,
            None => path::open_dir(Path::new("/"))?,
        };
        let root = root.as_fd();
        match step {
            Step::Mount { at, mount } => self.mount(root, *at, mount, progress),
            Step::MountCgroups {
                mount,
                views,
                namespaced,
                v2,
            } => mount_cgroups(root, mount, views, *namespaced, *v2),
            Step::MakeDevice { device, bind } => make_device(root, device, *bind),
            Step::Symlink { target, path } => symlink(root, target, Path::new(path)),
            Step::MakeDirectory { path } => {
                path::make_dirs_in(root, path, 0o755)?;
                Ok(())
            }
            Step::Mask { path } => mask(root, path),
            Step::ReadOnly { path } => read_only(root, path),
            Step::ReadOnlyRootfs => Ok(mount::set_attr(
                root,
                false,
                &Attr {
                    set: mount::RDONLY,
                    ..Attr::default()
                },
            )?),
            Step::PivotRoot => {
                mount::pivot_into(root)?;
                if let Some((how, recursive)) = progress.later {
                    mount::set_propagation(Path::new("/"), recursive, how)?;
                }
                Ok(())
            }
            Step::MoveRoot => {
                // What the host has there would stay visible below the moved root.
                for hidden in ["/proc", "/sys"] {
                    let _not_a_mount = mount::detach(Path::new(hidden));
                }
                Ok(mount::move_into(root)?)
            }
            Step::ChangeRoot => {
                nix::unistd::fchdir(root)?;
                nix::unistd::chroot(".")?;
                Ok(nix::unistd::chdir("/")?)
            }
            _ => Ok(()),
        }
    }

    fn mount(
        &mut self,
        root: BorrowedFd<'_>,
        at: usize,
        wanted: &Mounting,
        progress: &Progress,
    ) -> Applied {
        let tree = match &wanted.what {
            What::Bind { .. } => {
                let tree = self.sources.get_mut(at).and_then(Option::take);
                let tree = tree.ok_or_else(|| StepError::from(Errno::ENOENT).about("source"))?;
                let directory =
                    fstat(&tree)?.st_mode & SFlag::S_IFMT.bits() == SFlag::S_IFDIR.bits();
                let place = place(root, &wanted.destination, directory)?;
                // The source came from the host's namespace: what the container does must not travel back there.
                if progress.later.is_none() {
                    let slave = Attr {
                        propagation: Some(Propagation::Slave),
                        ..Attr::default()
                    };
                    mount::set_attr(tree.as_fd(), true, &slave)?;
                }
                mount::attach(tree.as_fd(), place.as_fd())?;
                tree
            }
            What::Remount => {
                let place = path::open_in(
                    root,
                    &wanted.destination,
                    OFlag::O_PATH.bits(),
                    0,
                    Within::Root,
                )?;
                mount::open_tree(place.as_fd(), Path::new(""), Tree::Place)?
            }
            What::New(kind) => {
                if matches!(kind.as_str(), "proc" | "sysfs") {
                    ordinary_directory(root, &wanted.destination)?;
                }
                let existed = path::open_in(
                    root,
                    &wanted.destination,
                    OFlag::O_PATH.bits(),
                    0,
                    Within::Root,
                )
                .ok();
                let place = path::make_dirs_in(root, &wanted.destination, 0o755)?;
                let tree = new_filesystem(kind, wanted, existed.as_ref())?;
                if wanted.copy_up {
                    copy_up(place.as_fd(), tree.as_fd())?;
                }
                mount::attach(tree.as_fd(), place.as_fd())?;
                tree
            }
            What::Cgroup => return Ok(()),
        };
        attributes(tree.as_fd(), wanted)
    }
}

/// The place of a mount, made if the image has none: a directory or an empty file.
fn place(root: BorrowedFd<'_>, destination: &Path, directory: bool) -> io::Result<OwnedFd> {
    if directory {
        path::make_dirs_in(root, destination, 0o755)
    } else {
        path::make_file_in(root, destination, 0o755)
    }
}

/// proc and sysfs behind a link of the image would give the container a second place to reach them by.
fn ordinary_directory(root: BorrowedFd<'_>, destination: &Path) -> Applied {
    let flags = (OFlag::O_PATH | OFlag::O_NOFOLLOW).bits();
    match path::open_in(root, destination, flags, 0, Within::Root) {
        Err(e) if e.raw_os_error() == Some(Errno::ENOENT as i32) => Ok(()),
        Err(e) => Err(e.into()),
        Ok(fd) if fstat(&fd)?.st_mode & SFlag::S_IFMT.bits() == SFlag::S_IFDIR.bits() => Ok(()),
        Ok(_) => {
            let place = destination.display();
            Err(StepError::words(format!(
                "filesystem must be mounted on ordinary directory, {place} is none"
            )))
        }
    }
}

fn new_filesystem(
    kind: &str,
    wanted: &Mounting,
    existed: Option<&OwnedFd>,
) -> Result<OwnedFd, StepError> {
    let source = wanted
        .source
        .as_ref()
        .map(|s| s.to_string_lossy().into_owned());
    let mut data = wanted.data.clone();
    if kind == "tmpfs" && !data.iter().any(|(key, _)| key == "mode") {
        // A tmpfs over a directory of the image looks like that directory.
        if let Some(existed) = existed {
            data.push((
                "mode".to_owned(),
                Some(format!("{:o}", fstat(existed)?.st_mode & 0o7777)),
            ));
        }
    }
    let source = source.as_deref().filter(|s| !s.is_empty());
    Ok(mount::new_filesystem(kind, source, &data, wanted.set)?)
}

/// Attributes and propagation of a mount that is attached already; a new filesystem has its attributes from the start.
fn attributes(tree: BorrowedFd<'_>, wanted: &Mounting) -> Applied {
    if !matches!(wanted.what, What::New(_)) && wanted.set | wanted.clear != 0 {
        mount::set_attr(
            tree,
            false,
            &Attr {
                set: wanted.set,
                clear: wanted.clear,
                ..Attr::default()
            },
        )?;
    }
    if wanted.recursive_set | wanted.recursive_clear != 0 {
        let attr = Attr {
            set: wanted.recursive_set,
            clear: wanted.recursive_clear,
            ..Attr::default()
        };
        mount::set_attr(tree, true, &attr)?;
    }
    for (how, recursive) in &wanted.propagation {
        mount::set_attr(
            tree,
            *recursive,
            &Attr {
                propagation: Some(*how),
                ..Attr::default()
            },
        )?;
    }
    Ok(())
}

/// Pivoting needs a root that is not shared; a config that asks for one gets it afterwards.
fn host_propagation(how: Propagation, recursive: bool, progress: &mut Progress) -> Applied {
    mount::set_propagation(Path::new("/"), recursive, how)?;
    if matches!(how, Propagation::Shared | Propagation::Unbindable) {
        progress.later = Some((how, recursive));
    }
    Ok(())
}

fn bind_rootfs(rootfs: &Path, shared: bool) -> Result<OwnedFd, StepError> {
    let about = |e: io::Error| StepError::from(e).about(rootfs.display().to_string());
    let place = mount::open_tree(mount::cwd(), rootfs, Tree::Place).map_err(about)?;
    if shared {
        // The mount that holds the rootfs is somewhere above; the kernel says which path is one.
        let private = rootfs
            .ancestors()
            .find_map(|above| mount::set_propagation(above, false, Propagation::Private).ok());
        private.ok_or_else(|| {
            StepError::from(Errno::EINVAL).about("make the rootfs's mount private")
        })?;
    }
    let tree =
        mount::open_tree(mount::cwd(), rootfs, Tree::Clone { recursive: true }).map_err(about)?;
    let how = if shared {
        Propagation::Private
    } else {
        Propagation::Slave
    };
    mount::set_attr(
        tree.as_fd(),
        false,
        &Attr {
            propagation: Some(how),
            ..Attr::default()
        },
    )?;
    mount::attach(tree.as_fd(), place.as_fd()).map_err(about)?;
    Ok(tree)
}

fn mount_cgroups(
    root: BorrowedFd<'_>,
    wanted: &Mounting,
    views: &[CgroupView],
    namespaced: bool,
    v2: bool,
) -> Applied {
    let place = path::make_dirs_in(root, &wanted.destination, 0o755)?;
    let bind = |dir: &Path| mount::open_tree(mount::cwd(), dir, Tree::Clone { recursive: true });
    if v2 {
        let dir = views
            .first()
            .map_or(Path::new("/sys/fs/cgroup"), |view| view.dir.as_path());
        let tree = if namespaced {
            mount::new_filesystem("cgroup2", Some("cgroup"), &[], wanted.set)?
        } else {
            bind(dir)?
        };
        mount::set_attr(
            tree.as_fd(),
            false,
            &Attr {
                set: wanted.set,
                clear: wanted.clear,
                ..Attr::default()
            },
        )?;
        return Ok(mount::attach(tree.as_fd(), place.as_fd())?);
    }
    let open = wanted.set & !mount::RDONLY;
    let mode = [("mode".to_owned(), Some("755".to_owned()))];
    let tmpfs = mount::new_filesystem("tmpfs", Some("tmpfs"), &mode, open)?;
    mount::attach(tmpfs.as_fd(), place.as_fd())?;
    for view in views {
        let about = |e: io::Error| StepError::from(e).about(view.name.clone());
        let place =
            path::make_dirs_in(tmpfs.as_fd(), Path::new(&view.name), 0o755).map_err(about)?;
        let tree = if namespaced {
            let options: Vec<(String, Option<String>)> = view
                .controllers
                .iter()
                .map(|c| match c.split_once('=') {
                    Some((key, value)) => (key.to_owned(), Some(value.to_owned())),
                    None => (c.clone(), None),
                })
                .collect();
            mount::new_filesystem("cgroup", Some("cgroup"), &options, wanted.set).map_err(about)?
        } else {
            let tree = bind(&view.dir).map_err(about)?;
            let attr = Attr {
                set: wanted.set,
                clear: wanted.clear,
                propagation: Some(Propagation::Slave),
                userns: None,
            };
            mount::set_attr(tree.as_fd(), false, &attr).map_err(about)?;
            tree
        };
        mount::attach(tree.as_fd(), place.as_fd()).map_err(about)?;
        for controller in view
            .controllers
            .iter()
            .filter(|c| **c != view.name && !c.contains('='))
        {
            nix::unistd::symlinkat(view.name.as_str(), &tmpfs, controller.as_str())?;
        }
    }
    if wanted.set & mount::RDONLY != 0 {
        mount::set_attr(
            tmpfs.as_fd(),
            false,
            &Attr {
                set: mount::RDONLY,
                ..Attr::default()
            },
        )?;
    }
    Ok(())
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

/// A file is covered by /dev/null, a directory by an empty read-only tmpfs.
fn mask(root: BorrowedFd<'_>, wanted: &Path) -> Applied {
    let Some(place) = covered(root, wanted)? else {
        return Ok(());
    };
    let tree = if fstat(&place)?.st_mode & SFlag::S_IFMT.bits() == SFlag::S_IFDIR.bits() {
        mount::new_filesystem(
            "tmpfs",
            Some("tmpfs"),
            &[("mode".to_owned(), Some("755".to_owned()))],
            mount::RDONLY,
        )?
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
    Ok(mount::attach(tree.as_fd(), place.as_fd())?)
}

fn read_only(root: BorrowedFd<'_>, wanted: &Path) -> Applied {
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
