//! The check of a view, which compares a maintained answer with one computed from scratch
//! ([`crate::live::check`](mod@crate::live::check)), as far as the tick that evaluates the view is
//! concerned.

use super::super::ViewId;
use super::super::check::WorkerCheck;

/// Which view is checked, and what has come for it.
#[derive(Default)]
pub(super) struct ViewCheck {
    /// The view that this tick evaluates for a check.
    pub view: Option<ViewId>,
    /// What workers have sent for that check.
    pub reports: Vec<WorkerCheck>,
}
