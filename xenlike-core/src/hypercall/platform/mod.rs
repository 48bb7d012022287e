//! platform_op: the machine's clock, CPUs, firmware and screen, for the hardware domain.

mod firmware;
mod microcode;
mod registers;

use guest_pv_abi::errno::{self, Errno};
use guest_pv_abi::platform::{self as abi, PlatformOp};

use super::Ctx;
use super::arguments::Structure;
use crate::arch::{lapic, time};
use crate::cpuid;
use crate::domain::notify::SCHED;
use crate::domain::time::{idle_ns, publish_wall_clock};
use crate::domain::{self, registry};
use crate::kit::{CpuId, DomId, Vaddr};
use crate::life::hotplug::{self, Refused};
use crate::life::{endings, hardware_domain};
use crate::mm::guest::Guest;

/// The number of nanoseconds in a second.
const SECOND: u128 = 1_000_000_000;
/// The number of ACPI's soft-off state.
const S5: u32 = 5;

/// `platform_op(op)`: performs one operation. EACCES for another interface version, EPERM without control rights.
pub fn call(ctx: &mut Ctx<'_>, args: &Structure) -> Result<i64, Errno> {
    let at = args.at;
    let mut op = ctx.guest().read::<PlatformOp>(at)?;
    if op.interface_version != abi::XENPF_INTERFACE_VERSION {
        return Err(errno::EACCES);
    }
    ctx.require_control()?;
    let result = match op.cmd {
        abi::XENPF_SETTIME32 => return set_time32(&op),
        abi::XENPF_SETTIME64 => return set_time64(&op),
        abi::XENPF_ENTER_ACPI_SLEEP => return enter_sleep(&op),
        abi::XENPF_SET_PROCESSOR_PMINFO => return firmware::processor_power(ctx.guest(), &op),
        abi::XENPF_READ_MEMTYPE => firmware::memory_type(&mut op)?,
        abi::XENPF_FIRMWARE_INFO => firmware::info(ctx.guest(), &mut op)?,
        abi::XENPF_GETIDLETIME => idle_times(ctx.guest(), &mut op)?,
        abi::XENPF_GET_CPUINFO => cpu_info(&mut op)?,
        abi::XENPF_GET_CPU_VERSION => cpu_version(&mut op)?,
        abi::XENPF_GET_DOM0_CONSOLE => screen(&mut op)?,
        abi::XENPF_RESOURCE_OP => return registers::resource_op(ctx.guest(), &op),
        abi::XENPF_GET_UCODE_REVISION => registers::ucode_revision(&mut op)?,
        abi::XENPF_CPU_ONLINE => return hotplug(&op, hotplug::online),
        abi::XENPF_CPU_OFFLINE => return hotplug(&op, hotplug::offline),
        abi::XENPF_CPU_HOTADD => {
            log::warn!("domain 0 wants to add a CPU: xenlike keeps those of the boot");
            return Err(errno::ENOSYS);
        }
        abi::XENPF_MICROCODE_UPDATE => return microcode::update(ctx.guest(), &op),
        abi::XENPF_MICROCODE_UPDATE2 => return microcode::update2(ctx.guest(), &op),
        // Changing memory types and frequencies is not supported, nor are EFI runtime calls (ADR 11).
        _ => return Err(errno::ENOSYS),
    };
    ctx.guest().write(at, &op)?;
    Ok(result)
}

fn set_time32(op: &PlatformOp) -> Result<i64, Errno> {
    let body = op.u.get::<abi::Settime32>();
    set_time(u64::from(body.secs), body.nsecs, body.system_time)
}

fn set_time64(op: &PlatformOp) -> Result<i64, Errno> {
    let body = op.u.get::<abi::Settime64>();
    if body.mbz != 0 {
        return Err(errno::EINVAL);
    }
    set_time(body.secs, body.nsecs, body.system_time)
}

/// Sets the wall clock to `secs` and `nsecs` at `system_time` and publishes it to every domain.
fn set_time(secs: u64, nsecs: u32, system_time: u64) -> Result<i64, Errno> {
    let then = u128::from(secs)
        .saturating_mul(SECOND)
        .saturating_add(u128::from(nsecs));
    let start = then
        .checked_sub(u128::from(system_time))
        .ok_or(errno::EINVAL)?;
    let seconds = start.checked_div(SECOND).unwrap_or(0);
    let rest = start.checked_rem(SECOND).unwrap_or(0);
    time::set_boot_wall_clock(seconds as u64, rest as u32);
    let boot = domain::lookup(DomId::BOOT);
    for dom in registry::from(DomId(0)).into_iter().chain(boot) {
        publish_wall_clock(&dom);
    }
    Ok(0)
}

/// Switches the machine off. Returns, with an error, only if that fails or another sleep state was requested.
fn enter_sleep(op: &PlatformOp) -> Result<i64, Errno> {
    let body = op.u.get::<abi::EnterAcpiSleep>();
    if body.sleep_state == S5 {
        let values = [body.val_a, body.val_b];
        // A hardware-reduced machine has no PM1 registers; the values are then the sleep types themselves.
        let is_extended = body.flags & abi::XENPF_ACPI_SLEEP_EXTENDED != 0;
        endings::switch_off(if is_extended {
            values.map(|kind| kind << 10)
        } else {
            values
        });
    } else {
        log::warn!(
            "domain 0 asked for sleep state S{}: xenlike can only switch the machine off (S5)",
            body.sleep_state
        );
    }
    Err(errno::EPERM)
}

/// Returns the idle time in ns of each online CPU in the caller's map.
fn idle_times(guest: Guest<'_>, op: &mut PlatformOp) -> Result<i64, Errno> {
    let mut body = op.u.get_form::<abi::Getidletime>(guest.width());
    let map = guest_pv_abi::xen::CtlBitmap {
        bitmap: body.cpumap_bitmap,
        nr_bits: body.cpumap_nr_cpus,
        _gap0: [0; 4],
    };
    let online = super::ctl_bitmap::read(guest, &map)?.and(SCHED.online());
    for cpu in online.iter() {
        guest.write_at(Vaddr(body.idletime.0), u64::from(cpu.0), &idle_ns(cpu))?;
    }
    super::ctl_bitmap::write(guest, &map, online)?;
    body.now = time::now_ns();
    op.u.set_form(&body, guest.width());
    Ok(0)
}

/// Takes a CPU online or offline.
fn hotplug(op: &PlatformOp, change: fn(u32) -> Result<(), Refused>) -> Result<i64, Errno> {
    match change(op.u.get::<abi::CpuOl>().cpuid) {
        Ok(()) | Err(Refused::Already) => Ok(0),
        Err(Refused::Absent) => Err(errno::EINVAL),
        Err(Refused::First) => Err(errno::EOPNOTSUPP),
        Err(Refused::NoMemory) => Err(errno::ENOMEM),
    }
}

/// Returns the highest CPU number.
fn last_cpu() -> u32 {
    SCHED.present().count().saturating_sub(1)
}

fn cpu_info(op: &mut PlatformOp) -> Result<i64, Errno> {
    let mut body = op.u.get::<abi::PcpuInfo>();
    body.max_present = last_cpu();
    let cpu = CpuId(body.xen_cpuid);
    if body.xen_cpuid <= last_cpu() {
        let is_online = SCHED.online().contains(cpu);
        body.flags = if is_online {
            abi::XEN_PCPU_FLAGS_ONLINE
        } else {
            0
        };
        body.apic_id = lapic::id_of(cpu);
        body.acpi_id = body.xen_cpuid;
    } else {
        body.flags = abi::XEN_PCPU_FLAGS_INVALID;
    }
    op.u.set(&body);
    Ok(0)
}

fn cpu_version(op: &mut PlatformOp) -> Result<i64, Errno> {
    let mut body = op.u.get::<abi::PcpuVersion>();
    body.max_present = last_cpu();
    if body.xen_cpuid > last_cpu() {
        return Err(errno::EINVAL);
    }
    let (vendor, signature) = (
        cpuid::machine().host.basic(0),
        cpuid::machine().host.basic(1).a,
    );
    let [b, d, c] = [vendor.b, vendor.d, vendor.c].map(u32::to_le_bytes);
    for (to, from) in body
        .vendor_id
        .iter_mut()
        .zip(b.into_iter().chain(d).chain(c))
    {
        *to = from;
    }
    let signature = cpuid::signature(signature);
    (body.family, body.model) = (signature.family, signature.model);
    body.stepping = signature.stepping;
    op.u.set(&body);
    Ok(0)
}

/// XENPF_get_dom0_console: describes the screen as the boot loader left it.
fn screen(op: &mut PlatformOp) -> Result<i64, Errno> {
    let screen = hardware_domain::screen().ok_or(errno::ENODEV)?;
    op.u.set(&screen);
    Ok(size_of_val(&screen) as i64)
}
