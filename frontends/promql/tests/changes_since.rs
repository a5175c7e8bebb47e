//! From when on a change holds that a consumer of a view receives ([`TapEvent::Delta`], `since`):
//! samples come after the ticks that should have known them, windows end between ticks, and time
//! itself changes answers. Between the tick before and `since`, a query gives the answer before.

mod bench;

use bench::{Bench, START};
use engine::live::{Sink, TapEvent, ViewKind, ViewSpec};
use parking_lot::Mutex;
use promql::{PromqlOptions, compile};
use std::collections::BTreeMap;
use std::sync::Arc;
use storage::model::Labels;

/// The rows of a view, and the changes that it has sent: since when, and at which tick.
#[derive(Default)]
struct Heard {
    rows: BTreeMap<Labels, f64>,
    changes: Vec<(i64, i64)>,
}

struct Listener(Arc<Mutex<Heard>>);

impl Sink for Listener {
    fn push(&mut self, event: TapEvent) -> bool {
        let mut heard = self.0.lock();
        match event {
            TapEvent::Snapshot { rows, .. } => {
                heard.rows = rows.into_iter().map(|(labels, sample)| (labels, sample.float())).collect();
            }
            TapEvent::Delta { t, since, upsert, remove } => {
                heard.rows.retain(|labels, _| !remove.contains(labels));
                heard.rows.extend(upsert.into_iter().map(|(labels, sample)| (labels, sample.float())));
                heard.changes.push((since - START, t - START));
            }
            _ => {}
        }
        true
    }
}

/// What happens, ms after [`START`].
enum Act {
    /// A sample of a target at a time, with a value.
    Sample(&'static str, i64, f64),
    Tick(i64),
}
use Act::{Sample, Tick};

/// Lets all of it happen to a view. Returns its changes.
fn changes(expr: &str, acts: &[Act]) -> Vec<(i64, i64)> {
    let bench = Bench::new(2);
    let plan = compile(expr, &PromqlOptions::default()).unwrap();
    let view = bench.live.install(ViewSpec { name: expr.to_owned(), plan, kind: ViewKind::NOW }).unwrap();
    let heard = Arc::new(Mutex::new(Heard::default()));
    bench.live.tap(view, Box::new(Listener(heard.clone())));
    let mut told = START;
    bench.live.tick(told);
    for act in acts {
        match act {
            Sample(instance, t, v) => bench.sample(instance, START + t, *v),
            Tick(t) => {
                let before = heard.lock().rows.clone();
                bench.clock.set(START + t);
                bench.tick_as_is(START + t);
                let change = heard.lock().changes.last().copied();
                let since = change.filter(|(_, at)| at == t).map_or(*t, |(since, _)| since) + START;
                // As of these times nothing is new.
                if told < since - 1 {
                    assert_eq!(bench.ask(expr, since - 1), before, "{expr} before {}", since - START);
                }
                told = START + t;
            }
        }
    }
    bench.live.stop();
    std::mem::take(&mut heard.lock().changes)
}

/// A view, what happens, and the changes that follow.
type Case = (&'static str, &'static [Act], &'static [(i64, i64)]);

#[test]
fn a_change_says_from_when_on_it_holds() {
    let table: &[Case] = &[
        // The sample of 900 comes after the tick at 1,000.
        (
            "c_total",
            &[Sample("a", 500, 1.0), Tick(520), Tick(1_000), Sample("a", 900, 2.0), Tick(1_020)],
            &[(500, 520), (900, 1_020)],
        ),
        // The earliest of the samples of a tick counts, also through sums of several targets.
        (
            "sum(c_total)",
            &[
                Sample("a", 500, 1.0),
                Sample("b", 510, 1.0),
                Tick(520),
                Tick(1_000),
                Sample("b", 1_010, 3.0),
                Sample("a", 700, 2.0),
                Tick(1_020),
            ],
            &[(500, 520), (700, 1_020)],
        ),
        // With an offset it holds later; here the answer changes between two ticks.
        ("c_total offset 1s", &[Sample("a", 500, 1.0), Tick(520), Tick(2_100)], &[(1_500, 2_100)]),
        // The sample leaves the window, and ends with the lookback, between two ticks.
        (
            "count_over_time(c_total[1s])",
            &[Sample("a", 500, 1.0), Tick(520), Tick(1_000), Tick(1_800)],
            &[(500, 520), (1_500, 1_800)],
        ),
        (
            "c_total",
            &[Sample("a", 500, 1.0), Tick(520), Tick(300_400), Tick(301_000)],
            &[(500, 520), (300_500, 301_000)],
        ),
        // One leaves the window, and then one comes.
        (
            "max_over_time(c_total[1s])",
            &[Sample("a", 500, 5.0), Tick(520), Tick(1_000), Sample("a", 1_800, 1.0), Tick(1_820)],
            &[(500, 520), (1_500, 1_820)],
        ),
        // Time changes the answer all the time.
        (
            "time() - c_total",
            &[Sample("a", 500, 1.0), Tick(520), Tick(1_000), Tick(2_000)],
            &[(1, 520), (521, 1_000), (1_001, 2_000)],
        ),
    ];
    for (expr, acts, expected) in table {
        assert_eq!(changes(expr, acts), *expected, "{expr}");
    }
}
