//! Tables in Docker's layout.

use unicode_width::UnicodeWidthStr;

use super::clean::clean;

/// Spaces after the widest cell of a column.
const PADDING: usize = 3;

/// Least columns a column takes with its padding.
const LEAST: usize = 10;

/// A heading and rows of as many cells. The last column is not padded.
pub(crate) fn table(heading: &[&str], rows: &[Vec<String>]) -> String {
    let heading: Vec<String> = heading.iter().map(ToString::to_string).collect();
    let lines: Vec<Vec<String>> = std::iter::once(&heading)
        .chain(rows)
        .map(|row| row.iter().map(|cell| clean(cell).into_owned()).collect())
        .collect();
    let widths: Vec<usize> = (0..heading.len())
        .map(|column| {
            let cells = lines.iter().filter_map(|line| line.get(column));
            (cells.map(|cell| cell.width()).max().unwrap_or_default() + PADDING).max(LEAST)
        })
        .collect();
    let mut text = String::new();
    for line in &lines {
        for (column, (cell, width)) in line.iter().zip(&widths).enumerate() {
            text.push_str(cell);
            if column + 1 < line.len() {
                text.extend(std::iter::repeat_n(' ', width.saturating_sub(cell.width())));
            }
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::table;

    #[test]
    fn an_empty_table_is_dockers_heading() {
        let heading = [
            "CONTAINER ID",
            "IMAGE",
            "COMMAND",
            "CREATED",
            "STATUS",
            "PORTS",
            "NAMES",
        ];
        assert_eq!(
            table(&heading, &[]),
            "CONTAINER ID   IMAGE     COMMAND   CREATED   STATUS    PORTS     NAMES\n"
        );
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [
            vec!["日本語日本語".to_owned(), "b\x1b[1m".to_owned()],
            vec!["a".to_owned(), "c".to_owned()],
        ];
        assert_eq!(
            table(&["REPOSITORY", "TAG"], &rows),
            "REPOSITORY     TAG\n日本語日本語   b\\x1b[1m\na              c\n"
        );
    }
}
