//! Sizes as people type them: `64m`, `1.5g`, `1024`, in powers of 1024.

/// The bytes that `text` says; `None` where it is no size.
#[must_use]
pub fn parse(text: &str) -> Option<u64> {
    let lower = text.trim().to_ascii_lowercase();
    let digits = lower.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let shift = match lower[digits.len()..]
        .trim_end_matches('b')
        .trim_end_matches('i')
    {
        "" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        "t" => 40,
        "p" => 50,
        _ => return None,
    };
    let digits = digits.trim_end();
    if let Ok(whole) = digits.parse::<u64>() {
        return whole.checked_mul(1 << shift);
    }
    let number: f64 = digits.parse().ok()?;
    let bytes = number * f64::from(1_u32 << 30) * 2_f64.powi(shift - 30);
    (bytes.is_finite() && (0.0..9e18).contains(&bytes)).then_some(bytes as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_powers_of_1024() {
        for (text, bytes) in [
            ("0", 0),
            ("1024", 1024),
            ("1k", 1024),
            ("1KB", 1024),
            ("1.5MiB", 1_572_864),
            ("2g", 2 << 30),
            ("7b", 7),
        ] {
            assert_eq!(parse(text), Some(bytes), "{text}");
        }
        for bad in ["", "x", "-1", "1z", "m", "1e999"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
