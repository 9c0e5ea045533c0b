//! No text makes the configuration's reader panic, and every fault it tells has a line of the text.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Err(faults) = trailspool::config::parse(text, Path::new("f"), &|_| None) {
        assert!(!faults.faults.is_empty());
        let lines = text.split('\n').count();
        for fault in &faults.faults {
            assert!((1..=lines).contains(&fault.line), "{fault:?}");
        }
        assert_eq!(faults.to_string().lines().count(), faults.faults.len() + usize::from(faults.more > 0));
    }
});
