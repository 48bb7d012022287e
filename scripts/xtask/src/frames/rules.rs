//! Facts that the image itself does not tell: where ring 0 begins, the pointers that it holds at run time, and how
//! deep its recursions go.

/// Variables with function pointers that boot sets, or with a pointer to the table in use, and those functions. Both
/// are given by the ends of their names.
pub const SET_AT_BOOT: [(&str, &[&str]); 6] = [
    ("log::LOGGER", &["as log::Log>::log"]),
    ("xenlike_core::kit::lock::WAIT_STEP", &["arch::tlb::answer"]),
    (
        "xenlike_core::console::HOOKS",
        &["domain::notify::console_input", "keys::press"],
    ),
    (
        "xenlike_core::entry::syscall::DOORS",
        &[
            "entry::syscall::hypercall_at",
            "entry::tracing::traced_hypercall",
        ],
    ),
    (
        "xenlike_core::hypercall::table::SUBCALLS",
        &[
            "xenlike_core::hypercall::table::subcall_at",
            "xenlike_core::hypercall::table::traced_subcall",
        ],
    ),
    (
        "xenlike_core::hypercall::table::NARROW_SUBCALLS",
        &[
            "xenlike_core::hypercall::table::narrow_subcall_at",
            "xenlike_core::hypercall::table::traced_narrow_subcall",
        ],
    ),
];

/// Functions that call through a pointer that they are passed, and the functions that it may point to. Both are given
/// by the ends of their names.
pub const HANDED: [(&str, &[&str]); 1] = [(
    "irq::Machine>::write_table",
    &["boot::interrupts::map_table"],
)];

/// Functions that never return, since they end the hypervisor. They are examined separately.
pub const ENDS: [&str; 6] = [
    "core::panicking::",
    "rust_begin_unwind",
    "entry::dump::fatal",
    "xenlike_core::boot::panic::",
    "handle_alloc_error",
    "alloc::raw_vec::handle_error",
];

/// Functions at which a panic leaves the stack on which it occurred. The values of its message are formatted on the
/// stack for panics; those of a log message are formatted by `core::fmt::write`, and count there.
pub const PANICS: [&str; 4] = [
    "xenlike_core::boot::panic::",
    "as core::fmt::Display>",
    "as core::fmt::Debug>",
    "as core::fmt::LowerHex>",
];

/// A trap in ring 0 leads here only from the IRET to the guest, where nothing else is on the stack.
pub const AT_THE_RETURN: &str = "entry::ring0::ldt_is_mapped_for_return";

/// Assembly code whose address only the CPU is told, or that starts on a new stack.
pub const STUBS: [&str; 6] = [
    "boot_trap_stubs",
    "vector_stubs",
    "syscall_stubs",
    "syscall32_stubs",
    "sysenter_stubs",
    "leave_to_guest",
];

/// The functions that a stub calls on the main stack, besides those in the table of traps.
pub const ENTRIES: [&str; 6] = [
    "xenlike_core::entry::syscall::handle_syscall",
    "xenlike_core::entry::syscall::handle_syscall32",
    "xenlike_core::entry::syscall::handle_sysenter",
    "xenlike_core::entry::ring0::handle_iret_fault",
    "xenlike_core::entry::exit::exit_work",
    "xenlike_core::entry::exit::enter_upcall",
];

/// A group of mutually recursive functions, named by one of them.
pub struct Recursion {
    /// A part of its name.
    pub function: &'static str,
    /// How often the group may be on the stack.
    pub levels: u64,
}

/// All recursions of ring 0, each with the reason why it ends.
pub const RECURSIONS: [Recursion; 3] = [
    // A table's reference to a table leads to a strictly lower level: four levels and their last frame. With a
    // domain's last frame the domain is freed, and with it, once, the pages that it shares.
    Recursion {
        function: "xenlike_core::pagetype::",
        levels: 5,
    },
    // A multicall within a multicall is refused before it calls anything.
    Recursion {
        function: "xenlike_core::hypercall::carry_out::MULTICALL",
        levels: 2,
    },
    Recursion {
        function: "xenlike_core::hypercall::multicall::call_narrow",
        levels: 2,
    },
];

/// Nesting of values in one message: a structure's field, its `Option`, its elements.
pub const FORMAT_LEVELS: u64 = 4;
