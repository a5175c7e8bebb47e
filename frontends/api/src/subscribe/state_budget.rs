//! Limits the memory that views of subscriptions may hold, each and together. The query of a view
//! that would hold more is evaluated again and again instead.
//!
//! Before a view is installed, its final size is estimated: series times samples in a full window.
//! The present size says little, because a server that has just started holds little of a window of
//! a month. The number of samples in a window follows from the last minutes, or, before there are
//! enough, from the scrape intervals. Installed views are measured ([`super::shared_views`]).

use super::super::AppState;
use super::super::limits::{
    STATE_ESTIMATE_TIME, SUBSCRIBED_SERIES_BYTES, SUBSCRIBED_STATE_BYTES, SUBSCRIBED_VIEW_BYTES,
};
use engine::plan::{Dialect, Plan, PlanNode, PlanOp};
use engine::query::{QueryError, QueryOptions, QueryValue};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use storage::model::Matcher;
use storage::model::time::parse_duration;

/// The stretch of time that is looked at for an estimate, ms: the longest usual time between two
/// samples.
const LOOKED_AT_MS: i64 = 300_000;
/// The shortest such stretch, after a start, ms.
const LOOKED_AT_LEAST_MS: i64 = 1_000;
/// So many samples of a series say how far they lie apart, also in a stretch that is too short.
const TELLING_SAMPLES: f64 = 3.0;
/// Bytes of a sample in a window.
const SAMPLE_BYTES: f64 = 8.0;

/// The bytes that all views of subscriptions hold together.
#[derive(Debug, Default)]
pub struct StateBudget {
    used: AtomicUsize,
}

/// Why a view does not stand; the text is for the client.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StateRefusal {
    /// It alone would hold too much.
    #[error(
        "to keep it current would take about {} MiB, more than {} MiB: it is evaluated again and again instead; \
         ask for fewer series or a shorter window, or record it with a rule",
        mebibytes(*.0), mebibytes(SUBSCRIBED_VIEW_BYTES)
    )]
    View(usize),
    /// All together would hold too much.
    #[error(
        "what is kept current for subscriptions takes {} MiB already, and this would take about {} more, together \
         more than {}: it is evaluated again and again instead",
        mebibytes(*.used), mebibytes(*.bytes), mebibytes(SUBSCRIBED_STATE_BYTES)
    )]
    Together {
        /// What the others hold.
        used: usize,
        /// What this would hold.
        bytes: usize,
    },
    /// It cannot be said in short time what it would hold.
    #[error(
        "it reads so much that its size cannot be told in {STATE_ESTIMATE_TIME:?}: it is evaluated again and again instead"
    )]
    Unknown,
}

fn mebibytes(bytes: usize) -> usize {
    bytes.div_ceil(1 << 20)
}

impl StateBudget {
    /// Takes the bytes of a view.
    pub fn take(&self, bytes: usize) -> Result<(), StateRefusal> {
        if bytes > SUBSCRIBED_VIEW_BYTES {
            return Err(StateRefusal::View(bytes));
        }
        let fits = |used: usize| Some(used + bytes).filter(|sum| *sum <= SUBSCRIBED_STATE_BYTES);
        let taken = self.used.fetch_update(SeqCst, SeqCst, fits);
        taken.map(drop).map_err(|used| StateRefusal::Together { used, bytes })
    }

    /// Gives back the bytes of a view.
    pub fn release(&self, bytes: usize) {
        self.used.fetch_sub(bytes, SeqCst);
    }

    /// A view that took `before` bytes holds `now`. Returns why it may not stand any longer.
    pub fn measured(&self, before: usize, now: usize) -> Option<StateRefusal> {
        // Both in one step, so that nobody sees the sum without this view.
        let sum = self.used.fetch_update(SeqCst, SeqCst, |used| Some(used - before + now)).unwrap_or(0);
        let others = sum - before;
        if now > SUBSCRIBED_VIEW_BYTES {
            return Some(StateRefusal::View(now));
        }
        (others + now > SUBSCRIBED_STATE_BYTES).then_some(StateRefusal::Together { used: others, bytes: now })
    }
}

/// How far back each selector of a plan reads, by its matchers, ms.
fn reaches(node: &PlanNode, lookback: i64, found: &mut BTreeMap<String, i64>) {
    let mut add = |matchers: &[Matcher], reach: i64| {
        let texts: Vec<String> = matchers.iter().map(ToString::to_string).collect();
        let known = found.entry(format!("{{{}}}", texts.join(","))).or_default();
        *known = reach.max(*known);
    };
    match &node.op {
        PlanOp::Instant(selector) => add(&selector.matchers, lookback + selector.offset.max(0)),
        PlanOp::Range { selector, range } => add(&selector.matchers, range + selector.offset.max(0)),
        _ => {
            for input in node.inputs() {
                reaches(input, lookback, found);
            }
        }
    }
}

/// What a selector has in the stretch that is looked at.
struct SeenSamples {
    series: f64,
    samples: f64,
    /// How long the stretch is, ms.
    stretch: f64,
}

impl SeenSamples {
    /// The time between two samples of a series, ms. `usual`: that of the server's targets.
    fn interval(&self, usual: Option<f64>) -> f64 {
        let each = (self.samples / self.series).max(1.0);
        let seen = self.stretch / each;
        if each >= TELLING_SAMPLES || self.stretch >= LOOKED_AT_MS as f64 {
            return seen;
        }
        usual.unwrap_or(seen)
    }

    /// The bytes of windows of `reach` ms when they are full.
    fn bytes(&self, reach: i64, usual: Option<f64>) -> f64 {
        if self.series < 1.0 {
            return 0.0;
        }
        let samples = (reach as f64 / self.interval(usual)).max(1.0);
        self.series * (SUBSCRIBED_SERIES_BYTES as f64 + samples * SAMPLE_BYTES)
    }
}

/// About how many bytes a view of `plan` will hold when its windows are full. Blocks.
pub fn estimate(state: &AppState, plan: &Plan) -> Result<usize, StateRefusal> {
    let lookback = state.settings.queries.lookback;
    let mut found = BTreeMap::new();
    reaches(plan, lookback, &mut found);
    let stretch = looked_at(state);
    let usual = scrape_interval(state);
    let mut bytes = 0.0;
    for (selector, reach) in found {
        let window = format!("{selector}[{stretch}ms]");
        let series = number(state, &format!("count(present_over_time({window}))"))?;
        let samples = number(state, &format!("sum(count_over_time({window}))"))?;
        let seen = SeenSamples { series, samples, stretch: stretch as f64 };
        bytes += seen.bytes(reach, usual);
    }
    Ok(bytes as usize)
}

/// The stretch of time that is looked at, ms: no longer than this server runs, because before it
/// there may be a gap.
fn looked_at(state: &AppState) -> i64 {
    let started = state.sources.admin.runtime().start_time;
    let runs = started.map_or(LOOKED_AT_MS, |start| state.sources.clock.now().saturating_sub(start));
    runs.clamp(LOOKED_AT_LEAST_MS, LOOKED_AT_MS)
}

/// The time between two scrapes of a target, ms, as a mean of the targets: so many scrapes come;
/// `None`: there are no targets.
fn scrape_interval(state: &AppState) -> Option<f64> {
    let targets = state.sources.targets.active();
    let intervals = targets.iter().filter_map(|target| parse_duration(&target.scrape_interval).ok());
    let rates: Vec<f64> = intervals.filter(|ms| *ms > 0).map(|ms| 1.0 / ms as f64).collect();
    (!rates.is_empty()).then(|| rates.len() as f64 / rates.iter().sum::<f64>())
}

/// The only row of a query; 0: there is none.
fn number(state: &AppState, text: &str) -> Result<f64, StateRefusal> {
    let Ok(plan) = state.sources.queries.language.compile(text, None) else { return Ok(0.0) };
    let settings = &state.settings;
    let options = QueryOptions {
        lookback: settings.queries.lookback,
        max_samples: settings.queries.max_samples,
        max_bytes: settings.queries.max_bytes,
        // Series of different names may be equal without them: they are counted before the names
        // go.
        dialect: Dialect { delayed_names: true, ..settings.queries.dialect },
        timeout: settings.queries.timeout.min(STATE_ESTIMATE_TIME),
        ..QueryOptions::default()
    };
    match state
        .sources
        .queries
        .answers
        .instant(&plan, state.sources.clock.now(), &options)
        .map(|answer| answer.value)
    {
        Ok(QueryValue::Vector(rows)) => Ok(rows.first().map_or(0.0, |row| row.v)),
        Ok(_) => Ok(0.0),
        Err(QueryError::Timeout(_) | QueryError::LimitReached(_)) => Err(StateRefusal::Unknown),
        // What is wrong with the store, the installation will say.
        Err(_) => Ok(0.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_and_all_together_are_bounded() {
        let budget = StateBudget::default();
        assert_eq!(
            budget.take(SUBSCRIBED_VIEW_BYTES + 1),
            Err(StateRefusal::View(SUBSCRIBED_VIEW_BYTES + 1))
        );
        let views = SUBSCRIBED_STATE_BYTES / SUBSCRIBED_VIEW_BYTES;
        for _ in 0..views {
            assert_eq!(budget.take(SUBSCRIBED_VIEW_BYTES), Ok(()));
        }
        let full = StateRefusal::Together { used: SUBSCRIBED_STATE_BYTES, bytes: 1 };
        assert_eq!(budget.take(1), Err(full));
        budget.release(SUBSCRIBED_VIEW_BYTES);
        assert_eq!(budget.take(1), Ok(()));
        assert_eq!(budget.measured(1, 1_000), None);
        assert_eq!(
            budget.measured(1_000, SUBSCRIBED_VIEW_BYTES + 1),
            Some(StateRefusal::View(SUBSCRIBED_VIEW_BYTES + 1))
        );
    }

    #[test]
    fn windows_count_as_full_whatever_they_hold_now() {
        let month = 30 * 86_400_000;
        let full = 1000.0 * (SUBSCRIBED_SERIES_BYTES as f64 + 172_800.0 * SAMPLE_BYTES);
        let seen = |samples, stretch| SeenSamples { series: 1000.0, samples, stretch };
        // A server that has just started, one that runs for a minute, and one that runs for long.
        for (samples, stretch) in [(1000.0, 1000.0), (4000.0, 60_000.0), (20_000.0, 300_000.0)] {
            assert_eq!(seen(samples, stretch).bytes(month, Some(15_000.0)), full, "{samples}");
        }
        // Samples that are rare, and samples that nobody scrapes.
        assert_eq!(seen(1000.0, 300_000.0).interval(Some(15_000.0)), 300_000.0);
        assert_eq!(seen(1000.0, 5_000.0).interval(None), 5_000.0);
        assert_eq!(SeenSamples { series: 0.0, samples: 0.0, stretch: 1000.0 }.bytes(month, None), 0.0);
        // A window that is shorter than the time between two samples holds one.
        assert_eq!(
            seen(20_000.0, 300_000.0).bytes(1, None),
            1000.0 * (SUBSCRIBED_SERIES_BYTES as f64 + SAMPLE_BYTES)
        );
    }

    #[test]
    fn reaches_are_those_of_all_selectors() {
        let plan = promql::compile(
            "rate(x{a=\"b\"}[1h] offset 1h) + x{a=\"b\"} + on () count(last_over_time({__name__=~\".+\"}[30d]))",
            &promql::PromqlOptions::default(),
        );
        let mut found = BTreeMap::new();
        reaches(&plan.expect("a plan"), 300_000, &mut found);
        let reaches: Vec<(&str, i64)> = found.iter().map(|(text, reach)| (text.as_str(), *reach)).collect();
        assert_eq!(reaches.len(), 2, "{reaches:?}");
        assert!(
            reaches.iter().any(|(text, reach)| text.contains(".+") && *reach == 30 * 86_400_000),
            "{reaches:?}"
        );
        assert!(
            reaches.iter().any(|(text, reach)| text.contains("a=") && *reach == 7_200_000),
            "{reaches:?}"
        );
    }
}
