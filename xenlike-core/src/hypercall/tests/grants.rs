//! Tests of grant_table_op.

use crate::kit::atomic::Ordering;

use guest_pv_abi::GuestHandle;
use guest_pv_abi::errno::{self, Errno};
use guest_pv_abi::grant_table::*;
use guest_pv_abi::hypercall::GRANT_TABLE_OP;
use zerocopy::FromZeros;

use super::guest::Guest;
use crate::domain::Rights;
use crate::kit::{DomId, Mfn};
use crate::mm::SharedPage;
use crate::pagetype::machine;

/// Sets up the guest's table with this number of frames.
fn setup(guest: &Guest, dom: u16, frames: u32) -> Result<(i16, Mfn), Errno> {
    let list = guest.at + 0x800;
    let mut op = GnttabSetupTable::new_zeroed();
    (op.dom, op.nr_frames, op.frame_list) = (dom, frames, GuestHandle(list));
    guest.with(GRANT_TABLE_OP, GNTTABOP_SETUP_TABLE, &mut op)?;
    Ok((op.status, Mfn(guest.read(list))))
}

fn grant(table: Mfn, r: usize, to: u16, frame: Mfn) {
    let page = SharedPage::new(table).unwrap();
    page.u32(r * 8 + 4)
        .unwrap()
        .store(frame.0 as u32, Ordering::SeqCst);
    let word = u32::from(GTF_PERMIT_ACCESS) | u32::from(to) << 16;
    page.u32(r * 8).unwrap().store(word, Ordering::SeqCst);
}

#[test]
fn tables_grow_to_their_limit() {
    let guest = Guest::new();
    let size = |guest: &Guest, dom| {
        let mut op = GnttabQuerySize::new_zeroed();
        op.dom = dom;
        guest
            .with(GRANT_TABLE_OP, GNTTABOP_QUERY_SIZE, &mut op)
            .unwrap();
        (op.status, op.nr_frames, op.max_nr_frames)
    };
    let before = guest.dom.pages.total();
    assert_eq!(size(&guest, DomId::SELF.0), (GNTST_OKAY, 1, 4));
    assert_eq!(setup(&guest, DomId::SELF.0, 2).unwrap().0, GNTST_OKAY);
    assert_eq!(size(&guest, DomId::SELF.0), (GNTST_OKAY, 2, 4));
    assert_eq!(
        setup(&guest, DomId::SELF.0, 5).unwrap().0,
        GNTST_GENERAL_ERROR
    );
    assert_eq!(guest.dom.pages.total(), before);
    let other = Guest::new();
    assert_eq!(
        setup(&other, guest.id(), 1).unwrap().0,
        GNTST_PERMISSION_DENIED
    );
    assert_eq!(size(&other, guest.id()).0, GNTST_PERMISSION_DENIED);
    assert_eq!(size(&other, 0x7000).0, GNTST_BAD_DOMAIN);
    assert_eq!(size(&other, DomId::BOOT.0).0, GNTST_BAD_DOMAIN);
    let control = Guest::with_rights(Rights::Control);
    assert_eq!(size(&control, guest.id()), (GNTST_OKAY, 2, 4));
}

#[test]
fn versions() {
    let guest = Guest::new();
    let set = |version| {
        let mut op = GnttabSetVersion { version };
        let result = guest.with(GRANT_TABLE_OP, GNTTABOP_SET_VERSION, &mut op);
        (result, op.version)
    };
    let get = || {
        let mut op = GnttabGetVersion {
            dom: DomId::SELF.0,
            pad: 0,
            version: 0,
        };
        guest
            .with(GRANT_TABLE_OP, GNTTABOP_GET_VERSION, &mut op)
            .unwrap();
        op.version
    };
    let status_frames = |nr_frames| {
        let list = guest.at + 0x800;
        let mut op = GnttabGetStatusFrames::new_zeroed();
        (op.dom, op.nr_frames, op.frame_list) = (DomId::SELF.0, nr_frames, GuestHandle(list));
        guest
            .with(GRANT_TABLE_OP, GNTTABOP_GET_STATUS_FRAMES, &mut op)
            .unwrap();
        (op.status, Mfn(guest.read(list)))
    };
    assert_eq!(set(1), (Ok(0), 1));
    assert_eq!(set(0), (Err(errno::EINVAL), 1));
    assert_eq!(set(3), (Err(errno::EINVAL), 1));
    assert_eq!(status_frames(1).0, GNTST_GENERAL_ERROR);
    assert_eq!((set(2), get()), ((Ok(0), 2), 2));
    // Status words belong to frames of entries, of which there are none yet.
    setup(&guest, DomId::SELF.0, 1).unwrap();
    let (told, status) = status_frames(1);
    assert_eq!(told, GNTST_OKAY);
    assert_eq!(status_frames(2).0, GNTST_GENERAL_ERROR);
    // The frame has another reference, as a mapping would hold.
    let mapped = machine().get_page(status, guest.dom.id()).unwrap();
    assert_eq!(set(1), (Err(errno::EBUSY), 2));
    drop(mapped);
    assert_eq!((set(1), get()), ((Ok(0), 1), 1));
    assert_eq!(status_frames(1).0, GNTST_GENERAL_ERROR);
}

#[test]
fn a_device_mapping_comes_and_goes() {
    let (granter, user) = (Guest::new(), Guest::new());
    let (_, table) = setup(&granter, DomId::SELF.0, 1).unwrap();
    let frame = granter.frame();
    grant(table, 9, user.id(), frame);
    let mut op = GnttabMapGrantRef::new_zeroed();
    (op.dom, op.ref_, op.flags) = (granter.id(), 9, GNTMAP_DEVICE_MAP);
    // A domain without device rights would only use up handles with such a mapping.
    user.with(GRANT_TABLE_OP, GNTTABOP_MAP_GRANT_REF, &mut op)
        .unwrap();
    assert_eq!(op.status, GNTST_PERMISSION_DENIED);
    user.dom.pages.give_device_rights();
    user.with(GRANT_TABLE_OP, GNTTABOP_MAP_GRANT_REF, &mut op)
        .unwrap();
    assert_eq!((op.status, op.dev_bus_addr), (GNTST_OKAY, frame.maddr().0));
    let mut off = GnttabUnmapGrantRef::new_zeroed();
    (off.handle, off.dev_bus_addr) = (op.handle, op.dev_bus_addr);
    user.with(GRANT_TABLE_OP, GNTTABOP_UNMAP_GRANT_REF, &mut off)
        .unwrap();
    assert_eq!(off.status, GNTST_OKAY);
    user.with(GRANT_TABLE_OP, GNTTABOP_UNMAP_GRANT_REF, &mut off)
        .unwrap();
    assert_eq!(off.status, GNTST_BAD_HANDLE);
    op.dom = DomId::SELF.0;
    user.with(GRANT_TABLE_OP, GNTTABOP_MAP_GRANT_REF, &mut op)
        .unwrap();
    assert_eq!(op.status, GNTST_BAD_DOMAIN);
}

#[test]
fn copies_and_transfers() {
    let (granter, user) = (Guest::new(), Guest::new());
    let (_, table) = setup(&granter, DomId::SELF.0, 1).unwrap();
    let (frame, own) = (granter.frame(), user.frame());
    SharedPage::new(frame)
        .unwrap()
        .u64(0)
        .unwrap()
        .store(77, Ordering::SeqCst);
    grant(table, 0, user.id(), frame);
    let mut op = GnttabCopy::new_zeroed();
    (op.source.u, op.source.domid) = (0, granter.id());
    (op.dest.u, op.dest.domid, op.dest.offset) = (own.0, DomId::SELF.0, 8);
    (op.len, op.flags) = (8, GNTCOPY_SOURCE_GREF);
    user.with(GRANT_TABLE_OP, GNTTABOP_COPY, &mut op).unwrap();
    assert_eq!(op.status, GNTST_OKAY);
    assert_eq!(
        SharedPage::new(own)
            .unwrap()
            .u64(8)
            .unwrap()
            .load(Ordering::SeqCst),
        77
    );
    (op.flags, op.source.u) = (0, frame.0);
    user.with(GRANT_TABLE_OP, GNTTABOP_COPY, &mut op).unwrap();
    assert_eq!(op.status, GNTST_PERMISSION_DENIED);

    let word = u32::from(GTF_ACCEPT_TRANSFER) | u32::from(user.id()) << 16;
    let page = SharedPage::new(table).unwrap();
    page.u32(12).unwrap().store(5, Ordering::SeqCst);
    page.u32(8).unwrap().store(word, Ordering::SeqCst);
    let mut give = GnttabTransfer::new_zeroed();
    (give.mfn, give.domid, give.ref_) = (own.0, granter.id(), 1);
    let had = (granter.dom.pages.total(), user.dom.pages.total());
    user.with(GRANT_TABLE_OP, GNTTABOP_TRANSFER, &mut give)
        .unwrap();
    assert_eq!(give.status, GNTST_OKAY);
    assert_eq!(
        (granter.dom.pages.total(), user.dom.pages.total()),
        (had.0 + 1, had.1 - 1)
    );
    assert_eq!(page.u32(12).unwrap().load(Ordering::SeqCst), own.0 as u32);
    // The frame now belongs to the other domain.
    user.with(GRANT_TABLE_OP, GNTTABOP_TRANSFER, &mut give)
        .unwrap();
    assert_eq!(give.status, GNTST_BAD_PAGE);
}

#[test]
fn bad_lists() {
    let guest = Guest::new();
    let call = |command: u32, at, count| guest.call(GRANT_TABLE_OP, &[command.into(), at, count]);
    for command in (0..=GNTTABOP_CACHE_FLUSH).filter(|c| *c != GNTTABOP_DUMP_TABLE) {
        for bad in [
            guest.bad(),
            0,
            0x8000_0000_0000,
            0xffff_8300_0000_0000,
            u64::MAX,
        ] {
            assert_eq!(
                call(command, bad, 1),
                Err(errno::EFAULT),
                "sub-operation {command}"
            );
        }
        assert_eq!(call(command, guest.at, 0x8000_0000), Err(errno::EINVAL));
    }
    for single in [
        GNTTABOP_SETUP_TABLE,
        GNTTABOP_QUERY_SIZE,
        GNTTABOP_SET_VERSION,
    ] {
        assert_eq!(call(single, guest.at, 2), Err(errno::EINVAL));
    }
    assert_eq!(call(GNTTABOP_MAP_GRANT_REF, guest.bad(), 0), Ok(0));
    assert_eq!(call(GNTTABOP_DUMP_TABLE, guest.at, 1), Err(errno::ENOSYS));
    assert_eq!(call(99, guest.at, 1), Err(errno::ENOSYS));
    // A list that ends at an unmapped page: the elements before it have been processed.
    let at = guest.bad() - size_of::<GnttabMapGrantRef>() as u64;
    assert_eq!(
        call(GNTTABOP_MAP_GRANT_REF, at, u64::from(i32::MAX as u32)),
        Err(errno::EFAULT)
    );
    assert_eq!(guest.read::<GnttabMapGrantRef>(at).status, GNTST_BAD_GNTREF);
}
