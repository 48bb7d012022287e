//! What the reference implementation packs is unpacked; what is damaged ends in a sentence or in what the reference
//! implementation makes of it.

use super::*;
use alloc::vec;
use alloc::vec::Vec;
use proptest::collection::vec;
use proptest::prelude::*;

/// Bytes with repetitions of many lengths and distances, from choices that proptest makes.
fn plain() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        vec(any::<u8>(), 1..40).prop_map(Piece::New),
        vec(0_u8..4, 1..3000).prop_map(Piece::New),
        (1_usize..40, 3_usize..40).prop_map(|(back, len)| Piece::Again(back, len)),
        (1_usize..200_000, 3_usize..400).prop_map(|(back, len)| Piece::Again(back, len)),
        (any::<u8>(), 1_usize..200_000).prop_map(|(byte, len)| Piece::Run(byte, len)),
        (1_usize..3000, 100_usize..150_000).prop_map(|(back, len)| Piece::Again(back, len)),
    ];
    vec(piece, 0..60).prop_map(|pieces| {
        let mut bytes = Vec::new();
        pieces.iter().for_each(|piece| piece.append(&mut bytes));
        bytes
    })
}

#[derive(Debug, Clone)]
enum Piece {
    New(Vec<u8>),
    Again(usize, usize),
    Run(u8, usize),
}

impl Piece {
    fn append(&self, bytes: &mut Vec<u8>) {
        match self {
            Piece::New(new) => bytes.extend_from_slice(new),
            Piece::Again(back, len) if *back <= bytes.len() => {
                (0..*len).for_each(|_| bytes.push(bytes[bytes.len() - back]));
            }
            Piece::Again(..) => {}
            Piece::Run(byte, len) => bytes.resize(bytes.len() + len, *byte),
        }
    }
}

fn packed(plain: &[u8], level: i32) -> Vec<u8> {
    zstd::bulk::compress(plain, level).unwrap()
}

fn unpacked(packed: &[u8], size: usize) -> Result<Vec<u8>, Fault> {
    let mut out = vec![0; size];
    let len = decode(packed, &mut out)?;
    out.truncate(len);
    Ok(out)
}

/// Words in an order that has little to repeat, with numbers: all kinds of tables, used again by the next block.
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
fn several_frames_with_others_between() {
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
fn every_truncation_is_told() {
    let text = text(300);
    let whole = packed(&text, 19);
    for len in 1..whole.len() {
        assert_eq!(unpacked(&whole[..len], text.len()), Err(CUT_OFF), "{len}");
    }
    assert_eq!(unpacked(b"", 10), Ok(Vec::new()));
}

#[test]
fn too_small_a_buffer_is_told() {
    let text = text(3000);
    for level in [-50, 1, 19] {
        let whole = packed(&text, level);
        for size in [0, 1, 1000, text.len() - 9, text.len() - 1] {
            assert_eq!(
                unpacked(&whole, size),
                Err(output::TOO_MUCH),
                "{level} {size}"
            );
        }
    }
}

#[test]
fn a_checksum_counts() {
    let text = text(300);
    let mut packer = zstd::bulk::Compressor::new(3).unwrap();
    packer.include_checksum(true).unwrap();
    let mut whole = packer.compress(&text).unwrap();
    assert!(unpacked(&whole, text.len()).as_ref() == Ok(&text));
    *whole.last_mut().unwrap() ^= 1;
    assert_eq!(unpacked(&whole, text.len()), Err("its checksum is wrong"));
    whole.pop();
    assert_eq!(unpacked(&whole, text.len()), Err(CUT_OFF));
}

#[test]
fn what_is_not_supported_is_told() {
    let mut dictionary = packed(b"abc", 1);
    dictionary[4] |= 1;
    dictionary.insert(5, 7);
    assert_eq!(unpacked(&dictionary, 3), Err("it needs a dictionary"));
    let mut reserved = packed(b"abc", 1);
    reserved[4] |= 8;
    assert!(unpacked(&reserved, 3).unwrap_err().contains("reserved"));
    let behind = [packed(b"abc", 1), b"junk".to_vec()].concat();
    assert!(unpacked(&behind, 3).unwrap_err().contains("behind a frame"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn what_was_packed_comes_back(plain in plain(), level in -20..20_i32) {
        prop_assert!(unpacked(&packed(&plain, level), plain.len()).as_ref() == Ok(&plain));
    }

    #[test]
    fn damage_is_told_or_harmless(
        lines in 1_u32..2000,
        level in -5..20_i32,
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let text = text(lines);
        let mut whole = packed(&text, level);
        for (at, byte) in changes {
            *at.get_mut(&mut whole) = byte;
        }
        // Where both take it, both make the same of it.
        if let (Ok(ours), Ok(theirs)) = (unpacked(&whole, text.len()), zstd::bulk::decompress(&whole, text.len())) {
            prop_assert!(ours == theirs);
        }
    }

    #[test]
    fn noise_is_told_or_harmless(mut noise in vec(any::<u8>(), 0..400)) {
        noise.splice(0..0, [0x28, 0xb5, 0x2f, 0xfd, 0, 0x58]);
        let _ = unpacked(&noise, 100_000);
    }
}
