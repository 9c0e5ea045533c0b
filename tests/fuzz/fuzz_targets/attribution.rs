//! Any bytes as a record: no panic, and what is derived is within its bounds and fit for a line.
#![no_main]

use std::path::Path;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use trailspool::config;
use trailspool::decode::field;
use trailspool::limits;
use trailspool::select::Attributors;

static ATTRIBUTORS: LazyLock<Attributors> = LazyLock::new(|| {
    let text = "[[source]]\nname = 's'\nbucket = 'b12'\nregion = 'us-east-1'\nattribution = 'fully-qualified'\n\
                default_domain = 'corp.example.com'\n[source.credentials]\nmethod = 'default'\n\
                [[output]]\nname = 'o'\nkind = 'stdout'\n";
    let config = config::parse(text, Path::new("t"), &|_| None).expect("a configuration");
    Attributors::new(&config.sources)
});

fuzz_target!(|record: &[u8]| {
    assert!(field::members(record).count() <= record.len() + 1);
    let Some(found) = ATTRIBUTORS.attribute("s", record) else { return };
    let texts = [Some(found.account()), Some(found.name()), found.domain(), found.principal()];
    for text in texts.into_iter().flatten() {
        assert!(!text.is_empty() && text.len() <= limits::PRINCIPAL_BYTES);
        assert!(!text.chars().any(char::is_control));
    }
});
