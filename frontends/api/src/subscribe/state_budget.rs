//! What the views of subscriptions may hold in memory, each and together. A view that would hold more does
//! not stand: it is evaluated again and again instead.
//!
//! Before a view is installed its size is estimated from the samples that its selectors have now: windows that
//! reach far back read all of their samples first, so it would be too late afterwards. Later it is measured
//! ([`super::shared_views`]).

use super::super::AppState;
use super::super::limits::{
    STATE_ESTIMATE_TIME, SUBSCRIBED_SERIES_BYTES, SUBSCRIBED_STATE_BYTES, SUBSCRIBED_VIEW_BYTES,
};
use engine::plan::{Plan, PlanNode, PlanOp};
use engine::query::{QueryError, QueryOptions, QueryValue};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use storage::model::Matcher;

/// The stretch of time that is looked at for an estimate, ms: the longest usual time between two samples.
const LOOKED_AT_MS: i64 = 300_000;
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

/// About how many bytes a view of `plan` would hold. Blocks.
pub fn estimate(state: &AppState, plan: &Plan) -> Result<usize, StateRefusal> {
    let lookback = state.settings.lookback;
    let mut found = BTreeMap::new();
    reaches(plan, lookback, &mut found);
    let mut bytes = 0.0;
    for (selector, reach) in found {
        let window = format!("{selector}[{}s]", LOOKED_AT_MS / 1000);
        let series = number(state, &format!("count(present_over_time({window}))"))?;
        let samples = number(state, &format!("sum(count_over_time({window}))"))?;
        let windows = (reach as f64 / LOOKED_AT_MS as f64).max(1.0);
        bytes += series * SUBSCRIBED_SERIES_BYTES as f64 + samples * windows * SAMPLE_BYTES;
    }
    Ok(bytes as usize)
}

/// The only row of a query; 0: there is none.
fn number(state: &AppState, text: &str) -> Result<f64, StateRefusal> {
    let Ok(plan) = state.sources.language.compile(text, None) else { return Ok(0.0) };
    let settings = &state.settings;
    let options = QueryOptions {
        lookback: settings.lookback,
        max_samples: settings.max_samples,
        max_bytes: settings.max_bytes,
        dialect: settings.dialect,
        timeout: settings.query_timeout.min(STATE_ESTIMATE_TIME),
        ..QueryOptions::default()
    };
    match state.sources.answers.instant(&plan, state.sources.clock.now(), &options).map(|answer| answer.value)
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
