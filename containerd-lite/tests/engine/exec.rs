//! More processes in a running container.

use proto::engine::v1 as wire;
use proto::engine::v1::session_input::Exec;
use tonic::Code;

use crate::client::{Client, Session, create, exec, exit_code, kill, program, start, wait};
use crate::daemon::Daemon;

async fn sleeper(client: &mut Client) {
    let request = wire::CreateContainerRequest {
        env: vec!["A=1".to_owned()],
        ..program("c1", &["sleep", "600"])
    };
    create(client, request).await.unwrap();
    start(client, "c1").await.unwrap();
}

fn words(args: &[&str]) -> Vec<String> {
    args.iter().map(|&word| word.to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exec_has_its_own_output_and_exit_code() {
    let (_daemon, mut client) = Daemon::with_busybox().await;
    sleeper(&mut client).await;
    let said = exec(
        &mut client,
        "c1",
        &["sh", "-c", "echo $A; echo e >&2; exit 4"],
    )
    .await
    .unwrap();
    assert_eq!(
        (said.stdout.as_str(), said.stderr.as_str(), said.code),
        ("1\n", "e\n", Some(4))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exec_takes_settings_of_its_own_and_input() {
    let (_daemon, mut client) = Daemon::with_busybox().await;
    sleeper(&mut client).await;
    let request = Exec {
        container: "c1".to_owned(),
        args: words(&["sh", "-c", "id -u; id -g; pwd; echo $A$B; cat"]),
        env: words(&["A=2", "B=3"]),
        workdir: "/etc".to_owned(),
        user: "web".to_owned(),
        stdin: true,
        ..Default::default()
    };
    let session = Session::exec(&mut client, request).await.unwrap();
    session.type_in("typed\n").await;
    session.close_stdin().await;
    let said = session.finish().await;
    assert_eq!(
        (said.stdout.as_str(), said.code),
        ("33\n34\n/etc\n23\ntyped\n", Some(0)),
        "{said:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exec_with_a_terminal_has_a_size() {
    let (_daemon, mut client) = Daemon::with_busybox().await;
    sleeper(&mut client).await;
    let request = Exec {
        container: "c1".to_owned(),
        args: words(&["stty", "size"]),
        tty: true,
        stdin: true,
        window: Some(wire::WindowSize {
            columns: 90,
            rows: 30,
        }),
        ..Default::default()
    };
    let said = Session::exec(&mut client, request)
        .await
        .unwrap()
        .finish()
        .await;
    assert_eq!((said.stdout.as_str(), said.code), ("30 90\r\n", Some(0)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_detached_exec_runs_on() {
    let (_daemon, mut client) = Daemon::with_busybox().await;
    sleeper(&mut client).await;
    let args = words(&["sh", "-c", "echo done > /tmp/x"]);
    let request = Exec {
        container: "c1".to_owned(),
        args,
        detach: true,
        ..Default::default()
    };
    let said = Session::exec(&mut client, request)
        .await
        .unwrap()
        .finish()
        .await;
    assert_eq!(said.code, None);
    let look = "until [ -s /tmp/x ]; do sleep 0.02; done; cat /tmp/x";
    assert_eq!(
        exec(&mut client, "c1", &["sh", "-c", look])
            .await
            .unwrap()
            .stdout,
        "done\n"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_carry_dockers_codes() {
    let (_daemon, mut client) = Daemon::with_busybox().await;
    sleeper(&mut client).await;
    let refused = exec(&mut client, "c1", &["no-such-program"])
        .await
        .unwrap_err();
    assert_eq!(exit_code(&refused), Some("127"), "{refused:?}");
    let refused = exec(&mut client, "c1", &["/etc/plain"]).await.unwrap_err();
    assert_eq!(exit_code(&refused), Some("126"), "{refused:?}");
    kill(&mut client, "c1", "KILL").await.unwrap();
    assert_eq!(wait(&mut client, "c1").await.unwrap(), 137);
    let refused = exec(&mut client, "c1", &["true"]).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert!(refused.message().ends_with("is not running"), "{refused:?}");
}
