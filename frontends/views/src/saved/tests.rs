//! Tests of saved queries (views that users create by name) with fake views: restarts, damaged
//! files, and changes that fail.

use super::definition::Language;
use super::*;
use engine::live::{Sink, TapId, ViewError};
use engine::plan::{BitFloat, PlanNode, PlanOp, Span};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use storage::disk::{Disk, DiskFile, OsDisk, ReadFile};

/// The installed views, by id.
#[derive(Default)]
struct NamedViews {
    next: AtomicU64,
    standing: Mutex<BTreeMap<ViewId, String>>,
    /// Whether plans of views can be replaced, and how many were.
    pliable: AtomicBool,
    changed: AtomicU64,
}

impl ViewRegistry for NamedViews {
    fn install(&self, view: ViewSpec) -> Result<ViewId, ViewError> {
        let id = ViewId(self.next.fetch_add(1, SeqCst));
        self.standing.lock().insert(id, view.name);
        Ok(id)
    }
    fn can_replace(&self, _: ViewId, _: &ViewSpec) -> bool {
        self.pliable.load(SeqCst)
    }
    fn replace(&self, _: ViewId, _: ViewSpec) -> Result<(), ViewError> {
        self.changed.fetch_add(1, SeqCst);
        Ok(())
    }
    fn remove(&self, view: ViewId) {
        self.standing.lock().remove(&view);
    }
    fn tap(&self, _: ViewId, _: Box<dyn Sink>) -> TapId {
        TapId(0)
    }
    fn untap(&self, _: TapId) {}
}

impl NamedViews {
    fn names(&self) -> Vec<String> {
        self.standing.lock().values().cloned().collect()
    }
}

/// Numbers are valid queries, everything else is not.
fn compile() -> Compile {
    Box::new(|text| {
        let wrong = || QueryTextError::new(text, Span::default(), format!("{text:?}"));
        let number = text.parse().map_err(|_| wrong())?;
        Ok(Arc::new(PlanNode { op: PlanOp::Number(BitFloat(number)), span: Span::default() }))
    })
}

fn query(text: &str) -> SavedQueryDefinition {
    SavedQueryDefinition { query: text.to_owned(), lang: Language::Promql, recording: None }
}

fn recorded(text: &str, record: &str) -> SavedQueryDefinition {
    let recording = RecordOptions { record: record.to_owned(), labels: BTreeMap::new(), interval: 1_000 };
    SavedQueryDefinition { recording: Some(recording), ..query(text) }
}

fn nobody(_: &RecordOptions) -> Option<String> {
    None
}

fn restored(dir: &std::path::Path, compile: Compile) -> (Arc<NamedViews>, SavedQueries) {
    let board = Arc::new(NamedViews::default());
    let file = SavedQueryFile::new(Arc::new(OsDisk), dir);
    let queries = SavedQueries::with_file(board.clone(), compile, file);
    queries.restore().unwrap();
    (board, queries)
}

#[test]
fn a_query_that_records_the_same_series_changes_in_its_place() {
    let dir = tempfile::tempdir().unwrap();
    let (board, queries) = restored(dir.path(), compile());
    board.pliable.store(true, SeqCst);
    assert_eq!(queries.put("a", recorded("1", "r"), nobody), Ok(PutOutcome::Created));
    let view = queries.view("a");
    assert_eq!(queries.put("a", recorded("2", "r"), nobody), Ok(PutOutcome::Replaced));
    assert_eq!((queries.view("a"), board.changed.load(SeqCst)), (view.clone(), 1));
    let id = view.clone().unwrap().unwrap();
    assert_eq!(queries.definition(id), Some(("a".to_owned(), recorded("2", "r"))));
    assert_eq!(queries.put("a", recorded("2", "other"), nobody), Ok(PutOutcome::Replaced));
    assert_ne!(queries.view("a"), view, "other series");
    assert_eq!((board.names().len(), board.changed.load(SeqCst)), (1, 1));
}

#[test]
fn queries_come_are_replaced_and_go_and_a_restart_brings_them_back() {
    let dir = tempfile::tempdir().unwrap();
    let (board, queries) = restored(dir.path(), compile());
    assert_eq!(queries.put("a", query("1"), nobody), Ok(PutOutcome::Created));
    assert_eq!(queries.put("b", recorded("2", "r"), nobody), Ok(PutOutcome::Created));
    assert_eq!(queries.put("a", query("1"), nobody), Ok(PutOutcome::Unchanged));
    let first = queries.view("a");
    assert_eq!(queries.put("a", query("3"), nobody), Ok(PutOutcome::Replaced));
    assert_ne!(queries.view("a"), first, "another view");
    assert_eq!(board.names().len(), 2, "the old one is gone");
    assert_eq!(queries.put("c", query("4"), nobody), Ok(PutOutcome::Created));
    assert_eq!(queries.remove("c"), Ok(()));
    assert_eq!(queries.remove("c"), Err(SavedQueryError::Missing("c".into())));
    drop((board, queries));

    let (board, queries) = restored(dir.path(), compile());
    assert_eq!(board.names(), ["a", "b"]);
    let id = queries.view("b").unwrap().unwrap();
    assert_eq!(queries.definition(id), Some(("b".into(), recorded("2", "r"))));
    drop(queries);

    // A build, or a flag, that no longer understands it: it is kept, and installed when it is put
    // again.
    let (board, queries) =
        restored(dir.path(), Box::new(|text| Err(QueryTextError::new(text, Span::default(), "no".into()))));
    assert!(board.names().is_empty());
    let reason = queries.view("a").map(|view| view.map_err(|e| e.to_string()));
    assert_eq!(reason, Some(Err("1:1: parse error: no".into())));
    assert_eq!(queries.remove("b"), Ok(()));
    let (board, queries) = restored(dir.path(), compile());
    assert_eq!(
        (board.names(), queries.put("a", query("3"), nobody)),
        (vec!["a".into()], Ok(PutOutcome::Unchanged))
    );
}

#[test]
fn what_is_wrong_is_refused_and_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (board, queries) = restored(dir.path(), compile());
    queries.put("old", recorded("1", "taken"), nobody).unwrap();
    let of_rule = |recording: &RecordOptions| (recording.record == "ruled").then(|| "the rule x".to_owned());
    let mut slow = recorded("1", "r");
    slow.recording.as_mut().unwrap().interval = 1;
    let mut named = recorded("1", "r");
    named.recording.as_mut().unwrap().labels = [("__name__".into(), "x".into())].into();
    for (name, definition, error) in [
        ("", query("1"), "the name of a standing query"),
        ("7", query("1"), "the name of a standing query"),
        ("scheduled-7", query("1"), "the name of a standing query"),
        ("a/b", query("1"), "the name of a standing query"),
        ("a", query(" "), "`query` must not be empty"),
        ("a", query(&"1".repeat(1 << 20)), "`query` must not have more than"),
        ("a", query("x"), "1:1: parse error"),
        ("a", recorded("1", ""), "`record` must be a metric name"),
        ("a", slow, "`interval` must be from 100 ms"),
        ("a", named, "invalid label name"),
        ("a", recorded("1", "taken"), "the standing query \"old\" records \"taken\" with the same labels"),
        ("a", recorded("1", "ruled"), "the rule x records \"ruled\" with the same labels"),
    ] {
        let refusal = queries.put(name, definition, of_rule).unwrap_err().to_string();
        assert!(refusal.contains(error), "{name}: {refusal}");
    }
    assert_eq!(board.names(), ["old"]);
    // It may record what it recorded before.
    assert_eq!(queries.put("old", recorded("2", "taken"), nobody), Ok(PutOutcome::Replaced));
}

#[test]
fn there_are_not_more_than_there_may_be() {
    let queries = SavedQueries::in_memory(Arc::new(NamedViews::default()), compile());
    for i in 0..STANDING_QUERIES {
        queries.put(&format!("q{i}"), query("1"), nobody).unwrap();
    }
    assert_eq!(queries.put("more", query("1"), nobody), Err(SavedQueryError::Full));
    assert_eq!(queries.put("q0", query("2"), nobody), Ok(PutOutcome::Replaced));
}

/// A disk that is full.
struct FullDisk;

impl Disk for FullDisk {
    fn create(&self, _: &std::path::Path) -> std::io::Result<Box<dyn DiskFile>> {
        Err(std::io::ErrorKind::StorageFull.into())
    }
    fn read(&self, path: &std::path::Path) -> std::io::Result<Vec<u8>> {
        OsDisk.read(path)
    }
    fn open(&self, path: &std::path::Path) -> std::io::Result<std::sync::Arc<dyn ReadFile>> {
        OsDisk.open(path)
    }
    fn is_dir(&self, path: &std::path::Path) -> bool {
        OsDisk.is_dir(path)
    }
    fn list(&self, path: &std::path::Path) -> std::io::Result<Vec<std::path::PathBuf>> {
        OsDisk.list(path)
    }
    fn rename(&self, from: &std::path::Path, to: &std::path::Path) -> std::io::Result<()> {
        OsDisk.rename(from, to)
    }
    fn remove(&self, path: &std::path::Path) -> std::io::Result<()> {
        OsDisk.remove(path)
    }
    fn create_dir(&self, path: &std::path::Path) -> std::io::Result<()> {
        OsDisk.create_dir(path)
    }
    fn truncate(&self, path: &std::path::Path, len: u64) -> std::io::Result<()> {
        OsDisk.truncate(path, len)
    }
    fn sync_dir(&self, path: &std::path::Path) -> std::io::Result<()> {
        OsDisk.sync_dir(path)
    }
}

#[test]
fn what_cannot_be_written_does_not_stand() {
    let dir = tempfile::tempdir().unwrap();
    let (board, queries) = restored(dir.path(), compile());
    queries.put("a", query("1"), nobody).unwrap();
    drop((board, queries));
    let board = Arc::new(NamedViews::default());
    let file = SavedQueryFile::new(Arc::new(FullDisk), dir.path());
    let queries = SavedQueries::with_file(board.clone(), compile(), file);
    queries.restore().unwrap();
    assert!(matches!(queries.put("b", query("1"), nobody), Err(SavedQueryError::Disk(_))));
    assert!(matches!(queries.remove("a"), Err(SavedQueryError::Disk(_))));
    assert_eq!(board.names(), ["a"]);
}
