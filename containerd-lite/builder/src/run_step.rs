//! `RUN`: the mounts of the step, its process, and the cleaning up after it.

use std::fs;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use lite_core::{Because as _, Digest, Kind, Labels, Mount, Result, blocking};
use tempfile::TempDir;
use tokio::sync::OwnedMutexGuard;

use crate::SNAPSHOTTER;
use crate::build::Hub;
use crate::copy::{self, Destination, Root, Rules};
use crate::joined::{Joined, Wish};
use crate::mounts::{self, Kind as MountKind, Sharing};
use crate::ops::{Network, RunOp};
use crate::process::{self, Process};
use crate::source::Source;
use crate::spec::{self, Bind, Identity, Inputs};
use crate::step::Step;
use crate::stubs::Stubs;

/// `/etc/hosts` of a step without a network.
const LOCALHOST: &str = "127.0.0.1\tlocalhost\n::1\tlocalhost\n";

/// What the step's mounts need, until it is over.
struct Scene {
    dir: TempDir,
    binds: Vec<Bind>,
    tmpfs: Vec<(String, Option<u64>)>,
    secret_env: Vec<String>,
    /// Cache mounts that nobody else may use meanwhile.
    locks: Vec<OwnedMutexGuard<()>>,
    /// Directories below `dir` that are mounted, and their snapshots.
    mounted: Vec<(PathBuf, String)>,
    /// Its network; `None` for a step that has loopback alone.
    joined: Option<Joined>,
}

/// Runs the step on the snapshot behind `rootfs`.
///
/// # Errors
/// Unknown with the exit code of a process that failed; what the runtime says; Cancelled.
pub(crate) async fn run(
    step: &Step<'_>,
    op: &RunOp,
    number: u32,
    id: &str,
    rootfs: &[Mount],
) -> Result<()> {
    let state = step.run.builder.shared.config.state.clone();
    let context = || format!("make a directory in {}", state.display());
    fs::create_dir_all(&state).op(context)?;
    let mut scene = Scene {
        dir: tempfile::Builder::new()
            .prefix("run")
            .tempdir_in(&state)
            .op(context)?,
        binds: Vec::new(),
        tmpfs: Vec::new(),
        secret_env: Vec::new(),
        locks: Vec::new(),
        mounted: Vec::new(),
        joined: None,
    };
    let ended = match scene.set(step, op, id).await {
        Ok(()) => scene.play(step, op, number, id, rootfs).await,
        Err(err) => Err(err),
    };
    let struck = scene.strike(step).await;
    let code = ended?;
    struck?;
    if code == 0 {
        return Ok(());
    }
    Err(Kind::Unknown.error(format!(
        "process {:?} did not complete successfully: exit code: {code}",
        op.argv.join(" ")
    )))
}

impl Scene {
    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Prepares every mount.
    async fn set(&mut self, step: &Step<'_>, op: &RunOp, id: &str) -> Result<()> {
        self.join(step, op, id).await?;
        self.own_files(op)?;
        for (index, mount) in op.mounts.iter().enumerate() {
            let name = format!("m{index}");
            match &mount.kind {
                MountKind::Bind {
                    from,
                    source,
                    writable,
                } => {
                    let dir = match from {
                        Some(from) => self.tree(step, from, &name, *writable).await?,
                        None => self.context(step, &name).await?,
                    };
                    let at = inside(&dir, source)?;
                    self.bind(&at, &mount.target, !writable);
                }
                MountKind::Cache { .. } => self.cache(step, mount, &name).await?,
                MountKind::Tmpfs { size } => self.tmpfs.push((mount.target.clone(), *size)),
                MountKind::Secret { .. } => self.secret(step, mount, &name)?,
            }
        }
        Ok(())
    }

    fn bind(&mut self, source: &Path, target: &str, read_only: bool) {
        self.binds.push(Bind {
            source: source.display().to_string(),
            target: target.to_owned(),
            read_only,
        });
    }

    /// Puts the step on its network.
    async fn join(&mut self, step: &Step<'_>, op: &RunOp, id: &str) -> Result<()> {
        let asked = &step.run.request;
        let network = match op.network {
            Network::Default => asked.network.unwrap_or(Network::Default),
            own => own,
        };
        if network == Network::None {
            return Ok(());
        }
        let join = step.run.builder.shared.config.join.clone();
        let (id, extra_hosts) = (id.to_owned(), asked.extra_hosts.clone());
        let joined = blocking(move || {
            join.join(&Wish {
                id: &id,
                on_host: network == Network::Host,
                extra_hosts: &extra_hosts,
            })
        });
        self.joined = Some(joined.await?);
        Ok(())
    }

    /// The files that differ from host to host, and the script of the step.
    fn own_files(&mut self, op: &RunOp) -> Result<()> {
        let context = || "write files of a build's step".to_owned();
        let (hosts, resolv_conf) = match &self.joined {
            Some(joined) => (joined.hosts.clone(), joined.resolv_conf.clone()),
            None => (LOCALHOST.to_owned(), String::new()),
        };
        for (name, content, target) in [
            ("resolv.conf", resolv_conf, "/etc/resolv.conf"),
            ("hosts", hosts, "/etc/hosts"),
        ] {
            fs::write(self.path(name), content).op(context)?;
            self.bind(&self.path(name), target, true);
        }
        if let Some((target, content)) = &op.script {
            let path = self.path("script");
            fs::write(&path, content).op(context)?;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).op(context)?;
            self.bind(&path, target, true);
        }
        Ok(())
    }

    /// A stage's or image's file system, really mounted: the runtime binds parts of it.
    async fn tree(
        &mut self,
        step: &Step<'_>,
        from: &str,
        name: &str,
        writable: bool,
    ) -> Result<PathBuf> {
        let chain = step.source_chain(from).await?;
        let (key, dir) = (Hub::unique(), self.path(name));
        fs::create_dir(&dir).op(|| format!("create {}", dir.display()))?;
        let hub = &step.run.builder.shared;
        let mounts = if writable {
            let snapshots = hub.core.snapshots.leased(Some(&step.run.lease));
            snapshots.prepare(&hub.ns, SNAPSHOTTER, &key, &chain, &Labels::new())?
        } else {
            hub.view(&step.run.lease, &key, &chain)?
        };
        self.mounted.push((dir.clone(), key));
        let words: Vec<kernel::mount::Mount<'_>> = mounts
            .iter()
            .map(|mount| kernel::mount::Mount {
                kind: &mount.kind,
                source: &mount.source,
                target: &mount.target,
                options: &mount.options,
            })
            .collect();
        kernel::mount::mount_all(&words, &dir).op(|| format!("mount {from}"))?;
        Ok(dir)
    }

    /// The whole context as a directory of its own, which the step may write to.
    async fn context(&mut self, step: &Step<'_>, name: &str) -> Result<PathBuf> {
        let dir = self.path(name);
        fs::create_dir(&dir).op(|| format!("create {}", dir.display()))?;
        let to = Destination {
            path: "/",
            is_directory: true,
            parents: false,
        };
        let ready = step
            .run
            .context()
            .await?
            .select(&["."], to, true, &[])
            .await?;
        let root = kernel::path::open_dir(&dir).op(|| format!("open {}", dir.display()))?;
        blocking(move || {
            let root = Root::new(root);
            for one in &ready.selected {
                copy::write(&root, &ready.source, one, &Rules::default())
                    .map_err(|what| Kind::InvalidArgument.error(what))?;
            }
            Ok(())
        })
        .await?;
        Ok(dir)
    }

    async fn cache(&mut self, step: &Step<'_>, mount: &mounts::Mount, name: &str) -> Result<()> {
        let MountKind::Cache {
            id,
            sharing,
            read_only,
            mode,
            owner,
        } = &mount.kind
        else {
            return Ok(());
        };
        let hub = &step.run.builder.shared;
        let kept = hub
            .config
            .root
            .join("mounts")
            .join(Digest::of(id.as_bytes()).hex());
        let lock = hub.lock(&format!("mount {id}"));
        let dir = match sharing {
            Sharing::Shared => kept,
            Sharing::Locked => {
                self.locks.push(lock.lock_owned().await);
                kept
            }
            Sharing::Private => match lock.try_lock_owned() {
                Ok(only) => {
                    self.locks.push(only);
                    kept
                }
                Err(_) => self.path(name),
            },
        };
        let context = || format!("create cache mount {id}");
        if !dir.exists() {
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(&dir)
                .op(context)?;
            fs::set_permissions(&dir, fs::Permissions::from_mode(*mode)).op(context)?;
            std::os::unix::fs::chown(&dir, Some(owner.0), Some(owner.1)).op(context)?;
        }
        self.bind(&dir, &mount.target, *read_only);
        Ok(())
    }

    fn secret(&mut self, step: &Step<'_>, mount: &mounts::Mount, name: &str) -> Result<()> {
        let MountKind::Secret {
            id,
            env,
            required,
            mode,
            owner,
        } = &mount.kind
        else {
            return Ok(());
        };
        let Some(secret) = step.run.request.secrets.get(id) else {
            return match required {
                true => Err(Kind::NotFound.error(format!(
                    "secret {id}: not found: give it with --secret id={id},src=FILE"
                ))),
                false => Ok(()),
            };
        };
        if let Some(variable) = env {
            let text = String::from_utf8_lossy(secret);
            self.secret_env.push(format!("{variable}={text}"));
        }
        if mount.target.is_empty() {
            return Ok(());
        }
        let path = self.path(name);
        let context = || format!("write secret {id}");
        let mut options = fs::OpenOptions::new();
        let mut file = options
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .op(context)?;
        std::io::Write::write_all(&mut file, secret).op(context)?;
        std::os::unix::fs::fchown(&file, Some(owner.0), Some(owner.1)).op(context)?;
        file.set_permissions(fs::Permissions::from_mode(*mode))
            .op(context)?;
        self.bind(&path, &mount.target, true);
        Ok(())
    }

    /// Runs the process and returns its exit code.
    async fn play(
        &self,
        step: &Step<'_>,
        op: &RunOp,
        number: u32,
        id: &str,
        rootfs: &[Mount],
    ) -> Result<u32> {
        let hub = &step.run.builder.shared;
        let root = blocking(step.root(rootfs)).await?;
        let network = match &self.joined {
            None => spec::Network::Own,
            Some(joined) => match &joined.netns {
                None => spec::Network::Host,
                Some(path) => spec::Network::At(path),
            },
        };
        let spec = spec::build(&Inputs {
            template: &step.run.request.template,
            op,
            secret_env: &self.secret_env,
            user: &identity(op, &root)?,
            binds: &self.binds,
            tmpfs: &self.tmpfs,
            network,
            cgroups_path: &format!("/{}/{id}", hub.config.cgroup_parent.trim_matches('/')),
        });
        let mut targets = spec::targets(&spec);
        targets.push(op.cwd.clone());
        let stubs = Stubs::before(&root, &targets);
        let process = Process {
            id,
            spec: serde_json::to_vec(&spec)
                .map_err(|err| Kind::Internal.error("encode spec").because(err))?,
            rootfs: rootfs.to_vec(),
            runtime: &hub.config.runtime,
            dir: self.dir.path(),
            step: number,
        };
        // An overlay must not be mounted twice over the same upper directory.
        drop(root);
        let code = process::run(
            &hub.core,
            &hub.ns,
            process,
            &step.run.teller,
            step.stopped.clone(),
        )
        .await?;
        let root = blocking(step.root(rootfs)).await?;
        stubs
            .remove(&root)
            .op(|| "remove mount points".to_owned())?;
        Ok(code)
    }

    /// Takes the mounts away.
    async fn strike(self, step: &Step<'_>) -> Result<()> {
        let joined = self.joined;
        blocking(move || {
            drop(joined);
            Ok(())
        })
        .await?;
        let hub = &step.run.builder.shared;
        for (dir, key) in &self.mounted {
            kernel::mount::unmount_recursive(dir).op(|| format!("unmount {}", dir.display()))?;
            hub.core.snapshots.remove(&hub.ns, SNAPSHOTTER, key)?;
        }
        let path = self.dir.path().to_owned();
        self.dir.close().op(|| format!("remove {}", path.display()))
    }
}

/// The path `source` inside the directory `dir`, links followed inside it.
fn inside(dir: &Path, source: &str) -> Result<PathBuf> {
    let context = || format!("source={source}");
    let tree = Source::Tree(kernel::path::open_dir(dir).op(context)?);
    let found = tree.resolve(&crate::source::cleaned(source)).op(context)?;
    let real =
        found.ok_or_else(|| Kind::InvalidArgument.error(format!("source={source}: not found")))?;
    Ok(dir.join(real))
}

fn identity(op: &RunOp, root: &Root) -> Result<Identity> {
    let context = || format!("user {:?}", op.user);
    let passwd = root.read_text("/etc/passwd").op(context)?;
    let group = root.read_text("/etc/group").op(context)?;
    let user = lite_core::user::resolve(&op.user, &passwd, &group)
        .map_err(|err| Kind::InvalidArgument.error(err.to_string()))?;
    Ok(Identity {
        uid: user.uid,
        gid: user.gid,
        groups: user.groups,
    })
}
