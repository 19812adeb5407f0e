//! The container's first process, and an exec's: applies the plan, step by step, and becomes the program.
//!
//! It is a clone of its parent, so what the parent read and opened is at hand without being sent. It never prints and never
//! returns: a failure crosses to the parent as the step's number and the kernel's answer.

mod copy_up;
mod devices;
mod hide;
mod identity;
mod landlock;
pub(crate) mod late;
mod mounting;
mod places;
mod program;
mod rootfs;

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use program::{diagnose, home_in};

use std::ffi::CString;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Instant;

use kernel::memory::Unwritten;
use kernel::mount::Propagation;
use kernel::path::Within;
use nix::sys::signal::Signal;

use crate::phrases::ProgramFault;
use crate::plan::Step;
use crate::seccomp::Program;
use crate::sync::{Channel, FromInit};

/// Why a step did not succeed.
#[derive(Debug)]
pub(crate) struct StepError {
    errno: i32,
    fault: Option<ProgramFault>,
    subject: String,
}

impl From<io::Error> for StepError {
    fn from(error: io::Error) -> Self {
        let errno = error.raw_os_error().unwrap_or(0);
        let subject = if errno == 0 {
            error.to_string()
        } else {
            String::new()
        };
        Self {
            errno,
            fault: None,
            subject,
        }
    }
}

impl From<nix::errno::Errno> for StepError {
    fn from(errno: nix::errno::Errno) -> Self {
        io::Error::from(errno).into()
    }
}

impl StepError {
    fn about(mut self, subject: impl Into<String>) -> Self {
        self.subject = subject.into();
        self
    }

    fn program(fault: ProgramFault, name: &str) -> Self {
        Self {
            errno: 0,
            fault: Some(fault),
            subject: name.to_owned(),
        }
    }

    fn words(text: String) -> Self {
        Self {
            errno: 0,
            fault: None,
            subject: text,
        }
    }
}

type Applied = Result<(), StepError>;

/// How init learns that it may exec.
#[derive(Debug)]
pub(crate) enum Starter {
    /// A byte in this fifo, from `start`. Open for both ways, so that reading waits however many writers there were.
    Fifo(OwnedFd),
    /// A word from the parent, which stays to hear whether exec succeeded.
    Parent,
}

/// All that init needs, as its parent prepared it.
#[derive(Debug)]
pub(crate) struct Init<'a> {
    pub(crate) steps: &'a [Step],
    pub(crate) args: &'a [String],
    pub(crate) env: Vec<String>,
    /// v1 tasks files.
    pub(crate) cgroup: Vec<File>,
    /// Namespaces to join one by one.
    pub(crate) namespaces: Vec<(u64, OwnedFd)>,
    /// The container's init, for exec.
    pub(crate) container: Option<OwnedFd>,
    /// Detached copies of bind mounts' sources, by the mount's number; none for those inside the rootfs, where earlier mounts
    /// may lie over them.
    pub(crate) sources: Vec<Option<OwnedFd>>,
    pub(crate) starter: Starter,
    /// Where the terminal's master goes.
    pub(crate) console: Option<OwnedFd>,
    /// The host's procfs, checked.
    pub(crate) proc: OwnedFd,
    /// What this process's memory is made of; filled in by itself.
    pub(crate) pagemap: Option<File>,
    pub(crate) seccomp: Option<Program>,
    /// Descriptors below this number survive exec.
    pub(crate) first_closed: u32,
    /// The state that hooks get.
    pub(crate) state: Vec<u8>,
    /// Microseconds that each step took; `None` if nobody wants to know.
    pub(crate) times: Option<Vec<u32>>,
    /// Whether ids are those of a user namespace.
    pub(crate) in_user_namespace: bool,
}

/// What applying has come to so far.
struct Progress {
    /// The rootfs; after the change of root the root.
    root: Option<OwnedFd>,
    /// The path of the rootfs on the host.
    rootfs: PathBuf,
    /// Propagation that the root gets at the end, if pivoting needs another meanwhile.
    later: Option<(Propagation, bool)>,
    /// The program's path in the container.
    program: PathBuf,
    /// Whether the working directory was entered as root.
    entered: bool,
    /// The empty directory that covers masked ones.
    empty: Option<OwnedFd>,
}

impl Init<'_> {
    /// Applies the plan and becomes the program. Does not return.
    pub(crate) fn run(mut self, channel: Channel) -> ! {
        let mut progress = Progress {
            root: None,
            rootfs: PathBuf::new(),
            later: None,
            program: PathBuf::new(),
            entered: false,
            empty: None,
        };
        let mut channel = Some(channel);
        // Later there may be no right to look at oneself any more. It is for saving memory only.
        if matches!(self.starter, Starter::Fifo(_)) {
            let own = Path::new("thread-self/pagemap");
            let flags = nix::fcntl::OFlag::O_RDONLY.bits();
            self.pagemap = kernel::path::open_in(self.proc.as_fd(), own, flags, 0, Within::Root)
                .ok()
                .map(File::from);
        }
        if let Err(error) = kernel::process::cloexec_from(self.first_closed)
            .and_then(|()| kernel::process::dumpable(false))
        {
            report(channel.as_ref(), 0, error.into());
        }
        for (at, step) in self.steps.iter().enumerate() {
            let since = self.times.is_some().then(Instant::now);
            if let Err(error) = self.apply(step, &mut progress, &mut channel) {
                report(channel.as_ref(), at, error);
            }
            if let (Some(times), Some(since)) = (&mut self.times, since) {
                times.push(u32::try_from(since.elapsed().as_micros()).unwrap_or(u32::MAX));
            }
        }
        kernel::process::exit_now(1)
    }

    fn apply(
        &mut self,
        step: &Step,
        progress: &mut Progress,
        channel: &mut Option<Channel>,
    ) -> Applied {
        match step {
            Step::JoinCgroup
            | Step::JoinNamespace { .. }
            | Step::JoinContainer { .. }
            | Step::BecomeRoot
            | Step::Unshare { .. }
            | Step::NewSession
            | Step::Keyring { .. }
            | Step::LoopbackUp
            | Step::StandardNull
            | Step::HostName { .. }
            | Step::DomainName { .. }
            | Step::Sysctl { .. } => self.surroundings(step),
            Step::HostPropagation { .. }
            | Step::BindRootfs { .. }
            | Step::Mount { .. }
            | Step::MountCgroups { .. }
            | Step::MakeDevice { .. }
            | Step::Symlink { .. }
            | Step::MakeDirectory { .. }
            | Step::Mask { .. }
            | Step::ReadOnly { .. }
            | Step::ReadOnlyDev
            | Step::ReadOnlyRootfs
            | Step::PivotRoot
            | Step::MoveRoot
            | Step::ChangeRoot => self.rootfs(step, progress, channel.as_ref()),
            Step::Terminal {
                console,
                size,
                label,
            } => self.terminal(*console, *size, label.as_deref(), progress),
            Step::AwaitHooks => await_parent(channel.as_ref(), &FromInit::RunHooks),
            Step::AwaitDevices => await_parent(channel.as_ref(), &FromInit::MoveDevices),
            Step::CreateContainerHooks { hooks } => {
                if let Some(root) = &progress.root {
                    nix::unistd::fchdir(root)?;
                }
                self.hooks("createContainer", hooks, &[])
            }
            Step::StartContainerHooks { hooks } => self.hooks("startContainer", hooks, &self.env),
            Step::Umask { .. }
            | Step::Personality { .. }
            | Step::Scheduler { .. }
            | Step::IoPriority { .. }
            | Step::Rlimit(_)
            | Step::Affinity(_)
            | Step::ResetAffinity
            | Step::MemoryPolicy(_)
            | Step::NoNewPrivileges
            | Step::AppArmor { .. }
            | Step::SeLinux { .. }
            | Step::Identity(_) => self.credentials(step),
            Step::EnterDirectory { path } => {
                progress.entered = identity::enter(path)?;
                Ok(())
            }
            Step::WorkingDirectory { path } => identity::working_directory(path, progress.entered),
            Step::Landlock(policy) => landlock::restrict(policy),
            Step::Seccomp => self.load_filter(channel.as_ref()),
            Step::FindProgram => self.find_program(progress),
            Step::AwaitStart => self.await_start(channel),
            Step::Exec => Err(self.exec(progress)),
        }
    }

    /// What lies around the process: cgroup, namespaces, session, names.
    fn surroundings(&mut self, step: &Step) -> Applied {
        match step {
            Step::JoinCgroup => {
                for mut file in self.cgroup.drain(..) {
                    file.write_all(b"0")?;
                }
            }
            Step::JoinNamespace { kind, .. } => {
                if let Some((_, handle)) = self.namespaces.iter().find(|(k, _)| k == kind) {
                    kernel::process::setns(handle.as_fd(), *kind)?;
                }
            }
            Step::JoinContainer { kinds } => {
                if let Some(container) = self.container.take() {
                    // Pids were joined before the clone; joining users first would lose the right to the rest.
                    kernel::process::setns(container.as_fd(), *kinds)?;
                }
            }
            Step::BecomeRoot => {
                kernel::identity::set_group(0)?;
                kernel::identity::set_user(0)?;
                // The change of user made the process private to the host's root again.
                kernel::process::dumpable(false)?;
            }
            Step::Unshare { kinds } => kernel::process::unshare(*kinds)?,
            Step::NewSession => {
                nix::unistd::setsid()?;
            }
            Step::Keyring { name, label } => self.keyring(name, label.as_deref())?,
            Step::LoopbackUp => kernel::netdev::loopback_up()?,
            Step::StandardNull => devices::standard_null()?,
            Step::HostName { name } => nix::unistd::sethostname(name)?,
            Step::DomainName { name } => kernel::process::set_domain_name(name)?,
            Step::Sysctl { path, value } => {
                let path = Path::new("sys").join(path);
                kernel::path::write_proc(self.proc.as_fd(), &path, value)?;
            }
            _ => {}
        }
        Ok(())
    }

    /// Loads the seccomp filter, and where it asks an agent, lets the parent have the descriptor for that.
    fn load_filter(&self, channel: Option<&Channel>) -> Applied {
        let Some(program) = &self.seccomp else {
            return Ok(());
        };
        let listener = kernel::filter::load_seccomp(&program.bytes, program.flags)?;
        if let Some(listener) = listener {
            let channel = channel
                .ok_or(io::ErrorKind::NotConnected)
                .map_err(io::Error::from)?;
            channel.offer(listener.as_fd())?;
        }
        Ok(())
    }

    fn hooks(
        &self,
        kind: &str,
        hooks: &[oci_spec::runtime::Hook],
        inherited: &[String],
    ) -> Applied {
        crate::hooks::run_in(kind, hooks, &self.state, inherited)
            .map_err(|failure| StepError::words(failure.chain()))
    }

    fn terminal(
        &mut self,
        console: bool,
        size: Option<(u16, u16)>,
        label: Option<&str>,
        progress: &Progress,
    ) -> Applied {
        let root = match &progress.root {
            Some(root) => root.try_clone()?,
            None => kernel::path::open_dir(Path::new("/"))?,
        };
        let pty = kernel::pty::open_in(root.as_fd())?;
        if let Some((rows, columns)) = size {
            kernel::pty::set_size(pty.master.as_fd(), rows, columns)?;
        }
        if let Some(socket) = self.console.take() {
            kernel::scm::send(socket.as_fd(), b"/dev/ptmx", &[pty.master.as_fd()])?;
        }
        if let Some(label) = label {
            kernel::path::set_label(pty.slave.as_fd(), label)?;
        }
        if console {
            let place = console_place(root.as_fd())?;
            let tree = kernel::mount::open_tree(
                pty.slave.as_fd(),
                Path::new(""),
                kernel::mount::Tree::Clone { recursive: false },
            )?;
            kernel::mount::attach(tree.as_fd(), place.as_fd())?;
        }
        kernel::pty::make_controlling(pty.slave.as_fd())?;
        for number in 0..=2 {
            kernel::process::replace_stdio(pty.slave.as_fd(), number)?;
        }
        Ok(())
    }

    fn await_start(&mut self, channel: &mut Option<Channel>) -> Applied {
        let Some(open) = channel.take() else {
            return Ok(());
        };
        if let Some(times) = self.times.take() {
            open.tell(&FromInit::Times(times))?;
        }
        open.tell(&FromInit::Ready)?;
        match &self.starter {
            Starter::Fifo(fifo) => {
                drop(open);
                let unwritten = self.pagemap.take().map(|map| Unwritten::find(&map));
                // It may wait for long: a pipe or a log of the caller's that it kept open would never end.
                kernel::process::close_all_but(self.first_closed, fifo.as_fd())?;
                wait_to_start(fifo.as_fd(), &unwritten.unwrap_or_default())?;
            }
            Starter::Parent => {
                open.await_go_on()?;
                *channel = Some(open);
            }
        }
        Ok(())
    }

    fn exec(&self, progress: &Progress) -> StepError {
        let strings = |list: &[String]| {
            list.iter()
                .map(|s| CString::new(s.as_bytes()))
                .collect::<Result<Vec<_>, _>>()
        };
        let path = CString::new(progress.program.as_os_str().as_encoded_bytes());
        let (Ok(path), Ok(args), Ok(env)) = (path, strings(self.args), strings(&self.env)) else {
            return StepError::words("an argument or a variable holds a NUL byte".to_owned());
        };
        if let Err(error) = kernel::signals::reset() {
            return error.into();
        }
        match nix::unistd::execve(&path, &args, &env) {
            Ok(never) => match never {},
            Err(errno) => program::after_exec(&progress.program, errno, &self.args[0]),
        }
    }
}

/// Waits for the byte from `start`. Meanwhile a signal ends this process as it would any other.
fn wait_to_start(fifo: BorrowedFd<'_>, unwritten: &Unwritten) -> Applied {
    // The container's filter may forbid this; the signals are then as the kernel has them.
    let _as_they_are = kernel::signals::end_on(&[
        Signal::SIGHUP,
        Signal::SIGINT,
        Signal::SIGQUIT,
        Signal::SIGTERM,
    ]);
    match kernel::memory::read_byte_in_little_memory(fifo, unwritten)? {
        Some(_) => Ok(()),
        None => Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
    }
}

/// Has the parent do what only it can, and waits until it has.
fn await_parent(channel: Option<&Channel>, wish: &FromInit) -> Applied {
    let channel = channel
        .ok_or(io::ErrorKind::NotConnected)
        .map_err(io::Error::from)?;
    channel.tell(wish)?;
    Ok(channel.await_go_on()?)
}

/// Where the terminal is bound for the container's programs to find. A link of the image there could lead it anywhere in the
/// container, over a file of procfs for one (CVE-2025-52565).
fn console_place(root: std::os::fd::BorrowedFd<'_>) -> Result<OwnedFd, StepError> {
    let name = Path::new("dev/console");
    let flags = (nix::fcntl::OFlag::O_PATH | nix::fcntl::OFlag::O_NOFOLLOW).bits();
    let place = match kernel::path::open_in(root, name, flags, 0, Within::Root) {
        Err(e) if e.raw_os_error() == Some(nix::errno::Errno::ENOENT as i32) => {
            kernel::path::make_file_in(root, name, 0o600)?;
            kernel::path::open_in(root, name, flags, 0, Within::Root)?
        }
        other => other?,
    };
    let kind = nix::sys::stat::fstat(&place)?.st_mode & nix::sys::stat::SFlag::S_IFMT.bits();
    let ordinary = [
        nix::sys::stat::SFlag::S_IFREG,
        nix::sys::stat::SFlag::S_IFCHR,
    ];
    if ordinary.iter().any(|wanted| wanted.bits() == kind) {
        Ok(place)
    } else {
        Err(StepError::words(
            "/dev/console of the image is neither a file nor a device".to_owned(),
        ))
    }
}

/// Tells the parent, if there still is one to hear it, and ends.
fn report(channel: Option<&Channel>, at: usize, error: StepError) -> ! {
    if let Some(channel) = channel {
        let step = u32::try_from(at).unwrap_or(u32::MAX);
        let StepError {
            errno,
            fault,
            subject,
        } = error;
        // With the parent gone there is nobody to tell.
        let _gone = channel.tell(&FromInit::Failed {
            step,
            errno,
            fault,
            subject,
        });
    }
    kernel::process::exit_now(1)
}
