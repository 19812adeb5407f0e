//! The keys that leave a session and let the container live.
//!
//! [`DetachKeys::parse`] reads Docker's notation; [`Watch`] looks for the
//! sequence in what is typed. A beginning of the sequence is held back until
//! the next byte decides, and is passed on when it was not the sequence.

/// A sequence of bytes that detaches; never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DetachKeys(Vec<u8>);

impl DetachKeys {
    /// Reads `ctrl-p,ctrl-q`: a comma-separated list of single characters,
    /// `ctrl-` with `a`…`z` or one of `@[\]^_`, and `DEL`.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let keys = text.split(',').map(|key| {
            code(key)
                .ok_or_else(|| format!("invalid detach keys ({text}): unknown character: '{key}'"))
        });
        keys.collect::<Result<_, _>>().map(Self)
    }
}

impl Default for DetachKeys {
    /// Docker's ctrl-p,ctrl-q.
    fn default() -> Self {
        Self(vec![16, 17])
    }
}

fn code(key: &str) -> Option<u8> {
    if let [byte] = key.as_bytes() {
        return byte.is_ascii().then_some(*byte);
    }
    if key == "DEL" {
        return Some(127);
    }
    match key.strip_prefix("ctrl-")?.as_bytes() {
        [byte @ (b'a'..=b'z')] => Some(byte - b'a' + 1),
        [byte @ (b'@' | b'['..=b'_')] => Some(byte - b'@'),
        _ => None,
    }
}

/// Looks for the detach keys in a stream of input.
#[derive(Debug)]
pub(crate) struct Watch {
    keys: DetachKeys,
    matched: usize,
}

impl Watch {
    /// Starts with nothing typed.
    pub(crate) fn new(keys: DetachKeys) -> Self {
        Self { keys, matched: 0 }
    }

    /// Takes typed bytes; returns what to send on, and whether the sequence
    /// is complete. Bytes after the sequence are dropped, as in Docker.
    pub(crate) fn feed(&mut self, typed: &[u8]) -> (Vec<u8>, bool) {
        let keys = &self.keys.0;
        let mut send = Vec::with_capacity(typed.len());
        for &byte in typed {
            // What was held back and is not the sequence after all goes on;
            // its tail may itself be a beginning of the sequence.
            while self.matched > 0 && keys.get(self.matched) != Some(&byte) {
                let held = keys.get(..self.matched).unwrap_or_default();
                let keep = (0..self.matched)
                    .rev()
                    .find(|&len| keys.get(..len) == held.get(held.len() - len..))
                    .unwrap_or(0);
                send.extend_from_slice(held.get(..held.len() - keep).unwrap_or_default());
                self.matched = keep;
            }
            if keys.get(self.matched) == Some(&byte) {
                self.matched += 1;
            } else {
                send.push(byte);
            }
            if self.matched == keys.len() {
                return (send, true);
            }
        }
        (send, false)
    }

    /// What is still held back when the input ends.
    pub(crate) fn rest(&mut self) -> Vec<u8> {
        let held = std::mem::take(&mut self.matched);
        self.keys.0.get(..held).unwrap_or_default().to_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(keys: &str, typed: &[&[u8]], sent: &[u8], detached: bool) {
        let mut watch = Watch::new(DetachKeys::parse(keys).unwrap());
        let mut all = Vec::new();
        let mut done = false;
        for part in typed {
            let (send, end) = watch.feed(part);
            all.extend(send);
            done = end;
        }
        assert_eq!((all.as_slice(), done), (sent, detached), "{keys} {typed:?}");
    }

    #[test]
    fn notation_is_dockers() {
        assert_eq!(
            DetachKeys::parse("ctrl-p,ctrl-q"),
            Ok(DetachKeys::default())
        );
        assert_eq!(
            DetachKeys::parse("a,DEL,ctrl-@,ctrl-_"),
            Ok(DetachKeys(vec![97, 127, 0, 31]))
        );
        assert_eq!(
            DetachKeys::parse("ctrl-[,ctrl-\\,ctrl-],ctrl-^"),
            Ok(DetachKeys(vec![27, 28, 29, 30]))
        );
        for bad in ["", "ctrl-", "ctrl-A", "ctrl-ab", "foo", "ctrl-p,", "é"] {
            assert!(DetachKeys::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_whole_sequence_detaches_and_is_not_sent() {
        check("ctrl-p,ctrl-q", &[b"ls\x10\x11"], b"ls", true);
        check("ctrl-p,ctrl-q", &[b"ls\x10", b"\x11"], b"ls", true);
    }

    #[test]
    fn a_partial_sequence_is_sent_when_it_is_none() {
        check("ctrl-p,ctrl-q", &[b"\x10", b"a"], b"\x10a", false);
        check("ctrl-p,ctrl-q", &[b"\x10\x10\x11"], b"\x10", true);
        check("a,a,b", &[b"aaab"], b"a", true);
        check("a,b,a,c", &[b"abab", b"ac"], b"ab", true);
        check("a,b,a,c", &[b"abxabac"], b"abx", true);
    }

    #[test]
    fn what_is_held_back_comes_out_at_the_end() {
        let mut watch = Watch::new(DetachKeys::default());
        assert_eq!(watch.feed(b"x\x10"), (b"x".to_vec(), false));
        assert_eq!(watch.rest(), b"\x10");
        assert_eq!(watch.rest(), b"");
    }
}
