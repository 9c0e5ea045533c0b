//! Any bytes as a message of a queue, and as JSON that is taken apart member by member: no panic; what is read names
//! keys that S3 can have; one in an envelope says the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use trailspool::decode::members::{elements, members};
use trailspool::discover::message::{self, Message, Sorted};
use trailspool::limits;

fuzz_target!(|body: &[u8]| {
    for member in members(body).into_iter().flatten().flatten() {
        let (_, value) = member;
        // A value is a part of its object, and an array's elements are parts of it.
        assert!(value.len() < body.len());
        let _ = elements(value).map(|elements| elements.flatten().for_each(|element| assert!(element.len() < value.len())));
    }
    let found = message::read(body);
    if let Ok(text) = std::str::from_utf8(body) {
        let envelope = serde_json::json!({"Type": "Notification", "Message": text}).to_string();
        // Three envelopes are opened, so what has none or one may have another.
        if let Ok(message) = message::read(envelope.as_bytes()) {
            assert_eq!(found.as_ref(), Ok(&message));
        }
    }
    let Ok(Message::Objects(objects)) = found else { return };
    assert!(objects.len() <= limits::MESSAGE_OBJECTS);
    for object in &objects {
        assert!((1..=limits::KEY_BYTES).contains(&object.key.len()) && !object.bucket.is_empty());
        if let Sorted::Log(key) = message::sort(object, &object.bucket, "", &[], &[]) {
            assert_eq!(key.as_str(), &*object.key);
        }
    }
});
