//! `late_samples: correct` in a cluster: late samples at any process are noticed, so that the
//! recorded samples equal those of one process where all samples arrive in time. Requests and
//! reports are sent as bytes, and some reports are lost.

use super::{START, Server, history};
use engine::live::{ViewKind, ViewSpec};
use engine::query::{Querier, QueryError, QueryOptions};
use promql::{PromqlOptions, compile};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use storage::clock::ManualClock;
use storage::codec;
use storage::disk::OsDisk;
use storage::execution::Execution;
use storage::metrics::Metrics;
use storage::model::{Labels, Matcher};
use storage::store::FloatRow;
use views::recording::{
    CorrectionRole, LateSampleClient, LateSampleExchange, LateSampleMonitor, LateSampleReport, RecordedRule,
    RecordingHistory, RecordingHistoryServices, WatchList,
};

const SECOND: i64 = 1_000;
const INTERVAL: i64 = 10 * SECOND;
const LATENESS: i64 = 120 * SECOND;
const END: i64 = START + 8 * 60 * SECOND;
const SERIES: usize = 8;

/// Rules over series of all processes.
const RULES: &[(&str, &str)] = &[
    ("l:rate", "sum by (series) (rate(c_total[1m]))"),
    ("l:each", "c_gauge > 10"),
    ("l:chain", "max_over_time(l:rate[30s])"),
    ("l:both", "sum(c_gauge) + sum(c_total)"),
    ("l:sum", "sum(c_gauge)"),
    ("l:absent", "absent(c_gauge{instance=\"host1\"} > 20)"),
];

/// The other processes, as process 0 polls them.
struct Beside {
    lookouts: Vec<Arc<LateSampleMonitor>>,
    asked: AtomicUsize,
    /// Every n-th report is lost.
    loses: usize,
}

/// Process 0 at the other end.
struct Bytes<'a> {
    watched: &'a WatchList,
    report: Option<Vec<u8>>,
    lost: bool,
}

impl LateSampleExchange for Bytes<'_> {
    fn watched(&mut self) -> Result<WatchList, QueryError> {
        Ok(codec::decode(&codec::encode(self.watched).unwrap()).unwrap())
    }

    fn deliver(&mut self, report: &LateSampleReport) -> Result<(), QueryError> {
        self.report = Some(codec::encode(report).unwrap());
        if self.lost { Err(QueryError::Internal("the line is dead".to_owned())) } else { Ok(()) }
    }
}

impl LateSampleClient for Beside {
    fn processes(&self) -> Vec<usize> {
        (1..=self.lookouts.len()).collect()
    }

    fn poll(&self, process: usize, watched: &WatchList) -> Result<LateSampleReport, QueryError> {
        let lost = self.asked.fetch_add(1, SeqCst) % self.loses == self.loses - 1;
        let mut bytes = Bytes { watched, report: None, lost };
        self.lookouts[process - 1].answer(watched.number, &mut bytes)?;
        Ok(codec::decode(&bytes.report.unwrap()).unwrap())
    }
}

/// A server whose process 0 records by [`RULES`].
struct Fixture {
    server: Server,
    pasts: Vec<Arc<RecordingHistory>>,
    clock: Arc<ManualClock>,
    metrics: Metrics,
    /// Processes cannot query each other's history.
    away: Arc<AtomicBool>,
    _queriers: Vec<Arc<Querier>>,
}

type RecordedSeries = BTreeMap<Labels, Vec<(i64, f64)>>;

impl Fixture {
    fn new(processes: usize, lateness: Option<i64>, loses: usize) -> Fixture {
        let mut server = Server::new(processes, 1);
        server.uninstall();
        let clock = Arc::new(ManualClock::at(START - 1));
        let away = Arc::new(AtomicBool::new(false));
        let queriers = history::queriers_unless(&server, &away);
        let metrics = Metrics::default();
        let start = |process: usize, corrects: CorrectionRole| {
            let parts = RecordingHistoryServices {
                answers: queriers[process].clone(),
                store: server.stores[process].clone(),
                clock: clock.clone(),
                options: QueryOptions::default(),
                disk: Arc::new(OsDisk),
                metrics: if process == 0 { metrics.clone() } else { Metrics::default() },
                corrects,
                execution: Execution::Threads,
            };
            RecordingHistory::start(parts, server.dirs[process].path()).unwrap()
        };
        let others: Vec<_> = (1..processes).map(|process| start(process, CorrectionRole::Another)).collect();
        let lookouts = others.iter().map(|past| past.late_samples()).collect();
        let corrects = match processes {
            1 => CorrectionRole::Alone,
            _ => CorrectionRole::First(Arc::new(Beside { lookouts, asked: AtomicUsize::new(0), loses })),
        };
        let first = start(0, corrects);
        for (n, past) in others.iter().enumerate() {
            let first = first.clone();
            past.late_samples().set_on_arrival(Box::new(move || first.late_samples_at(n + 1)));
        }
        let pasts = [vec![first], others].concat();
        let fixture = Fixture { server, pasts, clock, metrics, away, _queriers: queriers };
        fixture.install(lateness);
        fixture
    }

    fn install(&self, lateness: Option<i64>) {
        let install = |(record, text): &(&str, &str)| {
            let kind = ViewKind::Recorded {
                record: (*record).to_owned(),
                labels: vec![("team".to_owned(), "x".to_owned())],
                interval: INTERVAL,
                offset: 0,
                query_offset: 0,
                limit: 0,
            };
            let plan = compile(text, &PromqlOptions::all()).unwrap();
            let spec = ViewSpec { name: (*record).to_owned(), plan, kind };
            let view = self.server.lives[0].install(spec.clone()).unwrap();
            RecordedRule { view, key: (*record).to_owned(), spec, backfill: 0, lateness }
        };
        self.pasts[0].set_rules(RULES.iter().map(install).collect(), 0);
    }

    fn append(&self, series: usize, t: i64, v: f64) {
        let store = &self.server.stores[series % self.server.stores.len()];
        let name = ["c_total", "c_gauge"][series / (SERIES / 2)];
        let instance = format!("host{series}");
        let labels = [("__name__", name), ("job", "j"), ("instance", &instance), ("series", "s0")];
        let series = store.get_or_create_series(&Labels::from_pairs(labels));
        store.append_rows(&[FloatRow { series, t, v }]).unwrap();
    }

    /// Appends all samples and runs all evaluation times until `until`; corrects after every n-th
    /// one.
    fn run(&self, arrivals: &[Arrival], until: i64, every: i64) {
        let mut arrivals = arrivals.to_vec();
        arrivals.sort_by_key(|(now, series, ..)| (*now, *series));
        let mut next = START;
        for (now, series, t, v) in arrivals {
            while next < now {
                self.slot(next, every);
                next += INTERVAL;
            }
            self.clock.set(now.max(START - 1));
            self.append(series, t, v);
        }
        while next <= until {
            self.slot(next, every);
            next += INTERVAL;
        }
        // Some reports are lost.
        for _ in 0..3 {
            self.pasts[0].correct_now();
        }
    }

    fn slot(&self, t: i64, every: i64) {
        self.clock.set(t);
        self.server.lives[0].tick(t);
        if (t - START) / INTERVAL % every == 0 {
            self.pasts[0].correct_now();
        }
    }

    fn recorded(&self) -> RecordedSeries {
        let team = [Matcher::equal("team", "x")];
        let all =
            self.server.stores[0].recorder().read_series(&team, START - 60_000, END - INTERVAL).unwrap();
        let all = all.into_iter().map(|(labels, s)| (labels, s.ts.into_iter().zip(s.vs).collect::<Vec<_>>()));
        all.filter(|(_, points)| !points.is_empty()).collect()
    }

    fn beyond(&self) -> u64 {
        self.metrics.counter("perennial_late_samples_beyond_bound_total", "", &[]).get()
    }

    fn close(mut self) {
        for past in &self.pasts {
            past.stop();
        }
        self.server.stop();
    }
}

/// Time of arrival, series, time, value.
type Arrival = (i64, usize, i64, f64);

/// One in eight arrives up to two minutes late.
fn arrivals() -> impl Strategy<Value = Vec<Arrival>> {
    let one = (1i64..200, 0u32..40, 0u32..8, 1i64..LATENESS);
    prop::collection::vec(prop::collection::vec(one, 50), SERIES).prop_map(|all| {
        let mut arrivals = Vec::new();
        for (series, steps) in all.into_iter().enumerate() {
            let mut t = START - 60 * SECOND;
            let mut total = 0.0;
            for (gap, value, late, by) in steps {
                t += gap * 100 + i64::from(value) * 7;
                total += f64::from(value);
                let v = if series < SERIES / 2 { total } else { f64::from(value) };
                arrivals.push((if late == 0 { t + by } else { t }, series, t, v));
            }
        }
        arrivals.retain(|(_, _, t, _)| *t < END);
        arrivals
    })
}

fn in_time(arrivals: &[Arrival]) -> Vec<Arrival> {
    arrivals.iter().map(|(_, series, t, v)| (*t, *series, *t, *v)).collect()
}

/// Equal, or within the tolerance of rates that were computed at other times.
fn same(a: f64, b: f64) -> bool {
    a.to_bits() == b.to_bits() || (a - b).abs() <= 1e-10 * a.abs().max(b.abs())
}

fn compare(got: &RecordedSeries, wanted: &RecordedSeries) {
    assert_eq!(got.keys().collect::<Vec<_>>(), wanted.keys().collect::<Vec<_>>());
    for (labels, wanted) in wanted {
        let got = &got[labels];
        let times = |points: &[(i64, f64)]| points.iter().map(|p| p.0 - START).collect::<Vec<_>>();
        assert_eq!(times(got), times(wanted), "{labels}");
        for (g, w) in got.iter().zip(wanted) {
            assert!(same(g.1, w.1), "{labels} at {}: {} instead of {}", g.0 - START, g.1, w.1);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, ..ProptestConfig::default() })]

    // Corrections made within a minute reach other rules, and a report may be lost.
    #[test]
    fn late_samples_of_all_processes_count(arrivals in arrivals(), processes in 2usize..4, every in 1i64..4) {
        let reference = Fixture::new(1, None, 1);
        reference.run(&in_time(&arrivals), END, 1);
        let wanted = reference.recorded();
        reference.close();
        let cluster = Fixture::new(processes, Some(LATENESS), 3);
        cluster.run(&arrivals, END + LATENESS, every);
        compare(&cluster.recorded(), &wanted);
        cluster.close();
    }
}

/// What is too late for a cluster is what is too late for one process.
#[test]
fn the_bound_holds_for_all_processes() {
    let at = |slot: i64| START + slot * INTERVAL - 1;
    // To process 1 of two: in time, in time, late, too late.
    let gauge = |n: usize| SERIES / 2 + 2 * n + 1;
    let arrivals = [
        (at(1), gauge(0), at(1), 1.0),
        (at(21), gauge(0), at(21), 1.0),
        (at(8), gauge(1), at(2), 2.0),
        (at(20), gauge(1), at(5), 4.0),
    ];
    let of = |processes: usize| {
        let fixture = Fixture::new(processes, Some(LATENESS), 2);
        fixture.run(&arrivals, START + 24 * INTERVAL, 1);
        let recorded = fixture.recorded();
        let beyond = fixture.beyond();
        fixture.close();
        (recorded, beyond)
    };
    let one = of(1);
    let cluster = of(2);
    compare(&cluster.0, &one.0);
    // Three rules read it.
    assert_eq!((cluster.1, one.1), (3, 3));
}

/// What cannot be computed because another process does not answer is computed when it does.
#[test]
fn what_cannot_be_asked_now_is_asked_again() {
    let at = |slot: i64| START + slot * INTERVAL - 1;
    let fixture = Fixture::new(2, Some(LATENESS), 2);
    fixture.run(&[(at(1), SERIES / 2, at(1), 1.0)], START + 8 * INTERVAL, 1);
    let sums = || -> Vec<f64> {
        let all = fixture.recorded();
        let gauges = all.iter().filter(|(labels, _)| labels.name() == "l:sum");
        gauges.flat_map(|(_, points)| points.iter().map(|(_, v)| *v)).collect()
    };
    assert_eq!(sums(), [1.0; 8]);
    fixture.away.store(true, SeqCst);
    fixture.clock.set(START + 8 * INTERVAL + SECOND);
    fixture.append(SERIES / 2 + 1, at(2), 2.0);
    for _ in 0..3 {
        fixture.pasts[0].correct_now();
    }
    assert_eq!(sums(), [1.0; 8]);
    fixture.away.store(false, SeqCst);
    fixture.pasts[0].correct_now();
    assert_eq!(sums(), [[1.0].as_slice(), &[3.0; 7]].concat());
    fixture.close();
}
