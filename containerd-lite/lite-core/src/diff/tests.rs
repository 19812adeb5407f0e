use std::fs;

use super::*;
use crate::content::ContentStore;
use crate::db::Database;
use crate::filter::Filters;

fn store() -> (tempfile::TempDir, ContentStore, Namespace) {
    let dir = tempfile::tempdir().unwrap();
    let db = Database::open(&dir.path().join("meta.db")).unwrap();
    let content = ContentStore::new(db, dir.path().join("content")).unwrap();
    (dir, content, Namespace::default())
}

fn trees(dir: &tempfile::TempDir) -> ([Mount; 1], [Mount; 1]) {
    let (lower, upper) = (dir.path().join("lower"), dir.path().join("upper"));
    for path in [&lower, &upper] {
        fs::create_dir(path).unwrap();
    }
    fs::write(upper.join("new"), vec![b'x'; 100_000]).unwrap();
    ([Mount::bind(&lower, false)], [Mount::bind(&upper, false)])
}

#[test]
fn every_packing_holds_the_same_layer() {
    let (dir, content, ns) = store();
    let (lower, upper) = trees(&dir);
    let mut diff_ids = Vec::new();
    for (media_type, magic) in [
        // A header, of the entry or of its extended attributes.
        ("application/vnd.oci.image.layer.v1.tar", &b""[..]),
        ("application/vnd.oci.image.layer.v1.tar+gzip", &[0x1f, 0x8b]),
        ("application/vnd.oci.image.layer.v1.tar+zstd", &[0x28, 0xb5]),
        (
            "application/vnd.docker.image.rootfs.diff.tar.gzip",
            &[0x1f, 0x8b],
        ),
    ] {
        let options = Options {
            media_type: media_type.to_owned(),
            ..Options::default()
        };
        let layer = mounts(&content, &ns, None, &lower, &upper, &options).unwrap();
        let again = mounts(&content, &ns, None, &lower, &upper, &options).unwrap();
        assert_eq!(layer, again);
        assert!(!layer.is_empty);
        let digest = &layer.blob.digest;
        let bytes = content.read(&ns, digest, 1 << 20).unwrap();
        assert!(bytes.starts_with(magic), "{media_type}");
        let info = content.info(&ns, digest).unwrap();
        let said = info.labels.get(UNCOMPRESSED).map(String::as_str);
        let compressed = digest != &layer.diff_id;
        assert_eq!(said, compressed.then_some(layer.diff_id.as_str()));
        diff_ids.push(layer.diff_id);
    }
    assert!(diff_ids.iter().all(|id| *id == diff_ids[0]));
    assert_eq!(content.statuses(&ns, &Filters::default()).unwrap(), []);
}

#[test]
fn no_change_is_an_empty_layer_and_what_is_not_offered_is_named() {
    let (dir, content, ns) = store();
    let (lower, upper) = trees(&dir);
    let options = Options::default();
    let same = mounts(&content, &ns, None, &lower, &lower, &options).unwrap();
    assert!(same.is_empty);
    let other = Options {
        media_type: "image/png".to_owned(),
        ..Options::default()
    };
    let err = mounts(&content, &ns, None, &lower, &upper, &other).unwrap_err();
    assert_eq!(err.kind(), Kind::Unimplemented);
    assert!(crate::error::chain(&err).contains("image/png"));
    let absent = [Mount::bind(&dir.path().join("absent"), false)];
    let err = mounts(&content, &ns, None, &lower, &absent, &options).unwrap_err();
    assert_eq!(err.kind(), Kind::NotFound);
    assert_eq!(content.statuses(&ns, &Filters::default()).unwrap(), []);
}
