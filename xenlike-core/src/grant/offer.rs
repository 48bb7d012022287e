//! What grant tables are good for on this machine: `gnttab=` of the command line.

use spin::Once;

use super::Version;

/// What domains may do with grant tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offer {
    /// The newest version.
    pub version: Version,
    /// Transitive grants.
    pub transitive: bool,
    /// Giving frames away (`GNTTABOP_transfer`).
    pub transfer: bool,
}

impl Offer {
    /// As without `gnttab=`, and as on Xen: all there is.
    pub const ALL: Self = Self {
        version: Version::V2,
        transitive: true,
        transfer: true,
    };
}

static OFFER: Once<Offer> = Once::new();

/// What is offered.
pub fn offer() -> Offer {
    OFFER.get().copied().unwrap_or(Offer::ALL)
}

/// Settles what is offered, before the first domain is made.
pub fn set_offer(offer: Offer) {
    OFFER.call_once(|| offer);
}
