//! The two receivers of what the store has stored: the change feed of the live runtime
//! ([`ChangeFeed`]), and an observer that looks for late samples ([`AppendObserver`]).
//! [`super::append`] calls them under the lock of the shard.

#[cfg(doc)]
use super::batch::FeedDelivery;
use super::batch::{AppendObserver, ChangeEvent, ChangeFeed};
use parking_lot::RwLock;
use std::sync::Arc;

/// The change feed and the observer. Both are called under the lock of the shard.
#[derive(Default)]
pub struct Subscribers {
    feed: RwLock<Option<Arc<dyn ChangeFeed>>>,
    observer: RwLock<Option<Arc<dyn AppendObserver>>>,
}

impl Subscribers {
    /// Sets the feed that gets every append with [`FeedDelivery::Feed`] from now on.
    pub fn set_feed(&self, feed: Arc<dyn ChangeFeed>) {
        *self.feed.write() = Some(feed);
    }

    /// Sets the observer that sees every append of a writer from now on.
    pub fn set_observer(&self, observer: Arc<dyn AppendObserver>) {
        *self.observer.write() = Some(observer);
    }

    /// For what a writer appended.
    pub(super) fn on_append(&self, event: ChangeEvent) {
        if let Some(observer) = &*self.observer.read() {
            observer.check_time(&event);
        }
        self.on_change(event);
    }

    /// For corrections and backfill, too: the observer looks for late samples of writers only.
    pub(super) fn on_change(&self, event: ChangeEvent) {
        if let Some(feed) = &*self.feed.read() {
            feed.push(event);
        }
    }

    /// After a deletion.
    pub(super) fn on_delete(&self) {
        if let Some(feed) = &*self.feed.read() {
            feed.deleted();
        }
    }
}
