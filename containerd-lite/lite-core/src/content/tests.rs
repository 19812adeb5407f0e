use std::fs;

use super::*;
use crate::digest::Expected;

fn store() -> (tempfile::TempDir, ContentStore) {
    let dir = tempfile::tempdir().unwrap();
    let db = Database::open(&dir.path().join("meta.db")).unwrap();
    let content = ContentStore::new(db, dir.path().join("content")).unwrap();
    (dir, content)
}

fn ns(name: &str) -> Namespace {
    Namespace::parse(name).unwrap()
}

fn put(content: &ContentStore, ns: &Namespace, bytes: &[u8]) -> Digest {
    let mut ingest = content.ingest(ns, None, "put", None).unwrap();
    ingest.write(bytes).unwrap();
    ingest.commit(None, None, &Labels::new()).unwrap().digest
}

fn files(dir: &Path) -> Vec<String> {
    let names = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.collect()
}

#[test]
fn an_ingest_resumes_where_it_was() {
    let (_dir, content) = store();
    let ns = ns("a");
    let digest = Digest::of(b"hello world");
    let expected = Expected {
        digest: Some(digest.clone()),
        size: Some(11),
    };
    let mut first = content.ingest(&ns, None, "r", expected.clone()).unwrap();
    first.write(b"hello").unwrap();
    assert_eq!(
        content.ingest(&ns, None, "r", None).err().unwrap().kind(),
        Kind::Unavailable
    );
    assert_eq!(
        content.abort(&ns, "r").unwrap_err().kind(),
        Kind::Unavailable
    );
    drop(first);
    assert_eq!(content.status(&ns, "r").unwrap().offset, 5);
    let mut second = content.ingest(&ns, None, "r", expected).unwrap();
    assert_eq!(second.offset(), 5);
    second.write(b" world").unwrap();
    second.commit(Some(11), None, &Labels::new()).unwrap();
    assert_eq!(content.read(&ns, &digest, 100).unwrap(), b"hello world");
    assert_eq!(content.status(&ns, "r").unwrap_err().kind(), Kind::NotFound);
}

#[test]
fn a_commit_of_the_wrong_bytes_names_both_and_can_be_mended() {
    let (_dir, content) = store();
    let ns = ns("a");
    let mut ingest = content.ingest(&ns, None, "r", None).unwrap();
    ingest.write(b"hellx").unwrap();
    let wanted = Digest::of(b"hello");
    let err = ingest.commit(Some(4), None, &Labels::new()).unwrap_err();
    assert_eq!(
        (err.kind(), err.to_string().contains("5 != 4")),
        (Kind::FailedPrecondition, true)
    );
    let err = ingest
        .commit(None, Some(&wanted), &Labels::new())
        .unwrap_err();
    assert_eq!(err.kind(), Kind::FailedPrecondition);
    assert!(
        err.to_string().contains(wanted.as_str())
            && err.to_string().contains(ingest.digest().as_str())
    );
    ingest.truncate(4).unwrap();
    ingest.write(b"o").unwrap();
    ingest
        .commit(Some(5), Some(&wanted), &Labels::new())
        .unwrap();
}

#[test]
fn a_complete_but_wrong_ingest_starts_over() {
    let (_dir, content) = store();
    let ns = ns("a");
    let expected = Expected {
        digest: Some(Digest::of(b"hello")),
        size: Some(5),
    };
    let mut ingest = content.ingest(&ns, None, "r", expected.clone()).unwrap();
    ingest.write(b"wrong").unwrap();
    assert!(ingest.write(b"!").is_err(), "more than the total");
    drop(ingest);
    assert_eq!(
        content.ingest(&ns, None, "r", expected).unwrap().offset(),
        0
    );
}

#[test]
fn a_tenant_sees_a_blob_only_after_committing_it() {
    let (dir, content) = store();
    let digest = put(&content, &ns("a"), b"shared");
    assert_eq!(
        content.info(&ns("b"), &digest).unwrap_err().kind(),
        Kind::NotFound
    );
    let expected = Expected {
        digest: Some(digest.clone()),
        size: Some(6),
    };
    let err = content
        .ingest(&ns("a"), None, "r", expected.clone())
        .err()
        .unwrap();
    assert_eq!(err.kind(), Kind::AlreadyExists);
    let mut adopted = content.ingest(&ns("b"), None, "r", expected).unwrap();
    assert_eq!(adopted.offset(), 6);
    adopted
        .commit(Some(6), Some(&digest), &Labels::new())
        .unwrap();
    content.delete(&ns("a"), &digest).unwrap();
    assert_eq!(content.read(&ns("b"), &digest, 10).unwrap(), b"shared");
    content.delete(&ns("b"), &digest).unwrap();
    assert_eq!(
        files(&dir.path().join("content/blobs/sha256")),
        Vec::<String>::new()
    );
}

#[test]
fn opening_removes_files_without_a_record() {
    let (dir, content) = store();
    let digest = put(&content, &ns("a"), b"kept");
    let mut begun = content.ingest(&ns("a"), None, "begun", None).unwrap();
    begun.write(b"half").unwrap();
    drop((begun, content));
    let root = dir.path().join("content");
    fs::write(root.join("blobs/sha256").join("0".repeat(64)), b"litter").unwrap();
    fs::write(root.join("ingest/999"), b"litter").unwrap();
    let db = Database::open(&dir.path().join("meta.db")).unwrap();
    let content = ContentStore::new(db, root.clone()).unwrap();
    assert_eq!(files(&root.join("blobs/sha256")), [digest.hex()]);
    assert_eq!(files(&root.join("ingest")).len(), 1);
    assert_eq!(content.status(&ns("a"), "begun").unwrap().offset, 4);
}

#[test]
fn damage_on_disk_is_told_not_served() {
    let (dir, content) = store();
    let digest = put(&content, &ns("a"), b"hello");
    let path = dir.path().join("content/blobs/sha256").join(digest.hex());
    fs::remove_file(&path).unwrap();
    fs::write(&path, b"jello").unwrap();
    assert_eq!(
        content.read(&ns("a"), &digest, 10).unwrap_err().kind(),
        Kind::DataLoss
    );
    assert_eq!(
        content.read(&ns("a"), &digest, 4).unwrap_err().kind(),
        Kind::ResourceExhausted
    );
    fs::write(&path, b"x").unwrap();
    assert_eq!(
        content.open(&ns("a"), &digest).unwrap_err().kind(),
        Kind::DataLoss
    );
}

#[test]
fn a_record_whose_file_is_gone_is_forgotten_when_the_store_opens() {
    let (dir, content) = store();
    let kept = put(&content, &ns("a"), b"kept");
    let lost = put(&content, &ns("a"), b"lost");
    let path = dir.path().join("content/blobs/sha256").join(lost.hex());
    fs::remove_file(&path).unwrap();
    drop(content);
    let db = Database::open(&dir.path().join("meta.db")).unwrap();
    let content = ContentStore::new(db, dir.path().join("content")).unwrap();
    assert_eq!(
        content.info(&ns("a"), &lost).unwrap_err().kind(),
        Kind::NotFound
    );
    assert_eq!(content.read(&ns("a"), &kept, 10).unwrap(), b"kept");
    assert_eq!(put(&content, &ns("a"), b"lost"), lost);
}

#[test]
fn an_ingest_without_a_file_is_over_when_the_store_opens() {
    let (dir, content) = store();
    let mut kept = content.ingest(&ns("a"), None, "kept", None).unwrap();
    kept.write(b"half").unwrap();
    drop(kept);
    drop(content.ingest(&ns("a"), None, "lost", None).unwrap());
    fs::remove_file(dir.path().join("content/ingest/2")).unwrap();
    drop(content);
    let db = Database::open(&dir.path().join("meta.db")).unwrap();
    let content = ContentStore::new(db, dir.path().join("content")).unwrap();
    let lost = content.status(&ns("a"), "lost");
    assert_eq!(lost.unwrap_err().kind(), Kind::NotFound);
    assert_eq!(content.status(&ns("a"), "kept").unwrap().offset, 4);
}

#[test]
fn a_full_disk_is_one_clear_error_and_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let small = dir.path().join("small");
    fs::create_dir(&small).unwrap();
    nix::mount::mount(
        Some("tmpfs"),
        &small,
        Some("tmpfs"),
        nix::mount::MsFlags::empty(),
        Some("size=256k"),
    )
    .unwrap();
    let db = Database::open(&dir.path().join("meta.db")).unwrap();
    let result = (|| {
        let content = ContentStore::new(db, small.join("content"))?;
        let mut ingest = content.ingest(&ns("a"), None, "r", None)?;
        let full = ingest.write(&vec![7; 1 << 20]);
        drop(ingest);
        Ok::<_, Error>((
            full,
            content.statuses(&ns("a"), &Filters::default())?,
            files(&small.join("content/ingest")),
        ))
    })();
    nix::mount::umount(&small).unwrap();
    let (full, statuses, left) = result.unwrap();
    let err = full.unwrap_err();
    assert_eq!(err.kind(), Kind::ResourceExhausted);
    assert!(err.to_string().contains("small/content"), "{err}");
    assert_eq!((statuses, left), (Vec::new(), Vec::new()));
}

#[test]
fn many_writers_of_one_blob_agree() {
    let (_dir, content) = store();
    let bytes = vec![3; 100_000];
    std::thread::scope(|scope| {
        for writer in 0..8 {
            let (content, bytes) = (content.clone(), &bytes);
            scope.spawn(move || {
                let mut ingest = content
                    .ingest(&ns("a"), None, &format!("r{writer}"), None)
                    .unwrap();
                bytes
                    .chunks(1000)
                    .for_each(|chunk| ingest.write(chunk).unwrap());
                match ingest.commit(None, None, &Labels::new()) {
                    Ok(_) => {}
                    Err(err) => assert_eq!(err.kind(), Kind::AlreadyExists),
                }
            });
        }
    });
    assert_eq!(
        content
            .read(&ns("a"), &Digest::of(&bytes), 1 << 20)
            .unwrap(),
        bytes
    );
    assert_eq!(
        content.statuses(&ns("a"), &Filters::default()).unwrap(),
        Vec::new()
    );
}
