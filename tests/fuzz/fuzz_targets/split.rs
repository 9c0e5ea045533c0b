//! Any text, cut in any way: the same records and the same end as the naive splitter finds in one go, and of each
//! record the members that its bytes have.
#![no_main]

use std::cell::RefCell;
use std::convert::Infallible;

use libfuzzer_sys::fuzz_target;
use trailspool::decode::{Broken, DecodeError, Decoder, Failure, Record, Sink, field};
use trailspool::limits;

#[path = "../../common/naive_split.rs"]
mod naive_split;
#[path = "../../common/same_members.rs"]
mod same_members;

fuzz_target!(|input: (u8, u8, bool, &[u8])| {
    let (first, second, long, text) = input;
    // A lone first byte of gzip is a truncated gzip file, not a text.
    if text.first() == Some(&0x1f) {
        return;
    }
    let max_record = if long { LONG } else { SHORT };
    DECODERS.with_borrow_mut(|[short, large]| {
        compare(if long { large } else { short }, max_record, [first, second], text);
    });
});

const SHORT: usize = 60;
const LONG: usize = 64 * 1024;

thread_local! {
    static DECODERS: RefCell<[Decoder; 2]> = RefCell::new([SHORT, LONG].map(|max| Decoder::new(max, u64::MAX)));
}

fn compare(decoder: &mut Decoder, max_record: usize, cuts: [u8; 2], text: &[u8]) {
    decoder.start_noting(cuts[0] % 4 != 0);
    let (mut found, mut rest) = (Found::default(), text);
    let mut end = Ok(());
    for cut in cuts.into_iter().cycle() {
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
}

#[derive(Default)]
struct Found {
    records: Vec<(Vec<u8>, Option<&'static str>)>,
    open: Vec<u8>,
}

impl Sink for Found {
    type Error = Infallible;

    fn record(&mut self, index: u32, record: Record<'_>) -> Result<(), Infallible> {
        assert_eq!(index as usize, self.records.len());
        assert!(self.open.is_empty());
        self.records.push((record.bytes.to_vec(), None));
        same_members::check(record);
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
