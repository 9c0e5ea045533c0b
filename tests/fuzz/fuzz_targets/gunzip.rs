//! Any bytes as a gzip file: however they are cut, the same text and the same end; what is good by this
//! inflater is good by `miniz_oxide`'s whole-slice one, with the same text.
#![no_main]

use std::cell::RefCell;

use libfuzzer_sys::fuzz_target;
use trailspool::decode::DecodeError;
use trailspool::decode::gunzip::Gunzip;

/// More is a bomb, which the decoder bounds.
const TEXT: usize = 1 << 20;

fuzz_target!(|input: (u8, bool, Vec<u8>)| {
    let (cut, whole, bytes) = input;
    let object = if whole { member(&bytes) } else { bytes };
    let end = gunzip(&object, usize::MAX);
    assert_eq!(gunzip(&object, usize::from(cut).max(1)), end);
    assert_eq!(gunzip(&object, 1), end);
    let Some(Ok((text, 1, 0))) = end else { return };
    if object[3] == 0 {
        let deflated = &object[10..object.len() - 8];
        let expected = miniz_oxide::inflate::decompress_to_vec_with_limit(deflated, TEXT);
        assert_eq!(expected.ok(), Some(text));
    }
});

/// Bytes taken as a DEFLATE stream, with the header and trailer that make a member of it where it is one.
fn member(deflated: &[u8]) -> Vec<u8> {
    let text = miniz_oxide::inflate::decompress_to_vec_with_limit(deflated, TEXT).unwrap_or_default();
    let mut object = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0];
    object.extend_from_slice(deflated);
    object.extend(crc32fast::hash(&text).to_le_bytes());
    object.extend((text.len() as u32).to_le_bytes());
    object
}

/// Text, members and trailing bytes. `None`: more text than is looked at.
fn gunzip(object: &[u8], size: usize) -> Option<Result<(Vec<u8>, u32, u64), DecodeError>> {
    GUNZIP.with_borrow_mut(|gunzip| gunzip_with(gunzip, object, size))
}

thread_local! {
    static GUNZIP: RefCell<Gunzip> = RefCell::default();
}

fn gunzip_with(
    gunzip: &mut Gunzip,
    object: &[u8],
    size: usize,
) -> Option<Result<(Vec<u8>, u32, u64), DecodeError>> {
    gunzip.start();
    let mut text = Vec::new();
    for mut piece in object.chunks(size) {
        loop {
            match gunzip.step(piece) {
                Ok((0, [])) => break,
                Ok((used, inflated)) => {
                    text.extend_from_slice(inflated);
                    piece = &piece[used..];
                }
                Err(error) => return Some(Err(error)),
            }
            if text.len() > TEXT {
                return None;
            }
        }
        assert!(piece.is_empty(), "all input is taken");
    }
    Some(gunzip.finish().map(|()| (text, gunzip.members(), gunzip.trailing())))
}
