//! Control messages (install a view, remove it, attach a consumer, ...) as an executor handles
//! them. A worker has two executors, [`super::local`] and [`super::gather`], and each implements
//! [`ControlTarget`]. Both receive the same messages in the same order, and must come to the same
//! table of views. The messages are in [`super::message`]; [`super::control_queue`] holds them
//! until a tick.

use super::describe::DescribeRequest;
use super::message::{Control, InstallBatchId};
use super::views::ViewRequest;
use super::{TapId, ViewId};
use storage::model::Matcher;

/// What an executor does with control messages.
///
/// # Contract
/// 1. Every executor of every worker gets the same messages in the same order, at the same tick.
///    What it decides must follow from these alone, and never from a clock, a thread or the order
///    of a hash table: workers number steps and rings without talking to each other.
/// 2. A message for a view that does not exist (any more) is ignored: removals and requests may
///    cross.
/// 3. Messages are applied between ticks, or at the begin of one, and must not evaluate anything.
pub(super) trait ControlTarget {
    /// Adds a view to an install batch.
    fn install(&mut self, id: ViewId, request: ViewRequest, batch: InstallBatchId);
    /// Begins an install batch.
    fn begin(&mut self, batch: InstallBatchId);
    /// Removes a view.
    fn remove(&mut self, id: ViewId);
    /// Has the state of all views that read a selector (`None`: any) built again.
    fn rebuild(&mut self, selector: Option<&[Matcher]>, batch: InstallBatchId);
    /// Makes the tick that has begun evaluate all steps of a view, for a check.
    fn evaluate_for_check(&mut self, id: ViewId);
    /// Attaches a consumer. The local stage has none.
    fn tap(&mut self, _view: ViewId, _tap: TapId) {}
    /// Detaches a consumer.
    fn untap(&mut self, _tap: TapId) {}
}

/// What the messages request of the end of the tick.
#[derive(Default)]
pub(super) struct ControlRequests {
    /// All views that are being installed begin at this tick.
    pub begins_all: bool,
    /// Descriptions to send.
    pub descriptions: Vec<DescribeRequest>,
}

/// Hands all messages of a tick, or of a preparation (`prepares`), to an executor.
pub(super) fn dispatch(
    messages: Vec<Control>,
    prepares: bool,
    target: &mut impl ControlTarget,
) -> ControlRequests {
    let mut requests = ControlRequests::default();
    for message in messages {
        match message {
            Control::Install(id, request, batch) => target.install(id, request, batch),
            Control::Begin(batch) => target.begin(batch),
            // Not here: the executors first wait until the history of these views is read.
            Control::BeginAll => requests.begins_all = true,
            Control::Remove(id) => target.remove(id),
            Control::Rebuild(selector, batch) => target.rebuild(Some(&selector), batch),
            Control::RebuildAll(batch) => target.rebuild(None, batch),
            Control::Tap(view, tap) => target.tap(view, tap),
            Control::Untap(tap) => target.untap(tap),
            Control::Describe(request) => {
                // A preparation evaluates nothing that could be checked.
                if request.check.is_some() && !prepares {
                    target.evaluate_for_check(request.from);
                }
                // Answered at the end of the tick, so that it describes the state after it.
                requests.descriptions.push(request);
            }
            Control::Tick(_) | Control::Prepare(_) => {}
        }
    }
    requests
}
