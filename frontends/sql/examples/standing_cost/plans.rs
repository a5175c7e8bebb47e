//! The cost of standing statements that are live plans, next to the same queries in PromQL; and the
//! time until a subscriber of another statement gets a change.

use crate::listed::{ListedSeries, engine_over};
use crate::{T, median, process_cpu, store};
use engine::live::{LiveOptions, LiveRuntime, Sink, TapEvent, ViewKind, ViewSpec};
use engine::plan::Plan;
use engine::plan::statement::{RowForm, plan_of_statement};
use engine::query::{Querier, QueryOptions, QueryValue};
use promql::PromqlOptions;
use sql::output::{AnswerWriter, Format};
use sql::standing::StatementAnswers;
use sql::{SqlEngine, SqlRequest};
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use storage::clock::Clock;
use storage::execution::Execution;
use storage::metrics::Metrics;
use storage::model::{Labels, SeriesRef, TimeMs};
use storage::store::{FloatRow, Store};
use views::ViewRegistry;
use views::scheduled::{CompositeViews, ScheduledViewServices};

const PROMQL: &str = "sum by (job) (max_over_time(load[5m]))";
const SQL: &str = "SELECT job, sum(max_over_time(value, '5m')) AS n FROM load GROUP BY job";
const SERIES: usize = 5_000;

fn compiled(text: &str) -> Plan {
    promql::compile(text, &PromqlOptions::all()).expect("a plan")
}

/// Writes twenty samples of each series, 15 s apart; the last one at [`T`].
fn fill(store: &Store) -> Vec<SeriesRef> {
    let labels = |i: usize| {
        Labels::from_pairs([
            ("__name__", "load".to_owned()),
            ("instance", format!("host-{i}")),
            ("job", format!("job-{}", i % 50)),
        ])
    };
    let series: Vec<_> = (0..SERIES).map(|i| store.get_or_create_series(&labels(i))).collect();
    for k in (0..20).rev() {
        append(store, &series, T - k * 15_000);
    }
    series
}

fn append(store: &Store, series: &[SeriesRef], t: TimeMs) {
    let rows: Vec<FloatRow> =
        series.iter().zip(0..).map(|(series, i)| FloatRow { series: *series, t, v: f64::from(i) }).collect();
    store.append_rows(&rows).expect("appended");
}

/// The median of µs of several calls.
fn timed(rounds: usize, mut call: impl FnMut()) -> f64 {
    let time = |_| {
        let began = Instant::now();
        call();
        began.elapsed().as_secs_f64() * 1e6
    };
    median((0..rounds).map(time).collect())
}

/// The µs of CPU of a call, by all threads.
fn cpu_of(rounds: usize, mut call: impl FnMut()) -> f64 {
    let before = process_cpu();
    for _ in 0..rounds {
        call();
    }
    (process_cpu() - before) / rounds as f64
}

fn asked(engine: &SqlEngine, text: &str) {
    let request = SqlRequest { text: text.to_owned(), time: T, ..SqlRequest::default() };
    let mut writer = AnswerWriter::new(Format::Json, |_| Ok(()));
    let summary = engine.run(&request, &QueryOptions::default(), &mut writer).expect("an answer");
    writer.finish(&summary).expect("an answer");
}

/// Statements that are asked once.
pub fn asked_once() {
    let (_dir, store) = store();
    fill(&store);
    let querier = Arc::new(Querier::new(store.clone(), 1));
    let engine = engine_over(querier.clone(), store);
    println!("asked once, {SERIES} series:");
    println!("  SELECT 1: {:.0} µs", timed(200, || asked(&engine, "SELECT 1")));
    let plan = compiled(PROMQL);
    let promql = timed(100, || {
        let answer = querier.instant(&plan, T, &QueryOptions::default()).expect("an answer");
        assert!(matches!(answer.value, QueryValue::Vector(rows) if rows.len() == 50));
    });
    let sql = timed(100, || asked(&engine, SQL));
    println!("  {PROMQL}: {promql:.0} µs; the same in SQL {sql:.0} µs, {:.0} more", sql - promql);
    let promql = cpu_of(300, || {
        querier.instant(&plan, T, &QueryOptions::default()).expect("an answer");
    });
    let sql = cpu_of(300, || asked(&engine, SQL));
    println!("  of CPU: {promql:.0} µs and {sql:.0} µs, {:.0} more", sql - promql);
}

/// Nobody looks at the rows.
struct Ignored;

impl Sink for Ignored {
    fn push(&mut self, _: TapEvent) -> bool {
        true
    }
}

/// A tick of a rule, and of a statement beside it that is the same.
pub fn beside_a_rule() {
    let (_dir, store) = store();
    let series = fill(&store);
    let options = LiveOptions { workers: 1, ..LiveOptions::default() };
    let live = LiveRuntime::manual(store.clone(), &options, &Metrics::default()).expect("a runtime");
    let engine = engine_over(Arc::new(Querier::new(store.clone(), 1)), store.clone());
    let install = |plan: Plan| {
        let spec = ViewSpec { name: "a view".to_owned(), plan, kind: ViewKind::NOW };
        let view = live.install(spec).expect("installed");
        live.tap(view, Box::new(Ignored));
    };
    install(compiled(PROMQL));
    let mut t = T;
    let mut ticks = |rounds| {
        timed(rounds, || {
            t += 1_000;
            append(&store, &series, t);
            live.tick(t);
        })
    };
    ticks(20);
    let alone = ticks(100);
    const VIEWS: usize = 100;
    for _ in 0..VIEWS {
        install(engine.standing_rows(SQL).expect("it stands").plan);
    }
    ticks(20);
    let beside = ticks(100);
    println!(
        "beside a rule over {SERIES} series: a tick {alone:.0} µs, {beside:.0} µs with {VIEWS} equal statements, {:.2} µs each",
        (beside - alone) / VIEWS as f64
    );
    live.stop();
}

struct WallClock;

impl Clock for WallClock {
    fn now(&self) -> TimeMs {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
        TimeMs::try_from(since.as_millis()).expect("a time")
    }
}

/// Says when changes come.
struct Arrivals(Sender<Instant>);

impl Sink for Arrivals {
    fn push(&mut self, event: TapEvent) -> bool {
        match event {
            TapEvent::Delta { .. } | TapEvent::Snapshot { .. } => self.0.send(Instant::now()).is_ok(),
            _ => true,
        }
    }
}

/// From a change of a list to the sink of a subscription.
pub fn change_to_subscriber() {
    let (_dir, store) = store();
    let series = |i: usize| Labels::from_pairs([("__name__", format!("m{i}"))]);
    let listed = Arc::new(ListedSeries::new((0..1_000).map(series)));
    let querier = Arc::new(Querier::new(store.clone(), 1));
    let options = LiveOptions { workers: 1, ..LiveOptions::default() };
    let live = LiveRuntime::manual(store.clone(), &options, &Metrics::default()).expect("a runtime");
    let services = ScheduledViewServices {
        answers: Arc::new(StatementAnswers::new(engine_over(querier.clone(), listed.clone()), querier)),
        store,
        clock: Arc::new(WallClock),
        options: QueryOptions::default(),
        execution: Execution::Threads,
    };
    let views = CompositeViews::new(Arc::new(live.clone()), services, &Metrics::default());
    let plan = plan_of_statement("SELECT count(*) AS n FROM series", RowForm::Cells);
    let spec = ViewSpec { name: "a view".to_owned(), plan, kind: ViewKind::NOW };
    let view = views.install(spec).expect("installed");
    let (arrivals, arrived) = channel();
    views.tap(view, Box::new(Arrivals(arrivals)));
    let patience = Duration::from_secs(10);
    arrived.recv_timeout(patience).expect("the first rows");
    let mut times = Vec::new();
    for i in 0..20 {
        // At another part of the second each time.
        std::thread::sleep(Duration::from_millis(50 * i));
        while arrived.try_recv().is_ok() {}
        let began = Instant::now();
        listed.add(series(2_000 + i as usize));
        let at = arrived.recv_timeout(patience).expect("a change");
        times.push(at.duration_since(began).as_secs_f64() * 1e3);
    }
    let most = times.iter().copied().fold(0.0, f64::max);
    println!("change to subscriber, once a second: median {:.0} ms, at most {most:.0} ms", median(times));
    views.remove(view);
    live.stop();
}
