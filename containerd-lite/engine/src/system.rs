//! The daemon and its host as a whole: [`info()`], what takes room on the disk
//! ([`usage()`]), and what is wrong ([`doctor()`]).

mod doctor;
mod info;
mod usage;

pub use doctor::{Check, Verdict, doctor};
pub use info::info;
pub use usage::usage;
