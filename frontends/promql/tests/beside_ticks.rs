//! Installing, changing and removing views disturbs no tick: the other views miss no evaluation
//! time and answer correctly, ended series are removed, and the clock may jump. Here a tick does
//! not wait for views that are still being installed.

mod bench;

use bench::{Bench, START, assert_same, only, same};
use engine::live::LiveOptions;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, Instant};
use storage::clock::{Clock, ManualClock};

const PATIENCE: Duration = Duration::from_secs(60);

/// Four threads append samples all the time. Rules of three groups record one counter. Whenever two
/// of them are recorded at one time they are equal, and so are rules computed from them.
#[test]
fn ratios_of_rules_in_different_groups_are_one_under_load() {
    for workers in [1, 2, 4] {
        let bench = Arc::new(Bench::new(workers));
        let groups = [("a", 1_000), ("b", 1_000), ("c", 2_000), ("d", 3_000)];
        bench.live.hold();
        for (name, interval) in groups {
            bench.record(&format!("{name}:c"), "sum by (job) (c_total)", interval);
            bench.record(&format!("{name}:r"), "sum by (job) (rate(c_total[10s]))", interval);
        }
        for (name, interval) in [("b", 1_000), ("c", 2_000), ("d", 3_000)] {
            bench.record(&format!("ratio:c:{name}"), &format!("a:c / {name}:c"), interval);
            bench.record(&format!("ratio:r:{name}"), &format!("a:r / {name}:r"), interval);
        }
        let seen = bench.watch("a:c / b:c");
        bench.live.release();
        let stop = Arc::new(AtomicBool::new(false));
        let writers: Vec<_> = (0..4).map(|writer| write_on(bench.clone(), writer, stop.clone())).collect();
        for tick in 1..=36 {
            let t = START + tick * 1_000;
            bench.clock.set(t);
            std::thread::sleep(Duration::from_millis(3));
            bench.tick_as_is(t);
            for ratio in seen.rows().values() {
                assert_eq!(*ratio, 1.0, "watched at {tick} with {workers} workers");
            }
            for (name, interval) in [("b", 1), ("c", 2), ("d", 3)] {
                if tick % interval == 0 {
                    ones(&bench, &format!("ratio:c:{name}"), t);
                    ones(&bench, &format!("ratio:r:{name}"), t);
                }
            }
        }
        stop.store(true, SeqCst);
        let written: usize = writers.into_iter().map(|writer| writer.join().unwrap()).sum();
        let recorded = bench.ask("count_over_time(ratio:c:b[1h])", START + 36_000);
        assert!(written > 100 && recorded.values().any(|n| *n >= 20.0), "{written} {recorded:?}");
        bench.live.stop();
    }
}

fn ones(bench: &Bench, expr: &str, t: i64) {
    for (labels, ratio) in bench.ask(expr, t) {
        assert!(ratio == 1.0 || ratio.is_nan(), "{expr}{labels} is {ratio} at {}", t - START);
    }
}

/// Appends to counters of its own until `stop`; returns how often.
fn write_on(bench: Arc<Bench>, writer: usize, stop: Arc<AtomicBool>) -> std::thread::JoinHandle<usize> {
    std::thread::spawn(move || {
        let mut written = 0;
        while !stop.load(SeqCst) {
            let t = bench.clock.now() + (written % 900) as i64;
            for target in 0..4 {
                bench.sample(&format!("w{writer}t{target}"), t, (written * 7 + target + 1) as f64);
            }
            written += 1;
            std::thread::sleep(Duration::from_micros(300));
        }
        written
    })
}

/// While ticks run every second, a thousand rules are installed, changed and removed. The other
/// rules miss no evaluation time, and all answers are correct.
#[test]
fn a_thousand_rules_come_and_go_and_nobody_misses_a_slot() {
    const STANDING: usize = 20;
    const RULES: usize = 1_000;
    let bench = Bench::new(2);
    let expr = |i: usize, add: usize| {
        let window = 5 + i % 50;
        format!("sum by (instance) (increase(c_total{{instance=~\"h[0-{}]\"}}[{window}s])) + {add}", i % 8)
    };
    for i in 0..STANDING {
        bench.record(&format!("standing:{i}"), &expr(i, 0), 1_000);
    }
    let mut tick = 0;
    let mut next = |bench: &Bench| {
        tick += 1;
        let t = START + tick * 1_000;
        for i in 0..8 {
            bench.sample(&format!("h{i}"), t - 500 + i, (tick * 10 + i) as f64);
        }
        bench.tick_as_is(t);
        for i in (0..STANDING).filter(|i| tick > 3 && (i + tick as usize).is_multiple_of(5)) {
            let what = format!("standing rule {i} at {tick}");
            assert_same(&bench.recorded(&format!("standing:{i}"), t), &bench.ask(&expr(i, 0), t), &what);
        }
        t
    };
    bench.live.tick(START);
    for _ in 0..5 {
        next(&bench);
    }
    bench.live.hold();
    let rules: Vec<_> = (0..RULES).map(|i| bench.record(&format!("new:{i}"), &expr(i, i), 1_000)).collect();
    bench.live.release();
    let until = |bench: &Bench, next: &mut dyn FnMut(&Bench) -> i64, done: &dyn Fn(i64) -> bool| {
        let began = Instant::now();
        loop {
            let t = next(bench);
            if done(t) {
                return t;
            }
            assert!(began.elapsed() < PATIENCE, "it never happened");
            std::thread::sleep(Duration::from_millis(2));
        }
    };
    let t = until(&bench, &mut next, &|t| !bench.recorded("new:7", t).is_empty());
    for i in (0..RULES).step_by(37) {
        let began = bench.recorded(&format!("new:{i}"), t);
        assert_same(&began, &bench.ask(&expr(i, i), t), &format!("rule {i} when it began"));
    }
    bench.live.hold();
    for (i, id) in rules.iter().enumerate() {
        bench.change(*id, &format!("new:{i}"), &expr(i + 1, i + 5_000), 1_000);
    }
    bench.live.release();
    let changed = |t: i64| same(&bench.recorded("new:7", t), &bench.ask(&expr(8, 5_007), t));
    let t = until(&bench, &mut next, &|t| {
        assert!(!bench.recorded("new:7", t).is_empty(), "a rule that changes misses no slot");
        changed(t)
    });
    for i in (0..RULES).step_by(37) {
        let now = bench.recorded(&format!("new:{i}"), t);
        assert_same(&now, &bench.ask(&expr(i + 1, i + 5_000), t), &format!("rule {i} after it changed"));
    }
    for id in rules.iter() {
        bench.live.remove(*id);
    }
    until(&bench, &mut next, &|t| bench.recorded("new:999", t).is_empty());
    for _ in 0..3 {
        next(&bench);
    }
    let t = next(&bench);
    for i in 0..STANDING {
        let slots = bench.ask(&format!("count_over_time(standing:{i}{{instance=\"h0\"}}[1h])"), t);
        assert_eq!(only(&slots), (tick - 1) as f64, "slots of rule {i}: the first has one sample only");
    }
    bench.live.stop();
}

/// Ten generations of series start and end. Ended series are removed without a pause, and answers
/// stay correct.
#[test]
fn ended_series_go_beside_the_ticks() {
    const SERIES: usize = 3_000;
    let bench = Bench::new(2);
    let exprs = [
        "sum(rate(c_total[1m]))",
        "count(count_over_time(c_total[1m]))",
        "max_over_time(c_total{pod=~\".*77\"}[1m])",
        "sum by (generation) (last_over_time(c_total[45s]))",
    ];
    bench.record("total", exprs[0], 30_000);
    let watched: Vec<_> = exprs.iter().map(|expr| bench.watch(expr)).collect();
    bench.live.tick(START);
    let mut t = START - START % 30_000;
    let mut most = 0;
    for generation in 0..10 {
        let target = bench.target(generation, SERIES);
        for round in 0..4 {
            t += 30_000;
            bench.scrape(&target, t, round as f64);
            bench.tick_as_is(t);
            std::thread::sleep(Duration::from_millis(10));
            for (expr, seen) in exprs.iter().zip(&watched) {
                assert_same(&seen.rows(), &bench.ask(expr, t), &format!("{expr} in generation {generation}"));
            }
            if round == 3 {
                most = most.max(bench.rows(t + 1));
            }
        }
    }
    let rebuilds = bench.metrics.counter("perennial_rebuilds_total", "", &[]).get();
    assert!(rebuilds > 0, "nothing was let go of");
    assert!(most < 7 * SERIES, "{most} rows were kept");
    let slots = bench.ask("count_over_time(total[1h])", t);
    // At the first scrape of a generation no series has two samples.
    assert_eq!(only(&slots), 30.0, "a recorded series goes on over all that");
    bench.live.stop();
}

/// `count_values` has a row for each value that occurred. Those rows are removed too, although no
/// series has ended.
#[test]
fn values_that_are_gone_are_let_go_of() {
    const SERIES: usize = 2_000;
    for workers in [1, 2] {
        let bench = Bench::new(workers);
        let expr = "count_values(\"v\", c_total)";
        bench.record("counted", expr, 30_000);
        let seen = bench.watch(expr);
        let above = bench.watch("count(count_values(\"v\", c_total) == 1)");
        bench.live.tick(START);
        let mut t = START - START % 30_000;
        let target = bench.target(0, SERIES);
        let mut most = 0;
        for round in 0..30 {
            t += 30_000;
            bench.scrape_each(&target, t, |i| (round * SERIES + i) as f64);
            bench.tick_as_is(t);
            std::thread::sleep(Duration::from_millis(10));
            assert_same(&seen.rows(), &bench.ask(expr, t), &format!("round {round}"));
            assert_eq!(only(&above.rows()), SERIES as f64);
            let bytes = bench.work(t + 1).iter().map(|work| work.state.total).max().unwrap();
            most = most.max(bytes);
        }
        // All 60,000 rows would take 9.5 MB.
        assert!(most < 4_000_000, "{most} bytes were kept");
        assert_eq!(only(&bench.ask("count(counted)", t)), SERIES as f64, "each value at its slot");
        bench.live.stop();
    }
}

/// The clock jumps back by minutes: ticks continue in the new time, with the answers for that time.
#[test]
fn ticks_go_on_when_the_clock_jumps_back() {
    let bench = Bench::driven(Arc::new(ManualClock::at(START)), LiveOptions::default());
    let seen = bench.watch("sum(c_total)");
    let windows = bench.watch("sum(count_over_time(c_total[5m]))");
    for k in 0..20 {
        bench.sample("h", START - 600_000 + k * 30_000, k as f64);
    }
    bench.wait(|| seen.time() >= START && only(&seen.rows()) == 19.0);
    for now in [START - 300_000, START - 299_000, START - 400] {
        bench.clock.set(now);
        bench.sample("other", now, 1.0);
        let of_that_time = |t: i64| t >= now && t <= now + 200_000;
        bench.wait(|| of_that_time(seen.time()) && bench.ask("sum(c_total)", seen.time()) == seen.rows());
        // Samples that the rings had dropped were read again.
        let all = "sum(count_over_time(c_total[5m]))";
        bench.wait(|| of_that_time(windows.time()) && bench.ask(all, windows.time()) == windows.rows());
    }
    bench.live.stop();
}

/// A rule changes its interval while it is installed: it misses no evaluation time of the old
/// interval before, and none of the new one after.
#[test]
fn a_rule_changes_its_interval() {
    let bench = Bench::new(2);
    let rule = bench.record("kept", "sum(c_total)", 2_000);
    bench.sample("h", START, 1.0);
    for k in 0..=3 {
        bench.live.tick(START + k * 1_000);
    }
    assert_eq!(bench.live.schedules(), [(2_000, 0)]);
    bench.change(rule, "kept", "sum(c_total) + 1", 1_000);
    assert_eq!(bench.live.schedules(), [(1_000, 0), (2_000, 0)]);
    for k in 4..=7 {
        bench.live.tick(START + k * 1_000);
    }
    assert_eq!(bench.live.schedules(), [(1_000, 0)]);
    assert_eq!(only(&bench.ask("count_over_time(kept[1h])", START + 7_000)), 6.0);
    assert_eq!(only(&bench.ask("kept", START + 7_000)), 2.0);
    bench.live.stop();
}
