//! The active queries: at most `--query.max-concurrency` at one time, each with its text in a file
//! that survives a crash. The permission to run is called a *turn*.
//!
//! One client address may hold three quarters of the turns. A large query waits for other threads,
//! and many large ones of one client would otherwise block the small queries of all other clients.
//!
//! The file is Prometheus' `queries.active`: `[`, then a slot of [`SLOT`] bytes for each query, its
//! JSON padded with zeros up to a comma. Entries that a server finds at its start belong to queries
//! that did not finish in the previous run. The file is written but not synced: if the process is
//! killed, the bytes remain in the page cache, which is enough for this purpose.

use super::super::limits::{ACTIVE_QUERY_BYTES as SLOT, ACTIVE_QUERY_SLOTS as SLOTS, QUERIES_OF_OTHERS};
use super::super::slots::client_address;
use super::running_queries::RunningQueries;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The name of the file in the data directory.
const FILE: &str = "queries.active";

/// Hands out turns to queries and records the active ones in the file.
pub struct ActiveQueryTracker {
    /// The queries that run, for people.
    pub running: Arc<RunningQueries>,
    /// For all queries.
    turns: Arc<Semaphore>,
    /// The turns of one address.
    turns_of_one_address: usize,
    by_address: Mutex<HashMap<IpAddr, Arc<Semaphore>>>,
    /// Free slots of the file.
    slots: Mutex<Vec<usize>>,
    /// `None`: active queries are not written.
    file: Option<File>,
}

/// The permission to run a query, held while the query runs.
pub struct Turn {
    _turn: OwnedSemaphorePermit,
    _of_address: Option<TurnOfAddress>,
}

/// A turn of one address, or the wait for one.
struct TurnOfAddress {
    active: Arc<ActiveQueryTracker>,
    address: IpAddr,
    turns: Arc<Semaphore>,
    turn: Option<OwnedSemaphorePermit>,
}

impl Drop for TurnOfAddress {
    fn drop(&mut self) {
        self.turn = None;
        let mut by_address = self.active.by_address.lock();
        // Two references: the map's and this one. So no other query of this address runs or waits.
        if Arc::strong_count(&self.turns) == 2 {
            by_address.remove(&self.address);
        }
    }
}

impl ActiveQueryTracker {
    /// Turns for `concurrency` queries at one time, without a file.
    pub fn unwritten(concurrency: usize) -> ActiveQueryTracker {
        let concurrency = concurrency.clamp(1, Semaphore::MAX_PERMITS);
        let slots = (0..concurrency.min(SLOTS)).rev().collect();
        ActiveQueryTracker {
            running: Arc::default(),
            turns: Arc::new(Semaphore::new(concurrency)),
            turns_of_one_address: concurrency - concurrency / QUERIES_OF_OTHERS,
            by_address: Mutex::default(),
            slots: Mutex::new(slots),
            file: None,
        }
    }

    /// Like [`ActiveQueryTracker::unwritten`], with the file in `directory`. Queries that an
    /// earlier run left in the file are logged. If the file cannot be created, for example because
    /// the disk is full, queries are answered without it.
    pub fn in_directory(concurrency: usize, directory: &Path) -> ActiveQueryTracker {
        let path = directory.join(FILE);
        if let Some(queries) = std::fs::read(&path).ok().and_then(|bytes| unfinished(&bytes)) {
            tracing::info!(target: "query", queries, "These queries didn't finish in prometheus' last run:");
        }
        let mut active = ActiveQueryTracker::unwritten(concurrency);
        match create(&path, active.slots.lock().len()) {
            Ok(file) => active.file = Some(file),
            Err(error) => {
                tracing::warn!(target: "query", %error, file = %path.display(), "running queries are not written to their file, so the next start cannot name those of a crash; check the data directory")
            }
        }
        active
    }

    /// Waits for a turn for a query of `client`. The semaphores are never closed.
    pub async fn turn(self: &Arc<Self>, client: Option<IpAddr>) -> Option<Turn> {
        let mut of_address = client.map(|client| self.of_address(client_address(client)));
        if let Some(of) = &mut of_address {
            of.turn = Some(of.turns.clone().acquire_owned().await.ok()?);
        }
        let turn = self.turns.clone().acquire_owned().await.ok()?;
        Some(Turn { _turn: turn, _of_address: of_address })
    }

    fn of_address(self: &Arc<Self>, address: IpAddr) -> TurnOfAddress {
        let mut by_address = self.by_address.lock();
        let turns =
            by_address.entry(address).or_insert_with(|| Arc::new(Semaphore::new(self.turns_of_one_address)));
        TurnOfAddress { active: self.clone(), address, turns: turns.clone(), turn: None }
    }

    /// Records `query` as active since `now` (s since the epoch), until the entry is dropped.
    pub fn write(self: &Arc<Self>, query: &str, now: i64) -> Option<ActiveQueryEntry> {
        let file = self.file.as_ref()?;
        let slot = self.slots.lock().pop()?;
        let mut bytes = entry(query, now).into_bytes();
        bytes.resize(SLOT - 1, 0);
        bytes.push(b',');
        // A failure to record a query must not fail the query.
        let _ = file.write_all_at(&bytes, at(slot));
        Some(ActiveQueryEntry { active: self.clone(), slot })
    }
}

fn at(slot: usize) -> u64 {
    (1 + slot * SLOT) as u64
}

fn create(path: &Path, slots: usize) -> io::Result<File> {
    let file = File::options().create(true).truncate(true).write(true).open(path)?;
    file.set_len(at(slots))?;
    file.write_all_at(b"[", 0)?;
    Ok(file)
}

/// The JSON of one query; a text that does not fit into the slot is cut.
fn entry(query: &str, now: i64) -> String {
    let json = |query: &str| serde_json::json!({"query": query, "timestamp_sec": now}).to_string();
    let mut end = query.len().min(SLOT);
    loop {
        while !query.is_char_boundary(end) {
            end -= 1;
        }
        let text = json(&query[..end]);
        // Escapes lengthen the text, so one cut may not be enough.
        match text.len().checked_sub(SLOT - 1) {
            None | Some(0) => return text,
            Some(_) if end == 0 => return text,
            Some(over) => end = end.saturating_sub(over.div_ceil(6).max(1)),
        }
    }
}

/// The entries of the file as a JSON list; `None`: no entries.
fn unfinished(bytes: &[u8]) -> Option<String> {
    let text: Vec<u8> = bytes.iter().copied().filter(|b| *b != 0).collect();
    let text = String::from_utf8_lossy(&text);
    let list = text.strip_suffix(',').filter(|list| list.len() > 1)?;
    Some(format!("{list}]"))
}

/// A query's entry in the file; dropping it removes the entry.
pub struct ActiveQueryEntry {
    active: Arc<ActiveQueryTracker>,
    slot: usize,
}

impl Drop for ActiveQueryEntry {
    fn drop(&mut self) {
        if let Some(file) = &self.active.file {
            let _ = file.write_all_at(&[0; SLOT], at(self.slot));
        }
        self.active.slots.lock().push(self.slot);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    /// Longer than it takes to get a free turn.
    const SOON: Duration = Duration::from_millis(50);

    #[test]
    fn what_did_not_finish_is_found_again() {
        let directory = tempfile::tempdir().unwrap();
        let active = Arc::new(ActiveQueryTracker::in_directory(3, directory.path()));
        let one = active.write("up", 5);
        let two = active.write("sum(\"\0\")", 6);
        drop(one);
        let read = || std::fs::read(directory.path().join(FILE)).unwrap();
        assert_eq!(read().len(), 1 + 3 * SLOT);
        let expected = r#"[{"query":"sum(\"\u0000\")","timestamp_sec":6}]"#;
        assert_eq!(unfinished(&read()).as_deref(), Some(expected));
        let _three = active.write("up", 7);
        let list: serde_json::Value = serde_json::from_str(&unfinished(&read()).unwrap()).unwrap();
        assert_eq!(list.as_array().unwrap().len(), 2);
        drop(two);
        let again = ActiveQueryTracker::in_directory(1, directory.path());
        assert_eq!((unfinished(&read()), again.turns.available_permits()), (None, 1));
    }

    #[test]
    fn a_long_query_is_cut_to_its_slot() {
        for text in ["é".repeat(2_000), "\"".repeat(2_000), "\0".repeat(2_000), "x".repeat(100_000)] {
            let json = entry(&text, 1_795_332_391);
            assert!(json.len() < SLOT && json.len() > SLOT - 20, "{}", json.len());
            let back: serde_json::Value = serde_json::from_str(&json).unwrap();
            assert!(text.starts_with(back["query"].as_str().unwrap()));
        }
    }

    #[tokio::test]
    async fn one_address_leaves_turns_to_others() {
        let active = Arc::new(ActiveQueryTracker::unwritten(4));
        let soon = |client: [u8; 4]| {
            let active = active.clone();
            async move { tokio::time::timeout(SOON, active.turn(Some(client.into()))).await.ok().flatten() }
        };
        let one = [10, 0, 0, 1];
        let other = [10, 0, 0, 2];
        let mut held = Vec::new();
        for _ in 0..3 {
            held.push(soon(one).await.expect("a turn"));
        }
        assert!(soon(one).await.is_none(), "a fourth of one address");
        let of_other = soon(other).await.expect("the turn that is left");
        assert!(soon(other).await.is_none(), "all are at work");
        held.pop();
        assert!(soon(other).await.is_some());
        drop((held, of_other));
        assert!(active.by_address.lock().is_empty(), "nothing is kept of addresses that ask nothing");
        // If there are few turns, one client may have them all.
        let active = Arc::new(ActiveQueryTracker::unwritten(2));
        let _turns = (active.turn(Some(one.into())).await.unwrap(), active.turn(None).await.unwrap());
    }

    #[test]
    fn more_queries_than_slots_work_unwritten() {
        let directory = tempfile::tempdir().unwrap();
        let active = Arc::new(ActiveQueryTracker::in_directory(1, directory.path()));
        let first = active.write("a", 1);
        assert!(first.is_some() && active.write("b", 1).is_none());
        drop(first);
        assert!(active.write("c", 1).is_some());
        assert!(Arc::new(ActiveQueryTracker::unwritten(1)).write("a", 1).is_none());
    }
}
