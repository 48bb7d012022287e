//! The features that a kernel declares as supported or required (features.h).

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use guest_pv_abi::features;
use serde::Serialize;

/// Names in `XEN_ELFNOTE_FEATURES`, with their bits.
const NAMES: &[(&str, u32)] = &[
    (
        "writable_page_tables",
        features::XENFEAT_WRITABLE_PAGE_TABLES,
    ),
    (
        "writable_descriptor_tables",
        features::XENFEAT_WRITABLE_DESCRIPTOR_TABLES,
    ),
    (
        "auto_translated_physmap",
        features::XENFEAT_AUTO_TRANSLATED_PHYSMAP,
    ),
    (
        "supervisor_mode_kernel",
        features::XENFEAT_SUPERVISOR_MODE_KERNEL,
    ),
    ("pae_pgdir_above_4gb", features::XENFEAT_PAE_PGDIR_ABOVE_4GB),
    (
        "mmu_pt_update_preserve_ad",
        features::XENFEAT_MMU_PT_UPDATE_PRESERVE_AD,
    ),
    ("highmem_assist", features::XENFEAT_HIGHMEM_ASSIST),
    (
        "gnttab_map_avail_bits",
        features::XENFEAT_GNTTAB_MAP_AVAIL_BITS,
    ),
    ("hvm_callback_vector", features::XENFEAT_HVM_CALLBACK_VECTOR),
    ("hvm_safe_pvclock", features::XENFEAT_HVM_SAFE_PVCLOCK),
    ("hvm_pirqs", features::XENFEAT_HVM_PIRQS),
    ("dom0", features::XENFEAT_DOM0),
];

/// Features that a PV domain may require.
const OFFERED: u64 = 1 << features::XENFEAT_WRITABLE_PAGE_TABLES
    | 1 << features::XENFEAT_WRITABLE_DESCRIPTOR_TABLES
    | 1 << features::XENFEAT_PAE_PGDIR_ABOVE_4GB
    | 1 << features::XENFEAT_MMU_PT_UPDATE_PRESERVE_AD
    | 1 << features::XENFEAT_HIGHMEM_ASSIST
    | 1 << features::XENFEAT_GNTTAB_MAP_AVAIL_BITS;

/// The sets of features; bit n stands for feature n.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Features {
    /// Features that the kernel can work with.
    pub supported: u64,
    /// Features that the kernel can't work without.
    pub required: u64,
    /// Whether the kernel gave the set as a number. Only then does a missing bit mean that
    /// the feature isn't supported.
    pub complete: bool,
}

impl Features {
    /// Adds a list such as `!writable_page_tables|dom0`. Unknown names are skipped unless they are required.
    pub(super) fn add_text(&mut self, list: &str) -> Result<(), String> {
        for word in list
            .split('|')
            .map(str::trim)
            .filter(|word| !word.is_empty())
        {
            let (name, required) = match word.strip_prefix('!') {
                Some(name) => (name, true),
                None => (word, false),
            };
            match NAMES.iter().find(|(known, _)| *known == name) {
                Some((_, bit)) => {
                    self.supported |= 1 << bit;
                    self.required |= u64::from(required) << bit;
                }
                None if required => {
                    return Err(format!(
                        "it requires the feature {name:?}, which nothing here knows"
                    ));
                }
                None => {}
            }
        }
        Ok(())
    }

    /// The names of the features in a set, separated by blanks.
    #[must_use]
    pub fn names(&self, set: u64) -> String {
        let named = NAMES.iter().filter(|(_, bit)| set & 1 << bit != 0);
        let names: Vec<&str> = named.map(|(name, _)| *name).collect();
        names.join(" ")
    }

    pub(super) fn add_supported(&mut self, set: u64) {
        self.supported |= set;
        self.complete = true;
    }

    /// Checks that a domain in this role offers every required feature. Domain 0 also offers `dom0`.
    pub(super) fn check(&self, role: super::Role) -> Result<(), String> {
        let mut offered = OFFERED;
        let dom0 = 1 << features::XENFEAT_DOM0;
        if role == super::Role::Dom0 {
            if self.complete && self.supported & dom0 == 0 {
                return Err(
                    "its SUPPORTED_FEATURES note lacks dom0: it can't run as Domain-0".into(),
                );
            }
            offered |= dom0;
        }
        let missing = self.required & !offered;
        if missing == 0 {
            return Ok(());
        }
        let names: Vec<&str> = NAMES
            .iter()
            .filter(|(_, bit)| missing >> bit & 1 != 0)
            .map(|(name, _)| *name)
            .collect();
        let names = names.join(", ");
        Err(match role {
            super::Role::Dom0 => format!("it requires {names}, which Domain-0 doesn't get"),
            super::Role::Guest => format!("it requires {names}, which a PV guest doesn't get"),
        })
    }
}
