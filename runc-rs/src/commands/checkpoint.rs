//! `checkpoint`: saves a running container with criu, and unless it is to go on, deletes it.
//!
//! 1. The container's state and the flags are checked, the directories made.
//! 2. [`request`] says what to save and what comes from outside; it is pure but for names looked up in the container.
//! 3. criu saves it. Where it fails, the container goes on and the errors of criu's log are quoted.
//! 4. What is left of the container is deleted.

use std::fs::{self, File};
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use kernel::clone::ns;

use crate::cli::{CheckpointArgs, ImageArgs};
use crate::commands::kill::has;
use crate::commands::{Globals, delete};
use crate::criu::images::Images;
use crate::criu::wire::{CgroupMode, Features, Kind, Options, PageServer, Request};
use crate::criu::{Criu, Surroundings, mounts};
use crate::failure::{Context, Failure, Result};
use crate::host;
use crate::mount_options::Mounting;
use crate::state::{Record, Status, annotations};

/// criu's log in the directory of the images or of the work.
const LOG: &str = "dump.log";

pub(super) fn run(globals: &Globals, args: &CheckpointArgs) -> Result<()> {
    warn_of_rootless(globals);
    let (place, record) = globals.container(&args.id)?;
    match place.status(&record)? {
        Status::Running | Status::Paused => {}
        status @ (Status::Created | Status::Stopped) => {
            return Err(Failure::new(format!(
                "Container cannot be checkpointed in {} state",
                status.word()
            )));
        }
    }
    // The bundle that it would be restored from does not know of them.
    if let Some(added) = record.added_mounts.first() {
        return Err(Failure::new(format!(
            "checkpoint: {} was mounted by `mounts add`; take it away by `mounts remove` first",
            added.mount.destination().display()
        )));
    }
    let common = &args.images;
    let images = Images::make(common.image_path.as_deref(), common.work_path.as_deref())?;
    let parent = args
        .parent_path
        .as_deref()
        .filter(|p| !p.as_os_str().is_empty());
    if let Some(parent) = parent {
        images.check_parent(parent)?;
    }
    let request = request(globals, args, &record, &images, parent)?;
    let status = status_fd(args)?;
    let criu = Criu::start(globals.criu.as_deref(), Surroundings::default())?;
    if args.pre_dump || common.lazy_pages {
        let wanted = Features {
            mem_track: args.pre_dump.then_some(true),
            lazy_pages: common.lazy_pages.then_some(true),
        };
        if let Err(failure) = criu.check(wanted) {
            criu.reap();
            return Err(failure);
        }
    }
    if !args.pre_dump {
        images.write_descriptors(&record.external_descriptors)?;
    }
    save(globals, criu, &request, status, args.pre_dump)
        .inspect_err(|_| images.quote_errors(LOG, &globals.log))?;
    if args.leave_running || args.pre_dump {
        return Ok(());
    }
    // It is saved: that something of it could not be removed does not undo that.
    if let Err(failure) = delete::remove(globals, &place, &record) {
        globals.log.warn(&failure.chain());
    }
    Ok(())
}

/// criu needs root for nearly all of it.
pub(super) fn warn_of_rootless(globals: &Globals) {
    if kernel::identity::effective_user() != 0 {
        globals
            .log
            .warn("checkpoint and restore are untested with rootless containers");
    }
}

fn save(
    globals: &Globals,
    criu: Criu,
    request: &Request,
    mut status: Option<OwnedFd>,
    pre_dump: bool,
) -> Result<()> {
    let saved = criu.ask(request, |notify, _| {
        let what = notify.script.as_deref().unwrap_or_default();
        globals.log.debug(&format!("criu notifies: {what}"));
        if what == "status-ready"
            && let Some(fd) = status.take()
        {
            // Whoever waits may have gone; the dump goes on.
            let _gone = File::from(fd).write_all(&[0]);
        }
        Ok(())
    });
    match saved {
        Err(failure) => {
            criu.reap();
            Err(failure)
        }
        // After a pre-dump criu waits for the dump proper, and takes the end of the connection for an error.
        Ok(_) if pre_dump => {
            criu.reap();
            Ok(())
        }
        Ok(_) => criu.end(),
    }
}

/// What criu is asked for.
fn request(
    globals: &Globals,
    args: &CheckpointArgs,
    record: &Record,
    images: &Images,
    parent: Option<&Path>,
) -> Result<Request> {
    let kind = if args.pre_dump {
        Kind::PreDump
    } else {
        Kind::Dump
    };
    let pid = record.init_process_pid;
    let freezer = record.cgroup_paths.get("freezer");
    let freezer = freezer.or_else(|| record.cgroup_paths.get(""));
    let mut options = Options {
        log_file: Some(LOG.to_owned()),
        root: Some(record.config.rootfs.display().to_string()),
        pid: Some(pid),
        leave_running: Some(args.leave_running),
        tcp_skip_in_flight: Some(args.tcp_skip_in_flight),
        link_remap: Some(args.link_remap),
        external: external_namespaces(record)?,
        freeze_cgroup: freezer.map(|dir| dir.display().to_string()),
        page_server: args.page_server.as_deref().map(page_server).transpose()?,
        parent_img: parent.map(|p| p.display().to_string()),
        track_mem: parent.map(|_| true),
        ..common(&args.images, images, &record.spec)?
    };
    if !args.pre_dump {
        options.external_mounts = external_mounts(globals, record, pid)?;
    }
    Ok(Request {
        kind: kind as i32,
        options: Some(options),
        ..Request::default()
    })
}

/// What dump and restore have in common.
pub(super) fn common(
    args: &ImageArgs,
    images: &Images,
    spec: &oci_spec::runtime::Spec,
) -> Result<Options> {
    let (images_dir_fd, work_dir_fd) = images.numbers();
    if let Some(other) = args.empty_ns.iter().find(|kind| *kind != "network") {
        return Err(Failure::new(format!(
            "namespace {other:?} is not supported"
        )));
    }
    // Set by an administrator for all containers, or by the annotation for this one; an empty annotation wants none.
    let config_file = match annotations(spec).get("org.criu.config") {
        None => Some("/etc/criu/runc.conf".to_owned()),
        Some(file) => Some((*file).to_owned()).filter(|f| !f.is_empty()),
    };
    Ok(Options {
        images_dir_fd,
        work_dir_fd,
        log_level: Some(4),
        manage_cgroups: Some(true),
        manage_cgroups_mode: Some(cgroup_mode(&args.manage_cgroups_mode)? as i32),
        notify_scripts: Some(true),
        shell_job: Some(args.shell_job),
        tcp_established: Some(args.tcp_established),
        ext_unix_sk: Some(args.ext_unix_sk),
        file_locks: Some(args.file_locks),
        // Devices and addresses are somebody else's to make: hooks, or whoever owns the namespace.
        empty_ns: Some(ns::NET as u32),
        orphan_pts_master: Some(true),
        auto_dedup: Some(args.auto_dedup),
        lazy_pages: Some(args.lazy_pages),
        config_file,
        ..Options::default()
    })
}

fn cgroup_mode(word: &str) -> Result<CgroupMode> {
    match word {
        "" => Ok(CgroupMode::Default),
        "soft" => Ok(CgroupMode::Soft),
        "full" => Ok(CgroupMode::Full),
        "strict" => Ok(CgroupMode::Strict),
        "ignore" => Ok(CgroupMode::Ignore),
        other => Err(Failure::new(format!(
            "invalid manage-cgroups-mode value: expected soft, full, strict or ignore, got {other:?}"
        ))),
    }
}

/// `ADDRESS:PORT`, an IPv6 address in brackets.
fn page_server(text: &str) -> Result<PageServer> {
    let (address, port) = text
        .rsplit_once(':')
        .filter(|(address, port)| !address.is_empty() && !port.is_empty())
        .ok_or_else(|| {
            Failure::new(format!(
                "Use --page-server ADDRESS:PORT to specify page server, got {text:?}"
            ))
        })?;
    let port: u16 = port
        .parse()
        .map_err(|_| Failure::new(format!("Invalid port number {port:?}")))?;
    let address = address.trim_start_matches('[').trim_end_matches(']');
    Ok(PageServer {
        address: Some(address.to_owned()),
        port: Some(port.into()),
    })
}

/// The descriptor of `--status-fd`, which is closed when criu has said that it is ready.
fn status_fd(args: &CheckpointArgs) -> Result<Option<OwnedFd>> {
    if args.status_fd < 0 || !args.images.lazy_pages {
        return Ok(None);
    }
    let about = || format!("invalid --status-fd argument {}", args.status_fd);
    let fd = kernel::process::take_inherited(args.status_fd).context(about)?;
    let flags = nix::fcntl::fcntl(&fd, nix::fcntl::FcntlArg::F_GETFL).context(about)?;
    if flags & nix::libc::O_ACCMODE == nix::libc::O_RDONLY {
        return Err(Failure::new(format!("{}: not writable", about())));
    }
    Ok(Some(fd))
}

/// The key by which a restore finds the namespace again that it is to put in the place of the one saved.
pub(super) fn namespace_key(kind: u64) -> Option<&'static str> {
    match kind {
        ns::NET => Some("extRootNetNS"),
        ns::PID => Some("extRootPidNS"),
        _ => None,
    }
}

/// Network and pid namespaces that the config names by path are not the container's own: they are not saved.
fn external_namespaces(record: &Record) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for (kind, name) in [(ns::NET, "net"), (ns::PID, "pid")] {
        let file = format!("/proc/{}/ns/{name}", record.init_process_pid);
        if joined(record, name)
            && let Some(key) = namespace_key(kind)
        {
            let inode = fs::metadata(&file)
                .context(|| format!("stat {file}"))?
                .ino();
            found.push(format!("{name}[{inode}]:{key}"));
        }
    }
    Ok(found)
}

fn joined(record: &Record, name: &str) -> bool {
    use oci_spec::runtime::LinuxNamespaceType as Kind;
    let wanted = if name == "net" {
        Kind::Network
    } else {
        Kind::Pid
    };
    let linux = record.spec.linux().as_ref();
    linux
        .and_then(|l| l.namespaces().as_ref())
        .into_iter()
        .flatten()
        .any(|n| n.typ() == wanted && n.path().as_ref().is_some_and(|p| !p.as_os_str().is_empty()))
}

fn external_mounts(
    globals: &Globals,
    record: &Record,
    pid: i32,
) -> Result<Vec<crate::criu::wire::ExternalMount>> {
    let about = || "look at the container's mounts".to_owned();
    let bundle = Path::new(record.bundle());
    let spec = &record.spec;
    let mountings: Vec<Mounting> = spec
        .mounts()
        .iter()
        .flatten()
        .map(|mount| Mounting::parse(mount, bundle, &record.config.rootfs))
        .collect();
    let facts = host::facts(&host::cgroups()?, &record.cgroup())?;
    let own = facts.cgroup_v2 || has(record, ns::CGROUP);
    let bound = if own { &[][..] } else { &facts.cgroups };
    let linux = spec.linux().as_ref();
    let devices: Vec<PathBuf> = if has(record, ns::USER) {
        device_places(linux)
    } else {
        Vec::new()
    };
    let external = mounts::external(&mountings, bound, &devices);
    let masked: Vec<PathBuf> = linux
        .and_then(|l| l.masked_paths().as_ref())
        .into_iter()
        .flatten()
        .map(PathBuf::from)
        .collect();
    // Through the container's own root, where it is now, whatever has become of the paths on the host.
    let root = format!("/proc/{pid}/root");
    let root = kernel::path::open_dir(Path::new(&root)).context(about)?;
    globals
        .log
        .debug(&format!("mounts from outside: {external:?}"));
    mounts::for_dump(root.as_fd(), &external, &masked).context(about)
}

/// Where a container in a user namespace has its devices, each bound from the host.
pub(super) fn device_places(linux: Option<&oci_spec::runtime::Linux>) -> Vec<PathBuf> {
    let mut all: Vec<PathBuf> = crate::plan::default_device_places().collect();
    let own = linux.and_then(|l| l.devices().as_ref());
    all.extend(own.into_iter().flatten().map(|d| d.path().clone()));
    all.sort();
    all.dedup();
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn page_servers_have_an_address_and_a_port() {
        let parse = |text| page_server(text).map(|s| (s.address.unwrap(), s.port.unwrap()));
        assert_eq!(
            parse("0.0.0.0:27277").unwrap(),
            ("0.0.0.0".to_owned(), 27277)
        );
        assert_eq!(parse("[::1]:1").unwrap(), ("::1".to_owned(), 1));
        for wrong in ["host", ":1", "host:", "host:x", "host:70000"] {
            assert!(page_server(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn cgroup_modes_are_criu_s() {
        assert_eq!(cgroup_mode("").unwrap(), CgroupMode::Default);
        assert_eq!(cgroup_mode("ignore").unwrap() as i32, 0);
        assert!(cgroup_mode("none").is_err());
    }
}
