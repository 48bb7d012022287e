//! The boot order, as a list: [`rust_start`], then [`on_own_stack`].

use log::{debug, info};

use super::info::{BootInfo, ScreenInfo};
use super::panic::refuse;
use super::{
    acpi, cpu, first_domain, info, interrupts, kept, memory, microcode, mitigate, options, panic,
    screen, serial, smp, stack, start, traps,
};
use crate::arch::cpu::Features;
use crate::kit::{CpuId, Maddr};
use crate::{arch, console, domain, entry, keys, kit, life, trace};

const BOOT_CPU: CpuId = CpuId(0);

/// The first Rust code. Runs on the boot CPU's first stack and on the boot tables.
pub extern "sysv64" fn rust_start(information: u32) -> ! {
    stack::guard();
    console::init();
    traps::load();
    memory::start_heap();
    let info = or_refuse(info::read(Maddr(u64::from(information)), start::loader()));
    introduce(info);
    let screen = screen_to_use(info);
    or_refuse(check_cpu(&arch::cpu::detect()));
    arch::cpu::init_this_cpu();
    or_refuse(memory::init(info, screen));
    #[cfg(feature = "audit")]
    super::ends::use_up_stack(info.cmdline);
    stack::report();
    or_refuse(cpu::prepare(BOOT_CPU).ok_or("there is too little memory"));
    cpu::switch_stack(BOOT_CPU, on_own_stack)
}

/// The screen, unless the options exclude it.
fn screen_to_use(info: &BootInfo) -> Option<&ScreenInfo> {
    let wanted = options::parse(info.cmdline).options.screen;
    info.screen.as_ref().filter(|_| wanted)
}

/// Opens the consoles that the options name, and introduces the hypervisor.
#[inline(never)] // keeps the frame of its formatting off the rest of the boot
fn introduce(info: &BootInfo) {
    let parsed = options::parse(info.cmdline);
    console_from(&parsed.options);
    if let Some(screen) = info.screen.as_ref().filter(|_| parsed.options.screen) {
        screen::early(screen);
    }
    info!(
        "xenlike {} started by {}",
        env!("CARGO_PKG_VERSION"),
        info.loader
    );
    info!("command line: {}", info.cmdline);
    debug!(
        "image at {:#x}",
        start::machine_of(crate::mm::layout::IMAGE).0
    );
    options::complain(&parsed.complaints);
    info::describe(info);
}

/// The rest of the boot, on the boot CPU's own stack and the real tables.
extern "sysv64" fn on_own_stack() -> ! {
    cpu::load(BOOT_CPU);
    traps::load();
    kit::lock::set_wait_step(arch::tlb::answer);
    #[cfg(debug_assertions)]
    kit::lock::set_this_cpu(arch::percpu::this_cpu);
    let info = or_refuse(info::get().ok_or("the boot loader told nothing"));
    let options = options::parse(info.cmdline).options;
    microcode::load(info, &options.microcode);
    arch::cpu::detect_again();

    let machine = acpi::read(info.acpi);
    or_refuse(interrupts::init(&machine, &options));
    or_refuse(interrupts::start_time(&machine, &options));
    arch::fpu::detect();
    mitigate::use_smap();
    let speculation = mitigate::decide(info, &options.speculation);
    arch::cpuid_fault::set_for(if options.dom0_cpuid_faulting {
        arch::cpuid_fault::For::All
    } else {
        arch::cpuid_fault::For::AllButDom0
    });
    interrupts::init_cpu(BOOT_CPU);
    interrupts::calibrate_timer();
    arch::percpu::set_online(BOOT_CPU);
    smp::start_others(&machine, &options);

    interrupts::route_serial(&machine, &options);
    kit::COMMAND_LINE.call_once(|| info.cmdline);
    #[cfg(feature = "audit")]
    crate::audit::init();
    trace_from_boot(&options);
    console::set_hooks(console::Hooks {
        input: domain::notify::console_input,
        key: keys::press,
    });
    kept::protect_hpet(&machine);
    let kept = kept::kept(&machine, &options, info, speculation);
    interrupts::open_book(&machine, &kept);
    life::hardware_domain::keep(kept);
    or_refuse(first_domain::start(info, &options.microcode));
    interrupts::choose_clock(&machine, &options);
    smp::release();
    other_cpu(BOOT_CPU)
}

/// The end of the boot on each CPU: from now on it runs vCPUs.
pub fn other_cpu(cpu: CpuId) -> ! {
    entry::init_cpu(cpu);
    #[cfg(feature = "audit")]
    info::get()
        .iter()
        .for_each(|info| super::ends::machine_check(info.cmdline));
    entry::upkeep();
    entry::run()
}

fn console_from(options: &options::Options) {
    console::level::set(options.own_levels, options.guest_levels);
    if let Some(setting) = options.serial {
        serial::open(setting);
    }
    if options.keep_screen {
        console::keep_screen();
    }
    options.reboot.into_iter().for_each(arch::power::set_method);
    crate::grant::set_offer(options.grants);
    crate::sched::name::set_name(options.scheduler);
    panic::NO_REBOOT.store(options.noreboot, crate::kit::atomic::Ordering::Relaxed);
}

/// Starts tracing, if the options ask for it.
fn trace_from_boot(options: &options::Options) {
    if options.traced_events != 0 {
        trace::EVENTS.store(options.traced_events, kit::atomic::Ordering::Relaxed);
    }
    let _ = life::trace_buffers::make(options.trace_pages, || false);
}

/// Checks for the features without which the core can't work.
fn check_cpu(features: &Features) -> Result<(), &'static str> {
    match features {
        Features { nx: false, .. } => {
            Err("this CPU has no NX (execute disable), or the firmware has turned it off")
        }
        Features { fxsr: false, .. } => Err("this CPU has no FXSAVE"),
        Features { syscall: false, .. } => Err("this CPU has no SYSCALL"),
        _ => Ok(()),
    }
}

/// Returns the value, or ends with the sentence on the console.
fn or_refuse<T>(result: Result<T, &'static str>) -> T {
    result.unwrap_or_else(|sentence| refuse(sentence))
}
