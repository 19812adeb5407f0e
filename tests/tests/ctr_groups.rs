//! Every command group of Debian's `ctr`, walked through against a daemon of
//! ours and against real containerd: where what they say can be compared, it is
//! the same.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tests::both::{Both, Whose};
use tests::command::{self, eventually};
use tests::image::{self, Image};
use tests::need::{self, Need};
use tests::registry::Registry;
use tests::tar::Tar;

const NAME: &str = "docker.io/library/busybox:latest";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// Both, with an image of two layers.
fn with_an_image() -> Both {
    import_into(Both::start())
}

/// The same, where both can run containers.
fn apart_with_an_image() -> Both {
    import_into(Both::start_apart())
}

fn import_into(both: Both) -> Both {
    let top = Tar::new().file("top", 0o644, b"on top");
    let archive = both.path("image.tar");
    fs::write(&archive, Image::busybox().layer(top).oci_layout(NAME)).expect("an archive");
    both.import(&archive);
    both
}

/// The chainIDs of that image.
fn chains() -> [String; 2] {
    let top = Tar::new().file("top", 0o644, b"on top");
    let image = Image::busybox().layer(top);
    let [below, above] = [0, 1].map(|layer: usize| image::digest(&image.layers[layer]));
    let top = image::digest(format!("{below} {above}").as_bytes());
    [below, top]
}

#[test]
fn images() {
    if need::skip(&[Need::Containerd]) {
        return;
    }
    let both = with_an_image();
    assert!(both.same_ok(&["images", "ls"]).contains("linux/amd64"));
    both.same_ok(&["images", "ls", "-q"]);
    both.same_ok(&["images", "ls", "-q", "name==nothing"]);
    both.same_ok(&["images", "ls", "-q", "name~=busybox"]);
    assert!(
        both.same_ok(&["images", "check"])
            .contains("complete (3/3)")
    );
    both.same_ok(&["images", "check", "-q"]);
    assert_eq!(
        both.same_ok(&["images", "label", NAME, "a=b"]).trim(),
        "a=b"
    );
    assert_eq!(
        both.same_ok(&["images", "ls", "-q", "labels.a==b"]).trim(),
        NAME
    );
    both.same_ok(&["images", "label", NAME, "a="]);
    assert_eq!(both.same_ok(&["images", "ls", "-q", "labels.a"]), "");
    let second = "docker.io/library/second:1";
    both.same_ok(&["images", "tag", NAME, second]);
    assert!(
        both.same(&["images", "tag", NAME, second])
            .err
            .contains("already exists")
    );
    both.same_ok(&["images", "tag", "--force", NAME, second]);
    both.same(&["images", "tag", "docker.io/library/none:1", "x"])
        .exits(1);
    both.same(&["images", "label", "docker.io/library/none:1", "a=b"])
        .exits(1);
    both.ends_alike(&["images", "ls", "name=="]).ours.exits(1);
    both.same_ok(&["images", "rm", second]);
    assert_eq!(both.same_ok(&["images", "ls", "-q"]).trim(), NAME);
    both.same(&["images", "rm", "docker.io/library/none:1"]);
    both.same_ok(&["images", "rm", "--sync", NAME]);
    assert_eq!(both.same_ok(&["content", "ls", "-q"]), "");
    assert_eq!(both.same_ok(&["snapshots", "ls"]).lines().count(), 1);
}

#[test]
fn images_as_archives() {
    if need::skip(&[Need::Containerd]) {
        return;
    }
    let both = with_an_image();
    // What one has written the other reads.
    for (whose, file) in [(Whose::Ours, "ours.tar"), (Whose::Theirs, "theirs.tar")] {
        let archive = both.text(file);
        let args = ["images", "export", &archive, NAME];
        command::run(both.ctr(whose).args(args)).ok();
        let name = format!("docker.io/library/again-{file}:1");
        both.same_ok(&["images", "rm", "--sync", NAME]);
        both.import(Path::new(&archive));
        both.same_ok(&["images", "ls"]);
        both.same_ok(&["images", "check"]);
        both.same_ok(&[
            "images",
            "import",
            "--base-name",
            &name,
            "--digests",
            &archive,
        ]);
        both.same_ok(&["images", "ls"]);
    }
    let uncompressed = "docker.io/library/plain:1";
    both.same_ok(&[
        "images",
        "convert",
        "--uncompress",
        "--oci",
        NAME,
        uncompressed,
    ]);
    both.same_ok(&["images", "ls"]);
    both.same(&[
        "images",
        "export",
        &both.text("none.tar"),
        "docker.io/library/none:1",
    ])
    .exits(1);
    let broken = both.path("broken.tar");
    fs::write(&broken, b"no archive").expect("a file");
    both.ends_alike(&["images", "import", &broken.display().to_string()])
        .ours
        .exits(1);
}

#[test]
fn images_are_mounted_to_look_into() {
    if need::skip(&[Need::Containerd]) {
        return;
    }
    let both = with_an_image();
    for whose in [Whose::Ours, Whose::Theirs] {
        let ctr = |args: &[&str]| command::run(both.ctr(whose).args(args));
        let at = both.text("looked-at");
        fs::create_dir_all(&at).expect("a directory");
        ctr(&["images", "mount", NAME, &at]).ok();
        assert_eq!(
            fs::read(Path::new(&at).join("top")).expect("a file"),
            b"on top"
        );
        assert!(
            fs::write(Path::new(&at).join("new"), b"").is_err(),
            "read-only"
        );
        ctr(&["images", "unmount", "--rm", &at]).ok();
        assert!(!Path::new(&at).join("top").exists());
        ctr(&["images", "mount", "--rw", NAME, &at]).ok();
        fs::write(Path::new(&at).join("new"), b"").expect("writable");
        ctr(&["images", "unmount", "--rm", &at]).ok();
    }
}

#[test]
fn content() {
    if need::skip(&[Need::Containerd]) {
        return;
    }
    let both = with_an_image();
    both.same_in_time(&["content", "ls", "-q"]);
    both.same_ok(&["content", "ls"]);
    let config = Image::busybox()
        .layer(Tar::new().file("top", 0o644, b"on top"))
        .id();
    both.same_ok(&["content", "get", &config]);
    both.same_ok(&["content", "label", &config, "mine=1"]);
    assert_eq!(
        both.same_ok(&["content", "ls", "-q", "labels.mine==1"])
            .trim(),
        config
    );
    assert_eq!(both.same_ok(&["content", "active"]).lines().count(), 1);
    let missing = format!("sha256:{}", "0".repeat(64));
    both.same(&["content", "get", &missing]).exits(1);
    both.same(&["content", "label", &missing, "a=b"]).exits(1);
    both.same(&["content", "rm", &missing]);
    both.same(&["content", "get", "sha256:short"]).exits(1);
    for (expected, code) in [(image::digest(b"some bytes"), 0), (missing.clone(), 1)] {
        let [ours, theirs] = [Whose::Ours, Whose::Theirs].map(|whose| {
            let mut ctr = both.ctr(whose);
            ctr.args(["content", "ingest", "--expected-size", "10"]);
            ctr.args(["--expected-digest", &expected, "ingested"]);
            command::run_with_input(&mut ctr, b"some bytes")
        });
        assert_eq!((ours.code, theirs.code), (code, code), "{ours}\n{theirs}");
        assert_eq!(ours.err, theirs.err);
    }
    // Written without a lease, it is the first collection's.
    let ingested = image::digest(b"some bytes");
    both.same_ok(&["content", "rm", &ingested]);
    both.same(&["content", "get", &ingested]).exits(1);
    both.ends_alike(&["content", "prune", "references", "--dry"])
        .ours
        .ok();
    both.same_ok(&["content", "rm", &config]);
    let checked = both.same(&["images", "check"]).exits(1);
    assert!(checked.out.contains("incomplete"), "{checked}");
}

#[test]
fn content_from_and_to_a_registry() {
    if need::skip(&[Need::Containerd, Need::Registry]) {
        return;
    }
    let both = Both::start();
    let scratch = both.stack().scratch();
    let registry = Registry::start(scratch);
    let manifest = registry.put(scratch, &Image::busybox(), "demo:1", &[]);
    let reference = registry.reference("demo:1");
    let layer = registry.manifest(&manifest)["layers"][0]["digest"].clone();
    let layer = layer.as_str().expect("a digest").to_owned();
    both.ends_alike(&["content", "fetch", "--plain-http", &reference])
        .ours
        .ok();
    both.same_ok(&["content", "ls"]);
    both.same_ok(&["images", "check"]);
    let object = format!("{}@{manifest}", registry.reference("demo"));
    both.same_ok(&["content", "fetch-object", "--plain-http", &object]);
    both.ends_alike(&["images", "pull", "--plain-http", &reference])
        .ours
        .ok();
    both.same_ok(&["images", "check"]);
    both.same_ok(&["snapshots", "ls"]);
    both.same_ok(&["content", "ls"]);
    let pushed = registry.reference("pushed:1");
    both.ends_alike(&["images", "push", "--plain-http", &pushed, &reference])
        .ours
        .ok();
    both.ends_alike(&["images", "pull", "--plain-http", &pushed])
        .ours
        .ok();
    assert_eq!(both.same_ok(&["images", "ls", "-q"]).lines().count(), 2);
    for (whose, name) in [(Whose::Ours, "ours:1"), (Whose::Theirs, "theirs:1")] {
        let pushed = registry.reference(name);
        let args = [
            "content",
            "push-object",
            "--plain-http",
            &pushed,
            &layer,
            LAYER,
        ];
        command::run(both.ctr(whose).args(args)).ok();
    }
}

#[test]
fn leases() {
    if need::skip(&[Need::Containerd]) {
        return;
    }
    let both = with_an_image();
    both.same_ok(&["leases", "create", "--id", "mine", "a=b"]);
    let mine = ["leases", "ls", "id==mine"];
    assert!(both.same_ok(&mine).contains("a=b"));
    both.same_ok(&["leases", "ls", "-q", "id==mine"]);
    both.same_ok(&["leases", "ls", "-q", "labels.a==c"]);
    both.same(&["leases", "create", "--id", "mine"]).exits(1);
    both.same(&["leases", "rm", "none"]);
    both.same_ok(&["leases", "rm", "--sync", "mine"]);
    assert_eq!(both.same_ok(&["leases", "ls", "-q", "id==mine"]), "");
    both.ends_alike(&["leases", "create", "--expires", "1h", "x=y"])
        .ours
        .ok();
    for whose in [Whose::Ours, Whose::Theirs] {
        let ctr = |args: &[&str]| command::run(both.ctr(whose).args(args));
        let listed = ctr(&["leases", "ls"]).ok();
        assert!(listed.contains("containerd.io/gc.expire=") && listed.contains("x=y"));
    }
}

#[test]
fn snapshots() {
    if need::skip(&[Need::Containerd]) {
        return;
    }
    let both = with_an_image();
    let [below, top] = chains();
    both.same_ok(&["snapshots", "ls"]);
    both.same_ok(&["snapshots", "tree"]);
    both.same_ok(&["snapshots", "prepare", "empty"]);
    both.same_ok(&["snapshots", "prepare", "work", &top]);
    // Unlike `prepare`, `view` leaves what it makes to the next collection,
    // which may come before the label does.
    for (key, parent) in [("look", &top), ("low", &below)] {
        eventually("a view that stays", || {
            both.ask(&["snapshots", "view", key, parent]);
            let kept = both.ask(&["snapshots", "label", key, "containerd.io/gc.root=1"]);
            (kept.ours.code == 0 && kept.theirs.code == 0).then_some(())
        });
    }
    let target = both.text("mnt");
    for key in ["empty", "work", "look", "low"] {
        both.same_ok(&["snapshots", "mounts", &target, key]);
        both.same_ok(&["snapshots", "info", key]);
    }
    // Theirs names a key of its own database.
    both.ends_alike(&["snapshots", "mounts", &target, &top])
        .ours
        .exits(1);
    both.same(&["snapshots", "mounts", &target, "none"])
        .exits(1);
    both.same(&["snapshots", "info", "none"]).exits(1);
    both.ends_alike(&["snapshots", "prepare", "work", &top])
        .ours
        .exits(1);
    both.ends_alike(&["snapshots", "prepare", "orphan", "none"])
        .ours
        .exits(1);
    both.ends_alike(&["snapshots", "prepare", "orphan", "work"])
        .ours
        .exits(1);
    both.ends_alike(&["snapshots", "view", "work", &top])
        .ours
        .exits(1);
    both.same_ok(&["snapshots", "label", "work", "a=b"]);
    both.same_ok(&["snapshots", "info", "work"]);
    both.same_ok(&["snapshots", "tree"]);
    both.same_ok(&["snapshots", "commit", "done", "work"]);
    both.ends_alike(&["snapshots", "commit", "done", "empty"])
        .ours
        .exits(1);
    both.ends_alike(&["snapshots", "commit", "other", "look"])
        .ours
        .exits(1);
    both.same_ok(&["snapshots", "info", "done"]);
    both.same_ok(&["snapshots", "prepare", "child", "done"]);
    both.ends_alike(&["snapshots", "rm", "done"]);
    for key in ["child", "done", "empty"] {
        both.same_ok(&["snapshots", "rm", key]);
    }
    // Views are not protected from collection.
    for key in ["look", "low"] {
        both.ask(&["snapshots", "rm", key]);
    }
    both.same(&["snapshots", "rm", "none"]);
    both.same_ok(&["snapshots", "ls"]);
    let usage = both.ends_alike(&["snapshots", "usage", "-b"]);
    for said in [usage.ours, usage.theirs] {
        let said = said.ok();
        assert_eq!(said.lines().count(), 3, "{said}");
    }
    both.same(&["snapshots", "--snapshotter", "none", "ls"])
        .exits(1);
}

#[test]
fn snapshots_are_told_as_layers() {
    if need::skip(&[Need::Containerd]) {
        return;
    }
    let both = with_an_image();
    let [_, top] = chains();
    both.same_ok(&["snapshots", "prepare", "work", &top]);
    for whose in [Whose::Ours, Whose::Theirs] {
        let ctr = |args: &[&str]| command::run(both.ctr(whose).args(args));
        let at = both.text("mnt");
        fs::create_dir_all(&at).expect("a directory");
        let mount = ctr(&["snapshots", "mounts", &at, "work"]).ok();
        command::run(Command::new("sh").args(["-c", &mount])).ok();
        fs::write(Path::new(&at).join("changed"), b"new").expect("a file");
        fs::remove_file(Path::new(&at).join("top")).expect("a file of the image");
        command::run(Command::new("umount").arg(&at)).ok();
        let layer = both.path("layer.tar");
        let mut diff = both.ctr(whose);
        let diff = diff.args(["snapshots", "diff", "--media-type", LAYER, "work"]);
        let out = diff.output().expect("ctr can be run");
        assert!(
            out.status.success(),
            "{}",
            String::from_utf8_lossy(&out.stderr)
        );
        fs::write(&layer, &out.stdout).expect("a file");
        let listed = command::run(Command::new("tar").arg("tf").arg(&layer)).ok();
        let listed: BTreeSet<&str> = listed
            .lines()
            .map(|line| line.trim_end_matches('/'))
            .filter(|line| !line.is_empty() && *line != ".")
            .collect();
        assert_eq!(listed, BTreeSet::from(["changed", ".wh.top"]), "{whose:?}");
    }
}

#[test]
fn namespaces() {
    if need::skip(&[Need::Containerd]) {
        return;
    }
    let both = with_an_image();
    both.same_ok(&["namespaces", "ls"]);
    both.same_ok(&["namespaces", "create", "second", "a=b", "c=d"]);
    both.same_ok(&["namespaces", "ls"]);
    both.same(&["namespaces", "create", "second"]).exits(1);
    both.same(&["namespaces", "create", "not/allowed"]).exits(1);
    both.same_ok(&["namespaces", "label", "second", "a=", "c=e"]);
    both.same_ok(&["namespaces", "ls"]);
    both.same_ok(&["namespaces", "ls", "-q"]);
    assert_eq!(both.same_ok(&["-n", "second", "images", "ls", "-q"]), "");
    let archive = both.text("image.tar");
    both.ends_alike(&["-n", "second", "images", "import", &archive])
        .ours
        .ok();
    both.same_ok(&["-n", "second", "images", "check"]);
    // In use.
    both.ends_alike(&["namespaces", "rm", "second"])
        .ours
        .exits(1);
    both.same_ok(&["-n", "second", "images", "rm", "--sync", NAME]);
    both.same_ok(&["namespaces", "rm", "second"]);
    both.same_ok(&["namespaces", "ls"]);
    both.ends_alike(&["namespaces", "rm", "second"]);
}

#[test]
fn containers() {
    if need::skip(&[Need::Containerd]) {
        return;
    }
    let both = with_an_image();
    both.same_ok(&[
        "containers",
        "create",
        "--label",
        "a=b",
        NAME,
        "one",
        "true",
    ]);
    both.same(&["containers", "create", NAME, "one"]).exits(1);
    both.same(&["containers", "create", "docker.io/library/none:1", "two"])
        .exits(1);
    both.same(&["containers", "create", NAME, "not/allowed"])
        .exits(1);
    both.same_ok(&["containers", "ls"]);
    both.same_ok(&["containers", "ls", "-q"]);
    both.same_ok(&["containers", "ls", "-q", "labels.a==b"]);
    both.same_ok(&["containers", "ls", "-q", "id==none"]);
    both.same_ok(&["containers", "label", "one", "c=d"]);
    both.same_ok(&["containers", "info", "one"]);
    both.same_ok(&["containers", "info", "--spec", "one"]);
    both.same(&["containers", "info", "none"]).exits(1);
    both.same(&["containers", "label", "none", "a=b"]).exits(1);
    both.same(&["containers", "rm", "none"]);
    both.same_ok(&["snapshots", "ls"]);
    both.same_ok(&["containers", "rm", "one"]);
    both.same_ok(&["containers", "ls"]);
    both.same_ok(&["snapshots", "ls"]);
}

/// `ctr run flags… busybox id command…`, in a cgroup of the test's own.
#[track_caller]
fn run(both: &Both, flags: &[&str], id: &str, command: &[&str]) -> tests::command::Said {
    let cgroup = format!("/{}/{id}-{{whose}}", both.stack().scratch().name());
    let fifos = both.text("fifo");
    let fixed = ["run", "--cgroup", &cgroup, "--fifo-dir", &fifos];
    both.same(&[&fixed, flags, &[NAME, id], command].concat())
}

#[test]
fn run_with_its_flags() {
    if need::skip(&[Need::Containerd]) {
        return;
    }
    let both = apart_with_an_image();
    let file = both.text("shared");
    fs::write(&file, "bound").expect("a file");
    let mount = format!("type=bind,src={file},dst=/bound,options=rbind:ro");
    let environment = both.text("environment");
    fs::write(&environment, "FROM_FILE=2\n").expect("a file");
    let pid_file = both.text("pid");
    let rm = |flags: &[&str], command: &[&str]| {
        let flags = [&["--rm"], flags].concat();
        run(&both, &flags, "one", command)
    };
    assert_eq!(
        rm(&[], &["sh", "-c", "echo out; echo err >&2; exit 7"])
            .exits(7)
            .out,
        "out\n"
    );
    let shown = rm(&["--env", "A=1", "--env-file", &environment], &["env"]).ok();
    assert!(
        shown.contains("A=1\n") && shown.contains("FROM_FILE=2\n"),
        "{shown}"
    );
    assert_eq!(rm(&["--cwd", "/tmp"], &["pwd"]).ok(), "/tmp\n");
    assert_eq!(rm(&["--mount", &mount], &["cat", "/bound"]).ok(), "bound");
    rm(&["--read-only"], &["touch", "/x"]).exits(1);
    assert_eq!(
        rm(&["--rootfs-propagation", "private"], &["cat", "/top"]).code,
        rm(&[], &["cat", "/top"]).code
    );
    rm(&["--net-host"], &["true"]).ok();
    rm(&["--privileged"], &["ls", "/dev/null"]).ok();
    rm(
        &["--allow-new-privs"],
        &["grep", "NoNewPrivs", "/proc/self/status"],
    )
    .ok();
    rm(&["--cap-drop", "CAP_CHOWN"], &["chown", "1", "/top"]).exits(1);
    rm(
        &["--cap-add", "CAP_SYS_PTRACE"],
        &["grep", "CapEff", "/proc/self/status"],
    )
    .ok();
    rm(&["--device", "/dev/fuse"], &["ls", "/dev/fuse"]);
    rm(
        &["--memory-limit", "33554432"],
        &["cat", "/sys/fs/cgroup/memory/memory.limit_in_bytes"],
    );
    rm(&["--pid-file", &pid_file], &["true"]).ok();
    rm(&["--seccomp"], &["true"]).ok();
    rm(&["--annotation", "a=b", "--label", "c=d"], &["true"]).ok();
    rm(&["--null-io"], &["echo", "nobody hears"]).ok();
    rm(&["--no-pivot"], &["true"]);
    rm(&["--with-ns", "uts:/proc/1/ns/uts"], &["true"]);
    rm(&[], &["/none"]);
    assert_eq!(both.same_ok(&["containers", "ls", "-q"]), "");
    both.same_ok(&["snapshots", "ls"]);
}

#[test]
fn tasks() {
    if need::skip(&[Need::Containerd]) {
        return;
    }
    let both = apart_with_an_image();
    let id = "main";
    run(&both, &["-d"], id, &["sleep", "1000"]).ok();
    both.same(&["tasks", "start", id]).exits(1);
    both.same(&["tasks", "start", "none"]).exits(1);
    both.same(&["tasks", "kill", "none"]).exits(1);
    both.same(&["tasks", "rm", id]).exits(1);
    both.same(&["containers", "rm", id]);
    let fifos = both.text("fifo");
    let exec = |exec: &str, command: &[&str]| {
        let fixed = ["tasks", "exec", "--fifo-dir", &fifos, "--exec-id", exec, id];
        both.same(&[&fixed, command].concat())
    };
    assert_eq!(exec("x1", &["echo", "inside"]).ok(), "inside\n");
    exec("x2", &["sh", "-c", "exit 3"]).exits(3);
    both.ends_alike(&[
        "tasks",
        "exec",
        "--fifo-dir",
        &fifos,
        "--exec-id",
        "x3",
        id,
        "/none",
    ])
    .ours
    .exits(1);
    let at = [
        "tasks",
        "exec",
        "--fifo-dir",
        &fifos,
        "--exec-id",
        "x4",
        "--cwd",
        "/tmp",
        "--user",
        "1000",
        id,
        "sh",
        "-c",
        "pwd; id -u",
    ];
    assert_eq!(both.same_ok(&at), "/tmp\n1000\n");
    let listed = both.ends_alike(&["tasks", "ps", id]);
    assert_eq!(
        listed.ours.out.lines().count(),
        listed.theirs.out.lines().count()
    );
    let metrics = both.ends_alike(&["tasks", "metrics", id]);
    let names = |text: &str| -> Vec<String> {
        text.lines()
            .filter_map(|line| line.split_whitespace().next())
            .map(str::to_owned)
            .collect()
    };
    assert_eq!(names(&metrics.ours.out), names(&metrics.theirs.out));
    both.ends_alike(&["tasks", "metrics", "--format", "json", id])
        .ours
        .ok();
    both.same_ok(&["tasks", "pause", id]);
    assert!(
        both.ends_alike(&["tasks", "ls"])
            .ours
            .ok()
            .contains("PAUSED")
    );
    both.same_ok(&["tasks", "resume", id]);
    both.same_ok(&["tasks", "kill", "-s", "KILL", id]);
    eventually("both to have stopped", || {
        let listed = both.ask(&["tasks", "ls"]);
        [listed.ours.out, listed.theirs.out]
            .iter()
            .all(|listed| listed.contains("STOPPED"))
            .then_some(())
    });
    both.ends_alike(&["tasks", "rm", id]);
    both.same_ok(&["tasks", "ls"]);
    both.same_ok(&["containers", "rm", id]);
    // Made first, started later; ctr has no word for its cgroup then, so it is
    // below one of the namespace's name.
    both.same_ok(&["containers", "create", NAME, id, "echo", "started"]);
    let start = ["tasks", "start", "--fifo-dir", &fifos, id];
    assert_eq!(both.same_ok(&start), "started\n");
    both.ends_alike(&["tasks", "rm", id]);
    both.same_ok(&["containers", "rm", id]);
    for namespace in both.namespaces() {
        for root in tests::scratch::cgroup_roots() {
            // Only where it was made.
            let _ = fs::remove_dir(root.join(namespace));
        }
    }
}

/// `ctr events` of one daemon, written to a file.
struct Listening {
    child: Child,
    log: PathBuf,
}

impl Listening {
    /// Begins to listen for what `filters` accept; it hears by the time that one
    /// event was heard.
    fn start(both: &Both, whose: Whose, filters: &[&str]) -> Self {
        let log = both.path(&format!("{whose:?}-{}.log", filters.len()));
        let file = fs::File::create(&log).expect("a file");
        let mut ctr = both.ctr(whose);
        let ctr = ctr.arg("events").args(filters).stdin(Stdio::null());
        let child = ctr.stdout(file).spawn().expect("ctr can be run");
        Self { child, log }
    }

    fn text(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// The topics, in order.
    fn topics(&self) -> Vec<String> {
        let text = self.text();
        let topic = |line: &str| -> Option<String> {
            let mut words = line.split_whitespace();
            words.find(|word| word.starts_with('/')).map(str::to_owned)
        };
        text.lines().filter_map(topic).collect()
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

#[test]
fn events_have_the_same_topics() {
    if need::skip(&[Need::Containerd]) {
        return;
    }
    let both = with_an_image();
    let listening = [Whose::Ours, Whose::Theirs].map(|whose| Listening::start(&both, whose, &[]));
    // Both hear by the time that both have heard one.
    let mut tries = 0;
    eventually("the first event of both", || {
        tries += 1;
        both.same_ok(&["images", "label", NAME, &format!("tries={tries}")]);
        let mut heard = listening.iter().map(|one| !one.topics().is_empty());
        heard.all(|heard| heard).then_some(())
    });
    run(&both, &["--rm"], "told", &["true"]).ok();
    both.same_ok(&["namespaces", "create", "told", "a=b"]);
    both.same_ok(&["namespaces", "label", "told", "a=c"]);
    both.same_ok(&["namespaces", "rm", "told"]);
    both.same_ok(&["images", "tag", NAME, "docker.io/library/told:1"]);
    both.same_ok(&["images", "rm", "docker.io/library/told:1"]);
    both.same_ok(&["snapshots", "prepare", "told"]);
    both.same_ok(&["snapshots", "commit", "told-too", "told"]);
    both.same_ok(&["snapshots", "rm", "told-too"]);
    let last = "docker.io/library/last:1";
    both.same_ok(&["images", "tag", NAME, last]);
    for one in &listening {
        eventually("the last event", || one.text().contains(last).then_some(()));
    }
    let told = listening.map(|one| {
        let mut told = one.topics();
        told.retain(|topic| topic != "/images/update");
        // When garbage is collected is each one's own affair.
        told.retain(|topic| topic != "/content/delete");
        // Those of a task come from the shim, beside those of the stores.
        let (mut shim, stores): (Vec<_>, Vec<_>) = told
            .into_iter()
            .partition(|topic| topic.starts_with("/tasks/"));
        shim.sort();
        (stores, shim)
    });
    assert_eq!(told[0], told[1], "ours, and containerd's");
}

#[test]
fn events_are_filtered() {
    if need::skip(&[Need::Containerd]) {
        return;
    }
    let both = with_an_image();
    let archive = both.text("image.tar");
    both.ends_alike(&["-n", "second", "images", "import", &archive])
        .ours
        .ok();
    let filters = [
        r#"topic=="/images/delete""#,
        r#"namespace==second,topic~="^/images/""#,
    ];
    let listening =
        [Whose::Ours, Whose::Theirs].map(|whose| Listening::start(&both, whose, &filters));
    let mut tries = 0;
    eventually("the first event of both", || {
        tries += 1;
        let label = format!("tries={tries}");
        both.same_ok(&["-n", "second", "images", "label", NAME, &label]);
        let mut heard = listening.iter().map(|one| !one.topics().is_empty());
        heard.all(|heard| heard).then_some(())
    });
    // Only the second filter hears of the second namespace, only the first of
    // the other one.
    both.same_ok(&["images", "tag", NAME, "docker.io/library/unheard:1"]);
    both.same_ok(&["snapshots", "prepare", "unheard"]);
    both.same_ok(&["images", "rm", "docker.io/library/unheard:1"]);
    let last = "docker.io/library/last:1";
    both.same_ok(&["-n", "second", "images", "tag", NAME, last]);
    let told = listening.map(|one| {
        eventually("the last event", || one.text().contains(last).then_some(()));
        let mut told = one.topics();
        told.retain(|topic| topic != "/images/update");
        told
    });
    assert_eq!(told[0], ["/images/delete", "/images/create"]);
    assert_eq!(told[0], told[1], "ours, and containerd's");
    both.ends_alike(&["events", "topic=="]).ours.exits(1);
}

#[test]
fn the_rest() {
    if need::skip(&[Need::Containerd]) {
        return;
    }
    let both = with_an_image();
    both.same_ok(&["oci", "spec"]);
    both.ends_alike(&["version"]).ours.ok();
    let plugins = both.ends_alike(&["plugins", "ls"]);
    let kinds = |text: &str| -> BTreeSet<String> {
        text.lines()
            .skip(1)
            .filter_map(|line| {
                let mut words = line.split_whitespace();
                Some(format!("{} {}", words.next()?, words.next()?))
            })
            .collect()
    };
    let (ours, theirs) = (kinds(&plugins.ours.out), kinds(&plugins.theirs.out));
    for wanted in [
        "io.containerd.content.v1 content",
        "io.containerd.snapshotter.v1 overlayfs",
        "io.containerd.differ.v1 walking",
        "io.containerd.grpc.v1 tasks",
    ] {
        let both = ours.contains(wanted) && theirs.contains(wanted);
        assert!(both, "{wanted}\nours: {ours:?}\ncontainerd's: {theirs:?}");
    }
    both.ends_alike(&["plugins", "ls", "-d"]).ours.ok();
    // A package is an image whose bin and lib are unpacked below a directory.
    let package =
        Image::busybox().layer(Tar::new().dir("bin", 0o755).file("bin/tool", 0o755, b"#!"));
    let archive = both.path("package.tar");
    let name = "docker.io/library/package:1";
    fs::write(&archive, package.oci_layout(name)).expect("an archive");
    both.import(&archive);
    for (whose, dir) in [(Whose::Ours, "opt-ours"), (Whose::Theirs, "opt-theirs")] {
        let dir = both.text(dir);
        fs::create_dir_all(&dir).expect("a directory");
        command::run(both.ctr(whose).args(["install", "--path", &dir, name])).ok();
        assert_eq!(
            fs::read(Path::new(&dir).join("bin/tool")).expect("a tool"),
            b"#!"
        );
    }
}
