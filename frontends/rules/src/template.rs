//! Labels and annotations as Go templates.
//!
//! A [`TemplateExpander`] has what depends on the server (external labels and URL, queries).
//! [`TemplateExpander::compile`] parses a text once, [`TemplateExpander::expand`] expands it for
//! one row. `gotmpl` is the engine. Its syntax tree is rewritten so that a missing label is ""
//! (`missingkey=zero`), errors have Go's texts (`rewriting.rs`), and costs are counted
//! (`budget.rs`). The functions are in `functions.rs` and `builtins.rs`, Go's formats in
//! `printing.rs`.

use super::TemplateQueryError;
use super::budget::{self, counted};
use super::builtins;
use super::fields::{self, FIELD};
use super::function_error::{ArgumentType, FunctionError, FunctionTable, TemplateFunction, for_engine};
use super::functions::{self, fail, label_map, text};
use super::limits::{TEMPLATE_BYTES, TEMPLATE_ITERATIONS, TEMPLATE_QUERY_ROWS};
use super::rewriting::{CALL, POSITION_SEPARATOR, TemplateRewriter, unbalanced};
use gotmpl::parse::ListNode;
use gotmpl::{TemplateError, Value};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock, OnceLock};
use storage::metrics::{Counter, Metrics};
use storage::model::{Labels, TimeMs};

/// Declares the variables that every template may use.
const PRELUDE: &str = "{{$labels := .Labels}}{{$externalLabels := .ExternalLabels}}{{$externalURL := .ExternalURL}}{{$value := .Value}}";
/// Functions that `gotmpl` evaluates itself.
const BUILTINS: [&str; 2] = ["and", "or"];
const MAIN: &str = "main";

/// Runs the queries of templates.
///
/// # Contract
/// 1. It may block, but not for longer than the timeout of a query: no alert is sent meanwhile.
/// 2. Rows are in the order in which the query returns them (`sort` works).
/// 3. It holds no lock that the rules thread needs: it may be called by that thread.
pub trait TemplateQuery: Send + Sync {
    /// The rows of an expression at `t`.
    fn query(&self, expr: &str, t: TimeMs) -> Result<Vec<(Labels, f64)>, TemplateQueryError>;
}

/// An error in a template, with its position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TemplateSyntaxError {
    /// Line, from 1.
    pub line: u64,
    /// Column, from 1.
    pub column: u64,
    /// What is wrong.
    pub what: String,
    /// What to do about it.
    pub fix: String,
}

/// A valid template.
#[derive(Clone)]
pub enum AlertTemplate {
    /// Without actions.
    Plain(String),
    /// With actions.
    Actions(Arc<Actions>),
}

/// A template with actions. Parsed it takes twenty times as much memory, and most alerts never
/// fire, so it is parsed when it is first expanded.
pub struct Actions {
    /// For error texts.
    name: String,
    source: String,
    parsed: OnceLock<gotmpl::Template>,
    /// Whether the text depends on more than the template's data.
    is_time_dependent: bool,
}

impl AlertTemplate {
    /// Whether the text depends on more than the template's data.
    pub fn is_time_dependent(&self) -> bool {
        matches!(self, AlertTemplate::Actions(actions) if actions.is_time_dependent)
    }
}

/// The data of a template: one row of the rule's answer.
pub struct TemplateData(Value);

thread_local! {
    /// The time of the template that this thread expands, in ms: `query` uses it.
    static NOW: Cell<TimeMs> = const { Cell::new(0) };
}

/// Compiles and expands templates. `query` runs at the time of the thread's last
/// [`TemplateExpander::scope`].
pub struct TemplateExpander {
    functions: gotmpl::FuncMap,
    external_labels: Value,
    external_url: String,
    expansions: Arc<Counter>,
    failures: Arc<Counter>,
}

impl TemplateExpander {
    /// An expander for a server with these external labels and this external URL.
    pub fn new(
        external_labels: &Labels,
        external_url: &str,
        query: Arc<dyn TemplateQuery>,
    ) -> TemplateExpander {
        let mut functions = pure_functions();
        let ask = move |args: &[Value]| run_query(&*query, args, NOW.get());
        functions.insert("query".into(), counted("query", Arc::new(ask)));
        let now = |_: &[Value]| Ok(Value::Float(NOW.get() as f64 / 1000.0));
        functions.insert("now".into(), Arc::new(now));
        let url = external_url.trim_end_matches('/').to_owned();
        let path = url::Url::parse(&url).map_or(String::new(), |u| u.path().trim_end_matches('/').to_owned());
        let shown = url.clone();
        functions.insert("externalURL".into(), Arc::new(move |_: &[Value]| Ok(text(&shown))));
        functions.insert("pathPrefix".into(), Arc::new(move |_: &[Value]| Ok(text(&path))));
        let mut for_templates: gotmpl::FuncMap =
            functions.iter().map(|(name, function)| (name.clone(), for_engine(function.clone()))).collect();
        let by_call: TemplateFunction = Arc::new(move |args: &[Value]| call(&functions, args));
        for_templates.insert(CALL.to_owned(), for_engine(by_call));
        TemplateExpander {
            functions: for_templates,
            external_labels: label_map(external_labels),
            external_url: url,
            expansions: Arc::default(),
            failures: Arc::default(),
        }
    }

    /// The same expander, which counts the expansions of templates with actions.
    #[must_use]
    pub fn counted(self, metrics: &Metrics) -> TemplateExpander {
        let counter = |name, help| metrics.counter(name, help, &[]);
        TemplateExpander {
            expansions: counter(
                "prometheus_template_text_expansions_total",
                "The total number of template text expansions.",
            ),
            failures: counter(
                "prometheus_template_text_expansion_failures_total",
                "The total number of template text expansion failures.",
            ),
            ..self
        }
    }

    /// Checks a text; `name` is that of the rule.
    ///
    /// ```
    /// use rules::TemplateQueryError;
    /// use rules::template::{TemplateExpander, TemplateQuery};
    /// use std::sync::Arc;
    /// use storage::model::{Labels, TimeMs};
    ///
    /// struct NoRows;
    /// impl TemplateQuery for NoRows {
    ///     fn query(&self, _: &str, _: TimeMs) -> Result<Vec<(Labels, f64)>, TemplateQueryError> {
    ///         Ok(Vec::new())
    ///     }
    /// }
    ///
    /// let external = Labels::default();
    /// let expander = TemplateExpander::new(&external, "http://host:9090", Arc::new(NoRows));
    /// let source = "{{ $labels.job }} is at {{ $value | humanizePercentage }}";
    /// let template = expander.compile("Busy", source).unwrap();
    /// let labels = Labels::from_pairs([("job", "node")]);
    /// let scope = expander.scope(&labels, 0.97, 1_000);
    /// assert_eq!(expander.expand(&template, &scope), "node is at 97%");
    /// ```
    pub fn compile(&self, name: &str, source: &str) -> Result<AlertTemplate, TemplateSyntaxError> {
        // Most labels are plain texts: no need to keep a parser's tree for each.
        if !source.contains("{{") {
            return Ok(AlertTemplate::Plain(source.to_owned()));
        }
        let name = format!("__alert_{name}");
        // The tree is dropped and made again when it is first used: a collection of rules has
        // thousands of templates, of which few alerts ever fire.
        let (_, looks) = build(&name, source, self.functions.clone())?;
        let actions =
            Actions { name, source: source.to_owned(), parsed: OnceLock::new(), is_time_dependent: looks };
        Ok(AlertTemplate::Actions(Arc::new(actions)))
    }

    /// The data for the templates of one row.
    pub fn scope(&self, labels: &Labels, value: f64, t: TimeMs) -> TemplateData {
        NOW.set(t);
        let entries = [
            ("Labels", label_map(labels)),
            ("Value", Value::Float(value)),
            ("ExternalLabels", self.external_labels.clone()),
            ("ExternalURL", text(&self.external_url)),
        ];
        TemplateData(Value::Map(Arc::new(entries.into_iter().map(|(n, v)| (Arc::from(n), v)).collect())))
    }

    /// Parses a text that [`TemplateExpander::compile`] has accepted.
    fn parsed(&self, name: &str, source: &str) -> gotmpl::Template {
        let parsed = build(name, source, self.functions.clone()).map(|(template, _)| template);
        debug_assert!(parsed.is_ok(), "a text that parsed does so again");
        parsed.unwrap_or_else(|_| gotmpl::Template::new(MAIN))
    }

    /// Expands a template. An error becomes part of the text, as in Prometheus: the alert is sent
    /// anyway.
    pub fn expand(&self, template: &AlertTemplate, scope: &TemplateData) -> String {
        match template {
            AlertTemplate::Plain(text) => text.clone(),
            AlertTemplate::Actions(actions) => {
                let template = actions.parsed.get_or_init(|| self.parsed(&actions.name, &actions.source));
                let mut out = BoundedText(String::new());
                budget::begin();
                self.expansions.inc();
                match template.execute_template_fmt(&mut out, MAIN, &scope.0) {
                    Ok(()) => out.0,
                    Err(e) => {
                        let why = match e {
                            TemplateError::Exec(why) => why,
                            TemplateError::Write => format!("its text is longer than {TEMPLATE_BYTES} bytes"),
                            other => other.to_string(),
                        };
                        self.failures.inc();
                        let error = format!("error executing template {}: {why}", actions.name);
                        // Whoever wrote the rule must act; the alert itself is sent.
                        tracing::warn!(target: "rules", %error, "a template of an alert cannot be expanded; correct it in the rule file");
                        format!("<error expanding template: {error}>")
                    }
                }
            }
        }
    }
}

/// Checks a text; `name` is that of the rule.
pub fn check(name: &str, source: &str) -> Result<(), TemplateSyntaxError> {
    struct Nothing;
    impl TemplateQuery for Nothing {
        fn query(&self, _: &str, _: TimeMs) -> Result<Vec<(Labels, f64)>, TemplateQueryError> {
            Ok(Vec::new())
        }
    }
    // Created once, because a file may have hundreds of thousands of templates.
    static CHECKER: LazyLock<TemplateExpander> =
        LazyLock::new(|| TemplateExpander::new(&Labels::default(), "", Arc::new(Nothing)));
    CHECKER.compile(name, source).map(drop)
}

/// The names of the functions that Prometheus gives templates, sorted: those of an expander,
/// without Go's own and without those that only rewritten templates call.
pub fn template_functions() -> Vec<String> {
    let expander = TemplateExpander::new(&Labels::default(), "", Arc::new(NoQueries));
    let of_go = builtins::table();
    let is_prometheus =
        |name: &String| !name.starts_with("__") && of_go.iter().all(|(other, _)| other != name);
    let mut names: Vec<String> =
        expander.functions.keys().filter(|name| is_prometheus(name)).cloned().collect();
    names.sort();
    names
}

/// For an expander of which only the names of functions are read.
struct NoQueries;

impl TemplateQuery for NoQueries {
    fn query(&self, _: &str, _: TimeMs) -> Result<Vec<(Labels, f64)>, TemplateQueryError> {
        Ok(Vec::new())
    }
}

/// A string that does not grow beyond [`TEMPLATE_BYTES`].
struct BoundedText(String);

impl std::fmt::Write for BoundedText {
    fn write_str(&mut self, s: &str) -> std::fmt::Result {
        if self.0.len() + s.len() > TEMPLATE_BYTES {
            return Err(std::fmt::Error);
        }
        self.0.push_str(s);
        Ok(())
    }
}

pub(crate) fn pure_functions() -> FunctionTable {
    let mut map = FunctionTable::new();
    for (name, function) in functions::table() {
        map.insert(name.to_owned(), counted(name, Arc::new(function)));
    }
    for (name, function) in builtins::table() {
        map.insert(name.to_owned(), counted(name, Arc::new(function)));
    }
    map.insert(budget::STEP.to_owned(), Arc::new(budget::step));
    map.insert(FIELD.to_owned(), Arc::new(fields::field));
    map
}

pub(crate) fn run_query(
    query: &dyn TemplateQuery,
    args: &[Value],
    t: TimeMs,
) -> Result<Value, FunctionError> {
    let expr = functions::string(&functions::arguments::<1>("query", args)?[0])?;
    let rows = query.query(expr, t).map_err(|e| fail(e.to_string()))?;
    if rows.len() > TEMPLATE_QUERY_ROWS {
        return Err(fail(format!("query gives {} rows, more than {TEMPLATE_QUERY_ROWS}", rows.len())));
    }
    let row = |(labels, value): (Labels, f64)| {
        let pairs = [(Arc::from("Labels"), label_map(&labels)), (Arc::from("Value"), Value::Float(value))];
        Value::Map(Arc::new(BTreeMap::from(pairs)))
    };
    Ok(Value::List(rows.into_iter().map(row).collect::<Vec<_>>().into()))
}

/// The template, and whether it calls a function that depends on more than its arguments.
fn build(
    name: &str,
    source: &str,
    functions: gotmpl::FuncMap,
) -> Result<(gotmpl::Template, bool), TemplateSyntaxError> {
    // `gotmpl` does not check that every block has its end.
    if let Some((at, what)) = unbalanced(source) {
        let before = &source[..at];
        let line = before.matches('\n').count() as u64 + 1;
        let column = (before.len() - before.rfind('\n').map_or(0, |at| at + 1)) as u64 + 1;
        let fix = "every if, range, with, block and define has one {{ end }}".to_owned();
        return Err(TemplateSyntaxError { line, column, what: what.to_owned(), fix });
    }
    let whole = format!("{PRELUDE}{source}");
    let builtins = BUILTINS.map(str::to_owned);
    let known: Vec<String> = functions.keys().cloned().chain(builtins).collect();
    let empty = gotmpl::Template::new(MAIN).max_range_iters(TEMPLATE_ITERATIONS).funcs(functions);
    let mut template = empty.parse(&whole).map_err(|e| parse_fault(&e, source))?;
    let trees: Vec<(String, ListNode)> = template
        .templates()
        .into_iter()
        .filter_map(|name| Some((name.to_owned(), template.lookup(name)?.clone())))
        .collect();
    let mut rewriter = TemplateRewriter::new(name, &whole, PRELUDE.len(), &known);
    // Also the templates that the text defines: they may be called.
    for (of, mut tree) in trees {
        rewriter.tree(if of == MAIN { name } else { &of }, &mut tree);
        template = template.add_parse_tree(&of, tree);
    }
    let looks = rewriter.is_time_dependent;
    rewriter.fault.map_or(Ok((template, looks)), Err)
}

/// Calls a function; the arguments are positions, name and arguments. Its errors have Go's texts.
fn call(functions: &FunctionTable, args: &[Value]) -> Result<Value, FunctionError> {
    let [Value::String(places), Value::String(name), args @ ..] = args else {
        return Err(fail("wrong number of args"));
    };
    let not_defined = || fail(format!("function {name:?} not defined"));
    let function = functions.get(&**name).ok_or_else(not_defined)?;
    function(args).map_err(|error| {
        let mut of_args = places.split(POSITION_SEPARATOR);
        let place = of_args.next().unwrap_or("");
        match error {
            // Go finds a wrong number before it looks at the function, so it names only the call.
            FunctionError::ArgumentCount(text) => {
                let place = place.split_once(" at <").map_or(place, |(before, _)| before);
                fail(format!("{place} at <{name}>: {text}"))
            }
            FunctionError::ArgumentType { expected, text } => {
                let at = misfit(args, expected);
                fail(format!("{}: {text}", of_args.nth(at).unwrap_or(place)))
            }
            FunctionError::Failed(text) => fail(format!("{place}: error calling {name}: {text}")),
        }
    })
}

/// The first argument that does not have the type `expected`.
fn misfit(args: &[Value], expected: ArgumentType) -> usize {
    // A function of a label and rows has the label first.
    let from = if expected == ArgumentType::Text || args.len() < 2 { 0 } else { 1 };
    (from..args.len()).find(|at| !expected.fits(&args[*at])).unwrap_or(0)
}

fn parse_fault(error: &TemplateError, source: &str) -> TemplateSyntaxError {
    let (line, column, what) = match error {
        TemplateError::Parse { line, col, message, .. } | TemplateError::Lex { line, col, message, .. } => {
            (*line as u64, *col as u64, message.clone())
        }
        other => (1, PRELUDE.len() as u64 + 1, other.to_string()),
    };
    // The prelude is no part of what the user wrote.
    let shift = if line == 1 { PRELUDE.len() as u64 } else { 0 };
    let is_open = source.rfind("{{") > source.rfind("}}");
    let fix = match error {
        TemplateError::Lex { .. } if is_open => "close the action with }}",
        _ => "see Go's text/template for the syntax",
    };
    TemplateSyntaxError { line, column: column.saturating_sub(shift).max(1), what, fix: fix.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Rows;
    impl TemplateQuery for Rows {
        fn query(&self, expr: &str, t: TimeMs) -> Result<Vec<(Labels, f64)>, TemplateQueryError> {
            match expr {
                "metric" => Ok(vec![
                    (Labels::from_pairs([("__name__", "metric"), ("instance", "b")]), 21.0),
                    (Labels::from_pairs([("__name__", "metric"), ("instance", "a")]), 11.0),
                ]),
                "none" => Ok(vec![]),
                "now" => Ok(vec![(Labels::default(), t as f64 / 1000.0)]),
                _ => Err(TemplateQueryError::Text("no such metric".to_owned())),
            }
        }
    }

    fn labels() -> Labels {
        Labels::from_pairs([("instance", "web.example:9100"), ("job", "web-app"), ("empty_ish", " ")])
    }

    fn render(source: &str) -> String {
        let external = Labels::from_pairs([("cluster", "production")]);
        let expander = TemplateExpander::new(&external, "http://host:9090/base/", Arc::new(Rows));
        match expander.compile("Test", source) {
            Ok(template) => expander.expand(&template, &expander.scope(&labels(), 0.0012345, 1_500_000)),
            Err(fault) => format!("{}:{}: {}; {}", fault.line, fault.column, fault.what, fault.fix),
        }
    }

    /// The results of Prometheus 3.14, by value: numbers in all verbs, fields, functions, errors.
    #[test]
    fn texts_are_those_of_3_14() {
        let cases: serde_json::Value =
            serde_json::from_str(include_str!("../tests/data/templates.json")).unwrap();
        let external = Labels::from_pairs([("cluster", "production")]);
        let expander = TemplateExpander::new(&external, "http://host:9090/base/", Arc::new(Rows));
        let mut wrong = Vec::new();
        for case in cases.as_array().unwrap() {
            let source = case["template"].as_str().unwrap();
            let template = expander.compile("Test", source).unwrap();
            for (value, want) in case["texts"].as_object().unwrap() {
                let value = storage::model::number::parse(value).unwrap();
                let got = expander.expand(&template, &expander.scope(&labels(), value, 1_500_000));
                if got != *want {
                    wrong.push(format!("{source} of {value}: {got:?}, not {want}"));
                }
            }
        }
        assert!(wrong.is_empty(), "{wrong:#?}");
    }

    #[test]
    fn golden_texts() {
        let cases = [
            ("plain {text}", "plain {text}"),
            (
                "{{ $labels.job }} on {{ $labels.instance }} has been down",
                "web-app on web.example:9100 has been down",
            ),
            ("on {{ $labels.nothing }}.", "on ."),
            (
                "{{ .Labels.nothing | toUpper }}|{{ printf \"%s|%q\" $labels.nothing .Labels.job }}",
                "||\"web-app\"",
            ),
            ("{{ if eq $labels.nothing \"\" }}none{{ end }}", "none"),
            ("{{ if $labels.nothing }}x{{ else }}y{{ end }}", "y"),
            ("{{ with $labels.job }}{{ . }}{{ end }}", "web-app"),
            ("{{ $value }} {{ .Value }} {{ $value | humanize }}", "0.0012345 0.0012345 1.234m"),
            ("{{ $value | humanizePercentage }} {{ printf \"%.2f\" $value }}", "0.1234% 0.00"),
            (
                "{{ $externalLabels.cluster }} {{ $externalURL }} {{ externalURL }}{{ pathPrefix }}",
                "production http://host:9090/base http://host:9090/base/base",
            ),
            (
                "{{ range $k, $v := $labels }}{{ $k }}={{ $v }};{{ end }}",
                "empty_ish= ;instance=web.example:9100;job=web-app;",
            ),
            ("{{ query \"metric\" | first | value }}", "21"),
            (
                "{{ range query \"metric\" | sortByLabel \"instance\" }}{{ .Labels.instance }}:{{ .Value }}:{{ .Labels.x }} {{ end }}",
                "a:11: b:21: ",
            ),
            ("{{ query \"now\" | first | value | humanizeTimestamp }}", "1970-01-01 00:25:00 +0000 UTC"),
            ("{{ with query \"metric\" }}{{ . | first | label \"instance\" }}{{ end }}", "b"),
            ("{{ (query \"metric\" | first).Labels.instance }}", "b"),
            ("{{ reReplaceAll \"(.*)\\\\.example.*\" \"$1\" $labels.instance }}", "web"),
            ("{{ if match \"^web\" $labels.job }}yes{{ end }}", "yes"),
            (
                "{{ $labels.instance | stripPort }} {{ $labels.instance | stripDomain }}",
                "web.example web:9100",
            ),
            ("{{ \"up == 0\" | graphLink }}", "/graph?g0.expr=up+%3D%3D+0&g0.tab=0"),
            ("{{ parseDuration \"1h2m10ms\" }}", "3720.01"),
            (
                "{{ define \"t\" }}{{ .arg0 }}+{{ .arg1 }}{{ end }}{{ template \"t\" (args 1 $value) }}",
                "1+0.0012345",
            ),
            (
                "{{ toTime 1435065584.128 }} {{ $value | toDuration }} {{ (toTime 60).Unix }} {{ now | humanizeTimestamp }}",
                "2015-06-23 13:19:44.128 +0000 UTC 1.2345ms 60 1970-01-01 00:25:00 +0000 UTC",
            ),
            (
                "{{ (1435065584 | toTime).Format \"2006-01-02T15:04Z\" }} {{ $t := toTime 0 }}{{ $t.Format \"Jan 2\" }}{{ with toTime 0 }} {{ .Format \"2006\" }}{{ end }}",
                "2015-06-23T13:19Z Jan 1 1970",
            ),
            (
                "{{ if eq (index $labels \"nothing\") \"\" }}none{{ end }} {{ index $labels \"job\" }}",
                "none web-app",
            ),
            ("{{ 1e300 }} {{ 1.0 }} {{ 1e6 }} {{ 3 }} {{ true }}", "1e+300 1 1e+06 3 true"),
            ("{{ title \"a b\" }} {{ toLower \"AB\" }} {{ urlQueryEscape \"a b&c\" }}", "A B ab a+b%26c"),
        ];
        for (source, want) in cases {
            assert_eq!(render(source), want, "{source}");
        }
    }

    #[test]
    fn failures_become_text() {
        let text = render("{{ query \"missing\" }}");
        assert!(
            text.starts_with("<error expanding template: error executing template __alert_Test: "),
            "{text}"
        );
        assert!(text.contains("no such metric"), "{text}");
        assert!(
            render("{{ range query \"metric\" }}{{ printf \"%70000s\" \"x\" }}{{ end }}")
                .starts_with("<error")
        );
    }

    /// Without limits, each of these would need more memory or time than there is.
    #[test]
    fn a_template_that_wants_everything_is_an_error_in_the_text() {
        let doubled = |how: &str| {
            format!(
                "{{{{ $x := `0123456789` }}}}{{{{ range (query `metric`) }}}}{{{{ end }}}}{}{{{{ $x }}}}",
                how.repeat(60)
            )
        };
        let calls: String = (0..60)
            .map(|i| {
                format!(
                    "{{{{define `t{i}`}}}}{{{{template `t{}`}}}}{{{{template `t{}`}}}}{{{{end}}}}",
                    i + 1,
                    i + 1
                )
            })
            .collect();
        let bytes = "its texts and query results are larger than";
        let steps = "it takes more than 500000 steps";
        let cases = [
            (doubled("{{ $x = print $x $x }}"), bytes),
            (doubled("{{ $x = $x | print $x }}"), bytes),
            (doubled("{{ $x = printf `%s%s` $x $x }}"), bytes),
            (doubled("{{ $x = $x | printf `%s%[1]s` }}"), bytes),
            (doubled("{{ $x = printf (print `%s` `%[1]s`) $x }}"), bytes),
            (doubled("{{ $x = js (print `'<` $x) }}"), bytes),
            (doubled("{{ $x = html (print `<` $x $x) }}"), bytes),
            (doubled("{{ $x = print `<>%` $x | urlquery }}{{ $x = println $x $x }}"), bytes),
            (doubled("{{ $x = reReplaceAll `.` `$0$0` $x }}"), steps),
            (doubled("{{ $x = reReplaceAll `^.*$` (reReplaceAll `.` `$$0` $x) $x }}"), bytes),
            (doubled("{{ $x = $x | toUpper | printf `%s%s` $x }}"), bytes),
            (doubled("{{ $x = args $x $x }}"), "its values are nested deeper than 16 levels"),
            (format!("{{{{ $f := `{}` }}}}{{{{ printf $f 1 }}}}", "%60000[1]d".repeat(1000)), bytes),
            (
                "{{ range 90000 }}{{ $x := print `%` `60000` `d` }}{{ len (printf $x .) }}{{ end }}"
                    .to_owned(),
                bytes,
            ),
            ("{{ $x := `a` }}{{ range 90000 }}{{ $x = args $x }}{{ end }}".to_owned(), "nested deeper"),
            ("{{ range 90000 }}{{ len (query `metric`) }}{{ end }}".to_owned(), steps),
            ("{{ range 90000 }}{{ range 90000 }}{{ end }}{{ end }}".to_owned(), "range iteration budget"),
            (
                "{{ range 90000 }}{{ if true }}{{ if true }}{{ end }}{{ end }}{{ $y := 1 }}{{ end }}"
                    .to_owned(),
                steps,
            ),
            (format!("{calls}{{{{define `t60`}}}}{{{{end}}}}{{{{template `t0`}}}}"), steps),
            ("{{ range 90000 }}0123456789{{ end }}".to_owned(), "its text is longer than 65536 bytes"),
        ];
        let mut wrong = Vec::new();
        for (source, why) in &cases {
            let text = render(source);
            let is_error =
                text.starts_with("<error expanding template: error executing template __alert_Test: ");
            if !is_error || !text.contains(why) {
                wrong.push(format!("{source:.200}: {text:.200}, not {why}"));
            }
        }
        assert!(wrong.is_empty(), "{wrong:#?}");
    }

    #[test]
    fn what_people_write_is_far_within_the_budget() {
        let row = |i: usize| {
            (Labels::from_pairs([("instance", format!("host-{i}:9100").as_str()), ("job", "node")]), i as f64)
        };
        struct ManyRows(Vec<(Labels, f64)>);
        impl TemplateQuery for ManyRows {
            fn query(&self, _: &str, _: TimeMs) -> Result<Vec<(Labels, f64)>, TemplateQueryError> {
                Ok(self.0.clone())
            }
        }
        let rows = (0..TEMPLATE_QUERY_ROWS).map(row).collect();
        let expander = TemplateExpander::new(&Labels::default(), "", Arc::new(ManyRows(rows)));
        let source = "{{ range query `up` | sortByLabel `instance` }}{{ if gt .Value 9990.0 }}{{ .Labels.instance | stripPort }}={{ printf `%.1f` .Value }} {{ end }}{{ end }}";
        let template = expander.compile("Report", source).unwrap();
        let text = expander.expand(&template, &expander.scope(&Labels::default(), 1.0, 0));
        assert!(text.starts_with("host-9991=9991.0 host-9992=9992.0 "), "{text}");
    }

    #[test]
    fn formats_are_computed_once() {
        for (source, want) in [
            ("{{ printf (printf \"%s%s\" \"%5.1f\" \"|\") 2.25 }}", "  2.2|"),
            ("{{ 7 | printf (print \"%0\" \"3d\") }}", "007"),
            ("{{ \"plain\" | printf }}", "plain"),
            ("{{ printf \"%d %s\" 1 (printf \"%q\" \"x\") }}", "1 \"x\""),
            ("{{ (printf \"%s\" \"up\") | len }}", "2"),
            ("{{ print 1 2 \"a\" }} {{ html \"<\" }} {{ slice \"abcd\" 1 3 }}", "1 2a &lt; bc"),
        ] {
            assert_eq!(render(source), want, "{source}");
        }
    }

    #[test]
    fn wrong_texts_are_refused_with_place_and_remedy() {
        assert_eq!(
            render("a\nb {{ humanise $value }}"),
            "2:6: function \"humanise\" not defined; did you mean \"humanize\"?"
        );
        let text = render("x {{ $labels.job");
        assert!(text.contains("unclosed action") && text.starts_with("1:"), "{text}");
        for (source, want) in [
            ("{{ $nothing }}", "1:4: undefined variable \"$nothing\""),
            ("{{ if true }}{{ $x := 1 }}{{ end }}{{ $x }}", "1:39: undefined variable \"$x\""),
            ("a\n{{ $x = 1 }}", "2:4: undefined variable \"$x\""),
            ("{{ if true }}{{/* {{ end }} */}}", "1:33: unexpected EOF"),
            ("{{ `{{ if }}` }}{{ end }}", "1:19: unexpected {{end}}"),
            ("{{ else }}", "1:3: unexpected {{else}}"),
            ("{{ break }}", "1:4: {{break}} outside {{range}}"),
        ] {
            let text = render(source);
            assert!(text.starts_with(want), "{text}");
        }
        let text = render(
            "{{ with $x := 5 }}{{ $x }}{{ else }}{{ $x }}{{ end }}{{ range $i, $e := $labels }}{{ $i }}{{ end }}",
        );
        assert_eq!(text, "5empty_ishinstancejob");
    }

    /// The names that Prometheus 3.14 answers at `/api/v1/features`.
    const OF_PROMETHEUS: &str = "args externalURL first graphLink humanize humanize1024 humanizeDuration \
        humanizePercentage humanizeTimestamp label match now parseDuration pathPrefix query reReplaceAll \
        safeHtml sortByLabel stripDomain stripPort strvalue tableLink title toDuration toLower toTime toUpper \
        urlQueryEscape value";

    #[test]
    fn template_functions_have_the_names_of_prometheus() {
        assert_eq!(template_functions().join(" "), OF_PROMETHEUS);
    }
}
