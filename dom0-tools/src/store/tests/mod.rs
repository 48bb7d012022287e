//! The store as guests see it: through messages, and through rings that they may corrupt.

mod model;
mod nodes;
mod ring;
mod transactions;
mod watches;

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use guest_pv_abi::io_xenbus as xs;
use guest_pv_abi::io_xenbus::SockMsg;
use zerocopy::FromBytes;

use super::wire::HEADER;
use super::*;

/// Splits a message in the ring into header and payload.
fn decode(bytes: &[u8]) -> (SockMsg, Vec<u8>) {
    let (header, payload) = SockMsg::read_from_prefix(bytes).unwrap();
    assert_eq!(payload.len(), header.len as usize);
    assert!(payload.len() <= 4096 && bytes.len() == HEADER + payload.len());
    (header, payload.to_vec())
}

/// Sends a request and returns its answer.
fn ask(
    store: &mut Store,
    dom: u16,
    tx_id: u32,
    type_: u32,
    payload: &[u8],
) -> Result<Vec<u8>, String> {
    let header = SockMsg {
        type_,
        req_id: 77,
        tx_id,
        len: payload.len() as u32,
    };
    let payload = payload.to_vec();
    store.request(DomId(dom), &Message { header, payload });
    let (answer, payload) = decode(&store.next_message(DomId(dom)).unwrap());
    assert_eq!((answer.req_id, answer.tx_id), (77, tx_id));
    match answer.type_ {
        xs::XS_ERROR => {
            let name = payload.strip_suffix(&[0]).unwrap();
            let name = String::from_utf8(name.to_vec()).unwrap();
            assert!(
                XSD_ERRORS.contains(&name.as_str()),
                "{name} is no error of xs_wire.h"
            );
            Err(name)
        }
        other => {
            assert_eq!(other, type_);
            Ok(payload)
        }
    }
}

/// The names in xs_wire.h's `xsd_errors`.
const XSD_ERRORS: [&str; 16] = [
    "EINVAL",
    "EACCES",
    "EEXIST",
    "EISDIR",
    "ENOENT",
    "ENOMEM",
    "ENOSPC",
    "EIO",
    "ENOTEMPTY",
    "ENOSYS",
    "EROFS",
    "EBUSY",
    "EAGAIN",
    "EISCONN",
    "E2BIG",
    "EPERM",
];

/// Like [`ask`], outside of transactions, with the answer as text without the last NUL.
fn say(store: &mut Store, dom: u16, type_: u32, payload: &str) -> Result<String, String> {
    say_in(store, dom, 0, type_, payload)
}

fn say_in(
    store: &mut Store,
    dom: u16,
    tx_id: u32,
    type_: u32,
    payload: &str,
) -> Result<String, String> {
    let payload = ask(store, dom, tx_id, type_, payload.as_bytes())?;
    let text = payload.strip_suffix(&[0]).unwrap_or(&payload);
    Ok(String::from_utf8(text.to_vec()).unwrap())
}

fn ok() -> Result<String, String> {
    Ok("OK".to_string())
}

fn error(name: &str) -> Result<String, String> {
    Err(name.to_string())
}

/// The pending events, each with path and token.
fn events(store: &mut Store, dom: u16) -> Vec<(String, String)> {
    let mut events = Vec::new();
    while let Some(message) = store.next_message(DomId(dom)) {
        let (header, payload) = decode(&message);
        assert_eq!(
            (header.type_, header.req_id, header.tx_id),
            (xs::XS_WATCH_EVENT, 0, 0)
        );
        let text = String::from_utf8(payload).unwrap();
        let (path, token) = text.strip_suffix('\0').unwrap().split_once('\0').unwrap();
        events.push((path.to_string(), token.to_string()));
    }
    events
}

/// A store with guests. Each has a home that it may read, with a node `data` that it may write.
fn store_with(doms: &[u16]) -> Store {
    let mut store = Store::default();
    for &dom in doms {
        let (home, dom) = (path::home(DomId(dom)), DomId(dom));
        store.write(&home, "").unwrap();
        store.set_perms(&home, Perms::readable_by(dom)).unwrap();
        let data = alloc::format!("{home}/data");
        store.write(&data, "").unwrap();
        store.set_perms(&data, Perms::private(dom)).unwrap();
        store.introduce(dom);
    }
    store
}

/// Recounts everything that the ledger records.
fn check(store: &Store) {
    store.ledger.of_guests();
    let mut owned: BTreeMap<DomId, usize> = BTreeMap::new();
    for (path, node) in &store.tree.nodes {
        *owned.entry(node.perms.owner).or_default() += 1;
        match path::parent(path) {
            Some(above) => {
                let above = store.tree.nodes.get(above).expect("a node above each");
                assert!(above.children.contains(path::name(path)), "{path}");
            }
            None => assert!(path == "/" || path.starts_with('@')),
        }
        for name in &node.children {
            assert!(
                store.tree.nodes.contains_key(&path::child(path, name)),
                "{path}/{name}"
            );
        }
    }
    for (dom, client) in &store.clients {
        let usage = store.usage(*dom);
        assert_eq!(
            usage.nodes,
            owned.get(dom).copied().unwrap_or_default(),
            "nodes of {dom}"
        );
        let nodes = store
            .tree
            .nodes
            .iter()
            .filter(|(_, node)| node.perms.owner == *dom);
        let nodes: usize = nodes
            .map(|(path, node)| path.len() + node.bytes() + limits::ENTRY)
            .sum();
        assert_eq!(usage.bytes, nodes + client.bytes(), "bytes of {dom}");
    }
}
