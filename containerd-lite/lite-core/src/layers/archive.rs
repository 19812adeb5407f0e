//! Archives for tests, also those that no proper program writes.

/// A tar archive in the making.
#[derive(Default)]
pub(crate) struct Archive(Vec<u8>);

impl Archive {
    pub(crate) fn dir(self, path: &str, mode: u32) -> Self {
        self.entry(b'5', path, "", mode, b"")
    }

    pub(crate) fn file(self, path: &str, data: &[u8]) -> Self {
        self.entry(b'0', path, "", 0o644, data)
    }

    pub(crate) fn symlink(self, path: &str, target: &str) -> Self {
        self.entry(b'2', path, target, 0o777, b"")
    }

    pub(crate) fn hard_link(self, path: &str, target: &str) -> Self {
        self.entry(b'1', path, target, 0o644, b"")
    }

    /// A pax header for the next entry.
    pub(crate) fn pax(self, records: &[(&str, &[u8])]) -> Self {
        let mut data = Vec::new();
        for (key, value) in records {
            let rest = key.len() + value.len() + 3;
            let mut len = rest + 1;
            while len != rest + len.to_string().len() {
                len += 1;
            }
            data.extend(format!("{len} {key}=").into_bytes());
            data.extend(*value);
            data.push(b'\n');
        }
        self.entry(b'x', "pax", "", 0o644, &data)
    }

    pub(crate) fn entry(self, flag: u8, path: &str, target: &str, mode: u32, data: &[u8]) -> Self {
        self.raw(flag, path, target, mode, data, |_| {})
    }

    /// An entry whose header `change` alters before its checksum is written.
    pub(crate) fn raw(
        mut self,
        flag: u8,
        path: &str,
        target: &str,
        mode: u32,
        data: &[u8],
        change: impl FnOnce(&mut [u8; 512]),
    ) -> Self {
        let mut block = [0; 512];
        let put = |block: &mut [u8; 512], at: usize, text: &str| {
            block[at..at + text.len()].copy_from_slice(text.as_bytes())
        };
        put(&mut block, 0, path);
        put(&mut block, 100, &format!("{mode:07o}"));
        put(&mut block, 108, "0000000");
        put(&mut block, 116, "0000000");
        put(&mut block, 124, &format!("{:011o}", data.len()));
        put(&mut block, 136, "00000001750");
        put(&mut block, 157, target);
        put(&mut block, 257, "ustar\u{0}00");
        block[156] = flag;
        change(&mut block);
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        put(&mut block, 148, &format!("{sum:06o}\u{0}"));
        self.0.extend(block);
        self.0.extend(data);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.0.extend([0; 1024]);
        self.0
    }
}
