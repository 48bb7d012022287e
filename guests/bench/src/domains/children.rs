//! Creates other domains, as a toolstack does.

use alloc::format;
use alloc::string::String;
use core::mem::offset_of;
use core::sync::atomic::Ordering;

use dom0_tools::build::{self, Contents, Kind};
use dom0_tools::hyper::{self, DomId, NewDomain, Port, domain, event};
use dom0_tools::image::Image;
use dom0_tools::ops;
use xenlike_door::Door;
use xenlike_rt::abi::cpuid::XEN_CPUID_TSC_MODE_NEVER_EMULATE;
use xenlike_rt::abi::domctl::{
    Domctl, TscInfo, XEN_DOMCTL_INTERFACE_VERSION, XEN_DOMCTL_SETTSCINFO,
};
use xenlike_rt::abi::io_console::ConsInterface;
use xenlike_rt::abi::{Payload, hypercall};
use xenlike_rt::foreign::SharedPage;
use xenlike_rt::hyper::control;

use crate::meter::tsc;

/// KiB that a domain may have beyond its memory.
const EXTRA_KIB: u64 = 1024;
/// Highest event channel port that it may have.
const CHANNELS: u32 = 1023;

/// A domain that this one has created.
#[derive(Clone, Copy)]
pub struct Child {
    /// The child's id.
    pub id: DomId,
    /// The child's port of a channel to this domain.
    pub port: Port,
    /// Machine frame of its console ring.
    console: hyper::Mfn,
    /// Machine frame in which a busy child counts its turns: the page of its Xenstore ring,
    /// which is otherwise unused.
    count: hyper::Mfn,
}

/// Creates children from one image.
pub struct Nursery<'a> {
    door: Door,
    image: Image<'a>,
    /// Number of pages of a child's memory.
    pages: u64,
}

impl<'a> Nursery<'a> {
    /// Uses this program as the image, for children of `pages` pages.
    pub fn new(image: &'a [u8], pages: u64) -> Self {
        Self {
            door: Door::new().expect("memory for arguments"),
            image: Image::open("bench", image).expect("a kernel"),
            pages,
        }
    }

    /// Creates a domain without memory.
    pub fn create(&mut self) -> DomId {
        let new = NewDomain {
            handle: ops::random_uuid(tsc()),
            max_vcpus: 1,
            max_event_channels: CHANNELS,
            max_grant_frames: None,
            max_maptrack_frames: None,
            max_grant_version: Some(1),
        };
        let id = domain::create(&mut self.door, &new).expect("a domain");
        domain::set_max_vcpus(&mut self.door, id, 1).expect("a vCPU");
        let limit = self.pages * 4 + EXTRA_KIB;
        domain::set_max_memory(&mut self.door, id, limit).expect("a limit");
        share_counter(id);
        id
    }

    /// Gives the domain memory, the program and initial registers.
    pub fn build(&mut self, id: DomId, role: &str) -> Child {
        let console = event::alloc_unbound(&mut self.door, id, DomId::ZERO).expect("a port");
        let port = event::alloc_unbound(&mut self.door, id, DomId::ZERO).expect("a port");
        let cmdline = format!("role={role}");
        let contents = Contents {
            image: &self.image,
            initrd: None,
            cmdline: &cmdline,
            pages: self.pages,
            kind: Kind::Guest {
                backend: DomId::ZERO,
                console,
                store: Some(port),
            },
        };
        let built = build::build(&mut self.door, id, &contents, &mut ());
        let built = built.expect("built");
        Child {
            id,
            port,
            console: built.console,
            count: built.store,
        }
    }

    /// Lets the child run.
    pub fn start(&mut self, child: Child) {
        domain::unpause(&mut self.door, child.id).expect("started");
    }

    /// Pauses the child until it is started again.
    pub fn stop(&mut self, child: Child) {
        domain::pause(&mut self.door, child.id).expect("stopped");
    }

    /// Creates, builds and starts a child.
    pub fn raise(&mut self, role: &str) -> Child {
        let id = self.create();
        let child = self.build(id, role);
        self.start(child);
        child
    }

    /// Destroys the child.
    pub fn destroy(&mut self, child: Child) {
        self.discard(child.id);
    }

    /// Destroys a domain that has not been built yet.
    pub fn discard(&mut self, id: DomId) {
        domain::destroy(&mut self.door, id).expect("destroyed");
    }
}

/// Gives the child the machine's time-stamp counter, so that figures of both domains can be compared.
fn share_counter(id: DomId) {
    let info = TscInfo {
        tsc_mode: XEN_CPUID_TSC_MODE_NEVER_EMULATE,
        ..TscInfo::default()
    };
    let mut call = Domctl {
        cmd: XEN_DOMCTL_SETTSCINFO,
        interface_version: XEN_DOMCTL_INTERFACE_VERSION,
        domain: id.0,
        u: Payload::of(&info),
        ..Domctl::default()
    };
    control(hypercall::DOMCTL, &mut call).expect("the machine's counter");
}

impl Child {
    /// Number of turns that a busy child has had.
    pub fn turns(self) -> u64 {
        let page = SharedPage::map(self.id.0, self.count.0).expect("its count");
        u64::from(page.word(0).load(Ordering::Relaxed))
    }

    /// The child's console output so far, up to the ring's size.
    pub fn said(self) -> String {
        let page = SharedPage::map(self.id.0, self.console.0).expect("its console");
        let produced = page
            .word(offset_of!(ConsInterface, out_prod))
            .load(Ordering::Acquire);
        let ring = page.bytes(offset_of!(ConsInterface, out), 2048);
        let written = ring.iter().take(produced as usize);
        written
            .map(|byte| char::from(byte.load(Ordering::Relaxed)))
            .collect()
    }
}
