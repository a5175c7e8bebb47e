//! In which round of a tick each view is evaluated. (A tick is one evaluation of all views that are
//! due. It has rounds, so that a rule sees what other rules record in the same tick.) A view that
//! reads nothing recorded is in round 0, every other one is one round after the last view that it
//! reads.
//!
//! Every executor computes the rounds. They depend only on the views and the order of their ids, so
//! all executors get the same, also after a restart.

use super::InstalledView;
use super::components::components;
use crate::live::{ViewId, ViewKind, ViewSpec};
use crate::plan::row_labels::{RowLabels, for_each_selector, required_name};
use std::collections::{BTreeMap, HashMap, HashSet};
use storage::model::Matcher;
use storage::model::labels::METRIC_NAME;

/// With how many earlier views of the same metric and labels a view is compared: a bound on the
/// work. Of two views further apart that record the same series, either may be evaluated first.
const SAME_RECORD_LOOKBACK: usize = 64;

/// The recorded views that one view reads, or must be evaluated after. Both lists are sorted,
/// without duplicates.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ViewDependencies {
    /// Views whose metric name a selector requires, or whose rows it certainly matches.
    pub certain: Vec<ViewId>,
    /// Views whose rows a selector without a metric name may match: their labels are not known
    /// before evaluation.
    pub possible: Vec<ViewId>,
    /// An earlier view that may record the same series: it must be evaluated first, because the
    /// first sample stays.
    pub earlier_recorder: Option<ViewId>,
}

impl ViewDependencies {
    /// All these views.
    pub fn all(&self) -> impl Iterator<Item = ViewId> + '_ {
        self.certain.iter().chain(&self.possible).chain(&self.earlier_recorder).copied()
    }
}

/// The round of each view.
pub(super) fn rounds(views: &BTreeMap<ViewId, InstalledView>) -> HashMap<ViewId, u64> {
    let specs = || views.iter().map(|(id, view)| (*id, &*view.spec));
    rounds_of(&dependencies_of(specs()))
}

/// The round of each view, as the [`table`](super::ViewTable) uses it: the length of the longest
/// chain of recorded views below it.
///
/// Views that read each other in a cycle cannot all see each other's answers of one tick. First,
/// edges of a cycle that are only possible are ignored. Cycles that remain are cut as Prometheus
/// does it in a group: a view sees the answers of this tick from views that were installed before
/// it, and those of the previous tick from the others.
pub fn rounds_of(dependencies: &BTreeMap<ViewId, ViewDependencies>) -> HashMap<ViewId, u64> {
    let all: BTreeMap<ViewId, Vec<ViewId>> =
        dependencies.iter().map(|(id, dependencies)| (*id, dependencies.all().collect())).collect();
    // First pass: edges that are only possible are dropped where they would close a cycle. An alert
    // over `{job="x"}` would otherwise be in a cycle with every rule that may record such a series.
    let component = components(&all);
    let together = |a: ViewId, b: ViewId| a == b || component[&a] == component[&b];
    let certain = dependencies.iter().map(|(id, dependencies)| {
        let possible = dependencies.possible.iter().filter(|other| !together(*id, **other));
        (
            *id,
            dependencies
                .certain
                .iter()
                .chain(possible)
                .chain(&dependencies.earlier_recorder)
                .copied()
                .collect(),
        )
    });
    let mut edges: BTreeMap<ViewId, Vec<ViewId>> = certain.collect();
    // Second pass, over the edges that remain: cycles of certain edges are cut at the edges to
    // later views.
    let component = components(&edges);
    for (id, below) in &mut edges {
        // Ids ascend in the order of installation, which is the order of the rules in their files.
        below.retain(|other| component[id] != component[other] || other < id);
    }
    longest_chains(&edges)
}

/// The recorded views among `specs` that each of them reads.
pub fn dependencies_of<'a>(
    specs: impl Iterator<Item = (ViewId, &'a ViewSpec)> + Clone,
) -> BTreeMap<ViewId, ViewDependencies> {
    let recorded = RecordedViews::from_specs(specs.clone());
    let mut all: BTreeMap<ViewId, ViewDependencies> =
        specs.clone().map(|(id, spec)| (id, recorded.read_by(spec))).collect();
    for (id, before) in with_earlier_recorders(specs) {
        all.entry(id).or_default().earlier_recorder = Some(before);
    }
    all
}

/// Views that may record the same series as an earlier view, with the latest such view.
fn with_earlier_recorders<'a>(
    specs: impl Iterator<Item = (ViewId, &'a ViewSpec)> + Clone,
) -> Vec<(ViewId, ViewId)> {
    /// A metric, and the labels that a rule sets.
    type Target<'a> = (&'a str, &'a [(String, String)]);
    let mut alike: BTreeMap<Target, Vec<(ViewId, &ViewSpec)>> = BTreeMap::new();
    for (id, spec) in specs {
        if let ViewKind::Recorded { record, labels, .. } = &spec.kind {
            alike.entry((record, labels)).or_default().push((id, spec));
        }
    }
    let mut pairs = Vec::new();
    for views in alike.into_values().filter(|views| views.len() > 1) {
        let rows: Vec<Option<RowLabels>> = views.iter().map(|(_, spec)| recorded_rows(spec)).collect();
        for (i, (id, _)) in views.iter().enumerate() {
            // The nearest earlier one is enough: it follows its own predecessor, so the order is a
            // chain.
            let earlier = (i.saturating_sub(SAME_RECORD_LOOKBACK)..i).rev();
            let may_equal = |a: &Option<RowLabels>, b: &Option<RowLabels>| {
                a.as_ref().zip(b.as_ref()).is_some_and(|(a, b)| a.may_equal(b))
            };
            let before = earlier.into_iter().find(|j| may_equal(&rows[*j], &rows[i]));
            pairs.extend(before.map(|j| (*id, views[j].0)));
        }
    }
    pairs
}

/// The recorded views, and the labels of their rows.
struct RecordedViews<'a> {
    by_name: HashMap<&'a str, Vec<ViewId>>,
    /// In the order of their ids.
    rows: Vec<(ViewId, RowLabels)>,
}

impl<'a> RecordedViews<'a> {
    fn from_specs(specs: impl Iterator<Item = (ViewId, &'a ViewSpec)> + Clone) -> RecordedViews<'a> {
        let mut by_name: HashMap<&str, Vec<ViewId>> = HashMap::new();
        let mut any_without_name = false;
        for (id, spec) in specs.clone() {
            if let ViewKind::Recorded { record, .. } = &spec.kind {
                by_name.entry(record.as_str()).or_default().push(id);
            }
            for_each_selector(&spec.plan, &mut |matchers| {
                any_without_name |= required_name(matchers).is_none()
            });
        }
        // Only selectors without a name need the labels of rows; most sets of rules have none.
        let rows =
            specs.filter(|_| any_without_name).filter_map(|(id, spec)| Some((id, recorded_rows(spec)?)));
        RecordedViews { by_name, rows: rows.collect() }
    }

    fn read_by(&self, spec: &ViewSpec) -> ViewDependencies {
        let mut certain = Vec::new();
        let mut possible = Vec::new();
        for_each_selector(&spec.plan, &mut |matchers: &[Matcher]| match required_name(matchers) {
            Some(name) => certain.extend(self.by_name.get(name).into_iter().flatten()),
            None => {
                for (id, rows) in self.rows.iter().filter(|(_, rows)| rows.may_match(matchers)) {
                    // A recorded series that certainly matches makes a real dependency; one that
                    // only may match must not force an order that a cycle contradicts.
                    let list = if rows.must_match(matchers) { &mut certain } else { &mut possible };
                    list.push(*id);
                }
            }
        });
        certain.sort_unstable();
        certain.dedup();
        let known: HashSet<ViewId> = certain.iter().copied().collect();
        possible.retain(|id| !known.contains(id));
        possible.sort_unstable();
        possible.dedup();
        ViewDependencies { certain, possible, earlier_recorder: None }
    }
}

/// The labels of what a view records; `None`: it records nothing.
fn recorded_rows(spec: &ViewSpec) -> Option<RowLabels> {
    let ViewKind::Recorded { record, labels, .. } = &spec.kind else { return None };
    let mut rows = RowLabels::from_plan(&spec.plan);
    for (name, value) in labels.iter() {
        rows.set(name, value);
    }
    rows.set(METRIC_NAME, record);
    Some(rows)
}

/// For each view the length of the longest chain below it, bounded by the number of rounds of a
/// tick. Without recursion, because a chain of rules may be long.
fn longest_chains(edges: &BTreeMap<ViewId, Vec<ViewId>>) -> HashMap<ViewId, u64> {
    let most = crate::limits::TICK_ROUNDS - 1;
    let mut rounds: HashMap<ViewId, u64> = HashMap::new();
    for start in edges.keys() {
        // Each view on the path, and how many views below it have been visited.
        let mut path = vec![(*start, 0)];
        while let Some((id, known)) = path.last_mut() {
            let id = *id;
            let below = edges.get(&id).map_or(&[] as &[ViewId], Vec::as_slice);
            // A view that was reached twice before it was finished is finished by now; its further
            // edges need no visit.
            if let Some(other) = below.get(*known).filter(|_| !rounds.contains_key(&id)) {
                *known += 1;
                if !rounds.contains_key(other) {
                    path.push((*other, 0));
                }
                continue;
            }
            let round = below.iter().map(|other| rounds[other] + 1).max().unwrap_or(0);
            rounds.insert(id, round.min(most));
            path.pop();
        }
    }
    rounds
}
