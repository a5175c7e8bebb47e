//! Builds the operators of differential-dataflow for a [`Rel`] that joins; others
//! are a [`super::pipeline`].
//!
//! It makes no decision; [`super::lower`] has made all. Lists of the server, and groups that
//! several statements share, enter as inputs. Sides of joins that are lists themselves are imported
//! as arrangements. Both belong to other dataflows ([`super::flows`]). Operators of our own wrap
//! [`super::aggregate`], [`super::top`] and [`super::stateful`].

use super::aggregate::Groups;
use super::delta::Delta;
use super::program::{Program, Runner};
use super::rel::{Join, JoinKind, Rel, RelOp, Side};
use super::row::{Row, RowCodec};
use super::stateful::{DistinctRows, Stateful};
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

    /// So many bytes more are kept; below 0: fewer.
    pub(super) fn keep(&self, bytes: isize) {
        self.0.bytes.set(self.0.bytes.get() + bytes);
    }

    /// The value, or nothing after an error, which is kept.
    pub(super) fn checked<T: Default>(&self, result: Result<T, SqlError>) -> T {
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
                let codec = Rc::new(RowCodec::new(&base.kinds)?);
                let runner = Runner::new(programs, &rel.kinds)?;
                Ok(mapped(self.rows(base)?, codec, runner, self.gauges.clone()))
            }
            RelOp::Join(join) => self.joined(join),
            RelOp::Top(input, top) => {
                let codec = Rc::new(RowCodec::new(&input.kinds)?);
                let ordered = OrderedRows::new(top, &input.kinds)?;
                Ok(stateful(self.rows(input)?, codec, ordered, self.gauges.clone()))
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
        let codec = Rc::new(RowCodec::new(&base.kinds)?);
        let runner = Runner::new(programs, &input.kinds)?;
        let groups = Groups::new(aggregate, runner, &input.kinds, &rel.kinds)?;
        Ok(stateful(self.rows(base)?, codec, groups, self.gauges.clone()))
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
        let codec = Rc::new(RowCodec::new(&join.right.key_kinds())?);
        let keys = right.clone().as_collection(|key, _| key.clone());
        let keys = stateful(keys, codec, DistinctRows::default(), self.gauges.clone());
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
        Ok(keyed(rows, SideKeys::new(side)?, self.gauges.clone()).arrange_by_key())
    }
}

fn missing(what: &str) -> SqlError {
    SqlError::new(crate::SqlErrorKind::Internal, format!("a dataflow lacks {what}"))
}

/// The programs of a chain, in the order in which they run, and what they run over.
pub(super) fn unwound(rel: &Arc<Rel>) -> (&Arc<Rel>, Vec<Arc<Program>>) {
    let mut programs = Vec::new();
    let mut base = rel;
    while let RelOp::Map(input, program) = &base.op {
        programs.push(program.clone());
        base = input;
    }
    programs.reverse();
    (base, programs)
}

/// Updates of one time.
struct TimedRows {
    time: Time,
    rows: Vec<Row>,
    counts: Vec<isize>,
}

/// Updates by their times: mostly all have the same.
fn by_time(updates: Vec<TimedUpdate>) -> Vec<TimedRows> {
    let mut times: Vec<TimedRows> = Vec::new();
    for (row, time, count) in updates {
        if times.last().is_none_or(|last| last.time != time) {
            times.push(TimedRows { time, rows: Vec::new(), counts: Vec::new() });
        }
        if let Some(last) = times.last_mut() {
            last.rows.push(row);
            last.counts.push(count);
        }
    }
    times
}

fn mapped<'scope>(rows: Rows<'scope>, codec: Rc<RowCodec>, runner: Runner, gauges: Gauges) -> Rows<'scope> {
    let run = move |part: TimedRows| -> Result<Vec<TimedUpdate>, SqlError> {
        let delta = runner.run(&Delta::of_rows(codec.clone(), part.rows, part.counts))?;
        Ok(delta.updates()?.map(|(row, count)| (row, part.time, count)).collect())
    };
    let stream = rows.inner.unary::<Builder, _, _, _>(Pipeline, "Map", |_, _| {
        move |input, output| {
            input.for_each(|capability, data: &mut Vec<TimedUpdate>| {
                let parts = by_time(std::mem::take(data));
                let updates = parts.into_iter().flat_map(|part| gauges.checked(run(part)));
                output.session(&capability).give_iterator(updates);
            });
        }
    });
    stream.as_collection()
}

/// Computes the join keys of the rows of one side.
struct SideKeys {
    rows: RowCodec,
    keys: RowCodec,
    columns: Vec<usize>,
    keeps_nulls: bool,
}

impl SideKeys {
    fn new(side: &Side) -> RenderResult<SideKeys> {
        Ok(SideKeys {
            rows: RowCodec::new(&side.rel.kinds)?,
            keys: RowCodec::new(&side.key_kinds())?,
            columns: side.keys.clone(),
            keeps_nulls: side.keeps_nulls,
        })
    }

    /// The key of each row; `None`: it has none, and is left out.
    fn find<'a>(&self, rows: impl ExactSizeIterator<Item = &'a Row>) -> Result<Vec<Option<Row>>, SqlError> {
        let batch = self.rows.decode(rows)?;
        let columns: Vec<ArrayRef> = self.columns.iter().map(|at| batch.column(*at).clone()).collect();
        let keys = self.keys.encode(&columns, batch.num_rows())?;
        let has_key = |i: usize| self.keeps_nulls || columns.iter().all(|column| column.is_valid(i));
        Ok(keys.into_iter().enumerate().map(|(i, key)| has_key(i).then_some(key)).collect())
    }
}

fn keyed<'scope>(
    rows: Rows<'scope>,
    keys: SideKeys,
    gauges: Gauges,
) -> VecCollection<'scope, Time, (Row, Row), isize> {
    let stream = rows.inner.unary::<KeyedBuilder, _, _, _>(Pipeline, "Keys", |_, _| {
        move |input, output| {
            input.for_each(|capability, data: &mut Vec<TimedUpdate>| {
                let data = std::mem::take(data);
                let found = gauges.checked(keys.find(data.iter().map(|update| &update.0)));
                let updates = found.into_iter().zip(data).filter_map(|(key, (row, time, count))| {
                    let key = key?;
                    gauges.keep(count * (key.size() + row.size()) as isize);
                    Some(((key, row), time, count))
                });
                output.session(&capability).give_iterator(updates);
            });
        }
    });
    stream.as_collection()
}

/// An operator with a state. Its changes are sent when all changes of a refresh have arrived.
/// `codec` decodes its input.
fn stateful<'scope>(
    rows: Rows<'scope>,
    codec: Rc<RowCodec>,
    mut operator: impl Stateful + 'static,
    gauges: Gauges,
) -> Rows<'scope> {
    let stream = rows.inner.unary_frontier::<Builder, _, _, _>(Pipeline, "State", |capability, _| {
        // For the earliest time that is not complete, and the newest. At first the one of the
        // beginning: some operators show a row before anything has come.
        let mut held: Option<Capability<Time>> = Some(capability);
        let mut newest = Time::default();
        let mut taken_up = 0;
        move |(input, frontier), output| {
            let before = operator.bytes() as isize;
            input.for_each(|capability, data: &mut Vec<TimedUpdate>| {
                if held.as_ref().is_none_or(|held| capability.time() < held.time()) {
                    held = Some(capability.retain(0));
                }
                taken_up += data.len();
                gauges.0.waiting.set(gauges.waiting() + data.len());
                newest = data.iter().map(|update| update.1).fold(newest, Time::max);
                // Not consolidated: what comes and goes at once is undone by the state, and to sort
                // rows costs more.
                let updates = std::mem::take(data).into_iter().map(|(row, _, count)| (row, count));
                gauges.checked(operator.apply(&Delta::of_updates(codec.clone(), updates)));
            });
            if !frontier.less_equal(&newest)
                && let Some(capability) = held.take()
            {
                gauges.0.waiting.set(gauges.waiting().saturating_sub(std::mem::take(&mut taken_up)));
                let updates = gauges.checked(operator.finish());
                let updates = updates.into_iter().map(|(row, count)| (row, newest, count));
                output.session(&capability.delayed(&newest)).give_iterator(updates);
            }
            gauges.keep(operator.bytes() as isize - before);
        }
    });
    stream.as_collection()
}
