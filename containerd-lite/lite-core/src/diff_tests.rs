use std::os::unix::fs::{PermissionsExt as _, symlink};

use super::*;
use crate::content::ContentStore;
use crate::db::Database;
use crate::layers::{self, Limits, Target};

struct Lab {
    dir: tempfile::TempDir,
    content: ContentStore,
    ns: Namespace,
}

fn lab() -> Lab {
    let dir = tempfile::tempdir().unwrap();
    let db = Database::open(&dir.path().join("meta.db")).unwrap();
    let content = ContentStore::new(db, dir.path().join("content")).unwrap();
    fs::create_dir(dir.path().join("up")).unwrap();
    Lab {
        dir,
        content,
        ns: Namespace::default(),
    }
}

impl Lab {
    fn at(&self, path: &str) -> std::path::PathBuf {
        let path = self.dir.path().join("up").join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        path
    }

    fn layer(&self, reference: &str) -> Made {
        let ingest = self
            .content
            .ingest(&self.ns, None, reference, None)
            .unwrap();
        write(ingest, &self.dir.path().join("up")).unwrap()
    }

    /// The layer unpacked again, over a layer below so that whiteouts keep overlay's form.
    fn unpacked(&self, made: &Made) -> std::path::PathBuf {
        let to = self.dir.path().join("back");
        fs::create_dir(&to).unwrap();
        let below = [self.dir.path().join("up")];
        let target = Target {
            dir: &to,
            below: &below,
        };
        let applied = layers::apply_blob(
            &self.content,
            &self.ns,
            &made.blob,
            target,
            Limits::default(),
        )
        .unwrap();
        assert_eq!(applied.diff_id, made.diff_id);
        to
    }
}

#[test]
fn files_come_back_as_they_were() {
    use nix::sys::stat::{Mode, SFlag, makedev, mknod};
    let lab = lab();
    fs::write(lab.at("d/file"), "text").unwrap();
    fs::set_permissions(lab.at("d/file"), fs::Permissions::from_mode(0o4711)).unwrap();
    std::os::unix::fs::chown(lab.at("d/file"), Some(7), Some(8)).unwrap();
    fs::set_permissions(lab.at("d/file"), fs::Permissions::from_mode(0o4711)).unwrap();
    fs::hard_link(lab.at("d/file"), lab.at("d/second")).unwrap();
    symlink("../nowhere", lab.at("d/link")).unwrap();
    mknod(
        &lab.at("null"),
        SFlag::S_IFCHR,
        Mode::from_bits_truncate(0o666),
        makedev(1, 3),
    )
    .unwrap();
    nix::unistd::mkfifo(&lab.at("fifo"), Mode::from_bits_truncate(0o600)).unwrap();
    let long = "n".repeat(120);
    fs::write(lab.at(&long), "long").unwrap();
    let made = lab.layer("r");
    let back = lab.unpacked(&made);
    for path in ["d", "d/file", "d/link", "null", "fifo", long.as_str()] {
        let was = fs::symlink_metadata(lab.at(path)).unwrap();
        let is = fs::symlink_metadata(back.join(path)).unwrap();
        assert_eq!(
            (
                was.mode(),
                was.uid(),
                was.gid(),
                was.rdev(),
                was.mtime(),
                was.mtime_nsec()
            ),
            (
                is.mode(),
                is.uid(),
                is.gid(),
                is.rdev(),
                is.mtime(),
                is.mtime_nsec()
            ),
            "{path}"
        );
    }
    let inode = |path: &str| fs::metadata(back.join(path)).unwrap().ino();
    assert_eq!(inode("d/file"), inode("d/second"));
    assert_eq!(fs::read_to_string(back.join("d/second")).unwrap(), "text");
    assert_eq!(
        fs::read_link(back.join("d/link")).unwrap(),
        Path::new("../nowhere")
    );
}

#[test]
fn what_was_removed_stays_removed() {
    use nix::sys::stat::{Mode, SFlag, mknod};
    let lab = lab();
    mknod(&lab.at("gone"), SFlag::S_IFCHR, Mode::empty(), 0).unwrap();
    fs::create_dir_all(lab.at("opaque/in")).unwrap();
    let flags = rustix::fs::XattrFlags::empty();
    rustix::fs::lsetxattr(lab.at("opaque"), "trusted.overlay.opaque", b"y", flags).unwrap();
    let back = lab.unpacked(&lab.layer("r"));
    let about = fs::symlink_metadata(back.join("gone")).unwrap();
    assert!(about.file_type().is_char_device() && about.rdev() == 0);
    let mut value = [0; 8];
    let read = rustix::fs::lgetxattr(back.join("opaque"), "trusted.overlay.opaque", &mut value);
    assert_eq!(&value[..read.unwrap()], b"y");
    assert!(back.join("opaque/in").is_dir());
}

#[test]
fn the_same_files_make_the_same_layer() {
    let lab = lab();
    fs::write(lab.at("b"), "2").unwrap();
    fs::write(lab.at("a"), "1").unwrap();
    let first = lab.layer("one");
    // Reading changes the time of access, which is no part of it.
    fs::read(lab.at("a")).unwrap();
    assert_eq!(first, lab.layer("two"));
    fs::write(lab.at("a"), "3").unwrap();
    assert_ne!(first.diff_id, lab.layer("three").diff_id);
}

#[test]
fn what_only_overlay_understands_is_refused() {
    let lab = lab();
    fs::create_dir(lab.at("moved")).unwrap();
    let flags = rustix::fs::XattrFlags::empty();
    rustix::fs::lsetxattr(lab.at("moved"), "trusted.overlay.redirect", b"/x", flags).unwrap();
    let ingest = lab.content.ingest(&lab.ns, None, "r", None).unwrap();
    let refused = write(ingest, &lab.dir.path().join("up")).unwrap_err();
    assert_eq!(refused.kind(), Kind::FailedPrecondition);
    // Nothing is left of the attempt.
    assert_eq!(
        lab.content.status(&lab.ns, "r").unwrap_err().kind(),
        Kind::NotFound
    );
}
