//! How the file writes durations (`"100ms"`, `"1h 30m"`) and sizes (`"32MiB"`).

use std::time::Duration;

/// Reads a duration with its unit. `None` if it is none.
pub(super) fn parse_duration(text: &str) -> Option<Duration> {
    humantime::parse_duration(text).ok()
}

/// Writes a duration as the file would.
pub(super) fn show_duration(duration: Duration) -> String {
    humantime::format_duration(duration).to_string()
}

const SIZES: [(&str, u64); 4] = [
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("B", 1),
];

/// Reads a whole number of `B`, `KiB`, `MiB` or `GiB`. `None` if it is none, or beyond 2^64.
pub fn parse_size(text: &str) -> Option<u64> {
    let (number, factor) = SIZES
        .iter()
        .find_map(|(unit, factor)| Some((text.strip_suffix(unit)?, *factor)))?;
    let number = number.trim_end();
    if !number.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    number.parse::<u64>().ok()?.checked_mul(factor)
}

/// Writes a size as the file would.
pub fn show_size(bytes: u64) -> String {
    let (unit, factor) = SIZES
        .iter()
        .find(|(_, factor)| bytes > 0 && bytes.is_multiple_of(*factor))
        .unwrap_or(&("B", 1));
    format!("{}{unit}", bytes / factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_with_their_unit() {
        let ms = |n| Some(Duration::from_millis(n));
        for (text, expected) in [
            ("100ms", ms(100)),
            ("5s", ms(5_000)),
            ("1h", ms(3_600_000)),
            ("1m 30s", ms(90_000)),
            ("1d", ms(86_400_000)),
            ("0s", ms(0)),
            ("5", None),
            ("", None),
            ("-1s", None),
            ("1 parsec", None),
            ("99999999999999999999s", None),
        ] {
            assert_eq!(parse_duration(text), expected, "{text}");
        }
    }

    #[test]
    fn sizes_are_read_with_their_unit() {
        for (text, expected) in [
            ("32MiB", Some(32 << 20)),
            ("1 GiB", Some(1 << 30)),
            ("7B", Some(7)),
            ("0KiB", Some(0)),
            ("32", None),
            ("32MB", None),
            ("MiB", None),
            ("-1MiB", None),
            ("+1MiB", None),
            ("1.5MiB", None),
            ("99999999999GiB", None),
        ] {
            assert_eq!(parse_size(text), expected, "{text}");
        }
    }

    #[test]
    fn what_is_shown_can_be_read() {
        for bytes in [0, 1, 1_000, 1 << 10, 3 << 20, 1 << 30] {
            assert_eq!(parse_size(&show_size(bytes)), Some(bytes));
        }
        for ms in [0, 1, 1_000, 61_000, 86_400_000, 7 * 86_400_000] {
            let duration = Duration::from_millis(ms);
            assert_eq!(parse_duration(&show_duration(duration)), Some(duration));
        }
    }
}
