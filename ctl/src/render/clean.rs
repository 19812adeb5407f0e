//! Text from the daemon made safe for a terminal.
//!
//! Names, labels and messages come from images and containers. A control
//! character in them could move the cursor, retitle the window or forge a
//! line, so each is shown as an escape instead.

use std::borrow::Cow;

/// `text` with every control character, and every character that reorders
/// the text around it, as an escape such as `\x1b` or `\u{202e}`.
pub(crate) fn clean(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_unsafe) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        match c {
            '\n' => safe.push_str("\\n"),
            '\t' => safe.push_str("\\t"),
            '\r' => safe.push_str("\\r"),
            c if is_unsafe(c) && c.is_ascii() => safe.push_str(&format!("\\x{:02x}", u32::from(c))),
            c if is_unsafe(c) => safe.extend(c.escape_unicode()),
            c => safe.push(c),
        }
    }
    Cow::Owned(safe)
}

fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::clean;

    #[test]
    fn control_characters_become_escapes() {
        assert_eq!(clean("plain ünï"), "plain ünï");
        assert_eq!(clean("a\x1b[2Jb\n"), "a\\x1b[2Jb\\n");
        assert_eq!(clean("\u{202e}txt\u{9b}"), "\\u{202e}txt\\u{9b}");
    }
}
