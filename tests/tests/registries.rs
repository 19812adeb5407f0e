//! Images to registries and back, logins and searches, against Debian's
//! docker-registry, with skopeo as the other side.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use tests::command::{self, Said};
use tests::need::{Need, skip};
use tests::registry::{PASSWORD, Registry, USER};
use tests::stack::{BUSYBOX, Stack};

/// The manifest that skopeo finds under a name.
#[track_caller]
fn skopeo_inspect(name: &str, args: &[&str]) -> Value {
    let mut skopeo = Command::new("skopeo");
    skopeo
        .args(["inspect", "--tls-verify=false"])
        .args(args)
        .arg(format!("docker://{name}"));
    serde_json::from_str(&command::run(&mut skopeo).ok()).expect("skopeo prints JSON")
}

/// A last line `TAG: digest: sha256:… size: N` gives the digest.
#[track_caller]
fn digest_of(said: &str, tag: &str) -> String {
    let last = said.lines().last().unwrap_or_default();
    let rest = last.strip_prefix(&format!("{tag}: digest: "));
    let rest = rest.unwrap_or_else(|| panic!("the digest of {tag} in {said}"));
    rest.split(' ').next().unwrap_or_default().to_owned()
}

#[test]
fn what_is_pushed_can_be_pulled_by_others_and_by_us() {
    if skip(&[Need::Registry]) {
        return;
    }
    let stack = Stack::with_busybox();
    let registry = Registry::start(stack.scratch());
    let name = registry.reference("team/made");
    stack
        .ctl(&[
            "run",
            "--name",
            "c1",
            BUSYBOX,
            "sh",
            "-c",
            "echo pushed > /file",
        ])
        .ok();
    stack.ctl(&["commit", "c1", &format!("{name}:v1")]).ok();
    let said = stack.ctl(&["push", &format!("{name}:v1")]).ok();
    assert!(
        said.starts_with(&format!("The push refers to repository [{name}]\n")),
        "{said}"
    );
    assert_eq!(said.matches(": Pushed\n").count(), 2, "{said}");
    let digest = digest_of(&said, "v1");
    let seen = skopeo_inspect(&format!("{name}:v1"), &[]);
    assert_eq!(seen["Digest"], digest.as_str());
    assert_eq!(seen["Layers"].as_array().map(Vec::len), Some(2));
    // All of it is there now.
    let again = stack.ctl(&["push", &format!("{name}:v1")]).ok();
    assert_eq!(
        again.matches(": Layer already exists\n").count(),
        2,
        "{again}"
    );
    assert_eq!(digest_of(&again, "v1"), digest);
    // Another repository gets the layers from this one.
    let other = registry.reference("other/made");
    stack.ctl(&["tag", &format!("{name}:v1"), &other]).ok();
    let mounted = stack.ctl(&["push", &other]).ok();
    assert!(
        mounted.starts_with("Using default tag: latest\n"),
        "{mounted}"
    );
    assert_eq!(
        mounted.matches(": Mounted from team/made\n").count(),
        2,
        "{mounted}"
    );
    // Every tag at once, and nothing but the name when that is asked for.
    stack
        .ctl(&["tag", &format!("{name}:v1"), &format!("{name}:v2")])
        .ok();
    let all = stack.ctl(&["push", "-a", &name]).ok();
    assert_eq!(digest_of(&all, "v2"), digest);
    assert_eq!(
        stack.ctl(&["push", "-q", &format!("{name}:v2")]).ok(),
        format!("{name}:v2\n")
    );
    let tags = skopeo_inspect(&format!("{name}:v2"), &[]);
    assert_eq!(tags["RepoTags"], serde_json::json!(["v1", "v2"]));
    // Gone here, it comes back as it was.
    stack.ctl(&["rm", "c1"]).ok();
    let names = [
        format!("{name}:v1"),
        format!("{name}:v2"),
        format!("{other}:latest"),
    ];
    stack.ctl(&["rmi", &names[0], &names[1], &names[2]]).ok();
    let pulled = stack.ctl(&["pull", &format!("{name}:v1")]).ok();
    assert!(pulled.contains(&format!("Digest: {digest}\n")), "{pulled}");
    let read = stack.ctl(&["run", "--rm", &format!("{name}:v1"), "cat", "/file"]);
    assert_eq!(read.ok(), "pushed\n");
}

#[test]
fn a_push_that_cannot_be_says_why() {
    if skip(&[Need::Registry]) {
        return;
    }
    let stack = Stack::with_busybox();
    let mut registry = Registry::start(stack.scratch());
    let name = registry.reference("nothing/here");
    stack
        .ctl(&["push", "-q", &name])
        .exits(1)
        .fails_naming(&["An image does not exist locally with the tag", &name]);
    stack
        .ctl(&["push", "-a", &format!("{name}:v1")])
        .exits(1)
        .fails_naming(&["tag can't be used with --all-tags/-a"]);
    stack.ctl(&["push", "UPPER"]).exits(1);
    registry.stop();
    stack.ctl(&["tag", BUSYBOX, &name]).ok();
    let said = stack.ctl(&["push", &name]).exits(1);
    assert!(said.err.contains("unreachable"), "{said}");
}

/// `ctl args…` with Docker's configuration in `dir`, and `path` before PATH.
#[track_caller]
fn as_user(stack: &Stack, dir: &Path, args: &[&str], input: &str) -> Said {
    let path = std::env::var("PATH").unwrap_or_default();
    let mut command = stack.ctl_command(args);
    command
        .env("DOCKER_CONFIG", dir)
        .env("PATH", format!("{}:{path}", dir.display()));
    command::run_with_input(&mut command, input.as_bytes())
}

/// A credential helper that keeps its secrets in a file beside it.
fn write_helper(dir: &Path, name: &str) {
    let file = dir.join(format!("docker-credential-{name}"));
    let script = "#!/bin/sh\n\
        d=\"${0%/*}/secrets\"; mkdir -p \"$d\"\n\
        case $1 in\n\
        store) cat > \"$d/new\"; mv \"$d/new\" \"$d/only\";;\n\
        get) [ -e \"$d/only\" ] || { echo 'credentials not found in native keychain'; exit 1; }; cat \"$d/only\";;\n\
        erase) rm -f \"$d/only\";;\n\
        esac\n";
    // By another process: one that forks meanwhile would keep the file open for
    // writing, and it could not be run.
    let mut copy = Command::new("sh");
    copy.args(["-c", "cat > \"$1\" && chmod 755 \"$1\"", "sh"])
        .arg(&file);
    command::run_with_input(&mut copy, script.as_bytes()).ok();
}

#[test]
fn a_login_is_kept_by_a_helper_or_nowhere_unless_told() {
    if skip(&[Need::Registry]) {
        return;
    }
    let stack = Stack::with_busybox();
    let registry = Registry::guarded(stack.scratch());
    let address = registry.address().to_owned();
    let password = format!("{PASSWORD}\n");
    let dir = stack.scratch().path("docker");
    fs::create_dir(&dir).expect("a directory can be made");
    let name = registry.reference("private");
    stack.ctl(&["tag", BUSYBOX, &name]).ok();
    let login = ["login", "-u", USER, "--password-stdin", &address];
    let user = |args: &[&str], input: &str| as_user(&stack, &dir, args, input);
    // Nobody is let in without.
    let refused = user(&["push", &name], "").exits(1);
    assert!(
        refused.err.contains("denied") && refused.err.contains("login"),
        "{refused}"
    );
    user(&login, "wrong\n")
        .exits(1)
        .fails_naming(&[&address, "denied"]);
    // Good, but nothing would keep them safe.
    user(&login, &password).exits(1).fails_naming(&[
        "--plain-text",
        "docker-credential-pass",
        "were not kept",
    ]);
    assert!(!dir.join("config.json").exists());
    // In the file, if the user says so; its owner's alone.
    let plain = [&login[..], &["--plain-text"]].concat();
    let said = user(&plain, &password);
    assert!(said.err.contains("stored unencrypted"), "{said}");
    assert_eq!(said.ok(), "Login Succeeded\n");
    let about = fs::metadata(dir.join("config.json")).expect("a configuration");
    assert_eq!(about.permissions().mode() & 0o777, 0o600);
    assert!(user(&["push", &name], "").ok().contains(": digest: "));
    assert_eq!(
        user(&["login", &address], "").ok(),
        "Authenticating with existing credentials...\nLogin Succeeded\n"
    );
    assert_eq!(
        user(&["logout", &address], "").ok(),
        format!("Removing login credentials for {address}\n")
    );
    assert!(user(&["pull", &name], "").code != 0);
    // With a helper the file has no secret.
    write_helper(&dir, "pass");
    assert_eq!(user(&login, &password).ok(), "Login Succeeded\n");
    let config = fs::read_to_string(dir.join("config.json")).expect("a configuration");
    assert!(config.contains("\"credsStore\": \"pass\""), "{config}");
    assert!(!config.contains("auth\":"), "{config}");
    stack.ctl(&["rmi", &name]).ok();
    let pulled = user(&["run", "--rm", "--quiet", &name, "echo", "hi"], "");
    assert_eq!(pulled.ok(), "hi\n");
    user(&["logout", &address], "").ok();
    assert!(!dir.join("secrets/only").exists());
    // What cannot be meant.
    user(&["login", "--password-stdin", &address], "x")
        .exits(1)
        .fails_naming(&["Must provide --username with --password-stdin"]);
    user(&["login", &address], "")
        .exits(1)
        .fails_naming(&["non TTY device"]);
}

#[test]
fn a_registry_is_searched_by_its_catalogue() {
    if skip(&[Need::Registry]) {
        return;
    }
    let stack = Stack::with_busybox();
    let registry = Registry::start(stack.scratch());
    for name in ["team/apple", "team/pear", "pineapple"] {
        let name = registry.reference(name);
        stack.ctl(&["tag", BUSYBOX, &name]).ok();
        stack.ctl(&["push", "-q", &name]).ok();
    }
    let term = registry.reference("apple");
    let found = stack.ctl(&["search", "--format", "{{.Name}}", &term]).ok();
    assert_eq!(
        found,
        format!(
            "{}\n{}\n",
            registry.reference("pineapple"),
            registry.reference("team/apple")
        )
    );
    let table = stack.ctl(&["search", "--limit", "1", &term]).ok();
    let mut lines = table.lines();
    let heading: Vec<_> = lines
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .collect();
    assert_eq!(heading, ["NAME", "DESCRIPTION", "STARS", "OFFICIAL"]);
    assert_eq!(lines.count(), 1, "{table}");
    stack
        .ctl(&["search", "--limit", "101", &term])
        .exits(1)
        .fails_naming(&["outside the range of [1, 100]"]);
    stack
        .ctl(&["search", "-f", "colour=red", &term])
        .exits(1)
        .fails_naming(&["invalid filter 'colour'"]);
}
