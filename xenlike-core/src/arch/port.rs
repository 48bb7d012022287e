//! Port I/O. On the host every port reads as an absent device and ignores what is written.
//!
//! The functions are safe in Rust's sense, because a port access touches no memory. Who may access which port is for
//! the callers to decide: a domain's port permissions, the core's own devices.

#[cfg(target_os = "none")]
mod real {
    #![expect(unsafe_code, reason = "in and out are instructions")]
    use core::arch::asm;

    macro_rules! port {
        ($read:ident, $write:ident, $type:ty, $reg:tt, $name:literal) => {
            #[doc = concat!("Reads a ", $name, " from `port`.")]
            #[inline(always)]
            pub fn $read(port: u16) -> $type {
                let value: $type;
                // SAFETY: accesses no memory of the core; see the module's header.
                unsafe {
                    asm!(concat!("in ", $reg, ", dx"), out($reg) value, in("dx") port, options(nostack, preserves_flags));
                }
                value
            }
            #[doc = concat!("Writes a ", $name, " to `port`.")]
            #[inline(always)]
            pub fn $write(port: u16, value: $type) {
                // SAFETY: accesses no memory of the core; see the module's header.
                unsafe {
                    asm!(concat!("out dx, ", $reg), in("dx") port, in($reg) value, options(nostack, preserves_flags));
                }
            }
        };
    }
    port!(inb, outb, u8, "al", "byte");
    port!(inw, outw, u16, "ax", "16-bit word");
    port!(inl, outl, u32, "eax", "32-bit word");
}

#[cfg(not(target_os = "none"))]
mod real {
    macro_rules! port {
        ($read:ident, $write:ident, $type:ty) => {
            /// Returns all ones, as no device answers.
            pub fn $read(_port: u16) -> $type {
                <$type>::MAX
            }
            /// Does nothing, as there is no device.
            pub fn $write(_port: u16, _value: $type) {}
        };
    }
    port!(inb, outb, u8);
    port!(inw, outw, u16);
    port!(inl, outl, u32);
}

pub use real::{inb, inl, inw, outb, outl, outw};
