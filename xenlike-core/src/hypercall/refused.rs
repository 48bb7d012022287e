use super::*;
pub fn call(_: &mut Ctx<'_>, _: u64, _: Args) -> Result<i64, Errno> {
    Err(errno::ENOSYS)
}
