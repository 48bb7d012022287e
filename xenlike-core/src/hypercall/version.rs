//! xen_version: identifies the hypervisor. It reports 4.20, the version of the control ABI, with its own name.

use guest_pv_abi::Width;
use guest_pv_abi::errno::{self, Errno};
use guest_pv_abi::version::{self as abi, CompileInfo, FeatureInfo, PlatformParameters};
use guest_pv_abi::{arch_x86, features, xen};

use super::Ctx;
use super::arguments::Command;
use crate::kit::{self, Vaddr};

/// The major version in bits 16 and above, the minor version below.
const VERSION: i64 = 4 << 16 | 20;
/// At most 15 bytes, and a NUL that ends it.
const EXTRAVERSION: &str = ".0-xenlike";
/// The guest types that can run, by the names that toolstacks look for.
const CAPABILITIES: &str = "xen-3.0-x86_64 xen-3.0-x86_32p ";
const CHANGESET: &str = concat!("xenlike ", env!("CARGO_PKG_VERSION"));
/// The text that an unprivileged domain gets instead of privileged information, as in Xen.
const DENIED: &str = "<denied>";

/// `xen_version(cmd, buffer)`: returns the version, or writes the requested information to the buffer.
pub fn call(ctx: &mut Ctx<'_>, args: &Command) -> Result<i64, Errno> {
    match args.cmd {
        abi::XENVER_VERSION => Ok(VERSION),
        cmd => with_buffer(ctx, cmd, args.arg),
    }
}

/// Handles the commands that write to a buffer, and unknown commands.
#[inline(never)] // cold: Linux calls XENVER_version some hundred times a second to have pending events delivered
fn with_buffer(ctx: &mut Ctx<'_>, cmd: u32, arg: Vaddr) -> Result<i64, Errno> {
    match cmd {
        abi::XENVER_EXTRAVERSION => text(ctx, arg, EXTRAVERSION, abi::XEN_EXTRAVERSION_LEN),
        abi::XENVER_COMPILE_INFO => compile_info(ctx, arg),
        abi::XENVER_CAPABILITIES => text(ctx, arg, CAPABILITIES, abi::XEN_CAPABILITIES_INFO_LEN),
        abi::XENVER_CHANGESET => text(ctx, arg, CHANGESET, abi::XEN_CHANGESET_INFO_LEN),
        abi::XENVER_PLATFORM_PARAMETERS => {
            let virt_start = match ctx.st.kind.width() {
                Width::Wide => arch_x86::HYPERVISOR_VIRT_START,
                Width::Narrow => arch_x86::narrow::COMPAT_VIRT_START,
            };
            ctx.guest().write(arg, &PlatformParameters { virt_start })?;
            Ok(0)
        }
        abi::XENVER_GET_FEATURES => get_features(ctx, arg),
        abi::XENVER_PAGESIZE if arg.is_null() => Ok(guest_pv_abi::PAGE_SIZE as i64),
        abi::XENVER_PAGESIZE => Err(errno::EINVAL),
        abi::XENVER_GUEST_HANDLE => {
            let handle = *ctx.dom.handle.lock();
            ctx.guest().write(arg, &handle)?;
            Ok(0)
        }
        abi::XENVER_COMMANDLINE => {
            let line = if ctx.dom.is_control() {
                kit::command_line()
            } else {
                DENIED
            };
            text(ctx, arg, line, xen::MAX_GUEST_CMDLINE)
        }
        // No build id is linked in. Xen returns this errno for such a build, too.
        abi::XENVER_BUILD_ID => Err(errno::ENODATA),
        abi::XENVER_EXTRAVERSION2 => varbuf(ctx, arg, EXTRAVERSION),
        abi::XENVER_CAPABILITIES2 => varbuf(ctx, arg, CAPABILITIES),
        abi::XENVER_CHANGESET2 => varbuf(ctx, arg, CHANGESET),
        abi::XENVER_COMMANDLINE2 => {
            let line = if ctx.dom.is_control() {
                kit::command_line()
            } else {
                DENIED
            };
            varbuf(ctx, arg, line)
        }
        _ => Err(errno::ENOSYS),
    }
}

/// Writes `text`, padded with zeros to `room` bytes. A longer text is cut so that it still ends in a NUL.
fn text(ctx: &Ctx<'_>, at: Vaddr, text: &str, room: usize) -> Result<i64, Errno> {
    let mut buffer = [0_u8; 1024];
    let shown = text
        .len()
        .min(room.saturating_sub(1))
        .min(buffer.len().saturating_sub(1));
    for (to, from) in buffer.iter_mut().zip(text.bytes().take(shown)) {
        *to = from;
    }
    let bytes = buffer.get(..room.min(1024)).unwrap_or(&buffer);
    ctx.guest().write_bytes(at, bytes)?;
    Ok(0)
}

/// The newer form, where the guest states the size of its buffer. Returns the length of the text.
fn varbuf(ctx: &Ctx<'_>, at: Vaddr, text: &str) -> Result<i64, Errno> {
    let needs = text.len() as i64;
    if at.is_null() {
        return Ok(needs);
    }
    let header = ctx.guest().read::<abi::Varbuf>(at)?;
    if (header.len as usize) < text.len() {
        return Err(errno::ENOBUFS);
    }
    let buffer = at
        .checked_add(size_of::<abi::Varbuf>() as u64)
        .ok_or(errno::EFAULT)?;
    ctx.guest().write_bytes(buffer, text.as_bytes())?;
    Ok(needs)
}

fn compile_info(ctx: &Ctx<'_>, at: Vaddr) -> Result<i64, Errno> {
    let info = CompileInfo {
        compiler: fixed("rustc"),
        compile_by: fixed("xenlike"),
        compile_domain: fixed(""),
        compile_date: fixed(""),
    };
    ctx.guest().write(at, &info)?;
    Ok(0)
}

fn fixed<const N: usize>(text: &str) -> [u8; N] {
    let mut bytes = [0; N];
    for (to, from) in bytes.iter_mut().zip(text.bytes().take(N.saturating_sub(1))) {
        *to = from;
    }
    bytes
}

fn get_features(ctx: &Ctx<'_>, at: Vaddr) -> Result<i64, Errno> {
    let mut info = ctx.guest().read::<FeatureInfo>(at)?;
    if info.submap_idx != 0 {
        return Err(errno::EINVAL);
    }
    let bit = |feature: u32| 1_u32 << feature;
    info.submap = bit(features::XENFEAT_MMU_PT_UPDATE_PRESERVE_AD)
        | bit(features::XENFEAT_HIGHMEM_ASSIST)
        | bit(features::XENFEAT_GNTTAB_MAP_AVAIL_BITS)
        | bit(features::XENFEAT_MEMORY_OP_VNODE_SUPPORTED)
        // A PV domain's frame numbers are machine frame numbers.
        | bit(features::XENFEAT_DIRECT_MAPPED);
    if ctx.dom.assists(xen::VMASST_TYPE_PAE_EXTENDED_CR3) {
        info.submap |= bit(features::XENFEAT_PAE_PGDIR_ABOVE_4GB);
    }
    if ctx.dom.id() == kit::DomId::DOM0 {
        info.submap |= bit(features::XENFEAT_DOM0);
    }
    ctx.guest().write(at, &info)?;
    Ok(0)
}
