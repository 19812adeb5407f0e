//! The Task service, driven as containerd drives it, on the real runc.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::lab::{in_lab, read_all};
use prost::Message;
use proto::containerd::events::TaskExit;
use proto::containerd::task::v2::*;
use proto::containerd::v1::types::Status as TaskStatus;
use proto::io::containerd::cgroups::{v1, v2};
use ttrpc_wire::Code;

#[test]
fn a_container_runs_to_its_exit_code() {
    in_lab(async |lab| {
        let pid = lab.run("c", &["sh", "-c", "exit 7"]).await;
        assert!(pid > 0);
        assert_eq!(lab.wait("c", "").await, 7);
        let state = lab.state("c", "").await.unwrap();
        assert_eq!(
            (state.status(), state.exit_status, state.pid),
            (TaskStatus::Stopped, 7, pid)
        );
        let exit = fs::read_to_string(lab.bundle("c").join("init.exit")).unwrap();
        assert!(exit.contains("\"exit_status\":7"), "{exit}");
        let deleted = lab.delete("c", "").await.unwrap();
        assert_eq!((deleted.pid, deleted.exit_status), (pid, 7));
        lab.wait_for_events(4).await;
        assert_eq!(
            lab.topics(),
            [
                "/tasks/create",
                "/tasks/start",
                "/tasks/exit",
                "/tasks/delete"
            ]
        );
        let exit = lab.events.lock().unwrap()[2].event.clone().unwrap();
        assert_eq!(exit.type_url, "containerd.events.TaskExit");
        let exit = TaskExit::decode(exit.value.as_slice()).unwrap();
        assert_eq!(
            (
                exit.container_id.as_str(),
                exit.id.as_str(),
                exit.pid,
                exit.exit_status
            ),
            ("c", "c", pid, 7)
        );
        lab.shut_down("c").await;
        assert_eq!(fs::read_dir(lab.path("s")).unwrap().count(), 0);
    });
}

#[test]
fn both_versions_of_the_service_answer_and_others_do_not() {
    in_lab(async |lab| {
        lab.make_bundle("c", &["true"], |_| ());
        lab.start_shim("c").await;
        let client = lab.client("c");
        for service in ["containerd.task.v2.Task", "containerd.task.v3.Task"] {
            let request = ConnectRequest { id: "c".into() };
            let answer: ConnectResponse = client
                .call(service, "Connect", &request, None, &[])
                .await
                .unwrap();
            let pid = fs::read_to_string(lab.bundle("c").join("shim.pid")).unwrap();
            assert_eq!(answer.shim_pid.to_string(), pid);
        }
        let err = client
            .call::<_, ConnectResponse>("a.B", "Connect", &ConnectRequest::default(), None, &[])
            .await
            .unwrap_err();
        assert_eq!(err.to_string(), "service a.B");
        let err = lab
            .call::<_, ()>("c", "Nope", ConnectRequest::default())
            .await
            .unwrap_err();
        assert_eq!(
            (err.code, err.message.as_str()),
            (Code::Unimplemented, "method Nope")
        );
        let err = lab.state("c", "").await.unwrap_err();
        assert_eq!(
            (err.code, err.message.as_str()),
            (Code::NotFound, "container not created: not found")
        );
        lab.shut_down("c").await;
    });
}

#[test]
fn output_reaches_fifos_to_the_last_byte() {
    in_lab(async |lab| {
        lab.make_bundle(
            "c",
            &[
                "sh",
                "-c",
                "echo out; echo err >&2; head -c 300000 /dev/zero",
            ],
            |spec| {
                spec["mounts"].as_array_mut().unwrap().truncate(2);
            },
        );
        lab.start_shim("c").await;
        let (stdout, stderr) = (lab.fifo(), lab.fifo());
        let mut request = lab.request("c");
        request.stdout = stdout.to_str().unwrap().into();
        request.stderr = stderr.to_str().unwrap().into();
        let readers = async { tokio::join!(read_all(&stdout), read_all(&stderr)) };
        let run = async {
            lab.create(request).await.unwrap();
            lab.start("c", "").await.unwrap();
            lab.wait("c", "").await
        };
        let ((out, err), code) = tokio::join!(readers, run);
        assert_eq!(
            (out.len(), out.starts_with("out\n"), err.as_str(), code),
            (300_004, true, "err\n", 0)
        );
    });
}

#[test]
fn stdin_ends_with_close_io() {
    in_lab(async |lab| {
        lab.make_bundle("c", &["cat"], |_| ());
        lab.start_shim("c").await;
        let (stdin, stdout) = (lab.fifo(), lab.fifo());
        let mut request = lab.request("c");
        request.stdin = stdin.to_str().unwrap().into();
        request.stdout = stdout.to_str().unwrap().into();
        let run = async {
            lab.create(request).await.unwrap();
            lab.start("c", "").await.unwrap();
            // A writer that goes does not end the input; CloseIO does.
            fs::write(&stdin, "one\n").unwrap();
            fs::write(&stdin, "two\n").unwrap();
            let close = CloseIoRequest {
                id: "c".into(),
                exec_id: String::new(),
                stdin: true,
            };
            let _: () = lab.call("c", "CloseIO", close).await.unwrap();
            lab.wait("c", "").await
        };
        let (out, code) = tokio::join!(read_all(&stdout), run);
        assert_eq!((out.as_str(), code), ("one\ntwo\n", 0));
    });
}

#[test]
fn output_is_appended_to_a_file() {
    in_lab(async |lab| {
        lab.make_bundle("c", &["echo", "hello"], |_| ());
        lab.start_shim("c").await;
        let mut request = lab.request("c");
        let file = lab.path("logs/out");
        request.stdout = format!("file://{}", file.display());
        lab.create(request).await.unwrap();
        lab.start("c", "").await.unwrap();
        assert_eq!(lab.wait("c", "").await, 0);
        assert_eq!(fs::read_to_string(file).unwrap(), "hello\n");
    });
}

#[test]
fn hundreds_of_execs_each_keep_their_exit_code() {
    in_lab(async |lab| {
        lab.run("c", &["sleep", "1000"]).await;
        for batch in 0..25 {
            let execs = (0..8).map(|n| async move {
                let exec = format!("e{batch}-{n}");
                let code = (batch * 8 + n) % 200;
                let args = if code == 0 {
                    vec!["true".to_owned()]
                } else {
                    vec!["sh".into(), "-c".into(), format!("exit {code}")]
                };
                let args: Vec<&str> = args.iter().map(String::as_str).collect();
                lab.exec("c", &exec, &args, |_| ()).await.unwrap();
                let pid = lab.start("c", &exec).await.unwrap();
                assert!(pid > 0);
                assert_eq!(lab.wait("c", &exec).await, code, "{exec}");
                assert_eq!(
                    lab.delete("c", &exec).await.unwrap().exit_status,
                    code,
                    "{exec}"
                );
            });
            futures_join(execs).await;
        }
        lab.wait_for_events(2 + 3 * 200).await;
        let topics = lab.topics();
        assert_eq!(
            topics
                .iter()
                .filter(|topic| *topic == "/tasks/exit")
                .count(),
            200
        );
        // Each exec is added, then started, then exits.
        let events = lab.events.lock().unwrap();
        let one: Vec<&str> = events
            .iter()
            .filter(|event| {
                event
                    .event
                    .as_ref()
                    .is_some_and(|any| any.value.windows(4).any(|w| w == b"e3-5"))
            })
            .map(|event| event.topic.as_str())
            .collect();
        assert_eq!(
            one,
            ["/tasks/exec-added", "/tasks/exec-started", "/tasks/exit"]
        );
    });
}

/// Runs all of `each` at once.
async fn futures_join<F: Future<Output = ()>>(each: impl Iterator<Item = F>) {
    let mut each: Vec<_> = each.map(Box::pin).collect();
    std::future::poll_fn(|context| {
        each.retain_mut(|one| one.as_mut().poll(context).is_pending());
        if each.is_empty() {
            std::task::Poll::Ready(())
        } else {
            std::task::Poll::Pending
        }
    })
    .await;
}

#[test]
fn init_can_be_killed_and_a_dead_process_is_not_found() {
    in_lab(async |lab| {
        lab.run("c", &["sleep", "1000"]).await;
        lab.exec("c", "e", &["sleep", "1000"], |_| ())
            .await
            .unwrap();
        let err = lab.kill("c", "e", 9).await.unwrap_err();
        assert_eq!(err.code, Code::FailedPrecondition, "{err}");
        lab.start("c", "e").await.unwrap();
        let err = lab.delete("c", "e").await.unwrap_err();
        assert_eq!(err.code, Code::FailedPrecondition, "{err}");
        lab.kill("c", "e", 15).await.unwrap();
        assert_eq!(lab.wait("c", "e").await, 143);
        assert_eq!(
            lab.kill("c", "e", 9).await.unwrap_err().code,
            Code::NotFound
        );
        let err = lab.delete("c", "").await.unwrap_err();
        assert_eq!(err.code, Code::FailedPrecondition, "{err}");
        lab.kill("c", "", 9).await.unwrap();
        assert_eq!(lab.wait("c", "").await, 137);
        assert_eq!(lab.kill("c", "", 9).await.unwrap_err().code, Code::NotFound);
        lab.delete("c", "").await.unwrap();
        assert_eq!(lab.delete("c", "").await.unwrap_err().code, Code::NotFound);
        lab.shut_down("c").await;
    });
}

#[test]
fn inits_exit_comes_after_its_execs() {
    in_lab(async |lab| {
        lab.run("c", &["sleep", "1000"]).await;
        for exec in ["a", "b", "d"] {
            lab.exec("c", exec, &["sleep", "1000"], |_| ())
                .await
                .unwrap();
            lab.start("c", exec).await.unwrap();
        }
        lab.kill("c", "", 9).await.unwrap();
        assert_eq!(lab.wait("c", "").await, 137);
        lab.wait_for_events(12).await;
        let exits: Vec<String> = lab.events.lock().unwrap()[8..]
            .iter()
            .map(|event| {
                TaskExit::decode(event.event.as_ref().unwrap().value.as_slice())
                    .unwrap()
                    .id
            })
            .collect();
        assert_eq!(exits.last().unwrap(), "c", "{exits:?}");
        assert_eq!(lab.wait("c", "a").await, 137);
    });
}

#[test]
fn processes_sharing_the_hosts_pids_end_with_init() {
    in_lab(async |lab| {
        lab.make_bundle(
            "c",
            &["sh", "-c", "sleep 1000 & echo; exec sleep 1000"],
            |spec| {
                let namespaces = spec["linux"]["namespaces"].as_array_mut().unwrap();
                namespaces.retain(|ns| ns["type"] != "pid");
            },
        );
        lab.start_shim("c").await;
        lab.create(lab.request("c")).await.unwrap();
        lab.start("c", "").await.unwrap();
        let pids = loop {
            let pids: PidsResponse = lab
                .call("c", "Pids", PidsRequest { id: "c".into() })
                .await
                .unwrap();
            if pids.processes.len() == 2 {
                break pids;
            }
        };
        lab.kill("c", "", 9).await.unwrap();
        assert_eq!(lab.wait("c", "").await, 137);
        lab.delete("c", "").await.unwrap();
        for process in pids.processes {
            assert!(!Path::new(&format!("/proc/{}", process.pid)).exists());
        }
    });
}

#[test]
fn pause_freezes_and_resume_thaws() {
    in_lab(async |lab| {
        lab.run("c", &["sleep", "1000"]).await;
        let pause = || lab.call::<_, ()>("c", "Pause", PauseRequest { id: "c".into() });
        let resume = || lab.call::<_, ()>("c", "Resume", ResumeRequest { id: "c".into() });
        assert_eq!(resume().await.unwrap_err().code, Code::FailedPrecondition);
        pause().await.unwrap();
        assert_eq!(
            lab.state("c", "").await.unwrap().status(),
            TaskStatus::Paused
        );
        assert_eq!(pause().await.unwrap_err().code, Code::FailedPrecondition);
        assert_eq!(
            lab.exec("c", "e", &["true"], |_| ())
                .await
                .unwrap_err()
                .code,
            Code::FailedPrecondition
        );
        resume().await.unwrap();
        assert_eq!(
            lab.state("c", "").await.unwrap().status(),
            TaskStatus::Running
        );
        lab.wait_for_events(4).await;
        assert_eq!(lab.topics()[2..], ["/tasks/paused", "/tasks/resumed"]);
    });
}

#[test]
fn pids_name_the_execs() {
    in_lab(async |lab| {
        let init = lab.run("c", &["sleep", "1000"]).await;
        lab.exec("c", "e", &["sleep", "1000"], |_| ())
            .await
            .unwrap();
        let exec = lab.start("c", "e").await.unwrap();
        let pids: PidsResponse = lab
            .call("c", "Pids", PidsRequest { id: "c".into() })
            .await
            .unwrap();
        let mut found: Vec<(u32, bool)> = pids
            .processes
            .iter()
            .map(|p| (p.pid, p.info.is_some()))
            .collect();
        found.sort_unstable();
        let mut expected = [(init, false), (exec, true)];
        expected.sort_unstable();
        assert_eq!(found, expected);
    });
}

#[test]
fn a_created_container_can_be_deleted_unstarted() {
    in_lab(async |lab| {
        lab.make_bundle("c", &["true"], |_| ());
        lab.start_shim("c").await;
        lab.create(lab.request("c")).await.unwrap();
        assert_eq!(
            lab.create(lab.request("c")).await.unwrap_err().code,
            Code::AlreadyExists
        );
        let deleted = lab.delete("c", "").await.unwrap();
        assert_eq!(deleted.exit_status, 137);
        lab.wait_for_events(3).await;
        assert_eq!(
            lab.topics(),
            ["/tasks/create", "/tasks/exit", "/tasks/delete"]
        );
    });
}

#[test]
fn a_container_without_its_executable_fails_in_runcs_words_and_leaves_nothing() {
    in_lab(async |lab| {
        lab.make_bundle("c", &["/no/such"], |_| ());
        lab.start_shim("c").await;
        let mut request = lab.request("c");
        let lower = lab.bundle("c").join("rootfs");
        let lower_moved = lab.path("lower");
        fs::rename(&lower, &lower_moved).unwrap();
        request.rootfs = vec![proto::containerd::types::Mount {
            r#type: "bind".into(),
            source: lower_moved.to_str().unwrap().into(),
            target: String::new(),
            options: vec!["rbind".into(), "ro".into()],
        }];
        let err = lab.create(request).await.unwrap_err();
        assert_eq!(err.code, Code::Unknown);
        assert!(
            err.message.starts_with("OCI runtime create failed: "),
            "{err}"
        );
        assert!(
            err.message.contains("/no/such") && err.message.contains("no such file or directory"),
            "{err}"
        );
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains(lab.bundle("c").to_str().unwrap()));
        assert_eq!(lab.state("c", "").await.unwrap_err().code, Code::NotFound);
        assert!(lab.events.lock().unwrap().is_empty());
        lab.shut_down("c").await;
    });
}

#[test]
fn an_exec_that_cannot_start_leaves_the_container_alone() {
    in_lab(async |lab| {
        lab.run("c", &["sleep", "1000"]).await;
        lab.exec("c", "e", &["/no/such"], |_| ()).await.unwrap();
        let err = lab.start("c", "e").await.unwrap_err();
        assert_eq!(err.code, Code::Unknown);
        assert!(
            err.message.starts_with("OCI runtime exec failed: "),
            "{err}"
        );
        lab.delete("c", "e").await.unwrap();
        assert_eq!(lab.delete("c", "e").await.unwrap_err().code, Code::NotFound);
        lab.exec("c", "e", &["false"], |_| ()).await.unwrap();
        assert_eq!(
            lab.exec("c", "e", &["false"], |_| ())
                .await
                .unwrap_err()
                .code,
            Code::AlreadyExists
        );
        lab.start("c", "e").await.unwrap();
        assert_eq!(lab.wait("c", "e").await, 1);
    });
}

#[test]
fn hostile_runtimes_fail_cleanly() {
    in_lab(async |lab| {
        lab.make_bundle("c", &["true"], |_| ());
        lab.start_shim("c").await;
        let script = lab.path("runtime");
        for (body, words) in [
            ("echo broken >&2; exit 3", "broken"),
            ("head -c 50000 /dev/urandom; exit 1", "exit status 1"),
            ("exit 0", "retrieve OCI runtime container pid"),
            ("kill -9 $$", "exit status 137"),
        ] {
            fs::write(&script, format!("#!/bin/sh\n{body}\n")).unwrap();
            fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
            let options = proto::containerd::runc::v1::Options {
                binary_name: script.to_str().unwrap().into(),
                ..Default::default()
            };
            let mut request = lab.request("c");
            request.options = Some(prost_types::Any {
                type_url: "containerd.runc.v1.Options".into(),
                value: options.encode_to_vec(),
            });
            request.stderr = lab.fifo().to_str().unwrap().into();
            let err = lab.create(request).await.unwrap_err();
            assert!(err.message.contains(words), "{body}: {err}");
        }
        // And the shim still works.
        lab.create(lab.request("c")).await.unwrap();
    });
}

#[test]
fn containers_of_a_pod_share_a_shim() {
    in_lab(async |lab| {
        for id in ["a", "b"] {
            lab.make_bundle(id, &["sleep", "1000"], |spec| {
                spec["annotations"] = serde_json::json!({"io.kubernetes.cri.sandbox-id": "a"});
            });
            lab.start_shim(id).await;
            lab.create(lab.request(id)).await.unwrap();
        }
        let connect = |id: &'static str| {
            lab.call::<_, ConnectResponse>(id, "Connect", ConnectRequest { id: id.into() })
        };
        assert_eq!(
            connect("a").await.unwrap().shim_pid,
            connect("b").await.unwrap().shim_pid
        );
        assert!(!lab.bundle("b").join("shim.pid").exists());
        lab.delete("a", "").await.unwrap();
        // Still one to keep: it stays.
        let _: () = lab
            .call(
                "a",
                "Shutdown",
                ShutdownRequest {
                    id: "a".into(),
                    now: false,
                },
            )
            .await
            .unwrap();
        assert_eq!(
            lab.state("b", "").await.unwrap().status(),
            TaskStatus::Created
        );
        lab.delete("b", "").await.unwrap();
        lab.shut_down("b").await;
    });
}

#[test]
fn statistics_count_the_containers_memory_and_processes() {
    in_lab(async |lab| {
        let pid = lab.run("c", &["sleep", "1000"]).await;
        lab.wait_until_it_runs(pid, "sleep").await;
        let response: StatsResponse = lab
            .call("c", "Stats", StatsRequest { id: "c".into() })
            .await
            .unwrap();
        let any = response.stats.unwrap();
        let pids = match any.type_url.as_str() {
            "io.containerd.cgroups.v1.Metrics" => {
                let metrics =
                    proto::io::containerd::cgroups::v1::Metrics::decode(any.value.as_slice())
                        .unwrap();
                assert!(metrics.memory.unwrap().usage.unwrap().usage > 0);
                metrics.pids.unwrap().current
            }
            "io.containerd.cgroups.v2.Metrics" => {
                let metrics =
                    proto::io::containerd::cgroups::v2::Metrics::decode(any.value.as_slice())
                        .unwrap();
                assert!(metrics.memory.unwrap().usage > 0);
                metrics.pids.unwrap().current
            }
            other => panic!("{other}"),
        };
        assert_eq!(pids, 1);
    });
}

#[test]
fn an_update_changes_the_limits_of_a_container_that_runs() {
    in_lab(async |lab| {
        lab.run("c", &["sleep", "1000"]).await;
        let limit = 64 << 20;
        let update = |resources: &str| UpdateTaskRequest {
            id: "c".into(),
            resources: Some(prost_types::Any {
                type_url: "types.containerd.io/opencontainers/runtime-spec/1/LinuxResources".into(),
                value: resources.into(),
            }),
            ..Default::default()
        };
        let wanted = format!("{{\"memory\":{{\"limit\":{limit}}}}}");
        let _: () = lab.call("c", "Update", update(&wanted)).await.unwrap();
        let request = StatsRequest { id: "c".into() };
        let stats: StatsResponse = lab.call("c", "Stats", request).await.unwrap();
        let stats = stats.stats.unwrap();
        let told = match stats.type_url.as_str() {
            "io.containerd.cgroups.v1.Metrics" => {
                let metrics = v1::Metrics::decode(stats.value.as_slice()).unwrap();
                metrics.memory.unwrap().usage.unwrap().limit
            }
            _ => {
                let metrics = v2::Metrics::decode(stats.value.as_slice()).unwrap();
                metrics.memory.unwrap().usage_limit
            }
        };
        assert_eq!(told, limit);
        let nonsense: Result<(), _> = lab.call("c", "Update", update("{")).await;
        assert!(
            nonsense
                .unwrap_err()
                .message
                .starts_with("OCI runtime update failed: ")
        );
    });
}

#[test]
fn a_kill_for_want_of_memory_is_told_before_the_exit() {
    in_lab(async |lab| {
        lab.make_bundle(
            "c",
            &["sh", "-c", "x=$(yes | head -c 100000000); echo $x"],
            |spec| {
                spec["linux"]["resources"] =
                    serde_json::json!({"memory": {"limit": 20_000_000, "swap": 20_000_000}});
            },
        );
        lab.start_shim("c").await;
        lab.create(lab.request("c")).await.unwrap();
        lab.start("c", "").await.unwrap();
        assert_ne!(lab.wait("c", "").await, 0);
        while lab.topics().last().is_none_or(|last| last != "/tasks/exit") {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        // The kernel may have to take more than one process.
        let mut topics = lab.topics();
        topics.dedup();
        assert_eq!(
            topics,
            ["/tasks/create", "/tasks/start", "/tasks/oom", "/tasks/exit"]
        );
    });
}

#[test]
fn an_exec_takes_real_time_signals() {
    in_lab(async |lab| {
        lab.run("c", &["sleep", "1000"]).await;
        lab.exec("c", "e", &["sleep", "1000"], |_| ())
            .await
            .unwrap();
        lab.start("c", "e").await.unwrap();
        assert!(lab.kill("c", "e", 4_000_000_000).await.is_err());
        lab.kill("c", "e", 40).await.unwrap();
        assert_eq!(lab.wait("c", "e").await, 168);
    });
}
