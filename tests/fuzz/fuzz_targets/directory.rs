//! Any bytes as what a directory says: no panic, no length beyond the bound, and no value that was not wanted.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use trailspool::directory::message::{Answer, len_of, read};
use trailspool::limits::DIRECTORY_MESSAGE_BYTES;

static WANTED: LazyLock<Vec<Box<str>>> = LazyLock::new(|| vec!["mail".into(), "cn".into()]);

fuzz_target!(|bytes: &[u8]| {
    if let Ok(Some(len)) = len_of(bytes) {
        assert!((2..=DIRECTORY_MESSAGE_BYTES).contains(&len));
        // more bytes never change it
        assert_eq!(len_of(&[bytes, b"\x02\x01"].concat()), Ok(Some(len)));
    }
    if let Ok((_, answer)) = read(bytes, &WANTED) {
        match answer {
            Answer::Entry(values) => {
                assert_eq!(values.len(), WANTED.len());
                assert!(values.iter().flatten().all(|value| value.len() <= bytes.len()));
            }
            Answer::Bound(outcome) | Answer::Extended(outcome) | Answer::Done(outcome) => {
                assert!(!outcome.said.chars().any(char::is_control));
            }
            Answer::Reference => {}
        }
    }
});
