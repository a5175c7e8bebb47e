//! Builds the operators of differential-dataflow for a [`Rel`](super::rel::Rel).
//!
//! It makes no decision; [`super::lower`] has made all. Lists of the server, and groups that
//! several statements share, enter as inputs. Sides of joins that are lists themselves are imported
//! as arrangements. Both belong to other dataflows ([`super::flows`]). Operators of our own wrap
//! [`super::aggregate`] and [`super::top`].

use super::aggregate::Groups;
use super::program::{Program, Runner, Update};
use super::rel::{Join, JoinKind, Rel, RelOp, Side};
use super::row::{Row, RowCodec};
use super::top::OrderedRows;
use crate::error::SqlError;
use datafusion::arrow::array::{Array, ArrayRef};
use differential_dataflow::AsCollection;
use differential_dataflow::VecCollection;
use differential_dataflow::operators::arrange::{Arranged, TraceAgent};
use differential_dataflow::trace::implementations::ValSpine;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use timely::container::CapacityContainerBuilder;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::Operator;

/// The number of the refresh.
pub(super) type Time = u64;
/// A collection of rows.
pub(super) type Rows<'scope> = VecCollection<'scope, Time, Row, isize>;
/// An arrangement of rows by some of their columns.
pub(super) type KeyedTrace = TraceAgent<ValSpine<Row, Row, Time, isize>>;
type TimedUpdate = (Row, Time, isize);
type Builder = CapacityContainerBuilder<Vec<TimedUpdate>>;
type KeyedBuilder = CapacityContainerBuilder<Vec<((Row, Row), Time, isize)>>;

/// Counters of one dataflow, which its operators write and the host reads.
#[derive(Clone, Default)]
pub(super) struct Gauges(Rc<GaugeCells>);

#[derive(Default)]
struct GaugeCells {
    error: RefCell<Option<SqlError>>,
    /// Memory of stored rows, bytes.
    bytes: Cell<isize>,
    /// Rows that wait in operators.
    waiting: Cell<usize>,
}

impl Gauges {
    /// The first error of an operator.
    pub(super) fn error(&self) -> Option<SqlError> {
        self.0.error.borrow().clone()
    }

    /// Memory of stored rows, bytes.
    pub(super) fn bytes(&self) -> usize {
        self.0.bytes.get().max(0).cast_unsigned()
    }

    /// Rows that wait in operators.
    pub(super) fn waiting(&self) -> usize {
        self.0.waiting.get()
    }

    fn keep(&self, bytes: isize) {
        self.0.bytes.set(self.0.bytes.get() + bytes);
    }

    /// The value; after an error the default, and the error is stored for the host.
    fn checked<T: Default>(&self, result: Result<T, SqlError>) -> T {
        result.unwrap_or_else(|error| {
            self.0.error.borrow_mut().get_or_insert(error);
            T::default()
        })
    }
}

/// Builds the operators of one dataflow.
pub(super) struct Renderer<'scope> {
    /// The inputs: lists by their names, groups by their texts.
    pub(super) inputs: HashMap<String, Rows<'scope>>,
    /// Imported sides of joins, by their texts.
    pub(super) sides: HashMap<String, Arranged<'scope, KeyedTrace>>,
    pub(super) gauges: Gauges,
}

/// Why no operators can be built: an import is missing, or a type cannot be encoded.
type RenderResult<T> = Result<T, SqlError>;

impl<'scope> Renderer<'scope> {
    /// The rows of a relation.
    pub(super) fn rows(&self, rel: &Arc<Rel>) -> RenderResult<Rows<'scope>> {
        match &rel.op {
            RelOp::Input(input) => self.put_in(&input.name),
            RelOp::Aggregate(..) => self.put_in(&rel.text),
            RelOp::Map(..) => {
                let (base, programs) = unwound(rel);
                let rows = self.rows(base)?;
                Ok(mapped(rows, Runner::new(programs, &base.kinds, &rel.kinds)?, self.gauges.clone()))
            }
            RelOp::Join(join) => self.joined(join),
            RelOp::Top(input, top) => {
                let rows = self.rows(input)?;
                let mut ordered = OrderedRows::new(top, &input.kinds)?;
                Ok(stateful(rows, "Top", Vec::new(), self.gauges.clone(), move |updates| {
                    let before = ordered.bytes as isize;
                    let changes = ordered.update(updates)?;
                    Ok(Changes { updates: changes, kept: ordered.bytes as isize - before })
                }))
            }
            RelOp::Union(parts) => {
                let mut all: Option<Rows<'scope>> = None;
                for part in parts {
                    let rows = self.rows(part)?;
                    all = Some(match all {
                        Some(others) => others.concat(rows),
                        None => rows,
                    });
                }
                all.ok_or_else(|| missing("the parts of a UNION"))
            }
        }
    }

    fn put_in(&self, name: &str) -> RenderResult<Rows<'scope>> {
        self.inputs.get(name).cloned().ok_or_else(|| missing(name))
    }

    /// The groups of an aggregate, as an operator of this dataflow.
    pub(super) fn groups(&self, rel: &Arc<Rel>) -> RenderResult<Rows<'scope>> {
        let RelOp::Aggregate(input, aggregate) = &rel.op else { return Err(missing("its groups")) };
        // Keys and arguments are computed inside the operator of the groups, so that rows are
        // decoded once.
        let (base, programs) = unwound(input);
        let rows = self.rows(base)?;
        let runner = Runner::new(programs, &base.kinds, &input.kinds)?;
        let mut groups = Groups::new(aggregate, runner, &input.kinds, &rel.kinds)?;
        let first = groups.start()?;
        Ok(stateful(rows, "Groups", first, self.gauges.clone(), move |updates| {
            let before = groups.bytes as isize;
            let changes = groups.update(updates)?;
            Ok(Changes { updates: changes, kept: groups.bytes as isize - before })
        }))
    }

    fn joined(&self, join: &Join) -> RenderResult<Rows<'scope>> {
        let left = self.side(&join.left)?;
        let right = self.side(&join.right)?;
        let nulls = RowCodec::new(&join.right.rel.kinds)?.null()?;
        let inner = |left: Arranged<'scope, KeyedTrace>, right| -> Rows<'scope> {
            left.join_core(right, |_, l: &Row, r: &Row| Some(l.followed_by(r.bytes())))
        };
        if join.how == JoinKind::Inner {
            return Ok(inner(left, right));
        }
        let keys = distinct(right.clone().as_collection(|key, _| key.clone()), self.gauges.clone());
        let with_partner: Rows<'scope> =
            left.clone().join_core(keys.arrange_by_self(), |_, row: &Row, ()| Some(row.clone()));
        if join.how == JoinKind::Semi {
            return Ok(with_partner);
        }
        let alone = left.clone().as_collection(|_, row| row.clone()).concat(with_partner.negate());
        if join.how == JoinKind::Anti {
            return Ok(alone);
        }
        Ok(inner(left, right).concat(alone.map(move |row| row.followed_by(nulls.bytes()))))
    }

    fn side(&self, side: &Side) -> RenderResult<Arranged<'scope, KeyedTrace>> {
        match self.sides.get(&side.text()) {
            Some(shared) => Ok(shared.clone()),
            None => self.arranged(side),
        }
    }

    /// A side of a join, by its keys.
    pub(super) fn arranged(&self, side: &Side) -> RenderResult<Arranged<'scope, KeyedTrace>> {
        let rows = self.rows(&side.rel)?;
        Ok(keyed(rows, Keys::new(side)?, self.gauges.clone()).arrange_by_key())
    }
}

fn missing(what: &str) -> SqlError {
    SqlError::new(crate::SqlErrorKind::Internal, format!("a dataflow lacks {what}"))
}

/// The programs of a chain, in the order in which they run, and what they run over.
fn unwound(rel: &Arc<Rel>) -> (&Arc<Rel>, Vec<Arc<Program>>) {
    let mut programs = Vec::new();
    let mut base = rel;
    while let RelOp::Map(input, program) = &base.op {
        programs.push(program.clone());
        base = input;
    }
    programs.reverse();
    (base, programs)
}

/// The time of an update, and its number of rows.
#[derive(Copy, Clone)]
struct Mark {
    time: Time,
    count: isize,
}

fn split_marks(updates: Vec<TimedUpdate>) -> (Vec<Row>, Vec<Mark>) {
    updates.into_iter().map(|(row, time, count)| (row, Mark { time, count })).unzip()
}

fn mapped<'scope>(rows: Rows<'scope>, runner: Runner, gauges: Gauges) -> Rows<'scope> {
    let stream = rows.inner.unary::<Builder, _, _, _>(Pipeline, "Map", |_, _| {
        move |input, output| {
            input.for_each(|capability, data: &mut Vec<TimedUpdate>| {
                let (rows, marks) = split_marks(std::mem::take(data));
                let (rows, marks) = gauges.checked(runner.run(&rows, marks));
                let updates = rows.into_iter().zip(marks).map(|(row, mark)| (row, mark.time, mark.count));
                output.session(&capability).give_iterator(updates);
            });
        }
    });
    stream.as_collection()
}

/// Finds the keys of rows.
struct Keys {
    rows: RowCodec,
    keys: RowCodec,
    columns: Vec<usize>,
    keeps_nulls: bool,
}

impl Keys {
    fn new(side: &Side) -> RenderResult<Keys> {
        Ok(Keys {
            rows: RowCodec::new(&side.rel.kinds)?,
            keys: RowCodec::new(&side.key_kinds())?,
            columns: side.keys.clone(),
            keeps_nulls: side.keeps_nulls,
        })
    }

    /// The key of each row; `None`: the row has no key and is dropped.
    fn find(&self, rows: &[Row]) -> Result<Vec<Option<Row>>, SqlError> {
        let batch = self.rows.decode(rows.iter())?;
        let columns: Vec<ArrayRef> = self.columns.iter().map(|at| batch.column(*at).clone()).collect();
        let keys = self.keys.encode(&columns, batch.num_rows())?;
        let has_key = |i: usize| self.keeps_nulls || columns.iter().all(|column| column.is_valid(i));
        Ok(keys.into_iter().enumerate().map(|(i, key)| has_key(i).then_some(key)).collect())
    }
}

fn keyed<'scope>(
    rows: Rows<'scope>,
    keys: Keys,
    gauges: Gauges,
) -> VecCollection<'scope, Time, (Row, Row), isize> {
    let stream = rows.inner.unary::<KeyedBuilder, _, _, _>(Pipeline, "Keys", |_, _| {
        move |input, output| {
            input.for_each(|capability, data: &mut Vec<TimedUpdate>| {
                let (rows, marks) = split_marks(std::mem::take(data));
                let found = gauges.checked(keys.find(&rows));
                let updates = found.into_iter().zip(rows).zip(marks).filter_map(|((key, row), mark)| {
                    let key = key?;
                    gauges.keep(mark.count * (key.size() + row.size()) as isize);
                    Some(((key, row), mark.time, mark.count))
                });
                output.session(&capability).give_iterator(updates);
            });
        }
    });
    stream.as_collection()
}

/// Removes duplicates.
fn distinct(rows: Rows<'_>, gauges: Gauges) -> Rows<'_> {
    let mut counts: HashMap<Row, isize> = HashMap::new();
    stateful(rows, "Distinct", Vec::new(), gauges, move |updates| {
        let mut changes = Changes::default();
        for (row, times) in updates {
            let known = counts.entry(row.clone()).or_insert(0);
            let was_there = *known > 0;
            *known += times;
            let is_there = *known > 0;
            if *known == 0 {
                counts.remove(row);
            }
            if was_there != is_there {
                let by = if is_there { 1 } else { -1 };
                changes.kept += by * row.size() as isize;
                changes.updates.push((row.clone(), by));
            }
        }
        Ok(changes)
    })
}

/// The output of an operator with a state.
#[derive(Default)]
struct Changes {
    updates: Vec<Update>,
    /// By how many bytes the state of the operator grew.
    kept: isize,
}

/// An operator with a state. It processes all complete times together, because intermediate results
/// are not observed.
fn stateful<'scope>(
    rows: Rows<'scope>,
    name: &str,
    first: Vec<Update>,
    gauges: Gauges,
    mut logic: impl FnMut(&[Update]) -> Result<Changes, SqlError> + 'static,
) -> Rows<'scope> {
    let stream = rows.inner.unary_frontier::<Builder, _, _, _>(Pipeline, name, |capability, _| {
        let mut first = (!first.is_empty()).then_some((capability, first));
        let mut stash: Vec<TimedUpdate> = Vec::new();
        // The capability for the earliest time of the stash.
        let mut held: Option<Capability<Time>> = None;
        move |(input, frontier), output| {
            if let Some((capability, updates)) = first.take() {
                let time = *capability.time();
                let updates = updates.into_iter().map(|(row, count)| (row, time, count));
                output.session(&capability).give_iterator(updates);
            }
            input.for_each(|capability, data: &mut Vec<TimedUpdate>| {
                gauges.0.waiting.set(gauges.waiting() + data.len());
                stash.append(data);
                if held.as_ref().is_none_or(|held| capability.time() < held.time()) {
                    held = Some(capability.retain(0));
                }
            });
            let is_complete = |time: &Time| !frontier.less_equal(time);
            let Some(newest) = stash.iter().map(|update| update.1).filter(is_complete).max() else { return };
            let Some(capability) = held.take() else { return };
            let (complete, rest): (Vec<TimedUpdate>, Vec<TimedUpdate>) =
                std::mem::take(&mut stash).into_iter().partition(|update| is_complete(&update.1));
            stash = rest;
            gauges.0.waiting.set(gauges.waiting().saturating_sub(complete.len()));
            held = stash.iter().map(|update| update.1).min().map(|time| capability.delayed(&time));
            // Not consolidated: the logic handles an insertion and a deletion of the same row, and
            // sorting would cost more.
            let updates: Vec<Update> = complete.into_iter().map(|(row, _, count)| (row, count)).collect();
            let changes = gauges.checked(logic(&updates));
            gauges.keep(changes.kept);
            let updates = changes.updates.into_iter().map(|(row, count)| (row, newest, count));
            output.session(&capability.delayed(&newest)).give_iterator(updates);
        }
    });
    stream.as_collection()
}
