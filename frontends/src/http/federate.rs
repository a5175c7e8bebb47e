//! `/federate`: the newest sample of each matching series in the text format, for other servers to scrape.

use super::dispatch::Call;
use super::json;
use super::names::{blocking, matcher_sets};
use super::reply::text_error;
use super::status::TEXT_FORMAT;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use std::borrow::Cow;
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
    let names = Names::accepted(call.header(header::ACCEPT));
    let ask = move |state: &super::AppState| state.sources.catalog.newest(&sets, from, now);
    match blocking(state.clone(), ask).await {
        Ok(samples) => {
            let text = render(samples, &state.sources.admin.external_labels(), names);
            ([(header::CONTENT_TYPE, names.format())], text).into_response()
        }
        Err(e) => text_error(StatusCode::INTERNAL_SERVER_ERROR, &e.message),
    }
}

/// How names are written that the text format had no place for before version 1.0.0.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Names {
    /// As they are, in quotes.
    Quoted,
    /// With `_` for each character that had no place.
    Underscored,
}

impl Names {
    /// What a scraper takes that sends this `Accept`.
    fn accepted(accept: &str) -> Names {
        if accept.contains("escaping=allow-utf-8") { Names::Quoted } else { Names::Underscored }
    }

    fn format(self) -> &'static str {
        match self {
            Names::Quoted => "text/plain; version=1.0.0; charset=utf-8; escaping=allow-utf-8",
            Names::Underscored => TEXT_FORMAT,
        }
    }

    /// A name as it is written, quotes included; names of metrics may have a `colon`.
    fn write(self, name: &str, colon: bool) -> Cow<'_, str> {
        let fits = |(at, c): (usize, char)| {
            c == '_' || c.is_ascii_alphabetic() || (at > 0 && c.is_ascii_digit()) || (colon && c == ':')
        };
        if !name.is_empty() && name.char_indices().all(fits) {
            return Cow::Borrowed(name);
        }
        match self {
            Names::Quoted => format!("\"{}\"", escaped(name)).into(),
            Names::Underscored => name.char_indices().map(|at| if fits(at) { at.1 } else { '_' }).collect(),
        }
    }
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// Samples by metric name; series without a name have no place in the format.
fn render(mut samples: Vec<(Labels, TimeMs, f64)>, external: &Labels, names: Names) -> String {
    samples.retain(|(labels, ..)| !labels.name().is_empty());
    samples.sort_by(|(a, ..), (b, ..)| names.write(a.name(), true).cmp(&names.write(b.name(), true)));
    let (mut out, mut family) = (String::new(), Cow::Borrowed(""));
    for (labels, t, v) in &samples {
        let name = names.write(labels.name(), true);
        if name != family {
            let _ = writeln!(out, "# TYPE {name} untyped");
            family = name;
        }
        match family.starts_with('"') {
            true => {
                let _ = write!(out, "{{{family}");
                pairs(&mut out, ',', labels, external, names);
            }
            false => {
                out.push_str(&family);
                pairs(&mut out, '{', labels, external, names);
            }
        }
        out.push(' ');
        json::value(&mut out, *v);
        let _ = writeln!(out, " {t}");
    }
    out
}

/// The series' labels behind `separator`, then external ones it has not; `instance=""` keeps the scraper from adding its own.
fn pairs(out: &mut String, separator: char, labels: &Labels, external: &Labels, names: Names) {
    let own = labels.iter().filter(|(name, _)| *name != METRIC_NAME);
    let added = external.iter().filter(|(name, _)| labels.get(name).is_none());
    let has_instance = labels.get("instance").or(external.get("instance")).is_some();
    let empty = (!has_instance).then_some(("instance", ""));
    for (i, (name, value)) in own.chain(added).chain(empty).enumerate() {
        let (name, value) = (names.write(name, false), escaped(value));
        let _ = write!(out, "{}{name}=\"{value}\"", if i == 0 { separator } else { ',' });
    }
    out.push('}');
}

#[cfg(test)]
mod tests {
    use super::*;
    use testing::assert_proportional;

    #[test]
    fn twice_the_samples_or_labels_cost_twice_as_much() {
        type Samples = Vec<(Labels, TimeMs, f64)>;
        let none = Labels::default();
        let external = Labels::from_pairs([("dc", "x")]);
        for accept in ["text/plain", "text/plain;version=1.0.0;escaping=allow-utf-8"] {
            let names = Names::accepted(accept);
            let page = |samples: &Samples| render(samples.clone(), &external, names).len();
            let sample = |name: String| (Labels::from_pairs([("__name__", name)]), 1, 2.0);
            let many = |n: usize| (0..n).map(|i| sample(format!("m.{}", i * 7919 % n))).collect::<Samples>();
            assert_proportional(&format!("samples as {accept}"), 3_000, many, page);
            let wide = |n: usize| {
                let labels = (0..n).map(|i| (format!("l.{i}"), "a\"b".to_owned()));
                vec![(Labels::from_pairs(labels.chain([("__name__".to_owned(), "m".to_owned())])), 1, 2.0)]
            };
            assert_proportional(&format!("labels as {accept}"), 3_000, wide, page);
            let long = |n: usize| vec![sample("m.".repeat(n))];
            assert_proportional(&format!("a name as {accept}"), 20_000, long, page);
            // Labels that the server adds to all of its samples.
            let added = |n: usize| Labels::from_pairs((0..n).map(|i| (format!("e{i}"), "v")));
            assert_proportional(&format!("external labels as {accept}"), 3_000, added, |added| {
                render(
                    vec![(added.clone(), 1, 2.0), (none.clone(), 1, 2.0), sample("m".to_owned())],
                    added,
                    names,
                )
            });
        }
    }

    #[test]
    fn text_with_external_labels() {
        let up = Labels::from_pairs([("__name__", "up"), ("instance", "a:1"), ("job", "x\"y")]);
        let sum = Labels::from_pairs([("__name__", "a:b")]);
        let external = Labels::from_pairs([("dc", "x"), ("job", "other")]);
        let text = render(vec![(up, 1_500, 1.0), (sum, 2_000, 0.5)], &external, Names::Underscored);
        let expected = "# TYPE a:b untyped\na:b{dc=\"x\",job=\"other\",instance=\"\"} 0.5 2000\n\
                        # TYPE up untyped\nup{instance=\"a:1\",job=\"x\\\"y\",dc=\"x\"} 1 1500\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn names_that_need_quotes_get_them_or_underscores() {
        let dotted = Labels::from_pairs([("__name__", "a.b\n1"), ("c:d", "v"), ("instance", "x")]);
        let sample = || vec![(dotted.clone(), 1, 2.0)];
        let none = Labels::from_pairs([("", ""); 0]);
        let quoted = "# TYPE \"a.b\\n1\" untyped\n{\"a.b\\n1\",\"c:d\"=\"v\",instance=\"x\"} 2 1\n";
        let accept = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5";
        assert_eq!(render(sample(), &none, Names::accepted(accept)), quoted);
        let old = "# TYPE a_b_1 untyped\na_b_1{c_d=\"v\",instance=\"x\"} 2 1\n";
        assert_eq!(render(sample(), &none, Names::accepted("text/plain;version=0.0.4")), old);
    }
}
