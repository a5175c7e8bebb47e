//! The part of a scrape that needs a processor, not the network: decompressing, parsing,
//! relabelling, appending, reporting.
//!
//! It runs on threads that may block, so that it delays no requests. A [`ScrapeWork`] moves to such
//! a thread, does a part of the scrape, and returns with the next [`ScrapeStep`]. A turn on a
//! thread ends after some milliseconds, so that a large target delays others by no more than that.
//! Most scrapes need one turn; changing threads costs some microseconds.

use crate::exposition::BodyFormat;
use crate::exposition::protobuf::FamilyError;
use crate::limits;
use crate::native_histogram::HistogramRejected;
use crate::scrape::appender::{HistogramPolicy, IngestError, ScrapeAppender, ScrapeCounts, ScrapeRules};
use crate::scrape::body::Body;
use crate::scrape::config::ScrapeJob;
use crate::scrape::failure_log::{ScrapeFailure, ScrapeFailureLogs};
use crate::scrape::fetch::{FetchError, format};
use crate::scrape::metrics::ScrapeMetrics;
use crate::scrape::series_admission::{SeriesAdmission, SeriesRejected};
use crate::scrape::target::{Target, TargetHealth, TargetState};
use crate::scrape::turn::{Interruption, Turn, TurnState};
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use storage::model::TimeMs;
use storage::spans::Span;
use storage::store::StoreError;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

/// What all scrapes of a target share.
pub struct Context {
    /// The job.
    pub job: Arc<ScrapeJob>,
    /// The target.
    pub target: Target,
    /// The published result of the last scrape, for the API.
    pub state: Arc<Mutex<TargetState>>,
    /// Whether the format must be named by the `Content-Type` or the job.
    pub strict_content_type: bool,
    /// How native histograms are handled.
    pub native: HistogramPolicy,
    /// Whether series get the labels `__type__` and `__unit__`.
    pub type_and_unit: bool,
    /// Counters that all loops share.
    pub metrics: Arc<ScrapeMetrics>,
    /// The logs of failed scrapes.
    pub failure_logs: Arc<ScrapeFailureLogs>,
    /// The memory, in bytes, that one scrape may use while it is read.
    pub most_memory: usize,
    /// Whether the current scrape should stop.
    pub stopped: Arc<AtomicBool>,
}

/// What a scrape needs next.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum ScrapeStep {
    /// More of the body.
    Input,
    /// Another turn.
    Turn,
    /// This many more KiB of memory.
    Memory(u32),
    /// Nothing: the scrape has been reported.
    Done,
    /// Nothing: the scrape was stopped.
    Stopped,
    /// To start from the beginning: the thread panicked, and the work is lost.
    Lost,
}

/// Why a scrape fails.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Fetch(#[from] FetchError),
    #[error(transparent)]
    Ingest(#[from] IngestError),
    #[error("the scrape takes more than {0} bytes of memory before it is complete; see --scrape.max-memory")]
    Memory(usize),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The scrape appender of a target, and its current scrape.
pub struct ScrapeWork {
    context: Arc<Context>,
    /// The scrape appender.
    pub ingest: Box<ScrapeAppender>,
    scrape: Scrape,
    /// The result of the last call.
    pub step: ScrapeStep,
}

/// One scrape.
struct Scrape {
    t: TimeMs,
    start: Instant,
    body: Body,
    content_type: String,
    format: Option<BodyFormat>,
    warning: Option<String>,
    counts: ScrapeCounts,
    /// Bytes of the body, of a scrape that has ended.
    num_bytes: usize,
    memory: Option<OwnedSemaphorePermit>,
}

impl Scrape {
    fn new(t: TimeMs) -> Scrape {
        Scrape {
            t,
            start: Instant::now(),
            body: Body::new(false, 0),
            content_type: String::new(),
            format: None,
            warning: None,
            counts: ScrapeCounts::default(),
            num_bytes: 0,
            memory: None,
        }
    }

    /// The bytes of memory that the scrape may use now.
    fn memory(&self) -> usize {
        let granted = self.memory.as_ref().map_or(0, |permit| permit.num_permits() << 10);
        granted + limits::SCRAPE_FREE_BYTES
    }
}

impl ScrapeWork {
    /// Work without a current scrape.
    pub fn new(context: Arc<Context>, ingest: Box<ScrapeAppender>) -> ScrapeWork {
        ScrapeWork { context, ingest, scrape: Scrape::new(0), step: ScrapeStep::Done }
    }

    /// Begins a scrape whose samples have time `t`; returns its deadline.
    pub fn begin(&mut self, t: TimeMs) -> Instant {
        self.scrape = Scrape::new(t);
        self.deadline()
    }

    fn deadline(&self) -> Instant {
        self.scrape.start + self.context.target.timeout.std()
    }

    /// The response headers have arrived; the body follows.
    pub fn answer(&mut self, content_type: String, gzip: bool) {
        self.scrape.content_type = content_type;
        self.scrape.body = Body::new(gzip, self.context.job.limits.body);
    }

    /// The body of the scrape.
    pub fn body(&mut self) -> &mut Body {
        &mut self.scrape.body
    }

    /// Adds memory that was requested with [`ScrapeStep::Memory`].
    pub fn grant(&mut self, more: OwnedSemaphorePermit) {
        match &mut self.scrape.memory {
            Some(memory) => memory.merge(more),
            None => self.scrape.memory = Some(more),
        }
    }

    /// Processes what has arrived of the body; reports the scrape at the end of the body.
    pub fn advance(&mut self) -> ScrapeStep {
        let turn = Turn::new(self.deadline(), self.context.stopped.clone());
        match self.read(&turn) {
            Ok(ScrapeStep::Done) => self.report(Ok(())),
            Ok(step) => return step,
            // Nothing is reported: the target goes on in another loop, or the server stops. `up` =
            // 0 would be a lie.
            Err(Failure::Ingest(IngestError::Interrupted(Interruption::Stopped))) => {
                self.end();
                return ScrapeStep::Stopped;
            }
            Err(failure) => self.fail_of(failure),
        }
        ScrapeStep::Done
    }

    /// Reports that the scrape has failed for this reason.
    pub fn fail(&mut self, reason: FetchError) -> ScrapeStep {
        self.fail_of(reason.into());
        ScrapeStep::Done
    }

    fn fail_of(&mut self, failure: Failure) {
        self.count_failure(&failure);
        self.report(Err(failure));
    }

    /// Ends the scrape and releases its body and memory.
    fn end(&mut self) {
        self.scrape.num_bytes = self.scrape.body.decoded();
        self.scrape.body = Body::new(false, 0);
        self.scrape.memory = None;
    }

    /// Says in its span how a scrape that has ended went.
    pub fn describe(&self, span: &mut Span) {
        let Scrape { counts, num_bytes, .. } = &self.scrape;
        span.set("samples_scraped", counts.scraped);
        span.set("samples_added", counts.kept);
        span.set("series_added", counts.added);
        span.set("bytes", *num_bytes);
        let state = self.context.state.lock();
        if !state.last_error.is_empty() {
            span.fail(&state.last_error);
        }
    }

    fn read(&mut self, turn: &Turn) -> Result<ScrapeStep, Failure> {
        // The turn was waited for; meanwhile the timeout may have passed.
        turn.check().map_err(IngestError::from)?;
        loop {
            self.scrape.body.decode()?;
            let Some(format) = self.find_format()? else { return Ok(ScrapeStep::Input) };
            let ScrapeWork { context, ingest, scrape, .. } = &mut *self;
            let rules = rules(context);
            let piece = scrape.body.piece(format);
            let last = piece.last;
            let progress =
                ingest.read_piece(piece.bytes, last, format, scrape.t, &rules, &mut scrape.counts, turn)?;
            // Nothing read and not through means that the turn ended before the first line.
            if progress.read > 0 || progress.through {
                scrape.body.consume(progress.read)?;
            }
            // What is read but not stored is held until the end of the body. A target can expose
            // any number of new series, so it has to ask for memory as it goes on.
            let held = ingest.waiting_bytes();
            if held > context.most_memory {
                return Err(Failure::Memory(context.most_memory));
            }
            if held > scrape.memory() {
                let most = context.most_memory.max(limits::SCRAPE_FREE_BYTES) - scrape.memory();
                // At least half as much again, so that a growing scrape does not ask at every
                // piece; at most what one scrape may have, or it would wait for ever for what
                // nobody can give.
                let more = (held - scrape.memory()).max(scrape.memory() / 2).min(most.max(1));
                return Ok(ScrapeStep::Memory(u32::try_from(more.div_ceil(1 << 10)).unwrap_or(u32::MAX)));
            }
            if !progress.through {
                return Ok(ScrapeStep::Turn);
            }
            if last {
                ingest.finish(scrape.t, &rules, &mut scrape.counts, turn)?;
                return Ok(ScrapeStep::Done);
            }
            if scrape.body.is_short() {
                return Ok(ScrapeStep::Input);
            }
            if turn.look().map_err(IngestError::from)? == TurnState::Yield {
                return Ok(ScrapeStep::Turn);
            }
        }
    }

    /// Determines the format of the body, once enough of it has arrived.
    fn find_format(&mut self) -> Result<Option<BodyFormat>, FetchError> {
        let scrape = &mut self.scrape;
        let context = &self.context;
        // Without a `Content-Type` the first line decides, so it must be there.
        let is_there = !scrape.body.text().is_empty() || scrape.body.is_decoded();
        if scrape.format.is_none() && is_there {
            let fallback = context.job.config.keys.fallback_scrape_protocol;
            let strict = context.strict_content_type;
            let (format, warning) = format(&scrape.content_type, scrape.body.text(), fallback, strict)?;
            scrape.format = Some(format);
            scrape.warning = warning;
        }
        Ok(scrape.format)
    }

    fn count_failure(&self, failure: &Failure) {
        let metrics = &self.context.metrics;
        match failure {
            Failure::Fetch(FetchError::BodyLimit) => metrics.exceeded_body_size_limit.inc(),
            Failure::Ingest(IngestError::Refused(SeriesRejected::SampleLimit)) => {
                metrics.exceeded_sample_limit.inc()
            }
            Failure::Ingest(
                IngestError::Refused(SeriesRejected::LabelLimit(_))
                | IngestError::Families(FamilyError::Labels(_)),
            ) => metrics.exceeded_label_limits.inc(),
            Failure::Ingest(IngestError::Histogram(HistogramRejected::TooManyBuckets)) => {
                metrics.exceeded_bucket_limit.inc();
            }
            _ => {}
        }
    }

    /// Appends the scrape, successful or failed, with its reports, and publishes the result.
    fn report(&mut self, outcome: Result<(), Failure>) {
        let duration = self.scrape.start.elapsed().as_secs_f64();
        // The duration is a sample of this scrape, so it is measured before the samples are
        // appended, which it does not contain.
        let stored = outcome.and_then(|()| {
            let reports = self.reports(1.0, duration);
            Ok(self.ingest.commit(self.scrape.t, &reports, &mut self.scrape.counts)?)
        });
        // Also if only the store refused it: then the series are marked stale, and `up` is 0,
        // because for everybody who reads this server the target was not scraped.
        if stored.is_err() {
            let reports = self.reports(0.0, duration);
            if let Err(error) = self.ingest.commit_failure(self.scrape.t, &reports) {
                tracing::error!(
                    target: "scrape", target = %self.context.target.url, %error,
                    "cannot store all of a failed scrape: its series may not end; check the storage"
                );
            }
        }
        self.context.metrics.count(&self.scrape.counts);
        self.warn_of_refused();
        if let Err(failure) = &stored {
            self.log_failure(duration, failure);
        }
        self.publish(duration, stored);
        self.end();
    }

    /// Writes a line to the job's log of failed scrapes.
    fn log_failure(&self, duration: f64, failure: &Failure) {
        let Context { job, target, failure_logs, .. } = &*self.context;
        if job.failure_log.is_empty() {
            return;
        }
        let failure = ScrapeFailure {
            time: self.scrape.t + (duration * 1000.0) as TimeMs,
            job: job.name(),
            target: &target.url.to_string(),
            reason: &failure.to_string(),
        };
        failure_logs.write(&job.failure_log, failure);
    }

    /// Logs refused samples once per scrape, as Prometheus does.
    fn warn_of_refused(&self) {
        let warn = |num_dropped: usize, what: &str| {
            if num_dropped > 0 {
                let url = &self.context.target.url;
                tracing::warn!(target: "scrape", target = %url, num_dropped, "Error on ingesting {what}");
            }
        };
        let counts = &self.scrape.counts;
        warn(counts.too_old, "out-of-order samples");
        warn(counts.duplicates, "samples with different value but same timestamp");
        warn(counts.out_of_bounds, "samples that are too old or are too far into the future");
        warn(counts.late_exemplars, "out-of-order exemplars");
    }

    fn reports(&self, up: f64, duration: f64) -> [f64; 8] {
        let Scrape { counts, body, format, .. } = &self.scrape;
        let sample_limit = self.context.job.config.keys.sample_limit.unwrap_or(0) as f64;
        let timeout = self.context.target.timeout.seconds();
        // -1 as in Prometheus: there was no body to measure.
        let body_size = if format.is_some() { body.decoded() as f64 } else { -1.0 };
        let [scraped, kept, added] = [counts.scraped, counts.kept, counts.added].map(|n| n as f64);
        [up, duration, scraped, kept, added, timeout, sample_limit, body_size]
    }

    fn publish(&mut self, duration: f64, result: Result<(), Failure>) {
        // An empty body is a success and says nothing of metadata.
        let is_good = result.is_ok() && self.scrape.body.decoded() > 0;
        let metadata = self.ingest.metadata(is_good);
        let mut state = self.context.state.lock();
        state.last_scrape = self.scrape.t;
        state.last_duration = duration;
        if let Some(metadata) = metadata {
            state.metadata = metadata;
        }
        match result {
            Ok(()) => {
                state.health = TargetHealth::Up;
                state.last_error = String::new();
                state.warning = self.scrape.warning.take();
            }
            Err(error) => {
                let url = &self.context.target.url;
                tracing::debug!(target: "scrape", target = %url, %error, "a scrape has failed");
                state.health = TargetHealth::Down;
                state.last_error = error.to_string();
                state.warning = None;
            }
        }
    }

    /// The target has vanished: writes stale markers for its series at `t`.
    pub fn vanish(&mut self, t: TimeMs) -> ScrapeStep {
        if let Err(error) = self.ingest.commit_failure(t, &[]) {
            tracing::error!(
                target: "scrape", target = %self.context.target.url, %error,
                "cannot mark the series of a vanished target stale, which queries see for 5 minutes"
            );
        }
        ScrapeStep::Done
    }
}

fn rules(context: &Context) -> ScrapeRules<'_> {
    let keys = &context.job.config.keys;
    let admission = SeriesAdmission {
        target: &context.target.labels,
        honor_labels: keys.honor_labels,
        relabel: &context.job.metric_relabel,
        limits: context.job.limits,
        names: context.job.names,
        type_and_unit: context.type_and_unit,
    };
    ScrapeRules {
        admission,
        honor_timestamps: keys.honor_timestamps,
        track_timestamps: keys.track_timestamps_staleness,
        native: context.native,
    }
}
