//! The initial state of a new domain's first vCPU: start info, shared info, registers, and grants for
//! its console and store.

use guest_pv_abi::arch_x86::{
    CpuUserRegs, FLAT_KERNEL_CS, FLAT_KERNEL_DS, FLAT_KERNEL_SS, VGCF_IN_KERNEL, VGCF_ONLINE,
    VcpuGuestContext, narrow as arch_narrow,
};
use guest_pv_abi::grant_table::{
    GNTTAB_RESERVED_CONSOLE, GNTTAB_RESERVED_XENSTORE, GTF_PERMIT_ACCESS, GrantEntryV1,
};
use guest_pv_abi::xen::{
    SIF_INITDOMAIN, SIF_MOD_START_PFN, SIF_PRIVILEGED, START_INFO_MAGIC, START_INFO_MAGIC_NARROW,
    SharedInfo, StartInfo, VMASST_TYPE_PAE_EXTENDED_CR3, VcpuInfo,
};
use guest_pv_abi::{Form, Width, narrow};
use zerocopy::{FromZeros, IntoBytes};

use crate::hyper::{CallError, DomId, Hypercalls, Mfn, PAGE, VcpuId, domain, machine, memory};
use crate::image::PvKernel;

use super::layout::{Layout, Span};
use super::memory::DomainMemory;
use super::{BuildError, Built, Contents, Kind};

/// Initial EFLAGS: the bit that is always set, and interrupts enabled.
const RFLAGS: u64 = 1 << 1 | 1 << 9;
/// DR6 and DR7 after a reset (Intel SDM vol. 3, table 11-1).
const DR6: u64 = 0xffff_0ff0;
const DR7: u64 = 0x400;

/// Copies as much of `text` as fits before the last byte, which stays NUL.
fn put_text(place: &mut [u8], text: &[u8]) {
    let room = place.len().saturating_sub(1);
    for (place, byte) in place.iter_mut().take(room).zip(text) {
        *place = *byte;
    }
}

/// Fills in the start info page.
pub(super) fn write_start_info<H: Hypercalls + ?Sized>(
    memory: &mut DomainMemory<'_, H>,
    contents: &Contents,
    layout: &Layout,
    shared_info: Mfn,
) -> Result<(), BuildError> {
    let mut info = StartInfo {
        nr_pages: contents.pages,
        shared_info: shared_info.0 << 12,
        pt_base: layout.address(layout.tables.first),
        nr_pt_frames: layout.tables.pages,
        mfn_list: layout.p2m_address,
        ..Default::default()
    };
    let magic = match layout.width {
        Width::Wide => START_INFO_MAGIC,
        Width::Narrow => START_INFO_MAGIC_NARROW,
    };
    put_text(&mut info.magic, magic);
    put_text(&mut info.cmd_line, contents.cmdline.as_bytes());
    if layout.p2m_tables.pages > 0 {
        info.first_p2m_pfn = layout.p2m.first.0;
        info.nr_p2m_frames = layout.p2m.pages + layout.p2m_tables.pages;
    }
    if let (Some(span), Some(initrd)) = (layout.initrd, contents.initrd) {
        info.mod_len = initrd.len() as u64;
        if layout.initrd_mapped {
            info.mod_start = layout.address(span.first);
        } else {
            info.mod_start = span.first.0;
            info.flags |= SIF_MOD_START_PFN;
        }
    }
    let mut page = [0_u8; PAGE];
    match contents.kind {
        Kind::Dom0 {
            screen,
            screen_bytes,
        } => {
            info.flags |= SIF_PRIVILEGED | SIF_INITDOMAIN;
            let offset = StartInfo::size(layout.width);
            if screen_bytes > 0 {
                // For domain 0, these fields are console.dom0: offset and size of the screen's description in this page,
                // 32 bits each.
                info.console_mfn = offset as u64;
                match layout.width {
                    Width::Wide => info.console_mfn |= u64::from(screen_bytes) << 32,
                    Width::Narrow => info.console_evtchn = screen_bytes,
                }
            }
            if let Some(place) = page.get_mut(offset..) {
                put_text(place, &screen);
            }
        }
        Kind::Guest { console, store, .. } => {
            info.console_mfn = memory.frame(layout.console)?.0;
            info.console_evtchn = console.0;
            info.store_mfn = memory.frame(layout.store)?.0;
            info.store_evtchn = store.map_or(0, |port| port.0);
        }
    }
    match layout.width {
        Width::Wide => put_text(&mut page, info.as_bytes()),
        Width::Narrow => {
            let narrow = info.narrow();
            if StartInfo::widen(narrow) != info {
                return Err(BuildError::Unreachable);
            }
            put_text(&mut page, narrow.as_bytes());
        }
    }
    memory.write(
        Span {
            first: layout.start_info,
            pages: 1,
        },
        &page,
    )
}

/// Clears the shared info page and masks the events of all vCPUs.
pub(super) fn write_shared_info<H: Hypercalls + ?Sized>(
    memory: &mut DomainMemory<'_, H>,
    layout: &Layout,
    frame: Mfn,
) -> Result<(), BuildError> {
    let mut info = SharedInfo::default();
    for vcpu in &mut info.vcpu_info {
        *vcpu = VcpuInfo {
            evtchn_upcall_mask: 1,
            ..Default::default()
        };
    }
    let write = &mut |window: &mut [u8]| {
        window.fill(0);
        match layout.width {
            Width::Wide => put_text(window, info.as_bytes()),
            Width::Narrow => put_text(window, info.narrow().as_bytes()),
        }
    };
    let mapped = memory.hypercalls.with_frames(memory.dom, &[frame], write);
    mapped.map_err(|errno| CallError::of("map the domain's shared page")(errno).into())
}

/// Sets the registers of the first vCPU.
pub(super) fn set_context<H: Hypercalls + ?Sized>(
    h: &mut H,
    dom: DomId,
    kernel: &PvKernel,
    layout: &Layout,
    root: Mfn,
) -> Result<(), BuildError> {
    let first = VcpuId(0);
    match kernel.width {
        Width::Wide => domain::set_context(h, dom, first, &wide_context(kernel, layout, root))?,
        Width::Narrow => {
            let context = narrow_context(kernel, layout, root).ok_or(BuildError::Unreachable)?;
            domain::set_context(h, dom, first, &context)?;
        }
    }
    Ok(())
}

fn wide_context(kernel: &PvKernel, layout: &Layout, root: Mfn) -> VcpuGuestContext {
    let rsp = layout.address(layout.stack).wrapping_add(PAGE as u64);
    let mut context = VcpuGuestContext {
        flags: VGCF_IN_KERNEL | VGCF_ONLINE,
        user_regs: CpuUserRegs {
            rip: kernel.entry,
            rsp,
            rsi: layout.address(layout.start_info),
            rflags: RFLAGS,
            cs: FLAT_KERNEL_CS,
            ss: FLAT_KERNEL_SS,
            ds: FLAT_KERNEL_DS,
            es: FLAT_KERNEL_DS,
            fs: FLAT_KERNEL_DS,
            gs: FLAT_KERNEL_DS,
            ..Default::default()
        },
        kernel_ss: u64::from(FLAT_KERNEL_SS),
        kernel_sp: rsp,
        ..Default::default()
    };
    context.ctrlreg[3] = root.0 << 12;
    context.debugreg[6] = DR6;
    context.debugreg[7] = DR7;
    context
}

/// Returns `None` if an address exceeds 32 bits.
fn narrow_context(
    kernel: &PvKernel,
    layout: &Layout,
    root: Mfn,
) -> Option<narrow::VcpuGuestContext> {
    let word = |address: u64| u32::try_from(address).ok();
    let esp = word(layout.address(layout.stack) + PAGE as u64)?;
    let segment = arch_narrow::FLAT_KERNEL_DS;
    let mut context = narrow::VcpuGuestContext {
        flags: word(VGCF_IN_KERNEL | VGCF_ONLINE)?,
        user_regs: narrow::CpuUserRegs {
            eip: word(kernel.entry)?,
            esp,
            esi: word(layout.address(layout.start_info))?,
            eflags: word(RFLAGS)?,
            cs: arch_narrow::FLAT_KERNEL_CS,
            ss: arch_narrow::FLAT_KERNEL_SS,
            ds: segment,
            es: segment,
            fs: segment,
            gs: segment,
            ..FromZeros::new_zeroed()
        },
        kernel_ss: u32::from(arch_narrow::FLAT_KERNEL_SS),
        kernel_sp: esp,
        ..FromZeros::new_zeroed()
    };
    if !kernel.low_root {
        context.vm_assist = 1 << VMASST_TYPE_PAE_EXTENDED_CR3;
    }
    context.ctrlreg[3] = arch_narrow::pfn_to_cr3(word(root.0)?);
    context.debugreg[6] = word(DR6)?;
    context.debugreg[7] = word(DR7)?;
    Some(context)
}

/// Grants the pages of the rings to the domain that serves them, with the references that guests expect.
pub(super) fn seed_grants<H: Hypercalls + ?Sized>(
    h: &mut H,
    dom: DomId,
    backend: DomId,
    built: &Built,
    with_store: bool,
) -> Result<(), BuildError> {
    let Some(frames) = machine::optional(memory::grant_frames(h, dom, 1))? else {
        return Ok(());
    };
    let entry = |frame: Mfn| GrantEntryV1 {
        flags: GTF_PERMIT_ACCESS,
        domid: backend.0,
        frame: frame.0 as u32,
    };
    let mut seed = |window: &mut [u8]| {
        let mut put = |index: u32, entry: GrantEntryV1| {
            let at = index as usize * size_of::<GrantEntryV1>();
            if let Some(place) = window.get_mut(at..at + size_of::<GrantEntryV1>()) {
                place.copy_from_slice(entry.as_bytes());
            }
        };
        put(GNTTAB_RESERVED_CONSOLE, entry(built.console));
        if with_store {
            put(GNTTAB_RESERVED_XENSTORE, entry(built.store));
        }
    };
    let mapped = h.with_frames(dom, &frames, &mut seed);
    mapped.map_err(|errno| CallError::of("map the domain's grant table")(errno).into())
}
