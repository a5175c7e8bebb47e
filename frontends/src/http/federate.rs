//! `/federate`: the newest sample of each matching series in the text format, for other servers to scrape.

use super::dispatch::Call;
use super::json;
use super::names::{blocking, matcher_sets};
use super::reply::text_error;
use super::status::TEXT_FORMAT;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use std::fmt::Write;
use storage::model::labels::METRIC_NAME;
use storage::model::{Labels, TimeMs};

/// `/federate`
pub async fn federate(call: Call) -> Response {
    let state = call.state.clone();
    let sets = match matcher_sets(&state, &call.form) {
        Ok(sets) => sets,
        Err(e) => return text_error(StatusCode::BAD_REQUEST, &e),
    };
    let now = state.sources.clock.now();
    let from = now.saturating_sub(state.settings.lookback);
    let ask = move |state: &super::AppState| state.sources.catalog.newest(&sets, from, now);
    match blocking(state.clone(), ask).await {
        Ok(samples) => {
            let text = render(samples, &state.sources.admin.external_labels());
            ([(header::CONTENT_TYPE, TEXT_FORMAT)], text).into_response()
        }
        Err(e) => text_error(StatusCode::INTERNAL_SERVER_ERROR, &e.message),
    }
}

/// Samples by metric name; series without a name have no place in the format.
fn render(mut samples: Vec<(Labels, TimeMs, f64)>, external: &Labels) -> String {
    samples.retain(|(labels, ..)| !labels.name().is_empty());
    samples.sort_by(|(a, ..), (b, ..)| a.name().cmp(b.name()));
    let (mut out, mut family) = (String::new(), "");
    for (labels, t, v) in &samples {
        if labels.name() != family {
            family = labels.name();
            let _ = writeln!(out, "# TYPE {family} untyped");
        }
        out.push_str(family);
        pairs(&mut out, labels, external);
        out.push(' ');
        json::value(&mut out, *v);
        let _ = writeln!(out, " {t}");
    }
    out
}

/// The series' labels, then external ones it has not; `instance=""` keeps the scraper from adding its own.
fn pairs(out: &mut String, labels: &Labels, external: &Labels) {
    let own = labels.iter().filter(|(name, _)| *name != METRIC_NAME);
    let added = external.iter().filter(|(name, _)| labels.get(name).is_none());
    let has_instance = labels.get("instance").or(external.get("instance")).is_some();
    let empty = (!has_instance).then_some(("instance", ""));
    for (i, (name, value)) in own.chain(added).chain(empty).enumerate() {
        let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        let _ = write!(out, "{}{name}=\"{value}\"", if i == 0 { "{" } else { "," });
    }
    out.push('}');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_with_external_labels() {
        let up = Labels::from_pairs([("__name__", "up"), ("instance", "a:1"), ("job", "x\"y")]);
        let sum = Labels::from_pairs([("__name__", "a:b")]);
        let external = Labels::from_pairs([("dc", "x"), ("job", "other")]);
        let text = render(vec![(up, 1_500, 1.0), (sum, 2_000, 0.5)], &external);
        let expected = "# TYPE a:b untyped\na:b{dc=\"x\",job=\"other\",instance=\"\"} 0.5 2000\n\
                        # TYPE up untyped\nup{instance=\"a:1\",job=\"x\\\"y\",dc=\"x\"} 1 1500\n";
        assert_eq!(text, expected);
    }
}
