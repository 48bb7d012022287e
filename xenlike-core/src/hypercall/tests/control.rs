//! domctl and sysctl, called by a pretended toolstack.

use std::time::{Duration, Instant};

use proptest::prelude::*;

use guest_pv_abi::arch_x86::{
    FLAT_KERNEL_CS, FLAT_KERNEL_SS, VGCF_IN_KERNEL, VGCF_ONLINE, VcpuGuestContext,
};
use guest_pv_abi::domctl::{self as abi, Domctl};
use guest_pv_abi::errno::{self, Errno};
use guest_pv_abi::hypercall as nr;
use guest_pv_abi::mca::*;
use guest_pv_abi::memory::XENMEM_MAXIMUM_GPFN;
use guest_pv_abi::sysctl::{self, Sysctl};
use guest_pv_abi::xen::{CtlBitmap, SharedInfo};
use guest_pv_abi::{GuestHandle, Payload};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes};

use super::guest::Guest;
use crate::kit::atomic::Ordering::SeqCst;

use crate::arch::machine_check::Bank;
use crate::domain::{self, Rights};
use crate::kit::DomId;
use crate::life::{destroy, machine_check};
use crate::mm::SharedPage;
use crate::pagetype::{Work, machine};

/// Offset of a control call's further memory, after its structure.
const MORE: u64 = 512;

/// Whether an empty domain goes, as this CPU, or that of another test, leaves ring 0.
fn goes(id: DomId) -> bool {
    let end = Instant::now() + Duration::from_secs(10);
    loop {
        destroy::forget_empty();
        if domain::lookup(id).is_none() {
            return true;
        }
        if Instant::now() > end {
            return false;
        }
        std::thread::yield_now();
    }
}

pub(super) struct Toolstack(pub(super) Guest);

impl Toolstack {
    pub(super) fn new() -> Self {
        Self(Guest::with_rights(Rights::Control))
    }

    pub(super) fn call<T: FromBytes + IntoBytes + Immutable>(
        &self,
        cmd: u32,
        domain: u16,
        body: &mut T,
    ) -> Result<u16, Errno> {
        let mut op = Domctl {
            cmd,
            interface_version: abi::XEN_DOMCTL_INTERFACE_VERSION,
            domain,
            _pad: [0; 3],
            u: Payload::of(body),
        };
        self.0.write(self.0.at, &op);
        self.0.call(nr::DOMCTL, &[self.0.at])?;
        op = self.0.read(self.0.at);
        *body = op.u.get();
        Ok(op.domain)
    }

    fn plain(&self, cmd: u32, domain: u16) -> Result<u16, Errno> {
        self.call(cmd, domain, &mut 0u64)
    }

    pub(super) fn create(&self) -> u16 {
        let mut config = abi::CreateDomain::new_zeroed();
        config.max_vcpus = 2;
        config.max_evtchn_port = 1023;
        config.max_grant_frames = 4;
        config.grant_opts = 1;
        self.call(abi::XEN_DOMCTL_CREATEDOMAIN, 0, &mut config)
            .unwrap()
    }

    pub(super) fn info(&self, domain: u16) -> Result<abi::GetDomainInfo, Errno> {
        let mut info = abi::GetDomainInfo::new_zeroed();
        self.call(abi::XEN_DOMCTL_GETDOMAININFO, domain, &mut info)?;
        Ok(info)
    }

    pub(super) fn more(&self) -> GuestHandle {
        GuestHandle(self.0.at + MORE)
    }
}

/// A context whose entry point can't be returned to is refused.
fn nowhere_is_refused(
    tools: &Toolstack,
    id: u16,
    context: &VcpuGuestContext,
    set: &mut abi::VcpuContext,
) {
    const HOLE: u64 = 1 << 47;
    let nowhere: [fn(&mut VcpuGuestContext); 5] = [
        |context| context.user_regs.rip = HOLE,
        |context| context.trap_ctxt[13].address = HOLE,
        |context| context.trap_ctxt[255].address = HOLE,
        |context| context.event_callback_eip = HOLE,
        |context| context.syscall_callback_eip = HOLE,
    ];
    for spoil in nowhere {
        let mut spoilt = *context;
        spoil(&mut spoilt);
        tools.0.write(tools.more().0, &spoilt);
        assert_eq!(
            tools.call(abi::XEN_DOMCTL_SETVCPUCONTEXT, id, set),
            Err(errno::EINVAL)
        );
    }
}

#[test]
fn a_life_as_the_toolstack_sees_it() {
    let tools = Toolstack::new();
    let id = tools.create();
    let made = tools.info(id).unwrap();
    assert_eq!(made.max_vcpu_id, abi::XEN_INVALID_MAX_VCPU_ID);
    let flags = 0xffff_0000 | abi::XEN_DOMINF_PAUSED | abi::XEN_DOMINF_BLOCKED;
    assert_eq!(made.flags, flags);
    let max = |n| tools.call(abi::XEN_DOMCTL_MAX_VCPUS, id, &mut abi::MaxVcpus { max: n });
    assert_eq!(max(3), Err(errno::EINVAL));
    assert!(max(2).is_ok() && max(2).is_ok());
    tools
        .call(
            abi::XEN_DOMCTL_MAX_MEM,
            id,
            &mut abi::MaxMem { max_memkb: 64 },
        )
        .unwrap();
    // A frame for an empty L4, as a builder allocates it.
    let dom = domain::lookup(DomId(id)).unwrap();
    let l4 = machine()
        .allocate(
            &dom.pages,
            0,
            crate::mm::alloc::Where::ANY,
            crate::pagetype::Charge::Counted,
        )
        .unwrap();
    let mut context = VcpuGuestContext::new_zeroed();
    context.flags = VGCF_IN_KERNEL | VGCF_ONLINE;
    context.user_regs.rip = 0x1000;
    (context.user_regs.cs, context.user_regs.ss) = (FLAT_KERNEL_CS, FLAT_KERNEL_SS);
    context.ctrlreg[3] = l4.maddr().0;
    let mut set = abi::VcpuContext {
        vcpu: 0,
        _gap0: [0; 4],
        ctxt: tools.more(),
    };
    nowhere_is_refused(&tools, id, &context, &mut set);
    tools.0.write(tools.more().0, &context);
    tools
        .call(abi::XEN_DOMCTL_SETVCPUCONTEXT, id, &mut set)
        .unwrap();
    tools
        .call(abi::XEN_DOMCTL_GETVCPUCONTEXT, id, &mut set)
        .unwrap();
    let seen: VcpuGuestContext = tools.0.read(tools.more().0);
    assert_eq!(
        (seen.user_regs.rip, seen.ctrlreg[3]),
        (0x1000, l4.maddr().0)
    );
    assert_eq!(
        seen.flags & (VGCF_IN_KERNEL | VGCF_ONLINE),
        VGCF_IN_KERNEL | VGCF_ONLINE
    );
    set.vcpu = 1;
    assert_eq!(
        tools.call(abi::XEN_DOMCTL_GETVCPUCONTEXT, id, &mut set),
        Err(errno::ENODATA)
    );

    tools.plain(abi::XEN_DOMCTL_PAUSEDOMAIN, id).unwrap();
    tools.plain(abi::XEN_DOMCTL_UNPAUSEDOMAIN, id).unwrap();
    assert_ne!(tools.info(id).unwrap().flags & abi::XEN_DOMINF_PAUSED, 0);
    let vcpu = dom.vcpus()[0].clone();
    assert!(!vcpu.runnable());
    tools.plain(abi::XEN_DOMCTL_UNPAUSEDOMAIN, id).unwrap();
    assert!(vcpu.runnable());
    assert_eq!(
        tools.plain(abi::XEN_DOMCTL_UNPAUSEDOMAIN, id),
        Err(errno::EINVAL)
    );
    assert_eq!(tools.info(id).unwrap().nr_online_vcpus, 1);

    tools.plain(abi::XEN_DOMCTL_DESTROYDOMAIN, id).unwrap();
    assert!(dom.pages.is_empty());
    assert_eq!(tools.info(id).err(), Some(errno::ESRCH));
}

#[test]
fn mapped_frames_outlive_a_domain_that_is_listed_as_dying() {
    let tools = Toolstack::new();
    let id = tools.create();
    let dom = domain::lookup(DomId(id)).unwrap();
    dom.pages.set_max(4);
    let frame = machine()
        .allocate(
            &dom.pages,
            0,
            crate::mm::alloc::Where::ANY,
            crate::pagetype::Charge::Counted,
        )
        .unwrap();
    let foreign = machine().get_writable(frame, dom.id()).unwrap();
    tools.plain(abi::XEN_DOMCTL_DESTROYDOMAIN, id).unwrap();
    let info = tools.info(id).unwrap();
    assert_ne!(info.flags & abi::XEN_DOMINF_DYING, 0);
    assert_eq!(info.tot_pages, 1);
    let vcpus = tools.call(abi::XEN_DOMCTL_MAX_VCPUS, id, &mut abi::MaxVcpus { max: 2 });
    assert_eq!(vcpus, Err(errno::EINVAL));
    SharedPage::new(frame).unwrap().zero();
    drop(foreign);
    assert!(goes(dom.id()));
    assert_eq!(tools.info(id).err(), Some(errno::ESRCH));
}

#[test]
fn who_may_ask_and_how() {
    let (tools, guest) = (Toolstack::new(), Guest::new());
    assert_eq!(
        tools.plain(abi::XEN_DOMCTL_PAUSEDOMAIN, 0x7000),
        Err(errno::ESRCH)
    );
    for cmd in [abi::XEN_DOMCTL_PAUSEDOMAIN, abi::XEN_DOMCTL_DESTROYDOMAIN] {
        assert_eq!(tools.plain(cmd, tools.0.id()), Err(errno::EINVAL));
    }
    assert_eq!(
        tools.0.call(nr::DOMCTL, &[tools.0.bad()]),
        Err(errno::EFAULT)
    );
    let mut op = Domctl::new_zeroed();
    (op.cmd, op.domain) = (abi::XEN_DOMCTL_PAUSEDOMAIN, guest.id());
    tools.0.write(tools.0.at, &op);
    assert_eq!(tools.0.call(nr::DOMCTL, &[tools.0.at]), Err(errno::EACCES));
    op.interface_version = abi::XEN_DOMCTL_INTERFACE_VERSION;
    guest.write(guest.at, &op);
    assert_eq!(guest.call(nr::DOMCTL, &[guest.at]), Err(errno::EPERM));
    op.cmd = abi::XEN_DOMCTL_CREATEDOMAIN;
    guest.write(guest.at, &op);
    assert_eq!(guest.call(nr::DOMCTL, &[guest.at]), Err(errno::EPERM));
    let mut op = Sysctl::new_zeroed();
    op.interface_version = sysctl::XEN_SYSCTL_INTERFACE_VERSION;
    guest.write(guest.at, &op);
    assert_eq!(guest.call(nr::SYSCTL, &[guest.at]), Err(errno::EPERM));
    assert_eq!(guest.call(nr::ARCH_0, &[0]), Err(errno::EPERM));
    assert_eq!(tools.0.call(nr::ARCH_0, &[0]), Err(errno::EFAULT));
}

#[test]
fn machine_checks_are_fetched_and_acknowledged() {
    let tools = Toolstack::new();
    let call = |head: &mut McHead| {
        tools.0.write(tools.0.at, head);
        let result = tools.0.call(nr::ARCH_0, &[tools.0.at]);
        *head = tools.0.read(tools.0.at);
        result
    };
    let mut head = McHead {
        cmd: XEN_MC_PHYSCPUINFO,
        interface_version: XEN_MCA_INTERFACE_VERSION,
        u: Payload::default(),
    };
    assert_eq!(call(&mut head), Ok(0));
    let online = head.u.get::<McPhyscpuinfo>().ncpus;
    assert!(online > 0);
    let place = GuestHandle(tools.0.at + MORE);
    let mut room = McPhyscpuinfo::new_zeroed();
    (room.ncpus, room.info) = (1000, place);
    head.u = Payload::of(&room);
    assert_eq!(call(&mut head), Ok(0));
    assert_eq!(head.u.get::<McPhyscpuinfo>().ncpus, online);
    assert_eq!(tools.0.read::<McLogicalCpu>(place.0).ncores, online);
    room.ncpus = 0;
    head.u = Payload::of(&room);
    assert_eq!(call(&mut head), Err(errno::EINVAL));
    let mut fetch = McFetch::new_zeroed();
    (fetch.flags, fetch.data) = (XEN_MC_NONURGENT, place);
    (head.cmd, head.u) = (XEN_MC_FETCH, Payload::of(&fetch));
    assert_eq!(call(&mut head), Ok(0));
    assert_eq!(head.u.get::<McFetch>().flags, XEN_MC_NODATA);
    machine_check::pretend(Bank {
        number: 3,
        status: 1 << 63 | 0x17a,
        address: 0x1234_5000,
        misc: 0,
    });
    head.u = Payload::of(&fetch);
    assert_eq!(call(&mut head), Ok(0));
    let got = head.u.get::<McFetch>();
    assert_eq!(got.flags, XEN_MC_OK);
    let info: McInfo = tools.0.read(place.0);
    let (global, rest) = McinfoGlobal::read_from_prefix(info.mi_data.as_bytes()).unwrap();
    let (bank, _) = McinfoBank::read_from_prefix(rest).unwrap();
    assert_eq!((info.mi_nentries, global.common.kind), (2, MC_TYPE_GLOBAL));
    assert_eq!(global.mc_flags, MC_FLAG_POLLED | MC_FLAG_CORRECTABLE);
    assert_eq!((bank.common.kind, bank.mc_bank), (MC_TYPE_BANK, 3));
    assert_eq!(
        (bank.mc_addr, bank.mc_status),
        (0x1234_5000, 1 << 63 | 0x17a)
    );
    // It is returned once, and acknowledged by its number.
    head.u = Payload::of(&fetch);
    assert_eq!(call(&mut head), Ok(0));
    assert_eq!(head.u.get::<McFetch>().flags, XEN_MC_NODATA);
    let mut ack = got;
    ack.flags = XEN_MC_NONURGENT | XEN_MC_ACK;
    head.u = Payload::of(&ack);
    assert_eq!(call(&mut head), Ok(0));
    assert_eq!(head.u.get::<McFetch>().flags, XEN_MC_OK);
    fetch.flags = XEN_MC_NONURGENT | XEN_MC_URGENT;
    head.u = Payload::of(&fetch);
    assert_eq!(call(&mut head), Err(errno::EINVAL));
    head.cmd = XEN_MC_MCEINJECT;
    assert_eq!(call(&mut head), Err(errno::EOPNOTSUPP));
    (head.cmd, head.interface_version) = (XEN_MC_FETCH, 0);
    assert_eq!(call(&mut head), Err(errno::EINVAL));
}

#[test]
fn affinity_is_a_set_with_an_online_cpu() {
    let (tools, guest) = (Toolstack::new(), Guest::new());
    let map = CtlBitmap {
        bitmap: tools.more(),
        nr_bits: 8,
        _gap0: [0; 4],
    };
    let mut body = abi::VcpuAffinity {
        vcpu: 0,
        flags: abi::XEN_VCPUAFFINITY_HARD,
        cpumap_hard: map,
        cpumap_soft: map,
    };
    tools.0.write(tools.more().0, &0x80u8);
    let set = abi::XEN_DOMCTL_SETVCPUAFFINITY;
    assert_eq!(tools.call(set, guest.id(), &mut body), Err(errno::EINVAL));
    tools.0.write(tools.more().0, &0x81u8);
    tools.call(set, guest.id(), &mut body).unwrap();
    assert_eq!(tools.0.read::<u8>(tools.more().0), 1);
    tools
        .call(abi::XEN_DOMCTL_GETVCPUAFFINITY, guest.id(), &mut body)
        .unwrap();
    assert_eq!(tools.0.read::<u8>(tools.more().0), 0x81);
}

/// A pinned table is reported as pinned, a plain frame as plain, and another domain's frame as invalid.
#[test]
fn frames_are_told_by_their_use() {
    let (tools, guest) = (Toolstack::new(), Guest::new());
    let frames = [guest.frame(), guest.frame(), tools.0.frame()];
    machine()
        .pin(frames[0], 1, guest.dom.id(), &mut Work::new())
        .unwrap();
    tools.0.write(tools.more().0, &frames.map(|mfn| mfn.0));
    let mut body = abi::GetPageFrameInfo3 {
        num: 3,
        array: tools.more(),
    };
    tools
        .call(abi::XEN_DOMCTL_GETPAGEFRAMEINFO3, guest.id(), &mut body)
        .unwrap();
    let pinned = abi::XEN_DOMCTL_PFINFO_L1TAB | abi::XEN_DOMCTL_PFINFO_LPINTAB;
    let expected = [
        pinned,
        abi::XEN_DOMCTL_PFINFO_NOTAB,
        abi::XEN_DOMCTL_PFINFO_XTAB,
    ];
    assert_eq!(
        tools.0.read::<[u64; 3]>(tools.more().0),
        expected.map(u64::from)
    );
    body.num = 1025;
    let many = tools.call(abi::XEN_DOMCTL_GETPAGEFRAMEINFO3, guest.id(), &mut body);
    assert_eq!(many, Err(errno::E2BIG));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(
        std::env::var("HYPERCALL_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(32)
    ))]

    /// A toolstack that makes random calls, with one domain to act on.
    #[test]
    fn random_control_calls_end_in_an_answer(
        calls in prop::collection::vec((0u32..92, prop::array::uniform16(word())), 1..40)
    ) {
        let tools = Toolstack::new();
        let id = tools.create();
        for (cmd, words) in calls {
            let body = words.map(|word| word.unwrap_or(tools.more().0));
            // The machine's clock is shared by all tests, so it must not be set here.
            if cmd != abi::XEN_DOMCTL_CREATEDOMAIN {
                let _ = tools.call(cmd, id, &mut body.clone());
            }
            let mut op = Sysctl::new_zeroed();
            (op.cmd, op.interface_version) = (cmd, sysctl::XEN_SYSCTL_INTERFACE_VERSION);
            op.u.set(&body);
            // The machine's trace buffers are shared by all tests, too.
            let others = [sysctl::XEN_SYSCTL_SCHEDULER_OP, sysctl::XEN_SYSCTL_TBUF_OP];
            if !others.contains(&cmd) {
                tools.0.write(tools.0.at, &op);
                let _ = tools.0.call(nr::SYSCTL, &[tools.0.at]);
            }
        }
        let _ = tools.plain(abi::XEN_DOMCTL_DESTROYDOMAIN, id);
        prop_assert_eq!(tools.info(id).err(), Some(errno::ESRCH));
    }
}

/// A word of a structure. `None` stands for an address in the caller's memory.
fn word() -> impl Strategy<Value = Option<u64>> {
    let edges = [
        0,
        1,
        u64::MAX,
        1 << 63,
        0xffff_8300_0000_0000,
        0xffff_ffff,
        1 << 32,
    ];
    prop_oneof![
        3 => (0..16u64).prop_map(Some),
        2 => prop::sample::select(edges.to_vec()).prop_map(Some),
        1 => any::<u64>().prop_map(Some),
        3 => Just(None),
    ]
}

/// A virtual IRQ returns to domain 0 when its handler ends, because the handler's id may be reused.
#[test]
fn the_taker_of_a_virtual_irq_gives_it_back() {
    use crate::domain::notify::virq_taker;
    let (tools, guest) = (Toolstack::new(), Guest::new());
    let virq = guest_pv_abi::xen::VIRQ_CON_RING;
    let mut body = abi::SetVirqHandler { virq };
    tools
        .call(abi::XEN_DOMCTL_SET_VIRQ_HANDLER, guest.id(), &mut body)
        .unwrap();
    assert_eq!(virq_taker(virq), guest.dom.id());
    tools
        .plain(abi::XEN_DOMCTL_DESTROYDOMAIN, guest.id())
        .unwrap();
    assert_eq!(virq_taker(virq), DomId::DOM0);
    // As by a call that has found the domain alive.
    domain::notify::set_virq_handler(virq, &guest.dom);
    assert_eq!(virq_taker(virq), DomId::DOM0);
}

/// Whichever call takes the last frame off a dying domain's charge reports that the domain is empty.
#[test]
fn a_charge_that_is_given_back_keeps_no_domain() {
    let (tools, guest) = (Toolstack::new(), Guest::new());
    guest.dom.pages.charge(1).unwrap();
    tools
        .plain(abi::XEN_DOMCTL_DESTROYDOMAIN, guest.id())
        .unwrap();
    assert!(domain::lookup(guest.dom.id()).is_some());
    machine().uncharge(&guest.dom.pages, 1);
    assert!(goes(guest.dom.id()));
}

/// A kernel that wants to hide the machine-to-physical table from its programs learns that this is not supported.
#[test]
fn an_assist_without_effect_is_refused() {
    use guest_pv_abi::xen::{VMASST_CMD_ENABLE, VMASST_TYPE_M2P_STRICT};
    let guest = Guest::new();
    let enable =
        |assist: u32| guest.call(nr::VM_ASSIST, &[VMASST_CMD_ENABLE.into(), assist.into()]);
    assert_eq!(enable(VMASST_TYPE_M2P_STRICT), Err(errno::EINVAL));
}

/// A dead domain's shared_info frame may have a new owner, so it is not written any more.
#[test]
fn nothing_is_told_to_the_dead() {
    let (tools, guest) = (Toolstack::new(), Guest::new());
    let held = machine().get_any_page(guest.frame()).unwrap();
    tools
        .plain(abi::XEN_DOMCTL_DESTROYDOMAIN, guest.id())
        .unwrap();
    let shared = guest.dom.shared;
    let words = || (0..512).map(|n| shared.u64(n * 8).unwrap().load(SeqCst));
    let before: std::vec::Vec<u64> = words().collect();
    let mut body = abi::SetTimeOffset {
        time_offset_seconds: 3600,
    };
    tools
        .call(abi::XEN_DOMCTL_SETTIMEOFFSET, guest.id(), &mut body)
        .unwrap();
    assert!(words().eq(before));
    drop(held);
}

/// As above, for reads: the frame may still hold what the domain left in it.
#[test]
fn nothing_is_read_from_what_was_the_deads() {
    let (tools, guest) = (Toolstack::new(), Guest::new());
    let held = machine().get_any_page(guest.frame()).unwrap();
    const MAX_PFN: usize = core::mem::offset_of!(SharedInfo, arch);
    guest.dom.shared.u64(MAX_PFN).unwrap().store(0x1235, SeqCst);
    let vcpu = &guest.dom.vcpus()[0];
    vcpu.info.upcall_mask().store(0, SeqCst);
    vcpu.descheduled().unwrap().initialised = true;
    let mut set = abi::VcpuContext {
        vcpu: 0,
        _gap0: [0; 4],
        ctxt: tools.more(),
    };
    let mut masked = || -> u8 {
        tools
            .call(abi::XEN_DOMCTL_GETVCPUCONTEXT, guest.id(), &mut set)
            .unwrap();
        let seen: VcpuGuestContext = tools.0.read(tools.more().0);
        seen.user_regs.saved_upcall_mask
    };
    let max_gpfn = || {
        let mut id = guest.id();
        tools.0.with(nr::MEMORY_OP, XENMEM_MAXIMUM_GPFN, &mut id)
    };
    assert_eq!((masked(), max_gpfn()), (0, Ok(0x1234)));
    tools
        .plain(abi::XEN_DOMCTL_DESTROYDOMAIN, guest.id())
        .unwrap();
    assert_eq!((masked(), max_gpfn()), (1, Err(errno::EINVAL)));
    drop(held);
}
