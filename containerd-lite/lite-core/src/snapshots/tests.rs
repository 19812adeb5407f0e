use std::fs;

use super::*;

fn store() -> (tempfile::TempDir, Snapshots, Namespace) {
    let dir = tempfile::tempdir().unwrap();
    let db = Database::open(&dir.path().join("meta.db")).unwrap();
    let snapshots = Snapshots::new(db, dir.path().join("snapshots")).unwrap();
    (dir, snapshots, Namespace::default())
}

fn none() -> Labels {
    Labels::new()
}

fn kind(result: Result<impl Sized>) -> Kind {
    result.err().expect("an error").kind()
}

#[test]
fn a_stack_of_snapshots_mounts_as_overlay() {
    let (dir, snapshots, ns) = store();
    let base = snapshots
        .prepare(&ns, OVERLAYFS, "k1", "", &none())
        .unwrap();
    assert_eq!(
        (base[0].kind.as_str(), base[0].options.join(",").as_str()),
        ("bind", "rw,rbind")
    );
    fs::write(Path::new(&base[0].source).join("one"), "1").unwrap();
    snapshots
        .commit(&ns, OVERLAYFS, "c1", "k1", &none())
        .unwrap();
    let view = snapshots.view(&ns, OVERLAYFS, "v1", "c1", &none()).unwrap();
    assert_eq!(
        (view[0].source.as_str(), view[0].options.join(",").as_str()),
        (base[0].source.as_str(), "ro,rbind")
    );
    let upper = snapshots
        .prepare(&ns, OVERLAYFS, "k2", "c1", &none())
        .unwrap();
    assert_eq!(upper, snapshots.mounts(&ns, OVERLAYFS, "k2").unwrap());

    let target = dir.path().join("mnt");
    fs::create_dir(&target).unwrap();
    let options = upper[0].options.join(",");
    nix::mount::mount(
        Some("overlay"),
        &target,
        Some("overlay"),
        nix::mount::MsFlags::empty(),
        Some(options.as_str()),
    )
    .unwrap();
    let seen = fs::read_to_string(target.join("one"));
    let wrote = fs::write(target.join("two"), "2");
    nix::mount::umount(&target).unwrap();
    assert_eq!(seen.unwrap(), "1");
    wrote.unwrap();
    let usage = snapshots.usage(&ns, OVERLAYFS, "k2").unwrap();
    assert_eq!(usage.inodes, 2);
    snapshots
        .commit(&ns, OVERLAYFS, "c2", "k2", &none())
        .unwrap();
    assert_eq!(snapshots.usage(&ns, OVERLAYFS, "c2").unwrap(), usage);
    let two = snapshots.view(&ns, OVERLAYFS, "v2", "c2", &none()).unwrap();
    let options = two[0].options.join(",");
    assert!(
        options.contains("lowerdir=") && options.contains(':') && !options.contains("upperdir"),
        "{options}"
    );
}

#[test]
fn kinds_and_parents_are_checked() {
    let (_dir, snapshots, ns) = store();
    assert_eq!(
        kind(snapshots.prepare(&ns, "btrfs", "k", "", &none())),
        Kind::InvalidArgument
    );
    assert_eq!(
        kind(snapshots.prepare(&ns, OVERLAYFS, "k", "none", &none())),
        Kind::NotFound
    );
    snapshots.prepare(&ns, OVERLAYFS, "k", "", &none()).unwrap();
    assert_eq!(
        kind(snapshots.prepare(&ns, OVERLAYFS, "k", "", &none())),
        Kind::AlreadyExists
    );
    assert_eq!(
        kind(snapshots.prepare(&ns, OVERLAYFS, "k2", "k", &none())),
        Kind::InvalidArgument
    );
    snapshots.commit(&ns, OVERLAYFS, "c", "k", &none()).unwrap();
    assert_eq!(
        kind(snapshots.mounts(&ns, OVERLAYFS, "c")),
        Kind::FailedPrecondition
    );
    assert_eq!(kind(snapshots.mounts(&ns, OVERLAYFS, "k")), Kind::NotFound);
    snapshots.view(&ns, OVERLAYFS, "v", "c", &none()).unwrap();
    assert_eq!(
        kind(snapshots.commit(&ns, OVERLAYFS, "d", "v", &none())),
        Kind::FailedPrecondition
    );
    assert_eq!(
        kind(snapshots.remove(&ns, OVERLAYFS, "c")),
        Kind::FailedPrecondition
    );
    snapshots.remove(&ns, OVERLAYFS, "v").unwrap();
    let target = Labels::from([(TARGET_LABEL.to_owned(), "c".to_owned())]);
    assert_eq!(
        kind(snapshots.prepare(&ns, OVERLAYFS, "again", "", &target)),
        Kind::AlreadyExists
    );
    snapshots
        .prepare(&ns, OVERLAYFS, "k", "c", &none())
        .unwrap();
    assert_eq!(
        kind(snapshots.commit(&ns, OVERLAYFS, "c", "k", &none())),
        Kind::AlreadyExists
    );
    let other = Namespace::parse("other").unwrap();
    assert_eq!(kind(snapshots.stat(&other, OVERLAYFS, "c")), Kind::NotFound);
}

#[test]
fn removal_leaves_no_files_and_opening_removes_litter() {
    let (dir, snapshots, ns) = store();
    let root = dir.path().join("snapshots");
    snapshots.prepare(&ns, OVERLAYFS, "k", "", &none()).unwrap();
    snapshots
        .prepare(&ns, OVERLAYFS, "kept", "", &none())
        .unwrap();
    snapshots.remove(&ns, OVERLAYFS, "k").unwrap();
    assert_eq!(fs::read_dir(&root).unwrap().count(), 1);
    fs::create_dir_all(root.join("77/fs/deep")).unwrap();
    drop(snapshots);
    let snapshots = Snapshots::new(
        Database::open(&dir.path().join("meta.db")).unwrap(),
        root.clone(),
    )
    .unwrap();
    assert_eq!(fs::read_dir(&root).unwrap().count(), 1);
    assert!(
        snapshots
            .upper_dir(&ns, OVERLAYFS, "kept")
            .unwrap()
            .is_dir()
    );
}

#[test]
fn records_whose_directories_are_gone_are_mended_when_the_store_opens() {
    let (dir, snapshots, ns) = store();
    for (key, name, parent) in [
        ("k1", "base", ""),
        ("k2", "top", "base"),
        ("k3", "alone", ""),
    ] {
        snapshots
            .prepare(&ns, OVERLAYFS, key, parent, &none())
            .unwrap();
        snapshots
            .commit(&ns, OVERLAYFS, name, key, &none())
            .unwrap();
    }
    snapshots
        .prepare(&ns, OVERLAYFS, "work", "base", &none())
        .unwrap();
    snapshots
        .prepare(&ns, OVERLAYFS, "other", "base", &none())
        .unwrap();
    // All of a directory, its half, and what overlay needs besides.
    for lost in ["2", "3/fs", "4/fs", "5/work"] {
        fs::remove_dir_all(dir.path().join("snapshots").join(lost)).unwrap();
    }
    drop(snapshots);
    let db = Database::open(&dir.path().join("meta.db")).unwrap();
    let snapshots = Snapshots::new(db, dir.path().join("snapshots")).unwrap();
    // Layers are forgotten, so that they are unpacked again.
    for lost in ["top", "alone"] {
        assert_eq!(kind(snapshots.stat(&ns, OVERLAYFS, lost)), Kind::NotFound);
    }
    assert!(snapshots.stat(&ns, OVERLAYFS, "base").is_ok());
    let work = snapshots.mounts(&ns, OVERLAYFS, "work").unwrap();
    let options = work[0].options.join(",");
    assert!(options.contains("snapshots/4/work"), "{options}");
    assert!(dir.path().join("snapshots/4/fs").is_dir());
    assert!(dir.path().join("snapshots/4/work").is_dir());
    assert!(dir.path().join("snapshots/5/work").is_dir());
}
