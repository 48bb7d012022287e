//! XENPF_firmware_info, and domain 0's other requests for firmware data and settings.

use guest_pv_abi::errno::{self, Errno};
use guest_pv_abi::platform::{self as abi, PlatformOp};

use crate::arch::msr;
use crate::kit::{Maddr, Vaddr};
use crate::life::hardware_domain::{self, Efi};
use crate::mm::guest::Guest;

/// XENPF_firmware_info: returns data of the EFI firmware. No BIOS data of disks or monitor is kept, and no shift key
/// counts as pressed.
pub fn info(guest: Guest<'_>, op: &mut PlatformOp) -> Result<i64, Errno> {
    let mut body = op.u.get_form::<abi::FirmwareInfo>(guest.width());
    match body.type_ {
        abi::XEN_FW_DISK_INFO | abi::XEN_FW_DISK_MBR_SIGNATURE => Err(errno::ENOENT),
        abi::XEN_FW_VBEDDC_INFO => Err(errno::ESRCH),
        abi::XEN_FW_EFI_INFO => {
            let efi = hardware_domain::efi().ok_or(errno::ENOSYS)?;
            efi_info(guest, efi, &mut body)?;
            op.u.set_form(&body, guest.width());
            Ok(0)
        }
        abi::XEN_FW_KBD_SHIFT_FLAGS if body.index != 0 => Err(errno::ESRCH),
        abi::XEN_FW_KBD_SHIFT_FLAGS => Ok(0),
        _ => Err(errno::EINVAL),
    }
}

fn efi_info(guest: Guest<'_>, efi: &Efi, body: &mut abi::FirmwareInfo) -> Result<(), Errno> {
    match body.index {
        abi::XEN_FW_EFI_VERSION => body.u.set(&efi.revision),
        abi::XEN_FW_EFI_RT_VERSION => body.u.set(&efi.runtime_revision),
        abi::XEN_FW_EFI_CONFIG_TABLE => {
            let table = abi::EfiConfigTable {
                addr: efi.config_tables.0,
                nent: efi.config_count,
                _gap0: [0; 4],
            };
            body.u.set_form(&table, guest.width());
        }
        abi::XEN_FW_EFI_VENDOR => {
            let mut vendor = body.u.get_form::<abi::EfiVendor>(guest.width());
            vendor.revision = efi.vendor_revision;
            let room = vendor.bufsz / 2;
            for (n, unit) in (0..room).zip(efi.vendor.iter().chain(&[0])) {
                guest.write_at(Vaddr(vendor.name.0), u64::from(n), unit)?;
            }
            body.u.set_form(&vendor, guest.width());
        }
        abi::XEN_FW_EFI_MEM_INFO => {
            let mut memory = body.u.get_form::<abi::EfiMemory>(guest.width());
            let region = efi.region_of(Maddr(memory.addr)).ok_or(errno::ESRCH)?;
            let rest = region.end.saturating_sub(memory.addr);
            memory.size = memory.size.min(rest);
            (memory.type_, memory.attr) = (region.kind, region.attributes);
            body.u.set_form(&memory, guest.width());
        }
        abi::XEN_FW_EFI_PCI_ROM => return Err(errno::ESRCH),
        abi::XEN_FW_EFI_APPLE_PROPERTIES => return Err(errno::ENODATA),
        _ => return Err(errno::EINVAL),
    }
    Ok(())
}

/// XENPF_set_processor_pminfo: the core controls neither power nor performance states. It accepts the capabilities
/// that domain 0 reports to the firmware by _PDC, and refuses everything else.
pub fn processor_power(guest: Guest<'_>, op: &PlatformOp) -> Result<i64, Errno> {
    /// `_PDC` (ACPI 3.0 §8.4.1): revision, count, capabilities.
    const REVISION: u32 = 1;
    let body = op.u.get_form::<abi::SetProcessorPminfo>(guest.width());
    if body.type_ != abi::XEN_PM_PDC {
        return Err(errno::ENOSYS);
    }
    let word = |n| {
        guest
            .read_at::<u32>(Vaddr(body.pdc.0), n)
            .map_err(|_| errno::EFAULT)
    };
    if word(0)? != REVISION || word(1)? == 0 {
        return Err(errno::EINVAL);
    }
    word(2)?;
    Ok(0)
}

/// XENPF_read_memtype: reads a variable-range MTRR (SDM vol. 3 §12.11.2.3).
pub fn memory_type(op: &mut PlatformOp) -> Result<i64, Errno> {
    const CAP: u32 = 0xfe;
    const FIRST_BASE: u32 = 0x200;
    const VALID: u64 = 1 << 11;
    let mut body = op.u.get::<abi::ReadMemtype>();
    let count = msr::read_safe(CAP).ok_or(errno::ENOSYS)? & 0xff;
    if u64::from(body.reg) >= count {
        return Err(errno::EINVAL);
    }
    let register = FIRST_BASE.saturating_add(body.reg.saturating_mul(2));
    let read = |number| msr::read_safe(number).ok_or(errno::EINVAL);
    let (base, mask) = (read(register)?, read(register.saturating_add(1))?);
    (body.mfn, body.nr_mfns, body.type_) = if mask & VALID == 0 {
        (0, 0, 0)
    } else {
        // The lowest set bit of the mask is the range's length.
        let frames = mask >> 12;
        let length = frames & frames.wrapping_neg();
        (base >> 12, length, (base & 0xff) as u32)
    };
    op.u.set(&body);
    Ok(0)
}
