//! Descriptors by machine address.

use crate::kit::atomic::Ordering::SeqCst;

use guest_pv_abi::errno;
use guest_pv_abi::hypercall as nr;

use super::guest::Guest;
use crate::mm::SharedPage;
use crate::pagetype::machine;

/// A kernel's flat code segment, and a user's.
const KERNEL_CODE: u64 = 0x00af_9b00_0000_ffff;
const USER_CODE: u64 = 0x00af_fb00_0000_ffff;
/// A call gate that is present.
const GATE: u64 = 0x0000_8c00_0000_0000;

/// A page that is no table of descriptors is data: only the word that was named changes.
#[test]
fn only_the_word_that_is_named_changes() {
    let guest = Guest::new();
    let frame = guest.frame();
    let page = SharedPage::new(frame).unwrap();
    let word = |n: usize| page.u64(n * 8).unwrap();
    word(5).store(KERNEL_CODE, SeqCst);
    let update = |n: u64, descriptor| {
        guest.call(
            nr::UPDATE_DESCRIPTOR,
            &[frame.maddr().0 + n * 8, descriptor],
        )
    };
    update(3, KERNEL_CODE).unwrap();
    assert_eq!(word(3).load(SeqCst), USER_CODE);
    assert_eq!(word(5).load(SeqCst), KERNEL_CODE);
    assert_eq!(update(3, GATE), Err(errno::EINVAL));
    // In use, all of the page is descriptors.
    let table = machine().get_segdesc(frame, guest.dom.id()).unwrap();
    assert_eq!(word(5).load(SeqCst), USER_CODE);
    update(6, KERNEL_CODE).unwrap();
    assert_eq!(word(6).load(SeqCst), USER_CODE);
    drop(table);
}
