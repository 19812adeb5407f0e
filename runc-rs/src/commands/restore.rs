//! `restore`: brings a container back out of a checkpoint, from a bundle, with criu.
//!
//! 1. The bundle is read, checked and planned as for `create`; the cgroup is made and limited.
//! 2. criu starts in that cgroup, among mounts of its own ([`crate::criu::mounts::apart`]).
//! 3. It makes the processes again, the first as our child. Meanwhile, as it notifies, the hooks of the runtime are run, the
//!    terminal is handed on, and the state is written down, all before the container goes on.
//! 4. In the foreground the first process is waited for and the container deleted, as by `run`.

use std::fs;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use kernel::clone::ns;

use crate::cli::RestoreArgs;
use crate::commands::checkpoint::{common, device_places, namespace_key, warn_of_rootless};
use crate::commands::{Globals, delete};
use crate::console::{Signals, wait};
use crate::create::{
    Console, Prepared, group, group::Made, open_namespaces, prepare, record, run_hooks,
    write_pid_file,
};
use crate::criu::images::Images;
use crate::criu::wire::{CgroupRoot, InheritFd, JoinNamespace, Kind, Notify, Options, Request};
use crate::criu::{Criu, Surroundings, mounts};
use crate::failure::{Context, Failure, Result};
use crate::host;
use crate::plan::Choices;
use crate::state::{ContainerId, Place, Record};
use crate::validate::{NAMESPACES, ValidSpec};

/// criu's log in the directory of the images or of the work.
const LOG: &str = "restore.log";

pub(super) fn run(globals: &Globals, args: &RestoreArgs) -> Result<u8> {
    warn_of_rootless(globals);
    let id = ContainerId::parse(&args.id)?;
    let choices = Choices {
        id: id.as_str(),
        no_pivot: args.no_pivot,
        no_new_keyring: false,
    };
    let prepared = prepare(&args.bundle, choices, globals.systemd_cgroup, &globals.log)?;
    let terminal = prepared.spec.process.terminal;
    let console = match args.console_socket.as_deref() {
        None if terminal && !args.detach => Console::None,
        socket => Console::choose(terminal, args.detach, socket)?,
    };
    let signals = if args.detach {
        None
    } else {
        Some(Signals::block()?)
    };
    if !args.detach && !args.no_subreaper {
        kernel::subreaper(true).context(|| "become subreaper".to_owned())?;
    }
    let place = Place::new(&globals.root, &id);
    place.reserve()?;
    let restoring = Restoring {
        globals,
        args,
        choices,
        prepared: &prepared,
        place: &place,
    };
    let (record, master) = restoring.run(console.into_fd()).inspect_err(|_| {
        // The first error is the one to report.
        let _second = place.remove();
    })?;
    if let Some(file) = &args.pid_file {
        write_pid_file(file, record.init_process_pid)?;
    }
    let Some(signals) = signals else { return Ok(0) };
    let code = wait(record.init_process_pid, &signals, master)?;
    delete::remove(globals, &place, &record)?;
    Ok(code)
}

/// All that a restore needs.
struct Restoring<'a> {
    globals: &'a Globals,
    args: &'a RestoreArgs,
    choices: Choices<'a>,
    prepared: &'a Prepared,
    place: &'a Place,
}

/// What has come of it so far.
#[derive(Default)]
struct Progress {
    record: Option<Record>,
    /// The terminal's master, where it stays here.
    master: Option<OwnedFd>,
}

impl Restoring<'_> {
    fn spec(&self) -> &ValidSpec {
        &self.prepared.spec
    }

    fn run(&self, console: Option<OwnedFd>) -> Result<(Record, Option<OwnedFd>)> {
        let made = group::make(self.prepared, self.choices.id)?;
        self.with_criu(&made, console)
            .and_then(|restored| made.settle().map(|()| restored))
            .inspect_err(|_| made.undo())
    }

    fn with_criu(
        &self,
        made: &Made,
        console: Option<OwnedFd>,
    ) -> Result<(Record, Option<OwnedFd>)> {
        let namespaces = open_namespaces(self.spec())?;
        let handles = || {
            namespaces
                .iter()
                .filter_map(|(kind, fd)| namespace_key(*kind).map(|key| (key, fd)))
        };
        // The only trace of the restore on the host, an empty directory: what is mounted there is in criu's namespace.
        let at = self.place.dir.join("criu-root");
        fs::create_dir(&at).context(|| format!("create {}", at.display()))?;
        let at = at
            .canonicalize()
            .context(|| format!("find {}", at.display()))?;
        let group = made
            .cgroup
            .unified_dir()
            .map(kernel::path::open_dir)
            .transpose();
        let group = group.context(|| "open cgroup".to_owned())?;
        let paths = &self.args.images;
        let open = || Images::open(paths.image_path.as_deref(), paths.work_path.as_deref());
        let (mounts, images) = mounts::apart(&self.spec().rootfs, &at, &self.spec().mounts, open)?;
        let surroundings = Surroundings {
            cgroup: group.as_ref().map(AsFd::as_fd),
            tasks: made.join_files()?,
            inherit: handles().map(|(_, fd)| fd.as_fd()).collect(),
            mounts: Some(mounts.as_fd()),
        };
        let criu = Criu::start(self.globals.criu.as_deref(), surroundings)?;
        let inherit = handles().map(|(key, fd)| InheritFd {
            key: key.to_owned(),
            fd: fd.as_raw_fd(),
        });
        let restored = self
            .request(&at, &images, inherit.collect(), criu.pid())
            .and_then(|request| self.restore(&criu, &request, made, console));
        let ended = match restored {
            Ok(restored) => criu.end().map(|()| restored),
            Err(failure) => {
                criu.reap();
                Err(failure)
            }
        };
        let _stays_until_deleted = fs::remove_dir(&at);
        ended.inspect_err(|_| images.quote_errors(LOG, &self.globals.log))
    }

    fn restore(
        &self,
        criu: &Criu,
        request: &Request,
        made: &Made,
        console: Option<OwnedFd>,
    ) -> Result<(Record, Option<OwnedFd>)> {
        let mut progress = Progress::default();
        criu.ask(request, |notify, fd| {
            if notify.script.as_deref() == Some("post-restore") {
                progress.record = Some(self.write_down(made, notify.pid.unwrap_or(0))?);
                return Ok(());
            }
            self.notified(notify, fd, console.as_ref(), &mut progress)
        })?;
        match progress.record {
            Some(record) => Ok((record, progress.master)),
            None => Err(Failure::new("criu did not say what it restored")),
        }
    }

    fn notified(
        &self,
        notify: &Notify,
        fd: Option<OwnedFd>,
        console: Option<&OwnedFd>,
        progress: &mut Progress,
    ) -> Result<()> {
        let what = notify.script.as_deref().unwrap_or_default();
        let pid = notify.pid.unwrap_or(0);
        self.globals.log.debug(&format!("criu notifies: {what}"));
        match what {
            "setup-namespaces" => run_hooks(self.spec(), self.choices.id, pid),
            "orphan-pts-master" => {
                let master = fd.ok_or_else(|| Failure::new("criu sent no terminal"))?;
                match console {
                    None => progress.master = Some(master),
                    Some(socket) => {
                        let name = b"orphan-pts-master";
                        kernel::scm::send(socket.as_fd(), name, &[master.as_fd()])
                            .context(|| "send terminal".to_owned())?;
                    }
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// The container is there again, and waits for this to go on.
    fn write_down(&self, made: &Made, pid: i32) -> Result<Record> {
        let mut record = record(self.choices, self.prepared, made, pid)?;
        note_time_namespace(&mut record, pid);
        self.place.save(&record)?;
        Ok(record)
    }

    fn request(
        &self,
        at: &Path,
        images: &Images,
        mut inherit: Vec<InheritFd>,
        criu: i32,
    ) -> Result<Request> {
        let spec = self.spec();
        let streams = images.read_descriptors()?;
        inherit.extend(
            (0..)
                .zip(streams)
                .filter(|(_, name)| name.contains("pipe:"))
                .map(|(fd, key)| InheritFd { key, fd }),
        );
        let text = |text: &Option<String>| text.clone().filter(|t| !t.is_empty());
        let options = Options {
            log_file: Some(LOG.to_owned()),
            root: Some(at.display().to_string()),
            evasive_devices: Some(true),
            restore_sibling: Some(true),
            inherit_fds: inherit,
            join_namespaces: join_namespaces(spec)?,
            cgroup_roots: cgroup_roots(criu)?,
            external_mounts: self.external_mounts()?,
            lsm_profile: text(&self.args.lsm_profile),
            lsm_mount_context: text(&self.args.lsm_mount_context),
            ..common(&self.args.images, images, &spec.spec)?
        };
        Ok(Request {
            kind: Kind::Restore as i32,
            options: Some(options),
            ..Request::default()
        })
    }

    fn external_mounts(&self) -> Result<Vec<crate::criu::wire::ExternalMount>> {
        let about = || "look at the container's mounts".to_owned();
        let spec = self.spec();
        let facts = host::facts(&host::cgroups()?, &self.prepared.cgroup)?;
        let own = facts.cgroup_v2 || spec.namespaces.has(ns::CGROUP);
        let bound = if own { &[][..] } else { &facts.cgroups };
        let devices: Vec<PathBuf> = if spec.namespaces.has(ns::USER) {
            device_places(spec.linux())
        } else {
            Vec::new()
        };
        let external = mounts::external(&spec.mounts, bound, &devices);
        let masks = spec
            .linux()
            .and_then(|l| l.masked_paths().as_ref())
            .is_some_and(|paths| !paths.is_empty());
        let rootfs = spec.rootfs.canonicalize().context(about)?;
        let root = kernel::path::open_dir(&rootfs).context(about)?;
        mounts::for_restore(root.as_fd(), &rootfs, &external, masks).context(about)
    }
}

/// Namespaces that the config names by path, but for those that are handed on as descriptors.
fn join_namespaces(spec: &ValidSpec) -> Result<Vec<JoinNamespace>> {
    let mut found = Vec::new();
    for (kind, path) in &spec.namespaces.join {
        let name = NAMESPACES
            .iter()
            .find(|(k, ..)| k == kind)
            .map_or("?", |(_, name, _)| *name);
        if *kind == ns::CGROUP {
            return Err(Failure::new(
                "restore into a cgroup namespace by path: criu cannot do that",
            ));
        }
        if namespace_key(*kind).is_none() {
            found.push(JoinNamespace {
                kind: name.to_owned(),
                file: path.display().to_string(),
            });
        }
    }
    Ok(found)
}

/// Where criu is, and so where the container is to be, in each hierarchy.
fn cgroup_roots(criu: i32) -> Result<Vec<CgroupRoot>> {
    let file = format!("/proc/{criu}/cgroup");
    let text = fs::read_to_string(&file).context(|| format!("read {file}"))?;
    Ok(parse_cgroup_roots(&text))
}

fn parse_cgroup_roots(text: &str) -> Vec<CgroupRoot> {
    let mut found = Vec::new();
    for line in text.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else {
            continue;
        };
        found.extend(controllers.split(',').map(|controller| CgroupRoot {
            controller: Some(controller.to_owned()),
            path: path.to_owned(),
        }));
    }
    found
}

/// criu gives what it restores a time namespace, so that clocks go on from where they were.
fn note_time_namespace(record: &mut Record, pid: i32) {
    let of = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/time")).ok();
    let theirs = of(&pid.to_string());
    if theirs.is_some() && theirs != of("self") {
        record
            .namespace_paths
            .insert("NEWTIME".to_owned(), format!("/proc/{pid}/ns/time"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn controllers_mounted_together_have_one_path() {
        let roots = parse_cgroup_roots("3:cpu,cpuacct:/c\n1:name=systemd:/s\n0::/u\n");
        let all: Vec<_> = roots
            .iter()
            .map(|r| (r.controller.as_deref().unwrap(), r.path.as_str()))
            .collect();
        assert_eq!(
            all,
            [
                ("cpu", "/c"),
                ("cpuacct", "/c"),
                ("name=systemd", "/s"),
                ("", "/u")
            ]
        );
    }
}
