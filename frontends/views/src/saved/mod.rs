//! Saved queries: views that users create and remove by name at run time, and that come back after
//! a restart.
//!
//! [`SavedQueryDefinition`] is the definition, [`mod@file`] stores all of them in the data
//! directory. Every change is durable before it is answered. Their views are installed like those
//! of rules and subscriptions ([`crate::ViewRegistry`]).

pub mod definition;
pub mod file;

use crate::definition_file::DefinitionFileError;
use crate::limits::{STANDING_NAME_BYTES, STANDING_QUERIES};
use crate::registry::ViewRegistry;
use definition::{DefinitionError, Language, RecordOptions, SavedQueryDefinition};
use engine::live::{ViewError, ViewId, ViewSpec};
use engine::plan::{Plan, Span};
use file::SavedQueryFile;
use language::QueryTextError;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Compiles the text of a query.
pub type Compile = Box<dyn Fn(&str) -> Result<Plan, QueryTextError> + Send + Sync>;

/// Compiles a definition in SQL.
pub type CompileStatement = Box<dyn Fn(&SavedQueryDefinition) -> Result<Plan, QueryTextError> + Send + Sync>;

/// All saved queries.
pub struct SavedQueries {
    /// Where their views are installed.
    views: Arc<dyn ViewRegistry>,
    /// Compiles PromQL.
    compile: Compile,
    /// `None`: this build has no SQL.
    compile_statement: Option<CompileStatement>,
    /// The file of definitions; `None`: they are not saved.
    file: Option<SavedQueryFile>,
    /// One change at a time; readers do not wait for the disk.
    change_lock: Mutex<()>,
    /// By name.
    queries: Mutex<BTreeMap<String, SavedQuery>>,
}

/// One saved query. If a restart could not install it, it is kept so that users can repair it.
#[derive(Clone)]
struct SavedQuery {
    definition: SavedQueryDefinition,
    view: Result<ViewId, SavedQueryError>,
}

/// The result of [`SavedQueries::put`].
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum PutOutcome {
    /// The name is new.
    Created,
    /// It replaced another one of that name.
    Replaced,
    /// It existed already with this definition.
    Unchanged,
}

/// Why a change is rejected; nothing has changed then.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SavedQueryError {
    /// The name is invalid.
    #[error("{0}")]
    Name(String),
    /// The definition is invalid.
    #[error("{0}")]
    Definition(#[from] DefinitionError),
    /// The query does not parse.
    #[error("{0}")]
    Query(QueryTextError),
    /// The query cannot be maintained as a view.
    #[error("{0}")]
    View(ViewError),
    /// It would record series that something else records.
    #[error("{0}")]
    Conflict(String),
    /// There are too many.
    #[error("too many standing queries (limit {STANDING_QUERIES})")]
    Full,
    /// There is none of that name.
    #[error("no standing query {0:?}")]
    Missing(String),
    /// The data directory cannot be written.
    #[error("cannot write the file of standing queries: {0}")]
    Disk(String),
}

impl SavedQueries {
    /// No saved queries, and no file.
    pub fn in_memory(views: Arc<dyn ViewRegistry>, compile: Compile) -> SavedQueries {
        SavedQueries {
            views,
            compile,
            compile_statement: None,
            file: None,
            change_lock: Mutex::default(),
            queries: Mutex::default(),
        }
    }

    /// Definitions may be in SQL.
    #[must_use]
    pub fn with_statements(mut self, compile: CompileStatement) -> SavedQueries {
        self.compile_statement = Some(compile);
        self
    }

    /// Those of `file`, which are not installed before [`SavedQueries::restore`].
    pub fn with_file(views: Arc<dyn ViewRegistry>, compile: Compile, file: SavedQueryFile) -> SavedQueries {
        SavedQueries { file: Some(file), ..Self::in_memory(views, compile) }
    }

    /// Installs those of the file. One that cannot be installed is logged and kept.
    pub fn restore(&self) -> Result<(), DefinitionFileError> {
        let _changing = self.change_lock.lock();
        for (name, definition) in self.file.as_ref().map_or(Ok(Vec::new()), SavedQueryFile::read)? {
            let view = self.install(&name, &definition);
            if let Err(error) = &view {
                tracing::error!(target: "views", name, %error, "a saved query cannot be installed after the restart; put it again or remove it");
            }
            self.queries.lock().insert(name, SavedQuery { definition, view });
        }
        Ok(())
    }

    fn spec(&self, name: &str, definition: &SavedQueryDefinition) -> Result<ViewSpec, SavedQueryError> {
        let plan = self.plan(definition).map_err(SavedQueryError::Query)?;
        Ok(ViewSpec { name: name.to_owned(), plan, kind: definition.kind() })
    }

    fn plan(&self, definition: &SavedQueryDefinition) -> Result<Plan, QueryTextError> {
        match (definition.lang, &self.compile_statement) {
            (Language::Promql, _) => (self.compile)(&definition.query),
            (Language::Sql, Some(compile)) => compile(definition),
            (Language::Sql, None) => {
                let why = "this build has no SQL".to_owned();
                Err(QueryTextError::new(&definition.query, Span::default(), why))
            }
        }
    }

    fn install(&self, name: &str, definition: &SavedQueryDefinition) -> Result<ViewId, SavedQueryError> {
        self.views.install(self.spec(name, definition)?).map_err(SavedQueryError::View)
    }

    /// The view of `old`, if its plan can be replaced without its readers noticing.
    fn replaceable_view(
        &self,
        old: Option<&SavedQuery>,
        new: &SavedQueryDefinition,
        spec: &ViewSpec,
    ) -> Option<ViewId> {
        let old = old?;
        let view = *old.view.as_ref().ok()?;
        let series = |definition: &SavedQueryDefinition| {
            definition
                .recording
                .as_ref()
                .map(|recording| (recording.record.clone(), recording.labels.clone()))
        };
        // Subscribers would see rows of another query as changes of theirs; recorded series must be
        // the same, too, or the old ones would not end.
        let same = series(&old.definition) == series(new);
        (same && self.views.can_replace(view, spec)).then_some(view)
    }

    /// Creates or replaces the saved query `name`. `recorded_elsewhere` says what else records such
    /// series. Blocks for the disk.
    pub fn put(
        &self,
        name: &str,
        definition: SavedQueryDefinition,
        recorded_elsewhere: impl Fn(&RecordOptions) -> Option<String>,
    ) -> Result<PutOutcome, SavedQueryError> {
        check_name(name)?;
        definition.check()?;
        let _changing = self.change_lock.lock();
        let mut after = self.queries.lock().clone();
        let before = after.get(name).cloned();
        // Putting the same again repairs a query that could not be installed.
        if before.as_ref().is_some_and(|old| old.definition == definition && old.view.is_ok()) {
            return Ok(PutOutcome::Unchanged);
        }
        // Replacing one is allowed at the limit.
        if before.is_none() && after.len() >= STANDING_QUERIES {
            return Err(SavedQueryError::Full);
        }
        if let Some(recording) = &definition.recording {
            // Two writers of one series would store each other's samples over their own.
            let own = || same_series(&after, name, recording);
            if let Some(other) = own().or_else(|| recorded_elsewhere(recording)) {
                let series = &recording.record;
                return Err(SavedQueryError::Conflict(format!(
                    "{other} records {series:?} with the same labels"
                )));
            }
        }
        let spec = self.spec(name, &definition)?;
        match self.replaceable_view(before.as_ref(), &definition, &spec) {
            Some(view) => {
                after.insert(name.to_owned(), SavedQuery { definition, view: Ok(view) });
                self.write(&after)?;
                // After the file: if the process dies in between, the restart installs what was
                // answered for, or the old one, and never neither.
                self.views.replace(view, spec).map_err(SavedQueryError::View)?;
                *self.queries.lock() = after;
            }
            None => {
                let view = self.views.install(spec).map_err(SavedQueryError::View)?;
                self.replace(after, name, SavedQuery { definition, view: Ok(view) })?;
            }
        }
        Ok(if before.is_some() { PutOutcome::Replaced } else { PutOutcome::Created })
    }

    /// Stores a query in place of the one of its name, and removes the view of that one.
    fn replace(
        &self,
        mut all: BTreeMap<String, SavedQuery>,
        name: &str,
        new: SavedQuery,
    ) -> Result<(), SavedQueryError> {
        let view = new.view.clone();
        let old = all.insert(name.to_owned(), new);
        // The view runs already; it must go, because the client is told that nothing has changed.
        if let Err(refusal) = self.write(&all) {
            if let Ok(view) = view {
                self.views.remove(view);
            }
            return Err(refusal);
        }
        *self.queries.lock() = all;
        if let Some(view) = old.and_then(|old| old.view.ok()) {
            self.views.remove(view);
        }
        Ok(())
    }

    /// Removes the saved query `name`. Blocks for the disk.
    pub fn remove(&self, name: &str) -> Result<(), SavedQueryError> {
        let _changing = self.change_lock.lock();
        let mut after = self.queries.lock().clone();
        let old = after.remove(name).ok_or_else(|| SavedQueryError::Missing(name.to_owned()))?;
        self.write(&after)?;
        *self.queries.lock() = after;
        if let Ok(view) = old.view {
            self.views.remove(view);
        }
        Ok(())
    }

    fn write(&self, queries: &BTreeMap<String, SavedQuery>) -> Result<(), SavedQueryError> {
        let Some(file) = &self.file else { return Ok(()) };
        let definitions = queries.iter().map(|(name, standing)| (name.as_str(), &standing.definition));
        file.write(definitions).map_err(|e| SavedQueryError::Disk(e.to_string()))
    }

    /// The view of the saved query `name`; inside, why it is not installed.
    pub fn view(&self, name: &str) -> Option<Result<ViewId, SavedQueryError>> {
        self.queries.lock().get(name).map(|standing| standing.view.clone())
    }

    /// The name and the definition of a view, if it is one of a saved query.
    pub fn definition(&self, view: ViewId) -> Option<(String, SavedQueryDefinition)> {
        let queries = self.queries.lock();
        let found = queries.iter().find(|(_, standing)| standing.view == Ok(view));
        found.map(|(name, standing)| (name.clone(), standing.definition.clone()))
    }

    /// All definitions, by the ids of their views.
    pub fn definitions(&self) -> BTreeMap<ViewId, SavedQueryDefinition> {
        let queries = self.queries.lock();
        let standing = queries.values().filter_map(|s| Some((*s.view.as_ref().ok()?, s.definition.clone())));
        standing.collect()
    }
}

/// Another saved query that records the same series.
fn same_series(
    queries: &BTreeMap<String, SavedQuery>,
    name: &str,
    recording: &RecordOptions,
) -> Option<String> {
    let same =
        |other: &RecordOptions| (&other.record, &other.labels) == (&recording.record, &recording.labels);
    let others = queries.iter().filter(|(other, _)| *other != name);
    let mut writers = others.filter(|(_, s)| s.definition.recording.as_ref().is_some_and(same));
    writers.next().map(|(other, _)| format!("the standing query {other:?}"))
}

/// A name cannot be mistaken for a view id, and needs no escaping in a path.
fn check_name(name: &str) -> Result<(), SavedQueryError> {
    let first = name.bytes().next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_');
    let plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.:-".contains(&b));
    if first && plain && name.len() <= STANDING_NAME_BYTES && crate::scheduled::parse_view_id(name).is_none()
    {
        return Ok(());
    }
    Err(SavedQueryError::Name(format!(
        "the name of a standing query must have 1 to {STANDING_NAME_BYTES} of the characters a-z, A-Z, 0-9, \
         '_', '.', ':' and '-', begin with a letter or '_', and not be the id of a view: {name:?} does not"
    )))
}

#[cfg(test)]
mod tests;
