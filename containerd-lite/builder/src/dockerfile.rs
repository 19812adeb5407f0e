//! A Dockerfile's text as typed instructions. No I/O, and nothing is expanded yet.
//!
//! 1. [`text`] says where something stands, and shows a mistake under its line.
//! 2. [`directive`] reads `# syntax=`, `# escape=` and `# check=` off the top.
//! 3. [`mod@line`] drops comments, joins continued lines and collects here-documents.
//! 4. [`word`] splits a line into words and expands variables by the rules of a shell.
//! 5. [`instruction`] is what a line can be, [`flag`] the options it takes, [`mod@parse`] reads one.
//!
//! Semantics are those of the Dockerfile reference, frontend version 1.

pub mod directive;
pub mod flag;
pub mod instruction;
pub mod line;
pub mod parse;
pub mod text;
pub mod word;

pub use instruction::{Instruction, Located};
pub use parse::parse;
pub use text::{Mistake, Place};

/// A whole Dockerfile, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dockerfile {
    /// The escape character: a backslash, or a backtick where a directive says so.
    pub escape: char,
    /// The instructions, in order.
    pub instructions: Vec<Located<Instruction>>,
    /// What is questionable and was read all the same.
    pub warnings: Vec<Mistake>,
}
