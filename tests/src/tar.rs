//! Writes tar archives entry by entry, the same bytes each time.
//!
//! Only what image layers need, plus what no honest archive holds: names are
//! written as given, so that a test can try to leave the layer's root.

/// An archive being written; times are zero and owners are root.
#[derive(Default, Clone)]
pub struct Tar {
    bytes: Vec<u8>,
}

const BLOCK: usize = 512;

impl Tar {
    /// An archive without entries.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a directory.
    #[must_use]
    pub fn dir(self, name: &str, mode: u32) -> Self {
        self.entry(b'5', &format!("{name}/"), mode, "", b"")
    }

    /// Adds a regular file.
    #[must_use]
    pub fn file(self, name: &str, mode: u32, content: &[u8]) -> Self {
        self.entry(b'0', name, mode, "", content)
    }

    /// Adds a symbolic link.
    #[must_use]
    pub fn symlink(self, name: &str, target: &str) -> Self {
        self.entry(b'2', name, 0o777, target, b"")
    }

    /// Adds a hard link to an earlier entry.
    #[must_use]
    pub fn hardlink(self, name: &str, target: &str) -> Self {
        self.entry(b'1', name, 0o755, target, b"")
    }

    /// The finished archive.
    #[must_use]
    pub fn finish(mut self) -> Vec<u8> {
        self.bytes.resize(self.bytes.len() + 2 * BLOCK, 0);
        self.bytes
    }

    /// Names over 100 bytes go into a ustar prefix at their last `/`.
    fn entry(mut self, kind: u8, name: &str, mode: u32, link: &str, content: &[u8]) -> Self {
        let (prefix, short) = if name.len() <= 100 {
            ("", name)
        } else {
            let at = name[..name.len().min(155)]
                .rfind('/')
                .expect("a long name has directories");
            (&name[..at], &name[at + 1..])
        };
        let mut header = [0_u8; BLOCK];
        put(&mut header, 0, short.as_bytes());
        put(&mut header, 100, format!("{mode:07o}").as_bytes());
        put(&mut header, 108, b"0000000");
        put(&mut header, 116, b"0000000");
        put(
            &mut header,
            124,
            format!("{:011o}", content.len()).as_bytes(),
        );
        put(&mut header, 136, b"00000000000");
        put(&mut header, 148, b"        ");
        header[156] = kind;
        put(&mut header, 157, link.as_bytes());
        put(&mut header, 257, b"ustar\x0000");
        put(&mut header, 345, prefix.as_bytes());
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        put(&mut header, 148, format!("{sum:06o}\0 ").as_bytes());
        self.bytes.extend_from_slice(&header);
        self.bytes.extend_from_slice(content);
        let padded = self.bytes.len().next_multiple_of(BLOCK);
        self.bytes.resize(padded, 0);
        self
    }
}

fn put(header: &mut [u8; BLOCK], at: usize, text: &[u8]) {
    header[at..at + text.len()].copy_from_slice(text);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command;
    use std::process::Command;

    #[test]
    fn the_system_tar_reads_it() {
        let long = format!("{}/{}", "d".repeat(80), "f".repeat(60));
        let archive = Tar::new()
            .dir("bin", 0o755)
            .file("bin/sh", 0o755, b"#!")
            .symlink("bin/ash", "sh")
            .hardlink("bin/again", "bin/sh")
            .file(&long, 0o640, &[7; 600])
            .finish();
        let listed = command::run_with_input(Command::new("tar").args(["tf", "-"]), &archive).ok();
        assert_eq!(
            listed,
            format!("bin/\nbin/sh\nbin/ash\nbin/again\n{long}\n")
        );
    }
}
