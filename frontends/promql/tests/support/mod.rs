//! What the PromQL tests share: the signatures of all functions of Prometheus 3.14, so that parsing
//! can be tested whatever the engine's table contains.

use engine::plan::ValueType::{self, Matrix, Scalar, Text, Vector};
use promql::{PromqlOptions, Signature};

const DATE: &[&str] =
    &["day_of_month", "day_of_week", "day_of_year", "days_in_month", "hour", "minute", "month", "year"];
const MAPS: &[&str] = &[
    "abs",
    "acos",
    "acosh",
    "asin",
    "asinh",
    "atan",
    "atanh",
    "ceil",
    "cos",
    "cosh",
    "deg",
    "exp",
    "floor",
    "histogram_avg",
    "histogram_count",
    "histogram_stddev",
    "histogram_stdvar",
    "histogram_sum",
    "ln",
    "log10",
    "log2",
    "rad",
    "sgn",
    "sin",
    "sinh",
    "sort",
    "sort_desc",
    "sqrt",
    "tan",
    "tanh",
    "timestamp",
    "absent",
];
const WINDOWS: &[&str] = &[
    "absent_over_time",
    "avg_over_time",
    "changes",
    "count_over_time",
    "delta",
    "deriv",
    "first_over_time",
    "idelta",
    "increase",
    "irate",
    "last_over_time",
    "max_over_time",
    "min_over_time",
    "present_over_time",
    "rate",
    "resets",
    "stddev_over_time",
    "stdvar_over_time",
    "sum_over_time",
];
const EXPERIMENTAL_WINDOWS: &[&str] = &[
    "mad_over_time",
    "ts_of_first_over_time",
    "ts_of_last_over_time",
    "ts_of_max_over_time",
    "ts_of_min_over_time",
];

/// The signature of `name` in Prometheus 3.14.
pub fn signature(name: &str) -> Option<Signature> {
    let many = usize::MAX;
    let of = |args: &'static [ValueType], optional, repeat, returns, experimental| {
        Some(Signature { args, optional, repeat, returns, experimental })
    };
    let stable = |args| of(args, 0, 0, Vector, false);
    match name {
        _ if MAPS.contains(&name) => stable(&[Vector]),
        _ if WINDOWS.contains(&name) => stable(&[Matrix]),
        _ if DATE.contains(&name) => of(&[Vector], 1, 0, Vector, false),
        _ if EXPERIMENTAL_WINDOWS.contains(&name) => of(&[Matrix], 0, 0, Vector, true),
        "clamp" => stable(&[Vector, Scalar, Scalar]),
        "clamp_max" | "clamp_min" => stable(&[Vector, Scalar]),
        "histogram_fraction" => stable(&[Scalar, Scalar, Vector]),
        "histogram_quantile" => stable(&[Scalar, Vector]),
        "label_replace" => stable(&[Vector, Text, Text, Text, Text]),
        "predict_linear" => stable(&[Matrix, Scalar]),
        "quantile_over_time" => stable(&[Scalar, Matrix]),
        "vector" => stable(&[Scalar]),
        "label_join" => of(&[Vector, Text, Text, Text], 1, many, Vector, false),
        "round" => of(&[Vector, Scalar], 1, 0, Vector, false),
        "scalar" => of(&[Vector], 0, 0, Scalar, false),
        "pi" | "time" => of(&[], 0, 0, Scalar, false),
        "double_exponential_smoothing" => of(&[Matrix, Scalar, Scalar], 0, 0, Vector, true),
        "end" | "range" | "start" | "step" => of(&[], 0, 0, Scalar, true),
        "histogram_quantiles" => of(&[Vector, Text, Scalar, Scalar], 1, 8, Vector, true),
        "info" => of(&[Vector, Vector], 1, 0, Vector, true),
        "max_of" | "min_of" => of(&[Scalar, Scalar], 0, 0, Scalar, true),
        "sort_by_label" | "sort_by_label_desc" => of(&[Vector, Text], 1, many, Vector, true),
        "start_timestamp" => of(&[Vector], 0, 0, Vector, true),
        _ => None,
    }
}

/// All syntax allowed, with the signatures above.
pub fn options() -> PromqlOptions {
    PromqlOptions { functions: signature, ..PromqlOptions::all() }
}
