//! Bit masks over a block of 64 bytes: bit *i* says something about byte *i*. The idea is simdjson's
//! (Langdale and Lemire, "Parsing Gigabytes of JSON per Second", 2019).
//!
//! SSE2 and NEON belong to every x86-64 and AArch64 target, so no detection at run time is needed; other
//! targets (ARMv7) take eight bytes at a time in a plain `u64`. Both give the same masks.

/// Bytes of a block.
pub(super) const BLOCK: usize = 64;

/// Where the bytes that matter stand in a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Masks {
    /// `"`
    pub(super) quote: u64,
    /// `\`
    pub(super) backslash: u64,
    /// `{`, `}`, `[` and `]`
    pub(super) bracket: u64,
}

impl Masks {
    /// The masks of a block.
    #[inline(always)]
    pub(super) fn of(block: &[u8; BLOCK]) -> Masks {
        lanes::masks(block)
    }
}

/// The line feeds of a block.
#[inline(always)]
pub(super) fn newlines(block: &[u8; BLOCK]) -> u64 {
    lanes::equal(block, b'\n')
}

/// The colons, and the commas, of a block.
#[inline(always)]
pub(super) fn colons_and_commas(block: &[u8; BLOCK]) -> (u64, u64) {
    (lanes::equal(block, b':'), lanes::equal(block, b','))
}

/// The white space of a block, as RFC 8259, section 2, has it.
#[inline(always)]
pub(super) fn spaces(block: &[u8; BLOCK]) -> u64 {
    let [space, tab, feed, back] = [b' ', b'\t', b'\n', b'\r'].map(|byte| lanes::equal(block, byte));
    space | tab | feed | back
}

/// Bit *i* of the answer is the exclusive or of the bits 0 to *i*: from quotes, what lies between them.
#[inline(always)]
pub(super) fn prefix_xor(mut bits: u64) -> u64 {
    bits ^= bits << 1;
    bits ^= bits << 2;
    bits ^= bits << 4;
    bits ^= bits << 8;
    bits ^= bits << 16;
    bits ^ (bits << 32)
}

/// From the backslashes of a block: the backslashes that begin an escape, and the bytes that are escaped.
/// `carry` is 1 when the first byte is escaped by the block before.
#[inline(always)]
pub(super) fn escapes(backslash: u64, carry: u64) -> (u64, u64) {
    const ODD: u64 = 0xAAAA_AAAA_AAAA_AAAA;
    if backslash == 0 {
        return (0, carry);
    }
    // In a run of backslashes every other one begins an escape. The subtraction ripples through each run
    // and leaves it with the parity of its first bit, which the odd bits then turn into "every other".
    let first = backslash & !carry;
    let code = (((first << 1) | ODD).wrapping_sub(first)) ^ ODD;
    (code & backslash, code ^ (backslash | carry))
}

/// `{` and `[`, like `}` and `]`, differ in this bit alone.
const CASE: u8 = 0x20;

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod lanes {
    use super::{BLOCK, CASE, Masks};
    use wide::u8x16;

    #[inline(always)]
    pub(super) fn masks(block: &[u8; BLOCK]) -> Masks {
        let mut masks = Masks { quote: 0, backslash: 0, bracket: 0 };
        for (i, lane) in load(block).into_iter().enumerate() {
            let folded = lane | u8x16::splat(CASE);
            masks.quote |= bits(is(lane, b'"'), i);
            masks.backslash |= bits(is(lane, b'\\'), i);
            masks.bracket |= bits(is(folded, b'{') | is(folded, b'}'), i);
        }
        masks
    }

    #[inline(always)]
    pub(super) fn equal(block: &[u8; BLOCK], byte: u8) -> u64 {
        load(block).into_iter().enumerate().fold(0, |mask, (i, lane)| mask | bits(is(lane, byte), i))
    }

    #[inline(always)]
    fn load(block: &[u8; BLOCK]) -> [u8x16; 4] {
        let (lanes, _) = block.as_chunks::<16>();
        [0, 1, 2, 3].map(|i| u8x16::new(lanes[i]))
    }

    #[inline(always)]
    fn is(lane: u8x16, byte: u8) -> u8x16 {
        lane.simd_eq(u8x16::splat(byte))
    }

    #[inline(always)]
    fn bits(lane: u8x16, i: usize) -> u64 {
        u64::from(lane.to_bitmask() as u16) << (16 * i)
    }
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
use words as lanes;

#[cfg(any(test, not(any(target_arch = "x86_64", target_arch = "aarch64"))))]
mod words {
    use super::{BLOCK, CASE, Masks};

    const ONES: u64 = 0x0101_0101_0101_0101;

    pub(super) fn masks(block: &[u8; BLOCK]) -> Masks {
        let folded = block.map(|byte| byte | CASE);
        Masks {
            quote: equal(block, b'"'),
            backslash: equal(block, b'\\'),
            bracket: equal(&folded, b'{') | equal(&folded, b'}'),
        }
    }

    pub(super) fn equal(block: &[u8; BLOCK], byte: u8) -> u64 {
        let mut mask = 0;
        let (words, _) = block.as_chunks::<8>();
        for (i, word) in words.iter().enumerate() {
            mask |= zeros(u64::from_le_bytes(*word) ^ (ONES * u64::from(byte))) << (8 * i);
        }
        mask
    }

    /// One bit for each byte that is zero: no byte borrows from its neighbour, so none is wrong.
    fn zeros(word: u64) -> u64 {
        let low = ONES * 0x7f;
        let zero = !(((word & low) + low) | word | low) >> 7;
        zero.wrapping_mul(0x0102_0408_1020_4080) >> 56
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn naive(block: &[u8; BLOCK], wanted: &[u8]) -> u64 {
        (0..BLOCK).filter(|&i| wanted.contains(&block[i])).map(|i| 1 << i).sum()
    }

    fn block() -> impl Strategy<Value = [u8; BLOCK]> {
        let telling = prop::sample::select(
            b"\"\\{}[]\n{}[]:, \t\r\x5a\x7a\x5c\x7c\x02\x22\x23\xa2\xdb\xfb\x80\x00".to_vec(),
        );
        prop::collection::vec(prop_oneof![telling, any::<u8>()], BLOCK)
            .prop_map(|bytes| bytes.try_into().expect("64 bytes"))
    }

    proptest! {
        #[test]
        fn every_way_to_make_masks_agrees_with_the_naive_one(block in block()) {
            let expected = Masks {
                quote: naive(&block, b"\""),
                backslash: naive(&block, b"\\"),
                bracket: naive(&block, b"{}[]"),
            };
            prop_assert_eq!(Masks::of(&block), expected);
            prop_assert_eq!(words::masks(&block), expected);
            prop_assert_eq!(newlines(&block), naive(&block, b"\n"));
            prop_assert_eq!(words::equal(&block, b'\n'), naive(&block, b"\n"));
            prop_assert_eq!(colons_and_commas(&block), (naive(&block, b":"), naive(&block, b",")));
            prop_assert_eq!(spaces(&block), naive(&block, b" \t\n\r"));
        }

        #[test]
        fn escapes_are_every_other_backslash_of_a_run(bits in any::<u64>(), more in any::<u64>(), carry in 0u64..2) {
            for backslash in [bits, bits | more, bits & more] {
                let (mut escape, mut escaped, mut pending) = (0u64, 0u64, carry == 1);
                for i in 0..64 {
                    let is_backslash = backslash >> i & 1 == 1;
                    escaped |= u64::from(pending) << i;
                    pending = is_backslash && !pending;
                    escape |= u64::from(pending) << i;
                }
                let (got_escape, got_escaped) = escapes(backslash, carry);
                prop_assert_eq!(got_escape, escape);
                prop_assert_eq!(got_escaped, escaped);
            }
        }

        #[test]
        fn prefix_xor_is_the_running_parity(bits in any::<u64>()) {
            let mut parity = 0;
            for i in 0..64 {
                parity ^= bits >> i & 1;
                prop_assert_eq!(prefix_xor(bits) >> i & 1, parity);
            }
        }
    }
}
