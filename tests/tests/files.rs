//! Files and archives: `cp`, `diff`, `export`, `import`, `save`, `image prune`.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use tests::command;
use tests::need::{Need, skip};
use tests::stack::{BUSYBOX, Stack};

/// Two containers with the same files, `runs` and `rests`.
fn two_containers(stack: &Stack, script: &str) {
    let runs = format!("{script}; touch /ready; sleep 1000");
    stack
        .ctl(&[
            "run", "-d", "--name", "runs", "-v", "/data", BUSYBOX, "sh", "-c", &runs,
        ])
        .ok();
    stack
        .ctl(&[
            "run", "--name", "rests", "-v", "/data", BUSYBOX, "sh", "-c", script,
        ])
        .ok();
    tests::command::eventually("the container's files", || {
        (stack.ctl(&["exec", "runs", "test", "-e", "/ready"]).code == 0).then_some(())
    });
}

fn text(path: impl AsRef<Path>) -> String {
    let path = path.as_ref();
    fs::read_to_string(path).unwrap_or_else(|err| panic!("{}: {err}", path.display()))
}

/// What is at a path of a container, read through `cp` to a pipe.
#[track_caller]
fn listed(stack: &Stack, what: &str) -> Vec<String> {
    let dir = stack.scratch().path("listed.tar");
    let mut ctl = stack.ctl_command(&["cp", what, "-"]);
    let file = fs::File::create(&dir).expect("a file can be made");
    let done = ctl.stdout(file).output().expect("ctl can be run");
    assert!(
        done.status.success(),
        "{what}: {}",
        String::from_utf8_lossy(&done.stderr)
    );
    let mut tar = Command::new("tar");
    let said = command::run(tar.arg("tf").arg(&dir)).ok();
    said.lines().map(str::to_owned).collect()
}

fn local(stack: &Stack, name: &str) -> PathBuf {
    let dir = stack.scratch().path(name);
    fs::create_dir_all(&dir).expect("a directory can be made");
    dir
}

#[test]
fn files_are_copied_out_by_dockers_rules() {
    let stack = Stack::with_busybox();
    let script = "mkdir -p /d/sub; echo one > /d/one; echo two > /d/sub/two; ln -s /d/one /link; ln -s d /dirlink; echo kept > /data/kept; chmod 640 /d/one; chown 7:8 /d/one";
    two_containers(&stack, script);
    for container in ["runs", "rests"] {
        let here = local(&stack, container);
        let at = |path: &str| here.join(path);
        let to = |path: &str| at(path).display().to_string();
        let cp = |args: &[&str]| stack.ctl(&[&["cp"][..], args].concat());
        let of = |path: &str| format!("{container}:{path}");
        // A file: under a new name, into a directory, over a file.
        cp(&[&of("/d/one"), &to("new")]).ok();
        assert_eq!(text(at("new")), "one\n");
        let about = fs::metadata(at("new")).expect("a file");
        assert_eq!((about.mode() & 0o777, about.uid()), (0o640, 0));
        cp(&["-a", &of("d/one"), &to("owned")]).ok();
        let about = fs::metadata(at("owned")).expect("a file");
        assert_eq!((about.uid(), about.gid()), (7, 8));
        fs::create_dir(at("dir")).expect("a directory");
        cp(&[&of("/d/one"), &to("dir")]).ok();
        cp(&[&of("/d/sub/two"), &to("new")]).ok();
        assert_eq!(
            (text(at("dir/one")), text(at("new"))),
            ("one\n".into(), "two\n".into())
        );
        // A directory: as a new one, into one, and its contents alone.
        cp(&[&of("/d"), &to("fresh")]).ok();
        cp(&[&of("/d"), &to("dir")]).ok();
        cp(&[&of("/d/."), &to("dir")]).ok();
        for path in ["fresh/sub/two", "dir/d/sub/two", "dir/sub/two"] {
            assert_eq!(text(at(path)), "two\n", "{path}");
        }
        // Links as links, unless they are to be followed.
        cp(&[&of("/link"), &to("link")]).ok();
        assert_eq!(
            fs::read_link(at("link")).expect("a link"),
            Path::new("/d/one")
        );
        cp(&["-L", &of("/link"), &to("followed")]).ok();
        assert_eq!(text(at("followed")), "one\n");
        cp(&[&of("/dirlink/"), &to("throughlink")]).ok();
        assert_eq!(text(at("throughlink/one")), "one\n");
        // What is mounted is there too, and no path leads out.
        cp(&[&of("/data/kept"), &to("kept")]).ok();
        assert_eq!(text(at("kept")), "kept\n");
        cp(&[&of("/../../../d/../d/one"), &to("inside")]).ok();
        assert_eq!(text(at("inside")), "one\n");
        assert_eq!(
            listed(&stack, &of("/d")),
            ["d/", "d/one", "d/sub/", "d/sub/two"]
        );
        // What cannot be.
        cp(&[&of("/none"), &to("x")])
            .exits(1)
            .fails_naming(&["Could not find the file /none in container", container]);
        cp(&[&of("/d"), &to("new")])
            .exits(1)
            .fails_naming(&["cannot copy directory"]);
        cp(&[&of("/d/one"), &to("nowhere/")])
            .exits(1)
            .fails_naming(&["no such directory"]);
        cp(&[&of("/d/one/"), &to("x")])
            .exits(1)
            .fails_naming(&["not a directory"]);
    }
    stack
        .ctl(&["cp", "runs:/d", "rests:/d"])
        .exits(1)
        .fails_naming(&["copying between containers is not supported"]);
    stack
        .ctl(&["cp", "/etc/passwd", "/tmp/x"])
        .exits(1)
        .fails_naming(&["must specify at least one container source"]);
    stack
        .ctl(&["cp", "nobody:/d", "."])
        .exits(1)
        .fails_naming(&["No such container: nobody"]);
}

#[test]
fn files_are_copied_in_by_dockers_rules() {
    let stack = Stack::with_busybox();
    two_containers(
        &stack,
        "mkdir /dir; ln -s dir /dirlink; echo old > /target; ln -s target /filelink; ln -s /etc/nowhere /broken",
    );
    let here = local(&stack, "in");
    fs::create_dir_all(here.join("src/sub")).expect("a directory");
    fs::write(here.join("src/sub/two"), "two\n").expect("a file");
    fs::write(here.join("one"), "one\n").expect("a file");
    fs::set_permissions(here.join("one"), fs::Permissions::from_mode(0o604)).expect("a mode");
    std::os::unix::fs::chown(here.join("one"), Some(7), Some(8)).expect("an owner");
    symlink("one", here.join("link")).expect("a link");
    let from = |path: &str| here.join(path).display().to_string();
    for container in ["runs", "rests"] {
        let cp = |args: &[&str]| stack.ctl(&[&["cp"][..], args].concat());
        let to = |path: &str| format!("{container}:{path}");
        cp(&[&from("one"), &to("/new")]).ok();
        cp(&["-a", &from("one"), &to("/owned")]).ok();
        cp(&[&from("one"), &to("/dir")]).ok();
        cp(&[&from("one"), &to("/dirlink/linked")]).ok();
        cp(&[&from("one"), &to("/filelink")]).ok();
        cp(&[&from("src"), &to("/fresh")]).ok();
        cp(&[&from("src"), &to("/dir")]).ok();
        cp(&[&from("src/."), &to("/dir")]).ok();
        cp(&[&from("link"), &to("/aslink")]).ok();
        cp(&["-L", &from("link"), &to("/asfile")]).ok();
        cp(&[&from("one"), &to("/data/")]).ok();
        // A tar from a pipe.
        let mut tar = Command::new("tar");
        let archive = tar.args(["-C", &from(""), "-cf", "-", "src"]).output();
        let archive = archive.expect("tar can be run").stdout;
        stack
            .ctl_with_input(&["cp", "-", &to("/dirlink/")], &archive)
            .ok();
        cp(&[&from("one"), &to("/none/new")])
            .exits(1)
            .fails_naming(&["Could not find the file /none"]);
        cp(&[&from("one"), &to("/none/")])
            .exits(1)
            .fails_naming(&["no such directory"]);
        cp(&[&from("src"), &to("/target")])
            .exits(1)
            .fails_naming(&["cannot copy directory"]);
        cp(&[&from("nothing"), &to("/x")])
            .exits(1)
            .fails_naming(&["no such file or directory"]);
        stack
            .ctl_with_input(&["cp", "-", &to("/target")], &archive)
            .exits(1)
            .fails_naming(&["must be a directory"]);
    }
    stack.ctl(&["commit", "rests", "seen"]).ok();
    let look = "cd /; cat new dir/one dir/linked target fresh/sub/two dir/src/sub/two dir/sub/two; readlink aslink; readlink filelink; cat asfile; stat -c '%a %u %g' new owned";
    let want = "one\none\none\none\ntwo\ntwo\ntwo\none\ntarget\none\n604 0 0\n604 7 8\n";
    assert_eq!(stack.ctl(&["exec", "runs", "sh", "-c", look]).ok(), want);
    assert_eq!(
        stack.ctl(&["run", "--rm", "seen", "sh", "-c", look]).ok(),
        want
    );
    let volume = [
        "run",
        "--rm",
        "--volumes-from",
        "rests",
        BUSYBOX,
        "cat",
        "/data/one",
    ];
    assert_eq!(stack.ctl(&volume).ok(), "one\n");
    // What is read-only stays as it is.
    stack
        .ctl(&["create", "--name", "ro", "--read-only", BUSYBOX, "true"])
        .ok();
    stack
        .ctl(&["cp", &from("one"), "ro:/x"])
        .exits(1)
        .fails_naming(&["container rootfs is marked read-only"]);
}

#[test]
fn a_container_that_plays_with_links_gets_nothing_of_the_host() {
    let stack = Stack::with_busybox();
    let secret = stack.scratch().path("secret");
    fs::create_dir(&secret).expect("a directory");
    fs::write(secret.join("file"), "secret").expect("a file");
    let host = secret.display().to_string();
    // A path of the host, by links that climb as far as they can.
    let script = format!(
        "mkdir -p /inside{host}; echo fake > /inside{host}/file; ln -s /../../../..{host} /up; ln -s {host} /abs; mkdir -p {host}; echo fake > {host}/file; sleep 1000"
    );
    stack
        .ctl(&["run", "-d", "--name", "c1", BUSYBOX, "sh", "-c", &script])
        .ok();
    tests::command::eventually("the container's links", || {
        let ready = stack.ctl(&["exec", "c1", "cat", &format!("{host}/file")]);
        (ready.out == "fake\n").then_some(())
    });
    let here = local(&stack, "out");
    for (number, path) in [
        "/up/file",
        "/abs/file",
        "/../../../../../../proc/1/root/etc/hostname",
    ]
    .iter()
    .enumerate()
    {
        let to = here.join(number.to_string());
        let said = stack.ctl(&["cp", &format!("c1:{path}"), &to.display().to_string()]);
        if said.code == 0 {
            assert_ne!(text(&to), "secret", "{path}");
            assert_ne!(text(&to), text("/etc/hostname"), "{path}");
        }
    }
    fs::write(here.join("new"), "new").expect("a file");
    let new = here.join("new").display().to_string();
    stack.ctl(&["cp", &new, "c1:/up/file"]).ok();
    stack.ctl(&["cp", &new, "c1:/abs/file"]).ok();
    assert_eq!(text(secret.join("file")), "secret");
}

#[test]
fn changes_are_told_as_docker_tells_them() {
    let stack = Stack::with_busybox();
    let script = "echo x > /etc/passwd; rm /etc/group; mkdir -p /new/sub; touch /new/file; ln -s x /link; touch /data/volume";
    two_containers(&stack, script);
    let want = "C /etc\nD /etc/group\nC /etc/passwd\nA /link\nA /new\nA /new/file\nA /new/sub\n";
    assert_eq!(stack.ctl(&["diff", "rests"]).ok(), want);
    assert_eq!(
        stack.ctl(&["diff", "runs"]).ok(),
        format!("{want}A /ready\n")
    );
    stack
        .ctl(&["create", "--name", "fresh", BUSYBOX, "true"])
        .ok();
    assert_eq!(stack.ctl(&["container", "diff", "fresh"]).ok(), "");
    stack
        .ctl(&["diff", "nobody"])
        .exits(1)
        .fails_naming(&["No such container: nobody"]);
}

#[test]
fn a_container_is_exported_and_imported_as_an_image() {
    let stack = Stack::with_busybox();
    two_containers(
        &stack,
        "touch /data/volume; mkdir /d; echo one > /d/one; ln /d/one /d/again",
    );
    let archive = stack.scratch().path("exported.tar");
    let path = archive.display().to_string();
    for container in ["runs", "rests"] {
        stack.ctl(&["export", "-o", &path, container]).ok();
        let mut tar = Command::new("tar");
        let listed = command::run(tar.arg("tf").arg(&archive)).ok();
        for name in ["bin/busybox", "d/one", "d/again", "etc/passwd"] {
            assert!(
                listed.lines().any(|line| line == name),
                "{name} in {listed}"
            );
        }
        assert!(
            !listed.contains("data/volume"),
            "nothing of a volume: {listed}"
        );
    }
    let id = stack
        .ctl(&[
            "import",
            "-m",
            "by hand",
            "-c",
            "CMD [\"cat\", \"/d/one\"]",
            "-c",
            "ENV A=1",
            &path,
            "imported:1",
        ])
        .ok();
    assert!(id.starts_with("sha256:"), "{id}");
    assert_eq!(stack.ctl(&["run", "--rm", "imported:1"]).ok(), "one\n");
    let look = ["run", "--rm", "imported:1", "sh", "-c", "echo $A; ls -a /d"];
    assert_eq!(stack.ctl(&look).ok(), "1\n.\n..\nagain\none\n");
    let history = stack.ctl(&["history", "--format", "{{.Comment}}", "imported:1"]);
    assert_eq!(history.ok(), "by hand\n");
    // From a pipe, compressed.
    let mut gzip = Command::new("gzip");
    let packed = gzip
        .arg("-c")
        .arg(&archive)
        .output()
        .expect("gzip can be run");
    let piped = stack.ctl_with_input(&["import", "-"], &packed.stdout).ok();
    let history = ["history", "--format", "{{.Comment}}", piped.trim_end()];
    assert_eq!(stack.ctl(&history).ok(), "Imported from -\n");
    stack
        .ctl_with_input(
            &["import", "-", "x"],
            b"no archive at all, whatever it may be",
        )
        .exits(1);
    assert_ne!(stack.ctl(&["image", "inspect", "x"]).code, 0);
    stack
        .ctl(&["import", "-c", "RUN true", &path])
        .exits(1)
        .fails_naming(&["RUN is not a valid change command"]);
    stack
        .ctl(&["import", "/none.tar"])
        .exits(1)
        .fails_naming(&["open /none.tar: no such file or directory"]);
    stack
        .ctl(&["import", "https://a.example/x.tar"])
        .exits(1)
        .fails_naming(&["curl -L https://a.example/x.tar | ctl import -"]);
}

#[test]
fn images_are_saved_for_others_and_for_us() {
    if skip(&[Need::Registry]) {
        return;
    }
    let stack = Stack::with_busybox();
    stack
        .ctl(&[
            "run",
            "--name",
            "c1",
            BUSYBOX,
            "sh",
            "-c",
            "echo saved > /file",
        ])
        .ok();
    stack.ctl(&["commit", "c1", "made:1"]).ok();
    stack.ctl(&["tag", "made:1", "made:2"]).ok();
    let path = stack.scratch().path("saved.tar").display().to_string();
    stack.ctl(&["save", "-o", &path, "made", BUSYBOX]).ok();
    let mut tar = Command::new("tar");
    let listed = command::run(tar.args(["tf", &path])).ok();
    for name in ["manifest.json", "index.json", "oci-layout"] {
        assert!(
            listed.lines().any(|line| line == name),
            "{name} in {listed}"
        );
    }
    // skopeo reads both forms of it.
    for source in [
        format!("docker-archive:{path}:made:2"),
        format!("oci-archive:{path}:1"),
    ] {
        let mut skopeo = Command::new("skopeo");
        let seen = command::run(skopeo.args(["inspect", &source])).ok();
        let seen: serde_json::Value = serde_json::from_str(&seen).expect("skopeo prints JSON");
        assert_eq!(seen["Layers"].as_array().map(Vec::len), Some(2), "{source}");
    }
    // To a pipe, by id: without a name.
    let id = stack.ctl(&["images", "-q", "--no-trunc", "made:1"]).ok();
    let file = fs::File::create(stack.scratch().path("by-id.tar")).expect("a file");
    let mut ctl = stack.ctl_command(&["save", id.trim_end()]);
    assert!(ctl.stdout(file).status().expect("ctl can be run").success());
    stack.ctl(&["rm", "-f", "c1"]).ok();
    stack.ctl(&["rmi", "made:1", "made:2"]).ok();
    let by_id = stack.scratch().path("by-id.tar").display().to_string();
    let loaded = stack.ctl(&["load", "-i", &by_id]).ok();
    assert_eq!(loaded, format!("Loaded image ID: {id}"));
    let mut names: Vec<String> = stack
        .ctl(&["load", "-i", &path])
        .ok()
        .lines()
        .map(str::to_owned)
        .collect();
    names.sort_unstable();
    assert_eq!(
        names,
        ["busybox:latest", "made:1", "made:2"].map(|name| format!("Loaded image: {name}"))
    );
    assert_eq!(
        stack.ctl(&["run", "--rm", "made:2", "cat", "/file"]).ok(),
        "saved\n"
    );
    let kept = stack.scratch().path("kept.tar");
    fs::write(&kept, "kept").expect("a file");
    stack
        .ctl(&["save", "-o", &kept.display().to_string(), "none"])
        .exits(1)
        .fails_naming(&["No such image: none:latest"]);
    assert_eq!(
        text(&kept),
        "kept",
        "a file is replaced by a whole archive only"
    );
}

#[test]
fn images_that_nobody_needs_go() {
    let stack = Stack::with_busybox();
    stack
        .ctl(&[
            "run",
            "--name",
            "c1",
            BUSYBOX,
            "sh",
            "-c",
            "dd if=/dev/zero of=/big bs=1M count=2 2>/dev/null",
        ])
        .ok();
    let old = stack.ctl(&["commit", "c1", "made"]).ok();
    stack
        .ctl(&["commit", "-c", "LABEL keep=1", "c1", "made"])
        .ok();
    stack.ctl(&["tag", BUSYBOX, "unused:1"]).ok();
    stack.ctl(&["image", "prune"]).ok();
    let ids = || stack.ctl(&["images", "-aq", "--no-trunc"]).ok();
    assert!(ids().contains(&old), "nothing goes without a yes");
    let said = stack.ctl(&["image", "prune", "-f"]).ok();
    assert_eq!(
        said.lines().take(2).collect::<Vec<_>>(),
        ["Deleted Images:", &format!("deleted: {}", old.trim_end())]
    );
    assert!(
        said.contains("Total reclaimed space: ") && !said.ends_with(" 0B\n"),
        "{said}"
    );
    assert!(!ids().contains(&old));
    assert_eq!(
        stack.ctl(&["image", "prune", "-f"]).ok(),
        "Total reclaimed space: 0B\n"
    );
    // All that no container uses, but for what a filter keeps.
    let said = stack
        .ctl(&["image", "prune", "-af", "--filter", "label!=keep"])
        .ok();
    assert!(
        !said.contains("untagged"),
        "busybox has a container: {said}"
    );
    let said = stack
        .ctl(&["image", "prune", "-af", "--filter", "until=10m"])
        .ok();
    assert!(!said.contains("untagged"), "it is new: {said}");
    let said = stack.ctl(&["image", "prune", "-af"]).ok();
    assert!(said.contains("untagged: made:latest\n"), "{said}");
    assert_eq!(
        stack.ctl(&["images", "--format", "{{.Repository}}"]).ok(),
        "busybox\nunused\n"
    );
    stack
        .ctl(&["image", "prune", "-f", "--filter", "colour=red"])
        .exits(1)
        .fails_naming(&["invalid filter 'colour'"]);
}
