//! Cuts output into the lines that logs are made of.
//!
//! A line longer than 16 KiB is cut into parts, between characters; all but
//! its last part lack the newline.

/// The longest part of a line in one record; Docker's number.
pub(super) const MAX_LINE_BYTES: usize = 16 << 10;

/// Which output a byte came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Output {
    /// Standard output, and everything of a terminal.
    Stdout,
    /// Standard error.
    Stderr,
}

impl Output {
    /// Its name in a log.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

/// The unfinished line of each output.
#[derive(Debug, Default)]
pub(super) struct Lines {
    partial: [Vec<u8>; 2],
}

impl Lines {
    /// Takes in `bytes` of `output`; calls `each` with every line or part of
    /// one that is complete.
    pub(super) fn take_in(&mut self, output: Output, bytes: &[u8], mut each: impl FnMut(&[u8])) {
        let partial = &mut self.partial[output as usize];
        let mut rest = bytes;
        while !rest.is_empty() {
            let room = MAX_LINE_BYTES - partial.len();
            let window = &rest[..rest.len().min(room)];
            let end = window.iter().position(|&byte| byte == b'\n');
            let taken = end.map_or(window.len(), |end| end + 1);
            if end.is_some() && partial.is_empty() {
                // The usual case needs no copy.
                each(&rest[..taken]);
                rest = &rest[taken..];
                continue;
            }
            partial.extend_from_slice(&rest[..taken]);
            rest = &rest[taken..];
            if end.is_some() {
                each(partial);
                partial.clear();
            } else if partial.len() == MAX_LINE_BYTES {
                let cut = partial.len() - unfinished_character(partial);
                each(&partial[..cut]);
                partial.drain(..cut);
            }
        }
        if partial.is_empty() {
            // Long lines are rare, and a shim waits more than it works.
            *partial = Vec::new();
        }
    }

    /// What is left of `output` after its end.
    pub(super) fn rest(&mut self, output: Output) -> Vec<u8> {
        std::mem::take(&mut self.partial[output as usize])
    }
}

/// How many bytes at the end are the start of a character that goes on.
fn unfinished_character(bytes: &[u8]) -> usize {
    match std::str::from_utf8(bytes) {
        Err(err) if err.error_len().is_none() => bytes.len() - err.valid_up_to(),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(chunks: &[&[u8]]) -> (Vec<Vec<u8>>, Vec<u8>) {
        let (mut lines, mut found) = (Lines::default(), Vec::new());
        for chunk in chunks {
            lines.take_in(Output::Stdout, chunk, |line| found.push(line.to_vec()));
        }
        (found, lines.rest(Output::Stdout))
    }

    #[test]
    fn lines_end_at_newlines_wherever_chunks_do() {
        let (found, rest) = cut(&[b"one\ntw", b"o", b"\n\nre", b"st"]);
        assert_eq!(found, [&b"one\n"[..], b"two\n", b"\n"]);
        assert_eq!(rest, b"rest");
    }

    #[test]
    fn long_lines_are_cut_between_characters() {
        // The two-byte character straddles the mark.
        let line = format!(
            "{}\u{e9}{}\n",
            "x".repeat(MAX_LINE_BYTES - 1),
            "y".repeat(MAX_LINE_BYTES)
        );
        for size in [1000, 5 << 10, 100 << 10] {
            let chunks: Vec<&[u8]> = line.as_bytes().chunks(size).collect();
            let (found, rest) = cut(&chunks);
            assert_eq!(found.concat(), line.as_bytes());
            assert_eq!(
                found.iter().map(Vec::len).collect::<Vec<_>>(),
                [MAX_LINE_BYTES - 1, MAX_LINE_BYTES, 3]
            );
            assert!(rest.is_empty());
        }
    }

    #[test]
    fn a_line_of_exactly_the_limit_is_not_cut() {
        let line = "z".repeat(MAX_LINE_BYTES - 1) + "\n";
        assert_eq!(cut(&[line.as_bytes()]).0, [line.as_bytes()]);
    }
}
