//! Where we answer otherwise than Prometheus 3.14 and are right to, where it answers by chance, and what is still open. Each
//! rule is a line of `docs/queries.md`.

use frontends::promqltest::Failure;

/// The rule that a difference falls under.
pub fn rule(failure: &Failure) -> Option<&'static str> {
    let Failure { expr, expected, got, .. } = failure;
    let has = |words: &[&str]| words.iter().any(|word| expr.contains(word));
    if ["runtime error", "interface conversion"].iter().any(|text| expected.contains(text)) {
        return Some("3.14 fails");
    }
    if expected.starts_with("error: ") && got.starts_with("error: ") {
        return Some("which of two errors");
    }
    if ["predict_linear", "@", ":"].iter().all(|word| expr.contains(word)) {
        return Some("prediction over a pinned subquery");
    }
    if has(&["topk", "bottomk", "limitk"]) {
        return Some("which of equals");
    }
    if has(&["histogram_count", "histogram_sum", "histogram_avg"]) && has(&["rate(", "increase(", "delta("]) {
        return Some("resets of what is read without buckets");
    }
    remarks(expected, got).or_else(|| open(failure))
}

/// Remarks that depend on the order of rows.
fn remarks(expected: &str, got: &str) -> Option<&'static str> {
    let begins = ["warning: ", "info: ", "no warning"];
    if !begins.iter().any(|begin| got.starts_with(begin)) {
        return None;
    }
    let of_operator = "incompatible sample types encountered for binary operator";
    if expected.contains(of_operator) && got.contains(of_operator) {
        return Some("which remark of an operator");
    }
    if expected.contains("needed to be fixed for monotonicity") {
        return Some("how much was not monotone");
    }
    let of_aggregation =
        ["exponential and custom buckets schemas", "mismatched custom buckets", "conflicting counter resets"];
    of_aggregation
        .iter()
        .any(|text| expected.contains(text) || got.contains(text))
        .then_some("remarks of a mixed aggregation")
}

/// Kinds that are known and not repaired yet.
fn open(failure: &Failure) -> Option<&'static str> {
    let Failure { expr, expected, got, .. } = failure;
    if got.contains("vector cannot contain metrics with the same labelset") {
        return Some("open: a float and a histogram with the same labels");
    }
    if got.contains("invalid smoothing factor") {
        return Some("open: factors of smoothing where there are histograms only");
    }
    if expected.contains("found duplicate series for the match group") && expr.contains("fill") {
        return Some("open: duplicates where the other side is empty and fill is given");
    }
    if got.contains("schema:-53") && got.contains("z_bucket:NaN") {
        return Some("open: the zero bucket of a histogram of custom buckets, divided by zero");
    }
    if expr.contains("info(") {
        return Some("open: names of what passes info()");
    }
    if expr.contains(" or ") {
        return Some("open: or of a series and what is computed of it");
    }
    let compares = expr.contains("==") || expr.contains("!=");
    compares.then_some("open: equality of histograms with empty buckets")
}
