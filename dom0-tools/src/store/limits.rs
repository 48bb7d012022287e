//! A guest's limits in the store. They are xenstored's defaults (`xenstored --help`), except for the memory, which is
//! less because it is the control domain's own.

/// Maximum number of nodes that a guest may own.
pub const NODES: usize = 1000;
/// Maximum size in bytes of a node that a guest writes: its value, its children's names, its permissions.
pub const NODE_BYTES: usize = 2048;
/// Maximum number of permission entries that a guest may set on a node.
pub const PERMISSIONS: usize = 5;
/// Maximum number of a guest's watches.
pub const WATCHES: usize = 128;
/// Maximum number of a guest's open transactions.
pub const TRANSACTIONS: usize = 10;
/// Maximum number of nodes that one transaction may touch.
pub const TOUCHED: usize = 1024;
/// Maximum bytes kept for one guest: nodes, watches, transactions. xenstored's default is 2 MiB.
pub const MEMORY: usize = 256 << 10;
/// Maximum bytes kept for all guests together. It is a small part of the control domain's memory (16 MiB at least),
/// since the data takes several times as much on its heap. A guest below [`LITTLE`] may still grow beyond it.
pub const ALL_MEMORY: usize = 1 << 20;
/// The usage up to which a guest may always grow. A well-behaved guest without devices needs a few KiB.
pub const LITTLE: usize = 32 << 10;
/// Maximum bytes of watch events that wait for room in a guest's ring. Beyond them, one event of a watch stands
/// for all its paths.
pub const EVENT_BYTES: usize = 16 << 10;
/// Number of requests of one guest that are answered in a turn.
pub const REQUESTS_PER_TURN: usize = 16;

/// Estimated overhead in bytes of an entry of a map or list.
pub(super) const ENTRY: usize = 64;
