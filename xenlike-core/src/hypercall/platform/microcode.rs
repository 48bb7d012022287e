//! microcode_update: loads newer microcode from domain 0 on all CPUs. All of them stop meanwhile, longer than for any
//! other call.

use alloc::vec::Vec;

use guest_pv_abi::errno::{self, Errno};
use guest_pv_abi::platform::{self as abi, MicrocodeUpdate, MicrocodeUpdate2, PlatformOp};

use crate::arch::microcode::meeting::{self, End, MEETING};
use crate::arch::microcode::{
    self, Hardware, Order, Refusal, Registers, Version, lead, newest, offered,
};
use crate::arch::{lapic, percpu, time};
use crate::kit::{CpuSet, Vaddr};
use crate::mm::guest::Guest;
use crate::mm::heap;

/// Maximum size of a file: more than a vendor's updates for all its CPUs together.
const MAX_BYTES: u32 = 32 << 20;

/// XENPF_microcode_update: loads an update if it is newer.
pub fn update(guest: Guest<'_>, op: &PlatformOp) -> Result<i64, Errno> {
    let body = op.u.get_form::<MicrocodeUpdate>(guest.width());
    load(guest, Vaddr(body.data.0), body.length, Version::Newer)
}

/// XENPF_microcode_update2: as XENPF_microcode_update, but can force any revision.
pub fn update2(guest: Guest<'_>, op: &PlatformOp) -> Result<i64, Errno> {
    let body = op.u.get_form::<MicrocodeUpdate2>(guest.width());
    let version = match body.flags {
        0 => Version::Newer,
        abi::XENPF_UCODE_FORCE => Version::Any,
        _ => return Err(errno::EINVAL),
    };
    load(guest, Vaddr(body.data.0), body.length, version)
}

fn load(guest: Guest<'_>, at: Vaddr, length: u32, version: Version) -> Result<i64, Errno> {
    if length > MAX_BYTES {
        return Err(errno::E2BIG);
    }
    let mut file: Vec<u8> = Vec::new();
    let has_room = heap::can_grow(u64::from(length).saturating_mul(2))
        && file.try_reserve_exact(length as usize).is_ok();
    if !has_room {
        return Err(errno::ENOMEM);
    }
    file.resize(length as usize, 0);
    guest.read_bytes(&mut file, at)?;
    match on_all_cpus(&file, version) {
        Ok(revision) => {
            log::info!("microcode: all CPUs have been updated to revision {revision:#x}");
            Ok(0)
        }
        Err(why) => {
            log::warn!("microcode: {why}");
            Err(number(why))
        }
    }
}

const fn number(why: Refusal) -> Errno {
    match why {
        Refusal::NotOffered | Refusal::Damaged(_) => errno::EINVAL,
        Refusal::Final(_) => errno::ENXIO,
        Refusal::NoneFits => errno::ENOENT,
        Refusal::Unproven => errno::EPERM,
        Refusal::NotNewer(..) => errno::EEXIST,
        Refusal::NotTaken(..) => errno::EIO,
        Refusal::Busy => errno::EBUSY,
        Refusal::NoMemory => errno::ENOMEM,
    }
}

/// Returns a waiting step that returns false once a CPU has had a second to arrive or to load.
fn patience() -> impl Fn() -> bool {
    const NS: u64 = 1_000_000_000;
    let end = time::now_ns().saturating_add(NS);
    move || {
        core::hint::spin_loop();
        time::now_ns() < end
    }
}

/// Loads the newest fitting update of the file on all CPUs and returns its revision.
fn on_all_cpus(file: &[u8], version: Version) -> Result<u32, Refusal> {
    let own = Hardware.identity();
    offered(&own, microcode::trust())?;
    let update = newest(file, &own)?;
    if version == Version::Newer && own.revision >= update.revision {
        return Err(Refusal::NotNewer(own.revision, update.revision));
    }
    let order = Order::new(&update, &own, version)?;
    let me = percpu::this_cpu();
    let end = MEETING.lead(
        me,
        percpu::online().without(CpuSet::one(me)),
        lapic::send_nmi,
        || {
            lead(&Hardware, &order)?;
            order.announce();
            Ok(())
        },
        patience,
    );
    match end {
        End::Lost(cpu) => meeting::end_without(cpu),
        End::Held(failed) => {
            microcode::withdraw();
            if !failed.is_empty() {
                log::error!(
                    "microcode: CPUs {failed:?} have another revision now: restart the machine"
                );
                return Err(Refusal::NotTaken(own.revision, update.revision));
            }
            Ok(update.revision)
        }
        End::Leader(why) => Err(why),
        End::NotHeld => Err(Refusal::Busy),
    }
}
