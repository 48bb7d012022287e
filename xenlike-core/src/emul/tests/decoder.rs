//! Compares the decoder with that of iced-x86.

use iced_x86::{Code, Decoder, DecoderOptions, OpKind, Register};
use proptest::prelude::*;

use crate::emul::Bits;
use crate::emul::decode::{BaseRegister, Rm, Undecoded, decode};

fn number(register: Register) -> u8 {
    (register as usize
        - if register < Register::RAX {
            Register::EAX
        } else {
            Register::RAX
        } as usize) as u8
}

fn compare(code: &[u8], bits: Bits) -> Result<(), TestCaseError> {
    let (theirs_bits, _) = match bits {
        Bits::Sixteen => (16, ()),
        Bits::ThirtyTwo => (32, ()),
        Bits::SixtyFour => (64, ()),
    };
    let Ok(ours) = decode(code, bits) else {
        return Ok(());
    };
    let mut decoder = Decoder::with_ip(theirs_bits, code, 0, DecoderOptions::NONE);
    let theirs = decoder.decode();
    if theirs.code() == Code::INVALID {
        // A LOCK prefix that the instruction may not have, or an encoding for which the CPU raises #UD
        // instead of #GP.
        return Ok(());
    }
    prop_assert_eq!(
        usize::from(ours.length),
        theirs.len(),
        "{:x?} {:?}",
        code,
        theirs.code()
    );
    let operand = (0..theirs.op_count()).find(|&n| theirs.op_kind(n) == OpKind::Memory);
    if let (Rm::Memory(memory), Some(_)) = (ours.rm, operand) {
        prop_assert_eq!(
            memory.index.map(|index| index.0),
            match theirs.memory_index() {
                Register::None => None,
                register => Some(number(register)),
            }
        );
        match memory.base {
            BaseRegister::General(base) => {
                prop_assert_eq!(base, number(theirs.memory_base()));
                prop_assert_eq!(
                    memory.displacement as u32,
                    theirs.memory_displacement64() as u32
                );
            }
            BaseRegister::None => prop_assert_eq!(theirs.memory_base(), Register::None),
            BaseRegister::NextInstruction => prop_assert!(theirs.is_ip_rel_memory_operand()),
        }
    }
    prop_assert_eq!(
        matches!(ours.rm, Rm::Memory(_)),
        operand.is_some(),
        "{:x?}",
        code
    );
    Ok(())
}

#[test]
fn too_short_is_not_unknown() {
    assert_eq!(decode(&[0x0f], Bits::SixtyFour), Err(Undecoded::TooShort));
    assert_eq!(
        decode(&[0x48, 0x89], Bits::SixtyFour),
        Err(Undecoded::TooShort)
    );
    assert_eq!(
        decode(&[0x0f, 0xff], Bits::SixtyFour),
        Err(Undecoded::Unknown)
    );
    assert_eq!(
        decode(&[0x66; 16], Bits::SixtyFour),
        Err(Undecoded::Unknown)
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]
    #[test]
    fn agrees_with_another_decoder(
        prefixes in proptest::collection::vec(prop_oneof![Just(0x66u8), Just(0x3e), Just(0x65), Just(0xf3), Just(0x67)], 0..3),
        rex in proptest::option::of(0x40u8..0x50),
        second_map in any::<bool>(),
        rest in proptest::collection::vec(any::<u8>(), 12..15),
        bits in 0u8..3,
    ) {
        let mut code = prefixes;
        let bits = [Bits::Sixteen, Bits::ThirtyTwo, Bits::SixtyFour][usize::from(bits)];
        if bits == Bits::SixtyFour {
            code.extend(rex);
        }
        if second_map {
            code.push(0x0f);
        }
        code.extend(rest);
        compare(&code, bits)?;
    }
}
