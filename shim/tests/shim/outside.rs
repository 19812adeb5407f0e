//! The shim without its daemon: events that wait, a shim that was killed,
//! command lines that make no sense.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::lab::{Lab, SHIM, in_lab};
use prost::Message;
use proto::containerd::task::v2::DeleteResponse;
use proto::containerd::types::Mount;

#[test]
fn events_wait_for_a_daemon_that_is_away() {
    in_lab(async |lab| {
        let socket = lab.path("d.sock.ttrpc");
        fs::rename(&socket, lab.path("away")).unwrap();
        lab.run("c", &["true"]).await;
        assert_eq!(lab.wait("c", "").await, 0);
        lab.delete("c", "").await.unwrap();
        assert!(lab.topics().is_empty());
        fs::rename(lab.path("away"), &socket).unwrap();
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
    });
}

#[test]
fn a_new_daemon_finds_the_exit_it_missed() {
    in_lab(async |lab| {
        lab.run("c", &["sh", "-c", "exit 5"]).await;
        assert_eq!(lab.wait("c", "").await, 5);
        // `start` again, as for another container of the group: the same shim.
        lab.start_shim("c").await;
        assert_eq!(lab.wait("c", "").await, 5);
    });
}

#[test]
fn delete_cleans_up_after_a_killed_shim_as_often_as_asked() {
    in_lab(async |lab| {
        lab.make_bundle("c", &["sleep", "1000"], |_| ());
        let rootfs = lab.bundle("c").join("rootfs");
        fs::rename(&rootfs, lab.path("lower")).unwrap();
        lab.start_shim("c").await;
        let mut request = lab.request("c");
        request.rootfs = vec![Mount {
            r#type: "bind".into(),
            source: lab.path("lower").to_str().unwrap().into(),
            options: vec!["rbind".into()],
            ..Default::default()
        }];
        let sessions = ["i.sock", "e.sock"].map(|name| lab.path(name));
        let uri = |socket: &Path| format!("session://{}", socket.display());
        request.stdout = uri(&sessions[0]);
        let pid = lab.create(request).await.unwrap();
        lab.start("c", "").await.unwrap();
        lab.exec("c", "e", &["sleep", "1000"], |exec| {
            exec.stdout = uri(&sessions[1])
        })
        .await
        .unwrap();
        lab.start("c", "e").await.unwrap();
        kill_shim(lab, "c").await;
        for _ in 0..2 {
            let deleted = lab.shim("c", "delete");
            assert!(deleted.status.success(), "{deleted:?}");
            let response = DeleteResponse::decode(deleted.stdout.as_slice()).unwrap();
            assert_eq!((response.exit_status, response.pid), (137, pid));
        }
        assert_eq!(fs::read_dir(lab.path("s")).unwrap().count(), 0);
        assert_eq!(fs::read_dir(lab.path("runc/test")).unwrap().count(), 0);
        assert!(sessions.iter().all(|socket| !socket.exists()));
        let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        assert!(!command.starts_with(b"sleep"), "the container lives");
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(
            !mounts.contains(lab.dir.path().to_str().unwrap()),
            "{mounts}"
        );
        let name = lab.dir.path().file_name().unwrap();
        for hierarchy in fs::read_dir("/sys/fs/cgroup").unwrap().flatten() {
            let group = hierarchy.path().join(name).join("c");
            assert!(!group.exists(), "{}", group.display());
        }
    });
}

/// Kills the shim of `id`, and waits until it is gone.
async fn kill_shim(lab: &Lab, id: &str) {
    let shim = nix::unistd::Pid::from_raw(lab.shim_pid(id));
    nix::sys::signal::kill(shim, nix::sys::signal::Signal::SIGKILL).unwrap();
    lab.client(id).closed().await;
}

#[test]
fn delete_tells_the_exit_that_was_written_down() {
    in_lab(async |lab| {
        lab.run("c", &["sh", "-c", "exit 9"]).await;
        assert_eq!(lab.wait("c", "").await, 9);
        kill_shim(lab, "c").await;
        let deleted = lab.shim("c", "delete");
        assert_eq!(
            DeleteResponse::decode(deleted.stdout.as_slice())
                .unwrap()
                .exit_status,
            9
        );
    });
}

#[test]
fn a_terminated_shim_stays_with_its_containers() {
    in_lab(async |lab| {
        lab.run("c", &["sleep", "1000"]).await;
        let shim = nix::unistd::Pid::from_raw(lab.shim_pid("c"));
        nix::sys::signal::kill(shim, nix::sys::signal::Signal::SIGTERM).unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
        lab.kill("c", "", 9).await.unwrap();
        lab.wait("c", "").await;
        lab.delete("c", "").await.unwrap();
        nix::sys::signal::kill(shim, nix::sys::signal::Signal::SIGTERM).unwrap();
        lab.client("c").closed().await;
    });
}

#[test]
fn bad_command_lines_get_one_line_and_a_code() {
    let run = |args: &[&str]| {
        let out = Command::new(SHIM).args(args).output().unwrap();
        (out.status.code(), String::from_utf8(out.stderr).unwrap())
    };
    assert_eq!(
        run(&["-nope"]),
        (
            Some(1),
            "containerd-shim-runc-rs-v2: flag provided but not defined: -nope\n".into()
        )
    );
    let (code, words) = run(&["-namespace", "n", "-id", "c", "start"]);
    assert_eq!((code, words.lines().count()), (Some(1), 1), "{words}");
    assert!(words.contains("config.json"), "{words}");
    let version = Command::new(SHIM).arg("-v").output().unwrap();
    assert!(version.status.success() && version.stdout.starts_with(b"containerd-shim-runc-rs-v2:"));
}
