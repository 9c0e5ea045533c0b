//! Places in the spool's log, and the proof that everything before one is durable.

use super::disk::Synced;

/// A place in the log: the segment's number and a byte offset in its file. Ordered as the log is.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Position {
    /// Number of the segment.
    pub segment: u64,
    /// Bytes from the beginning of its file.
    pub offset: u64,
}

impl Position {
    /// Bytes of a position on disk.
    pub const BYTES: usize = 16;

    /// `segment u64 | offset u64`, little-endian.
    pub fn to_bytes(self) -> [u8; Position::BYTES] {
        (u128::from(self.segment) | (u128::from(self.offset) << 64)).to_le_bytes()
    }

    /// The inverse of its text, `SEGMENT:OFFSET`: 16 hex digits as in the file's name, and bytes. Without an offset, the
    /// beginning of the segment.
    pub fn parse(text: &str) -> Option<Position> {
        let (segment, offset) = text.split_once(':').unwrap_or((text, "0"));
        let plain = |text: &str, radix| text.bytes().all(|byte| char::from(byte).is_digit(radix));
        if !plain(segment, 16) || !plain(offset, 10) {
            return None;
        }
        Some(Position { segment: u64::from_str_radix(segment, 16).ok()?, offset: offset.parse().ok()? })
    }

    /// The inverse of [`Position::to_bytes`].
    pub fn from_bytes(bytes: [u8; Position::BYTES]) -> Position {
        let both = u128::from_le_bytes(bytes);
        Position { segment: both as u64, offset: (both >> 64) as u64 }
    }
}

impl std::fmt::Display for Position {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:016x}:{}", self.segment, self.offset)
    }
}

/// Proof that every object which ended before `through` is durable in the spool. Ledger entries and
/// acknowledgements upstream can only be made from one.
#[derive(Debug)]
#[must_use]
pub struct Committed {
    /// The end of what is committed.
    pub through: Position,
    /// What the proof stands on.
    _synced: Synced,
}

impl Committed {
    /// For the spool's writer: `synced` covers everything before `through`.
    pub fn new(through: Position, synced: Synced) -> Committed {
        Committed { through, _synced: synced }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_is_two_little_endian_words_in_the_order_of_the_log() {
        let position = Position { segment: 0x0102, offset: 0x0a0b };
        let bytes = position.to_bytes();
        assert_eq!(bytes, [2, 1, 0, 0, 0, 0, 0, 0, 0x0b, 0x0a, 0, 0, 0, 0, 0, 0]);
        assert_eq!(Position::from_bytes(bytes), position);
        assert_eq!(Position::parse(&position.to_string()), Some(position));
        assert_eq!(Position::parse("1f"), Some(Position { segment: 0x1f, offset: 0 }));
        for text in ["", ":", "x:1", "1:x", "+1", "1:+2", "1:2:3", "11111111111111111:0"] {
            assert_eq!(Position::parse(text), None, "{text}");
        }
        assert!(Position { segment: 1, offset: 9 } < Position { segment: 2, offset: 0 });
    }
}
