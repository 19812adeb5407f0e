//! A pull as it goes on: lines redrawn in place on a terminal, one line for
//! each change of state elsewhere.

use std::fmt::Write as _;

use proto::engine::v1::pull_image_response::Progress;

use super::clean::clean;
use super::names::{ellipsis, short_id};
use super::quantity::size;

/// Columns of the bar between its brackets.
const BAR: usize = 50;

/// What has been shown of one pull.
#[derive(Debug)]
pub(crate) struct Board {
    /// Columns of the terminal, or `None` for plain lines.
    columns: Option<usize>,
    rows: Vec<(String, String)>,
}

impl Board {
    /// A board for a terminal of so many columns, or for plain lines.
    pub(crate) fn new(columns: Option<usize>) -> Self {
        Self {
            columns,
            rows: Vec::new(),
        }
    }

    /// The bytes to print for one message; empty when there is nothing new.
    pub(crate) fn update(&mut self, progress: &Progress) -> String {
        let status = clean(&progress.status).into_owned();
        if progress.id.is_empty() {
            return self.notice(status);
        }
        let id = clean(short_id(&progress.id)).into_owned();
        let row = match self.columns {
            Some(_) => format!("{id}: {}", live(&status, progress)),
            // Bytes without end would fill a log file.
            None if is_under_way(progress) => return String::new(),
            None => format!("{id}: {status}"),
        };
        let at = self.rows.iter().position(|(known, _)| *known == id);
        match (at.and_then(|at| self.rows.get_mut(at)), self.columns) {
            (Some((_, shown)), _) if *shown == row => String::new(),
            (Some((_, shown)), None) => {
                shown.clone_from(&row);
                row + "\n"
            }
            (Some((_, shown)), Some(columns)) => {
                shown.clone_from(&row);
                let up = self.rows.len() - at.unwrap_or_default();
                format!("\x1b[{up}A\r\x1b[2K{}\r\x1b[{up}B", ellipsis(&row, columns))
            }
            (None, columns) => {
                let text = columns.map_or_else(|| row.clone(), |columns| ellipsis(&row, columns));
                self.rows.push((id, row));
                text + "\n"
            }
        }
    }

    /// A line about the image as a whole; the rows so far stay above it.
    fn notice(&mut self, status: String) -> String {
        if self
            .rows
            .last()
            .is_some_and(|(id, shown)| id.is_empty() && *shown == status)
        {
            return String::new();
        }
        let line = format!("{status}\n");
        self.rows.push((String::new(), status));
        line
    }
}

fn is_under_way(progress: &Progress) -> bool {
    progress.total_bytes > 0 && progress.current_bytes < progress.total_bytes
}

/// `Downloading [====>    ]  1.2MB/4.3MB`, the bar only while bytes move.
fn live(status: &str, progress: &Progress) -> String {
    let mut text = status.to_owned();
    if is_under_way(progress) {
        let share = progress.current_bytes.max(0) as f64 / progress.total_bytes as f64;
        let done = (share * BAR as f64) as usize;
        let _ = write!(
            text,
            "  [{:<BAR$}]",
            format!("{}>", "=".repeat(done.min(BAR - 1)))
        );
        let _ = write!(
            text,
            "  {}/{}",
            size(progress.current_bytes),
            size(progress.total_bytes)
        );
    } else if progress.current_bytes > 0 && progress.total_bytes == 0 {
        let _ = write!(text, "  {}", size(progress.current_bytes));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    fn progress(id: &str, status: &str, current_bytes: i64, total_bytes: i64) -> Progress {
        Progress {
            id: id.into(),
            status: status.into(),
            current_bytes,
            total_bytes,
        }
    }

    #[test]
    fn plain_lines_tell_each_state_once() {
        let mut board = Board::new(None);
        let all: String = [
            progress("", "Pulling from library/busybox", 0, 0),
            progress(ID, "Pulling fs layer", 0, 0),
            progress(ID, "Downloading", 1, 10),
            progress(ID, "Downloading", 5, 10),
            progress(ID, "Download complete", 10, 10),
            progress(ID, "Download complete", 10, 10),
            progress(ID, "Pull complete", 0, 0),
        ]
        .iter()
        .map(|progress| board.update(progress))
        .collect();
        assert_eq!(
            all,
            "Pulling from library/busybox\n0123456789ab: Pulling fs layer\n\
             0123456789ab: Download complete\n0123456789ab: Pull complete\n"
        );
    }

    #[test]
    fn a_terminals_row_is_redrawn_in_its_place() {
        let mut board = Board::new(Some(100));
        board.update(&progress(ID, "Pulling fs layer", 0, 0));
        board.update(&progress("sha256:ff", "Waiting", 0, 0));
        let text = board.update(&progress(ID, "Downloading", 1_000_000, 2_000_000));
        let bar = format!("{}>{}", "=".repeat(25), " ".repeat(24));
        assert_eq!(
            text,
            format!("\x1b[2A\r\x1b[2K0123456789ab: Downloading  [{bar}]  1MB/2MB\r\x1b[2B")
        );
        assert_eq!(
            board.update(&progress(ID, "Downloading", 1_000_000, 2_000_000)),
            ""
        );
    }

    #[test]
    fn a_narrow_terminal_never_wraps() {
        let mut board = Board::new(Some(20));
        let text = board.update(&progress(ID, "Downloading", 1, 2));
        assert_eq!(text, "0123456789ab: Downl…\n");
    }
}
