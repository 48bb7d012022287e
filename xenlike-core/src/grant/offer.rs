//! The features of grant tables that this machine offers (`gnttab=` of the command line).

use spin::Once;

use super::Version;

/// The features of grant tables that domains may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offer {
    /// The newest version of the table.
    pub version: Version,
    /// Whether transitive grants are available.
    pub transitive: bool,
    /// Whether frames may be given away (`GNTTABOP_transfer`).
    pub transfer: bool,
}

impl Offer {
    /// All features: the default without `gnttab=`, as on Xen.
    pub const ALL: Self = Self {
        version: Version::V2,
        transitive: true,
        transfer: true,
    };
}

static OFFER: Once<Offer> = Once::new();

/// Returns the features that are offered.
pub fn offer() -> Offer {
    OFFER.get().copied().unwrap_or(Offer::ALL)
}

/// Sets the features that are offered. Called once, before the first domain is created.
pub fn set_offer(offer: Offer) {
    OFFER.call_once(|| offer);
}
