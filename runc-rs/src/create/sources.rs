//! Opens what only the host's side may: namespaces to join, and the sources of bind mounts.
//!
//! Sources are copied as detached mounts, in the order of the config, before there is a container: its user namespace may not
//! reach them. Owners in them are changed here as well, as only the host's root may: the kernel takes the maps from a user
//! namespace, so one is made for each different pair of maps and goes with its last mount. A source inside the rootfs is left
//! to init, as earlier mounts may lie over it; of that, init offers its copy, and the owners are changed in that. So is each
//! where the caller has no privileges.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use kernel::clone::{Clone, Forked, clone3, ns};
use kernel::mount::{Attr, IDMAP, Tree};

use crate::failure::{Context, Failure, Result};
use crate::mount_options::{IdMaps, Mounting, Owners, What};
use crate::sync::Channel;
use crate::validate::ValidSpec;

/// The namespaces that the config names by path.
pub(crate) fn open_namespaces(spec: &ValidSpec) -> Result<Vec<(u64, OwnedFd)>> {
    let open = |(kind, path): &(u64, std::path::PathBuf)| {
        let file = fs::File::open(path).context(|| format!("open namespace {}", path.display()))?;
        Ok((*kind, OwnedFd::from(file)))
    };
    spec.namespaces.join.iter().map(open).collect()
}

/// A detached copy of each bind mount's source, its owners changed; none where init finds it inside the rootfs.
pub(super) fn open(
    spec: &ValidSpec,
    namespaces: &[(u64, OwnedFd)],
) -> Result<Vec<Option<OwnedFd>>> {
    let mut users = Users {
        spec,
        namespaces,
        made: Vec::new(),
    };
    let open = |mounting: &Mounting| -> Result<Option<OwnedFd>> {
        let What::Bind { recursive } = mounting.what else {
            return Ok(None);
        };
        let source = mounting.source.as_deref().unwrap_or(Path::new(""));
        // With the host's root as rootfs everything lies inside, and nothing over anything.
        if source.starts_with(&spec.rootfs) && spec.rootfs != Path::new("/") {
            return Ok(None);
        }
        let cwd = kernel::mount::cwd();
        let tree = match kernel::mount::open_tree(cwd, source, Tree::Clone { recursive }) {
            // Without privileges init is the first to have a mount namespace of its own, and opens it there.
            Err(e)
                if e.raw_os_error() == Some(nix::errno::Errno::EPERM as i32)
                    && !kernel::identity::is_host_root() =>
            {
                return Ok(None);
            }
            other => other.context(|| format!("mount {mounting}"))?,
        };
        if let Some(owners) = &mounting.owners {
            users.change(owners, &tree, mounting)?;
        }
        Ok(Some(tree))
    };
    spec.mounts.iter().map(open).collect()
}

/// Changes the owners in the copy that init made of the mount of number `at`.
pub(super) fn change_owners(spec: &ValidSpec, at: u32, tree: &OwnedFd) -> Result<()> {
    let at = usize::try_from(at).unwrap_or(usize::MAX);
    let Some((mounting, owners)) = spec
        .mounts
        .get(at)
        .and_then(|m| m.owners.as_ref().map(|owners| (m, owners)))
    else {
        return Err(Failure::new(
            "init offers a mount that has no owners to change",
        ));
    };
    let namespaces = open_namespaces(spec)?;
    let mut users = Users {
        spec,
        namespaces: &namespaces,
        made: Vec::new(),
    };
    users.change(owners, tree, mounting)
}

/// User namespaces by their maps.
struct Users<'a> {
    spec: &'a ValidSpec,
    namespaces: &'a [(u64, OwnedFd)],
    made: Vec<(IdMaps, OwnedFd)>,
}

impl Users<'_> {
    fn change(&mut self, owners: &Owners, tree: &OwnedFd, mounting: &Mounting) -> Result<()> {
        let about = || format!("mount {mounting}: change owners");
        let joined = self.namespaces.iter().find(|(kind, _)| *kind == ns::USER);
        let handle = match (&owners.maps, joined) {
            (None, Some((_, container))) => container,
            (Some(maps), _) => self.namespace(maps).context(about)?,
            (None, None) => {
                let linux = self.spec.linux();
                let maps = IdMaps::new(
                    linux.and_then(|l| l.uid_mappings().as_deref()),
                    linux.and_then(|l| l.gid_mappings().as_deref()),
                );
                let maps = maps
                    .ok_or_else(|| Failure::new("no mappings"))
                    .context(about)?;
                self.namespace(&maps).context(about)?
            }
        };
        let attr = Attr {
            set: IDMAP,
            userns: Some(handle.as_fd()),
            ..Attr::default()
        };
        kernel::mount::set_attr(tree.as_fd(), owners.recursive, &attr).context(about)
    }

    fn namespace(&mut self, maps: &IdMaps) -> Result<&OwnedFd> {
        let at = match self.made.iter().position(|(made, _)| made == maps) {
            Some(at) => at,
            None => {
                self.made.push((maps.clone(), user_namespace(maps)?));
                self.made.len() - 1
            }
        };
        Ok(&self.made[at].1)
    }
}

/// Makes a user namespace with these maps. It needs a process for a moment.
fn user_namespace(maps: &IdMaps) -> Result<OwnedFd> {
    let making = || "make user namespace".to_owned();
    let (ours, theirs) = Channel::pair().context(making)?;
    let wanted = Clone {
        namespaces: ns::USER,
        ..Clone::default()
    };
    match clone3(wanted).context(making)? {
        Forked::Child => {
            drop(ours);
            let _ended_either_way = theirs.await_go_on();
            kernel::process::exit_now(0)
        }
        Forked::Parent { pid, .. } => {
            drop(theirs);
            let write = |file: &str, lines: &str| {
                let path = format!("/proc/{pid}/{file}");
                fs::write(&path, lines)
                    .context(|| format!("write {:?} to {path}", lines.trim_end()))
            };
            let handle = write("uid_map", &maps.users)
                .and_then(|()| write("gid_map", &maps.groups))
                .and_then(|()| fs::File::open(format!("/proc/{pid}/ns/user")).context(making));
            drop(ours);
            let _reaped = nix::sys::wait::waitpid(nix::unistd::Pid::from_raw(pid), None);
            handle.map(OwnedFd::from)
        }
    }
}
