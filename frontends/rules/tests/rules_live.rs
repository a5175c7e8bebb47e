//! Rules with the real parts: a rule file, PromQL, the live runtime and the store on disk, across a
//! restart.

use engine::live::{LiveOptions, LiveRuntime};
use parking_lot::Mutex;
use promql::PromqlLanguage;
use rules::active_rules::ActiveRules;
use rules::alert_persistence::AlertStateFile;
use rules::event_queue::RuleEventQueue;
use rules::file::{GroupDefaults, RuleGroup, compiler, parse};
use rules::manager::{RuleManagerOptions, RuleServices};
use rules::services::{AlertNotification, AlertSender};
use rules::snapshot::RuleHealth;
use rules::template::TemplateQuery;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use storage::clock::ManualClock;
use storage::disk::OsDisk;
use storage::durable_map::DurableMap;
use storage::metrics::Metrics;
use storage::model::{Labels, TimeMs};
use storage::store::{FloatRow, Store};

const START: TimeMs = 1_700_000_000_000;
const RULES: &str = r#"
groups:
- name: g
  interval: 15s
  rules:
  - alert: Gone
    expr: up == 0
    for: 1m
    labels: {severity: page}
    annotations: {text: "{{ $labels.job }} on {{ $labels.instance }} is gone"}
  - {record: broken, expr: 'up[5m]'}
  - {record: good, expr: up}
"#;

#[derive(Default)]
struct Sent(Mutex<Vec<AlertNotification>>);
impl AlertSender for Sent {
    fn send(&self, alerts: Vec<AlertNotification>) {
        self.0.lock().extend(alerts);
    }
}

struct NoQuery;
impl TemplateQuery for NoQuery {
    fn query(&self, _: &str, _: TimeMs) -> Result<Vec<(Labels, f64)>, rules::TemplateQueryError> {
        Err(rules::TemplateQueryError::Text("not asked for".to_owned()))
    }
}

struct Fixture {
    store: Arc<Store>,
    live: LiveRuntime,
    sent: Arc<Sent>,
    core: ActiveRules,
}

fn groups() -> Vec<RuleGroup> {
    let language = PromqlLanguage::default();
    let compile = compiler(&language);
    parse("r.yml", RULES, GroupDefaults { interval: 15_000, query_offset: 0 }, &compile).unwrap().groups
}

impl Fixture {
    fn open(dir: &Path, now: TimeMs) -> Fixture {
        let options = storage::store::StoreOptions {
            dir: dir.to_owned(),
            wal_sync_interval_ms: 100,
            block_range_ms: 7_200_000,
            out_of_order_ms: 1_800_000,
        };
        let metrics = Metrics::default();
        let (store, _) = Store::open(options, Arc::new(OsDisk), &metrics).unwrap();
        let live = LiveRuntime::manual(store.clone(), &LiveOptions::default(), &metrics).unwrap();
        let sent = Arc::new(Sent::default());
        let (map, found) = DurableMap::open(Arc::new(OsDisk), dir.join("alerts.keep"), &metrics).unwrap();
        let ports = RuleServices {
            views: Arc::new(live.clone()),
            store: store.clone(),
            memory: Arc::new(AlertStateFile::new(map, found.existed.then_some(found.entries))),
            notify: sent.clone(),
            query: Arc::new(NoQuery),
            clock: Arc::new(ManualClock::at(now)),
            metrics,
            tracer: Default::default(),
        };
        let mut core =
            ActiveRules::new(ports, RuleManagerOptions::default(), Arc::new(RuleEventQueue::default()));
        core.apply(groups(), &Labels::default(), now).unwrap();
        Fixture { store, live, sent, core }
    }

    /// Appends a sample of `up`, then runs a tick and a step of the rules.
    fn up(&mut self, t: TimeMs, value: f64) {
        let labels = Labels::from_pairs([("__name__", "up"), ("instance", "a:1"), ("job", "web")]);
        let series = self.store.get_or_create_series(&labels);
        self.store.append_rows(&[FloatRow { series, t, v: value }]).unwrap();
        self.live.tick(t);
        self.settle(t);
    }

    /// The state in the API after the tick at `t` has reached the rules.
    fn settle(&mut self, t: TimeMs) {
        let began = Instant::now();
        while self.core.snapshot(t)[0].rules[0].last_evaluation < Some(t) {
            assert!(began.elapsed() < Duration::from_secs(20), "the tick never reached the rules");
            std::thread::sleep(Duration::from_millis(1));
            self.core.step(t);
        }
    }

    fn states(&self, t: TimeMs) -> Vec<(&'static str, TimeMs)> {
        let rules = self.core.snapshot(t).remove(0).rules;
        let alerts = &rules[0].alerting.as_ref().unwrap().alerts;
        alerts.iter().map(|a| (a.state.as_str(), a.active_at - START)).collect()
    }

    fn close(self) {
        self.live.stop();
        self.store.close().unwrap();
    }
}

#[test]
fn an_alert_lives_through_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let mut fixture = Fixture::open(dir.path(), START);
    fixture.up(START + 1_000, 1.0);
    assert_eq!(fixture.states(START + 1_000), []);
    for s in [16, 31, 46, 61, 76] {
        fixture.up(START + s * 1_000, 0.0);
    }
    assert_eq!(fixture.states(START + 76_000), [("firing", 16_000)]);
    let sent = std::mem::take(&mut *fixture.sent.0.lock());
    assert_eq!(sent.len(), 1);
    assert_eq!(sent[0].starts_at, START + 76_000, "`for` ended with this sample");
    assert_eq!(sent[0].annotations[0].1, "web on a:1 is gone");
    fixture.close();

    let mut fixture = Fixture::open(dir.path(), START + 90_000);
    fixture.up(START + 91_000, 0.0);
    assert_eq!(fixture.states(START + 91_000), [("firing", 16_000)], "known again, with its own start");
    fixture.up(START + 106_000, 1.0);
    assert_eq!(fixture.states(START + 106_000), []);
    let sent = std::mem::take(&mut *fixture.sent.0.lock());
    assert_eq!(sent.iter().map(|a| a.resolved).collect::<Vec<_>>(), [false, true]);
    fixture.close();
}

/// A rule of a type that no rule can have is unhealthy, and the others of its group are not.
#[test]
fn a_rule_over_a_range_vector_is_unhealthy() {
    let dir = tempfile::tempdir().unwrap();
    let mut fixture = Fixture::open(dir.path(), START);
    let began = Instant::now();
    // An evaluation time of the group.
    let mut t = START - START % 15_000;
    let healths = loop {
        t += 15_000;
        fixture.up(t, 1.0);
        // A tick later: recorded samples of an evaluation time are there then.
        fixture.up(t + 1_000, 1.0);
        let rules = fixture.core.snapshot(t + 1_000).remove(0).rules;
        let [_, broken, good] = &rules[..] else { panic!("three rules") };
        assert_eq!((broken.query.as_str(), good.query.as_str()), ("up[5m]", "up"));
        if broken.health != RuleHealth::Unknown && good.health != RuleHealth::Unknown {
            break [broken.health.clone(), good.health.clone()];
        }
        assert!(
            began.elapsed() < Duration::from_secs(20),
            "never evaluated: {:?} {:?}",
            broken.health,
            good.health
        );
    };
    let error = "rule result is not a vector or scalar".to_owned();
    assert_eq!(healths, [RuleHealth::Err(error), RuleHealth::Ok]);
    fixture.close();
}
