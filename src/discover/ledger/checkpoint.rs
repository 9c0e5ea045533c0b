//! The checkpoint: how far into the spool's log the runs and the books reach. Replaced as a whole.
//!
//! ```text
//! magic "tspl-chk" | version u32 | sources u32 | segment u64 | offset u64
//! for each source, by name:  name length u8 | name | collected u64 | quarantined u64
//!                            | records u64 | kept u64 | dropped u64 | duplicate u64 | quarantined records u64
//! crc32 u32
//! ```
//! Little-endian; the CRC covers what is before it.

use std::collections::BTreeMap;

use super::Books;
use crate::limits;
use crate::record::Counts;
use crate::spool::position::Position;

/// The file's name in the ledger's folder. No run is called so: runs end with `.run`.
pub(super) const FILE: &str = "checkpoint";
/// What to do about a damaged one.
pub(super) const REMEDY: &str = "remove the file while trailspool is stopped: the totals then begin again with what is \
                                 still in the spool; nothing is lost or collected twice";
/// Most bytes of a checkpoint.
pub(super) const MAX_BYTES: u64 =
    (HEADER + limits::LEDGER_SOURCES * (1 + limits::NAME_BYTES + BOOKS) + CRC) as u64;

const MAGIC: &[u8; 8] = b"tspl-chk";
const VERSION: u32 = 1;
const HEADER: usize = 32;
const BOOKS: usize = 7 * 8;
const CRC: usize = 4;

/// What the file says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Checkpoint {
    pub(super) through: Position,
    pub(super) books: BTreeMap<Box<str>, Books>,
}

impl Checkpoint {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&(self.books.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&self.through.to_bytes());
        for (source, books) in &self.books {
            bytes.push(source.len() as u8);
            bytes.extend_from_slice(source.as_bytes());
            let counts = &books.counts;
            let numbers = [
                books.objects_collected,
                books.objects_quarantined,
                counts.records,
                counts.kept,
                counts.dropped,
                counts.duplicate,
                counts.quarantined,
            ];
            bytes.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
        }
        let crc = crc32fast::hash(&bytes);
        bytes.extend_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Says what does not fit.
    pub(super) fn decode(bytes: &[u8]) -> Result<Checkpoint, &'static str> {
        let (bytes, crc) = bytes.split_last_chunk::<CRC>().ok_or("it is cut short")?;
        if crc32fast::hash(bytes).to_le_bytes() != *crc {
            return Err("it does not fit its checksum");
        }
        let mut input = Input(bytes);
        if input.take()? != *MAGIC {
            return Err("it is not a checkpoint");
        }
        if u32::from_le_bytes(input.take()?) != VERSION {
            return Err("it has a format that this version of trailspool does not read");
        }
        let sources = u32::from_le_bytes(input.take()?);
        let through = Position::from_bytes(input.take()?);
        let mut books = BTreeMap::new();
        for _ in 0..sources {
            let [len] = input.take()?;
            let name =
                std::str::from_utf8(input.slice(len.into())?).map_err(|_| "a source's name is not text")?;
            let mut number = || input.take().map(u64::from_le_bytes);
            let entry = Books {
                objects_collected: number()?,
                objects_quarantined: number()?,
                counts: Counts {
                    records: number()?,
                    kept: number()?,
                    dropped: number()?,
                    duplicate: number()?,
                    quarantined: number()?,
                },
            };
            books.insert(name.into(), entry);
        }
        if input.0.is_empty() { Ok(Checkpoint { through, books }) } else { Err("it has bytes after its end") }
    }
}

struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], &'static str> {
        let (head, rest) = self.0.split_first_chunk().ok_or("it is cut short")?;
        self.0 = rest;
        Ok(*head)
    }

    fn slice(&mut self, len: usize) -> Result<&'a [u8], &'static str> {
        let (head, rest) = self.0.split_at_checked(len).ok_or("it is cut short")?;
        self.0 = rest;
        Ok(head)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Checkpoint {
        let counts = Counts { records: 10, kept: 4, dropped: 3, duplicate: 2, quarantined: 1 };
        let books = Books { objects_collected: 7, objects_quarantined: 8, counts };
        let books = BTreeMap::from([("a.b-c_D".into(), books), ("z".into(), Books::default())]);
        Checkpoint { through: Position { segment: 5, offset: 6 }, books }
    }

    #[test]
    fn a_checkpoint_comes_back_as_it_was() {
        for checkpoint in [example(), Checkpoint::default()] {
            assert_eq!(Checkpoint::decode(&checkpoint.encode()), Ok(checkpoint));
        }
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_noticed() {
        let bytes = example().encode();
        for bit in 0..bytes.len() * 8 {
            let mut bytes = bytes.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(Checkpoint::decode(&bytes).is_err(), "bit {bit}");
        }
        for len in 0..bytes.len() {
            assert!(Checkpoint::decode(&bytes[..len]).is_err(), "{len} bytes");
        }
    }

    #[test]
    fn what_has_a_good_checksum_and_bad_contents_is_refused_as_well() {
        let whole = example().encode();
        let body = &whole[..whole.len() - CRC];
        for len in 0..body.len() {
            let mut bytes = body[..len].to_vec();
            bytes.extend_from_slice(&crc32fast::hash(&body[..len]).to_le_bytes());
            assert!(Checkpoint::decode(&bytes).is_err(), "{len} bytes");
        }
    }
}
