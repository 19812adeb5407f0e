//! The log that `--log` names, in logrus's two formats, which callers parse.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::cli::LogFormat;
use crate::failure::{Context, Result};

/// Where messages go.
#[derive(Debug)]
pub(crate) struct Log {
    file: Option<File>,
    format: LogFormat,
    debug: bool,
}

impl Log {
    /// Opens `path` for appending; without one messages go to stderr.
    pub(crate) fn open(path: Option<&Path>, format: LogFormat, debug: bool) -> Result<Self> {
        let file = path
            .filter(|p| !p.as_os_str().is_empty())
            .map(|p| {
                OpenOptions::new()
                    .append(true)
                    .create(true)
                    .open(p)
                    .context(|| format!("open log file {}", p.display()))
            })
            .transpose()?;
        Ok(Self {
            file,
            format,
            debug,
        })
    }

    pub(crate) fn warn(&self, message: &str) {
        self.write("warning", message);
    }

    pub(crate) fn debug(&self, message: &str) {
        if self.debug {
            self.write("debug", message);
        }
    }

    /// Whether spans are written: they are for whoever looks for time, and reads JSON.
    pub(crate) fn spans(&self) -> bool {
        self.debug && self.format == LogFormat::Json
    }

    /// Does `what`, and notes how long it took.
    pub(crate) fn span<T>(&self, what: &str, f: impl FnOnce() -> T) -> T {
        if !self.spans() {
            return f();
        }
        let since = Instant::now();
        let done = f();
        self.took("runtime", what, since.elapsed());
        done
    }

    /// Notes how long `what` took `process`, the runtime or init.
    pub(crate) fn took(&self, process: &str, what: &str, time: Duration) {
        let us = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let now = rfc3339(SystemTime::now(), Precision::Nanoseconds);
        let line = serde_json::json!({
            "level": "debug", "msg": what, "process": process, "took_us": us, "time": now
        });
        self.put(&format!("{line}\n"));
    }

    /// The last word of a failed command: into the log, and if that is a file, plainly to stderr as well.
    pub(crate) fn fatal(&self, message: &str) {
        self.write("error", message);
        if self.file.is_some() {
            // Nobody is left to tell if stderr is gone.
            let _gone = writeln!(std::io::stderr(), "{message}");
        }
    }

    fn write(&self, level: &str, message: &str) {
        let line = line(
            self.format,
            level,
            message,
            &rfc3339(SystemTime::now(), Precision::Seconds),
        );
        self.put(&line);
    }

    fn put(&self, line: &str) {
        let _gone = match &self.file {
            Some(file) => (&*file).write_all(line.as_bytes()),
            None => std::io::stderr().write_all(line.as_bytes()),
        };
    }
}

fn line(format: LogFormat, level: &str, message: &str, time: &str) -> String {
    match format {
        LogFormat::Json => {
            let mut line =
                serde_json::json!({ "level": level, "msg": message, "time": time }).to_string();
            line.push('\n');
            line
        }
        LogFormat::Text => format!(
            "time=\"{time}\" level={level} msg={}\n",
            serde_json::Value::from(message)
        ),
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Precision {
    Seconds,
    Nanoseconds,
}

/// `2006-01-02T15:04:05Z`, with nanoseconds where asked for. Always UTC.
pub(crate) fn rfc3339(time: SystemTime, precision: Precision) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (days, rest) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    // Days since 0000-03-01 in eras of 400 years: the calendar repeats after 146097 days, and leap days come last in a year.
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    let fraction = match precision {
        Precision::Seconds => String::new(),
        Precision::Nanoseconds => format!(".{:09}", since.subsec_nanos()),
    };
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}{fraction}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_the_calendar() {
        let at = |secs, precision| rfc3339(UNIX_EPOCH + Duration::new(secs, 5), precision);
        assert_eq!(at(0, Precision::Seconds), "1970-01-01T00:00:00Z");
        assert_eq!(at(951_782_400, Precision::Seconds), "2000-02-29T00:00:00Z");
        assert_eq!(
            at(1_709_210_096, Precision::Nanoseconds),
            "2024-02-29T12:34:56.000000005Z"
        );
        assert_eq!(
            at(1_735_689_599, Precision::Seconds),
            "2024-12-31T23:59:59Z"
        );
    }

    #[test]
    fn lines_are_those_that_callers_parse() {
        assert_eq!(
            line(LogFormat::Text, "error", "say \"no\"", "T"),
            "time=\"T\" level=error msg=\"say \\\"no\\\"\"\n"
        );
        assert_eq!(
            line(LogFormat::Json, "error", "say \"no\"", "T"),
            "{\"level\":\"error\",\"msg\":\"say \\\"no\\\"\",\"time\":\"T\"}\n"
        );
    }
}
