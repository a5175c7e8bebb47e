//! Tests both text formats against tables, and that arbitrary bytes cause no panic.

use super::*;
use proptest::prelude::*;
use storage::model::value::{NORMAL_NAN_BITS, is_absent};

type Row = (String, f64, Option<i64>);

fn read(body: &str, format: TextFormat) -> Result<Vec<Row>, String> {
    let mut parser = ExpositionParser::new(body.as_bytes(), format);
    let mut rows = Vec::new();
    while let Some(entry) = parser.next(&[]).map_err(|e| e.to_string())? {
        if let ExpositionEntry::Sample(sample) = entry {
            let labels = series::parse(sample.series, parser.context())
                .map_err(|e| parser.error(e.into()).to_string())?;
            rows.push((labels.build().to_string(), sample.value, sample.t));
        }
    }
    Ok(rows)
}

fn series_of(body: &str, format: TextFormat) -> Vec<String> {
    read(body, format).unwrap_or_else(|e| panic!("{body}: {e}")).into_iter().map(|row| row.0).collect()
}

#[test]
fn text_lines() {
    let table: &[(&str, &str, f64, Option<i64>)] = &[
        ("a 1\n", "a", 1.0, None),
        ("a 1", "a", 1.0, None),
        ("  a\t{ } \t1  \n", "a", 1.0, None),
        ("a{} -1.5e3 1234", "a", -1500.0, Some(1234)),
        ("a+1 5", "a", 1.0, Some(5)),
        ("a{b=\"c\"}2", "a{b=\"c\"}", 2.0, None),
        ("a{b=\"c\" d=\"e\"\t\"f\"=\"g\"} 1", "a{b=\"c\", d=\"e\", f=\"g\"}", 1.0, None),
        ("{b=\"c\" \"a\"} 1", "a{b=\"c\"}", 1.0, None),
        ("a{b=\"c\",} +Inf", "a{b=\"c\"}", f64::INFINITY, None),
        ("a {b=\"c\" , d = \"e\"}-Inf", "a{b=\"c\", d=\"e\"}", f64::NEG_INFINITY, None),
        ("a{b=\"x}y{\\\"z\\\\\\n\"} 1", "a{b=\"x}y{\\\"z\\\\\\n\"}", 1.0, None),
        ("a{b=\"\\d\"} 1", "a{b=\"\\\\d\"}", 1.0, None),
        ("a{b=\"ü\"} 1", "a{b=\"ü\"}", 1.0, None),
        ("a{b=\"\"} 1", "a", 1.0, None),
        ("{\"my.metric\"} 1", "my.metric", 1.0, None),
        ("{\"my.metric\",a=\"b\",\"l n\"=\"v\"} 1", "my.metric{a=\"b\", l n=\"v\"}", 1.0, None),
        ("job:a:rate5m 0x 1", "", 0.0, None),
    ];
    for (line, labels, value, t) in &table[..table.len() - 1] {
        assert_eq!(read(line, TextFormat::Text), Ok(vec![(labels.to_string(), *value, *t)]), "{line}");
    }
    assert!(read(table[table.len() - 1].0, TextFormat::Text).is_err());
}

#[test]
fn numbers() {
    for (text, bits) in [
        ("NaN", NORMAL_NAN_BITS),
        ("nan", NORMAL_NAN_BITS),
        ("+Inf", f64::INFINITY.to_bits()),
        ("inf", f64::INFINITY.to_bits()),
        ("-Infinity", f64::NEG_INFINITY.to_bits()),
        ("1e-5", 1e-5f64.to_bits()),
        ("+1", 1f64.to_bits()),
        (".5", 0.5f64.to_bits()),
        ("5.", 5f64.to_bits()),
        ("-0", (-0f64).to_bits()),
        ("1.7976931348623157e308", f64::MAX.to_bits()),
        ("18446744073709551615", 18446744073709551615f64.to_bits()),
    ] {
        assert_eq!(read(&format!("a {text}\n"), TextFormat::Text).unwrap()[0].1.to_bits(), bits, "{text}");
    }
    for text in ["", "1x", "0x1p3", "1_000", "1e", "--1", "Infi", "1,5", "{"] {
        assert!(read(&format!("a {text}\n"), TextFormat::Text).is_err(), "{text}");
    }
}

#[test]
fn bounds_are_normalised_in_their_families_only() {
    let body = "# TYPE h histogram\nh_bucket{le=\"1\"} 1\nh_bucket{le=\"+Inf\"} 1\n# TYPE s summary\ns{quantile=\"0\"} 1\ns{le=\"1\"} 1\n# TYPE g gauge\ng{le=\"1\"} 1\n";
    assert_eq!(
        series_of(body, TextFormat::Text),
        [
            "h_bucket{le=\"1.0\"}",
            "h_bucket{le=\"+Inf\"}",
            "s{quantile=\"0.0\"}",
            "s{le=\"1\"}",
            "g{le=\"1\"}"
        ]
    );
}

#[test]
fn errors_name_line_and_reason() {
    let table = [
        ("a 1\n\n  b{c=\"d\" 1\n", "line 3: labels are not closed"),
        ("a 1\nb{c=\"d} 1\n", "line 2: string is not closed"),
        ("a 1\n\n\n9a 1\n", "line 4: expected a metric name, got \"9a\""),
        ("<html>\n", "line 1: expected a metric name, got \"<html>\""),
        ("a INVALID\n", "line 1: expected a value, got \"INVALID\""),
        ("a\n", "line 1: expected a value, got \"\""),
        ("a 1 x\n", "line 1: expected a timestamp in milliseconds, got \"x\""),
        ("a 1 1 1\n", "line 1: expected the end of the line, got \"1\""),
        ("a 1\n# TYPE a banana\n", "line 2: invalid metric type \"banana\""),
        ("a 1\nb{c=d} 1\n", "line 2: expected a quoted string, got \"d\""),
        ("b{9=\"d\"} 1\n", "line 1: expected a label name, got \"9="),
        ("b{c \"d\"} 1\n", "line 1: expected = after label name \"c\""),
        ("b{c=\"d\",,} 1\n", "line 1: expected a label name"),
        ("{\"b\" c=\"d\"} 1\n", "line 1: expected a comma between labels"),
        ("{__name__=\"foo\"} 1\n", "line 1: metric name not set"),
        ("{} 1\n", "line 1: metric name not set"),
        ("b{__name__=\"foo\"} 1\n", "line 1: label name \"__name__\" is not unique"),
        ("a 1 -5\n", "line 1: expected a timestamp in milliseconds, got \"-5\""),
        ("a 1 +5\n", "line 1: expected a timestamp in milliseconds, got \"+5\""),
        ("# TYPE a gauge \na 1\n", "line 1: invalid metric type \"gauge \""),
        ("# TYPE a  gauge\na 1\n", "line 1: invalid metric type \" gauge\""),
        ("# TYPE a-b gauge\n", "line 1: invalid metric type \"b gauge\""),
        ("# TYPE a\n", "line 1: invalid metric type \"\""),
        ("# HELP 9a text\n", "line 1: expected a metric name"),
        ("a 1e400\n", "line 1: value out of range or with a sign: \"1e400\""),
        ("a -NaN\n", "line 1: value out of range or with a sign: \"-NaN\""),
        ("a +nan\n", "line 1: value out of range or with a sign: \"+nan\""),
        ("b{c=\"d\",c=\"e\"} 1\n", "line 1: label name \"c\" is not unique"),
        ("a{\"b\"} 1\n", "line 1: metric name is given twice"),
    ];
    for (body, expected) in table {
        let error = read(body, TextFormat::Text).expect_err(body);
        assert!(error.starts_with(expected), "{body:?}: {error}");
    }
}

#[test]
fn bad_utf8_is_refused_where_labels_are_made() {
    let mut parser = ExpositionParser::new(b"a{b=\"\xff\"} 1\n", TextFormat::Text);
    let Ok(Some(ExpositionEntry::Sample(sample))) = parser.next(&[]) else { panic!() };
    assert!(
        series::parse(sample.series, Context::text(MetricType::Unknown))
            .unwrap_err()
            .to_string()
            .contains("invalid UTF-8")
    );
}

#[test]
fn open_metrics_bodies() {
    let body = "# HELP c a \\\"counter\\\"\n# TYPE c counter\n# UNIT c_seconds seconds\nc_total 17.0 1520879607.789 # {id=\"a b\"} 0.5 1.2\nc_created 1520872607.123\n# TYPE h histogram\nh_bucket{le=\"1\"} 5 # {} 1\nh_count 5\n# EOF\n";
    let rows = read(body, TextFormat::OpenMetrics).unwrap();
    assert_eq!(rows[0], ("c_total".into(), 17.0, Some(1_520_879_607_789)));
    assert_eq!(rows[1].0, "c_created");
    assert_eq!(rows[2].0, "h_bucket{le=\"1.0\"}");
    assert_eq!(rows.len(), 4);
}

/// As [`read`], but the body arrives in pieces of `size` bytes.
fn read_in_pieces(body: &str, format: TextFormat, size: usize) -> Result<Vec<Row>, String> {
    let mut rows = Vec::new();
    let mut resume = Resume::default();
    let mut from = 0;
    let mut to = 0;
    loop {
        to = (to + size).min(body.len());
        let last = to == body.len();
        let text = &body.as_bytes()[from..to];
        let whole = if last { text.len() } else { memchr::memrchr(b'\n', text).map_or(0, |end| end + 1) };
        let mut parser = ExpositionParser::piece(&text[..whole], last, format, resume);
        while let Some(entry) = parser.next(&[]).map_err(|e| e.to_string())? {
            if let ExpositionEntry::Sample(sample) = entry {
                let labels = series::parse(sample.series, parser.context())
                    .map_err(|e| parser.error(e.into()).to_string())?;
                rows.push((labels.build().to_string(), sample.value, sample.t));
            }
        }
        let (read, next) = parser.pause();
        from += read;
        resume = next;
        if last {
            return Ok(rows);
        }
    }
}

#[test]
fn pieces_of_a_body_are_read_as_the_whole() {
    let text = "# HELP a it's \"quoted\na{x=\"1\"} 1 5\n\n# TYPE h histogram\nh_bucket{le=\"1\"} 2\nb{v=\"two\nlines\",w=\"\\\"\n\n\"} 3\nc 4";
    let open_metrics = "# TYPE h histogram\nh_bucket{le=\"1\"} 5 # {id=\"x\"} 1\nh_count 5\nd 1 2.5\n# EOF\n";
    let bad =
        ["a 1\nb{c=\"d\" 1\n", "a 1\n\n\n9a 1\nb 2\n", "a{b=\"c\n\n 1\n2\n", "a 1\n# TYPE a \"banana\nb 2\n"];
    let open_bad = ["a 1\n# EOF\nb 2\n", "a 1\nb 2\n", "a{b=\"c\n\"} 1\n# EOF\n"];
    let all = [(text, TextFormat::Text), (open_metrics, TextFormat::OpenMetrics)];
    let bad = bad.map(|body| (body, TextFormat::Text)).into_iter();
    let open_bad = open_bad.map(|body| (body, TextFormat::OpenMetrics)).into_iter();
    for (body, format) in all.into_iter().chain(bad).chain(open_bad) {
        let whole = read(body, format);
        for size in 1..=body.len() {
            assert_eq!(read_in_pieces(body, format, size), whole, "{body:?} by {size}");
        }
    }
}

#[test]
fn the_first_label_beyond_a_limit_ends_the_reading() {
    let refused = |series: &str| match series::parse(series.as_bytes(), Context::text(MetricType::Unknown)) {
        Err(series::SeriesError::Limit(text)) => text,
        other => panic!("{other:?}"),
    };
    let many: Vec<String> = (0..85_000).map(|i| format!("l{i}=\"v\"")).collect();
    // An error after the label limit is not reached.
    let line = format!("m{{{},(}}", many.join(","));
    assert_eq!(
        refused(&line),
        "label_limit exceeded (metric: m, number of labels: more than 4096, limit: 4096)"
    );
    let name = format!("m{{{}=\"v\"}}", "n".repeat(70_000));
    assert!(refused(&name).starts_with("label_name_length_limit exceeded (metric: m, label name: nnn"));
    let value = format!("m{{a=\"{}\"}}", "v".repeat(2 << 20));
    assert!(
        refused(&value)
            .starts_with("label_value_length_limit exceeded (metric: m, label name: a, value: \"vvv")
    );
    let real =
        format!("m{{{},v=\"{}\",{}=\"x\"}}", many[..300].join(","), "v".repeat(70_000), "n".repeat(2_000));
    assert!(series::parse(real.as_bytes(), Context::text(MetricType::Unknown)).is_ok());
}

#[test]
fn open_metrics_errors() {
    let table = [
        ("a 1\n", "line 2: data does not end with # EOF"),
        ("a 1\n# EOF\nb 2\n", "line 3: unexpected data after # EOF"),
        ("# hello\n# EOF\n", "line 1: expected HELP, TYPE, UNIT or EOF, got \"hello\""),
        ("\na 1\n# EOF\n", "line 1: expected a metric name"),
        ("a  1\n# EOF\n", "line 1: expected a value"),
        ("a 1 nan\n# EOF\n", "line 1: expected a timestamp in seconds, got \"nan\""),
        ("a 1 # x\n# EOF\n", "line 1: expected a timestamp or an exemplar"),
        ("a 1 5 # x\n# EOF\n", "line 1: expected an exemplar"),
        ("# TYPE\ta gauge\n# EOF\n", "line 1: expected HELP, TYPE, UNIT or EOF"),
        ("a {b=\"c\"} 1\n# EOF\n", "line 1: expected a value"),
        ("a{ b=\"c\"} 1\n# EOF\n", "line 1: expected a label name"),
        ("a{b=\"c\", d=\"e\"} 1\n# EOF\n", "line 1: expected a label name"),
        ("a{b=\"c\" } 1\n# EOF\n", "line 1: expected a comma"),
        ("a{b =\"c\"} 1\n# EOF\n", "line 1: expected = after"),
        ("a 1 # {\"t\"} 1\n# EOF\n", "line 1: expected label name"),
        ("a 1 # { t=\"x\"} 1\n# EOF\n", "line 1: expected label name"),
        ("a 1 # {t=\"x\" u=\"y\"} 1\n# EOF\n", "line 1: expected comma or brace close"),
        ("# HELP a\n# EOF\n", "line 1: expected text in HELP"),
        ("# UNIT a\n# EOF\n", "line 1: expected text in UNIT"),
        ("# HELP a\ttext\n# EOF\n", "line 1: expected text in HELP"),
        ("# HELP a text", "line 1: expected text in HELP"),
        ("# UNIT a seconds\n# EOF\n", "line 1: unit \"seconds\" not a suffix of metric \"a\""),
        ("# UNIT seconds seconds\n# EOF\n", "line 1: unit \"seconds\" not a suffix"),
        ("a 1", "line 1: data does not end with # EOF"),
        ("a 1 \n# EOF\n", "line 1: expected a timestamp"),
        ("a 1e400\n# EOF\n", "line 1: value out of range"),
        ("# TYPE a untyped\n# EOF\n", "line 1: invalid metric type \"untyped\""),
    ];
    for (body, expected) in table {
        let error = read(body, TextFormat::OpenMetrics).expect_err(body);
        assert!(error.starts_with(expected), "{body:?}: {error}");
    }
}

#[test]
fn metadata_lines() {
    let body = b"#TYPE ignored counter\n# TYPE \"a.b\" gauge\n#   HELP x  y z\n# just a comment\n# HELP\n#\n# HELP a.b text\n# HELP c  \n#";
    let mut parser = ExpositionParser::new(body, TextFormat::Text);
    let mut seen = Vec::new();
    while let Some(ExpositionEntry::Meta(meta)) = parser.next(&[]).unwrap_or(None) {
        seen.push((series::metadata_name(meta.name).unwrap().into_owned(), meta.what));
    }
    let expected = [
        ("a.b".to_owned(), MetadataValue::Type(MetricType::Gauge)),
        ("x".to_owned(), MetadataValue::Help(b" y z")),
        ("a".to_owned(), MetadataValue::Help(b"b text")),
        ("c".to_owned(), MetadataValue::Help(b"")),
    ];
    assert_eq!(seen, expected);
    let bad = b"# HELP a \xff\n";
    assert!(
        ExpositionParser::new(bad, TextFormat::Text)
            .next(&[])
            .unwrap_err()
            .reason
            .to_string()
            .contains("is not a valid utf8 string")
    );
}

#[test]
fn a_nul_where_a_line_begins_is_the_end() {
    let rows = |body: &str| read(body, TextFormat::Text).map(|rows| rows.len());
    assert_eq!(rows("a 1\n\0\nb 2\nc"), Ok(1));
    assert_eq!(rows("a 1\n#x\0\nb 2\n"), Ok(1));
    assert_eq!(rows("a 1\n# x\0\nb{c=\"\0\"} 2\n"), Ok(2));
    assert!(rows("a 1\0\n").is_err());
    assert_eq!(read("", TextFormat::OpenMetrics), Ok(vec![]), "a body of no bytes has no samples");
}

#[test]
fn a_blank_behind_a_value_breaks_the_body_and_not_its_sample() {
    let mut parser = ExpositionParser::new(b"a 1 \n# EOF\n", TextFormat::OpenMetrics);
    assert!(matches!(parser.next(&[]), Ok(Some(ExpositionEntry::Sample(_)))));
    assert!(parser.next(&[]).is_err());
}

#[test]
fn the_unit_stands_for_the_lines_behind_it() {
    let body = b"# UNIT a_seconds seconds\na_seconds 1\n# EOF\n";
    let mut parser = ExpositionParser::new(body, TextFormat::OpenMetrics);
    while parser.next(&[]).unwrap().is_some() {}
    assert_eq!(parser.context().unit, "seconds");
    let unit = parser.pause().1;
    assert_eq!(
        ExpositionParser::piece(b"b 1\n", false, TextFormat::OpenMetrics, unit).context().unit,
        "seconds"
    );
}

#[test]
fn a_guess_is_taken_only_if_the_whole_series_is_meant() {
    let next = |line: &'static str, guess: &str| {
        let mut parser = ExpositionParser::new(line.as_bytes(), TextFormat::Text);
        let Ok(Some(ExpositionEntry::Sample(s))) = parser.next(guess.as_bytes()) else { panic!("{line}") };
        (std::str::from_utf8(s.series).unwrap(), s.guessed)
    };
    assert_eq!(next("abc 1", "abc"), ("abc", true));
    assert_eq!(next("abcd 1", "abc"), ("abcd", false));
    assert_eq!(next("abc{x=\"y\"} 1", "abc"), ("abc{x=\"y\"}", false));
    assert_eq!(next("abc {x=\"y\"} 1", "abc"), ("abc {x=\"y\"}", false));
    assert_eq!(next("abc{x=\"y\"} 1", "abc{x=\"y\"}"), ("abc{x=\"y\"}", true));
    assert_eq!(next("abc{x=\"y\"} 1", "abc{x=\"z\"}"), ("abc{x=\"y\"}", false));
}

/// Parses a body to its end or first error, as the scraper does.
fn walk(body: &[u8], format: TextFormat) {
    let mut parser = ExpositionParser::new(body, format);
    let mut guess: Vec<u8> = Vec::new();
    let mut entries = 0;
    while let Ok(Some(entry)) = parser.next(&guess) {
        entries += 1;
        assert!(entries <= body.len() + 1, "the parser must make progress");
        if let ExpositionEntry::Sample(sample) = entry {
            assert!(!is_absent(sample.value));
            let _ = series::parse(sample.series, parser.context());
            guess = sample.series.to_vec();
        }
    }
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(body in proptest::collection::vec(any::<u8>(), 0..400)) {
        walk(&body, TextFormat::Text);
        walk(&body, TextFormat::OpenMetrics);
    }

    #[test]
    fn almost_expositions_never_panic(body in "([a-z_]{0,3}[{}=\"\\\\, \t\n#]{0,3}(# (HELP|TYPE|UNIT|EOF) ?)?[0-9.eNaIinf+-]{0,4}[ \n]?){0,40}") {
        walk(body.as_bytes(), TextFormat::Text);
        walk(body.as_bytes(), TextFormat::OpenMetrics);
    }

    #[test]
    fn what_is_written_is_read(value in any::<f64>(), label in "\\PC{0,20}", t in proptest::option::of(0i64..)) {
        let escaped = label.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        let time = t.map_or(String::new(), |t| format!(" {t}"));
        let rows = read(&format!("m{{l=\"{escaped}\"}} {value:?}{time}\n"), TextFormat::Text).unwrap();
        let expected = storage::model::Labels::from_pairs([("__name__", "m"), ("l", label.as_str())]);
        prop_assert_eq!(&rows[0].0, &expected.to_string());
        prop_assert!(rows[0].1 == value || (rows[0].1.is_nan() && value.is_nan()));
        prop_assert_eq!(rows[0].2, t);
    }
}
