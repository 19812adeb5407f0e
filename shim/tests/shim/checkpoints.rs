//! Checkpoint and restore through the runtime, with CRIU.

use std::fs;

use prost::Message;
use prost_types::Any;
use proto::containerd::runc::v1::CheckpointOptions;
use proto::containerd::task::v2::CheckpointTaskRequest;
use proto::containerd::v1::types::Status as TaskStatus;
use ttrpc_wire::{Code, Status};

use crate::lab::{Lab, criu_works, in_lab};

async fn checkpoint(lab: &Lab, options: CheckpointOptions) -> Result<(), Status> {
    let request = CheckpointTaskRequest {
        id: "c".into(),
        path: lab.path("image").to_str().unwrap().into(),
        options: Some(Any {
            type_url: "containerd.runc.v1.CheckpointOptions".into(),
            value: options.encode_to_vec(),
        }),
    };
    lab.call("c", "Checkpoint", request).await
}

#[test]
fn a_container_goes_on_from_its_checkpoint() {
    if !criu_works() {
        return;
    }
    in_lab(async |lab| {
        // Counts in a file, so that what was restored can be told from a new start.
        let count = "n=0; while :; do n=$((n+1)); echo $n >/tmp/n; sleep 0.05; done";
        let counted = lab.bundle("c").join("rootfs/tmp/n");
        let now = || -> u32 {
            let text = fs::read_to_string(&counted).unwrap_or_default();
            text.trim().parse().unwrap_or(0)
        };
        lab.run("c", &["sh", "-c", count]).await;
        while now() < 5 {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        // It goes on, then is ended by the second one.
        checkpoint(lab, CheckpointOptions::default()).await.unwrap();
        assert_eq!(
            lab.state("c", "").await.unwrap().status(),
            TaskStatus::Running
        );
        fs::remove_dir_all(lab.path("image")).unwrap();
        let end = CheckpointOptions {
            exit: true,
            ..Default::default()
        };
        checkpoint(lab, end).await.unwrap();
        assert_eq!(lab.wait("c", "").await, 137);
        let at = now();
        lab.delete("c", "").await.unwrap();
        lab.shut_down("c").await;

        fs::write(&counted, "0").unwrap();
        lab.start_shim("c").await;
        let mut request = lab.request("c");
        request.checkpoint = lab.path("image").to_str().unwrap().into();
        // Debian's runc does not always get along with a newer CRIU on a busy
        // machine; a restore that failed has ended the container.
        let mut tries = 3;
        let pid = loop {
            assert_eq!(lab.create(request.clone()).await.unwrap(), 0);
            assert_eq!(
                lab.state("c", "").await.unwrap().status(),
                TaskStatus::Created
            );
            match lab.start("c", "").await {
                Ok(pid) => break pid,
                Err(err) if tries > 0 && err.message.contains("criu failed: type NOTIFY") => {
                    tries -= 1;
                    lab.delete("c", "").await.unwrap();
                }
                Err(err) => panic!("{err}"),
            }
        };
        assert!(pid > 0);
        while now() <= at {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        lab.exec("c", "e", &["sh", "-c", "exit 4"], |_| ())
            .await
            .unwrap();
        lab.start("c", "e").await.unwrap();
        assert_eq!(lab.wait("c", "e").await, 4);
        lab.kill("c", "", 9).await.unwrap();
        assert_eq!(lab.wait("c", "").await, 137);
        lab.delete("c", "").await.unwrap();
        let checkpointed = |topic: &&String| *topic == "/tasks/checkpointed";
        while lab.topics().iter().filter(checkpointed).count() < 2 {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    });
}

#[test]
fn what_cannot_be_checkpointed_or_restored_is_told_and_leaves_nothing() {
    in_lab(async |lab| {
        lab.make_bundle("c", &["sleep", "1000"], |_| ());
        lab.start_shim("c").await;
        lab.create(lab.request("c")).await.unwrap();
        let early = checkpoint(lab, CheckpointOptions::default()).await;
        assert_eq!(early.unwrap_err().code, Code::FailedPrecondition);
        lab.delete("c", "").await.unwrap();

        let mut request = lab.request("c");
        request.checkpoint = lab.path("no-image").to_str().unwrap().into();
        lab.create(request.clone()).await.unwrap();
        let err = lab.start("c", "").await.unwrap_err();
        assert!(
            err.message.starts_with("OCI runtime restore failed: "),
            "{err}"
        );
        assert_eq!(lab.wait("c", "").await, 255);
        lab.delete("c", "").await.unwrap();
        // One that is never started needs no runtime to be deleted.
        lab.create(request).await.unwrap();
        lab.delete("c", "").await.unwrap();
        lab.shut_down("c").await;
    });
}
