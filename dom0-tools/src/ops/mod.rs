//! The implementation of the verbs, for the shell and the CLI alike: creating domains, and showing
//! domains and the machine.

mod control;
mod create;
mod detail;
mod entries;
mod nodes;
mod pin;
mod summary;
mod table;
mod uptime;
pub mod view;
pub mod virtualisation;

use alloc::format;
use alloc::string::{String, ToString};

use guest_pv_abi::errno;

use crate::hyper::{DomId, Hypercalls, domain};

pub use control::{amount_kib, check_name, mem_max, mem_set, sysrq, vcpu_set};
pub use create::{
    CreateError, Created, Dom0, Files, Store, create, create_dom0, random_uuid, uuid_text,
};
pub use detail::{DomainDetail, detail, detail_text, libxl_json, long};
pub use entries::{Entry, Wish, entries, vm_path, wish_path};
pub use nodes::Nodes;
pub use pin::pin;
pub use summary::{dry_run, image_text};
pub use table::{Align, Table};
pub use uptime::{UptimeRow, uptime_table};

/// Unpauses a domain. Messages call it `word`, as the user did.
///
/// # Errors
/// A message about the cause. A domain that isn't paused is an error, too.
pub fn unpause<H: Hypercalls + ?Sized>(h: &mut H, id: DomId, word: &str) -> Result<(), String> {
    domain::unpause(h, id).map_err(|error| match error.errno {
        errno::EINVAL => format!("{word}: the domain is not paused"),
        _ => error.to_string(),
    })
}
