//! Creates a container and leaves its init process waiting for start.
//!
//! 1. The runtime's options are kept in the bundle, for a `delete` after a crash.
//! 2. The root file system is mounted.
//! 3. The stdio is opened.
//! 4. The runtime creates the container; [`launch`] waits for it. One that is
//!    to be restored from a checkpoint gets its processes only when started.
//! 5. The event is queued; from then on the exit is followed.
//!
//! On failure the steps done so far are undone in reverse.

use std::cell::RefCell;
use std::ffi::OsString;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use proto::containerd::events::{TaskCreate, TaskIo};
use proto::containerd::types::Mount;
use tokio::sync::watch;
use ttrpc_wire::Code;

use super::checkpoint::Restore;
use super::{Container, Process, Shim, exit, oom};
use crate::bundle::{self, Options};
use crate::cgroups;
use crate::failure::{Failure, Result, warn};
use crate::rootfs;
use crate::runtime::{Runtime, RuntimeError};
use crate::stdio::uri::StdioUris;

/// A runtime that takes longer than this is one that prints without end, or
/// runs slow hooks: let what it prints flow before the pipes are full.
const PATIENCE: Duration = Duration::from_secs(5);

/// What a failed create is called.
const CREATE: &str = "OCI runtime create failed";

/// A container to be.
pub(crate) struct NewTask {
    /// Its id.
    pub(crate) id: String,
    /// Its bundle, absolute.
    pub(crate) bundle: PathBuf,
    /// What to mount as its root.
    pub(crate) rootfs: Vec<Mount>,
    /// Its init's stdio.
    pub(crate) stdio: StdioUris,
    /// How to call the runtime.
    pub(crate) options: Options,
    /// A checkpoint to restore, instead of running the bundle's program.
    pub(crate) restore: Option<Restore>,
}

/// Gives the id free again when a create ends.
struct Reserved<'a> {
    shim: &'a Shim,
    id: &'a str,
}

impl Drop for Reserved<'_> {
    fn drop(&mut self) {
        self.shim.creating.borrow_mut().remove(self.id);
    }
}

/// Creates the container; returns init's pid.
pub(crate) async fn create(shim: &Rc<Shim>, new: NewTask) -> Result<u32> {
    bundle::check_id(&new.id)?;
    if !new.bundle.is_absolute() {
        return Err(Failure::invalid(format!(
            "bundle {} is not an absolute path",
            new.bundle.display()
        )));
    }
    if shim.containers.borrow().contains_key(&new.id)
        || !shim.creating.borrow_mut().insert(new.id.clone())
    {
        return Err(Failure::new(
            Code::AlreadyExists,
            format!("container {}", new.id),
        ));
    }
    let _reserved = Reserved { shim, id: &new.id };
    bundle::write_options(&new.bundle, &new.options).map_err(|err| {
        Failure::because(format!("write options to {}", new.bundle.display()), &err)
    })?;
    let root = new.bundle.join("rootfs");
    rootfs::mount_all(&new.rootfs, &root)
        .map_err(|err| Failure::because("mount rootfs component", &err))?;
    let created = create_mounted(shim, &new).await;
    if created.is_err()
        && !new.rootfs.is_empty()
        && let Err(err) = rootfs::unmount_all(&root)
    {
        warn("unmount the root file system after a failed create", &err);
    }
    created
}

async fn create_mounted(shim: &Rc<Shim>, new: &NewTask) -> Result<u32> {
    let (container, init) = container(shim, new).await?;
    if new.restore.is_some() {
        enlist(shim, new, &container);
        return Ok(0);
    }
    let mut args: Vec<OsString> = vec![
        "create".into(),
        "--bundle".into(),
        new.bundle.clone().into(),
    ];
    if new.options.no_pivot_root {
        args.push("--no-pivot".into());
    }
    if new.options.no_new_keyring {
        args.push("--no-new-keyring".into());
    }
    let window = shim.reaper.open_window();
    let turn = init.turn.lock().await;
    let launched = launch(shim, &container, &init, args, CREATE).await;
    let pid = match launched {
        Ok(pid) => pid,
        Err((err, made)) => {
            init.io.close().await;
            if made {
                take_back(&container).await;
            }
            return Err(err);
        }
    };
    enlist(shim, new, &container);
    watch_cgroup(shim, &container, pid);
    drop(turn);
    exit::follow(shim, &container, &init, window.watch(pid));
    Ok(pid)
}

async fn container(shim: &Shim, new: &NewTask) -> Result<(Rc<Container>, Rc<Process>)> {
    let io_owner = (new.options.io_uid, new.options.io_gid);
    let (io, child) = shim
        .open_io(&new.stdio, (&new.id, None), &new.bundle, io_owner)
        .await?;
    let init = Process::new(None, new.stdio.clone(), Vec::new(), io, child);
    let container = Rc::new(Container {
        id: new.id.clone(),
        bundle: new.bundle.clone(),
        runtime: Runtime::new(
            &new.options,
            &shim.namespace,
            &new.bundle,
            Rc::clone(&shim.reaper),
        ),
        options: new.options.clone(),
        restore: RefCell::new(new.restore.clone()),
        cgroup: RefCell::default(),
        oom: RefCell::default(),
        init: Rc::clone(&init),
        execs: RefCell::default(),
        execs_alive: watch::Sender::new(0),
    });
    Ok((container, init))
}

/// Makes the container known, here and to the daemon.
fn enlist(shim: &Shim, new: &NewTask, container: &Rc<Container>) {
    shim.containers
        .borrow_mut()
        .insert(new.id.clone(), Rc::clone(container));
    shim.publisher.publish(&TaskCreate {
        container_id: new.id.clone(),
        bundle: new.bundle.display().to_string(),
        rootfs: new.rootfs.clone(),
        io: Some(TaskIo {
            stdin: new.stdio.stdin.clone(),
            stdout: new.stdio.stdout.clone(),
            stderr: new.stdio.stderr.clone(),
            terminal: new.stdio.terminal,
        }),
        checkpoint: new
            .restore
            .as_ref()
            .map(|restore| restore.image.display().to_string())
            .unwrap_or_default(),
        pid: container.init.pid.get(),
    });
}

/// Finds the cgroup of the container by its init, and watches it.
pub(super) fn watch_cgroup(shim: &Rc<Shim>, container: &Rc<Container>, pid: u32) {
    *container.cgroup.borrow_mut() = cgroups::of_process(pid);
    oom::watch(shim, container);
}

/// Deletes what the runtime made before something after it failed.
pub(super) async fn take_back(container: &Container) {
    let args = ["delete", "--force", &container.id];
    if let Err(err) = container.runtime.run(args).await {
        warn(
            "delete the container after a failed create",
            &err.during("runtime"),
        );
    }
}

/// Has the runtime make `process`: `args` is its command without the last
/// words, which are added here; `op` is what is said to have failed. On success the pid is known, the stdio is
/// being copied. On failure also tells whether there is something to delete.
pub(super) async fn launch(
    shim: &Shim,
    container: &Container,
    process: &Process,
    mut args: Vec<OsString>,
    op: &str,
) -> std::result::Result<u32, (Failure, bool)> {
    let exec = process.exec.as_deref();
    let pid_file = bundle::pid_path(&container.bundle, exec);
    args.extend(["--pid-file".into(), pid_file.clone().into()]);
    let console = match process.stdio.terminal {
        true => Some(shim.open_console().map_err(|err| (err, false))?),
        false => None,
    };
    if let Some(console) = &console {
        args.extend(["--console-socket".into(), console.path().into()]);
    }
    args.push((&container.id).into());
    run(container, process, args)
        .await
        .map_err(|err| (err.during(op), false))?;
    if let Some(console) = console {
        let received = console
            .receive()
            .await
            .map_err(|err| Failure::because("retrieve console master", &err));
        process.io.connect(received.map_err(|err| (err, true))?);
    }
    let pid = bundle::read_pid(&pid_file).map_err(|err| {
        (
            Failure::because("retrieve OCI runtime container pid", &err),
            true,
        )
    })?;
    process.pid.set(pid);
    process.io.start();
    Ok(pid)
}

async fn run(
    container: &Container,
    process: &Process,
    args: Vec<OsString>,
) -> std::result::Result<(), RuntimeError> {
    if process.io.is_terminal() {
        return container.runtime.run(args).await.map(drop);
    }
    let Some(child) = process.child.borrow_mut().take() else {
        // Only the first launch finds the process's ends.
        return container.runtime.run(args).await.map(drop);
    };
    let mut running = std::pin::pin!(container.runtime.run_with(args, child));
    let ended = tokio::select! {
        ended = &mut running => ended,
        () = tokio::time::sleep(PATIENCE) => {
            process.io.start();
            running.await
        }
    };
    ended.map_err(|err| err.with_output(&process.io.leftovers()))
}
