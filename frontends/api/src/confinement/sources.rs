//! The services of the API ([`super::super::services`]) as a confined user gets them: each adds the
//! user's matchers to what it is asked. [`super`] explains confinement.

use super::Confinement;
use crate::alert_history::{AlertHistoryJson, AlertHistoryRequest};
use crate::json_model::{
    AlertStateJson, AlertingRuleJson, DroppedTargetJson, MetadataJson, RuleGroupJson, RuleJson, TargetJson,
};
use crate::limits::CONFINED_METADATA_SPAN;
#[cfg(feature = "sql")]
use crate::services::SqlServices;
use crate::services::{AlertmanagerList, ApiServices, QueryServices, Receivers, RuleGroupList, TargetList};
#[cfg(feature = "sql")]
use ::sql::relations::{MetaRow, MetaSource};
#[cfg(feature = "sql")]
use ::sql::{SqlError, SqlErrorKind};
use engine::memory::MemoryReservation;
use engine::plan::Plan;
use engine::query::guard::QueryGuard;
use engine::query::{
    QueryAnswer, QueryEngine, QueryError, QueryOptions, RemoteAnswer, RemoteSelection, RemoteStores,
    SeriesCatalog,
};
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use storage::clock::Clock;
use storage::exemplars::SeriesExemplars;
use storage::model::labels::METRIC_NAME;
use storage::model::{Labels, Matcher, TimeMs};
use storage::store::{HeadStats, NewestSample};

/// The services of the server, confined. What has no confined form is not there.
pub(super) fn confined(all: &ApiServices, confinement: &Arc<Confinement>) -> ApiServices {
    let confinement = confinement.clone();
    let remote = confinement.clone();
    let catalog: Arc<dyn SeriesCatalog> =
        Arc::new(ConfinedCatalog { all: all.queries.catalog.clone(), confinement: confinement.clone() });
    let queries = QueryServices {
        answers: Arc::new(ConfinedEngine {
            all: all.queries.answers.clone(),
            confinement: confinement.clone(),
        }),
        catalog: catalog.clone(),
        remote_stores: all.queries.remote_stores.clone().map(|all| -> Arc<dyn RemoteStores> {
            Arc::new(ConfinedRemoteStores { all, confinement: remote })
        }),
        ..all.queries.clone()
    };
    // Remote reads are confined by matchers that go with each request. Writes are not there:
    // nothing says which series this user may write.
    let receivers = Receivers { remote_read: all.receivers.remote_read.clone(), ..Receivers::default() };
    ApiServices {
        queries,
        receivers,
        targets: Arc::new(ConfinedTargets {
            all: all.targets.clone(),
            catalog,
            clock: all.clock.clone(),
            confinement: confinement.clone(),
        }),
        rules: Arc::new(ConfinedRules { all: all.rules.clone(), confinement }),
        alertmanagers: Arc::new(NoAlertmanagers),
        // The engine, the tables and the alerts of statements know no confinement.
        #[cfg(feature = "sql")]
        sql: SqlServices::default(),
        ..all.clone()
    }
}

/// Answers plans over the user's series.
struct ConfinedEngine {
    all: Arc<dyn QueryEngine>,
    confinement: Arc<Confinement>,
}

impl QueryEngine for ConfinedEngine {
    fn instant(&self, plan: &Plan, t: TimeMs, options: &QueryOptions) -> Result<QueryAnswer, QueryError> {
        self.all.instant(&self.confinement.plan(plan)?, t, options)
    }

    fn range(
        &self,
        plan: &Plan,
        start: TimeMs,
        end: TimeMs,
        step: i64,
        options: &QueryOptions,
    ) -> Result<QueryAnswer, QueryError> {
        self.all.range(&self.confinement.plan(plan)?, start, end, step, options)
    }
}

/// Lists the user's series.
struct ConfinedCatalog {
    all: Arc<dyn SeriesCatalog>,
    confinement: Arc<Confinement>,
}

impl SeriesCatalog for ConfinedCatalog {
    fn series(
        &self,
        sets: &[Vec<Matcher>],
        from: TimeMs,
        to: TimeMs,
        memory: &MemoryReservation,
    ) -> Result<Vec<Labels>, QueryError> {
        self.all.series(&self.confinement.added_to_each(sets), from, to, memory)
    }

    fn label_names(
        &self,
        sets: &[Vec<Matcher>],
        from: TimeMs,
        to: TimeMs,
    ) -> Result<Vec<String>, QueryError> {
        self.all.label_names(&self.confinement.added_to_all(sets), from, to)
    }

    fn label_values(
        &self,
        name: &str,
        sets: &[Vec<Matcher>],
        from: TimeMs,
        to: TimeMs,
    ) -> Result<Vec<String>, QueryError> {
        self.all.label_values(name, &self.confinement.added_to_all(sets), from, to)
    }

    fn newest(
        &self,
        sets: &[Vec<Matcher>],
        from: TimeMs,
        to: TimeMs,
        memory: &MemoryReservation,
    ) -> Result<Vec<NewestSample>, QueryError> {
        self.all.newest(&self.confinement.added_to_each(sets), from, to, memory)
    }

    fn exemplars(
        &self,
        sets: &[Vec<Matcher>],
        from: TimeMs,
        to: TimeMs,
    ) -> Result<Vec<SeriesExemplars>, QueryError> {
        self.all.exemplars(&self.confinement.added_to_each(sets), from, to)
    }

    // The counts of the head are those of everybody.
    fn stats(&self, _: usize) -> HeadStats {
        HeadStats::default()
    }

    fn incomplete_reason(&self) -> Option<String> {
        self.all.incomplete_reason()
    }
}

/// Lists the user's series of other servers.
struct ConfinedRemoteStores {
    all: Arc<dyn RemoteStores>,
    confinement: Arc<Confinement>,
}

impl RemoteStores for ConfinedRemoteStores {
    fn read(&self, selections: &[RemoteSelection], guard: &QueryGuard) -> Result<RemoteAnswer, QueryError> {
        let own = |selection: &RemoteSelection| RemoteSelection {
            matchers: self.confinement.added(&selection.matchers),
            ..selection.clone()
        };
        let own: Vec<RemoteSelection> = selections.iter().map(own).collect();
        self.all.read(&own, guard)
    }

    fn label_warnings(&self, from: TimeMs, to: TimeMs) -> Vec<String> {
        self.all.label_warnings(from, to)
    }
}

/// What the names of the series of one metric family end with.
const FAMILY_SUFFIXES: [&str; 6] = ["_bucket", "_sum", "_count", "_total", "_created", "_info"];

/// No targets, but the metadata of the metrics that the user has series of.
struct ConfinedTargets {
    all: Arc<dyn TargetList>,
    catalog: Arc<dyn SeriesCatalog>,
    clock: Arc<dyn Clock>,
    confinement: Arc<Confinement>,
}

impl TargetList for ConfinedTargets {
    fn active(&self) -> Vec<TargetJson> {
        Vec::new()
    }

    fn dropped(&self) -> Vec<DroppedTargetJson> {
        Vec::new()
    }

    fn dropped_counts(&self) -> BTreeMap<String, usize> {
        BTreeMap::new()
    }

    fn pools(&self) -> Vec<String> {
        Vec::new()
    }

    /// Blocks.
    fn metadata(&self) -> Vec<MetadataJson> {
        let now = self.clock.now();
        let from = now.saturating_sub(CONFINED_METADATA_SPAN);
        let names = self.catalog.label_values(METRIC_NAME, &[], from, now).unwrap_or_default();
        let names: HashSet<String> = names.into_iter().collect();
        let is_own = |metric: &str| {
            names.contains(metric)
                || FAMILY_SUFFIXES.iter().any(|suffix| names.contains(&format!("{metric}{suffix}")))
        };
        let all = self.all.metadata().into_iter().filter(|one| is_own(&one.metric));
        // A target may have series of several owners: its labels are shown to the one that it is
        // of.
        let shown = |one: MetadataJson| {
            let target = if self.confinement.has(&one.target) { one.target } else { Labels::default() };
            MetadataJson { target, ..one }
        };
        all.map(shown).collect()
    }
}

/// The user's rules and alerts. A rule is the user's if its own labels say so. Of other rules only
/// the alerts that are the user's are shown, without the expression.
struct ConfinedRules {
    all: Arc<dyn RuleGroupList>,
    confinement: Arc<Confinement>,
}

impl ConfinedRules {
    fn rule(&self, rule: RuleJson) -> Option<RuleJson> {
        match rule {
            RuleJson::Recording(rule) => {
                self.confinement.has_map(&rule.labels).then_some(RuleJson::Recording(rule))
            }
            RuleJson::Alerting(rule) => self.alerting(rule).map(RuleJson::Alerting),
        }
    }

    fn alerting(&self, mut rule: AlertingRuleJson) -> Option<AlertingRuleJson> {
        let is_own = self.confinement.has_map(&rule.labels);
        let mut alerts = rule.alerts.take().unwrap_or_default();
        alerts.retain(|alert| self.confinement.has(&alert.labels));
        if !is_own && alerts.is_empty() {
            return None;
        }
        rule.state = alerts.iter().map(|alert| alert.state).max().unwrap_or(AlertStateJson::Inactive);
        rule.alerts = Some(alerts);
        if !is_own {
            rule.query = String::new();
            rule.labels = BTreeMap::new();
            rule.annotations = BTreeMap::new();
            rule.last_error = String::new();
        }
        Some(rule)
    }
}

impl RuleGroupList for ConfinedRules {
    fn groups(&self) -> Vec<RuleGroupJson> {
        let own = |mut group: RuleGroupJson| {
            group.rules = group.rules.into_iter().filter_map(|rule| self.rule(rule)).collect();
            (!group.rules.is_empty()).then_some(group)
        };
        self.all.groups().into_iter().filter_map(own).collect()
    }

    // The causes of changes are samples of anybody.
    fn history(&self, _: &AlertHistoryRequest) -> AlertHistoryJson {
        AlertHistoryJson::default()
    }
}

/// No Alertmanagers: they are everybody's.
struct NoAlertmanagers;

impl AlertmanagerList for NoAlertmanagers {
    fn active(&self) -> Vec<String> {
        Vec::new()
    }

    fn dropped(&self) -> Vec<String> {
        Vec::new()
    }
}

/// The relations `meta.*` that a confined user may read.
#[cfg(feature = "sql")]
const OWN_LISTS: [&str; 3] = ["metadata", "rules", "alerts"];

/// The lists of the server that are made of what a confined user may see.
#[cfg(feature = "sql")]
pub(crate) struct ConfinedLists(pub(crate) Arc<dyn MetaSource>);

#[cfg(feature = "sql")]
impl MetaSource for ConfinedLists {
    fn rows(&self, name: &str) -> Result<Vec<MetaRow>, SqlError> {
        if OWN_LISTS.contains(&name) {
            return self.0.rows(name);
        }
        let error = format!("meta.{name}: not for users who are confined to labels");
        Err(SqlError::new(SqlErrorKind::BadData, error))
    }
}
