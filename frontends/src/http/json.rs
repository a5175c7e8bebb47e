//! JSON of values: written straight into a buffer, in Prometheus' exact notation.
//!
//! A vector's numbers are Go's shortest round trip (`1e-07`, `+Inf`), a scalar's never have an exponent; times are
//! seconds with three decimals exactly if there are milliseconds (beside a scalar: the shortest number). [`chunks`] turns an answer of any size into pieces.

use super::limits::CHUNK_BYTES;
use bytes::Bytes;
use engine::query::{Answer, Series, Value, VectorSample};
use std::fmt::Write;
use storage::model::{Labels, TimeMs};

/// Appends `text` as a JSON string.
pub fn string(out: &mut String, text: &str) {
    out.push('"');
    let mut from = 0;
    for (at, byte) in text.bytes().enumerate() {
        if byte >= 0x20 && byte != b'"' && byte != b'\\' {
            continue;
        }
        out.push_str(&text[from..at]);
        match byte {
            b'"' => out.push_str("\\\""),
            b'\\' => out.push_str("\\\\"),
            b'\n' => out.push_str("\\n"),
            b'\r' => out.push_str("\\r"),
            b'\t' => out.push_str("\\t"),
            other => drop(write!(out, "\\u{other:04x}")),
        }
        from = at + 1;
    }
    out.push_str(&text[from..]);
    out.push('"');
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

/// Appends a label set as an object, names in byte order.
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
    let (seconds, ms) = (t.unsigned_abs() / 1000, t.unsigned_abs() % 1000);
    let sign = if t < 0 { "-" } else { "" };
    let _ = if ms == 0 { write!(out, "{sign}{seconds}") } else { write!(out, "{sign}{seconds}.{ms:03}") };
}

/// Appends a sample value without quotes: Go's `FormatFloat(v, 'f', -1, 64)`, with an exponent if it is tiny or huge.
pub fn value(out: &mut String, v: f64) {
    let size = v.abs();
    if v.is_finite() && size != 0.0 && !(1e-6..1e21).contains(&size) {
        exponent(out, v);
    } else {
        plain(out, v);
    }
}

/// Appends a number that never has an exponent, without quotes.
fn plain(out: &mut String, v: f64) {
    /// Integers below this are exact in an `i64`, whose printing is several times as fast.
    const EXACT: f64 = (1u64 << 53) as f64;
    let _ = if v.is_nan() {
        write!(out, "NaN")
    } else if v.is_infinite() {
        write!(out, "{}", if v > 0.0 { "+Inf" } else { "-Inf" })
    } else if v.abs() < EXACT && v.fract() == 0.0 && v.to_bits() != (-0.0f64).to_bits() {
        write!(out, "{}", v as i64)
    } else {
        write!(out, "{v}")
    };
}

/// Appends `1e+21`, `-2.5e-07`: Go's exponent has a sign and at least two digits.
fn exponent(out: &mut String, v: f64) {
    let text = format!("{v:e}");
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let (sign, digits) = exponent.strip_prefix('-').map_or(('+', exponent), |digits| ('-', digits));
    let _ = write!(out, "{mantissa}e{sign}{digits:0>2}");
}

/// A number in Go's `%e` with the shortest digits, as alerts show their value: `9.3e+01`.
pub fn alert_value(v: f64) -> String {
    let mut out = String::new();
    if v.is_finite() {
        exponent(&mut out, v)
    } else {
        plain(&mut out, v)
    }
    out
}

fn point(out: &mut String, t: TimeMs, v: f64) {
    out.push('[');
    time(out, t);
    out.push_str(",\"");
    value(out, v);
    out.push_str("\"]");
}

fn vector_sample(out: &mut String, sample: &VectorSample) {
    out.push_str(r#"{"metric":"#);
    labels(out, &sample.labels);
    out.push_str(r#","value":"#);
    point(out, sample.t, sample.v);
    out.push('}');
}

/// An answer as the pieces of an envelope, each of about [`CHUNK_BYTES`].
pub struct Chunks {
    answer: Answer,
    stats: String,
    state: State,
}

enum State {
    Head,
    /// Next element, and next point in it if it is a series.
    Items(usize, usize),
    Done,
}

/// The envelope of `answer`; `stats` is the JSON of `data.stats`, or empty.
pub fn chunks(answer: Answer, stats: String) -> Chunks {
    Chunks { answer, stats, state: State::Head }
}

impl Iterator for Chunks {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        let mut out = String::new();
        loop {
            match self.state {
                State::Done if out.is_empty() => return None,
                _ if out.len() >= CHUNK_BYTES => break,
                State::Done => break,
                State::Head => self.head(&mut out),
                State::Items(item, at) => self.item(&mut out, item, at),
            }
        }
        Some(Bytes::from(out))
    }
}

impl Chunks {
    fn head(&mut self, out: &mut String) {
        let kind = match &self.answer.value {
            Value::Scalar(..) => "scalar",
            Value::Text(..) => "string",
            Value::Vector(_) => "vector",
            Value::Matrix(_) => "matrix",
        };
        let _ = write!(out, r#"{{"status":"success","data":{{"resultType":"{kind}","result":["#);
        self.state = State::Items(0, 0);
    }

    fn item(&mut self, out: &mut String, item: usize, at: usize) {
        match &self.answer.value {
            Value::Vector(samples) => match samples.get(item) {
                Some(sample) => {
                    out.push_str(if item > 0 { "," } else { "" });
                    vector_sample(out, sample);
                    self.state = State::Items(item + 1, 0);
                }
                None => self.tail(out),
            },
            Value::Matrix(series) => match series.get(item) {
                Some(series) => self.state = series_part(out, series, item, at),
                None => self.tail(out),
            },
            Value::Scalar(t, v) => {
                let _ = write!(out, "{}", *t as f64 / 1000.0);
                out.push_str(",\"");
                plain(out, *v);
                out.push('"');
                self.tail(out);
            }
            Value::Text(t, text) => {
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
        string_list(out, "warnings", &self.answer.warnings);
        string_list(out, "infos", &self.answer.infos);
        out.push('}');
        self.state = State::Done;
    }
}

/// Writes points of a series from `at` on until the chunk is full; what comes next.
fn series_part(out: &mut String, series: &Series, item: usize, at: usize) -> State {
    if at == 0 {
        out.push_str(if item > 0 { "," } else { "" });
        out.push_str(r#"{"metric":"#);
        labels(out, &series.labels);
        out.push_str(r#","values":["#);
    }
    for (i, (t, v)) in series.points.iter().enumerate().skip(at) {
        if i > 0 {
            out.push(',');
        }
        point(out, *t, *v);
        if out.len() >= CHUNK_BYTES && i + 1 < series.points.len() {
            return State::Items(item, i + 1);
        }
    }
    out.push_str("]}");
    State::Items(item + 1, 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(v: f64) -> String {
        let mut out = String::new();
        value(&mut out, v);
        out
    }

    fn whole(value: Value) -> String {
        let answer = Answer { value, warnings: vec![], infos: vec![], samples: 0 };
        chunks(answer, String::new()).map(|c| String::from_utf8(c.to_vec()).unwrap()).collect()
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
    }

    #[test]
    fn every_result_type() {
        assert_eq!(
            whole(Value::Scalar(4_123, 1e-7)),
            r#"{"status":"success","data":{"resultType":"scalar","result":[4.123,"0.0000001"]}}"#
        );
        assert_eq!(
            whole(Value::Text(4_500, "a".into())),
            r#"{"status":"success","data":{"resultType":"string","result":[4.5,"a"]}}"#
        );
        let sample =
            VectorSample { labels: Labels::from_pairs([("job", "x"), ("__name__", "up")]), t: 1_500, v: 1.0 };
        assert_eq!(
            whole(Value::Vector(vec![sample])),
            r#"{"status":"success","data":{"resultType":"vector","result":[{"metric":{"__name__":"up","job":"x"},"value":[1.500,"1"]}]}}"#
        );
        assert_eq!(
            whole(Value::Matrix(vec![])),
            r#"{"status":"success","data":{"resultType":"matrix","result":[]}}"#
        );
    }

    #[test]
    fn large_answers_come_in_pieces_that_fit_together() {
        let series = |job: &str| Series {
            labels: Labels::from_pairs([("job", job)]),
            points: (0..11_000).map(|i| (i * 1_000, i as f64 / 7.0)).collect(),
        };
        let make = || Answer {
            value: Value::Matrix(vec![series("a"), series("b")]),
            warnings: vec!["w".into()],
            infos: vec![],
            samples: 0,
        };
        let pieces: Vec<Bytes> = chunks(make(), "{}".into()).collect();
        assert!(pieces.len() > 3 && pieces.iter().all(|p| p.len() < CHUNK_BYTES + 1_000));
        let json: serde_json::Value = serde_json::from_slice(&pieces.concat()).unwrap();
        assert_eq!(json["data"]["result"][1]["values"].as_array().unwrap().len(), 11_000);
        assert_eq!(json["data"]["result"][1]["values"][7], serde_json::json!([7, "1"]));
        assert_eq!(json["warnings"][0], "w");
        assert!(json["data"]["stats"].is_object());
    }
}
