//! A daemon's half of the shim interface, with a bundle and a real runtime:
//! starts the real binary, calls it over ttrpc, collects its events.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use prost::Message;
use prost_types::Any;
use proto::containerd::runc::v1::Options;
use proto::containerd::services::events::ttrpc::v1::ForwardRequest;
use proto::containerd::task::v2::*;
use proto::containerd::types::Envelope;
use serde_json::{Value, json};
use tokio::net::UnixListener;
use ttrpc_wire::{CallError, Client, Code, Status, serve_send};

pub(crate) const SHIM: &str = env!("CARGO_BIN_EXE_containerd-shim-runc-rs-v2");
const TASK: &str = "containerd.task.v2.Task";
const PATIENCE: Duration = Duration::from_secs(20);

/// Everything of one test, in a directory of its own; gone when dropped.
pub(crate) struct Lab {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) runtime: String,
    pub(crate) events: Arc<Mutex<Vec<Envelope>>>,
    clients: RefCell<HashMap<String, Client>>,
    serial: AtomicU32,
}

/// Runs `test` in a lab, and fails when it hangs. The runtime is Debian's
/// runc, or the one that `SHIM_TEST_RUNTIME` names.
pub(crate) fn in_lab(test: impl AsyncFnOnce(&Lab)) {
    in_lab_for(Duration::from_secs(120), test);
}

/// The same for a test that may take longer.
pub(crate) fn in_lab_for(patience: Duration, test: impl AsyncFnOnce(&Lab)) {
    let runtime =
        std::env::var("SHIM_TEST_RUNTIME").unwrap_or_else(|_| "/usr/sbin/runc".to_owned());
    let lab = Lab {
        dir: tempfile::Builder::new().prefix("shim-").tempdir().unwrap(),
        runtime,
        events: Arc::default(),
        clients: RefCell::default(),
        serial: AtomicU32::new(0),
    };
    fs::create_dir(lab.dir.path().join("bundles")).unwrap();
    let executor = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    executor.block_on(async {
        lab.listen_for_events();
        tokio::time::timeout(patience, test(&lab))
            .await
            .expect("the test hangs");
    });
    drop(executor);
}

impl Lab {
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn bundle(&self, id: &str) -> PathBuf {
        self.dir.path().join("bundles").join(id)
    }

    fn listen_for_events(&self) {
        self.listen_for_events_at(&self.path("d.sock.ttrpc"));
    }

    pub(crate) fn listen_for_events_at(&self, path: &Path) {
        let listener = UnixListener::bind(path).unwrap();
        let events = Arc::clone(&self.events);
        tokio::spawn(serve_send(listener, move |request| {
            let events = Arc::clone(&events);
            async move {
                let request = ForwardRequest::decode(request.payload.as_slice())
                    .map_err(|err| Status::new(Code::InvalidArgument, err.to_string()))?;
                events.lock().unwrap().push(request.envelope.unwrap());
                Ok(Vec::new())
            }
        }));
    }

    /// Makes a bundle that runs `args`; `change` edits its spec.
    pub(crate) fn make_bundle(&self, id: &str, args: &[&str], change: impl FnOnce(&mut Value)) {
        let bundle = self.bundle(id);
        let rootfs = bundle.join("rootfs");
        for dir in ["bin", "proc", "dev", "sys", "tmp"] {
            fs::create_dir_all(rootfs.join(dir)).unwrap();
        }
        fs::copy("/usr/bin/busybox", rootfs.join("bin/busybox")).unwrap();
        fs::set_permissions(
            rootfs.join("bin/busybox"),
            fs::Permissions::from_mode(0o755),
        )
        .unwrap();
        for applet in [
            "sh", "true", "false", "cat", "sleep", "echo", "stty", "dd", "yes", "head", "kill",
        ] {
            std::os::unix::fs::symlink("busybox", rootfs.join("bin").join(applet)).unwrap();
        }
        let name = self.dir.path().file_name().unwrap().to_str().unwrap();
        let mut spec = json!({
            "ociVersion": "1.0.2",
            "process": {"terminal": false, "user": {"uid": 0, "gid": 0}, "args": args, "env": ["PATH=/bin"], "cwd": "/"},
            "root": {"path": "rootfs"},
            "mounts": [
                {"destination": "/proc", "type": "proc", "source": "proc"},
                {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"]},
                {"destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666"]},
            ],
            "linux": {
                "cgroupsPath": format!("/{name}/{id}"),
                "namespaces": [{"type": "pid"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"}, {"type": "network"}],
            },
        });
        change(&mut spec);
        fs::write(bundle.join("config.json"), spec.to_string()).unwrap();
    }

    /// Calls the shim binary as containerd does.
    pub(crate) fn shim(&self, id: &str, action: &str) -> Output {
        self.shim_given(id, action, &[], &[])
    }

    /// Calls the shim binary with something on its standard input and in its
    /// environment.
    pub(crate) fn shim_given(
        &self,
        id: &str,
        action: &str,
        input: &[u8],
        env: &[(&str, &str)],
    ) -> Output {
        let daemon = self.path("d.sock");
        let mut command = Command::new(SHIM);
        command.args([
            "-namespace",
            "test",
            "-address",
            daemon.to_str().unwrap(),
            "-publish-binary",
            "/bin/false",
            "-id",
            id,
        ]);
        let mut child = command
            .arg(action)
            .current_dir(self.bundle(id))
            .env_remove("MAX_SHIM_VERSION")
            .env("PATH", path())
            .env("TTRPC_ADDRESS", self.path("d.sock.ttrpc"))
            .envs(env.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // A shim that does not read its input has closed it.
        let _ = child.stdin.take().unwrap().write_all(input);
        child.wait_with_output().unwrap()
    }

    /// Starts the shim and connects to it.
    pub(crate) async fn start_shim(&self, id: &str) {
        let started = self.shim(id, "start");
        assert!(started.status.success(), "{started:?}");
        let address = String::from_utf8(started.stdout).unwrap();
        self.connect(id, &address).await;
    }

    /// Connects to the shim of `id` at the address that it printed.
    pub(crate) async fn connect(&self, id: &str, address: &str) {
        assert_eq!(
            fs::read_to_string(self.bundle(id).join("address")).unwrap(),
            address
        );
        let path = Path::new(address.strip_prefix("unix://").unwrap()).to_owned();
        let meta = fs::metadata(&path).unwrap();
        assert!(
            meta.file_type().is_socket() && meta.permissions().mode() & 0o777 == 0o600,
            "{meta:?}"
        );
        let client = Client::connect(&path).await.unwrap();
        self.clients.borrow_mut().insert(id.to_owned(), client);
    }

    /// Lets the container `id` live in the shim of `other`.
    pub(crate) fn share_client(&self, other: &str, id: &str) {
        let client = self.client(other);
        self.clients.borrow_mut().insert(id.to_owned(), client);
    }

    pub(crate) fn client(&self, id: &str) -> Client {
        self.clients.borrow()[id].clone()
    }

    pub(crate) async fn call<Req: Message, Resp: Message + Default>(
        &self,
        id: &str,
        method: &str,
        request: Req,
    ) -> Result<Resp, Status> {
        match self
            .client(id)
            .call(TASK, method, &request, Some(PATIENCE), &[])
            .await
        {
            Ok(response) => Ok(response),
            Err(CallError::Status(status)) => Err(status),
            Err(err) => panic!("{method}: {err}"),
        }
    }

    pub(crate) fn options(&self) -> Option<Any> {
        let root = self.path("runc").to_str().unwrap().to_owned();
        let options = Options {
            binary_name: self.runtime.clone(),
            root,
            ..Options::default()
        };
        Some(Any {
            type_url: "containerd.runc.v1.Options".into(),
            value: options.encode_to_vec(),
        })
    }

    /// A create request without stdio.
    pub(crate) fn request(&self, id: &str) -> CreateTaskRequest {
        let bundle = self.bundle(id).to_str().unwrap().to_owned();
        CreateTaskRequest {
            id: id.into(),
            bundle,
            options: self.options(),
            ..Default::default()
        }
    }

    pub(crate) async fn create(&self, request: CreateTaskRequest) -> Result<u32, Status> {
        let id = request.id.clone();
        self.call::<_, CreateTaskResponse>(&id, "Create", request)
            .await
            .map(|r| r.pid)
    }

    /// Makes the bundle, starts the shim, creates and starts the container.
    pub(crate) async fn run(&self, id: &str, args: &[&str]) -> u32 {
        self.make_bundle(id, args, |_| ());
        self.start_shim(id).await;
        let pid = self.create(self.request(id)).await.unwrap();
        self.start(id, "").await.unwrap();
        pid
    }

    pub(crate) async fn start(&self, id: &str, exec: &str) -> Result<u32, Status> {
        let request = StartRequest {
            id: id.into(),
            exec_id: exec.into(),
        };
        self.call::<_, StartResponse>(id, "Start", request)
            .await
            .map(|r| r.pid)
    }

    /// Waits until `pid` runs `program`. A runtime's start returns once it has
    /// let init go, so for a moment init may still be the runtime's own
    /// program, whose threads count as the container's.
    pub(crate) async fn wait_until_it_runs(&self, pid: u32, program: &str) {
        let comm = format!("/proc/{pid}/comm");
        while fs::read_to_string(&comm).unwrap().trim_end() != program {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    pub(crate) async fn wait(&self, id: &str, exec: &str) -> u32 {
        let request = WaitRequest {
            id: id.into(),
            exec_id: exec.into(),
        };
        let response: WaitResponse = self.call(id, "Wait", request).await.unwrap();
        assert!(response.exited_at.is_some());
        response.exit_status
    }

    pub(crate) async fn state(&self, id: &str, exec: &str) -> Result<StateResponse, Status> {
        self.call(
            id,
            "State",
            StateRequest {
                id: id.into(),
                exec_id: exec.into(),
            },
        )
        .await
    }

    pub(crate) async fn delete(&self, id: &str, exec: &str) -> Result<DeleteResponse, Status> {
        self.call(
            id,
            "Delete",
            DeleteRequest {
                id: id.into(),
                exec_id: exec.into(),
            },
        )
        .await
    }

    pub(crate) async fn kill(&self, id: &str, exec: &str, signal: u32) -> Result<(), Status> {
        self.call(
            id,
            "Kill",
            KillRequest {
                id: id.into(),
                exec_id: exec.into(),
                signal,
                all: false,
            },
        )
        .await
    }

    /// Adds an exec of `args`; `change` edits the request.
    pub(crate) async fn exec(
        &self,
        id: &str,
        exec: &str,
        args: &[&str],
        change: impl FnOnce(&mut ExecProcessRequest),
    ) -> Result<(), Status> {
        let spec =
            json!({"args": args, "env": ["PATH=/bin"], "cwd": "/", "user": {"uid": 0, "gid": 0}});
        let spec = Any {
            type_url: "types.containerd.io/opencontainers/runtime-spec/1/Process".into(),
            value: spec.to_string().into_bytes(),
        };
        let mut request = ExecProcessRequest {
            id: id.into(),
            exec_id: exec.into(),
            spec: Some(spec),
            ..Default::default()
        };
        change(&mut request);
        self.call(id, "Exec", request).await
    }

    /// The pid of the shim that was started for `id`.
    pub(crate) fn shim_pid(&self, id: &str) -> i32 {
        let text = fs::read_to_string(self.bundle(id).join("shim.pid")).unwrap();
        text.parse().unwrap()
    }

    /// Terminates a shim without containers, and waits until it is gone.
    pub(crate) async fn end_shim(&self, id: &str) {
        let pid = nix::unistd::Pid::from_raw(self.shim_pid(id));
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
        while nix::sys::signal::kill(pid, None).is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Shuts the shim down, and waits until it is gone.
    pub(crate) async fn shut_down(&self, id: &str) {
        let client = self.client(id);
        let request = ShutdownRequest {
            id: id.into(),
            now: false,
        };
        let _: () = client
            .call(TASK, "Shutdown", &request, Some(PATIENCE), &[])
            .await
            .unwrap();
        tokio::time::timeout(PATIENCE, client.closed())
            .await
            .expect("the shim does not end");
    }

    /// A new fifo.
    pub(crate) fn fifo(&self) -> PathBuf {
        let path = self.path(&format!(
            "fifo-{}",
            self.serial.fetch_add(1, Ordering::Relaxed)
        ));
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        path
    }

    /// Topics so far, with the id of an exit's process.
    pub(crate) fn topics(&self) -> Vec<String> {
        self.events
            .lock()
            .unwrap()
            .iter()
            .map(|event| event.topic.clone())
            .collect()
    }

    /// Waits until `count` events have come.
    pub(crate) async fn wait_for_events(&self, count: usize) {
        while self.events.lock().unwrap().len() < count {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for entry in fs::read_dir(self.path("bundles")).unwrap().flatten() {
            let id = entry.file_name().into_string().unwrap();
            if let Ok(pid) = fs::read_to_string(entry.path().join("shim.pid")) {
                let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
                // Its own shim, not a process that has the number by now.
                if String::from_utf8_lossy(&command).contains(self.dir.path().to_str().unwrap()) {
                    let _ = nix::sys::signal::kill(
                        nix::unistd::Pid::from_raw(pid.parse().unwrap()),
                        nix::sys::signal::Signal::SIGKILL,
                    );
                }
            }
            self.shim(&id, "delete");
        }
        remove_cgroups(self.dir.path().file_name().unwrap().to_str().unwrap());
    }
}

/// The PATH with the criu that the tests' set-up may have unpacked.
pub(crate) fn path() -> String {
    let programs = Path::new(SHIM).parent().unwrap();
    let unpacked = programs.join("../../tools/criu");
    format!("{}:{}", unpacked.display(), std::env::var("PATH").unwrap())
}

/// Whether CRIU works here. Where it does not, that must be a known gap.
pub(crate) fn criu_works() -> bool {
    let checked = Command::new("criu")
        .arg("check")
        .env("PATH", path())
        .output();
    if checked.is_ok_and(|check| check.status.success()) {
        return true;
    }
    let gaps = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/known-gaps.txt");
    let known = fs::read_to_string(gaps).unwrap();
    let listed = known.lines().any(|line| line.starts_with("Criu "));
    assert!(listed, "criu does not work here, and Criu is not in {gaps}");
    if let Some(path) = std::env::var_os("TESTS_SKIPPED") {
        let mut file = fs::OpenOptions::new()
            .append(true)
            .create(true)
            .open(path)
            .unwrap();
        writeln!(
            file,
            "Criu: {}",
            std::thread::current().name().unwrap_or("a test")
        )
        .unwrap();
    }
    false
}

/// Removes the empty cgroups that the runtime made for this lab.
pub(crate) fn remove_cgroups(name: &str) {
    for hierarchy in fs::read_dir("/sys/fs/cgroup").unwrap().flatten() {
        let _ = fs::remove_dir(hierarchy.path().join(name));
    }
    let _ = fs::remove_dir(Path::new("/sys/fs/cgroup").join(name));
}

/// Reads a fifo to its end.
pub(crate) async fn read_all(path: &Path) -> String {
    use tokio::io::AsyncReadExt;
    let mut fifo = tokio::net::unix::pipe::OpenOptions::new()
        .open_receiver(path)
        .unwrap();
    // Without a writer yet, a read would be the end.
    let mut text = Vec::new();
    loop {
        let n = fifo.read_to_end(&mut text).await.unwrap();
        if n > 0 {
            return String::from_utf8(text).unwrap();
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
