//! The runtime from outside: real bundles of busybox on the real kernel, as root.
#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot set up its case has failed"
)]

mod bundle;
mod checkpoint;
mod devices;
mod fields;
mod landlock;
mod late_mounts;
mod mounts;
mod notify;
mod process;
mod rdt;
mod rootless;
mod spans;

use std::os::fd::AsFd;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use bundle::{Bundle, RUNTIME, contains, text};

#[test]
fn run_returns_the_exit_code_and_leaves_nothing() {
    let bundle = Bundle::new("echo out; echo err >&2; exit 7");
    let out = bundle.run();
    assert_eq!(out.status.code(), Some(7));
    assert_eq!(
        (text(&out.stdout).as_str(), text(&out.stderr).as_str()),
        ("out\n", "err\n")
    );
    assert!(!bundle.root().join(&bundle.id).exists());
    assert!(bundle.cgroups().is_empty());
    let killed = Bundle::new("kill -9 $$; exec sleep 1");
    assert_eq!(
        killed.run().status.code(),
        Some(0),
        "the first process of a pid namespace cannot kill itself"
    );
}

/// The same steps on Debian's runc and on ours: the same words, codes and fields.
#[test]
fn a_life_looks_like_runcs() {
    let life = |runtime: &str| {
        let bundle = Bundle::new("exec sleep 100");
        bundle.save();
        let mut seen = Vec::new();
        let mut step = |args: &[&str]| {
            let mut command = bundle.command(runtime, args);
            if args[0] == "create" {
                command.stdout(Stdio::null()).stderr(Stdio::null());
            }
            let out = command.output().unwrap();
            let stdout = text(&out.stdout);
            let words = text(&out.stderr);
            let message = words
                .split("msg=")
                .nth(1)
                .unwrap_or_default()
                .trim()
                .to_owned();
            let keys: Vec<String> = match serde_json::from_str::<Value>(&stdout) {
                Ok(Value::Object(map)) => {
                    let mut keys: Vec<String> = map.keys().cloned().collect();
                    keys.push(map["status"].to_string());
                    keys
                }
                _ => Vec::new(),
            };
            let message = message.replace(&bundle.id, "ID");
            seen.push(format!(
                "{} {:?} {message} {keys:?}",
                args[0],
                out.status.code()
            ));
        };
        let id = bundle.id.as_str();
        step(&["create", id]);
        step(&["state", id]);
        step(&["start", id]);
        step(&["start", id]);
        step(&["state", id]);
        step(&["pause", id]);
        step(&["state", id]);
        step(&["exec", id, "true"]);
        step(&["resume", id]);
        step(&["exec", id, "true"]);
        step(&["exec", id, "sh", "-c", "exit 9"]);
        step(&["exec", id, "nosuch"]);
        step(&["exec", id, "/no/such"]);
        step(&["delete", id]);
        step(&["kill", id, "KILL"]);
        while !text(
            &bundle
                .command(runtime, &["state", id])
                .output()
                .unwrap()
                .stdout,
        )
        .contains("stopped")
        {
            std::thread::yield_now();
        }
        step(&["kill", id, "KILL"]);
        step(&["start", id]);
        step(&["exec", id, "true"]);
        step(&["delete", id]);
        step(&["delete", id]);
        step(&["state", id]);
        step(&["delete", "-f", id]);
        seen
    };
    let (ours, theirs) = (life(RUNTIME), life("runc"));
    assert_eq!(ours, theirs);
}

#[test]
fn create_waits_holds_nothing_open_and_is_listed() {
    let bundle = Bundle::new("exec sleep 100");
    bundle.save();
    let status = bundle
        .command(RUNTIME, &["create", "--pid-file", "pid", &bundle.id])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .unwrap();
    assert!(status.success());
    let state = bundle.state();
    assert_eq!(state["status"], "created");
    let pid = std::fs::read_to_string(bundle.dir.path().join("pid")).unwrap();
    assert_eq!(state["pid"].to_string(), pid);
    // Init says that it is ready before it lets go of what it said it with.
    let open = || {
        std::fs::read_dir(format!("/proc/{pid}/fd"))
            .unwrap()
            .count()
    };
    let until = Instant::now() + Duration::from_secs(30);
    while open() != 4 && Instant::now() < until {
        std::thread::yield_now();
    }
    assert_eq!(open(), 4, "stdio and the fifo");
    let list: Value = serde_json::from_slice(&bundle.call(&["list", "-f", "json"]).stdout).unwrap();
    assert_eq!(list[0]["id"], bundle.id.as_str());
    assert_eq!(list[0]["owner"], "root");
    assert_eq!(
        text(&bundle.call(&["list", "-q"]).stdout),
        format!("{}\n", bundle.id)
    );
    contains(
        &text(&bundle.call(&["create", &bundle.id]).stderr),
        "container with given ID already exists",
    );
}

#[test]
fn exec_joins_with_its_own_user_environment_and_directory() {
    let bundle = Bundle::new("exec sleep 100");
    bundle.start();
    let out = bundle.call(&[
        "exec",
        "-e",
        "A=b",
        "-u",
        "7:8",
        "--cwd",
        "/bin",
        &bundle.id,
        "sh",
        "-c",
        "id -u; id -g; echo $A; pwd",
    ]);
    assert_eq!(
        text(&out.stdout),
        "7\n8\nb\n/bin\n",
        "{}",
        text(&out.stderr)
    );
    let process = json!({"cwd": "/", "user": {"uid": 0, "gid": 0}, "args": ["sh", "-c", "exit 4"], "env": ["PATH=/bin"]});
    std::fs::write(bundle.dir.path().join("p.json"), process.to_string()).unwrap();
    assert_eq!(
        bundle
            .call(&["exec", "-p", "p.json", &bundle.id])
            .status
            .code(),
        Some(4)
    );
    let pids: Vec<i32> =
        serde_json::from_slice(&bundle.call(&["ps", "-f", "json", &bundle.id]).stdout).unwrap();
    assert_eq!(pids.len(), 1);
    let events: Value =
        serde_json::from_slice(&bundle.call(&["events", "--stats", &bundle.id]).stdout).unwrap();
    assert_eq!(events["type"], "stats");
    assert_eq!(events["data"]["pids"]["current"], 1);
    assert_eq!(
        bundle.call(&["exec", &bundle.id, "nosuch"]).status.code(),
        Some(255)
    );
}

#[test]
fn a_terminal_arrives_over_the_console_socket() {
    let mut bundle = Bundle::new("tty; stat -c %t:%T /dev/console; exec sleep 100");
    bundle.config["process"]["terminal"] = json!(true);
    bundle.config["process"]["consoleSize"] = json!({"height": 25, "width": 81});
    let path = bundle.dir.path().join("console.sock");
    let listener = UnixListener::bind(&path).unwrap();
    bundle.save();
    let args = [
        "create",
        "--console-socket",
        path.to_str().unwrap(),
        &bundle.id,
    ];
    assert!(bundle.command(RUNTIME, &args).status().unwrap().success());
    let (stream, _) = listener.accept().unwrap();
    let mut name = [0; 64];
    let (_, mut fds) = kernel::scm::recv(stream.as_fd(), &mut name, 1).unwrap();
    let master = fds.pop().unwrap();
    assert_eq!(kernel::pty::size(master.as_fd()).unwrap(), (25, 81));
    assert!(bundle.call(&["start", &bundle.id]).status.success());
    let mut seen = String::new();
    let mut master = std::fs::File::from(master);
    while seen.lines().count() < 2 || !seen.ends_with('\n') {
        let mut buffer = [0; 256];
        let len = std::io::Read::read(&mut master, &mut buffer).unwrap();
        seen.push_str(&text(&buffer[..len]));
    }
    // The receiver of a terminal decides about newlines; it is handed over as the kernel makes one.
    assert_eq!(seen, "/dev/pts/0\r\n88:0\r\n");
}

#[test]
fn masked_paths_are_empty_and_read_only_ones_refuse() {
    let mut bundle = Bundle::new(
        "cat /proc/keys; ls /sys/firmware; echo 1 > /proc/sys/kernel/hostname; cat /secret; ls /dev/fd/ > /dev/null && echo dev",
    );
    std::fs::write(bundle.dir.path().join("rootfs/secret"), "secret").unwrap();
    bundle.config["linux"]["maskedPaths"]
        .as_array_mut()
        .unwrap()
        .push(json!("/secret"));
    let out = bundle.run();
    assert_eq!(text(&out.stdout), "dev\n");
    contains(&text(&out.stderr), "Read-only file system");
}

#[test]
fn seccomp_refuses_with_the_profiles_error_with_and_without_new_privileges() {
    for no_new_privileges in [true, false] {
        let mut bundle = Bundle::new("mkdir /x");
        bundle.config["process"]["noNewPrivileges"] = json!(no_new_privileges);
        bundle.config["linux"]["seccomp"] = json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"],
            "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28}]});
        let out = bundle.run();
        contains(&text(&out.stderr), "No space left on device");
        assert!(
            bundle.root().join(".seccomp").read_dir().unwrap().count() == 1,
            "the program is kept"
        );
    }
}

/// A profile knows nothing of the calls that the runtime makes between loading it and the program's start.
#[test]
fn a_filter_may_forbid_what_the_runtime_itself_uses() {
    let mut bundle = Bundle::new("exec sleep 100");
    bundle.config["process"]["noNewPrivileges"] = json!(false);
    bundle.config["linux"]["seccomp"] = json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"],
        "syscalls": [{"names": ["getcwd", "close_range", "faccessat2"], "action": "SCMP_ACT_ERRNO"}]});
    bundle.start();
    assert_eq!(bundle.state()["status"], "running");
    let init = format!("/proc/{}", bundle.state()["pid"]);
    assert_eq!(
        std::fs::read_link(format!("{init}/cwd")).unwrap(),
        Path::new("/")
    );
    let open = std::fs::read_dir(format!("{init}/fd")).unwrap().count();
    assert_eq!(open, 3, "nothing but the standard streams is open");
}

#[test]
fn start_returns_when_the_program_runs() {
    for _ in 0..5 {
        let bundle = Bundle::new("exec sleep 100");
        bundle.start();
        let comm = format!("/proc/{}/comm", bundle.state()["pid"]);
        let name = std::fs::read_to_string(comm).unwrap();
        assert!(["sh\n", "sleep\n"].contains(&name.as_str()), "{name:?}");
    }
}

#[test]
fn capabilities_limits_and_identity_are_those_of_the_config() {
    let mut bundle = Bundle::new(
        "grep -E 'Cap(Inh|Prm|Bnd)|NoNewPrivs' /proc/self/status; ulimit -n; id; echo $HOME; umask; pwd",
    );
    bundle.config["process"]["user"] =
        json!({"uid": 7, "gid": 8, "additionalGids": [9], "umask": 63});
    bundle.config["process"]["cwd"] = json!("/made/here");
    let etc = bundle.dir.path().join("rootfs/etc");
    std::fs::create_dir(&etc).unwrap();
    std::fs::write(etc.join("passwd"), "me:x:7:8::/home/me:/bin/sh\n").unwrap();
    let seen = bundle.prints();
    for part in [
        "CapInh:\t0000000000000000",
        "CapBnd:\t0000000020000420",
        "NoNewPrivs:\t1",
        "\n1024\n",
        "/home/me\n0077\n/made/here\n",
    ] {
        contains(&seen, part);
    }
    contains(&seen, "uid=7(me) gid=8 groups=9");
}

#[test]
fn unknown_capabilities_are_warned_about_and_dropped() {
    let mut bundle = Bundle::new("true");
    bundle.config["process"]["capabilities"]["bounding"]
        .as_array_mut()
        .unwrap()
        .push(json!("CAP_FROM_THE_FUTURE"));
    let out = bundle.run();
    assert!(out.status.success());
    contains(
        &text(&out.stderr),
        "ignoring unknown capability CAP_FROM_THE_FUTURE",
    );
}

#[test]
fn hooks_run_in_order_with_the_state_on_standard_input() {
    let mut bundle = Bundle::new("cat /hooked");
    let log = bundle.dir.path().join("hooks");
    let hook = |name: &str| {
        let script = format!(
            "echo {name} $(grep -o '\"status\":\"[a-z]*\"') >> {}",
            log.display()
        );
        json!([{"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/usr/bin:/bin"]}])
    };
    let inside = json!([{"path": "/bin/busybox", "args": ["sh", "-c", "echo started > /hooked"]}]);
    bundle.config["hooks"] = json!({"prestart": hook("prestart"), "createRuntime": hook("createRuntime"),
        "createContainer": hook("createContainer"), "startContainer": inside, "poststart": hook("poststart"),
        "poststop": hook("poststop")});
    assert_eq!(bundle.prints(), "started\n");
    let seen = std::fs::read_to_string(&log).unwrap();
    assert_eq!(
        seen,
        "prestart \"status\":\"created\"\ncreateRuntime \"status\":\"created\"\ncreateContainer \"status\":\"created\"\n\
         poststart \"status\":\"running\"\npoststop \"status\":\"stopped\"\n"
    );
    let mut failing = Bundle::new("true");
    failing.config["hooks"] =
        json!({"createRuntime": [{"path": "/bin/sh", "args": ["sh", "-c", "exit 3"]}]});
    contains(
        &failing.complaint(),
        "error running createRuntime hook #0: exit status 3",
    );
}

#[test]
fn limits_hold() {
    let mut bundle = Bundle::new(
        "cd /sys/fs/cgroup; read n < memory.max || read n < memory/memory.limit_in_bytes; echo $n; sleep 0 & wait",
    );
    bundle.config["linux"]["resources"]["memory"] = json!({"limit": 33554432});
    bundle.config["linux"]["resources"]["pids"] = json!({"limit": 1});
    let out = bundle.run();
    contains(&text(&out.stdout), "33554432");
    contains(&text(&out.stderr), "can't fork");
    let mut refused = Bundle::new("true");
    refused.config["linux"]["resources"]["cpu"] = json!({"cpus": "9999"});
    contains(&refused.complaint(), "cpuset.cpus");
}

#[test]
fn update_changes_limits_and_kill_all_reaches_everyone() {
    let bundle = Bundle::new("sleep 100 & sleep 100 & wait");
    bundle.start();
    assert!(
        bundle
            .call(&["update", "--pids-limit", "17", &bundle.id])
            .status
            .success()
    );
    let dir = bundle
        .cgroups()
        .into_iter()
        .find(|d| d.join("pids.max").exists())
        .unwrap();
    assert_eq!(
        std::fs::read_to_string(dir.join("pids.max")).unwrap(),
        "17\n"
    );
    assert!(
        bundle
            .call(&["kill", "-a", &bundle.id, "KILL"])
            .status
            .success()
    );
    while bundle.state()["status"] != "stopped" {
        std::thread::yield_now();
    }
}

#[test]
fn in_a_user_namespace_root_is_mapped_and_devices_work() {
    let mut bundle = Bundle::new(
        "id -u; cat /proc/self/uid_map; echo x > /dev/null && echo null; cat /data/file",
    );
    let data = bundle.dir.path().join("data");
    std::fs::create_dir(&data).unwrap();
    std::fs::write(data.join("file"), "bound\n").unwrap();
    bundle.in_user_namespace();
    bundle.mount(
        json!({"destination": "/data", "type": "bind", "source": "data", "options": ["rbind", "ro"]}),
    );
    let seen = bundle.prints();
    assert_eq!(
        seen.split_whitespace().collect::<Vec<_>>(),
        ["0", "0", "100000", "65536", "null", "bound"]
    );
}

#[test]
fn namespaces_are_joined_by_path() {
    let first = Bundle::new("exec sleep 100");
    first.start();
    let pid = first.state()["pid"].to_string();
    let mut second = Bundle::new("cat /proc/sys/kernel/hostname; ls -d /proc/[0-9]*");
    let namespaces = second.config["linux"]["namespaces"].as_array_mut().unwrap();
    for namespace in namespaces.iter_mut() {
        let name = match namespace["type"].as_str().unwrap() {
            "network" => "net",
            "pid" => "pid",
            "uts" => "uts",
            _ => continue,
        };
        namespace["path"] = json!(format!("/proc/{pid}/ns/{name}"));
    }
    second.config.as_object_mut().unwrap().remove("hostname");
    let seen = second.prints();
    contains(&seen, "runc\n");
    contains(&seen, "/proc/1\n");
}

#[test]
fn a_link_in_the_image_cannot_lead_a_mount_out() {
    let mut bundle = Bundle::new("cat /data/file");
    let outside = tempfile::tempdir().unwrap();
    symlink(outside.path(), bundle.dir.path().join("rootfs/data")).unwrap();
    std::fs::create_dir(bundle.dir.path().join("src")).unwrap();
    std::fs::write(bundle.dir.path().join("src/file"), "inside\n").unwrap();
    bundle.config["mounts"].as_array_mut().unwrap().push(
        json!({"destination": "/data", "type": "bind", "source": "src", "options": ["bind"]}),
    );
    assert_eq!(bundle.prints(), "inside\n");
    assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 0);
    let mut proc = Bundle::new("true");
    symlink("/tmp", proc.dir.path().join("rootfs/proc")).unwrap();
    proc.config["root"]["readonly"] = json!(false);
    contains(&proc.complaint(), "must be mounted on ordinary directory");
}

#[test]
fn what_keeps_a_program_from_running_is_said() {
    let complaint = |prepare: &dyn Fn(&Path), args: Value| {
        let mut bundle = Bundle::new("");
        prepare(&bundle.dir.path().join("rootfs"));
        bundle.config["process"]["args"] = args;
        bundle.complaint()
    };
    let write = |rootfs: &Path, name: &str, bytes: &[u8], mode: u32| {
        let path = rootfs.join(name);
        std::fs::write(&path, bytes).unwrap();
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(mode))
            .unwrap();
    };
    let prefix = "runc run failed: unable to start container process: ";
    let nothing = |_: &Path| {};
    let missing = complaint(&nothing, json!(["foo"]));
    contains(
        &missing,
        &format!("{prefix}exec: \\\"foo\\\": executable file not found in $PATH"),
    );
    contains(
        &complaint(&nothing, json!(["/x"])),
        "exec: \\\"/x\\\": stat /x: no such file or directory",
    );
    contains(&complaint(&nothing, json!(["/bin"])), "is a directory");
    contains(
        &complaint(&|r| write(r, "x", b"x", 0o644), json!(["/x"])),
        "exec: \\\"/x\\\": permission denied",
    );
    contains(
        &complaint(&|r| write(r, "x", b"#!/no/interp\n", 0o755), json!(["/x"])),
        "its interpreter /no/interp is not",
    );
    let mut foreign = std::fs::read("/bin/busybox").unwrap();
    foreign[18] = 183;
    contains(
        &complaint(&|r| write(r, "x", &foreign, 0o755), json!(["/x"])),
        "exec format error: built for aarch64",
    );
}

#[test]
fn bad_configs_get_one_clear_line() {
    let bundle = Bundle::new("");
    std::fs::remove_file(bundle.dir.path().join("config.json")).unwrap();
    let out = bundle.call(&["run", &bundle.id]);
    let words = text(&out.stderr);
    contains(&words, "JSON specification file config.json not found");
    assert_eq!((words.lines().count(), out.status.code()), (1, Some(1)));
    let mut bundle = Bundle::new("");
    bundle.config["process"]["args"] = json!([5]);
    contains(
        &bundle.complaint(),
        "config.json: /process/args/0: expected a string, got 5",
    );
    let log = bundle.dir.path().join("log");
    bundle
        .command(
            RUNTIME,
            &[
                "--log",
                log.to_str().unwrap(),
                "--log-format",
                "json",
                "state",
                "none",
            ],
        )
        .output()
        .unwrap();
    let line: Value = serde_json::from_str(std::fs::read_to_string(&log).unwrap().trim()).unwrap();
    assert_eq!(
        (&line["level"], &line["msg"]),
        (&json!("error"), &json!("container does not exist"))
    );
}

/// A process of the container that may look into the runtime's (`CAP_SYS_PTRACE`, or a program that is a link to
/// `/proc/self/exe`) gets at its file: on the host's own mount root could write to it once it is no longer running.
#[test]
fn the_runtimes_own_file_is_read_only_in_reach_of_a_container() {
    let bundle = Bundle::new("exec sleep 100");
    bundle.save();
    let own = bundle.dir.path().join("runc-rs");
    std::fs::copy(RUNTIME, &own).unwrap();
    let args = ["create", bundle.id.as_str()];
    let mut create = bundle.command(own.to_str().unwrap(), &args);
    assert!(
        create
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .unwrap()
            .success()
    );
    let held = std::fs::File::open(format!("/proc/{}/exe", bundle.state()["pid"])).unwrap();
    assert!(bundle.call(&["delete", "-f", &bundle.id]).status.success());
    let again = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&held));
    let error = std::fs::OpenOptions::new()
        .write(true)
        .open(again)
        .unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
}

#[test]
fn a_working_directory_behind_a_leaked_descriptor_is_refused() {
    let mut bundle = Bundle::new("true");
    bundle.config["process"]["cwd"] = json!("/proc/self/fd/7");
    contains(&bundle.complaint(), "unable to start container process");
}

#[test]
fn a_tmpfs_takes_over_what_the_image_has_when_asked() {
    let mut bundle = Bundle::new("cat /data/sub/file; echo more > /data/new; stat -c %a /data");
    let sub = bundle.dir.path().join("rootfs/data/sub");
    std::fs::create_dir_all(&sub).unwrap();
    std::fs::write(sub.join("file"), "copied\n").unwrap();
    std::fs::set_permissions(
        sub.parent().unwrap(),
        std::os::unix::fs::PermissionsExt::from_mode(0o711),
    )
    .unwrap();
    bundle.config["mounts"]
        .as_array_mut()
        .unwrap()
        .push(json!({"destination": "/data", "type": "tmpfs", "source": "tmpfs", "options": ["tmpcopyup"]}));
    assert_eq!(bundle.prints(), "copied\n711\n");
    assert!(!sub.parent().unwrap().join("new").exists());
}
