//! The per-CPU block: a CPU's stacks with [`CpuInfo`] at the very top, which is found by masking RSP.
//!
//! A block takes 64 KiB of addresses, aligned to 64 KiB. Pages that aren't listed here are not mapped, so that no stack
//! can overflow into another:
//!
//! | page | holds |
//! |---|---|
//! | 1, 3, 5, 7 | the stacks of NMI, #MC, #DF, #DB |
//! | 9–15 | the main stack; the last bytes are [`CpuInfo`] |
#![expect(unsafe_code, reason = "finds the block by the stack pointer")]

use crate::kit::atomic::{AtomicU32, AtomicU64, Ordering};
use core::cell::UnsafeCell;

use super::frame::TrapFrame;
use crate::kit::{AtomicCpuSet, CpuId, CpuSet, MAX_CPUS, PAGE_SIZE, Vaddr};

/// The size and alignment of a block, in bytes.
pub const BLOCK_BYTES: usize = 64 * 1024;
/// The first page of the main stack within the block.
pub const MAIN_STACK_FIRST_PAGE: usize = 9;
/// The pages of a block that are mapped.
pub const MAPPED_PAGES: [usize; 11] = [1, 3, 5, 7, 9, 10, 11, 12, 13, 14, 15];
/// The distance from [`CpuInfo::frame`] to the end of the block, in bytes.
pub const FRAME_FROM_TOP: usize = size_of::<CpuInfo>() - core::mem::offset_of!(CpuInfo, frame);

/// A stack to which the machine switches by itself for one exception (APM vol. 2 §8.9.4).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Ist {
    /// The stack of non-maskable interrupts.
    Nmi = 1,
    /// The stack of machine checks.
    MachineCheck = 2,
    /// The stack of double faults.
    DoubleFault = 3,
    /// The stack of debug exceptions.
    Debug = 4,
}

impl Ist {
    /// All of them, in the order of the TSS fields.
    pub const ALL: [Self; 4] = [
        Self::Nmi,
        Self::MachineCheck,
        Self::DoubleFault,
        Self::Debug,
    ];

    /// The offset of the stack's end from the start of the block, in bytes.
    pub const fn top(self) -> usize {
        2 * (self as usize) * PAGE_SIZE
    }
}

/// The data at the top of a CPU's block.
#[repr(C, align(64))]
pub struct CpuInfo {
    /// Padding that makes the end of `frame`, to which TSS.RSP0 points, a multiple of 16.
    align: u64,
    /// The guest's registers while the CPU is in ring 0 on its behalf.
    pub frame: UnsafeCell<TrapFrame>,
    /// What must be done before the CPU leaves ring 0: bits of [`super::work`]. Other CPUs set them.
    pub work: AtomicU32,
    /// The number of this CPU.
    pub cpu: CpuId,
    /// The address of the current vCPU's `vcpu_info`, or of a zero byte if it has none. The exit path reads it.
    pub vcpu_info: AtomicU64,
    /// The address of the current vCPU; set by `entry`.
    pub current: AtomicU64,
    /// The tick of the flush clock at which the CPU last flushed everything; set by [`super::tlb`].
    pub flushed: AtomicU64,
}

#[cfg(not(loom))]
const _: () = assert!(size_of::<CpuInfo>() == 256);
const _: () = assert!((FRAME_FROM_TOP - size_of::<TrapFrame>()).is_multiple_of(16));

// SAFETY: only the CPU itself accesses `frame`, through `entry`; the other fields are atomic or constant.
unsafe impl Sync for CpuInfo {}

impl CpuInfo {
    /// The data of a CPU that has no work and no vCPU yet.
    pub const fn new(cpu: CpuId) -> Self {
        Self {
            align: 0,
            frame: UnsafeCell::new(TrapFrame::ZERO),
            work: AtomicU32::new(0),
            cpu,
            vcpu_info: AtomicU64::new(0),
            current: AtomicU64::new(0),
            flushed: AtomicU64::new(0),
        }
    }
}

/// The address of each CPU's [`CpuInfo`]; 0 until its block is set up.
static INFOS: [AtomicU64; MAX_CPUS] = [const { AtomicU64::new(0) }; MAX_CPUS];
static ONLINE: AtomicCpuSet = AtomicCpuSet::new(CpuSet::EMPTY);

/// The data of the CPU that this code runs on.
#[cfg(target_os = "none")]
#[inline(always)]
pub fn info() -> &'static CpuInfo {
    let rsp: usize;
    // SAFETY: only reads a register.
    unsafe {
        core::arch::asm!("mov {}, rsp", out(reg) rsp, options(pure, nomem, nostack, preserves_flags));
    }
    let top = (rsp | (BLOCK_BYTES - 1)) + 1;
    // SAFETY: every stack of the core lies in a block with a `CpuInfo` at its top, which `boot` ensures, and which is
    // never moved or freed.
    unsafe { &*((top - size_of::<CpuInfo>()) as *const CpuInfo) }
}

/// On the host, the data of CPU 0.
#[cfg(not(target_os = "none"))]
pub fn info() -> &'static CpuInfo {
    static HOST: CpuInfo = CpuInfo::new(CpuId(0));
    &HOST
}

/// The [`CpuInfo`] of another CPU, once its block is set up. Only its atomic fields may be accessed.
pub fn info_of(cpu: CpuId) -> Option<&'static CpuInfo> {
    let at = INFOS.get(cpu.index())?.load(Ordering::Acquire);
    // SAFETY: `set_block` stored the address of a live `CpuInfo`, which is never freed.
    (at != 0).then(|| unsafe { &*(at as *const CpuInfo) })
}

/// [`CpuInfo::flushed`] of `cpu`, once its block is set up.
#[cfg(target_os = "none")]
pub fn flushed_of(cpu: CpuId) -> Option<&'static AtomicU64> {
    info_of(cpu).map(|info| &info.flushed)
}

/// On the host, that of its only CPU.
#[cfg(not(target_os = "none"))]
pub fn flushed_of(_cpu: CpuId) -> Option<&'static AtomicU64> {
    Some(&info().flushed)
}

/// Records that the block of `cpu` is at `base`.
///
/// # Safety
/// The block is mapped for good, and a `CpuInfo` for `cpu` has been written to its top.
pub unsafe fn set_block(cpu: CpuId, base: Vaddr) {
    let at = base.0 + (BLOCK_BYTES - size_of::<CpuInfo>()) as u64;
    if let Some(slot) = INFOS.get(cpu.index()) {
        slot.store(at, Ordering::Release);
    }
}

/// The end of the guest's frame on `cpu`: the stack of TSS.RSP0 and of the SYSCALL stub.
pub fn frame_end(cpu: CpuId) -> Option<Vaddr> {
    let frame = info_of(cpu)?.frame.get() as u64;
    Some(Vaddr(frame + size_of::<TrapFrame>() as u64))
}

/// The CPU that this code runs on.
#[inline(always)]
pub fn this_cpu() -> CpuId {
    info().cpu
}

/// The CPUs that run the core's code.
pub fn online() -> CpuSet {
    ONLINE.get()
}

/// Adds `cpu`, which runs the core's code, to [`online`].
pub fn set_online(cpu: CpuId) {
    ONLINE.insert(cpu);
}

/// The value of a stack word that has never been used.
pub const UNUSED: u64 = 0x5afe_57ac_5afe_57ac;
/// The size of the main stack in bytes.
pub const MAIN_STACK_BYTES: usize =
    BLOCK_BYTES - MAIN_STACK_FIRST_PAGE * PAGE_SIZE - size_of::<CpuInfo>();

/// The number of bytes of its main stack that `cpu` has used at most since it started.
#[cfg(target_os = "none")]
pub fn stack_used(cpu: CpuId) -> Option<usize> {
    let end = core::ptr::from_ref(info_of(cpu)?) as usize as u64;
    let first = end - MAIN_STACK_BYTES as u64;
    let unused = (first..end)
        .step_by(8)
        .take_while(|at| stack_word(*at) == UNUSED);
    Some(MAIN_STACK_BYTES - 8 * unused.count())
}

/// Returns `None`: the host's stacks aren't the core's.
#[cfg(not(target_os = "none"))]
pub fn stack_used(_cpu: CpuId) -> Option<usize> {
    None
}

/// The words of the stack that contains `rsp`, from there to its end, followed by those of the stacks that it
/// interrupted. Empty if `rsp` is on none of the core's stacks.
#[cfg(target_os = "none")]
pub fn stack_words(rsp: u64) -> impl Iterator<Item = u64> {
    // Exceptions can nest, but no deeper than there are stacks.
    let stacks =
        core::iter::successors(Some(rsp), |rsp| interrupted(*rsp)).take(Ist::ALL.len() + 1);
    stacks.flat_map(|rsp| {
        let first = used_up(rsp).unwrap_or(rsp);
        (first.next_multiple_of(8)..stack_end(first))
            .step_by(8)
            .map(stack_word)
    })
}

/// The lowest address of the main stack, if `rsp` has left it for the guard page below.
#[cfg(target_os = "none")]
fn used_up(rsp: u64) -> Option<u64> {
    let page = rsp as usize % BLOCK_BYTES / PAGE_SIZE;
    (page + 1 == MAIN_STACK_FIRST_PAGE).then(|| rsp.next_multiple_of(PAGE_SIZE as u64))
}

/// The RSP that the CPU saved when it switched to the exception stack that contains `rsp`.
#[cfg(target_os = "none")]
fn interrupted(rsp: u64) -> Option<u64> {
    let end = stack_end(rsp);
    let page = rsp as usize % BLOCK_BYTES / PAGE_SIZE;
    // The CPU pushed SS and RSP first (APM vol. 2 §8.9.3).
    (end > rsp && page < MAIN_STACK_FIRST_PAGE).then(|| stack_word(end - 16))
}

/// The end of the stack that contains `rsp`; `rsp` itself if it is on no stack.
#[cfg(target_os = "none")]
fn stack_end(rsp: u64) -> u64 {
    let block = rsp & !(BLOCK_BYTES as u64 - 1);
    let page = ((rsp - block) / PAGE_SIZE as u64) as usize;
    let is_block = INFOS
        .iter()
        .any(|i| i.load(Ordering::Relaxed) & !(BLOCK_BYTES as u64 - 1) == block);
    match page {
        _ if !is_block => rsp,
        MAIN_STACK_FIRST_PAGE.. => block + (BLOCK_BYTES - size_of::<CpuInfo>()) as u64,
        1 | 3 | 5 | 7 => block + ((page + 1) * PAGE_SIZE) as u64,
        _ => rsp,
    }
}

/// Reads a word of a stack. `at` lies between an RSP and its [`stack_end`].
#[cfg(target_os = "none")]
fn stack_word(at: u64) -> u64 {
    // SAFETY: the callers, all in this file, pass addresses within a mapped stack.
    unsafe { (at as *const u64).read_volatile() }
}
