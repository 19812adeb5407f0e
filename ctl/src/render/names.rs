//! Ids, references and commands in the short forms people read.

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// Characters of a shortened id.
const SHORT_ID: usize = 12;

/// Columns of a shortened command.
const SHORT_COMMAND: usize = 20;

/// The first twelve characters of an id, without its `sha256:`.
pub(crate) fn short_id(id: &str) -> &str {
    let hex = id.split_once(':').map_or(id, |(_, hex)| hex);
    hex.char_indices()
        .nth(SHORT_ID)
        .and_then(|(at, _)| hex.get(..at))
        .unwrap_or(hex)
}

/// `text` in at most `columns` columns, the last an ellipsis if it was cut.
pub(crate) fn ellipsis(text: &str, columns: usize) -> String {
    if text.width() <= columns {
        return text.to_owned();
    }
    let mut short = String::new();
    let mut used = 0;
    for c in text.chars() {
        used += c.width().unwrap_or_default();
        if used > columns.saturating_sub(1) {
            break;
        }
        short.push(c);
    }
    short.push('…');
    short
}

/// A container's command as `ps` prints it: words with spaces in single
/// quotes, cut to twenty columns unless `whole`, all in double quotes.
pub(crate) fn command(argv: &[String], whole: bool) -> String {
    let words: Vec<String> = argv
        .iter()
        .enumerate()
        .map(|(i, word)| match i > 0 && word.contains(' ') {
            true => format!("'{word}'"),
            false => word.clone(),
        })
        .collect();
    let line = words.join(" ");
    let line = if whole {
        line
    } else {
        ellipsis(&line, SHORT_COMMAND)
    };
    let mut quoted = String::with_capacity(line.len() + 2);
    quoted.push('"');
    for c in line.chars() {
        match c {
            '"' | '\\' => {
                quoted.push('\\');
                quoted.push(c);
            }
            // Go's Quote does the same; all control characters become escapes.
            c => quoted.push_str(&super::clean::clean(c.encode_utf8(&mut [0; 4]))),
        }
    }
    quoted.push('"');
    quoted
}

/// A normalised reference as people write it: `docker.io/library/busybox:1`
/// is `busybox:1`, `docker.io/a/b:1` is `a/b:1`.
pub(crate) fn familiar(reference: &str) -> &str {
    let rest = reference.strip_prefix("docker.io/").unwrap_or(reference);
    match rest.strip_prefix("library/") {
        Some(name) if rest != reference => name,
        _ => rest,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(argv: &[&str], expected: &str) {
        let argv: Vec<String> = argv.iter().map(ToString::to_string).collect();
        assert_eq!(command(&argv, false), expected);
    }

    #[test]
    fn commands_are_quoted_and_cut_as_dockers() {
        check(&["sh"], "\"sh\"");
        check(
            &["/docker-entrypoint.sh", "nginx"],
            "\"/docker-entrypoint.…\"",
        );
        check(&["sh", "-c", "sleep 100"], "\"sh -c 'sleep 100'\"");
        check(&["sh", "-c", "a\n\"b"], "\"sh -c a\\n\\\"b\"");
        assert_eq!(
            command(&["x".repeat(30)], true),
            format!("\"{}\"", "x".repeat(30))
        );
    }

    #[test]
    fn ids_are_twelve_characters() {
        assert_eq!(short_id("sha256:0123456789abcdef"), "0123456789ab");
        assert_eq!(short_id("0123"), "0123");
    }

    #[test]
    fn wide_characters_count_twice() {
        assert_eq!(ellipsis("日本語", 6), "日本語");
        assert_eq!(ellipsis("日本語x", 6), "日本…");
    }

    #[test]
    fn familiar_references_drop_docker_hub() {
        assert_eq!(
            familiar("docker.io/library/busybox:latest"),
            "busybox:latest"
        );
        assert_eq!(familiar("docker.io/a/b:1"), "a/b:1");
        assert_eq!(
            familiar("localhost:5000/library/b:1"),
            "localhost:5000/library/b:1"
        );
        assert_eq!(familiar("library/b"), "library/b");
    }
}
