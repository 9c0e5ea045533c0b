//! Any bytes as what a RELP receiver says: no panic, what is understood lies within the bytes, more bytes never change
//! it, and no beginning of a frame is waited for longer than a frame may be.
#![no_main]

use libfuzzer_sys::fuzz_target;
use trailspool::deliver::relp::frame::{Said, parse};
use trailspool::limits::RELP_FRAME_BYTES;

fuzz_target!(|bytes: &[u8]| {
    match parse(bytes) {
        Ok(Some((said, len))) => {
            assert!(len <= bytes.len() && len < RELP_FRAME_BYTES && bytes[len - 1] == b'\n');
            if let Said::Answer(_, code, text) = &said {
                assert!(*code < 1000 && text.len() < len);
            }
            let longer = [bytes, b"1 rsp 6 200 OK\n"].concat();
            assert_eq!(parse(&longer), Ok(Some((said, len))));
            for cut in 0..len {
                assert_eq!(parse(&bytes[..cut]), Ok(None));
            }
        }
        Ok(None) => assert!(bytes.len() < RELP_FRAME_BYTES),
        Err(_) => {}
    }
});
