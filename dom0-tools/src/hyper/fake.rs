//! A fake machine for tests. It answers the toolstack's hypercalls from their bytes.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec;
use alloc::vec::Vec;

use guest_pv_abi::arch_x86::VcpuGuestContext;
use guest_pv_abi::domctl::{self, Domctl};
use guest_pv_abi::event_channel::EvtchnAllocUnbound;
use guest_pv_abi::sysctl::{self, Sysctl};
use guest_pv_abi::{Errno, GuestHandle, Payload, errno, hypercall, memory, narrow, version, xen};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::{Arena, DomId, Hypercalls, Mfn, PAGE};

const ARENA: u64 = 0x10_0000;

/// A domain of the fake machine.
#[derive(Default)]
pub(crate) struct FakeDomain {
    pub(crate) pages: BTreeMap<u64, u64>,
    pub(crate) flags: u32,
    pub(crate) max_kib: u64,
    pub(crate) vcpus: u32,
    pub(crate) handle: [u8; 16],
    pub(crate) shared_info: u64,
    pub(crate) grant_frame: u64,
    pub(crate) narrow: bool,
    pub(crate) context: Option<Box<VcpuGuestContext>>,
    pub(crate) narrow_context: Option<Box<narrow::VcpuGuestContext>>,
    pub(crate) pinned: Option<u64>,
    pub(crate) hypercall_page: Option<u64>,
    pub(crate) ports: Vec<u16>,
    pub(crate) weight: (u16, u16),
    pub(crate) map_entries: u32,
}

/// The fake machine: its domains, frames and console.
pub(crate) struct Fake {
    arena: Vec<u8>,
    pub(crate) frames: BTreeMap<u64, Box<[u8; PAGE]>>,
    pub(crate) owner: BTreeMap<u64, u16>,
    pub(crate) domains: BTreeMap<u16, FakeDomain>,
    pub(crate) free: u64,
    /// Whether extents larger than a page are refused.
    pub(crate) fragmented: bool,
    /// Its `xen_caps`.
    pub(crate) caps: &'static str,
    pub(crate) calls: Vec<(u64, u64)>,
    /// Keys that were pressed on its console.
    pub(crate) keys: Vec<u8>,
    /// The next frame to be given out; frames below 4 GiB have a counter of their own.
    pub(crate) next_frame: u64,
    next_low_frame: u64,
}

impl Fake {
    pub(crate) fn new(free: u64) -> Fake {
        let mut fake = Fake {
            arena: vec![0; 64 << 10],
            frames: BTreeMap::new(),
            owner: BTreeMap::new(),
            domains: BTreeMap::new(),
            free,
            fragmented: false,
            caps: "xen-3.0-x86_64 xen-3.0-x86_32p",
            calls: Vec::new(),
            keys: Vec::new(),
            next_frame: 0x1000,
            next_low_frame: 0x100,
        };
        fake.domains.insert(
            0,
            FakeDomain {
                vcpus: 1,
                ..Default::default()
            },
        );
        fake
    }

    fn frame_for(&mut self, dom: u16, step: u64) -> u64 {
        let frame = self.next_frame;
        self.next_frame += step;
        self.own(dom, frame)
    }

    fn low_frame_for(&mut self, dom: u16) -> u64 {
        let frame = self.next_low_frame;
        self.next_low_frame += 1;
        self.own(dom, frame)
    }

    fn own(&mut self, dom: u16, frame: u64) -> u64 {
        // Not zero, so that bytes that the builder forgets to write are noticed.
        self.frames.insert(frame, Box::new([0xa5; PAGE]));
        self.owner.insert(frame, dom);
        frame
    }

    fn read<T: FromBytes>(&self, handle: GuestHandle) -> Result<T, Errno> {
        let at = handle.0.checked_sub(ARENA).ok_or(errno::EFAULT)? as usize;
        let bytes = self.arena.get(at..).ok_or(errno::EFAULT)?;
        T::read_from_prefix(bytes)
            .map(|(value, _)| value)
            .map_err(|_| errno::EFAULT)
    }

    fn write<T: IntoBytes + Immutable + ?Sized>(
        &mut self,
        handle: GuestHandle,
        value: &T,
    ) -> Result<(), Errno> {
        let at = handle.0.checked_sub(ARENA).ok_or(errno::EFAULT)? as usize;
        let bytes = value.as_bytes();
        self.arena
            .get_mut(at..at + bytes.len())
            .ok_or(errno::EFAULT)?
            .copy_from_slice(bytes);
        Ok(())
    }

    fn domain(&mut self, dom: u16) -> Result<&mut FakeDomain, Errno> {
        self.domains.get_mut(&dom).ok_or(errno::ESRCH)
    }

    fn info(&self, dom: u16) -> domctl::GetDomainInfo {
        let domain = &self.domains[&dom];
        domctl::GetDomainInfo {
            domain: dom,
            flags: domain.flags,
            tot_pages: domain.pages.len() as u64,
            max_pages: domain.max_kib / 4,
            shared_info_frame: domain.shared_info,
            nr_online_vcpus: domain.vcpus.min(1),
            max_vcpu_id: domain.vcpus.wrapping_sub(1),
            handle: domain.handle,
            cpu_time: 1_500_000_000,
            ..Default::default()
        }
    }

    fn domctl(&mut self, at: GuestHandle) -> Result<u64, Errno> {
        let mut call: Domctl = self.read(at)?;
        assert_eq!(call.interface_version, domctl::XEN_DOMCTL_INTERFACE_VERSION);
        match call.cmd {
            domctl::XEN_DOMCTL_CREATEDOMAIN => {
                let body: domctl::CreateDomain = call.u.get();
                call.domain = (1..)
                    .find(|id| !self.domains.contains_key(id))
                    .ok_or(errno::ENOSPC)?;
                let shared_info = self.low_frame_for(call.domain);
                let grant_frame = self.frame_for(call.domain, 1);
                let flags = domctl::XEN_DOMINF_PAUSED;
                let handle = body.handle;
                let new = FakeDomain {
                    shared_info,
                    grant_frame,
                    flags,
                    handle,
                    weight: (256, 0),
                    ..Default::default()
                };
                self.domains.insert(call.domain, new);
            }
            domctl::XEN_DOMCTL_DESTROYDOMAIN => {
                let gone = self.domains.remove(&call.domain).ok_or(errno::ESRCH)?;
                self.free += gone.pages.len() as u64;
                self.owner.retain(|_, owner| *owner != call.domain);
            }
            domctl::XEN_DOMCTL_PAUSEDOMAIN => {
                self.domain(call.domain)?.flags |= domctl::XEN_DOMINF_PAUSED
            }
            domctl::XEN_DOMCTL_UNPAUSEDOMAIN => {
                let flags = &mut self.domain(call.domain)?.flags;
                if *flags & domctl::XEN_DOMINF_PAUSED == 0 {
                    return Err(errno::EINVAL);
                }
                *flags &= !domctl::XEN_DOMINF_PAUSED;
            }
            domctl::XEN_DOMCTL_GETDOMAININFO => {
                self.domain(call.domain)?;
                call.u = Payload::of(&self.info(call.domain));
            }
            domctl::XEN_DOMCTL_MAX_VCPUS => {
                self.domain(call.domain)?.vcpus = call.u.get::<domctl::MaxVcpus>().max
            }
            domctl::XEN_DOMCTL_MAX_MEM => {
                self.domain(call.domain)?.max_kib = call.u.get::<domctl::MaxMem>().max_memkb
            }
            domctl::XEN_DOMCTL_SET_ADDRESS_SIZE => {
                assert_eq!(call.u.get::<domctl::AddressSize>().size, 32);
                let domain = self.domain(call.domain)?;
                if !domain.pages.is_empty() {
                    return Err(errno::EACCES);
                }
                domain.narrow = true;
            }
            domctl::XEN_DOMCTL_HYPERCALL_INIT => {
                let frame = call.u.get::<domctl::HypercallInit>().gmfn;
                self.domain(call.domain)?.hypercall_page = Some(frame);
            }
            domctl::XEN_DOMCTL_SETVCPUCONTEXT => {
                let body: domctl::VcpuContext = call.u.get();
                if self.domain(call.domain)?.narrow {
                    let context = self.read(body.ctxt)?;
                    self.domain(call.domain)?.narrow_context = Some(Box::new(context));
                } else {
                    let context = self.read(body.ctxt)?;
                    self.domain(call.domain)?.context = Some(Box::new(context));
                }
            }
            _ => self.domctl_vcpu(&mut call)?,
        }
        self.write(at, &call)?;
        Ok(0)
    }

    fn domctl_vcpu(&mut self, call: &mut Domctl) -> Result<(), Errno> {
        match call.cmd {
            domctl::XEN_DOMCTL_GETVCPUINFO => {
                let vcpu = call.u.get::<domctl::GetVcpuInfo>().vcpu;
                if vcpu >= self.domain(call.domain)?.vcpus {
                    return Err(errno::ESRCH);
                }
                call.u = Payload::of(&domctl::GetVcpuInfo {
                    vcpu,
                    online: 1,
                    cpu_time: 250_000_000,
                    ..Default::default()
                });
            }
            domctl::XEN_DOMCTL_SETVCPUAFFINITY => {}
            domctl::XEN_DOMCTL_GETVCPUAFFINITY => {
                let body: domctl::VcpuAffinity = call.u.get();
                self.write(body.cpumap_hard.bitmap, &[0b11_u8])?;
            }
            domctl::XEN_DOMCTL_SCHEDULER_OP => {
                let mut body: domctl::SchedulerOp = call.u.get();
                let domain = self.domain(call.domain)?;
                if body.cmd == domctl::XEN_DOMCTL_SCHEDOP_PUTINFO {
                    let new: domctl::SchedCredit = body.u.get();
                    domain.weight = (new.weight, new.cap);
                }
                body.u = Payload::of(&domctl::SchedCredit {
                    weight: domain.weight.0,
                    cap: domain.weight.1,
                });
                call.u = Payload::of(&body);
            }
            other => panic!("domctl {other}"),
        }
        Ok(())
    }

    fn memory_op(&mut self, cmd: u64, at: GuestHandle) -> Result<u64, Errno> {
        match cmd as u32 {
            memory::XENMEM_POPULATE_PHYSMAP => self.populate(&self.read(at)?),
            memory::XENMEM_SET_MEMORY_MAP => {
                let body: memory::ForeignMemoryMap = self.read(at)?;
                self.domain(body.domid)?.map_entries = body.map.nr_entries;
                Ok(0)
            }
            memory::XENMEM_ACQUIRE_RESOURCE => {
                let body: memory::MemAcquireResource = self.read(at)?;
                let frame = self.domain(body.domid)?.grant_frame;
                self.write(body.frame_list, &frame)?;
                Ok(0)
            }
            other => panic!("memory_op {other}"),
        }
    }

    fn populate(&mut self, body: &memory::MemoryReservation) -> Result<u64, Errno> {
        let size = 1 << body.extent_order;
        for extent in 0..body.nr_extents {
            let at = GuestHandle(body.extent_start.0 + extent * 8);
            let limit = self.domain(body.domid)?.max_kib / 4;
            let full = self.domain(body.domid)?.pages.len() as u64 + size > limit;
            if full || self.free < size || size > 1 && self.fragmented {
                return Ok(extent);
            }
            self.free -= size;
            let first: u64 = self.read(at)?;
            // The frames of a large extent are consecutive; single frames are not.
            let step = if size > 1 { 1 } else { 3 };
            let frames: Vec<u64> = (0..size)
                .map(|_| match memory::xenmemf_address_bits(body.mem_flags) {
                    32 => self.low_frame_for(body.domid),
                    _ => self.frame_for(body.domid, step),
                })
                .collect();
            let domain = self.domain(body.domid)?;
            domain.pages.extend((first..).zip(frames.iter().copied()));
            self.write(at, &frames[0])?;
        }
        Ok(body.nr_extents)
    }

    fn sysctl(&mut self, at: GuestHandle) -> Result<u64, Errno> {
        let mut call: Sysctl = self.read(at)?;
        assert_eq!(call.interface_version, sysctl::XEN_SYSCTL_INTERFACE_VERSION);
        match call.cmd {
            sysctl::XEN_SYSCTL_GETDOMAININFOLIST => {
                let mut body: sysctl::GetDomainInfoList = call.u.get();
                let ids = self.domains.range(body.first_domain..).map(|(&id, _)| id);
                let ids: Vec<u16> = ids.take(body.max_domains as usize).collect();
                let infos: Vec<domctl::GetDomainInfo> =
                    ids.iter().map(|&id| self.info(id)).collect();
                self.write(body.buffer, infos.as_slice())?;
                body.num_domains = infos.len() as u32;
                call.u = Payload::of(&body);
            }
            sysctl::XEN_SYSCTL_PHYSINFO => {
                call.u = Payload::of(&sysctl::PhysInfo {
                    nr_cpus: 2,
                    threads_per_core: 1,
                    cores_per_socket: 2,
                    nr_nodes: 1,
                    cpu_khz: 2_000_000,
                    total_pages: 1 << 18,
                    free_pages: self.free,
                    ..Default::default()
                });
            }
            // The policy of a CPU that reports nothing.
            sysctl::XEN_SYSCTL_GET_CPU_POLICY => call.u.set(&sysctl::CpuPolicy::default()),
            sysctl::XEN_SYSCTL_SCHED_ID => {
                call.u = Payload::of(&sysctl::SchedId {
                    sched_id: domctl::XEN_SCHEDULER_CREDIT2,
                });
            }
            sysctl::XEN_SYSCTL_READCONSOLE => {
                let mut body: sysctl::ReadConsole = call.u.get();
                let text = if body.index == 0 {
                    &b"(xen) hello\n"[..]
                } else {
                    b""
                };
                self.write(body.buffer, text)?;
                (body.count, body.index) = (text.len() as u32, 12);
                call.u = Payload::of(&body);
            }
            sysctl::XEN_SYSCTL_DEBUG_KEYS => {
                let body: sysctl::DebugKeys = call.u.get();
                for key in 0..u64::from(body.nr_keys) {
                    let key = self.read(GuestHandle(body.keys.0 + key))?;
                    self.keys.push(key);
                }
            }
            other => panic!("sysctl {other}"),
        }
        self.write(at, &call)?;
        Ok(0)
    }
}

impl Hypercalls for Fake {
    fn arena(&mut self) -> Arena<'_> {
        Arena {
            address: ARENA,
            bytes: &mut self.arena,
        }
    }

    fn call(&mut self, number: u64, args: [u64; 5]) -> Result<u64, Errno> {
        self.calls.push((number, args[0]));
        let first = GuestHandle(args[0]);
        match number {
            hypercall::DOMCTL => self.domctl(first),
            hypercall::SYSCTL => self.sysctl(first),
            hypercall::MEMORY_OP => self.memory_op(args[0], GuestHandle(args[1])),
            hypercall::MMUEXT_OP => {
                let op: xen::MmuextOp = self.read(first)?;
                let domain = self.domain(args[3] as u16)?;
                let pin = match domain.narrow {
                    true => xen::MMUEXT_PIN_L3_TABLE,
                    false => xen::MMUEXT_PIN_L4_TABLE,
                };
                assert_eq!((op.cmd, args[1]), (pin, 1));
                domain.pinned = Some(op.arg1);
                Ok(0)
            }
            hypercall::EVENT_CHANNEL_OP => {
                let mut body: EvtchnAllocUnbound = self.read(GuestHandle(args[1]))?;
                let remote = body.remote_dom;
                let ports = &mut self.domain(body.dom)?.ports;
                ports.push(remote);
                body.port = ports.len() as u32;
                self.write(GuestHandle(args[1]), &body)?;
                Ok(0)
            }
            hypercall::XEN_VERSION if args[0] as u32 == version::XENVER_VERSION => Ok(4 << 16 | 20),
            hypercall::XEN_VERSION if args[0] as u32 == version::XENVER_CAPABILITIES => {
                self.write(GuestHandle(args[1]), self.caps.as_bytes())?;
                Ok(0)
            }
            hypercall::XEN_VERSION => {
                self.write(GuestHandle(args[1]), b".0-fake\0")?;
                Ok(0)
            }
            other => panic!("hypercall {other}"),
        }
    }

    fn with_frames(
        &mut self,
        dom: DomId,
        frames: &[Mfn],
        access: &mut dyn FnMut(&mut [u8]),
    ) -> Result<(), Errno> {
        let mut window = Vec::new();
        for frame in frames {
            assert_eq!(
                self.owner.get(&frame.0),
                Some(&dom.0),
                "frame {:#x} of another domain",
                frame.0
            );
            let domain = self.domain(dom.0)?;
            let late = domain.pinned.is_some() && frame.0 != domain.grant_frame;
            assert!(!late, "written after the tables were pinned");
            window.extend_from_slice(&self.frames[&frame.0][..]);
        }
        access(&mut window);
        for (frame, page) in frames.iter().zip(window.as_chunks().0) {
            self.frames.insert(frame.0, Box::new(*page));
        }
        Ok(())
    }

    fn read_frames(
        &mut self,
        dom: DomId,
        frames: &[Mfn],
        look: &mut dyn FnMut(&[u8]),
    ) -> Result<(), Errno> {
        self.with_frames(dom, frames, &mut |bytes| look(bytes))
    }
}
