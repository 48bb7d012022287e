//! Which hardware virtualisation this CPU has. The CPUID of a PV domain in ring 3 may be the hypervisor's choice or the
//! CPU's own; the vendor and the virtualisation bits are what is asked here.

use alloc::format;
use alloc::string::String;
use core::arch::x86_64::__cpuid;

/// A sentence about VT-x or AMD-V (Intel SDM vol. 2 CPUID leaf 1, AMD APM vol. 3 Fn8000_0001).
pub fn hardware_virtualisation() -> String {
    let vendor = __cpuid(0);
    let name = [vendor.ebx, vendor.edx, vendor.ecx]
        .map(u32::to_le_bytes)
        .concat();
    let name = String::from_utf8_lossy(&name);
    let vmx = __cpuid(1).ecx >> 5 & 1 != 0;
    let extended = __cpuid(0x8000_0000).eax;
    let svm = extended >= 0x8000_0001 && __cpuid(0x8000_0001).ecx >> 2 & 1 != 0;
    let what = match (vmx, svm) {
        (true, _) => "VT-x (vmx)",
        (_, true) => "AMD-V (svm)",
        _ => "none seen (no vmx, no svm)",
    };
    format!("{what} on {name}")
}
