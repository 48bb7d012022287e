//! The functions that the compiler calls for memory, which no library provides on this target, and the symbol to which
//! the standard library's landing pads refer. A panic never unwinds, so that nothing calls it.

#![expect(unsafe_code, reason = "functions in assembly")]

use core::arch::global_asm;

global_asm!(
    r#"
    .pushsection .text.memory, "ax", @progbits
    .global memcpy
    memcpy:
        push esi
        push edi
        mov edi, [esp + 12]
        mov esi, [esp + 16]
        mov ecx, [esp + 20]
        mov eax, edi
        mov edx, ecx
        shr ecx, 2
        rep movsd
        mov ecx, edx
        and ecx, 3
        rep movsb
        pop edi
        pop esi
        ret

    .global memmove
    memmove:
        mov eax, [esp + 4]
        sub eax, [esp + 8]
        cmp eax, [esp + 12]
        jae memcpy
        push esi
        push edi
        mov ecx, [esp + 20]
        mov edi, [esp + 12]
        mov esi, [esp + 16]
        mov eax, edi
        lea edi, [edi + ecx - 1]
        lea esi, [esi + ecx - 1]
        std
        rep movsb
        cld
        pop edi
        pop esi
        ret

    .global memset
    memset:
        push edi
        mov edi, [esp + 8]
        movzx eax, byte ptr [esp + 12]
        imul eax, eax, 0x01010101
        mov edx, [esp + 16]
        mov ecx, edx
        shr ecx, 2
        rep stosd
        mov ecx, edx
        and ecx, 3
        rep stosb
        mov eax, [esp + 8]
        pop edi
        ret

    .global memcmp
    .global bcmp
    memcmp:
    bcmp:
        push esi
        push edi
        mov esi, [esp + 12]
        mov edi, [esp + 16]
        mov ecx, [esp + 20]
        xor eax, eax
        repe cmpsb
        je 2f
        movzx eax, byte ptr [esi - 1]
        movzx edx, byte ptr [edi - 1]
        sub eax, edx
    2:
        pop edi
        pop esi
        ret

    .global _Unwind_Resume
    _Unwind_Resume:
        ud2
    .popsection
    "#
);
