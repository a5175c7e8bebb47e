//! Tests of the PromQL front end: the plans of queries, the errors of invalid ones, and that no
//! text crashes it.

mod support;

use engine::plan::{AtTime, BinaryOp, Cardinality, Plan, PlanOp};
use language::QueryRange;
use promql::{PromqlOptions, compile, format, json, parse, parse_selector, printer};
use serde_json::Value;
use std::time::Duration;
use support::{options, signature};
use testing::timed;

fn plan(text: &str) -> Plan {
    compile(text, &options()).unwrap_or_else(|e| panic!("{text}: {e}"))
}

fn error(text: &str) -> String {
    match compile(text, &options()) {
        Err(error) => error.message(),
        Ok(plan) => panic!("{text} compiles: {plan:?}"),
    }
}

fn printed(text: &str) -> String {
    parse(text, &options()).map_or_else(|e| e.message(), |expr| printer::print(&expr))
}

#[test]
fn selectors_bind_to_matchers_and_times() {
    let plan = plan(r#"up{job=~"a|b", x!="y"} offset 5m @ 1.5"#);
    let PlanOp::Instant(selector) = &plan.op else { panic!("{plan:?}") };
    let matchers: Vec<String> = selector.matchers.iter().map(|m| m.to_string()).collect();
    assert_eq!(matchers, [r#"__name__="up""#, r#"job=~"a|b""#, r#"x!="y""#]);
    assert_eq!((selector.offset, selector.at), (300_000, Some(AtTime::Time(1_500))));
    assert_eq!((plan.span.start, plan.span.end), (0, 38));
}

#[test]
fn ranges_and_subqueries_bind_to_milliseconds() {
    let matrix = plan("a[5m*2] offset -(30s/2)");
    assert!(matches!(&matrix.op, PlanOp::Range { range: 600_000, selector } if selector.offset == -15_000));
    let subquery = plan("(a + b)[1h:30] @ end()");
    let PlanOp::Subquery { range, step, at, .. } = &subquery.op else { panic!("{subquery:?}") };
    assert_eq!((*range, *step, *at), (3_600_000, Some(30_000), Some(AtTime::End)));
    assert!(matches!(&plan("a[1h:]").op, PlanOp::Subquery { step: None, .. }));
    let range = Some(QueryRange { start: 0, end: 7_200_000, step: 60_000 });
    let known = PromqlOptions { range, ..options() };
    let plan = compile("a[step() * 3]", &known).unwrap();
    assert!(matches!(&plan.op, PlanOp::Range { range: 180_000, .. }));
    assert!(matches!(&compile("range()", &known).unwrap().op, PlanOp::Number(n) if n.0 == 7_200.0));
}

#[test]
fn operators_bind_by_precedence() {
    let root = |text: &str| match &plan(text).op {
        PlanOp::Binary(b) => b.op,
        other => panic!("{text}: {other:?}"),
    };
    assert_eq!(root("a + b * c ^ d"), BinaryOp::Add);
    assert_eq!(root("a or b and c"), BinaryOp::Or);
    assert_eq!(root("a == b + c"), BinaryOp::Eq);
    assert_eq!(root("a - b + c"), BinaryOp::Add);
    assert!(matches!(&plan("-a ^ 2").op, PlanOp::Negate(_)));
    assert!(matches!(&plan("-(1)").op, PlanOp::Number(n) if n.0 == -1.0));
    let PlanOp::Binary(power) = &plan("2 ^ 3 ^ 2").op.clone() else { panic!() };
    assert!(matches!(&power.rhs.op, PlanOp::Binary(b) if b.op == BinaryOp::Pow), "^ groups to the right");
}

#[test]
fn matching_and_grouping_bind() {
    let plan_of = plan("a * on (x, y) group_left (z) b");
    let PlanOp::Binary(binary) = &plan_of.op else { panic!() };
    assert_eq!((binary.matching.on, binary.matching.cardinality), (true, Cardinality::ManyToOne));
    assert_eq!(
        (binary.matching.labels.join(","), binary.matching.include.join(",")),
        ("x,y".into(), "z".into())
    );
    let plan_of = plan("a unless ignoring (x) b");
    assert!(matches!(&plan_of.op, PlanOp::Binary(b) if b.matching.cardinality == Cardinality::ManyToMany));
    let plan_of = plan("topk by (b, a, b) (3, m)");
    let PlanOp::Aggregate(aggregate) = &plan_of.op else { panic!() };
    assert_eq!(aggregate.grouping.labels, ["a", "b"]);
    assert!(matches!(aggregate.param.as_ref().map(|p| &p.op), Some(PlanOp::Number(n)) if n.0 == 3.0));
}

#[test]
fn equal_questions_are_equal_plans_wherever_they_stand() {
    assert_eq!(plan("sum(a{x='1'}) + 0"), plan("( sum ( a{x=\"1\"} ) )+0x0"));
    assert_ne!(plan("a offset 1m"), plan("a"));
}

#[test]
fn errors_have_upstreams_texts_and_positions() {
    for (text, wanted) in [
        ("", "unknown position: parse error: no expression found in input"),
        ("  # nothing\n", "1:1: parse error: no expression found in input"),
        ("1+", "1:3: parse error: unexpected end of input"),
        ("sum some_metric", "1:5: parse error: unexpected identifier \"some_metric\""),
        ("sum(a b)", "1:7: parse error: unexpected identifier \"b\" in aggregation"),
        ("a +\n  * b", "2:3: parse error: unexpected <op:*>"),
        ("a b", "1:3: parse error: unexpected identifier \"b\""),
        ("a 5", "1:3: parse error: unexpected number \"5\""),
        ("a by", "1:3: parse error: unexpected <by>"),
        ("(a", "1:3: parse error: unclosed left parenthesis"),
        ("a)", "1:3: parse error: unexpected right parenthesis ')'"),
        ("a{b=c}", "1:5: parse error: unexpected identifier \"c\" in label matching, expected string"),
        ("a{b}", "1:4: parse error: unexpected \"}\" in label matching, expected label matching operator"),
        ("a[5m", "1:5: parse error: unexpected end of input in duration expression"),
        ("a[5m1m]", "1:3: parse error: not a valid duration string: \"5m1m\""),
        ("a[1e30]", "1:3: parse error: duration out of range"),
        ("a[(1m-1m)]", "1:3: parse error: duration must be greater than 0"),
        ("a offset 1m offset 1m", "1:1: parse error: offset may not be set multiple times"),
        (
            "a @ 1e30",
            "1:1: parse error: timestamp out of bounds for @ modifier: 1000000000000000019884624838656.000000",
        ),
        (
            "rate(a)",
            "1:6: parse error: expected type range vector in call to function \"rate\", got instant vector",
        ),
        ("round()", "1:1: parse error: expected at least 1 argument(s) in call to \"round\", got 0"),
        ("round(a, 1, 2)", "1:1: parse error: expected at most 2 argument(s) in call to \"round\", got 3"),
        ("nope(a)", "1:1: parse error: unknown function with name \"nope\""),
        ("1 == 1", "1:3: parse error: comparisons between scalars must use BOOL modifier"),
        ("topk(a, b)", "1:6: parse error: expected type scalar in aggregation parameter, got instant vector"),
        (
            "a + on (x) group_left (x) b",
            "1:3: parse error: label \"x\" must not occur in ON and GROUP clause at once",
        ),
        ("{x=~\".*\"}", "1:1: parse error: vector selector must contain at least one non-empty matcher"),
        (
            "1e400",
            "1:1: parse error: error parsing number: strconv.ParseFloat: parsing \"1e400\": value out of range",
        ),
        ("\"\\q\"", "1:1: parse error: unknown escape sequence U+0071 'q'"),
        ("ü", "1:1: parse error: unexpected character: 'ü'"),
    ] {
        assert_eq!(error(text), wanted, "{text:?}");
    }
    assert!(error("a{b=~\"(\"}").starts_with("1:3: parse error: error parsing regexp: "));
}

/// The length and offset of each window of a plan.
fn windows(plan: &Plan) -> Vec<(i64, i64)> {
    let below = plan.inputs().into_iter().flat_map(windows);
    let own =
        if let PlanOp::Range { selector, range } = &plan.op { Some((*range, selector.offset)) } else { None };
    below.chain(own).collect()
}

/// A rule is an instant query, as in Prometheus: its step and range are 0.
#[test]
fn step_and_range_are_zero_in_durations_of_rules() {
    let windows = |text: &str| windows(&plan(text));
    assert_eq!(windows("rate(a[step()+5m] offset range())"), [(300_000, 0)]);
    assert_eq!(error("a[step()]"), "1:3: parse error: duration must be greater than 0");
}

#[test]
fn flags_gate_what_is_experimental() {
    let plain = PromqlOptions { functions: signature, ..PromqlOptions::default() };
    for (text, wanted) in [
        ("mad_over_time(a[5m])", "1:1: parse error: function \"mad_over_time\" is not enabled"),
        (
            "limitk(1, a)",
            "1:1: parse error: limitk() is experimental and must be enabled with \
             --enable-feature=promql-experimental-functions",
        ),
        ("a anchored", "1:1: parse error: anchored modifier is experimental and not enabled"),
        ("a + fill(0) b", "1:5: parse error: binop fill modifiers are experimental and not enabled"),
    ] {
        assert_eq!(parse(text, &plain).unwrap_err().message(), wanted);
        assert!(parse(text, &options()).is_ok(), "{text}");
    }
}

#[test]
fn printing_keeps_meaning_and_notation() {
    for (text, wanted) in [
        ("sum by(b , a)(x)", "sum by (b, a) (x)"),
        ("x{b='1',a=~`\\d`}[90s]offset 1h30m", "x{a=~\"\\\\d\",b=\"1\"}[1m30s] offset 1h30m"),
        ("1h + 0x10", "1h + 16"),
        ("a@-1.5", "a @ -1.500"),
        ("+a", "+a"),
        ("-1 ^ 2", "-1 ^ 2"),
        ("a - ignoring() group_right b", "a - ignoring () group_right () b"),
        ("{\"a.b\", \"c d\"='e'}", "{\"c d\"=\"e\",__name__=\"a.b\"}"),
        ("a[(5m):step()*2]", "a[(5m):step() * 2]"),
        ("1_000_000", "1000000"),
        ("-iNf", "-Inf"),
    ] {
        assert_eq!(printed(text), wanted);
        assert_eq!(printed(wanted), wanted, "prints itself again");
    }
}

#[test]
fn long_queries_are_split_over_lines() {
    let long = "a".repeat(60);
    assert_eq!(format("a+b", &options()), Ok("a + b".to_owned()));
    let wanted = format!("  sum by (x) (\n    rate(\n      {long}{{b=\"{long}\"}}[5m]\n    )\n  )\n/\n  c");
    assert_eq!(format(&format!("sum(rate({long}{{b='{long}'}}[5m]))by(x)/c"), &options()), Ok(wanted));
}

#[test]
fn pretty_printing_is_linear() {
    let wide = (0..12).fold("a".to_owned(), |tree, _| format!("({tree} + {tree})"));
    let text = "a + (".repeat(180) + &wide + &")".repeat(180);
    let (pretty, taken) = timed(|| format(&text, &options()).unwrap());
    // In debug builds; work proportional to nodes times depth would take twenty times as long.
    assert!(taken < Duration::from_millis(1_000), "took {taken:?}");
    assert_eq!(pretty.split_whitespace().collect::<String>(), text.replace(' ', ""));
}

#[test]
fn selectors_of_match_parameters() {
    let names =
        |text: &str| -> Vec<String> { parse_selector(text).unwrap().iter().map(|m| m.to_string()).collect() };
    assert_eq!(names(r#"up{a="b"}"#), [r#"__name__="up""#, r#"a="b""#]);
    assert_eq!(names("sum"), [r#"__name__="sum""#]);
    assert!(names("{}").is_empty());
    assert_eq!(parse_selector("up[5m]").unwrap_err().message(), "1:3: parse error: unexpected \"[\"");
    assert!(parse_selector("rate(a)").is_err());
    assert!(parse_selector("").is_err());
}

#[test]
fn the_tree_as_json() {
    let expr = parse("sum by (a) (rate(x{b!='c'}[5m] offset 1m)) > bool 1", &options()).unwrap();
    let json = json::to_json(&expr, &options());
    assert_eq!((&json["type"], &json["bool"]), (&"binaryExpr".into(), &true.into()));
    assert!(json["matching"].is_null());
    let window = &json["lhs"]["expr"]["args"][0];
    assert_eq!((&window["range"], &window["offset"]), (&300_000.into(), &60_000.into()));
    assert_eq!(
        (&window["matchers"][0]["type"], &window["matchers"][1]["name"]),
        (&"!=".into(), &"__name__".into())
    );
    assert_eq!(json["lhs"]["expr"]["func"]["returnType"], "vector");
}

#[test]
fn signatures_in_the_tree() {
    let cases = [
        ("time()", 0, "[]", "scalar"),
        ("rate(a[5m])", 0, r#"["matrix"]"#, "vector"),
        ("round(a)", 1, r#"["vector","scalar"]"#, "vector"),
        ("hour()", 1, r#"["vector"]"#, "vector"),
        ("info(a)", 1, r#"["vector","vector"]"#, "vector"),
        (
            "label_replace(a, 'b', 'c', 'd', 'e')",
            0,
            r#"["vector","string","string","string","string"]"#,
            "vector",
        ),
        ("label_join(a, 'b', 'c')", -1, r#"["vector","string","string","string"]"#, "vector"),
        ("sort_by_label(a, 'b')", -1, r#"["vector","string"]"#, "vector"),
        ("histogram_quantiles(a, 'q', 0.5)", 9, r#"["vector","string","scalar","scalar"]"#, "vector"),
    ];
    for (text, variadic, args, returns) in cases {
        let options = PromqlOptions::all();
        let function = json::to_json(&parse(text, &options).unwrap(), &options)["func"].clone();
        assert_eq!(function["argTypes"].to_string(), args, "{text}");
        assert_eq!(
            (&function["variadic"], &function["returnType"]),
            (&variadic.into(), &returns.into()),
            "{text}"
        );
    }
    let tree = |text: &str| json::to_json(&parse(text, &options()).unwrap(), &options());
    assert_eq!((&tree("a{b='c'}")["name"], &tree("{'a', b='c'}")["name"]), (&"a".into(), &"".into()));
}

#[test]
fn durations_in_the_tree() {
    let tree = |text: &str| json::to_json(&parse(text, &options()).unwrap(), &options());
    let number = |val: &str, duration: bool| serde_json::json!({"type": "numberLiteral", "val": val, "duration": duration});
    let node = |op: &str, lhs: Value, rhs: Value, wrapped: bool| serde_json::json!({"type": "durationExpr", "op": op, "lhs": lhs, "rhs": rhs, "wrapped": wrapped});
    let got = tree("a[5m] offset 1m");
    assert_eq!((&got["range"], &got["rangeExpr"]), (&300_000.into(), &Value::Null));
    assert_eq!((&got["offset"], &got["offsetExpr"]), (&60_000.into(), &Value::Null));
    let got = tree("a[5m+1m] offset (10m/2)");
    assert_eq!(got["rangeExpr"], node("+", number("300", true), number("60", true), false));
    assert_eq!((&got["range"], &got["offset"]), (&0.into(), &0.into()));
    assert_eq!(got["offsetExpr"], node("/", number("600", true), number("2", false), true));
    let got = tree("a[1m:1s*2]");
    assert_eq!(got["stepExpr"], node("*", number("1", true), number("2", false), false));
    assert_eq!((&got["range"], &got["step"]), (&60_000.into(), &0.into()));
    assert_eq!(tree("a[range()]")["rangeExpr"], node("range", Value::Null, Value::Null, false));
    let got = tree("a offset -min_of(5s, step())");
    let inner = node("min_of", number("5", true), node("step", Value::Null, Value::Null, false), false);
    assert_eq!(got["offsetExpr"], node("-", Value::Null, inner, false));
    assert_eq!((got.get("rangeExpr"), got.get("stepExpr")), (None, None));
}

#[test]
fn strings_keep_bytes_that_are_no_text() {
    let shown = |text: &str| parse(text, &options()).map(|e| printer::print(&e)).map_err(|e| e.message());
    assert_eq!(shown(r#"'a\xc5z\303'"#).unwrap(), r#""a\xc5z\xc3""#);
    assert_eq!(shown(r#"a{b="\xff"}"#).unwrap(), r#"a{b="\xff"}"#);
    assert_eq!(shown(r#"'\ufffd'"#).unwrap(), "\"\u{fffd}\"", "as Go prints it, which cannot be read again");
    let refused = "1:4: parse error: error parsing regexp: invalid UTF-8: `\u{fffd}`";
    assert_eq!(shown(r#"a{ b=~"\xff"}"#).unwrap_err(), refused);
    let refused = r#"1:9: parse error: unexpected string "\"\\xff\"" in grouping opts, expected label"#;
    assert_eq!(shown(r#"sum by ("\xff") (a)"#).unwrap_err(), refused);
    let json = json::to_json(&parse(r#""\xff""#, &options()).unwrap(), &options());
    assert_eq!(json["val"], "\u{fffd}");
    let names = |text: &str| compile(text, &options()).map(|_| ()).map_err(|e| e.message());
    assert_eq!(names(r#"count_values("a\xc5z", b)"#), Ok(()), "refused when it is evaluated");
}

#[test]
fn huge_and_deep_texts_are_refused_at_once() {
    let deep = 100_000;
    let texts = [
        "a".repeat(1_000_000),
        "(".repeat(deep),
        "-".repeat(deep) + "a",
        "a+".repeat(deep) + "a",
        "a^".repeat(deep) + "a",
        "sum(".repeat(50_000),
        "a[".to_owned() + &"(".repeat(deep),
        "a[1".to_owned() + &"+1".repeat(deep) + "]",
        "a".to_owned() + &"[1m:1m]".repeat(30_000),
        "a{".to_owned() + &"b='c',".repeat(30_000) + "d=}",
        "a{".to_owned() + &"b=~'c',".repeat(1_001) + "}",
        "\"".to_owned() + &"x".repeat(250_000),
    ];
    for text in texts {
        let (compiled, taken) = timed(|| compile(&text, &options()));
        assert!(compiled.is_err());
        let limit = if text.starts_with("a{") { 1_000 } else { 100 };
        assert!(taken < Duration::from_millis(limit), "{text:.20} took {taken:?}");
    }
}

#[test]
fn the_deepest_allowed_text_goes_all_the_way_on_a_small_stack() {
    let work = || {
        let depth = 398;
        for text in [
            "(".repeat(depth) + "a" + &")".repeat(depth),
            "-".repeat(depth) + "a",
            "a+".repeat(depth) + "a",
            "a^".repeat(depth) + "a",
            "sum(".repeat(depth) + "a" + &")".repeat(depth),
            "a[1".to_owned() + &"+1".repeat(98) + "]",
            "a[".to_owned() + &"(".repeat(98) + "1" + &")".repeat(98) + "]",
        ] {
            let plan = compile(&text, &options()).unwrap_or_else(|e| panic!("{:.30}: {e}", text));
            let expr = parse(&text, &options()).unwrap();
            assert!(!format(&text, &options()).unwrap().is_empty());
            assert!(json::to_json(&expr, &options()).is_object());
            assert_eq!(plan, plan.clone());
        }
    };
    std::thread::Builder::new().stack_size(2 << 20).spawn(work).unwrap().join().unwrap();
}

#[test]
fn the_engines_table_has_prometheus_signatures() {
    let mut names: Vec<&str> = engine::functions::table().iter().map(|f| f.name).collect();
    names.dedup();
    assert_eq!(names.len(), 90, "no name stands twice");
    for function in engine::functions::table() {
        let name = function.name;
        let wanted = signature(name).unwrap_or_else(|| panic!("{name} is no function of Prometheus"));
        let bounds = |params: usize, optional: usize, repeat: usize| {
            (params - optional, params.saturating_add(repeat).min(100))
        };
        assert_eq!(function.args.first(), wanted.args.first(), "{name}");
        assert_eq!(function.args.last(), wanted.args.last(), "{name}");
        assert_eq!(
            bounds(function.args.len(), function.optional, function.repeat),
            bounds(wanted.args.len(), wanted.optional, wanted.repeat),
            "{name}"
        );
        assert_eq!(
            (function.returns, function.experimental),
            (wanted.returns, wanted.experimental),
            "{name}"
        );
        assert!(compile(function.example, &PromqlOptions::all()).is_ok(), "{}", function.example);
    }
}

#[test]
fn calls_bind_to_table_entries() {
    let plan =
        compile("histogram_quantile(0.9, sum by (le) (rate(a[5m])))", &PromqlOptions::default()).unwrap();
    let PlanOp::Call { function, args } = &plan.op else { panic!("{plan:?}") };
    assert_eq!((function.0.name, args.len()), ("histogram_quantile", 2));
    let PlanOp::Aggregate(aggregate) = &args[1].op else { panic!("{plan:?}") };
    assert!(matches!(&aggregate.input.op, PlanOp::Call { function, .. } if function.0.name == "rate"));
    assert_eq!((aggregate.input.span.start, aggregate.input.span.end), (37, 48));
}
