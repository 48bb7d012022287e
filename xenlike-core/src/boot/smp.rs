//! Starting the other CPUs: INIT and start-up IPIs, one CPU at a time, and the CPU's way from real mode to Rust.
#![expect(unsafe_code, reason = "a CPU's first instructions")]

use crate::kit::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use core::arch::global_asm;

use log::{info, warn};

use super::acpi::Machine;
use super::start::IMAGE_TO_MACHINE;
use super::tables::TABLES_ADDRESS;
use super::{cpu, interrupts, memory, options, traps};
use crate::arch::lapic::{self, Mode};
use crate::arch::tsc_compare::{Ahead, Arrival, Questions};
use crate::arch::{self, percpu, time};
use crate::domain::notify::SCHED;
use crate::kit::{CpuId, MAX_CPUS, lock};
use crate::mm::layout::{DIRECT_MAP, MASTER};

/// How long a CPU may take to arrive or to answer, in ns.
const PATIENCE_NS: u64 = 1_000_000_000;
/// The time between INIT and the first start-up IPI, and between the two start-up IPIs, in ns.
const AFTER_INIT_NS: u64 = 20_000;
const BETWEEN_STARTUPS_NS: u64 = 300_000;
/// The id that means all CPUs to an xAPIC, which can't address this id and higher ones.
const XAPIC_BROADCAST: u32 = 255;
/// How often another CPU's clock is read before it is corrected, and how often it is corrected at most.
const LOOKS: u32 = 20;
const CORRECTIONS: u32 = 3;

/// The page tables, stack and number for the CPU that is being started, which its first instructions read.
static NEXT_TABLES: AtomicU64 = AtomicU64::new(0);
static NEXT_STACK: AtomicU64 = AtomicU64::new(0);
static NEXT_CPU: AtomicU32 = AtomicU32::new(0);
/// Set at the end of the boot, when all CPUs continue together.
static GO: AtomicBool = AtomicBool::new(false);
/// The exchange between the boot CPU and the CPU that is being started.
static QUESTIONS: Questions = Questions::none();

/// Why a CPU is not used.
enum Failure {
    /// It lacks these bits of a CPUID word that the boot CPU has. It is parked.
    Lacks(&'static str, u32),
    /// Any other reason. A CPU that is merely late could start with the values meant for the next one, so
    /// no more CPUs are started.
    Other(&'static str),
}

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

/// Starts all other CPUs of the machine that the options permit. Each waits for [`release`].
pub fn start_others(machine: &Machine, options: &options::Options) {
    let me = lapic::this_id();
    let reachable = |id: &u32| lapic::mode() == Mode::X2Apic || *id < XAPIC_BROADCAST;
    let others = machine
        .cpus
        .iter()
        .map(|cpu| cpu.id)
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
    // SAFETY: a page of RAM below 1 MiB that is reserved for this; the code is shorter.
    unsafe {
        let to = (DIRECT_MAP + page.0) as *mut u8;
        core::ptr::copy_nonoverlapping(start, to, end as usize - start as usize);
    }
    let mut next = 1;
    for id in others.take(allowed) {
        match start_one(CpuId(next), id, (page.0 >> 12) as u8) {
            Ok(()) => next += 1,
            Err(Failure::Lacks(word, bits)) => warn!(
                "the CPU with APIC id {id} lacks features of the first CPU (CPUID {word}: {bits:#x}); it is not used"
            ),
            Err(Failure::Other(why)) => {
                warn!("the CPU with APIC id {id} {why}; it and the rest are not used");
                break;
            }
        }
    }
    info!("{next} CPUs");
}

/// Starts a CPU as `cpu`, and marks it online. A CPU that fails is put back to waiting for a start-up IPI.
fn start_one(cpu: CpuId, id: u32, page: u8) -> Result<(), Failure> {
    prepare(cpu).map_err(Failure::Other)?;
    QUESTIONS.reset();
    time::follow_boot_cpu(cpu);
    time::put_forward(cpu, number_from_test("skewed-clocks").unwrap_or(0));
    lapic::send_init(id);
    time::wait_ns(AFTER_INIT_NS);
    let started = [BETWEEN_STARTUPS_NS, PATIENCE_NS].iter().find_map(|ns| {
        lapic::send_startup(id, page);
        arrival_within(cpu, *ns)
    });
    let outcome = match started {
        None => Err(Failure::Other("did not start")),
        Some(Arrival::Unfit(reason)) => {
            let (word, bits) = arch::cpu::lack_from(reason);
            Err(Failure::Lacks(word, bits))
        }
        Some(Arrival::Ready) => compare_clocks(cpu).ok_or(Failure::Other("stopped answering")),
    };
    match outcome {
        Ok(()) => percpu::set_online(cpu),
        Err(_) => lapic::send_init(id),
    }
    outcome
}

/// Prepares what `cpu` needs to start. It may exist already, from a CPU that was refused.
fn prepare(cpu: CpuId) -> Result<(), &'static str> {
    match percpu::info_of(cpu) {
        None => cpu::prepare(cpu).ok_or("finds no memory")?,
        Some(_) => arch::desc::release_tss(cpu),
    }
    let stack = cpu::stack_top(cpu).ok_or("has no stack")?;
    let tables = MASTER.get().ok_or("has no page tables")?;
    NEXT_TABLES.store(tables.maddr().0, Ordering::SeqCst);
    NEXT_STACK.store(stack.0, Ordering::SeqCst);
    NEXT_CPU.store(cpu.0, Ordering::SeqCst);
    Ok(())
}

/// A waiting step that returns whether any of the `ns` from now is left.
fn patience(ns: u64) -> impl Fn() -> bool {
    let end = time::now_ns().saturating_add(ns);
    move || {
        lock::wait_step();
        time::now_ns() < end
    }
}

fn arrival_within(cpu: CpuId, ns: u64) -> Option<Arrival> {
    let wait = patience(ns);
    loop {
        let arrival = QUESTIONS.arrival(cpu);
        if arrival.is_some() || !wait() {
            return arrival;
        }
    }
}

/// Compares the clock of `cpu` with this CPU's, and corrects it. `None` if the CPU doesn't answer any more.
fn compare_clocks(cpu: CpuId) -> Option<()> {
    let (mut sum, mut last) = (0_i64, 0);
    for round in 0..CORRECTIONS {
        let mut ahead = Ahead::UNKNOWN;
        for look in 1..=LOOKS {
            let number = round * LOOKS + look;
            let wait = patience(PATIENCE_NS);
            ahead.look(QUESTIONS.ask(cpu, number, time::ordered_ticks, wait)?);
        }
        last = ahead.correction();
        if last == 0 {
            break;
        }
        time::put_forward(cpu, last);
        sum = sum.wrapping_add(last);
    }
    if sum != 0 {
        warn!(
            "time: the TSC of {cpu:?} differs, its clock is put forward by {sum} ticks; guests are told not to rely on TSCs"
        );
        time::set_unstable();
    }
    if last != 0 {
        warn!("time: the TSC of {cpu:?} doesn't keep step: time may go backward between CPUs");
    }
    Some(())
}

/// What this CPU lacks; SSE2 if a test asks for that.
fn lack() -> Option<u64> {
    if is_test("unlike-cpu") {
        return Some(1 << 32 | 1 << 26);
    }
    arch::cpu::lack()
}

/// Whether the command line of a test build names this CPU's APIC id for a fault that no emulator has.
fn is_test(fault: &str) -> bool {
    let id = i64::from(arch::cpu::cpuid(1, 0)[1] >> 24);
    number_from_test(fault) == Some(id)
}

/// The number that the command line of a test build gives to `option`.
pub(super) fn number_from_test(option: &str) -> Option<i64> {
    let line = super::info::get()
        .filter(|_| cfg!(feature = "audit"))?
        .cmdline;
    options::value(line, option)?.parse().ok()
}

/// The first Rust code of another CPU, on its own stack and the real tables.
extern "sysv64" fn rust_start(number: u32) -> ! {
    let cpu = CpuId(number);
    cpu::load(cpu);
    traps::load();
    // Before features are compared, because the boot CPU may have some of its features only since its microcode update.
    arch::microcode::follow_boot_cpu();
    if let Some(lack) = lack() {
        QUESTIONS.refuse(cpu, lack);
        arch::power::halt_cpu();
    }
    arch::cpu::init_this_cpu();
    interrupts::init_cpu(cpu);
    time::equalise();
    let is_silent = is_test("silent-cpu");
    let is_over = || is_silent || GO.load(Ordering::Acquire);
    QUESTIONS.serve(cpu, time::ordered_ticks, is_over, lock::wait_step);
    if !percpu::online().contains(cpu) {
        // The boot CPU has lost patience with this one.
        arch::power::halt_cpu();
    }
    super::order::other_cpu(cpu)
}

/// Lets the started CPUs continue, and waits until all take vCPUs, because the first domain asks how many there are.
pub fn release() {
    GO.store(true, Ordering::Release);
    let others = percpu::online().count() - 1;
    while SCHED.online().count() < others {
        lock::wait_step();
    }
}
