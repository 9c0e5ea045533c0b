//! Listings: no answer makes the parser panic or wait, and how it is cut into pieces never matters.
#![no_main]

use std::ops::ControlFlow;

use libfuzzer_sys::fuzz_target;
use trailspool::aws::listing::read_pieces;
use trailspool::aws::s3::{ListEnd, Listed};
use trailspool::limits;

fuzz_target!(|data: &[u8]| {
    let Some((&piece, page)) = data.split_first() else { return };
    let whole = parse(page, usize::MAX);
    assert_eq!(parse(page, usize::from(piece).max(1)), whole);
});

fn parse(page: &[u8], piece: usize) -> (Vec<String>, Result<ListEnd, String>) {
    let mut entries = Vec::new();
    let end = read_pieces(page.chunks(piece), &mut |listed| {
        if let Listed::Key { key, .. } | Listed::Prefix(key) = listed {
            assert!((1..=limits::KEY_BYTES).contains(&key.len()));
        }
        entries.push(format!("{listed:?}"));
        ControlFlow::Continue(())
    });
    (entries, end)
}
