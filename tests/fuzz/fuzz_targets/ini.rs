//! Shared files of AWS's tools: no text makes the reader panic, and a value is a piece of a line that has its key,
//! found in a profile that is there.
#![no_main]

use libfuzzer_sys::fuzz_target;
use trailspool::aws::credentials::ini::{File, has, value};

fuzz_target!(|input: (&str, &str, &str)| {
    let (text, name, key) = input;
    for file in [File::Credentials, File::Config] {
        let Some(found) = value(text, file, name, key) else { continue };
        assert!(has(text, file, name));
        assert_eq!(found.trim(), found);
        let lower = |text: &str| text.to_ascii_lowercase();
        assert!(text.lines().any(|line| line.contains(found) && lower(line).contains(&lower(key))));
    }
});
