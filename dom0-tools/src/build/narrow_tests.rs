//! Builds narrow domains on a fake machine, and reads them back as a 32-bit kernel would find them.

use alloc::collections::BTreeMap;
use alloc::string::ToString;
use alloc::vec;

use guest_pv_abi::arch_x86::narrow::{COMPAT_VIRT_START, VcpuGuestContext, cr3_to_pfn};
use guest_pv_abi::xen::{SIF_INITDOMAIN, SIF_MOD_START_PFN, SIF_PRIVILEGED};
use guest_pv_abi::{elfnote, narrow};
use proptest::prelude::*;
use zerocopy::FromBytes;

use super::*;
use crate::hyper::fake::Fake;
use crate::hyper::{NewDomain, domain};
use crate::image::narrow_tests::{BASE, narrow_kernel, notes};
use crate::image::tests::note;

const PRESENT: u64 = 1;
const WRITABLE: u64 = 2;
const USER: u64 = 4;
/// First frame above 4 GiB.
const HIGH: u64 = 1 << 20;

struct Guest {
    fake: Fake,
    dom: DomId,
}

/// What a walk found for a page: its frame, and the rights that all levels have in common.
type Pages = BTreeMap<u64, (u64, u64)>;

fn kind() -> Kind {
    Kind::Guest {
        backend: DomId::ZERO,
        console: Port(5),
        store: Some(Port(6)),
    }
}

fn make(
    mut fake: Fake,
    file: &[u8],
    initrd: Option<&[u8]>,
    pages: u64,
    kind: Kind,
) -> Result<Guest, BuildError> {
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
    fn context(&self) -> &VcpuGuestContext {
        let domain = &self.fake.domains[&self.dom.0];
        assert!(domain.context.is_none());
        domain.narrow_context.as_ref().unwrap()
    }

    fn root(&self) -> u64 {
        cr3_to_pfn(self.context().ctrlreg[3]).into()
    }

    fn frame_of(&self, pfn: u64) -> u64 {
        self.fake.domains[&self.dom.0].pages[&pfn]
    }

    /// The entries that are present in a table.
    fn entries(&self, table: u64) -> impl Iterator<Item = (u64, u64)> {
        let entries = self.fake.frames[&table].as_chunks::<8>().0.iter();
        let entries = entries.map(|&bytes| u64::from_le_bytes(bytes));
        (0..).zip(entries).filter(|(_, entry)| entry & PRESENT != 0)
    }

    /// Walks all page tables, as the CPU would. Returns the pages and the tables, each with its level.
    fn walk(&self) -> (Pages, BTreeMap<u64, u32>) {
        let mut pages = Pages::new();
        let mut tables = BTreeMap::from([(self.root(), 3)]);
        let mut open = vec![(self.root(), 3_u32, 0_u64, WRITABLE | USER)];
        while let Some((table, level, address, rights)) = open.pop() {
            for (index, entry) in self.entries(table) {
                let frame = entry >> 12;
                let at = address + (index << (3 + 9 * level));
                match level {
                    1 => assert_eq!(pages.insert(at, (frame, entry & rights)), None),
                    // An entry of a PAE root has no rights to take away.
                    _ => {
                        assert_eq!(tables.insert(frame, level - 1), None, "a table used twice");
                        let rights = if level == 3 { rights } else { rights & entry };
                        assert!(level < 3 || index < 4 && entry & 0xfff == PRESENT);
                        open.push((frame, level - 1, at, rights));
                    }
                }
            }
        }
        (pages, tables)
    }

    fn read<T: FromBytes>(&self, pages: &Pages, address: u64) -> T {
        let mut bytes = Vec::new();
        while bytes.len() < size_of::<T>() {
            let at = address + bytes.len() as u64;
            let page = &self.fake.frames[&pages[&(at & !4095)].0];
            bytes.extend_from_slice(&page[at as usize % 4096..]);
        }
        T::read_from_prefix(&bytes).unwrap().0
    }

    fn start_info(&self, pages: &Pages) -> narrow::StartInfo {
        self.read(pages, self.context().user_regs.esi.into())
    }

    /// Checks the properties that every narrow domain must have.
    fn check(&self, base: u64, count: u64) {
        let (pages, tables) = self.walk();
        let info = self.start_info(&pages);
        let context = self.context();
        assert!(info.magic.starts_with(b"xen-3.0-x86_32p\0"));
        assert!(info.cmd_line.starts_with(b"quiet\0"));
        assert_eq!(u64::from(info.nr_pages), count);
        let domain = &self.fake.domains[&self.dom.0];
        assert_eq!(domain.pages.len() as u64, count);
        assert_eq!(domain.pinned, Some(self.root()));
        assert_eq!(u64::from(info.shared_info), domain.shared_info << 12);
        // Each page is mapped once, at its place from the base on; page tables are read-only; none is for ring 3.
        let pt_base = u64::from(info.pt_base);
        let pt_end = pt_base + u64::from(info.nr_pt_frames) * 4096;
        for (number, (&address, &(frame, rights))) in (0..).zip(&pages) {
            assert_eq!(
                (address, frame),
                (base + number * 4096, self.frame_of(number))
            );
            let table = (pt_base..pt_end).contains(&address);
            assert_eq!(rights, if table { 0 } else { WRITABLE }, "{address:#x}");
            assert!(
                table || !tables.contains_key(&frame),
                "a writable page table"
            );
        }
        assert_eq!(pages[&pt_base].0, self.root());
        // The hypervisor's range has its L2 table and nothing in it.
        let end = base + pages.len() as u64 * 4096;
        assert!(end <= COMPAT_VIRT_START);
        assert!(self.entries(self.root()).any(|(index, _)| index == 3));
        let (used, roomy) = (pt_end + 4096, 512 << 10);
        let whole = end.is_multiple_of(4 << 20) && end - used >= roomy;
        assert!(whole || pages.len() as u64 == count || end == COMPAT_VIRT_START);
        for pfn in 0..count {
            let entry: u32 = self.read(&pages, u64::from(info.mfn_list) + pfn * 4);
            assert_eq!(u64::from(entry), self.frame_of(pfn));
        }
        assert_eq!((info.first_p2m_pfn, info.nr_p2m_frames), (0, 0));
        self.check_rings(&pages, &info);
        let (stack, rights) = pages[&u64::from(context.user_regs.esp - 4096)];
        assert_eq!(rights, WRITABLE);
        assert!(self.fake.frames[&stack].iter().all(|&byte| byte == 0));
        self.check_registers(base);
    }

    fn check_rings(&self, pages: &Pages, info: &narrow::StartInfo) {
        let at = u64::from(self.context().user_regs.esi);
        for (page, mfn) in [
            (at + 4096, info.store_mfn),
            (at + 2 * 4096, info.console_mfn),
        ] {
            let (frame, _) = pages[&page];
            assert_eq!(frame, u64::from(mfn));
            assert!(self.fake.frames[&frame].iter().all(|&byte| byte == 0));
        }
        assert_eq!((info.console_evtchn, info.store_evtchn), (5, 6));
    }

    fn check_registers(&self, base: u64) {
        let context = self.context();
        let regs = context.user_regs;
        assert_eq!(u64::from(regs.eip), base + 0x10_0000);
        assert_eq!((regs.cs, regs.ss, regs.eflags), (0xe019, 0xe021, 0x202));
        assert_eq!([regs.ds, regs.es, regs.fs, regs.gs], [0xe021; 4]);
        assert_eq!((context.kernel_ss, context.kernel_sp), (0xe021, regs.esp));
        assert_eq!(context.flags, 0b10_0100);
        let page = self.fake.domains[&self.dom.0].hypercall_page;
        assert_eq!(page, Some(self.frame_of(0x101)));
        let shared = &self.fake.frames[&self.fake.domains[&self.dom.0].shared_info];
        let shared = narrow::SharedInfo::read_from_prefix(&shared[..]).unwrap().0;
        assert!(
            shared
                .vcpu_info
                .iter()
                .all(|vcpu| vcpu.evtchn_upcall_mask == 1)
        );
    }
}

fn any_kernel(base: u64) -> Vec<u8> {
    narrow_kernel(b"the kernel's text", &notes(base, b"yes\0"))
}

#[test]
fn a_kernel_finds_what_it_was_given() {
    let initrd: Vec<u8> = (0..10_000_u32).map(|n| n as u8).collect();
    let guest = make(
        Fake::new(1 << 20),
        &any_kernel(BASE),
        Some(&initrd),
        8192,
        kind(),
    )
    .unwrap();
    guest.check(BASE, 8192);
    let (pages, _) = guest.walk();
    let info = guest.start_info(&pages);
    assert_eq!((info.flags, info.mod_len), (0, 10_000));
    let text: [u8; 17] = guest.read(&pages, BASE + 0x10_0000);
    assert_eq!(&text, b"the kernel's text");
    let begin: [u8; 8192] = guest.read(&pages, info.mod_start.into());
    assert_eq!(begin, initrd[..8192]);
    assert_eq!(guest.context().vm_assist, 1 << 3);
}

#[test]
fn an_initrd_may_stay_unmapped() {
    let wish = note(elfnote::XEN_ELFNOTE_MOD_START_PFN, &[1, 0, 0, 0]);
    let file = narrow_kernel(b"text", &[notes(BASE, b"yes\0"), wish].concat());
    let guest = make(Fake::new(1 << 20), &file, Some(b"the initrd"), 4096, kind()).unwrap();
    guest.check(BASE, 4096);
    let info = guest.start_info(&guest.walk().0);
    assert_eq!(info.flags, SIF_MOD_START_PFN);
    let frame = guest.frame_of(info.mod_start.into());
    assert!(guest.fake.frames[&frame].starts_with(b"the initrd"));
}

/// A kernel with the old string.
fn old_kernel(pae: &str) -> Vec<u8> {
    let words = alloc::format!(
        "XEN_VER=xen-3.0,VIRT_BASE=0xC0000000,ELF_PADDR_OFFSET=0,HYPERCALL_PAGE=0x101,PAE={pae}"
    );
    crate::image::narrow_tests::with_string(&words)
}

#[test]
fn the_root_is_below_4_gib_unless_the_kernel_says_it_need_not() {
    for (mode, low) in [("yes", true), ("yes[extended-cr3]", false)] {
        for fragmented in [false, true] {
            let mut fake = Fake::new(1 << 20);
            fake.next_frame = HIGH;
            fake.fragmented = fragmented;
            let guest = make(fake, &old_kernel(mode), None, 5000, kind()).unwrap();
            guest.check(BASE, 5000);
            assert_eq!(guest.root() < HIGH, low);
            assert_eq!(guest.context().vm_assist, if low { 0 } else { 1 << 3 });
            let high = (0..5000).filter(|&pfn| guest.frame_of(pfn) >= HIGH).count();
            assert_eq!(high, if low { 4999 } else { 5000 });
        }
    }
}

#[test]
fn domain_0_is_privileged_and_finds_its_screen() {
    let kind = Kind::Dom0 {
        screen: [9; 40],
        screen_bytes: 20,
    };
    let guest = make(Fake::new(1 << 20), &any_kernel(BASE), None, 4096, kind).unwrap();
    let (pages, _) = guest.walk();
    let info = guest.start_info(&pages);
    assert_eq!(info.flags, SIF_PRIVILEGED | SIF_INITDOMAIN);
    assert_eq!((info.console_mfn, info.console_evtchn), (1112, 20));
    let at = u64::from(guest.context().user_regs.esi);
    assert_eq!(guest.read::<[u8; 20]>(&pages, at + 1112), [9; 20]);
}

#[test]
fn what_does_not_fit_is_refused() {
    let error = |base, initrd: usize, pages, frame| {
        let mut fake = Fake::new(1 << 20);
        fake.next_frame = frame;
        make(
            fake,
            &any_kernel(base),
            Some(&vec![0; initrd]),
            pages,
            kind(),
        )
        .map(drop)
        .unwrap_err()
        .to_string()
    };
    let near = COMPAT_VIRT_START - (3 << 20);
    let words = "the kernel and its initrd reach past the end of the address space";
    assert_eq!(error(near, 2 << 20, 4096, 0x1000), words);
    let words = "the hypervisor gave the 32-bit domain memory that it can't address";
    assert_eq!(error(BASE, 1, 4096, 1 << 32), words);
    assert!(error(BASE, 1, 200, 0x1000).contains("too small: the kernel ends at 2 MiB"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn every_size_makes_a_sound_domain(
        pages in 300_u64..6000,
        initrd in 0_usize..600_000,
        base in prop_oneof![
            Just(0), Just(BASE), Just(BASE - 0x40_0000), Just(BASE - 0x10_0000),
            (0_u64..0xf000).prop_map(|n| n << 16),
            (0_u64..2048).prop_map(|n| COMPAT_VIRT_START - (n << 12) - 0x10_3000),
        ],
        fragmented: bool,
    ) {
        let mut fake = Fake::new(1 << 20);
        fake.fragmented = fragmented;
        match make(fake, &any_kernel(base), Some(&vec![3; initrd]), pages, kind()) {
            Ok(guest) => guest.check(base, pages),
            Err(BuildError::Layout(cause)) if cause.contains("past the end") => {
                prop_assert!(base > COMPAT_VIRT_START - (8 << 20), "{}", cause);
            }
            Err(BuildError::Layout(cause)) => prop_assert!(cause.contains("too small"), "{}", cause),
            Err(error) => prop_assert!(false, "{}", error),
        }
    }
}
