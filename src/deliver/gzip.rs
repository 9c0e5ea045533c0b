//! Gzip (RFC 1952) around `miniz_oxide`'s compressor, for request bodies and rotated files: one member, at one level.
//! Its state is some 320 KiB and does not grow; what comes out goes into the caller's buffer.
//!
//! ```text
//!  1f 8b 08 00  00 00 00 00  00 ff   no name, no time: the same bytes in are the same bytes out
//!  raw DEFLATE
//!  crc32 u32 | length u32            little-endian, of what went in; the length modulo 2^32
//! ```

use miniz_oxide::deflate::core::{
    CompressorOxide, TDEFLFlush, TDEFLStatus, compress_to_output, create_comp_flags_from_zip_params,
};

/// Fast, and within some per cent of the best for JSON.
const LEVEL: i32 = 3;
/// Raw DEFLATE, without zlib's header.
const RAW: i32 = -15;
const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];

/// A compressor, used for one member after another.
pub struct Gzip {
    deflate: Box<CompressorOxide>,
    crc: crc32fast::Hasher,
    length: u32,
}

impl Default for Gzip {
    fn default() -> Gzip {
        let flags = create_comp_flags_from_zip_params(LEVEL, RAW, 0);
        Gzip { deflate: Box::new(CompressorOxide::new(flags)), crc: crc32fast::Hasher::new(), length: 0 }
    }
}

impl Gzip {
    /// Begins a member, whatever became of the one before.
    pub fn begin(&mut self, out: &mut Vec<u8>) {
        self.deflate.reset();
        self.crc = crc32fast::Hasher::new();
        self.length = 0;
        out.extend_from_slice(&HEADER);
    }

    /// Compresses more of the member. What comes of it may come later.
    ///
    /// # Errors
    /// A defect of the compressor's; begin anew.
    pub fn write(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Failed> {
        self.crc.update(bytes);
        self.length = self.length.wrapping_add(bytes.len() as u32);
        self.step(bytes, TDEFLFlush::None, TDEFLStatus::Okay, out)
    }

    /// Ends the member.
    ///
    /// # Errors
    /// As [`Gzip::write`].
    pub fn finish(&mut self, out: &mut Vec<u8>) -> Result<(), Failed> {
        self.step(&[], TDEFLFlush::Finish, TDEFLStatus::Done, out)?;
        out.extend_from_slice(&self.crc.clone().finalize().to_le_bytes());
        out.extend_from_slice(&self.length.to_le_bytes());
        Ok(())
    }

    fn step(
        &mut self,
        bytes: &[u8],
        flush: TDEFLFlush,
        wanted: TDEFLStatus,
        out: &mut Vec<u8>,
    ) -> Result<(), Failed> {
        let (status, read) = compress_to_output(&mut self.deflate, bytes, flush, |piece| {
            out.extend_from_slice(piece);
            true
        });
        if status == wanted && read == bytes.len() { Ok(()) } else { Err(Failed) }
    }
}

/// The compressor gave up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failed;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::gunzip::Gunzip;
    use proptest::prelude::*;

    fn member(gzip: &mut Gzip, parts: &[&[u8]]) -> Vec<u8> {
        let mut out = Vec::new();
        gzip.begin(&mut out);
        parts.iter().for_each(|part| gzip.write(part, &mut out).unwrap());
        gzip.finish(&mut out).unwrap();
        out
    }

    fn inflated(packed: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        let mut gunzip = Gunzip::new();
        gunzip.start();
        let mut rest = packed;
        loop {
            let (used, piece) = gunzip.step(rest).unwrap();
            out.extend_from_slice(piece);
            if used == 0 && piece.is_empty() {
                break;
            }
            rest = &rest[used..];
        }
        gunzip.finish().unwrap();
        assert_eq!((gunzip.members(), gunzip.trailing()), (1, 0));
        out
    }

    #[test]
    fn the_same_bytes_in_are_the_same_bytes_out_whatever_was_compressed_before() {
        let mut gzip = Gzip::default();
        let first = member(&mut gzip, &[b"{\"a\":1}\n"]);
        gzip.begin(&mut Vec::new());
        gzip.write(b"given up", &mut Vec::new()).unwrap();
        assert_eq!(member(&mut gzip, &[b"{\"a\"", b":1}\n"]), first);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn what_goes_in_comes_out_of_another_inflater(
            parts in proptest::collection::vec(proptest::collection::vec(0u8..4, 0..70_000), 0..4),
        ) {
            let mut gzip = Gzip::default();
            for _ in 0..2 {
                let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
                prop_assert_eq!(inflated(&member(&mut gzip, &parts)), parts.concat());
            }
        }
    }
}
