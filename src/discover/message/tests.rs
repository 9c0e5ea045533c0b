//! Messages in every shape, each with keys that are hard to write.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

/// Blanks, signs that URLs and forms use, escapes, quotes, characters beyond ASCII and beyond the BMP.
const ODD: [&str; 7] = [
    "plain.json.gz",
    "a b/c  d.json.gz",
    "a+b/c++d.json.gz",
    "100%/%41/%2B.json.gz",
    "ü/日本/😀.json.gz",
    "\"quoted\"\\back\\/slash\u{1}.json.gz",
    "x&y=z;#?:@!$'()*,[].json.gz",
];

fn object(key: &str, size: Option<u64>) -> Object {
    Object { bucket: "trail-bucket".into(), key: key.into(), size }
}

/// As S3 writes keys: form-urlencoded, `/` and a few more left as they are.
fn form(key: &str) -> String {
    key.bytes()
        .map(|byte| match byte {
            b' ' => "+".to_owned(),
            b'/' | b'-' | b'_' | b'.' | b'*' | b'!' | b'(' | b')' => char::from(byte).to_string(),
            byte if byte.is_ascii_alphanumeric() => char::from(byte).to_string(),
            byte => format!("%{byte:02X}"),
        })
        .collect()
}

/// Amazon S3 User Guide, "Event message structure".
fn s3_record(name: &str, key: &str, size: u64) -> Value {
    json!({
        "eventVersion": "2.1", "eventSource": "aws:s3", "awsRegion": "us-west-2", "eventTime": "2026-11-23T12:00:00.000Z",
        "eventName": name, "userIdentity": {"principalId": "AWS:AIDA"},
        "requestParameters": {"sourceIPAddress": "127.0.0.1"}, "responseElements": {"x-amz-request-id": "C3D"},
        "s3": {
            "s3SchemaVersion": "1.0", "configurationId": "trailspool-prod",
            "bucket": {"name": "trail-bucket", "ownerIdentity": {"principalId": "A3"}, "arn": "arn:aws:s3:::trail-bucket"},
            "object": {"key": form(key), "size": size, "eTag": "d41d", "sequencer": "0055AED6DCD90281E5"},
        },
    })
}

fn s3_event(keys: &[&str]) -> Value {
    let records: Vec<_> = keys.iter().map(|key| s3_record("ObjectCreated:Put", key, 7)).collect();
    json!({"Records": records})
}

/// Amazon S3 User Guide, "EventBridge event message structure".
fn event_bridge(detail_type: &str, key: &str) -> Value {
    json!({
        "version": "0", "id": "17793124-05d4-b198-2fde-7ededc63b103", "detail-type": detail_type, "source": "aws.s3",
        "account": "111122223333", "time": "2026-11-23T12:00:00Z", "region": "us-west-2",
        "resources": ["arn:aws:s3:::trail-bucket"],
        "detail": {
            "version": "0", "bucket": {"name": "trail-bucket"},
            "object": {"key": key, "size": 5, "etag": "b1", "sequencer": "00617F08299329D189"},
            "request-id": "N4N7GDK58NMKJ12R", "requester": "123456789012", "reason": "PutObject",
        },
    })
}

/// AWS CloudTrail User Guide, "Configuring Amazon SNS notifications for CloudTrail".
fn cloudtrail(keys: &[&str]) -> Value {
    json!({"s3Bucket": "trail-bucket", "s3ObjectKey": keys})
}

/// Amazon SNS Developer Guide, "HTTP/HTTPS notification JSON format": the same for queues.
fn sns(message: &str) -> Value {
    json!({
        "Type": "Notification", "MessageId": "dc1e94d9-56c5-5e96-808d-cc7f68faa162",
        "TopicArn": "arn:aws:sns:us-west-2:111122223333:trail", "Subject": "Amazon S3 Notification", "Message": message,
        "Timestamp": "2026-11-23T12:00:00.000Z", "SignatureVersion": "1", "Signature": "FMG5", "SigningCertURL": "https://x",
        "UnsubscribeURL": "https://y",
        "MessageAttributes": {"a": {"Type": "String", "Value": "Notification"}},
    })
}

fn read_value(value: &Value) -> Result<Message, Unreadable> {
    let pretty = read(serde_json::to_string_pretty(value).unwrap().as_bytes());
    assert_eq!(read(value.to_string().as_bytes()), pretty);
    pretty
}

fn named(keys: &[&str], size: Option<u64>) -> Result<Message, Unreadable> {
    Ok(Message::Objects(keys.iter().map(|key| object(key, size)).collect()))
}

/// Every shape, direct and in an envelope of SNS, with every odd key alone and all of them together. Wazuh, fluentd: only
/// `Records[0]` is read.
#[test]
fn every_entry_of_every_shape_is_read_whatever_its_key() {
    let all = &ODD[..];
    let mut cases = vec![(s3_event(all), named(all, Some(7))), (cloudtrail(all), named(all, None))];
    for key in ODD {
        cases.push((s3_event(&[key]), named(&[key], Some(7))));
        cases.push((event_bridge("Object Created", key), named(&[key], Some(5))));
        cases.push((cloudtrail(&[key]), named(&[key], None)));
    }
    for (value, expected) in cases {
        assert_eq!(read_value(&value), expected, "{value}");
        assert_eq!(read_value(&sns(&value.to_string())), expected, "in an envelope: {value}");
        assert_eq!(read_value(&sns(&sns(&value.to_string()).to_string())), expected, "in two: {value}");
    }
}

/// As AWS's own examples stand in its guides, character for character.
#[test]
fn the_examples_of_the_guides_are_read() {
    let notice = br#"{"s3Bucket": "amzn-s3-demo-bucket","s3ObjectKey": ["AWSLogs/123456789012/CloudTrail/us-east-2/2013/12/13/123456789012_CloudTrail_us-west-2_20131213T1920Z_LnPgDQnpkSKEsppV.json.gz"]}"#;
    let Ok(Message::Objects(objects)) = read(notice) else { panic!() };
    assert!(
        objects[0].key.ends_with("_LnPgDQnpkSKEsppV.json.gz") && &*objects[0].bucket == "amzn-s3-demo-bucket"
    );

    let escaped = br#"{"Records":[{"eventName":"ObjectCreated:CompleteMultipartUpload","s3":{"bucket":{"name":"b"},"object":{"key":"Happy+Face.jpg","size":1024}}}]}"#;
    let expected = Object { bucket: "b".into(), key: "Happy Face.jpg".into(), size: Some(1024) };
    assert_eq!(read(escaped), Ok(Message::Objects(vec![expected])));

    let solidus = br#"{"s3Bucket":"b","s3ObjectKey":["a\/\u00fc\ud83d\ude00"]}"#;
    let expected = Object { bucket: "b".into(), key: "a/ü😀".into(), size: None };
    assert_eq!(read(solidus), Ok(Message::Objects(vec![expected])));
}

/// opentelemetry-collector-contrib#47045, redpanda connect#3221: a test event went round for ever.
#[test]
fn messages_that_only_try_whether_messages_arrive_are_told() {
    let test = json!({
        "Service": "Amazon S3", "Event": "s3:TestEvent", "Time": "2026-11-23T12:00:00.000Z", "Bucket": "trail-bucket",
        "RequestId": "5582815E1AEA5ADF", "HostId": "8cLeGAmw098X5cv4Zkwcmo8vvZa3eH3eKxsPzbB9wrR+YstdA6Knx4Ip8EXAMPLE",
    });
    assert_eq!(read_value(&test), Ok(Message::Test));
    assert_eq!(read_value(&sns(&test.to_string())), Ok(Message::Test));
    assert_eq!(read(b"CloudTrail validation message."), Ok(Message::Test));
    assert_eq!(read(b" CloudTrail validation message.\n"), Ok(Message::Test));
    assert_eq!(read_value(&sns("CloudTrail validation message.")), Ok(Message::Test));
}

#[test]
fn what_happens_to_objects_otherwise_names_none() {
    let none = Ok(Message::Objects(Vec::new()));
    for name in
        ["ObjectRemoved:Delete", "ObjectRestore:Completed", "ObjectTagging:Put", "LifecycleExpiration:Delete"]
    {
        assert_eq!(read_value(&json!({"Records": [s3_record(name, "k", 1)]})), none, "{name}");
    }
    assert_eq!(read_value(&event_bridge("Object Deleted", "k")), none);
    assert_eq!(read_value(&json!({"Records": []})), none);
    let mixed = json!({"Records": [
        s3_record("ObjectRemoved:Delete", "a", 1), s3_record("ObjectCreated:Copy", "b", 2),
        s3_record("ObjectRemoved:Delete", "c", 3), s3_record("s3:ObjectCreated:Put", "d", 2),
    ]});
    assert_eq!(read_value(&mixed), named(&["b", "d"], Some(2)));
}

#[test]
fn what_cannot_be_read_says_why() {
    use Unreadable::{BadKey, Confirmation, NotANotice, NotJson};
    let s3 = |key: &str| json!({"Records": [{"eventName": "ObjectCreated:Put", "s3": {"bucket": {"name": "b"}, "object": {"key": key}}}]});
    for (value, why) in [
        (json!({}), NotANotice),
        (json!({"Records": {}}), NotANotice),
        (json!({"Records": [1]}), NotANotice),
        (json!({"Records": [{"eventName": "ObjectCreated:Put"}]}), NotANotice),
        (
            json!({"Records": [{"eventName": "ObjectCreated:Put", "s3": {"bucket": {}, "object": {"key": "k"}}}]}),
            NotANotice,
        ),
        (json!({"Records": [{"eventVersion": "1.08", "eventName": "GetObject"}]}), NotANotice),
        (json!({"detail-type": "Object Created", "detail": {}}), NotANotice),
        (json!({"s3Bucket": "b"}), NotANotice),
        (json!({"s3Bucket": 1, "s3ObjectKey": ["k"]}), NotANotice),
        (json!({"Type": "Notification", "Message": {}}), NotANotice),
        (s3("%ff"), BadKey),
        (s3(""), BadKey),
        (s3(&"k".repeat(limits::KEY_BYTES + 1)), BadKey),
        (
            json!({"Type": "SubscriptionConfirmation", "Message": "You have chosen to subscribe", "SubscribeURL": "https://x"}),
            Confirmation,
        ),
        (sns("hello"), NotJson),
        (sns(&sns(&sns("{}").to_string()).to_string()), NotANotice),
    ] {
        assert_eq!(read_value(&value), Err(why), "{value}");
    }
    for text in ["", "hello", "[]", "1", "{\"Records\":[", "<xml/>"] {
        assert_eq!(read(text.as_bytes()), Err(NotJson), "{text}");
    }
    let many = vec!["k"; limits::MESSAGE_OBJECTS + 1];
    assert_eq!(read(cloudtrail(&many).to_string().as_bytes()), Err(Unreadable::TooMany));
    assert!(read(cloudtrail(&many[1..]).to_string().as_bytes()).is_ok());
}

#[test]
fn an_object_is_sorted_as_a_listing_would_find_it() {
    let log = "AWSLogs/111122223333/CloudTrail/us-east-2/2026/11/23/111122223333_CloudTrail_us-east-2_20261123T1200Z_a.json.gz";
    let digest = log.replace("CloudTrail", "CloudTrail-Digest");
    let boxed = |names: &[&str]| names.iter().map(|name| Box::from(*name)).collect::<Vec<Box<str>>>();
    let is_log = |sorted: &Sorted| matches!(sorted, Sorted::Log(_));
    for (key, prefix, accounts, regions, expected) in [
        (log.to_owned(), "", &[][..], &[][..], None),
        (format!("a b/{log}"), "a b/", &["111122223333"][..], &["us-east-2"][..], None),
        (log.to_owned(), "", &["444455556666"][..], &[][..], Some(Sorted::NotSelected)),
        (log.to_owned(), "", &[][..], &["eu-west-1"][..], Some(Sorted::NotSelected)),
        (digest, "", &[][..], &[][..], Some(Sorted::NotALog(NotALog::Digest))),
        ("AWSLogs/x".to_owned(), "", &[][..], &[][..], Some(Sorted::NotALog(NotALog::OtherService))),
        (log.to_owned(), "a/", &[][..], &[][..], Some(Sorted::Foreign)),
        (format!("a/{log}"), "", &[][..], &[][..], Some(Sorted::Foreign)),
        (format!("AWSLogs/x/{log}"), "", &[][..], &[][..], Some(Sorted::Foreign)),
    ] {
        let sorted = sort(&object(&key, None), "trail-bucket", prefix, &boxed(accounts), &boxed(regions));
        match expected {
            None => assert!(is_log(&sorted), "{key}: {sorted:?}"),
            Some(expected) => assert_eq!(sorted, expected, "{key}"),
        }
        assert_eq!(sort(&object(&key, None), "another", prefix, &[], &[]), Sorted::Foreign);
    }
}

proptest! {
    /// Whatever the keys are, they come back from every shape.
    #[test]
    fn keys_come_back(keys in proptest::collection::vec("\\PC{1,40}", 1..5)) {
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        prop_assert_eq!(read_value(&s3_event(&keys)), named(&keys, Some(7)));
        prop_assert_eq!(read_value(&cloudtrail(&keys)), named(&keys, None));
        prop_assert_eq!(read_value(&event_bridge("Object Created", keys[0])), named(&keys[..1], Some(5)));
        prop_assert_eq!(read_value(&sns(&s3_event(&keys).to_string())), named(&keys, Some(7)));
    }

    /// Damage is refused or read; it never panics.
    #[test]
    fn damaged_messages_are_read_or_refused(at in 0usize..2000, byte in any::<u8>(), cut in 0usize..2000) {
        let mut text = sns(&s3_event(&ODD).to_string()).to_string().into_bytes();
        let (at, cut) = (at % text.len(), cut % text.len());
        text[at] = byte;
        let _ = read(&text);
        let _ = read(&text[..cut]);
    }
}
