//! The rows of the benchmark, and their targets.

/// How a row is judged.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Goal {
    /// The target ratio to Xen. The row is part of the mean.
    Ratio(f64),
    /// Dominated by repeated string instructions, each of whose iterations counts as an instruction: this many bytes.
    Bytes(u64),
    /// Shown without a target.
    Told,
}

/// A row of the table.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Row {
    /// Its name in the guest's output.
    pub name: &'static str,
    /// The operation, for readers.
    pub what: &'static str,
    /// Its target.
    pub goal: Goal,
}

const fn row(name: &'static str, target: f64, what: &'static str) -> Row {
    Row {
        name,
        what,
        goal: Goal::Ratio(target),
    }
}

const fn bytes(name: &'static str, count: u64, what: &'static str) -> Row {
    Row {
        name,
        what,
        goal: Goal::Bytes(count),
    }
}

const fn told(name: &'static str, what: &'static str) -> Row {
    Row {
        name,
        what,
        goal: Goal::Told,
    }
}

/// All rows, in the order of the table. Where the project's aims name no ratio, it is a half; no row may be above 1.
pub const ROWS: &[Row] = &[
    row("xen_version", 0.35, "null hypercall"),
    row("multicall_8_xen_version", 0.35, "8 of them in a multicall"),
    row("sched_yield", 1.0, "yield, alone on the CPU"),
    row("stack_switch", 0.35, "stack_switch"),
    row("set_segment_base", 0.35, "set_segment_base"),
    row("fpu_taskswitch", 0.35, "fpu_taskswitch"),
    row("set_timer_0", 1.0, "set_timer_op: off"),
    row("set_timer_far", 0.5, "set_timer_op: an hour ahead"),
    row("event_send_masked", 1.0, "event send, port masked"),
    row("event_unmask", 0.5, "event unmask"),
    row(
        "event_send_upcall",
        0.5,
        "event send to self, upcall, return",
    ),
    row(
        "event_peer_and_back",
        0.5,
        "event to another domain's handler, and back",
    ),
    row(
        "domain_switch",
        0.5,
        "switch between two domains (poll, half of there and back)",
    ),
    row(
        "timer_interrupt",
        0.5,
        "timer interrupt to the guest's handler",
    ),
    row(
        "update_va_mapping",
        1.0,
        "update_va_mapping, same entry, no flush",
    ),
    row("update_va_mapping_invlpg", 1.0, "the same with invlpg"),
    row(
        "update_va_mapping_toggle",
        0.5,
        "the same, read-only and writable in turn",
    ),
    row(
        "mmu_update_1",
        0.5,
        "mmu_update, 1 entry (read-only, writable)",
    ),
    row("mmu_update_32", 0.5, "mmu_update, 32 entries"),
    row("mmu_update_512", 0.5, "mmu_update, 512 entries"),
    row(
        "trapped_pte_write",
        1.0,
        "store to a page-table entry, trapped",
    ),
    row("pin_l1", 0.5, "pin an L1 table of 512 entries"),
    row("unpin_l1", 0.5, "unpin it"),
    row(
        "pin_tree",
        0.5,
        "pin a tree of 4 levels with 512 L1 entries",
    ),
    row("unpin_tree", 0.5, "unpin it"),
    row("new_baseptr", 0.5, "new base pointer"),
    row("invlpg_local", 1.0, "mmuext_op: invlpg"),
    row("tlb_flush_local", 1.0, "mmuext_op: TLB flush"),
    row("set_gdt", 0.5, "set_gdt, one frame"),
    row("update_descriptor", 0.5, "update_descriptor"),
    row(
        "ud2_bounce",
        0.5,
        "#UD to the guest kernel's handler, and back",
    ),
    row(
        "page_fault_bounce",
        0.5,
        "#PF to the guest kernel's handler, and back",
    ),
    row(
        "gp_bounce",
        0.5,
        "#GP to the guest kernel's handler, and back",
    ),
    row(
        "int3_bounce",
        1.0,
        "int3 to the guest kernel's handler, and back",
    ),
    row(
        "int_n_bounce",
        0.5,
        "int 0x80 to the guest kernel's handler, and back",
    ),
    row("iret", 0.5, "iret"),
    row("user_syscall", 0.5, "system call: user, guest kernel, user"),
    row(
        "user_page_fault",
        0.5,
        "page fault of a user process, and back",
    ),
    row("cpuid_forced", 0.5, "cpuid by forced emulation"),
    row("rdmsr_efer", 0.5, "rdmsr (EFER)"),
    row("wrmsr_fs_base", 0.5, "wrmsr (FS base)"),
    row("read_cr0", 0.5, "read CR0"),
    row("read_cr3", 0.5, "read CR3"),
    row("read_cr4", 0.5, "read CR4"),
    row("port_in", 0.5, "in, port 0x80, as Dom0"),
    row("port_out", 0.5, "out, port 0x80, as Dom0"),
    row("grant_map", 0.5, "grant map"),
    row("grant_unmap", 0.5, "grant unmap"),
    row("grant_copy_64_bytes", 0.5, "grant copy, 64 bytes"),
    row(
        "grant_copy_16_segments",
        0.5,
        "grant copy, 16 segments of 64 bytes",
    ),
    bytes("grant_copy_4096_bytes", 4096, "grant copy, a page"),
    row("populate_1", 0.5, "populate_physmap, 1 frame"),
    row("decrease_1", 0.5, "decrease_reservation, 1 frame"),
    row("populate_512", 0.5, "populate_physmap, 512 frames"),
    row("decrease_512", 0.5, "decrease_reservation, 512 frames"),
    row(
        "domain_create",
        0.5,
        "create a domain with a vCPU, by domctl",
    ),
    row("domain_build", 0.5, "build it: 4 MiB, kernel, page tables"),
    row("domain_start", 0.5, "start it, to its first instruction"),
    row("domain_destroy", 0.5, "destroy it"),
    told(
        "boot_to_dom0",
        "GRUB's jump to Dom0's first instruction (Xen waits for its clock's next second)",
    ),
    told(
        "boot_to_boot_domain",
        "GRUB's jump to the boot domain's first instruction",
    ),
    told("boot_to_prompt", "GRUB's jump to the shell's prompt"),
    told(
        "create_hello",
        "`create hello.cfg` to its first instruction (Xen: xl and Linux as Dom0)",
    ),
];

/// Finds the row with this name.
pub fn find(name: &str) -> Option<&'static Row> {
    ROWS.iter().find(|row| row.name == name)
}

#[cfg(test)]
mod tests {
    use super::{Goal, ROWS};

    #[test]
    fn no_row_is_there_twice_or_may_be_slower_than_xen() {
        for (index, row) in ROWS.iter().enumerate() {
            assert!(!ROWS[..index].iter().any(|other| other.name == row.name));
            assert!(!matches!(row.goal, Goal::Ratio(target) if target > 1.0));
        }
    }
}
