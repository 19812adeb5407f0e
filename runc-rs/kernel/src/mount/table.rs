//! The list of mounts of the calling namespace, and what needs it.

use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use super::detach;

/// Unmounts everything that is mounted at `path` and below it, deepest first, lazily. Nothing mounted there is success.
///
/// # Errors
/// That of the first unmount that failed; the others are still tried.
pub fn unmount_recursive(path: &Path) -> io::Result<()> {
    let path = match path.canonicalize() {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    let mut places: Vec<PathBuf> = mount_points(&std::fs::read("/proc/self/mountinfo")?)
        .into_iter()
        .filter(|place| place.starts_with(&path))
        .collect();
    // Later mounts lie over earlier ones, so the reverse of the order they were made in always works.
    places.reverse();
    let mut first = Ok(());
    for place in places {
        let result = detach(&place);
        let vanished = matches!(&result, Err(e) if matches!(e.raw_os_error(), Some(libc::EINVAL | libc::ENOENT)));
        if result.is_err() && !vanished && first.is_ok() {
            first = result;
        }
    }
    first
}

/// The mount points of `mountinfo` (`proc_pid_mountinfo(5)`, field 5), in its order, with octal escapes undone.
#[must_use]
pub fn mount_points(mountinfo: &[u8]) -> Vec<PathBuf> {
    mountinfo
        .split(|b| *b == b'\n')
        .filter_map(|line| line.split(|b| *b == b' ').nth(4))
        .map(|field| PathBuf::from(std::ffi::OsString::from_vec(unescape(field))))
        .collect()
}

/// The mount points of filesystems of one of `kinds`, in the order of `mountinfo`.
#[must_use]
pub fn mount_points_of(mountinfo: &[u8], kinds: &[&str]) -> Vec<PathBuf> {
    let of_kind = |line: &&[u8]| {
        let mut fields = line
            .split(|b| *b == b' ')
            .skip_while(|field| *field != b"-");
        let kind = fields.nth(1).unwrap_or_default();
        kinds.iter().any(|wanted| wanted.as_bytes() == kind)
    };
    let lines: Vec<&[u8]> = mountinfo.split(|b| *b == b'\n').filter(of_kind).collect();
    mount_points(&lines.join(&b'\n'))
}

/// Undoes the octal escapes of blanks and backslashes.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, tail)) = rest.split_first() {
        let escaped = (first == b'\\' && tail.len() >= 3)
            .then(|| {
                std::str::from_utf8(&tail[..3])
                    .ok()
                    .and_then(|digits| u8::from_str_radix(digits, 8).ok())
            })
            .flatten();
        match escaped {
            Some(byte) => {
                out.push(byte);
                rest = &tail[3..];
            }
            None => {
                out.push(first);
                rest = tail;
            }
        }
    }
    out
}

/// Whether `path` is a mount point of the calling namespace.
///
/// # Errors
/// What reading the list of mounts says.
pub fn is_mount_point(path: &Path) -> io::Result<bool> {
    let path = path.canonicalize()?;
    Ok(mount_points(&std::fs::read("/proc/self/mountinfo")?)
        .iter()
        .any(|place| place.as_os_str().as_bytes() == path.as_os_str().as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_with_blanks_are_read_back() {
        let line = b"36 35 98:0 / /a\\040b\\134c rw - ext4 x rw\n";
        assert_eq!(mount_points(line), [PathBuf::from("/a b\\c")]);
        assert!(mount_points_of(line, &["proc"]).is_empty());
        assert_eq!(mount_points_of(line, &["proc", "ext4"]).len(), 1);
    }
}
