//! The root filesystem: mounts, devices, masked paths, and the change of root.
//!
//! Every place is a descriptor that the kernel resolved inside the rootfs; every mount is made detached and then attached to
//! such a descriptor. Nothing here is looked up twice, so nothing can be exchanged in between.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use kernel::mount::{self, Attr, Propagation, Tree};
use kernel::path;
use nix::errno::Errno;

use super::devices::{make_device, symlink};
use super::hide::{mask, read_only};
use super::mounting::{context, make_read_only};
use super::{Applied, Init, Progress, StepError};
use crate::host::CgroupView;
use crate::mount_options::Mounting;
use crate::plan::Step;
use crate::sync::Channel;

impl Init<'_> {
    pub(super) fn rootfs(
        &mut self,
        step: &Step,
        progress: &mut Progress,
        channel: Option<&Channel>,
    ) -> Applied {
        match step {
            Step::HostPropagation { how, recursive } => {
                return host_propagation(*how, *recursive, progress);
            }
            Step::BindRootfs { path } => {
                let tree = bind_rootfs(path, progress.later.is_some())?;
                progress.root = Some(tree);
                progress.rootfs.clone_from(path);
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
            Step::Mount { at, mount } => self.mount(root, *at, mount, progress, channel),
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
            Step::Mask { path, label } => mask(root, path, label.as_deref(), &mut progress.empty),
            Step::ReadOnly { path } => read_only(root, path),
            Step::ReadOnlyDev => {
                let dev = path::make_dirs_in(root, Path::new("dev"), 0o755)?;
                Ok(make_read_only(dev.as_fd())?)
            }
            Step::ReadOnlyRootfs => Ok(make_read_only(root)?),
            Step::PivotRoot => {
                mount::pivot_into(root)?;
                if let Some((how, recursive)) = progress.later {
                    mount::set_propagation(Path::new("/"), recursive, how)?;
                }
                Ok(())
            }
            Step::MoveRoot => {
                self.hide_kernel_filesystems(&progress.rootfs)?;
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

fn errno_of(error: &io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().unwrap_or(0))
}

/// Where every host with one hierarchy has it.
const V2_ROOT: &str = "/sys/fs/cgroup";

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
        let own = views.first().map(|view| view.dir.as_path());
        let tree = if namespaced {
            match mount::new_filesystem("cgroup2", Some("cgroup"), &[], wanted.set) {
                // A user namespace may not mount what it does not own.
                Err(e) if [Errno::EPERM, Errno::EBUSY].contains(&errno_of(&e)) => {
                    bind(own.unwrap_or(V2_ROOT.as_ref()))?
                }
                other => other?,
            }
        } else {
            // All there is. Mounting it anew from here would reset the options that the host has mounted it with.
            bind(V2_ROOT.as_ref())?
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
    let mut options = vec![("mode".to_owned(), Some("755".to_owned()))];
    options.extend(context(wanted.label.as_deref()));
    let tmpfs = mount::new_filesystem("tmpfs", Some("tmpfs"), &options, open)?;
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
