//! From the rules to the Alertmanagers: the rules' words become the connector's.

use crate::config::Config;
use crate::flags::Flags;
use crate::limits::ALERT_DRAIN;
use connectors::alertmanager::{Alert, Limits, Notifier, Outgoing};
use connectors::http_client::Peers;
use frontends::http::sources::Alertmanagers;
use frontends::rules::ports::{Notify, OutgoingAlert};
use std::sync::Arc;
use std::time::Instant;
use storage::metrics::Metrics;

/// See the module.
pub struct Alerts {
    notifier: Notifier,
    runtime: tokio::runtime::Handle,
    drain: bool,
}

impl Alerts {
    /// Without Alertmanagers yet. Must be called on the async runtime.
    pub fn new(flags: &Flags, metrics: &Metrics, peers: Peers) -> Alerts {
        let limits = Limits { capacity: flags.notification_queue(), batch: flags.notification_batch() };
        Alerts {
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

impl Notify for Alerts {
    fn send(&self, alerts: Vec<OutgoingAlert>) {
        let outgoing = |a: OutgoingAlert| {
            let alert = Alert {
                labels: a.labels,
                annotations: a.annotations.into_iter().collect(),
                starts_at: a.starts_at,
                ends_at: a.ends_at,
                generator_url: a.generator_url,
            };
            Outgoing { alert: Arc::new(alert), taken: Some(a.receipt.0) }
        };
        // The queues' senders are started on demand: the rules thread must find the runtime.
        let _guard = self.runtime.enter();
        self.notifier.send(alerts.into_iter().map(outgoing).collect());
    }
}

impl Alertmanagers for Alerts {
    fn active(&self) -> Vec<String> {
        self.notifier.active()
    }

    fn dropped(&self) -> Vec<String> {
        self.notifier.dropped()
    }
}
