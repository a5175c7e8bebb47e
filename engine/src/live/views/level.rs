//! Levels: in which round of a tick a view is evaluated, from the recorded views that it reads.

use super::View;
use crate::live::{ViewId, ViewKind, ViewSpec};
use std::collections::{BTreeMap, HashMap};
use storage::model::Matcher;
use storage::model::labels::METRIC_NAME;

/// The level of each view: longest chain of recorded views below it.
pub(super) fn levels(views: &BTreeMap<ViewId, View>) -> HashMap<ViewId, u64> {
    let specs = || views.iter().map(|(id, view)| (*id, &*view.spec));
    levels_of(views.keys().copied(), &readers(specs()))
}

/// As [`Views`] does: the level of each of `ids`, where `reads` says which views each one reads.
pub fn levels_of(
    ids: impl Iterator<Item = ViewId>,
    reads: &HashMap<ViewId, Vec<ViewId>>,
) -> HashMap<ViewId, u64> {
    let mut levels = HashMap::new();
    ids.for_each(|id| level(id, reads, &mut levels));
    levels
}

/// The recorded views among `specs` that each of them may read.
pub fn readers<'a>(
    specs: impl Iterator<Item = (ViewId, &'a ViewSpec)> + Clone,
) -> HashMap<ViewId, Vec<ViewId>> {
    let mut by_record: HashMap<&str, Vec<ViewId>> = HashMap::new();
    for (id, spec) in specs.clone() {
        if let ViewKind::Recorded { record, .. } = &spec.kind {
            by_record.entry(record.as_str()).or_default().push(id);
        }
    }
    match by_record.is_empty() {
        true => HashMap::new(),
        false => specs.map(|(id, spec)| (id, reads(spec, &by_record))).collect(),
    }
}

/// The recorded views whose series a view may read: its metric name matchers accept their name.
fn reads(spec: &ViewSpec, by_record: &HashMap<&str, Vec<ViewId>>) -> Vec<ViewId> {
    let mut found = Vec::new();
    let mut walk = vec![&spec.plan];
    while let Some(plan) = walk.pop() {
        walk.extend(plan.inputs());
        let selector = match &plan.op {
            crate::plan::Op::Instant(selector) | crate::plan::Op::Range { selector, .. } => selector,
            _ => continue,
        };
        let names: Vec<&Matcher> = selector.matchers.iter().filter(|m| m.name == METRIC_NAME).collect();
        let pinned = names.iter().find(|m| m.op == storage::model::MatchOp::Equal);
        match pinned {
            Some(m) => found.extend(by_record.get(m.value.as_str()).into_iter().flatten()),
            None => found.extend(
                by_record
                    .iter()
                    .filter(|(name, _)| names.iter().all(|m| m.matches(name)))
                    .flat_map(|(_, ids)| ids),
            ),
        }
    }
    found
}

/// Depth-first, without recursion: a chain of rules may be long. A view met again on its own path is a cycle,
/// and is read there as of the last tick.
fn level(id: ViewId, reads: &HashMap<ViewId, Vec<ViewId>>, levels: &mut HashMap<ViewId, u64>) {
    let mut path: Vec<(ViewId, usize, u64)> = vec![(id, 0, 0)];
    let nothing = Vec::new();
    while let Some((current, next, own)) = path.pop() {
        if next == 0 && levels.contains_key(&current) {
            continue;
        }
        let below = reads.get(&current).unwrap_or(&nothing);
        let Some(reads_id) = below.get(next) else {
            levels.insert(current, own.min(crate::limits::TICK_ROUNDS - 1));
            continue;
        };
        let cyclic = *reads_id == current || path.iter().any(|(on_path, ..)| on_path == reads_id);
        match levels.get(reads_id) {
            _ if cyclic => path.push((current, next + 1, own)),
            Some(level) => path.push((current, next + 1, own.max(level + 1))),
            None => {
                path.push((current, next, own));
                path.push((*reads_id, 0, 0));
            }
        }
    }
}
