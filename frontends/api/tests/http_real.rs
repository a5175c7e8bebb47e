//! Tests the API over a real store, query runtime and live runtime: query, then subscribe, then
//! receive a change.

use api::json_model::*;
use api::query::log::QueryLog;
use api::services::*;
use api::{ApiSettings, AppState, QuerySettings, ServeOptions, Timeouts, router};
use bytes::Bytes;
use engine::live::{LiveOptions, LiveRuntime};
use engine::query::Querier;
use futures::StreamExt;
use futures::future::BoxFuture;
use language::QueryLanguage;
use promql::PromqlLanguage;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use storage::clock::Clock;
use storage::disk::OsDisk;
use storage::metrics::Metrics;
use storage::model::{Labels, TimeMs};
use storage::store::{FloatRow, Store, StoreOptions};
use tower::ServiceExt;
use views::saved::SavedQueries;

struct WallClock;

impl Clock for WallClock {
    fn now(&self) -> TimeMs {
        SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64
    }
}

/// A server without targets, rules and Alertmanagers.
struct EmptyServices;

impl TargetList for EmptyServices {
    fn active(&self) -> Vec<TargetJson> {
        vec![]
    }
    fn dropped(&self) -> Vec<DroppedTargetJson> {
        vec![]
    }
    fn dropped_counts(&self) -> BTreeMap<String, usize> {
        BTreeMap::new()
    }
    fn pools(&self) -> Vec<String> {
        vec![]
    }
    fn metadata(&self) -> Vec<MetadataJson> {
        vec![]
    }
}

impl RuleGroupList for EmptyServices {
    fn groups(&self) -> Vec<RuleGroupJson> {
        vec![]
    }
}

impl AlertmanagerList for EmptyServices {
    fn active(&self) -> Vec<String> {
        vec![]
    }
    fn dropped(&self) -> Vec<String> {
        vec![]
    }
}

impl ServerControl for EmptyServices {
    fn config_yaml(&self) -> String {
        String::new()
    }
    fn flags(&self) -> BTreeMap<String, String> {
        BTreeMap::new()
    }
    fn external_labels(&self) -> Labels {
        Labels::default()
    }
    fn reload(&self) -> BoxFuture<'static, Result<(), ReloadError>> {
        Box::pin(async { Ok(()) })
    }
    fn quit(&self) {}
    fn ready(&self) -> bool {
        true
    }
    fn runtime(&self) -> RuntimeInfo {
        RuntimeInfo::default()
    }
    fn wal_replay(&self) -> WalReplay {
        WalReplay::default()
    }
}

fn append(store: &Store, job: &str, v: f64) {
    let labels = Labels::from_pairs([("__name__", "x"), ("job", job)]);
    let row = FloatRow { series: store.get_or_create_series(&labels), t: WallClock.now(), v };
    assert_eq!(store.append_rows(&[row]).unwrap().stored, 1);
}

async fn get(state: &AppState, path: &str) -> axum::body::Body {
    let request = axum::http::Request::get(path).body(axum::body::Body::empty()).unwrap();
    let response = router(state.clone()).oneshot(request).await.unwrap();
    assert_eq!(response.status(), 200, "{path}");
    response.into_body()
}

async fn json(state: &AppState, path: &str) -> serde_json::Value {
    let body = axum::body::to_bytes(get(state, path).await, usize::MAX).await.unwrap();
    serde_json::from_slice(&body).unwrap()
}

fn promql() -> views::saved::Compile {
    Box::new(|text| PromqlLanguage::default().compile(text, None))
}

/// A server over an empty store in `dir`.
fn start(dir: &std::path::Path) -> (AppState, Arc<Store>, LiveRuntime) {
    let metrics = Metrics::default();
    let clock: Arc<dyn Clock> = Arc::new(WallClock);
    let options = StoreOptions {
        dir: dir.to_owned(),
        wal_sync_interval_ms: 100,
        block_range_ms: 7_200_000,
        out_of_order_ms: 1_800_000,
    };
    let (store, _) = Store::open(options, Arc::new(OsDisk), &metrics).unwrap();
    let live = LiveRuntime::start(store.clone(), clock.clone(), LiveOptions::default(), &metrics).unwrap();
    let nothing = Arc::new(EmptyServices);
    let queries = QueryServices {
        language: Arc::new(PromqlLanguage::default()),
        answers: Arc::new(Querier::new(store.clone(), 2)),
        memory: engine::memory::MemoryPool::for_queries(engine::limits::QUERIES_BYTES),
        catalog: store.clone(),
        readiness: store.clone(),
        remote_stores: None,
        log: Arc::new(QueryLog::new(&metrics)),
    };
    let sources = ApiServices {
        queries,
        receivers: Receivers::default(),
        #[cfg(feature = "sql")]
        sql: Default::default(),
        files: Arc::new(api::consoles::NoOperatorFiles),
        tsdb: store.clone(),
        saved_queries: Arc::new(SavedQueries::in_memory(Arc::new(live.clone()), promql())),
        views: Arc::new(live.clone()),
        targets: nothing.clone(),
        rules: nothing.clone(),
        alertmanagers: nothing.clone(),
        admin: nothing,
        tracer: Default::default(),
        clock,
        metrics,
    };
    let settings = ApiSettings {
        queries: QuerySettings { step_stats: true, max_samples: 20_000_000, ..QuerySettings::default() },
        ..ApiSettings::default()
    };
    (AppState::new(settings, sources), store, live)
}

#[tokio::test(flavor = "multi_thread")]
async fn ask_subscribe_change() {
    let dir = tempfile::tempdir().unwrap();
    let (state, store, live) = start(dir.path());
    append(&store, "a", 1.0);
    append(&store, "b", 2.0);

    assert_eq!(json(&state, "/api/v1/query?query=sum(x)").await["data"]["result"][0]["value"][1], "3");
    assert_eq!(json(&state, "/api/v1/label/job/values").await["data"], serde_json::json!(["a", "b"]));
    assert_eq!(json(&state, "/api/v1/series?match[]=x").await["data"][1]["job"], "b");

    let mut stream = get(&state, "/api/v1/subscribe?query=sum(x)&format=ndjson").await.into_data_stream();
    let mut next = async |kind: &str| loop {
        let piece = tokio::time::timeout(Duration::from_secs(10), stream.next()).await.expect(kind);
        let piece: Bytes = piece.unwrap().unwrap();
        let message: serde_json::Value = serde_json::from_slice(&piece).unwrap();
        if let Some(message) = message.get(kind) {
            return message.clone();
        }
    };
    assert_eq!(next("subscribed").await["plan"], "aggregate sum by ()\n  select {__name__=\"x\"}");
    assert_eq!(next("snapshot").await["rows"][0]["value"], "3");
    tokio::time::sleep(Duration::from_millis(5)).await;
    append(&store, "a", 5.0);
    assert_eq!(next("delta").await["upsert"][0]["value"], "7");
    live.stop();
}

/// Appends samples of three series, 10 s apart, from 0 to 100 s.
fn fill(store: &Store) {
    for job in ["a", "b", "c"] {
        let series = store.get_or_create_series(&Labels::from_pairs([("__name__", "x"), ("job", job)]));
        let rows: Vec<FloatRow> = (0..=10).map(|i| FloatRow { series, t: i * 10_000, v: i as f64 }).collect();
        assert_eq!(store.append_rows(&rows).unwrap().stored, 11);
    }
}

/// The counts are those of Prometheus 2.42 for the same queries over the same samples, except that
/// its windows included their left end.
#[tokio::test(flavor = "multi_thread")]
async fn samples_are_counted_as_prometheus_counts_them() {
    let dir = tempfile::tempdir().unwrap();
    let (state, store, live) = start(dir.path());
    fill(&store);
    let cases = [
        ("query?query=x&time=50", 3, 3),
        ("query?query=sum(x)&time=50", 3, 3),
        ("query?query=x[30s]&time=50", 9, 9),
        ("query?query=rate(x[30s])&time=50", 9, 9),
        ("query?query=x%2Bx%20offset%2010s&time=50", 6, 6),
        // A selector that occurs twice in a query is read once.
        ("query?query=x%2Bx&time=50", 3, 3),
        ("query?query=1&time=50", 0, 0),
        ("query_range?query=x&start=0&end=100&step=10", 33, 33),
        ("query_range?query=sum(rate(x[30s]))&start=30&end=60&step=10", 36, 18),
        ("query?query=max_over_time(x[30s:5s])&time=50", 18, 18),
        ("query?query=x[30s:5s]&time=50", 18, 18),
    ];
    for (path, total, read) in cases {
        let got = json(&state, &format!("/api/v1/{path}&stats=all")).await;
        let samples = &got["data"]["stats"]["samples"];
        assert_eq!(samples["totalQueryableSamples"], total, "{path}: {samples}");
        assert_eq!(samples["samplesRead"], read, "{path}: {samples}");
    }
    let got = json(&state, "/api/v1/query_range?query=rate(x[30s])&start=90&end=120&step=10&stats=all").await;
    let samples = &got["data"]["stats"]["samples"];
    let steps = serde_json::json!([[90, 9], [100, 9], [110, 6], [120, 3]]);
    assert_eq!(samples["totalQueryableSamplesPerStep"], steps);
    assert_eq!(samples["samplesReadPerStep"], serde_json::json!([[90, 9], [100, 3], [110, 0], [120, 0]]));
    live.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn durations_know_the_step_and_the_range() {
    let dir = tempfile::tempdir().unwrap();
    let (state, store, live) = start(dir.path());
    fill(&store);
    let path = "/api/v1/query_range?query=count_over_time(x{job=%22a%22}[step()])&start=20&end=100&step=20";
    let got = json(&state, path).await;
    let values = got["data"]["result"][0]["values"].as_array().unwrap().clone();
    assert_eq!((values.len(), &values[1]), (5, &serde_json::json!([40, "2"])));
    live.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn exemplars_of_the_series_that_an_expression_names() {
    use storage::exemplars::{Exemplar as Kept, ExemplarRow};
    let dir = tempfile::tempdir().unwrap();
    let (state, store, live) = start(dir.path());
    fill(&store);
    store.exemplars().set_limit(10);
    let labels = Labels::from_pairs([("__name__", "x"), ("job", "a")]);
    let row = |t: i64| ExemplarRow {
        series: store.get_or_create_series(&labels),
        exemplar: Kept { labels: Labels::from_pairs([("trace_id", "7")]), t, v: 0.5 },
        timed: true,
    };
    store.exemplars().add(vec![row(1_500), row(9_000)]);
    let of = async |path: &str| {
        json(&state, &format!("/api/v1/query_exemplars?query={path}")).await["data"].clone()
    };
    let exemplar = |t: f64| serde_json::json!({"labels": {"trace_id": "7"}, "value": "0.5", "timestamp": t});
    let found = of("rate(x[5m])%2By&start=1&end=2").await;
    let expected =
        serde_json::json!([{"seriesLabels": {"__name__": "x", "job": "a"}, "exemplars": [exemplar(1.5)]}]);
    assert_eq!(found, expected);
    assert_eq!(of("x").await[0]["exemplars"].as_array().unwrap().len(), 2);
    assert_eq!(of("y").await, serde_json::json!([]));
    live.stop();
}

/// Sends a query over its own connection and disconnects while it is being evaluated.
async fn ask_and_leave(address: std::net::SocketAddr, state: &AppState) -> Duration {
    use tokio::io::AsyncWriteExt;
    // Three million evaluations.
    let query = "max_over_time(vector(time())[1000h:1s])";
    let mut client = tokio::net::TcpStream::connect(address).await.unwrap();
    let request = format!("GET /api/v1/query?query={query} HTTP/1.1\r\nhost: x\r\n\r\n");
    client.write_all(request.as_bytes()).await.unwrap();
    running(state, 1).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(running(state, 1).await, Duration::ZERO, "the query must be long enough to be left");
    drop(client);
    running(state, 0).await
}

/// Waits until this many queries run; returns how long that took.
async fn running(state: &AppState, queries: usize) -> Duration {
    let began = std::time::Instant::now();
    let line = format!("\nprometheus_engine_queries {queries}\n");
    for round in 0..1_000 {
        if state.sources.metrics.render().contains(&line) {
            return if round == 0 { Duration::ZERO } else { began.elapsed() };
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("never {queries} queries at work");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_stops_when_its_client_goes_away() {
    let dir = tempfile::tempdir().unwrap();
    let (state, _, live) = start(dir.path());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let gate = api::StartupGate::new("/");
    gate.open(router(state.clone()), state.clone());
    let metrics = state.sources.metrics.clone();
    let server = tokio::spawn(async move {
        let options = ServeOptions {
            max_connections: 8,
            max_by_address: 8,
            timeouts: Timeouts::default(),
            protection: None,
        };
        api::serve(vec![listener.into()], gate, std::future::pending::<()>(), options, &metrics).await;
    });
    // A busy machine may be late once, but not three times.
    let mut took = Duration::MAX;
    for _ in 0..3 {
        took = took.min(ask_and_leave(address, &state).await);
    }
    assert!(took < Duration::from_millis(500), "it worked on for {took:?}");
    server.abort();
    live.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_view_is_checked_and_shows_its_steps() {
    let dir = tempfile::tempdir().unwrap();
    let (state, store, live) = start(dir.path());
    append(&store, "a", 1.0);
    append(&store, "b", 2.0);
    let mut stream = get(&state, "/api/v1/subscribe?query=sum(x)&format=ndjson").await.into_data_stream();
    while !std::str::from_utf8(&stream.next().await.unwrap().unwrap()).unwrap().contains("snapshot") {}
    let view = json(&state, "/api/v1/views").await["data"]["views"][0].clone();
    assert_eq!((view.get("physicalPlan"), view.get("leaves")), (None, None));
    let path = format!("/api/v1/views/{}", view["id"].as_str().unwrap());
    let view = json(&state, &path).await["data"].clone();
    let physical = "merge sum\n  from each shard\n    partial sum by ()\n      newest value of {__name__=\"x\"}: the newest sample decides";
    assert_eq!(view["physicalPlan"], physical);
    assert_eq!(view["leaves"][0]["step"], "newest value of {__name__=\"x\"}");
    assert!(view["leaves"][0]["nextDue"].is_string());

    let check = json(&state, &format!("{path}/check")).await["data"].clone();
    assert_eq!((&check["result"], &check["differentRows"]), (&"same".into(), &0.into()), "{check}");
    live.stop();
}
