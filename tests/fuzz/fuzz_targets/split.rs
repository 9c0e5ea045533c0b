//! Any text, cut in any way: the same records and the same end as the naive splitter finds in one go.
#![no_main]

use std::convert::Infallible;

use libfuzzer_sys::fuzz_target;
use trailspool::decode::{Broken, DecodeError, Decoder, Failure, Sink};
use trailspool::limits;

#[path = "../../common/naive_split.rs"]
mod naive_split;

fuzz_target!(|input: (u8, u8, bool, &[u8])| {
    let (first, second, long, text) = input;
    // A lone first byte of gzip is a truncated gzip file, not a text.
    if text.first() == Some(&0x1f) {
        return;
    }
    let max_record = if long { limits::RECORD_BYTES } else { 60 };
    let mut decoder = Decoder::new(max_record, u64::MAX);
    decoder.start();
    let (mut found, mut rest) = (Found::default(), text);
    let mut end = Ok(());
    for cut in [first, second].into_iter().cycle() {
        if rest.is_empty() || end.is_err() {
            break;
        }
        let (piece, behind) = rest.split_at(usize::from(cut).clamp(1, rest.len()));
        end = decoder.feed(piece, &mut found);
        rest = behind;
    }
    let end = end.and_then(|()| decoder.finish(&mut found));
    let end = end.map(|summary| assert_eq!(summary.records as usize, found.records.len()));
    let end = end.map_err(|failure| match failure {
        Failure::Object(error @ DecodeError::NotJson { offset, .. }) => (error.slug(), offset as usize),
        Failure::Object(error) => (error.slug(), 0),
        Failure::Sink(never) => match never {},
    });
    let (expected, expected_end) = naive_split::split(text, max_record, limits::JSON_DEPTH);
    let expected: Vec<_> = expected.iter().map(|(range, end)| (&text[range.clone()], end.err())).collect();
    let records: Vec<_> = found.records.iter().map(|(bytes, why)| (bytes.as_slice(), *why)).collect();
    assert_eq!(records, expected);
    assert_eq!(end, expected_end);
});

#[derive(Default)]
struct Found {
    records: Vec<(Vec<u8>, Option<&'static str>)>,
    open: Vec<u8>,
}

impl Sink for Found {
    type Error = Infallible;

    fn record(&mut self, index: u32, bytes: &[u8]) -> Result<(), Infallible> {
        assert_eq!(index as usize, self.records.len());
        assert!(self.open.is_empty());
        self.records.push((bytes.to_vec(), None));
        Ok(())
    }

    fn broken(&mut self, index: u32, why: Broken, part: &[u8], last: bool) -> Result<(), Infallible> {
        assert_eq!(index as usize, self.records.len());
        self.open.extend_from_slice(part);
        if last {
            self.records.push((std::mem::take(&mut self.open), Some(why.slug())));
        }
        Ok(())
    }
}
