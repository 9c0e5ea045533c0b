//! Any bytes as the head of a request to the status server: no panic, no page without the token, none for a foreign
//! host, and reading on only while more could make it whole.
#![no_main]

use libfuzzer_sys::fuzz_target;
use trailspool::config::Secret;
use trailspool::status::request::{Asked, read};

fuzz_target!(|bytes: &[u8]| {
    let token = Secret::new("never-in-the-corpus-0123456789".to_owned());
    if !bytes.windows(8).any(|part| part == b"never-in") && !bytes.windows(10).any(|part| part == b"bmV2ZXItaW") {
        assert!(!matches!(read(bytes, Some(&token)), Asked::Page { .. }));
    }
    let asked = read(bytes, None);
    let lower = bytes.to_ascii_lowercase();
    let local = [&b"localhost"[..], b"127.", b"::1"].iter().any(|name| lower.windows(name.len()).any(|part| part == *name));
    assert!(local || !matches!(asked, Asked::Page { .. }) || lower.windows(7).any(|part| part == b"::ffff:"));
    // What is whole stays so, whatever follows.
    if !matches!(asked, Asked::More) {
        assert_eq!(read(&[bytes, b"x"].concat(), None), asked);
    }
});
