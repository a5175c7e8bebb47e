//! What is recorded of the states of alerts: `record: firing, expr: count(ALERTS{alertstate="firing"})`.
//!
//! The states of a slot are written right after the tick that looked at it ([`crate::rules`]). A rule that stands would
//! see them in its next slot only, where Prometheus shows them to the rules behind the alert in the same evaluation. So
//! such a rule is asked, a moment after its slot. Alerts and subscriptions stand: they are answered again when the states come.

use crate::rules::states::{ALERTS, ALERTS_FOR_STATE};
use engine::live::{ViewKind, ViewSpec};
use engine::plan::{Node, Op, Selector};
use storage::model::MatchOp;
use storage::model::labels::METRIC_NAME;

/// Whether `view` records something that depends on the states of alerts.
pub fn recorded_of(view: &ViewSpec) -> bool {
    matches!(view.kind, ViewKind::Recorded { .. }) && reads(&view.plan)
}

fn reads(node: &Node) -> bool {
    match &node.op {
        Op::Instant(selector) | Op::Range { selector, .. } => names(selector),
        _ => node.inputs().into_iter().any(|input| reads(input)),
    }
}

/// Whether states are asked for by name. `{team="a"}` and `{__name__=~".+"}` are not: most series that they find are others.
fn names(selector: &Selector) -> bool {
    let of_name = || selector.matchers.iter().filter(|m| m.name == METRIC_NAME);
    let chosen = of_name().any(|m| matches!(m.op, MatchOp::Equal | MatchOp::Regex) && !m.matches("up"));
    chosen && [ALERTS, ALERTS_FOR_STATE].iter().any(|name| of_name().all(|m| m.matches(name)))
}

#[cfg(test)]
mod tests {
    use super::reads;
    use crate::promql::{Options, compile};

    #[test]
    fn states_are_asked_for_by_name() {
        let asks = |text: &str| reads(&compile(text, &Options::default()).expect("a plan"));
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
