//! The names of the series in which alerting rules write their states, `ALERTS` and
//! `ALERTS_FOR_STATE`, and which plans select them by name. [`crate::scheduled`] treats such plans
//! differently.

use engine::plan::{PlanNode, PlanOp, Selector};
use storage::model::MatchOp;
use storage::model::labels::METRIC_NAME;

/// Name of the series that are 1 while an alert is pending or firing.
pub const ALERTS: &str = "ALERTS";
/// Name of the series whose value is the time since when the alert is active, in seconds.
pub const ALERTS_FOR_STATE: &str = "ALERTS_FOR_STATE";

/// Whether a plan selects `ALERTS` or `ALERTS_FOR_STATE` by name.
pub fn reads_alert_series(node: &PlanNode) -> bool {
    match &node.op {
        PlanOp::Instant(selector) | PlanOp::Range { selector, .. } => names(selector),
        _ => node.inputs().into_iter().any(|input| reads_alert_series(input)),
    }
}

/// Whether a selector names these series. `{team="a"}` and `{__name__=~".+"}` do not count: most
/// series that they match are others.
fn names(selector: &Selector) -> bool {
    let of_name = || selector.matchers.iter().filter(|m| m.name == METRIC_NAME);
    let chosen = of_name().any(|m| matches!(m.op, MatchOp::Equal | MatchOp::Regex) && !m.matches("up"));
    chosen && [ALERTS, ALERTS_FOR_STATE].iter().any(|name| of_name().all(|m| m.matches(name)))
}

#[cfg(test)]
mod tests {
    use super::reads_alert_series;
    use promql::{PromqlOptions, compile};

    #[test]
    fn states_are_asked_for_by_name() {
        let asks =
            |text: &str| reads_alert_series(&compile(text, &PromqlOptions::default()).expect("a plan"));
        for text in [
            r#"count(ALERTS{alertstate="firing"}) by (job)"#,
            r#"up * on (job) group_left () ({__name__=~"ALERTS.*"})"#,
            "time() - min(ALERTS_FOR_STATE)",
            "sum(changes(ALERTS[5m]))",
        ] {
            assert!(asks(text), "{text}");
        }
        for text in
            ["up", r#"{__name__=~".+"}"#, r#"{team="a"}"#, r#"{__name__=~"AL.*", __name__!~"ALERTS.*"}"#]
        {
            assert!(!asks(text), "{text}");
        }
    }
}
