//! For the tests of SQL: a store with some series of every metric type, and an engine over it.

#![allow(dead_code, reason = "each test file uses a part of it")]

use engine::memory::MemoryPool;
use engine::plan::Plan;
use engine::query::{Querier, QueryOptions};
use language::QueryLanguage;
use promql::{PromqlLanguage, PromqlOptions};
use serde_json::{Map, Value, json};
use sql::output::{AnswerWriter, Format};
use sql::relations::MetaSource;
use sql::tables::TableList;
use sql::{SqlEngine, SqlError, SqlRequest, SqlSources, SqlSummary};
use std::path::Path;
use std::sync::Arc;
use storage::disk::OsDisk;
use storage::exemplars::{Exemplar, ExemplarRow};
use storage::metrics::Metrics;
use storage::model::labels::METRIC_NAME;
use storage::model::{Labels, MatchOp};
use storage::store::{FloatRow, Store, StoreOptions};

/// The time of the questions: 2026-11-25T00:00:00Z.
pub const NOW: i64 = 1_795_564_800_000;

/// Lists with a fixed row each.
struct Lists;

impl MetaSource for Lists {
    fn rows(&self, name: &str) -> Result<Vec<Map<String, Value>>, SqlError> {
        let rows = match name {
            "targets" => json!([
                { "pool": "api", "job": "api", "instance": "a:1", "health": "up", "labels": { "job": "api", "zone": "x" },
                  "last_scrape": NOW - 1_000, "last_scrape_seconds": 0.25 },
                { "pool": "web", "job": "web", "instance": "w:1", "health": "down", "labels": { "job": "web" } },
            ]),
            "metadata" => json!([
                { "metric": "http_requests_total", "type": "counter", "help": "Requests." },
                { "metric": "errors", "type": "counter", "help": "" },
            ]),
            "flags" => json!([{ "name": "query.timeout", "value": "2m" }]),
            "alerts" => json!([
                { "alertname": "Down", "state": "firing", "active_at": NOW - 60_000, "value": 0.0,
                  "labels": { "alertname": "Down", "job": "web", "instance": "w:1" } },
            ]),
            "uses" => json!([{ "metric": "up", "kind": "rule", "name": "Down" }]),
            _ => json!([]),
        };
        let Value::Array(rows) = rows else { panic!("a list") };
        Ok(rows
            .into_iter()
            .map(|row| if let Value::Object(row) = row { row } else { panic!("a row") })
            .collect())
    }
}

/// The store of a directory.
pub fn open_store(dir: &Path) -> Arc<Store> {
    let options = StoreOptions {
        dir: dir.to_owned(),
        wal_sync_interval_ms: 1_000,
        block_range_ms: 7_200_000,
        out_of_order_ms: 60_000,
    };
    Store::open(options, Arc::new(OsDisk), &Metrics::default()).expect("a store").0
}

/// A store and the engine over it.
pub struct SqlFixture {
    /// Answers SQL.
    pub engine: SqlEngine,
    /// Answers plans.
    pub querier: Arc<Querier>,
    store: Arc<Store>,
    _dir: tempfile::TempDir,
}

impl SqlFixture {
    /// Without series.
    pub fn empty() -> SqlFixture {
        SqlFixture::with(Arc::new(Lists), Arc::new(sql::tables::NoTables))
    }

    /// Without series; with these lists of the server and tables of people.
    pub fn with(meta: Arc<dyn MetaSource>, tables: Arc<dyn TableList>) -> SqlFixture {
        let dir = tempfile::tempdir().expect("a directory");
        let store = open_store(dir.path());
        let querier = Arc::new(Querier::new(store.clone(), 1));
        let engine = SqlEngine::new(SqlSources {
            engine: querier.clone(),
            catalog: store.clone(),
            language: Arc::new(PromqlLanguage(PromqlOptions::all())),
            meta,
            tables,
            memory: MemoryPool::for_queries(1 << 30),
        });
        SqlFixture { engine, querier, store, _dir: dir }
    }

    /// Adds an exemplar of the time of the questions.
    pub fn add_exemplar(&self, labels: &[(&str, &str)], trace: &str) {
        let series = self.store.get_or_create_series(&Labels::from_pairs(labels.iter().copied()));
        let exemplar = Exemplar { labels: Labels::from_pairs([("trace_id", trace)]), t: NOW, v: 1.0 };
        self.store.exemplars().set_limit(100);
        self.store.exemplars().add(vec![ExemplarRow { series, exemplar, timed: true }]);
    }

    /// Adds samples: times in s before [`NOW`].
    pub fn add(&self, labels: &[(&str, &str)], samples: impl IntoIterator<Item = (i64, f64)>) {
        let series = self.store.get_or_create_series(&Labels::from_pairs(labels.iter().copied()));
        let rows: Vec<FloatRow> =
            samples.into_iter().map(|(ago, v)| FloatRow { series, t: NOW - ago * 1_000, v }).collect();
        self.store.append_rows(&rows).expect("appended");
    }

    /// Adds a sample.
    pub fn add_at(&self, labels: &[(&str, &str)], t: i64, v: f64) {
        let series = self.store.get_or_create_series(&Labels::from_pairs(labels.iter().copied()));
        self.store.append_rows(&[FloatRow { series, t, v }]).expect("appended");
    }

    /// Three series, with a sample each 15 s for 20 minutes, of every metric that these queries of
    /// PromQL read.
    pub fn of_queries<'a>(queries: impl Iterator<Item = &'a str>) -> SqlFixture {
        let world = SqlFixture::empty();
        let language = PromqlLanguage(PromqlOptions::all());
        let mut names = Vec::new();
        for query in queries {
            for matchers in language.selectors(query).unwrap_or_else(|e| panic!("{query}: {e}")) {
                let is_name = |m: &&storage::model::Matcher| m.name == METRIC_NAME && m.op == MatchOp::Equal;
                names.extend(matchers.iter().find(is_name).map(|m| m.value.clone()));
            }
        }
        names.sort();
        names.dedup();
        for (n, name) in names.iter().enumerate() {
            for (i, (job, instance)) in
                [("api", "a:1"), ("api", "a:2"), ("web", "w:1")].into_iter().enumerate()
            {
                let le = ["0.1", "1", "+Inf"][i];
                let status = ["200", "500", "503"][i];
                let mut labels = vec![("__name__", name.as_str()), ("job", job), ("instance", instance)];
                if name.ends_with("_bucket") {
                    labels.push(("le", le));
                } else if name.starts_with("http_requests") {
                    labels.extend([("status", status), ("path", "/api/x")]);
                }
                let step = (n % 3 + i + 1) as f64;
                let samples = (0..80i64)
                    .rev()
                    .map(|k| (k * 15, if *name == "up" { (i % 2) as f64 } else { step * (80 - k) as f64 }));
                world.add(&labels, samples);
            }
        }
        world
    }

    /// Runs a statement; the answer in a format.
    pub fn ask_as(&self, text: &str, format: Format) -> Result<(Vec<u8>, SqlSummary), SqlError> {
        self.run(&SqlRequest { text: text.to_owned(), time: NOW, ..SqlRequest::default() }, format)
    }

    fn run(&self, request: &SqlRequest, format: Format) -> Result<(Vec<u8>, SqlSummary), SqlError> {
        let mut out = Vec::new();
        let mut writer = AnswerWriter::new(format, |bytes: Vec<u8>| {
            out.extend(bytes);
            Ok(())
        });
        let summary = self.engine.run(request, &QueryOptions::default(), &mut writer)?;
        writer.finish(&summary)?;
        Ok((out, summary))
    }

    /// The rows of a statement that DataFusion runs alone, sorted.
    pub fn rows_without_plans(&self, text: &str) -> Result<Vec<Vec<String>>, SqlError> {
        let request =
            SqlRequest { text: text.to_owned(), time: NOW, without_plans: true, ..SqlRequest::default() };
        let mut rows = cells(&self.run(&request, Format::Json)?.0);
        rows.sort();
        Ok(rows)
    }

    /// The rows of a statement with the values of its parameters.
    pub fn rows_with(&self, text: &str, params: &[Value]) -> Result<Vec<Vec<String>>, SqlError> {
        let params = params.to_vec();
        let request = SqlRequest { text: text.to_owned(), time: NOW, params, ..SqlRequest::default() };
        Ok(cells(&self.run(&request, Format::Json)?.0))
    }

    /// The rows of a statement, with their cells as text, sorted if `sorted`.
    pub fn rows(&self, text: &str) -> Result<Vec<Vec<String>>, SqlError> {
        let (json, _) = self.ask_as(text, Format::Json)?;
        Ok(cells(&json))
    }
}

/// The rows of an answer in JSON, with their cells as text.
fn cells(json: &[u8]) -> Vec<Vec<String>> {
    let answer: Value = serde_json::from_slice(json).expect("JSON");
    let cell = |value: &Value| match value {
        Value::String(text) => text.clone(),
        Value::Null => "NULL".to_owned(),
        other => other.to_string(),
    };
    let rows = answer["data"]["rows"].as_array().expect("rows");
    rows.iter().map(|row| row.as_array().expect("a row").iter().map(cell).collect()).collect()
}

/// The plan of a query of PromQL.
pub fn promql_plan(text: &str) -> Plan {
    promql::compile(text, &PromqlOptions::all()).unwrap_or_else(|e| panic!("{text}: {e}"))
}

/// The lines of a file of test data, split at tabs.
pub fn table(file: &str) -> Vec<Vec<String>> {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(file);
    let text = std::fs::read_to_string(path).expect("UTF-8");
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(|line| line.split('\t').map(str::to_owned).collect()).collect()
}
