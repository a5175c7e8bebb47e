//! Strongly connected components of the graph of views (Tarjan's algorithm): which views read each
//! other, directly or through others. [`super::rounds`] cuts these cycles.

use crate::live::ViewId;
use std::collections::{BTreeMap, HashMap};

/// The number of the component of each view. Two views have the same number if and only if each
/// reaches the other along `edges`. Every view that an edge leads to must be a key.
///
/// Tarjan's algorithm, without recursion, because a chain of rules may be long.
pub(super) fn components(edges: &BTreeMap<ViewId, Vec<ViewId>>) -> HashMap<ViewId, usize> {
    let mut search = Search::default();
    for start in edges.keys() {
        search.run(*start, edges);
    }
    search.components
}

#[derive(Default)]
struct Search {
    /// When a view was first visited.
    met: HashMap<ViewId, usize>,
    /// The earliest visited view of its component that is known to be reachable from it.
    low: HashMap<ViewId, usize>,
    /// Views whose component is not complete.
    open: Vec<ViewId>,
    components: HashMap<ViewId, usize>,
    /// Number of the next component.
    next: usize,
}

impl Search {
    fn run(&mut self, start: ViewId, edges: &BTreeMap<ViewId, Vec<ViewId>>) {
        if self.met.contains_key(&start) {
            return;
        }
        self.meet(start);
        // Each view on the path, and the index of its next edge.
        let mut path = vec![(start, 0)];
        while let Some((id, at)) = path.last_mut() {
            let id = *id;
            let Some(other) = edges.get(&id).and_then(|below| below.get(*at)).copied() else {
                path.pop();
                self.leave(id, path.last().map(|(above, _)| *above));
                continue;
            };
            *at += 1;
            if !self.met.contains_key(&other) {
                self.meet(other);
                path.push((other, 0));
            } else if !self.components.contains_key(&other) {
                // Only views on the stack: an edge into a finished component says nothing about
                // this one.
                self.lower(id, self.met[&other]);
            }
        }
    }

    fn meet(&mut self, id: ViewId) {
        let at = self.met.len();
        self.met.insert(id, at);
        self.low.insert(id, at);
        self.open.push(id);
    }

    fn lower(&mut self, id: ViewId, to: usize) {
        self.low.entry(id).and_modify(|low| *low = (*low).min(to));
    }

    /// All edges of `id` have been followed; `above` led to it.
    fn leave(&mut self, id: ViewId, above: Option<ViewId>) {
        let low = self.low[&id];
        if let Some(above) = above {
            self.lower(above, low);
        }
        // Some view that was visited earlier can be reached from here, so the component is not
        // complete yet.
        if low != self.met[&id] {
            return;
        }
        while let Some(member) = self.open.pop() {
            self.components.insert(member, self.next);
            if member == id {
                break;
            }
        }
        self.next += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edges(pairs: &[(u64, &[u64])]) -> BTreeMap<ViewId, Vec<ViewId>> {
        pairs.iter().map(|(id, below)| (ViewId(*id), below.iter().map(|id| ViewId(*id)).collect())).collect()
    }

    #[test]
    fn views_that_reach_each_other_are_together() {
        let of = components(&edges(&[
            (1, &[2]),
            (2, &[3]),
            (3, &[1, 4]),
            (4, &[5]),
            (5, &[4]),
            (6, &[6, 5]),
            (7, &[]),
        ]));
        let of = |id: u64| of[&ViewId(id)];
        assert!(of(1) == of(2) && of(2) == of(3));
        assert_eq!(of(4), of(5));
        let mut different = vec![of(1), of(4), of(6), of(7)];
        different.sort_unstable();
        different.dedup();
        assert_eq!(different.len(), 4);
    }

    #[test]
    fn a_long_chain_needs_no_deep_stack() {
        let below = |id: u64| vec![ViewId((id + 1) % 200_000)];
        let chain = (0..200_000).map(|id| (ViewId(id), below(id))).collect();
        let of = components(&chain);
        assert!(of.values().all(|number| *number == of[&ViewId(0)]));
    }
}
