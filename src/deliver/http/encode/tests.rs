//! Each preset's records, read back by an independent parser.

use proptest::prelude::*;
use serde_json::Value;
use serde_json::value::RawValue;

use super::*;
use crate::config::OnFull;
use crate::config::http::{Http, Loki};
use crate::record::ObjectId;
use std::collections::HashMap;
use std::time::Duration;

const RECORD: &str = r#"{"eventVersion":"1.08","eventTime":"2023-07-05T12:28:27Z","eventID":"3038ebd2-c98a-4c65-9b6e-e22506292313","x":1.688560107857E9,"y":"\u003d"}"#;
const KEY: &str = "AWSLogs/111122223333/CloudTrail/us-west-2/2023/07/05/111122223333_CloudTrail_us-west-2_20230705T1230Z_AbCdEfGhIjKlMnOp.json.gz";

fn wire(preset: Preset, format: Format) -> Wire {
    let http = Http {
        url: "http://localhost/".parse().unwrap(),
        preset,
        timeout: Duration::from_secs(1),
        gzip: false,
        auth: None,
        headers: Vec::new(),
        idempotency: None,
        trust: Default::default(),
        proxies: Default::default(),
    };
    let output = Output {
        name: "o".into(),
        kind: OutputKind::Http(Box::new(http)),
        format,
        batch_bytes: 1,
        batch_records: 1,
        batch_wait: Duration::ZERO,
        on_full: OnFull::Hold,
        concurrency: 1,
    };
    Wire::of(&output).unwrap()
}

fn encoded(preset: Preset, format: Format, record: &[u8]) -> Vec<u8> {
    let object = ObjectId { source: "prod".into(), bucket: "acme".into(), key: KEY.into() };
    let mut out = Vec::new();
    wire(preset, format).append(Record { object: &object, index: 7, bytes: record }, None, &mut out);
    out
}

fn hec() -> Hec {
    Hec { sourcetype: "aws:cloudtrail".into(), ..Hec::default() }
}

fn labels() -> Preset {
    Preset::Loki(Loki { labels: vec![("job".into(), "trail".into())] })
}

#[test]
fn a_hec_event_has_the_records_time_and_its_bytes() {
    let all = Hec { host: Some("edge \"1\"".into()), index: Some("aws".into()), ..hec() };
    let got = encoded(Preset::SplunkHec(all), Format::Raw, RECORD.as_bytes());
    let event: HashMap<String, &RawValue> = serde_json::from_slice(&got).unwrap();
    assert_eq!(event["time"].get(), "1688560107", "never the time of sending (Azure/Azure-Sentinel#9145)");
    assert_eq!(event["event"].get(), RECORD);
    assert_eq!(event["host"].get(), r#""edge \"1\"""#);
    assert_eq!(event["source"].get(), format!("\"s3://acme/{KEY}\""));
    assert_eq!((event["sourcetype"].get(), event["index"].get()), ("\"aws:cloudtrail\"", "\"aws\""));
    assert!(got.ends_with(b"}\n") && !event.contains_key("fields"));

    let without = encoded(Preset::SplunkHec(hec()), Format::Raw, br#"{"eventTime":"yesterday"}"#);
    assert!(!without.windows(6).any(|word| word == b"\"time\""));
}

#[test]
fn a_hec_event_says_what_a_directory_knows() {
    let attribution = crate::deliver::format::tests::known(&[("mail", "j\"s@x"), ("cn", "")]);
    let object = ObjectId { source: "prod".into(), bucket: "acme".into(), key: KEY.into() };
    let mut out = Vec::new();
    let record = Record { object: &object, index: 7, bytes: RECORD.as_bytes() };
    wire(Preset::SplunkHec(hec()), Format::Raw).append(record, Some(&attribution), &mut out);
    let event: Value = serde_json::from_slice(&out).unwrap();
    let want = serde_json::json!({
        "attribution_account": "j", "attribution_kind": "IAMUser", "directory_mail": "j\"s@x",
    });
    assert_eq!(event["fields"], want);
}

#[test]
fn a_bulk_document_is_named_by_its_event_and_its_bytes_and_is_the_records_bytes() {
    let preset = Preset::ElasticBulk(Bulk { replace: false, index: Some("trail".into()) });
    let got = String::from_utf8(encoded(preset, Format::Raw, RECORD.as_bytes())).unwrap();
    let (action, document) = got.split_once('\n').unwrap();
    // as sha256sum says
    let id = "3038ebd2-c98a-4c65-9b6e-e22506292313-fc0e34d0b8ae1a9aace6e39eb72fe87d";
    assert_eq!(action, format!(r#"{{"create":{{"_index":"trail","_id":"{id}"}}}}"#));
    assert_eq!(document, format!("{RECORD}\n"));
    for (record, action) in [
        (r#"{"eventID":"a b"}"#, r#"{"index":{}}"#),
        (r#"{"eventID":7}"#, r#"{"index":{}}"#),
        (r#"{}"#, r#"{"index":{}}"#),
        (r#"{"eventID":"A-1"}"#, r#"{"index":{"_id":"A-1-95d55ff778ca630194fbc7bc9db7a6cd"}}"#),
        (r#"{"eventID":"A-1" }"#, r#"{"index":{"_id":"A-1-5d3abfb873b44020406366351b9bc4e7"}}"#),
    ] {
        let preset = Preset::ElasticBulk(Bulk { replace: true, index: None });
        let got = String::from_utf8(encoded(preset, Format::Raw, record.as_bytes())).unwrap();
        assert_eq!(got, format!("{action}\n{record}\n"));
    }
}

#[test]
fn an_envelope_for_elasticsearch_has_the_time_that_data_streams_want() {
    let preset = || Preset::ElasticBulk(Bulk::default());
    let got = String::from_utf8(encoded(preset(), Format::Envelope, RECORD.as_bytes())).unwrap();
    let document: HashMap<String, &RawValue> = serde_json::from_str(got.lines().nth(1).unwrap()).unwrap();
    assert_eq!(document["@timestamp"].get(), "\"2023-07-05T12:28:27Z\"");
    assert_eq!(document["record"].get(), RECORD);
    let got = String::from_utf8(encoded(preset(), Format::Envelope, b"{}")).unwrap();
    assert!(got.lines().nth(1).unwrap().starts_with("{\"source\":"), "{got}");
}

#[test]
fn a_loki_entry_unescapes_to_the_records_bytes() {
    let got = encoded(labels(), Format::Raw, RECORD.as_bytes());
    let entry: [String; 2] = serde_json::from_slice(got.strip_suffix(b",").unwrap()).unwrap();
    assert_eq!(entry, ["1688560107000000000".to_owned(), RECORD.to_owned()]);
    let got = encoded(labels(), Format::Raw, b"{}");
    assert!(got.starts_with(b"[\"1688560200000000000\""), "the stamp of the object: 12:30");
}

#[test]
fn times_are_read_as_they_are_written() {
    let time = |text: &str| moment(text.as_bytes()).map(|moment| (moment.seconds, moment.nanos));
    assert_eq!(time("1970-01-01T00:00:00Z"), Some((0, 0)));
    assert_eq!(time("2023-07-05T12:28:27Z"), Some((1_688_560_107, 0)));
    assert_eq!(time("2024-02-29T23:59:59.125Z"), Some((1_709_251_199, 125_000_000)));
    for wrong in [
        "",
        "Z",
        "2023-07-05",
        "2023-02-29T00:00:00Z",
        "2023-07-05T24:00:00Z",
        "2023-07-05T12:28:27",
        "2023-07-05T12:28:27+01:00",
        "2023-07-05 12:28:27Z",
        "2023-07-05T12:28:27.Z",
        "+023-07-05T12:28:27Z",
        "2023-07-05T12:28:27.1234567890Z",
        "2023-07-05T12:28:2éZ",
    ] {
        assert_eq!(time(wrong), None, "{wrong}");
    }
}

proptest! {
    #[test]
    fn every_preset_keeps_every_record_whole(
        text in any::<String>(), number in any::<f64>(), envelope in any::<bool>(),
    ) {
        let record = serde_json::json!({"a": text, "n": number, "eventTime": text, "eventID": text}).to_string();
        let format = if envelope { Format::Envelope } else { Format::Raw };
        let inner = |document: &str| -> String {
            if !envelope { return document.to_owned(); }
            let parts: HashMap<String, &RawValue> = serde_json::from_str(document).unwrap();
            parts["record"].get().to_owned()
        };
        let got = String::from_utf8(encoded(Preset::JsonArray, format, record.as_bytes())).unwrap();
        prop_assert_eq!(inner(got.strip_suffix(',').unwrap()), &record[..]);
        let got = String::from_utf8(encoded(Preset::SplunkHec(hec()), format, record.as_bytes())).unwrap();
        let event: HashMap<String, &RawValue> = serde_json::from_str(&got).unwrap();
        prop_assert_eq!(inner(event["event"].get()), &record[..]);
        let got = String::from_utf8(encoded(Preset::ElasticBulk(Bulk::default()), format, record.as_bytes())).unwrap();
        let lines: Vec<&str> = got.split('\n').collect();
        prop_assert_eq!(lines.len(), 3);
        prop_assert!(serde_json::from_str::<Value>(lines[0]).is_ok());
        prop_assert_eq!(inner(lines[1]), &record[..]);
        let got = String::from_utf8(encoded(labels(), format, record.as_bytes())).unwrap();
        let entry: [String; 2] = serde_json::from_str(got.strip_suffix(',').unwrap()).unwrap();
        prop_assert_eq!(inner(&entry[1]), &record[..]);
    }
}
