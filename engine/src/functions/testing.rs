//! For the tests of this room: calls by name, windows by hand, and windows at random.

use super::{Kernel, Window, lookup};
use proptest::prelude::*;
use storage::model::TimeMs;

/// The same bits, or both NaN (payloads do not matter) — but ABSENT only equals itself.
pub fn same(a: f64, b: f64) -> bool {
    use storage::model::value::is_absent;
    a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan() && is_absent(a) == is_absent(b))
}

/// An elementwise function of one value, at time 0.
pub fn call(name: &str, v: f64, args: &[f64]) -> f64 {
    match lookup(name).expect("in the table").kernel {
        Kernel::Map(map) => map(v, args, 0),
        Kernel::MapOrClock(map) => map(v),
        other => panic!("{name} is not elementwise but {other:?}"),
    }
}

/// A window function over values 10 s apart; the window ends with the last sample and starts 10 s before the first.
pub fn window_call(name: &str, vs: &[f64], args: &[f64]) -> f64 {
    let ts: Vec<TimeMs> = (1..=vs.len() as i64).map(|i| i * 10_000).collect();
    let end = vs.len() as i64 * 10_000;
    window_eval(name, &Window { ts: &ts, vs, start: 0, end, t: end, args, monotone: false })
}

/// A window function over a window.
pub fn window_eval(name: &str, w: &Window) -> f64 {
    match lookup(name).expect("in the table").kernel {
        Kernel::Window(kernel) => (kernel.eval)(w),
        other => panic!("{name} takes no window but {other:?}"),
    }
}

/// What a [`Window`] borrows.
#[derive(Clone, Debug)]
pub struct Owned {
    pub ts: Vec<TimeMs>,
    pub vs: Vec<f64>,
    pub start: TimeMs,
    pub end: TimeMs,
    pub t: TimeMs,
    pub args: Vec<f64>,
}

impl Owned {
    pub fn window(&self) -> Window<'_> {
        Window {
            ts: &self.ts,
            vs: &self.vs,
            start: self.start,
            end: self.end,
            t: self.t,
            args: &self.args,
            monotone: false,
        }
    }
}

/// Values that trip arithmetic.
fn special() -> impl Strategy<Value = f64> {
    prop::sample::select(vec![
        0.0,
        -0.0,
        1.0,
        -1.0,
        f64::NAN,
        f64::INFINITY,
        f64::NEG_INFINITY,
        f64::MAX,
        f64::MIN,
        f64::MIN_POSITIVE,
        5e-324,
        1e308,
        0.1,
    ])
}

/// Values of one character per window: counters with resets, gauges, few distinct values, anything.
fn values() -> impl Strategy<Value = Vec<f64>> {
    let n = 1..300usize;
    let counter = prop::collection::vec((0u32..1000, 0u8..20), n.clone()).prop_map(|steps| {
        let mut value = 0.0;
        let step = |(by, reset): (u32, u8)| {
            value = if reset == 0 { f64::from(by) } else { value + f64::from(by) };
            value
        };
        steps.into_iter().map(step).collect()
    });
    let constant = (prop_oneof![special(), -1e6..1e6], n.clone()).prop_map(|(v, n)| vec![v; n]);
    prop_oneof![
        3 => counter,
        2 => prop::collection::vec(-1e3..1e3, n.clone()),
        1 => constant,
        2 => prop::collection::vec(prop::sample::select(vec![-1.0, 0.0, -0.0, 1.0, 2.5]), n.clone()),
        2 => prop::collection::vec(prop_oneof![9 => -1e3..1e3, 1 => special()], n.clone()),
        1 => prop::collection::vec(prop_oneof![special(), prop::num::f64::ANY], n),
    ]
}

/// Distances of samples: regular, jittering, with gaps.
fn gaps(n: usize) -> impl Strategy<Value = Vec<i64>> {
    prop_oneof![
        Just(vec![15_000; n]),
        prop::collection::vec(14_800i64..15_200, n),
        prop::collection::vec(prop_oneof![9 => Just(15_000i64), 1 => 30_000i64..100_000], n),
        prop::collection::vec(1i64..5_000, n),
    ]
}

/// Windows of 1 to 300 samples.
pub fn windows() -> impl Strategy<Value = Owned> {
    let around = (1i64..60_000, 0i64..60_000, -10_000i64..10_000);
    let args = prop::collection::vec(prop_oneof![4 => 0.01..0.99, 1 => special(), 1 => -10.0..5000.0], 2);
    (values(), around, -4_000_000_000i64..2_000_000_000_000, args)
        .prop_flat_map(|(vs, around, origin, args)| (gaps(vs.len()), Just((vs, around, origin, args))))
        .prop_map(|(gaps, (vs, (before, after, offset), origin, args))| {
            let mut at = origin;
            let ts: Vec<TimeMs> = gaps.iter().map(|gap| (at, at += gap).0).collect();
            let end = ts[ts.len() - 1] + after;
            Owned { start: ts[0] - before, end, t: end + offset, ts, vs, args }
        })
}
