//! The simulated guest.

use std::collections::BTreeMap;
use std::sync::LazyLock;
use std::vec;
use std::vec::Vec;

use crate::arch::cr::cr0;
use crate::arch::frame::{Mode, TrapFrame};
use crate::cpuid::guest::{Asked, Host, Role, View};
use crate::cpuid::{Leaf, Policies, Policy, VcpuMsrs};
use crate::domain::debug;
use crate::emul::control::Control;
use crate::emul::io::{Devices, PortRights};
use crate::emul::msr::Msrs;
use crate::emul::privileged::Cpuid;
use crate::emul::ptwr::{Entries, EntryError};
use crate::emul::*;
use crate::ports::Ports;

/// The address of the code.
pub const CODE: u64 = 0x1000;
/// The address of an L1 table.
pub const TABLE: u64 = 0x5000;
/// The end of the guest's memory.
pub const END: u64 = 0x8000;

pub struct Fake {
    pub frame: TrapFrame,
    pub mode: Mode,
    pub bits: Bits,
    pub memory: Vec<u8>,
    pub machine: &'static Policies,
    pub policy: Policy,
    pub role: Role,
    pub iopl: bool,
    pub held: Vec<(u16, u16)>,
    pub bitmap: Vec<u16>,
    /// Writes to ports that reached the machine.
    pub outs: Vec<(u16, Width, u32)>,
    pub pci: Vec<(u32, u16, Width, Option<u32>)>,
    pub ports: Ports,
    pub ts: bool,
    pub cr: [u64; 5],
    pub dr: [u64; 8],
    pub xcr0: u64,
    pub flushes: u32,
    pub bases: [u64; 3],
    pub msrs: VcpuMsrs,
    pub machine_msrs: BTreeMap<u32, u64>,
    pub now_ns: u64,
    /// How often an exchange fails because another CPU has changed the entry.
    pub races: u32,
    /// The guest may not have entries with this bit.
    pub refused_bit: u64,
    /// It may have that bit in entries that are not present.
    pub refused_when_present: bool,
}

impl Fake {
    pub fn new(code: &[u8]) -> Self {
        static MACHINE: LazyLock<Policies> = LazyLock::new(|| {
            let dump = include_str!("../../cpuid/dumps/qemu-max.txt");
            let raw = Policy::read(|leaf, subleaf| recorded(dump, leaf, subleaf));
            Policies::new(raw, &[])
        });
        let machine = &*MACHINE;
        let mut memory = vec![0; END as usize];
        memory[CODE as usize..CODE as usize + code.len()].copy_from_slice(code);
        Self {
            frame: TrapFrame {
                rip: CODE,
                rflags: 0x202,
                rsp: 0x3000,
                ..TrapFrame::ZERO
            },
            mode: Mode::Kernel,
            bits: Bits::SixtyFour,
            memory,
            policy: machine.pv_default.clone(),
            machine,
            role: Role::Guest,
            iopl: true,
            held: Vec::new(),
            bitmap: Vec::new(),
            outs: Vec::new(),
            pci: Vec::new(),
            ports: Ports::default(),
            ts: false,
            cr: [0x8005_0033, 0, 0, 0x7000, 0x660],
            dr: [0; 8],
            xcr0: 3,
            flushes: 0,
            bases: [0; 3],
            msrs: VcpuMsrs::default(),
            machine_msrs: BTreeMap::from([(0xc000_0080, 0x1d01), (0x8b, 0x42), (0x1a0, 1)]),
            now_ns: 0,
            races: 0,
            refused_bit: 1 << 63,
            refused_when_present: false,
        }
    }
    pub fn entry(&self, at: u64) -> u64 {
        let at = at as usize;
        u64::from_le_bytes(self.memory[at..at + 8].try_into().unwrap())
    }
    pub fn set_entry(&mut self, at: u64, value: u64) {
        let at = at as usize;
        self.memory[at..at + 8].copy_from_slice(&value.to_le_bytes());
    }
    fn range(
        &self,
        at: Vaddr,
        bytes: usize,
        access: Access,
    ) -> Result<std::ops::Range<usize>, PageFault> {
        let fault = PageFault { at, access };
        let start = usize::try_from(at.0).map_err(|_| fault)?;
        let end = start
            .checked_add(bytes)
            .filter(|&end| end <= self.memory.len())
            .ok_or(fault)?;
        Ok(start..end)
    }
}

fn recorded(dump: &str, leaf: u32, subleaf: u32) -> Leaf {
    let plain = !matches!(leaf, 4 | 7 | 0xb | 0xd);
    dump.lines()
        .map(|line| {
            line.split(' ')
                .map(|word| u32::from_str_radix(word, 16).unwrap())
                .collect::<Vec<_>>()
        })
        .find(|line| line[0] == leaf && (plain || line[1] == subleaf))
        .map_or(Leaf::ZERO, |line| {
            Leaf::new([line[2], line[3], line[4], line[5]])
        })
}

impl Guest for Fake {
    fn frame(&mut self) -> &mut TrapFrame {
        &mut self.frame
    }
    fn mode(&self) -> Mode {
        self.mode
    }
    fn segment(&mut self, _name: SegmentName) -> Option<Segment> {
        Some(Segment {
            base: 0,
            limit: 0xffff_ffff,
            bits: self.bits,
            readable: true,
            writable: true,
        })
    }
    fn code_bits(&mut self) -> Option<Bits> {
        Some(self.segment(SegmentName::Cs)?.bits)
    }
    fn base(&self, which: Base) -> u64 {
        self.bases[which as usize]
    }
    fn read(&mut self, at: Vaddr, into: &mut [u8]) -> Result<(), PageFault> {
        let range = self.range(at, into.len(), Access::Read)?;
        into.copy_from_slice(&self.memory[range]);
        Ok(())
    }
    fn write(&mut self, at: Vaddr, from: &[u8]) -> Result<(), PageFault> {
        let range = self.range(at, from.len(), Access::Write)?;
        self.memory[range].copy_from_slice(from);
        Ok(())
    }
    fn preempted(&self) -> bool {
        false
    }
}

impl Owner for Fake {
    fn role(&self) -> Role {
        self.role
    }
    fn policy(&self) -> &Policy {
        &self.policy
    }
}

impl Cpuid for Fake {
    fn cpuid(&mut self, leaf: u32, subleaf: u32, asked: Asked) -> Leaf {
        let view = View {
            policy: &self.policy,
            machine: self.machine,
            asked,
            role: self.role,
            cr4: self.cr[4],
            xcr0: self.xcr0,
            host: Host::default,
        };
        view.leaf(leaf, subleaf)
    }
}

impl PortRights for Fake {
    fn iopl_suffices(&self) -> bool {
        self.iopl
    }
    fn bitmap_allows(&mut self, port: u16, width: Width) -> bool {
        (0..width.bytes()).all(|n| self.bitmap.contains(&port.wrapping_add(n)))
    }
    fn holds_ports(&self, port: u16, width: Width) -> bool {
        let last = u32::from(port) + u32::from(width.bytes()) - 1;
        self.held
            .iter()
            .any(|range| range.0 <= port && last <= u32::from(range.1))
    }
    fn io_breakpoints(&self, port: u16, width: Width) -> u64 {
        let [a, b, c, d, _, _, six, seven] = self.dr;
        debug::io_hits(&[a, b, c, d, six, seven], port, width.bytes())
    }
}

impl Devices for Fake {
    fn port_in(&mut self, port: u16, _width: Width) -> u32 {
        0x1234_0000 | u32::from(port)
    }
    fn port_out(&mut self, port: u16, width: Width, value: u32) {
        self.outs.push((port, width, value));
    }
    fn with_ports<R>(&mut self, act: impl FnOnce(&mut Ports) -> R) -> R {
        act(&mut self.ports)
    }
    fn pci_read(&mut self, address: u32, offset: u16, width: Width) -> u32 {
        self.pci.push((address, offset, width, None));
        0x8086_1237
    }
    fn pci_write(&mut self, address: u32, offset: u16, width: Width, value: u32) {
        self.pci.push((address, offset, width, Some(value)));
    }
    fn cmos_read(&mut self, index: u8) -> u8 {
        index + 1
    }
    fn cmos_write(&mut self, index: u8, value: u8) {
        self.outs
            .push((u16::from(index), Width::Byte, u32::from(value)));
    }
    fn now_ns(&self) -> u64 {
        self.now_ns
    }
}

impl Control for Fake {
    fn cr0(&self) -> u64 {
        self.cr[0] | if self.ts { cr0::TS } else { 0 }
    }
    fn set_cr0(&mut self, value: u64) {
        self.ts = value & cr0::TS != 0;
    }
    fn cr2(&self) -> u64 {
        self.cr[2]
    }
    fn set_cr2(&mut self, value: u64) {
        self.cr[2] = value;
    }
    fn cr3(&self) -> u64 {
        self.cr[3]
    }
    fn set_cr3(&mut self, value: u64) -> Result<(), Denied> {
        if value >> 40 != 0 {
            return Err(Denied);
        }
        self.cr[3] = value;
        Ok(())
    }
    fn cr4(&self) -> u64 {
        self.cr[4]
    }
    fn machine_cr4(&self) -> u64 {
        0x0004_06e0
    }
    fn set_cr4(&mut self, value: u64) {
        self.cr[4] = value;
    }
    fn set_xcr0(&mut self, value: u64) {
        self.xcr0 = value;
    }
    fn debug_register(&self, number: u8) -> Option<u64> {
        self.dr.get(usize::from(number)).copied()
    }
    fn set_debug_register(&mut self, number: u8, value: u64) -> Result<(), Denied> {
        *self.dr.get_mut(usize::from(number)).ok_or(Denied)? = value;
        Ok(())
    }
    fn flush_caches(&mut self) {
        self.flushes += u32::from(self.role == Role::Hardware);
    }
}

impl Msrs for Fake {
    fn msrs(&mut self) -> &mut VcpuMsrs {
        &mut self.msrs
    }
    fn set_base(&mut self, which: Base, value: u64) {
        self.bases[which as usize] = value;
    }
    fn load_tsc_aux(&mut self, value: u32) {
        self.machine_msrs.insert(0xc000_0103, u64::from(value));
    }
    fn machine_msr(&mut self, number: u32) -> Option<u64> {
        self.machine_msrs.get(&number).copied()
    }
    fn prediction_barrier(&mut self) {}
    fn is_first_vcpu(&self) -> bool {
        true
    }
    fn tsc(&self) -> u64 {
        0x1_2345_6789
    }
    fn has_long_mode(&self) -> bool {
        self.bits == Bits::SixtyFour
    }
}

impl Entries for Fake {
    fn read_entry(&mut self, at: Vaddr) -> Result<u64, EntryError> {
        if (TABLE..TABLE + 0x1000).contains(&at.0) {
            Ok(self.entry(at.0))
        } else {
            Err(EntryError::NotATable)
        }
    }
    fn exchange_entry(&mut self, at: Vaddr, old: u64, new: u64) -> Result<(), EntryError> {
        let now = self.read_entry(at)?;
        if self.races > 0 {
            self.races -= 1;
            self.set_entry(at.0, now ^ 0x20);
            return Err(EntryError::Changed(now ^ 0x20));
        }
        if now != old {
            return Err(EntryError::Changed(now));
        }
        let counts = !self.refused_when_present || new & 1 != 0;
        if counts && new & self.refused_bit != 0 {
            return Err(EntryError::Refused);
        }
        self.set_entry(at.0, new);
        Ok(())
    }
}
