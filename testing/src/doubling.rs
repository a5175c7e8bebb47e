//! Doubling tests: an input of twice the size may cost a little more than twice as much, and no more.
//!
//! Whoever sends a long line, many labels or a deep expression must not be able to buy more work than bytes. What counts is
//! CPU time of the thread, not the wall clock, and the smallest of several runs, so that a busy machine fails nothing.

use cpu_time::{ProcessTime, ThreadTime};
use std::hint::black_box;
use std::time::Duration;

/// Most that twice the input may cost, as a multiple: 2 is linear, `n log n` is below 2.3, quadratic is 4.
pub const MOST: f64 = 2.6;

/// The least CPU time of one measurement; shorter ones are mostly noise.
const LEAST: Duration = Duration::from_millis(3);
/// Measurements of each size, of which the smallest counts.
const RUNS: usize = 3;
/// How often all is measured before the test fails.
const ATTEMPTS: usize = 5;

/// Fails unless `work` on an input of size `2 * n` costs at most [`MOST`] times what it costs on one of size `n`.
///
/// `input` makes an input of a size, which is not measured. `n` should be as large as a limit allows, or else as what is
/// real: cheap work is repeated until it can be measured, not given more.
#[track_caller]
pub fn assert_proportional<I, O>(what: &str, n: usize, input: impl Fn(usize) -> I, work: impl Fn(&I) -> O) {
    assert_by(cost_of_thread, what, n, input, work);
}

/// The same of work that other threads do: the CPU time of the process is measured. The test must be alone in its program.
#[track_caller]
pub fn assert_proportional_in_process<I, O>(
    what: &str,
    n: usize,
    input: impl Fn(usize) -> I,
    work: impl Fn(&I) -> O,
) {
    assert_by(cost_of_process, what, n, input, work);
}

/// The same of work that uses its input up, so that it is done once with each.
#[track_caller]
pub fn assert_proportional_anew<I, O>(
    what: &str,
    n: usize,
    input: impl Fn(usize) -> I,
    work: impl Fn(I) -> O,
) {
    let run = |n: usize| {
        let input = input(n);
        let start = ThreadTime::now();
        let made = work(black_box(input));
        let taken = start.elapsed();
        drop(black_box(made));
        taken
    };
    judge(what, n, || run(n), || run(2 * n));
}

/// CPU time for some work.
type Cost = fn(&mut dyn FnMut()) -> Duration;

#[track_caller]
fn assert_by<I, O>(cost: Cost, what: &str, n: usize, input: impl Fn(usize) -> I, work: impl Fn(&I) -> O) {
    let small = input(n);
    let large = input(2 * n);
    let once = |input: &I| drop(black_box(work(black_box(input))));
    let times = repetitions(cost, || once(&small));
    let run = |input: &I| cost(&mut || (0..times).for_each(|_| once(input)));
    judge(what, n, || run(&small), || run(&large));
}

/// Fails unless the second costs at most [`MOST`] times what the first does, in one of some attempts.
#[track_caller]
fn judge(what: &str, n: usize, small: impl Fn() -> Duration, large: impl Fn() -> Duration) {
    let mut ratios = Vec::new();
    for _ in 0..ATTEMPTS {
        let mut of_small = Duration::MAX;
        let mut of_large = Duration::MAX;
        for _ in 0..RUNS {
            of_small = of_small.min(small());
            of_large = of_large.min(large());
        }
        let ratio = of_large.as_secs_f64() / of_small.as_secs_f64();
        if ratio <= MOST {
            return;
        }
        ratios.push(format!("{ratio:.2} ({of_small:?}, {of_large:?})"));
    }
    panic!("{what}: {n} against {}: the cost grows by {}, at most {MOST} is right", 2 * n, ratios.join(", "));
}

/// How often `work` must run to take long enough.
fn repetitions(cost: Cost, work: impl Fn()) -> u32 {
    let mut times = 1;
    loop {
        let taken = cost(&mut || (0..times).for_each(|_| work()));
        if taken >= LEAST {
            return times;
        }
        times *= 2;
    }
}

/// CPU time of this thread for `work`.
fn cost_of_thread(work: &mut dyn FnMut()) -> Duration {
    let start = ThreadTime::now();
    work();
    start.elapsed()
}

/// CPU time of all threads while `work` runs.
fn cost_of_process(work: &mut dyn FnMut()) -> Duration {
    let start = ProcessTime::now();
    work();
    start.elapsed()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::panic::catch_unwind;

    fn pairs_of_equals(numbers: &[usize], reach: usize) -> usize {
        let behind = |i: usize| numbers[i + 1..].iter().take(reach);
        (0..numbers.len()).map(|i| behind(i).filter(|n| **n == numbers[i]).count()).sum()
    }

    #[test]
    fn linear_work_passes_and_quadratic_work_fails() {
        let numbers = |n: usize| (0..n).collect::<Vec<usize>>();
        assert_proportional("ten neighbours", 1_000, numbers, |numbers| pairs_of_equals(numbers, 10));
        let quadratic =
            || assert_proportional("all", 1_000, numbers, |numbers| pairs_of_equals(numbers, usize::MAX));
        let failure = catch_unwind(quadratic).expect_err("each is compared with each");
        let text = failure.downcast_ref::<String>().expect("a text");
        assert!(text.starts_with("all: ") && text.contains("1000 against 2000"), "{text}");
    }
}
