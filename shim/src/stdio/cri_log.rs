//! Kubernetes' log: `TIME STREAM TAG TEXT`, a line for each line of output, or
//! for each 16 KiB of a longer one. The tag is `P` for a part that goes on in
//! the next line of that stream, else `F`.
//!
//! The kubelet rotates it: it gives the file another name and makes a new one,
//! or has it made. So before each write the file of that name is compared with
//! the one that is open, and opened where it is another.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use prost_types::Timestamp;

use super::lines::{Lines, Output};

/// An open log.
pub(super) struct CriLog {
    path: PathBuf,
    file: File,
    /// Device and inode of `file`.
    is: (u64, u64),
    lines: Lines,
}

impl CriLog {
    /// Opens the log at `path` for appending.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let (file, is) = open(path)?;
        Ok(Self {
            path: path.to_owned(),
            file,
            is,
            lines: Lines::default(),
        })
    }

    /// Takes in `bytes` of `output`, and writes the lines that are complete.
    pub(super) fn append(&mut self, output: Output, bytes: &[u8]) -> io::Result<()> {
        let mut records = Vec::new();
        let now = Timestamp::from(SystemTime::now()).to_string();
        self.lines.take_in(output, bytes, |line| {
            record(&mut records, output, line, &now);
        });
        self.write(&records)
    }

    /// Writes what is left of `output` after its end. There is no more to come,
    /// but no newline either.
    pub(super) fn finish(&mut self, output: Output) -> io::Result<()> {
        let rest = self.lines.rest(output);
        if rest.is_empty() {
            return Ok(());
        }
        let mut records = Vec::new();
        let now = Timestamp::from(SystemTime::now()).to_string();
        record(&mut records, output, &[&rest, &b"\n"[..]].concat(), &now);
        self.write(&records)
    }

    fn write(&mut self, records: &[u8]) -> io::Result<()> {
        if records.is_empty() {
            return Ok(());
        }
        let named = fs::metadata(&self.path).map(|about| (about.dev(), about.ino()));
        if named.ok() != Some(self.is) {
            (self.file, self.is) = open(&self.path)?;
        }
        self.file.write_all(records)
    }
}

fn open(path: &Path) -> io::Result<(File, (u64, u64))> {
    let mut options = OpenOptions::new();
    let file = options.append(true).create(true).mode(0o640).open(path)?;
    let about = file.metadata()?;
    Ok((file, (about.dev(), about.ino())))
}

fn record(into: &mut Vec<u8>, output: Output, line: &[u8], time: &str) {
    let (text, tag) = match line.strip_suffix(b"\n") {
        Some(text) => (text, b'F'),
        None => (line, b'P'),
    };
    into.extend_from_slice(time.as_bytes());
    into.push(b' ');
    into.extend_from_slice(output.name().as_bytes());
    into.extend_from_slice(&[b' ', tag, b' ']);
    into.extend_from_slice(text);
    into.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::super::lines::MAX_LINE_BYTES;
    use super::*;

    /// The lines of a file, without their times.
    fn read(path: &Path) -> Vec<String> {
        let text = fs::read_to_string(path).unwrap();
        let lines = text.lines().map(|line| {
            let (time, rest) = line.split_once(' ').unwrap();
            assert!(time.ends_with('Z') && time.contains('T'), "{time}");
            rest.to_owned()
        });
        lines.collect()
    }

    #[test]
    fn lines_have_stream_and_tag_and_long_ones_are_split() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.log");
        let mut log = CriLog::open(&path).unwrap();
        log.append(Output::Stdout, b"one\ntw").unwrap();
        log.append(Output::Stderr, b"oops\n").unwrap();
        log.append(Output::Stdout, b"o\n").unwrap();
        let long = "x".repeat(MAX_LINE_BYTES + 3) + "\n";
        log.append(Output::Stdout, long.as_bytes()).unwrap();
        log.append(Output::Stdout, b"rest").unwrap();
        log.finish(Output::Stdout).unwrap();
        log.finish(Output::Stderr).unwrap();
        let long = "x".repeat(MAX_LINE_BYTES);
        assert_eq!(
            read(&path),
            [
                "stdout F one",
                "stderr F oops",
                "stdout F two",
                &format!("stdout P {long}"),
                "stdout F xxx",
                "stdout F rest",
            ]
        );
    }

    #[test]
    fn output_goes_on_in_a_new_file_of_the_name() {
        let dir = tempfile::tempdir().unwrap();
        let (path, old) = (dir.path().join("0.log"), dir.path().join("0.log.old"));
        let mut log = CriLog::open(&path).unwrap();
        log.append(Output::Stdout, b"one\n").unwrap();
        fs::rename(&path, &old).unwrap();
        log.append(Output::Stdout, b"two\n").unwrap();
        // One that somebody else made.
        fs::rename(&path, dir.path().join("0.log.1")).unwrap();
        fs::write(&path, "").unwrap();
        log.append(Output::Stdout, b"three\n").unwrap();
        assert_eq!(read(&old), ["stdout F one"]);
        assert_eq!(read(&dir.path().join("0.log.1")), ["stdout F two"]);
        assert_eq!(read(&path), ["stdout F three"]);
    }
}
