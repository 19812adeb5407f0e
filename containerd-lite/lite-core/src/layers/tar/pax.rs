//! pax extended headers: records of `length key=value\n`.

use std::collections::BTreeMap;

use super::{Result, malformed};

/// What the records say; absent is what they do not.
#[derive(Debug, Clone, Default)]
pub(super) struct Records {
    pub(super) path: Option<Vec<u8>>,
    pub(super) target: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) uid: Option<u32>,
    pub(super) gid: Option<u32>,
    pub(super) modified: Option<(i64, u32)>,
    pub(super) accessed: Option<(i64, u32)>,
    pub(super) xattrs: BTreeMap<String, Vec<u8>>,
    pub(super) sparse: Sparse,
}

/// GNU's records about sparse files.
#[derive(Debug, Clone, Default)]
pub(super) struct Sparse {
    pub(super) version: (Option<u64>, Option<u64>),
    pub(super) name: Option<Vec<u8>>,
    pub(super) real_size: Option<u64>,
    /// Offsets and lengths in turn.
    pub(super) map: Vec<u64>,
}

impl Records {
    /// `later` wins where both say something.
    pub(super) fn merge(&mut self, later: Self) {
        fn newer<T>(old: &mut Option<T>, new: Option<T>) {
            if new.is_some() {
                *old = new;
            }
        }
        newer(&mut self.path, later.path);
        newer(&mut self.target, later.target);
        newer(&mut self.size, later.size);
        newer(&mut self.uid, later.uid);
        newer(&mut self.gid, later.gid);
        newer(&mut self.modified, later.modified);
        newer(&mut self.accessed, later.accessed);
        self.xattrs.extend(later.xattrs);
        self.sparse = later.sparse;
    }
}

/// Parses a whole extended header.
pub(super) fn parse(mut bytes: &[u8]) -> Result<Records> {
    let mut records = Records::default();
    while !bytes.is_empty() && bytes[0] != 0 {
        let (record, rest) = split(bytes)?;
        bytes = rest;
        let equals = record
            .iter()
            .position(|byte| *byte == b'=')
            .ok_or_else(|| malformed("a pax record without \"=\""))?;
        let (key, value) = (&record[..equals], &record[equals + 1..]);
        let key = std::str::from_utf8(key).map_err(|_| malformed("a pax key is not UTF-8"))?;
        // An empty value takes back a global record.
        if !value.is_empty() || key.starts_with("SCHILY.xattr.") {
            records.set(key, value)?;
        }
    }
    Ok(records)
}

fn split(bytes: &[u8]) -> Result<(&[u8], &[u8])> {
    let fault = || malformed("a pax record's length is wrong");
    let space = bytes
        .iter()
        .take(20)
        .position(|byte| *byte == b' ')
        .ok_or_else(fault)?;
    let len = usize::try_from(decimal(&bytes[..space])?).map_err(|_| fault())?;
    // At least "key=" and the newline after the space.
    if len <= space + 1 || len > bytes.len() || bytes[len - 1] != b'\n' {
        return Err(fault());
    }
    Ok((&bytes[space + 1..len - 1], &bytes[len..]))
}

impl Records {
    fn set(&mut self, key: &str, value: &[u8]) -> Result<()> {
        match key {
            "path" => self.path = Some(no_nul(value)?),
            "linkpath" => self.target = Some(no_nul(value)?),
            "size" => self.size = Some(decimal(value)?),
            "uid" => self.uid = Some(id(value)?),
            "gid" => self.gid = Some(id(value)?),
            "mtime" => self.modified = Some(time(value)?),
            "atime" => self.accessed = Some(time(value)?),
            "GNU.sparse.major" => self.sparse.version.0 = Some(decimal(value)?),
            "GNU.sparse.minor" => self.sparse.version.1 = Some(decimal(value)?),
            "GNU.sparse.name" => self.sparse.name = Some(no_nul(value)?),
            "GNU.sparse.size" | "GNU.sparse.realsize" => {
                self.sparse.real_size = Some(decimal(value)?)
            }
            "GNU.sparse.offset" | "GNU.sparse.numbytes" => self.sparse.map.push(decimal(value)?),
            "GNU.sparse.map" => {
                self.sparse.map = value
                    .split(|byte| *byte == b',')
                    .map(decimal)
                    .collect::<Result<_>>()?;
            }
            _ => {
                if let Some(name) = key.strip_prefix("SCHILY.xattr.")
                    && !name.is_empty()
                    && !name.contains('\0')
                {
                    self.xattrs.insert(name.to_owned(), value.to_vec());
                }
            }
        }
        Ok(())
    }
}

fn no_nul(value: &[u8]) -> Result<Vec<u8>> {
    if value.contains(&0) {
        return Err(malformed("a pax name with a NUL"));
    }
    Ok(value.to_vec())
}

/// A decimal number.
pub(super) fn decimal(text: &[u8]) -> Result<u64> {
    let digits = std::str::from_utf8(text)
        .ok()
        .filter(|text| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()));
    digits.and_then(|text| text.parse().ok()).ok_or_else(|| {
        malformed(format!(
            "{:?} is not a number",
            String::from_utf8_lossy(text)
        ))
    })
}

fn id(text: &[u8]) -> Result<u32> {
    u32::try_from(decimal(text)?).map_err(|_| malformed("an owner's number is too large"))
}

/// Seconds with an optional sign and fraction.
fn time(text: &[u8]) -> Result<(i64, u32)> {
    let (negative, text) = match text.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let mut parts = text.splitn(2, |byte| *byte == b'.');
    let seconds = i64::try_from(decimal(parts.next().unwrap_or_default())?)
        .map_err(|_| malformed("a time is too large"))?;
    let mut nanos = 0;
    let mut unit = 100_000_000;
    for digit in parts.next().unwrap_or_default() {
        if !digit.is_ascii_digit() {
            return Err(malformed("a time is not a number"));
        }
        nanos += u32::from(digit - b'0') * unit;
        unit /= 10;
    }
    Ok(match (negative, nanos) {
        (false, _) => (seconds, nanos),
        (true, 0) => (-seconds, 0),
        (true, _) => (-seconds - 1, 1_000_000_000 - nanos),
    })
}
