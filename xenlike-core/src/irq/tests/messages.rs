//! Tests of MSI and MSI-X.

use super::fake::{PENDING, PLAIN_MSI, TABLE, WITH_MSI, WITH_MSIX};
use super::{DOM0, book, holder};
use crate::irq::{Function, IrqError};
use crate::kit::CpuId;

#[test]
fn messages_in_a_row() {
    let mut book = book();
    assert_eq!(
        book.map_msi(DOM0, WITH_MSI, 4, None),
        Err(IrqError::NoDevice)
    );
    book.add_function(WITH_MSI).expect("room");
    assert_eq!(
        book.map_msi(DOM0, WITH_MSI, 3, None),
        Err(IrqError::BadNumber)
    );
    assert_eq!(
        book.map_msi(DOM0, WITH_MSI, 8, None),
        Err(IrqError::BadNumber)
    );
    let first = book.map_msi(DOM0, WITH_MSI, 4, None).expect("messages");
    assert_eq!(book.map_msi(DOM0, WITH_MSI, 1, None), Err(IrqError::Exists));
    // The function may send four messages; the core has enabled none, and masked all.
    assert_eq!(book.machine.word(WITH_MSI, 0x58), 0x01a4_0005);
    assert_eq!(book.machine.word(WITH_MSI, 0x68), 0xf);
    let vector = book.machine.word(WITH_MSI, 0x64) as u8;
    assert!(vector.is_multiple_of(4) && (0x30..0xe0).contains(&vector));
    book.hold(holder(DOM0, first + 2), CpuId(0)).expect("free");
    assert_eq!(book.machine.word(WITH_MSI, 0x68), 0b1011);
    book.hold(holder(DOM0, first), CpuId(3)).expect("free");
    assert_eq!(book.machine.word(WITH_MSI, 0x5c), 0xfee0_6000);
    let told = book.arrived(vector + 2).expect("known");
    assert_eq!(told[0].pirq, first + 2);
    for pirq in first..first + 4 {
        book.unmap(DOM0, pirq).expect("mapped");
    }
    assert_eq!(book.machine.word(WITH_MSI, 0x58), 0x0184_0005);
    assert!(book.lines().is_empty());
}

#[test]
fn entries_of_a_table() {
    let mut book = book();
    book.add_function(WITH_MSIX).expect("room");
    assert_eq!(
        book.map_msix(DOM0, WITH_MSIX, 3, None),
        Err(IrqError::BadNumber)
    );
    let pirq = book.map_msix(DOM0, WITH_MSIX, 2, None).expect("an entry");
    assert_eq!(
        book.map_msix(DOM0, WITH_MSIX, 2, None),
        Err(IrqError::Exists)
    );
    let entry = 0x820;
    assert_eq!(book.machine.table[&(entry + 12)], 1);
    book.hold(holder(DOM0, pirq), CpuId(1)).expect("free");
    let words = [0, 4, 8, 12].map(|at| book.machine.table[&(entry + at)]);
    let vector = words[2] as u8;
    assert_eq!(words, [0xfee0_2000, 0, u32::from(vector), 0]);
    book.machine.table.clear();
    book.restore(WITH_MSIX).expect("known");
    assert_eq!(book.machine.table[&(entry + 12)], 0);
    book.remove_function(WITH_MSIX).expect("known");
    assert_eq!(book.machine.table[&(entry + 12)], 1);
    assert!(!book.is_mapped(DOM0, pirq) && book.arrived(vector).is_none());
}

#[test]
fn a_table_is_the_cores_while_it_is_in_use() {
    let mut book = book();
    book.add_function(WITH_MSIX).expect("room");
    let in_use = |book: &crate::irq::Book<super::fake::Fake>| {
        let pages = [TABLE, TABLE.add(1), PENDING, PENDING.add(1)];
        pages.map(|page| book.machine.is_protected(page))
    };
    let (none, all) = ([false; 4], [true, false, true, false]);
    assert_eq!(in_use(&book), none);
    let first = book.map_msix(DOM0, WITH_MSIX, 0, None).expect("an entry");
    let second = book.map_msix(DOM0, WITH_MSIX, 1, None).expect("an entry");
    assert_eq!(book.ready_table(WITH_MSIX), Err(IrqError::Busy));
    assert_eq!(book.release_table(WITH_MSIX), Err(IrqError::Busy));
    book.unmap(DOM0, first).expect("mapped");
    assert_eq!(in_use(&book), all);
    book.unmap(DOM0, second).expect("mapped");
    assert_eq!(in_use(&book), none);
    // A readied table stays in use without messages.
    book.ready_table(WITH_MSIX).expect("not in use");
    let pirq = book.map_msix(DOM0, WITH_MSIX, 0, None).expect("an entry");
    assert_eq!(book.release_table(WITH_MSIX), Err(IrqError::Busy));
    book.unmap(DOM0, pirq).expect("mapped");
    assert_eq!(in_use(&book), all);
    book.release_table(WITH_MSIX).expect("readied");
    assert_eq!(in_use(&book), none);
    // It is not in use once the function is removed, and a refused entry leaves nothing behind.
    book.ready_table(WITH_MSIX).expect("not in use");
    book.remove_function(WITH_MSIX).expect("known");
    assert_eq!(in_use(&book), none);
    book.add_function(WITH_MSIX).expect("room");
    let taken = book.map_msix(DOM0, WITH_MSIX, 0, Some(crate::irq::PIRQS));
    assert_eq!(taken, Err(IrqError::BadNumber));
    assert_eq!(in_use(&book), none);
    book.add_function(WITH_MSI).expect("room");
    assert_eq!(book.ready_table(WITH_MSI), Err(IrqError::NoDevice));
    assert_eq!(book.release_table(WITH_MSI), Err(IrqError::NoDevice));
}

#[test]
fn a_table_out_of_reach_is_refused() {
    let mut book = book();
    book.add_function(WITH_MSIX).expect("room");
    let change = |book: &mut crate::irq::Book<_>, at: usize, byte: u8| {
        let machine: &mut super::fake::Fake = &mut book.machine;
        let space = machine.spaces.get_mut(&WITH_MSIX).expect("there");
        core::mem::replace(&mut space[at], byte)
    };
    let old = change(&mut book, 0x04, 0);
    assert_eq!(
        book.map_msix(DOM0, WITH_MSIX, 0, None),
        Err(IrqError::NoMemoryAccess)
    );
    change(&mut book, 0x04, old);
    // The table is at a place that can't contain one.
    let old = change(&mut book, 0x1a, 0x55);
    assert_eq!(
        book.map_msix(DOM0, WITH_MSIX, 0, None),
        Err(IrqError::NoDevice)
    );
    change(&mut book, 0x1a, old);
    // The table is in a BAR that doesn't exist; the list of capabilities is circular.
    let old = change(&mut book, 0x9c, 7);
    assert_eq!(
        book.map_msix(DOM0, WITH_MSIX, 0, None),
        Err(IrqError::NoDevice)
    );
    change(&mut book, 0x9c, old);
    change(&mut book, 0x98, 1);
    change(&mut book, 0x99, 0x98);
    assert_eq!(
        book.map_msix(DOM0, WITH_MSIX, 0, None),
        Err(IrqError::NoDevice)
    );
    let absent = Function { bus: 9, devfn: 9 };
    book.add_function(absent).expect("room");
    assert_eq!(book.map_msi(DOM0, absent, 1, None), Err(IrqError::NoDevice));
}

#[test]
fn a_device_that_goes_on_unheard_is_silenced() {
    let mut book = book();
    book.add_function(PLAIN_MSI).expect("room");
    let pirq = book.map_msi(DOM0, PLAIN_MSI, 1, None).expect("a message");
    book.hold(holder(DOM0, pirq), CpuId(0)).expect("free");
    let vector = book.machine.word(PLAIN_MSI, 0x48) as u8;
    // The driver enables it, and releases it while the device continues to send.
    book.machine.spaces.get_mut(&PLAIN_MSI).expect("there")[0x42] |= 1;
    book.let_go(DOM0, pirq).expect("held");
    for _ in 0..1000 {
        assert!(book.arrived(vector).expect("known").is_empty());
    }
    assert_eq!(book.machine.word(PLAIN_MSI, 0x40) >> 16, 0);
    book.hold(holder(DOM0, pirq), CpuId(0)).expect("free");
    assert_eq!(book.machine.word(PLAIN_MSI, 0x40) >> 16, 1);
}
