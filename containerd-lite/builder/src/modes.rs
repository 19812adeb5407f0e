//! `--chmod`: permissions as an octal number or in the symbols of `chmod(1)`.

/// A change of permissions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mode {
    /// Exactly these bits.
    Octal(u32),
    /// Clause after clause.
    Symbolic(Vec<Clause>),
}

/// `u+x`, `go=rX`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clause {
    /// The classes, as bits 0o700, 0o070, 0o007.
    who: u32,
    /// `+`, `-` or `=`.
    operator: char,
    /// The bits for every class at once: 0o777 for `rwx`.
    bits: u32,
    /// `X`: execution, for directories and for what somebody may execute already.
    conditional: bool,
    /// `s`: set-user-id and set-group-id, of the classes named.
    special: bool,
    /// `t`.
    sticky: bool,
}

impl Mode {
    /// Reads `text`.
    ///
    /// # Errors
    /// A sentence that says what was expected.
    pub fn parse(text: &str) -> Result<Self, String> {
        let expected = || {
            format!(
                "chmod {text:?}: expected an octal mode such as 0755, or symbols such as u+x,go=rX"
            )
        };
        if text.starts_with(|c: char| c.is_ascii_digit()) {
            let mode = u32::from_str_radix(text, 8)
                .ok()
                .filter(|mode| *mode <= 0o7777);
            return mode.map(Self::Octal).ok_or_else(expected);
        }
        let clauses: Option<Vec<Vec<Clause>>> = text.split(',').map(clauses).collect();
        clauses
            .map(|all| Self::Symbolic(all.into_iter().flatten().collect()))
            .ok_or_else(expected)
    }

    /// What `mode` becomes, for a directory or something else.
    #[must_use]
    pub fn apply(&self, mode: u32, directory: bool) -> u32 {
        match self {
            Self::Octal(bits) => *bits,
            Self::Symbolic(clauses) => clauses
                .iter()
                .fold(mode & 0o7777, |mode, clause| clause.apply(mode, directory)),
        }
    }
}

/// One part between commas: classes, then one or more operators with their permissions.
fn clauses(text: &str) -> Option<Vec<Clause>> {
    let start = text.find(['+', '-', '='])?;
    let mut who = 0;
    for class in text[..start].chars() {
        who |= match class {
            'u' => 0o700,
            'g' => 0o070,
            'o' => 0o007,
            'a' => 0o777,
            _ => return None,
        };
    }
    if who == 0 {
        who = 0o777;
    }
    let mut all = Vec::new();
    let mut chars = text[start..].chars().peekable();
    while let Some(operator) = chars.next() {
        let mut clause = Clause {
            who,
            operator,
            bits: 0,
            conditional: false,
            special: false,
            sticky: false,
        };
        while let Some(c) = chars.next_if(|c| !"+-=".contains(*c)) {
            match c {
                'r' => clause.bits |= 0o444,
                'w' => clause.bits |= 0o222,
                'x' => clause.bits |= 0o111,
                'X' => clause.conditional = true,
                's' => clause.special = true,
                't' => clause.sticky = true,
                _ => return None,
            }
        }
        all.push(clause);
    }
    Some(all)
}

impl Clause {
    fn apply(&self, mode: u32, directory: bool) -> u32 {
        let mut bits = self.bits;
        if self.conditional && (directory || mode & 0o111 != 0) {
            bits |= 0o111;
        }
        let mut bits = bits & self.who;
        if self.special {
            bits |= if self.who & 0o700 != 0 { 0o4000 } else { 0 };
            bits |= if self.who & 0o070 != 0 { 0o2000 } else { 0 };
        }
        if self.sticky {
            bits |= 0o1000;
        }
        match self.operator {
            '+' => mode | bits,
            '-' => mode & !bits,
            _ => (mode & !self.who) | bits,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, from: u32, directory: bool, want: u32) {
        let got = Mode::parse(text).unwrap().apply(from, directory);
        assert_eq!(got, want, "{text}: {got:o}, expected {want:o}");
    }

    #[test]
    fn modes() {
        check("755", 0o600, false, 0o755);
        check("04755", 0, false, 0o4755);
        check("u+x", 0o644, false, 0o744);
        check("go-rwx", 0o777, false, 0o700);
        check("a=r,u+w", 0o777, false, 0o644);
        check("+x", 0o644, false, 0o755);
        check("go=rX", 0o600, false, 0o644);
        check("go=rX", 0o700, false, 0o755);
        check("go=rX", 0o600, true, 0o655);
        check("u+s,+t", 0o755, false, 0o5755);
        check("u=rw+x", 0o000, false, 0o700);
        for bad in ["", "9", "17777", "u", "u+q", "z+x", "u+x,"] {
            assert!(Mode::parse(bad).is_err(), "{bad:?}");
        }
    }
}
