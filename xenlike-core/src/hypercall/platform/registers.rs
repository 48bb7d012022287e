//! resource_op and get_ucode_revision: registers that the toolstack may read.

use guest_pv_abi::cpufeatureset as feature;
use guest_pv_abi::errno::{self, Errno};
use guest_pv_abi::platform::{self as abi, PlatformOp, ResourceEntry, ResourceOp, UcodeRevision};

use super::last_cpu;
use crate::arch::microcode::{Hardware, Registers};
use crate::arch::{msr, time};
use crate::cpuid;
use crate::kit::Vaddr;
use crate::mm::guest::Guest;

/// Maximum number of entries of one call, as in Xen.
const MAX_ENTRIES: u32 = 3;
/// Control registers of transactional memory and of microcode mitigations. The core leaves them unchanged, and they
/// are equal on all CPUs.
const TSX_FORCE_ABORT: u64 = 0x10f;
const TSX_CTRL: u64 = 0x122;
const MCU_OPT_CTRL: u64 = 0x123;
/// Constants that the control domain may show: whether the firmware disabled VT-x or SVM, and the capabilities of
/// VT-x.
const FEATURE_CONTROL: u64 = 0x3a;
const VMX_CONTROLS: u64 = 0x482;
const VMX_SECOND_CONTROLS: u64 = 0x48b;
const VM_CR: u64 = 0xc001_0114;

/// XENPF_resource_op: performs entries up to the first that fails, in which it stores the error. The result is the
/// number that succeeded.
pub fn resource_op(guest: Guest<'_>, op: &PlatformOp) -> Result<i64, Errno> {
    let body = op.u.get_form::<ResourceOp>(guest.width());
    if body.nr_entries > MAX_ENTRIES {
        return Err(errno::EINVAL);
    }
    if body.nr_entries > 0 && body.cpu > last_cpu() {
        return Err(errno::ENODEV);
    }
    for n in 0..u64::from(body.nr_entries) {
        let at = Vaddr(body.entries.0);
        let mut entry: ResourceEntry = guest.read_at(at, n)?;
        let value = resource(&entry);
        match value {
            Ok(value) => entry.val = value,
            Err(error) => entry.cmd = error.to_ret() as u32,
        }
        guest.write_at(at, n, &entry)?;
        if value.is_err() {
            return Ok(n as i64);
        }
    }
    Ok(body.nr_entries.into())
}

fn resource(entry: &ResourceEntry) -> Result<u64, Errno> {
    let host = &cpuid::machine().host;
    let readable = match entry.idx {
        _ if entry.rsvd != 0 => return Err(errno::EINVAL),
        _ if entry.cmd > abi::XEN_RESOURCE_OP_MSR_WRITE => return Err(errno::EOPNOTSUPP),
        _ if entry.cmd == abi::XEN_RESOURCE_OP_MSR_WRITE => false,
        // As in Xen, the index of the TSC reads the system time.
        idx if idx == u64::from(msr::nr::TSC) => return Ok(time::now_ns()),
        TSX_FORCE_ABORT => host.has(feature::XEN_X86_FEATURE_TSX_FORCE_ABORT),
        TSX_CTRL => host.has(feature::XEN_X86_FEATURE_TSX_CTRL),
        MCU_OPT_CTRL => host.has(feature::XEN_X86_FEATURE_SRBDS_CTRL),
        FEATURE_CONTROL | VMX_CONTROLS | VMX_SECOND_CONTROLS => {
            host.has(feature::XEN_X86_FEATURE_VMX)
        }
        VM_CR => host.has(feature::XEN_X86_FEATURE_SVM),
        _ => false,
    };
    let value = readable.then(|| msr::read_safe(entry.idx as u32)).flatten();
    value.ok_or(errno::EPERM)
}

/// XENPF_get_ucode_revision: returns this CPU's revision, because all CPUs have the same one.
pub fn ucode_revision(op: &mut PlatformOp) -> Result<i64, Errno> {
    let mut body = op.u.get::<UcodeRevision>();
    if body.cpu > last_cpu() {
        return Err(errno::ENOENT);
    }
    let own = Hardware.identity();
    body.signature = own.signature;
    (body.pf, body.revision) = (own.platform, own.revision);
    op.u.set(&body);
    Ok(0)
}
