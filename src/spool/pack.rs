//! Packed frames: the records of one frame as one LZ4 block. A core.
//!
//! A frame is packed as it is closed, if that makes it smaller; a record that needs a frame of its own is written
//! as it is. So a packed frame never unpacks to more than [`limits::FRAME_BYTES`], and what claims more is damage.
//! Source of the block's format: "LZ4 Block Format Description", lz4/lz4, doc/lz4_Block_format.md.

use lz4_flex::block::{CompressTable, compress_into_with_table, decompress_into, get_maximum_output_size};

use super::frame::{self, Records};
use crate::limits;

/// Packs frames; holds what that needs: a table of 8 KiB and room for one packed frame.
pub(super) struct Packer {
    table: CompressTable,
    packed: Box<[u8]>,
}

impl Packer {
    pub(super) fn new() -> Packer {
        Packer {
            table: CompressTable::small(),
            packed: vec![0; get_maximum_output_size(limits::FRAME_BYTES)].into(),
        }
    }

    /// Packs the open records frame at the end of `buf`, which begins at `start`. Returns the bytes that saves; 0: it
    /// stays as it is.
    pub(super) fn pack(&mut self, buf: &mut Vec<u8>, start: usize) -> usize {
        let plain = start + frame::HEAD + frame::RECORDS_HEAD;
        let records = &buf[plain..];
        // The writer closes frames before they grow larger.
        if records.len() > limits::FRAME_BYTES {
            return 0;
        }
        let Ok(len) = compress_into_with_table(records, &mut self.packed, &mut self.table) else { return 0 };
        let saved = records.len().saturating_sub(frame::PACKED_HEAD + len);
        if saved > 0 {
            frame::replace_by_packed(buf, start, &self.packed[..len]);
        }
        saved
    }
}

/// The records of a packed frame, which are not unpacked yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packed<'a> {
    plain: usize,
    block: &'a [u8],
}

impl<'a> Packed<'a> {
    /// `None`: no packed frame was ever written so.
    pub(super) fn new(plain: usize, block: &'a [u8]) -> Option<Packed<'a>> {
        ((1..=limits::FRAME_BYTES).contains(&plain) && block.len() < plain).then_some(Packed { plain, block })
    }

    /// Unpacks the records into `room`, which grows to [`limits::FRAME_BYTES`] at most. `None`: the block is no LZ4
    /// block of records, though the frame's checksum matches; written by something else.
    pub fn unpack<'r>(&self, room: &'r mut Vec<u8>) -> Option<Records<'r>> {
        room.clear();
        room.resize(self.plain, 0);
        let len = decompress_into(self.block, room).ok()?;
        Records::parse(room.get(..len).filter(|_| len == self.plain)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spool::frame::{Frame, Parsed};
    use crate::spool::position::Position;
    use proptest::prelude::*;

    const BEGIN: Position = Position { segment: 3, offset: 40 };

    fn sealed(records: &[Vec<u8>]) -> (Vec<u8>, usize) {
        let mut buf = b"before".to_vec();
        let start = frame::open_records(&mut buf, BEGIN);
        for (index, record) in records.iter().enumerate() {
            frame::push_record(&mut buf, index as u32, record);
        }
        let saved = Packer::new().pack(&mut buf, start);
        frame::seal(&mut buf, start, 7);
        (buf.split_off(6), saved)
    }

    #[test]
    fn records_that_shrink_are_packed_and_come_back_as_they_were() {
        let records: Vec<Vec<u8>> =
            (0..40).map(|n| format!(r#"{{"eventVersion":"1.08","eventID":"{n}"}}"#).into()).collect();
        let plain: usize = records.iter().map(|record| record.len() + frame::RECORD_HEAD).sum();
        let (bytes, saved) = sealed(&records);
        assert_eq!(bytes.len(), frame::OVERHEAD + frame::RECORDS_HEAD + plain - saved);
        assert!(saved > plain / 2, "{saved} of {plain}");
        let Ok(Parsed { frame: Frame::Packed { begin, packed }, size, .. }) =
            frame::parse(&bytes, 7, 1 << 16)
        else {
            panic!("not a packed frame")
        };
        assert_eq!((begin, size), (BEGIN, bytes.len()));
        let mut room = Vec::new();
        let back: Vec<Vec<u8>> =
            packed.unpack(&mut room).unwrap().map(|(_, record)| record.to_vec()).collect();
        assert_eq!(back, records);
    }

    #[test]
    fn records_that_do_not_shrink_stay_as_they_are() {
        let mut rng = fastrand::Rng::with_seed(1);
        let noise: Vec<u8> = (0..2000).map(|_| rng.u8(..)).collect();
        let (bytes, saved) = sealed(&[noise.clone(), Vec::new()]);
        assert_eq!(saved, 0);
        let Ok(Parsed { frame: Frame::Records { records, .. }, .. }) = frame::parse(&bytes, 7, 1 << 16)
        else {
            panic!("not a plain frame")
        };
        assert_eq!(records.map(|(_, record)| record.to_vec()).collect::<Vec<_>>(), [noise, Vec::new()]);
    }

    #[test]
    fn a_claim_of_more_than_any_frame_held_is_damage_and_reserves_nothing() {
        assert_eq!(Packed::new(limits::FRAME_BYTES + 1, &[0]), None);
        assert_eq!(Packed::new(0, &[]), None);
        assert_eq!(Packed::new(4, &[0; 4]), None, "it would not have been packed");
        let mut room = Vec::new();
        assert_eq!(Packed::new(10, &[0xff; 9]).unwrap().unpack(&mut room), None);
    }

    proptest! {
        #[test]
        fn no_block_panics_or_unpacks_to_more_than_it_says(plain in 1usize..5000, block: Vec<u8>) {
            if let Some(packed) = Packed::new(plain, &block) {
                let mut room = Vec::new();
                let _ = packed.unpack(&mut room);
                prop_assert!(room.len() == plain && room.capacity() <= limits::FRAME_BYTES);
            }
        }
    }
}
