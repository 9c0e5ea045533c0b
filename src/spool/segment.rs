//! Segment files: their names, their header, and reading frames from them through one buffer.
//!
//! ```text
//! spool/%016x.seg      the segment's number, never used twice
//!  0  8  magic "TRLSPOOL"
//!  8  4  version u32: 1; 2 when it may hold packed frames, which version 1 does not know
//! 12  8  number u64
//! 20 16  previous: the place at which the log stood when this segment was begun (segment 0: nowhere)
//! 36  4  crc32 of the 36 bytes before; the seed of the first frame
//! 40     frames
//! ```
//!
//! Everything before `previous` was durable before the segment's file was created, and everything between
//! `previous` and the segment is void: it was taken back. See [`recovery`](super::recovery).

use std::io;

use super::disk::DiskFile;
use super::frame::{self, Broken, Frame, Parsed};
use super::position::Position;
use crate::limits;

/// The folder of the segments.
pub(super) const DIR: &str = "spool";
/// Bytes of a segment's header.
pub(super) const HEADER: u64 = 40;

const MAGIC: &[u8; 8] = b"TRLSPOOL";
const VERSION: u32 = 1;
const VERSION_PACKED: u32 = 2;
/// A frame as the writer fills it, and the seed before it.
const WINDOW: usize = limits::FRAME_BYTES + frame::OVERHEAD + frame::CRC;

/// The path of a segment.
pub(super) fn path(segment: u64) -> String {
    format!("{DIR}/{segment:016x}.seg")
}

/// The number in a segment's file name; `None` for names that are not a segment's.
pub(super) fn number(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".seg").filter(|digits| digits.len() == 16)?;
    let lower = digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    if lower { u64::from_str_radix(digits, 16).ok() } else { None }
}

/// What a segment says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Header {
    /// Good.
    Follows(Position),
    /// Good, but of a version that is not understood.
    Version(u32),
    /// Whole, but another segment's: the file stands in the wrong place, and so does everything in it.
    Foreign,
    /// Torn or damaged.
    Unreadable,
}

/// The header of a new segment; its last four bytes seed the first frame. `packed`: it may hold packed frames.
pub(super) fn header(number: u64, previous: Position, packed: bool) -> ([u8; HEADER as usize], u32) {
    let mut bytes = [0; HEADER as usize];
    bytes[..8].copy_from_slice(MAGIC);
    let version = if packed { VERSION_PACKED } else { VERSION };
    bytes[8..12].copy_from_slice(&version.to_le_bytes());
    bytes[12..20].copy_from_slice(&number.to_le_bytes());
    bytes[20..36].copy_from_slice(&previous.to_bytes());
    let crc = frame::checksum(0, &[&bytes[..36]]);
    bytes[36..].copy_from_slice(&crc.to_le_bytes());
    (bytes, crc)
}

/// Reads the header of segment `number`.
pub(super) fn read_header<F: DiskFile>(file: &F, number: u64) -> io::Result<Header> {
    let mut bytes = [0; HEADER as usize];
    if read_full(file, 0, &mut bytes)? < bytes.len() {
        return Ok(Header::Unreadable);
    }
    Ok(parse_header(&bytes, number).unwrap_or(Header::Unreadable))
}

fn parse_header(bytes: &[u8; HEADER as usize], number: u64) -> Option<Header> {
    let rest = bytes.strip_prefix(MAGIC)?;
    let (version, rest) = frame::take_u32(rest)?;
    let (own, rest) = frame::take_u64(rest)?;
    let (previous, rest) = frame::take_position(rest)?;
    let (crc, _) = frame::take_u32(rest)?;
    let good = crc == frame::checksum(0, &[&bytes[..36]]);
    good.then_some(match version {
        VERSION | VERSION_PACKED if own != number => Header::Foreign,
        VERSION | VERSION_PACKED => Header::Follows(previous),
        other => Header::Version(other),
    })
}

/// Whether segment `number` says that it may hold packed frames.
pub(super) fn may_hold_packed<F: DiskFile>(file: &F, number: u64) -> io::Result<bool> {
    let mut version = [0; 4];
    read_full(file, 8, &mut version)?;
    let known = matches!(read_header(file, number)?, Header::Follows(_));
    Ok(known && u32::from_le_bytes(version) == VERSION_PACKED)
}

/// Reads frames of one segment file through one buffer, many small ones with each read.
pub(super) struct Frames {
    buf: Vec<u8>,
    /// Offset in the file of `buf[0]`.
    start: u64,
    max_payload: usize,
    /// The file is another segment's: no frame in it is this one's.
    foreign: bool,
    /// What the disk cannot read counts as broken, and is no error.
    lenient: bool,
    /// Why something could not be read, since [`Frames::lenient`] was said.
    unreadable: Option<io::Error>,
    /// The records of the packed frame that was read last; `None`: packed frames are left packed.
    plain: Option<Vec<u8>>,
}

impl Frames {
    /// `max_payload` bounds the buffer: longer frames are taken for damage.
    pub(super) fn new(max_payload: usize) -> Frames {
        let (lenient, unreadable) = (false, None);
        let (buf, plain) = (Vec::new(), Some(Vec::new()));
        Frames { buf, start: 0, max_payload, foreign: false, lenient, unreadable, plain }
    }

    /// For who needs no records: packed frames stay [`Frame::Packed`]. [`Frames::new`] makes [`Frame::Records`] of them.
    pub(super) fn without_records(max_payload: usize) -> Frames {
        Frames { plain: None, ..Frames::new(max_payload) }
    }

    /// Whether what the disk cannot read counts as broken from here on, instead of as an error.
    pub(super) fn lenient(&mut self, lenient: bool) {
        self.lenient = lenient;
        self.unreadable = None;
    }

    /// Why the last frame that was broken could not be read, if it was for that.
    pub(super) fn unreadable(&mut self) -> Option<io::Error> {
        self.unreadable.take()
    }

    /// Forgets what was read: another file comes, which should be segment `number`.
    pub(super) fn enter<F: DiskFile>(&mut self, file: &F, number: u64) -> io::Result<()> {
        self.buf.clear();
        // A frame names its object by its place in the log. In the wrong place it would name another one.
        self.foreign = match read_header(file, number) {
            Err(error) if self.lenient && is_unreadable(&error) => false,
            header => header? == Header::Foreign,
        };
        Ok(())
    }

    /// The frame at `offset`, which ends at or before `limit`. What lies before `limit` does not change any more.
    pub(super) fn at<F: DiskFile>(
        &mut self,
        file: &F,
        offset: u64,
        limit: u64,
    ) -> io::Result<Result<Parsed<'_>, Broken>> {
        let rest = limit.saturating_sub(offset);
        if self.foreign {
            return Ok(Err(Broken::Content));
        }
        if rest < frame::OVERHEAD as u64 {
            return Ok(Err(Broken::Length));
        }
        if !self.fill(file, offset, frame::OVERHEAD, limit)? {
            return Ok(Err(Broken::Length));
        }
        let size = match frame::size(self.bytes(offset, 4), self.max_payload) {
            Some(size) if size as u64 <= rest => size,
            _ => return Ok(Err(Broken::Length)),
        };
        if !self.fill(file, offset, size, limit)? {
            return Ok(Err(Broken::Length));
        }
        let seed =
            frame::take_u32(self.bytes(offset - frame::CRC as u64, frame::CRC)).map_or(0, |(seed, _)| seed);
        let from = (offset - self.start) as usize;
        let parsed = frame::parse(&self.buf[from..from + size], seed, self.max_payload);
        Ok(parsed.and_then(|parsed| match (parsed.frame, &mut self.plain) {
            (Frame::Packed { begin, packed }, Some(plain)) => {
                let records = packed.unpack(plain).ok_or(Broken::Content)?;
                Ok(Parsed { frame: Frame::Records { begin, records }, ..parsed })
            }
            _ => Ok(parsed),
        }))
    }

    /// The raw bytes of the frame that [`Frames::at`] has just read at `offset`.
    pub(super) fn bytes(&self, offset: u64, len: usize) -> &[u8] {
        let from = (offset - self.start) as usize;
        &self.buf[from..from + len]
    }

    /// Where reading goes on behind a frame that does not check out at `offset`. When its length leads to a good
    /// frame, or just to `limit`, only this one is lost; otherwise everything before `limit` is. Nothing is searched
    /// for in between: a record may hold bytes that look like a frame.
    pub(super) fn behind<F: DiskFile>(&mut self, file: &F, offset: u64, limit: u64) -> io::Result<u64> {
        if self.foreign
            || limit.saturating_sub(offset) < frame::OVERHEAD as u64
            || !self.fill(file, offset, frame::OVERHEAD, limit)?
        {
            return Ok(limit);
        }
        let Some(size) = frame::size(self.bytes(offset, 4), self.max_payload) else { return Ok(limit) };
        let next = offset + size as u64;
        let good = next < limit && self.at(file, next, limit)?.is_ok();
        Ok(if good { next } else { limit })
    }

    /// Has `len` bytes at `offset` and the seed before them in the buffer; `false` when the file is shorter.
    fn fill<F: DiskFile>(&mut self, file: &F, offset: u64, len: usize, limit: u64) -> io::Result<bool> {
        let from = offset - frame::CRC as u64;
        let need = len + frame::CRC;
        let held = self.start..self.start + self.buf.len() as u64;
        if held.contains(&from) && from + need as u64 <= held.end {
            return Ok(true);
        }
        let want = (WINDOW.max(need) as u64).min(limit - from) as usize;
        // A record larger than the window is rare: its buffer does not stay.
        if self.buf.capacity() > WINDOW && want <= WINDOW {
            self.buf = Vec::new();
        }
        self.buf.clear();
        self.buf.reserve_exact(want);
        self.buf.resize(want, 0);
        self.start = from;
        let (read, end) = read_until(file, from, &mut self.buf);
        self.buf.truncate(read);
        match end {
            // What is further on may not be needed, and is read again when it is.
            Err(error) if read < need => {
                self.buf.clear();
                if !(self.lenient && is_unreadable(&error)) {
                    return Err(error);
                }
                self.unreadable = Some(error);
                Ok(false)
            }
            _ => Ok(read >= need),
        }
    }
}

/// Reads until `buf` is full or the file ends.
pub(super) fn read_full<F: DiskFile>(file: &F, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
    let (done, end) = read_until(file, offset, buf);
    end.map(|()| done)
}

/// Reads until `buf` is full, the file ends, or the disk fails: then what was read before that is there as well.
fn read_until<F: DiskFile>(file: &F, offset: u64, buf: &mut [u8]) -> (usize, io::Result<()>) {
    let mut done = 0;
    while done < buf.len() {
        match file.read_at(offset + done as u64, &mut buf[done..]) {
            Ok(0) => break,
            Ok(n) => done += n,
            Err(error) => return (done, Err(error)),
        }
    }
    (done, Ok(()))
}

/// Whether the medium does not give the bytes; a moment later it may.
pub(super) fn is_unreadable(error: &io::Error) -> bool {
    error.raw_os_error() == Some(nix::errno::Errno::EIO as i32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault_disk::FaultDisk;
    use crate::record::{Counts, ObjectFate, ObjectId};
    use crate::spool::disk::Disk;

    #[test]
    fn names_are_sixteen_lower_hex_digits() {
        assert_eq!(path(0x2a), "spool/000000000000002a.seg");
        assert_eq!(number("000000000000002a.seg"), Some(0x2a));
        for name in ["2a.seg", "000000000000002A.seg", "+00000000000002a.seg", "000000000000002a.tmp"] {
            assert_eq!(number(name), None, "{name}");
        }
    }

    #[test]
    fn a_header_is_of_its_own_number_and_whole() {
        let disk = FaultDisk::new();
        let mut file = disk.create("x").unwrap();
        let previous = Position { segment: 3, offset: 77 };
        let (bytes, _) = header(5, previous, false);
        file.write_at(0, &bytes[..39]).unwrap();
        assert_eq!(read_header(&file, 5).unwrap(), Header::Unreadable);
        file.write_at(0, &bytes).unwrap();
        assert_eq!(read_header(&file, 5).unwrap(), Header::Follows(previous));
        assert_eq!(read_header(&file, 6).unwrap(), Header::Foreign);
        assert!(!may_hold_packed(&file, 5).unwrap());
        let (packed, _) = header(5, previous, true);
        file.write_at(0, &packed).unwrap();
        assert_eq!(read_header(&file, 5).unwrap(), Header::Follows(previous));
        assert!(may_hold_packed(&file, 5).unwrap() && !may_hold_packed(&file, 6).unwrap());
        let mut newer = bytes;
        newer[8] = 3;
        let crc = frame::checksum(0, &[&newer[..36]]);
        newer[36..].copy_from_slice(&crc.to_le_bytes());
        file.write_at(0, &newer).unwrap();
        assert_eq!(read_header(&file, 5).unwrap(), Header::Version(3));
    }

    /// A segment of `count` objects without records; the offsets of its frames and its end.
    fn segment(disk: &FaultDisk, count: usize) -> (<FaultDisk as Disk>::File, Vec<u64>) {
        let (head, mut crc) = header(1, Position::default(), false);
        let mut bytes = head.to_vec();
        let mut offsets = vec![HEADER];
        for n in 0..count {
            let id = ObjectId { source: "s".into(), bucket: "b".into(), key: n.to_string().into() };
            let begin = Position { segment: 1, offset: bytes.len() as u64 };
            crc = frame::push_begin(&mut bytes, &id, crc);
            offsets.push(bytes.len() as u64);
            crc = frame::push_end(&mut bytes, begin, ObjectFate::Collected, &Counts::default(), crc);
            offsets.push(bytes.len() as u64);
        }
        let mut file = disk.create("x").unwrap();
        file.write_at(0, &bytes).unwrap();
        (file, offsets)
    }

    #[test]
    fn one_damaged_frame_is_stepped_over_and_a_damaged_length_costs_the_rest() {
        let disk = FaultDisk::new();
        let (file, offsets) = segment(&disk, 3);
        let end = *offsets.last().unwrap();
        disk.flip("x", offsets[2] as usize + 9, 0x10);
        let mut frames = Frames::new(4096);
        assert!(frames.at(&file, offsets[1], end).unwrap().is_ok());
        assert_eq!(frames.at(&file, offsets[2], end).unwrap(), Err(Broken::Checksum));
        assert_eq!(frames.behind(&file, offsets[2], end).unwrap(), offsets[3]);
        assert!(frames.at(&file, offsets[3], end).unwrap().is_ok());
        disk.flip("x", offsets[2] as usize, 1);
        frames.enter(&file, 1).unwrap();
        assert_eq!(frames.behind(&file, offsets[2], end).unwrap(), end);
    }

    #[test]
    fn no_frame_reaches_over_the_limit() {
        let disk = FaultDisk::new();
        let (file, offsets) = segment(&disk, 1);
        let mut frames = Frames::new(4096);
        for limit in HEADER..offsets[1] {
            assert!(frames.at(&file, HEADER, limit).unwrap().is_err());
            frames.enter(&file, 1).unwrap();
        }
        assert!(frames.at(&file, HEADER, offsets[1]).unwrap().is_ok());
        assert!(frames.at(&file, HEADER, offsets[1] + 99).unwrap().is_ok(), "the file may be shorter");
    }
}
