//! [`AlertmanagerAdapter`]: passes the alerts of the crate `rules` to the Alertmanagers of the
//! crate `connectors`, and the delivery receipts back.

use crate::config::Config;
use crate::flags::Flags;
use crate::limits::ALERT_DRAIN;
use crate::server::ServerError;
use api::services::AlertmanagerList;
use api::silences::{AlertmanagerSilencesJson, SilenceJson, SilenceMatcherJson};
use connectors::alertmanager::{
    AlertmanagerAlert, AlertmanagerSilences, DeliveryReport, Notifier, QueueLimits, QueuedAlert, Silence,
    SilenceMatcher,
};
use connectors::http_client::Peers;
use futures::future::BoxFuture;
use rules::services::{AlertNotification, AlertSender, DeliveryOutcome};
use std::sync::Arc;
use std::time::Instant;
use storage::metrics::Metrics;

/// Sends the alerts of the rules with a [`Notifier`].
pub struct AlertmanagerAdapter {
    notifier: Notifier,
    runtime: tokio::runtime::Handle,
    drain: bool,
}

impl AlertmanagerAdapter {
    /// An adapter without Alertmanagers. Must be called on the async runtime.
    pub fn new(flags: &Flags, metrics: &Metrics, peers: Peers) -> AlertmanagerAdapter {
        let limits = QueueLimits {
            capacity: *flags.alertmanager_notification_queue_capacity,
            batch: *flags.alertmanager_notification_batch_size,
        };
        AlertmanagerAdapter {
            notifier: Notifier::new(metrics, limits).with_peers(peers),
            runtime: tokio::runtime::Handle::current(),
            drain: *flags.alertmanager_drain_notification_queue_on_shutdown,
        }
    }

    /// Puts the `alerting` block of `config` in force.
    pub fn apply(&self, config: &Config) -> Result<(), ServerError> {
        // Relabelling of alerts sees the external labels, as in Prometheus, so the notifier needs
        // them.
        let external = config.external_labels.iter().map(|(n, v)| (n.to_owned(), v.to_owned())).collect();
        let applied = self.notifier.apply(&config.alerting, &external);
        applied.map_err(|error| ServerError::Alertmanager(error.to_string()))
    }

    /// Waits a short time for queued alerts to be sent; the time since `stopping` counts towards
    /// it.
    pub fn close(&self, stopping: Instant) {
        // One deadline for the whole stop: a container is killed after its own, whatever took the
        // time.
        let rest = ALERT_DRAIN.saturating_sub(stopping.elapsed());
        if self.drain && !self.runtime.block_on(self.notifier.drain(rest)) {
            // The next start sends those that still fire: their states are on disk.
            tracing::warn!(target: "alertmanager", "alerts were still queued at the end and were not sent; check that the Alertmanagers answer");
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
            // The receipt tells the rules that an Alertmanager has the alert; until then they send
            // it again.
            let receipt = a.receipt.0;
            let on_delivered = move |report: DeliveryReport<'_>| {
                receipt(&DeliveryOutcome {
                    alertmanager: report.alertmanager.to_owned(),
                    error: report.error.unwrap_or_default().to_owned(),
                });
            };
            QueuedAlert { alert: Arc::new(alert), on_delivered: Some(Arc::new(on_delivered)) }
        };
        // The senders of the queues are tasks that start on demand, so the thread of the rules
        // needs the runtime.
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

    fn silences(&self) -> BoxFuture<'static, Vec<AlertmanagerSilencesJson>> {
        let asked = self.notifier.silences();
        Box::pin(async move { asked.await.into_iter().map(silences).collect() })
    }
}

/// The silences of an Alertmanager, as the API shows them.
fn silences(answer: AlertmanagerSilences) -> AlertmanagerSilencesJson {
    let AlertmanagerSilences { alertmanager, error, silences } = answer;
    let matcher = |matcher: SilenceMatcher| SilenceMatcherJson {
        name: matcher.name,
        value: matcher.value,
        is_regex: matcher.is_regex,
        is_equal: matcher.is_equal,
    };
    let shown = |silence: Silence| SilenceJson {
        id: silence.id,
        matchers: silence.matchers.into_iter().map(matcher).collect(),
        starts_at: silence.starts_at,
        ends_at: silence.ends_at,
        created_by: silence.created_by,
        comment: silence.comment,
        alertmanager: alertmanager.clone(),
    };
    let silences = silences.into_iter().map(shown).collect();
    AlertmanagerSilencesJson { silences, error, alertmanager: alertmanager.clone() }
}
