//! What came back, as text: pure functions from values to what is printed.

pub(crate) mod build;
pub(crate) mod clean;
pub(crate) mod format;
pub(crate) mod json;
pub(crate) mod names;
pub(crate) mod progress;
pub(crate) mod quantity;
pub(crate) mod table;
pub(crate) mod template;
pub(crate) mod time;
