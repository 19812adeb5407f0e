//! Amounts as Docker's flags take them: bytes, processors, lengths of time.

use std::str::FromStr;

/// Bytes in powers of 1024: `64m`, `1.5g`; -1 means without limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bytes(pub(crate) i64);

impl FromStr for Bytes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || format!("invalid size: '{text}'");
        if text == "-1" {
            return Ok(Self(-1));
        }
        let lower = text.to_ascii_lowercase();
        let digits = lower.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let unit = lower[digits.len()..]
            .trim_end_matches('b')
            .trim_end_matches('i');
        let factor: i64 = match unit {
            "" => 1,
            "k" => 1 << 10,
            "m" => 1 << 20,
            "g" => 1 << 30,
            "t" => 1 << 40,
            "p" => 1 << 50,
            _ => return Err(bad()),
        };
        let digits = digits.trim();
        if let Ok(whole) = digits.parse::<u32>() {
            return i64::from(whole)
                .checked_mul(factor)
                .map(Self)
                .ok_or_else(bad);
        }
        let number: f64 = digits.parse().map_err(|_| bad())?;
        let bytes = number * factor as f64;
        if (0.0..9e18).contains(&bytes) {
            Ok(Self(bytes as i64))
        } else {
            Err(bad())
        }
    }
}

/// Billionths of a processor: `1.5`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cpus(pub(crate) i64);

impl FromStr for Cpus {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || format!("failed to parse {text} as a rational number");
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        if fraction.len() > 9 {
            return Err("value is too precise".to_owned());
        }
        let whole: i64 = if whole.is_empty() { "0" } else { whole }
            .parse()
            .map_err(|_| bad())?;
        let nanos: i64 = format!("{fraction:0<9}").parse().map_err(|_| bad())?;
        whole
            .checked_mul(1_000_000_000)
            .and_then(|whole| whole.checked_add(nanos))
            .map(Self)
            .ok_or_else(bad)
    }
}

/// Go's form of a length of time, in nanoseconds: `1m30s`, `500ms`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct GoDuration(pub(crate) i64);

impl FromStr for GoDuration {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || format!("time: invalid duration {text:?}");
        if text == "0" {
            return Ok(Self(0));
        }
        let mut rest = text;
        let mut nanos = 0.0;
        while !rest.is_empty() {
            let digits = rest
                .find(|c: char| !c.is_ascii_digit() && c != '.')
                .ok_or_else(|| format!("time: missing unit in duration {text:?}"))?;
            let number: f64 = rest[..digits].parse().map_err(|_| bad())?;
            rest = &rest[digits..];
            let unit = rest
                .find(|c: char| c.is_ascii_digit() || c == '.')
                .unwrap_or(rest.len());
            nanos += number
                * match &rest[..unit] {
                    "h" => 3.6e12,
                    "m" => 6e10,
                    "s" => 1e9,
                    "ms" => 1e6,
                    "us" | "µs" => 1e3,
                    "ns" => 1.0,
                    _ => return Err(bad()),
                };
            rest = &rest[unit..];
        }
        if text.is_empty() || nanos > 9e18 {
            return Err(bad());
        }
        Ok(Self(nanos as i64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_in_powers_of_1024() {
        assert_eq!("64m".parse(), Ok(Bytes(64 << 20)));
        assert_eq!("1.5GiB".parse(), Ok(Bytes(3 << 29)));
        assert_eq!("-1".parse(), Ok(Bytes(-1)));
        assert_eq!("x".parse::<Bytes>(), Err("invalid size: 'x'".to_owned()));
        assert!("5q".parse::<Bytes>().is_err());
    }

    #[test]
    fn processors_have_nine_decimals() {
        assert_eq!("1.5".parse(), Ok(Cpus(1_500_000_000)));
        assert_eq!(".25".parse(), Ok(Cpus(250_000_000)));
        assert!("1.0000000001".parse::<Cpus>().is_err());
        assert!("a".parse::<Cpus>().is_err());
    }

    #[test]
    fn durations_are_gos() {
        assert_eq!("1m30s".parse(), Ok(GoDuration(90_000_000_000)));
        assert_eq!("500ms".parse(), Ok(GoDuration(500_000_000)));
        assert!(
            "5".parse::<GoDuration>()
                .unwrap_err()
                .contains("missing unit")
        );
        assert!("5x".parse::<GoDuration>().is_err());
    }
}
