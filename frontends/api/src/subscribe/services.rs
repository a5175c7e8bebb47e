//! What all subscriptions of a server share: the views that they follow, the lists that clients
//! listen to, the connections, and the memory of what waits to be sent.

use super::super::{ApiServices, ApiSettings};
use super::budget::Budget;
use super::shared_views::SharedViews;
use super::subscribers::SubscriberList;
use super::topics::TopicBoard;
use std::sync::Arc;

/// What all subscriptions share.
pub(crate) struct SubscriptionServices {
    /// The views of subscriptions: equal plans share one.
    pub views: Arc<SharedViews>,
    /// The lists that somebody listens to.
    pub topics: TopicBoard,
    /// The connections of all subscribers.
    pub subscribers: Arc<SubscriberList>,
    /// The budget of the queues of all subscribers.
    pub buffers: Arc<Budget>,
}

impl SubscriptionServices {
    /// Without subscriptions.
    pub(crate) fn new(settings: &ApiSettings, sources: &ApiServices) -> SubscriptionServices {
        SubscriptionServices {
            views: SharedViews::new(sources.views.clone(), settings.execution),
            topics: TopicBoard::default(),
            subscribers: Arc::default(),
            buffers: Budget::new(settings.subscription_buffers, &sources.metrics),
        }
    }
}
