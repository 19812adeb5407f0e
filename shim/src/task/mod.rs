//! Tasks: containers as they run, and the processes in them.
//!
//! All state lives on one thread, so it is in cells rather than behind locks,
//! and no borrow is held across an await. What has to happen in turn on one
//! process (create, start, delete, pause) takes the process's `turn`.
//!
//! [`create`] → [`start`] → [`exit`] → [`delete`] is the life of a process;
//! [`control`] is what can be asked of it meanwhile.

pub(crate) mod checkpoint;
pub(crate) mod control;
pub(crate) mod create;
pub(crate) mod delete;
pub(crate) mod exec;
pub(crate) mod exit;
mod oom;
pub(crate) mod start;
pub(crate) mod state;

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use cgroup::{Cgroup, OomWatch};
use tokio::sync::{Mutex, Notify, watch};

use crate::bundle::{self, Exit, Options};
use crate::events::Publisher;
use crate::failure::{Failure, Result, warn};
use crate::reaper::Reaper;
use crate::rest::Rest;
use crate::runtime::{ChildStdio, Runtime};
use crate::stdio::console::ConsoleSocket;
use crate::stdio::logger::Whose;
use crate::stdio::uri::StdioUris;
use crate::stdio::{Owner, ProcessIo};
use checkpoint::Restore;
use state::Status;

/// The shim: every container it keeps.
pub(crate) struct Shim {
    /// containerd's tenant.
    pub(crate) namespace: String,
    /// A directory with a short path, for console sockets.
    pub(crate) socket_dir: PathBuf,
    /// Who reaps.
    pub(crate) reaper: Rc<Reaper>,
    /// Who tells the daemon.
    pub(crate) publisher: Rc<Publisher>,
    /// Who gives memory back when there is nothing to do.
    pub(crate) rest: Rest,
    /// Set off when the shim is to end.
    pub(crate) ended: Notify,
    containers: RefCell<HashMap<String, Rc<Container>>>,
    /// Ids whose create is under way.
    creating: RefCell<HashSet<String>>,
    consoles: Cell<u64>,
    held: Cell<bool>,
}

/// One container.
pub(crate) struct Container {
    /// Its id.
    pub(crate) id: String,
    /// Its bundle.
    pub(crate) bundle: PathBuf,
    /// How to call its runtime.
    pub(crate) runtime: Runtime,
    /// Its cgroup, once it has one.
    pub(crate) cgroup: RefCell<Option<Cgroup>>,
    /// Who notices out-of-memory kills.
    pub(crate) oom: RefCell<Option<OomWatch>>,
    /// The runtime's options.
    pub(crate) options: Options,
    /// What its start restores it from; taken by that start.
    pub(crate) restore: RefCell<Option<Restore>>,
    /// The process it lives and dies with.
    pub(crate) init: Rc<Process>,
    /// The others that were asked for.
    pub(crate) execs: RefCell<HashMap<String, Rc<Process>>>,
    /// Execs between the begin of their start and the announcement of their
    /// exit; init's exit is announced last.
    pub(crate) execs_alive: watch::Sender<usize>,
}

/// One process.
pub(crate) struct Process {
    /// The exec's id; none for init.
    pub(crate) exec: Option<String>,
    /// As requested.
    pub(crate) stdio: StdioUris,
    /// For an exec: what to run, as JSON.
    pub(crate) spec: Vec<u8>,
    /// 0 until it runs.
    pub(crate) pid: Cell<u32>,
    /// Where it is in its life.
    pub(crate) status: Cell<Status>,
    /// Whether the pid is free for others; true some time before `exit` is set.
    pub(crate) reaped: Cell<bool>,
    /// Set when its exit is announced.
    pub(crate) exit: watch::Sender<Option<Exit>>,
    /// Its stdio.
    pub(crate) io: Rc<ProcessIo>,
    /// Its own ends, until it is started.
    pub(crate) child: RefCell<Option<ChildStdio>>,
    /// See the module.
    pub(crate) turn: Mutex<()>,
}

impl Container {
    /// Who may open `/dev/stdout` again inside.
    pub(crate) fn io_owner(&self) -> (u32, u32) {
        (self.options.io_uid, self.options.io_gid)
    }
}

impl Process {
    /// A process that does not run yet.
    pub(crate) fn new(
        exec: Option<String>,
        stdio: StdioUris,
        spec: Vec<u8>,
        io: Rc<ProcessIo>,
        child: ChildStdio,
    ) -> Rc<Self> {
        Rc::new(Self {
            exec,
            stdio,
            spec,
            pid: Cell::new(0),
            status: Cell::new(Status::Created),
            reaped: Cell::new(false),
            exit: watch::Sender::new(None),
            io,
            child: RefCell::new(Some(child)),
            turn: Mutex::new(()),
        })
    }
}

impl Shim {
    /// A shim without containers.
    pub(crate) fn new(
        namespace: String,
        socket_dir: PathBuf,
        reaper: Rc<Reaper>,
        publisher: Rc<Publisher>,
        rest: Rest,
    ) -> Rc<Self> {
        Rc::new(Self {
            namespace,
            socket_dir,
            reaper,
            publisher,
            rest,
            ended: Notify::new(),
            containers: RefCell::default(),
            creating: RefCell::default(),
            consoles: Cell::new(0),
            held: Cell::new(false),
        })
    }

    /// The container called `id`.
    pub(crate) fn container(&self, id: &str) -> Result<Rc<Container>> {
        self.containers
            .borrow()
            .get(id)
            .cloned()
            .ok_or_else(|| Failure::not_found("container not created"))
    }

    /// A process of the container `id`: init when `exec` is empty.
    pub(crate) fn process(&self, id: &str, exec: &str) -> Result<(Rc<Container>, Rc<Process>)> {
        let container = self.container(id)?;
        let process = if exec.is_empty() {
            Rc::clone(&container.init)
        } else {
            let found = container.execs.borrow().get(exec).cloned();
            found.ok_or_else(|| Failure::not_found(format!("process does not exist {exec}")))?
        };
        Ok((container, process))
    }

    /// The ids of all containers.
    pub(crate) fn ids(&self) -> Vec<String> {
        self.containers.borrow().keys().cloned().collect()
    }

    /// Whether the shim is to stay without containers.
    pub(crate) fn hold(&self, held: bool) {
        self.held.set(held);
    }

    /// Ends the shim if it has nothing to keep.
    pub(crate) fn shut_down(&self) {
        let idle = self.containers.borrow().is_empty() && self.creating.borrow().is_empty();
        if idle && !self.held.get() {
            self.ended.notify_one();
        }
    }

    /// Opens the stdio `uris` of a process whose bundle is `bundle`: the exec
    /// `exec`, or the init of the container `id`.
    async fn open_io(
        &self,
        uris: &StdioUris,
        (id, exec): (&str, Option<&str>),
        bundle: &Path,
        ids: (u32, u32),
    ) -> Result<(Rc<ProcessIo>, ChildStdio)> {
        let owner = Owner {
            whose: Whose {
                namespace: &self.namespace,
                id: exec.unwrap_or(id),
            },
            ids,
            reaper: &self.reaper,
        };
        let (io, child) = ProcessIo::open(uris, &owner).await?;
        if let Some(socket) = io.session_socket()
            && let Err(err) = bundle::note_session(bundle, exec, socket)
        {
            // It matters only if this shim is killed.
            warn("note the socket of a session", &err);
        }
        Ok((io, child))
    }

    fn open_console(&self) -> Result<ConsoleSocket> {
        let serial = self.consoles.get();
        self.consoles.set(serial + 1);
        ConsoleSocket::open(&self.socket_dir, serial)
            .map_err(|err| Failure::because("create OCI runtime console socket", &err))
    }
}
