//! Where a command's result goes.

use std::io::{Write, stdout};

use crate::failure::Failure;
use crate::render::clean::clean;

/// Writes `text` to stdout in one piece, exactly as it is.
pub(crate) fn text(text: &str) -> Result<(), Failure> {
    let mut stdout = stdout().lock();
    let written = stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush());
    written.map_err(|err| Failure::output(&err))
}

/// Writes one line, with what could upset a terminal escaped.
pub(crate) fn line(line: &str) -> Result<(), Failure> {
    text(&format!("{}\n", clean(line)))
}

/// Reports one failure on stderr. A terminal or pipe that is gone has nobody
/// to report to.
pub(crate) fn report(failure: &Failure) {
    if let Some(message) = failure.message() {
        complain(&format!("ctl: {}\n", clean(message)));
    }
}

/// Writes to stderr, where an error can no longer be told to anyone.
pub(crate) fn complain(text: &str) {
    let _ = std::io::stderr().write_all(text.as_bytes());
}
