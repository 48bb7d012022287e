//! What the verbs do, for the shell and the CLI alike: making domains, and looking at domains and the machine.

mod create;
mod table;
pub mod view;

pub use create::{
    CreateError, Created, Dom0, Files, Store, create, create_dom0, random_uuid, uuid_text,
};
pub use table::{Align, Table};
