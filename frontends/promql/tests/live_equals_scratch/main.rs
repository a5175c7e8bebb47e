//! Tests the main invariant: for every view and tick, the live answer equals the answer that the
//! query runtime computes from scratch over the samples that had arrived, in rows and annotations.
//!
//! A case is a random history ([`history`]) with a random expression for **every** entry of the
//! tables ([`entries`]), compositions of up to five operators, all installed together so that they
//! share state. Over the same history, one of the views also runs alone, so that sharing cannot
//! hide a mistake. At each tick a fifth of the views is compared, at the last tick all are. Answers
//! must be equal bit by bit, unless the table entry declares a tolerance.
//!
//! A case depends only on its seed and number. A failing case is reduced and printed with the
//! command that repeats it:
//!
//!     LIVE_SEED=1 LIVE_CASE=17 cargo test --workspace --test live_equals_scratch
//!     LIVE_CASES=100000 cargo test --release --workspace --test live_equals_scratch -- --nocapture
//!
//! A long run reports its progress every minute; `LIVE_FIRST=40000` continues from there.

#[path = "../support/arguments.rs"]
mod arguments;
mod compare;
mod entries;
mod history;
#[path = "../../../../tests/differential/random.rs"]
#[allow(dead_code, reason = "made for another generator, too")]
mod random;
mod world;

use entries::{Entry, RandomExpression};
use history::Step;
use promql::PromqlOptions;
use random::Random;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};
use world::World;

/// Cases without `LIVE_CASES`.
const CASES: u64 = 256;
/// How often a long run reports its progress.
const REPORT: Duration = Duration::from_secs(60);
/// The ticks of a history.
const TICKS: usize = 24;
/// Percentage of the views that are compared at each tick but the last.
const SHARE: u64 = 20;
/// Attempts to find fewer views and a shorter history that still fail.
const CUTS: usize = 300;

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// `./test` sets proptest's variable for all random tests.
fn seed() -> u64 {
    variable("LIVE_SEED").or(variable("PROPTEST_RNG_SEED")).unwrap_or(1)
}

/// One case: everything that follows from its number.
struct Case {
    number: u64,
    workers: usize,
    options: PromqlOptions,
    steps: Vec<Step>,
    views: Vec<(Entry, RandomExpression)>,
}

impl Case {
    fn draw(number: u64) -> Case {
        let mut random = Random::new(&[seed(), number]);
        let options = PromqlOptions {
            start_timestamps: random.chance(50),
            delayed_names: random.chance(50),
            type_and_unit_labels: random.chance(20),
            ..PromqlOptions::all()
        };
        let workers = random.pick(&[1, 2, 4]);
        let steps = history::draw(&mut random, TICKS);
        let draw = |entry| (entry, entries::draw(&mut random, entry, &options));
        let views = entries::all().into_iter().map(draw).collect();
        Case { number, workers, options, steps, views }
    }

    /// Runs `steps` over `views`; returns the first difference.
    fn run(&self, steps: &[Step], views: &[(Entry, RandomExpression)]) -> Result<(), Failure> {
        let mut world = World::new(self.workers, self.options, views.to_vec());
        let mut random = Random::new(&[seed(), self.number, 1]);
        let all = views.len() == 1;
        let mut result = Ok(());
        for (i, step) in steps.iter().enumerate() {
            let tick = world.act(step);
            let last = i + 1 == steps.len();
            let waits = matches!(step, Step::Tick { wait: true, .. });
            assert!(
                !waits || world.views.iter().all(|view| view.shown.lock().stands),
                "the tick waits for all"
            );
            let share = if all || last { 100 } else { SHARE };
            if tick && let Err(failure) = self.compare(&world, &mut random, share) {
                result = Err(failure);
                break;
            }
        }
        world.stop();
        result
    }

    fn compare(&self, world: &World, random: &mut Random, share: u64) -> Result<(), Failure> {
        for view in &world.views {
            if random.chance(share)
                && view.shown.lock().stands
                && let Some(what) = compare::difference(world, view, &self.options)
            {
                let what = format!("{}: {what}", compare::place(world, view));
                return Err(Failure { view: (view.entry, view.drawn.clone()), what });
            }
        }
        Ok(())
    }

    /// The failure, reduced to few views and steps.
    fn cut_down(&self, failure: Failure) -> String {
        let mut failure = failure;
        let mut views = self.views.clone();
        let mut steps = self.steps.clone();
        let alone = vec![failure.view.clone()];
        if let Err(again) = self.run(&steps, &alone) {
            failure = again;
            views = alone;
        }
        fewer(&mut views, &mut failure, |views| self.run(&steps, views));
        fewer(&mut steps, &mut failure, |steps| self.run(steps, &views));
        let seed = seed();
        let number = self.number;
        let workers = self.workers;
        let others = views.iter().filter(|(_, drawn)| drawn.text != failure.view.1.text);
        let others: Vec<&str> = others.map(|(_, drawn)| &*drawn.text).collect();
        let beside = if others.is_empty() { String::new() } else { format!("\nbeside {others:#?}") };
        format!(
            "LIVE_SEED={seed} LIVE_CASE={number} ({workers} workers): {}\n{:?}{beside}\n{steps:#?}",
            failure.what, self.options
        )
    }
}

/// Removes from `items` what the failure does not need.
fn fewer<T: Clone>(items: &mut Vec<T>, failure: &mut Failure, run: impl Fn(&[T]) -> Result<(), Failure>) {
    let mut size = items.len() / 2;
    let mut attempts = 0;
    while size > 0 && attempts < CUTS {
        let mut at = 0;
        while at < items.len() && attempts < CUTS {
            attempts += 1;
            let mut left = items.clone();
            left.drain(at..(at + size).min(items.len()));
            match run(&left) {
                Err(again) => (*failure, *items) = (again, left),
                Ok(()) => at += size,
            }
        }
        size /= 2;
    }
}

struct Failure {
    view: (Entry, RandomExpression),
    what: String,
}

/// Runs a case: all views together, then one of them alone.
fn check(number: u64) {
    let case = Case::draw(number);
    let alone = Random::new(&[seed(), number, 2]).below(case.views.len() as u64) as usize;
    for views in [&case.views[..], &case.views[alone..=alone]] {
        if let Err(failure) = case.run(&case.steps, views) {
            panic!("{}", case.cut_down(failure));
        }
    }
}

#[test]
fn live_equals_scratch() {
    if let Some(number) = variable("LIVE_CASE") {
        return check(number);
    }
    let first = variable("LIVE_FIRST").unwrap_or(0);
    let cases = variable("LIVE_CASES").unwrap_or(CASES);
    eprintln!("live_equals_scratch: seed {}, cases {first} to {cases}", seed());
    let next = AtomicU64::new(first);
    let passed = AtomicU64::new(0);
    let told = Mutex::new(Instant::now());
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(number) = Some(next.fetch_add(1, SeqCst)).filter(|number| *number < cases) {
                    check(number);
                    let passed = passed.fetch_add(1, SeqCst) + 1;
                    let mut told = told.lock().expect("no case panics while it is held");
                    if told.elapsed() >= REPORT {
                        *told = Instant::now();
                        eprintln!("live_equals_scratch: {passed} passed, case {number} the latest");
                    }
                }
            });
        }
    });
}

/// Reads the tables, so that a new entry is tested without being named here.
#[test]
fn every_entry_has_expressions_that_can_stand() {
    let options = PromqlOptions::all();
    for entry in entries::all() {
        let mut random = Random::new(&[seed()]);
        let texts: Vec<String> = (0..20).map(|_| entries::draw(&mut random, entry, &options).text).collect();
        assert!(texts.iter().all(|text| text.contains(entry.name())), "{}: {texts:?}", entry.name());
    }
    assert!(entries::all().len() >= engine::functions::table().len() + 14 + 18);
}
