//! Checkpoints, by criu: it is started as `criu swrk`, takes one request on a socket, and tells what it does by notifications
//! that it waits to have answered.
//!
//! 1. [`Criu::start`] runs it: in the container's cgroup and among its mounts for a restore, as a plain child for a dump.
//! 2. [`Criu::version`] and [`Criu::check`] ask what it can do; the connection stays open.
//! 3. [`Criu::ask`] makes the request and answers notifications until it is done; [`Criu::end`] waits for criu's own end.
//!
//! [`images`] knows the files, [`mounts`] what of a container's mounts comes from outside, [`wire`] the messages.

pub(crate) mod images;
pub(crate) mod mounts;
pub(crate) mod wire;

use std::ffi::CString;
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use kernel::clone::{Clone, Forked, clone3, ns};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;
use prost::Message;

use crate::failure::{Context, Failure, Result};
use wire::{Features, Kind, Notify, Request, Response};

/// Older ones lack notifications or options that every request here uses.
const OLDEST: i32 = 31_600;

/// Longer answers do not exist.
const LONGEST: usize = 64 << 10;

/// A criu process that takes requests.
#[derive(Debug)]
pub(crate) struct Criu {
    pid: i32,
    socket: OwnedFd,
}

/// Where criu is to run.
#[derive(Debug, Default)]
pub(crate) struct Surroundings<'a> {
    /// v2: the group to start in.
    pub(crate) cgroup: Option<BorrowedFd<'a>>,
    /// v1: tasks files to join by.
    pub(crate) tasks: Vec<File>,
    /// Descriptors that it inherits, under their own numbers.
    pub(crate) inherit: Vec<BorrowedFd<'a>>,
    /// Its mount namespace, if not ours.
    pub(crate) mounts: Option<BorrowedFd<'a>>,
}

impl Criu {
    /// Starts criu, found in PATH unless `program` names it, and makes sure that it is not too old.
    pub(crate) fn start(program: Option<&Path>, surroundings: Surroundings<'_>) -> Result<Self> {
        let program = match program {
            Some(program) => program.to_path_buf(),
            None => find()?,
        };
        let starting = || format!("start {}", program.display());
        let flags = SockFlag::SOCK_CLOEXEC;
        let (ours, theirs) =
            socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags).context(starting)?;
        let (mut told, tell) = std::io::pipe().context(starting)?;
        let wanted = Clone {
            cgroup: surroundings.cgroup,
            ..Clone::default()
        };
        let Forked::Parent { pid, .. } = clone3(wanted).context(starting)? else {
            let failure = become_criu(&program, surroundings, theirs.as_fd());
            // With the parent gone there is nobody to tell.
            let _gone = (&tell).write_all(failure.chain().as_bytes());
            kernel::process::exit_now(1);
        };
        drop((tell, theirs));
        let criu = Self { pid, socket: ours };
        // The pipe closes as it becomes criu.
        let mut words = String::new();
        std::io::Read::read_to_string(&mut told, &mut words).context(starting)?;
        if !words.is_empty() {
            criu.reap();
            return Err(Failure::because(starting(), words));
        }
        match criu.version() {
            Ok(version) if version >= OLDEST => Ok(criu),
            Ok(version) => {
                criu.reap();
                Err(Failure::new(format!(
                    "CRIU version {version} must be {OLDEST} or higher"
                )))
            }
            Err(failure) => {
                criu.reap();
                Err(failure).context(|| "CRIU version check failed".to_owned())
            }
        }
    }

    pub(crate) fn pid(&self) -> i32 {
        self.pid
    }

    /// As a number: 31702 for 3.17.2.
    fn version(&self) -> Result<i32> {
        let answer = self.call(&Request {
            kind: Kind::Version as i32,
            keep_open: Some(true),
            ..Request::default()
        })?;
        let version = answer
            .version
            .ok_or_else(|| Failure::new("criu did not say its version"))?;
        Ok(version.major * 10_000 + version.minor * 100 + version.sublevel.unwrap_or(0))
    }

    /// Whether criu and the kernel can do all that is wanted.
    pub(crate) fn check(&self, wanted: Features) -> Result<()> {
        let answer = self
            .call(&Request {
                kind: Kind::FeatureCheck as i32,
                keep_open: Some(true),
                features: Some(wanted),
                ..Request::default()
            })
            .context(|| "CRIU feature check failed".to_owned())?;
        let has = answer.features.unwrap_or_default();
        let pairs = [
            ("MemTrack", wanted.mem_track, has.mem_track),
            ("LazyPages", wanted.lazy_pages, has.lazy_pages),
        ];
        let missing: Vec<&str> = pairs
            .into_iter()
            .filter(|(_, wanted, has)| *wanted == Some(true) && *has == Some(false))
            .map(|(name, ..)| name)
            .collect();
        if missing.is_empty() {
            Ok(())
        } else {
            Err(Failure::new(format!(
                "criu is missing features: {missing:?}; `criu check` says what this kernel lacks"
            )))
        }
    }

    /// Makes a request. `on_notify` is told what criu does meanwhile, with the descriptor that comes with it; when it fails, criu
    /// undoes what it has done.
    pub(crate) fn ask(
        &self,
        request: &Request,
        mut on_notify: impl FnMut(&Notify, Option<OwnedFd>) -> Result<()>,
    ) -> Result<Response> {
        self.send(request)?;
        let mut first = None;
        loop {
            let (answer, fd) = match (self.receive(), first) {
                (Ok(answer), failure) => {
                    first = failure;
                    answer
                }
                // Our own failure comes before the one that criu made of it.
                (Err(_), Some(failure)) | (Err(failure), None) => return Err(failure),
            };
            if answer.kind != Kind::Notify as i32 {
                return match first {
                    Some(failure) => Err(failure),
                    None => Ok(answer),
                };
            }
            let done = on_notify(&answer.notify.unwrap_or_default(), fd);
            self.send(&Request {
                kind: Kind::Notify as i32,
                notify_success: Some(done.is_ok()),
                ..Request::default()
            })?;
            if let (Err(failure), None) = (done, &first) {
                first = Some(failure);
            }
        }
    }

    /// Lets criu end. Says whether it ended well.
    pub(crate) fn end(self) -> Result<()> {
        match self.reap() {
            Some(WaitStatus::Exited(_, 0)) => Ok(()),
            Some(WaitStatus::Exited(_, code)) => {
                Err(Failure::new(format!("criu failed: exit status {code}")))
            }
            other => Err(Failure::new(format!("criu failed: {other:?}"))),
        }
    }

    /// Closes the connection, which ends criu if nothing else has, and waits.
    pub(crate) fn reap(self) -> Option<WaitStatus> {
        let Self { pid, socket } = self;
        drop(socket);
        loop {
            match waitpid(Pid::from_raw(pid), None) {
                Err(nix::errno::Errno::EINTR) => {}
                other => return other.ok(),
            }
        }
    }

    fn call(&self, request: &Request) -> Result<Response> {
        self.send(request)?;
        self.receive().map(|(answer, _)| answer)
    }

    fn send(&self, request: &Request) -> Result<()> {
        kernel::scm::send(self.socket.as_fd(), &request.encode_to_vec(), &[])
            .map(drop)
            .context(|| "send request to criu".to_owned())
    }

    fn receive(&self) -> Result<(Response, Option<OwnedFd>)> {
        let receiving = || "receive answer of criu".to_owned();
        let mut buffer = vec![0; LONGEST];
        let (len, mut fds) =
            kernel::scm::recv(self.socket.as_fd(), &mut buffer, 1).context(receiving)?;
        if len == 0 {
            return Err(Failure::because(receiving(), "criu died"));
        }
        let answer = Response::decode(&buffer[..len]).context(receiving)?;
        if answer.success {
            return Ok((answer, fds.pop()));
        }
        let kind = Kind::try_from(answer.kind).map_or("?", Kind::word);
        let errno = answer.errno.unwrap_or(0);
        // Of the message that comes with it only the log says whether it is the reason.
        Err(Failure::new(format!(
            "criu failed: type {kind} errno {errno}"
        )))
    }
}

/// The first criu in PATH, and where administrators' programs are.
fn find() -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|dir| dir.join("criu"))
        .find(|program| program.is_file())
        .ok_or_else(|| {
            Failure::new(
                "criu is not installed: exec: \"criu\": executable file not found in $PATH",
            )
        })
}

/// In the new process. Returns only on failure.
fn become_criu(program: &Path, surroundings: Surroundings<'_>, socket: BorrowedFd<'_>) -> Failure {
    let prepare = || -> Result<()> {
        for mut file in surroundings.tasks {
            file.write_all(b"0").context(|| "join cgroup".to_owned())?;
        }
        if let Some(mounts) = surroundings.mounts {
            kernel::process::setns(mounts, ns::MOUNT)
                .context(|| "join mount namespace".to_owned())?;
        }
        let keep = |fd| kernel::process::keep_over_exec(fd);
        kernel::process::cloexec_from(3)
            .and_then(|()| keep(socket))
            .and_then(|()| surroundings.inherit.into_iter().try_for_each(keep))
            .and_then(|()| kernel::signals::reset())
            .context(|| "hand on descriptors".to_owned())
    };
    if let Err(failure) = prepare() {
        return failure;
    }
    let strings = |list: [&[u8]; 3]| list.map(|s| CString::new(s).unwrap_or_default());
    let number = socket.as_raw_fd().to_string();
    let path = program.as_os_str().as_bytes();
    let args = strings([path, b"swrk", number.as_bytes()]);
    match nix::unistd::execv(&args[0], &args) {
        Ok(never) => match never {},
        Err(errno) => Failure::because("exec", errno),
    }
}
