//! The day of a key's partition, as the ledger divides its runs.

use std::fmt;

use time::{Date, Month};

/// Days since [`Day::FIRST`]. CloudTrail began in November 2013; earlier dates, which only a foreign object
/// can bear, share the first day, and those past [`Day::LAST`] the last: the number of days is bounded
/// whatever stands in a bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Day(u16);

impl Day {
    const FIRST: i32 = julian(2013);
    const LAST: i32 = julian(2100);

    pub(super) fn of(date: Date) -> Day {
        Day((date.to_julian_day().clamp(Day::FIRST, Day::LAST) - Day::FIRST) as u16)
    }

    /// From `YYYYMMDD`.
    pub(super) fn parse(text: &str) -> Option<Day> {
        if text.len() != 8 || !text.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let month = Month::try_from(text[4..6].parse::<u8>().ok()?).ok()?;
        let date = Date::from_calendar_date(text[..4].parse().ok()?, month, text[6..].parse().ok()?).ok()?;
        let day = Day::of(date);
        (day.date() == Some(date)).then_some(day)
    }

    /// `20260131`
    pub(super) fn number(self) -> u32 {
        self.date().map_or(0, |date| {
            date.year() as u32 * 10_000 + u32::from(u8::from(date.month())) * 100 + u32::from(date.day())
        })
    }

    fn date(self) -> Option<Date> {
        Date::from_julian_day(Day::FIRST + i32::from(self.0)).ok()
    }
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08}", self.number())
    }
}

/// Julian day of 1 January.
const fn julian(year: i32) -> i32 {
    match Date::from_ordinal_date(year, 1) {
        Ok(date) => date.to_julian_day(),
        Err(_) => panic!("a year of the calendar"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_is_its_date_and_those_outside_share_the_ends() {
        let day = Day::of(Date::from_calendar_date(2026, Month::January, 31).unwrap());
        assert_eq!((day.to_string(), Day::parse("20260131")), ("20260131".to_owned(), Some(day)));
        assert_eq!(Day::of(Date::MIN).to_string(), "20130101");
        assert_eq!(Day::of(Date::MAX).to_string(), "21000101");
        for text in ["", "20260231", "2026013", "20121231", "21000102", "+2026131", "2026-1-3"] {
            assert_eq!(Day::parse(text), None, "{text}");
        }
    }
}
