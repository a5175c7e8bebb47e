//! Extremes of a window that slides along a series: each sample is visited once, not once per
//! window.
//!
//! Only samples that may still become the extreme are candidates: those without a later, better
//! one. The results are exactly those of the kernels in [`super::over_time`]: of equal values the
//! first, NaN only if all are NaN.

/// For windows `lo..hi` into the values of one series, which are not empty and only move forward:
/// appends their values.
pub type BatchKernel = fn(&[f64], &[(usize, usize)], &mut Vec<f64>);

/// Largest values.
pub(super) fn max(vs: &[f64], windows: &[(usize, usize)], out: &mut Vec<f64>) {
    extremes(vs, windows, out, |a, b| a > b);
}

/// Smallest values.
pub(super) fn min(vs: &[f64], windows: &[(usize, usize)], out: &mut Vec<f64>) {
    extremes(vs, windows, out, |a, b| a < b);
}

#[inline]
fn extremes(vs: &[f64], windows: &[(usize, usize)], out: &mut Vec<f64>, better: impl Fn(f64, f64) -> bool) {
    // Candidates are `candidates[first..]`, best first.
    let mut candidates: Vec<(usize, f64)> = Vec::new();
    let mut first = 0;
    let mut next = 0;
    for (lo, hi) in windows {
        next = next.max(*lo);
        for (at, v) in vs.iter().enumerate().take(*hi).skip(next).filter(|(_, v)| !v.is_nan()) {
            while candidates.len() > first && candidates.last().is_some_and(|(_, last)| better(*v, *last)) {
                candidates.pop();
            }
            candidates.push((at, *v));
        }
        next = next.max(*hi);
        while candidates.get(first).is_some_and(|(at, _)| at < lo) {
            first += 1;
        }
        // All are NaN: the kernels return the last one.
        out.push(candidates.get(first).map_or(vs[hi - 1], |(_, v)| *v));
    }
}

#[cfg(test)]
mod tests {
    use crate::functions::{Kernel, Window, lookup};
    use proptest::prelude::*;

    fn value() -> impl Strategy<Value = f64> {
        let nan = |bits: u64| f64::from_bits(0x7ff8_0000_0000_0000 | bits);
        prop_oneof![
            4 => (-3i32..3).prop_map(f64::from),
            1 => Just(-0.0),
            2 => (1u64..9).prop_map(nan),
            1 => Just(f64::INFINITY),
            1 => Just(f64::NEG_INFINITY),
        ]
    }

    proptest! {
        #[test]
        fn the_same_as_looking_at_every_window(
            vs in prop::collection::vec(value(), 1..60),
            sizes in prop::collection::vec((0usize..4, 1usize..20), 1..60),
        ) {
            let mut windows = Vec::new();
            let mut lo = 0;
            let mut before = 0;
            for (step, size) in sizes {
                lo += step;
                let hi = (lo + size).min(vs.len()).max(before);
                if lo < hi {
                    windows.push((lo, hi));
                    before = hi;
                }
            }
            for name in ["max_over_time", "min_over_time"] {
                let Some(Kernel::Window(kernel)) = lookup(name).map(|f| f.kernel) else { panic!("{name}") };
                let ts: Vec<i64> = (0..vs.len() as i64).collect();
                let window = |(lo, hi): &(usize, usize)| Window { ts: &ts[*lo..*hi], vs: &vs[*lo..*hi], ..Window::default() };
                let each: Vec<u64> = windows.iter().map(|w| (kernel.eval)(&window(w)).to_bits()).collect();
                let mut slid = Vec::new();
                kernel.batch_kernel.expect("it slides")(&vs, &windows, &mut slid);
                prop_assert_eq!(slid.iter().map(|v| v.to_bits()).collect::<Vec<_>>(), each, "{}", name);
            }
        }
    }
}
