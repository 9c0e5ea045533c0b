//! Gzip (RFC 1952) around `miniz_oxide`'s decompressor: compressed bytes in pieces of any size go in,
//! slices of one fixed window come out. Nothing here reads, waits or allocates after [`Gunzip::new`].
//!
//! * A file is one member or several, one behind the other; each must end in its CRC-32 and length.
//! * Bytes behind a member that do not begin another one are counted as trailing, zeros included.
//! * A member cannot look back beyond its own beginning, so the window never leaks an earlier object.

use miniz_oxide::inflate::TINFLStatus;
use miniz_oxide::inflate::core::{DecompressorOxide, decompress, inflate_flags};

use crate::limits::INFLATE_WINDOW;

use super::DecodeError;

/// The first two bytes of every member.
pub const MAGIC: [u8; 2] = [0x1f, 0x8b];

const FHCRC: u8 = 1 << 1;
const FEXTRA: u8 = 1 << 2;
const FNAME: u8 = 1 << 3;
const FCOMMENT: u8 = 1 << 4;
const RESERVED: u8 = 0b1110_0000;

/// An inflater, used for one object after another.
pub struct Gunzip {
    inflate: Box<DecompressorOxide>,
    window: Box<[u8]>,
    /// Where the next inflated byte goes.
    at: usize,
    /// The window was full once in this member: every distance up to 32 KiB is inside the member.
    wrapped: bool,
    state: State,
    /// Flags of the member's header that are still to be read.
    flags: u8,
    header_crc: crc32fast::Hasher,
    crc: crc32fast::Hasher,
    /// Bytes of this member, modulo 2^32, as ISIZE counts them.
    length: u32,
    members: u32,
    trailing: u64,
}

/// What is read next.
#[derive(Debug, Clone, Copy)]
enum State {
    /// The ten fixed bytes of a header, so many of them read.
    Fixed(u8),
    /// The two bytes of the extra field's length, the low one first.
    ExtraLength(u8, u16),
    Extra(u16),
    Name,
    Comment,
    /// The header's own CRC, so many bytes read.
    HeaderCrc(u8, u16),
    Body,
    /// CRC-32 and ISIZE, so many bytes read.
    Trailer(u8, u64),
    /// Behind the last member.
    Trailing,
}

impl Default for Gunzip {
    fn default() -> Gunzip {
        Gunzip::new()
    }
}

impl Gunzip {
    /// Allocates the window and the decompressor's state, about 110 KiB together.
    pub fn new() -> Gunzip {
        Gunzip {
            inflate: Box::default(),
            window: vec![0; INFLATE_WINDOW].into_boxed_slice(),
            at: 0,
            wrapped: false,
            state: State::Fixed(0),
            flags: 0,
            header_crc: crc32fast::Hasher::new(),
            crc: crc32fast::Hasher::new(),
            length: 0,
            members: 0,
            trailing: 0,
        }
    }

    /// Forgets whatever object was in work.
    pub fn start(&mut self) {
        self.members = 0;
        self.trailing = 0;
        self.begin_header();
    }

    /// Takes some of `input`: answers how many bytes it took, and what they inflated to (often nothing).
    /// Call it again with the rest; when it takes nothing and gives nothing, it wants more input.
    pub fn step(&mut self, input: &[u8]) -> Result<(usize, &[u8]), DecodeError> {
        let mut used = 0;
        while !matches!(self.state, State::Body) {
            let Some(&byte) = input.get(used) else { return Ok((used, &[])) };
            if matches!(self.state, State::Trailing) {
                self.trailing += (input.len() - used) as u64;
                return Ok((input.len(), &[]));
            }
            used += 1;
            self.framing(byte)?;
        }
        let (more, piece) = self.inflate(&input[used..])?;
        Ok((used + more, piece))
    }

    /// The end of the input. An error when a member is cut off.
    pub fn finish(&self) -> Result<(), DecodeError> {
        match self.state {
            State::Trailing => Ok(()),
            State::Fixed(0) if self.members > 0 => Ok(()),
            _ => Err(DecodeError::Truncated { what: "gzip stream" }),
        }
    }

    /// Members that ended well.
    pub fn members(&self) -> u32 {
        self.members
    }

    /// Bytes behind the last member that are not a member.
    pub fn trailing(&self) -> u64 {
        self.trailing
    }

    fn begin_header(&mut self) {
        self.header_crc.reset();
        self.state = State::Fixed(0);
    }

    /// One byte of a header or a trailer.
    fn framing(&mut self, byte: u8) -> Result<(), DecodeError> {
        if !matches!(self.state, State::HeaderCrc(..) | State::Trailer(..)) {
            self.header_crc.update(&[byte]);
        }
        match self.state {
            State::Fixed(n) => return self.fixed(n, byte),
            State::ExtraLength(0, _) => self.state = State::ExtraLength(1, u16::from(byte)),
            State::ExtraLength(_, low) => match low | u16::from(byte) << 8 {
                0 => self.optional(),
                length => self.state = State::Extra(length),
            },
            State::Extra(1) => self.optional(),
            State::Extra(left) => self.state = State::Extra(left - 1),
            State::Name | State::Comment if byte == 0 => self.optional(),
            State::Name | State::Comment => {}
            State::HeaderCrc(0, _) => self.state = State::HeaderCrc(1, u16::from(byte)),
            State::HeaderCrc(_, low) => {
                // The low half of the CRC-32 of all header bytes before it.
                if low | u16::from(byte) << 8 != self.header_crc.clone().finalize() as u16 {
                    return Err(DecodeError::BadHeader { why: "its own checksum does not match" });
                }
                self.optional();
            }
            State::Trailer(n, low) => {
                let value = low | u64::from(byte) << (8 * n);
                if n < 7 {
                    self.state = State::Trailer(n + 1, value);
                } else {
                    self.check(value as u32, (value >> 32) as u32)?;
                }
            }
            State::Body | State::Trailing => {}
        }
        Ok(())
    }

    /// Byte `n` of the ten: ID1 ID2 CM FLG MTIME×4 XFL OS.
    fn fixed(&mut self, n: u8, byte: u8) -> Result<(), DecodeError> {
        let fault = match n {
            0 | 1 if byte != MAGIC[usize::from(n)] => Some("it does not begin with 1f 8b"),
            2 if byte != 8 => Some("its compression method is not deflate"),
            3 if byte & RESERVED != 0 => Some("it sets reserved flags"),
            _ => None,
        };
        match fault {
            // What does not begin a member, behind one that ended well, is not part of the file.
            Some(_) if self.members > 0 => {
                self.trailing += u64::from(n) + 1;
                self.state = State::Trailing;
            }
            Some(why) => return Err(DecodeError::BadHeader { why }),
            None => {
                if n == 3 {
                    self.flags = byte;
                }
                self.state = State::Fixed(n + 1);
                if n == 9 {
                    self.optional();
                }
            }
        }
        Ok(())
    }

    /// The next optional field of the header, in the order of RFC 1952, or the body.
    fn optional(&mut self) {
        let mut take = |flag: u8| {
            let set = self.flags & flag != 0;
            self.flags &= !flag;
            set
        };
        self.state = if take(FEXTRA) {
            State::ExtraLength(0, 0)
        } else if take(FNAME) {
            State::Name
        } else if take(FCOMMENT) {
            State::Comment
        } else if take(FHCRC) {
            State::HeaderCrc(0, 0)
        } else {
            self.inflate.init();
            self.at = 0;
            self.wrapped = false;
            self.crc.reset();
            self.length = 0;
            State::Body
        };
    }

    fn inflate(&mut self, input: &[u8]) -> Result<(usize, &[u8]), DecodeError> {
        if self.at == self.window.len() {
            self.at = 0;
            self.wrapped = true;
        }
        // While the window is not yet full, "non-wrapping" makes the decompressor refuse distances that
        // reach before the member's first byte; from then on the window is a ring.
        let ring = if self.wrapped { 0 } else { inflate_flags::TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF };
        let flags = inflate_flags::TINFL_FLAG_HAS_MORE_INPUT | ring;
        let (status, used, made) = decompress(&mut self.inflate, input, &mut self.window, self.at, flags);
        match status {
            TINFLStatus::Done => self.state = State::Trailer(0, 0),
            TINFLStatus::NeedsMoreInput | TINFLStatus::HasMoreOutput => {}
            _ => return Err(DecodeError::Deflate { member: self.members + 1 }),
        }
        let piece = &self.window[self.at..self.at + made];
        self.at += made;
        self.crc.update(piece);
        self.length = self.length.wrapping_add(made as u32);
        Ok((used, piece))
    }

    fn check(&mut self, crc: u32, length: u32) -> Result<(), DecodeError> {
        let member = self.members.saturating_add(1);
        if crc != self.crc.clone().finalize() {
            return Err(DecodeError::Crc { member });
        }
        if length != self.length {
            return Err(DecodeError::Length { member });
        }
        self.members = member;
        self.begin_header();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::gzip;
    use super::*;
    use proptest::prelude::*;

    /// Everything inflated, with members and trailing bytes, from pieces of `size` bytes.
    fn gunzip(object: &[u8], size: usize) -> Result<(Vec<u8>, u32, u64), DecodeError> {
        let (mut gunzip, mut text) = (Gunzip::new(), Vec::new());
        gunzip.start();
        for mut piece in object.chunks(size) {
            loop {
                let (used, inflated) = gunzip.step(piece)?;
                if used == 0 && inflated.is_empty() {
                    break;
                }
                text.extend_from_slice(inflated);
                piece = &piece[used..];
            }
            assert!(piece.is_empty(), "all input is taken");
        }
        gunzip.finish()?;
        Ok((text, gunzip.members(), gunzip.trailing()))
    }

    /// A member whose header has the fields that `flags` names.
    fn member(flags: u8, text: &[u8]) -> Vec<u8> {
        let mut header = vec![0x1f, 0x8b, 8, flags, 1, 2, 3, 4, 0, 255];
        if flags & FEXTRA != 0 {
            header.extend([3, 0, b'x', 0, b'y']);
        }
        if flags & FNAME != 0 {
            header.extend(b"name.json\0");
        }
        if flags & FCOMMENT != 0 {
            header.extend(b"comment\0");
        }
        if flags & FHCRC != 0 {
            header.extend((crc32fast::hash(&header) as u16).to_le_bytes());
        }
        header.extend(&gzip(text)[10..]);
        header
    }

    /// Text that deflates well, from numbers, so that the window wraps with matches across its end.
    fn text(len: usize, seed: u64) -> Vec<u8> {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut text = Vec::with_capacity(len + 40);
        while text.len() < len {
            text.extend(format!("{{\"event\":{}}},", random.u16(0..2000)).bytes());
        }
        text.truncate(len);
        text
    }

    #[test]
    fn a_member_inflates_whatever_its_header_says_and_however_it_is_cut() {
        for flags in 0..32 {
            let object = member(flags, b"text of a member");
            for size in [1, 2, 3, 7, 1000] {
                assert_eq!(gunzip(&object, size), Ok((b"text of a member".to_vec(), 1, 0)), "{flags} {size}");
            }
        }
        let mut empty_extra = member(0, b"x");
        empty_extra[3] = FEXTRA;
        empty_extra.splice(10..10, [0, 0]);
        assert_eq!(gunzip(&empty_extra, 1), Ok((b"x".to_vec(), 1, 0)));
    }

    #[test]
    fn text_longer_than_the_window_comes_out_whole() {
        let text = text(5 * INFLATE_WINDOW + 77, 1);
        for size in [1, 13, 1000, 32 * 1024, usize::MAX] {
            assert!(gunzip(&gzip(&text), size) == Ok((text.clone(), 1, 0)), "{size}");
        }
    }

    #[test]
    fn damaged_headers_are_refused() {
        let good = member(FHCRC | FNAME, b"text");
        for (at, byte) in [(0, 0), (1, 0), (2, 7), (3, 0x80 | FHCRC | FNAME), (4, 99), (10, b'N')] {
            let mut bad = good.clone();
            bad[at] = byte;
            assert!(matches!(gunzip(&bad, 4), Err(DecodeError::BadHeader { .. })), "byte {at}");
        }
    }

    #[test]
    fn damaged_trailers_are_refused_with_the_member_they_stand_in() {
        let mut object = gzip(b"first");
        object.extend(gzip(b"second"));
        let len = object.len();
        object[len - 8] ^= 1;
        assert_eq!(gunzip(&object, 100), Err(DecodeError::Crc { member: 2 }));
        object[len - 8] ^= 1;
        object[len - 1] ^= 1;
        assert_eq!(gunzip(&object, 1), Err(DecodeError::Length { member: 2 }));
    }

    #[test]
    fn every_cut_is_truncated_but_the_one_between_members() {
        let (first, second) = (member(31, b"first"), gzip(b"second"));
        let object = [first.clone(), second].concat();
        for end in 0..object.len() {
            let expected = end != first.len();
            assert_eq!(gunzip(&object[..end], 5).is_err(), expected, "{end}");
        }
    }

    #[test]
    fn what_is_no_member_is_trailing_to_the_end() {
        let good = gzip(b"text");
        let tails: [&[u8]; 5] = [b"\0", b"\0\0\0\x1f\x8b\x08", b"rubbish", b"\x1f\x8c", b"\x1f\x8b\x07rest"];
        for tail in tails {
            let object = [&good, tail].concat();
            for size in [1, 2, 100] {
                assert_eq!(gunzip(&object, size), Ok((b"text".to_vec(), 1, tail.len() as u64)), "{tail:?}");
            }
        }
    }

    #[test]
    fn a_member_cannot_look_back_beyond_its_beginning() {
        let mut gunzip = Gunzip::new();
        gunzip.start();
        let secret = gzip(&[b's'; 300]);
        let (used, piece) = gunzip.step(&secret).expect("good");
        assert_eq!((used, piece.len()), (secret.len() - 8, 300));
        gunzip.start();
        // A fixed block: one match of length 3 at distance 1 (7 + 5 bits, both codes zero but the length's), end of block.
        let mut object = secret[..10].to_vec();
        object.extend([0b0000_0011, 0b0000_0010, 0, 0]);
        assert_eq!(gunzip.step(&object).map(|_| ()), Err(DecodeError::Deflate { member: 1 }));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn members_of_any_length_in_pieces_of_any_size(
            lens in prop::collection::vec((0usize..200_000, any::<u64>(), 0u8..32), 1..4),
            size in prop_oneof![1usize..20, 1usize..70_000],
        ) {
            let (mut object, mut expected) = (Vec::new(), Vec::new());
            for (len, seed, flags) in &lens {
                let text = text(*len, *seed);
                object.extend(member(*flags, &text));
                expected.extend(text);
            }
            prop_assert!(gunzip(&object, size) == Ok((expected, lens.len() as u32, 0)));
        }

        /// Some bits mean nothing: time and system in the header, the padding behind the last DEFLATE block.
        #[test]
        fn a_flipped_bit_never_gives_another_text(
            len in 0usize..2000,
            seed in any::<u64>(),
            place in any::<prop::sample::Index>(),
            bit in 0u8..8,
            size in 1usize..300,
        ) {
            let text = text(len, seed);
            let mut object = gzip(&text);
            let place = place.index(object.len());
            object[place] ^= 1 << bit;
            match gunzip(&object, size) {
                Ok(end) => {
                    prop_assert!(end == (text, 1, 0));
                    prop_assert!(place >= 3 && place < object.len() - 8, "magic, method or trailer: {place}");
                }
                Err(_) => prop_assert!(!(4..10).contains(&place), "not in a field that means nothing: {place}"),
            }
        }
    }
}
