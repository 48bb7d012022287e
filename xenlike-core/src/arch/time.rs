//! placeholder until arch lands
pub struct TscScale {
    pub mul: u32,
    pub shift: i8,
    pub stable: bool,
}
pub fn now_ns() -> u64 {
    0
}
pub fn tsc_scale() -> TscScale {
    TscScale {
        mul: 0,
        shift: 0,
        stable: true,
    }
}
pub fn stamp() -> (u64, u64) {
    (0, 0)
}
pub fn boot_wall_clock() -> (u64, u32) {
    (0, 0)
}
