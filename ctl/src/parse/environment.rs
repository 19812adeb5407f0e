//! `-e` and `--env-file`: variables as `KEY=VALUE`.
//!
//! A bare `KEY` takes the value the client has for it, and is left out where
//! the client has none.

/// Resolves `-e` arguments through `lookup`, the client's own environment.
pub(crate) fn from_args(
    args: &[String],
    lookup: impl Fn(&str) -> Option<String>,
) -> Result<Vec<String>, String> {
    let mut variables = Vec::with_capacity(args.len());
    for arg in args {
        match arg.split_once('=') {
            Some(("", _)) => return Err(format!("invalid environment variable: {arg}")),
            None if arg.is_empty() => {
                return Err("invalid environment variable: it has no name".to_owned());
            }
            Some(_) => variables.push(arg.clone()),
            None => variables.extend(lookup(arg).map(|value| format!("{arg}={value}"))),
        }
    }
    Ok(variables)
}

/// Reads the contents of an `--env-file`. Empty lines and lines that begin
/// with `#` are skipped, leading white space is dropped, the rest is literal.
pub(crate) fn from_file(
    text: &str,
    lookup: impl Fn(&str) -> Option<String>,
) -> Result<Vec<String>, String> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut variables = Vec::new();
    for line in text.lines().map(str::trim_start) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (key, value) = match line.split_once('=') {
            Some((key, value)) => (key, Some(value.to_owned())),
            None => (line, lookup(line)),
        };
        if key.is_empty() {
            return Err(format!("no variable name on line '{line}'"));
        }
        if key.contains([' ', '\t']) {
            return Err(format!("variable '{key}' contains whitespaces"));
        }
        variables.extend(value.map(|value| format!("{key}={value}")));
    }
    Ok(variables)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lookup(key: &str) -> Option<String> {
        (key == "HOME").then(|| "/root".to_owned())
    }

    fn args(args: &[&str]) -> Result<Vec<String>, String> {
        let args: Vec<String> = args.iter().map(ToString::to_string).collect();
        from_args(&args, lookup)
    }

    #[test]
    fn a_bare_key_takes_the_clients_value() {
        assert_eq!(
            args(&["HOME", "NONE", "A=b=c", "E="]).unwrap(),
            ["HOME=/root", "A=b=c", "E="]
        );
    }

    #[test]
    fn a_variable_needs_a_name() {
        assert!(args(&["=x"]).is_err());
        assert!(args(&[""]).is_err());
    }

    #[test]
    fn files_have_comments_and_literal_values() {
        let text = "\u{feff}# note\n\n  A=1 # not a comment\nHOME\nNONE\nQ=\"x\"\n";
        assert_eq!(
            from_file(text, lookup).unwrap(),
            ["A=1 # not a comment", "HOME=/root", "Q=\"x\""]
        );
    }

    #[test]
    fn files_refuse_bad_names() {
        assert!(from_file("=x", lookup).is_err());
        assert!(from_file("A B=x", lookup).is_err());
    }
}
