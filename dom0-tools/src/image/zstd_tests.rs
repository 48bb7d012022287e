//! Data that the reference implementation of zstd packs is unpacked. Damaged data ends in an error message, or in the
//! same output as from the reference implementation.

use super::unpack::unzstd;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use proptest::collection::vec;
use proptest::prelude::*;

fn packed(plain: &[u8], level: i32) -> Vec<u8> {
    zstd::bulk::compress(plain, level).unwrap()
}

fn unpacked(packed: &[u8], size: usize) -> Result<Vec<u8>, String> {
    let mut out = vec![0; size];
    let len = unzstd(packed, &mut out)?;
    out.truncate(len);
    Ok(out)
}

/// Words in an order with few repetitions, and numbers: this needs all kinds of tables, which later blocks reuse.
fn text(lines: u32) -> Vec<u8> {
    let mut state = 1_u32;
    let mut text = Vec::new();
    for line in 0..lines {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let word = ["frame", "table", "domain", "event", "grant"][(state >> 29) as usize % 5];
        text.extend_from_slice(alloc::format!("{word} {} {line}\n", state >> 22).as_bytes());
    }
    text
}

#[test]
fn several_frames_with_skippable_ones_between() {
    let text = text(40_000);
    let (first, second) = text.split_at(300_000);
    let skipped = [
        &0x184d_2a5f_u32.to_le_bytes()[..],
        &3_u32.to_le_bytes(),
        b"abc",
    ]
    .concat();
    let all = [packed(first, 19), skipped, packed(second, 1)].concat();
    assert!(unpacked(&all, text.len()) == Ok(text));
}

#[test]
fn every_truncation_is_reported() {
    let text = text(300);
    let whole = packed(&text, 19);
    for len in 1..whole.len() {
        assert!(unpacked(&whole[..len], text.len()).is_err(), "{len}");
    }
}

#[test]
fn a_buffer_that_is_too_small_is_reported() {
    let text = text(3000);
    for level in [-50, 1, 19] {
        let whole = packed(&text, level);
        for size in [0, 1, 1000, text.len() - 9, text.len() - 1] {
            let error = unpacked(&whole, size).unwrap_err();
            assert!(
                error.contains("there is more of it"),
                "{level} {size}: {error}"
            );
        }
    }
}

#[test]
fn a_wrong_checksum_is_reported() {
    let text = text(300);
    let mut packer = zstd::bulk::Compressor::new(3).unwrap();
    packer.include_checksum(true).unwrap();
    let mut whole = packer.compress(&text).unwrap();
    assert!(unpacked(&whole, text.len()).as_ref() == Ok(&text));
    *whole.last_mut().unwrap() ^= 1;
    let error = unpacked(&whole, text.len()).unwrap_err();
    assert!(error.to_lowercase().contains("checksum"), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn damage_is_reported_or_harmless(
        lines in 1_u32..2000,
        level in -5..20_i32,
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let text = text(lines);
        let mut whole = packed(&text, level);
        for (at, byte) in changes {
            *at.get_mut(&mut whole) = byte;
        }
        // Data that both accept unpacks to the same output.
        if let (Ok(ours), Ok(theirs)) = (unpacked(&whole, text.len()), zstd::bulk::decompress(&whole, text.len())) {
            prop_assert!(ours == theirs);
        }
    }

    #[test]
    fn noise_is_reported_or_harmless(mut noise in vec(any::<u8>(), 0..400)) {
        noise.splice(0..0, [0x28, 0xb5, 0x2f, 0xfd, 0, 0x58]);
        let _ = unpacked(&noise, 100_000);
    }
}
