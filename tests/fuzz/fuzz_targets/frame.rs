//! Any bytes as a frame of the spool, and any bytes as the payload of a frame that checks out: no panic, and what is
//! understood is written again as the same bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use trailspool::limits::RECORD_BYTES;
use trailspool::spool::frame::{self, Frame, Parsed};

fuzz_target!(|input: (u32, u8, &[u8])| {
    let (seed, kind, bytes) = input;
    check(bytes, seed);
    // A fuzzer does not find checksums by itself.
    let mut sealed = vec![0, 0, 0, 0, [0x17, 0x2b, 0x4d, 0x71, kind][usize::from(kind % 5)]];
    sealed.extend_from_slice(bytes);
    frame::seal(&mut sealed, 0, seed);
    check(&sealed, seed);
});

fn check(bytes: &[u8], seed: u32) {
    let Ok(Parsed { frame, size, crc }) = frame::parse(bytes, seed, RECORD_BYTES) else { return };
    let mut again = Vec::new();
    let written = match frame {
        Frame::Begin(identity) => frame::push_begin(&mut again, &identity.to_object(), seed),
        Frame::End { begin, fate, counts } => frame::push_end(&mut again, begin, fate, &counts, seed),
        Frame::Packed { packed, .. } => {
            // The same records have many blocks.
            let mut room = Vec::new();
            if let Some(records) = packed.unpack(&mut room) {
                assert!(records.count() > 0);
            }
            return;
        }
        Frame::Records { begin, records } => {
            let start = frame::open_records(&mut again, begin);
            records.for_each(|(index, record)| frame::push_record(&mut again, index, record));
            frame::seal(&mut again, start, seed)
        }
    };
    assert_eq!((&again[..], written), (&bytes[..size], crc));
}
