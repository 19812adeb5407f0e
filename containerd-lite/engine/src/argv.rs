//! What runs: entrypoint and command, of the user and of the image.

/// Entrypoint and command as they hold for a container, after both sides had
/// their say. `None` where neither gave one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Argv {
    /// What runs in any case.
    pub entrypoint: Option<Vec<String>>,
    /// Arguments, or the program itself where there is no entrypoint.
    pub command: Option<Vec<String>>,
}

impl Argv {
    /// Merges by `docker run`'s rules. Empty lists mean "not given"; a user's
    /// entrypoint drops the image's command, and a user's entrypoint of one
    /// empty string leaves no entrypoint at all.
    #[must_use]
    pub fn merge(user: &Self, image: &Self) -> Self {
        let given = |list: &Option<Vec<String>>| list.clone().filter(|l| !l.is_empty());
        match given(&user.entrypoint) {
            Some(own) => Self {
                entrypoint: (own != [""]).then_some(own),
                command: given(&user.command),
            },
            None => Self {
                entrypoint: given(&image.entrypoint),
                command: given(&user.command).or_else(|| given(&image.command)),
            },
        }
    }

    /// The whole command line; empty when there is nothing to run.
    #[must_use]
    pub fn line(&self) -> Vec<String> {
        self.entrypoint
            .iter()
            .chain(&self.command)
            .flatten()
            .cloned()
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(text: &str) -> Option<Vec<String>> {
        match text {
            "-" => None,
            "''" => Some(vec![String::new()]),
            words => Some(words.split_whitespace().map(str::to_owned).collect()),
        }
    }

    #[track_caller]
    fn check(user: (&str, &str), image: (&str, &str), want: &str) {
        let side = |(e, c)| Argv {
            entrypoint: list(e),
            command: list(c),
        };
        assert_eq!(
            Argv::merge(&side(user), &side(image)).line().join(" "),
            want
        );
    }

    #[test]
    fn the_table_of_entrypoint_and_command() {
        check(("-", "-"), ("-", "sh"), "sh");
        check(("-", "-"), ("/init", "sh"), "/init sh");
        check(("-", "ls -l"), ("/init", "sh"), "/init ls -l");
        check(("/own", "-"), ("/init", "sh"), "/own");
        check(("/own", "x"), ("/init", "sh"), "/own x");
        check(("''", "-"), ("/init", "sh"), "");
        check(("''", "x"), ("/init", "sh"), "x");
        check(("-", "-"), ("-", "-"), "");
    }
}
