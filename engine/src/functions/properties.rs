//! The contract of window kernels, checked with random windows for the whole table: a kernel equals
//! its slow reference bit by bit (except for NaN payloads), hints change nothing, and a value holds
//! as long as `valid_until` says.

use super::findings::Findings;
use super::rate::{RateValidity, extrapolated_valid_until};
use super::testing::{OwnedWindow, mixed_windows, same, window, window_call, window_eval, windows};
use super::{Kernel, TimeDependence, Window, WindowKernel, WindowMethod, table};
use crate::types::histogram_column::Sample;
use proptest::prelude::*;
use testing::assert_proportional;

/// The effect of rounding `sampled + left + right` on an extrapolated value, see
/// `extrapolated_valid_until`.
const EXTRAPOLATION_TOLERANCE: f64 = 1e-14;

fn kernels() -> impl Iterator<Item = (&'static str, WindowKernel)> {
    table().iter().filter_map(|f| match f.kernel {
        Kernel::Window(kernel) => Some((f.name, kernel)),
        _ => None,
    })
}

fn same_sample(a: &Sample, b: &Sample) -> bool {
    match (a, b) {
        (Sample::Float(a), Sample::Float(b)) => same(*a, *b),
        (Sample::Histogram(a), Sample::Histogram(b)) => a.hint == b.hint && a.equals(b),
        _ => false,
    }
}

/// The same samples in a window that is `later` ms later.
fn slid<'a>(w: &Window<'a>, later: i64) -> Window<'a> {
    Window { start: w.start + later, end: w.end + later, t: w.t + later, ..*w }
}

/// Times in `1..=most`: the ends, and some between.
fn probes(most: i64) -> impl Iterator<Item = i64> {
    [1, 2, most / 7, most / 3, most / 2, most - 1, most].into_iter().filter(move |d| (1..=most).contains(d))
}

/// Equal within the tolerance; subnormal results have too few bits for a relative one.
fn is_equal_within_tolerance(now: f64, later: f64) -> bool {
    same(now, later) || (now - later).abs() <= EXTRAPOLATION_TOLERANCE * now.abs() + f64::MIN_POSITIVE
}

fn sorted(mut owned: OwnedWindow) -> OwnedWindow {
    owned.vs.sort_by(super::quantile::order);
    owned
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn kernels_equal_their_references(owned in windows()) {
        let w = owned.window();
        for (name, kernel) in kernels() {
            let got = (kernel.eval)(&w);
            let want = (kernel.reference)(&w);
            prop_assert!(same(got, want), "{name}: {got:e}, reference {want:e}");
        }
    }

    #[test]
    fn kernels_equal_their_references_on_windows_of_any_kind(owned in mixed_windows()) {
        let w = owned.window();
        for (name, kernel) in kernels() {
            if w.extension.is_some_and(|extension| !kernel.allows(extension)) {
                continue;
            }
            // Leaves read start timestamps only for functions that use them.
            let w = if kernel.reads_starts { w } else { Window { starts: &[], ..w } };
            let mut findings = Findings::default();
            let mut should = Findings::default();
            let got = kernel.value(&w, &mut findings);
            let want = kernel.value_reference(&w, &mut should);
            prop_assert!(same_sample(&got, &want), "{name}: {got:?}, reference {want:?}");
            prop_assert_eq!(findings, should, "{}", name);
        }
    }

    #[test]
    fn the_monotone_hint_changes_nothing(owned in windows()) {
        let owned = sorted(owned);
        let w = owned.window();
        let hinted = Window { monotone: true, ..w };
        for (name, kernel) in kernels() {
            let plain = (kernel.eval)(&w);
            let quick = (kernel.eval)(&hinted);
            prop_assert!(same(plain, quick), "{name}: {plain:e}, with the hint {quick:e}");
        }
    }

    #[test]
    fn values_stand_as_long_as_said(owned in windows()) {
        let w = owned.window();
        for (name, kernel) in kernels() {
            let now = (kernel.eval)(&w);
            let until = kernel.valid_until(&w);
            prop_assert!((w.t..=w.expiry()).contains(&until), "{name}: {until}");
            for later in probes(until - w.t) {
                let then = (kernel.eval)(&slid(&w, later));
                let holds = match kernel.time_dependence {
                    TimeDependence::OnExpiry => same(now, then),
                    _ => is_equal_within_tolerance(now, then),
                };
                prop_assert!(holds, "{name}: {now:e}, {later} ms later {then:e}");
            }
        }
    }

    #[test]
    fn an_abridged_window_changes_nothing(owned in windows()) {
        let rising = sorted(owned.clone());
        for (name, kernel) in kernels() {
            let WindowMethod::Endpoints { pairs } = kernel.method else { continue };
            let w = if pairs { Window { monotone: true, ..rising.window() } } else { owned.window() };
            let n = w.ts.len();
            if n < 4 {
                continue;
            }
            let ts = [w.ts[0], w.ts[n - 2], w.ts[n - 1]];
            let vs = [w.vs[0], w.vs[n - 2], w.vs[n - 1]];
            let short = Window { ts: &ts, vs: &vs, skipped: n - 3, ..w };
            let whole = (kernel.eval)(&w);
            let quick = (kernel.eval)(&short);
            prop_assert!(same(whole, quick), "{name}: {whole:e}, abridged {quick:e}");
            if !pairs {
                // `valid_until` may also consider counters; functions that do not look at pairs may
                // ignore that.
                let until = kernel.valid_until(&short);
                for later in probes(until - w.t) {
                    let then = (kernel.eval)(&slid(&w, later));
                    prop_assert!(is_equal_within_tolerance(whole, then), "{name}: {whole:e}, {later} ms later {then:e}");
                }
                continue;
            }
            prop_assert_eq!(kernel.valid_until(&w), kernel.valid_until(&short), "{}", name);
            let mut known = None;
            if matches!(kernel.time_dependence, TimeDependence::Extrapolated) {
                let alone = extrapolated_valid_until(&w);
                prop_assert_eq!(RateValidity::valid_until(&short, &mut known), alone, "{}", name);
                prop_assert_eq!(RateValidity::valid_until(&w, &mut known), alone, "{}, known", name);
            }
        }
    }

    #[test]
    fn at_expiry_the_first_sample_is_inside_and_then_it_is_not(owned in windows()) {
        let w = owned.window();
        let last = slid(&w, w.expiry() - w.t);
        prop_assert!(last.start < w.ts[0]);
        prop_assert_eq!(slid(&w, w.expiry() - w.t + 1).start, w.ts[0]);
    }
}

/// A window of samples at `ts` (ms) with values 1, 2, 3, …
fn rising(ts: &[i64], start: i64, end: i64, check: impl Fn(&Window)) {
    let vs: Vec<f64> = (0..ts.len()).map(|i| 1e6 + i as f64).collect();
    check(&Window { start, end, t: end, monotone: true, ..window(ts, &vs) });
}

#[test]
fn rates_stand_until_an_edge_changes_regime() {
    let until = super::rate::extrapolated_valid_until;
    let ts = [10_000, 20_000, 30_000];
    // Both gaps are below 11 s: until the right one reaches it, or the first sample leaves.
    rising(&ts, 1_000, 32_000, |w| assert_eq!(until(w), 32_000 + 8_999));
    rising(&ts, 8_000, 32_000, |w| assert_eq!(until(w), 32_000 + 1_999));
    // A gap of exactly the threshold is clipped: `>=`.
    rising(&ts, 1_000, 40_999, |w| assert_eq!(until(w), 40_999));
    // One side is clipped: the value changes now.
    rising(&ts, -50_000, 32_000, |w| assert_eq!(until(w), 32_000));
    rising(&ts, 1_000, 45_000, |w| assert_eq!(until(w), 45_000));
    // Both are clipped: until the left gap is below 11 s.
    rising(&ts, -50_000, 45_000, |w| assert_eq!(until(w), 45_000 + 60_000 - 11_000));
    // One sample: no value, until it leaves.
    rising(&[10_000], 0, 15_000, |w| assert_eq!(until(w), 15_000 + 9_999));
}

#[test]
fn a_gap_of_eleven_tenths_is_clipped() {
    let delta = |start: i64, end: i64| {
        let ts = [0, 10_000, 20_000];
        let vs = [0.0, 10.0, 20.0];
        window_eval("delta", &Window { start, end, t: end, ..window(&ts, &vs) })
    };
    assert_eq!(delta(-10_999, 20_000), 20.0 * ((20.0 + 10.999 + 0.0) / 20.0));
    assert_eq!(delta(-11_000, 20_000), 25.0);
    assert_eq!(delta(-99_000, 99_000), 30.0);
}

#[test]
fn counters_are_not_extrapolated_below_zero() {
    let ts = [0, 10_000, 20_000];
    let increase = |vs: &[f64]| {
        let w = Window { start: -10_000, end: 20_000, t: 20_000, ..window(&ts, vs) };
        window_eval("increase", &w)
    };
    // From 2 it took 2 s to rise from zero.
    assert_eq!(increase(&[2.0, 12.0, 22.0]), 22.0);
    assert_eq!(increase(&[0.0, 10.0, 20.0]), 20.0);
    // The corrected increase counts: (12 - 20) + 20 + … here 8 + 20 = 28 over 20 s, 5 from zero.
    assert_eq!(increase(&[5.0, 21.0, 12.0]), 28.0 * ((20.0 + 20.0 * (5.0 / 28.0)) / 20.0));
    // A negative first value does not limit the extrapolation.
    assert_eq!(increase(&[-5.0, 5.0, 15.0]), 30.0);
}

#[test]
fn one_sample_is_enough_for_over_time_only() {
    use storage::model::value::is_absent;
    for name in ["rate", "increase", "delta", "irate", "idelta", "deriv"] {
        assert!(is_absent(window_call(name, &[1.0], &[])), "{name}");
    }
    assert!(is_absent(window_call("predict_linear", &[1.0], &[60.0])));
    assert!(is_absent(window_call("double_exponential_smoothing", &[1.0], &[0.5, 0.5])));
    for (name, want) in
        [("avg", 7.0), ("sum", 7.0), ("max", 7.0), ("stddev", 0.0), ("count", 1.0), ("present", 1.0)]
    {
        assert_eq!(window_call(&format!("{name}_over_time"), &[7.0], &[]), want, "{name}");
    }
    assert_eq!(window_call("changes", &[7.0], &[]), 0.0);
    assert_eq!(window_call("resets", &[7.0], &[]), 0.0);
}

#[test]
fn pairs() {
    let nan = f64::NAN;
    for (name, vs, want) in [
        ("changes", &[1.0, 1.0, 2.0, nan, nan, 2.0][..], 3.0),
        ("changes", &[0.0, -0.0], 0.0),
        ("resets", &[3.0, 2.0, nan, 1.0, 0.0], 2.0),
        ("irate", &[1.0, 100.0, 140.0], 4.0),
        ("irate", &[1.0, 100.0, 40.0], 4.0), // after a reset: the last value itself
        ("idelta", &[1.0, 100.0, 40.0], -60.0),
    ] {
        assert_eq!(window_call(name, vs, &[]), want, "{name} {vs:?}");
    }
}

/// Cases of Prometheus' test suite; `within` is relative, 0 for exact.
#[test]
fn means_and_sums() {
    let inf = f64::INFINITY;
    let nan = f64::NAN;
    let large = 9.98846567431158e307;
    for (vs, want, within) in [
        (&[1.0, 2.0, 3.0, 4.0, 5.0][..], 3.0, 0.0),
        (&[1.0, 2.0, 3.0, 4.0, inf], inf, 0.0),
        (&[1.0, 2.0, 3.0, inf, -inf], nan, 0.0),
        (&[inf, 0.0, inf], inf, 0.0),
        (&[-inf, -inf, -inf, inf], nan, 0.0),
        (&[large, large], large, 0.0),
        (&[-large, -large, -large], -large, 0.0),
        (&[-large, large], 0.0, 0.0),
        (&[1.0, 2.0, 3.0, nan], nan, 0.0),
        (&[1.0, 1e100, 1.0, -1e100], 0.5, 0.0),
        (&[1e10, 1e-6, 1e-6, 1e-6, 1e-6, 1e-6], 1.6666666666666675e+09, 0.0),
        (&[1.78264e50, 0.76342771, 1.9592258, 7.69805412, 458.90154], 3.56528e49, 1e-12),
        (
            &[-1.78264e215, 0.76342771, 1.9592258, 2.258e220, 7.69805412, -458.90154],
            3.76330362266667e219,
            1e-12,
        ),
        (
            &[
                -2.258e220,
                -1.78264e219,
                0.76342771,
                1.9592258,
                2.3757689e217,
                -2.3757689e217,
                2.258e220,
                7.69805412,
                1.78264e219,
                -458.90154,
            ],
            0.0, // the truth is -44.8: a better sum would be a different one
            0.0,
        ),
    ] {
        let got = window_call("avg_over_time", vs, &[]);
        assert!(same(got, want) || got == want || (got / want - 1.0).abs() < within, "{vs:?}: {got:e}");
    }
    assert_eq!(window_call("sum_over_time", &[1.0, 1e100, 1.0, -1e100], &[]), 2.0);
    assert_eq!(window_call("sum_over_time", &[inf, 1.0], &[]), inf);
    assert_eq!(window_call("sum_over_time", &[large, large], &[]), inf);
    for n in 1..=300 {
        assert_eq!(window_call("avg_over_time", &vec![52.0; n], &[]), 52.0);
    }
}

#[test]
fn the_variance_of_a_constant_is_zero() {
    for v in [1.5990505637277868, 0.1, 1e300, -7.3e-300, 0.0] {
        for n in 1..=50 {
            assert_eq!(window_call("stdvar_over_time", &vec![v; n], &[]), 0.0, "{n} times {v}");
        }
    }
    let values = [0.0, 8.0, 8.0, 2.0, 3.0];
    assert!((window_call("stdvar_over_time", &values, &[]) - 10.56).abs() < 1e-14);
    assert!((window_call("stddev_over_time", &values, &[]) - 10.56f64.sqrt()).abs() < 1e-14);
    assert!(window_call("stddev_over_time", &[1.0, f64::INFINITY], &[]).is_nan());
}

#[test]
fn extremes_ties_and_nans() {
    let nan = f64::NAN;
    for (name, vs, want) in [
        ("max_over_time", &[nan, 1.0, 3.0, nan, 3.0][..], 3.0),
        ("min_over_time", &[nan, 1.0, 3.0, nan, 1.0], 1.0),
        ("max_over_time", &[-0.0, 0.0], -0.0), // the first of equals
        ("min_over_time", &[0.0, -0.0], 0.0),
        ("max_over_time", &[nan, nan], nan),
        ("ts_of_max_over_time", &[nan, 3.0, 1.0, 3.0, nan], 40.0), // the last of equals
        ("ts_of_min_over_time", &[1.0, 3.0, 1.0, 3.0, nan], 30.0),
        ("ts_of_max_over_time", &[nan, nan], 20.0),
        ("ts_of_first_over_time", &[5.0, 6.0], 10.0),
        ("ts_of_last_over_time", &[5.0, 6.0], 20.0),
        ("first_over_time", &[5.0, 6.0], 5.0),
        ("last_over_time", &[5.0, nan], nan),
    ] {
        assert!(same(window_call(name, vs, &[]), want), "{name} {vs:?}");
    }
}

#[test]
fn trends() {
    let inf = f64::INFINITY;
    assert_eq!(window_call("deriv", &[7.0; 9], &[]), 0.0);
    assert!(window_call("deriv", &[inf; 3], &[]).is_nan());
    assert!(window_call("deriv", &[inf, 1.0], &[]).is_nan());
    assert_eq!(window_call("deriv", &[10.0, 20.0, 30.0], &[]), 1.0);
    let (ts, vs): (Vec<i64>, Vec<f64>) =
        (0..11).map(|i| (i * 300_000, f64::from(i as u8 % 5 * 10 + u8::from(i == 10) * 50))).unzip();
    let reset = Window { start: -1, end: 3_000_000, t: 3_000_000, args: &[3600.0], ..window(&ts, &vs) };
    assert_eq!(window_eval("deriv", &reset), 0.010606060606060607);
    // The line begins at the evaluation time.
    assert_eq!(window_eval("predict_linear", &reset), 76.81818181818181);
    assert_eq!(window_eval("predict_linear", &Window { t: 600_000, ..reset }), 51.36363636363637);
    assert_eq!(window_call("predict_linear", &[10.0, 20.0, 30.0], &[5.0]), 35.0);
    assert_eq!(window_call("predict_linear", &[7.0, 7.0], &[1e9]), 7.0);
    let late = |t| {
        let w = Window { start: -1, end: 10_000, t, args: &[0.0], ..window(&[0, 10_000], &[0.0, 10.0]) };
        window_eval("predict_linear", &w)
    };
    assert_eq!((late(10_000), late(70_000)), (10.0, 70.0)); // an offset does not shift the reference time
    let rising: Vec<f64> = (1..=6).map(|i| 7_940.0 + 10.0 * f64::from(i)).collect();
    assert!((window_call("double_exponential_smoothing", &rising, &[0.01, 0.1]) - 8_000.0).abs() < 1e-9);
}

#[test]
fn smoothing_factors_are_checked() {
    let function = super::lookup("double_exponential_smoothing").expect("in the table");
    let check = function.check.expect("has a check");
    assert_eq!(check(&[0.5, 0.1]), Ok(()));
    assert_eq!(check(&[f64::NAN, 0.1]), Ok(()));
    let error = check(&[1.0, 0.5]).expect_err("1 is outside");
    assert_eq!(error.to_string(), "invalid smoothing factor. Expected: 0 < sf < 1, got: 1.000000");
    let error = check(&[0.5, f64::NEG_INFINITY]).expect_err("outside");
    assert_eq!(error.to_string(), "invalid trend factor. Expected: 0 < tf < 1, got: -Inf");
}

/// Doubling the samples of a window, in an unfavourable order.
#[test]
fn twice_the_samples_cost_every_kernel_at_most_a_little_more_than_twice() {
    for (name, kernel) in kernels() {
        let samples = |n: usize| {
            let times = (1..=n as i64).map(|i| i * 1_000).collect::<Vec<i64>>();
            let values = (0..n).map(|i| (i * 7_919 % n) as f64).collect::<Vec<f64>>();
            (times, values)
        };
        assert_proportional(name, 4_000, samples, |(ts, vs)| {
            let end = ts.last().copied().unwrap_or_default();
            let w = Window { ts, vs, start: 0, end, t: end, args: &[0.5, 0.5], ..Window::default() };
            (kernel.eval)(&w)
        });
    }
}
