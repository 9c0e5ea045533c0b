//! Any bytes between quotes: the text is what a second parser makes of them, never longer, and `is` agrees.
#![no_main]

use libfuzzer_sys::fuzz_target;
use trailspool::decode::text;

fuzz_target!(|input: (&[u8], &[u8])| {
    let (raw, other) = input;
    let mut buffer = Vec::new();
    let found = text::unescape(raw, &mut buffer).map(<[u8]>::to_vec);
    assert_eq!(text::is(raw, other), found.as_deref() == Ok(other));
    if let Ok(found) = &found {
        assert!(found.len() <= raw.len());
        assert!(text::is(raw, found));
    }
    let quoted = [b"\"", raw, b"\""].concat();
    if let Ok(expected) = serde_json::from_slice::<String>(&quoted) {
        assert_eq!(found.as_deref(), Ok(expected.as_bytes()));
    }
});
