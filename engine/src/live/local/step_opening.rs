//! The first evaluations of new steps, which read all of their rows: those of one shard after the
//! other, so that one preparation does not do all of it. (A preparation is work between ticks,
//! [`super::LocalExecutor::prepare`].)

use super::shard::LocalShard;
use crate::limits::OPENED_ROWS;
use crate::operators::step_set::StepSet;
use crate::plan::physical::StepId;

/// Which new steps are evaluated next.
#[derive(Default)]
pub(super) struct StepOpening {
    /// Steps of views that began in this preparation: no tick since the previous one has evaluated
    /// them.
    begun: StepSet,
    /// Index of the shard whose new steps are evaluated next.
    next_shard: usize,
}

impl StepOpening {
    /// The steps of a view that has begun.
    pub(super) fn add_begun(&mut self, steps: &[StepId]) {
        self.begun.extend(&steps.iter().copied().collect());
    }

    /// The steps of the views that have begun since the last call.
    pub(super) fn take_begun(&mut self) -> StepSet {
        std::mem::take(&mut self.begun)
    }

    /// Allows new steps to be evaluated for the first time. Unless `at_once`, it stops after some
    /// rows. Returns whether shards are left for the next preparation.
    pub(super) fn open(&mut self, shards: &mut [LocalShard], at_once: bool) -> bool {
        let mut spent = 0;
        for _ in 0..shards.len() {
            if !at_once && spent > OPENED_ROWS {
                return true;
            }
            spent += shards[self.next_shard].open();
            self.next_shard = (self.next_shard + 1) % shards.len();
        }
        false
    }
}
