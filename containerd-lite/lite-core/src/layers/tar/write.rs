//! Writes tar archives: POSIX, with pax records only for what the old header cannot hold, always in the same order. The same
//! entries make the same bytes.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};

use super::{BLOCK, Header, Kind, malformed};

/// What `ustar` holds of a path or link, in bytes.
const SHORT_PATH: usize = 100;

/// What seven octal digits hold.
const LARGEST_ID: u32 = 0o777_7777;

/// What eleven octal digits hold.
const LARGEST_SIZE: u64 = 0o777_7777_7777;

/// An archive being written.
pub(crate) struct Writer<W> {
    output: W,
}

impl<W: Write> Writer<W> {
    pub(crate) fn new(output: W) -> Self {
        Self { output }
    }

    /// Appends an entry; of a file, `data` must hold exactly `header.size` bytes.
    pub(crate) fn append(&mut self, header: &Header, data: impl Read) -> io::Result<()> {
        let records = records(header)?;
        if !records.is_empty() {
            let mut body = Vec::new();
            for (key, value) in &records {
                body.extend(record(key, value));
            }
            let mut block = Block::new(b"PaxHeaders/0", b'x');
            block.number(124, 12, body.len() as u64);
            self.output.write_all(&block.finish())?;
            self.output.write_all(&body)?;
            self.pad(body.len() as u64)?;
        }
        let size = if header.kind == Kind::File {
            header.size
        } else {
            0
        };
        self.output.write_all(&main_block(header, size))?;
        let copied = io::copy(&mut data.take(size), &mut self.output)?;
        if copied != size {
            return Err(malformed(format!(
                "{}: has {copied} bytes, {size} were expected: it changed while it was read",
                String::from_utf8_lossy(&header.path)
            )));
        }
        self.pad(size)
    }

    /// Ends the archive.
    pub(crate) fn finish(mut self) -> io::Result<W> {
        self.output.write_all(&[0; 2 * BLOCK])?;
        Ok(self.output)
    }

    fn pad(&mut self, written: u64) -> io::Result<()> {
        let over = (written % BLOCK as u64) as usize;
        if over == 0 {
            return Ok(());
        }
        self.output.write_all(&[0; BLOCK][over..])
    }
}

fn main_block(header: &Header, size: u64) -> [u8; BLOCK] {
    let flag = match header.kind {
        Kind::File => b'0',
        Kind::HardLink => b'1',
        Kind::Symlink => b'2',
        Kind::CharDevice => b'3',
        Kind::BlockDevice => b'4',
        Kind::Directory => b'5',
        Kind::Fifo => b'6',
    };
    let mut block = Block::new(&header.path, flag);
    block.number(100, 8, u64::from(header.mode));
    block.number(108, 8, u64::from(header.uid.min(LARGEST_ID)));
    block.number(116, 8, u64::from(header.gid.min(LARGEST_ID)));
    block.number(124, 12, size.min(LARGEST_SIZE));
    let seconds = u64::try_from(header.modified.0).unwrap_or_default();
    block.number(136, 12, seconds.min(LARGEST_SIZE));
    block.text(157, SHORT_PATH, &header.target);
    if matches!(header.kind, Kind::CharDevice | Kind::BlockDevice) {
        block.number(329, 8, u64::from(header.device.0));
        block.number(337, 8, u64::from(header.device.1));
    }
    block.finish()
}

/// What the old header cannot hold.
fn records(header: &Header) -> io::Result<BTreeMap<String, Vec<u8>>> {
    let mut records = BTreeMap::new();
    let mut add = |key: &str, value: Vec<u8>| records.insert(key.to_owned(), value);
    if header.path.len() > SHORT_PATH || !header.path.is_ascii() {
        add("path", header.path.clone());
    }
    if header.target.len() > SHORT_PATH || !header.target.is_ascii() {
        add("linkpath", header.target.clone());
    }
    if header.uid > LARGEST_ID {
        add("uid", header.uid.to_string().into_bytes());
    }
    if header.gid > LARGEST_ID {
        add("gid", header.gid.to_string().into_bytes());
    }
    if header.kind == Kind::File && header.size > LARGEST_SIZE {
        add("size", header.size.to_string().into_bytes());
    }
    let (seconds, nanos) = header.modified;
    if seconds < 0 {
        add("mtime", seconds.to_string().into_bytes());
    } else if nanos != 0 || seconds.unsigned_abs() > LARGEST_SIZE {
        let text = format!("{seconds}.{nanos:09}");
        let text = text.trim_end_matches('0').trim_end_matches('.');
        add("mtime", text.as_bytes().to_vec());
    }
    for (name, value) in &header.xattrs {
        if name.contains('=') {
            return Err(malformed(format!(
                "extended attribute {name:?}: a name with '='"
            )));
        }
        add(&format!("SCHILY.xattr.{name}"), value.clone());
    }
    Ok(records)
}

/// `length key=value\n`, where the length counts itself.
fn record(key: &str, value: &[u8]) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    let mut text = format!("{length} {key}=").into_bytes();
    text.extend(value);
    text.push(b'\n');
    text
}

struct Block([u8; BLOCK]);

impl Block {
    fn new(path: &[u8], flag: u8) -> Self {
        let mut block = Self([0; BLOCK]);
        block.text(0, SHORT_PATH, path);
        for (at, len) in [
            (100, 8),
            (108, 8),
            (116, 8),
            (124, 12),
            (136, 12),
            (329, 8),
            (337, 8),
        ] {
            block.number(at, len, 0);
        }
        block.0[156] = flag;
        block.0[257..265].copy_from_slice(b"ustar\x0000");
        block
    }

    fn text(&mut self, at: usize, len: usize, text: &[u8]) {
        let held = text.len().min(len);
        self.0[at..at + held].copy_from_slice(&text[..held]);
    }

    fn number(&mut self, at: usize, len: usize, number: u64) {
        let digits = format!("{number:0width$o}\0", width = len - 1);
        self.0[at..at + len].copy_from_slice(digits.as_bytes());
    }

    fn finish(mut self) -> [u8; BLOCK] {
        self.0[148..156].fill(b' ');
        let sum: u64 = self.0.iter().map(|byte| u64::from(*byte)).sum();
        let digits = format!("{sum:06o}\0 ");
        self.0[148..156].copy_from_slice(digits.as_bytes());
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::super::Reader;
    use super::*;

    fn header(path: &str, kind: Kind) -> Header {
        Header {
            path: path.as_bytes().to_vec(),
            kind,
            mode: 0o640,
            uid: 5,
            gid: 6,
            modified: (315_532_800, 0),
            accessed: None,
            target: Vec::new(),
            device: (0, 0),
            xattrs: Vec::new(),
            size: 0,
            segments: Vec::new(),
        }
    }

    /// What the reader makes of an archive of `headers`.
    fn read_back(headers: &[(Header, &[u8])]) -> Vec<Header> {
        let mut writer = Writer::new(Vec::new());
        for (header, data) in headers {
            writer.append(header, *data).unwrap();
        }
        let bytes = writer.finish().unwrap();
        let mut reader = Reader::new(bytes.as_slice());
        let mut read = Vec::new();
        while let Some(header) = reader.next().unwrap() {
            read.push(header);
        }
        read
    }

    #[test]
    fn what_is_written_is_read() {
        let long = "d/".repeat(80) + "é";
        let mut file = header(&long, Kind::File);
        file.size = 3;
        file.uid = 4_000_000_000;
        file.modified = (1_700_000_000, 250_000_000);
        file.xattrs = vec![("user.a".to_owned(), vec![0, 1, b'\n'])];
        let mut link = header("l", Kind::Symlink);
        link.target = "x".repeat(300).into_bytes();
        let mut device = header("dev", Kind::CharDevice);
        device.device = (1, 3);
        let all = [
            (file, &b"abc"[..]),
            (link, b""),
            (device, b""),
            (header("dir/", Kind::Directory), b""),
        ];
        let read = read_back(&all);
        for ((wrote, _), read) in all.iter().zip(&read) {
            assert_eq!(
                (&wrote.kind, wrote.uid, wrote.modified),
                (&read.kind, read.uid, read.modified)
            );
            assert_eq!(
                (&wrote.target, wrote.device, &wrote.xattrs),
                (&read.target, read.device, &read.xattrs)
            );
            assert_eq!(
                String::from_utf8_lossy(&wrote.path).trim_end_matches('/'),
                String::from_utf8_lossy(&read.path).trim_end_matches('/')
            );
        }
        assert_eq!(read.len(), 4);
    }

    #[test]
    fn a_file_that_shrank_is_told() {
        let mut file = header("f", Kind::File);
        file.size = 3;
        assert!(Writer::new(Vec::new()).append(&file, &b"ab"[..]).is_err());
    }

    #[test]
    fn a_records_length_counts_itself() {
        assert_eq!(record("path", b"abc"), b"12 path=abc\n");
        assert_eq!(record("a", &[b'x'; 93]).len(), 99);
        // None has 100: the third digit is one more.
        assert_eq!(record("a", &[b'x'; 94]).len(), 101);
    }
}
