//! `--format` of the commands that list things: a table, a template, JSON.

use serde_json::Value;

use super::clean::clean;
use super::table::table;
use super::template;
use crate::failure::Failure;

/// What can be shown of a row, and the heading over it.
pub(crate) type Columns = &'static [(&'static str, &'static str)];

/// The text of `rows`, objects of texts, in the `format` that was typed; a
/// table of the fields in `shown` where none was.
pub(crate) fn rows(
    format: Option<&str>,
    columns: Columns,
    shown: &[&str],
    rows: &[Value],
) -> Result<String, Failure> {
    match format.unwrap_or("table") {
        "" | "table" => Ok(plain_table(columns, shown, rows)),
        "json" => Ok(rows
            .iter()
            .map(|row| format!("{}\n", shown_whole(row)))
            .collect()),
        format => match format.strip_prefix("table ") {
            Some(format) => templated_table(&unescape(format), columns, rows),
            None => {
                let template = template::parse(&unescape(format))?;
                let lines = rows.iter().map(|row| {
                    let line = template.render(row)?;
                    Ok(format!("{}\n", clean_lines(&line)))
                });
                lines.collect()
            }
        },
    }
}

/// A row without what is there for `.Label "key"` alone.
fn shown_whole(row: &Value) -> Value {
    let mut row = row.clone();
    if let Some(fields) = row.as_object_mut() {
        fields.remove("LabelMap");
    }
    row
}

fn plain_table(columns: Columns, shown: &[&str], rows: &[Value]) -> String {
    let heading: Vec<&str> = shown
        .iter()
        .map(|field| {
            let known = columns.iter().find(|(name, _)| name == field);
            known.map_or(*field, |(_, heading)| heading)
        })
        .collect();
    let cells: Vec<Vec<String>> = rows
        .iter()
        .map(|row| shown.iter().map(|field| cell(&row[*field])).collect())
        .collect();
    table(&heading, &cells)
}

fn cell(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

/// Labels as Docker lists them: `a=1,b=2`.
pub(crate) fn labels(labels: &Value) -> String {
    let pairs = labels.as_object().into_iter().flatten();
    let texts: Vec<String> = pairs
        .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()))
        .collect();
    texts.join(",")
}

/// The template's own tabs part the columns; over them the headings of the
/// fields it names.
fn templated_table(format: &str, columns: Columns, rows: &[Value]) -> Result<String, Failure> {
    let template = template::parse(format)?;
    let headings: Value = columns
        .iter()
        .map(|(field, heading)| ((*field).to_owned(), Value::from(*heading)))
        .chain([("LabelMap".to_owned(), Value::Object(Default::default()))])
        .collect::<serde_json::Map<_, _>>()
        .into();
    let split = |line: String| -> Vec<String> { line.split('\t').map(str::to_owned).collect() };
    let heading = split(template.render(&headings)?);
    let mut cells = Vec::new();
    for row in rows {
        cells.push(split(template.render(row)?));
    }
    let heading: Vec<&str> = heading.iter().map(String::as_str).collect();
    Ok(table(&heading, &cells))
}

/// `\t` and `\n` as typed in a shell's quotes.
fn unescape(format: &str) -> String {
    format.replace("\\t", "\t").replace("\\n", "\n")
}

/// What could upset a terminal is escaped; tabs and line breaks are the
/// template's own.
fn clean_lines(text: &str) -> String {
    let lines: Vec<String> = text
        .split('\n')
        .map(|line| {
            let cells: Vec<String> = line
                .split('\t')
                .map(|cell| clean(cell).into_owned())
                .collect();
            cells.join("\t")
        })
        .collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: Columns = &[("ID", "CONTAINER ID"), ("Names", "NAMES")];

    fn two() -> Vec<Value> {
        vec![
            serde_json::json!({"ID": "aa", "Names": "web"}),
            serde_json::json!({"ID": "bb", "Names": "db"}),
        ]
    }

    #[test]
    fn formats_are_dockers() {
        let show = |format: Option<&str>| rows(format, COLUMNS, &["ID", "Names"], &two()).unwrap();
        assert_eq!(
            show(None),
            "CONTAINER ID   NAMES\naa             web\nbb             db\n"
        );
        assert_eq!(show(Some("{{.Names}}")), "web\ndb\n");
        assert_eq!(show(Some("{{.ID}}\\t{{.Names}}")), "aa\tweb\nbb\tdb\n");
        assert_eq!(
            show(Some("table {{.Names}}\\t{{.ID}}")),
            "NAMES     CONTAINER ID\nweb       aa\ndb        bb\n"
        );
        assert_eq!(
            show(Some("json")),
            "{\"ID\":\"aa\",\"Names\":\"web\"}\n{\"ID\":\"bb\",\"Names\":\"db\"}\n"
        );
        assert!(rows(Some("{{.Bogus}}"), COLUMNS, &[], &two()).is_err());
    }
}
