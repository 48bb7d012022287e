//! Random histories of three guests. The store stays consistent, transactions behave as if each ran alone at its
//! end, and watches fire.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::vec;

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
enum Step {
    /// A request, inside the guest's transaction if it has one open.
    Ask(u16, u32, Vec<u8>),
    Begin(u16),
    End(u16, &'static str),
}

fn paths() -> impl Strategy<Value = String> {
    let own = [
        "data",
        "data/a",
        "data/a/b",
        "data/c",
        "name",
        "data/a/b/c/d",
    ];
    let others = [1_u16, 2, 3].map(|dom| format!("/local/domain/{dom}/data/a"));
    let all: Vec<String> = own.iter().map(ToString::to_string).chain(others).collect();
    prop::sample::select(all)
}

fn steps() -> impl Strategy<Value = Step> {
    let dom = 1..4_u16;
    let perms = prop::sample::select(vec![
        "n1", "n1\0b2", "r2", "w2\0r3", "b3", "n3\0b1", "r1\0w3",
    ]);
    let look = prop::sample::select(vec![
        xs::XS_READ,
        xs::XS_DIRECTORY,
        xs::XS_GET_PERMS,
        xs::XS_MKDIR,
        xs::XS_RM,
    ]);
    prop_oneof![
        4 => (dom.clone(), look, paths())
            .prop_map(|(dom, kind, path)| Step::Ask(dom, kind, format!("{path}\0").into_bytes())),
        4 => (dom.clone(), paths(), 0..9_u8)
            .prop_map(|(dom, path, value)| Step::Ask(dom, xs::XS_WRITE, format!("{path}\0{value}").into_bytes())),
        2 => (dom.clone(), paths(), perms)
            .prop_map(|(dom, path, perms)| Step::Ask(dom, xs::XS_SET_PERMS, format!("{path}\0{perms}\0").into_bytes())),
        1 => dom.clone().prop_map(Step::Begin),
        1 => (dom, prop::sample::select(vec!["T\0", "F\0"])).prop_map(|(dom, how)| Step::End(dom, how)),
    ]
}

type Answered = (u32, Vec<u8>, Result<Vec<u8>, String>);

/// The contents of the store, without generations.
fn content(store: &Store) -> BTreeMap<String, (Vec<u8>, Perms)> {
    let nodes = store.tree.nodes.iter();
    nodes
        .map(|(path, node)| (path.clone(), (node.value.clone(), node.perms.clone())))
        .collect()
}

/// The store under test, a store that knows no transactions, and the requests in open transactions.
struct Histories {
    store: Store,
    plain: Store,
    open: BTreeMap<u16, (u32, Vec<Answered>, usize)>,
    changes: usize,
}

impl Histories {
    fn new() -> Histories {
        let stores = || store_with(&[1, 2, 3]);
        Histories {
            store: stores(),
            plain: stores(),
            open: BTreeMap::new(),
            changes: 0,
        }
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Ask(dom, kind, payload) => {
                let id = self.open.get(dom).map_or(0, |open| open.0);
                let answer = ask(&mut self.store, *dom, id, *kind, payload);
                if let Some((_, log, _)) = self.open.get_mut(dom) {
                    log.push((*kind, payload.clone(), answer));
                } else {
                    self.changes += usize::from(
                        answer.is_ok() && ![xs::XS_READ, xs::XS_DIRECTORY].contains(kind),
                    );
                    assert_eq!(ask(&mut self.plain, *dom, 0, *kind, payload), answer);
                }
            }
            Step::Begin(dom) if !self.open.contains_key(dom) => {
                let id = say(&mut self.store, *dom, xs::XS_TRANSACTION_START, "\0").unwrap();
                self.open
                    .insert(*dom, (id.parse().unwrap(), Vec::new(), self.changes));
            }
            Step::Begin(_) => {}
            Step::End(dom, how) => {
                let Some((id, log, changes)) = self.open.remove(dom) else {
                    return;
                };
                match say_in(&mut self.store, *dom, id, xs::XS_TRANSACTION_END, how) {
                    Ok(_) if *how == "T\0" => {
                        self.changes += 1;
                        for (kind, payload, answer) in log {
                            assert_eq!(ask(&mut self.plain, *dom, 0, kind, &payload), answer);
                        }
                    }
                    Ok(_) => {}
                    Err(name) => {
                        assert_eq!(name, "EAGAIN");
                        assert!(self.changes > changes, "EAGAIN though nothing has changed");
                    }
                }
            }
        }
        assert_eq!(content(&self.store), content(&self.plain));
        check(&self.store);
    }
}

proptest! {
    #[test]
    fn transactions_run_as_if_alone(steps in prop::collection::vec(steps(), 1..80)) {
        let mut histories = Histories::new();
        for step in &steps {
            histories.step(step);
        }
    }

    /// A watch fires when its node appears, changes or disappears, if its guest could read the node before or can
    /// now. No event is about a node above the watch.
    #[test]
    fn watchers_are_told(steps in prop::collection::vec(steps(), 1..60), watched in paths(), by in 1..4_u16) {
        let mut store = store_with(&[1, 2, 3]);
        say(&mut store, by, xs::XS_WATCH, &format!("{watched}\0t\0")).unwrap();
        events(&mut store, by);
        let whole = path::absolute(DomId(by), watched.as_bytes()).unwrap();
        let readable = |store: &Store| {
            let node = store.tree.nodes.get(&whole)?;
            node.perms.allow(DomId(by), Want::Read).then(|| (node.value.clone(), node.perms.clone()))
        };
        let exists = |store: &Store| store.read(&whole).is_some();
        for step in steps {
            let Step::Ask(dom, kind, payload) = step else { continue };
            let before = (readable(&store), exists(&store));
            let header = SockMsg { type_: kind, ..SockMsg::default() };
            store.request(DomId(dom), &Message { header, payload });
            store.next_message(DomId(dom)).unwrap();
            let told = events(&mut store, by);
            for (path, _) in &told {
                prop_assert!(path::is_below(path, &watched), "{} for {}", path, watched);
            }
            let after = (readable(&store), exists(&store));
            // The guest knew the node before or knows it now, and it has changed.
            if before != after && (before.0.is_some() || after.0.is_some()) {
                prop_assert!(!told.is_empty(), "{:?} {:?}: not told", kind, before);
            }
        }
    }
}
