//! JSON of query results, written directly into a buffer in Prometheus' exact notation.
//!
//! The values of a vector have Go's shortest form that parses to the same number (`1e-07`, `+Inf`);
//! the value of a scalar never has an exponent. Times are in seconds, with three decimals exactly
//! if there are milliseconds (the time of a scalar has the shortest form). [`chunks`] turns an
//! answer of any size into pieces.

pub use super::histogram_json::write as histogram;
use super::limits::CHUNK_BYTES;
use bytes::Bytes;
use engine::memory::MemoryReservation;
use engine::query::{QueryAnswer, QueryValue, Series, VectorSample};
use engine::types::go_text::{each, is_utf8};
use std::fmt::Write;
use storage::model::number::{go_exponent, not_finite};
use storage::model::{Labels, NativeHistogram, TimeMs};

/// Appends `text` as a JSON string; bytes that are not UTF-8 (see [`engine::types::go_text`])
/// become `\ufffd`, as in Go.
pub fn string(out: &mut String, text: &str) {
    // The first byte of an encoded non-UTF-8 byte; hardly any other text contains it.
    const MAYBE_BYTE: u8 = 0xEF;
    out.push('"');
    let special = |byte: u8| byte < 0x20 || byte == b'"' || byte == b'\\' || byte == MAYBE_BYTE;
    // Most texts need no escaping. The loop has no early exit, so that the compiler can vectorise
    // it.
    // JSON needs no escape for anything above 0x1f but quote and backslash; Go also leaves `<`, `>`
    // and `&` alone here, because Prometheus switches HTML escaping off.
    if !text.bytes().fold(false, |any, byte| any | special(byte)) {
        out.push_str(text);
    } else if text.as_bytes().contains(&MAYBE_BYTE) && !is_utf8(text) {
        each(text, |part| match part {
            Ok(c) => escaped(out, c.encode_utf8(&mut [0; 4])),
            Err(_) => out.push_str("\\ufffd"),
        });
    } else {
        escaped(out, text);
    }
    out.push('"');
}

fn escaped(out: &mut String, text: &str) {
    let mut from = 0;
    for (at, byte) in text.bytes().enumerate() {
        if byte >= 0x20 && byte != b'"' && byte != b'\\' {
            continue;
        }
        out.push_str(&text[from..at]);
        match byte {
            b'"' => out.push_str("\\\""),
            b'\\' => out.push_str("\\\\"),
            // The short forms are those that Go's encoder writes; it writes the others, such as
            // `\b`, as code points.
            b'\n' => out.push_str("\\n"),
            b'\r' => out.push_str("\\r"),
            b'\t' => out.push_str("\\t"),
            other => drop(write!(out, "\\u{other:04x}")),
        }
        from = at + 1;
    }
    out.push_str(&text[from..]);
}

/// Appends `,"name":[…]`, or nothing if the list is empty.
pub fn string_list(out: &mut String, name: &str, list: &[String]) {
    for (i, text) in list.iter().enumerate() {
        if i == 0 {
            let _ = write!(out, ",\"{name}\":[");
        } else {
            out.push(',');
        }
        string(out, text);
    }
    if !list.is_empty() {
        out.push(']');
    }
}

/// Appends a label set as an object; names are in byte order.
pub fn labels(out: &mut String, labels: &Labels) {
    out.push('{');
    for (i, (name, value)) in labels.iter().enumerate() {
        if i > 0 {
            out.push(',');
        }
        string(out, name);
        out.push(':');
        string(out, value);
    }
    out.push('}');
}

/// Appends a time in seconds: three decimals exactly if it has milliseconds.
pub fn time(out: &mut String, t: TimeMs) {
    // `unsigned_abs`, because the smallest time has no positive counterpart.
    let seconds = t.unsigned_abs() / 1000;
    let ms = t.unsigned_abs() % 1000;
    if t < 0 {
        out.push('-');
    }
    digits(out, seconds);
    if ms > 0 {
        let _ = write!(out, ".{ms:03}");
    }
}

/// Appends a whole number. This is several times as fast as `format!`, and large answers consist
/// mostly of numbers.
fn digits(out: &mut String, mut n: u64) {
    // Enough for the largest 64-bit number.
    let mut bytes = [0; 20];
    let mut at = bytes.len();
    loop {
        at -= 1;
        bytes[at] = b'0' + (n % 10) as u8;
        n /= 10;
        if n == 0 {
            break;
        }
    }
    out.push_str(std::str::from_utf8(&bytes[at..]).unwrap_or_default());
}

/// Appends a sample value without quotes: Go's `FormatFloat(v, 'f', -1, 64)`, but with an exponent
/// if the value is tiny or huge.
pub fn value(out: &mut String, v: f64) {
    let size = v.abs();
    // Go's `encoding/json` has these two bounds for floats; Prometheus uses them for sample values.
    if v.is_finite() && size != 0.0 && !(1e-6..1e21).contains(&size) {
        out.push_str(&go_exponent(&format!("{v:e}")));
    } else {
        plain(out, v);
    }
}

/// Appends a number without quotes and without an exponent.
fn plain(out: &mut String, v: f64) {
    /// Integers below this are exact as `u64`, which prints several times as fast.
    const EXACT: f64 = (1u64 << 53) as f64;
    if v.is_nan() {
        out.push_str("NaN");
    } else if v.is_infinite() {
        out.push_str(if v > 0.0 { "+Inf" } else { "-Inf" });
    // Counters and gauges of bytes are whole numbers: this branch takes most values.
    } else if v.abs() < EXACT && v.fract() == 0.0 {
        // Not `v < 0.0`: minus zero is written as `-0`, as in Go.
        if v.is_sign_negative() {
            out.push('-');
        }
        digits(out, v.abs() as u64);
    } else {
        // The same digits as the standard library's, but small and large numbers get an exponent.
        let mut buffer = ryu::Buffer::new();
        let text = buffer.format_finite(v);
        // `ryu` writes whole numbers with `.0`, which Go does not.
        if v.fract() == 0.0 || text.contains('e') {
            let _ = write!(out, "{v}");
        } else {
            out.push_str(text);
        }
    }
}

/// A number in Go's `%e` with the shortest digits, as alerts show their value: `9.3e+01`.
pub fn alert_value(v: f64) -> String {
    not_finite(v).unwrap_or_else(|| go_exponent(&format!("{v:e}")))
}

fn point(out: &mut String, t: TimeMs, v: f64) {
    out.push('[');
    time(out, t);
    out.push_str(",\"");
    value(out, v);
    out.push_str("\"]");
}

fn histogram_point(out: &mut String, t: TimeMs, h: &NativeHistogram) {
    out.push('[');
    time(out, t);
    out.push(',');
    histogram(out, h);
    out.push(']');
}

fn vector_sample(out: &mut String, sample: &VectorSample) {
    out.push_str(r#"{"metric":"#);
    labels(out, &sample.labels);
    match &sample.h {
        None => {
            out.push_str(r#","value":"#);
            point(out, sample.t, sample.v);
        }
        Some(h) => {
            out.push_str(r#","histogram":"#);
            histogram_point(out, sample.t, h);
        }
    }
    out.push('}');
}

/// The annotations of an answer, as text.
#[derive(Clone, Debug, Default)]
pub struct AnnotationTexts {
    /// The `warnings` of the envelope.
    pub warnings: Vec<String>,
    /// The `infos` of the envelope.
    pub infos: Vec<String>,
}

/// The pieces of an envelope with an answer, each of about [`CHUNK_BYTES`].
pub struct ResponseChunks {
    answer: QueryAnswer,
    remarks: AnnotationTexts,
    stats: String,
    state: ChunkState,
}

enum ChunkState {
    Head,
    /// The next element, and the next point in it if it is a series.
    Items(usize, usize),
    Done,
}

/// The pieces of the envelope of `answer`; `stats` is the JSON of `data.stats`, or empty.
pub fn chunks(answer: QueryAnswer, remarks: AnnotationTexts, stats: String) -> ResponseChunks {
    ResponseChunks { answer, remarks, stats, state: ChunkState::Head }
}

impl Iterator for ResponseChunks {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        let mut out =
            // The first piece of most answers is the only one, and small.
            String::with_capacity(if matches!(self.state, ChunkState::Head) { 512 } else { CHUNK_BYTES });
        loop {
            match self.state {
                ChunkState::Done if out.is_empty() => return None,
                // Before `Done`: a tail that filled the piece is sent, and the next call ends the
                // list.
                _ if out.len() >= CHUNK_BYTES => break,
                ChunkState::Done => break,
                ChunkState::Head => self.head(&mut out),
                ChunkState::Items(item, at) => self.item(&mut out, item, at),
            }
        }
        Some(Bytes::from(out))
    }
}

impl ResponseChunks {
    fn head(&mut self, out: &mut String) {
        let kind = match &self.answer.value {
            QueryValue::Scalar(..) => "scalar",
            QueryValue::Text(..) => "string",
            QueryValue::Vector(_) => "vector",
            QueryValue::Matrix(_) => "matrix",
        };
        let _ = write!(out, r#"{{"status":"success","data":{{"resultType":"{kind}","result":["#);
        self.state = ChunkState::Items(0, 0);
    }

    fn item(&mut self, out: &mut String, item: usize, at: usize) {
        match &self.answer.value {
            QueryValue::Vector(samples) => match samples.get(item) {
                Some(sample) => {
                    out.push_str(if item > 0 { "," } else { "" });
                    vector_sample(out, sample);
                    self.state = ChunkState::Items(item + 1, 0);
                }
                None => self.tail(out),
            },
            QueryValue::Matrix(series) => match series.get(item) {
                Some(series) => self.state = series_part(out, series, item, at),
                None => self.tail(out),
            },
            QueryValue::Scalar(t, v) => {
                let _ = write!(out, "{}", *t as f64 / 1000.0);
                out.push_str(",\"");
                plain(out, *v);
                out.push('"');
                self.tail(out);
            }
            // Prometheus writes the time of a scalar or a string in Go's shortest form; only the
            // times of samples have exactly three decimals.
            QueryValue::Text(t, text) => {
                let _ = write!(out, "{}", *t as f64 / 1000.0);
                out.push(',');
                string(out, text);
                self.tail(out);
            }
        }
    }

    fn tail(&mut self, out: &mut String) {
        out.push(']');
        if !self.stats.is_empty() {
            out.push_str(r#","stats":"#);
            out.push_str(&self.stats);
        }
        out.push('}');
        string_list(out, "warnings", &self.remarks.warnings);
        string_list(out, "infos", &self.remarks.infos);
        out.push('}');
        self.state = ChunkState::Done;
    }
}

/// The pieces of an envelope with a list, each of about [`CHUNK_BYTES`].
pub struct List<T> {
    found: FoundList<T>,
    write: fn(&mut String, &T),
    warnings: Vec<String>,
    state: ChunkState,
}

/// A list that a request found, and its share of the memory of all answers.
pub struct FoundList<T> {
    /// The list.
    pub list: Vec<T>,
    /// The memory of the list; released when the list is dropped.
    pub memory: MemoryReservation,
}

impl<T> List<T> {
    /// The pieces of the envelope of `found`; `write` appends one item.
    pub fn new(found: FoundList<T>, write: fn(&mut String, &T), warnings: Vec<String>) -> List<T> {
        List { found, write, warnings, state: ChunkState::Head }
    }
}

impl<T> Iterator for List<T> {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        let mut out = String::new();
        while out.len() < CHUNK_BYTES {
            match self.state {
                ChunkState::Done => break,
                ChunkState::Head => {
                    out.push_str(r#"{"status":"success","data":["#);
                    self.state = ChunkState::Items(0, 0);
                }
                ChunkState::Items(item, _) => match self.found.list.get(item) {
                    Some(one) => {
                        out.push_str(if item > 0 { "," } else { "" });
                        (self.write)(&mut out, one);
                        self.state = ChunkState::Items(item + 1, 0);
                    }
                    None => {
                        out.push(']');
                        string_list(&mut out, "warnings", &self.warnings);
                        out.push('}');
                        self.state = ChunkState::Done;
                    }
                },
            }
        }
        (!out.is_empty()).then(|| Bytes::from(out))
    }
}

/// Writes the points of a series from index `at` on, floats before histograms, until the chunk is
/// full. Returns what comes next.
fn series_part(out: &mut String, series: &Series, item: usize, at: usize) -> ChunkState {
    let points = &series.points;
    let histograms = &series.histograms;
    // Floats first, as in Prometheus; a series with both at one time cannot exist.
    let all = points.len() + histograms.len();
    // A series that is continued in this piece has its head in the one before.
    if at == 0 {
        out.push_str(if item > 0 { "," } else { "" });
        out.push_str(r#"{"metric":"#);
        labels(out, &series.labels);
    }
    for i in at..all {
        match i.checked_sub(points.len()) {
            None => {
                out.push_str(if i == 0 { r#","values":["# } else { "," });
                let (t, v) = points[i];
                point(out, t, v);
            }
            Some(i) => {
                out.push_str(if i == 0 { r#","histograms":["# } else { "," });
                let (t, h) = &histograms[i];
                histogram_point(out, *t, h);
            }
        }
        let next = i + 1;
        if next == points.len() || next == all {
            out.push(']');
        }
        // Never in the middle of a point, and never just before the end: an empty rest would need a
        // state of its own.
        if out.len() >= CHUNK_BYTES && next < all {
            return ChunkState::Items(item, next);
        }
    }
    out.push('}');
    ChunkState::Items(item + 1, 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::memory::MemoryPool;
    use engine::query::AnswerMemory;
    use engine::query::guard::SampleStats;
    use proptest::prelude::*;
    use std::sync::Arc;
    use testing::assert_proportional;

    #[test]
    fn answers_of_twice_the_size_cost_twice_as_much() {
        let labels = |n: usize| Labels::from_pairs((0..n).map(|i| (format!("l{i}"), format!("v{i}"))));
        let sample = |labels: Labels| VectorSample { labels, t: 1_500, v: 0.1, h: None, drops: false };
        let points = |n: usize| (0..n as i64).map(|t| (t, t as f64 / 3.0)).collect::<Vec<(TimeMs, f64)>>();
        let write = |value: &QueryValue| whole(value.clone()).len();
        let wide = |n: usize| QueryValue::Vector(vec![sample(labels(n))]);
        assert_proportional("labels", 5_000, wide, write);
        let many = |n: usize| QueryValue::Vector((0..n).map(|_| sample(labels(3))).collect());
        assert_proportional("samples", 5_000, many, write);
        let series = |points| Series { labels: labels(3), points, histograms: Vec::new(), drops: false };
        assert_proportional("points", 20_000, |n| QueryValue::Matrix(vec![series(points(n))]), write);
        let matrix = |n: usize| QueryValue::Matrix((0..n).map(|_| series(points(2))).collect());
        assert_proportional("series", 5_000, matrix, write);
        let histogram = Arc::new(NativeHistogram { count: 2.0, sum: 3.5, ..NativeHistogram::default() });
        let histograms = |n: usize| {
            let of_times = (0..n as i64).map(|t| (t, histogram.clone())).collect();
            QueryValue::Matrix(vec![Series {
                labels: labels(3),
                points: Vec::new(),
                histograms: of_times,
                drops: false,
            }])
        };
        assert_proportional("histograms", 5_000, histograms, write);
        for text in ["a", "\"", "\n", "\u{1}", "é", "\u{efff}"] {
            let long = |n: usize| QueryValue::Text(0, text.repeat(n));
            assert_proportional(&format!("a text of {text:?}"), 20_000, long, write);
        }
        let bytes = |n: usize| QueryValue::Text(0, engine::types::go_text::from_bytes(&vec![0xff; n]));
        assert_proportional("bytes that are no text", 20_000, bytes, write);
    }

    fn shown(v: f64) -> String {
        let mut out = String::new();
        value(&mut out, v);
        out
    }

    fn whole(value: QueryValue) -> String {
        let samples = SampleStats::default();
        let memory = AnswerMemory::default();
        let answer = QueryAnswer { value, annotations: vec![], samples, memory };
        chunks(answer, AnnotationTexts::default(), String::new())
            .map(|c| String::from_utf8(c.to_vec()).unwrap())
            .collect()
    }

    #[test]
    fn values_as_go_prints_them() {
        let golden = [
            (0.0, "0"),
            (-0.0, "-0"),
            (1.0, "1"),
            (-17.0, "-17"),
            (0.1, "0.1"),
            (1.0 / 3.0, "0.3333333333333333"),
            (1e-6, "0.000001"),
            (9.99e-7, "9.99e-07"),
            (1e-7, "1e-07"),
            (-2.5e-7, "-2.5e-07"),
            (5e-324, "5e-324"),
            (1e20, "100000000000000000000"),
            (1e21, "1e+21"),
            (f64::MAX, "1.7976931348623157e+308"),
            (9_007_199_254_740_993.0, "9007199254740992"),
            (f64::NAN, "NaN"),
            (f64::INFINITY, "+Inf"),
            (f64::NEG_INFINITY, "-Inf"),
        ];
        for (v, text) in golden {
            assert_eq!(shown(v), text);
        }
        assert_eq!(
            (alert_value(93.0), alert_value(0.0), alert_value(1e-10)),
            ("9.3e+01".into(), "0e+00".into(), "1e-10".into())
        );
    }

    #[test]
    fn halfway_between_two_shortest_the_even_one_as_in_go() {
        assert_eq!(shown(-631_951_547_469_358.0 - 0.25), "-631951547469358.2");
    }

    proptest! {
        #[test]
        fn numbers_as_the_standard_library_prints_them(
            v in prop_oneof![any::<f64>(), (any::<i64>(), 0i32..12).prop_map(|(m, e)| (m >> 20) as f64 / 10f64.powi(e))],
        ) {
            let mut out = String::new();
            plain(&mut out, v);
            if v.is_finite() {
                // The library rounds up halfway between two numbers; with a given number of
                // decimals it rounds to even.
                let theirs = format!("{v}");
                let decimals = theirs.find('.').map_or(0, |at| theirs.len() - at - 1);
                prop_assert!(out == theirs || out == format!("{v:.decimals$}"), "{} and {}", out, theirs);
                prop_assert_eq!(out.parse::<f64>().map(f64::to_bits), Ok(v.to_bits()));
            }
        }
    }

    #[test]
    fn times_have_three_decimals_or_none() {
        for (t, text) in
            [(0, "0"), (2_000, "2"), (1_500, "1.500"), (1_005, "1.005"), (-1, "-0.001"), (-2_000, "-2")]
        {
            let mut out = String::new();
            time(&mut out, t);
            assert_eq!(out, text);
        }
    }

    #[test]
    fn strings_are_escaped() {
        let mut out = String::new();
        string(&mut out, "a\"b\\c\nd\u{1}é");
        assert_eq!(out, "\"a\\\"b\\\\c\\nd\\u0001é\"");
        assert_eq!(serde_json::from_str::<String>(&out).unwrap(), "a\"b\\c\nd\u{1}é");
        let mut out = String::new();
        string(&mut out, &engine::types::go_text::from_bytes(b"a\xffb"));
        assert_eq!(out, r#""a\ufffdb""#);
    }

    #[test]
    fn every_result_type() {
        assert_eq!(
            whole(QueryValue::Scalar(4_123, 1e-7)),
            r#"{"status":"success","data":{"resultType":"scalar","result":[4.123,"0.0000001"]}}"#
        );
        assert_eq!(
            whole(QueryValue::Text(4_500, "a".into())),
            r#"{"status":"success","data":{"resultType":"string","result":[4.5,"a"]}}"#
        );
        let sample = VectorSample {
            labels: Labels::from_pairs([("job", "x"), ("__name__", "up")]),
            t: 1_500,
            v: 1.0,
            h: None,
            drops: false,
        };
        assert_eq!(
            whole(QueryValue::Vector(vec![sample])),
            r#"{"status":"success","data":{"resultType":"vector","result":[{"metric":{"__name__":"up","job":"x"},"value":[1.500,"1"]}]}}"#
        );
        assert_eq!(
            whole(QueryValue::Matrix(vec![])),
            r#"{"status":"success","data":{"resultType":"matrix","result":[]}}"#
        );
    }

    #[test]
    fn lists_come_in_pieces_and_count_until_they_are_sent() {
        let pool = MemoryPool::for_queries(usize::MAX);
        let names: Vec<String> = (0..50_000).map(|i| format!("name_{i}")).collect();
        let list = |list: Vec<String>| {
            let memory = pool.reservation(usize::MAX);
            memory.grow(list.len()).unwrap();
            List::new(FoundList { list, memory }, |out, name| string(out, name), vec!["cut".to_owned()])
        };
        let mut sent = list(names.clone());
        let pieces: Vec<Bytes> = sent.by_ref().collect();
        assert!(pieces.len() > 3 && pieces.iter().all(|p| p.len() < CHUNK_BYTES + 1_000));
        let json: serde_json::Value = serde_json::from_slice(&pieces.concat()).unwrap();
        assert_eq!(json, serde_json::json!({"status": "success", "data": names, "warnings": ["cut"]}));
        assert_eq!(pool.reserved(), names.len());
        drop(sent);
        assert_eq!(pool.reserved(), 0);
        let none: Vec<Bytes> = list(vec![]).collect();
        assert_eq!(none, [r#"{"status":"success","data":[],"warnings":["cut"]}"#]);
    }

    #[test]
    fn histograms_stand_beside_floats() {
        let h = Arc::new(NativeHistogram { count: 2.0, sum: 3.5, ..NativeHistogram::default() });
        let shown = r#"{"count":"2","sum":"3.5"}"#;
        let labels = Labels::from_pairs([("a", "b")]);
        let sample =
            VectorSample { labels: labels.clone(), t: 1_500, v: f64::NAN, h: Some(h.clone()), drops: false };
        let got = whole(QueryValue::Vector(vec![sample]));
        assert!(got.contains(&format!(r#"[{{"metric":{{"a":"b"}},"histogram":[1.500,{shown}]}}]"#)), "{got}");
        let series = |points: Vec<(TimeMs, f64)>, times: &[TimeMs]| Series {
            labels: labels.clone(),
            points,
            histograms: times.iter().map(|t| (*t, h.clone())).collect(),
            drops: false,
        };
        let mixed = series(vec![(1_000, 1.0), (2_000, 2.0)], &[3_000, 4_000]);
        let got = whole(QueryValue::Matrix(vec![mixed, series(vec![], &[1_000])]));
        let expected = format!(
            r#"{{"metric":{{"a":"b"}},"values":[[1,"1"],[2,"2"]],"histograms":[[3,{shown}],[4,{shown}]]}},{{"metric":{{"a":"b"}},"histograms":[[1,{shown}]]}}"#
        );
        assert!(got.contains(&expected), "{got}");
        // The pieces join correctly wherever they are cut.
        let long = (0..6_000).map(|i| (i, 1.0)).collect();
        let answer = QueryAnswer {
            value: QueryValue::Matrix(vec![series(long, &(6_000..12_000).collect::<Vec<_>>())]),
            annotations: vec![],
            samples: SampleStats::default(),
            memory: AnswerMemory::default(),
        };
        let pieces: Vec<Bytes> = chunks(answer, AnnotationTexts::default(), String::new()).collect();
        let json: serde_json::Value = serde_json::from_slice(&pieces.concat()).unwrap();
        assert!(pieces.len() > 3);
        assert_eq!(json["data"]["result"][0]["values"].as_array().unwrap().len(), 6_000);
        assert_eq!(json["data"]["result"][0]["histograms"].as_array().unwrap().len(), 6_000);
    }

    #[test]
    fn large_answers_come_in_pieces_that_fit_together() {
        let series = |job: &str| Series {
            labels: Labels::from_pairs([("job", job)]),
            points: (0..11_000).map(|i| (i * 1_000, i as f64 / 7.0)).collect(),
            histograms: vec![],
            drops: false,
        };
        let make = || QueryAnswer {
            value: QueryValue::Matrix(vec![series("a"), series("b")]),
            annotations: vec![],
            samples: SampleStats::default(),
            memory: AnswerMemory::default(),
        };
        let remarks = AnnotationTexts { warnings: vec!["w".into()], infos: vec![] };
        let pieces: Vec<Bytes> = chunks(make(), remarks, "{}".into()).collect();
        assert!(pieces.len() > 3 && pieces.iter().all(|p| p.len() < CHUNK_BYTES + 1_000));
        let json: serde_json::Value = serde_json::from_slice(&pieces.concat()).unwrap();
        assert_eq!(json["data"]["result"][1]["values"].as_array().unwrap().len(), 11_000);
        assert_eq!(json["data"]["result"][1]["values"][7], serde_json::json!([7, "1"]));
        assert_eq!(json["warnings"][0], "w");
        assert!(json["data"]["stats"].is_object());
    }
}
