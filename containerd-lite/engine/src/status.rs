//! The words of the STATUS column: `Up 3 minutes`, `Exited (0) 2 seconds ago`.

use std::time::{Duration, SystemTime};

use crate::health::Status;
use crate::record::Record;
use crate::state::Phase;

/// Docker's wording of a length of time, which gets coarser as it grows.
#[must_use]
pub fn human(length: Duration) -> String {
    let seconds = length.as_secs();
    let minutes = seconds / 60;
    // Hours are rounded, everything else is cut.
    let hours = (seconds + 1800) / 3600;
    match () {
        () if seconds < 1 => "Less than a second".to_owned(),
        () if seconds == 1 => "1 second".to_owned(),
        () if seconds < 60 => format!("{seconds} seconds"),
        () if minutes == 1 => "About a minute".to_owned(),
        () if minutes < 60 => format!("{minutes} minutes"),
        () if hours == 1 => "About an hour".to_owned(),
        () if hours < 48 => format!("{hours} hours"),
        () if hours < 24 * 7 * 2 => format!("{} days", hours / 24),
        () if hours < 24 * 30 * 2 => format!("{} weeks", hours / 24 / 7),
        () if hours < 24 * 365 * 2 => format!("{} months", hours / 24 / 30),
        () => format!("{} years", seconds / 3600 / 24 / 365),
    }
}

/// The STATUS of a container at the time `now`.
#[must_use]
pub fn words(record: &Record, now: SystemTime) -> String {
    let since = |time: SystemTime| human(now.duration_since(time).unwrap_or_default());
    match record.phase {
        Phase::Running => {
            let up = record.run.started_at.map(since).unwrap_or_default();
            let more = match &record.run.health {
                _ if record.run.paused => " (Paused)".to_owned(),
                Some(health) if health.status == Status::Starting => {
                    " (health: starting)".to_owned()
                }
                Some(health) => format!(" ({})", health.status.word()),
                None => String::new(),
            };
            format!("Up {up}{more}")
        }
        Phase::Creating | Phase::Created => "Created".to_owned(),
        Phase::Removing => "Removal In Progress".to_owned(),
        Phase::Dead => "Dead".to_owned(),
        Phase::Exited => {
            let ago = record.run.finished_at.map(since).unwrap_or_default();
            if record.run.restarting {
                return format!("Restarting ({}) {ago} ago", record.run.exit_code);
            }
            format!("Exited ({}) {ago} ago", record.run.exit_code)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::sample;

    #[track_caller]
    fn check(seconds: u64, words: &str) {
        assert_eq!(human(Duration::from_secs(seconds)), words);
    }

    #[test]
    fn durations_are_told_as_docker_tells_them() {
        const HOUR: u64 = 3600;
        const DAY: u64 = 24 * HOUR;
        check(0, "Less than a second");
        check(1, "1 second");
        check(59, "59 seconds");
        check(60, "About a minute");
        check(119, "About a minute");
        check(120, "2 minutes");
        check(3599, "59 minutes");
        check(HOUR, "About an hour");
        check(HOUR + 1799, "About an hour");
        check(HOUR + 1800, "2 hours");
        check(47 * HOUR, "47 hours");
        check(2 * DAY, "2 days");
        check(13 * DAY, "13 days");
        check(14 * DAY, "2 weeks");
        check(59 * DAY, "8 weeks");
        check(60 * DAY, "2 months");
        check(365 * DAY, "12 months");
        check(730 * DAY, "2 years");
    }

    #[test]
    fn each_phase_has_its_words() {
        let start = SystemTime::UNIX_EPOCH + Duration::from_secs(1000);
        let mut record = sample();
        assert_eq!(words(&record, start), "Created");
        record.phase = Phase::Running;
        record.run.started_at = Some(start);
        assert_eq!(
            words(&record, start + Duration::from_secs(180)),
            "Up 3 minutes"
        );
        // A clock that was set back must not matter.
        assert_eq!(
            words(&record, SystemTime::UNIX_EPOCH),
            "Up Less than a second"
        );
        record.phase = Phase::Exited;
        record.run.finished_at = Some(start);
        record.run.exit_code = 137;
        assert_eq!(
            words(&record, start + Duration::from_secs(2)),
            "Exited (137) 2 seconds ago"
        );
        record.phase = Phase::Dead;
        assert_eq!(words(&record, start), "Dead");
        record.phase = Phase::Removing;
        assert_eq!(words(&record, start), "Removal In Progress");
    }
}
