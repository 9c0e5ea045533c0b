//! The frames of the log, as bytes. A core: bytes in, values out.
//!
//! ```text
//! frame    len u32 | kind u8 | payload (len bytes) | crc u32
//! begin    kind 0x17   source, bucket, key: each u16 length and UTF-8 bytes
//! records  kind 0x2b   begin position (16) | one or more of: index u32 | len u32 | bytes
//! packed   kind 0x71   begin position (16) | plain u32: bytes of what stands behind the position of the records frame
//!                      that this one stands for, 1 to 65,536 | those bytes as one LZ4 block, which is shorter
//! end      kind 0x4d   begin position (16) | fate u8 (1 collected, 2 quarantined, 3 collected after it was quarantined)
//!                      | records u64 | kept u64 | dropped u64 | duplicate u64 | quarantined u64
//! ```
//!
//! All integers are little-endian. `begin position` is where the object's begin frame stands, so that every
//! frame says by itself to which object it belongs.
//!
//! # The checksums are a chain
//! The CRC-32 of a frame goes over its length, kind and payload, and *starts from the CRC of the frame before*
//! (the first of a segment starts from the header's). The four bytes before a frame are thus its seed, wherever
//! a reader enters. A frame that checks out vouches for everything written before it in its segment: what a
//! power cut leaves of two generations of bytes in one place (an object taken back, another written over it)
//! can never be put together into something that was not written so.

use crate::record::{Counts, ObjectFate, ObjectId};
use crate::spool::pack::Packed;
use crate::spool::position::Position;

/// Bytes of a frame besides its payload.
pub const OVERHEAD: usize = HEAD + CRC;
/// Bytes before the payload.
pub(super) const HEAD: usize = 5;
/// Bytes of a checksum.
pub(super) const CRC: usize = 4;
/// Bytes before each record in a records frame.
pub(super) const RECORD_HEAD: usize = 8;
/// Payload of a records frame before its first record.
pub(super) const RECORDS_HEAD: usize = Position::BYTES;
/// Payload of a packed frame between its begin position and its block.
pub(super) const PACKED_HEAD: usize = 4;
/// Payload of an end frame.
pub(super) const END: usize = Position::BYTES + 1 + 5 * 8;
/// Most bytes of a source's or a bucket's name.
pub(super) const NAME_BYTES: usize = 255;
/// Largest payload of a begin frame.
pub(super) const BEGIN_MAX: usize = 3 * 2 + 2 * NAME_BYTES + crate::limits::KEY_BYTES;

// Any two differ in at least three bits.
const KIND_BEGIN: u8 = 0x17;
const KIND_RECORDS: u8 = 0x2b;
const KIND_END: u8 = 0x4d;
const KIND_PACKED: u8 = 0x71;

/// What a frame says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Frame<'a> {
    /// An object begins.
    Begin(Identity<'a>),
    /// Records of an object.
    Records {
        /// Where the object's begin frame stands.
        begin: Position,
        /// At least one.
        records: Records<'a>,
    },
    /// Records of an object, packed.
    Packed {
        /// Where the object's begin frame stands.
        begin: Position,
        /// At least one record, once unpacked.
        packed: Packed<'a>,
    },
    /// The object is whole.
    End {
        /// Where the object's begin frame stands.
        begin: Position,
        /// How it ended.
        fate: ObjectFate,
        /// What became of its records.
        counts: Counts,
    },
}

/// An [`ObjectId`] that borrows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity<'a> {
    /// Name of the source.
    pub source: &'a str,
    /// Bucket name.
    pub bucket: &'a str,
    /// Object key.
    pub key: &'a str,
}

impl Identity<'_> {
    /// A copy that owns.
    pub fn to_object(self) -> ObjectId {
        ObjectId { source: self.source.into(), bucket: self.bucket.into(), key: self.key.into() }
    }
}

/// The records of one frame, in order: index in the object, bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Records<'a> {
    rest: &'a [u8],
}

impl<'a> Records<'a> {
    /// `None`: the bytes are not a whole number of records, at least one.
    pub(super) fn parse(bytes: &'a [u8]) -> Option<Records<'a>> {
        let records = Records { rest: bytes };
        let mut walk = records;
        let count = walk.by_ref().count();
        (count > 0 && walk.rest.is_empty()).then_some(records)
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = (u32, &'a [u8]);

    fn next(&mut self) -> Option<(u32, &'a [u8])> {
        let (index, rest) = take_u32(self.rest)?;
        let (len, rest) = take_u32(rest)?;
        let (record, rest) = rest.split_at_checked(len as usize)?;
        self.rest = rest;
        Some((index, record))
    }
}

/// A frame that checked out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parsed<'a> {
    /// What it says.
    pub frame: Frame<'a>,
    /// Bytes it takes, with length and checksum.
    pub size: usize,
    /// Its checksum: the seed of the next.
    pub crc: u32,
}

/// Why bytes are not a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Broken {
    /// More bytes are needed to tell: this many in all.
    Short(usize),
    /// The length is larger than any that was written.
    Length,
    /// The checksum does not match.
    Checksum,
    /// The checksum matches but the content makes no sense: written by something else.
    Content,
}

/// Bytes of the frame that begins here, by its length field alone; `None` when it is not within `max_payload`.
/// `head` has at least 4 bytes.
pub(super) fn size(head: &[u8], max_payload: usize) -> Option<usize> {
    let (len, _) = take_u32(head)?;
    let len = len as usize;
    // Lazily: of a length that no frame has, the sum does not fit into 32 bits.
    (len <= max_payload).then(|| len + OVERHEAD)
}

/// Parses the frame at the beginning of `bytes`. `seed` is the checksum of the frame before.
pub fn parse(bytes: &[u8], seed: u32, max_payload: usize) -> Result<Parsed<'_>, Broken> {
    if bytes.len() < HEAD {
        return Err(Broken::Short(HEAD));
    }
    let size = size(bytes, max_payload).ok_or(Broken::Length)?;
    let Some(frame) = bytes.get(..size) else { return Err(Broken::Short(size)) };
    let (body, crc) = frame.split_at(size - CRC);
    let (crc, _) = take_u32(crc).ok_or(Broken::Content)?;
    if checksum(seed, &[body]) != crc {
        return Err(Broken::Checksum);
    }
    let frame = content(body[HEAD - 1], &body[HEAD..]).ok_or(Broken::Content)?;
    Ok(Parsed { frame, size, crc })
}

fn content(kind: u8, payload: &[u8]) -> Option<Frame<'_>> {
    match kind {
        KIND_BEGIN => {
            let (source, rest) = take_text(payload)?;
            let (bucket, rest) = take_text(rest)?;
            let (key, rest) = take_text(rest)?;
            rest.is_empty().then_some(Frame::Begin(Identity { source, bucket, key }))
        }
        KIND_RECORDS => {
            let (begin, rest) = take_position(payload)?;
            Some(Frame::Records { begin, records: Records::parse(rest)? })
        }
        KIND_PACKED => {
            let (begin, rest) = take_position(payload)?;
            let (plain, block) = take_u32(rest)?;
            Some(Frame::Packed { begin, packed: Packed::new(plain as usize, block)? })
        }
        KIND_END => {
            let (begin, rest) = take_position(payload)?;
            let (&fate, rest) = rest.split_first()?;
            let fate = match fate {
                1 => ObjectFate::Collected,
                2 => ObjectFate::Quarantined,
                3 => ObjectFate::Recollected,
                _ => return None,
            };
            let (records, rest) = take_u64(rest)?;
            let (kept, rest) = take_u64(rest)?;
            let (dropped, rest) = take_u64(rest)?;
            let (duplicate, rest) = take_u64(rest)?;
            let (quarantined, rest) = take_u64(rest)?;
            let counts = Counts { records, kept, dropped, duplicate, quarantined };
            rest.is_empty().then_some(Frame::End { begin, fate, counts })
        }
        _ => None,
    }
}

/// Bytes of the begin frame of an object; `None` when a name is longer than a frame can say.
pub(super) fn begin_size(object: &ObjectId) -> Option<usize> {
    let fits = object.source.len() <= NAME_BYTES
        && object.bucket.len() <= NAME_BYTES
        && object.key.len() <= crate::limits::KEY_BYTES;
    fits.then(|| OVERHEAD + 6 + object.source.len() + object.bucket.len() + object.key.len())
}

/// Appends a begin frame, and returns its checksum. The names fit ([`begin_size`]).
pub fn push_begin(buf: &mut Vec<u8>, object: &ObjectId, seed: u32) -> u32 {
    let start = open(buf, KIND_BEGIN);
    for name in [&object.source, &object.bucket, &object.key] {
        buf.extend_from_slice(&(name.len() as u16).to_le_bytes());
        buf.extend_from_slice(name.as_bytes());
    }
    seal(buf, start, seed)
}

/// Appends an end frame, and returns its checksum.
pub fn push_end(buf: &mut Vec<u8>, begin: Position, fate: ObjectFate, counts: &Counts, seed: u32) -> u32 {
    let start = open(buf, KIND_END);
    buf.extend_from_slice(&begin.to_bytes());
    buf.push(match fate {
        ObjectFate::Collected => 1,
        ObjectFate::Quarantined => 2,
        ObjectFate::Recollected => 3,
    });
    for n in [counts.records, counts.kept, counts.dropped, counts.duplicate, counts.quarantined] {
        buf.extend_from_slice(&n.to_le_bytes());
    }
    seal(buf, start, seed)
}

/// Opens a records frame at the end of `buf`, and returns where: [`push_record`], then [`seal`].
pub fn open_records(buf: &mut Vec<u8>, begin: Position) -> usize {
    let start = open(buf, KIND_RECORDS);
    buf.extend_from_slice(&begin.to_bytes());
    start
}

/// Appends a record to the open records frame.
pub fn push_record(buf: &mut Vec<u8>, index: u32, record: &[u8]) {
    buf.extend_from_slice(&record_head(index, record));
    buf.extend_from_slice(record);
}

/// Puts the packed records in the place of those of the open records frame at `start`, which ends `buf`. They are
/// fewer bytes by more than [`PACKED_HEAD`].
pub(super) fn replace_by_packed(buf: &mut Vec<u8>, start: usize, block: &[u8]) {
    let records = start + HEAD + RECORDS_HEAD;
    let plain = (buf.len() - records) as u32;
    buf[start + HEAD - 1] = KIND_PACKED;
    buf.truncate(records);
    buf.extend_from_slice(&plain.to_le_bytes());
    buf.extend_from_slice(block);
}

/// Closes the frame that was opened at `start`: fills in its length, appends its checksum and returns it.
pub fn seal(buf: &mut Vec<u8>, start: usize, seed: u32) -> u32 {
    let len = (buf.len() - start - HEAD) as u32;
    buf[start..start + 4].copy_from_slice(&len.to_le_bytes());
    let crc = checksum(seed, &[&buf[start..]]);
    buf.extend_from_slice(&crc.to_le_bytes());
    crc
}

/// What stands before a record that has a frame of its own, and the frame's checksum: such a record is written
/// from where it is, without a copy.
pub fn lone_record(begin: Position, index: u32, record: &[u8], seed: u32) -> ([u8; LONE_HEAD], u32) {
    let mut head = [0; LONE_HEAD];
    let len = (RECORDS_HEAD + RECORD_HEAD + record.len()) as u32;
    head[..4].copy_from_slice(&len.to_le_bytes());
    head[4] = KIND_RECORDS;
    head[HEAD..HEAD + RECORDS_HEAD].copy_from_slice(&begin.to_bytes());
    head[HEAD + RECORDS_HEAD..].copy_from_slice(&record_head(index, record));
    let crc = checksum(seed, &[&head, record]);
    (head, crc)
}

/// Bytes before a record that has a frame of its own.
pub const LONE_HEAD: usize = HEAD + RECORDS_HEAD + RECORD_HEAD;

/// CRC-32 (IEEE) over the parts, one after the other, going on from `seed`.
pub(super) fn checksum(seed: u32, parts: &[&[u8]]) -> u32 {
    let mut hasher = crc32fast::Hasher::new_with_initial(seed);
    for part in parts {
        hasher.update(part);
    }
    hasher.finalize()
}

fn open(buf: &mut Vec<u8>, kind: u8) -> usize {
    let start = buf.len();
    buf.extend_from_slice(&[0, 0, 0, 0, kind]);
    start
}

fn record_head(index: u32, record: &[u8]) -> [u8; RECORD_HEAD] {
    let mut head = [0; RECORD_HEAD];
    head[..4].copy_from_slice(&index.to_le_bytes());
    head[4..].copy_from_slice(&(record.len() as u32).to_le_bytes());
    head
}

pub(super) fn take_u32(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let (head, rest) = bytes.split_first_chunk()?;
    Some((u32::from_le_bytes(*head), rest))
}

pub(super) fn take_u64(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (head, rest) = bytes.split_first_chunk()?;
    Some((u64::from_le_bytes(*head), rest))
}

pub(super) fn take_position(bytes: &[u8]) -> Option<(Position, &[u8])> {
    let (head, rest) = bytes.split_first_chunk()?;
    Some((Position::from_bytes(*head), rest))
}

pub(super) fn take_text(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let (len, rest) = bytes.split_first_chunk()?;
    let (text, rest) = rest.split_at_checked(usize::from(u16::from_le_bytes(*len)))?;
    Some((std::str::from_utf8(text).ok()?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MAX: usize = 1 << 16;
    const BEGIN: Position = Position { segment: 7, offset: 40 };

    fn object() -> ObjectId {
        ObjectId { source: "prod".into(), bucket: "acme".into(), key: "AWSLogs/1/x.json.gz".into() }
    }

    /// An object of two records frames, one of them for a lone record.
    fn log(seed: u32) -> (Vec<u8>, Vec<usize>) {
        let mut buf = Vec::new();
        let mut starts = vec![0];
        let mut crc = push_begin(&mut buf, &object(), seed);
        starts.push(buf.len());
        let start = open_records(&mut buf, BEGIN);
        push_record(&mut buf, 0, b"{}");
        push_record(&mut buf, 2, b"");
        crc = seal(&mut buf, start, crc);
        starts.push(buf.len());
        let (head, lone) = lone_record(BEGIN, 3, b"{\"a\":1}", crc);
        buf.extend_from_slice(&head);
        buf.extend_from_slice(b"{\"a\":1}");
        buf.extend_from_slice(&lone.to_le_bytes());
        starts.push(buf.len());
        let counts = Counts { records: 5, kept: 3, dropped: 1, duplicate: 0, quarantined: 1 };
        push_end(&mut buf, BEGIN, ObjectFate::Collected, &counts, lone);
        (buf, starts)
    }

    #[test]
    fn frames_are_read_as_they_were_written() {
        let (buf, starts) = log(99);
        let mut seed = 99;
        let mut seen = Vec::new();
        for &start in &starts {
            let parsed = parse(&buf[start..], seed, MAX).unwrap();
            assert_eq!(size(&buf[start..], MAX), Some(parsed.size));
            seed = parsed.crc;
            seen.push(match parsed.frame {
                Frame::Begin(id) => {
                    assert_eq!(id.to_object(), object());
                    "begin".to_owned()
                }
                Frame::Records { begin, records } => {
                    assert_eq!(begin, BEGIN);
                    records
                        .map(|(i, r)| format!("{i}={}", String::from_utf8_lossy(r)))
                        .collect::<Vec<_>>()
                        .join(" ")
                }
                Frame::Packed { .. } => "packed".to_owned(),
                Frame::End { begin, fate, counts } => {
                    assert_eq!((begin, fate), (BEGIN, ObjectFate::Collected));
                    format!("end {}", counts.kept)
                }
            });
        }
        assert_eq!(seen, ["begin", "0={} 2=", "3={\"a\":1}", "end 3"]);
        assert_eq!(begin_size(&object()), Some(starts[1]));
    }

    #[test]
    fn a_frame_stands_only_behind_the_frame_it_was_written_behind() {
        let (buf, starts) = log(99);
        for &start in &starts {
            assert_eq!(parse(&buf[start..], 98, MAX).unwrap_err(), Broken::Checksum);
        }
    }

    #[test]
    fn the_format_does_not_change_unnoticed() {
        let mut buf = Vec::new();
        push_begin(&mut buf, &ObjectId { source: "s".into(), bucket: "b".into(), key: "k".into() }, 0);
        assert_eq!(buf[..14], [9, 0, 0, 0, 0x17, 1, 0, b's', 1, 0, b'b', 1, 0, b'k']);
        assert_eq!(buf[14..], crc32fast::hash(&buf[..14]).to_le_bytes());
    }

    #[test]
    fn lengths_are_checked_before_anything_else() {
        let (mut buf, _) = log(0);
        assert_eq!(parse(&buf, 0, 8), Err(Broken::Length));
        assert_eq!(parse(&buf[..4], 0, MAX), Err(Broken::Short(HEAD)));
        assert_eq!(parse(&buf[..9], 0, MAX), Err(Broken::Short(begin_size(&object()).unwrap())));
        buf[..4].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(parse(&buf, 0, MAX), Err(Broken::Length));
        assert_eq!(parse(&[0; 64], 0, MAX), Err(Broken::Checksum), "zeros are no frame");
        let long = ObjectId { key: "k".repeat(crate::limits::KEY_BYTES + 1).into(), ..object() };
        assert_eq!(begin_size(&long), None);
    }

    proptest! {
        #[test]
        fn any_changed_byte_is_noticed(at in 0usize..200, flip in 1u8..) {
            let (mut buf, starts) = log(5);
            let at = at % buf.len();
            buf[at] ^= flip;
            let mut seed = 5;
            let good = starts.iter().take_while(|&&start| match parse(&buf[start..], seed, MAX) {
                Ok(parsed) => { seed = parsed.crc; true }
                Err(_) => false,
            }).count();
            let hit = starts.iter().filter(|&&start| start <= at).count() - 1;
            prop_assert_eq!(good, hit);
        }

        #[test]
        fn no_input_panics(bytes: Vec<u8>, seed: u32, kind in prop::sample::select(vec![KIND_BEGIN, KIND_RECORDS, KIND_PACKED, KIND_END])) {
            let _ = parse(&bytes, seed, MAX);
            // The same as the payload of a frame that checks out.
            let mut buf = Vec::new();
            let start = open(&mut buf, kind);
            buf.extend_from_slice(&bytes);
            seal(&mut buf, start, seed);
            if let Ok(Parsed { frame: Frame::Records { records, .. }, size, .. }) = parse(&buf, seed, MAX) {
                prop_assert_eq!(size, buf.len());
                prop_assert_eq!(records.map(|(_, record)| record.len() + RECORD_HEAD).sum::<usize>() + RECORDS_HEAD, bytes.len());
            }
        }
    }
}
