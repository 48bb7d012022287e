//! The domain builder for PV kernels, wide (64-bit) and narrow (32-bit with PAE): turns an [`Image`] into a paused domain that is ready to run.
//!
//! `layout` plans the address space, `memory` allocates and writes the frames, `tables` makes the page
//! tables, and `start` the start info page and the first vCPU's registers. Domain-0 and all other domains are
//! built by the same code.

mod layout;
mod memory;
mod start;
mod tables;

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use guest_pv_abi::Width;
use zerocopy::IntoBytes;

use crate::hyper::{self, CallError, DomId, Hypercalls, Mfn, PAGE, Port};
use crate::image::{Image, ImageError, Part, PvKernel, Role};

pub use layout::{Layout, Span, Wishes};
use memory::{DomainMemory, Head};

/// The contents of a new domain, which exists already but has no memory.
#[derive(Debug)]
pub struct Contents<'a> {
    /// The kernel image.
    pub image: &'a Image<'a>,
    /// The initial RAM disk, if any.
    pub initrd: Option<&'a [u8]>,
    /// The kernel's command line.
    pub cmdline: &'a str,
    /// Number of pages of memory.
    pub pages: u64,
    /// Whether the domain is a control domain.
    pub kind: Kind,
}

/// The kinds of domains that are built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The control domain, domain 0.
    Dom0 {
        /// The screen that it inherits, a `dom0_vga_console_info` (xen.h); may be empty.
        screen: [u8; 40],
        /// Number of bytes of `screen` that are valid.
        screen_bytes: u32,
    },
    /// Any other domain, with its event channels.
    Guest {
        /// The domain that serves its console and its store.
        backend: DomId,
        /// Its port for the console.
        console: Port,
        /// Its port for Xenstore, if a Xenstore serves it.
        store: Option<Port>,
    },
}

/// The frames of a built domain that other parties need.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Built {
    /// Machine frame of the console ring.
    pub console: Mfn,
    /// Machine frame of the Xenstore ring.
    pub store: Mfn,
}

/// Receives the progress of long operations.
pub trait Progress {
    /// A file that unpacks to this many bytes is being unpacked.
    fn unpacking(&mut self, _file: &str, _bytes: u64) {}
    /// `done` of `all` pages have been allocated.
    fn memory(&mut self, _done: u64, _all: u64) {}
    /// This many bytes of kernel and initrd are being loaded.
    fn loading(&mut self, _bytes: u64) {}
}

/// Ignores all progress.
impl Progress for () {}

/// Why a domain could not be built. Prints as one sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BuildError {
    /// The kernel image can't be used.
    Image(ImageError),
    /// The parts don't fit together; the text says which.
    Layout(String),
    /// The hypervisor refused a call.
    Call(CallError),
    /// The machine has too little free memory.
    OutOfMemory {
        /// Number of pages that were free.
        have: u64,
        /// Number of pages that the domain needs.
        want: u64,
    },
    /// The builder's list of frames doesn't fit into its own memory.
    TooLarge {
        /// Number of pages of the domain to build.
        pages: u64,
    },
    /// The hypervisor gave a 32-bit domain a frame whose number or address exceeds 32 bits.
    Unreachable,
    /// The plan and its execution disagree, which is a bug of this program.
    Planner,
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BuildError::Image(error) => error.fmt(f),
            BuildError::Layout(cause) => f.write_str(cause),
            BuildError::Call(error) => error.fmt(f),
            BuildError::OutOfMemory { have, want } => {
                let (have, want) = (have / 256, want.div_ceil(256));
                write!(
                    f,
                    "not enough free memory: the domain wants {want} MiB, there were only {have} MiB"
                )
            }
            BuildError::TooLarge { pages } => {
                write!(
                    f,
                    "memory of {} MiB is more than can be managed here",
                    pages.div_ceil(256)
                )
            }
            BuildError::Unreachable => {
                f.write_str("the hypervisor gave the 32-bit domain memory that it can't address")
            }
            BuildError::Planner => f.write_str("the domain builder contradicts itself (a bug)"),
        }
    }
}

impl core::error::Error for BuildError {}

impl From<CallError> for BuildError {
    fn from(error: CallError) -> BuildError {
        BuildError::Call(error)
    }
}

impl From<ImageError> for BuildError {
    fn from(error: ImageError) -> BuildError {
        BuildError::Image(error)
    }
}

/// Checks that the contents fit together, before a domain is created.
///
/// # Errors
/// A message about the image or the memory size.
pub fn plan(contents: &Contents) -> Result<(PvKernel, Layout), BuildError> {
    let role = match contents.kind {
        Kind::Dom0 { .. } => Role::Dom0,
        Kind::Guest { .. } => Role::Guest,
    };
    let kernel = contents.image.pv(role)?;
    let initrd_bytes = contents.initrd.map_or(0, |initrd| initrd.len() as u64);
    let wishes = Wishes {
        kernel: &kernel,
        initrd_bytes,
        pages: contents.pages,
    };
    let layout = Layout::plan(&wishes).map_err(BuildError::Layout)?;
    Ok((kernel, layout))
}

/// Builds the contents of the domain `dom`, which has its vCPUs and its memory limit but no memory,
/// and leaves it paused.
///
/// # Errors
/// A message about the cause. Destroying the domain frees what was done so far.
pub fn build<H: Hypercalls + ?Sized>(
    h: &mut H,
    dom: DomId,
    contents: &Contents,
    progress: &mut dyn Progress,
) -> Result<Built, BuildError> {
    let (kernel, layout) = plan(contents)?;
    let info = hyper::domain::info(h, dom)?;
    if kernel.width == Width::Narrow {
        hyper::domain::make_narrow(h, dom)?;
    }
    let low = kernel.low_root.then_some(layout.tables.first);
    let mut memory = DomainMemory::allocate(h, dom, contents.pages, low, progress)?;
    load(&mut memory, contents, &kernel, &layout, progress)?;
    start::write_start_info(&mut memory, contents, &layout, info.shared_info)?;
    write_p2m(&mut memory, &layout)?;
    write_tables(&mut memory, &layout)?;
    start::write_shared_info(&mut memory, &layout, info.shared_info)?;
    let built = Built {
        console: memory.frame(layout.console)?,
        store: memory.frame(layout.store)?,
    };
    let root = memory.frame(layout.tables.first)?;
    if let Some(page) = kernel.hypercall_page {
        let page = memory.frame(hyper::Pfn((page - kernel.virt_base) / PAGE as u64))?;
        hyper::domain::init_hypercall_page(memory.hypercalls, dom, page)?;
    }
    hyper::memory::pin_root(memory.hypercalls, dom, kernel.width, root)?;
    start::set_context(memory.hypercalls, dom, &kernel, &layout, root)?;
    if let Kind::Guest { backend, store, .. } = contents.kind {
        start::seed_grants(memory.hypercalls, dom, backend, &built, store.is_some())?;
    }
    Ok(built)
}

/// Copies the kernel and the initrd, and clears the pages of the rings and the stack.
fn load<H: Hypercalls + ?Sized>(
    memory: &mut DomainMemory<'_, H>,
    contents: &Contents,
    kernel: &PvKernel,
    layout: &Layout,
    progress: &mut dyn Progress,
) -> Result<(), BuildError> {
    let initrd = contents.initrd.unwrap_or_default();
    let mut parts: Vec<Part> = contents.image.parts().collect();
    let bytes: u64 = parts.iter().map(|part| part.memory_bytes).sum();
    progress.loading(bytes + initrd.len() as u64);
    parts.sort_by_key(|part| part.paddr.wrapping_add(kernel.virt_offset));
    let mut last_page = None;
    for part in parts {
        let from = part.paddr.wrapping_add(kernel.virt_offset) - kernel.virt_base;
        let (first, end) = (
            from / PAGE as u64,
            (from + part.memory_bytes).div_ceil(PAGE as u64),
        );
        // In a page that two parts share, the bytes of the earlier part are kept.
        let head = if last_page.is_some_and(|last| first < last) {
            Head::Keep
        } else {
            Head::Clear
        };
        last_page = Some(end);
        let span = Span {
            first: hyper::Pfn(first),
            pages: end - first,
        };
        memory.write_at(span, from as usize % PAGE, head, part.bytes)?;
    }
    if let Some(span) = layout.initrd {
        memory.write(span, initrd)?;
    }
    for page in [layout.store, layout.console, layout.stack] {
        memory.write(
            Span {
                first: page,
                pages: 1,
            },
            &[],
        )?;
    }
    Ok(())
}

fn write_p2m<H: Hypercalls + ?Sized>(
    memory: &mut DomainMemory<'_, H>,
    layout: &Layout,
) -> Result<(), BuildError> {
    let frames = memory.frames.iter();
    match layout.width {
        Width::Wide => {
            let entries: Vec<u64> = frames.map(|frame| frame.0).collect();
            memory.write(layout.p2m, entries.as_bytes())
        }
        Width::Narrow => {
            let entries = frames.map(|frame| frame.0.try_into());
            let entries: Vec<u32> = entries
                .collect::<Result<_, _>>()
                .map_err(|_| BuildError::Unreachable)?;
            memory.write(layout.p2m, entries.as_bytes())
        }
    }
}

fn write_tables<H: Hypercalls + ?Sized>(
    memory: &mut DomainMemory<'_, H>,
    layout: &Layout,
) -> Result<(), BuildError> {
    let tables = tables::fill(layout, &memory.frames).ok_or(BuildError::Planner)?;
    let (initial, list) = tables
        .split_at_checked(layout.tables.pages as usize)
        .ok_or(BuildError::Planner)?;
    memory.write(layout.tables, initial.as_bytes())?;
    memory.write(layout.p2m_tables, list.as_bytes())
}

#[cfg(test)]
mod narrow_tests;
#[cfg(test)]
mod tests;
