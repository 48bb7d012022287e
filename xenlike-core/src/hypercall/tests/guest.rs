//! A domain whose vCPU 0 makes the calls, with memory for their arguments.

use crate::kit::atomic::{AtomicU64, Ordering};
use alloc::sync::Arc;

use guest_pv_abi::Width;
use guest_pv_abi::domctl::CreateDomain;
use guest_pv_abi::errno::Errno;
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes};

use crate::arch::frame::TrapFrame;
use crate::arch::percpu;
use crate::domain::notify::SCHED;
use crate::domain::{Domain, Rights};
use crate::hypercall::{self, Ctx, Outcome};
use crate::kit::{Mfn, Vaddr};
use crate::life::{create, destroy, vcpus};
use crate::mm::alloc::Where;
use crate::mm::guest::{self as memory, map_fake};
use crate::pagetype::{Charge, machine};

/// Number of pages of argument memory.
const PAGES: u64 = 4;

/// A guest that makes hypercalls.
pub(super) struct Guest {
    pub dom: Arc<Domain>,
    /// Address of its argument memory.
    pub at: u64,
}

impl Guest {
    /// A guest with two vCPUs and memory for a few frames.
    pub fn new() -> Self {
        Self::with_rights(Rights::None)
    }

    pub fn with_rights(rights: Rights) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0x7000_0000);
        percpu::set_online(percpu::this_cpu());
        let _ = SCHED.bring_online(percpu::this_cpu());
        let mut config = CreateDomain::new_zeroed();
        config.max_vcpus = 2;
        config.max_evtchn_port = 1023;
        config.max_grant_frames = 4;
        config.max_maptrack_frames = 4;
        config.grant_opts = 2;
        let dom = create::create(None, rights, &config).expect("a domain");
        vcpus::make_all(&dom).expect("vCPUs");
        dom.pages.set_max(32);
        let at = NEXT.fetch_add((PAGES + 1) << 12, Ordering::Relaxed);
        map_fake(Vaddr(at), PAGES);
        Self { dom, at }
    }

    /// Allocates another frame for the guest.
    pub fn frame(&self) -> Mfn {
        machine()
            .allocate(&self.dom.pages, 0, Where::ANY, Charge::Counted)
            .expect("a frame")
    }

    /// Makes a call, with all its continuations.
    pub fn call(&self, number: u64, args: &[u64]) -> Result<i64, Errno> {
        let mut words = [0; 4];
        words[..args.len()].copy_from_slice(args);
        let mut args = words;
        let vcpu = &self.dom.vcpus()[0];
        let mut regs = TrapFrame::default();
        loop {
            let mut st = vcpu.descheduled().expect("nobody else runs it");
            let mut ctx = Ctx {
                vcpu,
                dom: &self.dom,
                st: &mut st,
                regs: &mut regs,
            };
            match hypercall::call(&mut ctx, number, &mut args) {
                Outcome::Done(value) => return Errno::check(value).map(|value| value as i64),
                Outcome::Again => {}
                other => panic!("{other:?}"),
            }
        }
    }

    /// Makes a call with a limited number of continuations, and ignores the result.
    pub fn try_call(&self, number: u64, args: [u64; 4]) {
        let vcpu = &self.dom.vcpus()[0];
        let (mut args, mut regs) = (args, TrapFrame::default());
        for _ in 0..100 {
            let mut st = vcpu.descheduled().expect("nobody else runs it");
            let mut ctx = Ctx {
                vcpu,
                dom: &self.dom,
                st: &mut st,
                regs: &mut regs,
            };
            match hypercall::call(&mut ctx, number, &mut args) {
                Outcome::Again => {}
                _ => return,
            }
        }
    }

    /// Makes a call with a command and a structure, and reads the structure back.
    pub fn with<T: FromBytes + IntoBytes + Immutable>(
        &self,
        number: u64,
        command: u32,
        argument: &mut T,
    ) -> Result<i64, Errno> {
        self.write(self.at, argument);
        let result = self.call(number, &[command.into(), self.at, 1]);
        *argument = self.read(self.at);
        result
    }

    pub fn write<T: IntoBytes + Immutable>(&self, at: u64, value: &T) {
        memory::Guest::loaded(Width::Wide)
            .write_bytes(Vaddr(at), value.as_bytes())
            .expect("the guest's own memory");
    }

    pub fn read<T: FromBytes + IntoBytes>(&self, at: u64) -> T {
        memory::Guest::loaded(Width::Wide)
            .read_as_is(Vaddr(at))
            .expect("the guest's own memory")
    }

    /// An address where no memory is mapped.
    pub fn bad(&self) -> u64 {
        self.at + (PAGES << 12)
    }

    pub fn id(&self) -> u16 {
        self.dom.id().0
    }
}

impl Drop for Guest {
    /// Destroys the guest, and checks that every frame is freed.
    fn drop(&mut self) {
        while destroy::destroy(&self.dom) == destroy::Progress::Again {}
        assert!(self.dom.pages.is_empty() || std::thread::panicking());
    }
}
