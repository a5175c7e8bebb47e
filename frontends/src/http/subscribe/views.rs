//! Standing views shared by subscriptions: equal plans are installed once.
//!
//! A [`Lease`] keeps a view; when the last one is gone the view lingers for [`VIEW_LINGER`], so that a reloaded page
//! finds it warm, and is then removed.

use super::super::aside::blocking;
use super::super::limits::{SUBSCRIBED_VIEWS, VIEW_LINGER};
use crate::views::Views;
use engine::live::{Sink, TapId, ViewId, ViewKind, ViewSpec};
use engine::plan::Plan;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use storage::hands::Hands;

/// The views that subscriptions keep.
pub struct SharedViews {
    views: Arc<dyn Views>,
    hands: Hands,
    standing: Mutex<HashMap<Plan, Arc<Standing>>>,
}

struct Standing {
    /// Set by the first user; the others wait for it, but not under the map's lock.
    id: OnceLock<Result<ViewId, String>>,
    users: Mutex<Users>,
}

#[derive(Default)]
struct Users {
    count: usize,
    /// Grows whenever somebody comes: a lingering timer that finds it changed is void.
    arrivals: u64,
}

impl SharedViews {
    /// No view yet.
    pub fn new(views: Arc<dyn Views>, hands: Hands) -> Arc<SharedViews> {
        Arc::new(SharedViews { views, hands, standing: Mutex::default() })
    }

    /// Number of views kept, lingering ones included.
    pub fn count(&self) -> usize {
        self.standing.lock().len()
    }

    /// The view of `plan`, installed if it is not there yet. Blocks.
    pub fn acquire(self: &Arc<Self>, plan: &Plan, name: &str) -> Result<Lease, String> {
        let standing = self.enter(plan)?;
        let install = || {
            let spec = ViewSpec { name: name.to_owned(), plan: plan.clone(), kind: ViewKind::NOW };
            self.views.install(spec)
        };
        match standing.id.get_or_init(install) {
            Ok(id) => Ok(Lease { shared: self.clone(), plan: Some(plan.clone()), id: *id }),
            Err(e) => {
                let mut all = self.standing.lock();
                // Somebody may have tried again meanwhile: theirs stays.
                if all.get(plan).is_some_and(|found| Arc::ptr_eq(found, &standing)) {
                    all.remove(plan);
                }
                Err(e.clone())
            }
        }
    }

    /// A view that others keep: it is theirs to remove.
    pub fn borrow(self: &Arc<Self>, id: ViewId) -> Lease {
        Lease { shared: self.clone(), plan: None, id }
    }

    fn enter(&self, plan: &Plan) -> Result<Arc<Standing>, String> {
        let mut standing = self.standing.lock();
        if standing.len() >= SUBSCRIBED_VIEWS && !standing.contains_key(plan) {
            return Err(format!("too many different subscriptions (limit {SUBSCRIBED_VIEWS})"));
        }
        let fresh = || Arc::new(Standing { id: OnceLock::new(), users: Mutex::default() });
        let found = standing.entry(plan.clone()).or_insert_with(fresh).clone();
        let mut users = found.users.lock();
        (users.count, users.arrivals) = (users.count + 1, users.arrivals + 1);
        drop(users);
        Ok(found)
    }

    /// One user less; the last one starts the lingering.
    fn leave(self: &Arc<Self>, plan: &Plan) {
        let Some(standing) = self.standing.lock().get(plan).cloned() else { return };
        let mut users = standing.users.lock();
        users.count = users.count.saturating_sub(1);
        if users.count > 0 {
            return;
        }
        let (shared, plan, arrivals) = (self.clone(), plan.clone(), users.arrivals);
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn(async move {
                tokio::time::sleep(VIEW_LINGER).await;
                // Removing may wait for the live runtime.
                let _ = blocking(shared.hands, move || shared.remove_idle(&plan, arrivals)).await;
            })),
            // Outside of the runtime nobody comes back: the server is going down.
            Err(_) => tracing::debug!("a subscribed view outlives the runtime"),
        }
    }

    /// Removes the view if nobody has come since.
    fn remove_idle(&self, plan: &Plan, arrivals: u64) {
        let mut standing = self.standing.lock();
        let idle = |found: &Arc<Standing>| {
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

/// Keeps a view standing while it lives, or only knows one that others keep.
pub struct Lease {
    shared: Arc<SharedViews>,
    /// `None`: somebody else keeps it.
    plan: Option<Plan>,
    id: ViewId,
}

impl Lease {
    /// Attaches a consumer.
    pub fn tap(&self, sink: Box<dyn Sink>) -> TapId {
        self.shared.views.tap(self.id, sink)
    }

    /// Detaches a consumer.
    pub fn untap(&self, tap: TapId) {
        self.shared.views.untap(tap);
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.plan.iter().for_each(|plan| self.shared.leave(plan));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::plan::{Node, Number, Op, Span};
    use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

    #[derive(Default)]
    struct Counting {
        installed: AtomicU64,
        removed: AtomicU64,
    }

    impl Views for Counting {
        fn install(&self, view: ViewSpec) -> Result<ViewId, String> {
            if view.name == "bad" {
                return Err("cannot stand".into());
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
        Arc::new(Node { op: Op::Number(Number(v)), span: Span { start, end: start + 1 } })
    }

    #[test]
    fn equal_plans_share_a_view_until_nobody_comes_back() {
        let counting = Arc::new(Counting::default());
        let shared = SharedViews::new(counting.clone(), Hands::Threads);
        let first = shared.acquire(&plan(1.0, 0), "1").unwrap();
        // Equal although it stood elsewhere in its text.
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
        let shared = SharedViews::new(Arc::new(Counting::default()), Hands::Threads);
        assert_eq!(shared.acquire(&plan(1.0, 0), "bad").err(), Some("cannot stand".into()));
        assert_eq!(shared.count(), 0);
        assert!(shared.acquire(&plan(1.0, 0), "good").is_ok());
    }
}
