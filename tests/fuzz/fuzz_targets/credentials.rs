//! Credentials as JSON: no bytes make the reader panic or recurse, and what it accepts a second parser reads the same.
#![no_main]

use std::time::SystemTime;

use libfuzzer_sys::fuzz_target;
use trailspool::aws::credentials::document::{Form, NoKeys, read};

fuzz_target!(|bytes: &[u8]| {
    let now = SystemTime::UNIX_EPOCH;
    let service = read(bytes, Form::Service, now);
    if let Err(NoKeys::Refused { code, message }) = &service {
        assert!(!code.contains(char::is_control) && !message.contains(char::is_control));
    }
    if let Ok(process) = read(bytes, Form::Process, now) {
        assert_eq!(service.as_ref(), Ok(&process));
    }
    let Ok(issued) = service else { return };
    assert_eq!(issued.life.is_some(), issued.keys.expires().is_some());
    // The parser passes over what it ignores without looking closely: only real JSON can be compared.
    let Ok(document) = serde_json::from_slice::<serde_json::Value>(bytes) else { return };
    assert_eq!(document["AccessKeyId"].as_str(), Some(issued.keys.access_key_id()));
    let token = [&document["Token"], &document["SessionToken"]].into_iter().find_map(|token| token.as_str());
    assert_eq!(token.filter(|token| !token.is_empty()), issued.keys.session_token());
});
