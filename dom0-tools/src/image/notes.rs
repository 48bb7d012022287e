//! A kernel's claims about itself for Xen: ELF notes (elfnote.h), or the string in the section
//! `__xen_guest` of old kernels.

use alloc::format;
use alloc::string::{String, ToString};

use guest_pv_abi::elfnote;
use serde::Serialize;

use super::bytes::{u16_at, u32_at, u64_at};
use super::elf::{self, Elf};
use super::features::Features;

/// The claims of a kernel as found in its file, not yet checked.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Claims {
    /// Whether they come from a `__xen_guest` section instead of notes.
    pub legacy: bool,
    /// `XEN_ELFNOTE_GUEST_OS`: name of the system.
    pub guest_os: String,
    /// `XEN_ELFNOTE_GUEST_VERSION`: version of the system.
    pub guest_version: String,
    /// `XEN_ELFNOTE_XEN_VERSION`: the ABI it is for, "xen-3.0".
    pub xen_version: Option<String>,
    /// `XEN_ELFNOTE_LOADER`: the kind of loader, "generic".
    pub loader: Option<String>,
    /// `XEN_ELFNOTE_PAE_MODE`, or `PAE=` in the old string; has no meaning for 64-bit kernels.
    pub pae_mode: Option<String>,
    /// `XEN_ELFNOTE_ENTRY`: virtual address of the first instruction.
    pub entry: Option<u64>,
    /// `XEN_ELFNOTE_VIRT_BASE`: virtual address of page 0.
    pub virt_base: Option<u64>,
    /// `XEN_ELFNOTE_PADDR_OFFSET`: offset of the file's physical addresses.
    pub paddr_offset: Option<u64>,
    /// `XEN_ELFNOTE_HYPERCALL_PAGE`: virtual address of the page.
    pub hypercall_page: Option<u64>,
    /// `XEN_ELFNOTE_HV_START_LOW`: lowest virtual address for the hypervisor.
    pub hv_start_low: Option<u64>,
    /// `XEN_ELFNOTE_INIT_P2M`: virtual address of the P2M list.
    pub init_p2m: Option<u64>,
    /// `XEN_ELFNOTE_MOD_START_PFN`: the initrd need not be mapped.
    pub mod_start_pfn: bool,
    /// `XEN_ELFNOTE_BSD_SYMTAB`: its symbols are to be loaded after it.
    pub bsd_symtab: bool,
    /// `XEN_ELFNOTE_SUSPEND_CANCEL`: it can continue after a failed suspend.
    pub suspend_cancel: bool,
    /// `XEN_ELFNOTE_L1_MFN_VALID`: mask and value for valid L1 entries.
    pub l1_mfn_valid: Option<(u64, u64)>,
    /// `XEN_ELFNOTE_PHYS32_ENTRY`: the entry point for PVH.
    pub phys32_entry: Option<u64>,
    /// `XEN_ELFNOTE_FEATURES` and `XEN_ELFNOTE_SUPPORTED_FEATURES`.
    pub features: Features,
}

/// A number in a note has 1, 2, 4 or 8 bytes.
fn number(value: &[u8]) -> Option<u64> {
    match value.len() {
        1 => value.first().copied().map(u64::from),
        2 => u16_at(value, 0).map(u64::from),
        4 => u32_at(value, 0).map(u64::from),
        8 => u64_at(value, 0),
        _ => None,
    }
}

fn text(value: &[u8]) -> String {
    let value = value.split(|&byte| byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(value).trim().to_string()
}

/// Collects the claims of an ELF file: from the note segments, else the note sections, else `__xen_guest`. `None`
/// if there are none.
///
/// # Errors
/// A message about a claim that can't be read.
pub(super) fn claims(elf: &Elf) -> Result<Option<Claims>, String> {
    let mut claims = Claims::default();
    for place in [&elf.note_segments, &elf.note_sections] {
        let mut found = false;
        for note in place.iter().flat_map(|bytes| elf::notes(bytes)) {
            if note.owner == b"Xen" {
                found = true;
                claims.note(note.kind, note.value)?;
            }
        }
        if found {
            return Ok(Some(claims));
        }
    }
    let Some(bytes) = elf.xen_guest else {
        return Ok(None);
    };
    claims.legacy = true;
    claims.string(&text(bytes))?;
    Ok(Some(claims))
}

impl Claims {
    /// Whether a 32-bit kernel runs with PAE: "yes" or "bimodal", with or without details.
    pub(super) fn has_pae(&self) -> bool {
        let mode = self.pae_mode.as_deref().unwrap_or_default();
        mode.starts_with("yes") || mode.contains("bimodal")
    }

    /// Whether a 32-bit kernel encodes the frame number of its root in CR3, so that the root may lie above 4 GiB. Like
    /// libelf, takes this for granted of all kernels that have notes; the old string must say it.
    pub(super) fn extended_cr3(&self) -> bool {
        let mode = self.pae_mode.as_deref().unwrap_or_default();
        !self.legacy || mode.contains("bimodal") || mode.contains("[extended-cr3]")
    }

    fn note(&mut self, kind: u32, value: &[u8]) -> Result<(), String> {
        let address = || {
            let len = value.len();
            number(value).map(Some).ok_or_else(|| {
                format!("its Xen ELF note {kind} has {len} bytes, which no number has")
            })
        };
        match kind {
            elfnote::XEN_ELFNOTE_ENTRY => self.entry = address()?,
            elfnote::XEN_ELFNOTE_HYPERCALL_PAGE => self.hypercall_page = address()?,
            elfnote::XEN_ELFNOTE_VIRT_BASE => self.virt_base = address()?,
            elfnote::XEN_ELFNOTE_PADDR_OFFSET => self.paddr_offset = address()?,
            elfnote::XEN_ELFNOTE_XEN_VERSION => self.xen_version = Some(text(value)),
            elfnote::XEN_ELFNOTE_GUEST_OS => self.guest_os = text(value),
            elfnote::XEN_ELFNOTE_GUEST_VERSION => self.guest_version = text(value),
            elfnote::XEN_ELFNOTE_LOADER => self.loader = Some(text(value)),
            elfnote::XEN_ELFNOTE_PAE_MODE => self.pae_mode = Some(text(value)),
            elfnote::XEN_ELFNOTE_FEATURES => self.features.add_text(&text(value))?,
            elfnote::XEN_ELFNOTE_SUPPORTED_FEATURES => {
                self.features.add_supported(address()?.unwrap_or_default());
            }
            elfnote::XEN_ELFNOTE_HV_START_LOW => self.hv_start_low = address()?,
            elfnote::XEN_ELFNOTE_INIT_P2M => self.init_p2m = address()?,
            elfnote::XEN_ELFNOTE_MOD_START_PFN => self.mod_start_pfn = address()? != Some(0),
            elfnote::XEN_ELFNOTE_BSD_SYMTAB => self.bsd_symtab = text(value) == "yes",
            elfnote::XEN_ELFNOTE_SUSPEND_CANCEL => self.suspend_cancel = address()? != Some(0),
            elfnote::XEN_ELFNOTE_L1_MFN_VALID => {
                self.l1_mfn_valid = u64_at(value, 0).zip(u64_at(value, 8))
            }
            elfnote::XEN_ELFNOTE_PHYS32_ENTRY => self.phys32_entry = address()?,
            _ => {}
        }
        Ok(())
    }

    /// Reads a string of the form `NAME=VALUE,NAME=VALUE,…`.
    pub(super) fn string(&mut self, words: &str) -> Result<(), String> {
        let mut hypercall_page = None;
        for word in words.split(',').filter(|word| !word.is_empty()) {
            let (name, value) = word.split_once('=').unwrap_or((word, ""));
            let address = || {
                let parsed = match value.strip_prefix("0x") {
                    Some(hex) => u64::from_str_radix(hex, 16),
                    None => value.parse(),
                };
                parsed
                    .map(Some)
                    .map_err(|_| format!("its __xen_guest section says {word}, which is no number"))
            };
            match name {
                "LOADER" => self.loader = Some(value.to_string()),
                "GUEST_OS" => self.guest_os = value.to_string(),
                "GUEST_VER" | "GUEST_VERSION" => self.guest_version = value.to_string(),
                "XEN_VER" => self.xen_version = Some(value.to_string()),
                "VIRT_BASE" => self.virt_base = address()?,
                "VIRT_ENTRY" => self.entry = address()?,
                "ELF_PADDR_OFFSET" => self.paddr_offset = address()?,
                "HYPERCALL_PAGE" => hypercall_page = address()?,
                "BSD_SYMTAB" => self.bsd_symtab = true,
                "PAE" => self.pae_mode = Some(value.to_string()),
                "FEATURES" => self.features.add_text(value)?,
                _ => {}
            }
        }
        // The old string gives the page's number, counted from VIRT_BASE.
        let base = self.virt_base.unwrap_or_default();
        self.hypercall_page = hypercall_page.map(|page| base.wrapping_add(page.wrapping_mul(4096)));
        Ok(())
    }
}
