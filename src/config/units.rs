//! Sizes, periods, points in time and names, as they are written in the configuration.

use std::time::Duration;

use time::{Date, Month};
use toml::de::DeValue;

use super::Start;
use super::fault::quoted;
use super::table::{Read, kind, string};

const KIB: u64 = 1024;
const SIZES: [(&str, u64); 10] = [
    ("", 1),
    ("b", 1),
    ("kb", 1_000),
    ("mb", 1_000_000),
    ("gb", 1_000_000_000),
    ("tb", 1_000_000_000_000),
    ("kib", KIB),
    ("mib", KIB * KIB),
    ("gib", KIB * KIB * KIB),
    ("tib", KIB * KIB * KIB * KIB),
];
const PERIODS: [(&str, u64); 4] = [("m", 60), ("h", 3_600), ("d", 86_400), ("w", 7 * 86_400)];
/// Longest `start` period: CloudTrail exists since 2013.
const LONGEST_PERIOD: Duration = Duration::from_secs(20 * 366 * 86_400);

/// Bytes: `"2GiB"`, `"500MB"`, `"1048576"` or a whole number.
pub(super) fn size(value: &DeValue<'_>) -> Read<u64> {
    let right = "write a size such as \"2GiB\", \"500MB\" or a whole number of bytes";
    match value {
        DeValue::Integer(number) => u64::from_str_radix(number.as_str(), number.radix())
            .map_err(|_| format!("is not a size in bytes; {right}")),
        DeValue::String(text) => number_and_unit(text, &SIZES)
            .ok_or_else(|| format!("{} is not a size this can use; {right}", quoted(text))),
        other => Err(format!("must be a size, not {}; {right}", kind(other))),
    }
}

/// Bytes between two bounds, both allowed.
pub(super) fn size_within(value: &DeValue<'_>, least: u64, most: u64) -> Read<u64> {
    let bytes = size(value)?;
    match (least..=most).contains(&bytes) {
        true => Ok(bytes),
        false if most == u64::MAX => {
            Err(format!("must be at least {}, not {}", bytes_text(least), bytes_text(bytes)))
        }
        false => Err(format!(
            "must be from {} to {}, not {}",
            bytes_text(least),
            bytes_text(most),
            bytes_text(bytes)
        )),
    }
}

/// `start`: `"now"`, a period, a date or `"all"`.
pub(super) fn start(value: &DeValue<'_>) -> Read<Start> {
    let right = "write \"now\", a period such as \"24h\", \"7d\" or \"90m\", a date such as \"2026-01-31\", or \"all\"";
    let text = match value {
        // 2026-01-31 without quotes is a date to TOML, and can mean nothing else here.
        DeValue::Datetime(stamp) if stamp.time.is_none() && stamp.offset.is_none() => &stamp.to_string(),
        DeValue::String(text) => text.as_ref(),
        other => return Err(format!("must be a string, not {}; {right}", kind(other))),
    };
    match text {
        "now" => return Ok(Start::Now),
        "all" => return Ok(Start::All),
        _ => {}
    }
    if let Some(day) = date(text) {
        return Ok(Start::Date(day));
    }
    let seconds = number_and_unit(text, &PERIODS)
        .ok_or_else(|| format!("{} is no such thing; {right}", quoted(text)))?;
    match Duration::from_secs(seconds) {
        ago if ago.is_zero() => {
            Err("is no time at all; write \"now\" to begin with what is delivered from now on".to_owned())
        }
        ago if ago > LONGEST_PERIOD => {
            Err(format!("{} is longer than CloudTrail exists; write \"all\" for everything", quoted(text)))
        }
        ago => Ok(Start::Ago(ago)),
    }
}

/// A length of time: `"90m"`, `"24h"`, `"7d"`.
pub(super) fn period(value: &DeValue<'_>) -> Read<Duration> {
    let right = "write a period such as \"90m\", \"24h\" or \"7d\"";
    let text = string(value).map_err(|text| format!("{text}; {right}"))?;
    match number_and_unit(text, &PERIODS).map(Duration::from_secs) {
        Some(period) if period <= LONGEST_PERIOD => Ok(period),
        _ => Err(format!("{} is no period that this can use; {right}", quoted(text))),
    }
}

/// A text of 1 to `most` bytes without control characters.
pub(super) fn bounded_text(text: &str, most: usize) -> Read<Box<str>> {
    match (1..=most).contains(&text.len()) && !text.chars().any(char::is_control) {
        true => Ok(text.into()),
        false => Err(format!("must have 1 to {most} bytes and no control characters")),
    }
}

/// Name of a source or an output: it becomes part of file names, metrics and log lines.
pub(super) fn name(value: &DeValue<'_>) -> Read<Box<str>> {
    let text = string(value)?;
    let good = |c: u8| c.is_ascii_alphanumeric() || b"._-".contains(&c);
    if (1..=64).contains(&text.len()) && text.bytes().all(good) && !text.starts_with('.') {
        return Ok(text.into());
    }
    Err(format!(
        "{} cannot be a name: write 1 to 64 of A-Z a-z 0-9 . _ - not beginning with a dot",
        quoted(text)
    ))
}

/// `2026-01-31`, in a century that CloudTrail can have logs of.
fn date(text: &str) -> Option<Date> {
    let mut parts = text.split('-');
    let mut part = |digits: usize| {
        let part =
            parts.next().filter(|part| part.len() == digits && part.bytes().all(|b| b.is_ascii_digit()))?;
        part.parse::<u16>().ok()
    };
    let (year, month, day) = (part(4)?, part(2)?, part(2)?);
    let month = Month::try_from(u8::try_from(month).ok()?).ok()?;
    let rest = parts.next();
    let day = Date::from_calendar_date(i32::from(year), month, u8::try_from(day).ok()?).ok()?;
    (rest.is_none() && (2000..2100).contains(&year)).then_some(day)
}

/// Digits and a unit, in any case, with or without spaces between.
fn number_and_unit(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let text = text.trim();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let unit = unit.trim_start();
    let (_, factor) = units.iter().find(|(word, _)| word.eq_ignore_ascii_case(unit))?;
    number.parse::<u64>().ok()?.checked_mul(*factor)
}

/// Bytes for a sentence, in the largest binary unit that divides them.
pub(super) fn bytes_text(bytes: u64) -> String {
    let units = [(KIB * KIB * KIB, "GiB"), (KIB * KIB, "MiB"), (KIB, "KiB")];
    match units.iter().find(|(unit, _)| bytes >= *unit && bytes.is_multiple_of(*unit)) {
        Some((unit, word)) => format!("{} {word}", bytes / unit),
        None => format!("{bytes} bytes"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> DeValue<'_> {
        DeValue::String(text.into())
    }

    #[test]
    fn sizes_are_decimal_or_binary_as_written() {
        for (written, bytes) in [
            ("2GiB", 2 << 30),
            ("500MB", 500_000_000),
            ("1048576", 1_048_576),
            ("64 kib", 65_536),
            ("7B", 7),
            ("1TB", 1_000_000_000_000),
            ("0", 0),
        ] {
            assert_eq!(size(&text(written)), Ok(bytes), "{written}");
        }
        for wrong in
            ["", "GiB", "1.5GiB", "-1", "2G", "2 G iB", "99999999999GiB", "18446744073709551616", "٣MB"]
        {
            assert!(size(&text(wrong)).is_err(), "{wrong}");
        }
    }

    #[test]
    fn start_is_a_word_a_period_or_a_date() {
        let ago = |seconds| Ok(Start::Ago(Duration::from_secs(seconds)));
        assert_eq!(start(&text("now")), Ok(Start::Now));
        assert_eq!(start(&text("all")), Ok(Start::All));
        assert_eq!(start(&text("90m")), ago(5_400));
        assert_eq!(start(&text("24h")), ago(86_400));
        assert_eq!(start(&text("7d")), ago(604_800));
        assert_eq!(start(&text("2w")), ago(1_209_600));
        let day = Date::from_calendar_date(2026, Month::January, 31).unwrap();
        assert_eq!(start(&text("2026-01-31")), Ok(Start::Date(day)));
        for wrong in
            ["", "0h", "24", "24x", "h", "2026-02-30", "2026-1-31", "2026-01-31-", "1999-01-01", "9999999d"]
        {
            assert!(start(&text(wrong)).is_err(), "{wrong}");
        }
    }

    #[test]
    fn names_are_safe_in_file_names_and_metrics() {
        for good in ["prod", "a", "A-1_b.c", &"x".repeat(64)] {
            assert!(name(&text(good)).is_ok(), "{good}");
        }
        for wrong in ["", ".", "..", ".hidden", "a/b", "a b", "ü", "a\n", "a\"", &"x".repeat(65)] {
            assert!(name(&text(wrong)).is_err(), "{wrong}");
        }
    }
}
