//! Points in time as typed: a date and time, seconds since 1970, or a length
//! of time back from now.

use std::str::FromStr;
use std::time::{Duration, SystemTime};

use prost_types::Timestamp;

use super::size::GoDuration;

/// A point in time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Moment(pub(crate) Timestamp);

impl FromStr for Moment {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad =
            || format!("invalid value: {text:?}: expected a timestamp or a duration such as 42m");
        if let Ok(ago) = text.parse::<GoDuration>() {
            let ago = Duration::from_nanos(u64::try_from(ago.0).map_err(|_| bad())?);
            let then = SystemTime::now().checked_sub(ago).ok_or_else(bad)?;
            return Ok(Self(Timestamp::from(then)));
        }
        if let Ok(seconds) = text.parse::<f64>() {
            let since = Duration::try_from_secs_f64(seconds).map_err(|_| bad())?;
            return Ok(Self(Timestamp::from(SystemTime::UNIX_EPOCH + since)));
        }
        // Docker takes them without seconds, time and zone as well; UTC here.
        let whole = match text.len() {
            10 => format!("{text}T00:00:00Z"),
            16 => format!("{text}:00Z"),
            19 => format!("{text}Z"),
            _ => text.to_owned(),
        };
        whole.parse().map(Self).map_err(|_| bad())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_seconds_and_lengths() {
        let seconds = |text: &str| text.parse::<Moment>().unwrap().0.seconds;
        assert_eq!(seconds("1970-01-02T00:00:00Z"), 86_400);
        assert_eq!(seconds("1970-01-02"), 86_400);
        assert_eq!(seconds("1970-01-02T00:00:01"), 86_401);
        assert_eq!(seconds("12.5"), 12);
        let now = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap();
        let ago = i64::try_from(now.as_secs()).unwrap() - seconds("1m");
        assert!((55..=65).contains(&ago), "{ago}");
        assert!("yesterday".parse::<Moment>().is_err());
    }
}
