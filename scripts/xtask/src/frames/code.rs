//! Functions in a listing of objdump: the stack depth at each instruction, and the targets of calls.

use super::image::Image;
use std::collections::BTreeMap;

/// A call or jump from a function to another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Edge {
    /// Bytes of stack in use when the other function starts, including its return address.
    pub depth: u64,
    /// Address of the other function.
    pub to: u64,
}

/// A function's use of the stack.
#[derive(Default, Debug)]
pub struct Function {
    /// Maximum number of bytes that it uses itself.
    pub frame: u64,
    /// Calls and jumps to other functions, and functions whose address it takes, which count as called.
    pub edges: Vec<Edge>,
    /// Number of calls through a register or memory.
    pub indirect: usize,
    /// Number of functions whose address it takes.
    pub pointers: usize,
}

struct Instruction<'a> {
    at: u64,
    mnemonic: &'a str,
    operands: &'a str,
}

/// All functions of a listing (`objdump -d --no-show-raw-insn`), by address.
pub fn functions(listing: &str, image: &Image) -> BTreeMap<u64, Function> {
    let mut found = BTreeMap::new();
    let mut start = None;
    let mut body: Vec<Instruction<'_>> = Vec::new();
    for line in listing.lines().chain(["0 <end>:"]) {
        if let Some(instruction) = instruction(line) {
            body.push(instruction);
        } else if line.ends_with(">:") {
            let begins = line.split(' ').next().and_then(hex);
            if let (Some(start), false) = (start, body.is_empty()) {
                found.insert(start, Walk::of(&body).function(image));
            }
            body.clear();
            start = begins;
        }
    }
    found
}

fn instruction(line: &str) -> Option<Instruction<'_>> {
    let (at, rest) = line.split_once(":\t")?;
    let (mnemonic, operands) = rest.split_once(' ').unwrap_or((rest, ""));
    Some(Instruction {
        at: hex(at.trim())?,
        mnemonic,
        operands: operands.trim(),
    })
}

fn hex(digits: &str) -> Option<u64> {
    u64::from_str_radix(digits.trim_start_matches("0x"), 16).ok()
}

/// Parses a constant or an offset, which may be negative.
fn signed(text: &str) -> Option<i64> {
    let text = text.trim_start_matches('$');
    match text.strip_prefix('-') {
        Some(rest) => Some(hex(rest)?.cast_signed().wrapping_neg()),
        None if text.is_empty() => Some(0),
        None => Some(hex(text)?.cast_signed()),
    }
}

impl Instruction<'_> {
    /// The target of a direct call or jump.
    fn target(&self) -> Option<u64> {
        let (address, _) = self.operands.split_once(" <")?;
        (!address.starts_with('*')).then(|| hex(address))?
    }

    /// The address that a rip-relative operand names.
    fn memory(&self) -> Option<u64> {
        let (_, comment) = self.operands.split_once("# ")?;
        hex(comment.split(' ').next()?)
    }

    fn is_jump(&self) -> bool {
        self.mnemonic.starts_with('j')
    }

    fn ends_flow(&self) -> bool {
        matches!(
            self.mnemonic,
            "jmp" | "ret" | "ud2" | "iretq" | "sysretq" | "hlt"
        )
    }

    /// Whether it calls or jumps through a register or memory.
    fn is_indirect(&self) -> bool {
        (self.mnemonic == "call" || self.mnemonic == "jmp") && self.operands.starts_with('*')
    }
}

/// The stack, as far as a function's own instructions determine it.
#[derive(Clone, Copy, Default)]
struct Stack {
    depth: i64,
    /// The depth to which rbp points, in a function that uses it as frame pointer.
    rbp: i64,
    /// The depth to which r11 points, in a loop that allocates and touches page by page.
    r11: Option<i64>,
}

impl Stack {
    fn step(&mut self, instruction: &Instruction<'_>) {
        let operands = instruction.operands;
        let (first, second) = operands.rsplit_once(',').unwrap_or((operands, ""));
        match (instruction.mnemonic, second) {
            ("push" | "pushf", _) => self.depth += 8,
            ("pop" | "popf", _) => self.depth -= 8,
            ("leave", _) => self.depth = self.rbp - 8,
            ("sub", "%rsp") => self.take(signed(first).unwrap_or(0)),
            ("add", "%rsp") => self.depth -= signed(first).unwrap_or(0),
            // An alignment: counts as the most that it can take.
            ("and", "%rsp") => self.depth -= signed(first).unwrap_or(0) + 8,
            ("sub", "%r11") => self.r11 = self.r11.and_then(|r11| Some(r11 + signed(first)?)),
            ("mov", "%rbp") if first == "%rsp" => self.rbp = self.depth,
            ("mov", "%rsp") if first == "%rbp" => self.depth = self.rbp,
            ("mov", "%r11") if first == "%rsp" => self.r11 = Some(self.depth),
            ("lea", "%r11") => self.r11 = self.address(first),
            ("lea", "%rsp") => self.depth = self.address(first).unwrap_or(self.depth),
            _ => {}
        }
    }

    /// The depth of an address relative to rsp or rbp.
    fn address(&self, operand: &str) -> Option<i64> {
        let (offset, base) = operand.split_once('(')?;
        let base = match base {
            "%rsp)" => self.depth,
            "%rbp)" => self.rbp,
            _ => return None,
        };
        Some(base - signed(offset)?)
    }

    fn take(&mut self, bytes: i64) {
        match self.r11.take() {
            Some(end) if bytes == 0x1000 => self.depth = end,
            _ => self.depth += bytes,
        }
    }
}

/// The instructions of a function, with the depth before each.
struct Walk<'a> {
    body: &'a [Instruction<'a>],
    before: Vec<Option<Stack>>,
    most: i64,
}

impl<'a> Walk<'a> {
    fn of(body: &'a [Instruction<'a>]) -> Self {
        let mut walk = Self {
            body,
            before: vec![None; body.len()],
            most: 0,
        };
        walk.from(0, Stack::default());
        // Code that a jump table or the exception table leads to: it counts with the depth of the whole frame.
        for index in 0..body.len() {
            if walk.before[index].is_none() {
                let at_most = Stack {
                    depth: walk.most,
                    ..walk.frame_pointer()
                };
                walk.from(index, at_most);
            }
        }
        walk
    }

    fn frame_pointer(&self) -> Stack {
        let last = self.before.iter().flatten().max_by_key(|stack| stack.rbp);
        last.copied().unwrap_or_default()
    }

    fn index_of(&self, at: u64) -> Option<usize> {
        self.body.binary_search_by_key(&at, |one| one.at).ok()
    }

    fn from(&mut self, index: usize, stack: Stack) {
        let mut open = vec![(index, stack)];
        while let Some((index, mut stack)) = open.pop() {
            let (Some(instruction), Some(None)) = (self.body.get(index), self.before.get(index))
            else {
                continue;
            };
            self.before[index] = Some(stack);
            stack.step(instruction);
            self.most = self.most.max(stack.depth);
            if instruction.is_jump()
                && let Some(target) = instruction.target().and_then(|at| self.index_of(at))
            {
                open.push((target, stack));
            }
            if !instruction.ends_flow() {
                open.push((index + 1, stack));
            }
        }
    }

    fn function(&self, image: &Image) -> Function {
        let frame = self.most.max(0).cast_unsigned();
        let mut function = Function {
            frame,
            ..Function::default()
        };
        for (index, instruction) in self.body.iter().enumerate() {
            let here = self.before[index]
                .unwrap_or_default()
                .depth
                .max(0)
                .cast_unsigned();
            let depth = match instruction.mnemonic {
                "call" => here + 8,
                _ if instruction.is_jump() => here,
                _ => frame + 8,
            };
            let mut to = Vec::new();
            if instruction.is_jump() || instruction.mnemonic == "call" {
                to.extend(
                    instruction
                        .target()
                        .filter(|&at| self.index_of(at).is_none()),
                );
            }
            let pointers = instruction.memory().map(|at| match instruction.mnemonic {
                "lea" => image.pointers_at(at),
                _ => image.pointer_in(at).into_iter().collect(),
            });
            let pointers: Vec<u64> = pointers.into_iter().flatten().collect();
            function.pointers += pointers.len();
            to.extend(pointers);
            if instruction.is_indirect()
                && instruction.memory().is_none()
                && !self.is_jump_table(index)
            {
                function.indirect += 1;
            }
            function
                .edges
                .extend(to.into_iter().map(|to| Edge { depth, to }));
        }
        function
    }

    /// Whether a jump through a register takes its target from a table of offsets (`match`).
    fn is_jump_table(&self, index: usize) -> bool {
        let before = self
            .body
            .get(index.saturating_sub(8)..index)
            .unwrap_or_default();
        self.body[index].mnemonic == "jmp"
            && before.iter().any(|one| one.mnemonic == "movslq")
            && before.iter().any(|one| one.mnemonic == "add")
    }
}

#[cfg(test)]
mod tests {
    use super::{Edge, Function, functions};
    use crate::frames::image::Image;

    fn only(listing: &str) -> Function {
        let found = functions(listing, &Image::default());
        found.into_values().next().expect("a function")
    }

    #[test]
    fn probed_pages_count_once() {
        let unrolled = only(
            "\
ffff82d04002a7f0 <unrolled>:
ffff82d04002a7fa:\tsub    $0x1000,%rsp
ffff82d04002a801:\tmovq   $0x0,(%rsp)
ffff82d04002a809:\tsub    $0x228,%rsp
ffff82d04002a810:\tret
",
        );
        assert_eq!(unrolled.frame, 0x1228);
        let looped = only(
            "\
ffff82d040018750 <looped>:
ffff82d040018754:\tlea    -0xd000(%rsp),%r11
ffff82d040018764:\tsub    $0x1000,%rsp
ffff82d04001876b:\tmovq   $0x0,(%rsp)
ffff82d040018773:\tcmp    %r11,%rsp
ffff82d040018776:\tjne    ffff82d040018764 <looped+0x14>
ffff82d040018778:\tsub    $0x8,%rsp
ffff82d04001877c:\tret
",
        );
        assert_eq!(looped.frame, 0xd008);
    }

    #[test]
    fn a_call_has_the_depth_of_its_place() {
        let function = only(
            "\
ffff82d040000010 <f>:
ffff82d040000010:\tcall   ffff82d040000100 <early>
ffff82d040000015:\tpush   %rbx
ffff82d040000016:\tsub    $0x20,%rsp
ffff82d04000001a:\tcall   ffff82d040000200 <late>
ffff82d04000001f:\tadd    $0x20,%rsp
ffff82d040000023:\tpop    %rbx
ffff82d040000024:\tjmp    ffff82d040000300 <last>
",
        );
        let edge = |depth, to| Edge { depth, to };
        let edges = [
            edge(8, 0xffff_82d0_4000_0100),
            edge(0x30, 0xffff_82d0_4000_0200),
            edge(0, 0xffff_82d0_4000_0300),
        ];
        assert_eq!((function.frame, &function.edges[..]), (0x28, &edges[..]));
    }
}
