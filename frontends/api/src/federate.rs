//! `/federate`: the newest sample of each matching series, for other servers to scrape, in the text
//! format or in protobuf.
//!
//! Only protobuf can carry native histograms. Native histograms with custom buckets are written as
//! the classic histograms that they were made from.

mod messages;

use super::dispatch::ApiRequest;
use super::limits::{ACCEPT_ENTRIES, CHUNK_BYTES};
use super::query_json::FoundList;
use super::response::{ApiError, ErrorType, text_error, with_retry};
use super::series::{StoreList, listed, selectors};
use super::{AppState, query_json, sending};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use engine::memory::MemoryReservation;
use std::borrow::Cow;
use std::fmt::Write;
use storage::model::histogram::ResetHint;
use storage::model::labels::METRIC_NAME;
use storage::model::{Labels, NativeHistogram};
use storage::store::{NewestSample, NewestValue};

/// `/federate`
pub(crate) async fn federate(call: ApiRequest) -> Response {
    let state = call.state.clone();
    if let Err(e) = call.form.check_decoded() {
        return text_error(StatusCode::BAD_REQUEST, &e.message);
    }
    // An empty selector matches no series here. A selector whose matchers accept the empty value
    // does match.
    let sets = match selectors(&state, &call.form) {
        Ok(sets) => sets.into_iter().filter(|set| !set.is_empty()).collect::<Vec<_>>(),
        Err(e) => return text_error(StatusCode::BAD_REQUEST, &e.to_string()),
    };
    let now = state.sources.clock.now();
    let from = now.saturating_sub(state.settings.queries.lookback);
    let AcceptedFormat { names, form, content_type } = AcceptedFormat::new(call.header(header::ACCEPT));
    let ask = move |state: &AppState, memory: &MemoryReservation| {
        let samples = state.sources.queries.catalog.newest(&sets, from, now, memory)?;
        Ok(ordered(samples, names, form))
    };
    match listed(&state, ask).await {
        Ok(StoreList { found, deadline }) => {
            let page = Page::new(found, state.sources.admin.external_labels(), names);
            let body = match form {
                Form::Text => sending::body(page, deadline),
                Form::Protobuf => sending::body(messages::Messages(page), deadline),
            };
            ([(header::CONTENT_TYPE, content_type)], body).into_response()
        }
        Err(e) => {
            state.telemetry.federation_errors.inc();
            failure(&e)
        }
    }
}

/// The answer of a federation that failed: Prometheus' 500, unless the request has to be smaller or
/// later.
fn failure(error: &ApiError) -> Response {
    let status = match error.kind {
        ErrorType::LimitReached | ErrorType::UnavailableNow => error.kind.status(),
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    };
    with_retry(text_error(status, &error.message), error.kind.retry_after())
}

/// How to write a name that the text format before version 1.0.0 cannot express: the escaping
/// schemes that `Accept` can name.
#[derive(Clone, Copy, Debug, PartialEq)]
enum NameEscaping {
    /// The name as it is, in quotes.
    Quoted,
    /// Each character that is not allowed becomes `_`.
    Underscored,
    /// A dot becomes `_dot_`, `_` becomes `__`, and so do other characters that are not allowed.
    Dots,
    /// A `U__` prefix; each character that is not allowed becomes its code point between
    /// underscores, and `_` becomes `__`.
    Values,
}

impl NameEscaping {
    fn from_scheme(name: &str) -> Option<NameEscaping> {
        Some(match name {
            "allow-utf-8" => NameEscaping::Quoted,
            "underscores" => NameEscaping::Underscored,
            "dots" => NameEscaping::Dots,
            "values" => NameEscaping::Values,
            _ => return None,
        })
    }

    fn scheme(self) -> &'static str {
        match self {
            NameEscaping::Quoted => "allow-utf-8",
            NameEscaping::Underscored => "underscores",
            NameEscaping::Dots => "dots",
            NameEscaping::Values => "values",
        }
    }

    /// The name as it is written where no quotes are needed. As in Prometheus, label names may
    /// contain a colon then.
    fn write_bare(self, name: &str) -> Cow<'_, str> {
        if self == NameEscaping::Quoted { Cow::Borrowed(name) } else { self.write(name, true) }
    }

    /// The name as it is written, quotes included; only metric names may have a `colon`.
    fn write(self, name: &str, colon: bool) -> Cow<'_, str> {
        let fits = |(at, c): (usize, char)| {
            c == '_' || c.is_ascii_alphabetic() || (at > 0 && c.is_ascii_digit()) || (colon && c == ':')
        };
        if !name.is_empty() && name.char_indices().all(fits) {
            return Cow::Borrowed(name);
        }
        match self {
            NameEscaping::Quoted => format!("\"{}\"", escaped(name)).into(),
            NameEscaping::Underscored => {
                name.char_indices().map(|at| if fits(at) { at.1 } else { '_' }).collect()
            }
            NameEscaping::Dots | NameEscaping::Values => self.spelled(name, fits).into(),
        }
    }

    /// The name escaped so that a reader can restore it.
    fn spelled(self, name: &str, fits: impl Fn((usize, char)) -> bool) -> String {
        let mut out = if self == NameEscaping::Values { "U__".to_owned() } else { String::new() };
        for (at, c) in name.char_indices() {
            match c {
                '_' => out.push_str("__"),
                '.' if self == NameEscaping::Dots => out.push_str("_dot_"),
                c if fits((at, c)) => out.push(c),
                c if self == NameEscaping::Values => out.push_str(&format!("_{:x}_", u32::from(c))),
                _ => out.push_str("__"),
            }
        }
        out
    }
}

/// The format in which samples are written.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Form {
    /// The text format.
    Text,
    /// `MetricFamily` messages, each preceded by its length.
    Protobuf,
}

/// What a scraper accepts.
pub(crate) struct AcceptedFormat {
    names: NameEscaping,
    /// The format.
    pub(crate) form: Form,
    /// The `Content-Type` of the answer.
    pub(crate) content_type: String,
}

impl AcceptedFormat {
    /// Reads the scraper's `Accept` header. The escaping scheme is that of the last entry that
    /// names one, up to the first entry that the server can answer. Version 1.0.0 of the text
    /// format is used only if the scraper asks for it and for unescaped names.
    pub(crate) fn new(accept: &str) -> AcceptedFormat {
        let mut names = NameEscaping::Underscored;
        let mut version = "0.0.4";
        for (media_type, parameters) in by_weight(accept) {
            let parameter = |name: &str| parameters.iter().find(|(other, _)| *other == name).map(|(_, v)| *v);
            names = parameter("escaping").and_then(NameEscaping::from_scheme).unwrap_or(names);
            match (media_type, parameter("version")) {
                (PROTOBUF, _)
                    if (parameter("proto"), parameter("encoding")) == (Some(FAMILY), Some("delimited")) =>
                {
                    let scheme = names.scheme();
                    let content_type =
                        format!("{PROTOBUF}; proto={FAMILY}; encoding=delimited; escaping={scheme}");
                    return AcceptedFormat { names, form: Form::Protobuf, content_type };
                }
                ("text/plain", None | Some("" | "0.0.4")) => break,
                ("text/plain", Some("1.0.0")) if names == NameEscaping::Quoted => {
                    version = "1.0.0";
                    break;
                }
                _ => {}
            }
        }
        let content_type =
            format!("text/plain; version={version}; charset=utf-8; escaping={}", names.scheme());
        AcceptedFormat { names, form: Form::Text, content_type }
    }
}

const PROTOBUF: &str = "application/vnd.google.protobuf";
const FAMILY: &str = "io.prometheus.client.MetricFamily";

/// A media type with its parameters.
type Entry<'a> = (&'a str, Vec<(&'a str, &'a str)>);

/// The entries of an `Accept` header, highest weight first.
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

/// The samples sorted by metric name. Leaves out what the format cannot express: series without a
/// name, and native histograms in the text format.
fn ordered(mut samples: Vec<NewestSample>, names: NameEscaping, form: Form) -> Vec<NewestSample> {
    let has_place = |sample: &NewestSample| match &sample.value {
        NewestValue::Histogram(h) => form == Form::Protobuf || h.is_custom(),
        NewestValue::Float(_) => true,
    };
    samples.retain(|sample| !sample.labels.name().is_empty() && has_place(sample));
    let name = |sample: &NewestSample| names.write(sample.labels.name(), true).into_owned();
    samples.sort_by_key(name);
    samples
}

/// The metric type of a family.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Untyped,
    Histogram,
    GaugeHistogram,
}

impl Kind {
    fn new(value: &NewestValue) -> Kind {
        match value {
            NewestValue::Float(_) => Kind::Untyped,
            NewestValue::Histogram(h) if h.hint == ResetHint::Gauge => Kind::GaugeHistogram,
            NewestValue::Histogram(_) => Kind::Histogram,
        }
    }
}

/// Writes sorted samples in pieces of about [`CHUNK_BYTES`].
struct Page {
    found: FoundList<NewestSample>,
    next: usize,
    /// The previous sample's name, as it is written, and its type.
    family: (String, Kind),
    external: Labels,
    names: NameEscaping,
}

impl Page {
    fn new(found: FoundList<NewestSample>, external: Labels, names: NameEscaping) -> Page {
        Page { found, next: 0, family: (String::new(), Kind::Untyped), external, names }
    }

    /// The labels that a series is written with, without the name: its own, then the external
    /// labels that it lacks. `instance=""` keeps the scraper from adding its own.
    fn labels<'a>(&'a self, labels: &'a Labels) -> impl Iterator<Item = (&'a str, &'a str)> {
        let own = labels.iter().filter(|(name, _)| *name != METRIC_NAME);
        let added = self.external.iter().filter(|(name, _)| labels.get(name).is_none());
        let has_instance = labels.get("instance").or(self.external.get("instance")).is_some();
        let empty = (!has_instance).then_some(("instance", ""));
        own.chain(added).chain(empty)
    }

    /// Writes one line; `suffix` is appended to the name, `bound` becomes the `le` label.
    fn line(&self, out: &mut String, sample: &NewestSample, suffix: &str, bound: Option<f64>, v: f64) {
        let mut name = self.names.write(sample.labels.name(), true).into_owned();
        // As in Prometheus, the suffix follows the escaped name.
        name.insert_str(name.len() - usize::from(name.ends_with('"')), suffix);
        let mut separator = if name.starts_with('"') { ',' } else { '{' };
        if separator == ',' {
            out.push('{');
        }
        out.push_str(&name);
        for (name, value) in self.labels(&sample.labels) {
            let name = self.names.write(name, false);
            let value = escaped(value);
            let _ = write!(out, "{separator}{name}=\"{value}\"");
            separator = ',';
        }
        if let Some(bound) = bound {
            out.push_str(&format!("{separator}le=\""));
            query_json::value(out, bound);
            out.push('"');
        }
        out.push_str("} ");
        // This format writes minus zero as zero.
        query_json::value(out, if v == 0.0 { 0.0 } else { v });
        let _ = writeln!(out, " {}", sample.t);
    }

    fn sample(&self, out: &mut String, sample: &NewestSample) {
        match &sample.value {
            NewestValue::Float(v) => self.line(out, sample, "", None, *v),
            NewestValue::Histogram(h) => {
                for (bound, count) in cumulative(h).chain([(f64::INFINITY, h.count)]) {
                    self.line(out, sample, "_bucket", Some(bound), count);
                }
                self.line(out, sample, "_sum", None, h.sum);
                self.line(out, sample, "_count", None, h.count);
            }
        }
    }
}

/// The classic buckets of a histogram with custom ones: upper bound, and the number of observations
/// up to it.
fn cumulative(h: &NativeHistogram) -> impl Iterator<Item = (f64, f64)> {
    let mut counts = h.positive.iter().peekable();
    let mut below = 0.0;
    h.bounds.iter().zip(0..).map(move |(bound, index)| {
        while let Some((_, count)) = counts.next_if(|(at, _)| *at <= index) {
            below += count;
        }
        (*bound, below)
    })
}

impl Iterator for Page {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        let mut out = String::new();
        while out.len() < CHUNK_BYTES {
            let Some(sample) = self.found.list.get(self.next) else { break };
            let family =
                (self.names.write(sample.labels.name(), true).into_owned(), Kind::new(&sample.value));
            if family != self.family {
                let kind = if family.1 == Kind::Untyped { "untyped" } else { "histogram" };
                let _ = writeln!(out, "# TYPE {} {kind}", family.0);
            }
            self.sample(&mut out, sample);
            self.family = family;
            self.next += 1;
        }
        (!out.is_empty()).then(|| Bytes::from(out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::memory::MemoryPool;
    use std::sync::Arc;
    use storage::model::TimeMs;
    use storage::model::histogram::{BucketSpan, Buckets, CUSTOM_BUCKETS};
    use testing::assert_proportional;

    type Newest = (Labels, TimeMs, f64);

    /// A page of these samples.
    pub(super) fn page(
        samples: Vec<NewestSample>,
        external: &Labels,
        names: NameEscaping,
        form: Form,
    ) -> Page {
        let memory = MemoryPool::for_queries(usize::MAX).reservation(usize::MAX);
        Page::new(FoundList { list: ordered(samples, names, form), memory }, external.clone(), names)
    }

    pub(super) fn float((labels, t, v): Newest) -> NewestSample {
        NewestSample { labels, t, value: NewestValue::Float(v) }
    }

    fn text(samples: Vec<NewestSample>, external: &Labels, names: NameEscaping) -> String {
        let pieces = page(samples, external, names, Form::Text).flat_map(|piece| piece.to_vec());
        String::from_utf8(pieces.collect()).unwrap()
    }

    fn render(samples: Vec<Newest>, external: &Labels, names: NameEscaping) -> String {
        text(samples.into_iter().map(float).collect(), external, names)
    }

    /// A histogram with the custom bounds 0.5, 1 and 2.5, or one of schema 0.
    pub(super) fn histogram(name: &str, is_custom: bool, hint: ResetHint) -> NewestSample {
        let spans = vec![BucketSpan { offset: 0, length: 2 }, BucketSpan { offset: 1, length: 1 }];
        let h = NativeHistogram {
            schema: if is_custom { CUSTOM_BUCKETS } else { 0 },
            zero_threshold: if is_custom { 0.0 } else { 0.25 },
            count: 7.0,
            sum: 9.5,
            hint,
            positive: Buckets { spans, counts: vec![1.0, 2.0, 4.0] },
            bounds: if is_custom { vec![0.5, 1.0, 2.5].into() } else { Arc::default() },
            ..NativeHistogram::default()
        };
        let labels = Labels::from_pairs([("__name__", name), ("instance", "i")]);
        NewestSample { labels, t: 7, value: NewestValue::Histogram(Arc::new(h)) }
    }

    #[test]
    fn custom_buckets_are_classic_ones_in_text_and_others_have_no_place() {
        let samples = vec![
            histogram("e", false, ResetHint::Unknown),
            histogram("h.x", true, ResetHint::Unknown),
            float((Labels::from_pairs([("__name__", "h.x"), ("instance", "f")]), 8, 2.0)),
            histogram("h", true, ResetHint::Gauge),
        ];
        let lines = |name: &str| {
            let line =
                |suffix: &str, le: &str, v: &str| format!("{}{le}}} {v} 7\n", name.replace('%', suffix));
            let bucket = |le, v| line("_bucket", &format!(",le=\"{le}\""), v);
            let buckets =
                [bucket("0.5", "1"), bucket("1", "3"), bucket("2.5", "3"), bucket("+Inf", "7")].concat();
            format!("{buckets}{}{}", line("_sum", "", "9.5"), line("_count", "", "7"))
        };
        let none = Labels::default();
        let quoted = text(samples.clone(), &none, NameEscaping::Quoted);
        let dotted = lines("{\"h.x%\",instance=\"i\"");
        let float = "# TYPE \"h.x\" untyped\n{\"h.x\",instance=\"f\"} 2 8\n";
        let plain = lines("h%{instance=\"i\"");
        assert_eq!(quoted, format!("# TYPE \"h.x\" histogram\n{dotted}{float}# TYPE h histogram\n{plain}"));
        let old = text(samples.clone(), &none, NameEscaping::Underscored);
        assert!(
            old.ends_with(&format!(
                "# TYPE h_x histogram\n{}# TYPE h_x untyped\nh_x{{instance=\"f\"}} 2 8\n",
                lines("h_x%{instance=\"i\"")
            )),
            "{old}"
        );
    }

    #[test]
    fn twice_the_samples_or_labels_cost_twice_as_much() {
        type Samples = Vec<(Labels, TimeMs, f64)>;
        let none = Labels::default();
        let external = Labels::from_pairs([("dc", "x")]);
        for accept in ["text/plain", "text/plain;version=1.0.0;escaping=allow-utf-8"] {
            let names = AcceptedFormat::new(accept).names;
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
            // External labels: the server adds them to every sample.
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
        let text = render(vec![(up, 1_500, 1.0), (sum, 2_000, 0.5)], &external, NameEscaping::Underscored);
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
        assert_eq!(render(sample(), &none, AcceptedFormat::new(accept).names), quoted);
        let old = "# TYPE a_b_1 untyped\na_b_1{c_d=\"v\",instance=\"x\"} 2 1\n";
        assert_eq!(render(sample(), &none, AcceptedFormat::new("text/plain;version=0.0.4").names), old);
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
            // Entries of a lower weight than the first one that the server can answer are ignored.
            ("text/plain;version=1.0.0;escaping=dots;q=0.2,text/plain;q=0.5", "0.0.4", "underscores"),
        ] {
            assert_eq!(AcceptedFormat::new(accept).content_type, format(version, scheme), "{accept}");
        }
        for (names, written) in [
            (NameEscaping::Quoted, "\"a_b.c:é\""),
            (NameEscaping::Underscored, "a_b_c:_"),
            (NameEscaping::Dots, "a__b_dot_c:__"),
            (NameEscaping::Values, "U__a__b_2e_c:_e9_"),
        ] {
            assert_eq!(names.write("a_b.c:é", true), written);
            assert_eq!(names.write("a_b:c", true), "a_b:c");
        }
        assert_eq!(NameEscaping::Values.write("1:", false), "U___31__3a_");
    }
}
