use std::io::Cursor;
use std::process::Command;

use proptest::prelude::*;

use super::*;
use crate::layers::archive::Archive;

fn read_all(bytes: &[u8]) -> Result<Vec<(Header, Vec<u8>)>> {
    let mut reader = Reader::new(Cursor::new(bytes));
    let mut all = Vec::new();
    while let Some(header) = reader.next()? {
        let mut data = Vec::new();
        loop {
            let piece = reader.data()?;
            if piece.is_empty() {
                break;
            }
            data.extend_from_slice(piece);
            let len = piece.len();
            reader.consume(len);
        }
        all.push((header, data));
    }
    Ok(all)
}

#[test]
fn pax_records_win_over_the_header() {
    let path = "d/".repeat(200) + "f";
    let archive = Archive::default()
        .pax(&[
            ("path", path.as_bytes()),
            ("mtime", b"12.5"),
            ("uid", b"3000000"),
            ("SCHILY.xattr.user.a", b"x\ny"),
        ])
        .file("short", b"data")
        .file("after", b"");
    let all = read_all(&archive.finish()).unwrap();
    let (header, data) = &all[0];
    assert_eq!(
        (header.path.as_slice(), data.as_slice()),
        (path.as_bytes(), b"data".as_slice())
    );
    assert_eq!(
        (header.modified, header.uid),
        ((12, 500_000_000), 3_000_000)
    );
    assert_eq!(header.xattrs, [("user.a".to_owned(), b"x\ny".to_vec())]);
    assert_eq!(
        (all[1].0.path.as_slice(), all[1].0.uid),
        (b"after".as_slice(), 0)
    );
}

/// GNU tar writes a sparse file in each of its forms; all read back the same.
#[test]
fn sparse_files_of_gnu_tar() {
    let dir = tempfile::tempdir().unwrap();
    let file = std::fs::File::create(dir.path().join("s")).unwrap();
    for at in [0, 65_536, 300_000] {
        std::os::unix::fs::FileExt::write_all_at(&file, b"DATA", at).unwrap();
    }
    file.set_len(1 << 20).unwrap();
    for form in [
        &["--format=gnu"][..],
        &["--sparse-version=0.0"],
        &["--sparse-version=0.1"],
        &["--sparse-version=1.0"],
    ] {
        let made = Command::new("tar")
            .args(["-C", dir.path().to_str().unwrap(), "-S", "-c"])
            .args(form)
            .arg("s")
            .output()
            .unwrap();
        assert!(made.status.success(), "{form:?}");
        let all = read_all(&made.stdout).unwrap();
        let (header, data) = &all[0];
        assert_eq!(
            (header.path.as_slice(), header.size),
            (b"s".as_slice(), 1 << 20),
            "{form:?}"
        );
        let mut whole = vec![0; 1 << 20];
        let mut at = 0;
        for segment in &header.segments {
            let len = usize::try_from(segment.len).unwrap();
            let offset = usize::try_from(segment.offset).unwrap();
            whole[offset..offset + len].copy_from_slice(&data[at..at + len]);
            at += len;
        }
        assert_eq!(
            whole,
            std::fs::read(dir.path().join("s")).unwrap(),
            "{form:?}"
        );
    }
}

#[test]
fn gnu_long_names_are_read() {
    let path = "x".repeat(300);
    let archive = Archive::default()
        .entry(b'L', "././@LongLink", "", 0, path.as_bytes())
        .file("cut", b"1")
        .finish();
    assert_eq!(read_all(&archive).unwrap()[0].0.path, path.as_bytes());
}

#[test]
fn damage_is_an_error() {
    let good = Archive::default().file("a", &[1; 600]).finish();
    let mut wrong_sum = good.clone();
    wrong_sum[0] ^= 1;
    let huge = Archive::default()
        .raw(b'x', "pax", "", 0, b"", |block| {
            block[124..135].copy_from_slice(b"77777777777")
        })
        .finish();
    let negative = Archive::default()
        .raw(b'0', "a", "", 0, b"", |block| block[124..136].fill(0xff))
        .finish();
    let bad_pax = Archive::default()
        .entry(b'x', "pax", "", 0, b"99 path=x\n")
        .finish();
    for bytes in [&good[..700], &wrong_sum, &huge, &negative, &bad_pax] {
        assert_eq!(
            read_all(bytes).unwrap_err().kind(),
            io::ErrorKind::InvalidData
        );
    }
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(flips in proptest::collection::vec((0_usize..3584, any::<u8>()), 0..8)) {
        let mut bytes = Archive::default().pax(&[("path", b"x")]).file("a", &[1; 600]).entry(b'S', "s", "", 0, &[2; 512]).finish();
        for (at, value) in flips {
            let at = at % bytes.len();
            bytes[at] = value;
        }
        let _ = read_all(&bytes);
    }

    #[test]
    fn any_pax_header_is_read_or_refused(data in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = read_all(&Archive::default().entry(b'x', "pax", "", 0, &data).file("a", b"").finish());
    }
}
