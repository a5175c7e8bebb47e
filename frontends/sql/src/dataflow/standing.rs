//! [`StandingDataflow`]: the handle of one standing statement on its dataflow, used by the thread
//! that evaluates a rule or a subscription.
//!
//! [`StandingDataflow::at`] takes the updates that the thread of [`super::host`] has left in the
//! [`ViewMarks`], applies them to the rows, and returns the rows as samples; `None` if nothing
//! changed. [`Dataflows`] starts and ends that thread, and limits the number of statements.

use super::host::{Host, HostMarks, PATIENCE, Request};
use super::lower::FlowPlan;
use super::program::Update;
use super::row::{Row, RowCodec};
use super::{DataflowStats, DataflowWork};
use crate::error::{SqlError, SqlErrorKind};
use crate::limits::{DataflowLimits, REFRESH_MS, STANDING_ROWS};
use crate::standing::lists::SharedLists;
use crate::standing::samples::{RowSampler, Samples};
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::{Field, Schema};
use differential_dataflow::consolidation::consolidate;
use engine::plan::statement::RowForm;
use engine::query::QueryOptions;
use parking_lot::Mutex;
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::mpsc::{RecvTimeoutError, Sender, SyncSender, channel, sync_channel};
use std::time::{Duration, Instant};
use storage::model::{Labels, TimeMs};
use timely::WorkerConfig;

/// The output of a view's dataflow. The host writes it, and the view reads it without a request,
/// because waking a thread and waiting for it costs more than most changes.
#[derive(Debug, Default)]
pub(super) struct ViewMarks {
    /// A number that changes with each change.
    version: AtomicU64,
    news: Mutex<ViewNews>,
}

/// The output since the view read it last.
#[derive(Debug, Default)]
struct ViewNews {
    rows: Vec<Update>,
    error: Option<SqlError>,
}

impl ViewMarks {
    /// Adds changes. Returns their number; if there are many, changes that cancel each other are
    /// removed first.
    pub(super) fn add(&self, mut changes: Vec<Update>) -> usize {
        let mut news = self.news.lock();
        news.rows.append(&mut changes);
        if news.rows.len() > 2 * STANDING_ROWS {
            consolidate(&mut news.rows);
        }
        self.version.fetch_add(1, SeqCst);
        news.rows.len()
    }

    /// Sets or clears the error of the view.
    pub(super) fn set_error(&self, error: Option<SqlError>) {
        let is_new = error.is_some();
        self.news.lock().error = error;
        if is_new {
            self.version.fetch_add(1, SeqCst);
        }
    }

    /// The error of the view.
    pub(super) fn error(&self) -> Option<SqlError> {
        self.news.lock().error.clone()
    }

    /// The output since the version `seen`, which is updated; `None`: nothing changed.
    fn take(&self, seen: &mut u64) -> Option<ViewNews> {
        if self.version.load(SeqCst) == *seen {
            return None;
        }
        let mut news = self.news.lock();
        *seen = self.version.load(SeqCst);
        let mut news = std::mem::take(&mut *news);
        consolidate(&mut news.rows);
        Some(news)
    }
}

/// Starts the thread of dataflows with the first view, and counts the views.
pub(crate) struct Dataflows {
    limits: DataflowLimits,
    /// The lists of the server, as all standing statements read them.
    lists: Arc<SharedLists>,
    running: Mutex<Option<HostHandle>>,
    /// The number of standing statements.
    count: Mutex<usize>,
}

#[derive(Clone)]
struct HostHandle {
    requests: Sender<Request>,
    marks: Arc<HostMarks>,
}

impl fmt::Debug for Dataflows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Dataflows")
    }
}

/// Counts one statement against the limit, until it is dropped.
struct DataflowPermit(Arc<Dataflows>);

impl Drop for DataflowPermit {
    fn drop(&mut self) {
        *self.0.count.lock() -= 1;
    }
}

impl Dataflows {
    /// Starts nothing yet; `limits` are those of all dataflows together.
    pub(crate) fn new(limits: DataflowLimits, lists: Arc<SharedLists>) -> Dataflows {
        Dataflows { limits, lists, running: Mutex::default(), count: Mutex::default() }
    }

    /// A handle for this statement. Its dataflow is built at the first evaluation.
    pub(crate) fn view(
        self: &Arc<Dataflows>,
        plan: FlowPlan,
        form: RowForm,
    ) -> Result<StandingDataflow, SqlError> {
        let mut count = self.count.lock();
        let most = self.limits.views;
        if *count >= most {
            let error = format!("at most {most} statements stand as dataflows");
            return Err(SqlError::new(SqlErrorKind::LimitReached, error)
                .hint("end other subscriptions or views over lists of the server"));
        }
        *count += 1;
        drop(count);
        let columns = plan.rel.kinds.iter().zip(&plan.names);
        let fields = columns.map(|(kind, name)| Field::new(name, kind.clone(), true));
        let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        Ok(StandingDataflow {
            codec: RowCodec::new(&plan.rel.kinds)?,
            sampler: RowSampler::new(form, &schema),
            form,
            schema,
            plan: Arc::new(plan),
            flow: None,
            rows: BTreeMap::new(),
            pause: None,
            _permit: DataflowPermit(self.clone()),
            shared: self.clone(),
        })
    }

    /// Sizes of all dataflows; `None`: the thread has not answered for `patience`.
    pub(crate) fn stats(&self, patience: Duration) -> Option<DataflowStats> {
        // Without the thread there are no dataflows.
        let Some(running) = self.running.lock().clone() else { return Some(DataflowStats::default()) };
        let (reply, answer) = sync_channel(1);
        if running.requests.send(Request::Describe { reply }).is_err() {
            return Some(DataflowStats::default());
        }
        match answer.recv_timeout(patience) {
            Ok(stats) => Some(stats),
            // The thread has ended with the last dataflow.
            Err(RecvTimeoutError::Disconnected) => Some(DataflowStats::default()),
            Err(RecvTimeoutError::Timeout) => None,
        }
    }

    /// How much their thread has done since it started.
    pub(crate) fn work(&self) -> DataflowWork {
        self.running.lock().as_ref().map(|running| running.marks.work()).unwrap_or_default()
    }

    fn running(&self) -> Result<HostHandle, SqlError> {
        let mut running = self.running.lock();
        if let Some(running) = &*running {
            return Ok(running.clone());
        }
        let started = start(self.limits, self.lists.clone())?;
        *running = Some(started.clone());
        Ok(started)
    }

    /// Forgets the thread, which has ended. The next request starts another one.
    fn forget(&self, ended: &HostHandle) {
        let mut running = self.running.lock();
        if running.as_ref().is_some_and(|now| Arc::ptr_eq(&now.marks, &ended.marks)) {
            *running = None;
        }
    }
}

fn start(limits: DataflowLimits, lists: Arc<SharedLists>) -> Result<HostHandle, SqlError> {
    let (requests, received) = channel();
    let marks: Arc<HostMarks> = Arc::default();
    let running = HostHandle { requests, marks: marks.clone() };
    let work = move || {
        let mut config = WorkerConfig::default();
        // Without this setting, an idle arrangement keeps updates that cancel each other.
        differential_dataflow::configure(
            &mut config,
            &differential_dataflow::Config { idle_merge_effort: Some(1_000) },
        );
        let allocator = timely::communication::Allocator::Thread(Default::default());
        let mut worker = timely::worker::Worker::new(config, allocator, None);
        Host::new(&mut worker, marks, limits, lists).run(&received);
        // Remaining dataflows end with the worker.
    };
    let thread = std::thread::Builder::new().name("sql-dataflows".to_owned()).spawn(work);
    let unavailable =
        |e: std::io::Error| SqlError::new(SqlErrorKind::Unavailable, format!("no thread for dataflows: {e}"));
    thread.map_err(unavailable)?;
    Ok(running)
}

/// A standing statement that is maintained as a dataflow.
pub(crate) struct StandingDataflow {
    shared: Arc<Dataflows>,
    plan: Arc<FlowPlan>,
    form: RowForm,
    codec: RowCodec,
    sampler: RowSampler,
    schema: Arc<Schema>,
    flow: Option<Flow>,
    rows: BTreeMap<Row, ShownRow>,
    /// After an error the dataflow is not built again before this.
    pause: Option<RetryPause>,
    _permit: DataflowPermit,
}

struct RetryPause {
    until: Instant,
    error: SqlError,
}

/// The dataflow of a view.
struct Flow {
    running: HostHandle,
    view: u64,
    marks: Arc<ViewMarks>,
    /// The version of its marks that was seen last.
    seen: u64,
}

struct ShownRow {
    /// The row as a sample; `None`: the value is NULL, so there is no sample.
    sample: Option<(Labels, f64)>,
    count: isize,
}

/// The result of one attempt to get changes from the thread.
enum Attempt {
    /// Nothing has changed.
    Same,
    Changed(Vec<Update>),
    Failed(SqlError),
    /// The thread has ended.
    Gone,
}

impl StandingDataflow {
    /// The uploaded tables that the statement reads.
    pub(crate) fn tables(&self) -> &BTreeSet<String> {
        &self.plan.tables
    }

    /// Replaces the dataflow by that of `plan` and returns true; if the columns differ, changes
    /// nothing.
    pub(crate) fn replace(&mut self, plan: FlowPlan) -> bool {
        let is_same = plan.names == self.plan.names && plan.rel.kinds == self.plan.rel.kinds;
        if is_same {
            self.forget();
            self.plan = Arc::new(plan);
        }
        is_same
    }

    /// The rows at `t` as samples; `None`: unchanged since the last call.
    pub(crate) fn at(&mut self, t: TimeMs, options: &QueryOptions) -> Result<Option<Samples>, SqlError> {
        if let Some(pause) = self.pause.take_if(|pause| Instant::now() >= pause.until) {
            drop(pause);
        }
        if let Some(pause) = &self.pause {
            return Err(pause.error.clone());
        }
        let mut attempt = self.attempt(t, options);
        if let Attempt::Gone = attempt {
            // The dataflow is built again, once: an error in another dataflow may have ended the
            // thread.
            self.forget();
            attempt = self.attempt(t, options);
        }
        let result = match attempt {
            Attempt::Same => return Ok(None),
            Attempt::Changed(changes) => self.apply(changes).and_then(|()| self.samples()),
            Attempt::Failed(error) => Err(error),
            Attempt::Gone => {
                Err(SqlError::new(SqlErrorKind::Internal, "the dataflows have stopped unexpectedly"))
            }
        };
        if result.is_err() {
            self.forget();
        }
        result.map(Some)
    }

    fn attempt(&mut self, t: TimeMs, options: &QueryOptions) -> Attempt {
        let deadline = Instant::now() + options.timeout;
        let Some(flow) = &mut self.flow else { return self.install(t, deadline) };
        let last = flow.running.marks.refreshed.load(SeqCst);
        let is_recent = (last..last.saturating_add(REFRESH_MS)).contains(&t);
        if !is_recent {
            let asked = call(&flow.running, deadline, |reply| Request::Refresh { t, deadline, reply });
            match asked {
                None => return Attempt::Gone,
                Some(Err(error)) => return Attempt::Failed(error),
                Some(Ok(())) => {}
            }
        }
        let Some(news) = flow.marks.take(&mut flow.seen) else { return Attempt::Same };
        match news.error {
            Some(error) => Attempt::Failed(error),
            None if news.rows.is_empty() => Attempt::Same,
            None => Attempt::Changed(news.rows),
        }
    }

    fn install(&mut self, t: TimeMs, deadline: Instant) -> Attempt {
        let running = match self.shared.running() {
            Ok(running) => running,
            Err(error) => return Attempt::Failed(error),
        };
        let marks: Arc<ViewMarks> = Arc::default();
        let plan = self.plan.clone();
        let given = marks.clone();
        let began = Instant::now();
        let installed =
            call(&running, deadline, |reply| Request::Install { plan, marks: given, t, deadline, reply });
        match installed {
            None => {
                self.shared.forget(&running);
                Attempt::Gone
            }
            Some(Ok(view)) => {
                let mut seen = 0;
                let rows = marks.take(&mut seen).unwrap_or_default().rows;
                self.flow = Some(Flow { running, view, marks, seen });
                Attempt::Changed(rows)
            }
            Some(Err(error)) => {
                // Building a dataflow is expensive. A statement that fails again and again must not
                // slow the others down. That a table is gone costs nothing to find out, and the
                // statement goes on as soon as it is there again.
                if error.kind != SqlErrorKind::Unavailable {
                    let until = Instant::now() + began.elapsed() * REST_TIMES;
                    self.pause = Some(RetryPause { until, error: error.clone() });
                }
                Attempt::Failed(error)
            }
        }
    }

    /// Ends the dataflow; the next call builds it anew.
    fn forget(&mut self) {
        if let Some(flow) = self.flow.take() {
            // If the thread has ended, so has the dataflow.
            if flow.running.requests.send(Request::Remove { view: flow.view }).is_err() {
                self.shared.forget(&flow.running);
            }
        }
        self.rows.clear();
    }

    fn apply(&mut self, changes: Vec<Update>) -> Result<(), SqlError> {
        let new: Vec<Row> = changes
            .iter()
            .filter(|(row, _)| !self.rows.contains_key(row))
            .map(|(row, _)| row.clone())
            .collect();
        let mut samples = BTreeMap::new();
        if !new.is_empty() {
            let batch = self.codec.decode(new.iter())?;
            let batch = RecordBatch::try_new(self.schema.clone(), batch.columns().to_vec());
            let batch = batch.map_err(super::row::failed)?;
            samples.extend(new.iter().cloned().zip(self.sampler.samples(&batch)?));
        }
        for (row, by) in changes {
            match self.rows.entry(row) {
                Entry::Occupied(mut known) => {
                    known.get_mut().count += by;
                    if known.get().count == 0 {
                        known.remove();
                    }
                }
                Entry::Vacant(empty) => {
                    let sample = samples.remove(empty.key()).flatten();
                    empty.insert(ShownRow { sample, count: by });
                }
            }
        }
        if self.rows.len() > STANDING_ROWS {
            let error = format!("a statement that stands has at most {STANDING_ROWS} rows");
            return Err(SqlError::new(SqlErrorKind::LimitReached, error).hint("filter or group more"));
        }
        Ok(())
    }

    fn samples(&self) -> Result<Samples, SqlError> {
        let mut samples = Samples::new();
        for row in self.rows.values() {
            if let Some((labels, value)) = &row.sample {
                crate::standing::samples::add(
                    &mut samples,
                    self.form,
                    labels.clone(),
                    *value,
                    row.count as i64,
                )?;
            }
        }
        Ok(samples)
    }
}

/// How many times the time of a failed attempt passes until the next one.
const REST_TIMES: u32 = 20;

impl Drop for StandingDataflow {
    fn drop(&mut self) {
        self.forget();
    }
}

/// Asks the host; `None`: it has ended.
fn call<T>(
    running: &HostHandle,
    deadline: Instant,
    request: impl FnOnce(SyncSender<Result<T, SqlError>>) -> Request,
) -> Option<Result<T, SqlError>> {
    let (reply, answer) = sync_channel(1);
    running.requests.send(request(reply)).ok()?;
    let left = deadline.saturating_duration_since(Instant::now()) + PATIENCE;
    match answer.recv_timeout(left) {
        Ok(answer) => Some(answer),
        Err(RecvTimeoutError::Disconnected) => None,
        Err(RecvTimeoutError::Timeout) => {
            Some(Err(SqlError::new(SqlErrorKind::Timeout, "the dataflows are busy with other statements")))
        }
    }
}
