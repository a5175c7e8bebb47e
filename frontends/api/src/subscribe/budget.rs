//! The memory of what waits for subscribers to read it: a [`Budget`] in bytes for all subscriptions
//! together, and an [`Account`] for each.
//!
//! When the budget is exceeded, the subscription that holds most of it is ended. That is the
//! slowest one: clients that read hold next to nothing.

use super::super::limits::{BUDGET_BLOCKED_AFTER, SUBSCRIBE_UP_TO_PERCENT};
use super::super::progress::Progress;
use super::subscriber_queue::SubscriberQueue;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Weak};
use storage::metrics::{Counter, Gauge, Metrics};
use tokio::sync::Notify;

/// The budget of all subscriptions.
pub struct Budget {
    /// Most bytes of all subscriptions.
    limit: i64,
    /// Bytes of all subscriptions.
    used: AtomicI64,
    /// Bytes of subscriptions that were ended but have not released them yet.
    leaving: AtomicI64,
    /// The number of the next account.
    next: AtomicU64,
    /// By number.
    accounts: Mutex<BTreeMap<u64, Weak<Account>>>,
    used_metric: Arc<Gauge>,
    /// Counts subscriptions that were ended for their memory.
    ended: Arc<Counter>,
    /// Counts subscriptions that were refused.
    refused: Arc<Counter>,
}

impl Budget {
    /// A budget of `limit` bytes.
    pub fn new(limit: usize, metrics: &Metrics) -> Arc<Budget> {
        let gauge = |name, help| metrics.gauge(name, help, &[]);
        // Signed, because the sum may be below zero for a moment: bytes are released on another
        // thread than they are counted on.
        let limit = i64::try_from(limit).unwrap_or(i64::MAX).max(1);
        gauge(
            "perennial_subscription_buffer_limit_bytes",
            "The most bytes that may wait for all subscribers together.",
        )
        .set(limit as f64);
        Arc::new(Budget {
            limit,
            used: AtomicI64::new(0),
            leaving: AtomicI64::new(0),
            next: AtomicU64::new(0),
            accounts: Mutex::default(),
            used_metric: gauge(
                "perennial_subscription_buffer_bytes",
                "Bytes that wait for all subscribers together.",
            ),
            ended: metrics.counter(
                "perennial_subscriptions_ended_total",
                "Live subscriptions that the server ended to free their buffers.",
                &[("reason", "buffers_full")],
            ),
            refused: metrics.counter(
                "perennial_subscriptions_refused_total",
                "Live subscriptions that were refused because the buffers or the server were full.",
                &[],
            ),
        })
    }

    /// Whether the budget has room for one more subscription.
    pub fn takes_more(&self) -> bool {
        // Less than the whole: the subscriptions that exist need space to fall behind a little.
        self.used.load(SeqCst) < self.limit / 100 * SUBSCRIBE_UP_TO_PERCENT
    }

    /// Counts a subscription that was rejected.
    pub fn count_refusal(&self) {
        self.refused.inc();
    }

    /// The account of a new subscription. `wakeup` is notified when the subscription is ended;
    /// `connection` carries its messages.
    pub fn open(self: &Arc<Budget>, wakeup: Arc<Notify>, connection: Option<Arc<Progress>>) -> Arc<Account> {
        let number = self.next.fetch_add(1, SeqCst);
        let account = Arc::new(Account {
            budget: self.clone(),
            number,
            held: Mutex::default(),
            outbox: Mutex::default(),
            wakeup,
            connection,
        });
        // Weak, so that the list does not keep ended subscriptions.
        self.accounts.lock().insert(number, Arc::downgrade(&account));
        account
    }

    /// Ends the largest subscriptions until the others are within the budget.
    fn shed(&self) {
        // What leaves is not counted: it is released soon, and ending others for it would end too
        // many.
        while self.used.load(SeqCst) - self.leaving.load(SeqCst) > self.limit {
            let accounts: Vec<Arc<Account>> =
                // Collected first: ending a subscription takes other locks, and dropping the last
                // reference to an account takes this one.
                self.accounts.lock().values().filter_map(Weak::upgrade).collect();
            let staying = accounts.iter().filter(|account| !account.has_ended());
            let Some(largest) = staying.max_by_key(|account| account.held.lock().bytes) else { return };
            largest.end();
        }
    }
}

#[derive(Default)]
struct HeldBytes {
    bytes: i64,
    ended: bool,
}

/// The bytes of one subscription.
pub struct Account {
    budget: Arc<Budget>,
    number: u64,
    held: Mutex<HeldBytes>,
    /// The queue that is emptied when the subscription is ended.
    outbox: Mutex<Weak<SubscriberQueue>>,
    wakeup: Arc<Notify>,
    connection: Option<Arc<Progress>>,
}

impl Account {
    /// Sets the queue of the subscription.
    pub fn queue_is(&self, outbox: &Arc<SubscriberQueue>) {
        // Weak, because the queue holds its account.
        *self.outbox.lock() = Arc::downgrade(outbox);
    }

    /// Adds bytes (or removes, if negative). The caller must not hold the lock of a queue, because
    /// a queue may be emptied.
    pub fn add(&self, bytes: i64) {
        self.count(bytes);
        self.enforce();
    }

    /// Ends the largest subscriptions if the budget is exceeded.
    pub fn enforce(&self) {
        self.budget.shed();
    }

    /// Like [`Account::add`], but a queue may be locked. If bytes were added, the caller must call
    /// [`Account::enforce`] afterwards.
    pub fn count(&self, bytes: i64) {
        let mut held = self.held.lock();
        held.bytes += bytes;
        if held.ended {
            self.budget.leaving.fetch_add(bytes, SeqCst);
        }
        let used = self.budget.used.fetch_add(bytes, SeqCst) + bytes;
        self.budget.used_metric.set(used.max(0) as f64);
    }

    /// The bytes that wait.
    pub fn bytes(&self) -> u64 {
        self.held.lock().bytes.max(0).unsigned_abs()
    }

    /// Whether the subscription was ended to free its bytes.
    pub fn has_ended(&self) -> bool {
        self.held.lock().ended
    }

    /// Adds bytes until the returned charge is dropped.
    pub fn charge(self: &Arc<Account>, bytes: usize) -> Charge {
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        self.add(bytes);
        Charge { account: self.clone(), bytes }
    }

    fn end(&self) {
        let mut held = self.held.lock();
        if held.ended {
            return;
        }
        held.ended = true;
        self.budget.leaving.fetch_add(held.bytes, SeqCst);
        drop(held);
        self.budget.ended.inc();
        // After `held` is released: emptying the queue counts on this account.
        let outbox = self.outbox.lock().upgrade();
        if let Some(outbox) = outbox {
            outbox.give_up();
        }
        // A client that reads gets the reason. The connection of one that does not is closed,
        // because it holds what was sent last.
        let blocked = |connection: &&Arc<Progress>| {
            connection.blocked_since().is_some_and(|since| since.elapsed() >= BUDGET_BLOCKED_AFTER)
        };
        if let Some(connection) = self.connection.as_ref().filter(blocked) {
            connection.displace();
        }
        self.wakeup.notify_one();
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        self.budget.accounts.lock().remove(&self.number);
        let left = self.held.get_mut().bytes;
        self.count(-left);
    }
}

/// Bytes on an account, until it is dropped.
pub struct Charge {
    account: Arc<Account>,
    bytes: i64,
}

impl Charge {
    /// Changes the number of bytes.
    pub fn set(&mut self, bytes: usize) {
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        self.account.add(bytes - self.bytes);
        self.bytes = bytes;
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.account.count(-self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(budget: &Arc<Budget>) -> Arc<Account> {
        budget.open(Arc::default(), None)
    }

    #[test]
    fn the_largest_is_ended_and_no_other() {
        let budget = Budget::new(1_000, &Metrics::default());
        let [small, large, other] = [account(&budget), account(&budget), account(&budget)];
        let held = [small.charge(200), large.charge(600)];
        assert!(budget.takes_more() && !large.has_ended());
        let more = other.charge(300);
        assert_eq!([&small, &large, &other].map(|a| a.has_ended()), [false, true, false]);
        let again = other.charge(400);
        assert_eq!(
            [&small, &other].map(|a| a.has_ended()),
            [false, false],
            "what leaves is not counted twice"
        );
        assert!(!budget.takes_more(), "it is still there");
        drop(held);
        assert_eq!(budget.used.load(SeqCst), 700);
        drop((more, again, small, large, other));
        assert_eq!([&budget.used, &budget.leaving].map(|n| n.load(SeqCst)), [0, 0]);
        assert!(budget.accounts.lock().is_empty() && budget.takes_more());
    }

    #[test]
    fn a_charge_changes_and_a_single_subscription_is_bounded_too() {
        let budget = Budget::new(1_000, &Metrics::default());
        let only = account(&budget);
        let mut charge = only.charge(500);
        charge.set(100);
        assert_eq!((budget.used.load(SeqCst), only.has_ended()), (100, false));
        charge.set(1_001);
        assert!(only.has_ended());
        drop((charge, only));
        assert_eq!([&budget.used, &budget.leaving].map(|n| n.load(SeqCst)), [0, 0]);
    }
}
