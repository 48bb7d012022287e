//! The parts of QEMU's plug-in interface that are used here, as safe functions.

#![expect(unsafe_code, reason = "calls QEMU and is called by it")]

use crate::{runs, tally};
use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::sync::OnceLock;

/// Id by which QEMU knows this plug-in.
pub type Id = u64;

/// QEMU's information about itself, which isn't used.
#[repr(C)]
pub struct Info {
    _opaque: [u8; 0],
}

#[repr(C)]
struct Block {
    _opaque: [u8; 0],
}

#[repr(C)]
struct Instruction {
    _opaque: [u8; 0],
}

#[repr(C)]
struct Scoreboard {
    _opaque: [u8; 0],
}

/// A counter with a value for each CPU.
#[repr(C)]
#[derive(Clone, Copy)]
struct PerCpu {
    score: *mut Scoreboard,
    offset: usize,
}

// SAFETY: QEMU allows any thread to use it.
unsafe impl Send for PerCpu {}
// SAFETY: as above.
unsafe impl Sync for PerCpu {}

type OnExecution = extern "C" fn(c_uint, *mut c_void);

/// `QEMU_PLUGIN_CB_NO_REGS`.
const NO_REGISTERS: c_int = 0;
/// `QEMU_PLUGIN_INLINE_ADD_U64`.
const ADD: c_int = 0;

unsafe extern "C" {
    fn qemu_plugin_register_vcpu_tb_trans_cb(id: Id, call: extern "C" fn(Id, *mut Block));
    fn qemu_plugin_register_atexit_cb(
        id: Id,
        call: extern "C" fn(Id, *mut c_void),
        data: *mut c_void,
    );
    fn qemu_plugin_tb_n_insns(block: *const Block) -> usize;
    fn qemu_plugin_tb_get_insn(block: *const Block, index: usize) -> *mut Instruction;
    fn qemu_plugin_insn_vaddr(instruction: *const Instruction) -> u64;
    fn qemu_plugin_register_vcpu_tb_exec_cb(
        block: *mut Block,
        call: OnExecution,
        flags: c_int,
        data: *mut c_void,
    );
    fn qemu_plugin_register_vcpu_insn_exec_cb(
        instruction: *mut Instruction,
        call: OnExecution,
        flags: c_int,
        data: *mut c_void,
    );
    fn qemu_plugin_register_vcpu_insn_exec_inline_per_vcpu(
        instruction: *mut Instruction,
        operation: c_int,
        entry: PerCpu,
        amount: u64,
    );
    fn qemu_plugin_scoreboard_new(bytes: usize) -> *mut Scoreboard;
    fn qemu_plugin_u64_sum(entry: PerCpu) -> u64;
}

/// Converts a C array of strings.
///
/// # Safety
/// `argv` holds `argc` strings.
pub unsafe fn strings(argc: c_int, argv: *const *const c_char) -> Vec<String> {
    let count = usize::try_from(argc).unwrap_or(0);
    let string = |index| {
        // SAFETY: the caller's promise.
        let text = unsafe { CStr::from_ptr(*argv.add(index)) };
        text.to_string_lossy().into_owned()
    };
    (0..count).map(string).collect()
}

/// All instructions since power-on, followed by those of each share.
static EXECUTED: OnceLock<PerCpu> = OnceLock::new();

/// Registers the plug-in's callbacks.
pub fn install(id: Id) {
    // SAFETY: called within `qemu_plugin_install`, with functions of the types that QEMU calls.
    unsafe {
        let score = qemu_plugin_scoreboard_new(size_of::<u64>() * (1 + tally::shares()));
        EXECUTED.get_or_init(|| PerCpu { score, offset: 0 });
        qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
        qemu_plugin_register_atexit_cb(id, ended, std::ptr::null_mut());
    }
}

/// Number of instructions executed since power-on.
pub fn executed() -> u64 {
    // SAFETY: `install` made the counter.
    EXECUTED
        .get()
        .map_or(0, |entry| unsafe { qemu_plugin_u64_sum(*entry) })
}

/// Number of executed instructions that belong to a share.
pub fn executed_of(share: usize) -> u64 {
    // SAFETY: `install` made the counters.
    counter(share).map_or(0, |entry| unsafe { qemu_plugin_u64_sum(entry) })
}

fn counter(share: usize) -> Option<PerCpu> {
    let all = EXECUTED.get().filter(|_| share < tally::shares())?;
    Some(PerCpu {
        score: all.score,
        offset: size_of::<u64>() * (1 + share),
    })
}

/// Callback when QEMU translates a block: attaches the counters and callbacks that its instructions need.
extern "C" fn translated(_: Id, block: *mut Block) {
    // SAFETY: the block and its instructions are QEMU's own and valid during this call.
    unsafe {
        let count = qemu_plugin_tb_n_insns(block);
        let first = qemu_plugin_insn_vaddr(qemu_plugin_tb_get_insn(block, 0));
        if let Some(piece) = runs::piece(first, count as u64) {
            let data = std::ptr::from_ref(piece).cast_mut().cast();
            qemu_plugin_register_vcpu_tb_exec_cb(block, executed_block, NO_REGISTERS, data);
            return;
        }
        for index in 0..count {
            let instruction = qemu_plugin_tb_get_insn(block, index);
            if let Some(entry) = EXECUTED.get().filter(|_| tally::counts_all()) {
                qemu_plugin_register_vcpu_insn_exec_inline_per_vcpu(instruction, ADD, *entry, 1);
            }
            let share = tally::share(qemu_plugin_insn_vaddr(instruction));
            if let Some(entry) = share.and_then(counter) {
                qemu_plugin_register_vcpu_insn_exec_inline_per_vcpu(instruction, ADD, entry, 1);
            }
            if let Some(place) = tally::place(qemu_plugin_insn_vaddr(instruction)) {
                let data = std::ptr::from_ref(place).cast_mut().cast();
                qemu_plugin_register_vcpu_insn_exec_cb(instruction, reached, NO_REGISTERS, data);
            }
        }
    }
}

/// Callback before an instruction is executed.
extern "C" fn reached(_: c_uint, data: *mut c_void) {
    // SAFETY: `translated` passes places, which live for ever.
    let place = unsafe { &*data.cast::<tally::Place>() };
    place.reached();
}

/// Callback before a block is executed.
extern "C" fn executed_block(cpu: c_uint, data: *mut c_void) {
    // SAFETY: `translated` passes pieces, which live for ever.
    let piece = unsafe { &*data.cast::<runs::Piece>() };
    runs::executed(cpu as usize, piece);
}

extern "C" fn ended(_: Id, _: *mut c_void) {
    tally::end();
}
