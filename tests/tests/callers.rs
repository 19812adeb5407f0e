//! Those who call runc in the field, each with runc-rs in its place:
//! containerd through its own shim, dockerd, podman.

use std::fs;

use serde_json::Value;
use tests::command::{self, Said, eventually};
use tests::containerd::Containerd;
use tests::dockerd::Dockerd;
use tests::image::Image;
use tests::need::{self, Need};
use tests::podman::Podman;
use tests::repository;
use tests::scratch::Scratch;

/// Ends at once on SIGTERM, with a code of its own.
const SERVICE: &str = "echo up; trap 'exit 7' TERM; while :; do sleep 0.1; done";

/// A file of a cgroup as a process of the container sees it, on v1 or v2.
const LIMITS: &str = "cd /sys/fs/cgroup; cat memory/memory.limit_in_bytes memory.max 2>/dev/null;
    cat cpu/cpu.cfs_quota_us 2>/dev/null || cut -d' ' -f1 cpu.max;
    cat pids/pids.max pids.max 2>/dev/null; true";

fn lines(text: &str) -> Vec<&str> {
    text.lines().map(str::trim).collect()
}

mod containerd {
    use super::*;

    const IMAGE: &str = "docker.io/library/busybox:latest";

    fn start(scratch: &Scratch) -> Containerd {
        let containerd = Containerd::start(scratch);
        let archive = scratch.text("image.tar");
        fs::write(
            &archive,
            Image::busybox().docker_archive(&["busybox:latest"]),
        )
        .expect("an archive can be written");
        containerd.ctr(&["images", "import", &archive]).ok();
        containerd
    }

    /// `ctr run` with containerd's own shim and runc-rs as its binary.
    #[track_caller]
    fn run(
        scratch: &Scratch,
        containerd: &Containerd,
        args: &[&str],
        id: &str,
        command: &[&str],
    ) -> Said {
        let binary = repository::program("runc-rs").display().to_string();
        let (cgroup, fifos, root) = (
            containerd.cgroup(id),
            scratch.text("fifo"),
            scratch.text("runc"),
        );
        let fixed = [
            ["run", "--runtime=io.containerd.runc.v2"],
            ["--runc-binary", &binary],
            ["--runc-root", &root],
            ["--cgroup", &cgroup],
            ["--fifo-dir", &fifos],
        ];
        containerd.ctr(&[&fixed.concat(), args, &[IMAGE, id], command].concat())
    }

    #[test]
    fn runs_a_container_and_tells_its_code() {
        if need::skip(&[Need::Containerd]) {
            return;
        }
        let scratch = Scratch::new();
        let containerd = start(&scratch);
        let script = ["sh", "-c", "echo out; echo err >&2; exit 12"];
        let said = run(&scratch, &containerd, &["--rm"], "one", &script).exits(12);
        assert_eq!(said.out, "out\n");
        assert!(said.err.starts_with("err\n"), "{said}");
        assert_eq!(containerd.ctr(&["containers", "ls", "-q"]).ok(), "");
    }

    #[test]
    fn a_missing_program_is_told_in_the_runtimes_words() {
        if need::skip(&[Need::Containerd]) {
            return;
        }
        let scratch = Scratch::new();
        let containerd = start(&scratch);
        let said = run(
            &scratch,
            &containerd,
            &["--rm"],
            "two",
            &["no-such-program"],
        );
        assert_ne!(said.code, 0, "{said}");
        let words = "exec: \"no-such-program\": executable file not found in $PATH";
        assert!(said.err.contains(words), "{said}");
        // ctr 1.6 leaves the record of a failed run behind.
        containerd.ctr(&["containers", "rm", "two"]);
    }

    #[test]
    fn execs_pauses_limits_and_kills() {
        if need::skip(&[Need::Containerd]) {
            return;
        }
        let scratch = Scratch::new();
        let containerd = start(&scratch);
        let fifos = scratch.text("fifo");
        let limits = [
            "-d",
            "--memory-limit",
            "67108864",
            "--cpu-quota",
            "50000",
            "--cpu-period",
            "100000",
        ];
        run(&scratch, &containerd, &limits, "c", &["sleep", "1000"]).ok();

        let mut list = std::process::Command::new(repository::program("runc-rs"));
        let root = scratch.path("runc").join("default");
        assert_eq!(
            command::run(list.arg("--root").arg(root).args(["list", "-q"])).ok(),
            "c\n"
        );

        let exec = |script: &str| {
            containerd.ctr(&[
                "tasks",
                "exec",
                "--fifo-dir",
                &fifos,
                "--exec-id",
                "x",
                "c",
                "sh",
                "-c",
                script,
            ])
        };
        assert_eq!(exec("echo inside; exit 3").exits(3).out, "inside\n");
        let seen = exec("cat /proc/self/cgroup").ok();
        assert!(seen.contains(":/"), "{seen}");
        assert_eq!(
            containerd.ctr(&["tasks", "ps", "c"]).ok().lines().count(),
            2
        );
        let metrics: Value = serde_json::from_str(
            &containerd
                .ctr(&["tasks", "metrics", "--format", "json", "c"])
                .ok(),
        )
        .expect("metrics are JSON");
        let limit = metrics
            .pointer("/memory/usage/limit")
            .or(metrics.pointer("/memory/usage_limit"));
        assert_eq!(limit.and_then(Value::as_u64), Some(67_108_864), "{metrics}");

        containerd.ctr(&["tasks", "pause", "c"]).ok();
        assert!(containerd.ctr(&["tasks", "ls"]).ok().contains("PAUSED"));
        containerd.ctr(&["tasks", "resume", "c"]).ok();
        containerd
            .ctr(&["tasks", "kill", "-s", "SIGKILL", "c"])
            .ok();
        eventually("the task to stop", || {
            containerd
                .ctr(&["tasks", "ls"])
                .ok()
                .contains("STOPPED")
                .then_some(())
        });
        let removed = containerd.ctr(&["tasks", "rm", "c"]).exits(0);
        assert!(removed.err.contains("exit code 137"), "{removed}");
        containerd.ctr(&["containers", "rm", "c"]).ok();
    }

    #[test]
    fn saves_a_container() {
        if need::skip(&[Need::Containerd, Need::Criu]) {
            return;
        }
        let scratch = Scratch::new();
        let containerd = start(&scratch);
        run(&scratch, &containerd, &["-d"], "c", &["sleep", "1000"]).ok();
        let images = scratch.text("saved");
        containerd
            .ctr(&["tasks", "checkpoint", "--image-path", &images, "c"])
            .ok();
        let saved = scratch.path("saved");
        assert!(saved.join("inventory.img").exists(), "criu wrote images");
        containerd
            .ctr(&["tasks", "kill", "-s", "SIGKILL", "c"])
            .ok();
        eventually("the task to stop", || {
            containerd
                .ctr(&["tasks", "ls"])
                .ok()
                .contains("STOPPED")
                .then_some(())
        });
        containerd.ctr(&["tasks", "rm", "c"]).exits(0);
        containerd.ctr(&["containers", "rm", "c"]).ok();
    }
}

mod docker {
    use super::*;

    #[test]
    fn runs_containers_and_tells_their_codes_and_mistakes() {
        if need::skip(&[Need::Dockerd]) {
            return;
        }
        let scratch = Scratch::new();
        let dockerd = Dockerd::start(&scratch);
        let run = |args: &[&str]| dockerd.docker(&[&["run", "--rm"], args].concat());
        let said = run(&["busybox", "sh", "-c", "echo out; echo err >&2; exit 12"]).exits(12);
        assert_eq!((said.out.as_str(), said.err.as_str()), ("out\n", "err\n"));

        // Docker reads the runtime's words to choose between 126 and 127.
        let missing = run(&["busybox", "no-such-program"]).exits(127);
        let words = "exec: \"no-such-program\": executable file not found in $PATH";
        assert!(missing.err.contains(words), "{missing}");
        run(&["busybox", "/etc/passwd"]).exits(126);

        assert_eq!(
            run(&["--user", "user", "busybox", "id", "-u"]).ok(),
            "1000\n"
        );
        assert_eq!(run(&["-t", "busybox", "tty"]).ok(), "/dev/pts/0\r\n");
        let init = run(&["--init", "busybox", "cat", "/proc/1/comm"]).ok();
        assert_eq!(init, "docker-init\n");
        let read_only = [
            "--read-only",
            "--tmpfs",
            "/tmp",
            "busybox",
            "sh",
            "-c",
            "touch /tmp/x && ! touch /x",
        ];
        run(&read_only).ok();
        let caps = run(&[
            "--cap-drop",
            "ALL",
            "busybox",
            "grep",
            "CapEff",
            "/proc/self/status",
        ])
        .ok();
        assert!(caps.ends_with("\t0000000000000000\n"), "{caps}");
        let filter = run(&["busybox", "grep", "^Seccomp:", "/proc/self/status"]).ok();
        assert_eq!(filter, "Seccomp:\t2\n");
        assert_eq!(dockerd.docker(&["ps", "-aq"]).ok(), "");
    }

    #[test]
    fn gives_containers_its_network_through_a_hook() {
        if need::skip(&[Need::Dockerd]) {
            return;
        }
        let scratch = Scratch::new();
        let dockerd = Dockerd::start(&scratch);
        let serve = "echo served > index.html; exec httpd -f -p 80";
        dockerd
            .docker(&["run", "-d", "--name", "web", "busybox", "sh", "-c", serve])
            .ok();
        let format = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}";
        let address = dockerd.docker(&["inspect", "-f", format, "web"]).ok();
        let url = format!("http://{}/", address.trim());
        eventually("an answer from the other container", || {
            let said = dockerd.docker(&["run", "--rm", "busybox", "wget", "-qO-", &url]);
            (said.out == "served\n").then_some(())
        });
        let joined = [
            "run",
            "--rm",
            "--network",
            "container:web",
            "--pid",
            "container:web",
            "busybox",
        ];
        let own = dockerd
            .docker(&[&joined[..], &["wget", "-qO-", "http://127.0.0.1/"]].concat())
            .ok();
        assert_eq!(own, "served\n");
        let seen = dockerd
            .docker(&[&joined[..], &["cat", "/proc/1/comm"]].concat())
            .ok();
        assert_eq!(seen, "httpd\n");
        dockerd.docker(&["rm", "-f", "web"]).ok();
    }

    #[test]
    fn execs_pauses_limits_stops_and_removes() {
        if need::skip(&[Need::Dockerd]) {
            return;
        }
        let scratch = Scratch::new();
        let dockerd = Dockerd::start(&scratch);
        let start = [
            "run",
            "-d",
            "--name",
            "box",
            "--memory",
            "64m",
            "--cpus",
            "0.5",
            "--pids-limit",
            "50",
        ];
        let id = dockerd
            .docker(&[&start[..], &["busybox", "sh", "-c", SERVICE]].concat())
            .ok();
        assert_eq!(dockerd.made_by_runc_rs(), id);
        eventually("a line of log", || {
            (dockerd.docker(&["logs", "box"]).ok() == "up\n").then_some(())
        });

        let exec = |args: &[&str]| dockerd.docker(&[&["exec"], args].concat());
        assert_eq!(
            lines(&exec(&["box", "sh", "-c", LIMITS]).ok()),
            ["67108864", "50000", "50"]
        );
        exec(&["box", "sh", "-c", "exit 3"]).exits(3);
        let script = "id -u; pwd; echo $A";
        let said = exec(&[
            "-u", "user", "-w", "/tmp", "-e", "A=b", "box", "sh", "-c", script,
        ])
        .ok();
        assert_eq!(said, "1000\n/tmp\nb\n");
        assert_eq!(exec(&["-t", "box", "tty"]).ok(), "/dev/pts/0\r\n");
        let input = &mut dockerd.docker_command(&["exec", "-i", "box", "cat"]);
        assert_eq!(command::run_with_input(input, b"data\n").ok(), "data\n");
        let missing = exec(&["box", "no-such-program"]);
        assert!(matches!(missing.code, 126 | 127), "{missing}");

        let top = dockerd.docker(&["top", "box", "-o", "pid,comm"]).ok();
        assert!(top.lines().any(|line| line.ends_with(" sh")), "{top}");
        let stats = ["stats", "--no-stream", "--format", "{{.MemUsage}}", "box"];
        let stats = dockerd.docker(&stats).ok();
        assert!(stats.contains("/ 64MiB"), "{stats}");

        let status = || {
            dockerd
                .docker(&[
                    "inspect",
                    "-f",
                    "{{.State.Status}} {{.State.ExitCode}}",
                    "box",
                ])
                .ok()
        };
        dockerd.docker(&["pause", "box"]).ok();
        assert_eq!(status(), "paused 0\n");
        dockerd.docker(&["unpause", "box"]).ok();
        let update = [
            "update",
            "--memory",
            "32m",
            "--memory-swap",
            "64m",
            "--cpus",
            "0.25",
            "--pids-limit",
            "20",
            "box",
        ];
        dockerd.docker(&update).ok();
        assert_eq!(
            lines(&exec(&["box", "sh", "-c", LIMITS]).ok()),
            ["33554432", "25000", "20"]
        );

        dockerd.docker(&["stop", "box"]).ok();
        assert_eq!(status(), "exited 7\n");
        dockerd.docker(&["start", "box"]).ok();
        dockerd.docker(&["kill", "box"]).ok();
        eventually("the end", || (status() == "exited 137\n").then_some(()));
        dockerd.docker(&["rm", "box"]).ok();
        assert_eq!(dockerd.docker(&["ps", "-aq"]).ok(), "");
    }

    #[test]
    fn hears_that_memory_ran_out() {
        if need::skip(&[Need::Dockerd]) {
            return;
        }
        let scratch = Scratch::new();
        let dockerd = Dockerd::start(&scratch);
        let eat = "x=a; while :; do x=$x$x; done";
        dockerd
            .docker(&[
                "run", "--name", "box", "--memory", "16m", "busybox", "sh", "-c", eat,
            ])
            .exits(137);
        let format = "{{.State.OOMKilled}} {{.State.ExitCode}}";
        assert_eq!(
            dockerd.docker(&["inspect", "-f", format, "box"]).ok(),
            "true 137\n"
        );
        dockerd.docker(&["rm", "box"]).ok();
    }
}

mod podman {
    use super::*;

    fn run(podman: &Podman, args: &[&str]) -> Said {
        podman.run(&[&["run"], &podman.options()[..], args].concat())
    }

    #[test]
    fn runs_containers_and_tells_their_codes_and_mistakes() {
        if need::skip(&[Need::Podman]) {
            return;
        }
        let scratch = Scratch::new();
        let podman = Podman::new(&scratch);
        let said = run(
            &podman,
            &[
                "--rm",
                "busybox",
                "sh",
                "-c",
                "echo out; echo err >&2; exit 12",
            ],
        )
        .exits(12);
        assert_eq!((said.out.as_str(), said.err.as_str()), ("out\n", "err\n"));
        // podman reads the runtime's words to choose between 126 and 127.
        let missing = run(&podman, &["--rm", "busybox", "no-such-program"]).exits(127);
        let words = "executable file not found in $PATH";
        assert!(missing.err.contains(words), "{missing}");
        run(&podman, &["--rm", "busybox", "/etc"]).exits(126);
        assert_eq!(
            run(&podman, &["--rm", "--user", "user", "busybox", "id", "-u"]).ok(),
            "1000\n"
        );
        assert_eq!(
            run(&podman, &["--rm", "-t", "busybox", "tty"]).ok(),
            "/dev/pts/0\r\n"
        );
        let mapped = [
            "--rm",
            "--uidmap",
            "0:100000:65536",
            "busybox",
            "cat",
            "/proc/self/uid_map",
        ];
        let map = run(&podman, &mapped).ok();
        assert_eq!(
            map.split_whitespace().collect::<Vec<_>>(),
            ["0", "100000", "65536"]
        );
        assert_eq!(podman.run(&["ps", "-aq"]).ok(), "");
    }

    #[test]
    fn execs_pauses_limits_stops_and_removes() {
        if need::skip(&[Need::Podman]) {
            return;
        }
        let scratch = Scratch::new();
        let podman = Podman::new(&scratch);
        let start = [
            "-d",
            "--name",
            "box",
            "--memory",
            "64m",
            "--cpus",
            "0.5",
            "--pids-limit",
            "50",
        ];
        let id = run(
            &podman,
            &[&start[..], &["busybox", "sh", "-c", SERVICE]].concat(),
        )
        .ok();
        assert_eq!(podman.made_by_runc_rs(), id);
        eventually("a line of log", || {
            (podman.run(&["logs", "box"]).ok() == "up\n").then_some(())
        });
        let exec = |args: &[&str]| podman.run(&[&["exec"], args].concat());
        assert_eq!(
            lines(&exec(&["box", "sh", "-c", LIMITS]).ok()),
            ["67108864", "50000", "50"]
        );
        exec(&["box", "sh", "-c", "exit 3"]).exits(3);
        let script = "id -u; pwd; echo $A";
        let said = exec(&[
            "-u", "user", "-w", "/tmp", "-e", "A=b", "box", "sh", "-c", script,
        ])
        .ok();
        assert_eq!(said, "1000\n/tmp\nb\n");
        assert_eq!(exec(&["-t", "box", "tty"]).ok(), "/dev/pts/0\r\n");
        exec(&["box", "no-such-program"]).exits(127);
        let top = podman.run(&["top", "box", "pid", "comm"]).ok();
        assert!(top.lines().any(|line| line.ends_with("sh")), "{top}");

        let status = || {
            podman
                .run(&[
                    "inspect",
                    "-f",
                    "{{.State.Status}} {{.State.ExitCode}}",
                    "box",
                ])
                .ok()
        };
        podman.run(&["pause", "box"]).ok();
        assert_eq!(status(), "paused 0\n");
        podman.run(&["unpause", "box"]).ok();
        podman
            .run(&[
                "update",
                "--memory",
                "32m",
                "--memory-swap",
                "64m",
                "--cpus",
                "0.25",
                "box",
            ])
            .ok();
        assert_eq!(
            lines(&exec(&["box", "sh", "-c", LIMITS]).ok()),
            ["33554432", "25000", "50"]
        );

        podman.run(&["stop", "box"]).ok();
        assert_eq!(status(), "exited 7\n");
        podman.run(&["start", "box"]).ok();
        podman.run(&["kill", "box"]).ok();
        eventually("the end", || (status() == "exited 137\n").then_some(()));
        podman.run(&["rm", "box"]).ok();
        assert_eq!(podman.run(&["ps", "-aq"]).ok(), "");
    }

    #[test]
    fn saves_a_container_and_brings_it_back() {
        if need::skip(&[Need::Podman, Need::Criu]) {
            return;
        }
        let scratch = Scratch::new();
        let podman = Podman::new(&scratch);
        // It counts in memory alone.
        let count = "n=0; while :; do n=$((n+1)); echo $n; sleep 0.1; done";
        run(
            &podman,
            &["-d", "--name", "box", "busybox", "sh", "-c", count],
        )
        .ok();
        let counted = || {
            let log = podman.run(&["logs", "--tail", "1", "box"]).ok();
            log.trim().parse::<u32>().unwrap_or_default()
        };
        eventually("a count", || (counted() > 5).then_some(()));
        podman.run(&["container", "checkpoint", "box"]).ok();
        let format = "{{.State.Status}} {{.State.Checkpointed}}";
        let status = podman.run(&["inspect", "-f", format, "box"]).ok();
        assert_eq!(status, "exited true\n");
        let saved = counted();
        podman.run(&["container", "restore", "box"]).ok();
        eventually("the count to go on", || (counted() > saved).then_some(()));
        podman.run(&["rm", "-f", "-t", "0", "box"]).ok();
    }
}
