//! Any bytes as a record, any path: no panic; what is found stands in the record; and in JSON as it should
//! be, every field is where a second parser finds it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use trailspool::decode::field::{Field, Path, find};
use trailspool::decode::text;

fuzz_target!(|input: (&str, &[u8])| {
    let (dotted, record) = input;
    let found = find(record, &Path::new(dotted));
    if let Field::Text(raw) | Field::Number(raw) | Field::Array(raw) | Field::Object(raw) = found {
        assert!(record.as_ptr_range().contains(&raw.as_ptr()) || raw.is_empty());
    }
    let Ok(value) = serde_json::from_slice::<Value>(record) else { return };
    if let Value::Object(members) = &value {
        // Keys that stand once only: serde_json keeps the last of several, `find` the first.
        for (key, value) in members.iter().filter(|(key, _)| !key.contains('.')) {
            let field = find(record, &Path::new(key));
            if serde_json::to_vec(value).is_ok_and(|text| text.len() < record.len()) && !doubled(record) {
                check(field, value);
            }
        }
    }
});

/// Whether some quoted key may stand twice: there are more colons than the parsed value needs.
fn doubled(record: &[u8]) -> bool {
    let Ok(value) = serde_json::from_slice::<Value>(record) else { return true };
    let text = serde_json::to_vec(&value).unwrap_or_default();
    let colons = |text: &[u8]| text.iter().filter(|byte| **byte == b':').count();
    colons(record) != colons(&text)
}

fn check(field: Field<'_>, value: &Value) {
    let mut buffer = Vec::new();
    match (field, value) {
        (Field::Null, Value::Null) => {}
        (Field::Bool(found), Value::Bool(value)) => assert_eq!(found, *value),
        (Field::Number(raw), Value::Number(_)) => {
            assert!(serde_json::from_slice::<Value>(raw).is_ok_and(|number| number == *value));
        }
        (Field::Text(raw), Value::String(value)) => {
            assert_eq!(text::unescape(raw, &mut buffer), Ok(value.as_bytes()));
        }
        (Field::Array(raw) | Field::Object(raw), Value::Array(_) | Value::Object(_)) => {
            assert_eq!(serde_json::from_slice::<Value>(raw).ok().as_ref(), Some(value));
        }
        (field, value) => panic!("{field:?} is not {value:?}"),
    }
}
