//! Points in time as the JSON of Docker and its logs write them: RFC 3339 in
//! UTC, with as many digits of the second as are not zero.

use std::fmt::Write as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// What Docker's JSON holds for "never".
pub const NEVER: &str = "0001-01-01T00:00:00Z";

const DAY: u64 = 86_400;

/// `2024-05-06T07:08:09.123Z`. A time before 1970 is written as 1970.
#[must_use]
pub fn format(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (year, month, day) = civil(since.as_secs() / DAY);
    let second = since.as_secs() % DAY;
    let mut text = format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}",
        second / 3600,
        second / 60 % 60,
        second % 60
    );
    if since.subsec_nanos() != 0 {
        let digits = format!("{:09}", since.subsec_nanos());
        let _ = write!(text, ".{}", digits.trim_end_matches('0'));
    }
    text.push('Z');
    text
}

/// The same in whole seconds.
#[must_use]
pub fn format_seconds(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    format(UNIX_EPOCH + Duration::from_secs(since.as_secs()))
}

/// Reads what [`format()`] and Go's `RFC3339Nano` write, with any offset.
/// `None` for anything else and for times before 1970.
#[must_use]
pub fn parse(text: &str) -> Option<SystemTime> {
    let bytes = text.as_bytes();
    let number = |from: usize, to: usize| -> Option<u64> {
        let digits = bytes.get(from..to)?;
        digits
            .iter()
            .all(u8::is_ascii_digit)
            .then(|| text[from..to].parse().ok())?
    };
    let mark = |at: usize, want: &[u8]| bytes.get(at).is_some_and(|b| want.contains(b));
    if !(mark(4, b"-") && mark(7, b"-") && mark(10, b"Tt ") && mark(13, b":") && mark(16, b":")) {
        return None;
    }
    let (month, day) = (number(5, 7)?, number(8, 10)?);
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let days = days_since_1970(number(0, 4)?, month, day)?;
    let clock = number(11, 13)? * 3600 + number(14, 16)? * 60 + number(17, 19)?;
    let mut rest = text.get(19..)?;
    let mut nanos = 0;
    if let Some(fraction) = rest.strip_prefix('.') {
        let digits = fraction.bytes().take_while(u8::is_ascii_digit).count();
        nanos = format!("{:0<9}", &fraction[..digits])
            .get(..9)?
            .parse()
            .ok()?;
        rest = &fraction[digits..];
    }
    let local = UNIX_EPOCH + Duration::new(days * DAY + clock, nanos);
    if rest == "Z" || rest == "z" {
        return Some(local);
    }
    let (hours, minutes) = rest.get(1..)?.split_once(':')?;
    let offset =
        Duration::from_secs(hours.parse::<u64>().ok()? * 3600 + minutes.parse::<u64>().ok()? * 60);
    match rest.as_bytes().first() {
        Some(b'+') => local.checked_sub(offset),
        Some(b'-') => local.checked_add(offset),
        _ => None,
    }
}

/// Serde's `with` for an optional time: RFC 3339, or null.
pub mod optional {
    use super::{SystemTime, format, parse};
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

    /// Writes the time as text.
    ///
    /// # Errors
    /// Those of the serializer.
    pub fn serialize<S: Serializer>(time: &Option<SystemTime>, to: S) -> Result<S::Ok, S::Error> {
        time.map(format).serialize(to)
    }

    /// Reads what [`serialize`] wrote.
    ///
    /// # Errors
    /// When the text is no time.
    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<SystemTime>, D::Error> {
        let text = Option::<String>::deserialize(from)?;
        text.map(|t| parse(&t).ok_or_else(|| D::Error::custom(format!("time {t:?}"))))
            .transpose()
    }
}

/// Year, month and day of the day number `days` after 1970-01-01, by the
/// proleptic Gregorian calendar in eras of 400 years that begin in March.
fn civil(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let of_era = shifted % 146_097;
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 {
        from_march + 3
    } else {
        from_march - 9
    };
    (year_of_era + era * 400 + u64::from(month <= 2), month, day)
}

fn days_since_1970(year: u64, month: u64, day: u64) -> Option<u64> {
    let year = year.checked_sub(u64::from(month <= 2))?;
    let era = year / 400;
    let of_era = year % 400;
    let from_march = (month + 9) % 12;
    let of_year = (153 * from_march + 2) / 5 + day - 1;
    (era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year).checked_sub(719_468)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, seconds: u64, nanos: u32) {
        let time = UNIX_EPOCH + Duration::new(seconds, nanos);
        assert_eq!(parse(text), Some(time), "{text}");
        assert_eq!(format(time), text);
    }

    #[test]
    fn known_times_go_both_ways() {
        check("1970-01-01T00:00:00Z", 0, 0);
        check("2000-02-29T12:00:00Z", 951_825_600, 0);
        check("2024-12-31T23:59:59.999999999Z", 1_735_689_599, 999_999_999);
        check("2100-03-01T00:00:00.5Z", 4_107_542_400, 500_000_000);
    }

    #[test]
    fn every_day_of_two_centuries_comes_back() {
        for day in 0..73_000 {
            let (year, month, date) = civil(day);
            assert_eq!(days_since_1970(year, month, date), Some(day));
        }
    }

    #[test]
    fn offsets_and_trailing_zeros_are_read() {
        assert_eq!(
            parse("2024-01-01T02:00:00.120000000+02:00"),
            parse("2024-01-01T00:00:00.12Z")
        );
        assert_eq!(
            parse("2023-12-31T19:00:00-05:00"),
            parse("2024-01-01T00:00:00Z")
        );
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in [
            "",
            "2024",
            "2024-13-01T00:00:00Z",
            "2024-01-01T00:00:00",
            NEVER,
            "2024-01-01T00:00:00X1:1",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
