//! How far an output has come, and the file that keeps it.
//!
//! ```text
//! cursors/<output>.cur, replaced atomically
//!  0  8  magic "TRLCURSR"
//!  8  4  version u32, 2
//! 12 16  begin    position
//! 28 16  frame    position
//! 44  4  record u32
//! 48  8  delivered u64
//! 56  8  rejected u64
//! 64  8  skipped u64
//! 72  4  crc32 of the 72 bytes before
//! 76
//! ```
//!
//! Version 1, which is read too, had no `skipped`: its crc32 stood at 64.
//!
//! The counts stand in the same file as the place, so that they agree with it after any crash.

use std::io;

use super::atomic;
use super::disk::Disk;
use super::frame;
use super::position::Position;
use super::segment::read_full;

/// The folder of the cursors.
pub(super) const DIR: &str = "cursors";

const SUFFIX: &str = ".cur";
const MAGIC: &[u8; 8] = b"TRLCURSR";
const VERSION: u32 = 2;
const BYTES: usize = 76;
const BYTES_1: usize = 68;
const CRC: usize = 4;

/// How far an output has come. Everything before is acknowledged.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Default)]
pub struct Cursor {
    /// The begin frame of the object that the next record may still belong to. Segments before it are not needed.
    pub begin: Position,
    /// The frame that is read next.
    pub frame: Position,
    /// Records of that frame that are done.
    pub record: u32,
    /// Records acknowledged by the receiver, all time.
    pub delivered: u64,
    /// Records set aside by the output, all time.
    pub rejected: u64,
    /// Records given up to make room in the spool, all time.
    pub skipped: u64,
}

impl Cursor {
    /// The same counts at a boundary of objects.
    pub(super) fn moved_to(self, boundary: Position) -> Cursor {
        Cursor { begin: boundary, frame: boundary, record: 0, ..self }
    }

    /// The order of cursors.
    pub(super) fn place(&self) -> (Position, u32) {
        (self.frame, self.record)
    }

    fn to_bytes(self) -> [u8; BYTES] {
        let mut bytes = [0; BYTES];
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
        bytes[12..28].copy_from_slice(&self.begin.to_bytes());
        bytes[28..44].copy_from_slice(&self.frame.to_bytes());
        bytes[44..48].copy_from_slice(&self.record.to_le_bytes());
        bytes[48..56].copy_from_slice(&self.delivered.to_le_bytes());
        bytes[56..64].copy_from_slice(&self.rejected.to_le_bytes());
        bytes[64..72].copy_from_slice(&self.skipped.to_le_bytes());
        let crc = frame::checksum(0, &[&bytes[..BYTES - CRC]]);
        bytes[BYTES - CRC..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    fn from_bytes(bytes: &[u8]) -> Option<Cursor> {
        let rest = bytes.strip_prefix(MAGIC)?;
        let (version, rest) = frame::take_u32(rest)?;
        let (begin, rest) = frame::take_position(rest)?;
        let (position, rest) = frame::take_position(rest)?;
        let (record, rest) = frame::take_u32(rest)?;
        let (delivered, rest) = frame::take_u64(rest)?;
        let (rejected, rest) = frame::take_u64(rest)?;
        let (skipped, rest) = match (version, bytes.len()) {
            (1, BYTES_1) => (0, rest),
            (VERSION, BYTES) => frame::take_u64(rest)?,
            _ => return None,
        };
        let (crc, _) = frame::take_u32(rest)?;
        let good = crc == frame::checksum(0, &[&bytes[..bytes.len() - CRC]]);
        good.then_some(Cursor { begin, frame: position, record, delivered, rejected, skipped })
    }
}

/// What is kept of an output's cursor.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Kept {
    /// None: the output is new.
    Nothing,
    /// The cursor.
    Cursor(Cursor),
    /// A file that is not a cursor.
    Unreadable,
}

/// Reads the cursor of an output.
pub(super) fn load<D: Disk>(disk: &D, output: &str) -> io::Result<Kept> {
    let file = match disk.open(&path(output)) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Kept::Nothing),
        Err(error) => return Err(error),
    };
    let mut bytes = [0; BYTES + 1];
    let len = read_full(&file, 0, &mut bytes)?;
    let cursor = Cursor::from_bytes(&bytes[..len]);
    Ok(cursor.map_or(Kept::Unreadable, Kept::Cursor))
}

/// Keeps the cursor of an output. Durable on return.
pub(super) fn save<D: Disk>(disk: &D, output: &str, cursor: Cursor) -> io::Result<()> {
    atomic::replace(disk, DIR, &format!("{output}{SUFFIX}"), &cursor.to_bytes())
}

/// The file of an output's cursor.
pub(super) fn path(output: &str) -> String {
    format!("{DIR}/{output}{SUFFIX}")
}

/// The output whose cursor a file is.
pub(super) fn output(name: &str) -> Option<&str> {
    name.strip_suffix(SUFFIX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault_disk::FaultDisk;

    #[test]
    fn a_cursor_is_kept_whole_or_known_to_be_damaged() {
        let disk = FaultDisk::new();
        disk.create_dir(DIR).unwrap();
        assert_eq!(load(&disk, "siem").unwrap(), Kept::Nothing);
        let at = |segment, offset| Position { segment, offset };
        let cursor =
            Cursor { begin: at(1, 2), frame: at(3, 4), record: 5, delivered: 6, rejected: 7, skipped: 8 };
        save(&disk, "siem", cursor).unwrap();
        assert_eq!(load(&disk, "siem").unwrap(), Kept::Cursor(cursor));
        assert_eq!(output("siem.cur"), Some("siem"));
        for offset in 0..BYTES {
            disk.flip(&path("siem"), offset, 0x40);
            assert_eq!(load(&disk, "siem").unwrap(), Kept::Unreadable, "byte {offset}");
            disk.flip(&path("siem"), offset, 0x40);
        }
        assert_eq!(load(&disk, "siem").unwrap(), Kept::Cursor(cursor));
    }

    #[test]
    fn a_cursor_of_version_1_is_read() {
        let at = |segment, offset| Position { segment, offset };
        let cursor =
            Cursor { begin: at(1, 2), frame: at(3, 4), record: 5, delivered: 6, rejected: 7, skipped: 0 };
        let mut bytes = cursor.to_bytes()[..BYTES_1].to_vec();
        bytes[8] = 1;
        let crc = frame::checksum(0, &[&bytes[..BYTES_1 - CRC]]);
        bytes[BYTES_1 - CRC..].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(Cursor::from_bytes(&bytes), Some(cursor));
        assert_eq!(Cursor::from_bytes(&bytes[..60]), None);
    }
}
