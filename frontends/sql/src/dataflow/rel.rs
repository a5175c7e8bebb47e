//! [`Rel`]: the relational expression that a dataflow computes. Its nodes are inputs, maps (filters
//! and projections), joins, groups, unions and the first rows of an order.
//!
//! [`super::lower`] makes it and decides everything, so that [`super::render`] only translates.
//! Each expression has a text; those with the same text are the same, and statements share their
//! state.

use super::input::InputSpec;
use super::program::Program;
use datafusion::arrow::compute::SortOptions;
use datafusion::arrow::datatypes::DataType;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A relation.
#[derive(Debug)]
pub(super) struct Rel {
    pub(super) op: RelOp,
    /// The types of its columns.
    pub(super) kinds: Vec<DataType>,
    /// The identity: two relations with the same text are the same.
    pub(super) text: String,
}

/// The operation that makes a relation.
#[derive(Debug)]
pub(super) enum RelOp {
    /// A list of the server, or an uploaded table.
    Input(Arc<InputSpec>),
    /// Filters and projects row by row.
    Map(Arc<Rel>, Arc<Program>),
    Join(Join),
    /// The first columns are the keys, then there is one for each measure.
    Aggregate(Arc<Rel>, Aggregate),
    /// The first rows in an order.
    Top(Arc<Rel>, Top),
    Union(Vec<Arc<Rel>>),
}

/// A join by equal columns. The columns are those of the left side, then, for joins that have both,
/// those of the right one.
#[derive(Debug)]
pub(super) struct Join {
    pub(super) left: Side,
    pub(super) right: Side,
    pub(super) how: JoinKind,
}

/// A side of a join: arranged by some of its columns.
#[derive(Clone, Debug)]
pub(super) struct Side {
    pub(super) rel: Arc<Rel>,
    pub(super) keys: Vec<usize>,
    /// Whether rows with NULL in the key are kept. They have no partner, but an outer join outputs
    /// them.
    pub(super) keeps_nulls: bool,
}

/// The kind of a join.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum JoinKind {
    Inner,
    /// Also left rows without a partner.
    Left,
    /// Left rows with a partner.
    Semi,
    /// Left rows without a partner.
    Anti,
}

/// A grouping.
#[derive(Clone, Debug)]
pub(super) struct Aggregate {
    /// The number of key columns, which come first. The others are the arguments of the measures.
    pub(super) keys: usize,
    pub(super) measures: Vec<Measure>,
}

/// An aggregate function of a group. NULL arguments do not count.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Measure {
    Count,
    CountDistinct,
    /// Of whole numbers, which wrap around.
    SumIntegers,
    SumUnsigned,
    SumFloats,
    MeanOfFloats,
    Min,
    Max,
}

/// The first rows in an order. The order is total: rows that compare equal are equal.
#[derive(Clone, Debug)]
pub(super) struct Top {
    pub(super) order: Vec<(usize, SortOptions)>,
    pub(super) skip: usize,
    pub(super) fetch: usize,
}

impl Rel {
    /// Whether each row is made of one row of a list. Then its arrangement can be shared.
    pub(super) fn is_linear(&self) -> bool {
        match &self.op {
            RelOp::Input(_) => true,
            RelOp::Map(input, _) => input.is_linear(),
            _ => false,
        }
    }

    /// What the operators of this dataflow read. Groups and shared sides are other dataflows and
    /// appear by their names.
    pub(super) fn reads(self: &Arc<Rel>) -> RelReads {
        let mut found = RelReads::default();
        found.add(self, false);
        found
    }

    /// Everything that it reads, also through groups and shared sides.
    pub(super) fn reads_in_all(self: &Arc<Rel>) -> RelReads {
        let mut found = RelReads::default();
        found.add(self, true);
        found
    }

    /// The state of the dataflow in words, for `EXPLAIN`.
    pub(super) fn arranged(&self, found: &mut Vec<String>) {
        match &self.op {
            RelOp::Input(_) => {}
            RelOp::Map(input, _) => input.arranged(found),
            RelOp::Join(join) => {
                for side in [&join.left, &join.right] {
                    side.rel.arranged(found);
                    found.push(side.text());
                }
            }
            RelOp::Aggregate(input, aggregate) => {
                input.arranged(found);
                let kinds: Vec<String> = aggregate.measures.iter().map(|m| format!("{m:?}")).collect();
                found.push(if kinds.is_empty() {
                    format!("the distinct rows of {}", input.text)
                } else {
                    format!("{} of the groups of {}", kinds.join(", "), input.text)
                });
            }
            RelOp::Top(input, top) => {
                input.arranged(found);
                found.push(format!("{} in order, for the first {}", input.text, top.skip + top.fetch));
            }
            RelOp::Union(parts) => {
                for part in parts {
                    part.arranged(found);
                }
            }
        }
    }
}

/// The inputs of a relation.
#[derive(Clone, Debug, Default)]
pub(super) struct RelReads {
    /// Relations of the server, by their names.
    pub(super) inputs: BTreeMap<String, Arc<InputSpec>>,
    /// Groups, ordered: each after those that it reads.
    pub(super) groups: Vec<Arc<Rel>>,
    /// Sides of joins that can be shared, by their texts.
    pub(super) sides: BTreeMap<String, Side>,
}

impl RelReads {
    fn add(&mut self, rel: &Arc<Rel>, in_all: bool) {
        match &rel.op {
            RelOp::Input(input) => {
                self.inputs.insert(input.name.clone(), input.clone());
            }
            RelOp::Map(input, _) | RelOp::Top(input, _) => self.add(input, in_all),
            RelOp::Aggregate(input, _) => {
                if in_all {
                    self.add(input, true);
                }
                if !self.groups.iter().any(|known| known.text == rel.text) {
                    self.groups.push(rel.clone());
                }
            }
            RelOp::Join(join) => {
                for side in [&join.left, &join.right] {
                    let is_shared = side.rel.is_linear();
                    if in_all || !is_shared {
                        self.add(&side.rel, in_all);
                    }
                    if is_shared {
                        self.sides.insert(side.text(), side.clone());
                    }
                }
            }
            RelOp::Union(parts) => {
                for part in parts {
                    self.add(part, in_all);
                }
            }
        }
    }
}

impl Side {
    /// The identity: two sides with the same text are the same arrangement.
    pub(super) fn text(&self) -> String {
        let keys: Vec<String> = self.keys.iter().map(|key| format!("#{key}")).collect();
        let nulls = if self.keeps_nulls { "" } else { " where there is one" };
        format!("{} by {}{nulls}", self.rel.text, keys.join(", "))
    }

    /// The types of its keys.
    pub(super) fn key_kinds(&self) -> Vec<DataType> {
        self.keys.iter().filter_map(|key| self.rel.kinds.get(*key).cloned()).collect()
    }
}
