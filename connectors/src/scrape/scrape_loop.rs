//! The loop of one target: waits for the next tick of its schedule, scrapes, reports, until it gets
//! another command.
//!
//! Ticks are at `k · interval + offset` of the wall clock. The series of a vanished target get
//! their stale markers at the next tick. If the target only changes loops (reload), the old
//! [`ScrapeLoop`] hands its [`ScrapeAppender`] over and writes no stale markers.

use crate::blocking;
use crate::http_client::HttpClient;
use crate::limits;
use crate::scrape::appender::ScrapeAppender;
use crate::scrape::config::ScrapeJob;
use crate::scrape::fetch::{Answer, FetchError, fetch};
use crate::scrape::manager::ScrapeContext;
use crate::scrape::work::{Context, ScrapeStep, ScrapeWork};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use storage::metrics::MetricSummary;
use storage::model::TimeMs;
use storage::spans::{SpanContext, SpanKind};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tracing::Instrument;

/// What a loop should do.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum LoopCommand {
    /// Scrape.
    Run,
    /// The target has vanished: write stale markers at the next tick and end.
    Vanish,
    /// End at once and hand the appender over.
    HandOver,
}

/// The names of the report series, in the order in which they are written; the last three only if
/// the job enables them.
pub const REPORTS: [&str; 8] = [
    "up",
    "scrape_duration_seconds",
    "scrape_samples_scraped",
    "scrape_samples_post_metric_relabeling",
    "scrape_series_added",
    "scrape_timeout_seconds",
    "scrape_sample_limit",
    "scrape_body_size_bytes",
];

/// The names of the report series of a job.
pub fn report_names(job: &ScrapeJob) -> &'static [&'static str] {
    if job.extra_metrics { &REPORTS } else { &REPORTS[..5] }
}

/// The state of a loop.
pub struct ScrapeLoop {
    /// What all loops share.
    pub shared: Arc<ScrapeContext>,
    /// The HTTP client of the job.
    pub client: HttpClient,
    /// Job and target.
    pub context: Arc<Context>,
    /// Why no target of the pool may be scraped, if so.
    pub refused: Arc<arc_swap::ArcSwapOption<String>>,
    /// The key of the scrape appender.
    pub key: String,
    /// The current work with the scrape appender; `None` while it is on a thread.
    pub work: Option<Box<ScrapeWork>>,
    /// The thread that has the work.
    pub running: Option<JoinHandle<Box<ScrapeWork>>>,
    /// The number of turns on a thread that the current scrape has had.
    pub turns: usize,
    /// The offset of the schedule, ms.
    pub offset: i64,
    /// When the last scrape began; `None`: there was none yet.
    pub last_begin: Option<TimeMs>,
    /// The true intervals between scrapes.
    pub intervals: Arc<MetricSummary>,
}

/// Stops work that is on a thread when the loop ends.
impl Drop for ScrapeLoop {
    fn drop(&mut self) {
        self.context.stopped.store(true, Relaxed);
    }
}

impl ScrapeLoop {
    /// Runs until told to end; returns the appender if it is to be handed over.
    pub async fn run(mut self, mut commands: watch::Receiver<LoopCommand>) -> Option<Box<ScrapeAppender>> {
        let clock = self.shared.clock.clone();
        let mut tick = self.next_tick(clock.now());
        loop {
            // A little early: timers of the runtime fire late by up to a millisecond, never early.
            let wait = tick - clock.now() - limits::WAKE_EARLY_MS;
            let wait = Duration::from_millis(wait.max(0) as u64);
            tokio::select! {
                biased;
                command = hand_over(&mut commands) => return self.leave(command).await,
                _ = tokio::time::sleep(wait) => {}
            }
            let url = &self.context.target.url;
            let span = tracing::debug_span!(target: "scrape", "scrape", %url);
            let command = *commands.borrow();
            // At the tick and not when the target disappears: a marker between two scrapes would
            // leave a gap if the target comes back before its next one.
            if command == LoopCommand::Vanish {
                self.on_thread(move |work| work.vanish(tick)).await;
                return None;
            }
            tokio::select! {
                biased;
                // A reload does not wait for a scrape that hangs until its timeout.
                command = hand_over(&mut commands) => return self.leave(command).await,
                _ = self.scrape(tick).instrument(span) => {}
            }
            let now = clock.now();
            let interval = self.context.target.interval.0;
            // A scrape that took its whole interval must not make the loop skip the next tick.
            tick = if (now - tick).abs() < 2 * interval { tick + interval } else { self.next_tick(now) };
        }
    }

    /// Ends the loop. Work on a thread ends the next time it checks its turn.
    async fn leave(mut self, hands_over: bool) -> Option<Box<ScrapeAppender>> {
        self.context.stopped.store(true, Relaxed);
        if let Some(running) = self.running.take() {
            self.work = running.await.ok();
        }
        let mut work = self.work.take().filter(|_| hands_over)?;
        work.ingest.discard();
        Some(work.ingest)
    }

    /// Runs `run` on a thread and returns the next step. A scrape that has used its first turns
    /// competes with other long scrapes for late turns.
    async fn on_thread(
        &mut self,
        run: impl FnOnce(&mut ScrapeWork) -> ScrapeStep + Send + 'static,
    ) -> ScrapeStep {
        let shared = self.shared.clone();
        // Short scrapes have threads of their own. A target with a million series shares the others
        // with its like, at a low priority, and delays nobody's `up`.
        let is_late = self.turns >= limits::SCRAPE_FIRST_TURNS;
        self.turns += 1;
        let turns = if is_late { &shared.late_turns } else { &shared.turns };
        // As many turns at once as there are cores: more would only make each of them slower, and
        // use more memory.
        let turn = turns.clone().acquire_owned().await;
        // The work moves to the thread. If this future is dropped meanwhile, the thread finishes
        // its turn and finds that it was stopped.
        let mut work = self.work.take().unwrap_or_else(|| self.new_work());
        let execution = shared.options.execution;
        let run = move || {
            work.step = run(&mut work);
            drop(turn);
            work
        };
        let running = if is_late { shared.late.run(run) } else { blocking::run(execution, run) };
        let running = self.running.insert(running);
        let ran = running.await;
        self.running = None;
        match ran {
            Ok(work) => {
                let step = work.step;
                self.work = Some(work);
                step
            }
            Err(panic) => {
                tracing::error!(
                    target: "scrape", target = %self.context.target.url, %panic,
                    "a scrape has panicked, and its series begin anew; report this as a bug"
                );
                ScrapeStep::Lost
            }
        }
    }

    /// New work with an empty appender.
    fn new_work(&self) -> Box<ScrapeWork> {
        let names = report_names(&self.context.job);
        let store = self.shared.store.clone();
        let ingest = ScrapeAppender::new(store, self.key.clone(), &self.context.target.labels, names);
        Box::new(ScrapeWork::new(self.context.clone(), Box::new(ingest)))
    }

    /// The first tick after `now`.
    fn next_tick(&self, now: TimeMs) -> TimeMs {
        let interval = self.context.target.interval.0;
        now + interval - (now - self.offset).rem_euclid(interval)
    }

    async fn scrape(&mut self, tick: TimeMs) {
        let mut span = self.shared.options.tracer.start("scrape", SpanKind::Internal, None);
        self.scrape_in(span.context(), tick).await;
        if let Some(work) = self.work.as_ref().filter(|_| span.is_sampled()) {
            work.describe(&mut span);
        }
    }

    async fn scrape_in(&mut self, span: Option<SpanContext>, tick: TimeMs) {
        let now = self.shared.clock.now();
        if let Some(last) = self.last_begin.replace(now) {
            self.intervals.observe((now - last) as f64 / 1_000.0);
        }
        let tolerance = self.shared.options.tolerance_ms().min(self.context.target.interval.0 / 100);
        // As in Prometheus: samples exactly an interval apart compress to almost nothing. A scrape
        // that is really late keeps its true time.
        let t = if (now - tick).abs() <= tolerance { tick } else { now };
        let mut work = self.work.take().unwrap_or_else(|| self.new_work());
        let deadline = work.begin(t);
        self.turns = 0;
        self.work = Some(work);
        let fetched = match self.refused.load_full() {
            Some(reason) => Err(FetchError::Refused(reason.to_string())),
            None => self.fetch(deadline, span).await,
        };
        let failure = match fetched {
            Err(failure) => failure,
            // A panic in one target's data must not end the loop: the target would be unmonitored
            // until a restart.
            Ok(ScrapeStep::Lost) => {
                let mut work = self.new_work();
                work.begin(t);
                self.work = Some(work);
                FetchError::Internal
            }
            Ok(_) => return,
        };
        self.on_thread(move |work| work.fail(failure)).await;
    }

    /// Fetches and reads the body; the caller reports an error.
    async fn fetch(
        &mut self,
        deadline: Instant,
        parent: Option<SpanContext>,
    ) -> Result<ScrapeStep, FetchError> {
        let context = self.context.clone();
        let mut span = self.shared.options.tracer.start("scrapeRequest", SpanKind::Client, parent);
        if span.is_sampled() {
            span.set("url", context.target.url.to_string().as_str());
        }
        let answer = fetch(&self.client, &context.target, &context.job, deadline, span.context()).await;
        if let Err(error) = &answer {
            span.fail(error);
        }
        drop(span);
        let mut answer = answer?;
        if let Some(work) = &mut self.work {
            work.answer(std::mem::take(&mut answer.content_type), answer.gzip);
        }
        loop {
            self.receive(&mut answer, deadline).await?;
            loop {
                match self.on_thread(ScrapeWork::advance).await {
                    ScrapeStep::Input => break,
                    ScrapeStep::Turn => {}
                    ScrapeStep::Memory(more) => self.reserve(more, deadline).await?,
                    step @ (ScrapeStep::Done | ScrapeStep::Stopped | ScrapeStep::Lost) => return Ok(step),
                }
            }
        }
    }

    /// Receives as much of the body as one turn processes, or the rest of it.
    async fn receive(&mut self, answer: &mut Answer, deadline: Instant) -> Result<(), FetchError> {
        let Some(work) = &mut self.work else { return Ok(()) };
        let body = work.body();
        // Not the whole body at once: as much as one turn reads, so that a large body is in memory
        // only in pieces.
        let enough = body.waiting() + limits::SCRAPE_RECEIVE_BYTES;
        while body.waiting() < enough {
            match answer.chunk(deadline).await? {
                Some(chunk) => body.push(&chunk)?,
                None => {
                    body.end();
                    break;
                }
            }
        }
        Ok(())
    }

    /// Waits for `kib` KiB of memory.
    async fn reserve(&mut self, kib: u32, deadline: Instant) -> Result<(), FetchError> {
        // Waiting for memory counts towards the timeout: a scrape that does not get any fails
        // alone, instead of all of them together with the process.
        let memory = self.shared.memory.clone().acquire_many_owned(kib);
        let Ok(Ok(granted)) = tokio::time::timeout_at(deadline, memory).await else {
            return Err(FetchError::NoMemory);
        };
        if let Some(work) = &mut self.work {
            work.grant(granted);
        }
        Ok(())
    }
}

/// Resolves when the appender is to be handed over (`true`), or when the sender of commands is gone
/// (`false`). A target that vanishes together with its pool still gets its stale markers.
async fn hand_over(commands: &mut watch::Receiver<LoopCommand>) -> bool {
    if commands.wait_for(|command| *command == LoopCommand::HandOver).await.is_ok() {
        return true;
    }
    // The pool is gone with its job, and this target is to be marked stale at its tick: never
    // resolves, so that the loop gets there.
    if *commands.borrow() == LoopCommand::Vanish {
        std::future::pending::<()>().await;
    }
    false
}
