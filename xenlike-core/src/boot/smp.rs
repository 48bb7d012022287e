//! Starting the other CPUs: INIT and start-up IPIs, one CPU at a time, and the way from its real
//! mode to Rust.
#![expect(unsafe_code, reason = "a CPU's first instructions")]

use crate::kit::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use core::arch::global_asm;

use log::{info, warn};

use super::acpi::Machine;
use super::start::IMAGE_TO_MACHINE;
use super::tables::TABLES_ADDRESS;
use super::{cpu, interrupts, memory, options, traps};
use crate::arch::lapic::{self, Mode};
use crate::arch::{self, percpu, time};
use crate::domain::notify::SCHED;
use crate::kit::{CpuId, Lock, MAX_CPUS, Rank, lock};
use crate::mm::layout::{DIRECT_MAP, MASTER};

/// How long a CPU may take to appear, in ns.
const PATIENCE_NS: u64 = 1_000_000_000;
/// Between INIT and the first start-up IPI, and between the two of those, in ns.
const AFTER_INIT_NS: u64 = 20_000;
const BETWEEN_STARTUPS_NS: u64 = 300_000;
/// The id that means all CPUs to an xAPIC, which can't name this and higher ones.
const XAPIC_BROADCAST: u32 = 255;
/// Looks at the TSC of two CPUs that are compared.
const WARP_LOOKS: u32 = 500;

/// What the CPU that is being started needs.
static NEXT_TABLES: AtomicU64 = AtomicU64::new(0);
static NEXT_STACK: AtomicU64 = AtomicU64::new(0);
static NEXT_CPU: AtomicU32 = AtomicU32::new(0);
/// Set when the boot is over: then all CPUs go on together.
static GO: AtomicBool = AtomicBool::new(false);
/// Two CPUs' looks at their TSCs.
#[derive(Default)]
struct Looks {
    /// What the latest look saw.
    latest: u64,
    /// How far one was behind the one before it, at most.
    warp: u64,
}
static LOOKS: Lock<Looks> = Lock::new(Rank::TscLooks, Looks { latest: 0, warp: 0 });
/// The CPU whose TSC is being compared; 0 for none.
static COMPARING: AtomicU32 = AtomicU32::new(0);

unsafe extern "C" {
    static ap_trampoline: u8;
    static ap_trampoline_end: u8;
}

global_asm!(
    r#"
.section .rodata.ap_trampoline, "a"
.code16
.global ap_trampoline
ap_trampoline:
    cli
    cld
    lgdtl %cs:(ap_gdt_pointer - ap_trampoline)
    movl %cr0, %eax
    orl $1, %eax
    movl %eax, %cr0
to_ap_start32:
    ljmpl $0x18, $(ap_start32 - {image_to_machine})
.balign 8
ap_gdt_pointer:
    .short 0x1f
    .long boot_gdt - {image_to_machine}
.global ap_trampoline_end
ap_trampoline_end:

.section .boot.text, "ax"
.code32
ap_start32:
    movl $0x10, %eax
    movl %eax, %ds
    movl %eax, %ss
    movl $0x20, %eax
    movl %eax, %cr4
ap_tables:
    movl ${tables}, %eax
    movl %eax, %cr3
    movl $0xc0000080, %ecx
    rdmsr
    orl $0x900, %eax
    wrmsr
    movl $0x80010033, %eax
    movl %eax, %cr0
to_ap_start64:
    ljmpl $8, $(ap_start64 - {image_to_machine})
// What `start` corrects if the image was moved: the operands behind the opcodes, and the address of the GDT.
.pushsection .boot.moved, "a"
    .long to_ap_start32 + 2 - {image_to_machine}
    .long ap_gdt_pointer + 2 - {image_to_machine}
    .long ap_tables + 1 - {image_to_machine}
    .long to_ap_start64 + 1 - {image_to_machine}
.popsection
.code64
ap_start64:
    movabsq $ap_start_high, %rax
    jmpq *%rax
ap_start_high:
    movq {next_tables}(%rip), %rax
    movq %rax, %cr3
    movq {next_stack}(%rip), %rsp
    xorl %eax, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %eax, %fs
    movl %eax, %gs
    movl %eax, %ss
    xorl %ebp, %ebp
    movl {next_cpu}(%rip), %edi
    callq {rust_start}
    ud2
"#,
    image_to_machine = const IMAGE_TO_MACHINE,
    tables = const TABLES_ADDRESS,
    next_tables = sym NEXT_TABLES,
    next_stack = sym NEXT_STACK,
    next_cpu = sym NEXT_CPU,
    rust_start = sym rust_start,
    options(att_syntax),
);

/// Starts all other CPUs of the machine that the options allow. Each waits for [`release`].
pub fn start_others(machine: &Machine, options: &options::Options) {
    let me = lapic::this_id();
    let reachable = |id: &u32| lapic::mode() == Mode::X2Apic || *id < XAPIC_BROADCAST;
    let others = machine
        .cpus
        .iter()
        .copied()
        .filter(|id| *id != me)
        .filter(reachable);
    let allowed = options.max_cpus.min(MAX_CPUS) - 1;
    if machine.more_cpus {
        warn!("this machine has more CPUs than the {MAX_CPUS} that are used");
    }
    if others.clone().next().is_none() || allowed == 0 {
        info!("1 CPU");
        return;
    }
    let Some(page) = memory::low_page() else {
        warn!("there is no free memory below 640 KiB to start other CPUs from; one CPU is used");
        return;
    };
    let (start, end) = (&raw const ap_trampoline, &raw const ap_trampoline_end);
    // SAFETY: a page of RAM below 1 MiB that is set aside for this; the code is shorter.
    unsafe {
        let to = (DIRECT_MAP + page.0) as *mut u8;
        core::ptr::copy_nonoverlapping(start, to, end as usize - start as usize);
    }
    let mut next = 1;
    for id in others.take(allowed) {
        match start_one(CpuId(next), id, (page.0 >> 12) as u8) {
            Ok(()) => next += 1,
            Err(why) => {
                warn!("the CPU with APIC id {id} {why}; it is not used");
                // It may still come up late and take what the next one is given: stop here.
                break;
            }
        }
    }
    info!("{next} CPUs");
}

fn start_one(cpu: CpuId, id: u32, page: u8) -> Result<(), &'static str> {
    cpu::prepare(cpu).ok_or("finds no memory")?;
    let stack = cpu::stack_top(cpu).ok_or("has no stack")?;
    let tables = MASTER.get().ok_or("has no page tables")?;
    NEXT_TABLES.store(tables.maddr().0, Ordering::SeqCst);
    NEXT_STACK.store(stack.0, Ordering::SeqCst);
    NEXT_CPU.store(cpu.0, Ordering::SeqCst);
    lapic::send_init(id);
    time::wait_ns(AFTER_INIT_NS);
    lapic::send_startup(id, page);
    if !appears_within(cpu, BETWEEN_STARTUPS_NS) {
        lapic::send_startup(id, page);
        if !appears_within(cpu, PATIENCE_NS) {
            return Err("did not start");
        }
    }
    compare_tsc();
    while !percpu::online().contains(cpu) {
        lock::wait_step();
    }
    report_warp(cpu);
    Ok(())
}

fn appears_within(cpu: CpuId, ns: u64) -> bool {
    let end = time::now_ns() + ns;
    while time::now_ns() < end {
        if COMPARING.load(Ordering::SeqCst) == cpu.0 {
            return true;
        }
        lock::wait_step();
    }
    false
}

/// Looks at the TSC again and again, on two CPUs by turns: no look may be behind the one before.
fn compare_tsc() {
    for _ in 0..WARP_LOOKS {
        let mut looks = LOOKS.lock();
        let now = time::ordered_tsc();
        looks.warp = looks.warp.max(looks.latest.saturating_sub(now));
        looks.latest = now;
    }
}

fn report_warp(cpu: CpuId) {
    let Looks { warp, .. } = core::mem::take(&mut *LOOKS.lock());
    if warp != 0 {
        warn!("time: the TSC of {cpu:?} is {warp} ticks behind; guests are told not to rely on it");
        time::set_unstable();
    }
}

/// The first Rust of another CPU, on its own stack and the real tables.
extern "sysv64" fn rust_start(number: u32) -> ! {
    let cpu = CpuId(number);
    cpu::load(cpu);
    traps::load();
    arch::cpu::init_this_cpu();
    interrupts::init_cpu(cpu);
    COMPARING.store(number, Ordering::SeqCst);
    compare_tsc();
    percpu::set_online();
    while !GO.load(Ordering::Acquire) {
        lock::wait_step();
    }
    super::order::other_cpu(cpu)
}

/// Lets the started CPUs go on, and waits until they take vCPUs: the first domain asks how many there are.
pub fn release() {
    GO.store(true, Ordering::Release);
    let others = percpu::online().count() - 1;
    while SCHED.online().count() < others {
        lock::wait_step();
    }
}
