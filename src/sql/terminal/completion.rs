//! Completion at the Tab key: which texts may follow at the cursor. These are words of SQL,
//! functions, relations, labels of the metrics that the statement reads, and values of labels.
//! [`super`] calls it.

use super::super::client::SqlClient;
use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

/// How long a list of the server is used before it is read again.
const FRESH: Duration = Duration::from_secs(60);
/// The most values of a label that are read.
const MOST_VALUES: &str = "1000";
/// Words of SQL and of this server.
const KEYWORDS: &[&str] = &[
    "ALERT",
    "ANALYZE",
    "AND",
    "ANNOTATIONS",
    "AS",
    "ASC",
    "BETWEEN",
    "BY",
    "CASE",
    "COPY",
    "CREATE",
    "DELETE",
    "DESC",
    "DISTINCT",
    "DROP",
    "ELSE",
    "END",
    "EXISTS",
    "EXPLAIN",
    "FILTER",
    "FOR",
    "FROM",
    "FULL",
    "GROUP",
    "HAVING",
    "IN",
    "INSERT",
    "INTERVAL",
    "INTO",
    "IS",
    "JOIN",
    "KEEP FIRING FOR",
    "LABELS",
    "LEFT",
    "LIKE",
    "LIMIT",
    "MATERIALIZED",
    "NOT",
    "NULL",
    "ON",
    "OR",
    "ORDER",
    "OVER",
    "PARTITION",
    "PRIMARY KEY",
    "QUALIFY",
    "REPLACE",
    "SELECT",
    "SET",
    "SHOW",
    "SUBSCRIBE",
    "TABLE",
    "TABLES",
    "THEN",
    "TRUNCATE",
    "UNION",
    "UPDATE",
    "USING",
    "VALUES",
    "VIEW",
    "VIEWS",
    "WHEN",
    "WHERE",
    "WITH",
    "WITHIN GROUP",
];
/// Functions of SQL that are used often; those of PromQL come from the engine's table.
const FUNCTIONS: &[&str] = &[
    "ago",
    "at",
    "avg",
    "coalesce",
    "count",
    "date_bin",
    "date_trunc",
    "max",
    "min",
    "now",
    "percentile_cont",
    "prom_round",
    "promql",
    "row_number",
    "sample_ts",
    "stddev_pop",
    "string_agg",
    "sum",
    "var_pop",
];
/// Columns that each metric has.
const COLUMNS: &[&str] = &["histogram", "labels", "ts", "value"];
/// Lists of the server.
const LISTS: &[&str] = &[
    "alert_history",
    "alerts",
    "dropped_targets",
    "exemplars",
    "flags",
    "label_pairs",
    "metadata",
    "queries",
    "rules",
    "series",
    "targets",
    "uses",
    "views",
];

/// The candidates of a completion.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Completions {
    /// Characters before the cursor that are replaced.
    pub(super) replaced: usize,
    pub(super) candidates: Vec<String>,
}

impl Completions {
    /// The longest common prefix of the candidates.
    pub(super) fn common(&self) -> String {
        let mut candidates = self.candidates.iter();
        let first = candidates.next().cloned().unwrap_or_default();
        candidates.fold(first, |common, text| {
            let equal = common.chars().zip(text.chars()).take_while(|(a, b)| a == b);
            equal.map(|(c, _)| c).collect()
        })
    }
}

/// What kind of text a completion is.
#[derive(Debug, PartialEq, Eq)]
enum CompletionKind {
    Relation,
    /// A column, a function or a word.
    Expression,
    /// A value of this label, inside of quotes.
    Value(String),
}

/// The point in a statement at which a text is completed.
#[derive(Debug, PartialEq, Eq)]
struct CompletionPoint {
    /// The word before the cursor, as far as it is typed.
    word: String,
    kind: CompletionKind,
    /// The metrics that the statement reads.
    metrics: Vec<String>,
}

/// Lists of the server, with the time at which they came.
#[derive(Default)]
pub(super) struct Completer {
    lists: HashMap<String, (Instant, Vec<String>)>,
}

impl Completer {
    /// What may stand at the cursor, between these texts.
    pub(super) async fn at(&mut self, client: &SqlClient, before: &str, after: &str) -> Completions {
        let point = point(before, after);
        let all = match &point.kind {
            CompletionKind::Relation => self.relations(client).await,
            CompletionKind::Value(label) => self.values(client, label, &point.metrics).await,
            CompletionKind::Expression => self.expressions(client, &point.metrics).await,
        };
        completions(&point, all)
    }

    async fn relations(&mut self, client: &SqlClient) -> BTreeSet<String> {
        let mut all: BTreeSet<String> = LISTS.iter().map(|name| (*name).to_owned()).collect();
        all.extend(self.list(client, "/api/v1/tables", &[]).await);
        let metrics = self.list(client, "/api/v1/label/__name__/values", &[]).await;
        all.extend(metrics.iter().map(|name| quoted(name)));
        all
    }

    async fn expressions(&mut self, client: &SqlClient, metrics: &[String]) -> BTreeSet<String> {
        let mut all: BTreeSet<String> = KEYWORDS.iter().map(|word| (*word).to_owned()).collect();
        all.extend(FUNCTIONS.iter().map(|name| format!("{name}(")));
        all.extend(engine::functions::table().iter().map(|function| format!("{}(", function.name)));
        if !metrics.is_empty() {
            all.extend(COLUMNS.iter().map(|name| (*name).to_owned()));
        }
        for metric in metrics {
            let labels = self.list(client, "/api/v1/labels", &[("match[]", &selector(metric))]).await;
            let named = labels.iter().filter(|name| *name != "__name__");
            all.extend(named.map(|name| quoted(name)));
        }
        all
    }

    async fn values(&mut self, client: &SqlClient, label: &str, metrics: &[String]) -> BTreeSet<String> {
        let path = format!("/api/v1/label/{label}/values");
        let mut all = BTreeSet::new();
        if metrics.is_empty() {
            all.extend(self.list(client, &path, &[("limit", MOST_VALUES)]).await);
        }
        for metric in metrics {
            let parameters = [("limit", MOST_VALUES), ("match[]", &selector(metric))];
            all.extend(self.list(client, &path, &parameters).await);
        }
        all
    }

    /// A list of the server, asked for again after a while.
    async fn list(&mut self, client: &SqlClient, path: &str, parameters: &[(&str, &str)]) -> Vec<String> {
        let key = format!("{path}?{parameters:?}");
        if let Some((came, list)) = self.lists.get(&key)
            && came.elapsed() < FRESH
        {
            return list.clone();
        }
        let list = client.list(path, parameters).await;
        if !list.is_empty() {
            self.lists.insert(key, (Instant::now(), list.clone()));
        }
        list
    }
}

/// The texts of `all` that the word before the cursor begins, in any case.
fn completions(point: &CompletionPoint, all: BTreeSet<String>) -> Completions {
    let is_value = matches!(point.kind, CompletionKind::Value(_));
    let word = point.word.as_str();
    // A quote may have been typed before a name that needs none to be found.
    let typed = if is_value { word } else { word.trim_start_matches('"') };
    let begins = |text: &String| {
        let text = if is_value { text } else { text.trim_start_matches('"') };
        text.get(..typed.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(typed))
    };
    // Words stay in the case that was begun.
    let is_upper = typed.chars().any(|c| c.is_ascii_uppercase());
    let is_word = |text: &str| KEYWORDS.contains(&text);
    let as_typed = |text: String| if is_word(&text) && !is_upper { text.to_ascii_lowercase() } else { text };
    let candidates = all.into_iter().filter(begins).map(as_typed).collect();
    Completions { replaced: word.chars().count(), candidates }
}

/// What stands at the cursor.
fn point(before: &str, after: &str) -> CompletionPoint {
    let metrics = metrics_of(&format!("{before} {after}"));
    let quotes = before.matches('\'').count();
    if quotes % 2 == 1
        && let Some((outside, inside)) = before.rsplit_once('\'')
    {
        let label = label_before(outside).unwrap_or_default();
        return CompletionPoint { word: inside.to_owned(), kind: CompletionKind::Value(label), metrics };
    }
    let begin = before
        .rfind(|c: char| !is_of_name(c))
        .map_or(0, |at| at + before[at..].chars().next().map_or(1, char::len_utf8));
    let (outside, word) = before.split_at(begin);
    let last = outside.split_whitespace().next_back().unwrap_or_default().to_ascii_uppercase();
    let is_relation =
        matches!(last.as_str(), "FROM" | "JOIN" | "INTO" | "UPDATE" | "TABLE" | "TRUNCATE" | "COPY" | "\\D");
    let kind = if is_relation { CompletionKind::Relation } else { CompletionKind::Expression };
    CompletionPoint { word: word.to_owned(), kind, metrics }
}

/// The characters of names, with the quote before those that need one. A dot separates a relation
/// from its column.
fn is_of_name(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | ':' | '"' | '$')
}

/// The label that a text in quotes is compared with: the name before the operator.
fn label_before(outside: &str) -> Option<String> {
    // Every second part is a text in quotes: one that precedes this one in a list.
    let unquoted: Vec<&str> = outside.split('\'').step_by(2).collect();
    let unquoted = unquoted.join(" ");
    let mut words = unquoted.rsplit(|c: char| !is_of_name(c)).filter(|word| !word.is_empty());
    let operators = ["IN", "LIKE", "ILIKE", "NOT"];
    let label = words.find(|word| !operators.contains(&word.to_ascii_uppercase().as_str()))?;
    Some(label.trim_matches('"').to_owned())
}

/// The metrics after `FROM` and `JOIN`.
fn metrics_of(text: &str) -> Vec<String> {
    let mut metrics = Vec::new();
    let mut is_next = false;
    for word in text.split(|c: char| c.is_whitespace() || matches!(c, '(' | ')' | ',' | ';')) {
        if is_next && !word.is_empty() {
            let name = word.trim_start_matches("metrics.").trim_start_matches("samples.").trim_matches('"');
            metrics.push(name.to_owned());
        }
        is_next = ["FROM", "JOIN"].iter().any(|keyword| word.eq_ignore_ascii_case(keyword))
            || (is_next && word.is_empty());
    }
    metrics.sort();
    metrics.dedup();
    metrics
}

/// A selector of the series of a metric.
fn selector(metric: &str) -> String {
    format!("{{__name__={metric:?}}}")
}

/// A name, in quotes if it needs them.
fn quoted(name: &str) -> String {
    let is_first = |c: char| c.is_ascii_lowercase() || c == '_';
    let is_plain = name.starts_with(is_first) && name.chars().all(|c| is_first(c) || c.is_ascii_digit());
    if is_plain { name.to_owned() } else { format!("\"{}\"", name.replace('"', "\"\"")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn the_place_says_what_is_wanted() {
        let wanted = |before: &str, after: &str| {
            let point = point(before, after);
            (point.word, point.kind, point.metrics)
        };
        let expression = |word: &str, metrics: &[&str]| {
            (word.to_owned(), CompletionKind::Expression, set(metrics).into_iter().collect::<Vec<_>>())
        };
        assert_eq!(wanted("SEL", ""), expression("SEL", &[]));
        assert_eq!(
            wanted("SELECT u.in", " FROM up u JOIN metrics.\"a:b\" USING (job)"),
            expression("in", &["a:b", "up"])
        );
        assert_eq!(wanted("SELECT sum(ra", ""), expression("ra", &[]));
        assert_eq!(wanted("SELECT * from no", "").1, CompletionKind::Relation);
        assert_eq!(wanted("FROM up WHERE job = 'a", "").1, CompletionKind::Value("job".to_owned()));
        let (word, value, metrics) = wanted("FROM up WHERE \"jobName\" NOT IN ('a', 'b c", ") LIMIT 1");
        assert_eq!((word.as_str(), metrics), ("b c", vec!["up".to_owned()]));
        assert_eq!(value, CompletionKind::Value("jobName".to_owned()));
        assert_eq!(wanted("FROM up WHERE job ~ 'x' AND i", ""), expression("i", &["up"]));
    }

    #[test]
    fn words_stay_in_their_case() {
        let found = |before: &str, all: &[&str]| {
            let Completions { replaced, candidates } = completions(&point(before, ""), set(all));
            (replaced, candidates.join(","))
        };
        assert_eq!(found("sel", &["SELECT", "SET"]), (3, "select".to_owned()));
        assert_eq!(found("SE", &["SELECT", "SET", "se"]), (2, "SELECT,SET,se".to_owned()));
        assert_eq!(found("FROM \"a", &["\"a:b\"", "ab"]), (2, "\"a:b\",ab".to_owned()));
        assert_eq!(found("FROM up WHERE x = 'B", &["b", "c"]), (1, "b".to_owned()));
        let both =
            Completions { replaced: 0, candidates: vec!["node_load1".to_owned(), "node_load15".to_owned()] };
        assert_eq!(both.common(), "node_load1");
        assert_eq!(quoted("job:up"), "\"job:up\"");
        assert_eq!(quoted("up2"), "up2");
    }
}
