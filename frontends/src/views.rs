//! Standing plans, as rules and subscriptions use them: a trait, so that tests can put fakes behind it.
//!
//! The real thing is the live runtime, [`Live`].

use engine::live::{Live, Sink, TapId, ViewId, ViewSpec};

/// Who keeps plans standing.
pub trait Views: Send + Sync {
    /// Installs a view.
    fn install(&self, view: ViewSpec) -> Result<ViewId, String>;
    /// Removes a view and its taps.
    fn remove(&self, view: ViewId);
    /// Attaches a consumer: a snapshot first, then changes.
    fn tap(&self, view: ViewId, sink: Box<dyn Sink>) -> TapId;
    /// Detaches a consumer.
    fn untap(&self, tap: TapId);
}

impl Views for Live {
    fn install(&self, view: ViewSpec) -> Result<ViewId, String> {
        Live::install(self, view)
    }
    fn remove(&self, view: ViewId) {
        Live::remove(self, view);
    }
    fn tap(&self, view: ViewId, sink: Box<dyn Sink>) -> TapId {
        Live::tap(self, view, sink)
    }
    fn untap(&self, tap: TapId) {
        Live::untap(self, tap);
    }
}
