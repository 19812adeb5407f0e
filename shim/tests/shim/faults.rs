//! Faults at the edge of the process: runtimes that misbehave, full disks,
//! fifos nobody opens.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use prost::Message;
use proto::containerd::task::v2::*;
use ttrpc_wire::{CallError, Code};

use crate::lab::{Lab, in_lab};

/// A runtime that is the lab's own but for what `body` does first.
fn runtime(lab: &Lab, body: &str) -> PathBuf {
    let path = lab.path("runtime");
    let text = format!("#!/bin/sh\n{body}\nexec {} \"$@\"\n", lab.runtime);
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

fn with_runtime(lab: &Lab, id: &str, path: &std::path::Path) -> CreateTaskRequest {
    let options = proto::containerd::runc::v1::Options {
        binary_name: path.to_str().unwrap().into(),
        root: lab.path("runc").to_str().unwrap().into(),
        ..Default::default()
    };
    let mut request = lab.request(id);
    request.options = Some(prost_types::Any {
        type_url: "containerd.runc.v1.Options".into(),
        value: options.encode_to_vec(),
    });
    request
}

#[test]
fn a_runtime_that_hangs_holds_up_its_caller_and_nobody_else() {
    in_lab(async |lab| {
        let go_on = lab.path("go-on");
        let wait = format!(
            "case \"$*\" in *' pause '*) while [ ! -e {} ]; do sleep 0.05; done;; esac",
            go_on.display()
        );
        for id in ["a", "b"] {
            lab.make_bundle(id, &["sleep", "1000"], |spec| {
                spec["annotations"] = serde_json::json!({"io.kubernetes.cri.sandbox-id": "a"});
            });
            lab.start_shim(id).await;
            let request = with_runtime(lab, id, &runtime(lab, &wait));
            lab.create(request).await.unwrap();
            lab.start(id, "").await.unwrap();
        }
        // The caller's patience ends; the call does not.
        let pause = PauseRequest { id: "a".into() };
        let patience = Some(Duration::from_millis(300));
        let client = lab.client("a");
        let called =
            client.call::<_, ()>("containerd.task.v3.Task", "Pause", &pause, patience, &[]);
        match called.await.unwrap_err() {
            CallError::Timeout => {}
            CallError::Status(status) => assert_eq!(status.code, Code::DeadlineExceeded),
            other => panic!("{other}"),
        }
        lab.exec("b", "e", &["true"], |_| ()).await.unwrap();
        lab.start("b", "e").await.unwrap();
        assert_eq!(lab.wait("b", "e").await, 0);
        assert!(lab.state("a", "").await.is_ok());
        fs::write(&go_on, "").unwrap();
        while !lab.topics().contains(&"/tasks/paused".to_owned()) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let _: () = lab
            .call("a", "Resume", ResumeRequest { id: "a".into() })
            .await
            .unwrap();
    });
}

#[test]
fn a_runtime_that_lies_about_the_pid_is_not_believed() {
    in_lab(async |lab| {
        lab.make_bundle("c", &["sleep", "1000"], |_| ());
        lab.start_shim("c").await;
        let garbage = "prev=; for word; do case $prev in --pid-file) echo 12x34 >$word;; esac; \
                       prev=$word; done; exit 0";
        let request = with_runtime(lab, "c", &runtime(lab, garbage));
        let err = lab.create(request).await.unwrap_err();
        assert!(err.message.contains("12x34"), "{err}");
        assert_eq!(lab.state("c", "").await.unwrap_err().code, Code::NotFound);
    });
}

#[test]
fn a_runtime_that_dies_in_a_delete_can_be_asked_again() {
    in_lab(async |lab| {
        let die = lab.path("die");
        fs::write(&die, "").unwrap();
        let body = format!(
            "case \"$*\" in *' delete '*) [ -e {} ] && kill -9 $$;; esac",
            die.display()
        );
        lab.make_bundle("c", &["true"], |_| ());
        lab.start_shim("c").await;
        let request = with_runtime(lab, "c", &runtime(lab, &body));
        lab.create(request).await.unwrap();
        lab.start("c", "").await.unwrap();
        assert_eq!(lab.wait("c", "").await, 0);
        let err = lab.delete("c", "").await.unwrap_err();
        assert!(err.message.contains("exit status 137"), "{err}");
        fs::remove_file(&die).unwrap();
        lab.delete("c", "").await.unwrap();
    });
}

/// A file system of its own with room for little.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn new(lab: &Lab) -> Self {
        let path = lab.path("disk");
        fs::create_dir(&path).unwrap();
        let tmpfs = Some("tmpfs");
        mount(tmpfs, &path, tmpfs, MsFlags::empty(), Some("size=64k")).unwrap();
        Self(path)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = umount2(&self.0, MntFlags::MNT_DETACH);
    }
}

#[test]
fn a_full_disk_under_the_log_costs_lines_and_nothing_else() {
    in_lab(async |lab| {
        let disk = SmallDisk::new(lab);
        let log = disk.0.join("log");
        let filler = disk.0.join("filler");
        let socket = lab.path("s.sock");
        let program = "i=0; while [ $i -lt 2000 ]; do echo line $i; i=$((i+1)); done; \
                       while [ ! -e /tmp/go ]; do sleep 0.05; done; echo last; exit 5";
        fs::write(&filler, vec![b'x'; 32 << 10]).unwrap();
        lab.make_bundle("c", &["sh", "-c", program], |_| ());
        lab.start_shim("c").await;
        let mut request = lab.request("c");
        request.stdout = format!("session://{}?log={}", socket.display(), log.display());
        lab.create(request).await.unwrap();
        lab.start("c", "").await.unwrap();
        // Nothing is left of the disk, and the container goes on.
        while fs::metadata(&log).map_or(0, |meta| meta.len()) < 16 << 10 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        lab.exec("c", "e", &["true"], |_| ()).await.unwrap();
        lab.start("c", "e").await.unwrap();
        assert_eq!(lab.wait("c", "e").await, 0);
        fs::remove_file(&filler).unwrap();
        fs::write(lab.bundle("c").join("rootfs/tmp/go"), "").unwrap();
        assert_eq!(lab.wait("c", "").await, 5);
        let text = fs::read_to_string(&log).unwrap();
        for line in text.lines() {
            let _: serde_json::Value = serde_json::from_str(line).unwrap();
        }
        assert!(
            text.contains("\"last\\n\""),
            "the log is not taken up again"
        );
        lab.delete("c", "").await.unwrap();
    });
}

#[test]
fn a_fifo_nobody_opens_blocks_its_container_and_nothing_else() {
    in_lab(async |lab| {
        let fifo = lab.fifo();
        lab.make_bundle("c", &["yes"], |_| ());
        lab.start_shim("c").await;
        let mut request = lab.request("c");
        request.stdout = fifo.to_str().unwrap().into();
        lab.create(request).await.unwrap();
        lab.start("c", "").await.unwrap();
        for exec in ["e1", "e2"] {
            lab.exec("c", exec, &["sh", "-c", "exit 7"], |_| ())
                .await
                .unwrap();
            lab.start("c", exec).await.unwrap();
            assert_eq!(lab.wait("c", exec).await, 7);
        }
        lab.kill("c", "", 9).await.unwrap();
        assert_eq!(lab.wait("c", "").await, 137);
        lab.delete("c", "").await.unwrap();
        lab.shut_down("c").await;
    });
}
