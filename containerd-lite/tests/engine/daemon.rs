//! A daemon of a test's own: directories, socket and parent cgroup.

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use hyper_util::rt::TokioIo;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use proto::engine::v1 as wire;
use proto::engine::v1::engine_client::EngineClient;
use tonic::transport::{Channel, Endpoint};

use crate::archive;

static NUMBER: AtomicU32 = AtomicU32::new(0);

/// The running daemon. Dropped, it and everything it started is gone.
pub(crate) struct Daemon {
    dir: tempfile::TempDir,
    cgroup_parent: String,
    child: Child,
}

impl Daemon {
    /// Starts a daemon that has the image `busybox:latest`.
    pub(crate) async fn with_busybox() -> (Self, EngineClient<Channel>) {
        let daemon = Self::start();
        let mut client = daemon.client().await;
        let chunks: Vec<_> = archive::busybox()
            .chunks(64 << 10)
            .map(|chunk| wire::LoadImagesRequest {
                chunk: chunk.to_vec().into(),
            })
            .collect();
        let loaded = client
            .load_images(tokio_stream::iter(chunks))
            .await
            .unwrap()
            .into_inner()
            .loaded;
        assert_eq!(loaded, ["docker.io/library/busybox:latest"]);
        (daemon, client)
    }

    fn start() -> Self {
        let beside = Path::new(env!("CARGO_BIN_EXE_containerd-lite"))
            .parent()
            .unwrap();
        for binary in ["containerd-shim-runc-rs-v2", "runc-rs"] {
            let path = beside.join(binary);
            assert!(
                path.exists(),
                "{} is missing: cargo build -p shim -p runc-rs",
                path.display()
            );
        }
        let dir = tempfile::Builder::new()
            .prefix("engine")
            .tempdir_in("/tmp")
            .unwrap();
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let cgroup_parent = format!("engine-test-{}-{number}", std::process::id());
        let child = spawn(dir.path(), &cgroup_parent);
        Self {
            dir,
            cgroup_parent,
            child,
        }
    }

    /// Kills the daemon at once and waits until it is gone.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts it again over the same directories.
    pub(crate) async fn restart(&mut self) -> EngineClient<Channel> {
        self.child = spawn(self.dir.path(), &self.cgroup_parent);
        self.client().await
    }

    /// The daemon's durable state.
    pub(crate) fn root(&self) -> PathBuf {
        self.dir.path().join("root")
    }

    /// Everything of this daemon's: its sockets and bundles are in `state`.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Its parent cgroup's name. What runs outside it is not swept up.
    pub(crate) fn cgroup_parent(&self) -> &str {
        &self.cgroup_parent
    }

    async fn client(&self) -> EngineClient<Channel> {
        let socket = self.dir.path().join("state/containerd-lite.sock");
        let patience = Instant::now() + Duration::from_secs(20);
        while UnixStream::connect(&socket).is_err() {
            assert!(
                Instant::now() < patience,
                "the daemon does not answer:\n{}",
                self.log()
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let connector = tower::service_fn(move |_| {
            let socket = socket.clone();
            async move {
                tokio::net::UnixStream::connect(socket)
                    .await
                    .map(TokioIo::new)
            }
        });
        let endpoint = Endpoint::from_static("http://daemon");
        EngineClient::new(endpoint.connect_with_connector(connector).await.unwrap())
    }

    fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    /// Processes that have this daemon's directory on their command line: its
    /// shims.
    fn shims(&self) -> Vec<Pid> {
        let dir = self.dir.path().as_os_str().as_encoded_bytes().to_vec();
        let processes = fs::read_dir("/proc").unwrap().filter_map(|entry| {
            let pid: i32 = entry.ok()?.file_name().to_str()?.parse().ok()?;
            let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
            line.windows(dir.len())
                .any(|window| window == dir)
                .then(|| Pid::from_raw(pid))
        });
        processes.collect()
    }
}

fn spawn(dir: &Path, cgroup_parent: &str) -> Child {
    let log = fs::File::options()
        .create(true)
        .append(true)
        .open(dir.join("log"))
        .unwrap();
    // In a network of its own: links and rules that it makes are nobody else's.
    Command::new("unshare")
        .arg("--net")
        .arg(env!("CARGO_BIN_EXE_containerd-lite"))
        .arg("--root")
        .arg(dir.join("root"))
        .arg("--state")
        .arg(dir.join("state"))
        .args(["--cgroup-parent", cgroup_parent, "--log-level", "info"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .unwrap()
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- the daemon's log\n{}", self.log());
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        // Containers die with their pid namespace's init.
        for pid in container_pids(&self.cgroup_parent)
            .into_iter()
            .chain(self.shims())
        {
            let _ = kill(pid, Signal::SIGKILL);
        }
        unmount_below(self.dir.path());
        remove_cgroups(&self.cgroup_parent);
    }
}

/// The directories called `parent` in every cgroup hierarchy.
fn cgroups(parent: &str) -> Vec<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let of_cgroups = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ');
        let place = fields.nth(1)?;
        fields
            .next()?
            .starts_with("cgroup")
            .then(|| Path::new(place).join(parent))
    });
    of_cgroups.filter(|path| path.is_dir()).collect()
}

fn container_pids(parent: &str) -> Vec<Pid> {
    let mut pids = Vec::new();
    for dir in cgroups(parent)
        .iter()
        .filter_map(|dir| fs::read_dir(dir).ok())
        .flatten()
        .flatten()
    {
        let text = fs::read_to_string(dir.path().join("cgroup.procs")).unwrap_or_default();
        pids.extend(
            text.lines()
                .filter_map(|line| line.parse().ok())
                .map(Pid::from_raw),
        );
    }
    pids
}

/// Removes the cgroups once the killed processes have left them.
fn remove_cgroups(parent: &str) {
    let patience = Instant::now() + Duration::from_secs(5);
    while !cgroups(parent).is_empty() && Instant::now() < patience {
        for dir in cgroups(parent) {
            for child in fs::read_dir(&dir).into_iter().flatten().flatten() {
                let _ = fs::remove_dir(child.path());
            }
            let _ = fs::remove_dir(dir);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn unmount_below(dir: &Path) {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let places = mounts
        .lines()
        .filter_map(|line| line.split(' ').nth(1))
        .map(Path::new);
    for place in places
        .filter(|place| place.starts_with(dir))
        .collect::<Vec<_>>()
        .into_iter()
        .rev()
    {
        let _ = nix::mount::umount2(place, nix::mount::MntFlags::MNT_DETACH);
    }
}
