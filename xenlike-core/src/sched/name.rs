//! The name by which toolstacks know the scheduler (`sched=` on the command line). There is only one scheduler; its
//! weights and caps have the meaning that they have in Xen's credit and credit2. The name decides which of xl's
//! commands shows and sets them.

use spin::Once;

/// One of Xen's scheduler names, which implies the parameters that toolstacks can set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Name {
    /// `credit`: has a time slice as a parameter, and a cap may exceed what the domain's vCPUs can use.
    Credit,
    /// `credit2`: the default, as on Xen.
    Credit2,
}

impl Name {
    /// The name for a word of the command line, or `None` if it isn't known.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "credit" => Some(Self::Credit),
            "credit2" => Some(Self::Credit2),
            _ => None,
        }
    }
}

static NAME: Once<Name> = Once::new();

/// The name that the scheduler goes by.
pub fn name() -> Name {
    NAME.get().copied().unwrap_or(Name::Credit2)
}

/// Sets the name. Called once, before the first domain is created.
pub fn set_name(name: Name) {
    NAME.call_once(|| name);
}
