//! A column group: who writes (a target, a rule) and how its layout maps to the columns of its current set.

use super::implicit_groups::PREFIX;
use crate::model::TimeMs;
use crate::store::ColumnLayout;
use crate::wal::GroupEncoder;
use std::sync::Arc;

/// One group of a shard.
pub struct ColumnGroup {
    /// Its name, unique inside the shard.
    pub key: Arc<str>,
    /// The key of its current column set; `None` before its first batch and after long silence.
    pub set: Option<u32>,
    /// The layout of its latest batch.
    pub layout: Option<Arc<ColumnLayout>>,
    /// Set column by layout column; `None` if they are the same.
    pub map: Option<Box<[u32]>>,
    /// Time of its newest row; later batches take the fast path.
    pub newest: Option<TimeMs>,
    /// What the log knows of it.
    pub log: GroupEncoder,
}

impl ColumnGroup {
    /// A group that has no samples yet.
    pub fn new(key: Arc<str>) -> ColumnGroup {
        ColumnGroup { key, set: None, layout: None, map: None, newest: None, log: GroupEncoder::default() }
    }

    /// Whether the head made it by itself.
    pub fn is_implicit(&self) -> bool {
        self.key.starts_with(PREFIX)
    }

    /// Whether a batch with `layout` needs no look at its slots. Takes over an equal layout at a new address.
    pub fn has_layout(&mut self, layout: &Arc<ColumnLayout>) -> bool {
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
