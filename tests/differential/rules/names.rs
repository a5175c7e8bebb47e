//! Rules for label sets: which operations drop the metric name, and which names labels may have.

use crate::answer::{Answer, Labels};
use crate::expr::Expr;
use crate::rules::equals;
use crate::shrink::{Case, Servers};

const METRIC: &str = "__name__";

/// The response without metric names; an error if two rows become one.
pub fn dropped(answer: Answer) -> Answer {
    relabelled(answer, |labels| {
        labels.remove(METRIC);
    })
}

/// The response with changed labels; an error if two rows become one.
fn relabelled(mut answer: Answer, change: impl Fn(&mut Labels)) -> Answer {
    let Ok(data) = &mut answer.result else { return answer };
    for row in &mut data.rows {
        change(&mut row.labels);
    }
    let mut sets: Vec<&Labels> = data.rows.iter().map(|r| &r.labels).collect();
    sets.sort();
    if sets.windows(2).any(|pair| pair[0] == pair[1]) {
        let text = "vector cannot contain metrics with the same labelset".to_string();
        return Answer { status: 422, result: Err(("execution".into(), text)) };
    }
    answer
}

/// 2.42 did not drop the metric name for `atan2`.
pub fn atan2(case: &Case, _: Servers) -> bool {
    let Expr::Binary { op: "atan2", matching, .. } = &case.expr else { return false };
    let mut today = dropped(case.theirs.clone());
    let grouped = matching.as_ref().is_some_and(|m| m.group.is_some());
    if let (Err((_, text)), true) = (&mut today.result, grouped && !case.theirs.failed()) {
        *text = "multiple matches for labels: grouping labels must ensure unique matches".into();
    }
    equals(case, &today)
}

/// 2.42 appended the label of the value to the sorted labels of `by`, and lost all labels that
/// should follow it.
pub fn count_values(case: &Case, servers: Servers) -> bool {
    let Expr::Aggregate { op: "count_values", param: Some(param), grouping: Some(grouping), .. } = &case.expr
    else {
        return false;
    };
    let Expr::Text(label) = &**param else { return false };
    let unsorted = !grouping.without && grouping.labels.iter().any(|l| l > label);
    unsorted && equals(case, &under_another_label(case, label, servers))
}

/// Label names may be any UTF-8 today; 2.42 allowed only letters, digits and `_`.
pub fn utf8(case: &Case, servers: Servers) -> bool {
    let label = match &case.expr {
        Expr::Aggregate { op: "count_values", param: Some(param), .. } => &**param,
        Expr::Call("label_replace" | "label_join", args) => &args[1],
        _ => return false,
    };
    let Expr::Text(label) = label else { return false };
    let strange = |c: char| !c.is_ascii_alphanumeric() && c != '_';
    let unknown = label.contains(strange) || label.starts_with(|c: char| c.is_ascii_digit());
    let refused = matches!(&case.theirs.result, Err((_, text)) if text.contains("label name"));
    if !unknown || !refused {
        return false;
    }
    let today = under_another_label(case, label, servers);
    // Values inside a label differ in their last bits.
    let counted = matches!(case.expr, Expr::Aggregate { .. }) && case.ours.rows().len() == today.rows().len();
    counted || equals(case, &today)
}

/// A label name that sorts after all others.
const LAST: &str = "zzz";

/// The response of 2.42 with another name for the label that the expression sets; in the result the
/// label has its own name.
fn under_another_label(case: &Case, label: &str, servers: Servers) -> Answer {
    let mut expr = case.expr.clone();
    match &mut expr {
        Expr::Aggregate { param, grouping, .. } => {
            *param = Some(Expr::Text(LAST.into()).into());
            if let Some(grouping) = grouping.as_mut().filter(|g| !g.without) {
                grouping.labels.retain(|l| l != label);
            }
        }
        Expr::Call(_, args) => args[1] = Expr::Text(LAST.into()),
        _ => {}
    }
    relabelled(servers.ask_theirs(&expr, case.when), |labels| {
        if let Some(value) = labels.remove(LAST) {
            labels.insert(label.to_string(), value);
        }
    })
}
