//! [`ServerTables`]: uploaded tables and named views (`CREATE VIEW`) of the data directory.
//!
//! A table is in memory and in a file of its own; all views are in one file. A file is written
//! whole before a change is answered, with version and checksum ([`FileForm`]). The first entry of
//! a table's file has its columns, the others its rows. [`sql::tables`] has the tables in memory.

use api::response::{ApiError, ErrorType};
use api::services::{TableChange, TableStore};
use engine::query::QueryError;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use sql::limits;
use sql::tables::{ColumnDefinition, ColumnType, Table, TableList};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use storage::disk::{Disk, OsDisk};
use views::definition_file::{DefinitionFileError, FileForm};

/// The directory of the files of tables, in the data directory.
const DIRECTORY: &str = "tables";
const EXTENSION: &str = "table";
const FORM: FileForm = FileForm { magic: "perennial-table", what: "a table", most: limits::TABLE_ROWS + 1 };
/// The file of views, in the data directory.
const VIEWS: &str = "named-views";
const VIEWS_FORM: FileForm =
    FileForm { magic: "perennial-named-views", what: "views", most: limits::NAMED_VIEWS };

/// An entry of the file of a table.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum TableEntry {
    /// The first one.
    Columns {
        columns: Vec<ColumnEntry>,
    },
    Row(Vec<Option<String>>),
}

/// A column in the file of a table.
#[derive(Serialize, Deserialize)]
struct ColumnEntry {
    name: String,
    #[serde(rename = "type")]
    kind: String,
    /// It is a part of the primary key.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    key: bool,
}

/// An entry of the file of views.
#[derive(Serialize, Deserialize)]
struct ViewEntry {
    name: String,
    query: String,
}

/// The tables and views.
pub(crate) struct ServerTables {
    disk: Arc<dyn Disk>,
    data: PathBuf,
    directory: PathBuf,
    all: Mutex<BTreeMap<String, Arc<Table>>>,
    views: Mutex<BTreeMap<String, Arc<str>>>,
    /// Names of what was removed since the start.
    gone: Mutex<BTreeSet<String>>,
    /// Held while a file is written: changes are made one after the other.
    change: Mutex<()>,
}

impl ServerTables {
    /// Reads all tables and views below the data directory `data`. A damaged file is renamed, with
    /// an error in the log.
    pub(crate) fn open(disk: Arc<dyn Disk>, data: &Path) -> Result<ServerTables, DefinitionFileError> {
        let directory = data.join(DIRECTORY);
        let mut all = BTreeMap::new();
        let files = if disk.is_dir(&directory) { disk.list(&directory) } else { Ok(Vec::new()) };
        let files = files.map_err(|source| DefinitionFileError::Read { path: directory.clone(), source })?;
        for path in files.into_iter().filter(|path| path.extension().is_some_and(|e| e == EXTENSION)) {
            let entries = FORM.read(disk.as_ref(), &path)?;
            let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            match restored(entries) {
                Ok(table) => {
                    all.insert(name, Arc::new(table));
                }
                // Damaged, and renamed; or written by hand.
                Err(e) => {
                    tracing::error!(target: "sql", table = name, "a table cannot be read: {}; put it again", e.text)
                }
            }
        }
        let views: Vec<ViewEntry> = VIEWS_FORM.read(disk.as_ref(), &data.join(VIEWS))?;
        let views = views.into_iter().map(|view| (view.name, view.query.into())).collect();
        Ok(ServerTables {
            disk,
            data: data.to_owned(),
            directory,
            all: Mutex::new(all),
            views: Mutex::new(views),
            gone: Mutex::default(),
            change: Mutex::default(),
        })
    }

    /// The tables and views in the data directory `data`, as far as they can be read. Changes
    /// nothing.
    pub(crate) fn peek(data: &Path) -> ServerTables {
        let disk = OsDisk;
        let directory = data.join(DIRECTORY);
        let files = disk.list(&directory).unwrap_or_default();
        let table = |path: PathBuf| {
            let entries = FORM.decode(&disk.read(&path).ok()?).ok()?;
            let name = path.file_stem()?.to_string_lossy().into_owned();
            Some((name, Arc::new(restored(entries).ok()?)))
        };
        let is_table = |path: &PathBuf| path.extension().is_some_and(|e| e == EXTENSION);
        let all = files.into_iter().filter(is_table).filter_map(table).collect();
        let views = disk.read(&data.join(VIEWS)).ok();
        let views = views.and_then(|content| VIEWS_FORM.decode::<ViewEntry>(&content).ok());
        let view = |view: ViewEntry| (view.name, Arc::from(view.query));
        ServerTables {
            disk: Arc::new(OsDisk),
            data: data.to_owned(),
            directory,
            all: Mutex::new(all),
            views: Mutex::new(views.into_iter().flatten().map(view).collect()),
            gone: Mutex::default(),
            change: Mutex::default(),
        }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.join(name).with_extension(EXTENSION)
    }

    /// Whether a table of this many bytes fits into the limit when it replaces the table of that
    /// name.
    fn check_room(&self, name: &str, bytes: usize) -> Result<(), ApiError> {
        let all = self.all.lock();
        let others = all.iter().filter(|(other, _)| *other != name);
        let sizes: Vec<usize> = others.map(|(_, table)| table.bytes()).collect();
        let count = sizes.len();
        let held: usize = sizes.iter().sum();
        let full = |what: String| Err(ApiError::new(ErrorType::LimitReached, what));
        if count >= limits::TABLES {
            return full(format!("there are {count} tables, the most that there may be: remove one"));
        }
        if held + bytes > limits::TABLES_BYTES {
            let most = limits::TABLES_BYTES / 1024 / 1024;
            return full(format!("all tables together may hold {most} MiB: remove one, or put fewer rows"));
        }
        Ok(())
    }

    /// Writes a table and takes it into use; the caller holds `change`.
    fn write(&self, name: &str, table: Table) -> Result<(), ApiError> {
        self.check_room(name, table.bytes())?;
        let entries = entries_of(&table)?;
        let failed = |e: std::io::Error| unwritable("the table cannot be written", &e);
        if !self.disk.is_dir(&self.directory) {
            self.disk.create_dir(&self.directory).map_err(failed)?;
        }
        FORM.write(self.disk.as_ref(), &self.file(name), &entries).map_err(failed)?;
        self.disk.sync_dir(&self.directory).map_err(failed)?;
        self.all.lock().insert(name.to_owned(), Arc::new(table));
        Ok(())
    }

    /// Writes the views and takes them into use; the caller holds `change`.
    fn write_views(&self, views: BTreeMap<String, Arc<str>>) -> Result<(), ApiError> {
        let entry = |(name, query): (&String, &Arc<str>)| ViewEntry {
            name: name.clone(),
            query: query.as_ref().to_owned(),
        };
        let entries: Vec<ViewEntry> = views.iter().map(entry).collect();
        let failed = |e: std::io::Error| unwritable("the views cannot be written", &e);
        VIEWS_FORM.write(self.disk.as_ref(), &self.data.join(VIEWS), &entries).map_err(failed)?;
        self.disk.sync_dir(&self.data).map_err(failed)?;
        *self.views.lock() = views;
        Ok(())
    }

    /// A table or view of this name was removed.
    fn note_gone(&self, name: &str) {
        let mut gone = self.gone.lock();
        gone.insert(name.to_owned());
        if gone.len() > limits::GONE_NAMES {
            gone.pop_first();
        }
    }

    /// An error if there is a view of this name.
    fn check_no_view(&self, name: &str) -> Result<(), ApiError> {
        if self.views.lock().contains_key(name) {
            return Err(conflict(format!("there is a view {name:?}: DROP VIEW removes it")));
        }
        Ok(())
    }
}

fn unwritable(what: &str, error: &std::io::Error) -> ApiError {
    ApiError::new(ErrorType::UnavailableNow, format!("{what}: {error}"))
}

fn conflict(what: String) -> ApiError {
    ApiError::new(ErrorType::Conflict, what)
}

fn no_table(name: &str) -> ApiError {
    ApiError::new(ErrorType::NotFound, format!("there is no table {name:?}"))
}

/// The table of the entries of its file.
fn restored(entries: Vec<TableEntry>) -> Result<Table, sql::SqlError> {
    let mut columns = Vec::new();
    let mut key = Vec::new();
    let mut rows = Vec::new();
    for entry in entries {
        match entry {
            TableEntry::Columns { columns: entries } => {
                for entry in entries {
                    let unknown = || sql::SqlError::bad(format!("a column has the type {:?}", entry.kind));
                    let kind = ColumnType::named(&entry.kind).ok_or_else(unknown)?;
                    if entry.key {
                        key.push(entry.name.clone());
                    }
                    columns.push(ColumnDefinition { name: entry.name, kind });
                }
            }
            TableEntry::Row(row) => rows.push(row),
        }
    }
    Table::restored(&columns, &key, &rows)
}

/// The entries of the file of a table.
fn entries_of(table: &Table) -> Result<Vec<TableEntry>, ApiError> {
    let column = |column: sql::tables::TableColumn| ColumnEntry {
        name: column.name,
        kind: column.kind.to_owned(),
        key: column.is_key,
    };
    let columns = TableEntry::Columns { columns: table.columns().into_iter().map(column).collect() };
    let rows = table.rows().map_err(QueryError::from)?;
    Ok([columns].into_iter().chain(rows.into_iter().map(TableEntry::Row)).collect())
}

impl TableList for ServerTables {
    fn table(&self, name: &str) -> Option<Arc<Table>> {
        self.all.lock().get(name).cloned()
    }

    fn names(&self) -> Vec<String> {
        self.all.lock().keys().cloned().collect()
    }

    fn view(&self, name: &str) -> Option<Arc<str>> {
        self.views.lock().get(name).cloned()
    }

    fn view_names(&self) -> Vec<String> {
        self.views.lock().keys().cloned().collect()
    }

    fn is_gone(&self, name: &str) -> bool {
        self.gone.lock().contains(name)
    }
}

impl TableStore for ServerTables {
    fn put(&self, name: &str, table: Table) -> Result<(), ApiError> {
        let _change = self.change.lock();
        self.check_no_view(name)?;
        self.write(name, table)
    }

    fn create(&self, name: &str, table: Table) -> Result<(), ApiError> {
        let _change = self.change.lock();
        if self.table(name).is_some() {
            return Err(conflict(format!("relation \"{name}\" already exists")));
        }
        self.check_no_view(name)?;
        self.write(name, table)
    }

    fn change(&self, name: &str, change: &mut TableChange<'_>) -> Result<(), ApiError> {
        let _change = self.change.lock();
        let table = self.table(name).ok_or_else(|| no_table(name))?;
        let changed = change(&table).map_err(QueryError::from)?;
        self.write(name, changed)
    }

    fn remove(&self, name: &str) -> Result<(), ApiError> {
        let _change = self.change.lock();
        if !self.all.lock().contains_key(name) {
            return Err(no_table(name));
        }
        let failed = |e: std::io::Error| unwritable("the table cannot be removed", &e);
        self.disk.remove(&self.file(name)).map_err(failed)?;
        self.disk.sync_dir(&self.directory).map_err(failed)?;
        self.all.lock().remove(name);
        self.note_gone(name);
        Ok(())
    }

    fn create_view(&self, name: &str, query: &str, replace: bool) -> Result<(), ApiError> {
        let _change = self.change.lock();
        if self.table(name).is_some() {
            return Err(conflict(format!("there is a table {name:?}: DROP TABLE removes it")));
        }
        let mut views = self.views.lock().clone();
        if !replace && views.contains_key(name) {
            return Err(conflict(format!("there is a view {name:?}: CREATE OR REPLACE VIEW replaces it")));
        }
        views.insert(name.to_owned(), query.into());
        if views.len() > limits::NAMED_VIEWS {
            let error = format!("there are {} views, the most that there may be", limits::NAMED_VIEWS);
            return Err(ApiError::new(ErrorType::LimitReached, error));
        }
        self.write_views(views)
    }

    fn remove_view(&self, name: &str) -> Result<(), ApiError> {
        let _change = self.change.lock();
        let mut views = self.views.lock().clone();
        if views.remove(name).is_none() {
            return Err(ApiError::new(ErrorType::NotFound, format!("there is no view {name:?}")));
        }
        self.write_views(views)?;
        self.note_gone(name);
        Ok(())
    }
}
