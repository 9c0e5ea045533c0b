//! What Splunk's HTTP Event Collector says. Source: Splunk Enterprise, "Troubleshoot HTTP Event Collector", the table of
//! status codes; "About HTTP Event Collector Indexer Acknowledgment".
//!
//! ```text
//! {"text":"Success","code":0,"ackId":7}
//! {"text":"Invalid data format","code":6,"invalid-event-number":3}
//! {"acks":{"7":true}}
//! ```
//!
//! Events are sent again without harm to the cursor: an answer with an `invalid-event-number` leaves open what became of
//! the events before it, so all count as unanswered, and the number only says where to look.

use std::fmt::Write as _;

use crate::decode::field::{self, Field, Path};

/// The folder of the collector's endpoints.
pub const COLLECTOR: &str = "/services/collector";

/// An answer to a request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Said {
    /// `None`: this is not the collector's answer.
    pub code: Option<u64>,
    /// What has to be asked for to learn whether the events are indexed.
    pub ack: Option<u64>,
    /// The first event that is bad, from 0.
    pub invalid: Option<u64>,
}

/// What a code means for the events that were sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meaning {
    /// They are taken.
    Success,
    /// Something in them is bad.
    Bad,
    /// Too many for now.
    Busy,
    /// The collector, or what stands behind it, fails.
    Unavailable,
    /// Somebody has to change something; how.
    Hold(&'static str),
    /// A code that this version does not know: the status decides.
    Unknown,
}

/// Reads an answer.
pub fn read(body: &[u8]) -> Said {
    let number = |path: &str| match field::find(body, &Path::new(path)) {
        Field::Number(digits) => std::str::from_utf8(digits).ok()?.parse().ok(),
        _ => None,
    };
    match body.trim_ascii_start().first() {
        Some(b'{') => {
            Said { code: number("code"), ack: number("ackId"), invalid: number("invalid-event-number") }
        }
        _ => Said::default(),
    }
}

/// What a code means.
pub fn meaning(code: u64) -> Meaning {
    match code {
        0 => Meaning::Success,
        1 | 22 => Meaning::Hold("the token is disabled: enable it in Splunk (Settings, Data inputs)"),
        2..=4 | 21 => Meaning::Hold("check the output's token (`splunk_token_file`)"),
        5 | 6 | 12 | 13 | 15 => Meaning::Bad,
        7 => Meaning::Hold("the token may not write to the output's `index`, or it does not exist"),
        8 => Meaning::Unavailable,
        9 | 24..=27 => Meaning::Busy,
        10 | 11 => Meaning::Hold("check the output's `channel`"),
        14 => Meaning::Hold(
            "the token has no indexer acknowledgement: switch it on in Splunk, or write `ack = false`",
        ),
        18..=20 | 23 => Meaning::Unavailable,
        _ => Meaning::Unknown,
    }
}

/// The body that asks whether events are indexed.
pub fn question(ack: u64) -> String {
    format!("{{\"acks\":[{ack}]}}")
}

/// Whether they are; `None`: this is not an answer to the question.
pub fn is_indexed(body: &[u8], ack: u64) -> Option<bool> {
    match field::find(body, &Path::new(&format!("acks.{ack}"))) {
        Field::Bool(indexed) => Some(indexed),
        _ => None,
    }
}

/// The path and query of another endpoint of the collector that `path` belongs to.
pub fn sibling(path: &str, endpoint: &str, channel: Option<&str>) -> String {
    let prefix = path.rfind(COLLECTOR).map_or("", |at| &path[..at]);
    let mut sibling = format!("{prefix}{COLLECTOR}/{endpoint}");
    if let Some(channel) = channel {
        // writing to a text cannot fail
        let _ = write!(sibling, "?channel={channel}");
    }
    sibling
}

/// A random GUID of version 4 from 128 random bits.
pub fn guid(random: u128) -> String {
    let id = (random & !(0xf << 76) & !(0b11 << 62)) | (4 << 76) | (0b10 << 62);
    let hex = format!("{id:032x}");
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read() {
        let said = read(br#"{"text":"Invalid data format","code":6,"invalid-event-number":3}"#);
        assert_eq!(said, Said { code: Some(6), ack: None, invalid: Some(3) });
        assert_eq!(read(br#"{"text":"Success","code":0,"ackId":12}"#).ack, Some(12));
        assert_eq!(read(b"<html>"), Said::default());
        assert_eq!(read(b"{}").code, None);
        assert_eq!(is_indexed(br#"{"acks":{"1":true,"12":false}}"#, 12), Some(false));
        assert_eq!(is_indexed(br#"{"acks":{"1":true,"12":false}}"#, 1), Some(true));
        assert_eq!(is_indexed(br#"{"acks":{"1":true}}"#, 2), None);
        assert_eq!(question(5), r#"{"acks":[5]}"#);
    }

    #[test]
    fn a_guid_has_its_version_and_variant() {
        assert_eq!(guid(0), "00000000-0000-4000-8000-000000000000");
        assert_eq!(guid(u128::MAX), "ffffffff-ffff-4fff-bfff-ffffffffffff");
    }

    #[test]
    fn endpoints_behind_a_gateway_stay_there() {
        let at = |path| sibling(path, "ack", Some("c"));
        assert_eq!(at("/services/collector/event"), "/services/collector/ack?channel=c");
        assert_eq!(at("/gate/services/collector/raw"), "/gate/services/collector/ack?channel=c");
        assert_eq!(sibling("/services/collector", "health", None), "/services/collector/health");
    }
}
