//! Console pages: Go's html/template under `/consoles/…`, as in Prometheus.
//!
//! A page is parsed and executed for each request, because files may change. Values are escaped by
//! their position in the page, by `gotmpl`. The functions are those of alert templates, and `tmpl`.
//! The cost of a page is counted as in alert templates ([`super::budget`]); its queries have their
//! own limits.

use super::budget;
use super::counting::count_steps;
use super::function_error::{FunctionTable, for_engine};
use super::functions::{arguments, label_map, string, text};
use super::limits::{CONSOLE_BYTES, TEMPLATE_ITERATIONS};
use super::rewriting::method_call;
use super::template::{TemplateQuery, pure_functions, run_query};
use gotmpl::html::{HTML, Template};
use gotmpl::parse::{Expr, ListNode, Node, PipeNode};
use gotmpl::{MissingKey, TemplateError, Value};
use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use storage::model::{Labels, TimeMs};

/// What every page may use; Prometheus puts it before the text of each.
const PRELUDE: &str = "{{$rawParams := .RawParams }}{{$params := .Params}}{{$path := .Path}}{{$externalLabels := .ExternalLabels}}";
/// The function of the rules' templates that only rewritten ones call.
const INNER: &str = "__";

/// A page to be made.
pub struct ConsolePage<'a> {
    /// Its path below `/consoles/`.
    pub path: &'a str,
    /// The template's source text.
    pub source: &'a str,
    /// The libraries: name and text.
    pub libraries: &'a [(String, String)],
    /// The parameters of the request, in order.
    pub params: &'a [(String, String)],
    /// The time of queries.
    pub now: TimeMs,
}

/// What pages know of the server.
pub struct ConsoleServer<'a> {
    /// `global.external_labels`.
    pub external_labels: &'a Labels,
    /// `--web.external-url`.
    pub external_url: &'a str,
    /// Runs `query`.
    pub query: Arc<dyn TemplateQuery>,
}

/// Why there is no page; Prometheus' texts.
#[derive(Debug, thiserror::Error)]
pub enum ConsoleError {
    /// The page is no template.
    #[error("error parsing template {name}: {reason}")]
    Parse {
        /// The name of the page.
        name: String,
        /// What is wrong.
        reason: String,
    },
    /// A library is no template.
    #[error("error parsing template files {name}: {reason}")]
    Library {
        /// The name of the library.
        name: String,
        /// What is wrong.
        reason: String,
    },
    /// It failed while it was executed.
    #[error("error executing template {name}: {reason}")]
    Execute {
        /// The name of the page.
        name: String,
        /// What failed.
        reason: String,
    },
}

/// Makes a page.
///
/// # Errors
///
/// A template cannot be parsed, or fails while it is executed: a query, a limit.
pub fn render(page: &ConsolePage, server: &ConsoleServer) -> Result<String, ConsoleError> {
    let name = format!("__console_/{}", page.path);
    let whole: Arc<OnceLock<Template>> = Arc::default();
    let functions = functions(server, page.now, &whole);
    let template = Template::new(&name)
        .missing_key(MissingKey::ZeroValue)
        .max_range_iters(TEMPLATE_ITERATIONS)
        .funcs(functions.into_iter().map(|(name, function)| (name, for_engine(function))).collect());
    let parsed = template.parse(&format!("{PRELUDE}{}", page.source));
    let mut template =
        parsed.map_err(|e| ConsoleError::Parse { name: name.clone(), reason: e.to_string() })?;
    for (library, source) in page.libraries {
        template = add_library(template, library, source)?;
    }
    let counted =
        counted(template).map_err(|e| ConsoleError::Parse { name: name.clone(), reason: reason(e) })?;
    let template = whole.get_or_init(|| counted);
    let mut out = BoundedPage(String::new());
    budget::begin();
    match template.execute_fmt(&mut out, &data(page, server)) {
        Ok(()) => Ok(out.0),
        Err(error) => Err(ConsoleError::Execute { name, reason: reason(error) }),
    }
}

/// The definitions of a library. Its text outside of them is a template with its name, which no
/// page uses.
fn add_library(template: Template, name: &str, source: &str) -> Result<Template, ConsoleError> {
    let failed = |e: TemplateError| ConsoleError::Library { name: name.to_owned(), reason: e.to_string() };
    let defined = gotmpl::Template::new(name).funcs(named_functions()).parse(source).map_err(failed)?;
    let mut whole = template;
    for other in defined.templates() {
        if let Some(tree) = defined.lookup(other) {
            whole = whole.add_parse_tree(other, tree.clone()).map_err(failed)?;
        }
    }
    Ok(whole)
}

/// The names of all functions, for texts that are only parsed.
fn named_functions() -> gotmpl::FuncMap {
    struct Nothing;
    impl TemplateQuery for Nothing {
        fn query(&self, _: &str, _: TimeMs) -> Result<Vec<(Labels, f64)>, super::TemplateQueryError> {
            Ok(Vec::new())
        }
    }
    let none = Labels::default();
    let server = ConsoleServer { external_labels: &none, external_url: "", query: Arc::new(Nothing) };
    let functions = functions(&server, 0, &Arc::default());
    functions.into_iter().map(|(name, function)| (name, for_engine(function))).collect()
}

/// The functions of pages. Those of alerts with values of html/template where Prometheus has such.
fn functions(server: &ConsoleServer, now: TimeMs, whole: &Arc<OnceLock<Template>>) -> FunctionTable {
    let mut functions = pure_functions();
    // Go's own functions work as they are in pages; ours give the errors of alerts.
    for name in [
        "and", "or", "not", "eq", "ne", "lt", "le", "gt", "ge", "len", "index", "slice", "call", "html",
        "js", "urlquery",
    ] {
        functions.remove(name);
    }
    functions.retain(|name, _| {
        !name.starts_with(INNER) || name == budget::STEP || name == super::functions::METHOD
    });
    let query = server.query.clone();
    let ask = move |args: &[Value]| run_query(&*query, args, now);
    functions.insert("query".to_owned(), budget::counted("query", Arc::new(ask)));
    functions.insert("now".to_owned(), Arc::new(move |_: &[Value]| Ok(Value::Float(now as f64 / 1000.0))));
    let url = server.external_url.trim_end_matches('/').to_owned();
    let path = url::Url::parse(&url).map_or(String::new(), |u| u.path().trim_end_matches('/').to_owned());
    functions.insert("externalURL".to_owned(), Arc::new(move |_: &[Value]| Ok(text(&url))));
    functions.insert("pathPrefix".to_owned(), Arc::new(move |_: &[Value]| Ok(text(&path))));
    let safe = |args: &[Value]| Ok(HTML::from(string(&arguments::<1>("safeHtml", args)?[0])?).into());
    functions.insert("safeHtml".to_owned(), Arc::new(safe));
    // Weak: the template has this function, and would keep itself.
    let whole = Arc::downgrade(whole);
    let tmpl = move |args: &[Value]| {
        let [name, data] = arguments::<2>("tmpl", args)?;
        let whole = whole.upgrade();
        let template = whole.as_ref().and_then(|whole| whole.get());
        let Some(template) = template else { return Ok(text("")) };
        let mut out = BoundedPage(String::new());
        template.execute_template_fmt(&mut out, string(name)?, data)?;
        Ok(HTML::from(out.0).into())
    };
    functions.insert("tmpl".to_owned(), Arc::new(tmpl));
    functions
}

/// The same template, which counts what it does.
fn counted(template: Template) -> Result<Template, TemplateError> {
    let trees: Vec<(String, ListNode)> = template
        .templates()
        .into_iter()
        .filter_map(|name| Some((name.to_owned(), template.lookup(name)?.clone())))
        .collect();
    let mut counted = template;
    for (name, mut tree) in trees {
        rewrite(&mut tree);
        counted = counted.add_parse_tree(&name, tree)?;
    }
    Ok(counted)
}

/// Rewrites the nodes of a list, and those inside of them.
fn rewrite(list: &mut ListNode) {
    for node in &mut list.nodes {
        match node {
            Node::List(list) => rewrite(list),
            Node::Action(action) => calls(&mut action.pipe),
            Node::If(branch) | Node::With(branch) | Node::Range(branch) => {
                calls(&mut branch.pipe);
                rewrite(&mut branch.body);
                if let Some(body) = &mut branch.else_body {
                    rewrite(body);
                }
            }
            Node::Template(call) => {
                if let Some(pipe) = &mut call.pipe {
                    calls(pipe);
                }
            }
            Node::Define(define) => rewrite(&mut define.body),
            Node::Text(_) | Node::Break(_) | Node::Continue(_) => {}
        }
    }
    count_steps(list);
}

/// Methods with arguments become calls.
fn calls(pipe: &mut PipeNode) {
    for command in &mut pipe.commands {
        method_call(command);
        for arg in &mut command.args {
            if let Expr::Pipe(_, inner) = arg {
                calls(inner);
            }
        }
    }
}

/// The data of a page.
fn data(page: &ConsolePage, server: &ConsoleServer) -> Value {
    let mut raw: BTreeMap<Arc<str>, Vec<Value>> = BTreeMap::new();
    for (name, value) in page.params {
        raw.entry(name.as_str().into()).or_default().push(text(value));
    }
    let first = raw.iter().filter_map(|(name, values)| Some((name.clone(), values.first()?.clone())));
    let params: BTreeMap<Arc<str>, Value> = first.collect();
    let raw = raw.into_iter().map(|(name, values)| (name, Value::List(values.into()))).collect();
    let entries = [
        ("RawParams", Value::Map(Arc::new(raw))),
        ("Params", Value::Map(Arc::new(params))),
        ("Path", text(page.path)),
        ("ExternalLabels", label_map(server.external_labels)),
    ];
    Value::Map(Arc::new(entries.into_iter().map(|(name, value)| (Arc::from(name), value)).collect()))
}

/// The text of an error.
fn reason(error: TemplateError) -> String {
    match error {
        TemplateError::Exec(why) => why,
        TemplateError::Write => format!("its text is longer than {CONSOLE_BYTES} bytes"),
        other => other.to_string(),
    }
}

/// A page that does not grow beyond [`CONSOLE_BYTES`].
struct BoundedPage(String);

impl std::fmt::Write for BoundedPage {
    fn write_str(&mut self, s: &str) -> std::fmt::Result {
        if self.0.len() + s.len() > CONSOLE_BYTES {
            return Err(std::fmt::Error);
        }
        self.0.push_str(s);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TemplateQueryError;

    struct Rows;
    impl TemplateQuery for Rows {
        fn query(&self, expr: &str, _: TimeMs) -> Result<Vec<(Labels, f64)>, TemplateQueryError> {
            match expr {
                "up" => Ok(vec![(Labels::from_pairs([("job", "<a>"), ("instance", "h:1")]), 1.0)]),
                "none" => Ok(vec![]),
                other => Err(TemplateQueryError::Text(format!("no {other}"))),
            }
        }
    }

    fn page(source: &str, library: &str) -> Result<String, ConsoleError> {
        let none = Labels::from_pairs([("region", "eu")]);
        let server =
            ConsoleServer { external_labels: &none, external_url: "http://p:9090/x/", query: Arc::new(Rows) };
        let params = [("a", "1"), ("a", "2"), ("b", "<b>")].map(|(n, v)| (n.to_owned(), v.to_owned()));
        let libraries = [("l.lib".to_owned(), library.to_owned())];
        let page =
            ConsolePage { path: "d/x.html", source, libraries: &libraries, params: &params, now: 1_500 };
        render(&page, &server)
    }

    #[test]
    fn values_are_escaped_by_their_place() {
        for (source, want) in [
            ("<p>{{ .Params.b }}</p>", "<p>&lt;b&gt;</p>"),
            ("<a href=\"?x={{ .Params.b }}\">", "<a href=\"?x=%3cb%3e\">"),
            (
                "<script>var x = \"{{ .Params.b }}\";</script>",
                "<script>var x = \"\\u003cb\\u003e\";</script>",
            ),
            ("<p>{{ safeHtml .Params.b }}</p>", "<p><b></p>"),
            ("{{ range query \"up\" }}{{ .Labels.job }}={{ .Value }}{{ end }}", "&lt;a&gt;=1"),
            ("{{ with query \"none\" }}x{{ else }}-{{ end }}", "-"),
            ("{{ .Params.missing }}|{{ .Path }}|{{ $path }}|{{ $params.a }}", "|d/x.html|d/x.html|1"),
            ("{{ range $rawParams.a }}{{ . }},{{ end }}", "1,2,"),
            ("{{ pathPrefix }} {{ externalURL }} {{ .ExternalLabels.region }}", "/x http://p:9090/x eu"),
            ("{{ query \"up\" | first | value | printf \"%.1f\" }}", "1.0"),
            ("{{ if eq .Path \"d/x.html\" }}here{{ end }}", "here"),
            ("{{ (0 | toTime).Format \"2006\" }}", "1970"),
        ] {
            assert_eq!(page(source, "").map_err(|e| e.to_string()).as_deref(), Ok(want), "{source}");
        }
    }

    #[test]
    fn libraries_define_what_pages_call() {
        let library = "text {{ define \"row\" }}<td>{{ .arg0 }}{{ or .arg1 \"none\" }}</td>{{ end }}{{ define \"b\" }}<b>{{ . }}</b>{{ end }}";
        assert_eq!(page("{{ template \"row\" (args \"<\") }}", library).unwrap(), "<td>&lt;none</td>");
        assert_eq!(page("<i>{{ tmpl \"b\" .Params.b }}</i>", library).unwrap(), "<i><b>&lt;b&gt;</b></i>");
    }

    #[test]
    fn errors_name_the_page() {
        let error = |source: &str| page(source, "").unwrap_err().to_string();
        assert!(error("{{ if }}").starts_with("error parsing template __console_/d/x.html: "));
        assert!(error("{{ query \"bad\" }}").starts_with("error executing template __console_/d/x.html: "));
        let library = page("", "{{ define").unwrap_err().to_string();
        assert!(library.starts_with("error parsing template files l.lib: "), "{library}");
    }

    #[test]
    fn a_page_ends() {
        let twice = "{{ define \"a\" }}{{ template \"b\" }}{{ template \"b\" }}{{ end }}{{ define \"b\" }}{{ template \"c\" }}{{ template \"c\" }}{{ end }}\
            {{ define \"c\" }}{{ template \"d\" }}{{ template \"d\" }}{{ end }}{{ define \"d\" }}{{ range $i := $.big }}x{{ end }}{{ end }}";
        assert!(page("{{ template \"a\" }}", twice).is_ok());
        let deep = (0..40).fold(String::new(), |out, i| {
            format!("{out}{{{{ define \"t{i}\" }}}}{{{{ template \"t{}\" }}}}{{{{ template \"t{}\" }}}}{{{{ end }}}}", i + 1, i + 1)
        }) + "{{ define \"t40\" }}x{{ end }}";
        let error = page("{{ template \"t0\" }}", &deep).unwrap_err().to_string();
        assert!(error.contains("steps"), "{error}");
    }
}
