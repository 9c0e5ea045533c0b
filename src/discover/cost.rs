//! What a source's LIST requests come to, before the bill does. A core.
//!
//! Source: "Amazon S3 pricing": 0.005 USD per 1,000 LIST requests (S3 Standard in us-east-1; other regions differ by
//! some parts in ten).

use std::time::Duration;

use super::window::{COLD_DAYS, HOT_DAYS};

/// Keys on a LIST page.
const PAGE: u64 = 1000;
/// Millionths of a USD that a LIST request costs.
const PRICE: u64 = 5;

/// LIST requests of a day: those of each poll, and the pages that the daily sweep lists besides. `listed`: keys that a
/// poll lists.
pub fn of_a_day(requests: u64, listed: u64, refresh: Duration) -> u64 {
    let polls = 86_400 / refresh.as_secs().max(1);
    let days = (HOT_DAYS + 1) as u64;
    let sweep = (listed / days).saturating_mul(COLD_DAYS as u64 + 2 - days) / PAGE;
    requests.saturating_mul(polls.max(1)).saturating_add(sweep)
}

/// Whether a number of requests is so much another one that it should be said again.
pub fn differs(told: u64, now: u64) -> bool {
    let (less, more) = (told.min(now), told.max(now));
    more > less + less / 2 && more > 1000
}

/// `14,688 a day, about 2.20 USD a month`
pub fn text(daily: u64) -> String {
    let cents = daily.saturating_mul(30 * PRICE) / 10_000;
    let money =
        if cents == 0 { "less than 0.01".to_owned() } else { format!("{}.{:02}", cents / 100, cents % 100) };
    format!("{} a day, {money} USD a month", grouped(daily))
}

/// A number with a comma between thousands.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_is_its_polls_and_one_sweep() {
        let minutes = |n: u64| Duration::from_secs(n * 60);
        assert_eq!(of_a_day(51, 0, minutes(5)), 51 * 288);
        assert_eq!(of_a_day(51, 300_000, minutes(5)), 51 * 288 + 2900);
        assert_eq!(of_a_day(7, 10, minutes(2000)), 7);
        assert_eq!(of_a_day(u64::MAX, u64::MAX, Duration::ZERO), u64::MAX);
    }

    #[test]
    fn only_a_number_that_matters_is_told_again() {
        assert!(differs(10_000, 16_000) && differs(16_000, 10_000));
        assert!(!differs(10_000, 14_000) && !differs(10, 900));
    }

    #[test]
    fn money_is_told_in_cents() {
        assert_eq!(text(14_688), "14,688 a day, 2.20 USD a month");
        assert_eq!(text(288), "288 a day, 0.04 USD a month");
        assert_eq!(text(3), "3 a day, less than 0.01 USD a month");
        assert_eq!(text(1_785_600), "1,785,600 a day, 267.84 USD a month");
    }
}
