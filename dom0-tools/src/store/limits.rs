//! What a guest may use of the store: xenstored's defaults (`xenstored --help`), but for the memory, which is less
//! because it comes out of the control domain's own.

/// Nodes that a guest may own.
pub const NODES: usize = 1000;
/// Bytes of a node that a guest writes: its value, its children's names, its permissions.
pub const NODE_BYTES: usize = 2048;
/// Entries of a node's permissions that a guest sets.
pub const PERMISSIONS: usize = 5;
/// A guest's watches.
pub const WATCHES: usize = 128;
/// A guest's open transactions.
pub const TRANSACTIONS: usize = 10;
/// Nodes that one transaction may touch.
pub const TOUCHED: usize = 1024;
/// Bytes of all that is kept for one guest: nodes, watches, transactions. xenstored's default is 2 MiB.
pub const MEMORY: usize = 256 << 10;
/// The same of all guests together, which is little of the 16 MiB that the control domain has at least: what lies on its
/// heap is some times as much. A guest that has little may have a little more even then.
pub const ALL_MEMORY: usize = 1 << 20;
/// What is little: an honest guest without devices needs a few KiB.
pub const LITTLE: usize = 32 << 10;
/// Bytes of watch events that wait for room in a guest's ring; beyond them a watch has one event for all its paths.
pub const EVENT_BYTES: usize = 16 << 10;
/// Requests of one guest that are answered before others have their turn.
pub const REQUESTS_PER_TURN: usize = 16;

/// What an entry of a map or list costs besides its bytes.
pub(super) const ENTRY: usize = 64;
