//! The boot domain: a 64-bit PV guest from the flat image that the build links into the hypervisor (docs/adr/0003),
//! with GRUB's modules in its memory. It finds what every PV kernel finds (xen.h, `struct start_info`), except for the
//! format of the list of modules (`BootModule`).

mod image;
mod memory;
mod plan;
#[cfg(test)]
mod tests;

use crate::kit::atomic::Ordering;
use alloc::sync::Arc;

use guest_pv_abi::arch_x86::{
    FLAT_KERNEL_CS, FLAT_KERNEL_SS, VGCF_IN_KERNEL, VGCF_ONLINE, VcpuGuestContext,
};
use guest_pv_abi::domctl::CreateDomain;
use guest_pv_abi::xen::{
    SIF_INITDOMAIN, SIF_MULTIBOOT_MOD, SIF_PRIVILEGED, START_INFO_MAGIC, StartInfo,
};
use guest_pv_abi::xenlike::BootModule;
use zerocopy::{FromZeros, IntoBytes};

use super::info::{BootInfo, Range};
use super::microcode::{self, Wish};
use crate::domain::{Domain, Rights};
use crate::grant;
use crate::kit::{DomId, Maddr, Mfn, VcpuId};
use crate::life::{create, hypercall_page, pausing, vcpus};
use crate::mm::SharedPage;
use crate::pagetype::{Refused, Work, machine};
use crate::pv::vcpu_context;
use image::Image;
use memory::Memory;
use plan::Plan;

/// The image that the build links in; empty in a build without one.
#[cfg(xenlike_bootdom)]
static IMAGE: &[u8] = include_bytes!(env!("XENLIKE_BOOTDOM"));
#[cfg(not(xenlike_bootdom))]
static IMAGE: &[u8] = &[];

/// The initial RFLAGS: interrupts on, and the bit that is always 1.
const RFLAGS: u64 = 0x202;
/// The limit of the domain's pages, which no machine reaches. Its limits of grants are the defaults.
const UNLIMITED: u64 = 1 << 40;

/// A module and its place in machine memory.
#[derive(Clone, Copy, Debug)]
pub struct Module<'a> {
    /// The machine addresses of its bytes.
    pub range: Range,
    /// The command line of the module.
    pub cmdline: &'a str,
}

/// Builds the boot domain and unpauses it; it runs as soon as a CPU asks the scheduler. A module that contains
/// microcode is not passed on as its kernel or initrd.
///
/// # Errors
/// A sentence that says what is missing.
pub fn start(info: &BootInfo, wish: &Wish) -> Result<(), &'static str> {
    let no_kernel = microcode::module_index(wish, info.modules.len());
    let modules = info.modules.iter().enumerate().map(|(n, m)| Module {
        range: m.range,
        cmdline: if Some(n) == no_kernel {
            "file=microcode"
        } else {
            m.cmdline
        },
    });
    let modules: alloc::vec::Vec<Module<'_>> = modules.collect();
    let dom = build(IMAGE, &modules, &info.occupied, info.cmdline)?;
    log::info!("the boot domain has {} MiB", dom.pages.total() >> 8);
    pausing::toolstack_unpause(&dom).map_err(|_| "the boot domain does not start")
}

/// Builds the boot domain, which is paused.
fn build(
    file: &[u8],
    modules: &[Module<'_>],
    occupied: &[Range],
    cmdline: &str,
) -> Result<Arc<Domain>, &'static str> {
    let image = Image::parse(file)?;
    let plan = Plan::new(&image, modules, memory::affordable_pages())?;
    let dom = new_domain()?;
    let mut memory = Memory::new(&dom, &plan)?;
    memory.fill(&plan, modules, occupied)?;
    memory.write(0, image.bytes())?;
    write_module_list(&memory, &plan, modules)?;
    memory.write_p2m(plan.p2m)?;
    write_start_info(&memory, &plan, &dom, cmdline)?;
    memory.write_tables(&plan)?;
    if image.hypercall_page_va != 0 {
        let page = memory.page(plan.pfn_of(image.hypercall_page_va)?)?;
        hypercall_page::fill(&page, guest_pv_abi::Width::Wide)
            .ok_or("the hypercall page is out of reach")?;
    }
    set_going(&dom, &plan, image.entry, memory.frame(plan.tables)?)?;
    Ok(dom)
}

fn new_domain() -> Result<Arc<Domain>, &'static str> {
    let mut config = CreateDomain::new_zeroed();
    config.max_vcpus = 1;
    config.max_evtchn_port = u32::MAX;
    config.max_grant_frames = -1;
    config.max_maptrack_frames = -1;
    config.grant_opts = grant::offer().version.number();
    let dom = create::create(Some(DomId::BOOT), Rights::Boot, &config)
        .map_err(|_| "there is too little memory for the boot domain")?;
    dom.pages.set_max(UNLIMITED);
    vcpus::make_all(&dom).map_err(|_| "there is too little memory for the boot domain's vCPU")?;
    Ok(dom)
}

/// Writes the list of the modules, followed by their command lines, each of which ends with a NUL.
fn write_module_list(
    memory: &Memory<'_>,
    plan: &Plan,
    modules: &[Module<'_>],
) -> Result<(), &'static str> {
    let mut entry_at = plan.module_list;
    let mut text_at = entry_at + (modules.len() * size_of::<BootModule>()) as u64;
    for (module, place) in modules.iter().zip(&plan.modules) {
        let entry = BootModule {
            start_va: plan.va_of(*place),
            bytes: module.range.end - module.range.start,
            cmdline_va: plan.virt_base + text_at,
            cmdline_bytes: module.cmdline.len() as u64,
        };
        memory.write(entry_at, entry.as_bytes())?;
        memory.write(text_at, module.cmdline.as_bytes())?;
        entry_at += size_of::<BootModule>() as u64;
        text_at += module.cmdline.len() as u64 + 1;
    }
    Ok(())
}

fn write_start_info(
    memory: &Memory<'_>,
    plan: &Plan,
    dom: &Domain,
    cmdline: &str,
) -> Result<(), &'static str> {
    let mut info = StartInfo::new_zeroed();
    for (to, from) in info.magic.iter_mut().zip(START_INFO_MAGIC) {
        *to = *from;
    }
    info.nr_pages = plan.pages;
    info.shared_info = dom.shared.mfn().maddr().0;
    info.flags = SIF_PRIVILEGED | SIF_INITDOMAIN;
    if !plan.modules.is_empty() {
        info.flags |= SIF_MULTIBOOT_MOD;
        info.mod_start = plan.virt_base + plan.module_list;
        info.mod_len = (plan.modules.len() * size_of::<BootModule>()) as u64;
    }
    info.pt_base = plan.va_of(plan.tables);
    info.nr_pt_frames = plan.table_count();
    info.mfn_list = plan.va_of(plan.p2m);
    // The last byte stays NUL.
    let room = info.cmd_line.len() - 1;
    for (to, from) in info.cmd_line.iter_mut().zip(cmdline.bytes().take(room)) {
        *to = from;
    }
    memory.write(plan.start_info << 12, info.as_bytes())
}

/// Pins the page tables and sets the vCPU's registers.
fn set_going(dom: &Arc<Domain>, plan: &Plan, entry: u64, l4: Mfn) -> Result<(), &'static str> {
    let mut work = Work::new();
    loop {
        match machine().pin(l4, 4, dom.id(), &mut work) {
            Ok(()) => break,
            Err(Refused::Again) => {}
            Err(_) => return Err("the boot domain's page tables are wrong"),
        }
    }
    let mut context = VcpuGuestContext::new_box_zeroed().map_err(|_| "no memory")?;
    context.flags = VGCF_IN_KERNEL | VGCF_ONLINE;
    context.user_regs.rip = entry;
    context.user_regs.rsp = plan.va_of(plan.stack_end);
    context.user_regs.rsi = plan.va_of(plan.start_info);
    context.user_regs.rflags = RFLAGS;
    context.user_regs.cs = FLAT_KERNEL_CS;
    context.user_regs.ss = FLAT_KERNEL_SS;
    context.kernel_ss = u64::from(FLAT_KERNEL_SS);
    context.kernel_sp = context.user_regs.rsp;
    context.ctrlreg[3] = l4.maddr().0;
    let vcpu = dom.vcpu(VcpuId(0)).ok_or("the boot domain has no vCPU")?;
    vcpu.info.upcall_mask().store(1, Ordering::Relaxed);
    let set = |st: &mut _| vcpu_context::set(dom, vcpu, st, &context);
    matches!(pausing::with_stopped(None, vcpu, set), Ok(Ok(())))
        .then_some(())
        .ok_or("the boot domain's first registers are wrong")
}

/// Copies bytes of a module from machine memory, all of which stays mapped. Frames below 1 MiB, where UEFI lets GRUB
/// put small modules, are not in the frame table.
fn read_machine(at: Maddr, out: &mut [u8]) -> Result<(), &'static str> {
    if at.0 < super::info::LOW_MEMORY {
        return super::info::read_low(at, out).ok_or("a module lies outside of RAM");
    }
    let page = SharedPage::new(at.mfn()).ok_or("a module lies outside of RAM")?;
    page.read(at.offset(), out)
        .ok_or("a module is not where GRUB said")
}
