//! Vector with vector: one-to-one, many-to-one and one-to-many matching.
//!
//! Structure, worked out once per new row: the match key of every row, as a dense number. Per evaluation:
//! fill a table of the "one" side by key, walk the "many" side, and apply the operator. Which output row a
//! pair makes is remembered; no label is touched in a tick.

use super::grouping::match_key;
use super::{Changed, EvalError, Input, Operator, Output, Twins, binary};
use crate::plan::{BinaryOp, Cardinality, Matching};
use std::collections::HashMap;
use storage::model::labels::describes_metric;
use storage::model::value::{ABSENT, is_absent};
use storage::model::{Labels, LabelsBuilder, TimeMs};

const NOBODY: u32 = u32::MAX;

/// Dense numbers for match keys, shared by both sides.
#[derive(Default)]
pub(super) struct Keys {
    ids: HashMap<Labels, u32>,
    /// The labels of each key.
    pub(super) labels: Vec<Labels>,
}

impl Keys {
    /// Appends the keys of the rows that `input` got since the last call.
    pub(super) fn learn(&mut self, input: &Output, matching: &Matching, of_row: &mut Vec<u32>) {
        for row in of_row.len()..input.labels.len() {
            let next = self.labels.len() as u32;
            let id = *self.ids.entry(match_key(matching, &input.labels[row])).or_insert_with_key(|labels| {
                self.labels.push(labels.clone());
                next
            });
            of_row.push(id);
        }
    }
}

/// See the module.
pub struct Match {
    op: BinaryOp,
    return_bool: bool,
    matching: Matching,
    keys: Keys,
    /// Key of each row of the "many" side (left unless `group_right`) and of the "one" side.
    many: Vec<u32>,
    one: Vec<u32>,
    /// Present row of the "one" side by key, at this evaluation.
    table: Vec<u32>,
    /// Output row of (many row, one row); the one row matters only where labels are copied from it.
    pairs: HashMap<(u32, u32), u32>,
    /// For one-to-one: the last output row of a many row, to spare the map.
    latest: Vec<(u32, u32)>,
    twins: Twins,
    previous: Vec<u32>,
}

impl Match {
    /// See [`crate::plan::physical::StepOp::Match`].
    pub fn new(op: BinaryOp, return_bool: bool, matching: Matching) -> Match {
        Match {
            op,
            return_bool,
            matching,
            keys: Keys::default(),
            many: Vec::new(),
            one: Vec::new(),
            table: Vec::new(),
            pairs: HashMap::new(),
            latest: Vec::new(),
            twins: Twins::default(),
            previous: Vec::new(),
        }
    }

    fn swapped(&self) -> bool {
        self.matching.cardinality == Cardinality::OneToMany
    }

    fn one_to_one(&self) -> bool {
        self.matching.cardinality == Cardinality::OneToOne
    }

    /// Puts the present rows of the "one" side into the table; two of one key are an error.
    fn fill_table(&mut self, one: &Output) -> Result<(), EvalError> {
        self.table.clear();
        self.table.resize(self.keys.labels.len(), NOBODY);
        for row in one.present() {
            let key = self.one[row] as usize;
            if self.table[key] != NOBODY {
                let first = &one.labels[self.table[key] as usize];
                return Err(self.duplicates(key, first, &one.labels[row]));
            }
            self.table[key] = row as u32;
        }
        Ok(())
    }

    fn duplicates(&self, key: usize, first: &Labels, second: &Labels) -> EvalError {
        let side = if self.swapped() { "left" } else { "right" };
        EvalError(format!(
            "found duplicate series for the match group {} on the {side} hand-side of the operation: [{}, {}];many-to-many matching not allowed: matching labels must be unique on one side",
            braces(&self.keys.labels[key]),
            braces(first.min(second)),
            braces(first.max(second)),
        ))
    }

    /// The output row of a pair, made when first seen.
    fn row_of(
        &mut self,
        many_row: usize,
        one_row: u32,
        many: &Output,
        one: &Output,
        out: &mut Output,
    ) -> usize {
        if self.latest.len() < many.labels.len() {
            self.latest.resize(many.labels.len(), (NOBODY, NOBODY));
        }
        let (latest_one, latest_out) = self.latest[many_row];
        if latest_one == one_row {
            return latest_out as usize;
        }
        let pair = (many_row as u32, if self.matching.include.is_empty() { 0 } else { one_row });
        let row = *self.pairs.entry(pair).or_insert_with(|| {
            let labels = result_labels(
                self.op,
                self.return_bool,
                &self.matching,
                &many.labels[many_row],
                &one.labels[one_row as usize],
            );
            out.add_row(labels) as u32
        });
        self.latest[many_row] = (one_row, row);
        row as usize
    }

    fn walk(
        &mut self,
        many: &Output,
        one: &Output,
        out: &mut Output,
        values: &mut Vec<(u32, f64)>,
    ) -> Result<(), EvalError> {
        let mut taken = if self.one_to_one() { vec![false; self.table.len()] } else { Vec::new() };
        for row in many.present() {
            let key = self.many[row] as usize;
            let partner = self.table[key];
            if partner == NOBODY {
                continue;
            }
            let (m, o) = (many.values[row], one.values[partner as usize]);
            let (l, r) = if self.swapped() { (o, m) } else { (m, o) };
            let value = binary::apply(self.op, self.return_bool, l, r, l);
            // Before the filter: whether a query is refused must not depend on the values.
            if self.one_to_one() && std::mem::replace(&mut taken[key], true) {
                return Err(EvalError("multiple matches for labels: many-to-one matching must be explicit (group_left/group_right)".to_owned()));
            }
            if !is_absent(value) {
                values.push((self.row_of(row, partner, many, one, out) as u32, value));
            }
        }
        Ok(())
    }
}

impl Operator for Match {
    fn eval(&mut self, inputs: &[Input], _: TimeMs, out: &mut Output) -> Result<(), EvalError> {
        let (many, one) =
            if self.swapped() { (inputs[1].out, inputs[0].out) } else { (inputs[0].out, inputs[1].out) };
        self.keys.learn(many, &self.matching, &mut self.many);
        self.keys.learn(one, &self.matching, &mut self.one);
        let mut values = Vec::new();
        if many.present().next().is_some() && one.present().next().is_some() {
            self.fill_table(one)?;
            self.walk(many, one, out, &mut values)?;
        }
        replace_rows(out, values, &mut self.previous);
        self.twins.learn(out);
        self.twins.check(out).map_err(|_| {
            EvalError("multiple matches for labels: grouping labels must ensure unique matches".to_owned())
        })
    }
}

/// Makes `values` the only rows with a value; `previous` remembers which had one.
pub(super) fn replace_rows(out: &mut Output, values: Vec<(u32, f64)>, previous: &mut Vec<u32>) {
    let mut touched = Vec::new();
    let mut kept = vec![false; out.values.len()];
    let mut now = Vec::with_capacity(values.len());
    for (row, value) in values {
        out.set(row as usize, value, &mut touched);
        kept[row as usize] = true;
        now.push(row);
    }
    for row in std::mem::replace(previous, now) {
        if !kept[row as usize] {
            out.set(row as usize, ABSENT, &mut touched);
        }
    }
    out.changed = Changed::Rows(touched);
}

fn result_labels(
    op: BinaryOp,
    return_bool: bool,
    matching: &Matching,
    many: &Labels,
    one: &Labels,
) -> Labels {
    let drop_name = binary::drops_name(op, return_bool);
    if matching.cardinality == Cardinality::OneToOne {
        return if matching.on {
            many.filter(|n| matching.labels.iter().any(|l| l == n))
        } else {
            many.filter(|n| {
                let goes = (drop_name && describes_metric(n)) || matching.labels.iter().any(|l| l == n);
                !goes
            })
        };
    }
    let mut builder: LabelsBuilder =
        if drop_name { many.of_computed().to_builder() } else { many.to_builder() };
    for name in &matching.include {
        builder.set(name.as_str(), one.get(name).unwrap_or(""));
    }
    builder.build()
}

/// Labels as Go prints them in errors: always with braces, the name as a label.
fn braces(labels: &Labels) -> String {
    let pairs: Vec<String> = labels.iter().map(|(n, v)| format!("{n}={v:?}")).collect();
    format!("{{{}}}", pairs.join(", "))
}
