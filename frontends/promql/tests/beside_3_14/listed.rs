//! The known differences from Prometheus 3.14: where this server answers differently on purpose,
//! and where the answer of 3.14 is random. Each rule is a line of `docs/queries.md`.

use promql::promqltest::TestFailure;
use std::collections::BTreeSet;

/// Functions whose last digit depends on the math library.
const ROUNDED: [&str; 16] = [
    "tan", "sin", "cos", "sinh", "cosh", "tanh", "atan", "asin", "acos", "asinh", "acosh", "atanh", "exp",
    "ln", "log2", "log10",
];
/// Operators that amplify a difference in the last digit, or turn it into a label.
const AMPLIFIES: [&str; 3] = ["count_values", "stdvar", "stddev"];

/// Whether an expression makes a last digit visible: as a label, in a difference, or by rounding to
/// another value.
fn shows_last_digit(expr: &str) -> bool {
    let words = || expr.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let rounded = words().filter(|word| ROUNDED.contains(word)).count() + expr.matches('^').count();
    let amplified = words().any(|word| AMPLIFIES.contains(&word)) || expr.contains('%');
    rounded > 1 || (rounded == 1 && amplified)
}

/// The rule that explains a difference.
pub fn rule(failure: &TestFailure) -> Option<&'static str> {
    let TestFailure { expr, expected, got, .. } = failure;
    let has = |words: &[&str]| words.iter().any(|word| expr.contains(word));
    if ["runtime error", "interface conversion"].iter().any(|text| expected.contains(text)) {
        return Some("3.14 fails");
    }
    if let (Some(theirs), Some(ours)) = (expected.strip_prefix("error: "), got.strip_prefix("error: ")) {
        return Some(errors(theirs, ours));
    }
    let with_parameters = ["predict_linear(", "double_exponential_smoothing(", "quantile_over_time("];
    if has(&with_parameters) && ["@", ":"].iter().all(|word| expr.contains(word)) {
        return Some("a parameter beside a pinned subquery");
    }
    if has(&["topk", "bottomk", "limitk"]) {
        return Some("which of equals");
    }
    if has(&["histogram_count", "histogram_sum", "histogram_avg"]) && has(&["rate(", "increase(", "delta("]) {
        return Some("resets of what is read without buckets");
    }
    if got == "error: vector cannot contain metrics with the same labelset" {
        return alike(expr);
    }
    if shows_last_digit(expr) {
        return Some("what is made of rounded values");
    }
    if has(&["smoothed", "anchored"]) && has(&["==", "!=", "changes("]) {
        return Some("empty buckets that interpolation leaves");
    }
    if got.contains("buckets:[NaN") && expected.contains("buckets:[NaN") {
        return Some("empty buckets times NaN");
    }
    if has(&["idelta(", "irate("]) && expected.contains("buckets:[") && got.contains("buckets:[") {
        return Some("buckets of two schemas in idelta and irate");
    }
    if expr.matches('@').count() > 1 && expr.contains(':') {
        return Some("a fixed time below a pinned subquery");
    }
    if has(&[" or "]) && nameless(expected) == nameless(got) {
        return Some("names of what or brings together over a range");
    }
    if expr.contains(':') && keeps_remarks(expected, got) {
        return Some("remarks of steps that have left the window");
    }
    let names_come_back = || expected.contains("__name__") && nameless(expected) == nameless(got);
    if has(&["info("]) && names_come_back() {
        return Some("names that come back through info()");
    }
    remarks(expected, got)
}

/// Rows with equal labels inside a query, which 3.14 accepts in some places.
fn alike(expr: &str) -> Option<&'static str> {
    let has = |word: &str| expr.contains(word);
    if has("info(") {
        return Some("names that come back through info()");
    }
    if has("histogram_quantiles(") && has("@") {
        return Some("rows that are alike below a fixed time");
    }
    let joins = ["-{", "-(", "label_replace(", "label_join("].iter().any(|word| has(word));
    joins.then_some("a float and a histogram that become alike in the middle")
}

/// The label sets of an answer without metric names.
fn nameless(answer: &str) -> BTreeSet<String> {
    let labels = answer.lines().filter_map(|line| line.split_once("} ").map(|(labels, _)| labels));
    let without_name = |labels: &str| {
        let (before, rest) = labels.split_once("__name__=\"")?;
        let (_, behind) = rest.split_once('"')?;
        Some(format!("{before}{}", behind.trim_start_matches([',', ' '])))
    };
    labels.map(|labels| without_name(labels).unwrap_or_else(|| labels.to_owned())).collect()
}

/// Different errors for one query.
fn errors(theirs: &str, ours: &str) -> &'static str {
    if theirs.trim_end() == ours.trim_end() {
        "white space at the end of an error"
    } else if theirs.split_once("}, {").is_some_and(|(first, second)| swapped(first, second, ours)) {
        "which of two duplicates is named first"
    } else {
        "which of two errors"
    }
}

/// Whether `ours` is the text with the two label sets of `[{…}, {…}]` swapped: `first` ends and
/// `second` begins where they meet.
fn swapped(first: &str, second: &str, ours: &str) -> bool {
    let Some((before, one)) = first.rsplit_once("[{") else { return false };
    let Some((other, behind)) = second.split_once("}]") else { return false };
    ours == format!("{before}[{{{other}}}, {{{one}}}]{behind}")
}

/// For a view over a subquery: the same lines, and more annotations, of steps that have left the
/// window.
fn keeps_remarks(expected: &str, got: &str) -> bool {
    let begins = ["no other warning such as: ", "no other info such as: "];
    let extra = expected.lines().all(|line| begins.iter().any(|begin| line.starts_with(begin)));
    extra && got.lines().all(|line| line.starts_with("warning: ") || line.starts_with("info: "))
}

/// Annotations that depend on the order of rows.
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
