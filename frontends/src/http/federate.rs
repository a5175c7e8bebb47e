//! `/federate`: the newest sample of each matching series in the text format, for other servers to scrape.

use super::dispatch::Call;
use super::json::Found;
use super::limits::{ACCEPT_ENTRIES, CHUNK_BYTES};
use super::names::{Listed, listed, selectors};
use super::reply::text_error;
use super::{AppState, json, sending};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use engine::memory::{MemoryExhausted, MemoryReservation};
use std::borrow::Cow;
use std::fmt::Write;
use storage::model::labels::METRIC_NAME;
use storage::model::{Labels, TimeMs};

/// `/federate`
pub async fn federate(call: Call) -> Response {
    let state = call.state.clone();
    if let Err(e) = call.form.whole() {
        return text_error(StatusCode::BAD_REQUEST, &e.message);
    }
    // A selector without matchers selects nothing here, and one that matches what has no labels all that it says.
    let sets = match selectors(&state, &call.form) {
        Ok(sets) => sets.into_iter().filter(|set| !set.is_empty()).collect::<Vec<_>>(),
        Err(e) => return text_error(StatusCode::BAD_REQUEST, &e),
    };
    let now = state.sources.clock.now();
    let from = now.saturating_sub(state.settings.lookback);
    let (names, format) = Names::accepted(call.header(header::ACCEPT));
    let ask = move |state: &AppState, memory: &MemoryReservation| {
        let samples = state.sources.catalog.newest(&sets, from, now, memory)?;
        Ok(ordered(samples, names))
    };
    match listed(&state, ask).await {
        Ok(Listed { found, deadline }) => {
            let page = Page::new(found, state.sources.admin.external_labels(), names);
            ([(header::CONTENT_TYPE, format)], sending::body(page, deadline)).into_response()
        }
        Err(e) if MemoryExhausted::says(&e.message) => text_error(e.kind.status(), &e.message),
        Err(e) => text_error(StatusCode::INTERNAL_SERVER_ERROR, &e.message),
    }
}

/// How names are written that the text format had no place for before version 1.0.0: the schemes that `Accept` names.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Names {
    /// As they are, in quotes.
    Quoted,
    /// With `_` for each character that had no place.
    Underscored,
    /// With `_dot_` for a point, and `__` for `_` and for others.
    Dots,
    /// Behind `U__`, with the number of each such character between underscores, and `__` for `_`.
    Values,
}

impl Names {
    fn of_scheme(name: &str) -> Option<Names> {
        Some(match name {
            "allow-utf-8" => Names::Quoted,
            "underscores" => Names::Underscored,
            "dots" => Names::Dots,
            "values" => Names::Values,
            _ => return None,
        })
    }

    fn scheme(self) -> &'static str {
        match self {
            Names::Quoted => "allow-utf-8",
            Names::Underscored => "underscores",
            Names::Dots => "dots",
            Names::Values => "values",
        }
    }

    /// What a scraper takes that sends this `Accept`, and the `Content-Type` that says so. The scheme is that of the last entry
    /// that names one, up to the first entry that we answer; version 1.0.0 is for those who ask for it and for names as they are.
    fn accepted(accept: &str) -> (Names, String) {
        let (mut names, mut version) = (Names::Underscored, "0.0.4");
        for (media_type, parameters) in by_weight(accept) {
            let parameter = |name: &str| parameters.iter().find(|(other, _)| *other == name).map(|(_, v)| *v);
            names = parameter("escaping").and_then(Names::of_scheme).unwrap_or(names);
            if media_type != "text/plain" {
                continue;
            }
            match parameter("version") {
                None | Some("" | "0.0.4") => break,
                Some("1.0.0") if names == Names::Quoted => {
                    version = "1.0.0";
                    break;
                }
                _ => {}
            }
        }
        (names, format!("text/plain; version={version}; charset=utf-8; escaping={}", names.scheme()))
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
            Names::Dots | Names::Values => self.spelled(name, fits).into(),
        }
    }

    /// A name that can be read back.
    fn spelled(self, name: &str, fits: impl Fn((usize, char)) -> bool) -> String {
        let mut out = if self == Names::Values { "U__".to_owned() } else { String::new() };
        for (at, c) in name.char_indices() {
            match c {
                '_' => out.push_str("__"),
                '.' if self == Names::Dots => out.push_str("_dot_"),
                c if fits((at, c)) => out.push(c),
                c if self == Names::Values => out.push_str(&format!("_{:x}_", u32::from(c))),
                _ => out.push_str("__"),
            }
        }
        out
    }
}

/// A media type with its parameters.
type Entry<'a> = (&'a str, Vec<(&'a str, &'a str)>);

/// The entries of an `Accept` header, the weightiest first.
fn by_weight(accept: &str) -> Vec<Entry<'_>> {
    let mut entries: Vec<(f64, Entry<'_>)> = Vec::new();
    for text in accept.split(',').take(ACCEPT_ENTRIES) {
        let mut parts = text.split(';').map(str::trim);
        let media_type = parts.next().unwrap_or("");
        let parameters: Vec<(&str, &str)> = parts.filter_map(|part| part.split_once('=')).collect();
        let weight = parameters.iter().find(|(name, _)| *name == "q");
        let weight = weight.map_or(1.0, |(_, q)| q.parse().unwrap_or(0.0));
        entries.push((weight, (media_type, parameters)));
    }
    entries.sort_by(|(a, _), (b, _)| b.total_cmp(a));
    entries.into_iter().map(|(_, entry)| entry).collect()
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// The newest sample of a series.
type Newest = (Labels, TimeMs, f64);

/// Samples by metric name; series without a name have no place in the format.
fn ordered(mut samples: Vec<Newest>, names: Names) -> Vec<Newest> {
    samples.retain(|(labels, ..)| !labels.name().is_empty());
    samples.sort_by(|(a, ..), (b, ..)| names.write(a.name(), true).cmp(&names.write(b.name(), true)));
    samples
}

/// Samples that are ordered, in pieces of about [`CHUNK_BYTES`].
struct Page {
    found: Found<Newest>,
    next: usize,
    /// The name of the sample before, as it is written.
    family: String,
    external: Labels,
    names: Names,
}

impl Page {
    fn new(found: Found<Newest>, external: Labels, names: Names) -> Page {
        Page { found, next: 0, family: String::new(), external, names }
    }
}

impl Iterator for Page {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        let mut out = String::new();
        while out.len() < CHUNK_BYTES {
            let Some((labels, t, v)) = self.found.list.get(self.next) else { break };
            let name = self.names.write(labels.name(), true);
            if name != self.family {
                let _ = writeln!(out, "# TYPE {name} untyped");
                self.family = name.into_owned();
            }
            if self.family.starts_with('"') {
                let _ = write!(out, "{{{}", self.family);
                pairs(&mut out, ',', labels, &self.external, self.names);
            } else {
                out.push_str(&self.family);
                pairs(&mut out, '{', labels, &self.external, self.names);
            }
            out.push(' ');
            json::value(&mut out, *v);
            let _ = writeln!(out, " {t}");
            self.next += 1;
        }
        (!out.is_empty()).then(|| Bytes::from(out))
    }
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
    use engine::memory::MemoryPool;
    use testing::assert_proportional;

    fn render(samples: Vec<Newest>, external: &Labels, names: Names) -> String {
        let memory = MemoryPool::of_queries(usize::MAX).reservation(usize::MAX);
        let found = Found { list: ordered(samples, names), memory };
        let pieces = Page::new(found, external.clone(), names).flat_map(|piece| piece.to_vec());
        String::from_utf8(pieces.collect()).unwrap()
    }

    #[test]
    fn twice_the_samples_or_labels_cost_twice_as_much() {
        type Samples = Vec<(Labels, TimeMs, f64)>;
        let none = Labels::default();
        let external = Labels::from_pairs([("dc", "x")]);
        for accept in ["text/plain", "text/plain;version=1.0.0;escaping=allow-utf-8"] {
            let names = Names::accepted(accept).0;
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
        assert_eq!(render(sample(), &none, Names::accepted(accept).0), quoted);
        let old = "# TYPE a_b_1 untyped\na_b_1{c_d=\"v\",instance=\"x\"} 2 1\n";
        assert_eq!(render(sample(), &none, Names::accepted("text/plain;version=0.0.4").0), old);
    }

    #[test]
    fn names_are_escaped_as_the_scraper_asks() {
        let format = |version: &str, scheme: &str| {
            format!("text/plain; version={version}; charset=utf-8; escaping={scheme}")
        };
        let open_metrics = "application/openmetrics-text;version=1.0.0;escaping";
        let old = format!("{open_metrics}=values;q=0.6,text/plain;version=0.0.4;q=0.3,*/*;q=0.2");
        let new = "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.6,text/plain;version=0.0.4;q=0.5";
        for (accept, version, scheme) in [
            ("", "0.0.4", "underscores"),
            ("*/*", "0.0.4", "underscores"),
            ("text/plain;version=0.0.4;escaping=dots", "0.0.4", "dots"),
            ("text/plain;escaping=what", "0.0.4", "underscores"),
            (&old, "0.0.4", "values"),
            (&format!("{open_metrics}=allow-utf-8"), "0.0.4", "allow-utf-8"),
            (new, "1.0.0", "allow-utf-8"),
            // What weighs less than the first that we answer is not looked at.
            ("text/plain;version=1.0.0;escaping=dots;q=0.2,text/plain;q=0.5", "0.0.4", "underscores"),
        ] {
            assert_eq!(Names::accepted(accept).1, format(version, scheme), "{accept}");
        }
        for (names, written) in [
            (Names::Quoted, "\"a_b.c:é\""),
            (Names::Underscored, "a_b_c:_"),
            (Names::Dots, "a__b_dot_c:__"),
            (Names::Values, "U__a__b_2e_c:_e9_"),
        ] {
            assert_eq!(names.write("a_b.c:é", true), written);
            assert_eq!(names.write("a_b:c", true), "a_b:c");
        }
        assert_eq!(Names::Values.write("1:", false), "U___31__3a_");
    }
}
