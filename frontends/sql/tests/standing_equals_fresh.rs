//! The rows of a statement that stands are those of the same statement asked anew, at every tick:
//! over series that come and go, lists that change, a table that is put again and removed, a view
//! that is replaced, hours that pass, restarts, one worker or two, and statements that are put and
//! removed in between. Series are floats, native histograms, and both in turns.
//! Statements are drawn, of those that are live plans, that run again (also several numbers a row,
//! which are those of several live views), and that are dataflows. In some cases samples are
//! deleted; in these all statements are over lists, since live views keep what they have computed
//! ([docs/live.md]).
//!
//! Series come and go, lists change, a table is replaced and removed, the server restarts, and
//! views are added and removed. Statements are drawn at random from all three classes (live plan,
//! run again, dataflow). The two sides share little code: one is maintained, the other is planned
//! anew and reads history.
//!
//! A case depends only on its seed and number: `SQL_SEED=1 SQL_CASE=17`; `SQL_CASES=100000` for a
//! long run.

#[path = "../../../tests/differential/random.rs"]
#[allow(dead_code, reason = "made for another generator, too")]
mod random;
#[path = "support/standing_statements.rs"]
mod statements;
mod support;

use engine::live::{LabelledSample, LiveOptions, LiveRuntime, Sink, TapEvent, ViewId, ViewKind, ViewSpec};
use engine::memory::MemoryPool;
use engine::query::{Querier, QueryOptions};
use engine::types::histogram_column::Sample;
use parking_lot::Mutex;
use promql::{PromqlLanguage, PromqlOptions};
use random::Random;
use serde_json::json;
use sql::output::{AnswerWriter, Format};
use sql::relations::{MetaRow, MetaSource};
use sql::standing::{StandingClass, StandingRows, StatementAnswers};
use sql::tables::{Table, TableFormat, TableList};
use sql::{DataflowStats, SqlEngine, SqlError, SqlRequest, SqlSources};
use statements::{
    is_extrapolated, over_histograms, over_lists, over_owners, over_rates, over_texts, over_view, plan_like,
    reads_histograms, relational, shows_several,
};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use storage::clock::ManualClock;
use storage::execution::Execution;
use storage::metrics::Metrics;
use storage::model::histogram::{BucketSpan, Buckets, CUSTOM_BUCKETS, ResetHint};
use storage::model::value::STALE;
use storage::model::{Labels, MatchOp, Matcher, NativeHistogram, TimeMs};
use storage::store::{FloatRow, HistogramRow, Store};
use support::open_store;
use views::ViewRegistry;
use views::scheduled::{CompositeViews, ScheduledViewServices};

const START: TimeMs = 1_700_000_000_000;
const CASES: u64 = 24;
const STEPS: usize = 25;
const VIEWS: usize = 6;
const SERIES: usize = 8;

/// What the sink of a view has received.
#[derive(Default)]
struct ReceivedRows {
    rows: BTreeMap<Labels, Sample>,
    error: Option<String>,
    /// The tick that the rows are complete to.
    t: TimeMs,
}

struct RowSink(Arc<Mutex<ReceivedRows>>);

impl Sink for RowSink {
    fn push(&mut self, event: TapEvent) -> bool {
        let mut shown = self.0.lock();
        match event {
            TapEvent::Snapshot { rows, .. } => shown.rows = rows.into_iter().collect(),
            TapEvent::Delta { upsert, remove, .. } => {
                for labels in &remove {
                    drop(shown.rows.remove(labels));
                }
                shown.rows.extend(upsert);
            }
            TapEvent::Failed { error, t } => {
                shown.error = Some(error);
                shown.t = t;
            }
            TapEvent::Progress { t } => {
                shown.error = None;
                shown.t = t;
            }
            TapEvent::Annotations { .. } => {}
        }
        true
    }
}

struct View {
    text: String,
    rows: StandingRows,
    id: ViewId,
    shown: Arc<Mutex<ReceivedRows>>,
}

/// The lists of a server.
#[derive(Default)]
struct Lists {
    targets: Mutex<Vec<MetaRow>>,
    alerts: Mutex<Vec<MetaRow>>,
}

impl MetaSource for Lists {
    fn rows(&self, name: &str) -> Result<Vec<MetaRow>, SqlError> {
        Ok(match name {
            "targets" => self.targets.lock().clone(),
            "alerts" => self.alerts.lock().clone(),
            _ => Vec::new(),
        })
    }
}

impl Lists {
    /// Some rows come, go, or change.
    fn churn(&self, random: &mut Random) {
        let object = |value: serde_json::Value| value.as_object().cloned().unwrap_or_default();
        let mut targets = self.targets.lock();
        targets.retain(|_| random.below(6) > 0);
        while targets.len() < 6 && random.below(3) > 0 {
            targets.push(object(json!({
                "pool": random.pick(&["p", "q"]),
                "job": random.pick(&["a", "b", "c"]),
                "instance": format!("i{}", random.below(5)),
                "health": random.pick(&["up", "down", "unknown"]),
                "last_error": if random.below(2) == 0 { json!(null) } else { json!("refused") },
                "last_scrape_seconds": random.below(1000) as f64 / 7.0,
                "labels": {"env": random.pick(&["x", "y"])},
            })));
        }
        let mut alerts = self.alerts.lock();
        alerts.retain(|_| random.below(4) > 0);
        while alerts.len() < 8 && random.below(3) > 0 {
            alerts.push(object(json!({
                "alertname": random.pick(&["Down", "Slow", "Full"]),
                "state": random.pick(&["firing", "pending"]),
                "value": random.pick(&[0.1, 0.2, 0.3, 1e16, -1e16, 7.5]),
                "rule": random.pick(&["r", "s"]),
                "labels": {"job": random.pick(&["a", "b", "d"])},
            })));
        }
    }
}

/// The table `owners`, if it is there, and the view `busy`.
#[derive(Default)]
struct Owners {
    table: Mutex<Option<Arc<Table>>>,
    view: Mutex<Option<Arc<str>>>,
}

/// Queries of the view `busy`: all have the same columns.
const BUSY: [&str; 4] = [
    "SELECT job, count(*) AS n FROM m_gauge WHERE value > 2 GROUP BY job",
    "SELECT job, count(*) AS n FROM m_total GROUP BY job",
    "SELECT job, count(*) AS n FROM targets GROUP BY job",
    "SELECT job, count(DISTINCT instance) AS n FROM targets WHERE health <> 'down' GROUP BY job",
];

impl TableList for Owners {
    fn table(&self, name: &str) -> Option<Arc<Table>> {
        if name == "owners" { self.table.lock().clone() } else { None }
    }

    fn names(&self) -> Vec<String> {
        self.table.lock().iter().map(|_| "owners".to_owned()).collect()
    }

    fn view(&self, name: &str) -> Option<Arc<str>> {
        (name == "busy").then(|| self.view.lock().clone().unwrap_or_else(|| BUSY[0].into()))
    }

    fn view_names(&self) -> Vec<String> {
        vec!["busy".to_owned()]
    }

    fn is_gone(&self, name: &str) -> bool {
        name == "owners" && self.table.lock().is_none()
    }
}

impl Owners {
    /// The view gets another query.
    fn replace_view(&self, random: &mut Random) {
        *self.view.lock() = Some(random.pick(&BUSY).into());
    }

    /// It is put with other rows, or removed.
    fn churn(&self, random: &mut Random) {
        if random.below(6) == 0 {
            *self.table.lock() = None;
            return;
        }
        // Always the same types, so always a row with all values.
        let mut rows = vec!["a,ann,1".to_owned()];
        while random.below(4) > 0 && rows.len() < 6 {
            let job = random.pick(&["a", "b", "c", "d"]);
            let owner = random.pick(&["ann", "bob", ""]);
            rows.push(format!("{job},{owner},{}", random.below(3)));
        }
        let text = format!("job,owner,tier\n{}\n", rows.join("\n"));
        let table = Table::read(&text, TableFormat::Csv).expect("a table");
        *self.table.lock() = Some(Arc::new(table));
    }

    fn is_there(&self) -> bool {
        self.table.lock().is_some()
    }
}

fn reads_owners(text: &str) -> bool {
    text.contains("owners")
}

fn reads_view(text: &str) -> bool {
    text.contains("busy")
}

/// What is beside the store, and outlives a restart.
#[derive(Clone, Default)]
struct Sources {
    lists: Arc<Lists>,
    owners: Arc<Owners>,
}

/// A server without its network.
struct World {
    store: Arc<Store>,
    live: LiveRuntime,
    views: CompositeViews,
    engine: Arc<SqlEngine>,
    clock: Arc<ManualClock>,
    sources: Sources,
    answers: Arc<StatementAnswers>,
}

impl World {
    fn open(dir: &Path, now: TimeMs, sources: Sources, workers: usize) -> World {
        let store = open_store(dir);
        let options = LiveOptions { workers, ..LiveOptions::default() };
        let live = LiveRuntime::manual(store.clone(), &options, &Metrics::default()).expect("a runtime");
        let querier = Arc::new(Querier::new(store.clone(), 1));
        let engine = Arc::new(SqlEngine::new(SqlSources {
            engine: querier.clone(),
            catalog: store.clone(),
            language: Arc::new(PromqlLanguage(PromqlOptions::all())),
            meta: sources.lists.clone(),
            tables: sources.owners.clone(),
            memory: MemoryPool::for_queries(1 << 30),
        }));
        let clock = Arc::new(ManualClock::at(now));
        let answers = Arc::new(StatementAnswers::new(engine.clone(), querier).over(live.clone()));
        let history = ScheduledViewServices {
            answers: answers.clone(),
            store: store.clone(),
            clock: clock.clone(),
            options: QueryOptions::default(),
            execution: Execution::Caller,
        };
        let views = CompositeViews::new(Arc::new(live.clone()), history, &Metrics::default());
        World { store, live, views, engine, clock, sources, answers }
    }

    fn put(&self, text: &str) -> View {
        let rows = self.engine.standing_rows(text).unwrap_or_else(|e| panic!("{text}: {e}"));
        let spec = ViewSpec { name: text.to_owned(), plan: rows.plan.clone(), kind: ViewKind::NOW };
        let id = self.views.install(spec).unwrap_or_else(|e| panic!("{text}: {e}"));
        let shown: Arc<Mutex<ReceivedRows>> = Arc::default();
        self.views.tap(id, Box::new(RowSink(shown.clone())));
        View { text: text.to_owned(), rows, id, shown }
    }

    fn tick(&self, t: TimeMs) {
        self.clock.set(t);
        self.live.tick(t);
        self.views.turn();
    }

    /// The rows of a statement that is asked at `t`, each with how often it is there; or the error.
    fn fresh(&self, text: &str, t: TimeMs) -> Result<BTreeMap<String, i64>, String> {
        if reads_owners(text) && !self.sources.owners.is_there() {
            return Err("there is no table".to_owned());
        }
        let request = SqlRequest { text: text.to_owned(), time: t, standing: true, ..SqlRequest::default() };
        let mut out = Vec::new();
        let mut writer = AnswerWriter::new(Format::Ndjson, |bytes: Vec<u8>| {
            out.extend(bytes);
            Ok(())
        });
        self.engine.run(&request, &QueryOptions::default(), &mut writer).map_err(|e| e.to_string())?;
        drop(writer);
        let mut rows = BTreeMap::new();
        for line in String::from_utf8(out).expect("UTF-8").lines() {
            *rows.entry(line.to_owned()).or_insert(0) += 1;
        }
        Ok(rows)
    }
}

impl View {
    /// The rows that a subscriber sees.
    fn standing(&self) -> Result<BTreeMap<String, i64>, String> {
        let shown = self.shown.lock();
        if let Some(error) = &shown.error {
            return Err(error.clone());
        }
        let mut rows = BTreeMap::new();
        for (labels, sample) in &shown.rows {
            let (row, equal) = self.rows.row(labels, sample);
            *rows.entry(row).or_insert(0) += equal;
        }
        if let Some(nothing) = self.rows.over_nothing().filter(|_| shown.rows.is_empty()) {
            rows.insert(nothing.to_owned(), 1);
        }
        Ok(rows)
    }
}

/// A statement of any kind; of those over lists and tables only, if samples are deleted.
fn drawn(random: &mut Random, sources: &Sources, deletes: bool) -> String {
    loop {
        let text = match random.below(8) {
            0 => plan_like(random),
            1 => relational(random),
            2 => over_texts(random),
            3 => over_view(random),
            4 => over_rates(random),
            5 => over_histograms(random),
            6 if sources.owners.is_there() => over_owners(random),
            _ => over_lists(random),
        };
        let metrics = ["m_gauge", "m_total", "m_hist"];
        let reads_metrics = metrics.iter().any(|metric| text.contains(metric)) || reads_view(&text);
        if !deletes || !reads_metrics {
            return text;
        }
    }
}

fn labels(metric: &str, i: usize) -> Labels {
    let instance = format!("i{i}");
    let mut pairs =
        vec![("__name__", metric), ("instance", instance.as_str()), ("job", ["a", "b", "c"][i % 3])];
    if !i.is_multiple_of(4) {
        pairs.push(("env", ["x", "y"][i % 2]));
    }
    Labels::from_pairs(pairs)
}

/// The next histogram of a series; its counts grow, but for resets. Series differ in their buckets.
fn histogram(random: &mut Random, i: usize, total: f64) -> NativeHistogram {
    let counts = vec![total, (total / 2.0).floor(), random.below(2) as f64];
    let mut histogram = NativeHistogram {
        count: counts.iter().sum(),
        sum: total / 4.0,
        positive: Buckets { spans: vec![BucketSpan { offset: 1, length: 3 }], counts },
        ..NativeHistogram::default()
    };
    match i % 4 {
        0 => {
            histogram.schema = CUSTOM_BUCKETS;
            histogram.positive.spans[0].offset = 0;
            let last = if random.below(10) == 0 { 7.0 } else { 5.0 };
            histogram.bounds = [1.0, 2.5, last].into();
        }
        1 => histogram.hint = ResetHint::Gauge,
        2 if random.below(10) == 0 => histogram.schema = 2,
        _ => {}
    }
    histogram
}

/// Histograms of some series at `t`. One in six samples is a float, or the end of the series.
fn churn_histograms(world: &World, random: &mut Random, totals: &[f64; SERIES], t: TimeMs) {
    for (i, total) in totals.iter().enumerate() {
        let series = world.store.get_or_create_series(&labels("m_hist", i));
        match random.below(8) {
            0 => {}
            1 => {
                let v = if random.below(2) == 0 { STALE } else { random.below(9) as f64 };
                world.store.append_rows(&[FloatRow { series, t, v }]).expect("appended");
            }
            _ => {
                let h = Arc::new(histogram(random, i, *total));
                world.store.append_histograms(&[HistogramRow { series, t, h }]).expect("appended");
            }
        }
    }
}

/// Samples of some series at `t`; some end.
fn churn(world: &World, random: &mut Random, totals: &mut [f64; SERIES], t: TimeMs) {
    let mut rows = Vec::new();
    for (i, total) in totals.iter_mut().enumerate() {
        let v = match random.below(8) {
            0 => continue,
            1 => STALE,
            2 if random.below(4) == 0 => {
                random.pick(&[f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -0.0, 1e16])
            }
            _ => random.below(9) as f64,
        };
        *total = if random.below(30) == 0 { 0.0 } else { *total + random.below(4) as f64 };
        for (metric, v) in [("m_gauge", v), ("m_total", *total)] {
            if random.below(5) > 0 {
                let series = world.store.get_or_create_series(&labels(metric, i));
                rows.push(FloatRow { series, t, v });
            }
        }
    }
    world.store.append_rows(&rows).expect("appended");
    churn_histograms(world, random, totals, t);
}

/// A row, and its numbers apart from it.
type RowNumbers = (String, Vec<f64>);

/// The rows in an order that differences of a few last bits do not change.
fn by_texts(rows: &BTreeMap<String, i64>) -> Vec<RowNumbers> {
    let mut all = Vec::new();
    for (row, times) in rows {
        let mut numbers = Vec::new();
        let mut row: serde_json::Value = serde_json::from_str(row).expect("a row");
        let cells: Vec<&mut serde_json::Value> = match &mut row {
            serde_json::Value::Object(cells) => cells.values_mut().collect(),
            serde_json::Value::Array(cells) => cells.iter_mut().collect(),
            _ => Vec::new(),
        };
        for cell in cells {
            if let Some(number) = cell.as_f64() {
                numbers.push(number);
                *cell = json!("a number");
            }
        }
        all.extend((0..*times).map(|_| (row.to_string(), numbers.clone())));
    }
    all.sort_by(|a, b| a.0.cmp(&b.0).then_with(|| a.1.partial_cmp(&b.1).expect("numbers")));
    all
}

/// Whether both are the same rows, with numbers that are equal within what [docs/live.md] says of
/// extrapolated ones.
fn equal_within_tolerance(a: &BTreeMap<String, i64>, b: &BTreeMap<String, i64>) -> bool {
    let near = |a: &f64, b: &f64| (a - b).abs() <= 2e-13 * a.abs().max(b.abs());
    let same = |(a, b): (&RowNumbers, &RowNumbers)| {
        a.0 == b.0 && a.1.len() == b.1.len() && a.1.iter().zip(&b.1).all(|(a, b)| near(a, b))
    };
    let a = by_texts(a);
    let b = by_texts(b);
    a.len() == b.len() && a.iter().zip(&b).all(same)
}

#[derive(Default)]
struct Tally {
    plans: u64,
    again: u64,
    dataflows: u64,
    over_tables: u64,
    over_views: u64,
    /// Of several numbers a row.
    of_several: u64,
    /// Of numbers that are extrapolated.
    of_rates: u64,
    of_histograms: u64,
    rows: u64,
    /// How often something happened in between.
    puts: u64,
    removals: u64,
    restarts: u64,
    hours: u64,
    deletions: u64,
    replaced_views: u64,
}

fn case(seed: u64, number: u64, tally: &mut Tally) {
    let mut random = Random::new(&[seed, number]);
    let dir = tempfile::tempdir().expect("a directory");
    let sources = Sources::default();
    let workers = 1 + random.below(2) as usize;
    let deletes = random.below(4) == 0;
    let mut world = World::open(dir.path(), START, sources.clone(), workers);
    let mut totals = [0.0; SERIES];
    let mut t = START;
    let mut views: Vec<View> = Vec::new();
    for step in 0..STEPS {
        t += 1_000 + random.below(15_000) as i64;
        if random.below(20) == 0 {
            // Lists of series are read anew, and what live views have in their windows becomes too
            // old. Less than a day in all: there is nobody here who takes series that old out of
            // the head.
            t += random.pick(&[1, 2, 3]) * 3_600_000;
            tally.hours += 1;
        }
        let before = random.below(900) as i64;
        churn(&world, &mut random, &mut totals, t - before);
        if random.below(3) > 0 {
            sources.lists.churn(&mut random);
        }
        if random.below(3) == 0 {
            sources.owners.churn(&mut random);
        }
        if random.below(8) == 0 {
            sources.owners.replace_view(&mut random);
            tally.replaced_views += 1;
        }
        if views.len() < VIEWS && random.below(3) > 0 {
            views.push(world.put(&drawn(&mut random, &sources, deletes)));
            tally.puts += 1;
        } else if !views.is_empty() && random.below(8) == 0 {
            let gone = views.swap_remove(random.below(views.len() as u64) as usize);
            world.views.remove(gone.id);
            tally.removals += 1;
        }
        if deletes && random.below(4) == 0 {
            let label = random.pick(&["i1", "i2", "i5"]);
            let matchers = [Matcher::new("instance", MatchOp::Equal, label).expect("a matcher")];
            let admin = world.store.admin();
            admin.delete(&matchers, TimeMs::MIN, random.pick(&[TimeMs::MAX, t - 20_000])).expect("deleted");
            tally.deletions += 1;
        }
        world.tick(t);
        for view in &views {
            let fresh = world.fresh(&view.text, t);
            let standing = view.standing();
            let place = || format!("seed {seed}, case {number}, step {step}: {}", view.text);
            // An error that lasts is told once.
            if standing.is_ok() {
                assert_eq!(view.shown.lock().t, t, "{}: it is not complete", place());
            }
            match (&standing, &fresh) {
                (Err(_), Err(_)) => {}
                (Ok(standing), Ok(fresh))
                    if is_extrapolated(&view.text) && equal_within_tolerance(standing, fresh) => {}
                _ => assert_eq!(standing, fresh, "{}\nclass {:?}", place(), view.rows.class),
            }
            match view.rows.class {
                StandingClass::Plan(_) => tally.plans += 1,
                StandingClass::RunsAgain(_) => tally.again += 1,
                StandingClass::Dataflow(_) => tally.dataflows += 1,
            }
            tally.of_several += u64::from(shows_several(&view.text));
            tally.of_rates += u64::from(is_extrapolated(&view.text) && fresh.is_ok());
            tally.of_histograms += u64::from(reads_histograms(&view.text) && fresh.is_ok());
            tally.over_views += u64::from(reads_view(&view.text) && fresh.is_ok());
            tally.over_tables += u64::from(reads_owners(&view.text) && fresh.is_ok());
            tally.rows += fresh.map_or(0, |rows| rows.len() as u64);
        }
        if random.below(12) == 0 {
            tally.restarts += 1;
            let texts: Vec<String> = views.drain(..).map(|view| view.text).collect();
            world.live.stop();
            world.store.close().expect("closed");
            drop(world);
            world = World::open(dir.path(), t, sources.clone(), workers);
            // Without the table its name would be that of a metric.
            let can_stand = |text: &&String| sources.owners.is_there() || !reads_owners(text);
            views = texts.iter().filter(can_stand).map(|text| world.put(text)).collect();
        }
    }
    // Nothing is kept for views that are gone.
    for view in views {
        world.views.remove(view.id);
    }
    let left = world.answers.dataflow_stats(Duration::from_secs(60));
    assert_eq!(left, Some(DataflowStats::default()), "seed {seed}, case {number}");
    world.live.stop();
}

fn from_environment(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name}={text}")))
}

#[test]
fn standing_is_fresh_at_every_tick() {
    let seed = from_environment("SQL_SEED").unwrap_or(1);
    let cases = match from_environment("SQL_CASE") {
        Some(one) => one..one + 1,
        None => 0..from_environment("SQL_CASES").unwrap_or(CASES),
    };
    let mut tally = Tally::default();
    for number in cases {
        case(seed, number, &mut tally);
    }
    eprintln!(
        "compared: {} answers of plans, {} that ran again, {} of dataflows, {} over a table, {} over a view, {} of several numbers, {} of rates, {} of histograms, {} rows",
        tally.plans,
        tally.again,
        tally.dataflows,
        tally.over_tables,
        tally.over_views,
        tally.of_several,
        tally.of_rates,
        tally.of_histograms,
        tally.rows
    );
    eprintln!(
        "in between: {} views put, {} removed, {} restarts, hours passed {} times, {} deletions, {} times another view",
        tally.puts, tally.removals, tally.restarts, tally.hours, tally.deletions, tally.replaced_views
    );
    let of_classes = [
        tally.plans,
        tally.again,
        tally.dataflows,
        tally.over_tables,
        tally.over_views,
        tally.of_several,
        tally.of_rates,
        tally.of_histograms,
    ];
    let in_between =
        [tally.puts, tally.removals, tally.restarts, tally.hours, tally.deletions, tally.replaced_views];
    assert!(
        of_classes.iter().all(|count| *count > 20) || from_environment("SQL_CASE").is_some(),
        "too few of a class"
    );
    assert!(
        in_between.iter().all(|count| *count > 2) || from_environment("SQL_CASE").is_some(),
        "too little happened"
    );
    assert!(tally.rows > 0);
}

/// What a subscriber would not notice otherwise: the test sees a row that is missing.
#[test]
fn a_missing_row_is_seen() {
    let dir = tempfile::tempdir().expect("a directory");
    let world = World::open(dir.path(), START, Sources::default(), 1);
    let series = world.store.get_or_create_series(&labels("m_gauge", 1));
    world.store.append_rows(&[FloatRow { series, t: START, v: 1.0 }]).expect("appended");
    let texts = ["SELECT job, value FROM m_gauge", "SELECT value, upper(job) AS j FROM m_gauge"];
    for (text, seconds) in texts.into_iter().zip([1, 3]) {
        let view = world.put(text);
        world.tick(START + seconds * 1_000);
        let t = view.shown.lock().t;
        assert_eq!(view.standing(), world.fresh(text, t), "{text}");
        let gone: Vec<LabelledSample> = view.shown.lock().rows.clone().into_iter().collect();
        view.shown.lock().rows.clear();
        assert_ne!(view.standing(), world.fresh(text, t), "{text}");
        assert_eq!(gone.len(), 1);
    }
    world.live.stop();
}
