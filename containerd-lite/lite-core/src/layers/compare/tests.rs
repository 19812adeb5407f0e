use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};

use super::*;
use crate::layers::tar::Reader;
use crate::layers::{Limits, Target, apply};

/// Layers, nearest first when asked for.
struct Stack(tempfile::TempDir, Vec<PathBuf>);

impl Stack {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap(), Vec::new())
    }

    fn layer(&mut self) -> PathBuf {
        let dir = self.0.path().join(self.1.len().to_string());
        fs::create_dir(&dir).unwrap();
        self.1.push(dir.clone());
        dir
    }

    fn dirs(&self) -> Vec<PathBuf> {
        self.1.iter().rev().cloned().collect()
    }

    fn diff(&self) -> Vec<u8> {
        let dirs = self.dirs();
        let mut bytes = Vec::new();
        compare(&dirs[1..], &dirs, Rules::default(), &mut bytes).unwrap();
        bytes
    }
}

fn whiteout(path: &Path) {
    rustix::fs::mknodat(
        rustix::fs::CWD,
        path,
        FileType::CharacterDevice,
        Mode::empty(),
        0,
    )
    .unwrap();
}

fn listed(archive: &[u8]) -> Vec<String> {
    let mut reader = Reader::new(archive);
    let mut all = Vec::new();
    while let Some(header) = reader.next().unwrap() {
        let path = String::from_utf8_lossy(&header.path).into_owned();
        let target = String::from_utf8_lossy(&header.target).into_owned();
        all.push(match header.kind {
            EntryKind::HardLink => format!("{path} = {target}"),
            EntryKind::Symlink => format!("{path} -> {target}"),
            _ => path,
        });
    }
    all
}

fn set_xattr(path: &Path, name: &str, value: &[u8]) {
    rustix::fs::setxattr(path, name, value, rustix::fs::XattrFlags::empty()).unwrap();
}

#[test]
fn a_layer_holds_what_changed_and_the_way_to_it() {
    let mut stack = Stack::new();
    let base = stack.layer();
    fs::create_dir_all(base.join("usr/lib/deep")).unwrap();
    fs::create_dir_all(base.join("gone/below")).unwrap();
    fs::create_dir_all(base.join("replaced/old")).unwrap();
    fs::write(base.join("usr/lib/same"), "same").unwrap();
    fs::write(base.join("usr/lib/changed"), "before").unwrap();
    fs::write(base.join("replaced/kept"), "x").unwrap();
    fs::write(base.join("removed"), "x").unwrap();
    let upper = stack.layer();
    fs::create_dir_all(upper.join("usr/lib")).unwrap();
    fs::write(upper.join("usr/lib/changed"), "after").unwrap();
    whiteout(&upper.join("gone"));
    whiteout(&upper.join("removed"));
    fs::create_dir(upper.join("replaced")).unwrap();
    set_xattr(&upper.join("replaced"), "trusted.overlay.opaque", b"y");
    fs::write(upper.join("replaced/new"), "x").unwrap();
    fs::create_dir(upper.join("fresh")).unwrap();
    symlink("/somewhere", upper.join("fresh/link")).unwrap();
    assert_eq!(
        listed(&stack.diff()),
        [
            "fresh/",
            "fresh/link -> /somewhere",
            ".wh.gone",
            ".wh.removed",
            "replaced/",
            "replaced/.wh.kept",
            "replaced/new",
            "replaced/.wh.old",
            "usr/",
            "usr/lib/",
            "usr/lib/changed",
        ]
    );
}

#[test]
fn what_was_only_copied_up_is_no_change_and_a_mode_is() {
    let mut stack = Stack::new();
    let base = stack.layer();
    for name in ["copied", "mode"] {
        fs::write(base.join(name), name).unwrap();
    }
    let upper = stack.layer();
    for name in ["copied", "mode"] {
        let (from, to) = (base.join(name), upper.join(name));
        fs::copy(&from, &to).unwrap();
        let times = fs::FileTimes::new().set_modified(from.metadata().unwrap().modified().unwrap());
        fs::File::options()
            .write(true)
            .open(&to)
            .unwrap()
            .set_times(times)
            .unwrap();
    }
    fs::set_permissions(upper.join("mode"), Permissions::from_mode(0o600)).unwrap();
    assert_eq!(listed(&stack.diff()), ["mode"]);
}

#[test]
fn a_name_added_to_a_file_keeps_both_one_file() {
    let mut stack = Stack::new();
    fs::write(stack.layer().join("a"), "x").unwrap();
    let upper = stack.layer();
    fs::write(upper.join("a"), "x").unwrap();
    fs::hard_link(upper.join("a"), upper.join("b")).unwrap();
    assert_eq!(listed(&stack.diff()), ["a", "b = a"]);
}

#[test]
fn applied_again_it_gives_the_same_files_and_the_same_layer() {
    let mut stack = Stack::new();
    let base = stack.layer();
    fs::create_dir(base.join("dir")).unwrap();
    fs::write(base.join("dir/old"), "x").unwrap();
    let upper = stack.layer();
    fs::create_dir(upper.join("dir")).unwrap();
    whiteout(&upper.join("dir/old"));
    let long = "n".repeat(200);
    let file = upper.join("dir").join(&long);
    fs::write(&file, "capable").unwrap();
    std::os::unix::fs::chown(&file, Some(3_000_000), Some(7)).unwrap();
    fs::set_permissions(&file, Permissions::from_mode(0o4755)).unwrap();
    let capability = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    set_xattr(&file, "security.capability", &capability);
    let sparse = fs::File::create(upper.join("sparse")).unwrap();
    sparse.set_len(3 << 20).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        upper.join("null"),
        FileType::CharacterDevice,
        Mode::from_raw_mode(0o666),
        rustix::fs::makedev(1, 3),
    )
    .unwrap();
    let first = stack.diff();

    let again = stack.0.path().join("again");
    fs::create_dir(&again).unwrap();
    let target = Target {
        dir: &again,
        below: std::slice::from_ref(&base),
    };
    apply(first.as_slice(), target, Limits::default()).unwrap();
    let made = fs::metadata(again.join("dir").join(&long)).unwrap();
    assert_eq!(
        (made.uid(), made.gid(), made.mode() & 0o7777),
        (3_000_000, 7, 0o4755)
    );
    assert_eq!(fs::metadata(again.join("sparse")).unwrap().len(), 3 << 20);
    assert_eq!(
        fs::metadata(again.join("null")).unwrap().rdev(),
        rustix::fs::makedev(1, 3)
    );
    let mut second = Vec::new();
    compare(
        std::slice::from_ref(&base),
        &[again, base.clone()],
        Rules::default(),
        &mut second,
    )
    .unwrap();
    assert_eq!(first, second);
}

#[test]
fn what_only_overlayfs_understands_is_refused() {
    for name in ["trusted.overlay.redirect", "trusted.overlay.metacopy"] {
        let mut stack = Stack::new();
        stack.layer();
        let moved = stack.layer().join("moved");
        fs::create_dir(&moved).unwrap();
        set_xattr(&moved, name, b"/x");
        let dirs = stack.dirs();
        let err = compare(&dirs[1..], &dirs, Rules::default(), &mut Vec::new()).unwrap_err();
        assert_eq!(err.kind(), Kind::FailedPrecondition);
        assert!(crate::error::chain(&err).contains("moved"));
    }
}

#[test]
fn without_anything_below_all_is_in_the_layer_and_times_are_limited() {
    let mut stack = Stack::new();
    let only = stack.layer();
    fs::write(only.join("a"), "x").unwrap();
    let mut bytes = Vec::new();
    let rules = Rules {
        latest: Some(1_000),
        ..Rules::default()
    };
    assert_eq!(compare(&[], &stack.dirs(), rules, &mut bytes).unwrap(), 1);
    let header = Reader::new(bytes.as_slice()).next().unwrap().unwrap();
    assert_eq!(
        (header.path.as_slice(), header.modified),
        (&b"a"[..], (1_000, 0))
    );
    fs::write(only.join(".wh.x"), "").unwrap();
    let err = compare(&[], &stack.dirs(), Rules::default(), &mut Vec::new()).unwrap_err();
    assert_eq!(err.kind(), Kind::InvalidArgument);
    assert!(crate::error::chain(&err).contains(".wh.x"));
}

/// The changes between the topmost layer and those below: `A /path`.
fn changes(stack: &Stack, stubs: &[&str]) -> Vec<String> {
    let dirs = stack.dirs();
    let stubs: Vec<String> = stubs.iter().map(|&path| path.to_owned()).collect();
    let rules = Rules {
        stubs: &stubs,
        ..Rules::default()
    };
    let mut archive = Vec::new();
    let entries = compare(&dirs[1..], &dirs, rules, &mut archive).unwrap();
    let changes = list(&dirs[1..], &dirs, rules).unwrap();
    assert_eq!(entries, changes.len() as u64, "archive and list agree");
    let word = |kind| match kind {
        ChangeKind::Added => "A",
        ChangeKind::Changed => "C",
        ChangeKind::Deleted => "D",
    };
    let lines = changes
        .iter()
        .map(|c| format!("{} {}", word(c.kind), c.path));
    lines.collect()
}

#[test]
fn changes_are_listed_by_kind_and_in_order() {
    let mut stack = Stack::new();
    let below = stack.layer();
    fs::create_dir_all(below.join("etc")).unwrap();
    fs::write(below.join("etc/old"), "").unwrap();
    fs::write(below.join("etc/kept"), "1").unwrap();
    let above = stack.layer();
    fs::create_dir_all(above.join("etc")).unwrap();
    fs::create_dir_all(above.join("new/sub")).unwrap();
    whiteout(&above.join("etc/old"));
    fs::write(above.join("etc/kept"), "22").unwrap();
    let want = [
        "C /etc",
        "C /etc/kept",
        "D /etc/old",
        "A /new",
        "A /new/sub",
    ];
    assert_eq!(changes(&stack, &[]), want);
}

#[test]
fn what_was_made_to_mount_on_is_no_change_unless_it_was_filled() {
    let mut stack = Stack::new();
    fs::create_dir(stack.layer().join("etc")).unwrap();
    let above = stack.layer();
    for dir in ["etc", "proc", "run/secrets", "data", "own"] {
        fs::create_dir_all(above.join(dir)).unwrap();
    }
    for file in ["etc/hosts", "run/secrets/key", "data/written"] {
        fs::write(above.join(file), "").unwrap();
    }
    fs::write(above.join("etc/hostname"), "written").unwrap();
    let stubs = [
        "/proc",
        "/etc/hosts",
        "/etc/hostname",
        "/run/secrets/key",
        "/data",
    ];
    let want = [
        "C /etc",
        "A /etc/hostname",
        "A /data",
        "A /data/written",
        "A /own",
    ];
    let mut got = changes(&stack, &stubs);
    got.sort_by_key(|line| want.iter().position(|wanted| wanted == line));
    assert_eq!(got, want);
}

#[test]
fn files_go_into_a_plain_archive_under_another_name() {
    let mut stack = Stack::new();
    let dir = stack.layer();
    fs::create_dir(dir.join("sub")).unwrap();
    fs::write(dir.join("sub/.wh.file"), "text").unwrap();
    symlink("sub", dir.join("link")).unwrap();
    let packed = |prefix: &str| {
        let mut bytes = Vec::new();
        pack_directory(&dir, prefix.as_bytes(), &mut bytes).unwrap();
        listed(&bytes)
    };
    assert_eq!(packed(""), ["link -> sub", "sub/", "sub/.wh.file"]);
    assert_eq!(
        packed("x"),
        ["x/", "x/link -> sub", "x/sub/", "x/sub/.wh.file"]
    );
    let one = |name: &str| {
        let mut bytes = Vec::new();
        pack_entry(&dir, name.as_bytes(), b"y", &mut bytes).map(|()| listed(&bytes))
    };
    assert_eq!(one("link").unwrap(), ["y -> sub"]);
    assert_eq!(one("sub").unwrap(), ["y/", "y/.wh.file"]);
    assert_eq!(one("none").unwrap_err().kind(), Kind::NotFound);
}
