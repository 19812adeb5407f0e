//! Points in time: how long ago, and in full.

use prost_types::Timestamp;

const MINUTE: i64 = 60;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

/// Seconds since 1970, by this machine's clock.
pub(crate) fn now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since
        .ok()
        .and_then(|since| i64::try_from(since.as_secs()).ok())
        .unwrap_or_default()
}

/// `2 weeks ago`, from `then` to `now` in seconds since 1970; `N/A` if unknown.
pub(crate) fn ago(then: Option<&Timestamp>, now: i64) -> String {
    match then {
        Some(then) => format!("{} ago", duration(now.saturating_sub(then.seconds))),
        None => "N/A".to_owned(),
    }
}

/// A number of seconds in Docker's words: `About a minute`, `3 hours`.
pub(crate) fn duration(seconds: i64) -> String {
    // Docker rounds hours to the nearest and takes days and more from those.
    let hours = (seconds + HOUR / 2) / HOUR;
    match seconds {
        ..1 => "Less than a second".to_owned(),
        1 => "1 second".to_owned(),
        2..MINUTE => format!("{seconds} seconds"),
        MINUTE..120 => "About a minute".to_owned(),
        120..HOUR => format!("{} minutes", seconds / MINUTE),
        _ => match hours {
            ..2 => "About an hour".to_owned(),
            2..48 => format!("{hours} hours"),
            48..336 => format!("{} days", hours / 24),
            336..1440 => format!("{} weeks", hours / 24 / 7),
            1440..17520 => format!("{} months", hours / 24 / 30),
            _ => format!("{} years", seconds / DAY / 365),
        },
    }
}

/// `2024-05-06 07:08:09 +0000 UTC`, as Docker's lists have it.
pub(crate) fn stamp(at: &Timestamp) -> String {
    let text = rfc3339(at);
    format!("{} +0000 UTC", text[..19].replace('T', " "))
}

/// RFC 3339 with all nine digits of the fraction, in UTC, as `logs -t` prints.
pub(crate) fn rfc3339(at: &Timestamp) -> String {
    let days = at.seconds.div_euclid(DAY);
    let time = at.seconds.rem_euclid(DAY);
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (time / HOUR, time % HOUR / MINUTE, time % MINUTE);
    let nanos = at.nanos.clamp(0, 999_999_999);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{nanos:09}Z")
}

/// Year, month and day of a number of days since 1970-01-01, in the
/// Gregorian calendar. Counting years from March puts the leap day last.
fn civil(days: i64) -> (i64, i64, i64) {
    const ERA_DAYS: i64 = 146_097; // of 400 years
    const TO_1970: i64 = 719_468; // from 0000-03-01
    let days = days + TO_1970;
    let era = days.div_euclid(ERA_DAYS);
    let of_era = days.rem_euclid(ERA_DAYS);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (year + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_dockers() {
        for (seconds, text) in [
            (0, "Less than a second"),
            (1, "1 second"),
            (59, "59 seconds"),
            (60, "About a minute"),
            (119, "About a minute"),
            (120, "2 minutes"),
            (HOUR - 1, "59 minutes"),
            (HOUR, "About an hour"),
            (HOUR + HOUR / 2, "2 hours"),
            (47 * HOUR, "47 hours"),
            (48 * HOUR, "2 days"),
            (13 * DAY, "13 days"),
            (14 * DAY, "2 weeks"),
            (59 * DAY, "8 weeks"),
            (60 * DAY, "2 months"),
            (729 * DAY, "24 months"),
            (730 * DAY, "2 years"),
        ] {
            assert_eq!(duration(seconds), text, "{seconds}");
        }
    }

    #[test]
    fn unknown_times_are_not_invented() {
        assert_eq!(ago(None, 5), "N/A");
        assert_eq!(
            ago(
                Some(&Timestamp {
                    seconds: 3,
                    nanos: 0
                }),
                5
            ),
            "2 seconds ago"
        );
    }

    #[test]
    fn full_times_keep_nine_digits() {
        for (seconds, nanos, text) in [
            (0, 0, "1970-01-01T00:00:00.000000000Z"),
            (951_782_400, 120, "2000-02-29T00:00:00.000000120Z"),
            (1_735_689_599, 999_999_999, "2024-12-31T23:59:59.999999999Z"),
            (-1, 0, "1969-12-31T23:59:59.000000000Z"),
        ] {
            assert_eq!(rfc3339(&Timestamp { seconds, nanos }), text);
        }
    }
}
