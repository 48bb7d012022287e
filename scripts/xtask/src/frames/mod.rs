//! The stacks of the built hypervisor: the deepest path through the calls from each entry into ring 0 must
//! fit its stack. Ring 0 has one small stack for each CPU, and inlining can combine the buffers of many
//! functions in one frame.
//!
//! The call graph consists of direct calls and jumps, and of functions whose address is taken, which count as called
//! by the function that takes it. [`rules`] adds what that can't tell.

mod code;
mod graph;
mod image;
mod rules;

use crate::process;
use anyhow::{Result, bail, ensure};
use code::{Edge, Function};
use graph::Depths;
use image::Image;
use rules::{
    AT_THE_RETURN, ENDS, ENTRIES, FORMAT_LEVELS, HANDED, PANICS, RECURSIONS, SET_AT_BOOT, STUBS,
};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;
use xenlike_tests::paths::build;

/// Size of the main stack: its pages in `arch/percpu.rs`, without `CpuInfo` at the top.
const MAIN_STACK: u64 = 7 * 4096 - 256;
/// Size of an exception's own stack in bytes.
const IST_STACK: u64 = 4096;
/// Size of the stack on which a panic is reported: its pages in `boot/stack.rs`.
const PANIC_STACK: u64 = 5 * 4096;
/// Bytes that a stub pushes before it calls: a trap frame, and the alignments of the CPU and of the stub.
const TRAP_FRAME: u64 = 21 * 8 + 8 + 8;
/// Size of a return address in bytes.
const RETURN: u64 = 8;
/// Number of functions of the deepest path that are shown.
const SHOWN: usize = 12;

/// Prints how deep the stacks of `build/xenlike` get.
///
/// # Errors
/// If a stack may overflow, a recursion or a call through a pointer is not in [`rules`], or the
/// hypervisor hasn't been built.
pub fn check() -> Result<()> {
    check_image(&build("xenlike"))
}

struct Stacks {
    image: Image,
    functions: BTreeMap<u64, Function>,
}

fn check_image(path: &Path) -> Result<()> {
    let stacks = Stacks::read(path)?;
    let roots = stacks.roots()?;
    let formatting = stacks.formatting();
    let depths = stacks.depths(formatting, &ENDS, &roots);
    stacks.refuse_unknown(&depths)?;

    let worst = depths.worst(&roots);
    let handlers = nested_handlers(&stacks.image)?;
    let cut = [&ENDS[..], &[AT_THE_RETURN]].concat();
    let nested = stacks.depths(formatting, &cut, &handlers);
    let nested = TRAP_FRAME + RETURN + stacks.deepest(&nested, &handlers);
    let main = RETURN + RETURN + depths.of(worst) + nested;
    println!("deepest use of each stack, bytes");
    println!("{main:>8} of {MAIN_STACK}, main stack, {nested} of them for a trap in ring 0");
    stacks.show(&depths, &[worst]);
    let handlers = own_stack_handlers(&stacks.image)?;
    // Functions that end the machine do so on another stack.
    let until_panic = [&ENDS[..2], &PANICS].concat();
    let own_depths = stacks.depths(formatting, &until_panic, &handlers);
    let own = TRAP_FRAME + RETURN + stacks.deepest(&own_depths, &handlers);
    println!("{own:>8} of {IST_STACK}, an exception's own stack, until a panic leaves it");
    stacks.show(&own_depths, &handlers);
    let ends = stacks.named("boot::panic::report_panic")?;
    let ends = [ends, stacks.named("boot::panic::report_trap")?].concat();
    let end = stacks.depths(formatting, &[], &ends);
    let end = RETURN + stacks.deepest(&end, &ends);
    println!("{end:>8} of {PANIC_STACK}, a panic");
    let start = stacks.named("xenlike_core::boot::order::rust_start")?;
    let until_switch = [&ENDS[..], &["boot::order::on_own_stack"]].concat();
    let first = stacks.depths(formatting, &until_switch, &start);
    println!(
        "{:>8} of {MAIN_STACK}, the boot on its first stack",
        first.of(start[0])
    );
    stacks.show(&first, &start);
    let first = first.of(start[0]);
    let start = stacks.named("xenlike_core::boot::order::on_own_stack")?;
    let boot = stacks.depths(formatting, &ENDS, &start).of(start[0]);
    println!("{boot:>8} of {MAIN_STACK}, the boot on the main stack");
    ensure!(main <= MAIN_STACK, "the main stack may overflow");
    ensure!(
        boot <= MAIN_STACK,
        "the main stack may overflow in the boot"
    );
    ensure!(
        first + nested <= MAIN_STACK,
        "the boot's first stack may overflow"
    );
    ensure!(own <= IST_STACK, "an exception's own stack may overflow");
    ensure!(end <= PANIC_STACK, "the stack of a panic may overflow");
    Ok(())
}

/// The handlers of a trap in ring 0: an interrupt of the idle loop, a fault of a guest copy or of the IRET.
fn nested_handlers(image: &Image) -> Result<Vec<u64>> {
    let names = [
        "ring0::trapped",
        "traps::interrupt",
        "interrupts::timer",
        "interrupts::flush",
    ];
    names
        .iter()
        .map(|name| one(image, &format!("xenlike_core::entry::{name}")))
        .collect()
}

/// The handlers that run on the stacks of NMI, #MC, #DF and #DB.
fn own_stack_handlers(image: &Image) -> Result<Vec<u64>> {
    let names = [
        "traps::debug_in_ring0",
        "interrupts::nmi",
        "traps::machine_check",
        "traps::double_fault",
    ];
    names
        .iter()
        .map(|name| one(image, &format!("xenlike_core::entry::{name}")))
        .collect()
}

fn one(image: &Image, name: &str) -> Result<u64> {
    match image.named(|known| known == name)[..] {
        [at, ..] => Ok(at),
        [] => bail!("the hypervisor has no {name}"),
    }
}

impl Stacks {
    fn read(path: &Path) -> Result<Self> {
        let mut image = Image::parse(&fs::read(path)?)?;
        for (variable, ends) in SET_AT_BOOT {
            let holds = image.named(|name| ends.iter().any(|end| name.ends_with(end)));
            ensure!(!holds.is_empty(), "nothing for {variable}");
            image.set_at_boot.push((variable, holds));
        }
        let mut objdump = Command::new("objdump");
        objdump.args(["-d", "--no-show-raw-insn"]).arg(path);
        let functions = code::functions(&process::output(&mut objdump)?, &image);
        let mut stacks = Self { image, functions };
        for (function, ends) in HANDED {
            stacks.hand(function, ends)?;
        }
        Ok(stacks)
    }

    fn named(&self, name: &str) -> Result<Vec<u64>> {
        let found = self.image.named(|known| known.ends_with(name));
        ensure!(!found.is_empty(), "the hypervisor has no {name}");
        Ok(found)
    }

    /// Records that functions whose names end in `function` call any of those whose names end in one of `ends`.
    fn hand(&mut self, function: &str, ends: &[&str]) -> Result<()> {
        let pointers = self
            .image
            .named(|name| ends.iter().any(|end| name.ends_with(end)));
        ensure!(!pointers.is_empty(), "nothing for {function}");
        for at in self.named(function)? {
            if let Some(function) = self.functions.get_mut(&at) {
                function.pointers += pointers.len();
                let depth = function.frame + RETURN;
                let edges = pointers.iter().map(|to| Edge { depth, to: *to });
                function.edges.extend(edges);
            }
        }
        Ok(())
    }

    fn frame(&self, at: u64) -> u64 {
        self.functions.get(&at).map_or(0, |function| function.frame)
    }

    /// Prints the deepest path from one of `roots`.
    fn show(&self, depths: &Depths, roots: &[u64]) {
        for at in depths.way(depths.worst(roots)).iter().take(SHOWN) {
            println!("{:>16} {}", self.frame(*at), self.image.name(*at));
        }
    }

    fn roots(&self) -> Result<Vec<u64>> {
        let mut roots = self
            .image
            .table("xenlike_core::entry::traps::TRAP_HANDLERS");
        ensure!(roots.len() == 256, "no table of traps");
        for name in ENTRIES {
            roots.push(one(&self.image, name)?);
        }
        roots.sort_unstable();
        roots.dedup();
        Ok(roots)
    }

    fn is_formatting(&self, at: u64) -> bool {
        let name = self.image.name(at);
        name.contains("core::fmt::") || name.contains("rustc_demangle")
    }

    fn deepest(&self, depths: &Depths, of: &[u64]) -> u64 {
        of.iter().map(|at| depths.of(*at)).max().unwrap_or(0)
    }

    /// The depths below `roots`. Formatting values in a message takes `formatting` bytes, and functions with a part
    /// of `cut` in their name take none.
    fn depths(&self, formatting: u64, cut: &[&str], roots: &[u64]) -> Depths {
        let given = self.functions.keys().filter_map(|at| {
            let name = self.image.name(*at);
            let is_cut = cut.iter().any(|part| name.contains(part));
            if is_cut || STUBS.contains(&name) {
                Some((*at, 0))
            } else {
                self.is_formatting(*at).then_some((*at, formatting))
            }
        });
        graph::depths(
            &self.functions,
            &given.collect(),
            &|group| self.levels(group),
            roots,
        )
    }

    fn levels(&self, group: &[u64]) -> Option<u64> {
        let names: Vec<&str> = group.iter().map(|at| self.image.name(*at)).collect();
        let known = |one: &&rules::Recursion| names.iter().any(|name| name.contains(one.function));
        RECURSIONS.iter().find(known).map(|one| one.levels)
    }

    /// The bytes that a message needs: formatting recurses over the values that it shows, and finally writes.
    fn formatting(&self) -> u64 {
        let own = |at: &&u64| self.is_formatting(**at);
        let frames = |wanted: fn(&str) -> bool| {
            let all = self
                .functions
                .keys()
                .filter(own)
                .filter(|at| wanted(self.image.name(**at)));
            all.map(|at| self.frame(*at) + RETURN).max().unwrap_or(0)
        };
        // A level consists of a value's own function, the builder that it uses, and the adapter through which this
        // writes.
        let level = frames(|name| name.ends_with("::fmt") && !name.contains("rustc_demangle"))
            + 2 * frames(|name| name.contains("core::fmt::builders") || name.contains("Formatter"))
            + frames(|name| name == "core::fmt::write");
        let outside: Vec<u64> = self
            .functions
            .iter()
            .filter(|(at, _)| own(at))
            .flat_map(|(_, function)| &function.edges)
            .map(|edge| edge.to)
            .filter(|to| !self.is_formatting(*to))
            .collect();
        FORMAT_LEVELS * level + self.deepest(&self.depths(0, &ENDS, &outside), &outside)
    }

    /// Refuses recursions without a known bound, and calls through unknown pointers.
    fn refuse_unknown(&self, depths: &Depths) -> Result<()> {
        let mut unknown = Vec::new();
        for group in &depths.cycles {
            let names: Vec<&str> = group.iter().map(|at| self.image.name(*at)).collect();
            unknown.push(format!("recursion without a bound: {}", names.join(", ")));
        }
        for (at, function) in &self.functions {
            let name = self.image.name(*at);
            let looked_at = depths.reaches(*at) && !self.is_formatting(*at);
            if looked_at && function.indirect > 0 && function.pointers == 0 {
                unknown.push(format!("calls through a pointer: {name}"));
            }
        }
        ensure!(unknown.is_empty(), "{}", unknown.join("\n"));
        Ok(())
    }
}
