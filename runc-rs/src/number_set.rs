//! Sets of processors or memory nodes as configs write them: `0-3,7`.

/// The numbers as bits, least first, in words of 64: what the kernel takes.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct NumberSet(Vec<u64>);

/// More than any kernel has of either.
const LIMIT: usize = 8192;

impl NumberSet {
    /// `None` if the text is something else.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut words = Vec::new();
        for part in text.split(',').map(str::trim).filter(|p| !p.is_empty()) {
            let number = |text: &str| text.trim().parse::<usize>().ok().filter(|n| *n < LIMIT);
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last) = (number(first)?, number(last)?);
            if first > last {
                return None;
            }
            for at in first..=last {
                if words.len() <= at / 64 {
                    words.resize(at / 64 + 1, 0);
                }
                words[at / 64] |= 1 << (at % 64);
            }
        }
        Some(Self(words))
    }

    pub(crate) fn words(&self) -> &[u64] {
        &self.0
    }

    /// How many numbers it has.
    pub(crate) fn count(&self) -> u32 {
        self.0.iter().map(|word| word.count_ones()).sum()
    }

    /// The bits as one number, as `taskset(1)` shows them.
    pub(crate) fn hex(&self) -> String {
        let digits: String = self
            .0
            .iter()
            .rev()
            .map(|word| format!("{word:016x}"))
            .collect();
        match digits.trim_start_matches('0') {
            "" => "0x0".to_owned(),
            digits => format!("0x{digits}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_and_ranges_become_bits() {
        let words = |text: &str| NumberSet::parse(text).map(|set| set.0);
        assert_eq!(words("0-3, 7"), Some(vec![0x8f]));
        assert_eq!(words("65"), Some(vec![0, 2]));
        assert_eq!(words(""), Some(vec![]));
        let hex = |text: &str| NumberSet::parse(text).map(|set| set.hex());
        assert_eq!(hex("1,4"), Some("0x12".to_owned()));
        assert_eq!(hex("64"), Some("0x10000000000000000".to_owned()));
        assert_eq!(hex(""), Some("0x0".to_owned()));
        for wrong in ["3-1", "x", "1-", "-1", "99999999"] {
            assert_eq!(words(wrong), None, "{wrong}");
        }
    }
}
