//! Alerts that users define by SQL statements (`CREATE ALERT`) at run time, and their file in the
//! data directory.
//!
//! They are one more rule group of the manager, so everything else about them is as for rules of
//! files. [`DefinedAlerts`] only has the definitions: a change is put into force by the caller, and
//! is durable before it is answered.

use crate::file::{AlertOptions, EvaluationMode, GroupDefaults, Rule, RuleCompiler, RuleGroup, RuleUse};
use crate::limits::DEFINED_ALERTS;
use language::QueryTextError;
use parking_lot::{Mutex, MutexGuard};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use storage::disk::Disk;
use views::definition_file::{DefinitionFileError, FileForm};

/// The name of the file in the data directory; also what the API shows as the file of the group.
const NAME: &str = "defined-alerts";
/// The name of the group.
const GROUP: &str = "sql";
const FORM: FileForm =
    FileForm { magic: "perennial-defined-alerts", what: "defined alerts", most: DEFINED_ALERTS };

/// An alert without its name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AlertDefinition {
    /// The condition, in SQL.
    pub query: String,
    /// `for`, ms.
    #[serde(rename = "for")]
    pub hold: i64,
    /// `keep_firing_for`, ms.
    pub keep_firing_for: i64,
    /// Labels, as templates.
    pub labels: BTreeMap<String, String>,
    /// Annotations, as templates.
    pub annotations: BTreeMap<String, String>,
}

#[derive(Serialize, Deserialize)]
struct Entry {
    name: String,
    #[serde(flatten)]
    definition: AlertDefinition,
}

/// Definitions by the names of their alerts.
pub type Definitions = BTreeMap<String, AlertDefinition>;

/// Why a change is refused; nothing has changed then.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AlertDefinitionError {
    /// A label, an annotation or a view of it is refused.
    #[error("{0}")]
    Refused(String),
    /// There is one of that name.
    #[error("there is an alert {0:?}: CREATE OR REPLACE ALERT replaces it")]
    Exists(String),
    /// There is none of that name.
    #[error("there is no alert {0:?} that a statement defined")]
    Missing(String),
    /// There are too many.
    #[error("too many defined alerts (limit {DEFINED_ALERTS})")]
    Full,
    /// The data directory cannot be written.
    #[error("cannot write the file of defined alerts: {0}")]
    Disk(String),
}

/// All definitions.
pub struct DefinedAlerts {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    /// One change at a time.
    change_lock: Mutex<()>,
    alerts: Mutex<Definitions>,
}

impl DefinedAlerts {
    /// Those of the file in data directory `dir`.
    pub fn open(disk: Arc<dyn Disk>, dir: &Path) -> Result<DefinedAlerts, DefinitionFileError> {
        let path = dir.join(NAME);
        let entries: Vec<Entry> = FORM.read(&*disk, &path)?;
        let alerts = entries.into_iter().map(|entry| (entry.name, entry.definition)).collect();
        Ok(DefinedAlerts { disk, path, change_lock: Mutex::default(), alerts: Mutex::new(alerts) })
    }

    /// A copy of all definitions.
    pub fn all(&self) -> Definitions {
        self.alerts.lock().clone()
    }

    /// Held while rules are put into force, so that no change comes in between.
    pub fn hold(&self) -> MutexGuard<'_, ()> {
        self.change_lock.lock()
    }

    /// Changes the definitions: `change` makes the new ones of the old, `apply` puts them into
    /// force. If they cannot be written, the old ones are put into force again. Blocks for the
    /// disk.
    pub fn change(
        &self,
        change: impl FnOnce(&mut Definitions) -> Result<(), AlertDefinitionError>,
        apply: impl Fn(&Definitions) -> Result<(), AlertDefinitionError>,
    ) -> Result<(), AlertDefinitionError> {
        let _changing = self.change_lock.lock();
        let before = self.all();
        // A copy is changed, so that a refusal leaves everything as it was.
        let mut after = before.clone();
        change(&mut after)?;
        if after.len() > DEFINED_ALERTS {
            return Err(AlertDefinitionError::Full);
        }
        // Put into force before it is written: only this finds out whether the rules can run. The
        // other way round, a restart would find alerts that were refused.
        apply(&after)?;
        if let Err(error) = self.write(&after) {
            // A restart would not have the change, so it must not run until then either.
            if let Err(again) = apply(&before) {
                tracing::error!(%again, "the alerts of before cannot be put into force again");
            }
            return Err(error);
        }
        *self.alerts.lock() = after;
        Ok(())
    }

    fn write(&self, alerts: &Definitions) -> Result<(), AlertDefinitionError> {
        let entry = |(name, definition): (&String, &AlertDefinition)| Entry {
            name: name.clone(),
            definition: definition.clone(),
        };
        let entries: Vec<Entry> = alerts.iter().map(entry).collect();
        FORM.write(&*self.disk, &self.path, &entries).map_err(|e| AlertDefinitionError::Disk(e.to_string()))
    }
}

/// The rule group of definitions; those that cannot be compiled are left out, with the reason.
pub fn group_of(
    alerts: &Definitions,
    defaults: GroupDefaults,
    compile: &dyn RuleCompiler,
) -> (RuleGroup, Vec<(String, QueryTextError)>) {
    let mut group = RuleGroup {
        file: NAME.to_owned(),
        name: GROUP.to_owned(),
        interval: defaults.interval,
        query_offset: defaults.query_offset,
        limit: 0,
        evaluation: EvaluationMode::Continuous,
        lateness: None,
        rules: Vec::new(),
    };
    let mut left_out = Vec::new();
    for (name, definition) in alerts {
        let pairs = |texts: &BTreeMap<String, String>| texts.clone().into_iter().collect();
        match compile.sql(&definition.query, RuleUse::Alert) {
            Ok(expr) => group.rules.push(Rule {
                name: name.clone(),
                expr,
                labels: pairs(&definition.labels),
                alert: Some(AlertOptions {
                    hold: definition.hold,
                    keep_firing_for: definition.keep_firing_for,
                    annotations: pairs(&definition.annotations),
                }),
                backfill: 0,
            }),
            // A table that the statement reads may be gone. The other alerts go on all the same.
            Err(why) => left_out.push((name.clone(), why)),
        }
    }
    (group, left_out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use storage::disk::OsDisk;

    fn definition(query: &str) -> AlertDefinition {
        AlertDefinition {
            query: query.to_owned(),
            hold: 60_000,
            keep_firing_for: 0,
            labels: [("severity".to_owned(), "page".to_owned())].into(),
            annotations: BTreeMap::new(),
        }
    }

    fn put(alerts: &DefinedAlerts, name: &str, query: &str) -> Result<(), AlertDefinitionError> {
        let change = |all: &mut Definitions| {
            all.insert(name.to_owned(), definition(query));
            Ok(())
        };
        alerts.change(change, |_| Ok(()))
    }

    #[test]
    fn definitions_are_there_after_a_restart() {
        let dir = tempfile::tempdir().expect("a directory");
        let open = || DefinedAlerts::open(Arc::new(OsDisk), dir.path());
        let alerts = open().expect("no file");
        assert_eq!(put(&alerts, "Down", "SELECT 1"), Ok(()));
        assert_eq!(put(&alerts, "Slow", "SELECT 2"), Ok(()));
        let again = open().expect("a file").all();
        assert_eq!(again, alerts.all());
        assert_eq!(again["Down"], definition("SELECT 1"));
        // What is refused changes nothing, in memory and on the disk.
        let refused = alerts.change(|_| Ok(()), |_| Err(AlertDefinitionError::Refused("no".to_owned())));
        assert_eq!(refused, Err(AlertDefinitionError::Refused("no".to_owned())));
        let missing = AlertDefinitionError::Missing("x".to_owned());
        assert_eq!(alerts.change(|_| Err(missing.clone()), |_| Ok(())), Err(missing));
        assert_eq!(open().expect("a file").all(), again);
    }

    #[test]
    fn a_damaged_file_is_set_aside_and_another_version_stays() {
        let dir = tempfile::tempdir().expect("a directory");
        let open = || DefinedAlerts::open(Arc::new(OsDisk), dir.path());
        put(&open().expect("no file"), "Down", "SELECT 1").expect("put");
        let path = dir.path().join(NAME);
        let mut content = std::fs::read(&path).expect("a file");
        let last = content.len() - 5;
        content[last] ^= 1;
        std::fs::write(&path, &content).expect("written");
        assert_eq!(open().expect("set aside").all(), Definitions::new());
        assert!(dir.path().join("defined-alerts.damaged").exists());
        std::fs::write(&path, "perennial-defined-alerts 2 whatever\n[]\n").expect("written");
        assert!(open().is_err_and(|e| e.to_string().contains("version \"2\" is not known")));
    }
}
