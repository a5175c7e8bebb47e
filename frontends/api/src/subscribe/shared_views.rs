//! [`SharedViews`]: views that several subscriptions share. Equal plans are installed once.
//!
//! A [`ViewLease`] keeps a view installed. After the last lease is dropped, the view stays for
//! [`VIEW_LINGER`], so that a reloaded page finds it, and is then removed. The memory of all views
//! is bounded by [`super::state_budget`].

use super::super::limits::{STATE_MEASURED, STATE_REFUSED, SUBSCRIBED_VIEWS, VIEW_LINGER, VIEWS_PER_PAGE};
use super::super::low_priority::blocking;
use super::state_budget::{StateBudget, StateRefusal};
use engine::live::{Sink, TapId, ViewError, ViewId, ViewKind, ViewSpec};
use engine::plan::Plan;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::Instant;
use storage::execution::Execution;
use views::ViewRegistry;

/// The views that subscriptions use.
pub struct SharedViews {
    views: Arc<dyn ViewRegistry>,
    execution: Execution,
    shared: Mutex<HashMap<Plan, Arc<SharedView>>>,
    budget: StateBudget,
    /// Plans whose views held too much, and when that was found.
    refused: Mutex<HashMap<Plan, (StateRefusal, Instant)>>,
}

struct SharedView {
    /// Set by the first user. The other users wait for it, but not under the lock of the map.
    installed: OnceLock<Result<InstalledView, ViewError>>,
    users: Mutex<SharedViewUsers>,
}

/// A view of subscriptions.
struct InstalledView {
    id: ViewId,
    /// Its bytes of the budget.
    bytes: AtomicUsize,
    /// Why it does not stand although it could.
    refusal: Option<StateRefusal>,
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
        let (shared, budget, refused) = Default::default();
        Arc::new(SharedViews { views, execution, shared, budget, refused })
    }

    /// The number of views, including lingering ones.
    pub fn count(&self) -> usize {
        self.shared.lock().len()
    }

    /// The view of `plan`, installed if necessary. `estimate`: about how many bytes it would hold.
    /// Blocks.
    pub fn acquire(
        self: &Arc<Self>,
        plan: &Plan,
        name: &str,
        estimate: impl FnOnce() -> Result<usize, StateRefusal>,
    ) -> Result<ViewLease, ViewError> {
        let standing = self.add_user(plan)?;
        let install = || {
            let spec = ViewSpec { name: name.to_owned(), plan: plan.clone(), kind: ViewKind::NOW };
            let sized = self.known_refusal(plan).map_or_else(estimate, Err);
            let taken = sized.and_then(|bytes| self.budget.take(bytes).map(|()| bytes));
            let bytes = *taken.as_ref().unwrap_or(&0);
            let id = match &taken {
                Ok(_) => self.views.install(spec),
                Err(_) => self.views.install_scheduled(spec),
            };
            let id = id.inspect_err(|_| self.budget.release(bytes))?;
            Ok(InstalledView { id, bytes: AtomicUsize::new(bytes), refusal: taken.err() })
        };
        match standing.installed.get_or_init(install) {
            Ok(view) => Ok(ViewLease {
                shared: self.clone(),
                plan: Some(plan.clone()),
                id: view.id,
                refusal: view.refusal.clone(),
            }),
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
        ViewLease { shared: self.clone(), plan: None, id, refusal: None }
    }

    /// Why the view of a plan may not stand, if that was found not long ago.
    fn known_refusal(&self, plan: &Plan) -> Option<StateRefusal> {
        let mut refused = self.refused.lock();
        refused.retain(|_, (_, since)| since.elapsed() < STATE_REFUSED);
        refused.get(plan).map(|(refusal, _)| refusal.clone())
    }

    fn add_user(self: &Arc<Self>, plan: &Plan) -> Result<Arc<SharedView>, ViewError> {
        let mut standing = self.shared.lock();
        if standing.is_empty() {
            self.watch();
        }
        if standing.len() >= SUBSCRIBED_VIEWS && !standing.contains_key(plan) {
            let reason = format!("too many different subscriptions (limit {SUBSCRIBED_VIEWS})");
            return Err(ViewError::LimitReached(reason));
        }
        let fresh = || Arc::new(SharedView { installed: OnceLock::new(), users: Mutex::default() });
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
        if let Some(Ok(view)) = removed.as_ref().and_then(|found| found.installed.get()) {
            self.end(view);
        }
    }

    fn end(&self, view: &InstalledView) {
        self.views.remove(view.id);
        self.budget.release(view.bytes.swap(0, Relaxed));
    }

    /// Measures what the views hold from time to time, until there are none.
    fn watch(self: &Arc<Self>) {
        if self.execution == Execution::Caller {
            // The live runtime answers in the thread that would wait for it here.
            return;
        }
        let shared = self.clone();
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        drop(runtime.spawn(async move {
            loop {
                tokio::time::sleep(STATE_MEASURED).await;
                if shared.count() == 0 {
                    return;
                }
                let measured = shared.clone();
                // Waits for a tick of the live runtime.
                let _ = blocking(shared.execution, move || measured.measure()).await;
            }
        }));
    }

    /// Ends the views that hold too much. Their subscribers hear that the view is gone, and
    /// subscribe again.
    fn measure(&self) {
        let sizes = self.sizes();
        let all: Vec<(Plan, Arc<SharedView>)> =
            self.shared.lock().iter().map(|(plan, view)| (plan.clone(), view.clone())).collect();
        for (plan, shared) in all {
            let Some(Ok(view)) = shared.installed.get() else { continue };
            let Some(bytes) = sizes.get(&view.id).filter(|_| view.refusal.is_none()) else { continue };
            let before = view.bytes.swap(*bytes, Relaxed);
            let Some(refusal) = self.budget.measured(before, *bytes) else { continue };
            tracing::warn!(target: "web", bytes, "a subscribed query is not kept current any longer: {refusal}");
            self.refused.lock().insert(plan.clone(), (refusal, Instant::now()));
            self.shared.lock().remove(&plan);
            self.end(view);
        }
    }

    /// What each view holds, bytes.
    fn sizes(&self) -> HashMap<ViewId, usize> {
        let mut sizes = HashMap::new();
        let mut from = ViewId(0);
        loop {
            let Ok(page) = self.views.describe(from, VIEWS_PER_PAGE) else { return sizes };
            let Some(last) = page.views.last().map(|view| view.id) else { return sizes };
            let is_last = page.views.len() < VIEWS_PER_PAGE;
            let views = page.views.into_iter();
            sizes.extend(views.filter_map(|view| Some((view.id, view.work?.state.total))));
            if is_last {
                return sizes;
            }
            from = ViewId(last.0 + 1);
        }
    }
}

/// Keeps a view installed until it is dropped, or refers to a view with another owner.
pub struct ViewLease {
    shared: Arc<SharedViews>,
    /// `None`: the view has another owner.
    plan: Option<Plan>,
    id: ViewId,
    /// Why the view does not stand although it could.
    refusal: Option<StateRefusal>,
}

impl ViewLease {
    /// The view.
    pub fn id(&self) -> ViewId {
        self.id
    }

    /// Why the view does not stand although it could.
    pub fn refusal(&self) -> Option<&StateRefusal> {
        self.refusal.as_ref()
    }

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
    use super::super::super::limits::{SUBSCRIBED_STATE_BYTES, SUBSCRIBED_VIEW_BYTES};
    use super::*;
    use engine::live::describe::{
        AnswerReport, ByteCount, DescribeError, Description, ViewFootprint, ViewReport,
    };
    use engine::plan::{BitFloat, PlanNode, PlanOp, Span};
    use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

    #[derive(Default)]
    struct CountingRegistry {
        installed: AtomicU64,
        scheduled: AtomicU64,
        removed: AtomicU64,
        /// The bytes of every view.
        state: AtomicU64,
    }

    impl ViewRegistry for CountingRegistry {
        fn install(&self, view: ViewSpec) -> Result<ViewId, ViewError> {
            if view.name == "bad" {
                return Err(ViewError::Unsupported("cannot stand".into()));
            }
            Ok(ViewId(self.installed.fetch_add(1, SeqCst)))
        }
        fn install_scheduled(&self, _: ViewSpec) -> Result<ViewId, ViewError> {
            Ok(ViewId(1_000 + self.scheduled.fetch_add(1, SeqCst)))
        }
        fn describe(&self, _: ViewId, _: usize) -> Result<Description, DescribeError> {
            let report = |id| {
                let spec = ViewSpec { name: String::new(), plan: plan(0.0, 0), kind: ViewKind::NOW };
                let total = self.state.load(SeqCst) as usize;
                let work =
                    ViewFootprint { state: ByteCount { total, shared: 0 }, ..ViewFootprint::default() };
                let answer = AnswerReport::default();
                ViewReport { id: ViewId(id), spec, answer, work: Some(work), subquery_cache: None }
            };
            let views = (0..self.installed.load(SeqCst)).map(report).collect();
            Ok(Description { views, ..Description::default() })
        }
        fn remove(&self, _: ViewId) {
            self.removed.fetch_add(1, SeqCst);
        }
        fn tap(&self, _: ViewId, _: Box<dyn Sink>) -> TapId {
            TapId(0)
        }
        fn untap(&self, _: TapId) {}
    }

    #[test]
    fn what_would_hold_too_much_is_evaluated_again_instead() {
        let counting = Arc::new(CountingRegistry::default());
        let shared = SharedViews::new(counting.clone(), Execution::Threads);
        let large = || Ok(SUBSCRIBED_VIEW_BYTES + 1);
        let lease = shared.acquire(&plan(1.0, 0), "1", large).unwrap();
        assert!(matches!(lease.refusal(), Some(StateRefusal::View(_))));
        assert_eq!((counting.installed.load(SeqCst), counting.scheduled.load(SeqCst)), (0, 1));
        let unknown = shared.acquire(&plan(2.0, 0), "2", || Err(StateRefusal::Unknown)).unwrap();
        assert_eq!(unknown.refusal(), Some(&StateRefusal::Unknown));
        let views = SUBSCRIBED_STATE_BYTES / SUBSCRIBED_VIEW_BYTES;
        let full: Vec<ViewLease> = (0..views)
            .map(|i| shared.acquire(&plan(10.0 + i as f64, 0), "x", || Ok(SUBSCRIBED_VIEW_BYTES)).unwrap())
            .collect();
        assert!(full.iter().all(|lease| lease.refusal().is_none()));
        let late = shared.acquire(&plan(3.0, 0), "3", || Ok(1)).unwrap();
        assert!(matches!(late.refusal(), Some(StateRefusal::Together { .. })));
        drop(full);
        shared.remove_idle(&plan(10.0, 0), 1);
        assert!(shared.acquire(&plan(4.0, 0), "4", || Ok(1)).unwrap().refusal().is_none());
    }

    #[test]
    fn a_view_that_has_grown_ends_and_is_not_kept_again() {
        let counting = Arc::new(CountingRegistry::default());
        let shared = SharedViews::new(counting.clone(), Execution::Threads);
        let lease = shared.acquire(&plan(1.0, 0), "1", || Ok(1)).unwrap();
        shared.measure();
        assert_eq!(counting.removed.load(SeqCst), 0);
        counting.state.store(SUBSCRIBED_VIEW_BYTES as u64 + 1, SeqCst);
        shared.measure();
        assert_eq!((counting.removed.load(SeqCst), shared.count()), (1, 0));
        drop(lease);
        let again = shared.acquire(&plan(1.0, 0), "1", || Ok(1)).unwrap();
        assert!(matches!(again.refusal(), Some(StateRefusal::View(_))));
    }

    fn plan(v: f64, start: u32) -> Plan {
        Arc::new(PlanNode { op: PlanOp::Number(BitFloat(v)), span: Span { start, end: start + 1 } })
    }

    #[test]
    fn equal_plans_share_a_view_until_nobody_comes_back() {
        let counting = Arc::new(CountingRegistry::default());
        let shared = SharedViews::new(counting.clone(), Execution::Threads);
        let first = shared.acquire(&plan(1.0, 0), "1", || Ok(1)).unwrap();
        // The plans are equal although the positions in their texts differ.
        let second = shared.acquire(&plan(1.0, 7), " 1", || Ok(1)).unwrap();
        let other = shared.acquire(&plan(2.0, 0), "2", || Ok(1)).unwrap();
        assert_eq!((first.id, other.id, counting.installed.load(SeqCst)), (second.id, ViewId(1), 2));
        drop(first);
        shared.remove_idle(&plan(1.0, 0), 2);
        assert_eq!(shared.count(), 2, "somebody still uses it");
        drop(second);
        let back = shared.acquire(&plan(1.0, 0), "1", || Ok(1)).unwrap();
        drop(back);
        shared.remove_idle(&plan(1.0, 0), 2);
        assert_eq!(shared.count(), 2, "somebody came while it lingered");
        shared.remove_idle(&plan(1.0, 0), 3);
        assert_eq!((shared.count(), counting.removed.load(SeqCst)), (1, 1));
    }

    #[test]
    fn what_cannot_stand_is_not_kept() {
        let shared = SharedViews::new(Arc::new(CountingRegistry::default()), Execution::Threads);
        assert_eq!(
            shared.acquire(&plan(1.0, 0), "bad", || Ok(1)).err(),
            Some(ViewError::Unsupported("cannot stand".into()))
        );
        assert_eq!(shared.count(), 0);
        assert!(shared.acquire(&plan(1.0, 0), "good", || Ok(1)).is_ok());
    }
}
