//! Fakes of all services of [`super::super::services`], for the tests of the router.

use super::super::json_model::*;
use super::super::services::*;
use super::super::{ApiSettings, AppState};
use crate::query::log::QueryLog;
use engine::annotations::{Annotation, Occurrences, Severity};
use engine::live::describe::{DescribeError, Description, ViewReport};
use engine::live::{Sink, TapEvent, TapId, ViewError, ViewId, ViewSpec};
use engine::memory::{MemoryPool, MemoryReservation};
use engine::plan::{BitFloat, Plan, PlanNode, PlanOp, Selector, Span};
use engine::query::guard::SampleStats;
use engine::query::{
    AnswerMemory, QueryAnswer, QueryEngine, QueryError, QueryOptions, QueryValue, Series, SeriesCatalog,
    VectorSample, count_labels,
};
use futures::future::BoxFuture;
use language::{QueryLanguage, QueryRange, QueryTextError};
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};
use storage::clock::ManualClock;
use storage::exemplars::{Exemplar, SeriesExemplars};
use storage::metrics::Metrics;
use storage::model::{Labels, Matcher, TimeMs};
use storage::store::{HeadStats, NewestSample, NewestValue, StoreError};
use views::ViewRegistry;
use views::saved::SavedQueries;

/// The state of the fakes that tests read and set.
#[derive(Default)]
pub(super) struct Fakes {
    pub ready: AtomicBool,
    pub ill: AtomicBool,
    pub quit: AtomicBool,
    pub cancelled: AtomicBool,
    /// Ends the query `stuck`.
    pub go_on: AtomicBool,
    /// The write-ahead log is stalled.
    pub stands_still: AtomicBool,
    pub views: PushedViews,
}

/// An error at column `at + 1` of the first line.
fn text_error(at: u32, text: &str) -> QueryTextError {
    QueryTextError::new("a line", Span { start: at, end: at }, text.to_owned())
}

/// A fake language that parses the few expressions of the tests.
struct FakeLanguage;

impl QueryLanguage for FakeLanguage {
    fn compile(&self, text: &str, _: Option<QueryRange>) -> Result<Plan, QueryTextError> {
        let selector = |name: &str| Selector {
            matchers: vec![Matcher::equal("__name__", name)],
            offset: 0,
            at: None,
            extension: None,
        };
        let op = match text {
            "" => return Err(text_error(0, "no expression found in input")),
            "sum(" => return Err(text_error(4, "unclosed left parenthesis")),
            "'a'" => PlanOp::Text("a".into()),
            "up[5m]" => PlanOp::Range { selector: selector("up"), range: 300_000 },
            number if number.parse::<f64>().is_ok() => PlanOp::Number(BitFloat(number.parse().unwrap())),
            name => PlanOp::Instant(selector(name)),
        };
        Ok(Arc::new(PlanNode { op, span: Span::default() }))
    }

    fn selector(&self, text: &str) -> Result<Vec<Matcher>, QueryTextError> {
        match text {
            "{}" => Ok(vec![]),
            "x-y" => Ok(vec![Matcher::equal("x", "y")]),
            "sum(" => Err(text_error(3, "unexpected \"(\"")),
            name => Ok(vec![Matcher::equal("__name__", name)]),
        }
    }

    fn format(&self, text: &str) -> Result<String, QueryTextError> {
        self.compile(text, None).map(|_| format!("<{text}>"))
    }

    fn print(&self, text: &str) -> Result<String, QueryTextError> {
        self.format(text)
    }

    fn tree(&self, text: &str) -> Result<serde_json::Value, QueryTextError> {
        self.compile(text, None).map(|_| serde_json::json!({"type": text}))
    }

    fn selectors(&self, text: &str) -> Result<Vec<Vec<Matcher>>, QueryTextError> {
        let plan = self.compile(text, None)?;
        Ok(if let PlanOp::Instant(selector) = &plan.op { vec![selector.matchers.clone()] } else { vec![] })
    }

    fn explain(&self, _: &Plan) -> String {
        "select".into()
    }
}

struct Oracle(Arc<Fakes>);

impl Oracle {
    fn answer(value: QueryValue) -> Result<QueryAnswer, QueryError> {
        let annotation = Annotation {
            level: Severity::Info,
            text: "hm".into(),
            extent: Occurrences::Once,
            span: Span::default(),
        };
        let steps = vec![(1_000, 4, 3)];
        let samples = SampleStats { total: 7, read: 5, peak: 3, steps };
        Ok(QueryAnswer { value, annotations: vec![annotation], samples, memory: AnswerMemory::default() })
    }
}

pub(super) fn job(name: &str) -> Labels {
    Labels::from_pairs([("__name__", "up"), ("job", name)])
}

/// A store error of each kind; the name of the requested series selects it.
pub(super) fn store_error(name: &str) -> Option<StoreError> {
    let path = std::path::PathBuf::from("/data/blocks/1/samples.parquet");
    let mark = |of: &str| format!("mark of {of}");
    Some(match name {
        "invalid" => StoreError::Invalid("malformed batch: no group 7".to_owned()),
        "limit_reached" => StoreError::LimitReached {
            reached: "64 deletions wait".to_owned(),
            remedy: "clean tombstones first",
        },
        "unavailable" => StoreError::Unavailable("the disk does not keep up".to_owned()),
        "closed" => StoreError::Closed("the store is closed"),
        "owned" => {
            StoreError::OwnedByOther { address: "s3://b".to_owned(), owner: mark("a"), mark: mark("b") }
        }
        "damaged" => StoreError::Damaged { path, reason: "checksum at 8192".to_owned() },
        "io" => StoreError::Io { path, source: std::io::Error::from(std::io::ErrorKind::StorageFull) },
        _ => return None,
    })
}

impl QueryEngine for Oracle {
    fn instant(&self, plan: &Plan, t: TimeMs, options: &QueryOptions) -> Result<QueryAnswer, QueryError> {
        if let PlanOp::Instant(selector) = &plan.op
            && let Some(error) = store_error(&selector.matchers[0].value)
        {
            return Err(error.into());
        }
        match &plan.op {
            PlanOp::Number(v) => Self::answer(QueryValue::Scalar(t, v.0)),
            PlanOp::Text(text) => Self::answer(QueryValue::Text(t, text.clone())),
            PlanOp::Instant(selector) if selector.matchers[0].value == "slow" => {
                let until = Instant::now() + options.timeout;
                while Instant::now() < until {
                    if options.cancel.load(SeqCst) {
                        self.0.cancelled.store(true, SeqCst);
                        return Err(QueryError::Canceled(
                            "query was canceled in expression evaluation".into(),
                        ));
                    }
                    std::thread::sleep(Duration::from_millis(5));
                }
                Err(QueryError::Timeout("query timed out in expression evaluation".into()))
            }
            // As on a machine whose CPUs are busy with other work: the query never checks its
            // limits.
            PlanOp::Instant(selector) if selector.matchers[0].value == "stuck" => {
                while !self.0.go_on.load(SeqCst) {
                    std::thread::sleep(Duration::from_millis(5));
                }
                self.0.cancelled.store(options.cancel.load(SeqCst), SeqCst);
                Self::answer(QueryValue::Scalar(t, 0.0))
            }
            PlanOp::Instant(selector) if selector.matchers[0].value == "hungry" => {
                Err(QueryError::LimitReached("query processing would load too many samples".into()))
            }
            PlanOp::Range { .. } => Self::answer(QueryValue::Matrix(vec![
                Series { labels: job("b"), points: vec![(1_000, 1.0)], histograms: vec![], drops: false },
                Series { labels: job("a"), points: vec![(1_500, 2.0)], histograms: vec![], drops: false },
            ])),
            _ => Self::answer(QueryValue::Vector(vec![
                VectorSample { labels: job("a"), t, v: 1.0, h: None, drops: false },
                VectorSample { labels: job("b"), t, v: f64::NAN, h: None, drops: false },
            ])),
        }
    }

    fn range(
        &self,
        _: &Plan,
        start: i64,
        end: i64,
        step: i64,
        _: &QueryOptions,
    ) -> Result<QueryAnswer, QueryError> {
        let points: Vec<_> = (0..=(end - start) / step).map(|i| (start + i * step, i as f64)).collect();
        let series =
            |name| Series { labels: job(name), points: points.clone(), histograms: vec![], drops: false };
        Self::answer(QueryValue::Matrix(vec![series("b"), series("a")]))
    }
}

struct FakeSavedQueries(Arc<Fakes>);

impl SeriesCatalog for FakeSavedQueries {
    fn series(
        &self,
        sets: &[Vec<Matcher>],
        _: TimeMs,
        _: TimeMs,
        memory: &MemoryReservation,
    ) -> Result<Vec<Labels>, QueryError> {
        if let Some(error) = sets.iter().find_map(|set| store_error(&set[0].value)) {
            return Err(error.into());
        }
        let all = [job("a"), job("b")];
        let matching = |labels: &&Labels| sets.iter().any(|set| set.iter().all(|m| m.matches_labels(labels)));
        let found: Vec<Labels> = all.iter().filter(matching).cloned().collect();
        found.iter().try_for_each(|labels| count_labels(memory, labels))?;
        Ok(found)
    }
    fn label_names(&self, _: &[Vec<Matcher>], _: TimeMs, _: TimeMs) -> Result<Vec<String>, QueryError> {
        Ok(vec!["__name__".into(), "job".into()])
    }
    fn label_values(
        &self,
        name: &str,
        _: &[Vec<Matcher>],
        from: TimeMs,
        to: TimeMs,
    ) -> Result<Vec<String>, QueryError> {
        Ok(vec![name.into(), from.to_string(), to.to_string()])
    }
    fn newest(
        &self,
        sets: &[Vec<Matcher>],
        _: TimeMs,
        to: TimeMs,
        memory: &MemoryReservation,
    ) -> Result<Vec<NewestSample>, QueryError> {
        let newest = |labels| NewestSample { labels, t: to, value: NewestValue::Float(1.0) };
        Ok(self.series(sets, 0, to, memory)?.into_iter().map(newest).collect())
    }
    fn exemplars(
        &self,
        sets: &[Vec<Matcher>],
        from: TimeMs,
        to: TimeMs,
    ) -> Result<Vec<SeriesExemplars>, QueryError> {
        let exemplar = Exemplar { labels: Labels::from_pairs([("trace_id", "x")]), v: 1e-7, t: 1_500 };
        let memory = MemoryPool::for_queries(usize::MAX).reservation(usize::MAX);
        let series = self.series(sets, from, to, &memory)?.into_iter();
        Ok(series.map(|l| SeriesExemplars { labels: l, exemplars: vec![exemplar.clone()] }).collect())
    }
    fn stats(&self, limit: usize) -> HeadStats {
        let by_metric = vec![("up".to_owned(), 2); limit.min(3)];
        HeadStats { series: 2, min_time: 1, max_time: 2, by_metric, ..HeadStats::default() }
    }
}

impl StoreReadiness for FakeSavedQueries {
    fn wait_committed(&self) -> BoxFuture<'static, ()> {
        let fakes = self.0.clone();
        Box::pin(async move {
            while fakes.stands_still.load(SeqCst) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
    }
}

/// Views whose events the tests push.
#[derive(Default)]
pub(super) struct PushedViews {
    next: AtomicU64,
    pub installed: Mutex<Vec<String>>,
    taps: Mutex<HashMap<TapId, Box<dyn Sink>>>,
    /// The views to describe, by id.
    pub reports: Mutex<Vec<ViewReport>>,
    /// If set, describing fails with this error.
    pub silent: Mutex<Option<DescribeError>>,
}

impl PushedViews {
    /// Pushes to all taps; returns how many accepted the event.
    pub(super) fn push(&self, event: &TapEvent) -> usize {
        let mut taps = self.taps.lock();
        taps.retain(|_, sink| sink.push(event.clone()));
        taps.len()
    }

    pub(super) fn taps(&self) -> usize {
        self.taps.lock().len()
    }
}

struct PushedViewRegistry(Arc<Fakes>);

impl ViewRegistry for PushedViewRegistry {
    fn install(&self, view: ViewSpec) -> Result<ViewId, ViewError> {
        if view.name == "never" {
            return Err(ViewError::Unsupported("this cannot stand".into()));
        }
        self.0.views.installed.lock().push(view.name);
        Ok(ViewId(self.0.views.next.fetch_add(1, SeqCst)))
    }
    fn remove(&self, _: ViewId) {}
    fn tap(&self, _: ViewId, sink: Box<dyn Sink>) -> TapId {
        let id = TapId(self.0.views.next.fetch_add(1, SeqCst));
        self.0.views.taps.lock().insert(id, sink);
        id
    }
    fn untap(&self, tap: TapId) {
        self.0.views.taps.lock().remove(&tap);
    }
    fn read(&self, view: ViewId) -> Result<Option<ViewReport>, DescribeError> {
        Ok(self.0.views.reports.lock().iter().find(|report| report.id == view).cloned())
    }
    fn describe(&self, from: ViewId, limit: usize) -> Result<Description, DescribeError> {
        if let Some(error) = *self.0.views.silent.lock() {
            return Err(error);
        }
        let reports = self.0.views.reports.lock();
        let views = reports.iter().filter(|view| view.id >= from).take(limit).cloned().collect();
        Ok(Description { t: (!reports.is_empty()).then_some(1_795_248_000_500), total: reports.len(), views })
    }
}

struct FakeServices(Arc<Fakes>);

impl TargetList for FakeServices {
    fn active(&self) -> Vec<TargetJson> {
        vec![TargetJson {
            discovered_labels: BTreeMap::from([("__address__".into(), "a:1".into())]),
            labels: BTreeMap::from([("job".into(), "a".into())]),
            scrape_pool: "a".into(),
            scrape_url: "http://a:1/metrics".into(),
            global_url: "http://a:1/metrics".into(),
            last_error: String::new(),
            last_scrape: None,
            last_scrape_duration: 0.25,
            health: TargetHealthJson::Up,
            scrape_interval: "15s".into(),
            scrape_timeout: "10s".into(),
        }]
    }
    fn dropped(&self) -> Vec<DroppedTargetJson> {
        vec![DroppedTargetJson { discovered_labels: BTreeMap::new(), scrape_pool: "b".into() }]
    }
    fn relabel_steps(&self, pool: &str, labels: &BTreeMap<String, String>) -> Option<Vec<RelabelStepJson>> {
        let rule = RelabelRuleJson { action: "keep".into(), ..RelabelRuleJson::default() };
        (pool == "a").then(|| vec![RelabelStepJson { rule, output: labels.clone(), keep: true }])
    }
    fn dropped_counts(&self) -> BTreeMap<String, usize> {
        BTreeMap::from([("b".into(), 1)])
    }
    fn pools(&self) -> Vec<String> {
        vec!["a".into(), "b".into()]
    }
    fn metadata(&self) -> Vec<MetadataJson> {
        let of = |target: &str, metric: &str, help: &str| MetadataJson {
            target: Labels::from_pairs([("__name__", "up"), ("job", target)]),
            metric: metric.into(),
            kind: "gauge".into(),
            help: help.into(),
            unit: String::new(),
        };
        vec![of("a", "up", "Up."), of("b", "up", "Up."), of("b", "up", "Up!"), of("b", "x", "X.")]
    }
}

impl RuleGroupList for FakeServices {
    fn groups(&self) -> Vec<RuleGroupJson> {
        let alert = AlertJson {
            labels: Labels::from_pairs([("alertname", "Foo")]),
            annotations: BTreeMap::new(),
            state: AlertStateJson::Firing,
            active_at: Some(1_000),
            keep_firing_since: None,
            value: 93.0,
        };
        let alerting = AlertingRuleJson {
            state: AlertStateJson::Firing,
            name: "Foo".into(),
            query: "up == 1".into(),
            duration: 1.0,
            keep_firing_for: 0.0,
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
            alerts: Some(vec![alert]),
            health: HealthJson::Good,
            last_error: String::new(),
            evaluation_time: 0.5,
            last_evaluation: Some(1_000),
            kind: AlertingKind::Alerting,
        };
        let recording = |name: &str, labels: &[(&str, &str)]| {
            RuleJson::Recording(RecordingRuleJson {
                name: name.into(),
                query: "up".into(),
                labels: labels.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect(),
                health: HealthJson::Good,
                last_error: String::new(),
                evaluation_time: 0.0,
                last_evaluation: None,
                kind: RecordingKind::Recording,
            })
        };
        let group = |name: &str, file: &str, rules: Vec<RuleJson>| RuleGroupJson {
            name: name.into(),
            file: file.into(),
            rules,
            interval: 1.0,
            limit: 0,
            evaluation_time: 0.0,
            last_evaluation: None,
        };
        vec![
            group("a", "s.yml", vec![recording("c:d", &[("x", "y")])]),
            group("without", "r.yml", vec![]),
            group("g", "r.yml", vec![recording("a:b", &[]), RuleJson::Alerting(alerting)]),
        ]
    }
}

impl AlertmanagerList for FakeServices {
    fn active(&self) -> Vec<String> {
        vec!["http://am:9093/api/v2/alerts".into()]
    }
    fn dropped(&self) -> Vec<String> {
        vec![]
    }
}

impl ServerControl for FakeServices {
    fn config_yaml(&self) -> String {
        "global: {}\n".into()
    }
    fn flags(&self) -> BTreeMap<String, String> {
        BTreeMap::from([("query.timeout".into(), "2m".into())])
    }
    fn without_effect(&self) -> Vec<String> {
        vec!["--x has no effect: \"y\"".into()]
    }
    fn external_labels(&self) -> Labels {
        Labels::from_pairs([("dc", "x")])
    }
    fn reload(&self) -> BoxFuture<'static, Result<(), ReloadError>> {
        Box::pin(async { Err(ReloadError::new("line 3 is odd")) })
    }
    fn quit(&self) {
        self.0.quit.store(true, SeqCst);
    }
    fn ready(&self) -> bool {
        self.0.ready.load(SeqCst)
    }
    fn unhealthy(&self) -> Option<String> {
        self.0.ill.load(SeqCst).then(|| "the data directory /data is gone".to_owned())
    }
    fn runtime(&self) -> RuntimeInfo {
        RuntimeInfo { max_procs: 2, storage_retention: "15d".into(), ..RuntimeInfo::default() }
    }
    fn wal_replay(&self) -> WalReplay {
        WalReplay { min: 0, max: 3, current: 2 }
    }
}

impl StoreAdmin for FakeServices {
    fn delete(&self, matchers: &[Matcher], _: TimeMs, _: TimeMs) -> Result<(), StoreError> {
        store_error(&matchers[0].value).map_or(Ok(()), Err)
    }
    fn clean_tombstones(&self) -> Result<(), StoreError> {
        Ok(())
    }
    fn snapshot(&self, _: &std::path::Path, _: bool) -> Result<(), StoreError> {
        Err(StoreError::Unavailable("the shelf is full".to_owned()))
    }
}

impl RemoteWriteHandler for FakeServices {
    fn write(&self, call: WriteCall) -> BoxFuture<'static, RemoteWriteResponse> {
        let text = format!("{} {} {}", call.content_type, call.encoding, call.body.len());
        let status = if call.body.len() == 3 { 204 } else { 400 };
        Box::pin(
            async move { RemoteWriteResponse { status, text, written: Some([1, 2, 3]), retry_after: None } },
        )
    }
}

/// A server that is ready, with these settings.
pub(super) fn server(settings: ApiSettings) -> (AppState, Arc<Fakes>) {
    let fakes = Arc::new(Fakes::default());
    fakes.ready.store(true, SeqCst);
    let rest = Arc::new(FakeServices(fakes.clone()));
    let metrics = Metrics::default();
    let views: Arc<dyn ViewRegistry> = Arc::new(PushedViewRegistry(fakes.clone()));
    let queries = QueryServices {
        language: Arc::new(FakeLanguage),
        answers: Arc::new(Oracle(fakes.clone())),
        memory: MemoryPool::for_queries(engine::limits::QUERIES_BYTES),
        catalog: Arc::new(FakeSavedQueries(fakes.clone())),
        readiness: Arc::new(FakeSavedQueries(fakes.clone())),
        remote_stores: None,
        log: Arc::new(QueryLog::new(&metrics)),
    };
    let receivers = Receivers {
        remote_write: settings.lifecycle.then_some(rest.clone() as Arc<dyn RemoteWriteHandler>),
        ..Receivers::default()
    };
    let sources = ApiServices {
        queries,
        receivers,
        #[cfg(feature = "sql")]
        sql: Default::default(),
        files: Arc::new(crate::consoles::NoOperatorFiles),
        saved_queries: Arc::new(SavedQueries::in_memory(
            views.clone(),
            Box::new(|text| FakeLanguage.compile(text, None)),
        )),
        views,
        targets: rest.clone(),
        rules: rest.clone(),
        alertmanagers: rest.clone(),
        admin: rest.clone(),
        tsdb: rest,
        clock: Arc::new(ManualClock::at(1_000_123)),
        metrics,
        tracer: Default::default(),
    };
    (AppState::new(settings, sources), fakes)
}
