//! The deepest path through the calls.

use super::code::{Edge, Function};
use std::collections::{BTreeMap, BTreeSet};

/// How deep the stack gets below each function's return address.
#[derive(Default)]
pub struct Depths {
    depth: BTreeMap<u64, u64>,
    /// The edge on the deepest path.
    next: BTreeMap<u64, u64>,
    /// Functions that call themselves, directly or indirectly, and for which no bound was given.
    pub cycles: Vec<Vec<u64>>,
}

/// How often each of a group of mutually recursive functions is on the stack at most.
pub type Levels<'a> = dyn Fn(&[u64]) -> Option<u64> + 'a;

struct Search<'a> {
    functions: &'a BTreeMap<u64, Function>,
    /// Functions whose depth is given.
    given: &'a BTreeMap<u64, u64>,
    levels: &'a Levels<'a>,
    order: BTreeMap<u64, usize>,
    low: BTreeMap<u64, usize>,
    open: Vec<u64>,
    depths: Depths,
}

/// Computes the depths below `roots`.
pub fn depths(
    functions: &BTreeMap<u64, Function>,
    given: &BTreeMap<u64, u64>,
    levels: &Levels<'_>,
    roots: &[u64],
) -> Depths {
    let mut search = Search {
        functions,
        given,
        levels,
        order: BTreeMap::new(),
        low: BTreeMap::new(),
        open: Vec::new(),
        depths: Depths::default(),
    };
    for root in roots {
        search.visit(*root);
    }
    search.depths
}

impl Search<'_> {
    fn edges(&self, at: u64) -> &[Edge] {
        let function = self.functions.get(&at);
        function.map_or(&[], |function| &function.edges)
    }

    /// Tarjan's strongly connected components: the depth of a function is computed after those that it calls.
    fn visit(&mut self, at: u64) -> usize {
        if self.depths.depth.contains_key(&at) {
            return usize::MAX;
        }
        if let Some(order) = self.order.get(&at) {
            return *order;
        }
        if let Some(depth) = self.given.get(&at) {
            self.depths.depth.insert(at, *depth);
            return usize::MAX;
        }
        let order = self.order.len();
        self.order.insert(at, order);
        self.open.push(at);
        let targets: BTreeSet<u64> = self.edges(at).iter().map(|edge| edge.to).collect();
        let low = targets.iter().map(|to| self.visit(*to)).min();
        let low = low.unwrap_or(order).min(order);
        self.low.insert(at, low);
        if low == order {
            let first = self.open.iter().position(|one| *one == at).unwrap_or(0);
            let group = self.open.split_off(first);
            self.close(&group);
        }
        low
    }

    fn close(&mut self, group: &[u64]) {
        let recursive = group.len() > 1 || self.edges(group[0]).iter().any(|e| e.to == group[0]);
        let levels = (self.levels)(group);
        if recursive && levels.is_none() {
            self.depths.cycles.push(group.to_vec());
        }
        let frame = |at: &u64| {
            self.functions
                .get(at)
                .map_or(0, |function| function.frame + 8)
        };
        let above = if recursive {
            group.iter().map(frame).sum::<u64>() * levels.unwrap_or(1)
        } else {
            0
        };
        for at in group {
            let outside = self
                .edges(*at)
                .iter()
                .filter(|edge| !group.contains(&edge.to));
            let depth_of = |edge: &Edge| edge.depth + self.depths.depth.get(&edge.to).unwrap_or(&0);
            let deepest = outside.max_by_key(|edge| depth_of(edge));
            let own = self.functions.get(at).map_or(0, |function| function.frame);
            let below = deepest.map_or(0, depth_of).max(own);
            let next = deepest
                .filter(|edge| depth_of(edge) > own)
                .map(|edge| edge.to);
            self.depths.depth.insert(*at, below);
            self.depths.next.extend(next.map(|next| (*at, next)));
        }
        if recursive {
            // Any function of the group may be the last, so the one with the deepest path on counts.
            let most = group.iter().max_by_key(|at| self.depths.depth[at]).copied();
            let Some(most) = most else { return };
            let depth = self.depths.depth[&most] + above;
            for at in group {
                self.depths.depth.insert(*at, depth);
                if *at != most {
                    self.depths.next.insert(*at, most);
                }
            }
        }
    }
}

impl Depths {
    /// The deepest of `roots`.
    pub fn worst(&self, roots: &[u64]) -> u64 {
        let deepest = roots.iter().max_by_key(|root| self.of(**root));
        deepest.copied().unwrap_or(0)
    }

    /// The bytes that a call of the function may need, without its return address.
    pub fn of(&self, at: u64) -> u64 {
        self.depth.get(&at).copied().unwrap_or(0)
    }

    /// Whether a root leads to this function.
    pub fn reaches(&self, at: u64) -> bool {
        self.depth.contains_key(&at)
    }

    /// The functions on the deepest path.
    pub fn way(&self, at: u64) -> Vec<u64> {
        std::iter::successors(Some(at), |at| self.next.get(at).copied())
            .take(64)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::code::{Edge, Function};
    use super::depths;
    use std::collections::BTreeMap;

    /// Functions of 8 bytes each, given by the functions that they call.
    fn graph(calls: &[(u64, &[u64])]) -> BTreeMap<u64, Function> {
        let function = |to: &[u64]| Function {
            frame: 8,
            edges: to.iter().map(|to| Edge { depth: 16, to: *to }).collect(),
            ..Function::default()
        };
        calls.iter().map(|(at, to)| (*at, function(to))).collect()
    }

    #[test]
    fn the_deepest_way_counts() {
        let functions = graph(&[(1, &[2, 3]), (2, &[4]), (3, &[]), (4, &[3])]);
        let found = depths(&functions, &BTreeMap::new(), &|_| None, &[1]);
        assert_eq!((found.of(1), found.way(1)), (3 * 16 + 8, vec![1, 2, 4, 3]));
        assert!(found.cycles.is_empty());
    }

    #[test]
    fn a_recursion_is_bounded_or_found() {
        let functions = graph(&[(1, &[2]), (2, &[3]), (3, &[2, 4]), (4, &[])]);
        let found = depths(&functions, &BTreeMap::new(), &|_| None, &[1]);
        assert_eq!(found.cycles.len(), 1);
        let found = depths(&functions, &BTreeMap::new(), &|_| Some(3), &[1]);
        // Both three times, then the path on.
        assert_eq!(found.of(1), 16 + 3 * 32 + 16 + 8);
    }
}
