//! What a daemon's stores hold, against what lies on the disk.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use crate::command::eventually;
use crate::image;
use crate::stack::Stack;

/// Holds records against files: every blob is whole and known, every ingest and
/// snapshot known, all bytes accounted for, nothing else there and nothing
/// mounted. `place` is told when it is not so.
///
/// # Panics
/// When it is not so, also a while later: a collection may be under way.
#[track_caller]
pub fn agree_with_the_disk(stack: &Stack, place: &str) {
    check_blobs(stack, place);
    check_snapshots(stack, place);
    for (name, allowed) in [
        ("content", &["blobs", "ingest"][..]),
        ("content/blobs", &["sha256"]),
    ] {
        let found = entries(&stack.root().join(name));
        assert!(
            found.keys().all(|name| allowed.contains(&name.as_str())),
            "{found:?} in {name} ({place})"
        );
    }
    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("the mount table");
    let root = stack.root().display().to_string();
    assert!(
        !mounts.contains(&format!("{root}/")),
        "a mount was left ({place})"
    );
}

fn check_blobs(stack: &Stack, place: &str) {
    // A collection of what the last process left runs beside us at first.
    let blobs = stack.root().join("content/blobs/sha256");
    eventually(&format!("blobs and records to agree ({place})"), || {
        let listed = stack.ctr(&["content", "ls", "-q"]).ok();
        let listed: BTreeSet<&str> = listed
            .lines()
            .map(|digest| digest.trim_start_matches("sha256:"))
            .collect();
        let on_disk = entries(&blobs);
        let on_disk: BTreeSet<&str> = on_disk.keys().map(String::as_str).collect();
        (on_disk == listed).then_some(())
    });
    for name in entries(&blobs).keys() {
        // A collection may remove it meanwhile; another name's bytes it cannot have.
        if let Ok(bytes) = fs::read(blobs.join(name)) {
            let found = image::hex(&bytes);
            assert_eq!(&found, name, "a blob with other bytes ({place})");
        }
    }
    eventually(&format!("ingests and records to agree ({place})"), || {
        let listed = stack.ctr(&["content", "active"]).ok();
        (rows(&listed).len() == entries(&stack.root().join("content/ingest")).len()).then_some(())
    });
}

fn check_snapshots(stack: &Stack, place: &str) {
    let dir = stack.root().join("snapshots");
    let listed = eventually(&format!("snapshots and records to agree ({place})"), || {
        let listed = stack.ctr(&["snapshots", "usage", "-b"]).ok();
        let keys = rows(&listed).len();
        (entries(&dir).len() == keys).then_some(listed)
    });
    let recorded: u64 = rows(&listed)
        .iter()
        .map(|row| row[row.len() - 2].parse::<u64>().expect("a size"))
        .sum();
    let on_disk: u64 = entries(&dir)
        .keys()
        .map(|number| allocated(&dir.join(number).join("fs")))
        .sum();
    assert_eq!(
        recorded, on_disk,
        "bytes of all snapshots ({place})\n{listed}"
    );
}

/// Names and sizes of what is in a directory.
///
/// # Panics
/// When there is none.
#[must_use]
pub fn entries(dir: &Path) -> BTreeMap<String, u64> {
    let entries = fs::read_dir(dir).unwrap_or_else(|err| panic!("{}: {err}", dir.display()));
    entries
        .flatten()
        .filter_map(|entry| {
            // Collection may be faster.
            let size = entry.metadata().ok()?.len();
            Some((entry.file_name().into_string().expect("text"), size))
        })
        .collect()
}

/// The words of a table's lines but its head's.
#[must_use]
pub fn rows(table: &str) -> Vec<Vec<&str>> {
    let lines = table.lines().skip(1);
    lines
        .map(|line| line.split_whitespace().collect())
        .collect()
}

/// Disk space of a tree, as the snapshotter counts it.
fn allocated(root: &Path) -> u64 {
    let mut total = 0;
    let mut pending = vec![root.to_owned()];
    while let Some(path) = pending.pop() {
        let found = fs::symlink_metadata(&path).expect("a snapshot's file");
        total += found.blocks() * 512;
        if found.is_dir() {
            let entries = fs::read_dir(&path).expect("a snapshot's directory");
            pending.extend(entries.map(|entry| entry.expect("an entry").path()));
        }
    }
    total
}

/// One number for everything that a tree holds.
///
/// # Panics
/// When it cannot be read.
#[must_use]
pub fn fingerprint(root: &Path) -> String {
    let mut lines = BTreeSet::new();
    let mut pending = vec![root.to_owned()];
    while let Some(path) = pending.pop() {
        let found = fs::symlink_metadata(&path).expect("a file of the image");
        let content = if found.is_dir() {
            let entries = fs::read_dir(&path).expect("a directory of the image");
            pending.extend(entries.map(|entry| entry.expect("an entry").path()));
            String::new()
        } else if found.is_symlink() {
            format!("{:?}", fs::read_link(&path).expect("a link of the image"))
        } else {
            image::hex(&fs::read(&path).expect("a file of the image can be read"))
        };
        let name = path.strip_prefix(root).expect("below its root").display();
        lines.insert(format!("{name} {:o} {content}", found.mode()));
    }
    image::hex(lines.into_iter().collect::<Vec<_>>().join("\n").as_bytes())
}
