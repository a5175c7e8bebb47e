//! A column group: the series that one scrape target or rule writes together, with one timestamp
//! for all. It maps the layout of its batches (which series the values are) to the columns of its
//! current column set ([`super::columns`], where the samples are), and remembers what the
//! write-ahead log knows of it. [`super::group_table`] has all groups of a shard.

use super::implicit_groups::PREFIX;
use crate::model::TimeMs;
use crate::model::columns::ColumnLayout;
use crate::wal::GroupEncoder;
use std::sync::Arc;

/// One column group of a shard. The default is a group whose number the log names, but not its key:
/// no writer can find it.
#[derive(Default)]
pub struct ColumnGroup {
    /// The name of the group, unique within the shard.
    pub(super) key: Arc<str>,
    /// The key of the current column set; `None` before the first batch, and after all samples were
    /// dropped.
    pub(super) set: Option<u32>,
    /// The layout of the latest batch.
    pub(super) layout: Option<Arc<ColumnLayout>>,
    /// For each column of the layout the column of the set; `None` if the numbers are the same.
    pub(super) map: Option<Box<[u32]>>,
    /// Time of the newest row. Later batches take the fast path.
    pub(super) newest: Option<TimeMs>,
    /// What the log knows of the group, to encode the next row as a difference.
    pub(super) log: GroupEncoder,
}

impl ColumnGroup {
    /// A group without samples.
    pub(super) fn new(key: Arc<str>) -> ColumnGroup {
        ColumnGroup { key, ..ColumnGroup::default() }
    }

    /// Leaves the current column set: the next batch, and the next record of the log, begin anew.
    pub(super) fn forget_set(&mut self) {
        self.set = None;
        self.layout = None;
        self.map = None;
        self.log.forget_layout();
    }

    /// Whether the head made this group itself ([`super::implicit_groups`]).
    pub(super) fn is_implicit(&self) -> bool {
        self.key.starts_with(PREFIX)
    }

    /// Whether `layout` is that of the latest batch, so that its slots need no check. An equal
    /// layout at another address replaces the known one: the next comparison is one of pointers.
    pub(super) fn has_layout(&mut self, layout: &Arc<ColumnLayout>) -> bool {
        match &self.layout {
            Some(known) if Arc::ptr_eq(known, layout) => true,
            Some(known) if known == layout => {
                self.layout = Some(layout.clone());
                true
            }
            _ => false,
        }
    }
}
