//! Doubling tests of the code that parses and prints queries: twice the text costs at most 2.6
//! times as much, whatever the text is.

use engine::annotations::{Annotation, Occurrences, Severity};
use engine::plan::explain::explain;
use engine::plan::physical::PhysicalPlan;
use engine::plan::{Plan, Span};
use language::annotations::render_most;
use promql::series::parse_series;
use promql::{PromqlOptions, compile, format, json, parse, parse_selector, printer, selectors_of};
use testing::assert_proportional;

/// Makes a text of a given size.
type Text = fn(usize) -> String;

/// The `item`s for all numbers, joined.
fn list(n: usize, between: &str, item: impl Fn(usize) -> String) -> String {
    (0..n).map(item).collect::<Vec<String>>().join(between)
}

fn labels(n: usize) -> String {
    list(n, ",", |i| format!("label_{i}"))
}

/// `inner` in `n` layers.
fn nested(n: usize, open: &str, inner: &str, close: &str) -> String {
    format!("{}{inner}{}", open.repeat(n), close.repeat(n))
}

/// A tree of binary operators over `n` leaves, as flat as possible.
fn balanced(n: usize, leaf: &dyn Fn(usize) -> String, first: usize) -> String {
    match n {
        0 | 1 => leaf(first),
        n => format!("({} + {})", balanced(n / 2, leaf, first), balanced(n - n / 2, leaf, first + n / 2)),
    }
}

/// Queries by the part that grows, with half of the largest size that the limits of text, nesting
/// and regexes allow.
const FLAT: &[(&str, usize, Text)] = &[
    ("matchers of many labels", 4_000, |n| format!("up{{{}}}", list(n, ",", |i| format!("l{i}=\"v{i}\"")))),
    ("matchers of one label", 4_000, |n| format!("up{{{}}}", list(n, ",", |i| format!("l!=\"v{i}\"")))),
    ("regexes", 400, |n| format!("up{{{}}}", list(n, ",", |i| format!("l{i}=~\"v{i}.*x\"")))),
    ("an alternation", 10_000, |n| format!("up{{l=~\"{}\"}}", list(n, "|", |i| format!("v{i}")))),
    ("an alternation of beginnings", 4_000, |n| {
        format!("up{{l=~\"{}\"}}", list(n, "|", |i| format!("v{i}.*")))
    }),
    ("a long value", 100_000, |n| format!("up{{l=\"{}\"}}", "v".repeat(n))),
    ("escapes", 50_000, |n| format!("up{{l=\"{}\"}}", "\\n".repeat(n))),
    ("bytes that are no text", 25_000, |n| {
        format!("label_replace(up,\"a\",\"{}\",\"b\",\"\")", "\\xff".repeat(n))
    }),
    // Printing copies the name. Above 128 KiB the allocator maps new pages for each copy, and twice
    // as much would cost three times.
    ("a long name", 50_000, |n| "m".repeat(n)),
    ("quoted names", 4_000, |n| format!("{{\"up\",{}}}", list(n, ",", |i| format!("\"l.{i}\"=\"v\"")))),
    ("by", 8_000, |n| format!("sum by ({}) (up)", labels(n))),
    ("without", 8_000, |n| format!("sum without ({}) (up)", labels(n))),
    ("by one label", 8_000, |n| format!("sum by ({}) (up)", list(n, ",", |_| "a".to_owned()))),
    ("on", 8_000, |n| format!("a * on ({}) b", labels(n))),
    ("ignoring", 8_000, |n| format!("a * ignoring ({}) b", labels(n))),
    ("group_left", 8_000, |n| format!("a * on (x) group_left ({}) b", labels(n))),
    ("on and group_left", 4_000, |n| {
        format!("a * on ({}) group_left ({}) b", labels(n), list(n, ",", |i| format!("other_{i}")))
    }),
    ("sort_by_label", 120, |n| format!("sort_by_label(up, {})", list(n, ",", |i| format!("\"l{i}\"")))),
    ("label_join", 120, |n| {
        format!("label_join(up, \"x\", \"-\", {})", list(n, ",", |i| format!("\"l{i}\"")))
    }),
    ("a tree", 8_000, |n| balanced(n, &|i| format!("m{i}"), 0)),
    ("a tree of one series", 8_000, |n| balanced(n, &|_| "m".to_owned(), 0)),
    ("a tree of numbers", 8_000, |n| balanced(n, &|i| i.to_string(), 0)),
    ("a tree of windows", 2_000, |n| balanced(n, &|i| format!("sum by (a) (rate(m{i}[5m]))"), 0)),
    ("space", 100_000, |n| format!("a{}+ b", " \n".repeat(n / 2))),
    ("comments", 20_000, |n| format!("a {} + b", "# x\n".repeat(n))),
    ("digits", 100_000, |n| format!("m > {}1", "0".repeat(n))),
    ("decimals", 100_000, |n| format!("m > 0.{}1", "0".repeat(n))),
    ("a duration of many digits", 10_000, |n| format!("m offset {}1m", "0".repeat(n))),
];

/// The same for queries that become deeper: one operator, function or parenthesis inside another.
const DEEP: &[(&str, usize, Text)] = &[
    ("a chain", 190, |n| list(n, " + ", |i| format!("m{i}"))),
    ("a chain of one series", 190, |n| list(n, " + ", |_| "m".to_owned())),
    ("a chain of numbers", 190, |n| list(n, " * ", |i| i.to_string())),
    ("a chain of powers", 190, |n| list(n, " ^ ", |_| "m".to_owned())),
    ("a chain of sets", 190, |n| list(n, " or ", |i| format!("m{i}"))),
    ("a chain of comparisons", 190, |n| format!("m {}", "> 1 ".repeat(n))),
    ("parentheses", 190, |n| nested(n, "(", "m", ")")),
    ("signs", 190, |n| nested(n, "-", "m", "")),
    ("signs of parentheses", 90, |n| nested(n, "-(", "m", ")")),
    ("functions", 190, |n| nested(n, "abs(", "m", ")")),
    ("aggregations", 190, |n| nested(n, "sum(", "m", ")")),
    ("subqueries", 45, |n| nested(n, "max_over_time((", "m", ")[5m:1m])")),
    ("label_replace", 190, |n| nested(n, "label_replace(", "m", ",\"a\",\"b\",\"c\",\"d\")")),
    ("a nested scalar", 90, |n| nested(n, "m + scalar(", "m", ")")),
    ("a duration expression", 45, |n| format!("rate(m[{}])", list(n, " + ", |_| "1m".to_owned()))),
    ("a nested duration", 20, |n| format!("rate(m[{}])", nested(n, "(1m + ", "1m", ")"))),
];

/// A valid query of this shape and size.
fn query(what: &str, n: usize, text: Text) -> String {
    let query = text(n);
    assert!(query.len() <= language::limits::QUERY_BYTES, "{what}: {} bytes", query.len());
    parse(&query, &PromqlOptions::all()).unwrap_or_else(|e| panic!("{what}: {}", e.message()));
    query
}

#[test]
fn reading_queries() {
    for (what, n, text) in FLAT.iter().chain(DEEP) {
        let query = |n: usize| query(what, n, *text);
        let compile = |query: &String| compile(query, &PromqlOptions::all());
        assert_proportional(&format!("compiling {what}"), *n, query, compile);
        let selectors = |query: &String| selectors_of(query, &PromqlOptions::all());
        assert_proportional(&format!("selectors of {what}"), *n, query, selectors);
    }
}

#[test]
fn writing_queries() {
    for (what, n, text) in FLAT.iter().chain(DEEP) {
        let tree = |n: usize| parse(&query(what, n, *text), &PromqlOptions::all()).expect("a query");
        assert_proportional(&format!("printing {what}"), *n, tree, printer::print);
    }
}

#[test]
fn planning_queries() {
    for (what, n, text) in FLAT.iter().chain(DEEP) {
        let plan = |n: usize| compile(&query(what, n, *text), &PromqlOptions::all()).expect("a plan");
        let cut = |plan: &Plan| PhysicalPlan::for_history(plan, false, PromqlOptions::all().dialect());
        assert_proportional(&format!("cutting {what}"), *n, plan, cut);
    }
}

/// Not for deep queries: each level is indented, so the output grows with the square of the depth,
/// which is limited; and JSON checks at each operator of a chain whether everything below is a
/// number.
#[test]
fn indenting_queries() {
    for (what, n, text) in FLAT {
        let query = |n: usize| query(what, n, *text);
        assert_proportional(&format!("formatting {what}"), *n, query, |query| {
            format(query, &PromqlOptions::all())
        });
        let tree = |n: usize| parse(&query(n), &PromqlOptions::all()).expect("a query");
        assert_proportional(&format!("JSON of {what}"), *n, tree, |tree| {
            json::to_json(tree, &PromqlOptions::all())
        });
        let plan = |n: usize| compile(&query(n), &PromqlOptions::all()).expect("a plan");
        assert_proportional(&format!("explaining {what}"), *n, plan, explain);
    }
}

/// Invalid queries, with the error as far at the end as possible.
const BAD: &[(&str, usize, Text)] = &[
    ("an open brace", 4_000, |n| format!("up{{{}", list(n, ",", |i| format!("l{i}=\"v{i}\"")))),
    ("an open text", 100_000, |n| format!("up{{l=\"{}", "v".repeat(n))),
    ("an open list", 8_000, |n| format!("sum by ({}", labels(n))),
    ("open parentheses", 100_000, |n| "(".repeat(n)),
    ("closed parentheses", 100_000, |n| ")".repeat(n)),
    ("signs", 100_000, |n| "-".repeat(n)),
    ("commas", 100_000, |n| format!("f({}", ",".repeat(n))),
    ("a character behind lines", 50_000, |n| format!("{}?", "a\n+\n".repeat(n / 200))),
    ("a character behind space", 100_000, |n| format!("{}?", "\n".repeat(n))),
    ("an unknown function", 100_000, |n| format!("{}(up)", "f".repeat(n))),
    ("a bad regex", 50_000, |n| format!("up{{l=~\"{}(\"}}", "v".repeat(n))),
    ("a bad number", 100_000, |n| format!("1{}e", "_1".repeat(n / 2))),
    ("a bad escape", 50_000, |n| format!("up{{l=\"{}\\q\"}}", "\\n".repeat(n))),
    ("a label twice", 4_000, |n| format!("a * on ({}) group_left (x0,label_{}) b", labels(n), n - 1)),
    ("a chain that is too long", 40_000, |n| list(n, "+", |_| "a".to_owned())),
    ("powers that are too many", 40_000, |n| list(n, "^", |_| "2".to_owned())),
    ("parentheses that are too deep", 60_000, |n| nested(n, "(", "a", ")")),
    ("words", 20_000, |n| "fill ".repeat(n)),
    ("words far apart", 100_000, |n| format!("fill{}fill", " ".repeat(n))),
];

#[test]
fn faults_in_queries() {
    for (what, n, text) in BAD {
        let checked = |n: usize| {
            let query = text(n);
            parse(&query, &PromqlOptions::all()).expect_err(what);
            query
        };
        assert_proportional(&format!("refusing {what}"), *n, checked, |query| {
            compile(query, &PromqlOptions::all()).expect_err("refused").message()
        });
    }
}

#[test]
fn selectors() {
    let matchers = |n: usize| format!("up{{{}}}", list(n, ",", |i| format!("l{i}=~\"v{i}|w\"")));
    assert_proportional("regexes of a selector", 400, matchers, |text| parse_selector(text));
    let names = |n: usize| format!("{{__name__=~\"{}\"}}", list(n, "|", |i| format!("metric_{i}")));
    assert_proportional("names of a selector", 5_000, names, |text| parse_selector(text));
}

#[test]
fn series_of_test_files() {
    let described = |n: usize| format!("m{{{}}} 1", list(n, ",", |i| format!("l{i}=\"v{i}\"")));
    assert_proportional("labels", 4_000, described, |text| parse_series(text));
    let items = |n: usize| format!("m {}", list(n, " ", |i| i.to_string()));
    assert_proportional("values", 10_000, items, |text| parse_series(text));
    let repeated = |n: usize| format!("m 1+2x{n}");
    assert_proportional("repeated values", 50_000, repeated, |text| parse_series(text));
    let gaps = |n: usize| format!("m {}", "_ ".repeat(n));
    assert_proportional("gaps", 10_000, gaps, |text| parse_series(text));
    let histograms = |n: usize| format!("m {}", "{{schema:0 count:2 buckets:[1 1]}} ".repeat(n));
    assert_proportional("histograms", 1_000, histograms, |text| parse_series(text));
    let buckets = |n: usize| format!("m {{{{schema:0 buckets:[{}]}}}}", "1 ".repeat(n));
    assert_proportional("buckets", 10_000, buckets, |text| parse_series(text));
    let added =
        |n: usize| format!("m {{{{schema:0 buckets:[{}]}}}}+{{{{schema:0 buckets:[1]}}}}x10", "1 ".repeat(n));
    assert_proportional("buckets that are added up", 2_000, added, |text| parse_series(text));
}

/// Each annotation has a line and a column.
#[test]
fn remarks_about_long_queries() {
    let remarks = |n: usize| {
        let query = "rate(gauge[1m]) +\n".repeat(n);
        let annotation = |i: usize| Annotation {
            level: Severity::Info,
            text: format!("metric {i} might not be a counter").into(),
            extent: Occurrences::Once,
            span: Span { start: 18 * i as u32, end: 18 * i as u32 + 15 },
        };
        (query, (0..n).map(annotation).collect::<Vec<Annotation>>())
    };
    assert_proportional("remarks", 5_000, remarks, |(query, annotations)| {
        render_most(query, annotations, 10)
    });
}
