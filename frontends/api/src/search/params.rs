//! The parameters of a search, with Prometheus' defaults and error texts.

use super::super::dispatch::ApiRequest;
use super::super::limits::{PAGE_SEARCH_RESULTS, SEARCH_TERMS, SEARCH_WINDOW_MS};
use super::super::params::{Form, parse_time};
use super::super::response::{ApiError, ErrorType};
use super::super::series::matcher_sets;
use super::similarity::{Algorithm, SearchFilter};
use axum::http::HeaderName;
use storage::model::{Matcher, TimeMs};

/// Default of the number of results, and of results per line.
const DEFAULT: usize = 100;

/// The order of results.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum SortBy {
    /// By name.
    Ascending,
    /// By name, descending.
    Descending,
    /// By score, best first.
    Score,
}

/// The parameters that all searches have.
pub(super) struct SearchParams {
    /// The series to search.
    pub sets: Vec<Vec<Matcher>>,
    /// The time range.
    pub span: (TimeMs, TimeMs),
    /// The names to accept.
    pub filter: SearchFilter,
    /// The order of the results.
    pub sort_by: SortBy,
    /// Whether the scores are sent.
    pub include_score: bool,
    /// The most results.
    pub limit: usize,
    /// The results per line.
    pub batch_size: usize,
}

impl SearchParams {
    /// The parameters of a request to `endpoint`.
    pub(super) fn new(call: &ApiRequest, endpoint: &str) -> Result<SearchParams, ApiError> {
        let state = &call.state;
        let form = &call.form;
        // Our own page completes names whether or not the feature is enabled for others.
        let of_page = call.header(HeaderName::from_static("sec-fetch-site")) == "same-origin";
        let Some(max_limit) = state.settings.search.or(of_page.then_some(PAGE_SEARCH_RESULTS)) else {
            return Err(ApiError::new(ErrorType::Unavailable, "search API disabled"));
        };
        form.check_decoded()?;
        let now = state.sources.clock.now();
        let span = (time(form, "start", now - SEARCH_WINDOW_MS)?, time(form, "end", now)?);
        // Equal is fine: an instant.
        if span.1 < span.0 {
            return Err(ApiError::bad_data("end timestamp must not be before start timestamp"));
        }
        let sets = matcher_sets(state, form)?;
        // The order of checks is Prometheus': of several mistakes it reports the same one.
        let filter = filter(form)?;
        let include_score = flag(form, "include_score", false)?;
        let sort_by = sort_by(form, filter.is_open(), endpoint)?;
        let limit = number(form, "limit")?;
        // Refused, not cut: a client that pages by count would take the shorter list for all there
        // is.
        if let Some(limit) = limit.filter(|limit| *limit > max_limit && max_limit > 0) {
            let what = format!(
                "limit {limit} exceeds the configured maximum ({max_limit}, see --web.search.max-limit)"
            );
            return Err(ApiError::bad_data(what));
        }
        let default = if max_limit > 0 { DEFAULT.min(max_limit) } else { DEFAULT };
        Ok(SearchParams {
            sets,
            span,
            filter,
            sort_by,
            include_score,
            limit: limit.unwrap_or(default),
            batch_size: number(form, "batch_size")?.unwrap_or(DEFAULT),
        })
    }
}

fn time(form: &Form, name: &str, default: TimeMs) -> Result<TimeMs, ApiError> {
    match form.get(name) {
        "" => Ok(default),
        text => {
            parse_time(text).map_err(|e| ApiError::bad_data(format!("invalid time value for '{name}': {e}")))
        }
    }
}

fn filter(form: &Form) -> Result<SearchFilter, ApiError> {
    let terms: Vec<&str> = form.all("search[]").collect();
    if terms.len() > SEARCH_TERMS {
        let what = format!("too many search[] terms: got {}, maximum is {SEARCH_TERMS}", terms.len());
        return Err(ApiError::bad_data(what));
    }
    let threshold =
        match form.get("fuzz_threshold") {
            "" => 0,
            text => text.parse::<u8>().ok().filter(|n| *n <= 100).ok_or_else(|| {
                ApiError::bad_data(format!("invalid fuzz_threshold {text:?}: must be 0-100"))
            })?,
        };
    let algorithm = match form.get("fuzz_alg") {
        "" | "subsequence" => Algorithm::Subsequence,
        "jarowinkler" => Algorithm::JaroWinkler,
        other => {
            let what = format!("unsupported fuzz_alg {other:?}: must be one of [subsequence jarowinkler]");
            return Err(ApiError::bad_data(what));
        }
    };
    // Sensitive by default, as in Prometheus: metric names differ by case now and then.
    let case_sensitive = flag(form, "case_sensitive", true)?;
    Ok(SearchFilter::new(&terms, algorithm, f64::from(threshold) / 100.0, case_sensitive))
}

fn sort_by(form: &Form, open: bool, endpoint: &str) -> Result<SortBy, ApiError> {
    let by = form.get("sort_by");
    let dir = form.get("sort_dir");
    // Refused instead of ignored, because the default order may change.
    if !dir.is_empty() && by.is_empty() {
        return Err(ApiError::bad_data("sort_dir is only valid when sort_by is set"));
    }
    if !dir.is_empty() && by == "score" {
        return Err(ApiError::bad_data("sort_dir is not supported for sort_by=score"));
    }
    if !matches!(dir, "" | "asc" | "dsc") {
        return Err(ApiError::bad_data(format!("invalid sort_dir {dir:?}: must be \"asc\" or \"dsc\"")));
    }
    match (by, dir) {
        ("score", _) if open => Err(ApiError::bad_data("sort_by=score requires search[] to be set")),
        ("score", _) => Ok(SortBy::Score),
        ("alpha", "dsc") => Ok(SortBy::Descending),
        ("" | "alpha", _) => Ok(SortBy::Ascending),
        (other, _) => {
            let what = format!("invalid sort_by {other:?} for {endpoint}: must be \"alpha\" or \"score\"");
            Err(ApiError::bad_data(what))
        }
    }
}

/// A number above 0; `None` if it is missing.
fn number(form: &Form, name: &str) -> Result<Option<usize>, ApiError> {
    let text = form.get(name);
    if text.is_empty() {
        return Ok(None);
    }
    let parsed = text.parse().ok().filter(|n| *n > 0);
    let refused = || ApiError::bad_data(format!("invalid {name} {text:?}: must be a positive integer"));
    parsed.map(Some).ok_or_else(refused)
}

/// A boolean parameter.
pub(super) fn flag(form: &Form, name: &str, default: bool) -> Result<bool, ApiError> {
    match form.get(name) {
        "" => Ok(default),
        text => form
            .flag(name)
            .map_err(|_| ApiError::bad_data(format!("invalid {name} {text:?}: must be boolean"))),
    }
}
