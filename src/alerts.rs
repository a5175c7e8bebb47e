//! From the rules to the Alertmanagers: the rules' words become the connector's.

use crate::config::Config;
use crate::flags::Flags;
use crate::limits::ALERT_DRAIN;
use api::services::AlertmanagerList;
use connectors::alertmanager::{AlertmanagerAlert, Notifier, QueueLimits, QueuedAlert};
use connectors::http_client::Peers;
use rules::services::{AlertNotification, AlertSender};
use std::sync::Arc;
use std::time::Instant;
use storage::metrics::Metrics;

/// See the module.
pub struct AlertmanagerAdapter {
    notifier: Notifier,
    runtime: tokio::runtime::Handle,
    drain: bool,
}

impl AlertmanagerAdapter {
    /// Without Alertmanagers yet. Must be called on the async runtime.
    pub fn new(flags: &Flags, metrics: &Metrics, peers: Peers) -> AlertmanagerAdapter {
        let limits = QueueLimits { capacity: flags.notification_queue(), batch: flags.notification_batch() };
        AlertmanagerAdapter {
            notifier: Notifier::new(metrics, limits).with_peers(peers),
            runtime: tokio::runtime::Handle::current(),
            drain: flags.drain_notifications(),
        }
    }

    /// Makes the `alerting` block of `config` the one in force.
    pub fn apply(&self, config: &Config) -> Result<(), String> {
        let external = config.external_labels.iter().map(|(n, v)| (n.to_owned(), v.to_owned())).collect();
        self.notifier.apply(&config.alerting, &external)
    }

    /// Gives queued alerts a moment to leave. `stopping` since then, they have left meanwhile.
    pub fn close(&self, stopping: Instant) {
        let rest = ALERT_DRAIN.saturating_sub(stopping.elapsed());
        if self.drain && !self.runtime.block_on(self.notifier.drain(rest)) {
            tracing::warn!("alerts were still queued at the end and were not sent");
        }
    }
}

impl AlertSender for AlertmanagerAdapter {
    fn send(&self, alerts: Vec<AlertNotification>) {
        let outgoing = |a: AlertNotification| {
            let alert = AlertmanagerAlert {
                labels: a.labels,
                annotations: a.annotations.into_iter().collect(),
                starts_at: a.starts_at,
                ends_at: a.ends_at,
                generator_url: a.generator_url,
            };
            QueuedAlert { alert: Arc::new(alert), taken: Some(a.receipt.0) }
        };
        // The queues' senders are started on demand: the rules thread must find the runtime.
        let _guard = self.runtime.enter();
        self.notifier.send(alerts.into_iter().map(outgoing).collect());
    }
}

impl AlertmanagerList for AlertmanagerAdapter {
    fn active(&self) -> Vec<String> {
        self.notifier.active()
    }

    fn dropped(&self) -> Vec<String> {
        self.notifier.dropped()
    }
}
