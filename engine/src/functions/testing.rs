//! Helpers for the tests of functions: calls of kernels by the name of their table entry, windows
//! made by hand, and random windows.

use super::window::TimedHistogram;
use super::{Kernel, Window, lookup};
use crate::types::WindowExtension;
use proptest::prelude::*;
use std::sync::Arc;
use storage::model::histogram::{BucketSpan, Buckets, CUSTOM_BUCKETS, ResetHint};
use storage::model::{NativeHistogram, TimeMs};

/// Equal bits, or both NaN (payloads do not matter); but ABSENT only equals itself.
pub(super) fn same(a: f64, b: f64) -> bool {
    use storage::model::value::is_absent;
    a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan() && is_absent(a) == is_absent(b))
}

/// A function of one value, at time 0.
pub(super) fn call(name: &str, v: f64, args: &[f64]) -> f64 {
    match lookup(name).expect("in the table").kernel {
        Kernel::Map(map) => map(v, args, 0),
        Kernel::MapOrClock(map) => map(v),
        other => panic!("{name} is not elementwise but {other:?}"),
    }
}

/// A window of floats without edges.
pub(super) fn window<'a>(ts: &'a [TimeMs], vs: &'a [f64]) -> Window<'a> {
    Window { ts, vs, ..Window::default() }
}

/// A window function over values 10 s apart; the window ends with the last sample and begins 10 s
/// before the first.
pub(super) fn window_call(name: &str, vs: &[f64], args: &[f64]) -> f64 {
    let ts: Vec<TimeMs> = (1..=vs.len() as i64).map(|i| i * 10_000).collect();
    let end = vs.len() as i64 * 10_000;
    window_eval(name, &Window { end, t: end, args, ..window(&ts, vs) })
}

/// A window function over a window.
pub(super) fn window_eval(name: &str, w: &Window) -> f64 {
    match lookup(name).expect("in the table").kernel {
        Kernel::Window(kernel) => (kernel.eval)(w),
        other => panic!("{name} takes no window but {other:?}"),
    }
}

/// What a [`Window`] borrows.
#[derive(Clone, Debug)]
pub(super) struct OwnedWindow {
    pub ts: Vec<TimeMs>,
    pub vs: Vec<f64>,
    pub start: TimeMs,
    pub end: TimeMs,
    pub t: TimeMs,
    pub args: Vec<f64>,
}

impl OwnedWindow {
    pub(super) fn window(&self) -> Window<'_> {
        Window { start: self.start, end: self.end, t: self.t, args: &self.args, ..window(&self.ts, &self.vs) }
    }
}

/// Values that are difficult for arithmetic.
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

/// Values of one kind per window: counters with resets, gauges, few distinct values, anything.
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

/// Distances of samples: regular, with jitter, with gaps.
fn gaps(n: usize) -> impl Strategy<Value = Vec<i64>> {
    prop_oneof![
        Just(vec![15_000; n]),
        prop::collection::vec(14_800i64..15_200, n),
        prop::collection::vec(prop_oneof![9 => Just(15_000i64), 1 => 30_000i64..100_000], n),
        prop::collection::vec(1i64..5_000, n),
    ]
}

/// Windows of 1 to 300 samples.
pub(super) fn windows() -> impl Strategy<Value = OwnedWindow> {
    let around = (1i64..60_000, 0i64..60_000, -10_000i64..10_000);
    let args = prop::collection::vec(prop_oneof![4 => 0.01..0.99, 1 => special(), 1 => -10.0..5000.0], 2);
    (values(), around, -4_000_000_000i64..2_000_000_000_000, args)
        .prop_flat_map(|(vs, around, origin, args)| (gaps(vs.len()), Just((vs, around, origin, args))))
        .prop_map(|(gaps, (vs, (before, after, offset), origin, args))| {
            let mut at = origin;
            let ts: Vec<TimeMs> = gaps.iter().map(|gap| (at, at += gap).0).collect();
            let end = ts[ts.len() - 1] + after;
            OwnedWindow { start: ts[0] - before, end, t: end + offset, ts, vs, args }
        })
}

/// What a window of any kind borrows.
#[derive(Clone, Debug)]
pub(super) struct OwnedMixedWindow {
    pub floats: OwnedWindow,
    pub histograms: Vec<TimedHistogram>,
    pub starts: Vec<(TimeMs, TimeMs)>,
    pub extension: Option<WindowExtension>,
}

impl OwnedMixedWindow {
    pub(super) fn window(&self) -> Window<'_> {
        Window {
            histograms: &self.histograms,
            starts: &self.starts,
            extension: self.extension,
            ..self.floats.window()
        }
    }
}

/// How a histogram is made: the change of the counter, and its shape.
#[derive(Clone, Debug)]
struct Recipe {
    add: [u8; 3],
    shape: u8,
    hint: u8,
}

/// Histograms of one series: mostly counters of one shape, with resets, other schemas, custom
/// buckets, hints.
fn histograms(recipes: Vec<Recipe>, times: &[TimeMs]) -> Vec<TimedHistogram> {
    let mut counts = [0.0f64; 3];
    let make = |(recipe, t): (Recipe, &TimeMs)| {
        if recipe.shape % 7 == 0 {
            counts = [0.0; 3];
        }
        for (count, by) in counts.iter_mut().zip(recipe.add) {
            *count += f64::from(by % 8);
        }
        let spans = vec![BucketSpan { offset: i32::from(recipe.shape % 2), length: 3 }];
        let mut h = NativeHistogram {
            count: counts.iter().sum(),
            sum: f64::from(recipe.add[0]),
            positive: Buckets { spans, counts: counts.into() },
            ..NativeHistogram::default()
        };
        match recipe.shape {
            0..30 => (h.schema, h.bounds) = (CUSTOM_BUCKETS, [1.0, 2.0, 5.0, 7.0].into()),
            30..40 => (h.schema, h.bounds) = (CUSTOM_BUCKETS, [1.0, 2.0, 3.0, 7.0, 9.0].into()),
            40..60 => h.schema = 1,
            60..70 => (h.zero_threshold, h.zero_count) = (0.5, 2.0),
            _ => {}
        }
        h.hint = match recipe.hint {
            0..8 => ResetHint::Reset,
            8..16 => ResetHint::NotReset,
            16..30 => ResetHint::Gauge,
            _ => ResetHint::Unknown,
        };
        (*t, Arc::new(h))
    };
    recipes.into_iter().zip(times).map(make).collect()
}

/// Windows of floats, histograms or both, with start timestamps and extensions.
pub(super) fn mixed_windows() -> impl Strategy<Value = OwnedMixedWindow> {
    let recipe = (any::<[u8; 3]>(), any::<u8>(), any::<u8>());
    let recipe = recipe.prop_map(|(add, shape, hint)| Recipe { add, shape, hint });
    // Uniform windows are rare among random shapes, so some get the first histogram's shape.
    let recipes = (prop::collection::vec(recipe, 12), any::<bool>()).prop_map(|(mut recipes, alike)| {
        let shape = recipes[0].shape | 1;
        for recipe in recipes.iter_mut().filter(|_| alike) {
            recipe.shape = shape;
        }
        recipes
    });
    let kinds = prop_oneof![Just([true, false]), Just([false, true]), Just([true, true])];
    let sample = (1i64..40_000, any::<bool>(), 0u8..6, 0i64..60_000, -50.0..50.0f64);
    let extension = prop::sample::select(vec![
        None,
        None,
        Some(WindowExtension::Anchored),
        Some(WindowExtension::Smoothed),
    ]);
    let shape = (kinds, extension, 0i64..100_000, 1i64..200_000, 0.01..0.99f64);
    (prop::collection::vec(sample, 1..12), recipes, shape).prop_map(
        |(samples, recipes, (kinds, extension, from, range, arg))| {
            let mut at = 1_000_000_000;
            let mut floats = Vec::new();
            let mut times = Vec::new();
            let mut starts = Vec::new();
            let origin = at;
            for (gap, histogram, start, before, v) in samples {
                at += gap;
                if histogram && kinds[1] || !kinds[0] {
                    times.push(at);
                } else {
                    floats.push((at, v.round()));
                }
                match start {
                    0 => starts.push((at, at - before)),
                    1 => starts.push((at, origin)),
                    2 => starts.push((at, at - gap)),
                    _ => {}
                }
            }
            let (start, end) = match extension {
                None => (origin, at + from),
                Some(WindowExtension::Anchored) => (at - range, at + from % 3 * 1_000),
                Some(WindowExtension::Smoothed) => (at - range, at - range + from.max(1)),
            };
            let (ts, vs) = floats.into_iter().unzip();
            let floats = OwnedWindow { ts, vs, start, end, t: end, args: vec![arg, arg] };
            OwnedMixedWindow { floats, histograms: histograms(recipes, &times), starts, extension }
        },
    )
}
