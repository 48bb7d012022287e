//! The requests of guests, and the answers (docs/misc/xenstore.txt).

use alloc::format;
use alloc::rc::Rc;
use alloc::vec::Vec;

use guest_pv_abi::io_xenbus as xs;
use guest_pv_abi::{Errno, errno};

use super::perms::{Perms, domain};
use super::transaction::Within;
use super::tree::{Live, Node, View};
use super::wire::{MAX_PAYLOAD, Message, string};
use super::{Store, nodes, path};
use crate::hyper::DomId;

type Answer = Result<Vec<u8>, Errno>;

impl Store {
    /// Answers a request of an introduced guest. The answer waits for room in the guest's ring.
    pub fn request(&mut self, dom: DomId, message: &Message) {
        let answer = message.answer(self.answer(dom, message));
        if let Some(client) = self.clients.get_mut(&dom) {
            client.reply = Some(answer);
        }
    }

    fn answer(&mut self, dom: DomId, message: &Message) -> Answer {
        match message.header.type_ {
            xs::XS_READ
            | xs::XS_DIRECTORY
            | xs::XS_DIRECTORY_PART
            | xs::XS_GET_PERMS
            | xs::XS_WRITE
            | xs::XS_MKDIR
            | xs::XS_RM
            | xs::XS_SET_PERMS => self.node_request(dom, message),
            xs::XS_WATCH | xs::XS_UNWATCH => self.watch_request(dom, message),
            xs::XS_TRANSACTION_START => self.begin(dom, message),
            xs::XS_TRANSACTION_END => self.end(dom, message),
            xs::XS_RESET_WATCHES => {
                self.reset(dom);
                Ok(ok())
            }
            xs::XS_GET_DOMAIN_PATH => Ok(string(&path::home(domain(message.one()?)?))),
            xs::XS_IS_DOMAIN_INTRODUCED => {
                let asked = domain(message.one()?)?;
                let known = asked == DomId::ZERO || self.clients.contains_key(&asked);
                Ok(string(if known { "T" } else { "F" }))
            }
            xs::XS_CONTROL
            | xs::XS_INTRODUCE
            | xs::XS_RELEASE
            | xs::XS_RESUME
            | xs::XS_SET_TARGET => Err(errno::EACCES),
            _ => Err(errno::ENOSYS),
        }
    }

    /// A request about a node, with or without a transaction.
    fn node_request(&mut self, dom: DomId, message: &Message) -> Answer {
        let Store {
            tree,
            ledger,
            clients,
            ..
        } = self;
        if message.header.tx_id != 0 {
            let client = clients.get_mut(&dom).ok_or(errno::ENOENT)?;
            let mut within = Within {
                transaction: client.transaction(message.header.tx_id)?,
                tree,
                ledger,
                dom,
            };
            return node_answer(&mut within, dom, message);
        }
        let mut live = Live {
            tree,
            ledger,
            changes: Vec::new(),
        };
        let answer = node_answer(&mut live, dom, message);
        let changes = live.changes;
        self.tell(&changes);
        answer
    }

    fn watch_request(&mut self, dom: DomId, message: &Message) -> Answer {
        let (path, token) = message.two()?;
        let client = self.clients.get_mut(&dom).ok_or(errno::ENOENT)?;
        match message.header.type_ {
            xs::XS_WATCH => client.watch(&mut self.ledger, path, token)?,
            _ => client.unwatch(&mut self.ledger, path, token)?,
        }
        Ok(ok())
    }

    fn begin(&mut self, dom: DomId, message: &Message) -> Answer {
        if message.header.tx_id != 0 {
            return Err(errno::EBUSY);
        }
        let client = self.clients.get_mut(&dom).ok_or(errno::ENOENT)?;
        Ok(string(&format!("{}", client.begin()?)))
    }

    fn end(&mut self, dom: DomId, message: &Message) -> Answer {
        let commits = match message.one()? {
            b"T" => true,
            b"F" => false,
            _ => return Err(errno::EINVAL),
        };
        let client = self.clients.get_mut(&dom).ok_or(errno::ENOENT)?;
        let transaction = client.end(message.header.tx_id)?;
        if commits {
            let changes = transaction.commit(&mut self.tree, &mut self.ledger, dom)?;
            self.tell(&changes);
        } else {
            transaction.drop_from(&mut self.ledger, dom);
        }
        Ok(ok())
    }
}

fn ok() -> Vec<u8> {
    string("OK")
}

fn node_answer(view: &mut dyn View, dom: DomId, message: &Message) -> Answer {
    let path_of = |given| path::absolute(dom, given);
    match message.header.type_ {
        xs::XS_WRITE => {
            let (path, value) = message.first()?;
            nodes::write(view, dom, &path_of(path)?, value)?;
        }
        xs::XS_SET_PERMS => {
            let mut strings = message.strings();
            let path = path_of(strings.next().ok_or(errno::EINVAL)?)?;
            nodes::set_perms(view, dom, &path, Perms::parse(strings)?)?;
        }
        xs::XS_DIRECTORY_PART => {
            let (path, offset) = message.two()?;
            let node = nodes::read(view, dom, &path_of(path)?)?;
            return part(&node, offset);
        }
        other => {
            let path = path_of(message.one()?)?;
            match other {
                xs::XS_MKDIR => nodes::mkdir(view, dom, &path)?,
                xs::XS_RM => nodes::remove(view, dom, &path)?,
                _ => return Ok(look(&nodes::read(view, dom, &path)?, other)),
            }
        }
    }
    Ok(ok())
}

/// The answer of a request that only reads.
fn look(node: &Rc<Node>, request: u32) -> Vec<u8> {
    match request {
        xs::XS_DIRECTORY => children(node),
        xs::XS_GET_PERMS => node.perms.words().flat_map(|word| string(&word)).collect(),
        _ => node.value.clone(),
    }
}

fn children(node: &Node) -> Vec<u8> {
    node.children.iter().flat_map(|name| string(name)).collect()
}

/// A part of a long list of children: the node's generation, then complete names, and an additional NUL after the
/// last name of all.
fn part(node: &Node, offset: &[u8]) -> Answer {
    let offset = core::str::from_utf8(offset)
        .ok()
        .and_then(|text| text.parse().ok());
    let offset: usize = offset.ok_or(errno::EINVAL)?;
    let mut answer = string(&format!("{}", node.generation));
    let all = children(node);
    let rest = all.get(offset..).unwrap_or_default();
    for name in rest.split_inclusive(|&byte| byte == 0) {
        if answer.len() + name.len() >= MAX_PAYLOAD {
            return Ok(answer);
        }
        answer.extend_from_slice(name);
    }
    answer.push(0);
    Ok(answer)
}
