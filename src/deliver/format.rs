//! What is written for one record.
//!
//! ```text
//! raw       <record>\n
//! envelope  {"source":"…","bucket":"…","key":"…","index":<n>,"attribution":<attribution>,"record":<record>}\n
//! ```
//!
//! `<record>` is the record byte for byte as it stood in the object, with one exception: a raw CR or LF
//! becomes a space, because both formats are lines. Only objects that somebody rewrote (pretty-printed)
//! contain them. They stand between JSON tokens, where any white space means the same; inside a JSON
//! string they are not valid (RFC 8259, section 7). The length never changes, so what was forwarded can
//! be compared with the object position by position.
//!
//! `<attribution>` is `null` or the account behind the record, of which `domain` and `principal` may be null:
//!
//! ```text
//! {"account":"jsmith","domain":"corp.example.com","kind":"AssumedRole","principal":"arn:aws:sts::…"}
//! ```
//!
//! Where a directory is asked and knows the account, its attributes stand behind `principal`, those that it has:
//!
//! ```text
//! "directory":{"sAMAccountName":"jsmith","userPrincipalName":"jsmith@corp.example.com","mail":"j.smith@example.com"}
//! ```
//!
//! In the envelope's own strings `"`, `\` and U+0000 to U+001F are escaped, everything else is UTF-8 as
//! it is.

use std::fmt::Write as _;

use crate::config::Format;
use crate::record::ObjectId;
use crate::select::Attribution;

/// Bytes that [`append`] will add.
pub fn encoded_len(
    format: Format,
    object: &ObjectId,
    index: u32,
    attribution: Option<&Attribution>,
    record: &[u8],
) -> usize {
    match format {
        Format::Raw => record.len() + 1,
        Format::Envelope => {
            let names: usize =
                [&object.source, &object.bucket, &object.key].into_iter().map(|s| escaped_len(s)).sum();
            SKELETON_BYTES + names + digits(index) + attribution_len(attribution) + record.len()
        }
    }
}

/// Whether lines of this format say which account is behind the record.
pub fn wants_attribution(format: Format) -> bool {
    match format {
        Format::Raw => false,
        Format::Envelope => true,
    }
}

/// Adds one line to `out`.
pub fn append(
    format: Format,
    object: &ObjectId,
    index: u32,
    attribution: Option<&Attribution>,
    record: &[u8],
    out: &mut Vec<u8>,
) {
    out.reserve(encoded_len(format, object, index, attribution, record));
    match format {
        Format::Raw => append_on_one_line(record, out),
        Format::Envelope => {
            for (name, value) in SKELETON.into_iter().zip([&object.source, &object.bucket, &object.key]) {
                out.extend_from_slice(name);
                append_escaped(value, out);
            }
            out.extend_from_slice(INDEX);
            append_number(index, out);
            out.extend_from_slice(ATTRIBUTION);
            append_attribution(attribution, out);
            out.extend_from_slice(RECORD);
            append_on_one_line(record, out);
            out.push(b'}');
        }
    }
    out.push(b'\n');
}

const SKELETON: [&[u8]; 3] = [b"{\"source\":\"", b"\",\"bucket\":\"", b"\",\"key\":\""];
const INDEX: &[u8] = b"\",\"index\":";
const ATTRIBUTION: &[u8] = b",\"attribution\":";
const RECORD: &[u8] = b",\"record\":";
const SKELETON_BYTES: usize = SKELETON[0].len()
    + SKELETON[1].len()
    + SKELETON[2].len()
    + INDEX.len()
    + ATTRIBUTION.len()
    + RECORD.len()
    + b"}\n".len();

/// The members of an attribution, in order.
fn members(attribution: &Attribution) -> [(&'static str, Option<&str>); 4] {
    [
        ("{\"account\":", Some(attribution.account())),
        (",\"domain\":", attribution.domain()),
        (",\"kind\":", Some(attribution.kind().label())),
        (",\"principal\":", attribution.principal()),
    ]
}

fn attribution_len(attribution: Option<&Attribution>) -> usize {
    let Some(attribution) = attribution else { return NULL.len() };
    let member = |(name, value): (&str, Option<&str>)| {
        name.len() + value.map_or(NULL.len(), |text| escaped_len(text) + 2)
    };
    members(attribution).into_iter().map(member).sum::<usize>() + directory_len(attribution) + 1
}

fn directory_len(attribution: &Attribution) -> usize {
    let Some(entry) = attribution.directory() else { return 0 };
    // each value with four quotes, a colon, and a comma or the opening brace before it
    let value = |(name, value): (&str, &str)| name.len() + escaped_len(value) + 6;
    DIRECTORY.len() + entry.iter().map(value).sum::<usize>() + 1
}

fn append_attribution(attribution: Option<&Attribution>, out: &mut Vec<u8>) {
    let Some(attribution) = attribution else { return out.extend_from_slice(NULL) };
    for (name, value) in members(attribution) {
        out.extend_from_slice(name.as_bytes());
        match value {
            None => out.extend_from_slice(NULL),
            Some(text) => {
                out.push(b'"');
                append_escaped(text, out);
                out.push(b'"');
            }
        }
    }
    if let Some(entry) = attribution.directory() {
        out.extend_from_slice(DIRECTORY);
        for (at, (name, value)) in entry.iter().enumerate() {
            out.extend_from_slice(if at == 0 { b"{\"" } else { b",\"" });
            append_escaped(name, out);
            out.extend_from_slice(b"\":\"");
            append_escaped(value, out);
            out.push(b'"');
        }
        out.push(b'}');
    }
    out.push(b'}');
}

const DIRECTORY: &[u8] = b",\"directory\":";
const NULL: &[u8] = b"null";

fn append_on_one_line(record: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(record);
    let mut rest = &mut out[start..];
    while let Some(at) = memchr::memchr2(b'\n', b'\r', rest) {
        rest[at] = b' ';
        rest = &mut rest[at + 1..];
    }
}

fn must_escape(byte: u8) -> bool {
    byte < 0x20 || byte == b'"' || byte == b'\\'
}

fn escaped_len(text: &str) -> usize {
    text.bytes()
        .map(|byte| match byte {
            b'"' | b'\\' => 2,
            0..0x20 => 6,
            _ => 1,
        })
        .sum()
}

/// Adds a text as it stands between the quotes of a JSON string.
pub(crate) fn append_escaped(text: &str, out: &mut Vec<u8>) {
    append_bytes_escaped(text.as_bytes(), out);
}

/// The same for the bytes of a text.
pub(crate) fn append_bytes_escaped(text: &[u8], out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let mut rest = text;
    while let Some(at) = rest.iter().position(|&byte| must_escape(byte)) {
        out.extend_from_slice(&rest[..at]);
        match rest[at] {
            byte @ (b'"' | b'\\') => out.extend_from_slice(&[b'\\', byte]),
            byte => {
                out.extend_from_slice(b"\\u00");
                out.extend_from_slice(&[HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
            }
        }
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest);
}

pub(super) fn digits(number: u32) -> usize {
    number.checked_ilog10().map_or(1, |log| log as usize + 1)
}

pub(super) fn append_number(number: u32, out: &mut Vec<u8>) {
    let mut text = heapless::String::<10>::new();
    // ten digits hold every u32, so this cannot fail
    let _ = write!(text, "{number}");
    out.extend_from_slice(text.as_bytes());
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::config::{self, Source};
    use crate::directory::{Asked, Entry, Lookup};
    use crate::discover::testing;
    use crate::select::{Attributor, Attributors};
    use proptest::prelude::*;

    struct Known(Arc<Entry>);

    impl Lookup for Known {
        fn find(&self, _: Asked<'_>) -> Option<Arc<Entry>> {
            Some(self.0.clone())
        }
    }

    /// Those of source `s`, whose users a directory has, all with these attributes.
    pub(in super::super) fn knowing(attributes: &[(&str, &str)]) -> Attributors {
        let names = attributes.iter().map(|&(name, _)| name.into()).collect();
        let values: Vec<_> = attributes.iter().map(|(_, value)| Some((*value).to_owned())).collect();
        let entry = Arc::new(Entry::new(names, &values).expect("a value"));
        let source = Source { attribution: config::Attribution::ShortName, ..testing::source("s") };
        Attributors::new(&[source]).with_directory(Some(Arc::new(Known(entry))))
    }

    pub(in super::super) const USER: &[u8] = br#"{"userIdentity":{"type":"IAMUser","userName":"j"}}"#;

    /// The account of [`USER`].
    pub(in super::super) fn known(attributes: &[(&str, &str)]) -> Attribution {
        knowing(attributes).attribute("s", USER).expect("a user")
    }

    fn object(source: &str, bucket: &str, key: &str) -> ObjectId {
        ObjectId { source: source.into(), bucket: bucket.into(), key: key.into() }
    }

    fn line(format: Format, object: &ObjectId, index: u32, record: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        append(format, object, index, None, record, &mut out);
        out
    }

    #[test]
    fn raw_is_the_record_and_a_newline() {
        let record = br#"{"a":1.688560107857E9,"b":"\u003d"}"#;
        let got = line(Format::Raw, &object("s", "b", "k"), 0, record);
        assert_eq!(got, [&record[..], b"\n"].concat());
    }

    #[test]
    fn the_envelope_goes_around_the_record() {
        let got = line(Format::Envelope, &object("prod", "acme", "AWSLogs/a.json.gz"), 7, br#"{"a":1}"#);
        let want = concat!(
            r#"{"source":"prod","bucket":"acme","key":"AWSLogs/a.json.gz","#,
            r#""index":7,"attribution":null,"record":{"a":1}}"#,
            "\n"
        );
        assert_eq!(std::str::from_utf8(&got), Ok(want));
    }

    #[test]
    fn the_envelope_says_which_account_is_behind_the_record() {
        let source = Source { attribution: config::Attribution::ShortName, ..testing::source("s") };
        let envelope = |record: &str| {
            let attribution = Attributor::new(&source).attribute(record.as_bytes());
            let (id, mut out) = (object("s", "b", "k"), Vec::new());
            append(Format::Envelope, &id, 0, attribution.as_ref(), record.as_bytes(), &mut out);
            let bytes = encoded_len(Format::Envelope, &id, 0, attribution.as_ref(), record.as_bytes());
            assert_eq!(out.len(), bytes);
            let line: serde_json::Value = serde_json::from_slice(&out).unwrap();
            line["attribution"].to_string()
        };
        let record =
            r#"{"userIdentity":{"type":"AssumedRole","principalId":"AROA:j\"s\u003d@corp.example.com"}}"#;
        assert_eq!(
            envelope(record),
            r#"{"account":"j\"s=","domain":"corp.example.com","kind":"AssumedRole","principal":"AROA:j\"s=@corp.example.com"}"#
        );
        let service = r#"{"userIdentity":{"type":"AWSService","invokedBy":"config.amazonaws.com"}}"#;
        assert_eq!(
            envelope(service),
            r#"{"account":"config.amazonaws.com","domain":null,"kind":"AWSService","principal":null}"#
        );
        assert_eq!(envelope("{}"), "null");
    }

    #[test]
    fn what_a_directory_says_stands_behind_what_is_derived() {
        let attribution = known(&[("mail", "j\"s@x"), ("cn", ""), ("sn", "Smith")]);
        let (id, mut out) = (object("s", "b", "k"), Vec::new());
        append(Format::Envelope, &id, 0, Some(&attribution), b"{}", &mut out);
        assert_eq!(out.len(), encoded_len(Format::Envelope, &id, 0, Some(&attribution), b"{}"));
        let want = concat!(
            r#"{"source":"s","bucket":"b","key":"k","index":0,"attribution":{"account":"j","domain":null,"#,
            r#""kind":"IAMUser","principal":null,"directory":{"mail":"j\"s@x","sn":"Smith"}},"record":{}}"#,
            "\n"
        );
        assert_eq!(std::str::from_utf8(&out), Ok(want));
    }

    #[test]
    fn line_breaks_between_tokens_become_spaces_and_nothing_else_changes() {
        let pretty = b"{\r\n\t\"a\": \"x\\ny\xc3\xa9\",\n}";
        let want = b"{  \t\"a\": \"x\\ny\xc3\xa9\", }\n";
        assert_eq!(line(Format::Raw, &object("s", "b", "k"), 0, pretty), want);
    }

    #[test]
    fn a_key_of_quotes_and_control_characters_stays_one_json_string() {
        let got = line(Format::Envelope, &object("s", "b", "a\"\\\n\u{1}\u{7f}é"), 0, b"{}");
        let got = String::from_utf8(got).unwrap();
        assert!(got.contains("\"key\":\"a\\\"\\\\\\u000a\\u0001\u{7f}é\",\"index\""), "{got}");
    }

    /// Reads a JSON string the plain way; returns it and what follows the closing quote.
    fn read_string(text: &[u8]) -> (String, &[u8]) {
        let mut out = Vec::new();
        let mut at = 1;
        assert_eq!(text[0], b'"');
        loop {
            match text[at] {
                b'"' => return (String::from_utf8(out).unwrap(), &text[at + 1..]),
                b'\\' if text[at + 1] == b'u' => {
                    let hex = std::str::from_utf8(&text[at + 2..at + 6]).unwrap();
                    out.push(u8::from_str_radix(hex, 16).unwrap());
                    at += 6;
                }
                b'\\' => {
                    assert!(matches!(text[at + 1], b'"' | b'\\'));
                    out.push(text[at + 1]);
                    at += 2;
                }
                byte => {
                    assert!(byte >= 0x20, "raw control character");
                    out.push(byte);
                    at += 1;
                }
            }
        }
    }

    proptest! {
        #[test]
        fn an_envelope_reads_back_to_its_parts(
            source in any::<String>(), bucket in any::<String>(), key in any::<String>(),
            index in any::<u32>(), record in proptest::collection::vec(any::<u8>(), 0..300),
        ) {
            let id = object(&source, &bucket, &key);
            let got = line(Format::Envelope, &id, index, &record);
            prop_assert_eq!(got.len(), encoded_len(Format::Envelope, &id, index, None, &record));
            let mut rest = &got[..];
            for (name, value) in [("{\"source\":", &source), (",\"bucket\":", &bucket), (",\"key\":", &key)] {
                let (text, after) = read_string(rest.strip_prefix(name.as_bytes()).unwrap());
                prop_assert_eq!(&text, value);
                rest = after;
            }
            let middle = format!(",\"index\":{index},\"attribution\":null,\"record\":");
            let rest = rest.strip_prefix(middle.as_bytes()).unwrap().strip_suffix(b"}\n").unwrap();
            prop_assert_eq!(rest.len(), record.len());
            for (&got, &was) in rest.iter().zip(&record) {
                prop_assert_eq!(got, if was == b'\r' || was == b'\n' { b' ' } else { was });
            }
        }

        #[test]
        fn every_line_is_one_line_of_the_announced_length(
            record in proptest::collection::vec(prop_oneof![Just(b'\n'), Just(b'\r'), any::<u8>()], 0..300),
            index in any::<u32>(), key in any::<String>(),
        ) {
            let id = object("s", "b", &key);
            for format in [Format::Raw, Format::Envelope] {
                let got = line(format, &id, index, &record);
                prop_assert_eq!(got.len(), encoded_len(format, &id, index, None, &record));
                prop_assert_eq!(memchr::memchr2(b'\n', b'\r', &got), Some(got.len() - 1));
            }
        }
    }
}
