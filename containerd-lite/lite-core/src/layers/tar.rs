//! Reads tar archives: POSIX (ustar and pax), GNU and old ones.
//!
//! The input is a stranger's. Every header's checksum is verified, every
//! number checked, and nothing is allocated on a header's word beyond
//! [`MAX_EXTENDED`]. A [`Reader`] yields one [`Header`] at a time; the data
//! that follows it is read through [`Reader::data`].

mod pax;
mod sparse;
mod write;

use std::io::{self, BufRead};

pub(crate) use sparse::Segment;
pub(crate) use write::Writer;

const BLOCK: usize = 512;

/// The most an extended header or a long name may hold, as in Go's reader.
const MAX_EXTENDED: u64 = 1 << 20;

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    /// The bytes are those of another entry.
    HardLink,
    Symlink,
    CharDevice,
    BlockDevice,
    Directory,
    Fifo,
}

/// An entry, before its data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) path: Vec<u8>,
    pub(crate) kind: Kind,
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Seconds since 1970 and nanoseconds within them.
    pub(crate) modified: (i64, u32),
    pub(crate) accessed: Option<(i64, u32)>,
    /// Of a symbolic or hard link.
    pub(crate) target: Vec<u8>,
    pub(crate) device: (u32, u32),
    pub(crate) xattrs: Vec<(String, Vec<u8>)>,
    /// The file's size once written.
    pub(crate) size: u64,
    /// Where the data that follows belongs; all of it in one piece normally.
    pub(crate) segments: Vec<Segment>,
}

/// A fault in the archive, or in reading it.
pub(crate) type Result<T> = io::Result<T>;

pub(crate) fn malformed(what: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.into())
}

/// An archive being read.
pub(crate) struct Reader<R> {
    input: R,
    /// Data of the current entry that nobody has read, then its padding.
    unread: u64,
    padding: u64,
    global: pax::Records,
}

impl<R: BufRead> Reader<R> {
    pub(crate) fn new(input: R) -> Self {
        Self {
            input,
            unread: 0,
            padding: 0,
            global: pax::Records::default(),
        }
    }

    /// The next entry; `None` after the last.
    pub(crate) fn next(&mut self) -> Result<Option<Header>> {
        let (mut local, mut long_path, mut long_target) = (pax::Records::default(), None, None);
        loop {
            self.skip_rest()?;
            let Some(block) = self.block()? else {
                return Ok(None);
            };
            let size = number(&block[124..136])?;
            match block[156] {
                b'x' => local = pax::parse(&self.extended(size)?)?,
                b'g' => {
                    let records = pax::parse(&self.extended(size)?)?;
                    self.global.merge(records);
                }
                b'L' => long_path = Some(until_nul(&self.extended(size)?)),
                b'K' => long_target = Some(until_nul(&self.extended(size)?)),
                flag => {
                    let mut records = self.global.clone();
                    records.merge(local);
                    return self
                        .entry(&block, flag, size, records, long_path, long_target)
                        .map(Some);
                }
            }
        }
    }

    /// The unread data of the current entry; what is left of it is skipped by
    /// [`Self::next`]. Empty at its end.
    pub(crate) fn data(&mut self) -> Result<&[u8]> {
        if self.unread == 0 {
            return Ok(&[]);
        }
        let available = self.input.fill_buf()?;
        if available.is_empty() {
            return Err(truncated());
        }
        let len = available
            .len()
            .min(usize::try_from(self.unread).unwrap_or(usize::MAX));
        Ok(&available[..len])
    }

    /// Marks `len` bytes of [`Self::data`] as read.
    pub(crate) fn consume(&mut self, len: usize) {
        self.input.consume(len);
        self.unread -= len as u64;
    }

    fn entry(
        &mut self,
        block: &[u8; BLOCK],
        flag: u8,
        size: u64,
        records: pax::Records,
        long_path: Option<Vec<u8>>,
        long_target: Option<Vec<u8>>,
    ) -> Result<Header> {
        let path = records
            .path
            .clone()
            .or(long_path)
            .unwrap_or_else(|| plain_path(block));
        let target = records
            .target
            .clone()
            .or(long_target)
            .unwrap_or_else(|| until_nul(&block[157..257]));
        let kind = match flag {
            b'0' | b'\0' if path.ends_with(b"/") => Kind::Directory,
            b'0' | b'\0' | b'7' | b'S' => Kind::File,
            b'1' => Kind::HardLink,
            b'2' => Kind::Symlink,
            b'3' => Kind::CharDevice,
            b'4' => Kind::BlockDevice,
            b'5' => Kind::Directory,
            b'6' => Kind::Fifo,
            other => {
                return Err(malformed(format!(
                    "entry type {:?} of {:?}",
                    char::from(other),
                    String::from_utf8_lossy(&path)
                )));
            }
        };
        // POSIX: links, devices and directories have no data, whatever size says.
        let stored = if kind == Kind::File {
            records.size.unwrap_or(size)
        } else {
            0
        };
        self.begin_data(stored);
        let mut header = Header {
            path,
            kind,
            mode: narrow(number(&block[100..108])?, "mode")? & 0o7777,
            uid: records
                .uid
                .map_or_else(|| narrow(number(&block[108..116])?, "uid"), Ok)?,
            gid: records
                .gid
                .map_or_else(|| narrow(number(&block[116..124])?, "gid"), Ok)?,
            modified: records
                .modified
                .map_or_else(|| Ok((signed(&block[136..148])?, 0)), io::Result::Ok)?,
            accessed: records.accessed,
            target,
            device: (0, 0),
            xattrs: records.xattrs.clone().into_iter().collect(),
            size: stored,
            segments: vec![Segment {
                offset: 0,
                len: stored,
            }],
        };
        if matches!(header.kind, Kind::CharDevice | Kind::BlockDevice) {
            header.device = (
                narrow(number(&block[329..337])?, "device")?,
                narrow(number(&block[337..345])?, "device")?,
            );
        }
        if header.kind == Kind::File {
            sparse::expand(self, block, flag, &records, &mut header)?;
        }
        Ok(header)
    }

    /// The next header block; `None` at the end of the archive, which is a
    /// block of zeros or simply the end.
    fn block(&mut self) -> Result<Option<[u8; BLOCK]>> {
        let mut block = [0; BLOCK];
        if self.input.fill_buf()?.is_empty() {
            return Ok(None);
        }
        self.input.read_exact(&mut block).map_err(eof)?;
        if block.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        verify(&block)?;
        Ok(Some(block))
    }

    /// Reads the data of an extended header.
    fn extended(&mut self, size: u64) -> Result<Vec<u8>> {
        if size > MAX_EXTENDED {
            return Err(malformed(format!("an extended header of {size} bytes")));
        }
        self.begin_data(size);
        self.read_data(size)
    }

    /// Reads exactly `len` bytes of the current entry's data.
    fn read_data(&mut self, len: u64) -> Result<Vec<u8>> {
        let len = usize::try_from(len).map_err(|_| malformed("length"))?;
        if len as u64 > self.unread {
            return Err(malformed("an entry ends within its own header"));
        }
        let mut bytes = vec![0; len];
        self.input.read_exact(&mut bytes).map_err(eof)?;
        self.unread -= len as u64;
        Ok(bytes)
    }

    fn begin_data(&mut self, size: u64) {
        self.unread = size;
        self.padding = (BLOCK as u64 - size % BLOCK as u64) % BLOCK as u64;
    }

    fn skip_rest(&mut self) -> Result<()> {
        let mut left = self.unread + self.padding;
        while left > 0 {
            let available = self.input.fill_buf()?.len();
            if available == 0 {
                return Err(truncated());
            }
            let len = available.min(usize::try_from(left).unwrap_or(usize::MAX));
            self.input.consume(len);
            left -= len as u64;
        }
        (self.unread, self.padding) = (0, 0);
        Ok(())
    }
}

fn truncated() -> io::Error {
    malformed("the archive ends within an entry")
}

fn eof(err: io::Error) -> io::Error {
    if err.kind() == io::ErrorKind::UnexpectedEof {
        truncated()
    } else {
        err
    }
}

/// The checksum is the sum of the header's bytes with its own field as spaces;
/// some old programs summed signed bytes.
fn verify(block: &[u8; BLOCK]) -> Result<()> {
    let wanted = signed(&block[148..156])?;
    let (mut unsigned_sum, mut signed_sum) = (0, 0);
    for (at, byte) in block.iter().enumerate() {
        let byte = if (148..156).contains(&at) {
            b' '
        } else {
            *byte
        };
        unsigned_sum += i64::from(byte);
        signed_sum += i64::from(byte.cast_signed());
    }
    if wanted == unsigned_sum || wanted == signed_sum {
        return Ok(());
    }
    Err(malformed("a header's checksum is wrong"))
}

fn plain_path(block: &[u8; BLOCK]) -> Vec<u8> {
    let name = until_nul(&block[..100]);
    // GNU's headers (magic "ustar  ") keep other things in the prefix field.
    if &block[257..263] == b"ustar\0" && block[345] != 0 {
        let mut path = until_nul(&block[345..500]);
        path.push(b'/');
        path.extend(name);
        return path;
    }
    name
}

fn until_nul(field: &[u8]) -> Vec<u8> {
    field
        .split(|byte| *byte == 0)
        .next()
        .unwrap_or_default()
        .to_vec()
}

fn narrow(value: u64, what: &str) -> Result<u32> {
    u32::try_from(value).map_err(|_| malformed(format!("{what} {value} is too large")))
}

/// A number that cannot be negative.
fn number(field: &[u8]) -> Result<u64> {
    u64::try_from(signed(field)?).map_err(|_| malformed("a negative number"))
}

/// A field of octal digits, or GNU's big-endian binary with the top bit set.
fn signed(field: &[u8]) -> Result<i64> {
    if field.first().is_some_and(|first| first & 0x80 != 0) {
        let negative = field[0] & 0x40 != 0;
        let mut value: i128 = if negative { -1 } else { 0 };
        for (at, byte) in field.iter().enumerate() {
            let byte = if at == 0 {
                byte & 0x7f | if negative { 0x80 } else { 0 }
            } else {
                *byte
            };
            value = value
                .checked_mul(256)
                .ok_or_else(|| malformed("a number is too large"))?
                | i128::from(byte);
        }
        return i64::try_from(value).map_err(|_| malformed("a number is too large"));
    }
    let digits = field
        .split(|byte| *byte == 0)
        .next()
        .unwrap_or_default()
        .trim_ascii();
    let mut value: i64 = 0;
    for digit in digits {
        if !(b'0'..=b'7').contains(digit) {
            return Err(malformed("a number is not octal"));
        }
        value = value
            .checked_mul(8)
            .and_then(|value| value.checked_add(i64::from(digit - b'0')))
            .ok_or_else(|| malformed("a number is too large"))?;
    }
    Ok(value)
}

#[cfg(test)]
mod tests;
