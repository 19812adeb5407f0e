//! Signals as users write them: a number, or a name with or without `SIG`.

use std::fmt;

/// A signal number of Linux, 1 to 64.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signal(u32);

/// The text names no signal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadSignal(String);

impl fmt::Display for BadSignal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "invalid signal: {}", self.0)
    }
}

impl std::error::Error for BadSignal {}

/// The first real-time signal that the C library leaves to programs.
const RTMIN: u32 = 34;
const RTMAX: u32 = 64;

/// By number, from 1; `signal(7)`.
const NAMES: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2",
    "PIPE", "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG",
    "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
];

/// Second names that people use for the same numbers.
const ALIASES: [(&str, u32); 4] = [("IOT", 6), ("POLL", 29), ("CLD", 17), ("UNUSED", 31)];

impl Signal {
    /// `SIGKILL`.
    pub const KILL: Self = Self(9);
    /// `SIGTERM`, which `stop` sends where nothing else is configured.
    pub const TERM: Self = Self(15);

    /// Reads `9`, `KILL`, `sigkill`, `RTMIN`, `SIGRTMIN+3` or `RTMAX-2`.
    ///
    /// # Errors
    /// [`BadSignal`] for everything else, and for numbers outside 1 to 64.
    pub fn parse(text: &str) -> Result<Self, BadSignal> {
        let bad = || BadSignal(text.to_owned());
        if let Ok(number) = text.parse::<u32>() {
            return if (1..=RTMAX).contains(&number) {
                Ok(Self(number))
            } else {
                Err(bad())
            };
        }
        let upper = text.to_ascii_uppercase();
        let name = upper.strip_prefix("SIG").unwrap_or(&upper);
        let known = (1_u32..).zip(NAMES).map(|(number, known)| (known, number));
        if let Some((_, number)) = known.chain(ALIASES).find(|(known, _)| *known == name) {
            return Ok(Self(number));
        }
        real_time(name).map(Self).ok_or_else(bad)
    }

    /// The number for `kill(2)`.
    #[must_use]
    pub fn number(self) -> u32 {
        self.0
    }
}

/// `RTMIN`, `RTMIN+n`, `RTMAX` and `RTMAX-n`, inside the real-time range.
fn real_time(name: &str) -> Option<u32> {
    let number = if let Some(rest) = name.strip_prefix("RTMIN") {
        RTMIN.checked_add(offset(rest, '+')?)?
    } else {
        RTMAX.checked_sub(offset(name.strip_prefix("RTMAX")?, '-')?)?
    };
    (RTMIN..=RTMAX).contains(&number).then_some(number)
}

fn offset(rest: &str, sign: char) -> Option<u32> {
    if rest.is_empty() {
        return Some(0);
    }
    let digits = rest.strip_prefix(sign)?;
    digits
        .bytes()
        .all(|b| b.is_ascii_digit())
        .then(|| digits.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, number: Option<u32>) {
        assert_eq!(
            Signal::parse(text).ok().map(Signal::number),
            number,
            "{text:?}"
        );
    }

    #[test]
    fn names_and_numbers() {
        check("KILL", Some(9));
        check("SIGKILL", Some(9));
        check("sigterm", Some(15));
        check("hup", Some(1));
        check("SYS", Some(31));
        check("CLD", Some(17));
        check("10", Some(10));
        check("64", Some(64));
        check("RTMIN", Some(34));
        check("SIGRTMIN+3", Some(37));
        check("RTMAX", Some(64));
        check("RTMAX-14", Some(50));
    }

    #[test]
    fn what_is_no_signal() {
        for text in [
            "", "0", "-1", "65", "SIG", "SIGNOPE", "RTMIN+31", "RTMIN-1", "RTMIN++1", "RTMAX-31",
        ] {
            check(text, None);
        }
    }
}
