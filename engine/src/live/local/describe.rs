//! The local executor's part of a description of views ([`crate::live::describe`]): the rows that
//! leaves (selectors and windows) read, their memory, and the rings they use.

use super::super::ViewId;
use super::super::describe::{DescribeRequest, LocalReport, LocalViewReport, RingReport};
use super::LocalExecutor;
use std::collections::BTreeMap;
use storage::model::Matcher;

impl RingReport {
    /// Adds the ring of a shard, with these matchers and how far back it reaches (ms).
    fn add_ring(&mut self, matchers: &[Matcher], retention: i64) {
        if self.selector.is_empty() {
            let matchers: Vec<String> = matchers.iter().map(Matcher::to_string).collect();
            self.selector = format!("{{{}}}", matchers.join(", "));
        }
        self.retention = self.retention.max(retention);
    }
}

impl LocalExecutor {
    /// Describes the views as far as the shards of this worker are concerned.
    pub fn describe(&self, request: &DescribeRequest) -> LocalReport {
        let mut part = LocalReport::default();
        for (id, view) in self.views.page(request.from, request.limit) {
            let mut work = LocalViewReport::default();
            for (step, shared) in self.views.local.distinct(&view.local) {
                for shard in &self.shards {
                    work.state.add(shard.stage.bytes(step), shared);
                    let Some(leaf) = shard.leaves.get(step) else { continue };
                    work.rows += leaf.rows_read_since(view.times.latest(self.now));
                    let bytes = leaf.bytes();
                    work.state.add(bytes.own, shared);
                    work.state.add(bytes.sorted.share, shared || bytes.sorted.is_shared);
                    work.rings.push(leaf.ring);
                    if request.limit > 1 {
                        continue;
                    }
                    let report = work.leaves.entry(step).or_insert_with(|| leaf.report());
                    report.next_due = report.next_due.into_iter().chain(leaf.next_due()).min();
                }
            }
            work.rings.sort_unstable();
            work.rings.dedup();
            part.rings.extend(work.rings.iter().map(|ring| (*ring, RingReport::default())));
            part.views.insert(*id, work);
        }
        self.measure(&mut part.rings);
        self.count_readers(&mut part.rings);
        part
    }

    fn measure(&self, rings: &mut BTreeMap<usize, RingReport>) {
        for (number, report) in rings {
            for empty in self.shards.iter().filter_map(|shard| shard.rings.empty(*number)) {
                report.add_ring(empty.matchers(), empty.retention());
            }
            for ring in self.shards.iter().filter_map(|shard| shard.rings.get(*number)) {
                report.add_ring(ring.matchers(), ring.retention());
                report.series += ring.labels.len();
                report.bytes += ring.bytes();
            }
        }
    }

    /// Counts the views that read each ring, including views that were not requested.
    fn count_readers(&self, rings: &mut BTreeMap<usize, RingReport>) {
        // All shards have the same leaves.
        let Some(shard) = self.shards.first().filter(|_| !rings.is_empty()) else { return };
        let mut ring_of = Vec::new();
        for (step, leaf) in shard.leaves.iter().filter(|(_, leaf)| rings.contains_key(&leaf.ring)) {
            ring_of.resize(step + 1, None);
            ring_of[*step] = Some(leaf.ring);
        }
        let mut last: BTreeMap<usize, ViewId> = BTreeMap::new();
        let mut readers: BTreeMap<usize, usize> = BTreeMap::new();
        for (id, view) in &self.views.all {
            for ring in view.local.iter().filter_map(|step| *ring_of.get(*step)?) {
                // A view with two windows over one ring is one reader.
                if last.insert(ring, *id) != Some(*id) {
                    *readers.entry(ring).or_default() += 1;
                }
            }
        }
        for (number, count) in readers {
            rings.entry(number).or_default().readers = count;
        }
    }
}
