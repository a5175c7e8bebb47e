//! The first answers of views that have just begun: which views have not sent theirs yet, and the
//! steps that must be evaluated for them. A restart begins a thousand views at once, so the work
//! between ticks (a preparation, [`super::GatherExecutor::prepare`]) sends a few first answers at a
//! time.

use super::super::ViewId;
use crate::operators::step_set::StepSet;
use std::collections::VecDeque;

/// Views that have not sent their first answer.
#[derive(Default)]
pub(super) struct FirstAnswers {
    /// Views that became active but have not sent their first answer. Preparations work through
    /// this queue, so that no single tick has to send all of them.
    pub views: VecDeque<ViewId>,
    /// The steps of views that began: no tick since the latest preparation has evaluated them.
    pub steps: StepSet,
}
