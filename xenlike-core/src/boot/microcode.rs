//! The CPUs' microcode from one of GRUB's modules, loaded as early as possible; the CPU's
//! features are detected again afterwards.
//!
//! `ucode=scan` examines the start of each module for the beginning of Linux' initrds: an uncompressed cpio archive in
//! which the vendor's file has a fixed name (Linux: x86/microcode). `ucode=N` names the module that is the file itself.

use super::info::BootInfo;
use crate::arch::microcode::{Trust, Vendor};

/// What `ucode=` on the command line asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wish {
    /// Whether the modules' archives are searched.
    pub scan: bool,
    /// The number of the module that is the file: counted from 0, or from the end if negative.
    pub module: Option<i32>,
    /// Whether updates are loaded that may be forged.
    pub trust: Trust,
}

impl Default for Wish {
    fn default() -> Self {
        Self {
            scan: false,
            module: None,
            trust: Trust::CpusAlone,
        }
    }
}

/// Parses the value of the option on top of `wish`; `None` if it is malformed.
pub fn parse(value: &str, mut wish: Wish) -> Option<Wish> {
    for part in value.split(',') {
        match (part.parse(), super::speculation::flag(part)) {
            (Ok(number), _) => wish.module = Some(number),
            (_, Some(("scan", yes))) => wish.scan = yes,
            (_, Some(("digest-check", true))) => wish.trust = Trust::CpusAlone,
            (_, Some(("digest-check", false))) => wish.trust = Trust::File,
            // CPUs are always updated in the handler of an NMI.
            (_, Some(("nmi", _))) => {}
            _ => return None,
        }
    }
    Some(wish)
}

/// The index of the module that `ucode=N` names, among `count`. Module 0 is domain 0's kernel.
pub fn module_index(wish: &Wish, count: usize) -> Option<usize> {
    let number = wish.module?;
    let index = match usize::try_from(number) {
        Ok(index) => index,
        Err(_) => count.checked_sub(number.unsigned_abs() as usize)?,
    };
    (1..count).contains(&index).then_some(index)
}

/// The file called `wanted` in an archive of format "newc" (Linux: early-userspace/buffer-format).
fn in_archive<'a>(archive: &'a [u8], wanted: &str) -> Option<&'a [u8]> {
    const HEADER: usize = 110;
    const FILE_BYTES: usize = 6;
    const NAME_BYTES: usize = 11;
    let mut at = 0_usize;
    loop {
        let header = archive.get(at..at.checked_add(HEADER)?)?;
        if !header.starts_with(b"070701") && !header.starts_with(b"070702") {
            return None;
        }
        let number = |field: usize| -> Option<usize> {
            let digits = header.get(6 + 8 * field..14 + 8 * field)?;
            usize::from_str_radix(core::str::from_utf8(digits).ok()?, 16).ok()
        };
        let name_at = at.checked_add(HEADER)?;
        let name_end = name_at.checked_add(number(NAME_BYTES)?)?;
        let name = archive.get(name_at..name_end)?.strip_suffix(b"\0")?;
        let start = name_end.checked_next_multiple_of(4)?;
        let end = start.checked_add(number(FILE_BYTES)?)?;
        if name == b"TRAILER!!!" {
            return None;
        }
        let file = archive.get(start..end)?;
        if name == wanted.as_bytes() {
            return Some(file);
        }
        at = end.checked_next_multiple_of(4)?;
    }
}

/// The file for CPUs of `vendor`: the module that is named, or the file in the first archive that has one.
pub fn find<'a>(
    info: &BootInfo,
    bytes: impl Fn(usize) -> Option<&'a [u8]>,
    wish: &Wish,
    vendor: Vendor,
) -> Option<&'a [u8]> {
    let wanted = match vendor {
        Vendor::Intel => "kernel/x86/microcode/GenuineIntel.bin",
        Vendor::Amd => "kernel/x86/microcode/AuthenticAMD.bin",
        Vendor::Other => return None,
    };
    let count = info.modules.len();
    if wish.module.is_some() {
        let file = module_index(wish, count).and_then(&bytes);
        if file.is_some() {
            return file;
        }
        log::warn!("microcode: there is no module with the number that ucode= names");
    }
    let mut scanned = (0..count).filter(|_| wish.scan);
    scanned.find_map(|n| in_archive(bytes(n)?, wanted))
}

#[cfg(target_os = "none")]
mod real {
    use super::{Wish, find};
    use crate::arch::microcode::{
        self, Hardware, Identity, Order, Refusal, Registers, Version, lead, newest, offered,
    };
    use crate::boot::info::{BootInfo, module_bytes};

    /// Updates this CPU, which is the first. CPUs that start later follow.
    pub fn load(info: &BootInfo, wish: &Wish) {
        let own = Hardware.identity();
        log::info!("microcode: revision {:#x}", own.revision);
        microcode::set_trust(wish.trust);
        if wish.module.is_none() && !wish.scan {
            return;
        }
        let bytes = |n: usize| module_bytes(info.modules.get(n)?.range);
        let Some(file) = find(info, bytes, wish, own.vendor) else {
            log::warn!("microcode: no module has any for this CPU's vendor");
            return;
        };
        match update(file, &own, wish) {
            Ok([date, revision]) => log::info!(
                "microcode: updated to revision {revision:#x}, dated {:04x}-{:02x}-{:02x}",
                date as u16,
                date >> 24,
                date >> 16 & 0xff
            ),
            Err(why) => log::warn!("microcode: {why}"),
        }
    }

    /// Returns the date and the revision of the update that was loaded.
    fn update(file: &[u8], own: &Identity, wish: &Wish) -> Result<[u32; 2], Refusal> {
        offered(own, wish.trust)?;
        let update = newest(file, own)?;
        let order = Order::new(&update, own, Version::Newer)?;
        let led = lead(&Hardware, &order);
        // Other CPUs may have older microcode than the first.
        if matches!(led, Ok(()) | Err(Refusal::NotNewer(..))) {
            order.announce();
            order.keep();
        }
        led.map(|()| [update.date, update.revision])
    }
}
#[cfg(target_os = "none")]
pub use real::load;

#[cfg(test)]
mod tests;
