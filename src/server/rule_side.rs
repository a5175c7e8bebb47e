//! [`ServerRules`]: rules and alerts: the rule manager, the states of alerts on disk, and the
//! Alertmanagers.

use super::context::ServerContext;
use super::query_side::ServerQueries;
use super::storage_side::ServerStorage;
use super::view_side::ServerViews;
use super::{LoadedConfig, ServerError, external_url};
use crate::alerts::AlertmanagerAdapter;
use crate::config::Config;
use crate::environment::Surroundings;
use crate::query_language::TemplateQueries;
use rules::alert_persistence::AlertStateFile;
use rules::manager::{RuleManager, RuleManagerOptions, RuleServices};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;
use storage::durable_map::DurableMap;
use storage::execution::Execution;
use storage::metrics::Metrics;
use storage::model::Labels;

/// Rules and alerts.
pub struct ServerRules {
    /// Evaluates the rules.
    pub manager: Arc<RuleManager>,
    /// The file with the states of alerts, for restarts.
    pub alert_states: Arc<AlertStateFile>,
    /// The Alertmanagers.
    pub alertmanagers: Arc<AlertmanagerAdapter>,
}

impl ServerRules {
    /// Rules and alerts over `views`. No rule is installed yet.
    pub(super) fn start(
        context: &ServerContext,
        config: &Config,
        here: &Surroundings,
        storage: &ServerStorage,
        queries: &ServerQueries,
        views: &ServerViews,
    ) -> Result<ServerRules, ServerError> {
        let flags = &context.flags;
        let alert_states = Arc::new(open_alert_states(&storage.dir, here, &context.metrics)?);
        let alertmanagers = Arc::new(AlertmanagerAdapter::new(flags, &context.metrics, here.peers.clone()));
        // Queries of templates use the query runtime and not the live one: a template may ask
        // anything.
        let templates = TemplateQueries {
            querier: queries.querier.clone(),
            language: queries.language,
            options: queries.options.clone(),
        };
        let services = RuleServices {
            views: views.registry(),
            store: storage.store.clone(),
            memory: alert_states.clone(),
            notify: alertmanagers.clone(),
            query: Arc::new(templates),
            clock: context.clock.clone(),
            metrics: context.metrics.clone(),
        };
        let options = RuleManagerOptions {
            external_labels: Labels::clone(&config.external_labels),
            external_url: external_url(flags),
            resend_delay: flags.rules_alert_resend_delay.0,
            outage_tolerance: flags.rules_alert_for_outage_tolerance.0,
            for_grace_period: flags.rules_alert_for_grace_period.0,
        };
        let manager = match context.execution {
            Execution::Threads => RuleManager::start(services, options).map_err(ServerError::Thread)?,
            Execution::Caller => RuleManager::without_thread(services, options),
        };
        Ok(ServerRules { manager: Arc::new(manager), alert_states, alertmanagers })
    }

    /// Installs the rules of the configuration.
    pub(super) fn install(&self, loaded: &LoadedConfig) -> Result<(), ServerError> {
        Ok(self.manager.apply(loaded.groups.clone(), loaded.config.external_labels.clone())?)
    }

    /// Removes all rules.
    pub(super) fn install_none(&self, loaded: &LoadedConfig) -> Result<(), ServerError> {
        Ok(self.manager.apply(Vec::new(), loaded.config.external_labels.clone())?)
    }

    /// Sends the queued alerts, and saves the states. The rules must have stopped.
    pub(super) fn close_alerts(&self, stopping: Instant) {
        self.alertmanagers.close(stopping);
        self.alert_states.close();
    }
}

/// Opens the file with the states of alerts.
fn open_alert_states(
    dir: &Path,
    here: &Surroundings,
    metrics: &Metrics,
) -> Result<AlertStateFile, ServerError> {
    let path = dir.join("alerts.keep");
    let open = match here.execution {
        Execution::Threads => DurableMap::open,
        Execution::Caller => DurableMap::open_by_hand,
    };
    let (map, found) = open(here.disk.clone(), path.clone(), metrics).map_err(ServerError::Store)?;
    if let Some(damage) = found.damage {
        tracing::error!(
            target: "rules",
            path = %path.display(),
            damage,
            "the file with the states of alerts is damaged; some alerts of before the restart are forgotten"
        );
    }
    Ok(AlertStateFile::new(map, found.existed.then_some(found.entries)))
}
