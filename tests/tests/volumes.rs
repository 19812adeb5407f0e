//! Volumes and mounts through `ctl`.

use std::fs;
use std::os::unix::fs::MetadataExt;

use serde_json::json;
use tests::image::Image;
use tests::stack::{BUSYBOX, Stack};
use tests::tar::Tar;

/// `ctl run --rm ARGS BUSYBOX sh -c SCRIPT`
#[track_caller]
fn shell(stack: &Stack, args: &[&str], script: &str) -> String {
    stack
        .ctl(&[&["run", "--rm"], args, &[BUSYBOX, "sh", "-c", script]].concat())
        .ok()
}

/// Names of all volumes.
#[track_caller]
fn volumes(stack: &Stack) -> Vec<String> {
    let listed = stack.ctl(&["volume", "ls", "-q"]).ok();
    listed.lines().map(str::to_owned).collect()
}

#[test]
fn a_named_volume_outlives_its_containers() {
    let stack = Stack::with_busybox();
    shell(&stack, &["-v", "data:/d"], "echo kept > /d/file");
    assert_eq!(
        shell(&stack, &["-v", "data:/other"], "cat /other/file"),
        "kept\n"
    );
    assert_eq!(volumes(&stack), ["data"]);
    let said = stack.ctl(&["volume", "ls"]).ok();
    assert_eq!(said, "DRIVER    VOLUME NAME\nlocal     data\n");
    assert_eq!(stack.ctl(&["volume", "rm", "data"]).ok(), "data\n");
    assert_eq!(volumes(&stack), Vec::<String>::new());
    stack
        .ctl(&["volume", "rm", "data"])
        .fails_naming(&["data", "no such volume"]);
    stack.ctl(&["volume", "rm", "-f", "data"]).ok();
}

#[test]
fn volumes_are_made_inspected_and_filtered() {
    let stack = Stack::start();
    assert_eq!(
        stack
            .ctl(&["volume", "create", "--label", "a=1", "data"])
            .ok(),
        "data\n"
    );
    // Making it again changes nothing.
    assert_eq!(stack.ctl(&["volume", "create", "data"]).ok(), "data\n");
    let anonymous = stack.ctl(&["volume", "create"]).ok();
    assert_eq!(anonymous.trim().len(), 64);
    let said = stack.ctl(&["volume", "inspect", "data"]).ok();
    let object: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!(object[0]["Labels"], json!({"a": "1"}));
    assert_eq!(
        (object[0]["Driver"].as_str(), object[0]["Scope"].as_str()),
        (Some("local"), Some("local"))
    );
    let place = object[0]["Mountpoint"].as_str().unwrap();
    assert!(fs::metadata(place).unwrap().is_dir(), "{place}");
    let named = stack
        .ctl(&["volume", "inspect", "-f", "{{.Name}}", "data"])
        .ok();
    assert_eq!(named, "data\n");
    let found = stack.ctl(&["volume", "ls", "-q", "-f", "label=a=1"]).ok();
    assert_eq!(found, "data\n");
    assert_eq!(
        stack
            .ctl(&["volume", "ls", "-q", "-f", "name=nothing"])
            .ok(),
        ""
    );
    stack
        .ctl(&["volume", "create", "x/y"])
        .fails_naming(&["x/y", "only \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed"]);
    let pruned = stack.ctl(&["volume", "prune", "-f"]).ok();
    assert!(
        pruned.contains(anonymous.trim()) && !pruned.contains("data"),
        "{pruned}"
    );
    assert!(pruned.contains("Total reclaimed space: "), "{pruned}");
    stack.ctl(&["volume", "prune", "-af"]).ok();
    assert_eq!(volumes(&stack), Vec::<String>::new());
}

#[test]
fn a_volume_in_use_is_not_removed() {
    let stack = Stack::with_busybox();
    stack
        .ctl(&["create", "--name", "c1", "-v", "data:/d", BUSYBOX, "true"])
        .ok();
    stack
        .ctl(&["volume", "rm", "data"])
        .fails_naming(&["data", "volume is in use"]);
    assert!(!stack.ctl(&["volume", "prune", "-af"]).ok().contains("data"));
    stack.ctl(&["rm", "c1"]).ok();
    stack.ctl(&["volume", "rm", "data"]).ok();
}

#[test]
fn anonymous_volumes_go_with_their_container_when_asked() {
    let stack = Stack::with_busybox();
    shell(&stack, &["-v", "/d"], "echo x > /d/file");
    assert_eq!(volumes(&stack), Vec::<String>::new());
    stack
        .ctl(&[
            "run", "--name", "c1", "-v", "/d", "-v", "named:/n", BUSYBOX, "true",
        ])
        .ok();
    assert_eq!(volumes(&stack).len(), 2);
    stack.ctl(&["rm", "-v", "c1"]).ok();
    assert_eq!(volumes(&stack), ["named"]);
    stack
        .ctl(&["run", "--name", "c1", "-v", "/d", BUSYBOX, "true"])
        .ok();
    stack.ctl(&["rm", "c1"]).ok();
    assert_eq!(volumes(&stack).len(), 2);
}

#[test]
fn binds_show_the_host_and_keep_read_only_promises() {
    let stack = Stack::with_busybox();
    let dir = stack.scratch().path("host");
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join("file"), "host\n").unwrap();
    let bind = format!("{}:/m", dir.display());
    assert_eq!(
        shell(&stack, &["-v", &bind], "cat /m/file; echo new > /m/new"),
        "host\n"
    );
    assert_eq!(fs::read_to_string(dir.join("new")).unwrap(), "new\n");
    let said = shell(
        &stack,
        &["-v", &format!("{bind}:ro")],
        "echo x > /m/x 2>/dev/null || echo refused",
    );
    assert_eq!(said, "refused\n");
    // A directory that is missing is made for -v, and refused for --mount.
    let missing = stack.scratch().text("missing");
    shell(&stack, &["-v", &format!("{missing}:/m")], "true");
    assert!(fs::metadata(&missing).unwrap().is_dir());
    let absent = stack.scratch().text("absent");
    let mount = format!("type=bind,source={absent},target=/m");
    stack
        .ctl(&["run", "--rm", "--mount", &mount, BUSYBOX, "true"])
        .exits(125)
        .fails_naming(&["bind source path does not exist", &absent]);
    let mount = format!("type=bind,source={},target=/m,readonly", dir.display());
    let said = shell(
        &stack,
        &["--mount", &mount],
        "cat /m/file; touch /m/y 2>/dev/null || echo refused",
    );
    assert_eq!(said, "host\nrefused\n");
    // A single file, over what the image has.
    let file = format!("{}:/etc/passwd:ro", dir.join("file").display());
    assert_eq!(shell(&stack, &["-v", &file], "cat /etc/passwd"), "host\n");
}

#[test]
fn nested_mounts_are_mounted_in_order() {
    let stack = Stack::with_busybox();
    let said = shell(
        &stack,
        &["-v", "inner:/a/b/c", "-v", "outer:/a"],
        "echo i > /a/b/c/f; echo o > /a/f; cat /proc/mounts | grep -c ' /a'",
    );
    assert_eq!(said, "2\n");
    assert_eq!(shell(&stack, &["-v", "inner:/i"], "ls /i"), "f\n");
}

#[test]
fn tmpfs_has_the_size_and_mode_that_were_asked_for() {
    let stack = Stack::with_busybox();
    let said = shell(
        &stack,
        &["--tmpfs", "/t:size=1m"],
        "grep ' /t ' /proc/mounts",
    );
    assert!(
        said.starts_with("tmpfs /t tmpfs ") && said.contains("size=1024k"),
        "{said}"
    );
    assert!(said.contains("noexec") && said.contains("nosuid"), "{said}");
    let said = shell(
        &stack,
        &[
            "--mount",
            "type=tmpfs,target=/t,tmpfs-size=2m,tmpfs-mode=0700",
        ],
        "grep ' /t ' /proc/mounts; stat -c %a /t",
    );
    assert!(
        said.contains("size=2048k") && said.ends_with("700\n"),
        "{said}"
    );
}

#[test]
fn an_images_volume_starts_with_the_images_content() {
    let stack = Stack::start();
    let content = Tar::new()
        .dir("data", 0o750)
        .file("data/seed", 0o640, b"from the image\n")
        .symlink("data/link", "seed");
    let image = Image::busybox()
        .layer(content)
        .with("Volumes", json!({"/data": {}}));
    stack.load(&image.docker_archive(&["seeded:latest"]));
    let said = stack
        .ctl(&[
            "run",
            "--name",
            "c1",
            "seeded",
            "sh",
            "-c",
            "cat /data/link; echo more > /data/more",
        ])
        .ok();
    assert_eq!(said, "from the image\n");
    let mounts = stack.inspect("c1", "/Mounts");
    assert_eq!(mounts[0]["Type"], "volume");
    assert_eq!(mounts[0]["Destination"], "/data");
    let source = mounts[0]["Source"].as_str().unwrap();
    assert_eq!(fs::metadata(source).unwrap().mode() & 0o7777, 0o750);
    assert_eq!(
        fs::read_to_string(format!("{source}/more")).unwrap(),
        "more\n"
    );
    // Another container's mounts, by reference.
    let said = stack
        .ctl(&[
            "run",
            "--rm",
            "--volumes-from",
            "c1:ro",
            "seeded",
            "sh",
            "-c",
            "cat /data/more; touch /data/x 2>/dev/null || echo refused",
        ])
        .ok();
    assert_eq!(said, "more\nrefused\n");
    // A named one is filled at its first use only, and not at all with nocopy.
    let list = |args: &[&str]| {
        stack
            .ctl(&[&["run", "--rm"], args, &["seeded", "ls", "/data"]].concat())
            .ok()
    };
    assert_eq!(list(&["-v", "named:/data"]), "link\nseed\n");
    stack
        .ctl(&[
            "run",
            "--rm",
            "-v",
            "named:/data",
            "seeded",
            "rm",
            "/data/seed",
        ])
        .ok();
    assert_eq!(list(&["-v", "named:/data"]), "link\n");
    assert_eq!(list(&["-v", "empty:/data:nocopy"]), "");
    stack.ctl(&["rm", "-v", "c1"]).ok();
    assert!(!fs::exists(source).unwrap());
}

#[test]
fn a_subpath_stays_in_its_volume() {
    let stack = Stack::with_busybox();
    shell(
        &stack,
        &["-v", "data:/d"],
        "mkdir /d/sub; echo s > /d/sub/f; ln -s /etc /d/out",
    );
    let mount = |sub: &str| format!("type=volume,source=data,target=/m,volume-subpath={sub}");
    assert_eq!(
        shell(&stack, &["--mount", &mount("sub")], "cat /m/f"),
        "s\n"
    );
    stack
        .ctl(&["run", "--rm", "--mount", &mount("nothing"), BUSYBOX, "true"])
        .fails_naming(&["nothing", "data"]);
    stack
        .ctl(&["run", "--rm", "--mount", &mount("../x"), BUSYBOX, "true"])
        .exits(125);
    // The link leads to the volume's own /etc, which it has not.
    stack
        .ctl(&["run", "--rm", "--mount", &mount("out"), BUSYBOX, "true"])
        .fails_naming(&["out"]);
}

#[test]
fn bad_mounts_are_refused_in_dockers_words() {
    let stack = Stack::with_busybox();
    let refused = |args: &[&str], words: &[&str]| {
        let all = [&["run", "--rm"], args, &[BUSYBOX, "true"]].concat();
        stack.ctl(&all).exits(125).fails_naming(words);
    };
    refused(&["-v", "/a:b"], &["mount path must be absolute"]);
    refused(&["-v", "/a:/b:bogus"], &["invalid mode: bogus"]);
    refused(
        &["-v", "/x:/a", "-v", "/y:/a"],
        &["Duplicate mount point: /a"],
    );
    refused(
        &["--mount", "type=bogus,target=/a"],
        &["bogus", "mount type unknown"],
    );
    let said = stack
        .ctl(&["run", "--mount", "target=/a,bogus=1", BUSYBOX])
        .exits(125);
    assert!(
        said.err.contains("unexpected key 'bogus' in 'bogus=1'"),
        "{}",
        said.err
    );
    refused(
        &["--volumes-from", "nobody"],
        &["No such container: nobody"],
    );
    assert_eq!(volumes(&stack), Vec::<String>::new());
}

#[test]
fn volumes_survive_the_daemons_death() {
    let mut stack = Stack::with_busybox();
    stack
        .ctl(&[
            "run",
            "-d",
            "--name",
            "c1",
            "-v",
            "data:/d",
            BUSYBOX,
            "sh",
            "-c",
            "echo x > /d/f; sleep 1000",
        ])
        .ok();
    stack.kill_daemon();
    // What a daemon that died in the middle of a create leaves.
    fs::create_dir_all(stack.root().join("volumes/half/_data")).unwrap();
    stack.start_daemon();
    assert_eq!(volumes(&stack), ["data"]);
    assert!(!stack.root().join("volumes/half").exists());
    stack
        .ctl(&["volume", "rm", "data"])
        .fails_naming(&["in use"]);
    assert_eq!(stack.ctl(&["exec", "c1", "cat", "/d/f"]).ok(), "x\n");
}
