//! A `_bulk` answer, cut into pieces: the same verdict whatever the pieces, never more than was asked for, and of what a
//! JSON parser reads too, the same statuses.
#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use trailspool::deliver::http::bulk::{Answer, NotAnAnswer, Result as Verdict};
use trailspool::deliver::sender::Fate;

fn read(answer: &[u8], wanted: usize, piece: usize) -> Result<Verdict, NotAnAnswer> {
    let mut reader = Answer::new(wanted, true);
    answer.chunks(piece).try_for_each(|piece| reader.read(piece))?;
    reader.finish()
}

fuzz_target!(|data: &[u8]| {
    let [wanted, piece, answer @ ..] = data else { return };
    let (wanted, piece) = (usize::from(*wanted % 8), usize::from(*piece).max(1));
    let whole = read(answer, wanted, usize::MAX);
    assert_eq!(read(answer, wanted, piece), whole);
    let Ok(verdict) = whole else { return };
    assert_eq!(verdict.fates.len(), wanted);
    let Ok(value) = serde_json::from_slice::<Value>(answer) else { return };
    // of a key that stands twice the two readers take different ones
    let items = value["items"].as_array().map_or(&[][..], Vec::as_slice);
    if items.len() != wanted || value.as_object().is_some_and(|top| top.len() > 1) {
        return;
    }
    for (item, fate) in items.iter().zip(&verdict.fates) {
        let Some(create) = item.as_object().filter(|item| item.len() == 1).and_then(|item| item.values().next()) else {
            continue;
        };
        if create.as_object().is_some_and(|create| create.len() == 1) && create["status"] == 201 {
            assert_eq!(*fate, Fate::Accepted);
        }
    }
});
