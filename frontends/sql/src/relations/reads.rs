//! [`Reads`]: what a statement reads (plans, lists, tables), so that a standing statement runs
//! again only after one of these has changed.
//!
//! [`EvaluationInputs`] are the current rows that an evaluation gets instead of asking history.
//! [`crate::standing::run_again`] uses both.

use super::series_times::is_time;
use super::{Field, Kind, ListRows, MetaTable, Scan};
use crate::standing::leaf_rows::LeafRows;
use crate::standing::leaves::leaf_name;
use crate::tables::{Table, TableList};
use engine::plan::Plan;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What the scans of a statement read, by kind.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reads {
    /// Plans, by their names.
    pub(crate) plans: BTreeMap<String, Plan>,
    /// Lists of the server.
    pub(crate) lists: BTreeMap<&'static str, &'static MetaTable>,
    /// Uploaded tables by name, in the version with which the statement was planned.
    pub(crate) tables: BTreeMap<String, Arc<Table>>,
    /// Views, by their names, with their queries.
    pub(crate) views: BTreeMap<String, Arc<str>>,
    /// Whether each evaluation differs, because raw samples are read or the evaluation time is
    /// shown.
    pub(crate) is_timed: bool,
    /// Whether the plan of the statement depends on the time.
    pub(crate) is_planned_anew: bool,
}

impl Reads {
    /// Whether the tables and views are still those that were planned.
    pub(crate) fn are_current(&self, list: &dyn TableList) -> bool {
        let is_table = |(name, table): (&String, &Arc<Table>)| {
            list.table(name).is_some_and(|newest| Arc::ptr_eq(&newest, table))
        };
        let is_view = |(name, query): (&String, &Arc<str>)| {
            list.table(name).is_none() && list.view(name).as_ref() == Some(query)
        };
        self.tables.iter().all(is_table) && self.views.iter().all(is_view)
    }

    /// Adds a scan.
    pub(super) fn add(&mut self, scan: &Scan) {
        match &scan.relation.kind {
            Kind::Samples(_) => self.is_timed = true,
            Kind::Meta(table) => {
                self.lists.insert(table.name, table);
            }
            Kind::Metric(_) | Kind::Promql(_) | Kind::Bound(_) => {}
        }
        for plan in scan.plans() {
            self.plans.insert(leaf_name(&plan), plan);
        }
        self.is_timed |= scan.shows_time();
    }
}

/// Current rows for one evaluation, which are read instead of history.
#[derive(Clone, Debug, Default)]
pub(crate) struct EvaluationInputs {
    /// The rows of plans by name. Empty: history is read.
    pub(crate) rows: BTreeMap<String, Arc<LeafRows>>,
    /// Lists of the server, by their names.
    pub(crate) lists: BTreeMap<&'static str, Arc<ListRows>>,
}

impl Scan {
    /// Whether the time of the evaluation is one of the columns.
    fn shows_time(&self) -> bool {
        let relation = &self.relation;
        self.projection.iter().any(|i| match &relation.kind {
            Kind::Bound(bound) => {
                bound.columns.get(*i).is_some_and(|column| column.what == crate::bind::Output::Time)
            }
            Kind::Meta(table) => table.columns.get(*i).is_some_and(|column| {
                // The last sample of a series moves with each scrape.
                table.lists_series && is_time(column.name)
            }),
            _ => matches!(relation.fields.get(*i), Some((_, Field::Time))),
        })
    }
}
