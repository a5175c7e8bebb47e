//! [`ServerRules`]: the part of the server for rules and alerts: the rule manager, alert states on
//! disk, and the Alertmanagers. [`super`] connects the parts.

use super::context::ServerContext;
use super::query_side::ServerQueries;
use super::storage_side::ServerStorage;
use super::view_side::ServerViews;
use super::{LoadedConfig, ServerError, defaults, external_url};
use crate::alerts::AlertmanagerAdapter;
use crate::config::Config;
use crate::environment::Surroundings;
use crate::query_language::TemplateQueries;
use crate::statements::{RuleLanguages, Statements};
use parking_lot::Mutex;
use promql::PromqlOptions;
use rules::RulesError;
use rules::alert_persistence::AlertStateFile;
use rules::defined_alerts::{self, DefinedAlerts, Definitions};
use rules::file::{GroupDefaults, RuleGroup};
use rules::manager::{RuleManager, RuleManagerOptions, RuleServices};
use rules::template::TemplateQuery;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;
use storage::durable_map::DurableMap;
use storage::execution::Execution;
use storage::metrics::Metrics;
use storage::model::Labels;

/// The interval of a rule that is tried in a process without configuration of rules, ms:
/// Prometheus' default.
const TRIAL_INTERVAL_MS: i64 = 60_000;

/// Rules and alerts.
pub struct ServerRules {
    /// Evaluates the rules.
    pub manager: Arc<RuleManager>,
    /// The file with the states of alerts, for restarts.
    pub alert_states: Arc<AlertStateFile>,
    /// The Alertmanagers.
    pub alertmanagers: Arc<AlertmanagerAdapter>,
    /// The alerts that statements defined.
    pub defined_alerts: Arc<DefinedAlerts>,
    /// The rules of the configuration in force.
    configured: Mutex<ConfiguredRules>,
    language: PromqlOptions,
    /// What defined alerts read.
    statements: Statements,
    /// Runs `query` in templates.
    pub(crate) template_queries: Arc<dyn TemplateQuery>,
    options: RuleManagerOptions,
}

/// The rules of a configuration, and what defined alerts need of it.
#[derive(Clone, Default)]
struct ConfiguredRules {
    groups: Vec<RuleGroup>,
    external_labels: Labels,
    /// `None`: alerts are not defined here, or no configuration is in force yet.
    defaults: Option<GroupDefaults>,
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
        let templates: Arc<dyn TemplateQuery> = Arc::new(TemplateQueries {
            querier: queries.querier.clone(),
            language: queries.language,
            options: queries.options.clone(),
        });
        let services = RuleServices {
            views: views.registry(),
            store: storage.store.clone(),
            memory: alert_states.clone(),
            notify: alertmanagers.clone(),
            query: templates.clone(),
            clock: context.clock.clone(),
            metrics: context.metrics.clone(),
            tracer: context.tracer.clone(),
        };
        let options = RuleManagerOptions {
            external_labels: Labels::clone(&config.external_labels),
            external_url: external_url(flags),
            resend_delay: flags.rules_alert_resend_delay.0,
            outage_tolerance: flags.rules_alert_for_outage_tolerance.0,
            for_grace_period: flags.rules_alert_for_grace_period.0,
        };
        let manager = match context.execution {
            Execution::Threads => {
                RuleManager::start(services, options.clone()).map_err(ServerError::Thread)?
            }
            Execution::Caller => RuleManager::without_thread(services, options.clone()),
        };
        let defined_alerts = DefinedAlerts::open(here.disk.clone(), &storage.dir)?;
        Ok(ServerRules {
            manager: Arc::new(manager),
            alert_states,
            alertmanagers,
            defined_alerts: Arc::new(defined_alerts),
            configured: Mutex::default(),
            language: queries.language,
            statements: queries.statements.clone(),
            template_queries: templates,
            options,
        })
    }

    /// The options of a rule that is only tried: those of the rules in force.
    pub(crate) fn trial_options(&self) -> RuleManagerOptions {
        let external_labels = self.configured.lock().external_labels.clone();
        RuleManagerOptions { external_labels, ..self.options.clone() }
    }

    /// What groups without an interval get in a trial.
    pub(crate) fn trial_defaults(&self) -> GroupDefaults {
        let configured = self.configured.lock().defaults;
        configured.unwrap_or(GroupDefaults { interval: TRIAL_INTERVAL_MS, query_offset: 0 })
    }

    /// Installs the rules of the configuration, and the alerts that statements defined.
    pub(super) fn install(&self, loaded: &LoadedConfig) -> Result<(), ServerError> {
        self.configure(ConfiguredRules {
            groups: loaded.groups.clone(),
            external_labels: loaded.config.external_labels.clone(),
            defaults: Some(defaults(&loaded.config)),
        })
    }

    /// The rule files of the configuration in force, in their order.
    pub(crate) fn files(&self) -> Vec<String> {
        let configured = self.configured.lock();
        let mut files: Vec<String> = Vec::new();
        for group in &configured.groups {
            // The groups of a file follow each other.
            if files.last() != Some(&group.file) {
                files.push(group.file.clone());
            }
        }
        files
    }

    /// Removes all rules; no alerts are defined here.
    pub(super) fn install_none(&self, loaded: &LoadedConfig) -> Result<(), ServerError> {
        let external_labels = loaded.config.external_labels.clone();
        self.configure(ConfiguredRules { external_labels, ..ConfiguredRules::default() })
    }

    fn configure(&self, configured: ConfiguredRules) -> Result<(), ServerError> {
        // No definition changes between the two.
        let _unchanged = self.defined_alerts.hold();
        self.apply(&configured, &self.defined_alerts.all())?;
        *self.configured.lock() = configured;
        Ok(())
    }

    /// Puts the rules of the configuration in force again, with these defined alerts.
    #[cfg(feature = "sql")]
    pub(crate) fn define_alerts(&self, alerts: &Definitions) -> Result<(), RulesError> {
        let configured = self.configured.lock().clone();
        self.apply(&configured, alerts)
    }

    /// Whether alerts can be defined here: in a cluster at process 0 only.
    #[cfg(feature = "sql")]
    pub(crate) fn defines_alerts(&self) -> bool {
        self.configured.lock().defaults.is_some()
    }

    fn apply(&self, configured: &ConfiguredRules, alerts: &Definitions) -> Result<(), RulesError> {
        let mut groups = configured.groups.clone();
        if let Some(defaults) = configured.defaults.filter(|_| !alerts.is_empty()) {
            let languages = RuleLanguages::with_tables(self.language, true, &self.statements);
            let (group, left_out) = defined_alerts::group_of(alerts, defaults, &languages);
            for (alert, error) in left_out {
                tracing::error!(
                    target: "rules",
                    alert,
                    %error,
                    "a defined alert cannot be installed; define it again or drop it"
                );
            }
            groups.push(group);
        }
        self.manager.apply(groups, configured.external_labels.clone())
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
        Execution::Caller => DurableMap::open_without_thread,
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
