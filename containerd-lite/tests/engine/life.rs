//! Names, start, stop, kill, remove, logs.

use std::collections::BTreeSet;

use proto::engine::v1 as wire;
use tonic::Code;

use crate::client::{
    create, inspect, kill, list, logs, program, remove, run, sh, start, stop, wait,
};
use crate::daemon::Daemon;

/// Says when it is ready, ends with 7 on TERM.
const TRAPPER: &str = "trap 'exit 7' TERM; echo ready; while :; do sleep 0.05; done";

async fn ready(client: &mut crate::client::Client, name: &str, script: &str) {
    create(client, sh(name, script)).await.unwrap();
    start(client, name).await.unwrap();
    let request = wire::ReadLogsRequest {
        container: name.to_owned(),
        follow: true,
        tail: None,
        ..Default::default()
    };
    let mut entries = client.read_logs(request).await.unwrap().into_inner();
    assert_eq!(entries.message().await.unwrap().unwrap().data, "ready\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_is_given_once_however_many_ask() {
    let (_daemon, mut client) = Daemon::with_busybox().await;
    let id = create(&mut client, sh("same", "true")).await.unwrap();
    let refused = create(&mut client, sh("same", "true")).await.unwrap_err();
    assert_eq!(refused.code(), Code::AlreadyExists);
    assert_eq!(
        refused.message(),
        format!(
            "Conflict. The container name \"/same\" is already in use by container \"{id}\". You have to remove (or rename) that container to be able to reuse that name."
        )
    );
    let mut racers = tokio::task::JoinSet::new();
    for _ in 0..16 {
        let mut client = client.clone();
        racers.spawn(async move { create(&mut client, sh("race", "true")).await.is_ok() });
    }
    assert_eq!(
        racers
            .join_all()
            .await
            .into_iter()
            .filter(|won| *won)
            .count(),
        1
    );
    let names: BTreeSet<_> = list(&mut client)
        .await
        .into_iter()
        .map(|c| c.name)
        .collect();
    assert_eq!(
        names,
        BTreeSet::from(["race".to_owned(), "same".to_owned()])
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn invented_names_and_prefixes_find_a_container() {
    let (_daemon, mut client) = Daemon::with_busybox().await;
    let id = create(&mut client, sh("", "true")).await.unwrap();
    let object = inspect(&mut client, &id[..6]).await.unwrap();
    assert_eq!(object["Id"], id);
    let name = object["Name"].as_str().unwrap().to_owned();
    assert!(name.starts_with('/') && name.contains('_'), "{name}");
    assert_eq!(inspect(&mut client, &name).await.unwrap()["Id"], id);
    let refused = inspect(&mut client, "nobody").await.unwrap_err();
    assert_eq!(
        (refused.code(), refused.message()),
        (Code::NotFound, "No such container: nobody")
    );
    let refused = create(&mut client, sh("a/b", "true")).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
}

#[tokio::test(flavor = "multi_thread")]
async fn stop_asks_first_and_kills_then() {
    let (_daemon, mut client) = Daemon::with_busybox().await;
    ready(&mut client, "polite", TRAPPER).await;
    stop(&mut client, "polite", None).await.unwrap();
    assert_eq!(wait(&mut client, "polite").await.unwrap(), 7);
    // Stopping what does not run is fine.
    stop(&mut client, "polite", None).await.unwrap();

    ready(
        &mut client,
        "deaf",
        "trap '' TERM; echo ready; while :; do sleep 0.05; done",
    )
    .await;
    stop(&mut client, "deaf", Some(0)).await.unwrap();
    assert_eq!(wait(&mut client, "deaf").await.unwrap(), 137);
    assert!(
        list(&mut client)
            .await
            .iter()
            .all(|c| c.status.starts_with("Exited ("))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn kill_sends_any_signal_to_what_runs() {
    let (_daemon, mut client) = Daemon::with_busybox().await;
    ready(
        &mut client,
        "k1",
        "trap 'exit 5' USR1; echo ready; while :; do sleep 0.05; done",
    )
    .await;
    let refused = kill(&mut client, "k1", "NOPE").await.unwrap_err();
    assert_eq!(
        (refused.code(), refused.message()),
        (Code::InvalidArgument, "invalid signal: NOPE")
    );
    kill(&mut client, "k1", "SIGUSR1").await.unwrap();
    assert_eq!(wait(&mut client, "k1").await.unwrap(), 5);
    let refused = kill(&mut client, "k1", "").await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert!(refused.message().ends_with("is not running"), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_container_starts_again() {
    let (_daemon, mut client) = Daemon::with_busybox().await;
    create(
        &mut client,
        sh(
            "again",
            "echo run; echo x >> /tmp/count; exit $(wc -l < /tmp/count)",
        ),
    )
    .await
    .unwrap();
    for run in 1..=3 {
        start(&mut client, "again").await.unwrap();
        assert_eq!(wait(&mut client, "again").await.unwrap(), run);
    }
    assert_eq!(
        logs(&mut client, "again", false, None).await.unwrap(),
        "run\nrun\nrun\n"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_container_is_removed_only_by_force() {
    let (daemon, mut client) = Daemon::with_busybox().await;
    ready(&mut client, "r1", TRAPPER).await;
    let refused = remove(&mut client, "r1", false).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert!(
        refused
            .message()
            .starts_with("cannot remove container \"/r1\": container is running"),
        "{refused:?}"
    );
    remove(&mut client, "r1", true).await.unwrap();
    assert_eq!(
        remove(&mut client, "r1", true).await.unwrap_err().code(),
        Code::NotFound
    );
    assert_eq!(
        std::fs::read_dir(daemon.root().join("containers"))
            .unwrap()
            .count(),
        0
    );
    // The name is free.
    create(&mut client, sh("r1", "true")).await.unwrap();
    remove(&mut client, "r1", false).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_tail_and_follow() {
    let (_daemon, mut client) = Daemon::with_busybox().await;
    let script = "for i in 1 2 3 4 5; do echo $i; sleep 0.02; done; printf end";
    create(&mut client, sh("l1", script)).await.unwrap();
    start(&mut client, "l1").await.unwrap();
    assert_eq!(
        logs(&mut client, "l1", true, None).await.unwrap(),
        "1\n2\n3\n4\n5\nend"
    );
    assert_eq!(
        logs(&mut client, "l1", false, Some(2)).await.unwrap(),
        "5\nend"
    );
    assert_eq!(logs(&mut client, "l1", false, Some(0)).await.unwrap(), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_list_is_newest_first_with_dockers_words() {
    let (_daemon, mut client) = Daemon::with_busybox().await;
    run(&mut client, sh("first", "exit 1")).await.unwrap();
    create(&mut client, program("second", &["sleep", "60"]))
        .await
        .unwrap();
    start(&mut client, "second").await.unwrap();
    create(&mut client, sh("third", "true")).await.unwrap();
    let rows = list(&mut client).await;
    let names: Vec<_> = rows.iter().map(|row| row.name.as_str()).collect();
    assert_eq!(names, ["third", "second", "first"]);
    assert_eq!(rows[0].status, "Created");
    assert!(rows[1].status.starts_with("Up "), "{}", rows[1].status);
    assert!(
        rows[2].status.starts_with("Exited (1) "),
        "{}",
        rows[2].status
    );
    assert_eq!(rows[1].argv, ["sleep", "60"]);
    assert_eq!(rows[1].image, "busybox");
}
