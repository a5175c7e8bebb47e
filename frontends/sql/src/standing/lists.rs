//! [`SharedLists`]: reads lists of the server for all standing statements: those that run again
//! ([`super::run_again`]) and dataflows ([`crate::dataflow`]). One read serves all of them for a
//! moment, and a list that is as before keeps its rows and columns, so that a reader notices by the
//! pointer that nothing has changed.

use crate::error::SqlError;
use crate::limits::REFRESH_MS;
use crate::relations::{ListRows, MetaSource};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::{Arc, Weak};
use storage::model::TimeMs;

/// The lists that statements read, by their names.
#[derive(Default)]
pub(crate) struct SharedLists(Mutex<HashMap<&'static str, Arc<Mutex<SharedList>>>>);

/// A list as it was at a time.
pub(crate) struct ListReading {
    pub(crate) rows: Arc<ListRows>,
    /// The evaluation time for which it was read.
    pub(crate) read_at: TimeMs,
}

/// A list, as long as a statement holds its rows.
#[derive(Default)]
struct SharedList {
    /// The evaluation time for which it was read.
    read_at: TimeMs,
    rows: Weak<ListRows>,
}

impl SharedLists {
    /// The list `name` for an evaluation at `t`: at most [`REFRESH_MS`] old. May block.
    pub(crate) fn read(
        &self,
        name: &'static str,
        t: TimeMs,
        source: &dyn MetaSource,
    ) -> Result<ListReading, SqlError> {
        let list = self.0.lock().entry(name).or_default().clone();
        // Each list has a lock of its own: one that takes long does not delay readers of others.
        let mut list = list.lock();
        let known = list.rows.upgrade();
        let is_fresh = (list.read_at..list.read_at.saturating_add(REFRESH_MS)).contains(&t);
        if let Some(rows) = known.clone().filter(|_| is_fresh) {
            return Ok(ListReading { rows, read_at: list.read_at });
        }
        let rows = source.rows(name)?;
        let rows = match known {
            Some(known) if known.rows == rows => known,
            _ => Arc::new(ListRows::new(rows)),
        };
        *list = SharedList { read_at: t, rows: Arc::downgrade(&rows) };
        Ok(ListReading { rows, read_at: t })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::relations::MetaRow;
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

    #[derive(Default)]
    struct Counted {
        reads: AtomicUsize,
        rows: Mutex<Vec<MetaRow>>,
    }

    impl MetaSource for Counted {
        fn rows(&self, _: &str) -> Result<Vec<MetaRow>, SqlError> {
            self.reads.fetch_add(1, SeqCst);
            Ok(self.rows.lock().clone())
        }
    }

    #[test]
    fn a_list_is_read_once_for_all_and_keeps_its_rows_while_it_is_as_before() {
        let lists = SharedLists::default();
        let source = Counted::default();
        let first = lists.read("targets", 1_000, &source).expect("a list").rows;
        let same = lists.read("targets", 1_000 + REFRESH_MS - 1, &source).expect("a list");
        assert!(Arc::ptr_eq(&first, &same.rows));
        assert_eq!(same.read_at, 1_000, "a reader knows how old it is");
        assert_eq!(source.reads.load(SeqCst), 1);
        let unchanged = lists.read("targets", 1_000 + REFRESH_MS, &source).expect("a list").rows;
        assert!(Arc::ptr_eq(&first, &unchanged));
        assert_eq!(source.reads.load(SeqCst), 2);
        source.rows.lock().push(MetaRow::new());
        let changed = lists.read("targets", 2_000, &source).expect("a list").rows;
        assert_eq!(changed.rows.len(), 1);
        // After the clock was set back.
        source.rows.lock().clear();
        assert_eq!(lists.read("targets", 1_500, &source).expect("a list").rows.rows.len(), 0);
    }

    #[test]
    fn a_list_that_no_statement_holds_is_not_kept() {
        let lists = SharedLists::default();
        let source = Counted::default();
        drop(lists.read("targets", 1_000, &source));
        drop(lists.read("targets", 1_000, &source));
        assert_eq!(source.reads.load(SeqCst), 2);
    }
}
