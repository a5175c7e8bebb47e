//! Generates the events of a server: scrapes, late and single samples, ticks, restarts, rules that
//! are installed and removed.

use crate::random::Random;

/// The series of each metric of a target.
pub const SERIES: usize = 4;
/// The most targets.
pub const TARGETS: usize = 3;
/// The columns of a scrape: a counter, a gauge, the buckets of a histogram, and an info metric in
/// two versions.
pub const COLUMNS: usize = SERIES * 3 + 2;

/// What makes the next histogram of a series of the one before.
#[derive(Copy, Clone, Debug)]
pub struct HistogramRecipe {
    /// By how much a count grows.
    pub by: u8,
    /// Which count grows.
    pub at: u8,
    /// Whether it begins anew, and which kind it has.
    pub shape: u8,
}

/// One event.
#[derive(Clone, Debug)]
pub enum Step {
    /// A scrape of a target: value choices per column.
    Scrape { target: usize, values: Vec<u8> },
    /// A single sample that arrives this many ms late.
    Alone { target: usize, series: usize, late: i64, value: u8 },
    /// A single histogram (series below 3), or a sample of either kind (series 3), that arrives
    /// this many ms late.
    Histogram { target: usize, series: usize, late: i64, recipe: HistogramRecipe },
    /// The last single sample arrives again.
    Again,
    /// The start timestamp of a target's latest scrape, this many ms before it.
    Start { target: usize, series: usize, before: i64 },
    /// Time passes, then a tick runs. It waits for views that are being installed, or leaves them
    /// to a later tick.
    Tick { after: i64, wait: bool },
    /// Store and runtime are closed, reopened from the data directory and started.
    Restart,
    /// Some views are removed and others of the same entries are installed; `seed` determines
    /// which.
    Change { seed: u64 },
    /// The live state is rebuilt at the next tick, as after much churn.
    Rebuild,
}

/// Distances of times, ms. On a coarse grid, samples are exactly at the edges of windows.
const GRIDS: &[i64] = &[1, 5_000, 15_000];

/// A random history with about `ticks` ticks.
pub fn draw(random: &mut Random, ticks: usize) -> Vec<Step> {
    let targets = 1 + random.below(TARGETS as u64) as usize;
    let grid = random.pick(GRIDS);
    let mut left = ticks;
    let mut steps = Vec::new();
    while left > 0 {
        let step = step(random, targets, grid);
        if let Step::Tick { after, wait } = step {
            left -= 1;
            if grid > 1 && random.chance(10) {
                // One tick just before the edges.
                steps.extend([Step::Tick { after: after - 1, wait }, Step::Tick { after: 1, wait }]);
                continue;
            }
        }
        steps.push(step);
    }
    // At the end, all views are installed.
    steps.push(Step::Tick { after: 1, wait: true });
    steps
}

fn step(random: &mut Random, targets: usize, grid: i64) -> Step {
    let target = random.below(targets as u64) as usize;
    let series = random.below(SERIES as u64) as usize;
    let byte = |random: &mut Random| random.below(256) as u8;
    let late = random.below(90_000) as i64 / grid * grid;
    match random.weighted([24, 6, 18, 3, 6, 24, 3, 1, 2, 1]) {
        0 => Step::Scrape { target, values: (0..COLUMNS).map(|_| byte(random)).collect() },
        1 => Step::Alone { target, series, late, value: byte(random) },
        2 => {
            let late = if random.chance(75) { 0 } else { late };
            let recipe = HistogramRecipe { by: byte(random), at: byte(random), shape: byte(random) };
            Step::Histogram { target, series, late, recipe }
        }
        3 => Step::Again,
        4 => Step::Start {
            target,
            series: random.below(COLUMNS as u64) as usize,
            before: random.below(60_000) as i64,
        },
        5 => Step::Tick { after: random.between(1, 40_000 / grid) * grid, wait: random.chance(50) },
        6 => Step::Tick {
            after: random.between(250_000 / grid, 400_000 / grid) * grid,
            wait: random.chance(50),
        },
        7 => Step::Restart,
        8 => Step::Change { seed: random.next() },
        _ => Step::Rebuild,
    }
}
