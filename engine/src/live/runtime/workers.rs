//! The worker threads of the live runtime: each builds its part of the dataflow
//! ([`crate::live::dataflow`]), receives ticks and preparations (work between ticks) from the
//! handle, and reports when it has finished them.

use super::super::dataflow::{self, ControlInput, WorkerComponents};
use super::super::gather::{GatherCounters, GatherExecutor, GatherServices};
use super::super::links::TimelyBuilders;
use super::super::local::{HistoryLoader, LocalCounters, LocalExecutor, LocalServices};
use super::super::sample_queue::SampleReceiver;
use super::super::store_query::{StoreQuerier, StoreQuerySettings};
use super::super::topology::WorkerTopology;
use super::super::{LiveOptions, StartError, time};
use super::{ClusterPosition, Control, LiveShared, WorkerCommand, threadless_worker};
use crate::limits::HISTORY_THREADS;
use crate::query::QueryOptions;
use crate::query::pool::Pool;
use parking_lot::Mutex;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError};
use storage::execution::Execution;
use storage::metrics::Metrics;
use storage::store::Store;
use timely::WorkerConfig;
use timely::communication::WorkerGuards;
use timely::worker::Worker;

/// A worker's inputs.
pub(super) struct WorkerInputs {
    pub commands: Receiver<WorkerCommand>,
    pub samples: SampleReceiver,
}

/// What drives a built worker.
pub(super) struct WorkerEnds {
    /// The control stream, if this worker feeds it.
    pub control: Option<ControlInput>,
    pub commands: Receiver<WorkerCommand>,
}

/// Starts the workers of this process. `None`: the only worker runs on the calling thread.
pub(super) fn start_workers(
    shared: &Arc<LiveShared>,
    timely: TimelyBuilders,
    inputs: Vec<WorkerInputs>,
    store: Arc<Store>,
    options: &LiveOptions,
    metrics: &Metrics,
) -> Result<Option<WorkerGuards<()>>, StartError> {
    let (builders, others) = timely;
    let LiveOptions { lookback_ms: lookback, dialect, spill, memory, .. } = options.clone();
    let threads = inputs.len();
    let inputs: Mutex<Vec<Option<WorkerInputs>>> = Mutex::new(inputs.into_iter().map(Some).collect());
    let count = |name, help| metrics.counter(name, help, &[]);
    let rows_touched = count(
        "perennial_tick_rows_touched_total",
        "Rows of windows, selectors and groups that ticks looked at.",
    );
    let without_history = count(
        "perennial_views_without_past_total",
        "Selectors of views that started without their history because the store could not be read.",
    );
    let evaluations = count("perennial_view_evaluations_total", "Evaluations of views.");
    let failures = count("perennial_view_evaluation_failures_total", "Evaluations of views that failed.");
    let reads_in_tick = count(
        "perennial_long_window_reads_total",
        "Chunks of long windows that a tick read from the store itself, because they had not been requested before.",
    );
    let signal = shared.ticks.signal();
    let wake = Arc::new(move || signal.work_ready());
    let pool = Arc::new(match options.execution {
        Execution::Threads => Pool::named("past", HISTORY_THREADS),
        Execution::Caller => Pool::on_calling_thread(),
    });
    let reads = shared.store_reads.clone();
    let history =
        HistoryLoader::new(store.clone(), pool.clone(), wake.clone(), reads.clone(), spill, reads_in_tick);
    let query_settings = StoreQuerySettings {
        options: QueryOptions { lookback, dialect, ..options.queries.clone() },
        memory: options.query_memory.clone(),
        reads,
        pool: pool.clone(),
        wake,
    };
    let local = LocalServices {
        store: store.clone(),
        history,
        lookback,
        dialect,
        ledger: shared.ledger.clone(),
        counters: LocalCounters { rows_touched: rows_touched.clone(), without_history },
    };
    let gather = GatherServices {
        querier: StoreQuerier::new(store.clone(), query_settings, metrics),
        store,
        pending_sinks: shared.views.pending_sinks(),
        dialect,
        memory,
        ledger: shared.ledger.clone(),
        counters: GatherCounters { evaluations, failures, rows_touched },
    };
    let build_shared = shared.clone();
    let build = move |worker: &mut Worker| {
        let ClusterPosition { process, processes } = build_shared.position;
        let thread = worker.index() % threads;
        let topology = WorkerTopology { process, processes, thread, threads };
        // Timely calls `build` once per worker, on the worker's own thread, in any order.
        let inputs = inputs.lock()[thread].take()?;
        let components = WorkerComponents {
            local: LocalExecutor::new(topology, local.clone()),
            samples: inputs.samples,
            gather: GatherExecutor::new(topology, gather.clone()),
            callbacks: callbacks(&build_shared, thread),
        };
        let control = dataflow::build(worker, threads, components);
        Some(WorkerEnds { control, commands: inputs.commands })
    };
    if options.execution == Execution::Caller {
        threadless_worker::begin(shared, pool, build);
        return Ok(None);
    }
    let guards = timely::execute::execute_from(builders, others, WorkerConfig::default(), move |worker| {
        // Before anything else, so that a panic while the dataflow is built ends the process, too.
        let _fail_stop = FailStop;
        let Some(ends) = build(worker) else { return };
        work(worker, ends);
    });
    guards.map(Some).map_err(StartError::Workers)
}

fn callbacks(shared: &Arc<LiveShared>, thread: usize) -> dataflow::WorkerCallbacks {
    // Weak, because the handle owns the threads that own these callbacks.
    let weak = || Arc::downgrade(shared);
    let of_done = weak();
    let of_decided = weak();
    let of_described = weak();
    dataflow::WorkerCallbacks {
        done: Box::new(move |number, remaining| {
            if let Some(shared) = of_done.upgrade() {
                shared.barrier.worker_done(thread, number, remaining);
            }
        }),
        decided: Box::new(move |vote| {
            if let Some(shared) = of_decided.upgrade() {
                shared.act_on(vote);
            }
        }),
        described: Rc::new(move |request, report| {
            if let Some(shared) = of_described.upgrade() {
                shared.descriptions.submit(request, report);
            }
        }),
    }
}

/// Runs a worker until it is stopped.
fn work(worker: &mut Worker, mut ends: WorkerEnds) {
    loop {
        match ends.commands.try_recv() {
            Ok(WorkerCommand::Run(number, messages)) => {
                // Only worker 0 has the input; the others never get this command.
                let Some(control) = ends.control.as_mut() else { continue };
                send_control(control, number, messages);
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
pub(super) fn send_control(control: &mut ControlInput, number: u64, messages: Vec<Control>) {
    control.advance_to(time::timestamp(number, 0));
    for message in messages {
        control.send(message);
    }
    // Advancing past the tick is what lets the workers begin it: the frontier then says that all of
    // its messages are there.
    control.advance_to(time::timestamp(number + 1, 0));
}

/// Aborts the process if a worker panics: the other workers would wait for it forever. A restart
/// recovers from the log.
struct FailStop;

impl Drop for FailStop {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tracing::error!(
                target: "live",
                "a worker of the live runtime has panicked: the process aborts; start it again, \
                 it replays the write-ahead log, and report the panic"
            );
            std::process::abort();
        }
    }
}
