//! Views (queries whose answers are kept current) that subscriptions share: equal plans are
//! installed once.
//!
//! A [`ViewLease`] keeps a view installed. When the last lease is dropped, the view lingers for
//! [`VIEW_LINGER`], so that a reloaded page finds it, and is then removed.

use super::super::limits::{SUBSCRIBED_VIEWS, VIEW_LINGER};
use super::super::low_priority::blocking;
use engine::live::{Sink, TapId, ViewError, ViewId, ViewKind, ViewSpec};
use engine::plan::Plan;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use storage::execution::Execution;
use views::ViewRegistry;

/// The views that subscriptions use.
pub struct SharedViews {
    views: Arc<dyn ViewRegistry>,
    execution: Execution,
    shared: Mutex<HashMap<Plan, Arc<SharedView>>>,
}

struct SharedView {
    /// Set by the first user. The other users wait for it, but not under the lock of the map.
    id: OnceLock<Result<ViewId, ViewError>>,
    users: Mutex<SharedViewUsers>,
}

#[derive(Default)]
struct SharedViewUsers {
    count: usize,
    /// Grows with each new user: a linger timer that finds it changed does nothing.
    arrivals: u64,
}

impl SharedViews {
    /// Starts without views.
    pub fn new(views: Arc<dyn ViewRegistry>, execution: Execution) -> Arc<SharedViews> {
        Arc::new(SharedViews { views, execution, shared: Mutex::default() })
    }

    /// The number of views, including lingering ones.
    pub fn count(&self) -> usize {
        self.shared.lock().len()
    }

    /// The view of `plan`, installed if necessary. Blocks.
    pub fn acquire(self: &Arc<Self>, plan: &Plan, name: &str) -> Result<ViewLease, ViewError> {
        let standing = self.add_user(plan)?;
        let install = || {
            let spec = ViewSpec { name: name.to_owned(), plan: plan.clone(), kind: ViewKind::NOW };
            self.views.install(spec)
        };
        match standing.id.get_or_init(install) {
            Ok(id) => Ok(ViewLease { shared: self.clone(), plan: Some(plan.clone()), id: *id }),
            Err(e) => {
                let mut all = self.shared.lock();
                // Another user may have retried in the meantime: keep that entry.
                if all.get(plan).is_some_and(|found| Arc::ptr_eq(found, &standing)) {
                    all.remove(plan);
                }
                Err(e.clone())
            }
        }
    }

    /// A lease of a view with another owner, which removes it.
    pub fn borrow(self: &Arc<Self>, id: ViewId) -> ViewLease {
        ViewLease { shared: self.clone(), plan: None, id }
    }

    fn add_user(&self, plan: &Plan) -> Result<Arc<SharedView>, ViewError> {
        let mut standing = self.shared.lock();
        if standing.len() >= SUBSCRIBED_VIEWS && !standing.contains_key(plan) {
            let reason = format!("too many different subscriptions (limit {SUBSCRIBED_VIEWS})");
            return Err(ViewError::LimitReached(reason));
        }
        let fresh = || Arc::new(SharedView { id: OnceLock::new(), users: Mutex::default() });
        let found = standing.entry(plan.clone()).or_insert_with(fresh).clone();
        let mut users = found.users.lock();
        users.count += 1;
        users.arrivals += 1;
        drop(users);
        Ok(found)
    }

    /// Removes a user; after the last one the view lingers.
    fn remove_user(self: &Arc<Self>, plan: &Plan) {
        let Some(standing) = self.shared.lock().get(plan).cloned() else { return };
        let mut users = standing.users.lock();
        users.count = users.count.saturating_sub(1);
        if users.count > 0 {
            return;
        }
        let shared = self.clone();
        let plan = plan.clone();
        let arrivals = users.arrivals;
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn(async move {
                tokio::time::sleep(VIEW_LINGER).await;
                // The removal may wait for the live runtime.
                let _ = blocking(shared.execution, move || shared.remove_idle(&plan, arrivals)).await;
            })),
            // Outside of the runtime no user can return: the server is shutting down.
            Err(_) => {
                tracing::debug!(target: "web", "a subscribed view is not removed: the async runtime has ended")
            }
        }
    }

    /// Removes the view if no user has arrived since.
    fn remove_idle(&self, plan: &Plan, arrivals: u64) {
        let mut standing = self.shared.lock();
        let idle = |found: &Arc<SharedView>| {
            let users = found.users.lock();
            users.count == 0 && users.arrivals == arrivals
        };
        if !standing.get(plan).is_some_and(idle) {
            return;
        }
        let removed = standing.remove(plan);
        drop(standing);
        if let Some(Ok(id)) = removed.as_ref().and_then(|found| found.id.get()) {
            self.views.remove(*id);
        }
    }
}

/// Keeps a view installed until it is dropped, or refers to a view with another owner.
pub struct ViewLease {
    shared: Arc<SharedViews>,
    /// `None`: the view has another owner.
    plan: Option<Plan>,
    id: ViewId,
}

impl ViewLease {
    /// Attaches a consumer.
    pub fn tap(&self, sink: Box<dyn Sink>) -> TapId {
        self.shared.views.tap(self.id, sink)
    }

    /// Detaches a consumer.
    pub fn untap(&self, tap: TapId) {
        self.shared.views.untap(tap);
    }
}

impl Drop for ViewLease {
    fn drop(&mut self) {
        if let Some(plan) = &self.plan {
            self.shared.remove_user(plan);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::plan::{BitFloat, PlanNode, PlanOp, Span};
    use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

    #[derive(Default)]
    struct Counting {
        installed: AtomicU64,
        removed: AtomicU64,
    }

    impl ViewRegistry for Counting {
        fn install(&self, view: ViewSpec) -> Result<ViewId, ViewError> {
            if view.name == "bad" {
                return Err(ViewError::Unsupported("cannot stand".into()));
            }
            Ok(ViewId(self.installed.fetch_add(1, SeqCst)))
        }
        fn remove(&self, _: ViewId) {
            self.removed.fetch_add(1, SeqCst);
        }
        fn tap(&self, _: ViewId, _: Box<dyn Sink>) -> TapId {
            TapId(0)
        }
        fn untap(&self, _: TapId) {}
    }

    fn plan(v: f64, start: u32) -> Plan {
        Arc::new(PlanNode { op: PlanOp::Number(BitFloat(v)), span: Span { start, end: start + 1 } })
    }

    #[test]
    fn equal_plans_share_a_view_until_nobody_comes_back() {
        let counting = Arc::new(Counting::default());
        let shared = SharedViews::new(counting.clone(), Execution::Threads);
        let first = shared.acquire(&plan(1.0, 0), "1").unwrap();
        // The plans are equal although the positions in their texts differ.
        let second = shared.acquire(&plan(1.0, 7), " 1").unwrap();
        let other = shared.acquire(&plan(2.0, 0), "2").unwrap();
        assert_eq!((first.id, other.id, counting.installed.load(SeqCst)), (second.id, ViewId(1), 2));
        drop(first);
        shared.remove_idle(&plan(1.0, 0), 2);
        assert_eq!(shared.count(), 2, "somebody still uses it");
        drop(second);
        let back = shared.acquire(&plan(1.0, 0), "1").unwrap();
        drop(back);
        shared.remove_idle(&plan(1.0, 0), 2);
        assert_eq!(shared.count(), 2, "somebody came while it lingered");
        shared.remove_idle(&plan(1.0, 0), 3);
        assert_eq!((shared.count(), counting.removed.load(SeqCst)), (1, 1));
    }

    #[test]
    fn what_cannot_stand_is_not_kept() {
        let shared = SharedViews::new(Arc::new(Counting::default()), Execution::Threads);
        assert_eq!(
            shared.acquire(&plan(1.0, 0), "bad").err(),
            Some(ViewError::Unsupported("cannot stand".into()))
        );
        assert_eq!(shared.count(), 0);
        assert!(shared.acquire(&plan(1.0, 0), "good").is_ok());
    }
}
