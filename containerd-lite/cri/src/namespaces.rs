//! A pod's namespaces: made by a thread that lives no longer than it takes,
//! and pinned to files, so that they need neither a process nor the daemon.
//!
//! `<state>/sandboxes/<id>/` holds `net`, `uts` and `ipc`, as far as they are
//! the pod's own, `shm` (a tmpfs for `/dev/shm`), and the three files that
//! all of its containers have under `/etc`.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::thread;

use lite_core::{Because, Kind, Result};
use network::netns;
use nix::mount::{MsFlags, mount};

use crate::config::{Mode, PodConfig};

/// Flags of `unshare(2)` and `setns(2)`.
const NEWUTS: u64 = 0x0400_0000;
const NEWIPC: u64 = 0x0800_0000;
const NEWNET: u64 = 0x4000_0000;

/// What the kernel calls the file system of namespaces (`statfs(2)`).
const NSFS: i64 = 0x6e73_6673;

/// Size of a pod's `/dev/shm`.
const SHM_OPTIONS: &str = "mode=1777,size=65536k";

/// Settings of the IPC namespace.
const IPC_SYSCTLS: [&str; 3] = ["kernel.shm", "kernel.msg", "fs.mqueue."];

/// Where what a pod shares is kept.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    dir: PathBuf,
}

impl Place {
    /// The place of a pod whose directory is `dir`.
    pub(crate) fn at(dir: PathBuf) -> Self {
        Self { dir }
    }

    /// The file to which the namespace is pinned: `net`, `uts` or `ipc`.
    pub(crate) fn namespace(&self, kind: &str) -> PathBuf {
        self.dir.join(kind)
    }

    /// A file, or the directory, that containers have mounted.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// The directory itself.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Makes and pins the namespaces that `config` asks for, `net` being one
    /// that is ready where it is the pod's own, and sets what belongs to them.
    ///
    /// # Errors
    /// InvalidArgument for a setting that is the host's; what the kernel says.
    pub(crate) fn make(
        &self,
        config: &PodConfig,
        hostname: &str,
        net: Option<BorrowedFd<'_>>,
    ) -> Result<()> {
        let options = &config.security.namespaces;
        let own_ipc = options.ipc != Mode::Node;
        let sysctls = sysctls(config)?;
        fs::create_dir_all(&self.dir).op(|| format!("create {}", self.dir.display()))?;
        if let Some(net) = net {
            let path = self.namespace("net");
            netns::pin(net, &path)
                .op(|| format!("pin a network namespace to {}", path.display()))?;
        }
        let mut kinds = Vec::new();
        // The host's name goes with the host's network, as in containerd.
        if net.is_some() {
            kinds.push(("uts", NEWUTS));
        }
        if own_ipc {
            kinds.push(("ipc", NEWIPC));
        }
        let made = thread::scope(|scope| {
            let work = || make(&kinds, net, hostname, &sysctls);
            let joined = thread::Builder::new().spawn_scoped(scope, work)?.join();
            joined.unwrap_or_else(|_| Err(io::Error::other("the thread that makes them panicked")))
        });
        for (kind, namespace) in made.op(|| "make the pod's namespaces".to_owned())? {
            let path = self.namespace(kind);
            netns::pin(namespace.as_fd(), &path)
                .op(|| format!("pin a namespace to {}", path.display()))?;
        }
        if own_ipc {
            let shm = self.file("shm");
            let what = || format!("mount {}", shm.display());
            fs::create_dir_all(&shm).op(what)?;
            let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
            mount(Some("shm"), &shm, Some("tmpfs"), flags, Some(SHM_OPTIONS))
                .map_err(io::Error::from)
                .op(what)?;
        }
        Ok(())
    }

    /// Lets go of everything; what is not there is fine. With their last
    /// process the namespaces end.
    ///
    /// # Errors
    /// Those of removing files.
    pub(crate) fn remove(&self) -> Result<()> {
        for kind in ["net", "uts", "ipc"] {
            let path = self.namespace(kind);
            netns::unpin(&path).op(|| format!("remove {}", path.display()))?;
        }
        // Nothing is mounted there where the pod has the host's.
        let _ = kernel::mount::detach(&self.file("shm"));
        match fs::remove_dir_all(&self.dir) {
            Err(err) if err.kind() != io::ErrorKind::NotFound => {
                Err(err).op(|| format!("remove {}", self.dir.display()))
            }
            _ => Ok(()),
        }
    }

    /// Whether the network namespace is still pinned: it is not after a boot.
    pub(crate) fn is_pinned(&self) -> bool {
        let is_namespace = |file: File| kernel::path::filesystem_type(file.as_fd());
        File::open(self.namespace("net"))
            .and_then(is_namespace)
            .is_ok_and(|kind| kind == NSFS)
    }
}

/// On a thread that ends with this: enters the network namespace, leaves the
/// others for new ones, sets what belongs to them, and returns them open.
fn make(
    kinds: &[(&'static str, u64)],
    net: Option<BorrowedFd<'_>>,
    hostname: &str,
    sysctls: &[(PathBuf, String)],
) -> io::Result<Vec<(&'static str, OwnedFd)>> {
    if let Some(net) = net {
        kernel::process::setns(net, NEWNET)?;
    }
    let flags = kinds.iter().fold(0, |all, (_, flag)| all | flag);
    if flags != 0 {
        kernel::process::unshare(flags)?;
    }
    if flags & NEWUTS != 0 {
        nix::unistd::sethostname(hostname)?;
    }
    for (path, value) in sysctls {
        fs::write(path, value).map_err(|err| {
            io::Error::new(
                err.kind(),
                format!("write {value:?} to {}: {err}", path.display()),
            )
        })?;
    }
    let open = |(kind, _): &(&'static str, u64)| {
        let file = File::open(format!("/proc/thread-self/ns/{kind}"))?;
        Ok((*kind, OwnedFd::from(file)))
    };
    kinds.iter().map(open).collect()
}

/// The files of the settings that are made, and what goes in.
///
/// # Errors
/// InvalidArgument for one that is not of the pod's own namespaces.
fn sysctls(config: &PodConfig) -> Result<Vec<(PathBuf, String)>> {
    let options = &config.security.namespaces;
    let own_net = options.network != Mode::Node;
    let mut all = Vec::new();
    let asked = |name: &str| config.sysctls.contains_key(name);
    // With a network of its own a pod may open low ports and send pings
    // without a capability; nobody else is affected.
    for (name, value) in [
        ("net.ipv4.ip_unprivileged_port_start", "0"),
        ("net.ipv4.ping_group_range", "0 2147483647"),
    ] {
        if own_net && options.uids.is_empty() && !asked(name) {
            all.push((file_of(name), value.to_owned()));
        }
    }
    for (typed, value) in &config.sysctls {
        let name = dotted(typed);
        let refused = |why: &str| {
            Kind::InvalidArgument.error(format!("sysctl {typed:?} is not allowed: {why}"))
        };
        if name.split('.').any(str::is_empty) || name.contains('/') {
            return Err(refused("it is no name"));
        }
        let of_ipc = name == "kernel.sem" || IPC_SYSCTLS.iter().any(|set| name.starts_with(set));
        match (of_ipc, name.starts_with("net.")) {
            (true, _) if options.ipc == Mode::Node => {
                return Err(refused("the pod has the host's IPC"));
            }
            (_, true) if !own_net => return Err(refused("the pod has the host's network")),
            (true, _) | (_, true) => all.push((file_of(&name), value.clone())),
            _ => return Err(refused("it belongs to no namespace of the pod")),
        }
    }
    Ok(all)
}

/// A name with dots, however it was typed (`sysctl.d(5)`): where a slash comes
/// first, slashes separate.
fn dotted(typed: &str) -> String {
    match (typed.find('/'), typed.find('.')) {
        (Some(slash), dot) if dot.is_none_or(|dot| slash < dot) => {
            // A dot then belongs to a name, as that of an interface.
            typed
                .replace('.', "\u{0}")
                .replace('/', ".")
                .replace('\u{0}', "/")
        }
        _ => typed.to_owned(),
    }
}

fn file_of(name: &str) -> PathBuf {
    Path::new("/proc/sys").join(name.replace('.', "/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(name: &str) -> PodConfig {
        PodConfig {
            sysctls: [(name.to_owned(), "1".to_owned())].into(),
            ..PodConfig::default()
        }
    }

    #[test]
    fn only_settings_of_the_pods_own_namespaces_are_made() {
        for good in [
            "kernel.shm_rmid_forced",
            "net.core.somaxconn",
            "net/core/somaxconn",
            "kernel.sem",
        ] {
            let found = sysctls(&with(good)).unwrap();
            assert_eq!(found.len(), 3, "{good}");
        }
        for bad in [
            "kernel.hostname",
            "vm.swappiness",
            "net..x",
            "net/../vm",
            "net.core/../x",
        ] {
            let err = sysctls(&with(bad)).unwrap_err();
            assert_eq!(err.kind(), Kind::InvalidArgument, "{bad}");
        }
        let mut on_host = with("net.core.somaxconn");
        on_host.security.namespaces.network = Mode::Node;
        assert!(sysctls(&on_host).is_err());
        on_host.sysctls.clear();
        assert_eq!(sysctls(&on_host).unwrap(), []);
    }

    #[test]
    fn what_was_asked_for_wins() {
        let asked = with("net.ipv4.ip_unprivileged_port_start");
        let all = sysctls(&asked).unwrap();
        let of_port: Vec<_> = all
            .iter()
            .filter(|(path, _)| path.ends_with("ip_unprivileged_port_start"))
            .collect();
        assert_eq!(of_port.len(), 1);
        assert_eq!(of_port[0].1, "1");
    }
}
