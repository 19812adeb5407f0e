//! The daemon is killed; its containers are not.

use proto::engine::v1 as wire;

use crate::client::{
    Session, create, exec, inspect, list, logs, program, sh, start, starting, stop, wait,
};
use crate::daemon::Daemon;

#[tokio::test(flavor = "multi_thread")]
async fn a_container_lives_on_and_all_commands_work_after_a_restart() {
    let (mut daemon, mut client) = Daemon::with_busybox().await;
    let script = "trap 'exit 7' TERM; i=0; while :; do echo $i; i=$((i+1)); sleep 0.02; done";
    create(&mut client, sh("on", script)).await.unwrap();
    let mut session = Session::attach(&mut client, starting("on")).await.unwrap();
    session.until("1\n").await;
    let before = inspect(&mut client, "on").await.unwrap();
    daemon.kill();
    let mut client = daemon.restart().await;

    let after = inspect(&mut client, "on").await.unwrap();
    assert_eq!(after["State"], before["State"]);
    assert_eq!(
        exec(&mut client, "on", &["echo", "here"])
            .await
            .unwrap()
            .stdout,
        "here\n"
    );
    let attach = wire::session_input::Attach {
        start: false,
        ..starting("on")
    };
    Session::attach(&mut client, attach)
        .await
        .unwrap()
        .until("\n")
        .await;
    stop(&mut client, "on", None).await.unwrap();
    assert_eq!(wait(&mut client, "on").await.unwrap(), 7);
    // Not a line was lost while nobody was there.
    let text = logs(&mut client, "on", false, None).await.unwrap();
    for (number, line) in text.lines().enumerate() {
        assert_eq!(line, number.to_string());
    }
    assert!(text.lines().count() > 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_ended_meanwhile_has_its_exit_code() {
    let (mut daemon, mut client) = Daemon::with_busybox().await;
    let gate = "until [ -e /tmp/go ]; do sleep 0.02; done; echo bye; exit 5";
    create(&mut client, sh("ends", gate)).await.unwrap();
    start(&mut client, "ends").await.unwrap();
    let request = wire::CreateContainerRequest {
        auto_remove: true,
        ..sh("vanishes", gate)
    };
    create(&mut client, request).await.unwrap();
    start(&mut client, "vanishes").await.unwrap();
    let mut pids = Vec::new();
    for name in ["ends", "vanishes"] {
        pids.push(
            inspect(&mut client, name).await.unwrap()["State"]["Pid"]
                .as_i64()
                .unwrap(),
        );
    }
    daemon.kill();
    for pid in &pids {
        std::fs::write(format!("/proc/{pid}/root/tmp/go"), "").unwrap();
    }
    while pids
        .iter()
        .any(|pid| std::path::Path::new(&format!("/proc/{pid}")).exists())
    {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    let mut client = daemon.restart().await;
    assert_eq!(wait(&mut client, "ends").await.unwrap(), 5);
    assert_eq!(
        logs(&mut client, "ends", false, None).await.unwrap(),
        "bye\n"
    );
    while list(&mut client)
        .await
        .iter()
        .any(|row| row.name == "vanishes")
    {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    assert_eq!(
        std::fs::read_dir(daemon.root().join("containers"))
            .unwrap()
            .count(),
        1
    );
    assert_eq!(
        inspect(&mut client, "ends").await.unwrap()["State"]["Status"],
        "exited"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn created_containers_and_names_survive() {
    let (mut daemon, mut client) = Daemon::with_busybox().await;
    create(&mut client, program("kept", &["true"]))
        .await
        .unwrap();
    daemon.kill();
    let litter = daemon.root().join("containers").join("f".repeat(64));
    std::fs::create_dir(&litter).unwrap();
    let mut client = daemon.restart().await;
    assert!(
        create(&mut client, program("kept", &["true"]))
            .await
            .is_err()
    );
    // The daemon has answered, so it has swept.
    assert!(!litter.exists());
    start(&mut client, "kept").await.unwrap();
    assert_eq!(wait(&mut client, "kept").await.unwrap(), 0);
}
