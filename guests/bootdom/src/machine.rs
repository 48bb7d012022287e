//! The platform of the shell: the hypervisor, the console, the modules.

use alloc::boxed::Box;
use alloc::rc::Rc;

use dom0_tools::hyper::{Arena, CallError, DomId, Hypercalls, Mfn};
use dom0_tools::ops::Created;
use dom0_tools::shell::{FileList, Leave, Platform, Ring, Terminal};
use dom0_tools::store::Page;
use xenlike_rt::abi::{Errno, sched};
use xenlike_rt::{console, time};

use crate::files::Modules;
use crate::ring::ConsoleRing;
use crate::store::StorePage;
use xenlike_door::Door;

/// The hypervisor's console, as the user's screen.
pub struct Screen;

impl Terminal for Screen {
    fn print(&self, text: &[u8]) {
        console::write(text);
    }
}

/// The platform of the shell.
pub struct Machine {
    door: Door,
    files: Rc<Modules>,
}

impl Machine {
    /// Creates the platform, with these files.
    pub fn new(door: Door, files: Rc<Modules>) -> Machine {
        Machine { door, files }
    }
}

impl Hypercalls for Machine {
    fn arena(&mut self) -> Arena<'_> {
        self.door.arena()
    }

    fn call(&mut self, number: u64, args: [u64; 5]) -> Result<u64, Errno> {
        self.door.call(number, args)
    }

    fn with_frames(
        &mut self,
        dom: DomId,
        frames: &[Mfn],
        access: &mut dyn FnMut(&mut [u8]),
    ) -> Result<(), Errno> {
        self.door.with_frames(dom, frames, access)
    }

    fn read_frames(
        &mut self,
        dom: DomId,
        frames: &[Mfn],
        look: &mut dyn FnMut(&[u8]),
    ) -> Result<(), Errno> {
        self.door.read_frames(dom, frames, look)
    }
}

impl Platform for Machine {
    fn terminal(&self) -> Rc<dyn Terminal> {
        Rc::new(Screen)
    }

    fn now_ns(&self) -> u64 {
        time::now_ns()
    }

    fn files(&self) -> Rc<dyn FileList> {
        self.files.clone()
    }

    fn open_console(&mut self, created: &Created) -> Result<Box<dyn Ring>, CallError> {
        match ConsoleRing::open(created) {
            Ok(ring) => Ok(Box::new(ring)),
            Err(errno) => Err(CallError {
                what: "open the domain's console",
                errno,
            }),
        }
    }

    fn open_store(&mut self, created: &Created) -> Result<Box<dyn Page>, CallError> {
        match StorePage::open(created) {
            Ok(page) => Ok(Box::new(page)),
            Err(errno) => Err(CallError {
                what: "open the domain's Xenstore ring",
                errno,
            }),
        }
    }

    fn leave(&mut self, how: Leave) {
        xenlike_rt::shutdown(match how {
            Leave::PowerOff => sched::SHUTDOWN_POWEROFF,
            Leave::Reboot => sched::SHUTDOWN_REBOOT,
        })
    }
}
