//! `histogram_quantile`, `histogram_quantiles` and `histogram_fraction`: over classic histograms, whose buckets find
//! each other by all labels but `le`, and over native ones. Where both have the same labels, neither is answered.
//!
//! Rows of one histogram are a *family*. A row's family depends on what it holds: as a float it is a bucket, as a
//! native histogram it stands for itself. The kernels are in [`crate::functions::histogram`] and
//! [`crate::functions::native`].

use super::matching::replace_rows;
use super::names::computed;
use super::remarks;
use super::side::Cell;
use super::{EvalError, Input, Operator, Output, Twins, scalar::scalar_of};
use crate::functions::histogram::{Bucket, bucket_fraction, bucket_quantile, parse_bound};
use crate::functions::native::{NanObservations, fraction, quantile};
use crate::heap::Heap;
use crate::plan::Dialect;
use crate::plan::details::Ask;
use crate::plan::notes::{Note, Place};
use std::collections::HashMap;
use storage::model::number::general;
use storage::model::{Labels, NativeHistogram, TimeMs};

/// See the module.
pub struct Histogram {
    ask: Ask,
    dialect: Dialect,
    families: Families,
    /// Output rows by family and bits of the quantile (0 where there is one answer a family).
    rows: HashMap<(u32, u64), u32>,
    previous: Vec<u32>,
    twins: Twins,
}

/// The histograms of one input, and what their rows hold now.
#[derive(Default)]
struct Families {
    ids: HashMap<Labels, u32>,
    labels: Vec<Labels>,
    /// Family of each input row, while it holds a float.
    classic: Vec<u32>,
    /// And while it holds a histogram.
    native: Vec<u32>,
    /// Upper bound of each input row; `None`: `le` is missing or malformed.
    bounds: Vec<Option<f64>>,
    /// The buckets of each family.
    buckets: Vec<Vec<Bucket>>,
    /// What is to be remarked on each family.
    notes: Vec<Vec<Note>>,
}

impl Heap for Families {
    fn heap(&self) -> usize {
        let rows = self.classic.heap() + self.native.heap() + self.bounds.heap();
        let buckets = self.buckets.iter().map(|buckets| buckets.capacity() * size_of::<Bucket>());
        let notes = self.notes.iter().map(|notes| notes.capacity() * size_of::<Note>());
        self.ids.heap() + self.labels.heap() + rows + buckets.sum::<usize>() + notes.sum::<usize>()
    }
}

impl Families {
    fn id(&mut self, labels: Labels) -> u32 {
        let next = self.labels.len() as u32;
        *self.ids.entry(labels).or_insert_with_key(|labels| {
            self.labels.push(labels.clone());
            next
        })
    }

    /// Learns the rows that the input got since the last call.
    fn learn(&mut self, input: &Output) {
        for labels in &input.labels[self.classic.len()..] {
            let bound = labels.get("le");
            self.bounds.push(bound.and_then(parse_bound));
            let native = if bound.is_some() { None } else { Some(self.id(labels.clone())) };
            let classic = native.unwrap_or_else(|| self.id(labels.filter(|n| n != "le")));
            // A histogram with a label `le` is its own family; it is seldom, so it is looked up once it is there.
            self.native.push(native.unwrap_or(u32::MAX));
            self.classic.push(classic);
        }
    }

    /// Sorts the input's samples into families; returns the native histograms that stand alone.
    fn fill<'a>(&mut self, input: &'a Output, place: Place) -> Vec<(u32, &'a NativeHistogram)> {
        self.clear();
        let mut natives = Vec::new();
        for row in input.present() {
            match (input.cell(row), self.bounds[row]) {
                (Cell::Float(count), Some(bound)) => {
                    self.buckets[self.classic[row] as usize].push((bound, count));
                }
                (Cell::Float(_), None) => {
                    let labels = &input.labels[row];
                    let le = labels.get("le").unwrap_or("");
                    let note = remarks::bad_bucket_label(place, labels.name(), le);
                    self.notes[self.classic[row] as usize].push(note);
                }
                (Cell::Histogram(histogram), _) => natives.push((row, &**histogram)),
                (Cell::Absent, _) => {}
            }
        }
        natives.into_iter().filter_map(|(row, h)| Some((self.alone(row, input, place)?, h))).collect()
    }

    fn clear(&mut self) {
        self.buckets.resize_with(self.labels.len(), Vec::new);
        self.buckets.iter_mut().for_each(Vec::clear);
        self.notes.resize_with(self.labels.len(), Vec::new);
        self.notes.iter_mut().for_each(Vec::clear);
    }

    /// The family of a native histogram, unless there is a classic one of the same labels: then both go.
    fn alone(&mut self, row: usize, input: &Output, place: Place) -> Option<u32> {
        if self.native[row] == u32::MAX {
            self.native[row] = self.id(input.labels[row].clone());
            self.buckets.resize_with(self.labels.len(), Vec::new);
            self.notes.resize_with(self.labels.len(), Vec::new);
        }
        let family = self.native[row];
        let buckets = &mut self.buckets[family as usize];
        if buckets.is_empty() {
            return Some(family);
        }
        buckets.clear();
        let note = remarks::mixed_classic_native(place, input.labels[row].name());
        self.notes[family as usize].push(note);
        None
    }
}

impl Histogram {
    /// An operator that asks this.
    pub fn new(ask: Ask, dialect: Dialect) -> Histogram {
        Histogram {
            ask,
            dialect,
            families: Families::default(),
            rows: HashMap::new(),
            previous: Vec::new(),
            twins: Twins::default(),
        }
    }

    /// Where the vector stands among the function's arguments.
    fn vector(&self) -> Place {
        Place::Operand(match self.ask {
            Ask::Quantile => 1,
            Ask::Quantiles(_) => 0,
            Ask::Fraction => 2,
        })
    }

    /// Warns of quantiles that are none.
    fn check(&self, params: &[f64]) -> Vec<Note> {
        let first = match self.ask {
            Ask::Quantile => 0,
            Ask::Quantiles(_) => 2,
            Ask::Fraction => return Vec::new(),
        };
        let invalid = params.iter().enumerate().filter(|(_, q)| !(0.0..=1.0).contains(*q));
        invalid.map(|(i, q)| remarks::invalid_quantile(Place::Operand(first + i as u8), *q)).collect()
    }

    /// The metric's name for remarks on a result: results have one only while names go at the end.
    fn name(&self, family: u32) -> &str {
        if self.dialect.delayed_names { self.families.labels[family as usize].name() } else { "" }
    }

    /// The answers of a native histogram, with the bits of the quantile.
    fn ask_native(&self, params: &[f64], family: u32, h: &NativeHistogram) -> (Vec<(u64, f64)>, Vec<Note>) {
        let (place, name, mut notes) = (self.vector(), self.name(family), Vec::new());
        if self.ask == Ask::Fraction {
            let share = fraction(params[0], params[1], h);
            if share.excludes_nan {
                notes.push(remarks::fraction_leaves_out_nan(place, name));
            }
            return (vec![(0, share.value)], notes);
        }
        let answer = |q: &f64| {
            let found = quantile(*q, h);
            match found.nan {
                NanObservations::None => {}
                NanObservations::Result => notes.push(remarks::quantile_is_nan(place, name)),
                NanObservations::Skew => notes.push(remarks::quantile_is_skewed(place, name)),
            }
            (self.key(*q), found.value)
        };
        (params.iter().map(answer).collect(), notes)
    }

    /// The answers of a classic histogram.
    fn ask_classic(&mut self, params: &[f64], family: u32, t: TimeMs) -> Vec<(u64, f64)> {
        let mut buckets = std::mem::take(&mut self.families.buckets[family as usize]);
        if self.ask == Ask::Fraction {
            let share = bucket_fraction(params[0], params[1], &mut buckets);
            self.families.buckets[family as usize] = buckets;
            return vec![(0, share)];
        }
        let (mut answers, mut fixed) = (Vec::with_capacity(params.len()), None);
        for (i, q) in params.iter().enumerate() {
            // The kernel rearranges: only the last quantile may have the buckets themselves.
            let found = if i + 1 == params.len() {
                bucket_quantile(*q, &mut buckets)
            } else {
                bucket_quantile(*q, &mut buckets.clone())
            };
            fixed = fixed.or(found.fixed);
            answers.push((self.key(*q), found.value));
        }
        if let Some(f) = fixed {
            let (place, name) = (self.vector(), self.name(family).to_owned());
            let note = remarks::forced_monotonicity(place, &name, f.from, f.to, f.max_diff, t);
            self.families.notes[family as usize].push(note);
        }
        self.families.buckets[family as usize] = buckets;
        answers
    }

    /// What tells the answers of one family apart.
    fn key(&self, q: f64) -> u64 {
        if matches!(self.ask, Ask::Quantiles(_)) { q.to_bits() } else { 0 }
    }

    /// The output row of an answer, made when it is first given.
    fn row(&mut self, family: u32, key: u64, out: &mut Output) -> u32 {
        let labels = &self.families.labels[family as usize];
        *self.rows.entry((family, key)).or_insert_with(|| {
            let (mut labels, drops) = computed(self.dialect, labels, false, false);
            if let Ask::Quantiles(label) = &self.ask {
                labels = labels.to_builder().set(label.as_str(), quantile_text(f64::from_bits(key))).build();
            }
            out.add_named((labels, drops)) as u32
        })
    }
}

/// A quantile as a label value: as the text formats write it, `1` as `1.0`.
fn quantile_text(q: f64) -> String {
    let text = general(q);
    if !q.is_finite() || text.contains(['.', 'e']) { text } else { format!("{text}.0") }
}

impl Operator for Histogram {
    fn eval(&mut self, inputs: &[Input], t: TimeMs, out: &mut Output) -> Result<(), EvalError> {
        let Some((vector, params)) = inputs.split_last() else { return Ok(()) };
        let params: Vec<f64> = params.iter().map(scalar_of).collect();
        out.notes.replace(self.check(&params));
        self.families.learn(vector.out);
        let natives = self.families.fill(vector.out, self.vector());
        let mut rows = Vec::with_capacity(out.values.len());
        for (family, histogram) in natives {
            let (answers, notes) = self.ask_native(&params, family, histogram);
            self.families.notes[family as usize].extend(notes);
            rows.extend(answers.into_iter().map(|(key, value)| (family, key, value)));
        }
        for family in 0..self.families.labels.len() as u32 {
            if !self.families.buckets[family as usize].is_empty() {
                let answers = self.ask_classic(&params, family, t);
                rows.extend(answers.into_iter().map(|(key, value)| (family, key, value)));
            }
        }
        let rows = rows.into_iter().map(|(family, key, v)| (self.row(family, key, out), v)).collect();
        for (family, notes) in self.families.notes.iter_mut().enumerate() {
            out.notes.set_row(family, std::mem::take(notes));
        }
        replace_rows(out, rows, &mut self.previous);
        self.twins.learn(out);
        self.twins.check(out)
    }

    fn bytes(&self) -> usize {
        self.families.heap() + self.rows.heap() + self.previous.heap() + self.twins.heap()
    }
}
