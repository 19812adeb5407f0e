//! Sizes in bytes, to three significant digits, base 1000.

const UNITS: [&str; 7] = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];

/// `4.26MB`, `0B`, `1.5kB`; trailing zeros are left out, as in Docker. What
/// rounds to 1000 becomes 1 of the next unit.
pub(crate) fn size(bytes: i64) -> String {
    let mut value = bytes.max(0) as f64;
    let mut unit = 0;
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    let decimals = match value {
        v if v >= 99.95 => 0,
        v if v >= 9.995 => 1,
        _ => 2,
    };
    let text = format!("{value:.decimals$}");
    let text = match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.'),
        false => &text,
    };
    format!("{text}{}", UNITS.get(unit).copied().unwrap_or_default())
}

/// Powers of 1024 to four significant digits, as Docker shows memory: `1.945MiB`.
pub(crate) fn binary_size(bytes: u64) -> String {
    const UNITS: [&str; 7] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    let decimals = match value {
        v if v >= 1000.0 => 0,
        v if v >= 100.0 => 1,
        v if v >= 10.0 => 2,
        _ => 3,
    };
    let text = format!("{value:.decimals$}");
    let text = match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.'),
        false => &text,
    };
    format!("{text}{}", UNITS.get(unit).copied().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::{binary_size, size};

    #[test]
    fn memory_is_in_powers_of_1024() {
        assert_eq!(binary_size(0), "0B");
        assert_eq!(binary_size(2_039_480), "1.945MiB");
        assert_eq!(binary_size(64 << 20), "64MiB");
        assert_eq!(binary_size(8_350_000_000), "7.777GiB");
    }

    #[test]
    fn sizes_are_dockers() {
        for (bytes, text) in [
            (0, "0B"),
            (999, "999B"),
            (1000, "1kB"),
            (1500, "1.5kB"),
            (4_261_550, "4.26MB"),
            (77_800_000, "77.8MB"),
            (187_600_000, "188MB"),
            (999_600, "1MB"),
            (1_130_000_000, "1.13GB"),
            (-1, "0B"),
        ] {
            assert_eq!(size(bytes), text, "{bytes}");
        }
    }
}
