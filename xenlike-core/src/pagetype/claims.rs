//! Claims: memory set aside for a domain that is being built, so that its build can't fail because another
//! domain takes the memory (XENMEM_claim_pages).

use crate::kit::atomic::{AtomicU64, Ordering};

use super::DomainPages;
use crate::kit::{Lock, Rank};

/// The number of frames that all domains together have claimed and not yet allocated.
static ALL: AtomicU64 = AtomicU64::new(0);
/// Serialises the making of claims.
static CLAIMING: Lock<()> = Lock::new(Rank::Claims, ());

/// Why a claim was refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ClaimError {
    /// The domain has a claim already, or the claim contradicts the domain's present or maximum size (EINVAL).
    Invalid,
    /// There are not enough free frames (ENOMEM).
    NoMemory,
}

/// Returns the number of frames that all domains together have claimed and not yet allocated.
pub fn claimed() -> u64 {
    ALL.load(Ordering::Relaxed)
}

impl DomainPages {
    /// Returns the number of frames that are still set aside for the domain.
    pub fn claim_left(&self) -> u64 {
        self.claimed.load(Ordering::Relaxed)
    }

    /// Sets memory aside so that the domain can have `total` frames altogether; 0 ends the claim. `free` is the
    /// number of free frames of the machine.
    pub fn claim(&self, total: u64, free: u64) -> Result<(), ClaimError> {
        let _one = CLAIMING.lock();
        // A domain that begins to die gives up its claim under this lock.
        let _lists = self.lists.lock();
        if total == 0 {
            self.use_claim(u64::MAX);
            return Ok(());
        }
        let more = total.checked_sub(self.total()).filter(|more| *more > 0);
        let more = more.ok_or(ClaimError::Invalid)?;
        if self.claim_left() != 0 || total > self.max() || self.is_dying() {
            return Err(ClaimError::Invalid);
        }
        if more > free.saturating_sub(claimed()) {
            return Err(ClaimError::NoMemory);
        }
        self.claimed.store(more, Ordering::Relaxed);
        ALL.fetch_add(more, Ordering::Relaxed);
        Ok(())
    }

    /// Reduces the claim by up to `count` frames, which are allocated, or no longer needed.
    pub(super) fn use_claim(&self, count: u64) {
        let take = |left: u64| (left > 0).then(|| left.saturating_sub(count));
        if let Ok(left) = self
            .claimed
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, take)
        {
            ALL.fetch_sub(left.min(count), Ordering::Relaxed);
        }
    }

    /// Returns the number of frames that other domains have claimed. Allocations for this domain must
    /// leave them free.
    pub fn claimed_by_others(&self) -> u64 {
        claimed().saturating_sub(self.claim_left())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kit::DomId;

    #[test]
    fn a_claim_is_kept_and_used_up() {
        let (a, b) = (
            DomainPages::new(DomId(1), 100),
            DomainPages::new(DomId(2), 100),
        );
        assert_eq!(a.claim(101, 1000), Err(ClaimError::Invalid));
        assert_eq!(a.claim(100, 99), Err(ClaimError::NoMemory));
        assert_eq!(a.claim(80, 100), Ok(()));
        assert_eq!(a.claim(80, 100), Err(ClaimError::Invalid));
        assert_eq!(b.claim(21, 100), Err(ClaimError::NoMemory));
        assert_eq!((a.claimed_by_others(), b.claimed_by_others()), (0, 80));
        a.use_claim(30);
        assert_eq!(a.claim_left(), 50);
        a.use_claim(60);
        assert_eq!((a.claim_left(), claimed()), (0, 0));
    }
}
