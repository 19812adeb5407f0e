//! Docker's json-file log: one line of JSON for each line of output.
//!
//! When the file would grow past its limit it becomes `.1`, that `.2`, and so on. There is one writer, this shim. If
//! it is killed while it writes, the file ends inside a line; the next
//! one to open the file cuts that rest off, so that readers see whole lines.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use prost_types::Timestamp;

use super::lines::{Lines, Output};
use super::uri::JsonLogUri;

/// An open log.
pub(crate) struct JsonLog {
    path: PathBuf,
    file: File,
    size: u64,
    max_size: Option<u64>,
    max_file: u32,
    lines: Lines,
}

impl JsonLog {
    /// Opens the log `uri` asks for.
    pub(crate) fn open(uri: &JsonLogUri) -> io::Result<Self> {
        let (file, size) = open_whole(&uri.path)?;
        Ok(Self {
            path: uri.path.clone(),
            file,
            size,
            max_size: uri.max_size,
            max_file: uri.max_file,
            lines: Lines::default(),
        })
    }

    /// Takes in `bytes` of `output`, and writes the lines that are complete.
    pub(crate) fn append(&mut self, output: Output, bytes: &[u8]) -> io::Result<()> {
        let mut records = Vec::new();
        let now = Timestamp::from(SystemTime::now()).to_string();
        self.lines.take_in(output, bytes, |line| {
            record(&mut records, output, line, &now);
        });
        self.write(&records)
    }

    /// Writes what is left of `output` after its end.
    pub(crate) fn finish(&mut self, output: Output) -> io::Result<()> {
        let partial = self.lines.rest(output);
        if partial.is_empty() {
            return Ok(());
        }
        let mut records = Vec::new();
        record(
            &mut records,
            output,
            &partial,
            &Timestamp::from(SystemTime::now()).to_string(),
        );
        self.write(&records)
    }

    /// Writes whole records, as many at once as the file may still take.
    fn write(&mut self, mut records: &[u8]) -> io::Result<()> {
        while !records.is_empty() {
            let room = self
                .max_size
                .map_or(u64::MAX, |max| max.saturating_sub(self.size));
            let fitting = whole_records(records, usize::try_from(room).unwrap_or(usize::MAX));
            if fitting == 0 && self.size > 0 {
                self.rotate()?;
                continue;
            }
            // A record over the limit gets a file of its own.
            let batch = if fitting == 0 {
                first_record(records)
            } else {
                fitting
            };
            self.write_batch(&records[..batch])?;
            records = &records[batch..];
        }
        Ok(())
    }

    fn write_batch(&mut self, batch: &[u8]) -> io::Result<()> {
        let mut written = 0;
        let failed = loop {
            if written == batch.len() {
                break Ok(());
            }
            match self.file.write(&batch[written..]) {
                Ok(0) => break Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => written += n,
                Err(err) if err.kind() == io::ErrorKind::Interrupted => {}
                Err(err) => break Err(err),
            }
        };
        // A full disk: what is torn is taken out again.
        let whole = whole_records(batch, written);
        self.size += whole as u64;
        if whole < written {
            let _ = self.file.set_len(self.size);
        }
        failed
    }

    fn rotate(&mut self) -> io::Result<()> {
        if self.max_file > 1 {
            for number in (1..self.max_file - 1).rev() {
                rename(
                    &numbered(&self.path, number),
                    &numbered(&self.path, number + 1),
                )?;
            }
            rename(&self.path, &numbered(&self.path, 1))?;
            (self.file, self.size) = open_whole(&self.path)?;
        } else {
            self.file.set_len(0)?;
            self.size = 0;
        }
        Ok(())
    }
}

/// The length of the first record.
fn first_record(records: &[u8]) -> usize {
    records
        .iter()
        .position(|&byte| byte == b'\n')
        .map_or(records.len(), |end| end + 1)
}

/// The length of the whole records among the first `room` bytes.
fn whole_records(records: &[u8], room: usize) -> usize {
    if records.len() <= room {
        return records.len();
    }
    records[..room]
        .iter()
        .rposition(|&byte| byte == b'\n')
        .map_or(0, |end| end + 1)
}

fn numbered(path: &Path, number: u32) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    name.into()
}

fn rename(from: &Path, to: &Path) -> io::Result<()> {
    match fs::rename(from, to) {
        Err(err) if err.kind() != io::ErrorKind::NotFound => Err(err),
        _ => Ok(()),
    }
}

/// Opens the log at `path` for appending, without a torn line at its end.
fn open_whole(path: &Path) -> io::Result<(File, u64)> {
    let mut file = OpenOptions::new()
        .read(true)
        .append(true)
        .create(true)
        .mode(0o640)
        .open(path)?;
    let mut end = file.seek(SeekFrom::End(0))?;
    let mut block = [0; 4096];
    // Backwards, block by block, to the last newline.
    let mut at = end;
    while at > 0 {
        let start = at.saturating_sub(block.len() as u64);
        let length = usize::try_from(at - start).map_err(io::Error::other)?;
        file.seek(SeekFrom::Start(start))?;
        file.read_exact(&mut block[..length])?;
        if let Some(newline) = block[..length].iter().rposition(|&byte| byte == b'\n') {
            at = start + newline as u64 + 1;
            break;
        }
        at = start;
    }
    if at < end {
        file.set_len(at)?;
        end = at;
    }
    Ok((file, end))
}

/// Whether JSON's writers in Go leave the byte as it is, or escape it: HTML's
/// own characters and the control characters.
fn is_plain(byte: u8) -> bool {
    !matches!(byte, 0..0x20 | 0x7f | b'"' | b'\\' | b'<' | b'>' | b'&')
}

fn record(into: &mut Vec<u8>, output: Output, line: &[u8], time: &str) {
    into.extend_from_slice(b"{\"log\":\"");
    for chunk in line.utf8_chunks() {
        let mut rest = chunk.valid().as_bytes();
        while !rest.is_empty() {
            let plain = rest
                .iter()
                .position(|&byte| !is_plain(byte))
                .unwrap_or(rest.len());
            into.extend_from_slice(&rest[..plain]);
            if let Some(&byte) = rest.get(plain) {
                escape(into, byte);
            }
            rest = rest.get(plain + 1..).unwrap_or_default();
        }
        if !chunk.invalid().is_empty() {
            into.extend_from_slice("\u{fffd}".as_bytes());
        }
    }
    into.extend_from_slice(b"\",\"stream\":\"");
    into.extend_from_slice(output.name().as_bytes());
    into.extend_from_slice(b"\",\"time\":\"");
    into.extend_from_slice(time.as_bytes());
    into.extend_from_slice(b"\"}\n");
}

fn escape(into: &mut Vec<u8>, byte: u8) {
    match byte {
        b'"' => into.extend_from_slice(b"\\\""),
        b'\\' => into.extend_from_slice(b"\\\\"),
        b'\n' => into.extend_from_slice(b"\\n"),
        b'\r' => into.extend_from_slice(b"\\r"),
        b'\t' => into.extend_from_slice(b"\\t"),
        _ => into.extend_from_slice(format!("\\u{byte:04x}").as_bytes()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Lab {
        dir: tempfile::TempDir,
        uri: JsonLogUri,
    }

    fn lab(max_size: Option<u64>, max_file: u32) -> Lab {
        let dir = tempfile::tempdir().unwrap();
        let uri = JsonLogUri {
            path: dir.path().join("l"),
            max_size,
            max_file,
        };
        Lab { dir, uri }
    }

    impl Lab {
        fn open(&self) -> JsonLog {
            JsonLog::open(&self.uri).unwrap()
        }

        /// (stream, log) of each line of the file `name`.
        fn lines(&self, name: &str) -> Vec<(String, String)> {
            let text = fs::read_to_string(self.dir.path().join(name)).unwrap();
            text.lines()
                .map(|line| {
                    let value: serde_json::Value = serde_json::from_str(line).unwrap();
                    (
                        value["stream"].as_str().unwrap().to_owned(),
                        value["log"].as_str().unwrap().to_owned(),
                    )
                })
                .collect()
        }

        fn logs(&self, name: &str) -> Vec<String> {
            self.lines(name).into_iter().map(|(_, log)| log).collect()
        }
    }

    #[test]
    fn lines_are_written_when_they_end() {
        let lab = lab(None, 1);
        let mut log = lab.open();
        log.append(Output::Stdout, b"one\ntw").unwrap();
        log.append(Output::Stderr, b"oops\n").unwrap();
        assert_eq!(lab.logs("l"), ["one\n", "oops\n"]);
        log.append(Output::Stdout, b"o\nrest").unwrap();
        log.finish(Output::Stdout).unwrap();
        log.finish(Output::Stderr).unwrap();
        assert_eq!(lab.logs("l"), ["one\n", "oops\n", "two\n", "rest"]);
        assert_eq!(lab.lines("l")[1].0, "stderr");
    }

    #[test]
    fn any_byte_survives_as_json() {
        let lab = lab(None, 1);
        let mut log = lab.open();
        log.append(Output::Stdout, b"\"\\\t\r\x00\x1b[1m<&>\xc3\xa9\xff\n")
            .unwrap();
        assert_eq!(lab.logs("l"), ["\"\\\t\r\0\u{1b}[1m<&>\u{e9}\u{fffd}\n"]);
    }

    #[test]
    fn full_logs_rotate() {
        let lab = lab(Some(200), 3);
        let mut log = lab.open();
        for n in 0..10 {
            log.append(Output::Stdout, format!("line {n}\n").as_bytes())
                .unwrap();
        }
        let all = [lab.logs("l.2"), lab.logs("l.1"), lab.logs("l")].concat();
        assert_eq!(all.last().unwrap(), "line 9\n");
        assert!(all.windows(2).all(|pair| pair[0] < pair[1]), "{all:?}");
        assert!(!lab.dir.path().join("l.3").exists());
        assert!(fs::metadata(lab.dir.path().join("l.1")).unwrap().len() <= 200);
    }

    #[test]
    fn a_torn_last_line_is_cut_off_on_reopen() {
        let lab = lab(None, 1);
        lab.open().append(Output::Stdout, b"whole\n").unwrap();
        let path = lab.dir.path().join("l");
        let mut torn = fs::read(&path).unwrap();
        torn.extend_from_slice(b"{\"log\":\"to");
        torn.extend(vec![b'x'; 10_000]);
        fs::write(&path, &torn).unwrap();
        lab.open().append(Output::Stdout, b"next\n").unwrap();
        assert_eq!(lab.logs("l"), ["whole\n", "next\n"]);
        fs::write(&path, b"{\"torn from the start").unwrap();
        lab.open().append(Output::Stdout, b"first\n").unwrap();
        assert_eq!(lab.logs("l"), ["first\n"]);
    }
}
