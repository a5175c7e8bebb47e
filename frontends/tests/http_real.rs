//! The API over a real store, query runtime and live runtime: ask, then subscribe, then see a change arrive.

use bytes::Bytes;
use engine::live::{Live, LiveOptions};
use engine::query::Querier;
use frontends::http::language::Promql;
use frontends::http::model::*;
use frontends::http::sources::*;
use frontends::http::{AppState, Settings, router};
use futures::StreamExt;
use futures::future::BoxFuture;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use storage::clock::Clock;
use storage::disk::OsDisk;
use storage::metrics::Metrics;
use storage::model::{Labels, TimeMs};
use storage::store::{Options, Row, Store};
use tower::ServiceExt;

struct WallClock;

impl Clock for WallClock {
    fn now(&self) -> TimeMs {
        SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64
    }
}

/// A server without targets, rules and receivers.
struct Nothing;

impl Targets for Nothing {
    fn active(&self) -> Vec<Target> {
        vec![]
    }
    fn dropped(&self) -> Vec<DroppedTarget> {
        vec![]
    }
    fn dropped_counts(&self) -> BTreeMap<String, usize> {
        BTreeMap::new()
    }
    fn pools(&self) -> Vec<String> {
        vec![]
    }
    fn metadata(&self) -> Vec<Metadata> {
        vec![]
    }
}

impl Rules for Nothing {
    fn groups(&self) -> Result<Vec<RuleGroup>, String> {
        Ok(vec![])
    }
}

impl Alertmanagers for Nothing {
    fn active(&self) -> Vec<String> {
        vec![]
    }
    fn dropped(&self) -> Vec<String> {
        vec![]
    }
}

impl Admin for Nothing {
    fn config_yaml(&self) -> String {
        String::new()
    }
    fn flags(&self) -> BTreeMap<String, String> {
        BTreeMap::new()
    }
    fn external_labels(&self) -> Labels {
        Labels::default()
    }
    fn reload(&self) -> BoxFuture<'static, Result<(), String>> {
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
    let row = Row { series: store.resolve(&labels), t: WallClock.now(), v };
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

#[tokio::test(flavor = "multi_thread")]
async fn ask_subscribe_change() {
    let dir = tempfile::tempdir().unwrap();
    let (metrics, clock): (_, Arc<dyn Clock>) = (Metrics::default(), Arc::new(WallClock));
    let options = Options {
        dir: dir.path().to_owned(),
        wal_sync_interval_ms: 100,
        block_range_ms: 7_200_000,
        out_of_order_ms: 1_800_000,
    };
    let (store, _) = Store::open(options, Arc::new(OsDisk), &metrics).unwrap();
    append(&store, "a", 1.0);
    append(&store, "b", 2.0);
    let live = Live::start(store.clone(), clock.clone(), LiveOptions::default(), &metrics).unwrap();
    let nothing = Arc::new(Nothing);
    let sources = Sources {
        language: Arc::new(Promql::default()),
        answers: Arc::new(Querier::new(store.clone(), 2)),
        catalog: store.clone(),
        views: Arc::new(live.clone()),
        targets: nothing.clone(),
        rules: nothing.clone(),
        alertmanagers: nothing.clone(),
        admin: nothing,
        remote_write: None,
        clock,
        metrics,
    };
    let state = AppState::new(Settings::default(), sources);

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
