//! The constant page tables of the first moments: machine memory below 4 GiB, identity-mapped and in the direct map,
//! and the image. `boot::memory` builds the real ones.
#![expect(
    unsafe_code,
    reason = "memory that the CPU writes (accessed and dirty bits)"
)]

use core::cell::UnsafeCell;
use core::mem::offset_of;

use super::start::{LOAD_ADDRESS, machine_of};
use crate::arch::cr3::{self, RunRoot};
use crate::arch::paging::pte;
use crate::kit::{PAGE_SHIFT, Vaddr};
use crate::mm::layout::{DIRECT_MAP, IMAGE};

/// The number of words, from the start, that may refer to the image or to tables, and are corrected
/// if the image was moved.
pub const LINK_WORDS: usize = offset_of!(BootTables, low_l2) / size_of::<u64>();
/// The machine address of the tables unless the image is moved: one page behind the header, by the linker script.
pub const TABLES_ADDRESS: u64 = LOAD_ADDRESS + 4096;

const LINK: u64 = pte::P | pte::RW | pte::A;
const LARGE: u64 = LINK | pte::D | pte::PSE;

/// The tables, in fixed order. The tables with entries that refer to the image or to other tables come first: the first
/// instructions correct these if the image was moved.
#[repr(C, align(4096))]
pub struct BootTables {
    l4: UnsafeCell<[u64; 512]>,
    low_l3: UnsafeCell<[u64; 512]>,
    image_l3: UnsafeCell<[u64; 512]>,
    image_l2: UnsafeCell<[u64; 512]>,
    low_l2: UnsafeCell<[[u64; 512]; 4]>,
    /// The L1 for the one 2 MiB page of the image from which [`unmap`] removes pages.
    image_l1: UnsafeCell<[u64; 512]>,
}

// SAFETY: the CPU sets accessed and dirty bits atomically; code only accesses the tables in `unmap`.
unsafe impl Sync for BootTables {}

#[unsafe(link_section = ".boot.tables")]
#[used]
static BOOT_TABLES: BootTables = BootTables::build();

impl BootTables {
    const fn build() -> Self {
        let mut l4 = [0; 512];
        let low_l3 = (TABLES_ADDRESS + offset_of!(Self, low_l3) as u64) | LINK;
        l4[0] = low_l3;
        l4[Vaddr(DIRECT_MAP).index(4)] = low_l3;
        l4[Vaddr(IMAGE).index(4)] = (TABLES_ADDRESS + offset_of!(Self, image_l3) as u64) | LINK;
        let mut l3 = [0; 512];
        let mut l2 = [[0; 512]; 4];
        let mut n = 0;
        while n < 4 * 512 {
            if n % 512 == 0 {
                let table = TABLES_ADDRESS + offset_of!(Self, low_l2) as u64;
                l3[n / 512] = (table + (n as u64 / 512) * 4096) | LINK;
            }
            l2[n / 512][n % 512] = (n as u64) << 21 | LARGE;
            n += 1;
        }
        let mut image_l3 = [0; 512];
        image_l3[Vaddr(IMAGE).index(3)] =
            (TABLES_ADDRESS + offset_of!(Self, image_l2) as u64) | LINK;
        let mut image_l2 = [0; 512];
        let mut n = 0;
        while n < 32 {
            image_l2[Vaddr(IMAGE).index(2) + n] = (LOAD_ADDRESS + ((n as u64) << 21)) | LARGE;
            n += 1;
        }
        Self {
            l4: UnsafeCell::new(l4),
            low_l3: UnsafeCell::new(l3),
            low_l2: UnsafeCell::new(l2),
            image_l3: UnsafeCell::new(image_l3),
            image_l2: UnsafeCell::new(image_l2),
            image_l1: UnsafeCell::new([0; 512]),
        }
    }
}

/// Unmaps pages of the image, all within the same 2 MiB page. Called once, while these tables are loaded.
pub fn unmap<const N: usize>(pages: [Vaddr; N]) {
    let Some(index) = pages.first().map(|page| page.index(2)) else {
        return;
    };
    // SAFETY: the boot CPU is the only one, and has no other reference to these two tables.
    let (l2, l1) = unsafe {
        (
            &mut *BOOT_TABLES.image_l2.get(),
            &mut *BOOT_TABLES.image_l1.get(),
        )
    };
    for (entry, n) in l1.iter_mut().zip(0..) {
        *entry = (l2[index] & !pte::PSE) + (n << PAGE_SHIFT);
    }
    for page in pages {
        l1[page.index(1)] = 0;
    }
    l2[index] = machine_of(BOOT_TABLES.image_l1.get() as u64).0 | LINK;
    // SAFETY: the same tables, without the guard pages, which contain nothing.
    cr3::load(unsafe { RunRoot::new(machine_of(&raw const BOOT_TABLES as u64)) });
}
