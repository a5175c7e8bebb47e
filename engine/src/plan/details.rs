//! Details of some steps of a physical plan ([`super::physical`]): what is computed from
//! histograms, which info series are used, and the metric that a step works on.

use super::{AtTime, Dialect, Plan, PlanNode, PlanOp, ValueType};
use storage::model::labels::METRIC_NAME;
use storage::model::{MatchOp, Matcher};

/// A function of histograms.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum HistogramFunction {
    /// One quantile: the only scalar.
    Quantile,
    /// A quantile for each scalar; the results differ by this label, whose value is the quantile.
    Quantiles(String),
    /// The fraction between two scalars.
    Fraction,
}

/// Which info series `info()` uses, and which of their labels it adds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct InfoSelector {
    /// Matchers of the name of the info metric. A series that they match is an info series itself,
    /// and is left unchanged.
    pub names: Vec<Matcher>,
    /// Matchers of other labels; only these labels are added. If there are none, all are.
    pub data: Vec<Matcher>,
}

/// The info metric that is used if the query names none.
const DEFAULT_METRIC: &str = "target_info";
/// Matches info metrics, if the query only says which to exclude.
const ANY_METRIC: &str = ".+_info";

impl InfoSelector {
    /// The selector for these matchers, if there are any, and the matchers of the info series.
    pub fn from_matchers(selector_matchers: Option<&[Matcher]>) -> (InfoSelector, Vec<Matcher>) {
        let is_name = |m: &Matcher| m.name == METRIC_NAME;
        let includes = |m: &Matcher| is_name(m) && matches!(m.op, MatchOp::Equal | MatchOp::Regex);
        let default = Matcher::equal(METRIC_NAME, DEFAULT_METRIC);
        let Some(selector_matchers) = selector_matchers else {
            return (InfoSelector { names: vec![default.clone()], data: Vec::new() }, vec![default]);
        };
        let (mut names, data): (Vec<_>, Vec<_>) = selector_matchers.iter().cloned().partition(is_name);
        let mut matchers = selector_matchers.to_vec();
        if names.is_empty() {
            names.push(default.clone());
            matchers.push(default);
        } else if !names.iter().any(includes)
            && let Ok(any) = Matcher::new(METRIC_NAME, MatchOp::Regex, ANY_METRIC)
        {
            names.push(any.clone());
            matchers.push(any);
        }
        (InfoSelector { names, data }, matchers)
    }
}

/// The name of the metric that a step works on, as far as the query names it; for annotations.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct MetricName {
    name: String,
    /// Whether a value was computed from it in between.
    computed: bool,
}

impl MetricName {
    /// The name that a series has at this place; "" if it has none, or the query does not name one.
    pub fn shown(&self, dialect: Dialect) -> &str {
        if self.computed && !dialect.delayed_names { "" } else { &self.name }
    }

    /// The name of the metric in the answer of `node`.
    pub fn from_plan(node: &PlanNode) -> MetricName {
        match &node.op {
            PlanOp::Instant(selector) | PlanOp::Range { selector, .. } => {
                let is_name = |m: &&Matcher| m.name == METRIC_NAME && m.op == MatchOp::Equal;
                let name = selector.matchers.iter().find(is_name).map_or("", |m| &m.value);
                MetricName { name: name.to_owned(), computed: false }
            }
            PlanOp::Subquery { input, .. } | PlanOp::Plus(input) => MetricName::from_plan(input),
            PlanOp::Negate(input) => MetricName { computed: true, ..MetricName::from_plan(input) },
            PlanOp::Call { function, args } => {
                let series = |arg: &&Plan| matches!(arg.kind(), ValueType::Vector | ValueType::Matrix);
                let inner =
                    args.iter().find(series).map(|arg| MetricName::from_plan(arg)).unwrap_or_default();
                MetricName { computed: inner.computed || !function.0.keeps_name, ..inner }
            }
            _ => MetricName::default(),
        }
    }
}

/// The time at which the first selector of a plan reads samples: offset in ms, and fixed time.
pub fn time_of(plan: &PlanNode) -> Option<(i64, Option<AtTime>)> {
    match &plan.op {
        PlanOp::Instant(selector) | PlanOp::Range { selector, .. } => Some((selector.offset, selector.at)),
        PlanOp::Subquery { input, offset, at, .. } => {
            let (inner_offset, inner_at) = time_of(input)?;
            // A fixed time of the inner selector makes time and offset of the subquery irrelevant.
            Some(if inner_at.is_some() { (inner_offset, inner_at) } else { (inner_offset + offset, *at) })
        }
        _ => plan.inputs().into_iter().find_map(|input| time_of(input)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{FunctionRef, Selector, Span};
    use super::*;
    use crate::functions::lookup;
    use std::sync::Arc;

    fn plan(op: PlanOp) -> Plan {
        Arc::new(PlanNode { op, span: Span::default() })
    }

    fn select(matchers: Vec<Matcher>, offset: i64, at: Option<AtTime>) -> Selector {
        Selector { matchers, offset, at, extension: None }
    }

    fn call(name: &str, arg: Plan) -> Plan {
        let function = FunctionRef(lookup(name).expect("in the table"));
        plan(PlanOp::Call { function, args: vec![arg] })
    }

    fn window(offset: i64, at: Option<AtTime>) -> Plan {
        let selector = select(vec![Matcher::equal(METRIC_NAME, "m")], offset, at);
        plan(PlanOp::Range { selector, range: 60_000 })
    }

    #[test]
    fn names_are_known_as_far_as_they_last() {
        let delayed = Dialect { delayed_names: true, ..Dialect::default() };
        let of = |plan: &Plan| {
            let name = MetricName::from_plan(plan);
            [name.shown(Dialect::default()).to_owned(), name.shown(delayed).to_owned()]
        };
        let plain = plan(PlanOp::Instant(select(vec![Matcher::equal(METRIC_NAME, "m")], 0, None)));
        assert_eq!(of(&plain), ["m", "m"]);
        assert_eq!(of(&call("last_over_time", window(0, None))), ["m", "m"]);
        assert_eq!(of(&call("rate", window(0, None))), ["", "m"]);
        assert_eq!(of(&plan(PlanOp::Negate(plain))), ["", "m"]);
        assert_eq!(of(&plan(PlanOp::Instant(select(vec![Matcher::equal("a", "m")], 0, None)))), ["", ""]);
    }

    #[test]
    fn info_series_are_looked_at_where_the_vector_is() {
        let subquery = |input: Plan, offset: i64, at: Option<AtTime>| {
            let range = plan(PlanOp::Subquery { input, range: 1, step: None, offset, at });
            call("last_over_time", range)
        };
        let inner = |offset, at| call("rate", window(offset, at));
        let at = |t| Some(AtTime::Time(t));
        assert_eq!(time_of(&inner(5, at(9))), Some((5, at(9))));
        assert_eq!(time_of(&subquery(inner(5, None), 7, at(9))), Some((12, at(9))));
        assert_eq!(time_of(&subquery(inner(5, at(3)), 7, at(9))), Some((5, at(3))));
        assert_eq!(time_of(&plan(PlanOp::Text(String::new()))), None);
    }

    #[test]
    fn the_default_info_metric_gives_way_to_named_ones() {
        let texts = |matchers: &[Matcher]| matchers.iter().map(ToString::to_string).collect::<Vec<_>>();
        let (wanted, matchers) = InfoSelector::from_matchers(None);
        assert_eq!(
            (texts(&wanted.names), matchers),
            (texts(&matchers_of("target_info")), matchers_of("target_info"))
        );
        let data = Matcher::equal("a", "1");
        let (wanted, matchers) = InfoSelector::from_matchers(Some(std::slice::from_ref(&data)));
        assert_eq!((wanted.names.len(), matchers.len()), (1, 2));
        let named = [Matcher::equal(METRIC_NAME, "build_info"), data];
        let (wanted, matchers) = InfoSelector::from_matchers(Some(&named));
        assert_eq!((wanted.names.len(), wanted.data.len(), matchers.len()), (1, 1, 2));
        let excluded = Matcher::new(METRIC_NAME, MatchOp::NotEqual, "build_info").expect("a matcher");
        let (wanted, matchers) = InfoSelector::from_matchers(Some(&[excluded]));
        let want = ["__name__!=\"build_info\"", "__name__=~\".+_info\""];
        assert_eq!(
            (texts(&wanted.names), texts(&matchers)),
            (want.map(str::to_owned).to_vec(), want.map(str::to_owned).to_vec())
        );
    }

    fn matchers_of(name: &str) -> Vec<Matcher> {
        vec![Matcher::equal(METRIC_NAME, name)]
    }
}
