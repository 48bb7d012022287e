//! What toolstacks call the scheduler (`sched=` of the command line). There is one, whose weights and caps mean what they mean
//! in Xen's credit and credit2: the name decides which of xl's commands shows and sets them.

use spin::Once;

/// A name of Xen's, and the parameters that go with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Name {
    /// Has a time slice, too; a cap may exceed what the domain's vCPUs can use.
    Credit,
    /// The usual one, as on Xen.
    Credit2,
}

impl Name {
    /// The name as the command line has it.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "credit" => Some(Self::Credit),
            "credit2" => Some(Self::Credit2),
            _ => None,
        }
    }
}

static NAME: Once<Name> = Once::new();

/// What it is called.
pub fn name() -> Name {
    NAME.get().copied().unwrap_or(Name::Credit2)
}

/// Settles what it is called, before the first domain is made.
pub fn set_name(name: Name) {
    NAME.call_once(|| name);
}
