//! Vector with vector: one-to-one, many-to-one and one-to-many matching.
//!
//! Structure, worked out once per new row: the match key of every row, as a dense number. Per evaluation:
//! fill a table of the "one" side by key, walk the "many" side, and apply the operator. Which output row a
//! pair makes is remembered; no label is touched in a tick.

use super::grouping::match_key;
use super::side::{Cell, Sample};
use super::{Changed, EvalError, Input, Operator, Output, Twins, binary};
use crate::heap::Heap;
use crate::plan::notes::Note;
use crate::plan::text::braces;
use crate::plan::{BinaryOp, Cardinality, Dialect, Matching, Number};
use std::collections::HashMap;
use std::sync::Arc;
use storage::model::labels::describes_metric;
use storage::model::value::{ABSENT, is_absent};
use storage::model::{Labels, LabelsBuilder, NativeHistogram, TimeMs};

const NOBODY: u32 = u32::MAX;

/// Dense numbers for match keys, shared by both sides.
#[derive(Default)]
pub(super) struct Keys {
    ids: HashMap<Labels, u32>,
    /// The labels of each key.
    pub(super) labels: Vec<Labels>,
}

impl Heap for Keys {
    fn heap(&self) -> usize {
        self.ids.heap() + self.labels.heap()
    }
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
    dialect: Dialect,
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
    pub fn new(op: BinaryOp, return_bool: bool, matching: Matching, dialect: Dialect) -> Match {
        Match {
            op,
            return_bool,
            matching,
            dialect,
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

    /// The output row of a pair, made when first seen. `NOBODY` on one side: its labels are those of the match key.
    fn row_of(
        &mut self,
        (many_row, one_row): (u32, u32),
        key: usize,
        sides: Sides,
        out: &mut Output,
    ) -> usize {
        if self.latest.len() < sides.many.labels.len() {
            self.latest.resize(sides.many.labels.len(), (NOBODY, NOBODY));
        }
        let latest = self.latest.get(many_row as usize);
        if let Some((_, row)) = latest.filter(|(one, row)| *one == one_row && *row != NOBODY) {
            return *row as usize;
        }
        let by_many_alone = self.matching.include.is_empty() && many_row != NOBODY;
        let pair = (many_row, if by_many_alone { 0 } else { one_row });
        let row = *self.pairs.entry(pair).or_insert_with(|| {
            let labels_of = |side: &Output, row: u32| {
                side.labels.get(row as usize).unwrap_or(&self.keys.labels[key]).clone()
            };
            let (many, one) = (labels_of(sides.many, many_row), labels_of(sides.one, one_row));
            // Arithmetic between vectors loses names at once, whatever the dialect; comparisons with `bool` need not.
            let delayed = self.dialect.delayed_names && self.return_bool;
            let drop_name = binary::drops_name(self.op, self.return_bool) && !delayed;
            let labels = result_labels(drop_name, &self.matching, &many, &one);
            out.add_named((labels, delayed)) as u32
        });
        if let Some(latest) = self.latest.get_mut(many_row as usize) {
            *latest = (one_row, row);
        }
        row as usize
    }

    /// Applies the operator to one pair; `NOBODY` on one side: `fill` stands in.
    fn pair(
        &mut self,
        rows: (u32, u32),
        key: usize,
        sides: Sides,
        found: &mut Found,
        out: &mut Output,
    ) -> Result<(), EvalError> {
        let (many, one) = (sides.many_cell(rows.0), sides.one_cell(rows.1));
        let (l, r) = if self.swapped() { (one, many) } else { (many, one) };
        let kept = if let Cell::Float(v) = l { v } else { ABSENT };
        let sample = binary::apply_cells(self.op, self.return_bool, (l, r), kept, &mut found.notes);
        self.take(key, found)?;
        match sample {
            Sample::Float(v) if is_absent(v) => {}
            Sample::Float(v) => found.values.push((self.row_of(rows, key, sides, out) as u32, v)),
            Sample::Histogram(h) => {
                found.histograms.push((self.row_of(rows, key, sides, out) as u32, h));
            }
        }
        Ok(())
    }

    /// Notes that a match group has met its one partner. Asked before a filter: whether a query is refused must not
    /// depend on the values.
    fn take(&self, key: usize, found: &mut Found) -> Result<(), EvalError> {
        if self.one_to_one() && std::mem::replace(&mut found.taken[key], true) {
            let text =
                "multiple matches for labels: many-to-one matching must be explicit (group_left/group_right)";
            return Err(EvalError(text.to_owned()));
        }
        Ok(())
    }

    /// All pairs of floats that find each other.
    fn walk(&mut self, sides: Sides, found: &mut Found, out: &mut Output) -> Result<(), EvalError> {
        let Sides { many, one, .. } = sides;
        for row in many.present() {
            let key = self.many[row] as usize;
            let partner = self.table[key];
            if partner == NOBODY {
                continue;
            }
            let (m, o) = (many.values[row], one.values[partner as usize]);
            let (l, r) = if self.swapped() { (o, m) } else { (m, o) };
            let value = binary::apply(self.op, self.return_bool, l, r, l);
            self.take(key, found)?;
            if !is_absent(value) {
                let row = self.row_of((row as u32, partner), key, sides, out);
                found.values.push((row as u32, value));
            }
        }
        Ok(())
    }

    /// All pairs, where histograms or stand-ins may be among them.
    fn walk_all(&mut self, sides: Sides, found: &mut Found, out: &mut Output) -> Result<(), EvalError> {
        let mut met = vec![false; self.table.len()];
        for row in sides.many.present() {
            let key = self.many[row] as usize;
            met[key] = true;
            let partner = self.table[key];
            if partner != NOBODY || sides.fill_one.is_some() {
                self.pair((row as u32, partner), key, sides, found, out)?;
            }
        }
        if sides.fill_many.is_some() {
            for row in sides.one.present() {
                let key = self.one[row] as usize;
                if !met[key] {
                    self.pair((NOBODY, row as u32), key, sides, found, out)?;
                }
            }
        }
        Ok(())
    }

    /// The operands by their part in the match.
    fn sides<'a>(&self, inputs: &'a [Input]) -> Sides<'a> {
        let (left, right) = (inputs[0].out, inputs[1].out);
        let fill = |number: Option<Number>| number.map(|n| n.0);
        // As in Prometheus, `fill_left` fills the "many" side even where `group_right` makes that the right one.
        let (fill_many, fill_one) = (fill(self.matching.fill_left), fill(self.matching.fill_right));
        let (many, one) = if self.swapped() { (right, left) } else { (left, right) };
        Sides { many, one, fill_many, fill_one }
    }
}

/// The operands of a match.
#[derive(Copy, Clone)]
struct Sides<'a> {
    /// The side that may have several series per match (left unless `group_right`).
    many: &'a Output,
    one: &'a Output,
    /// What stands in where a side has no series.
    fill_many: Option<f64>,
    fill_one: Option<f64>,
}

impl<'a> Sides<'a> {
    fn many_cell(&self, row: u32) -> Cell<'a> {
        cell(self.many, row, self.fill_many)
    }

    fn one_cell(&self, row: u32) -> Cell<'a> {
        cell(self.one, row, self.fill_one)
    }

    /// Whether nothing can come of it.
    fn is_empty(&self) -> bool {
        let empty = |side: &Output, fill: Option<f64>| fill.is_none() && side.present().next().is_none();
        empty(self.many, self.fill_many) || empty(self.one, self.fill_one)
    }
}

fn cell(side: &Output, row: u32, fill: Option<f64>) -> Cell<'_> {
    match row {
        NOBODY => fill.map_or(Cell::Absent, Cell::Float),
        row => side.cell(row as usize),
    }
}

/// What an evaluation has found.
#[derive(Default)]
struct Found {
    values: Vec<(u32, f64)>,
    histograms: Vec<(u32, Arc<NativeHistogram>)>,
    notes: Vec<Note>,
    /// One-to-one: match groups that have met their partner.
    taken: Vec<bool>,
}

impl Operator for Match {
    fn eval(&mut self, inputs: &[Input], _: TimeMs, out: &mut Output) -> Result<(), EvalError> {
        let sides = self.sides(inputs);
        self.keys.learn(sides.many, &self.matching, &mut self.many);
        self.keys.learn(sides.one, &self.matching, &mut self.one);
        let mut found = Found::default();
        if !sides.is_empty() {
            self.fill_table(sides.one)?;
            found.taken = vec![false; if self.one_to_one() { self.table.len() } else { 0 }];
            let fills = sides.fill_many.is_some() || sides.fill_one.is_some();
            if !fills && binary::only_floats(self.op, &[sides.many, sides.one]) {
                self.walk(sides, &mut found, out)?;
            } else {
                self.walk_all(sides, &mut found, out)?;
            }
        }
        out.notes.replace(found.notes);
        replace_samples(out, found.values, found.histograms, &mut self.previous);
        self.twins.learn(out);
        self.twins.check(out).map_err(|_| {
            EvalError("multiple matches for labels: grouping labels must ensure unique matches".to_owned())
        })
    }

    fn bytes(&self) -> usize {
        let keys = self.keys.heap() + self.many.heap() + self.one.heap() + self.table.heap();
        let rows = self.pairs.heap() + self.latest.heap() + self.previous.heap();
        keys + rows + self.twins.heap()
    }
}

/// Makes `values` the only rows with a value; `previous` remembers which had one.
pub(super) fn replace_rows(out: &mut Output, values: Vec<(u32, f64)>, previous: &mut Vec<u32>) {
    replace_samples(out, values, Vec::new(), previous);
}

/// Makes `values` and `histograms` the only rows with a value; `previous` remembers which had one.
pub(super) fn replace_samples(
    out: &mut Output,
    values: Vec<(u32, f64)>,
    histograms: Vec<(u32, Arc<NativeHistogram>)>,
    previous: &mut Vec<u32>,
) {
    let mut touched = Vec::new();
    let mut kept = vec![false; out.values.len()];
    let mut now = Vec::with_capacity(values.len() + histograms.len());
    for (row, value) in values {
        out.set(row as usize, value, &mut touched);
        kept[row as usize] = true;
        now.push(row);
    }
    for (row, histogram) in histograms {
        out.set_histogram(row as usize, histogram, &mut touched);
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

fn result_labels(drop_name: bool, matching: &Matching, many: &Labels, one: &Labels) -> Labels {
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
