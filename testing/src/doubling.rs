//! Doubling tests: work on an input of twice the size must cost little more than twice as much.
//!
//! A client that sends a long line, many labels or a deep expression must not cause more work than
//! is proportional to its bytes. The tests measure the CPU time of the thread, not the wall clock,
//! and take the smallest of several runs, so that they do not fail on a busy machine.

use cpu_time::{ProcessTime, ThreadTime};
use std::hint::black_box;
use std::time::Duration;

/// The largest allowed ratio of the costs for twice the input: 2 is linear, `n log n` is below 2.3,
/// quadratic is 4.
pub const MOST: f64 = 2.6;

/// The largest allowed ratio for four times the input, for work of which only one doubling is
/// expensive.
///
/// The allocator gets buffers above some size from the kernel each time, and caches have a limited
/// size: on some machines, printing 100,000 bytes costs 3.0 times as much as 50,000, and 50,000
/// twice as much as 25,000. Quadratic work would cost 16 times as much.
const MOST_OF_FOUR: f64 = MOST * MOST;

/// The shortest CPU time of a measurement; shorter ones are mostly noise.
const LEAST: Duration = Duration::from_millis(3);
/// The number of measurements of each size; the smallest counts.
const RUNS: usize = 3;
/// How often everything is measured before the test fails. The smallest result of all attempts
/// counts, because another process can occupy the caches for longer than one attempt.
const ATTEMPTS: usize = 15;

/// Fails unless `work` on an input of size `2 * n` costs at most [`MOST`] times as much as on one
/// of size `n`.
///
/// `input` makes an input of a given size, which is not measured. `n` should be as large as a limit
/// allows, or else as large as real inputs: cheap work is repeated until it can be measured, so a
/// larger `n` is not needed.
#[track_caller]
pub fn assert_proportional<I, O>(what: &str, n: usize, input: impl Fn(usize) -> I, work: impl Fn(&I) -> O) {
    assert_by(cost_of_thread, what, n, input, work);
}

/// As [`assert_proportional`], for work on other threads: measures the CPU time of the process. The
/// test must be the only one in its program.
#[track_caller]
pub fn assert_proportional_in_process<I, O>(
    what: &str,
    n: usize,
    input: impl Fn(usize) -> I,
    work: impl Fn(&I) -> O,
) {
    assert_by(cost_of_process, what, n, input, work);
}

/// As [`assert_proportional`], for work that consumes its input, so that each input is used once.
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
    judge(what, n, run);
}

/// Measures the CPU time of some work.
type Cost = fn(&mut dyn FnMut()) -> Duration;

#[track_caller]
fn assert_by<I, O>(cost: Cost, what: &str, n: usize, input: impl Fn(usize) -> I, work: impl Fn(&I) -> O) {
    let once = |input: &I| drop(black_box(work(black_box(input))));
    let inputs = [n / 2, n, 2 * n].map(|size| (size, input(size)));
    let times = repetitions(cost, || once(&inputs[1].1));
    let run = |size: usize| {
        let (_, input) = inputs.iter().find(|(of, _)| *of == size).expect("one of the three sizes");
        cost(&mut || (0..times).for_each(|_| once(input)))
    };
    judge(what, n, run);
}

/// The smallest cost of work of one size.
struct Least {
    size: usize,
    cost: Duration,
}

impl Least {
    fn new(size: usize) -> Self {
        Self { size, cost: Duration::MAX }
    }

    fn measure(&mut self, cost: &impl Fn(usize) -> Duration) {
        for _ in 0..RUNS {
            self.cost = self.cost.min(cost(self.size));
        }
    }

    fn over(&self, smaller: &Self) -> f64 {
        self.cost.as_secs_f64() / smaller.cost.as_secs_f64()
    }
}

/// Fails unless size `2 * n` costs at most [`MOST`] times as much as `n`, or at most
/// [`MOST_OF_FOUR`] times as much as `n / 2`.
#[track_caller]
fn judge(what: &str, n: usize, cost: impl Fn(usize) -> Duration) {
    let mut half = Least::new(n / 2);
    let mut whole = Least::new(n);
    let mut double = Least::new(2 * n);
    for _ in 0..ATTEMPTS {
        whole.measure(&cost);
        double.measure(&cost);
        if double.over(&whole) <= MOST {
            return;
        }
        half.measure(&cost);
        if double.over(&half) <= MOST_OF_FOUR {
            return;
        }
    }
    panic!(
        "{what}: {n} against {}: the cost grows by {:.2} ({:?}, {:?}), at most {MOST} is right; \
         {:.2} from {} ({:?}), at most {MOST_OF_FOUR:.2} is right",
        2 * n,
        double.over(&whole),
        whole.cost,
        double.cost,
        double.over(&half),
        half.size,
        half.cost,
    );
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

/// Runs `work`; returns its result and the CPU time of this thread.
pub fn timed<O>(work: impl FnOnce() -> O) -> (O, Duration) {
    let start = ThreadTime::now();
    let made = work();
    (made, start.elapsed())
}

/// The CPU time of this thread for `work`.
fn cost_of_thread(work: &mut dyn FnMut()) -> Duration {
    let start = ThreadTime::now();
    work();
    start.elapsed()
}

/// The CPU time of all threads while `work` runs.
fn cost_of_process(work: &mut dyn FnMut()) -> Duration {
    let start = ProcessTime::now();
    work();
    start.elapsed()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use std::panic::catch_unwind;

    thread_local! {
        /// The comparisons made on this thread.
        static COMPARISONS: Cell<u64> = const { Cell::new(0) };
    }

    fn pairs_of_equals(numbers: &[usize], reach: usize) -> usize {
        let behind = |i: usize| numbers[i + 1..].iter().take(reach);
        let equal = |a: usize, b: usize| {
            COMPARISONS.set(COMPARISONS.get() + 1);
            a == b
        };
        (0..numbers.len()).map(|i| behind(i).filter(|n| equal(**n, numbers[i])).count()).sum()
    }

    /// A microsecond for each comparison: real times would make the test depend on what else the
    /// machine does.
    fn cost_of_comparisons(work: &mut dyn FnMut()) -> Duration {
        let before = COMPARISONS.get();
        work();
        Duration::from_micros(COMPARISONS.get() - before)
    }

    #[test]
    fn linear_work_passes_and_quadratic_work_fails() {
        let numbers = |n: usize| (0..n).collect::<Vec<usize>>();
        let judge_pairs = |what: &str, reach: usize| {
            assert_by(cost_of_comparisons, what, 1_000, numbers, |numbers| pairs_of_equals(numbers, reach));
        };
        judge_pairs("ten neighbours", 10);
        let failure =
            catch_unwind(|| judge_pairs("all", usize::MAX)).expect_err("each is compared with each");
        let text = failure.downcast_ref::<String>().expect("a text");
        assert!(text.starts_with("all: ") && text.contains("1000 against 2000"), "{text}");
    }

    #[test]
    fn the_cpu_time_of_a_thread_and_of_the_process_is_measured() {
        let add = || {
            black_box((0..1_000_000).map(black_box).sum::<u64>());
        };
        assert!(cost_of_thread(&mut { add }) > Duration::ZERO);
        assert!(cost_of_process(&mut { add }) > Duration::ZERO);
    }

    #[test]
    fn one_step_of_the_allocator_passes_and_a_bad_doubling_behind_it_fails() {
        let nanoseconds = |cost: usize| Duration::from_nanos(cost as u64);
        judge("a step", 1_000, |n| nanoseconds(if n > 1_000 { 3 * n } else { 2 * n }));
        let quadratic = || judge("a square", 1_000, |n| nanoseconds(n * n));
        let failure = catch_unwind(quadratic).expect_err("four times as much each time");
        let text = failure.downcast_ref::<String>().expect("a text");
        assert!(text.contains("grows by 4.00") && text.contains("16.00 from 500"), "{text}");
    }
}
