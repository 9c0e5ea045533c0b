//! What a source remembers across restarts: its [`Progress`], in `sources/<name>.state`, replaced atomically.
//!
//! ```text
//!    0  8  "tspsrc", 0, version (2)
//!    8  1  configured start: 0 now, 1 a span before the first run, 2 a date, 3 all
//!    9  1  slices that the sweep has behind it
//!   10  2  zero
//!   12  4  scope: CRC-32 of what the source selects
//!   16  8  of the configured start: the span in seconds, or the date as a Julian day number; else 0
//!   24  8  start, Unix seconds
//!   32  8  done_from, Unix seconds
//!   40  8  begin of the sweep, Unix seconds; the least number: there is none
//!   48  4  through, Julian day number
//!   52  4  floor, Julian day number
//!   56  4  day that the sweep lists from, Julian day number; without a sweep, floor
//!   60  4  day that the next sweep lists from, the same
//!   64     of each of the 64 slices:
//!       4    outstanding, Julian day number; the least number: none
//!       1    refused: tries in a row
//!       3    zero
//!       8    tried, Unix seconds; the least number: never
//! 1088  4  CRC-32 (IEEE) of bytes 0 to 1087
//! ```
//! Little-endian; the numbers from 16 on are signed, but for the span and the CRC.
//!
//! The file belongs to the source's *name*: a source under a new name begins anew, with its own ledger
//! entries; the file of one that was removed stays, so that one that is put back goes on where it was.

use std::io;
use std::time::Duration;

use time::{Date, OffsetDateTime, PrimitiveDateTime};

use super::slice::SLICES;
use super::window::{Left, Progress, Round};
use crate::config::{Source, Start};
use crate::spool::atomic;
use crate::spool::disk::{Disk, DiskFile};

/// Folder of the state files.
pub const DIR: &str = "sources";
/// How their names end.
pub const SUFFIX: &str = ".state";

const MAGIC: [u8; 8] = *b"tspsrc\0\x02";
const HEAD: usize = 64;
const LEFT: usize = 16;
const END: usize = HEAD + SLICES * LEFT;
const BYTES: usize = END + 4;
const NO_MOMENT: i64 = i64::MIN;
const NO_DAY: i32 = i32::MIN;

/// What was found on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Loaded {
    /// The source never ran.
    Absent,
    /// What it remembered.
    Progress(Box<Progress>),
    /// A file that is not whole, or of another version, and how that shows.
    Broken(&'static str),
}

/// Reads what a source remembers. Blocking.
///
/// # Errors
/// The disk could not be read: nothing is known, so nothing may be begun anew.
pub fn load<D: Disk>(disk: &D, source: &str) -> io::Result<Loaded> {
    let file = match disk.open(&atomic::join(DIR, &file_name(source))) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Loaded::Absent),
        Err(error) => return Err(error),
    };
    // A process that was killed between the rename and its sync left what a power cut would take back.
    disk.sync_dir(DIR)?;
    let mut bytes = [0; BYTES + 1];
    let mut len = 0;
    while len < bytes.len() {
        match file.read_at(len as u64, &mut bytes[len..])? {
            0 => break,
            n => len += n,
        }
    }
    Ok(match decode(&bytes[..len]) {
        Ok(progress) => Loaded::Progress(Box::new(progress)),
        Err(why) => Loaded::Broken(why),
    })
}

/// Makes what a source remembers durable. Blocking. After an error, call again with what shall be there.
pub fn save<D: Disk>(disk: &D, source: &str, progress: &Progress) -> io::Result<()> {
    disk.create_dir(DIR)?;
    atomic::replace(disk, DIR, &file_name(source), &encode(progress))
}

/// A digest of what a source selects; when it differs, the source looks for what is newly selected.
pub fn scope(source: &Source) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    let lists = [&source.accounts, &source.regions];
    let names = lists.into_iter().flat_map(|list| list.iter().map(AsRef::as_ref).chain([""]));
    for name in [&*source.bucket, &*source.prefix].into_iter().chain(names) {
        crc.update(name.as_bytes());
        crc.update(b"\0");
    }
    crc.finalize()
}

/// The ending keeps a source's name, which may hold dots, apart from temporary files.
fn file_name(source: &str) -> String {
    format!("{source}{SUFFIX}")
}

fn encode(progress: &Progress) -> [u8; BYTES] {
    let (kind, value) = match progress.configured {
        Start::Now => (0u8, 0u64),
        Start::Ago(span) => (1, span.as_secs()),
        Start::Date(date) => (2, i64::from(date.to_julian_day()) as u64),
        Start::All => (3, 0),
    };
    let nowhere = Round { begun: progress.start, swept: 0, from: progress.floor, next: progress.floor };
    let round = progress.round.unwrap_or(nowhere);
    let begun = progress.round.map_or(NO_MOMENT, |round| seconds(round.begun));
    let mut bytes = [0; BYTES];
    bytes[..8].copy_from_slice(&MAGIC);
    bytes[8..10].copy_from_slice(&[kind, round.swept]);
    bytes[12..16].copy_from_slice(&progress.scope.to_le_bytes());
    bytes[16..24].copy_from_slice(&value.to_le_bytes());
    for (at, moment) in [(24, seconds(progress.start)), (32, seconds(progress.done_from)), (40, begun)] {
        bytes[at..at + 8].copy_from_slice(&moment.to_le_bytes());
    }
    for (at, day) in [(48, progress.through), (52, progress.floor), (56, round.from), (60, round.next)] {
        bytes[at..at + 4].copy_from_slice(&day.to_julian_day().to_le_bytes());
    }
    for (left, bytes) in progress.left.iter().zip(bytes[HEAD..END].chunks_exact_mut(LEFT)) {
        let outstanding = left.outstanding.map_or(NO_DAY, Date::to_julian_day);
        bytes[..4].copy_from_slice(&outstanding.to_le_bytes());
        bytes[4] = left.refused;
        bytes[8..].copy_from_slice(&left.tried.map_or(NO_MOMENT, seconds).to_le_bytes());
    }
    let crc = crc32fast::hash(&bytes[..END]);
    bytes[END..].copy_from_slice(&crc.to_le_bytes());
    bytes
}

fn decode(bytes: &[u8]) -> Result<Progress, &'static str> {
    let bytes: &[u8; BYTES] = bytes.try_into().map_err(|_| "it has the wrong length")?;
    if bytes[..7] != MAGIC[..7] {
        return Err("it is not a state file");
    }
    if bytes[7] != MAGIC[7] {
        return Err("it is of a version that this program does not know");
    }
    if crc32fast::hash(&bytes[..END]) != word(bytes, END) {
        return Err("its checksum is wrong");
    }
    fields(bytes).ok_or("it holds a value out of range")
}

fn fields(bytes: &[u8; BYTES]) -> Option<Progress> {
    let value = long(bytes, 16);
    let mut left = [Left::default(); SLICES];
    for (slice, left) in left.iter_mut().enumerate() {
        let at = HEAD + slice * LEFT;
        *left = Left {
            outstanding: optional(day, word(bytes, at) as i32, NO_DAY)?,
            refused: bytes[at + 4],
            tried: optional(moment, long(bytes, at + 8) as i64, NO_MOMENT)?,
        };
    }
    let swept = Some(bytes[9]).filter(|&swept| usize::from(swept) < SLICES)?;
    let (from, next) = (day(word(bytes, 56) as i32)?, day(word(bytes, 60) as i32)?);
    let begun = optional(moment, long(bytes, 40) as i64, NO_MOMENT)?;
    Some(Progress {
        configured: match bytes[8] {
            0 => Start::Now,
            1 => Start::Ago(Duration::from_secs(value)),
            2 => Start::Date(Date::from_julian_day(i32::try_from(value as i64).ok()?).ok()?),
            3 => Start::All,
            _ => return None,
        },
        scope: word(bytes, 12),
        start: moment(long(bytes, 24) as i64)?,
        done_from: moment(long(bytes, 32) as i64)?,
        through: day(word(bytes, 48) as i32)?,
        floor: day(word(bytes, 52) as i32)?,
        round: begun.map(|begun| Round { begun, swept, from, next }),
        left,
    })
}

/// A value that may be missing; `None`: it is out of range.
fn optional<N: Eq, T>(read: impl Fn(N) -> Option<T>, number: N, none: N) -> Option<Option<T>> {
    if number == none { Some(None) } else { read(number).map(Some) }
}

fn day(number: i32) -> Option<Date> {
    Date::from_julian_day(number).ok()
}

fn word(bytes: &[u8; BYTES], at: usize) -> u32 {
    u32::from_le_bytes(std::array::from_fn(|n| bytes[at + n]))
}

fn long(bytes: &[u8; BYTES], at: usize) -> u64 {
    u64::from_le_bytes(std::array::from_fn(|n| bytes[at + n]))
}

/// Whole seconds: a fraction is cut off.
fn seconds(moment: PrimitiveDateTime) -> i64 {
    moment.assume_utc().unix_timestamp()
}

fn moment(seconds: i64) -> Option<PrimitiveDateTime> {
    let moment = OffsetDateTime::from_unix_timestamp(seconds).ok()?;
    Some(PrimitiveDateTime::new(moment.date(), moment.time()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::spool::std_disk::StdDisk;

    fn a_day() -> impl Strategy<Value = Date> {
        (1_721_060i32..3_000_000).prop_map(|day| Date::from_julian_day(day).unwrap())
    }

    fn a_moment() -> impl Strategy<Value = PrimitiveDateTime> {
        (-62_167_219_200i64..100_000_000_000).prop_map(|seconds| moment(seconds).unwrap())
    }

    fn a_start() -> impl Strategy<Value = Start> {
        prop_oneof![
            Just(Start::Now),
            Just(Start::All),
            any::<u64>().prop_map(|seconds| Start::Ago(Duration::from_secs(seconds))),
            a_day().prop_map(Start::Date),
        ]
    }

    prop_compose! {
        fn a_slice()(
            outstanding in proptest::option::of(a_day()),
            tried in proptest::option::of(a_moment()),
            refused in any::<u8>(),
        ) -> Left {
            Left { outstanding, tried, refused }
        }
    }

    prop_compose! {
        fn a_round()(begun in a_moment(), swept in 0..SLICES as u8, from in a_day(), next in a_day()) -> Round {
            Round { begun, swept, from, next }
        }
    }

    prop_compose! {
        fn a_progress()(
            configured in a_start(),
            scope in any::<u32>(),
            (start, done_from) in (a_moment(), a_moment()),
            (through, floor) in (a_day(), a_day()),
            round in proptest::option::of(a_round()),
            left in proptest::collection::vec(a_slice(), SLICES),
        ) -> Progress {
            let left = left.try_into().unwrap();
            Progress { configured, scope, start, through, done_from, floor, round, left }
        }
    }

    proptest! {
        #[test]
        fn what_was_saved_is_loaded(progress in a_progress()) {
            prop_assert_eq!(decode(&encode(&progress)), Ok(progress));
        }

        #[test]
        fn damage_is_noticed_and_never_panics(
            progress in a_progress(),
            at in 0..BYTES,
            mask in 1u8..,
            len in 0..BYTES,
            noise in proptest::collection::vec(any::<u8>(), 0..80),
        ) {
            let mut bytes = encode(&progress);
            bytes[at] ^= mask;
            prop_assert!(decode(&bytes).is_err());
            prop_assert!(decode(&bytes[..len]).is_err());
            prop_assert!(decode(&noise).is_err());
            // Even with a checksum that fits.
            let crc = crc32fast::hash(&bytes[..END]);
            bytes[END..].copy_from_slice(&crc.to_le_bytes());
            let _ = decode(&bytes);
        }
    }

    fn progress() -> Progress {
        Progress::first(Start::All, 1, moment(1_763_899_200).unwrap())
    }

    #[test]
    fn the_bytes_are_the_documented_ones() {
        let date = Date::from_calendar_date(2026, time::Month::November, 23).unwrap();
        let bytes = encode(&Progress::first(Start::Date(date), 0x0403_0201, moment(1).unwrap()));
        assert_eq!(&bytes[..16], b"tspsrc\0\x02\x02\0\0\0\x01\x02\x03\x04");
        assert_eq!(i64::from_le_bytes(bytes[16..24].try_into().unwrap()), i64::from(date.to_julian_day()));
        assert_eq!(i64::from_le_bytes(bytes[24..32].try_into().unwrap()), 1_795_392_000);
        assert_eq!(&bytes[40..48], i64::MIN.to_le_bytes());
        for at in [48, 52, 56, 60, HEAD, END - LEFT] {
            assert_eq!(&bytes[at..at + 4], date.to_julian_day().to_le_bytes(), "{at}");
        }
        assert_eq!(&bytes[END - 8..END], i64::MIN.to_le_bytes());
        assert_eq!(bytes.len(), 1092);
    }

    #[test]
    fn a_file_is_absent_whole_or_broken() {
        let folder = tempfile::tempdir().unwrap();
        let disk = StdDisk::open(folder.path()).unwrap();
        assert_eq!(load(&disk, "prod").unwrap(), Loaded::Absent);
        save(&disk, "prod", &progress()).unwrap();
        save(&disk, "prod.state", &Progress { scope: 2, ..progress() }).unwrap();
        assert_eq!(load(&disk, "prod").unwrap(), Loaded::Progress(Box::new(progress())));
        let mut file = disk.open("sources/prod.state").unwrap();
        file.write_at(BYTES as u64, b"!").unwrap();
        assert!(matches!(load(&disk, "prod").unwrap(), Loaded::Broken(_)));
    }

    /// elastic/beats#52721: two inputs wiped each other's state.
    #[test]
    fn scope_tells_selections_apart_and_names_keep_states_apart() {
        let source = crate::discover::testing::source("prod");
        let mut seen = vec![scope(&source)];
        for change in [
            Source { bucket: "other".into(), ..source.clone() },
            Source { prefix: "p/".into(), ..source.clone() },
            Source { accounts: vec!["1".into()], ..source.clone() },
            Source { regions: vec!["1".into()], ..source.clone() },
            Source { accounts: vec!["1".into(), "2".into()], ..source.clone() },
        ] {
            seen.push(scope(&change));
        }
        assert_eq!(scope(&source.clone()), seen[0]);
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), 6);
    }
}
