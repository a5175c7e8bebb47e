//! The worker threads: each builds its dataflow, receives ticks and preparations from the handle,
//! and reports when it has finished them.

use super::super::dataflow::{self, ControlInput};
use super::super::gather::GatherExecutor;
use super::super::links::TimelyBuilders;
use super::super::local::{HistoryLoader, LocalExecutor};
use super::super::sample_queue::SampleReceiver;
use super::super::store_query::{StoreQuerier, StoreQuerySettings};
use super::super::topology::WorkerTopology;
use super::super::{LiveOptions, time};
use super::{Control, LiveShared, WorkerCommand, here};
use crate::limits::PAST_THREADS;
use crate::query::QueryOptions;
use crate::query::pool::Pool;
use parking_lot::Mutex;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::mpsc::{Receiver, TryRecvError};
use storage::execution::Execution;
use storage::metrics::Metrics;
use storage::store::Store;
use timely::WorkerConfig;
use timely::communication::WorkerGuards;
use timely::worker::Worker;

/// A worker's inputs: commands and samples.
pub(super) type Ends = (Receiver<WorkerCommand>, SampleReceiver);

/// Starts the workers of this process. `None`: the only worker runs on the calling thread.
pub(super) fn start_workers(
    inner: &Arc<LiveShared>,
    (builders, others): TimelyBuilders,
    ends: Vec<Ends>,
    store: Arc<Store>,
    options: &LiveOptions,
    metrics: &Metrics,
) -> Result<Option<WorkerGuards<()>>, String> {
    let LiveOptions { lookback, dialect, spill, memory, .. } = options.clone();
    let threads = ends.len();
    let ends: Mutex<Vec<Option<Ends>>> = Mutex::new(ends.into_iter().map(Some).collect());
    let count = |name, help| metrics.counter(name, help, &[]);
    let touched = count(
        "perennial_tick_rows_touched_total",
        "Rows of windows, selectors and groups that ticks looked at.",
    );
    let without_past = count(
        "perennial_views_without_past_total",
        "Selectors of views that started without their past, as the store could not be read.",
    );
    let evaluations = count("perennial_view_evaluations_total", "Evaluations of views.");
    let failures = count("perennial_view_evaluation_failures_total", "Evaluations of views that failed.");
    let local_counters = [touched.clone(), without_past];
    let counters = [evaluations, failures, touched];
    let inner = inner.clone();
    let bell = inner.bell.clone();
    let unforeseen = count(
        "perennial_long_window_reads_total",
        "Parts of long windows that a tick read from the store, because nobody had foreseen that they were wanted.",
    );
    let ready = Arc::new(move || bell.work_ready());
    let past = Arc::new(match options.execution {
        Execution::Threads => Pool::named("past", PAST_THREADS),
        Execution::Caller => Pool::of_the_caller(),
    });
    let reads = inner.store_reads.clone();
    let library =
        HistoryLoader::new(store.clone(), past.clone(), ready.clone(), reads.clone(), (spill, unforeseen));
    let asking = StoreQuerySettings {
        options: QueryOptions { lookback, dialect, ..options.queries.clone() },
        memory: options.query_memory.clone(),
        reads,
        pool: past.clone(),
        wake: ready,
    };
    let asker = StoreQuerier::new(store.clone(), asking, metrics);
    let of_workers = inner.clone();
    let build = move |worker: &mut Worker| {
        let inner = &of_workers;
        let (process, processes) = inner.process;
        let place = WorkerTopology { process, processes, thread: worker.index() % threads, threads };
        let (receiver, outlet) = ends.lock()[place.thread].take()?;
        let past = (store.clone(), library.clone());
        let local = LocalExecutor::new(
            place,
            past,
            (lookback, dialect),
            inner.ledger.clone(),
            local_counters.clone(),
        );
        let waiting = inner.waiting.clone();
        let meaning = (dialect, memory.clone());
        let gather = GatherExecutor::new(
            place,
            (store.clone(), asker.clone()),
            waiting,
            meaning,
            inner.ledger.clone(),
            counters.clone(),
        );
        let reports = reports(inner, place.thread);
        let control = dataflow::build(worker, threads, (local, outlet), gather, reports);
        Some((control, receiver))
    };
    if options.execution == Execution::Caller {
        here::begin(&inner, past, build);
        return Ok(None);
    }
    let guards = timely::execute::execute_from(builders, others, WorkerConfig::default(), move |worker| {
        let _fail_stop = FailStop;
        let Some((control, receiver)) = build(worker) else { return };
        work(worker, control, &receiver);
    });
    guards.map(Some)
}

fn reports(inner: &Arc<LiveShared>, index: usize) -> dataflow::WorkerCallbacks {
    let weak = || Arc::downgrade(inner);
    let finished = weak();
    let verdicts = weak();
    let desk = weak();
    dataflow::WorkerCallbacks {
        done: Box::new(move |number, left| {
            let Some(inner) = finished.upgrade() else { return };
            inner.coming.fetch_or(left.coming, SeqCst);
            inner.unfinished.fetch_or(left.at_once, SeqCst);
            inner.finished.lock()[index] = number;
            inner.changed.notify_all();
        }),
        verdict: Box::new(move |verdict| {
            if let Some(inner) = verdicts.upgrade() {
                inner.follow(verdict);
            }
        }),
        described: Rc::new(move |question, part| {
            if let Some(inner) = desk.upgrade() {
                inner.desk.hand_in(question, part);
            }
        }),
    }
}

/// Runs a worker until it is stopped. `control` is there if it feeds the control stream.
fn work(worker: &mut Worker, mut control: Option<ControlInput>, receiver: &Receiver<WorkerCommand>) {
    loop {
        match receiver.try_recv() {
            Ok(WorkerCommand::Go(number, messages)) => {
                let Some(control) = control.as_mut() else { continue };
                tell(control, number, messages);
                worker.step();
            }
            Ok(WorkerCommand::Stop) | Err(TryRecvError::Disconnected) => return,
            // Parked, never spinning: with shared cores, a spinning worker turns a tick of 0.5 ms
            // into 30 ms.
            Err(TryRecvError::Empty) => drop(worker.step_or_park(None)),
        }
    }
}

/// Sends a tick or a preparation, with its messages, to the control stream.
pub(super) fn tell(control: &mut ControlInput, number: u64, messages: Vec<Control>) {
    control.advance_to(time::at(number, 0));
    for message in messages.into_iter() {
        control.send(message);
    }
    control.advance_to(time::at(number + 1, 0));
}

/// Aborts the process if a worker panics: the other workers would wait for it forever. A restart
/// recovers from the log.
struct FailStop;

impl Drop for FailStop {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tracing::error!(
                "a worker of the live runtime panicked; aborting, the log will be replayed at restart"
            );
            std::process::abort();
        }
    }
}
