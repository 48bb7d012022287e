//! Builds domains on a fake machine, and reads them back as a kernel would find them.

use alloc::string::ToString;

use guest_pv_abi::arch_x86::VcpuGuestContext;
use guest_pv_abi::elfnote;
use guest_pv_abi::grant_table::GrantEntryV1;
use guest_pv_abi::xen::{SIF_INITDOMAIN, SIF_MOD_START_PFN, SIF_PRIVILEGED, SharedInfo, StartInfo};
use proptest::prelude::*;
use zerocopy::FromBytes;

use super::*;
use crate::hyper::fake::Fake;
use crate::hyper::{NewDomain, domain, event};
use crate::image::symbols::tests::text_and_symbols;
use crate::image::tests::{kernel, linux_notes, note, number};

const BASE: u64 = 0xffff_ffff_8000_0000;

/// A built domain, with the view of a kernel in it.
struct Guest {
    fake: Fake,
    dom: DomId,
}

fn make(fake: Fake, file: &[u8], initrd: Option<&[u8]>, pages: u64) -> Result<Guest, BuildError> {
    let mut fake = fake;
    let image = Image::open("k", file)?;
    let new = NewDomain {
        handle: [7; 16],
        max_vcpus: 1,
        max_event_channels: 1023,
        max_grant_frames: None,
        max_maptrack_frames: None,
        max_grant_version: None,
    };
    let dom = domain::create(&mut fake, &new)?;
    domain::set_max_vcpus(&mut fake, dom, 1)?;
    domain::set_max_memory(&mut fake, dom, pages * 4)?;
    let console = event::alloc_unbound(&mut fake, dom, DomId::ZERO)?;
    let kind = Kind::Guest {
        backend: DomId::ZERO,
        console,
        store: None,
    };
    let contents = Contents {
        image: &image,
        initrd,
        cmdline: "quiet",
        pages,
        kind,
    };
    build(&mut fake, dom, &contents, &mut ())?;
    Ok(Guest { fake, dom })
}

impl Guest {
    fn page(&self, frame: u64) -> &[u8] {
        &self.fake.frames[&frame][..]
    }

    fn entry(&self, table: u64, index: u64) -> u64 {
        u64::read_from_prefix(&self.page(table)[index as usize * 8..])
            .unwrap()
            .0
    }

    fn context(&self) -> &VcpuGuestContext {
        self.fake.domains[&self.dom.0].context.as_ref().unwrap()
    }

    /// Walks the page tables; returns the frame and whether it is writable.
    fn walk(&self, address: u64) -> Option<(u64, bool)> {
        let mut table = self.context().ctrlreg[3] >> 12;
        for level in (1..=4).rev() {
            let entry = self.entry(table, address >> (3 + 9 * level) & 511);
            if entry & 1 == 0 {
                return None;
            }
            table = entry >> 12 & 0xff_ffff_ffff;
            if level == 1 {
                return Some((table, entry & 2 != 0));
            }
        }
        None
    }

    fn read<T: FromBytes>(&self, address: u64) -> T {
        let mut bytes = Vec::new();
        while bytes.len() < size_of::<T>() + 4096 {
            let at = address + bytes.len() as u64;
            match self.walk(at & !4095) {
                Some((frame, _)) => {
                    bytes.extend_from_slice(&self.page(frame)[at as usize % 4096..])
                }
                None => break,
            }
        }
        T::read_from_prefix(&bytes).unwrap().0
    }

    fn start_info(&self) -> StartInfo {
        self.read(self.context().user_regs.rsi)
    }

    fn frame_of(&self, pfn: u64) -> u64 {
        self.fake.domains[&self.dom.0].pages[&pfn]
    }

    /// Checks the properties that every domain must have.
    fn check(&self, pages: u64) {
        let (info, context) = (self.start_info(), self.context());
        assert!(info.magic.starts_with(b"xen-3.0-x86_64\0"));
        assert!(info.cmd_line.starts_with(b"quiet\0"));
        assert_eq!(info.nr_pages, pages);
        let domain = &self.fake.domains[&self.dom.0];
        assert_eq!(domain.pages.len() as u64, pages);
        assert_eq!(domain.pinned, Some(context.ctrlreg[3] >> 12));
        assert_eq!(self.walk(info.pt_base).unwrap().0, context.ctrlreg[3] >> 12);
        assert_eq!(info.shared_info, domain.shared_info << 12);
        let shared: SharedInfo = SharedInfo::read_from_prefix(self.page(domain.shared_info))
            .unwrap()
            .0;
        assert!(
            shared
                .vcpu_info
                .iter()
                .all(|vcpu| vcpu.evtchn_upcall_mask == 1)
        );
        // The P2M list is readable at its place and correct.
        for pfn in 0..pages {
            assert_eq!(
                self.read::<u64>(info.mfn_list + pfn * 8),
                self.frame_of(pfn)
            );
        }
        self.check_mapping(&info);
        let (stack, writable) = self.walk(context.user_regs.rsp - 8).unwrap();
        assert!(writable && self.page(stack).iter().all(|&byte| byte == 0));
        assert_eq!(self.frame_of_console(), info.console_mfn);
        let grant: GrantEntryV1 = GrantEntryV1::read_from_prefix(self.page(domain.grant_frame))
            .unwrap()
            .0;
        assert_eq!(
            (grant.flags, grant.domid, u64::from(grant.frame)),
            (1, 0, info.console_mfn)
        );
    }

    fn frame_of_console(&self) -> u64 {
        let info = self.start_info();
        let (frame, _) = self.walk(self.context().user_regs.rsi + 2 * 4096).unwrap();
        assert!(self.page(frame).iter().all(|&byte| byte == 0));
        assert_eq!(
            self.walk(self.context().user_regs.rsi + 4096).unwrap().0,
            info.store_mfn
        );
        frame
    }

    /// The mapping is page 0, 1, 2… from the base on. Page tables are read-only, all other pages writable.
    fn check_mapping(&self, info: &StartInfo) {
        let tables = info.pt_base..info.pt_base + info.nr_pt_frames * 4096;
        let base = self.base();
        let mut mapped = 0;
        while let Some((frame, writable)) = self.walk(base.wrapping_add(mapped * 4096)) {
            assert_eq!(frame, self.frame_of(mapped), "page {mapped}");
            assert_eq!(
                writable,
                !tables.contains(&(base + mapped * 4096)),
                "page {mapped}"
            );
            mapped += 1;
        }
        let end = base.wrapping_add(mapped * 4096);
        let whole =
            end.is_multiple_of(4 << 20) && end.wrapping_sub(tables.end) >= (512 << 10) + 4096;
        assert!(
            whole || mapped == info.nr_pages,
            "the mapping ends at {end:#x}"
        );
        if info.first_p2m_pfn != 0 {
            assert!(info.first_p2m_pfn >= mapped);
        }
    }

    fn base(&self) -> u64 {
        BASE
    }
}

fn notes_without_p2m_place() -> Vec<u8> {
    [
        number(elfnote::XEN_ELFNOTE_VIRT_BASE, BASE),
        number(elfnote::XEN_ELFNOTE_ENTRY, BASE + 0x10_0000),
    ]
    .concat()
}

#[test]
fn a_linux_gets_what_its_notes_ask_for() {
    let file = kernel(b"the kernel's text", &linux_notes());
    let initrd: Vec<u8> = (0..10_000_u32).map(|n| n as u8).collect();
    let pages = 8192;
    let guest = make(Fake::new(1 << 20), &file, Some(&initrd), pages).unwrap();
    guest.check(pages);
    let info = guest.start_info();
    assert_eq!(info.mfn_list, 0x80_0000_0000);
    assert_eq!(info.nr_p2m_frames, 16 + 3);
    assert_eq!(info.flags, SIF_MOD_START_PFN);
    assert_eq!(info.mod_len, 10_000);
    assert!(
        guest
            .page(guest.frame_of(info.mod_start))
            .starts_with(&initrd[..4096])
    );
    assert!(
        guest
            .page(guest.frame_of(info.mod_start + 2))
            .starts_with(&initrd[8192..])
    );
    assert_eq!(guest.context().user_regs.rip, BASE + 0x10_0000);
    assert_eq!(
        &guest.read::<[u8; 17]>(BASE + 0x10_0000),
        b"the kernel's text"
    );
    // The part of the segment that the file lacks is zero.
    assert_eq!(guest.read::<[u8; 64]>(BASE + 0x10_2000), [0; 64]);
}

#[test]
fn an_old_kernel_has_all_in_one_mapping() {
    let notes = [
        notes_without_p2m_place(),
        number(elfnote::XEN_ELFNOTE_HYPERCALL_PAGE, BASE + 0x10_1000),
    ]
    .concat();
    let file = kernel(b"text", &notes);
    let guest = make(Fake::new(1 << 20), &file, Some(b"the initrd"), 2048).unwrap();
    guest.check(2048);
    let info = guest.start_info();
    assert_eq!((info.flags, info.first_p2m_pfn), (0, 0));
    assert_eq!(&guest.read::<[u8; 10]>(info.mod_start), b"the initrd");
    assert!(info.mod_start < info.mfn_list && info.mfn_list < guest.context().user_regs.rsi);
    let domain = &guest.fake.domains[&guest.dom.0];
    assert_eq!(domain.hypercall_page, Some(guest.frame_of(0x101)));
}

#[test]
fn fragmented_memory_does() {
    let mut fake = Fake::new(1 << 20);
    fake.fragmented = true;
    let file = kernel(b"text", &linux_notes());
    make(fake, &file, None, 3000).unwrap().check(3000);
}

#[test]
fn too_little_memory_is_told() {
    let file = kernel(b"text", &linux_notes());
    let error = |free, initrd: usize, pages| {
        let initrd = alloc::vec![0; initrd];
        make(Fake::new(free), &file, Some(&initrd), pages)
            .map(drop)
            .unwrap_err()
            .to_string()
    };
    let words = error(1000, 1, 4096);
    assert_eq!(
        words,
        "not enough free memory: the domain wants 16 MiB, there were only 3 MiB"
    );
    assert!(
        error(1 << 20, 1, 200).contains("memory of 1 MiB is too small: the kernel ends at 2 MiB")
    );
    assert!(
        error(1 << 20, 9 << 20, 2048).contains("memory of 8 MiB is too small: the initrd ends at")
    );
}

#[test]
fn domain_0_is_privileged_and_finds_its_screen() {
    let file = kernel(b"text", &linux_notes());
    let image = Image::open("k", &file).unwrap();
    let mut fake = Fake::new(1 << 20);
    let new = NewDomain {
        handle: [0; 16],
        max_vcpus: 1,
        max_event_channels: 1023,
        max_grant_frames: None,
        max_maptrack_frames: None,
        max_grant_version: None,
    };
    let dom = domain::create(&mut fake, &new).unwrap();
    domain::set_max_memory(&mut fake, dom, 4096 * 4).unwrap();
    let kind = Kind::Dom0 {
        screen: [9; 40],
        screen_bytes: 20,
    };
    let contents = Contents {
        image: &image,
        initrd: None,
        cmdline: "quiet",
        pages: 4096,
        kind,
    };
    build(&mut fake, dom, &contents, &mut ()).unwrap();
    let guest = Guest { fake, dom };
    let info = guest.start_info();
    assert_eq!(info.flags, SIF_PRIVILEGED | SIF_INITDOMAIN);
    assert_eq!(info.console_mfn, 1168 | 20 << 32);
    assert_eq!(
        guest.read::<[u8; 20]>(guest.context().user_regs.rsi + 1168),
        [9; 20]
    );
    assert_eq!(info.console_evtchn, 0);
}

#[test]
fn a_frame_list_beside_the_kernel_is_refused() {
    let notes = [
        linux_notes(),
        number(elfnote::XEN_ELFNOTE_INIT_P2M, BASE - 4096),
    ]
    .concat();
    let error = make(Fake::new(1 << 20), &kernel(b"text", &notes), None, 4096)
        .map(drop)
        .unwrap_err();
    assert!(
        error.to_string().contains("too near to the kernel"),
        "{error}"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn every_size_makes_a_sound_domain(
        pages in 300_u64..6000,
        initrd in 0_usize..600_000,
        p2m_apart: bool,
        unmapped: bool,
        fragmented: bool,
    ) {
        let mut notes = notes_without_p2m_place();
        if p2m_apart {
            notes.extend(number(elfnote::XEN_ELFNOTE_INIT_P2M, 0x80_0000_0000));
        }
        if unmapped {
            notes.extend(note(elfnote::XEN_ELFNOTE_MOD_START_PFN, &[1, 0, 0, 0]));
        }
        let mut fake = Fake::new(1 << 20);
        fake.fragmented = fragmented;
        let initrd = alloc::vec![3; initrd];
        match make(fake, &kernel(b"text", &notes), Some(&initrd), pages) {
            Ok(guest) => guest.check(pages),
            Err(BuildError::Layout(cause)) => prop_assert!(cause.contains("too small"), "{}", cause),
            Err(error) => prop_assert!(false, "{}", error),
        }
    }
}

/// The symbols of a BSD kernel begin in its last page, and the kernel's bytes in that page are kept.
#[test]
fn symbols_follow_in_the_kernels_last_page() {
    let text: Vec<u8> = (0..0x3005_u32).map(|n| (n % 251) as u8 + 1).collect();
    let file = text_and_symbols(&text, b"yes\0", 1);
    let image = Image::open("k", &file).unwrap();
    let parts: Vec<Part> = image.parts().collect();
    let guest = make(Fake::new(4096), &file, None, 4096).unwrap();
    let byte = |paddr: u64| {
        let (frame, _) = guest.walk(BASE + paddr).unwrap();
        guest.page(frame)[paddr as usize % PAGE]
    };
    let [kernel, symbols] = parts[..] else {
        panic!("{} parts", parts.len());
    };
    assert_ne!(symbols.paddr as usize % PAGE, 0);
    for part in [kernel, symbols] {
        for (at, &wanted) in (part.paddr..).zip(part.bytes) {
            assert_eq!(byte(at), wanted, "at {at:#x}");
        }
    }
}
