//! A record as a syslog message, RFC 5424.
//!
//! ```text
//! <134>1 2023-07-19T08:49:16Z HOST trailspool - CloudTrail [trailspool@32473 source="…" bucket="…" key="…" index="0"
//!     account="…" domain="…" kind="…" principal="…" directory_mail="…"] <record>                    (one line)
//! ```
//!
//! * TIMESTAMP is the record's own `eventTime`, never the time of sending; `-` if it has none that RFC 5424 can express.
//! * HOSTNAME and APP-NAME are configured, PROCID is `-`, MSGID is `CloudTrail`.
//! * STRUCTURED-DATA says where the record comes from and, where one is derived, which account is behind it
//!   and what a directory says of that (`directory_` and the attribute's name). Its SD-ID is
//!   configured: RFC 5424 wants `name@number` with the private enterprise number of whoever defines it. The default has
//!   32473, which RFC 5612 sets aside for examples, so it collides with nobody's; who has a number writes their own.
//!   `"`, `\` and `]` in values are escaped, control characters become `?`.
//! * MSG is the record (or its envelope), on one line as in [`format`]. No byte order mark stands before it, although
//!   RFC 5424 recommends one for UTF-8: a receiver that takes the message for JSON would trip over it. Without it the
//!   message is MSG-ANY, which may be UTF-8 as well (section 6.4).
//!
//! Around the message stands the transport's frame ([`Framing`]).

use super::encoding::Record;
use super::format::{self, append_number, digits};
use crate::config::{Format, Syslog};
use crate::decode::field::{self, Field, Path};
use crate::select::Attribution;

/// Longest date and time of RFC 5424: `2003-10-11T22:14:15.123456+01:00`.
const TIME_BYTES: usize = 32;

/// What stands around a message on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// Nothing: one datagram or one RELP frame a message.
    None,
    /// `LENGTH SP MESSAGE`. RFC 6587, section 3.4.1; RFC 5425, section 4.3.
    OctetCounting,
    /// `MESSAGE LF`. RFC 6587, section 3.4.2.
    LineFeed,
}

/// How an output writes syslog messages.
#[derive(Debug, Clone)]
pub struct Messages {
    /// Everything before TIMESTAMP, with its space.
    head: Box<[u8]>,
    /// Everything between TIMESTAMP and STRUCTURED-DATA, with its spaces.
    middle: Box<[u8]>,
    sd_id: Option<Box<str>>,
    format: Format,
    framing: Framing,
    event_time: Path,
}

/// What was found out for a message's length.
#[derive(Debug)]
pub(super) struct Parts<'a> {
    time: &'a [u8],
    /// Of the message without its frame.
    message_bytes: usize,
    /// With it.
    pub(super) len: usize,
}

impl Messages {
    /// As configured.
    pub fn new(syslog: &Syslog, format: Format, framing: Framing) -> Messages {
        let Syslog { priority, hostname, app_name, sd_id } = syslog;
        Messages {
            head: format!("<{priority}>1 ").into_bytes().into(),
            middle: format!(" {hostname} {app_name} - CloudTrail ").into_bytes().into(),
            sd_id: sd_id.clone(),
            format,
            framing,
            event_time: Path::new("eventTime"),
        }
    }

    /// Whether the account behind a record is wanted.
    pub(super) fn wants_attribution(&self) -> bool {
        self.sd_id.is_some() || format::wants_attribution(self.format)
    }

    pub(super) fn parts<'a>(&self, record: Record<'a>, attribution: Option<&Attribution>) -> Parts<'a> {
        let time = match field::find(record.bytes, &self.event_time) {
            Field::Text(text) if is_time(text) => text,
            _ => b"-",
        };
        let data = match &self.sd_id {
            Some(sd_id) => {
                let params = params(record, attribution);
                let params = params.iter().flatten().map(|(name, value)| name.len() + value_len(value) + 4);
                let params = params.sum::<usize>() + directory_len(attribution);
                1 + sd_id.len() + params + " index=\"\"".len() + digits(record.index) + 1
            }
            None => 1,
        };
        let Record { object, index, bytes } = record;
        // the format's line break is not sent: the frame says where the message ends
        let text = format::encoded_len(self.format, object, index, attribution, bytes) - 1;
        let message_bytes = self.head.len() + time.len() + self.middle.len() + data + 1 + text;
        let frame = match self.framing {
            Framing::None => 0,
            Framing::OctetCounting => digits(message_bytes as u32) + 1,
            Framing::LineFeed => 1,
        };
        Parts { time, message_bytes, len: message_bytes + frame }
    }

    pub(super) fn append(
        &self,
        record: Record<'_>,
        attribution: Option<&Attribution>,
        parts: &Parts<'_>,
        out: &mut Vec<u8>,
    ) {
        out.reserve(parts.len + 1); // the format's line break stands there for a moment
        if self.framing == Framing::OctetCounting {
            append_number(parts.message_bytes as u32, out);
            out.push(b' ');
        }
        out.extend_from_slice(&self.head);
        out.extend_from_slice(parts.time);
        out.extend_from_slice(&self.middle);
        match &self.sd_id {
            Some(sd_id) => append_data(sd_id, record, attribution, out),
            None => out.push(b'-'),
        }
        out.push(b' ');
        let Record { object, index, bytes } = record;
        format::append(self.format, object, index, attribution, bytes, out);
        if self.framing != Framing::LineFeed {
            out.pop();
        }
    }
}

/// The length of the message in an encoded record.
pub fn message_len(framing: Framing, line: &[u8]) -> usize {
    match framing {
        Framing::None => line.len(),
        Framing::OctetCounting => line.len() - memchr::memchr(b' ', line).map_or(0, |space| space + 1),
        Framing::LineFeed => line.len().saturating_sub(1),
    }
}

/// The parameters but for the index, which is a number.
fn params<'a>(record: Record<'a>, account: Option<&'a Attribution>) -> [Option<(&'static str, &'a str)>; 7] {
    [
        Some(("source", &*record.object.source)),
        Some(("bucket", &*record.object.bucket)),
        Some(("key", &*record.object.key)),
        account.map(|account| ("account", account.account())),
        account.and_then(Attribution::domain).map(|domain| ("domain", domain)),
        account.map(|account| ("kind", account.kind().label())),
        account.and_then(Attribution::principal).map(|principal| ("principal", principal)),
    ]
}

fn append_data(sd_id: &str, record: Record<'_>, account: Option<&Attribution>, out: &mut Vec<u8>) {
    out.push(b'[');
    out.extend_from_slice(sd_id.as_bytes());
    for (at, (name, value)) in params(record, account).into_iter().flatten().enumerate() {
        if at == 3 {
            append_index(record.index, out);
        }
        out.push(b' ');
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b"=\"");
        append_value(value, out);
        out.push(b'"');
    }
    if account.is_none() {
        append_index(record.index, out);
    }
    for (name, value) in directory(account) {
        out.extend_from_slice(DIRECTORY);
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b"=\"");
        append_value(value, out);
        out.push(b'"');
    }
    out.push(b']');
}

const DIRECTORY: &[u8] = b" directory_";

fn directory(account: Option<&Attribution>) -> impl Iterator<Item = (&str, &str)> {
    account.and_then(Attribution::directory).into_iter().flat_map(|entry| entry.iter())
}

fn directory_len(account: Option<&Attribution>) -> usize {
    let around = DIRECTORY.len() + "=\"\"".len();
    directory(account).map(|(name, value)| around + name.len() + value_len(value)).sum()
}

fn append_index(index: u32, out: &mut Vec<u8>) {
    out.extend_from_slice(b" index=\"");
    append_number(index, out);
    out.push(b'"');
}

fn must_escape(byte: u8) -> bool {
    matches!(byte, b'"' | b'\\' | b']')
}

fn value_len(value: &str) -> usize {
    value.len() + value.bytes().filter(|&byte| must_escape(byte)).count()
}

fn append_value(value: &str, out: &mut Vec<u8>) {
    for byte in value.bytes() {
        if must_escape(byte) {
            out.push(b'\\');
        }
        out.push(if byte.is_ascii_control() { b'?' } else { byte });
    }
}

/// Whether RFC 5424 takes a time stamp as it stands: RFC 3339 with `T` and `Z` in capitals and at most six digits of a
/// second's fraction. It knows no leap second.
fn is_time(text: &[u8]) -> bool {
    if text.len() > TIME_BYTES || text.len() < "2003-10-11T22:14:15Z".len() {
        return false;
    }
    let (shape, rest) = text.split_at("2003-10-11T22:14:15".len());
    let fits = |shape: &[u8], like: &[u8]| {
        shape.len() == like.len()
            && shape.iter().zip(like).all(|(byte, like)| match like {
                b'0' => byte.is_ascii_digit(),
                like => byte == like,
            })
    };
    if !fits(shape, b"0000-00-00T00:00:00") {
        return false;
    }
    let number = |at: usize| (shape[at] - b'0') * 10 + (shape[at + 1] - b'0');
    let in_range = (1..=12).contains(&number(5))
        && (1..=31).contains(&number(8))
        && number(11) < 24
        && number(14) < 60
        && number(17) < 60;
    let zone = match rest.strip_prefix(b".") {
        Some(fraction) => {
            let digits = fraction.iter().take_while(|byte| byte.is_ascii_digit()).count();
            if !(1..=6).contains(&digits) {
                return false;
            }
            &fraction[digits..]
        }
        None => rest,
    };
    let offset = |zone: &[u8]| (zone[1] - b'0') * 10 + (zone[2] - b'0') < 24 && zone[4] < b'6';
    in_range && (zone == b"Z" || ((fits(zone, b"+00:00") || fits(zone, b"-00:00")) && offset(zone)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::ObjectId;
    use proptest::prelude::*;

    fn messages(sd_id: Option<&str>, format: Format, framing: Framing) -> Messages {
        let syslog = Syslog {
            priority: 134,
            hostname: "box1".into(),
            app_name: "trailspool".into(),
            sd_id: sd_id.map(Into::into),
        };
        Messages::new(&syslog, format, framing)
    }

    fn object(key: &str) -> ObjectId {
        ObjectId { source: "prod".into(), bucket: "acme".into(), key: key.into() }
    }

    fn encoded(messages: &Messages, object: &ObjectId, index: u32, bytes: &[u8]) -> Vec<u8> {
        let record = Record { object, index, bytes };
        let parts = messages.parts(record, None);
        let mut out = Vec::new();
        messages.append(record, None, &parts, &mut out);
        assert_eq!(out.len(), parts.len);
        out
    }

    #[test]
    fn a_message_has_the_records_time_and_place_and_then_the_record() {
        let record = br#"{"eventVersion":"1.08","eventTime":"2023-07-19T08:49:16Z","a":"\u003d"}"#;
        let want = concat!(
            "<134>1 2023-07-19T08:49:16Z box1 trailspool - CloudTrail ",
            r#"[trailspool@32473 source="prod" bucket="acme" key="AWSLogs/k\"\\\].json.gz" index="12"] "#,
        );
        let messages = |framing| messages(Some("trailspool@32473"), Format::Raw, framing);
        let object = object("AWSLogs/k\"\\].json.gz");
        let got = encoded(&messages(Framing::None), &object, 12, record);
        assert_eq!(got, [want.as_bytes(), record].concat());

        let counted = encoded(&messages(Framing::OctetCounting), &object, 12, record);
        assert_eq!(counted, [format!("{} ", got.len()).as_bytes(), &got].concat());
        assert_eq!(message_len(Framing::OctetCounting, &counted), got.len());
        let line = encoded(&messages(Framing::LineFeed), &object, 12, record);
        assert_eq!(line, [&got[..], b"\n"].concat());
        assert_eq!(message_len(Framing::LineFeed, &line), got.len());
    }

    #[test]
    fn the_time_is_never_that_of_sending_azure_sentinel_9145() {
        for (text, good) in [
            ("2023-07-19T08:49:16Z", true),
            ("2023-07-19T08:49:16.1Z", true),
            ("2023-07-19T08:49:16.123456+05:30", true),
            ("2023-07-19T08:49:16.1234567Z", false),
            ("2023-07-19T08:49:16.Z", false),
            ("2023-07-19t08:49:16Z", false),
            ("2023-07-19 08:49:16Z", false),
            ("2023-13-19T08:49:16Z", false),
            ("2023-07-19T08:49:60Z", false),
            ("2023-07-19T08:49:16", false),
            ("2023-07-19T08:49:16+99:00", false),
            ("", false),
        ] {
            let record = format!("{{\"eventTime\":\"{text}\"}}");
            let got =
                encoded(&messages(None, Format::Raw, Framing::None), &object("k"), 0, record.as_bytes());
            let time = if good { text } else { "-" };
            let want = format!("<134>1 {time} box1 trailspool - CloudTrail - {record}");
            assert_eq!(String::from_utf8(got).unwrap(), want);
        }
        let none = encoded(&messages(None, Format::Raw, Framing::None), &object("k"), 0, b"{}");
        assert!(none.starts_with(b"<134>1 - box1"));
    }

    #[test]
    fn what_a_directory_says_is_structured_data_too() {
        let messages = messages(Some("a@1"), Format::Raw, Framing::OctetCounting);
        let attribution = format::tests::known(&[("mail", "j]s@x"), ("cn", ""), ("sn", "Smith")]);
        let object = object("k");
        let record = Record { object: &object, index: 0, bytes: b"{}" };
        let parts = messages.parts(record, Some(&attribution));
        let mut out = Vec::new();
        messages.append(record, Some(&attribution), &parts, &mut out);
        assert_eq!(out.len(), parts.len);
        let want = concat!(
            r#"[a@1 source="prod" bucket="acme" key="k" index="0" account="j" kind="IAMUser" "#,
            r#"directory_mail="j\]s@x" directory_sn="Smith"] {}"#
        );
        assert!(String::from_utf8(out).unwrap().ends_with(want));
    }

    #[test]
    fn the_envelope_may_be_the_message() {
        let got = encoded(&messages(None, Format::Envelope, Framing::None), &object("k"), 3, b"{}");
        assert!(got.ends_with(
            br#" - {"source":"prod","bucket":"acme","key":"k","index":3,"attribution":null,"record":{}}"#
        ));
    }

    proptest! {
        #[test]
        fn whatever_a_record_and_its_key_hold_a_message_is_one_line_of_the_announced_length(
            record in proptest::collection::vec(prop_oneof![Just(b'\n'), Just(b']'), any::<u8>()], 0..300),
            key in any::<String>(), index in any::<u32>(), envelope in any::<bool>(), with_data in any::<bool>(),
        ) {
            let format = if envelope { Format::Envelope } else { Format::Raw };
            let messages = |framing| messages(with_data.then_some("a@1"), format, framing);
            let object = object(&key);
            let message = encoded(&messages(Framing::None), &object, index, &record);
            prop_assert_eq!(memchr::memchr2(b'\n', b'\r', &message), None);
            let counted = encoded(&messages(Framing::OctetCounting), &object, index, &record);
            prop_assert_eq!(counted, [format!("{} ", message.len()).as_bytes(), &message].concat());
            let line = encoded(&messages(Framing::LineFeed), &object, index, &record);
            prop_assert_eq!(line, [&message[..], b"\n"].concat());
        }
    }
}
