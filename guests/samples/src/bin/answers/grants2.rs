//! Grant tables of version 2. This domain grants to itself.

use core::sync::atomic::{AtomicU16, Ordering, fence};

use xenlike_rt::abi::errno::{self, Errno};
use xenlike_rt::abi::grant_table::*;
use xenlike_rt::abi::xen::DOMID_SELF;
use xenlike_rt::abi::{GuestHandle, Long};
use xenlike_rt::memory::{self, mfn_of, pfn_of};
use xenlike_rt::paging::{Access, Window};
use xenlike_rt::{from_long, hyper, start_info};
use zerocopy::FromZeros;

use crate::check;

/// Number of version 2 entries in a frame.
const PER_FRAME: u32 = 256;
/// The first entry that isn't reserved for the toolstack.
const R: u32 = GNTTAB_NR_RESERVED_ENTRIES;

fn set_version(version: u32) -> (Result<u64, Errno>, u32) {
    let mut op = [GnttabSetVersion { version }];
    let set = hyper::grant_table_op(GNTTABOP_SET_VERSION, &mut op);
    (set, core::hint::black_box(op[0]).version)
}

fn version() -> u32 {
    let mut op = [GnttabGetVersion {
        dom: DOMID_SELF,
        ..GnttabGetVersion::new_zeroed()
    }];
    let asked = hyper::grant_table_op(GNTTABOP_GET_VERSION, &mut op);
    assert!(asked.is_ok(), "get_version: {asked:?}");
    core::hint::black_box(op[0]).version
}

/// Machine frame of the first entries.
fn entries() -> u64 {
    let mut frame: Long = 0;
    let mut op = [GnttabSetupTable {
        dom: DOMID_SELF,
        nr_frames: 1,
        frame_list: GuestHandle::of_mut(&mut frame),
        ..GnttabSetupTable::new_zeroed()
    }];
    let asked = hyper::grant_table_op(GNTTABOP_SETUP_TABLE, &mut op);
    assert!(asked.is_ok(), "setup_table: {asked:?}");
    from_long(core::hint::black_box(frame))
}

/// The status of a request for `nr_frames` frames of status words, and the first of the frames.
fn status_frames(nr_frames: u32) -> (i16, u64) {
    let mut frames = [0u64; 2];
    let mut op = [GnttabGetStatusFrames {
        nr_frames,
        dom: DOMID_SELF,
        frame_list: GuestHandle::of_mut(&mut frames[0]),
        ..GnttabGetStatusFrames::new_zeroed()
    }];
    let asked = hyper::grant_table_op(GNTTABOP_GET_STATUS_FRAMES, &mut op);
    assert!(asked.is_ok(), "get_status_frames: {asked:?}");
    let frames = core::hint::black_box(frames);
    (core::hint::black_box(op[0]).status, frames[0])
}

/// A table of version 2, mapped.
struct Table {
    entries: Window,
    status: Window,
}

impl Table {
    fn write(&self, reference: u32, entry: GrantEntryV2) {
        let at = self.entries.as_ptr().cast::<GrantEntryV2>();
        let at = at.wrapping_add(reference as usize);
        // SAFETY: an entry of the mapped table; its flags are written last.
        unsafe {
            at.write_volatile(GrantEntryV2 { flags: 0, ..entry });
            fence(Ordering::Release);
            (&raw mut (*at).flags).write_volatile(entry.flags);
        }
    }

    fn status(&self, reference: u32) -> u16 {
        let at = self.status.as_ptr().cast::<u16>();
        // SAFETY: a status word of the mapped table.
        let word = unsafe { AtomicU16::from_ptr(at.wrapping_add(reference as usize)) };
        word.load(Ordering::Acquire)
    }
}

fn own_id() -> u16 {
    // This is made for Domain-0, as are the test kernels that it stands for.
    assert!(start_info().flags & 1 != 0, "made for Domain-0");
    0
}

fn map(reference: u32, at: &Window) -> (i16, u32) {
    let mut op = [GnttabMapGrantRef {
        host_addr: at.address(),
        flags: GNTMAP_HOST_MAP,
        ref_: reference,
        dom: own_id(),
        ..GnttabMapGrantRef::new_zeroed()
    }];
    let called = hyper::grant_table_op(GNTTABOP_MAP_GRANT_REF, &mut op);
    assert!(called.is_ok(), "map_grant_ref: {called:?}");
    let answer = core::hint::black_box(op[0]);
    (answer.status, answer.handle)
}

fn unmap(handle: u32, at: &Window) -> i16 {
    let mut op = [GnttabUnmapGrantRef {
        host_addr: at.address(),
        handle,
        ..GnttabUnmapGrantRef::new_zeroed()
    }];
    let called = hyper::grant_table_op(GNTTABOP_UNMAP_GRANT_REF, &mut op);
    assert!(called.is_ok(), "unmap_grant_ref: {called:?}");
    core::hint::black_box(op[0]).status
}

/// Copies `len` bytes from the grant's byte `offset` to the start of frame `to`.
fn copy(reference: u32, offset: u16, len: u16, to: u64) -> i16 {
    let mut op = [GnttabCopy {
        source: GnttabCopyPtr {
            u: reference as Long,
            domid: own_id(),
            offset,
            ..GnttabCopyPtr::new_zeroed()
        },
        dest: GnttabCopyPtr {
            u: to as Long,
            domid: DOMID_SELF,
            ..GnttabCopyPtr::new_zeroed()
        },
        len,
        flags: GNTCOPY_SOURCE_GREF,
        ..GnttabCopy::new_zeroed()
    }];
    let called = hyper::grant_table_op(GNTTABOP_COPY, &mut op);
    assert!(called.is_ok(), "copy: {called:?}");
    core::hint::black_box(op[0]).status
}

/// Allocates a page; returns it and its frame.
fn page() -> (*mut u8, u64) {
    let page = memory::allocate_page().expect("a page");
    let frame = mfn_of(pfn_of(page.addr() as u64)).expect("a frame");
    (page, frame)
}

pub fn run() {
    check("a table begins as version 1", version() == 1);
    check(
        "no status frames yet",
        status_frames(1).0 == GNTST_GENERAL_ERROR,
    );
    check("version 0", set_version(0) == (Err(errno::EINVAL), 1));
    check("version 3", set_version(3) == (Err(errno::EINVAL), 1));
    let frame = entries();
    check("version 2", set_version(2) == (Ok(0), 2));
    check("version 2 again", set_version(2) == (Ok(0), 2));
    check("it is version 2", version() == 2);
    check("more status frames than there are", {
        status_frames(2).0 == GNTST_GENERAL_ERROR
    });
    let (told, status) = status_frames(1);
    check("the status frame", told == GNTST_OKAY);
    check("the same frame of entries", entries() == frame);
    let table = Table {
        entries: Window::map(&[frame], DOMID_SELF, Access::ReadWrite).expect("the entries"),
        status: Window::map(&[status], DOMID_SELF, Access::ReadWrite).expect("the status words"),
    };
    uses(&table);
    parts(&table);
    let Table { entries, status } = table;
    check(
        "status frames are mapped",
        set_version(1) == (Err(errno::EBUSY), 2),
    );
    drop(status);
    check("back to version 1", set_version(1) == (Ok(0), 1));
    check(
        "no status frames any more",
        status_frames(1).0 == GNTST_GENERAL_ERROR,
    );
    drop(entries);
}

/// Tests entries for whole pages.
fn uses(table: &Table) {
    let (_, frame) = page();
    let at = Window::reserve(1).expect("a place");
    at.prepare().expect("its tables");
    let grant = |flags| GrantEntryV2 {
        flags,
        domid: own_id(),
        first: 0,
        length: 0,
        frame,
    };
    table.write(R, grant(GTF_PERMIT_ACCESS));
    let (mapped, handle) = map(R, &at);
    check("a grant of version 2 is mapped", mapped == GNTST_OKAY);
    let shown = table.status(R);
    check(
        "its status word shows it",
        shown == GTF_READING | GTF_WRITING,
    );
    check("no other version while it is in use", {
        set_version(1) == (Err(errno::EBUSY), 2)
    });
    check("it is unmapped", unmap(handle, &at) == GNTST_OKAY);
    check("its status word shows that", table.status(R) == 0);
    table.write(R, grant(GTF_PERMIT_ACCESS | GTF_READONLY));
    check("a read-only grant isn't mapped writable", {
        map(R, &at).0 == GNTST_GENERAL_ERROR && table.status(R) == 0
    });
    check(
        "the last entry is empty",
        map(PER_FRAME - 1, &at).0 == GNTST_GENERAL_ERROR,
    );
    check(
        "the next is beyond the table",
        map(PER_FRAME, &at).0 == GNTST_BAD_GNTREF,
    );
    table.write(R, grant(0));
}

/// Tests entries for parts of pages, and transitive ones.
fn parts(table: &Table) {
    let (words, frame) = page();
    let (_, to) = page();
    // SAFETY: this guest's own page.
    unsafe { words.write_bytes(7, 4096) };
    let at = Window::reserve(1).expect("a place");
    at.prepare().expect("its tables");
    let part = GrantEntryV2 {
        flags: GTF_PERMIT_ACCESS | GTF_SUB_PAGE,
        domid: own_id(),
        first: 256,
        length: 64,
        frame,
    };
    table.write(R, part);
    check("a part isn't mapped", map(R, &at).0 == GNTST_GENERAL_ERROR);
    check("a part is copied", copy(R, 256, 64, to) == GNTST_OKAY);
    check(
        "one byte before it isn't",
        copy(R, 255, 2, to) == GNTST_GENERAL_ERROR,
    );
    check(
        "one byte behind it isn't",
        copy(R, 319, 2, to) == GNTST_GENERAL_ERROR,
    );
    check(
        "what leaves the page isn't",
        copy(R, 4095, 2, to) == GNTST_BAD_COPY_ARG,
    );
    check(
        "a reference that isn't there is told first",
        copy(u32::MAX, 4095, 2, to) == GNTST_BAD_GNTREF,
    );
    check("the part is unused again", table.status(R) == 0);
    let through = |first, frame| GrantEntryV2 {
        flags: GTF_TRANSITIVE,
        first,
        frame,
        ..part
    };
    table.write(R + 1, through(own_id(), R.into()));
    check(
        "a transitive grant isn't mapped",
        map(R + 1, &at).0 == GNTST_GENERAL_ERROR,
    );
    check(
        "not through the same domain",
        copy(R + 1, 256, 8, to) == GNTST_GENERAL_ERROR,
    );
    table.write(R + 1, through(1234, R.into()));
    check(
        "not through no domain",
        copy(R + 1, 256, 8, to) == GNTST_GENERAL_ERROR,
    );
    check("nor is it in use then", table.status(R + 1) == 0);
    for reference in [R, R + 1] {
        table.write(reference, GrantEntryV2::new_zeroed());
    }
}
