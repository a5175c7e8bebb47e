//! One target's life: wait for the next tick of its schedule, scrape, report; until told otherwise.
//!
//! Ticks are `k · interval + offset` of the wall clock. A target that vanishes gets its stale markers at the tick
//! it misses; one that only changes hands (reload) hands its [`Ingest`] over and gets none.

use crate::histogram::BadHistogram;
use crate::http_client::HttpClient;
use crate::limits;
use crate::scrape::admit::{Admission, Refusal};
use crate::scrape::config::Job;
use crate::scrape::fetch::{FetchError, fetch, format};
use crate::scrape::ingest::{Counts, Ingest, IngestError, NativeRules, Rules};
use crate::scrape::metrics::ScrapeMetrics;
use crate::scrape::target::{Health, Target, TargetState};
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::{Duration, Instant};
use storage::clock::Clock;
use storage::model::TimeMs;
use tokio::sync::watch;

/// What a loop is to do.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Scrape.
    Run,
    /// The target is gone: mark its series stale at the next tick and end.
    Vanish,
    /// End at once and hand over the ingest.
    HandOver,
}

/// Names of the reports, in the order in which they are written; the last three only if the job asks for them.
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

/// The names of the reports of a job.
pub fn report_names(job: &Job) -> &'static [&'static str] {
    if job.extra_metrics { &REPORTS } else { &REPORTS[..5] }
}

/// Everything a loop works with.
pub struct ScrapeLoop {
    /// The job.
    pub job: Arc<Job>,
    /// The job's client.
    pub client: HttpClient,
    /// The target.
    pub target: Target,
    /// Where the API reads how it goes.
    pub state: Arc<Mutex<TargetState>>,
    /// Why no target of the pool may be scraped, if so.
    pub refused: Arc<arc_swap::ArcSwapOption<String>>,
    /// The way into the store.
    pub ingest: Box<Ingest>,
    /// The wall clock.
    pub clock: Arc<dyn Clock>,
    /// Offset of the schedule, ms.
    pub offset: i64,
    /// Whether only named formats count.
    pub strict_content_type: bool,
    /// What is done with native histograms.
    pub native: NativeRules,
    /// Counters of all loops.
    pub metrics: Arc<ScrapeMetrics>,
    /// Size of the last body, bytes.
    pub last_body: usize,
}

impl ScrapeLoop {
    /// Runs until told to end; gives the ingest back if it is to be handed over.
    pub async fn run(mut self, mut commands: watch::Receiver<Command>) -> Option<Box<Ingest>> {
        let mut tick = self.next_tick(self.clock.now());
        loop {
            let wait = tick - self.clock.now() - limits::WAKE_EARLY_MS;
            let wait = Duration::from_millis(wait.max(0) as u64);
            tokio::select! {
                biased;
                command = hand_over(&mut commands) => return command.then_some(self.ingest),
                _ = tokio::time::sleep(wait) => {}
            }
            let command = *commands.borrow();
            if command == Command::Vanish {
                self.vanish(tick);
                return None;
            }
            tokio::select! {
                biased;
                command = hand_over(&mut commands) => return command.then_some(self.ingest),
                _ = self.scrape(tick) => {}
            }
            let now = self.clock.now();
            // A scrape that took all its interval does not cost the next one.
            tick = if (now - tick).abs() < 2 * self.target.interval.0 {
                tick + self.target.interval.0
            } else {
                self.next_tick(now)
            };
        }
    }

    /// The first tick after `now`.
    fn next_tick(&self, now: TimeMs) -> TimeMs {
        let interval = self.target.interval.0;
        now + interval - (now - self.offset).rem_euclid(interval)
    }

    fn vanish(&mut self, tick: TimeMs) {
        if let Err(error) = self.ingest.commit_failure(tick, &[]) {
            tracing::error!(target = %self.target.url, %error, "cannot mark the series of a vanished target stale");
        }
    }

    async fn scrape(&mut self, tick: TimeMs) {
        let now = self.clock.now();
        let tolerance = limits::TIMESTAMP_TOLERANCE_MS.min(self.target.interval.0 / 100);
        let t = if (now - tick).abs() <= tolerance { tick } else { now };
        let start = Instant::now();
        let fetched = match self.refused.load_full() {
            Some(reason) => Err(FetchError::Failed(reason.to_string())),
            None => fetch(&self.client, &self.target, &self.job, self.last_body).await,
        };
        let mut counts = Counts::default();
        let mut body_size = -1.0;
        let outcome = fetched.map_err(|e| self.metrics.fetch_failed(e)).and_then(|fetched| {
            body_size = fetched.body.len() as f64;
            self.last_body = fetched.body.len();
            self.read(&fetched, t, &mut counts)
        });
        let duration = start.elapsed().as_secs_f64();
        let result = self.report(t, duration, body_size, outcome, &mut counts);
        self.publish(t, duration, result);
    }

    /// Reads a body into the ingest; a warning if its format had to be guessed.
    fn read(
        &mut self,
        fetched: &super::fetch::Fetched,
        t: TimeMs,
        counts: &mut Counts,
    ) -> Result<Option<String>, String> {
        let keys = &self.job.config.keys;
        let (format, warning) = format(fetched, keys.fallback_scrape_protocol, self.strict_content_type)
            .map_err(|e| e.to_string())?;
        let admission = Admission {
            target: &self.target.labels,
            honor_labels: keys.honor_labels,
            relabel: &self.job.metric_relabel,
            limits: self.job.limits,
        };
        let rules = Rules {
            admission,
            honor_timestamps: keys.honor_timestamps,
            track_timestamps: keys.track_timestamps_staleness,
            native: self.native,
        };
        let read = self.ingest.read(&fetched.body, format, t, &rules, counts);
        read.map_err(|e| {
            match &e {
                IngestError::Refused(Refusal::SampleLimit) => self.metrics.exceeded_sample_limit.inc(),
                IngestError::Refused(Refusal::LabelLimit(_)) => self.metrics.exceeded_label_limits.inc(),
                IngestError::Histogram(BadHistogram::TooManyBuckets) => {
                    self.metrics.exceeded_bucket_limit.inc();
                }
                _ => {}
            }
            e.to_string()
        })?;
        if let Some(metadata) = self.ingest.metadata(&fetched.body, format) {
            self.state.lock().metadata = metadata;
        }
        Ok(warning)
    }

    /// Appends the scrape, good or bad, with its reports.
    fn report(
        &mut self,
        t: TimeMs,
        duration: f64,
        body_size: f64,
        outcome: Result<Option<String>, String>,
        counts: &mut Counts,
    ) -> Result<Option<String>, String> {
        let up = if outcome.is_ok() { 1.0 } else { 0.0 };
        let sample_limit = self.job.config.keys.sample_limit.unwrap_or(0) as f64;
        let timeout = self.target.timeout.seconds();
        let (scraped, kept, added) = (counts.scraped as f64, counts.kept as f64, counts.added as f64);
        let reports = [up, duration, scraped, kept, added, timeout, sample_limit, body_size];
        let stored = match outcome {
            Ok(_) => self.ingest.commit(t, &reports, counts),
            Err(_) => self.ingest.commit_failure(t, &reports),
        };
        self.metrics.count(counts);
        self.warn_of_refused(counts);
        stored.map_err(|e| e.to_string()).and(outcome)
    }

    /// Once a scrape, as Prometheus does.
    fn warn_of_refused(&self, counts: &Counts) {
        let warn = |num_dropped: usize, what: &str| {
            if num_dropped > 0 {
                tracing::warn!(target = %self.target.url, num_dropped, "Error on ingesting {what}");
            }
        };
        warn(counts.too_old, "out-of-order samples");
        warn(counts.duplicates, "samples with different value but same timestamp");
        warn(counts.out_of_bounds, "samples that are too old or are too far into the future");
    }

    fn publish(&self, t: TimeMs, duration: f64, result: Result<Option<String>, String>) {
        let mut state = self.state.lock();
        state.last_scrape = t;
        state.last_duration = duration;
        match result {
            Ok(warning) => {
                state.health = Health::Up;
                state.last_error = String::new();
                state.warning = warning;
            }
            Err(error) => {
                tracing::debug!(target = %self.target.url, %error, "scrape failed");
                state.health = Health::Down;
                state.last_error = error;
                state.warning = None;
            }
        }
    }
}

/// Resolves when the ingest is to be handed over (`true`), or when nobody commands any more (`false`). A target that
/// vanishes together with its pool still gets its markers.
async fn hand_over(commands: &mut watch::Receiver<Command>) -> bool {
    if commands.wait_for(|command| *command == Command::HandOver).await.is_ok() {
        return true;
    }
    if *commands.borrow() == Command::Vanish {
        std::future::pending::<()>().await;
    }
    false
}
