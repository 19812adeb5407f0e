//! Plugins written in shell that hang, lie and write without end, and those
//! that note what they were told.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cni::client::{Client, Error};
use cni::{Attachment, CallError, Network};
use serde_json::Value;
use tempfile::TempDir;

struct Lab {
    dir: TempDir,
}

impl Lab {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("it can be made");
        fs::create_dir(dir.path().join("bin")).expect("it can be made");
        Self { dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A plugin that runs `script`.
    fn plugin(&self, name: &str, script: &str) {
        let path = self.path("bin").join(name);
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).expect("it can be written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("it is ours");
    }

    /// A plugin that notes each call as a line of command, its name, container
    /// and interface, keeps what it is sent, and answers with `answer`.
    fn noting(&self, name: &str, answer: &str) {
        let dir = self.dir.path().display();
        self.plugin(
            name,
            &format!(
                "cat >{dir}/{name}.$CNI_COMMAND\n\
                 echo $CNI_COMMAND {name} $CNI_CONTAINERID $CNI_IFNAME \"$CNI_NETNS\" \"$CNI_ARGS\" >>{dir}/calls\n\
                 [ $CNI_COMMAND = ADD ] || exit 0\n\
                 echo '{answer}'"
            ),
        );
    }

    fn calls(&self) -> Vec<String> {
        let text = fs::read_to_string(self.path("calls")).unwrap_or_default();
        text.lines().map(|line| line.trim().to_owned()).collect()
    }

    fn sent(&self, plugin: &str, command: &str) -> Value {
        let text = fs::read(self.path(&format!("{plugin}.{command}"))).expect("it was called");
        serde_json::from_slice(&text).expect("it was sent JSON")
    }

    fn client(&self) -> Client {
        Client::new(
            vec![self.path("none"), self.path("bin")],
            &self.path("cache"),
        )
    }
}

fn network(version: &str, plugins: &[&str]) -> Network {
    let plugins: Vec<_> = plugins
        .iter()
        .map(|kind| serde_json::json!({"type": kind, "capabilities": {"mac": true}}))
        .collect();
    let list = serde_json::json!({"cniVersion": version, "name": "n", "plugins": plugins});
    Network::parse_list(list.to_string().as_bytes()).expect("it is good")
}

fn attachment(container: &str) -> Attachment {
    let attachment = Attachment::new(container, "eth0").expect("it is good");
    attachment
        .in_netns(Path::new("/proc/self/ns/net"))
        .with_arg("K8S_POD_NAME", "web")
        .and_then(|a| a.with_arg("IgnoreUnknown", "1"))
        .expect("it is good")
}

const FIRST: &str = r#"{"cniVersion": "1.1.0", "ips": [{"address": "10.0.0.2/24"}]}"#;
const SECOND: &str =
    r#"{"cniVersion": "1.1.0", "ips": [{"address": "10.0.0.2/24"}, {"address": "10.0.0.3/24"}]}"#;

#[tokio::test]
async fn plugins_follow_each_other_and_are_undone_in_reverse() {
    let lab = Lab::new();
    lab.noting("one", FIRST);
    lab.noting("two", SECOND);
    let network = network("1.1.0", &["one", "two"]);
    let mut abc = attachment("abc");
    abc.capabilities.mac = Some("02:00:00:00:00:01".to_owned());

    let outcome = lab.client().add(&network, &abc).await.expect("it is added");
    assert_eq!(outcome.ips.len(), 2);
    assert!(lab.sent("one", "ADD").get("prevResult").is_none());
    assert_eq!(
        lab.sent("two", "ADD")["prevResult"]["ips"][0]["address"],
        "10.0.0.2/24"
    );
    assert_eq!(
        lab.sent("two", "ADD")["runtimeConfig"]["mac"],
        "02:00:00:00:00:01"
    );

    // A client that knows nothing but what is on disk.
    lab.client()
        .check(&network, &attachment("abc"))
        .await
        .expect("it is as it was");
    assert_eq!(
        lab.sent("one", "CHECK")["prevResult"]["ips"][1]["address"],
        "10.0.0.3/24"
    );
    lab.client().del_all("abc").await.expect("it is taken off");
    assert_eq!(
        lab.sent("two", "DEL")["prevResult"]["ips"][1]["address"],
        "10.0.0.3/24"
    );
    let args = "/proc/self/ns/net K8S_POD_NAME=web;IgnoreUnknown=1";
    let expected: Vec<_> = [
        "ADD one",
        "ADD two",
        "CHECK one",
        "CHECK two",
        "DEL two",
        "DEL one",
    ]
    .iter()
    .map(|call| format!("{call} abc eth0 {args}"))
    .collect();
    assert_eq!(lab.calls(), expected);
    assert!(lab.client().cache().all().expect("readable").is_empty());
}

#[tokio::test]
async fn del_goes_by_the_configuration_of_add() {
    let lab = Lab::new();
    lab.noting("old", FIRST);
    lab.noting("new", FIRST);
    let client = lab.client();
    client
        .add(&network("1.0.0", &["old"]), &attachment("abc"))
        .await
        .expect("it is added");
    client
        .del(&network("1.0.0", &["new"]), &attachment("abc"))
        .await
        .expect("it is taken off");
    let plugins: Vec<_> = lab
        .calls()
        .iter()
        .map(|c| c.chars().take(7).collect::<String>())
        .collect();
    assert_eq!(plugins, ["ADD old", "DEL old"]);
}

#[tokio::test]
async fn a_plugin_that_refuses_is_quoted_and_the_others_are_undone() {
    let lab = Lab::new();
    lab.noting("one", FIRST);
    lab.plugin(
        "two",
        r#"[ $CNI_COMMAND = ADD ] || exit 0
           echo '{"cniVersion": "1.0.0", "code": 11, "msg": "no address", "details": "left"}'; exit 1"#,
    );
    let err = lab
        .client()
        .add(&network("1.0.0", &["one", "two"]), &attachment("abc"))
        .await
        .expect_err("it is refused");
    assert_eq!(err.to_string(), "ADD abc to network n: plugin two");
    let refusal = err.refusal().expect("the plugin spoke");
    assert_eq!(
        refusal.to_string(),
        "no address; left (CNI error 11: try again later)"
    );
    let commands: Vec<_> = lab
        .calls()
        .iter()
        .map(|c| c.chars().take(7).collect::<String>())
        .collect();
    assert_eq!(commands, ["ADD one", "DEL one"]);
    assert!(lab.client().cache().all().expect("readable").is_empty());
}

#[tokio::test]
async fn without_one_of_its_plugins_a_network_is_not_begun() {
    let lab = Lab::new();
    lab.noting("one", FIRST);
    let network = network("1.0.0", &["one", "away"]);
    let err = lab.client().add(&network, &attachment("abc")).await;
    let err = err.expect_err("it is not there");
    assert_eq!(err.to_string(), "ADD abc to network n: plugin away");
    assert_eq!(lab.calls(), Vec::<String>::new());
    assert!(lab.client().cache().all().expect("readable").is_empty());
    lab.client().del_all("abc").await.expect("there is nothing");
}

#[tokio::test]
async fn what_could_not_be_undone_stays_known() {
    let lab = Lab::new();
    lab.plugin("one", "echo broken >&2; exit 3");
    let network = network("1.0.0", &["one"]);
    let err = lab
        .client()
        .add(&network, &attachment("abc"))
        .await
        .expect_err("it fails");
    assert_eq!(cause(&err), "plugin ended with status 3: broken");
    assert_eq!(lab.client().cache().all().expect("readable").len(), 1);
    lab.noting("one", FIRST);
    lab.client()
        .gc(&network, &[])
        .await
        .expect("it is cleared away");
    assert!(lab.client().cache().all().expect("readable").is_empty());
}

fn cause(err: &Error) -> String {
    let source = std::error::Error::source(err).expect("it has a cause");
    source.to_string()
}

#[track_caller]
fn fails(script: &str, why: &str) {
    let lab = Lab::new();
    lab.plugin("bad", script);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("it can be made");
    let err = runtime
        .block_on(
            lab.client()
                .with_limit(Duration::from_secs(20))
                .add(&network("1.0.0", &["bad"]), &attachment("abc")),
        )
        .expect_err(script);
    assert_eq!(cause(&err), why, "{script}");
}

#[test]
fn answers_that_make_no_sense_are_refused() {
    fails("true", "result is not a CNI result");
    fails("echo hello", "result is not a CNI result");
    fails(
        "echo '{\"ips\": [{\"address\": \"everywhere\"}]}'",
        "result is not a CNI result",
    );
    fails(
        "head -c 3000000 /dev/zero",
        "plugin wrote more than 1048576 bytes and was killed",
    );
    fails("echo gone; exit 1", "plugin ended with status 1: gone");
    fails("kill -9 $$", "plugin ended with signal 9");
    fails(
        "head -c 100000 /dev/zero | tr '\\0' x >&2; exit 1",
        &format!("plugin ended with status 1: {}", "x".repeat(1024)),
    );
}

#[tokio::test]
async fn a_plugin_that_hangs_is_killed_with_all_it_started() {
    let lab = Lab::new();
    let pid = lab.path("pid");
    lab.plugin(
        "slow",
        &format!(
            "[ $CNI_COMMAND = ADD ] || exit 0\nsh -c 'echo $$ >{}; exec sleep 1000' &\nwait",
            pid.display()
        ),
    );
    let err = lab
        .client()
        .with_limit(Duration::from_secs(3))
        .add(&network("1.0.0", &["slow"]), &attachment("abc"))
        .await
        .expect_err("it is killed");
    let Error::Plugin { source, .. } = &err else {
        panic!("{err:?}");
    };
    assert!(matches!(**source, CallError::Timeout { .. }), "{err:?}");
    let pid = fs::read_to_string(pid).expect("it was started");
    let ended = || {
        let stat = fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
        stat.is_empty() || stat.contains(") Z ")
    };
    for _ in 0..600 {
        if ended() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("what the plugin started is still there");
}

#[tokio::test]
async fn gc_takes_off_what_is_not_valid_and_tells_the_plugins() {
    let lab = Lab::new();
    lab.noting("one", FIRST);
    let network = network("1.1.0", &["one"]);
    for container in ["keep", "drop"] {
        lab.client()
            .add(&network, &attachment(container))
            .await
            .expect("it is added");
    }
    let valid = [("keep".to_owned(), "eth0".to_owned())];
    lab.client()
        .gc(&network, &valid)
        .await
        .expect("it is cleared away");
    let left = lab.client().cache().all().expect("readable");
    let left: Vec<_> = left.iter().map(|a| a.attachment.container()).collect();
    assert_eq!(left, ["keep"]);
    assert_eq!(
        lab.sent("one", "GC")["cni.dev/valid-attachments"],
        serde_json::json!([{"containerID": "keep", "ifname": "eth0"}])
    );
    let calls: Vec<_> = lab
        .calls()
        .iter()
        .skip(2)
        .map(|c| c.chars().take(7).collect::<String>())
        .collect();
    assert_eq!(calls, ["DEL one", "GC one"]);
}

#[tokio::test]
async fn a_namespace_that_is_gone_is_not_named_at_del() {
    let lab = Lab::new();
    lab.noting("one", FIRST);
    let gone = Attachment::new("abc", "eth0")
        .expect("it is good")
        .in_netns(&lab.path("gone"));
    let network = network("1.0.0", &["one"]);
    lab.client()
        .add(&network, &gone)
        .await
        .expect("it is added");
    lab.client()
        .del(&network, &gone)
        .await
        .expect("it is taken off");
    assert_eq!(lab.calls()[1], "DEL one abc eth0");
}

#[tokio::test]
async fn status_and_check_go_by_the_version() {
    let lab = Lab::new();
    lab.plugin("no", r#"echo '{"code": 50, "msg": "not yet"}'; exit 1"#);
    let client = lab.client();
    let err = client
        .status(&network("1.1.0", &["no"]))
        .await
        .expect_err("it says no");
    assert_eq!(err.refusal().map(|r| r.code), Some(50));
    assert_eq!(err.to_string(), "STATUS of network n: plugin no");
    client
        .status(&network("1.0.0", &["no"]))
        .await
        .expect("it is not asked");
    let err = client
        .status(&network("1.0.0", &["away"]))
        .await
        .expect_err("it is not there");
    assert!(cause(&err).starts_with("plugin is in none of "), "{err:?}");

    let err = client
        .check(&network("0.3.1", &["no"]), &attachment("abc"))
        .await;
    assert_eq!(
        err.expect_err("there is none").to_string(),
        "network n is of CNI version 0.3.1, which has no CHECK"
    );
    let err = client
        .check(&network("1.0.0", &["no"]), &attachment("abc"))
        .await;
    assert_eq!(
        err.expect_err("it never was").to_string(),
        "abc is not attached to network n with eth0"
    );
}
