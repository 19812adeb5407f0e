//! One contest: every contestant does the same thing, in turn, round by
//! round, so that a machine that slows down slows them all.

use std::process::{Child, Command, Stdio};
use std::time::Instant;

/// What a contest measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Time from start to end.
    Milliseconds,
    /// Memory.
    Kibibytes,
}

impl Unit {
    /// Its sign in the table.
    #[must_use]
    pub fn sign(self) -> &'static str {
        match self {
            Unit::Milliseconds => "ms",
            Unit::Kibibytes => "KiB",
        }
    }
}

/// One of those that are compared, and how it does one round.
pub struct Contestant<'a> {
    /// Its name in the table.
    pub name: &'static str,
    /// Does the round of this number and returns what it measured.
    pub round: Box<dyn FnMut(usize) -> f64 + 'a>,
}

/// A contest before it is held.
pub struct Contest<'a> {
    /// What everybody does.
    pub title: &'static str,
    /// What is measured of it.
    pub unit: Unit,
    /// Rounds that count.
    pub rounds: usize,
    /// Rounds before them that do not.
    pub warm_up: usize,
    /// In the order of the table; ratios are to the first one.
    pub contestants: Vec<Contestant<'a>>,
}

/// What was measured of one contestant.
pub struct Series {
    /// Its name.
    pub name: &'static str,
    /// One value for each round.
    pub all: Vec<f64>,
}

/// A contest that was held.
pub struct Result {
    /// What everybody did.
    pub title: &'static str,
    /// What was measured of it.
    pub unit: Unit,
    /// What was measured, in the order of the table.
    pub series: Vec<Series>,
}

impl Contest<'_> {
    /// Holds it.
    ///
    /// # Panics
    /// When a contestant fails: a failure is fast, and no result.
    #[must_use]
    pub fn hold(mut self) -> Result {
        let mut series: Vec<Series> = self
            .contestants
            .iter()
            .map(|contestant| Series {
                name: contestant.name,
                all: Vec::new(),
            })
            .collect();
        for round in 0..self.warm_up + self.rounds {
            for (contestant, series) in self.contestants.iter_mut().zip(&mut series) {
                let value = (contestant.round)(round);
                if round >= self.warm_up {
                    series.all.push(value);
                }
            }
        }
        Result {
            title: self.title,
            unit: self.unit,
            series,
        }
    }
}

impl Series {
    /// The value that `percent` of all are at or below.
    #[must_use]
    pub fn quantile(&self, percent: usize) -> f64 {
        let mut sorted = self.all.clone();
        sorted.sort_unstable_by(f64::total_cmp);
        sorted[(sorted.len() - 1) * percent / 100]
    }
}

/// Milliseconds that `work` takes.
pub fn timed(work: impl FnOnce()) -> f64 {
    let started = Instant::now();
    work();
    started.elapsed().as_secs_f64() * 1000.0
}

/// Starts `command` with nothing on standard input, and nobody to read what
/// it prints.
///
/// # Panics
/// When it cannot be started.
#[must_use]
pub fn start(command: &mut Command) -> Child {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .unwrap_or_else(|err| panic!("run {command:?}: {err}"))
}

/// Runs `command` to its end. Its complaints go where ours go.
///
/// # Panics
/// When it fails.
pub fn succeed(command: &mut Command) {
    let status = start(command).wait().expect("a child can be waited for");
    assert!(status.success(), "{command:?} ended with {status}");
}
