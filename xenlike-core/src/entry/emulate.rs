//! placeholder until emul lands
use crate::hypercall::Ctx;
pub fn general_protection(_: &mut Ctx<'_>) {}
pub fn invalid_opcode(_: &mut Ctx<'_>) {}
pub fn software_interrupt(_: &mut Ctx<'_>, _: u8, _: u64) {}
pub fn page_table_write(_: &mut Ctx<'_>, _: u64) -> bool {
    false
}
