//! Tasks on both shims, Debian's and ours, in the cases that hurt: the shim
//! dies, the daemon dies, the creation fails. Driven by `ctr`.

use std::fs;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use hyper_util::rt::TokioIo;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use prost::Message as _;
use proto::containerd::events::{TaskDelete, TaskExit};
use proto::containerd::services::events::v1 as events;
use proto::containerd::services::events::v1::events_client::EventsClient;
use proto::containerd::types::Envelope;
use tonic::transport::{Channel, Endpoint};

use crate::daemon::Daemon;

const THEIRS: &str = "io.containerd.runc.v2";
const OURS: &str = "io.containerd.runc-rs.v2";
const IMAGE: &str = "docker.io/library/busybox:latest";

fn socket(daemon: &Daemon) -> PathBuf {
    daemon.dir().join("state/containerd-lite.sock")
}

fn ctr(daemon: &Daemon, args: &[&str]) -> Output {
    let output = Command::new("ctr")
        .arg("-a")
        .arg(socket(daemon))
        .args(args)
        .stdin(Stdio::null())
        .output();
    output.expect("ctr, from the package containerd")
}

/// What a `ctr` that must succeed prints.
#[track_caller]
fn ctr_ok(daemon: &Daemon, args: &[&str]) -> String {
    let output = ctr(daemon, args);
    assert!(
        output.status.success(),
        "ctr {args:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

/// `ctr run` with everything in the test's own directory and cgroup.
fn run(daemon: &Daemon, runtime: &str, options: &[&str], id: &str, command: &[&str]) -> Output {
    let cgroup = format!("/{}/{id}", daemon.cgroup_parent());
    let path = |name: &str| daemon.dir().join(name).display().to_string();
    let (fifos, root) = (path("fifo"), path("runc"));
    let fixed = [
        "run",
        "--runtime",
        runtime,
        "--runc-root",
        &root,
        "--cgroup",
        &cgroup,
        "--fifo-dir",
        &fifos,
    ];
    ctr(daemon, &[&fixed, options, &[IMAGE, id], command].concat())
}

#[track_caller]
fn run_detached(daemon: &Daemon, runtime: &str, id: &str, script: &str) {
    let output = run(daemon, runtime, &["-d"], id, &["sh", "-c", script]);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// The shims of this daemon's container `id`.
fn shims(daemon: &Daemon, id: &str) -> Vec<Pid> {
    let socket = socket(daemon).display().to_string();
    let processes = fs::read_dir("/proc").unwrap().filter_map(|entry| {
        let pid: i32 = entry.ok()?.file_name().to_str()?.parse().ok()?;
        let line = fs::read_to_string(format!("/proc/{pid}/cmdline")).ok()?;
        let args: Vec<&str> = line.split('\0').collect();
        let is_one = args[0].contains("containerd-shim-") && args.contains(&socket.as_str());
        (is_one && args.windows(2).any(|pair| pair == ["-id", id])).then(|| Pid::from_raw(pid))
    });
    processes.collect()
}

/// Kills the shim and returns the socket it listened on, outside the bundle.
fn kill_shim(daemon: &Daemon, id: &str) -> PathBuf {
    let shims = shims(daemon, id);
    assert_eq!(shims.len(), 1, "shims of {id}");
    let bundle = daemon.dir().join("state/tasks/default").join(id);
    let address = fs::read_to_string(bundle.join("address")).unwrap();
    let socket = PathBuf::from(address.trim().strip_prefix("unix://").unwrap());
    assert!(socket.exists(), "{}", socket.display());
    kill(shims[0], Signal::SIGKILL).unwrap();
    socket
}

fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let patience = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < patience, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Neither bundle nor shim nor mount nor process of container `id`.
#[track_caller]
fn leaves_nothing(daemon: &Daemon, id: &str) {
    let bundle = daemon.dir().join("state/tasks/default").join(id);
    assert!(!bundle.exists(), "{} is left", bundle.display());
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    assert!(!mounts.contains(&bundle.display().to_string()), "{mounts}");
    eventually("the shim's end", || shims(daemon, id).is_empty());
}

/// The line of `ctr tasks ls` about `id`, as pid and status.
fn task(daemon: &Daemon, id: &str) -> Option<(String, String)> {
    let list = ctr_ok(daemon, &["tasks", "ls"]);
    list.lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .find_map(|words| match words[..] {
            [name, pid, status] if name == id => Some((pid.to_owned(), status.to_owned())),
            _ => None,
        })
}

async fn events_client(daemon: &Daemon) -> EventsClient<Channel> {
    let socket = socket(daemon);
    let connector = tower::service_fn(move |_| {
        let socket = socket.clone();
        async move {
            tokio::net::UnixStream::connect(socket)
                .await
                .map(TokioIo::new)
        }
    });
    EventsClient::new(
        Endpoint::from_static("http://daemon")
            .connect_with_connector(connector)
            .await
            .unwrap(),
    )
}

/// Everything published from now until the marker that `finish` sends.
struct Heard {
    client: EventsClient<Channel>,
    stream: tonic::Streaming<Envelope>,
}

impl Heard {
    async fn listen(daemon: &Daemon) -> Self {
        let mut client = events_client(daemon).await;
        let stream = client
            .subscribe(events::SubscribeRequest {
                filters: Vec::new(),
            })
            .await
            .unwrap()
            .into_inner();
        Self { client, stream }
    }

    /// The messages of type `T` under `topic`, once nothing more can come
    /// before a marker published now.
    async fn until_now(mut self) -> Vec<Envelope> {
        let mut marker = tonic::Request::new(events::PublishRequest {
            topic: "/test/marker".to_owned(),
            event: Some(prost_types::Any::default()),
        });
        marker
            .metadata_mut()
            .insert("containerd-namespace", "default".parse().unwrap());
        self.client.publish(marker).await.unwrap();
        let mut heard = Vec::new();
        while let Some(envelope) = self.stream.message().await.unwrap() {
            if envelope.topic == "/test/marker" {
                break;
            }
            heard.push(envelope);
        }
        heard
    }
}

fn decoded<T: prost::Message + Default>(heard: &[Envelope], topic: &str) -> Vec<T> {
    let of_topic = heard.iter().filter(|envelope| envelope.topic == topic);
    of_topic
        .map(|envelope| T::decode(envelope.event.as_ref().unwrap().value.as_slice()).unwrap())
        .collect()
}

async fn dead_shim(runtime: &str) {
    let (daemon, _engine) = Daemon::with_busybox().await;
    let heard = Heard::listen(&daemon).await;
    run_detached(&daemon, runtime, "c", "sleep 1000");
    let (pid, status) = task(&daemon, "c").unwrap();
    assert_eq!(status, "RUNNING");
    let shims_socket = kill_shim(&daemon, "c");
    eventually("the task to go", || task(&daemon, "c").is_none());
    eventually("init's end", || {
        !fs::exists(format!("/proc/{pid}")).unwrap()
    });
    leaves_nothing(&daemon, "c");
    assert!(!shims_socket.exists(), "{} is left", shims_socket.display());

    let heard = heard.until_now().await;
    let exits: Vec<TaskExit> = decoded(&heard, "/tasks/exit");
    let ends: Vec<(&str, &str, u32)> = exits
        .iter()
        .map(|exit| {
            (
                exit.container_id.as_str(),
                exit.id.as_str(),
                exit.exit_status,
            )
        })
        .collect();
    assert_eq!(ends, [("c", "c", 137)]);
    let deletes: Vec<TaskDelete> = decoded(&heard, "/tasks/delete");
    assert_eq!(deletes.len(), 1, "{deletes:?}");
    assert_eq!(deletes[0].pid.to_string(), pid);

    // The name is free again.
    ctr_ok(&daemon, &["containers", "rm", "c"]);
    assert_eq!(
        run(&daemon, runtime, &["--rm"], "c", &["sh", "-c", "exit 3"])
            .status
            .code(),
        Some(3)
    );
}

#[tokio::test]
async fn a_task_whose_shim_dies_is_killed_and_announced_once() {
    dead_shim(OURS).await;
}

#[tokio::test]
async fn a_task_whose_shim_dies_is_killed_and_announced_once_on_debians_shim() {
    dead_shim(THEIRS).await;
}

async fn orderly_end(runtime: &str) {
    let (daemon, _engine) = Daemon::with_busybox().await;
    let heard = Heard::listen(&daemon).await;
    assert_eq!(
        run(&daemon, runtime, &["--rm"], "c", &["sh", "-c", "exit 7"])
            .status
            .code(),
        Some(7)
    );
    leaves_nothing(&daemon, "c");
    let heard = heard.until_now().await;
    let topics: Vec<&str> = heard
        .iter()
        .map(|envelope| envelope.topic.as_str())
        .filter(|topic| topic.starts_with("/tasks/"))
        .collect();
    assert_eq!(
        topics,
        [
            "/tasks/create",
            "/tasks/start",
            "/tasks/exit",
            "/tasks/delete"
        ]
    );
    let exits: Vec<TaskExit> = decoded(&heard, "/tasks/exit");
    assert_eq!(exits[0].exit_status, 7);
}

#[tokio::test]
async fn a_tasks_life_is_told_once_and_in_order() {
    orderly_end(OURS).await;
}

#[tokio::test]
async fn a_tasks_life_is_told_once_and_in_order_by_debians_shim() {
    orderly_end(THEIRS).await;
}

async fn restart(runtime: &str) {
    let (mut daemon, _engine) = Daemon::with_busybox().await;
    run_detached(&daemon, runtime, "stays", "sleep 1000");
    run_detached(
        &daemon,
        runtime,
        "ends",
        "while [ ! -e /tmp/go ]; do sleep 0.1; done; exit 42",
    );
    run_detached(&daemon, runtime, "lost", "sleep 1000");
    let (pid, _) = task(&daemon, "stays").unwrap();
    let (ends, _) = task(&daemon, "ends").unwrap();
    daemon.kill();
    fs::write(format!("/proc/{ends}/root/tmp/go"), "").unwrap();
    eventually("the exit", || !fs::exists(format!("/proc/{ends}")).unwrap());
    let lost_socket = kill_shim(&daemon, "lost");
    let _engine = daemon.restart().await;

    assert_eq!(task(&daemon, "stays"), Some((pid, "RUNNING".to_owned())));
    assert_eq!(task(&daemon, "ends").unwrap().1, "STOPPED");
    assert_eq!(task(&daemon, "lost"), None);
    leaves_nothing(&daemon, "lost");
    assert!(!lost_socket.exists(), "{} is left", lost_socket.display());
    let fifos = daemon.dir().join("fifo").display().to_string();
    let exec = [
        "tasks",
        "exec",
        "--fifo-dir",
        &fifos,
        "--exec-id",
        "e",
        "stays",
        "sh",
        "-c",
        "echo inside; exit 5",
    ];
    let said = ctr(&daemon, &exec);
    assert_eq!(
        (
            String::from_utf8(said.stdout).unwrap().as_str(),
            said.status.code()
        ),
        ("inside\n", Some(5))
    );
    let removed = ctr(&daemon, &["tasks", "rm", "ends"]);
    let words = String::from_utf8(removed.stderr).unwrap();
    assert!(words.contains("exit code 42"), "{words}");
    ctr_ok(&daemon, &["tasks", "rm", "-f", "stays"]);
    leaves_nothing(&daemon, "stays");
}

#[tokio::test]
async fn killed_and_restarted_the_daemon_knows_what_became_of_each_task() {
    restart(OURS).await;
}

#[tokio::test]
async fn killed_and_restarted_the_daemon_knows_what_became_of_each_task_of_debians_shim() {
    restart(THEIRS).await;
}

async fn failed_creation(runtime: &str) {
    let (daemon, _engine) = Daemon::with_busybox().await;
    let output = run(&daemon, runtime, &["--rm"], "c", &["/bin/absent"]);
    let words = String::from_utf8(output.stderr).unwrap();
    assert!(
        !output.status.success() && words.contains("no such file or directory"),
        "{words}"
    );
    leaves_nothing(&daemon, "c");
    assert_eq!(
        run(&daemon, runtime, &["--rm"], "c", &["true"])
            .status
            .code(),
        Some(0)
    );
}

#[tokio::test]
async fn a_failed_creation_leaves_nothing() {
    failed_creation(OURS).await;
}

#[tokio::test]
async fn a_failed_creation_leaves_nothing_of_debians_shim() {
    failed_creation(THEIRS).await;
}

#[tokio::test]
async fn an_unknown_runtime_is_named_and_leaves_nothing() {
    let (daemon, _engine) = Daemon::with_busybox().await;
    let output = run(
        &daemon,
        "io.containerd.absent.v9",
        &["--rm"],
        "c",
        &["true"],
    );
    let words = String::from_utf8(output.stderr).unwrap();
    assert!(words.contains("containerd-shim-absent-v9"), "{words}");
    leaves_nothing(&daemon, "c");
}

#[tokio::test]
async fn an_event_published_by_the_binary_reaches_subscribers() {
    let (daemon, _engine) = Daemon::with_busybox().await;
    let heard = Heard::listen(&daemon).await;
    let event = prost_types::Any {
        type_url: "test.Event".to_owned(),
        value: vec![1, 2],
    };
    let mut publish = Command::new(env!("CARGO_BIN_EXE_containerd-lite"))
        .arg("--address")
        .arg(socket(&daemon))
        .args(["publish", "--topic", "/test/it", "--namespace", "other"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    publish
        .stdin
        .take()
        .unwrap()
        .write_all(&event.encode_to_vec())
        .unwrap();
    assert!(publish.wait().unwrap().success());
    let heard = heard.until_now().await;
    let ours: Vec<_> = heard
        .iter()
        .filter(|envelope| envelope.topic == "/test/it")
        .collect();
    assert_eq!(ours.len(), 1);
    assert_eq!(
        (ours[0].namespace.as_str(), ours[0].event.as_ref()),
        ("other", Some(&event))
    );
}
