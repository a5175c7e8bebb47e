//! `info(v, {…})`: adds the labels of info series, which are found by the labels that identify a target.
//!
//! Two inputs: the vector, and the info series ([`crate::plan::physical::Leaf::Info`]: the time of the newest sample
//! under all labels of the series). Which info series belong to a row, and which labels come of it, is worked out once
//! per row and set of info series.

use super::members::{Answers, Found};
use super::{Changed, EvalError, Input, Operator, Output, Twins};
use crate::heap::Heap;
use crate::plan::details::InfoLabels;
use crate::plan::text::braces;
use std::collections::{BTreeMap, HashMap, HashSet};
use storage::model::labels::METRIC_NAME;
use storage::model::value::is_histogram;
use storage::model::{Labels, TimeMs};

/// The labels that identify a target.
const IDENTIFYING: [&str; 2] = ["instance", "job"];

/// See the module.
pub struct Info {
    wanted: InfoLabels,
    /// Rows of the vector count although they have no value now: at another step of the query they have.
    over_range: bool,
    keys: HashMap<Labels, u32>,
    /// Key of each row of the vector; `None`: an info series itself, which stays as it is.
    base: Vec<Option<u32>>,
    /// Values of the identifying labels in the vector: info series with others are not looked at.
    values: [HashSet<String>; 2],
    /// Key of each info series, if it is looked at.
    info: Vec<Option<u32>>,
    /// Output rows by row of the vector and its info series.
    rows: HashMap<(u32, Vec<u32>), Option<u32>>,
    answers: Answers,
    twins: Twins,
}

/// The newest info series by key and metric: row, and time of its sample.
type Newest<'a> = HashMap<u32, BTreeMap<&'a str, (u32, f64)>>;

impl Info {
    /// See [`crate::plan::physical::StepOp::Info`].
    pub fn new(wanted: InfoLabels) -> Info {
        Info {
            wanted,
            over_range: false,
            keys: HashMap::new(),
            base: Vec::new(),
            values: Default::default(),
            info: Vec::new(),
            rows: HashMap::new(),
            answers: Answers::default(),
            twins: Twins::default(),
        }
    }

    /// The same for a query of more than one step.
    pub fn over_range(wanted: InfoLabels) -> Info {
        Info { over_range: true, ..Info::new(wanted) }
    }

    fn key(&mut self, labels: &Labels) -> u32 {
        let next = self.keys.len() as u32;
        *self.keys.entry(labels.filter(|n| IDENTIFYING.contains(&n))).or_insert(next)
    }

    /// Learns the rows that the inputs got since the last call.
    fn learn(&mut self, base: &Output, info: &Output) {
        let grown = self.base.len() < base.labels.len();
        for labels in &base.labels[self.base.len()..] {
            let names = &self.wanted.names;
            let is_info = !names.is_empty() && names.iter().all(|m| m.matches(labels.name()));
            let key = if is_info { None } else { Some(self.key(labels)) };
            self.base.push(key);
            if !is_info {
                for (values, name) in self.values.iter_mut().zip(IDENTIFYING) {
                    values.extend(labels.get(name).map(str::to_owned));
                }
            }
        }
        if grown {
            self.info.clear();
        }
        for labels in &info.labels[self.info.len()..] {
            let key = if self.looks_at(labels) { Some(self.key(labels)) } else { None };
            self.info.push(key);
        }
    }

    /// Whether an info series is looked at: some row of the vector has its value of each identifying label that any
    /// row has.
    fn looks_at(&self, labels: &Labels) -> bool {
        let mut of_base = self.values.iter().zip(IDENTIFYING).filter(|(values, _)| !values.is_empty());
        self.values.iter().any(|values| !values.is_empty())
            && of_base.all(|(values, name)| labels.get(name).is_some_and(|value| values.contains(value)))
    }

    /// The same of the rows that have a value now. Costs a walk over them; asked before a series makes the answer fail.
    fn looks_at_now(&self, labels: &Labels, base: &Output) -> bool {
        let rows = || base.present().filter(|row| self.base[*row].is_some()).map(|row| &base.labels[row]);
        let mut any = false;
        let all = IDENTIFYING.iter().all(|name| {
            let mut values = rows().filter_map(|row| row.get(name)).peekable();
            let unset = values.peek().is_none();
            any |= !unset;
            unset || labels.get(name).is_some_and(|wanted| values.any(|value| value == wanted))
        });
        any && all
    }

    /// The newest info series of each key and metric. Two of the same time are an error.
    fn newest<'a>(&self, base: &Output, info: &'a Output) -> Result<Newest<'a>, EvalError> {
        let looked_at = |row: usize| self.over_range || self.looks_at_now(&info.labels[row], base);
        let mut newest = Newest::new();
        for row in info.present() {
            let Some(key) = self.info[row] else { continue };
            if is_histogram(info.values[row]) {
                if !looked_at(row) {
                    continue;
                }
                return Err(EvalError("info sample should be float".to_owned()));
            }
            let of_key = newest.entry(key).or_default();
            let (labels, found) = (&info.labels[row], (row as u32, info.values[row]));
            let best = of_key.entry(labels.name()).or_insert(found);
            if best.0 != found.0 && best.1 == found.1 && looked_at(row) {
                let other = &info.labels[best.0 as usize];
                return Err(EvalError(format!(
                    "found duplicate series for info metric: existing {} @ {}, new {} @ {}",
                    braces(other),
                    best.1,
                    braces(labels),
                    found.1
                )));
            }
            if best.1 < found.1 {
                *best = found;
            }
        }
        Ok(newest)
    }

    /// The labels of `base` with those of its info series; `None`: the row goes, for it lacks a label that is asked
    /// for.
    fn labels(&self, base: &Labels, found: &[u32], info: &Output) -> Result<Option<Labels>, EvalError> {
        let data = &self.wanted.data;
        if found.is_empty() && !data.iter().all(|m| m.matches("")) {
            return Ok(None);
        }
        let mut added: BTreeMap<&str, &str> = BTreeMap::new();
        for row in found {
            let asked = |name: &str| data.is_empty() || data.iter().any(|m| m.name == name);
            let labels = info.labels[*row as usize].iter();
            for (name, value) in labels.filter(|(name, _)| *name != METRIC_NAME && asked(name)) {
                if added.get(name).is_some_and(|there| *there != value) {
                    return Err(EvalError(format!("conflicting label: {name}")));
                }
                if base.get(name).is_none() {
                    added.insert(name, value);
                }
            }
        }
        let mut builder = base.to_builder();
        for (name, value) in added {
            builder.set(name, value);
        }
        Ok(Some(builder.build()))
    }

    /// The output row of a row of the vector with these info series.
    fn row(
        &mut self,
        row: u32,
        found: Vec<u32>,
        base: &Output,
        info: &Output,
        out: &mut Output,
    ) -> Result<Option<u32>, EvalError> {
        let key = (row, found);
        if let Some(known) = self.rows.get(&key) {
            return Ok(*known);
        }
        let labels = &base.labels[row as usize];
        let labels = match self.base[row as usize] {
            Some(_) => self.labels(labels, &key.1, info)?,
            None => Some(labels.clone()),
        };
        let made = labels.map(|labels| out.add_named((labels, base.drops(row as usize))) as u32);
        self.rows.insert(key, made);
        Ok(made)
    }
}

impl Operator for Info {
    fn eval(&mut self, inputs: &[Input], _: TimeMs, out: &mut Output) -> Result<(), EvalError> {
        let (base, info) = (inputs[0].out, inputs[1].out);
        self.learn(base, info);
        let mut found = Found::default();
        if base.present().next().is_some() {
            let newest = self.newest(base, info)?;
            for row in base.present() {
                let of_key = self.base[row].and_then(|key| newest.get(&key));
                let series = of_key.map_or_else(Vec::new, |of| of.values().map(|(row, _)| *row).collect());
                if let Some(place) = self.row(row as u32, series, base, info, out)? {
                    found.add(place, base, row);
                }
            }
        }
        // Any info series may concern any row: all of them are one group.
        let mut touched = Vec::new();
        self.answers.replace(0, &mut found, out, &mut touched);
        out.changed = Changed::Rows(touched);
        self.twins.learn(out);
        self.twins.check(out)
    }

    fn bytes(&self) -> usize {
        let keys = self.keys.heap() + self.base.heap() + self.values.heap() + self.info.heap();
        keys + self.rows.heap() + self.answers.heap() + self.twins.heap()
    }
}
