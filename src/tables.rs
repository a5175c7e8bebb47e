//! The tables that people bring: in memory, and each in a file of the data directory.
//!
//! A file is written as a whole before a change is answered, with version and checksum
//! ([`FileForm`]); its entries are the names of the columns, then the rows.

use api::response::{ApiError, ErrorType};
use api::services::TableStore;
use parking_lot::Mutex;
use sql::limits;
use sql::tables::{Table, TableList};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use storage::disk::Disk;
use views::definition_file::{DefinitionFileError, FileForm};

/// The directory of the files, in the data directory.
const DIRECTORY: &str = "tables";
const EXTENSION: &str = "table";
const FORM: FileForm = FileForm { magic: "perennial-table", what: "a table", most: limits::TABLE_ROWS + 1 };

/// The tables.
pub(crate) struct ServerTables {
    disk: Arc<dyn Disk>,
    directory: PathBuf,
    all: Mutex<BTreeMap<String, Arc<Table>>>,
    /// Held while a file is written: changes are made one after the other.
    change: Mutex<()>,
}

impl ServerTables {
    /// Reads all tables below the data directory `data`. A damaged file is renamed, with an error in
    /// the log.
    pub(crate) fn open(disk: Arc<dyn Disk>, data: &Path) -> Result<ServerTables, DefinitionFileError> {
        let directory = data.join(DIRECTORY);
        let mut all = BTreeMap::new();
        let files = if disk.is_dir(&directory) { disk.list(&directory) } else { Ok(Vec::new()) };
        let files = files.map_err(|source| DefinitionFileError::Read { path: directory.clone(), source })?;
        for path in files.into_iter().filter(|path| path.extension().is_some_and(|e| e == EXTENSION)) {
            let rows = FORM.read(disk.as_ref(), &path)?;
            let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            match Table::of_rows(rows) {
                Ok(table) => {
                    all.insert(name, Arc::new(table));
                }
                // Damaged, and renamed; or written by hand.
                Err(e) => {
                    tracing::error!(target: "sql", table = name, "a table cannot be read: {}; put it again", e.text)
                }
            }
        }
        Ok(ServerTables { disk, directory, all: Mutex::new(all), change: Mutex::default() })
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.join(name).with_extension(EXTENSION)
    }

    /// Whether there is room for a table of so many bytes in the place of the one of that name.
    fn check_room(&self, name: &str, bytes: usize) -> Result<(), ApiError> {
        let all = self.all.lock();
        let others = all.iter().filter(|(other, _)| *other != name);
        let (count, held) =
            others.fold((0, 0), |(count, held), (_, table)| (count + 1, held + table.bytes()));
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
}

impl TableList for ServerTables {
    fn table(&self, name: &str) -> Option<Arc<Table>> {
        self.all.lock().get(name).cloned()
    }

    fn names(&self) -> Vec<String> {
        self.all.lock().keys().cloned().collect()
    }
}

impl TableStore for ServerTables {
    fn put(&self, name: &str, table: Table) -> Result<(), ApiError> {
        let _change = self.change.lock();
        self.check_room(name, table.bytes())?;
        let rows = table.rows().map_err(engine::query::QueryError::from)?;
        let failed = |e: std::io::Error| {
            ApiError::new(ErrorType::UnavailableNow, format!("the table cannot be written: {e}"))
        };
        if !self.disk.is_dir(&self.directory) {
            self.disk.create_dir(&self.directory).map_err(failed)?;
        }
        FORM.write(self.disk.as_ref(), &self.file(name), &rows).map_err(failed)?;
        self.disk.sync_dir(&self.directory).map_err(failed)?;
        self.all.lock().insert(name.to_owned(), Arc::new(table));
        Ok(())
    }

    fn remove(&self, name: &str) -> Result<(), ApiError> {
        let _change = self.change.lock();
        if !self.all.lock().contains_key(name) {
            return Err(ApiError::new(ErrorType::NotFound, format!("there is no table {name:?}")));
        }
        let failed = |e: std::io::Error| {
            ApiError::new(ErrorType::UnavailableNow, format!("the table cannot be removed: {e}"))
        };
        self.disk.remove(&self.file(name)).map_err(failed)?;
        self.disk.sync_dir(&self.directory).map_err(failed)?;
        self.all.lock().remove(name);
        Ok(())
    }
}
