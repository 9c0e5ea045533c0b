//! What Loki says of entries that it does not want.
//!
//! A push is answered 204, or 400 with a sentence for each of the first entries that were refused; all others of the
//! push are taken nevertheless. Refused for their time are entries older than `reject_old_samples_max_age`, and those
//! further behind the newest entry of their stream than half of `max_chunk_age` (an hour by default). Both sentences
//! name the oldest time stamp that would do, so all such records are found at once, and that needs no other proof
//! ([`Fate::Unfit`]): after a week off, all that waits may be too old. The others are sent again: Loki knows an entry of
//! the same stream, time and text, and keeps it once. Source: Loki's documentation, "Troubleshoot log
//! ingestion".
//!
//! ```text
//! entry with timestamp 2022-10-10 13:25:44 +0000 UTC ignored, reason: 'entry too far behind, entry timestamp is: 2022-10-10T13:25:44Z, oldest acceptable timestamp is: 2022-10-28T23:10:16Z',
//! entry for stream '{job="trail"}' has timestamp too old: 2026-04-08T04:34:44Z, oldest acceptable timestamp is: 2026-05-14T03:07:18Z
//! ```

use memchr::memmem;

use super::encode::{Moment, moment};
use crate::deliver::sender::{Fate, Items, Refusal};

const OLDEST: &[u8] = b"oldest acceptable timestamp is: ";

/// What became of `entries` (encoded, in their order) that were answered with 400 and this body. `None`: the body does
/// not say, or says nothing that helps.
pub fn too_old<'a>(
    body: &[u8],
    text: &str,
    entries: impl ExactSizeIterator<Item = &'a [u8]>,
) -> Option<Items> {
    let oldest = oldest(body)?;
    let mut fates = Vec::with_capacity(entries.len());
    for entry in entries {
        fates.push(if nanos(entry)? < oldest { Fate::Unfit } else { Fate::Again });
    }
    let first = fates.iter().position(|fate| *fate == Fate::Unfit)?;
    let refusal = Refusal { reason: "rejected", text: text.to_owned() };
    Some(Items { fates, refusals: vec![(first, refusal)], again: None })
}

/// The earliest of the bounds that the body names: what is older was refused, whichever sentence was meant for it.
fn oldest(body: &[u8]) -> Option<i128> {
    let bounds = memmem::find_iter(body, OLDEST).filter_map(|at| {
        let stamp = &body[at + OLDEST.len()..];
        let end = memchr::memchr(b'Z', stamp)?;
        let Moment { seconds, nanos } = moment(&stamp[..=end])?;
        Some(i128::from(seconds) * 1_000_000_000 + i128::from(nanos))
    });
    bounds.min()
}

/// The time stamp of an encoded entry: `["1688560107000000000",…`
fn nanos(entry: &[u8]) -> Option<i128> {
    let rest = entry.strip_prefix(b"[\"")?;
    let end = memchr::memchr(b'"', rest)?;
    std::str::from_utf8(&rest[..end]).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEHIND: &str = "entry with timestamp 2022-10-10 13:25:44 +0000 UTC ignored, reason: 'entry too far behind, \
        entry timestamp is: 2022-10-10T13:25:44Z, oldest acceptable timestamp is: 2022-10-28T23:10:16Z',\n\
        entry with timestamp 2022-10-10 13:25:45 +0000 UTC ignored, reason: 'entry too far behind, \
        entry timestamp is: 2022-10-10T13:25:45Z, oldest acceptable timestamp is: 2022-10-28T23:10:20Z',\n\
        user 'fake', total ignored: 2 out of 3 for stream: {job=\"t\"}";

    fn fates(body: &str, seconds: &[i64]) -> Option<Vec<Fate>> {
        let entries: Vec<String> =
            seconds.iter().map(|seconds| format!("[\"{seconds}000000000\",\"x\"],")).collect();
        let entries = entries.iter().map(String::as_bytes).collect::<Vec<_>>();
        too_old(body.as_bytes(), "400", entries.into_iter()).map(|items| items.fates)
    }

    #[test]
    fn records_older_than_the_bound_are_unfit_and_the_others_are_sent_again() {
        let bound = 1_666_998_616; // 2022-10-28T23:10:16Z
        assert_eq!(
            fates(BEHIND, &[bound - 1, bound, 0, bound + 5]),
            Some(vec![Fate::Unfit, Fate::Again, Fate::Unfit, Fate::Again])
        );
    }

    #[test]
    fn an_answer_that_does_not_help_is_left_to_halving() {
        let bound = 1_666_998_616;
        assert_eq!(fates(BEHIND, &[bound, bound + 1]), None, "none is older");
        for body in [
            "",
            "entry out of order",
            "oldest acceptable timestamp is: yesterday",
            "oldest acceptable timestamp is: Z",
        ] {
            assert_eq!(fates(body, &[0]), None, "{body}");
        }
    }
}
