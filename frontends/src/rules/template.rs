//! Labels and annotations as Go templates.
//!
//! An [`Expander`] knows the server (external labels and URL, how to query); [`Expander::compile`] parses a
//! text once, [`Expander::expand`] fills it for one row. `gotmpl` is the engine; its syntax tree is rewritten so
//! that a missing label is "" (`missingkey=zero`), floats print as in Go, and what it costs is counted (`budget.rs`). The
//! functions are in `functions.rs`.

use super::budget::{self, counted};
use super::counting::{count_arguments, count_steps};
use super::functions::{self, METHOD, fail, label_map, text};
use super::limits::{TEMPLATE_BYTES, TEMPLATE_ITERATIONS, TEMPLATE_QUERY_ROWS};
use gotmpl::parse::{BranchNode, CommandNode, Expr, ListNode, Node, PipeNode, Pos};
use gotmpl::{TemplateError, Value};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock, OnceLock};
use storage::model::{Labels, TimeMs};

/// Declares the variables that every text may use.
const PRELUDE: &str = "{{$labels := .Labels}}{{$externalLabels := .ExternalLabels}}{{$externalURL := .ExternalURL}}{{$value := .Value}}";
const BUILTINS: [&str; 18] = [
    "and", "or", "not", "len", "index", "slice", "call", "print", "printf", "println", "html", "js",
    "urlquery", "eq", "ne", "lt", "le", "gt",
];
const MAIN: &str = "main";

/// How a template asks the database.
pub trait QueryFn: Send + Sync {
    /// The rows of an expression at `t`.
    fn query(&self, expr: &str, t: TimeMs) -> Result<Vec<(Labels, f64)>, String>;
}

/// What is wrong with a template, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TemplateFault {
    /// Line, from 1.
    pub line: u64,
    /// Column, from 1.
    pub column: u64,
    /// What is wrong.
    pub what: String,
    /// What to do about it.
    pub fix: String,
}

/// A text that parses.
#[derive(Clone)]
pub enum Template {
    /// Without any action.
    Plain(String),
    /// With actions.
    Actions(Arc<Actions>),
}

/// A text with actions. Parsed it takes twenty times as much memory, and most alerts never fire: it is parsed when it is
/// filled first.
pub struct Actions {
    /// For error texts.
    name: String,
    source: String,
    parsed: OnceLock<gotmpl::Template>,
    /// Whether its text depends on more than what it is filled with.
    looks: bool,
}

impl Template {
    /// Whether its text depends on more than what it is filled with.
    pub fn looks(&self) -> bool {
        matches!(self, Template::Actions(actions) if actions.looks)
    }
}

/// What a template is filled with: one row of the rule's answer.
pub struct Scope(Value);

thread_local! {
    /// When the template is filled that this thread fills, ms: `query` asks about then.
    static NOW: Cell<TimeMs> = const { Cell::new(0) };
}

/// Functions whose results depend on more than their arguments.
const LOOKING: [&str; 2] = ["query", "now"];

/// Compiles and fills templates. `query` runs at the time of the thread's last [`Expander::scope`].
pub struct Expander {
    functions: gotmpl::FuncMap,
    external_labels: Value,
    external_url: String,
}

impl Expander {
    /// An expander for a server with these external labels and this external URL.
    pub fn new(external_labels: &Labels, external_url: &str, query: Arc<dyn QueryFn>) -> Expander {
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
        Expander { functions, external_labels: label_map(external_labels), external_url: url }
    }

    /// Checks a text; `name` is the rule's.
    pub fn compile(&self, name: &str, source: &str) -> Result<Template, TemplateFault> {
        if !source.contains("{{") {
            return Ok(Template::Plain(source.to_owned()));
        }
        let (_, looks) = build(source, self.functions.clone())?;
        let actions = Actions {
            name: format!("__alert_{name}"),
            source: source.to_owned(),
            parsed: OnceLock::new(),
            looks,
        };
        Ok(Template::Actions(Arc::new(actions)))
    }

    /// What the templates of one row are filled with.
    pub fn scope(&self, labels: &Labels, value: f64, t: TimeMs) -> Scope {
        NOW.set(t);
        let entries = [
            ("Labels", label_map(labels)),
            ("Value", Value::Float(value)),
            ("ExternalLabels", self.external_labels.clone()),
            ("ExternalURL", text(&self.external_url)),
        ];
        Scope(Value::Map(Arc::new(entries.into_iter().map(|(n, v)| (Arc::from(n), v)).collect())))
    }

    /// A text that [`Expander::compile`] has found good.
    fn parsed(&self, source: &str) -> gotmpl::Template {
        let parsed = build(source, self.functions.clone()).map(|(template, _)| template);
        debug_assert!(parsed.is_ok(), "a text that parsed does so again");
        parsed.unwrap_or_else(|_| gotmpl::Template::new(MAIN))
    }

    /// The filled text; a failure becomes part of it, as in Prometheus: the alert is sent all the same.
    pub fn expand(&self, template: &Template, scope: &Scope) -> String {
        match template {
            Template::Plain(text) => text.clone(),
            Template::Actions(actions) => {
                let template = actions.parsed.get_or_init(|| self.parsed(&actions.source));
                let mut out = Limited(String::new());
                budget::begin();
                match template.execute_template_fmt(&mut out, MAIN, &scope.0) {
                    Ok(()) => out.0,
                    Err(e) => {
                        let why = match e {
                            TemplateError::Write => format!("its text is longer than {TEMPLATE_BYTES} bytes"),
                            other => other.to_string(),
                        };
                        let error = format!("error executing template {}: {why}", actions.name);
                        tracing::warn!(%error, "expanding an alert's template failed");
                        format!("<error expanding template: {error}>")
                    }
                }
            }
        }
    }
}

/// Whether a text parses; `name` is the rule's.
pub fn check(name: &str, source: &str) -> Result<(), TemplateFault> {
    struct Nothing;
    impl QueryFn for Nothing {
        fn query(&self, _: &str, _: TimeMs) -> Result<Vec<(Labels, f64)>, String> {
            Ok(Vec::new())
        }
    }
    // A file has hundreds of thousands of texts.
    static CHECKER: LazyLock<Expander> =
        LazyLock::new(|| Expander::new(&Labels::default(), "", Arc::new(Nothing)));
    CHECKER.compile(name, source).map(drop)
}

/// A string that does not grow beyond [`TEMPLATE_BYTES`].
struct Limited(String);

impl std::fmt::Write for Limited {
    fn write_str(&mut self, s: &str) -> std::fmt::Result {
        if self.0.len() + s.len() > TEMPLATE_BYTES {
            return Err(std::fmt::Error);
        }
        self.0.push_str(s);
        Ok(())
    }
}

fn pure_functions() -> gotmpl::FuncMap {
    let mut map = gotmpl::FuncMap::new();
    for (name, function) in functions::table() {
        map.insert(name.to_owned(), counted(name, Arc::new(function)));
    }
    map.extend(budget::table().map(|(name, function)| (name.to_owned(), function)));
    map
}

fn run_query(query: &dyn QueryFn, args: &[Value], t: TimeMs) -> Result<Value, TemplateError> {
    let [Value::String(expr)] = args else { return Err(fail("query wants one string")) };
    let rows = query.query(expr, t).map_err(|e| fail(format!("error calling query: {e}")))?;
    if rows.len() > TEMPLATE_QUERY_ROWS {
        return Err(fail(format!("query gives {} rows, more than {TEMPLATE_QUERY_ROWS}", rows.len())));
    }
    let row = |(labels, value): (Labels, f64)| {
        let pairs = [(Arc::from("Labels"), label_map(&labels)), (Arc::from("Value"), Value::Float(value))];
        Value::Map(Arc::new(BTreeMap::from(pairs)))
    };
    Ok(Value::List(rows.into_iter().map(row).collect::<Vec<_>>().into()))
}

/// The template, and whether it calls something that looks further than its arguments.
fn build(source: &str, functions: gotmpl::FuncMap) -> Result<(gotmpl::Template, bool), TemplateFault> {
    let whole = format!("{PRELUDE}{source}");
    let known: Vec<String> =
        functions.keys().cloned().chain(BUILTINS.map(str::to_owned)).chain(["ge".into()]).collect();
    let empty = gotmpl::Template::new(MAIN).max_range_iters(TEMPLATE_ITERATIONS).funcs(functions);
    let template = empty.parse(&whole).map_err(|e| parse_fault(&e))?;
    let trees: Vec<(String, ListNode)> = template
        .templates()
        .into_iter()
        .filter_map(|name| Some((name.to_owned(), template.lookup(name)?.clone())))
        .collect();
    let mut rewriter = Rewriter { source: &whole, known: &known, looks: false, formats: 0, fault: None };
    let mut template = template;
    for (name, mut tree) in trees {
        rewriter.list(&mut tree);
        template = template.add_parse_tree(&name, tree);
    }
    let looks = rewriter.looks;
    rewriter.fault.map_or(Ok((template, looks)), Err)
}

fn parse_fault(error: &TemplateError) -> TemplateFault {
    let (line, column, what) = match error {
        TemplateError::Parse { line, col, message, .. } | TemplateError::Lex { line, col, message, .. } => {
            (*line as u64, *col as u64, message.clone())
        }
        other => (1, PRELUDE.len() as u64 + 1, other.to_string()),
    };
    let shift = if line == 1 { PRELUDE.len() as u64 } else { 0 };
    let fix = match what.contains("unclosed") {
        true => "close the action with }}",
        false => "see Go's text/template for the syntax",
    };
    TemplateFault { line, column: column.saturating_sub(shift).max(1), what, fix: fix.to_owned() }
}

/// Walks a syntax tree: checks function names, makes missing fields empty, prints through `__show`.
struct Rewriter<'a> {
    source: &'a str,
    known: &'a [String],
    looks: bool,
    formats: usize,
    fault: Option<TemplateFault>,
}

impl Rewriter<'_> {
    fn list(&mut self, list: &mut ListNode) {
        list.nodes.iter_mut().for_each(|node| self.node(node));
        count_steps(list);
    }

    fn node(&mut self, node: &mut Node) {
        match node {
            Node::List(list) => self.list(list),
            Node::Action(action) => {
                self.pipe(&mut action.pipe);
                if action.pipe.decl.is_empty() {
                    let args = vec![Expr::Identifier(action.pos, "__show".into())];
                    action.pipe.commands.push(CommandNode { pos: action.pos, args });
                }
            }
            Node::If(branch) | Node::Range(branch) | Node::With(branch) => self.branch(branch),
            Node::Template(call) => call.pipe.iter_mut().for_each(|pipe| self.pipe(pipe)),
            Node::Define(define) => self.list(&mut define.body),
            Node::Text(_) | Node::Break(_) | Node::Continue(_) => {}
        }
    }

    fn branch(&mut self, branch: &mut BranchNode) {
        self.pipe(&mut branch.pipe);
        self.list(&mut branch.body);
        branch.else_body.iter_mut().for_each(|body| self.list(body));
    }

    fn pipe(&mut self, pipe: &mut PipeNode) {
        pipe.commands.iter_mut().for_each(called);
        pipe.commands.iter_mut().flat_map(|c| &mut c.args).for_each(|arg| self.expr(arg));
        count_arguments(pipe, &mut self.formats);
    }

    fn expr(&mut self, expr: &mut Expr) {
        match expr {
            Expr::Identifier(pos, name) => self.function(*pos, name),
            Expr::Pipe(_, pipe) => self.pipe(pipe),
            Expr::Chain(_, inner, _) if matches!(**inner, Expr::Identifier(..)) => self.expr(inner),
            Expr::Chain(_, inner, _) => {
                self.expr(inner);
                zeroed(expr);
            }
            Expr::Field(..) => zeroed(expr),
            Expr::Variable(_, _, fields) if !fields.is_empty() => zeroed(expr),
            _ => {}
        }
    }

    fn function(&mut self, pos: Pos, name: &str) {
        self.looks |= LOOKING.contains(&name);
        if self.fault.is_some() || self.known.iter().any(|k| k == name) {
            return;
        }
        let before = self.source.get(..pos.offset).unwrap_or("");
        let line = before.matches('\n').count() as u64 + 1;
        let start = before.rfind('\n').map_or(0, |n| n + 1);
        let shift = if line == 1 { PRELUDE.len() } else { 0 };
        let column = (before.len() - start).saturating_sub(shift) as u64 + 1;
        let offered: Vec<&String> = self.known.iter().filter(|k| !k.starts_with("__")).collect();
        let fix = super::yaml::suggestion(name, &offered);
        self.fault =
            Some(TemplateFault { line, column, what: format!("function {name:?} not defined"), fix });
    }
}

/// `(…).Format "2006"` becomes a call: fields take no arguments.
fn called(command: &mut CommandNode) {
    let [receiver, _, ..] = command.args.as_mut_slice() else { return };
    let pos = receiver.pos();
    let (Expr::Chain(_, _, fields) | Expr::Variable(_, _, fields) | Expr::Field(_, fields)) = receiver else {
        return;
    };
    let Some(method) = fields.pop_if(|name| name == "Format") else { return };
    match receiver {
        Expr::Chain(_, inner, fields) if fields.is_empty() => {
            *receiver = std::mem::replace(&mut **inner, Expr::Nil(pos))
        }
        Expr::Field(_, fields) if fields.is_empty() => *receiver = Expr::Dot(pos),
        _ => {}
    }
    let head = [Expr::Identifier(pos, METHOD.into()), Expr::String(pos, Arc::from(method.as_str()))];
    command.args.splice(0..0, head);
}

/// Wraps a field access: nothing becomes "".
fn zeroed(expr: &mut Expr) {
    let pos = expr.pos();
    let inner = std::mem::replace(expr, Expr::Nil(pos));
    let command = CommandNode { pos, args: vec![Expr::Identifier(pos, "__zero".into()), inner] };
    *expr = Expr::Pipe(pos, PipeNode { pos, decl: Vec::new(), commands: vec![command], is_assign: false });
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Rows;
    impl QueryFn for Rows {
        fn query(&self, expr: &str, t: TimeMs) -> Result<Vec<(Labels, f64)>, String> {
            match expr {
                "metric" => Ok(vec![
                    (Labels::from_pairs([("__name__", "metric"), ("instance", "b")]), 21.0),
                    (Labels::from_pairs([("__name__", "metric"), ("instance", "a")]), 11.0),
                ]),
                "now" => Ok(vec![(Labels::default(), t as f64 / 1000.0)]),
                _ => Err("no such metric".to_owned()),
            }
        }
    }

    fn render(source: &str) -> String {
        let external = Labels::from_pairs([("cluster", "production")]);
        let expander = Expander::new(&external, "http://host:9090/base/", Arc::new(Rows));
        let labels =
            Labels::from_pairs([("instance", "web.example:9100"), ("job", "web-app"), ("empty_ish", " ")]);
        match expander.compile("Test", source) {
            Ok(template) => expander.expand(&template, &expander.scope(&labels, 0.0012345, 1_500_000)),
            Err(fault) => format!("{}:{}: {}; {}", fault.line, fault.column, fault.what, fault.fix),
        }
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
            ("{{ 1e300 }} {{ 1.0 }} {{ 3 }} {{ true }}", "1e+300 1 3 true"),
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

    /// Each of these needed more memory or time than there is.
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
            (format!("{{{{ $f := `{}` }}}}{{{{ printf $f 1 }}}}", "%[1]60000d".repeat(1000)), bytes),
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
        struct Many(Vec<(Labels, f64)>);
        impl QueryFn for Many {
            fn query(&self, _: &str, _: TimeMs) -> Result<Vec<(Labels, f64)>, String> {
                Ok(self.0.clone())
            }
        }
        let rows = (0..TEMPLATE_QUERY_ROWS).map(row).collect();
        let expander = Expander::new(&Labels::default(), "", Arc::new(Many(rows)));
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
        let text = render("{{ $nothing }}");
        assert!(text.contains("nothing"), "{text}");
    }
}
