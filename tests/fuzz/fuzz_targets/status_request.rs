//! Any bytes as the head of a request to the status server: no panic, no page without the token, and what is decided
//! stays decided whatever follows.
#![no_main]

use libfuzzer_sys::fuzz_target;
use trailspool::config::Secret;
use trailspool::status::request::{Asked, read};

fuzz_target!(|bytes: &[u8]| {
    // Digests are compared: no run comes upon it.
    let token = Secret::new("never-in-the-corpus-0123456789".to_owned());
    assert!(!matches!(read(bytes, Some(&token)), Asked::Page { .. }));
    let asked = read(bytes, None);
    if asked != Asked::More {
        assert_eq!(read(&[bytes, b"x"].concat(), None), asked);
    }
});
