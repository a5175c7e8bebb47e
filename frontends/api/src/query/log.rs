//! The query log (`query_log_file` of the configuration): one line of JSON for each query that the
//! API has answered. [`super`] writes it at the end of a query.

use super::super::json_model::utc_millis;
use super::super::query_json;
use super::stats::QueryStats;
use parking_lot::Mutex;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use storage::metrics::{Counter, Gauge, Metrics};
use storage::model::TimeMs;
use storage::spans::SpanContext;

/// The query log; it may be off.
pub struct QueryLog {
    file: Mutex<Option<(PathBuf, File)>>,
    enabled: Arc<Gauge>,
    failures: Arc<Counter>,
}

/// What the log records about a query, besides its statistics.
#[derive(Clone, Debug, Default)]
pub struct QueryLogEntry {
    /// The text of the query.
    pub query: String,
    /// The first evaluation time, ms.
    pub start: TimeMs,
    /// The last evaluation time, ms.
    pub end: TimeMs,
    /// The step, ms; 0 for an instant query.
    pub step: i64,
    /// The address of the client.
    pub client: String,
    /// The method of the request.
    pub method: String,
    /// The path of the request.
    pub path: String,
    /// The span of the query; `None`: there is none.
    pub span: Option<SpanContext>,
}

/// The query log cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("cannot open the query log {}: {source}", path.display())]
pub struct QueryLogError {
    /// The file.
    pub path: PathBuf,
    /// What the operating system said.
    pub source: std::io::Error,
}

impl QueryLog {
    /// A log that is off.
    pub fn new(metrics: &Metrics) -> QueryLog {
        let failures = "prometheus_engine_query_log_failures_total";
        QueryLog {
            file: Mutex::new(None),
            enabled: metrics.gauge("prometheus_engine_query_log_enabled", "State of the query log.", &[]),
            failures: metrics.counter(failures, "The number of query log failures.", &[]),
        }
    }

    /// Logs queries to the file at `path` from now on; `None`: logs no more. The file is reopened
    /// even if the path is the same, so that a rotated log continues under its name. After an error
    /// the log is unchanged.
    pub fn set(&self, path: Option<&Path>) -> Result<(), QueryLogError> {
        let open = |path: &Path| {
            let path = path.to_path_buf();
            match File::options().create(true).append(true).open(&path) {
                Ok(file) => Ok((path, file)),
                Err(source) => Err(QueryLogError { path, source }),
            }
        };
        let opened = path.map(open).transpose()?;
        self.enabled.set(if opened.is_some() { 1.0 } else { 0.0 });
        *self.file.lock() = opened;
        Ok(())
    }

    /// Whether queries are logged.
    pub fn is_on(&self) -> bool {
        self.file.lock().is_some()
    }

    /// Logs a query that ended at `now`; `error` if it failed.
    pub fn write(&self, query: &QueryLogEntry, stats: &QueryStats, error: Option<&str>, now: TimeMs) {
        let mut file = self.file.lock();
        let Some((path, file)) = file.as_mut() else { return };
        if let Err(e) = file.write_all(line(query, stats, error, now).as_bytes()) {
            self.failures.inc();
            tracing::error!(target: "query", file = %path.display(), "the query log cannot be written: {e}; make room on its disk, or change query_log_file");
        }
    }
}

fn line(query: &QueryLogEntry, stats: &QueryStats, error: Option<&str>, now: TimeMs) -> String {
    let mut out = String::new();
    let field = |out: &mut String, name: &str, value: &str| {
        out.push_str(name);
        query_json::string(out, value);
    };
    let now = utc_millis(now);
    field(&mut out, r#"{"time":"#, &now);
    field(
        &mut out,
        r#","level":"INFO","msg":"promql query logged","params":{"end":"#,
        &utc_millis(query.end),
    );
    field(&mut out, r#","query":"#, &query.query);
    field(&mut out, r#","start":"#, &utc_millis(query.start));
    out.push_str(&format!(r#","step":{}}}"#, query.step / 1000));
    if let Some(error) = error {
        field(&mut out, r#","error":"#, error);
    }
    out.push_str(r#","stats":"#);
    out.push_str(&stats.to_json());
    // Without a span both are zeros, as in Prometheus.
    let (trace, span) = query.span.map_or((0, 0), |context| (context.trace, context.span));
    out.push_str(&format!(r#","spanID":"{span:016x}","traceID":"{trace:032x}""#));
    field(&mut out, r#","httpRequest":{"clientIP":"#, &query.client);
    field(&mut out, r#","method":"#, &query.method);
    field(&mut out, r#","path":"#, &query.path);
    field(&mut out, r#"},"ts":"#, &now);
    out.push_str("}\n");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_holds_what_readers_look_for() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("q.log");
        let metrics = Metrics::default();
        let log = QueryLog::new(&metrics);
        let query = QueryLogEntry {
            query: "sum(\"a\n\")".into(),
            start: 1_000,
            end: 4_500,
            step: 1_500,
            client: "127.0.0.1".into(),
            method: "GET".into(),
            path: "/api/v1/query_range".into(),
            span: None,
        };
        log.write(&query, &QueryStats::default(), None, 5_000);
        assert!(log.set(Some(&directory.path().join("no/such"))).is_err() && !log.is_on());
        log.set(Some(&path)).unwrap();
        log.write(&query, &QueryStats::default(), None, 5_000);
        let traced = QueryLogEntry {
            span: SpanContext::parse("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
            ..query
        };
        log.write(&traced, &QueryStats::default(), Some("too much"), 5_000);
        let text = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<serde_json::Value> = text.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
        assert_eq!(lines.len(), 2);
        assert_eq!(
            lines[0]["params"],
            serde_json::json!({"query": "sum(\"a\n\")", "start": "1970-01-01T00:00:01.000Z", "end": "1970-01-01T00:00:04.500Z", "step": 1})
        );
        assert_eq!((&lines[0]["ts"], lines[0].get("error")), (&"1970-01-01T00:00:05.000Z".into(), None));
        assert_eq!(lines[1]["error"], "too much");
        let ids = |line: usize| (lines[line]["spanID"].as_str(), lines[line]["traceID"].as_str());
        assert_eq!(ids(0), (Some("0000000000000000"), Some("00000000000000000000000000000000")));
        assert_eq!(ids(1), (Some("b7ad6b7169203331"), Some("0af7651916cd43dd8448eb211c80319c")));
        assert_eq!(lines[0]["httpRequest"]["path"], "/api/v1/query_range");
        assert!(lines[0]["stats"]["timings"]["execTotalTime"].is_number());
        log.set(None).unwrap();
        assert!(metrics.render().contains("prometheus_engine_query_log_enabled 0\n"));
    }
}
