//! The boot domain on the host's fake machine.

use std::vec::Vec;

use guest_pv_abi::xenlike::BootImage;
use zerocopy::FromBytes;

use super::*;
use crate::kit::{PAGE_SIZE, Vaddr};
use crate::mm::alloc;

const BASE: u64 = 0xffff_ffff_8000_0000;

fn image(bytes: &[u8]) -> Vec<u8> {
    let header = BootImage {
        magic: guest_pv_abi::xenlike::BOOT_IMAGE_MAGIC,
        virt_base: BASE,
        entry: BASE + 0x10,
        image_pages: 3,
        hypercall_page_va: BASE + 0x1000,
        reserved: [0; 3],
    };
    [header.as_bytes(), bytes].concat()
}

/// Reads bytes as the boot domain sees them through its initial page tables.
fn see(l4: Mfn, va: u64, bytes: usize) -> Vec<u8> {
    let mut seen = Vec::new();
    while seen.len() < bytes {
        let at = Vaddr(va + seen.len() as u64);
        let pte = machine().lookup(l4, at).unwrap();
        let mut piece = std::vec![0; (bytes - seen.len()).min(PAGE_SIZE - at.offset())];
        SharedPage::new(pte.mfn())
            .unwrap()
            .read(at.offset(), &mut piece)
            .unwrap();
        seen.extend(piece);
    }
    seen
}

#[test]
fn what_the_boot_domain_finds() {
    crate::domain::notify::SCHED
        .bring_online(crate::kit::CpuId(0))
        .unwrap();
    let frame = alloc::alloc_order(1, alloc::Where::ANY).unwrap();
    let page = SharedPage::new(frame).unwrap();
    page.write(0, b"a module").unwrap();
    let start = frame.maddr().0;
    let modules = [
        Module {
            range: Range {
                start,
                end: start + 4096,
            },
            cmdline: "file=one",
        },
        Module {
            range: Range {
                start: start + 4096,
                end: start + 4100,
            },
            cmdline: "",
        },
    ];
    let dom = build(&image(&[7; 5000]), &modules, &[], "console=com1").unwrap();
    let vcpu = dom.vcpu(VcpuId(0)).unwrap();
    let state = vcpu.descheduled().unwrap();
    let l4 = state.pv().kernel_l4().unwrap();
    assert_eq!(see(l4, BASE + 0x10, 8), [7; 8]);
    // The hypercall page replaces the image's second page.
    assert_eq!(see(l4, BASE + 0x1000, 4), [0x51, 0x41, 0x53, 0xb8]);
    assert_eq!(state.regs.rip, BASE + 0x10);
    let info =
        StartInfo::read_from_bytes(&see(l4, state.regs.rsi, size_of::<StartInfo>())).unwrap();
    assert_eq!(info.cmd_line_bytes(), b"console=com1");
    assert_eq!(info.mod_len, 64);
    let list = see(l4, info.mod_start, 64);
    let one = BootModule::read_from_prefix(&list).unwrap().0;
    assert_eq!(see(l4, one.start_va, 8), b"a module");
    assert_eq!(see(l4, one.cmdline_va, 9), b"file=one\0");
    assert_eq!(one.bytes, 4096);
    // The whole page stayed where it was; the four bytes were copied.
    assert_eq!(
        machine().lookup(l4, Vaddr(one.start_va)).unwrap().mfn(),
        frame
    );
    let two = BootModule::read_from_prefix(&list[32..]).unwrap().0;
    assert_ne!(
        machine().lookup(l4, Vaddr(two.start_va)).unwrap().mfn(),
        frame.add(1)
    );
    // The P2M contains the frames of the page tables, and these are mapped read-only.
    let pfn = (info.pt_base - BASE) >> 12;
    let mfn = see(l4, info.mfn_list + pfn * 8, 8);
    assert_eq!(mfn, l4.0.to_le_bytes());
    assert!(
        !machine()
            .lookup(l4, Vaddr(info.pt_base))
            .unwrap()
            .is_writable()
    );
    assert!(
        machine()
            .lookup(l4, Vaddr(info.mfn_list))
            .unwrap()
            .is_writable()
    );
    assert_eq!(dom.pages.total(), info.nr_pages);
    drop(state);
    // The domain can be destroyed.
    while crate::life::destroy::destroy(&dom) == crate::life::destroy::Progress::Again {}
    assert!(dom.pages.is_empty());
    assert!(crate::domain::lookup(DomId::BOOT).is_none());
}

#[test]
fn broken_images_get_a_sentence() {
    assert!(
        Image::parse(&[])
            .unwrap_err()
            .contains("without its boot domain")
    );
    assert!(Image::parse(&[1; 63]).is_err());
    let mut bad = image(&[0; 16]);
    bad[23] = 0;
    assert!(Image::parse(&bad).is_err());
    assert!(Image::parse(&image(&[0; 3 * 4096 + 1])).is_err());
}
