//! `inspect`: JSON in Docker's indentation.

/// Re-indents a JSON text with four spaces a level. Numbers, strings and the
/// order of keys stay exactly as the daemon wrote them.
pub(crate) fn indent(json: &str, level: usize) -> String {
    let mut out = String::with_capacity(json.len() * 2);
    let mut depth = level;
    let mut chars = json.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '"' => {
                out.push(c);
                copy_string(&mut chars, &mut out);
            }
            '{' | '[' => {
                out.push(c);
                while chars.next_if(|c| c.is_ascii_whitespace()).is_some() {}
                if let Some(close) = chars.next_if(|c| matches!(c, '}' | ']')) {
                    out.push(close);
                } else {
                    depth += 1;
                    new_line(&mut out, depth);
                }
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                new_line(&mut out, depth);
                out.push(c);
            }
            ',' => {
                out.push(c);
                new_line(&mut out, depth);
            }
            ':' => out.push_str(": "),
            c if c.is_ascii_whitespace() => {}
            c => out.push(c),
        }
    }
    out
}

fn copy_string(chars: &mut impl Iterator<Item = char>, out: &mut String) {
    while let Some(c) = chars.next() {
        out.push(c);
        match c {
            '"' => return,
            '\\' => out.extend(chars.next()),
            _ => {}
        }
    }
}

fn new_line(out: &mut String, depth: usize) {
    out.push('\n');
    out.extend(std::iter::repeat_n("    ", depth));
}

/// The array `inspect` prints of the objects it found.
pub(crate) fn array(objects: &[String]) -> String {
    if objects.is_empty() {
        return "[]\n".to_owned();
    }
    let items: Vec<String> = objects
        .iter()
        .map(|json| format!("    {}", indent(json, 1)))
        .collect();
    format!("[\n{}\n]\n", items.join(",\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_are_printed_as_dockers() {
        let json = r#"{"Id":"a,b","Nested": { "x" : [1, 2.50] , "e": {}, "f": [ ] },"q":"\"{\\"}"#;
        let expected = "[\n    {\n        \"Id\": \"a,b\",\n        \"Nested\": {\n            \"x\": [\n                1,\n                2.50\n            ],\n            \"e\": {},\n            \"f\": []\n        },\n        \"q\": \"\\\"{\\\\\"\n    }\n]\n";
        assert_eq!(array(&[json.to_owned()]), expected);
    }

    #[test]
    fn nothing_found_is_an_empty_array() {
        assert_eq!(array(&[]), "[]\n");
        assert_eq!(array(&["1".into(), "2".into()]), "[\n    1,\n    2\n]\n");
    }
}
