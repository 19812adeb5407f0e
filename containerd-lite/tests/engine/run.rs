//! Running in the foreground: output, exit codes, input, terminals.

use proto::engine::v1 as wire;
use proto::engine::v1::session_input::{Attach, Message as Input};
use tonic::Code;

use crate::client::{Session, create, exit_code, inspect, list, program, run, sh, starting, wait};
use crate::daemon::Daemon;

#[tokio::test(flavor = "multi_thread")]
async fn both_outputs_and_the_exit_code_arrive() {
    let (_daemon, mut client) = Daemon::with_busybox().await;
    let said = run(&mut client, sh("", "echo out; echo err >&2; exit 3"))
        .await
        .unwrap();
    assert_eq!(
        (said.stdout.as_str(), said.stderr.as_str(), said.code),
        ("out\n", "err\n", Some(3))
    );
    let id = list(&mut client).await.remove(0).id;
    let state = &inspect(&mut client, &id).await.unwrap()["State"];
    assert_eq!(
        (state["Status"].as_str(), state["ExitCode"].as_i64()),
        (Some("exited"), Some(3))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn every_byte_of_a_large_output_arrives() {
    let (_daemon, mut client) = Daemon::with_busybox().await;
    let script = "i=0; while [ $i -lt 20000 ]; do echo line-$i; i=$((i+1)); done";
    let said = run(&mut client, sh("", script)).await.unwrap();
    assert_eq!(said.stdout.lines().count(), 20000);
    assert!(said.stdout.ends_with("line-19999\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn configuration_of_image_and_user_is_what_the_process_sees() {
    let (_daemon, mut client) = Daemon::with_busybox().await;
    let request = wire::CreateContainerRequest {
        env: vec!["FROM_USER=2".to_owned()],
        user: "web".to_owned(),
        hostname: "box".to_owned(),
        ..sh(
            "",
            "id -u; id -G; hostname; pwd; echo $FROM_IMAGE$FROM_USER; cat /etc/hostname; echo $HOME",
        )
    };
    let said = run(&mut client, request).await.unwrap();
    assert_eq!(
        said.stdout, "33\n34 50\nbox\n/work\n12\nbox\n/tmp\n",
        "{said:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn input_reaches_the_process_until_it_is_closed() {
    let (_daemon, mut client) = Daemon::with_busybox().await;
    let request = wire::CreateContainerRequest {
        stdin: true,
        stdin_once: true,
        ..program("in", &["cat"])
    };
    create(&mut client, request).await.unwrap();
    let session = Session::attach(
        &mut client,
        Attach {
            stdin: true,
            ..starting("in")
        },
    )
    .await
    .unwrap();
    session.type_in("hello\n").await;
    session.close_stdin().await;
    let said = session.finish().await;
    assert_eq!((said.stdout.as_str(), said.code), ("hello\n", Some(0)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminal_has_the_clients_size_from_the_start_and_follows_it() {
    let (_daemon, mut client) = Daemon::with_busybox().await;
    let request = wire::CreateContainerRequest {
        tty: true,
        stdin: true,
        ..sh("", "stty size; read x; stty size; tty; exit 4")
    };
    let id = create(&mut client, request).await.unwrap();
    let window = Some(wire::WindowSize {
        columns: 100,
        rows: 40,
    });
    let mut session = Session::attach(
        &mut client,
        Attach {
            stdin: true,
            window,
            ..starting(&id)
        },
    )
    .await
    .unwrap();
    session.until("40 100\r\n").await;
    session
        .send(Input::Resize(wire::WindowSize {
            columns: 81,
            rows: 25,
        }))
        .await;
    session.type_in("\n").await;
    let said = session.finish().await;
    assert!(said.stdout.contains("25 81\r\n/dev/pts/0\r\n"), "{said:?}");
    assert_eq!(said.code, Some(4));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_detaches() {
    let (_daemon, mut client) = Daemon::with_busybox().await;
    create(
        &mut client,
        sh("d1", "echo one; sleep 0.3; echo two; exit 6"),
    )
    .await
    .unwrap();
    let mut session = Session::attach(&mut client, starting("d1")).await.unwrap();
    session.until("one\n").await;
    drop(session);
    assert_eq!(wait(&mut client, "d1").await.unwrap(), 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_cannot_run_is_told_apart_and_leaves_the_container_created() {
    let (_daemon, mut client) = Daemon::with_busybox().await;
    for (name, command, code) in [
        ("a1", "no-such-program", "127"),
        ("a2", "/no/such", "127"),
        ("a3", "/etc/plain", "126"),
    ] {
        let refused = run(&mut client, program(name, &[command]))
            .await
            .unwrap_err();
        assert_eq!(exit_code(&refused), Some(code), "{command}: {refused:?}");
        let state = &inspect(&mut client, name).await.unwrap()["State"];
        assert_eq!(
            (
                state["Status"].as_str(),
                state["ExitCode"].to_string().as_str()
            ),
            (Some("created"), code)
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_that_removes_itself_is_gone_when_its_client_is_told() {
    let (daemon, mut client) = Daemon::with_busybox().await;
    let request = wire::CreateContainerRequest {
        auto_remove: true,
        ..sh("once", "exit 9")
    };
    let said = run(&mut client, request).await.unwrap();
    assert_eq!(said.code, Some(9));
    assert!(list(&mut client).await.is_empty());
    assert_eq!(
        std::fs::read_dir(daemon.root().join("containers"))
            .unwrap()
            .count(),
        0
    );

    let request = wire::CreateContainerRequest {
        auto_remove: true,
        ..program("once", &["no-such-program"])
    };
    let refused = run(&mut client, request).await.unwrap_err();
    assert_eq!(exit_code(&refused), Some("127"));
    assert!(list(&mut client).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_image_and_an_unknown_user_are_named() {
    let (_daemon, mut client) = Daemon::with_busybox().await;
    let request = wire::CreateContainerRequest {
        image: "nope".to_owned(),
        ..sh("", "true")
    };
    let refused = create(&mut client, request).await.unwrap_err();
    assert_eq!(
        (refused.code(), refused.message()),
        (Code::NotFound, "No such image: nope:latest")
    );
    let request = wire::CreateContainerRequest {
        user: "ghost".to_owned(),
        ..sh("", "true")
    };
    let refused = run(&mut client, request).await.unwrap_err();
    assert!(
        refused.message().contains("unable to find user ghost"),
        "{refused:?}"
    );
}
