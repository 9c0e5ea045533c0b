//! Any text as a key: no panic; the parts of a key that parses make it up again; a digest never parses.
#![no_main]

use libfuzzer_sys::fuzz_target;
use trailspool::discover::key::{LogKey, is_account, is_org, is_region};

fuzz_target!(|text: &str| {
    let Ok(key) = LogKey::parse(text) else { return };
    let (day, stamp) = (key.day(), key.stamp());
    let org = key.org().map_or(String::new(), |org| format!("{org}/"));
    let (account, kind, region) = (key.account(), key.kind().folder(), key.region());
    let folders = format!(
        "{}AWSLogs/{org}{account}/{kind}/{region}/{:04}/{:02}/{:02}/",
        key.prefix(),
        day.year(),
        u8::from(day.month()),
        day.day()
    );
    let file = text.strip_prefix(&folders).expect("the folders are the parts");
    let label = format!(
        "_{:04}{:02}{:02}T{:02}{:02}Z_",
        stamp.year(),
        u8::from(stamp.month()),
        stamp.day(),
        stamp.hour(),
        stamp.minute()
    );
    assert!(file.contains(&label) && file.contains(&format!("_{kind}_")) && !file.contains('/'));
    assert!(!file.contains("CloudTrail-Digest") && kind != "CloudTrail-Digest");
    assert!(folders.starts_with(key.stream()) && key.prefix().is_empty() | key.prefix().ends_with('/'));
    assert!(is_account(account) && is_region(region) && key.org().is_none_or(is_org));
    assert_eq!(LogKey::parse(key.as_str()).as_ref(), Ok(&key));
});
