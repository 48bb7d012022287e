//! Xenstore's wire protocol and ring.
//!
//! Source: Xen's public header `io/xs_wire.h`.

#![expect(
    missing_docs,
    reason = "fields whose name says all have the header's name"
)]

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::layout::{layout, numbers};

numbers! { NUMBERS_U32, "io/xs_wire.h", u32;
    XS_CONTROL = 0, "XS_CONTROL";
    XS_DIRECTORY = 1, "XS_DIRECTORY";
    XS_READ = 2, "XS_READ";
    XS_GET_PERMS = 3, "XS_GET_PERMS";
    XS_WATCH = 4, "XS_WATCH";
    XS_UNWATCH = 5, "XS_UNWATCH";
    XS_TRANSACTION_START = 6, "XS_TRANSACTION_START";
    XS_TRANSACTION_END = 7, "XS_TRANSACTION_END";
    XS_INTRODUCE = 8, "XS_INTRODUCE";
    XS_RELEASE = 9, "XS_RELEASE";
    XS_GET_DOMAIN_PATH = 10, "XS_GET_DOMAIN_PATH";
    XS_WRITE = 11, "XS_WRITE";
    XS_MKDIR = 12, "XS_MKDIR";
    XS_RM = 13, "XS_RM";
    XS_SET_PERMS = 14, "XS_SET_PERMS";
    XS_WATCH_EVENT = 15, "XS_WATCH_EVENT";
    XS_ERROR = 16, "XS_ERROR";
    XS_IS_DOMAIN_INTRODUCED = 17, "XS_IS_DOMAIN_INTRODUCED";
    XS_RESUME = 18, "XS_RESUME";
    XS_SET_TARGET = 19, "XS_SET_TARGET";
    XS_RESET_WATCHES = 21, "XS_RESET_WATCHES";
    XS_DIRECTORY_PART = 22, "XS_DIRECTORY_PART";
    XS_INVALID = 0xffff, "XS_INVALID";
    XS_DEBUG = 0, "XS_DEBUG";
    XENSTORE_PAYLOAD_MAX = 0x1000, "XENSTORE_PAYLOAD_MAX";
    XENSTORE_ABS_PATH_MAX = 0xc00, "XENSTORE_ABS_PATH_MAX";
    XENSTORE_REL_PATH_MAX = 0x800, "XENSTORE_REL_PATH_MAX";
    XENSTORE_SERVER_FEATURE_RECONNECTION = 1, "XENSTORE_SERVER_FEATURE_RECONNECTION";
    XENSTORE_SERVER_FEATURE_ERROR = 2, "XENSTORE_SERVER_FEATURE_ERROR";
    XENSTORE_CONNECTED = 0, "XENSTORE_CONNECTED";
    XENSTORE_RECONNECT = 1, "XENSTORE_RECONNECT";
    XENSTORE_ERROR_NONE = 0, "XENSTORE_ERROR_NONE";
    XENSTORE_ERROR_COMM = 1, "XENSTORE_ERROR_COMM";
    XENSTORE_ERROR_RINGIDX = 2, "XENSTORE_ERROR_RINGIDX";
    XENSTORE_ERROR_PROTO = 3, "XENSTORE_ERROR_PROTO";
}

numbers! { NUMBERS_USIZE, "io/xs_wire.h", usize;
    XENSTORE_RING_SIZE = 0x400, "XENSTORE_RING_SIZE";
}

/// Header of each message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SockMsg {
    /// The type, one of `XS_*`.
    pub type_: u32,
    /// Chosen by the client and echoed in the answer.
    pub req_id: u32,
    /// Id of the transaction; 0: none.
    pub tx_id: u32,
    /// Number of payload bytes that follow.
    pub len: u32,
}

layout! { SockMsg = "struct xsd_sockmsg", 16;
    type_ 0 "type", req_id 4, tx_id 8, len 12
}

/// The Xenstore ring page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct DomainInterface {
    /// Ring of requests to the daemon.
    pub req: [u8; 1024],
    /// Ring of answers and watch events.
    pub rsp: [u8; 1024],
    pub req_cons: u32,
    pub req_prod: u32,
    pub rsp_cons: u32,
    pub rsp_prod: u32,
    /// A combination of `XENSTORE_SERVER_FEATURE_*` flags.
    pub server_features: u32,
    /// State of the connection, `XENSTORE_CONNECTED` or `XENSTORE_RECONNECT`.
    pub connection: u32,
    /// Why the connection ended, one of `XENSTORE_ERROR_*`.
    pub error: u32,
}

layout! { DomainInterface = "struct xenstore_domain_interface", 2076;
    req 0, rsp 1024, req_cons 2048, req_prod 2052, rsp_cons 2056, rsp_prod 2060, server_features 2064, connection 2068, error 2072
}
