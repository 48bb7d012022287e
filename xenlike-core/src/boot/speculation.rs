//! Parsing of `spec-ctrl=`, `xpti=` and `pv-l1tf=`, in Xen's spelling.

use super::options::boolean;
use crate::arch::speculation::wishes::{PerDomain, Wishes};

/// Parts of `spec-ctrl=` that users of Xen write and that have no effect here, because the core always or never does
/// what they ask for: the FPU is always switched eagerly, the L1 cache is flushed for HVM only, and the compiler builds
/// no thunks and no hardened branches or locks.
const ELSEWHERE: [&str; 10] = [
    "bti-thunk",
    "hvm",
    "eager-fpu",
    "l1d-flush",
    "branch-harden",
    "lock-harden",
    "srb-lock",
    "unpriv-mmio",
    "div-scrub",
    "bp-spec-reduce",
];

/// Parses a flag of a list: `name`, `no-name` or `name=yes`. Returns name and value.
pub(super) fn flag(part: &str) -> Option<(&str, bool)> {
    match part.split_once('=') {
        Some((name, value)) => Some((name, boolean(value)?)),
        None => match part.strip_prefix("no-") {
            Some(name) => Some((name, false)),
            None => Some((part, true)),
        },
    }
}

/// Parses choices for domain 0 and other domains (`dom0=no,domu`, or one word for both); `None` if they are malformed.
pub fn per_domain(value: &str, mut wish: PerDomain) -> Option<PerDomain> {
    for part in value.split(',') {
        wish = match (boolean(part), flag(part)) {
            (Some(all), _) => PerDomain::both(Some(all)),
            (None, Some(("dom0", yes))) => PerDomain {
                dom0: Some(yes),
                ..wish
            },
            (None, Some(("domu", yes))) => PerDomain {
                domus: Some(yes),
                ..wish
            },
            _ => return None,
        };
    }
    Some(wish)
}

/// Parses `xpti=`, which also knows the word `default`.
pub fn xpti(value: &str, wish: PerDomain) -> Option<PerDomain> {
    if value == "default" {
        Some(PerDomain::default())
    } else {
        per_domain(value, wish)
    }
}

/// Parses `spec-ctrl=`; `None` if a part is malformed.
pub fn spec_ctrl(value: &str, wishes: Wishes) -> Option<Wishes> {
    value.split(',').try_fold(wishes, part)
}

fn part(wishes: Wishes, part: &str) -> Option<Wishes> {
    if let Some(all) = boolean(part) {
        // There is no "use everything": Xen refuses it too.
        return (!all).then(|| wishes.without_all());
    }
    let bare = part.strip_prefix("no-").unwrap_or(part);
    let name = bare.split('=').next().unwrap_or_default();
    if ELSEWHERE.contains(&name) {
        return Some(wishes);
    }
    // `rsb=pv=no` is for one kind of guest, and here there is only one.
    match part.split_once('=') {
        Some((name, value)) => match value.split_once('=') {
            Some(("hvm", value)) => boolean(value).map(|_| wishes),
            Some(("pv", value)) => set(wishes, name, boolean(value)?),
            Some(_) => None,
            None => set(wishes, name, boolean(value)?),
        },
        None => {
            let (name, yes) = flag(part)?;
            set(wishes, name, yes)
        }
    }
}

fn set(mut wishes: Wishes, name: &str, yes: bool) -> Option<Wishes> {
    let field = match name {
        "xen" => return (!yes).then(|| wishes.without_own()),
        "pv" => {
            (wishes.msr_sc, wishes.rsb, wishes.verw) = (Some(yes), Some(yes), Some(yes));
            return Some(wishes);
        }
        "msr-sc" => &mut wishes.msr_sc,
        "rsb" => &mut wishes.rsb,
        "verw" | "md-clear" => &mut wishes.verw,
        "ibrs" => &mut wishes.ibrs,
        "ibpb" => &mut wishes.ibpb,
        "ibpb-entry" => &mut wishes.ibpb_entry,
        "bhb-entry" => &mut wishes.bhb_entry,
        "bhi-dis-s" => &mut wishes.bhi_dis_s,
        "gds-mit" => &mut wishes.gds_mit,
        "ssbd" => &mut wishes.ssbd,
        "stibp" => &mut wishes.stibp,
        "psfd" => &mut wishes.psfd,
        _ => return None,
    };
    *field = Some(yes);
    Some(wishes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const YES: Option<bool> = Some(true);
    const NO: Option<bool> = Some(false);

    fn domains(dom0: Option<bool>, domus: Option<bool>) -> Option<PerDomain> {
        Some(PerDomain { dom0, domus })
    }

    #[test]
    fn lists_for_domains() {
        let none = PerDomain::default();
        assert_eq!(per_domain("", none), domains(YES, YES));
        assert_eq!(per_domain("off", none), domains(NO, NO));
        assert_eq!(per_domain("dom0", none), domains(YES, None));
        assert_eq!(per_domain("no-dom0,domu=1", none), domains(NO, YES));
        assert_eq!(per_domain("domu=maybe", none), None);
        assert_eq!(per_domain("default", none), None);
        assert_eq!(xpti("default", PerDomain::both(YES)), Some(none));
    }

    #[test]
    fn lists_for_the_hypervisor() {
        let read = |value| spec_ctrl(value, Wishes::default());
        let all_off = read("no").unwrap();
        assert_eq!((all_off.ibpb, all_off.verw, all_off.msr_sc), (NO, NO, NO));
        assert_eq!(all_off.pv_l1tf, PerDomain::both(NO));
        let own_off = read("no-xen").unwrap();
        assert_eq!((own_off.ibpb, own_off.msr_sc), (NO, None));
        assert_eq!(own_off.pv_l1tf, PerDomain::default());
        assert_eq!(read("yes"), None);
        assert_eq!(read("xen"), None);
        assert_eq!(read("frobnicate"), None);
        let some = read("pv,ibrs=no,ssbd,bti-thunk=jmp,no-eager-fpu,hvm=0").unwrap();
        assert_eq!((some.rsb, some.verw, some.ibrs), (YES, YES, NO));
        assert_eq!((some.ssbd, some.ibpb), (YES, None));
        assert_eq!(read("rsb=pv=off,verw=hvm=on").unwrap().rsb, NO);
        assert_eq!(read("md-clear").unwrap().verw, YES);
        let later = read("no-ibpb-entry,bhb-entry=pv=on,bhi-dis-s=no,gds-mit").unwrap();
        assert_eq!((later.ibpb_entry, later.bhb_entry), (NO, YES));
        assert_eq!((later.bhi_dis_s, later.gds_mit), (NO, YES));
    }

    #[test]
    fn an_option_of_its_own_outlives_a_general_no() {
        let asked = Wishes {
            pv_l1tf: PerDomain::both(YES),
            ..Wishes::default()
        };
        assert_eq!(
            spec_ctrl("no", asked).unwrap().pv_l1tf,
            PerDomain::both(YES)
        );
    }
}
