//! Docker's json-file log: one JSON object a line, rotated to `x.1`, `x.2`, …
//! with `x.1` the newest of the old ones. The shim writes, we read.
//!
//! A [`Reader`] starts at the beginning or at the last lines ([`Reader::open`])
//! and hands out what is there ([`Reader::read`]). Asked again it goes on where
//! it was, through any number of rotations in between: it keeps its file open
//! and finds the successor by looking for its own inode among the names.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::Deserialize;

use crate::rfc3339;

/// Which of the two outputs a line was written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// One line of output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// When the shim read it.
    pub time: SystemTime,
    /// Where it was written to.
    pub stream: Stream,
    /// The line with its newline, where it had one.
    pub data: Vec<u8>,
}

#[derive(Deserialize)]
struct Line {
    log: String,
    #[serde(default)]
    stream: String,
    #[serde(default)]
    time: String,
}

/// A batch is cut after so many bytes of file, so that a long log is never
/// in memory as a whole.
const BATCH_BYTES: usize = 64 << 10;

/// Reads one container's log.
#[derive(Debug)]
pub struct Reader {
    path: PathBuf,
    file: Option<File>,
    /// Bytes of the current file that end in no newline yet.
    torn: Vec<u8>,
}

impl Reader {
    /// Positions a reader at the beginning (`tail` is `None`) or before the
    /// last `tail` lines. A log that does not exist yet is an empty one.
    ///
    /// # Errors
    /// Those of opening and reading the files.
    pub fn open(path: &Path, tail: Option<u64>) -> io::Result<Self> {
        let mut reader = Self {
            path: path.to_owned(),
            file: None,
            torn: Vec::new(),
        };
        // Newest first, all open before any is read: a rotation in between
        // moves names, not the files we hold.
        let mut files = Vec::new();
        for generation in 0.. {
            match open_existing(&reader.generation(generation))? {
                Some(file) => files.push(file),
                None => break,
            }
        }
        let Some(wanted) = tail else {
            reader.file = files.pop();
            return Ok(reader);
        };
        let mut missing = wanted;
        for mut file in files {
            let (offset, lines) = last_lines(&file, missing)?;
            missing -= lines;
            file.seek(SeekFrom::Start(offset))?;
            reader.file = Some(file);
            if missing == 0 {
                break;
            }
        }
        Ok(reader)
    }

    /// The next entries; empty when there is nothing more for now. A last
    /// line without its newline is left for later.
    ///
    /// # Errors
    /// Those of reading the files.
    pub fn read(&mut self) -> io::Result<Vec<Entry>> {
        loop {
            if self.file.is_none() {
                self.file = open_existing(&self.path)?;
            }
            let Some(file) = &mut self.file else {
                return Ok(Vec::new());
            };
            // Asked before reading: what was written before the rotation is
            // then sure to be read before the successor.
            let successor = successor(&self.path, file)?;
            let got = file.take(BATCH_BYTES as u64).read_to_end(&mut self.torn)?;
            let entries = self.complete_lines();
            if !entries.is_empty() {
                return Ok(entries);
            }
            if got > 0 {
                continue;
            }
            match successor {
                Some(next) => {
                    self.file = Some(next);
                    self.torn.clear();
                }
                None => return Ok(Vec::new()),
            }
        }
    }

    fn generation(&self, number: u32) -> PathBuf {
        generation(&self.path, number)
    }

    fn complete_lines(&mut self) -> Vec<Entry> {
        let Some(end) = self.torn.iter().rposition(|b| *b == b'\n') else {
            return Vec::new();
        };
        let entries = self.torn[..=end]
            .split(|b| *b == b'\n')
            .filter_map(parse)
            .collect();
        self.torn.drain(..=end);
        entries
    }
}

fn generation(path: &Path, number: u32) -> PathBuf {
    if number == 0 {
        return path.to_owned();
    }
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    PathBuf::from(name)
}

fn open_existing(path: &Path) -> io::Result<Option<File>> {
    match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(err) => Err(err),
    }
}

/// The file that was begun after `file` was rotated away, if it was.
fn successor(path: &Path, file: &File) -> io::Result<Option<File>> {
    let own = file.metadata()?.ino();
    let mut newer = None;
    for number in 0.. {
        let Some(candidate) = open_existing(&generation(path, number))? else {
            break;
        };
        if candidate.metadata()?.ino() == own {
            return Ok(newer);
        }
        newer = Some(candidate);
    }
    // Rotated out of existence: the oldest that is left follows, if any.
    Ok(newer)
}

/// Where the last `wanted` lines of `file` begin, and how many there are.
/// A torn last line is not counted.
fn last_lines(file: &File, wanted: u64) -> io::Result<(u64, u64)> {
    let mut end = file.metadata()?.len();
    let mut chunk = vec![0; BATCH_BYTES];
    let mut newlines = 0;
    while end > 0 {
        let size = usize::try_from(end).unwrap_or(usize::MAX).min(chunk.len());
        let start = end - size as u64;
        file.read_exact_at(&mut chunk[..size], start)?;
        for at in (0..size).rev() {
            if chunk[at] == b'\n' {
                // The newline before the first wanted line ends the search.
                if newlines == wanted {
                    return Ok((start + at as u64 + 1, wanted));
                }
                newlines += 1;
            }
        }
        end = start;
    }
    Ok((0, newlines))
}

/// One line. A writer that died in the middle of a line leaves a stump to
/// which the next one's first line is glued; that line is still found.
fn parse(line: &[u8]) -> Option<Entry> {
    const OPENING: &[u8] = b"{\"log\":";
    let read = |bytes: &[u8]| serde_json::from_slice::<Line>(bytes).ok();
    let line = read(line).or_else(|| {
        let at = line
            .windows(OPENING.len())
            .rposition(|window| window == OPENING)?;
        read(&line[at..])
    })?;
    Some(Entry {
        time: rfc3339::parse(&line.time).unwrap_or(SystemTime::UNIX_EPOCH),
        stream: if line.stream == "stderr" {
            Stream::Stderr
        } else {
            Stream::Stdout
        },
        data: line.log.into_bytes(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::io::Write;

    struct Log {
        _dir: tempfile::TempDir,
        path: PathBuf,
    }

    impl Log {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("x-json.log");
            Self { path, _dir: dir }
        }

        fn append(&self, text: &str) {
            let mut file = File::options()
                .append(true)
                .create(true)
                .open(&self.path)
                .unwrap();
            file.write_all(text.as_bytes()).unwrap();
        }

        fn lines(&self, numbers: std::ops::Range<u32>) {
            for number in numbers {
                self.append(&line(&format!("{number}\\n")));
            }
        }

        fn rotate(&self) {
            for number in (0..9).rev() {
                let from = generation(&self.path, number);
                if from.exists() {
                    fs::rename(from, generation(&self.path, number + 1)).unwrap();
                }
            }
        }

        fn reader(&self, tail: Option<u64>) -> Reader {
            Reader::open(&self.path, tail).unwrap()
        }
    }

    fn line(log: &str) -> String {
        format!("{{\"log\":\"{log}\",\"stream\":\"stdout\",\"time\":\"2024-01-01T00:00:00.5Z\"}}\n")
    }

    fn drain(reader: &mut Reader) -> String {
        let mut all = Vec::new();
        loop {
            let entries = reader.read().unwrap();
            if entries.is_empty() {
                return String::from_utf8(all).unwrap().replace('\n', " ");
            }
            all.extend(entries.into_iter().flat_map(|e| e.data));
        }
    }

    #[test]
    fn an_entry_has_time_stream_and_bytes() {
        let log = Log::new();
        log.append("{\"log\":\"a\\u0000é\\n\",\"stream\":\"stderr\",\"time\":\"2024-01-01T00:00:00.5Z\"}\n");
        let entry = log.reader(None).read().unwrap().remove(0);
        assert_eq!(entry.data, "a\0é\n".as_bytes());
        assert_eq!(entry.stream, Stream::Stderr);
        assert_eq!(Some(entry.time), rfc3339::parse("2024-01-01T00:00:00.5Z"));
    }

    #[test]
    fn all_files_are_read_oldest_first() {
        let log = Log::new();
        log.lines(0..2);
        log.rotate();
        log.lines(2..4);
        log.rotate();
        log.lines(4..5);
        assert_eq!(drain(&mut log.reader(None)), "0 1 2 3 4 ");
    }

    #[track_caller]
    fn check_tail(tail: u64, want: &str) {
        let log = Log::new();
        log.lines(0..2);
        log.rotate();
        log.lines(2..5);
        assert_eq!(drain(&mut log.reader(Some(tail))), want, "tail {tail}");
    }

    #[test]
    fn the_last_lines_reach_back_over_a_rotation() {
        check_tail(0, "");
        check_tail(1, "4 ");
        check_tail(3, "2 3 4 ");
        check_tail(4, "1 2 3 4 ");
        check_tail(9, "0 1 2 3 4 ");
    }

    #[test]
    fn the_last_lines_are_found_past_one_chunk() {
        let log = Log::new();
        log.lines(0..5000);
        let text = drain(&mut log.reader(Some(3000)));
        assert!(
            text.starts_with("2000 2001 ") && text.ends_with(" 4999 "),
            "{text:.40}"
        );
    }

    #[test]
    fn following_goes_on_through_rotations() {
        let log = Log::new();
        log.lines(0..1);
        let mut reader = log.reader(None);
        assert_eq!(drain(&mut reader), "0 ");
        log.lines(1..2);
        log.rotate();
        log.lines(2..3);
        log.rotate();
        log.lines(3..4);
        assert_eq!(drain(&mut reader), "1 2 3 ");
        log.lines(4..5);
        assert_eq!(drain(&mut reader), "4 ");
    }

    #[test]
    fn a_log_that_appears_later_is_followed() {
        let log = Log::new();
        let mut reader = log.reader(Some(0));
        assert_eq!(drain(&mut reader), "");
        log.lines(0..1);
        assert_eq!(drain(&mut reader), "0 ");
    }

    #[test]
    fn a_torn_last_line_waits_for_its_rest() {
        let log = Log::new();
        let whole = line("late\\n");
        log.append(&whole[..9]);
        let mut reader = log.reader(None);
        assert_eq!(drain(&mut reader), "");
        log.append(&whole[9..]);
        assert_eq!(drain(&mut reader), "late ");
    }

    #[test]
    fn a_line_glued_to_a_stump_is_found() {
        let log = Log::new();
        log.append("{\"log\":\"stu");
        log.append(&line("next\\n"));
        log.append("garbage\n");
        log.lines(1..2);
        assert_eq!(drain(&mut log.reader(None)), "next 1 ");
    }
}
