//! Keys of xl's configurations (xl.cfg(5)) that this program does not act on, and what is said about them.

/// Why a key has no effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ignored {
    /// The key configures a device.
    Device,
    /// The key is for HVM or PVH domains.
    NotForPv,
    /// The key would have a meaning for a PV domain, but isn't implemented.
    NotYet,
    /// The key isn't one of xl's either.
    Unknown,
}

impl Ignored {
    /// Why `key` has no effect.
    pub fn of(key: &str) -> Self {
        let found = LISTS.into_iter().find(|(keys, _)| keys.contains(&key));
        found.map_or(Self::Unknown, |(_, ignored)| ignored)
    }

    /// The rest of a sentence that begins with the key.
    pub fn words(self) -> &'static str {
        match self {
            Self::Device => {
                "is ignored: this command gives a domain no devices yet; in a Linux Dom0, `xl create` does"
            }
            Self::NotForPv => "is ignored: it has no effect on a PV domain",
            Self::NotYet => "is ignored: it is known, but not supported yet",
            Self::Unknown => "is ignored: there is no such key",
        }
    }
}

/// All keys without effect, by reason.
pub const LISTS: [(&[&str], Ignored); 3] = [
    (DEVICES, Ignored::Device),
    (NOT_FOR_PV, Ignored::NotForPv),
    (NOT_YET, Ignored::NotYet),
];

const DEVICES: &[&str] = &[
    "channel", "disk", "dtdev", "iomem", "ioports", "irqs", "p9", "pci", "pvcalls", "rdm",
    "usbctrl", "usbdev", "vdispl", "vfb", "vif", "vif2", "virtio", "vkb", "vnc", "vsnd", "vtpm",
];

const NOT_FOR_PV: &[&str] = &[
    "acpi",
    "acpi_firmware",
    "acpi_laptop_slate",
    "acpi_s3",
    "acpi_s4",
    "altp2m",
    "altp2mhvm",
    "apic",
    "assisted_x2apic",
    "assisted_xapic",
    "bios",
    "bios_path_override",
    "boot",
    "device_model_args",
    "device_model_args_hvm",
    "device_model_args_pv",
    "device_model_override",
    "device_model_stubdomain_override",
    "device_model_stubdomain_seclabel",
    "device_model_user",
    "device_model_version",
    "dm_restrict",
    "firmware",
    "firmware_override",
    "gfx_passthru",
    "hap",
    "hdtype",
    "hpet",
    "keymap",
    "mca_caps",
    "mmio_hole",
    "ms_vm_genid",
    "msr_relaxed",
    "nested_virt",
    "nestedhvm",
    "nographic",
    "nx",
    "oos",
    "opengl",
    "pae",
    "parallel",
    "rdm_mem_boundary",
    "sdl",
    "serial",
    "shadow_memory",
    "smbios",
    "smbios_firmware",
    "soundhw",
    "spice",
    "spice_image_compression",
    "spice_streaming_video",
    "spiceagent_mouse",
    "spiceclipboard_sharing",
    "spicedisable_ticketing",
    "spicehost",
    "spicepasswd",
    "spiceport",
    "spicetls_port",
    "spiceusbredirection",
    "spicevdagent",
    "stdvga",
    "stubdomain_cmdline",
    "stubdomain_kernel",
    "stubdomain_memory",
    "stubdomain_ramdisk",
    "suppress_spurious_page_faults",
    "system_firmware",
    "timer_mode",
    "usb",
    "usbdevice",
    "usbversion",
    "vga",
    "videoram",
    "viridian",
    "vkb_device",
    "vncconsole",
    "vncdisplay",
    "vnclisten",
    "vncpasswd",
    "vncunused",
    "vpt_align",
    "xen_platform_pci",
];

const NOT_YET: &[&str] = &[
    "bootloader_args",
    "bootloader_restrict",
    "bootloader_user",
    "claim_mode",
    "cpuid",
    "cpus_soft",
    "device_tree",
    "driver_domain",
    "e820_host",
    "init_seclabel",
    "llc_colors",
    "localtime",
    "max_event_channels",
    "nodes",
    "nomigrate",
    "on_soft_reset",
    "passthrough",
    "pci_msitranslate",
    "pci_permissive",
    "pci_power_mgmt",
    "pci_seize",
    "pool",
    "rtc_timeoffset",
    "seclabel",
    "sched",
    "trap_unmapped_accesses",
    "tsc_mode",
    "vmtrace_buf_kb",
    "vnuma",
    "vpmu",
    "vuart",
    "xend_suspend_evtchn_compat",
    "xenstore_features",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_key_is_in_two_lists() {
        let all = [DEVICES, NOT_FOR_PV, NOT_YET].concat();
        let mut once = all.clone();
        once.sort_unstable();
        once.dedup();
        assert_eq!(all.len(), once.len());
    }

    #[test]
    fn each_kind_is_told_apart() {
        assert_eq!(Ignored::of("vif"), Ignored::Device);
        assert_eq!(Ignored::of("viridian"), Ignored::NotForPv);
        assert_eq!(Ignored::of("tsc_mode"), Ignored::NotYet);
        assert_eq!(Ignored::of("kernle"), Ignored::Unknown);
    }
}
