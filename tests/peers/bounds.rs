//! Tests how many files one request or an old data directory can cause, and that the health of the
//! server reflects the data directory.

use crate::support::daemon::{Daemon, free_port, program};
use crate::support::exporter::Exporter;
use crate::support::remote_write::{Series, write};
use crate::support::server::{Server, binary_under_test};
use crate::support::{eventually, http, now_ms};
use std::path::Path;
use std::time::Instant;
use storage::block::{BlockSeries, BlockSpec, reserved_names, write_block_replacing};
use storage::disk::OsDisk;
use storage::model::Labels;

const RANGE: i64 = 7_200_000;
/// The number of series of a request: each has a sample in its own two hours.
const SERIES: i64 = 3_000;
/// The number of blocks of an older version: one for each two hours.
const BLOCKS: i64 = 300;
/// The default soft limit of open files on most systems.
const FILES: u32 = 1_024;

fn old_blocks(data: &Path, end: i64) {
    let blocks = data.join("blocks");
    std::fs::create_dir_all(&blocks).expect("a directory");
    for i in 0..BLOCKS {
        let from = (end.div_euclid(RANGE) - BLOCKS + i) * RANGE;
        let labels = Labels::from_pairs([("__name__", "left")]);
        let one = BlockSeries { labels, ts: vec![from + RANGE / 2], vs: vec![1.0], ..BlockSeries::default() };
        let none = reserved_names(std::iter::empty(), &[]);
        let origin = BlockSpec { from, to: from + RANGE, replaces: Vec::new(), reserved: &none };
        write_block_replacing(&OsDisk, &blocks, origin, std::iter::once(Ok(one))).expect("a block");
    }
}

fn series(name: &str, i: i64, t: i64) -> Series {
    Series::new(name, &[("i", &i.to_string())], vec![(t, 1.0)])
}

/// The sum of all samples of a metric.
fn sum(server: &Server, name: &str, days: i64) -> f64 {
    let rows = server.query(&format!("sum(sum_over_time({name}[{days}d]))"));
    rows.first().map_or(0.0, |row| row["value"][1].as_str().expect("text").parse().expect("a number"))
}

fn count_files(dir: &Path) -> usize {
    let entries = std::fs::read_dir(dir).into_iter().flatten().filter_map(Result::ok);
    entries.map(|entry| if entry.path().is_dir() { count_files(&entry.path()) } else { 1 }).sum()
}

/// Distributions set a soft limit of 1,024 and allow more.
#[test]
fn the_soft_limit_of_open_files_is_raised() {
    let dir = tempfile::tempdir().expect("a directory");
    let port = free_port();
    let config = dir.path().join("server.yml");
    std::fs::write(&config, "global: {}\n").expect("written");
    let arguments = [
        "--nofile=200:".to_owned(),
        binary_under_test().display().to_string(),
        format!("--config.file={}", config.display()),
        format!("--storage.tsdb.path={}", dir.path().join("data").display()),
        format!("--web.listen-address=127.0.0.1:{port}"),
    ];
    let mut server = Daemon::start(&program("prlimit", "util-linux"), &arguments, dir.path());
    server.wait_ready(port, "/-/ready");
    let metrics = http::get(port, "/metrics").expect("an answer").text();
    let limit = metrics.lines().find_map(|line| line.strip_prefix("process_max_fds "));
    let limit: f64 = limit.expect("the metric").parse().expect("a number");
    assert!(limit > 200.0, "{limit} files");
}

#[test]
fn thousands_of_hours_in_one_request_leave_the_server_reachable() {
    let mut server = Server::prepare_together(
        "global: {}\n",
        &[],
        &[vec!["--storage.tsdb.retention.time=10y".to_owned()]],
    )
    .remove(0);
    let now = now_ms();
    let data = server.file("data");
    old_blocks(&data, now - 30 * 86_400_000);
    server.limit_files(FILES);
    server.run();
    assert_eq!(sum(&server, "left", 100), BLOCKS as f64, "all that was there is read");
    assert!(server.open_files() < FILES as usize / 2, "{} files are open", server.open_files());
    // The head is empty: its first sample sets the bounds, and the following samples are later.
    let all: Vec<Series> = (0..SERIES).map(|i| series("apart", i, now - (SERIES - i) * RANGE)).collect();
    let answer = write(server.port, &all).expect("an answer");
    assert_eq!(answer.status, 204, "{}", answer.text());
    let again: Vec<Series> = (0..SERIES).map(|i| series("again", i, now - (SERIES - i) * RANGE)).collect();
    let answer = write(server.port, &again).expect("an answer");
    assert_eq!(answer.status, 400, "now the head has bounds");
    assert!(answer.text().starts_with("too old sample for series {__name__=\"again\""), "{}", answer.text());
    for t in [i64::MIN, -1, 0, now / 1000] {
        let answer =
            write(server.port, &[series("wrong", t, t), series("right", t, now)]).expect("an answer");
        assert_eq!(answer.status, 400);
        assert!(answer.text().contains("out of bounds"), "{}", answer.text());
    }
    assert_eq!(sum(&server, "right", 1), 4.0, "what is good is kept");
    assert_eq!((sum(&server, "wrong", 36_500), sum(&server, "apart", 300)), (0.0, SERIES as f64));
    server.kill();
    server.run();
    eventually("blocks are written and merged", 150, || {
        let files = count_files(&data.join("blocks"));
        if files < 40 * 12 { Ok(()) } else { Err(format!("{files} files")) }
    });
    let began = Instant::now();
    assert_eq!((sum(&server, "apart", 300), sum(&server, "left", 100)), (SERIES as f64, BLOCKS as f64));
    assert!(began.elapsed().as_secs() < 30, "{:?}", began.elapsed());
    assert!(server.open_files() < FILES as usize / 2, "{} files are open", server.open_files());
    server.kill();
    server.run();
    assert_eq!((sum(&server, "apart", 300), sum(&server, "left", 100)), (SERIES as f64, BLOCKS as f64));
}

#[test]
fn a_target_with_thousands_of_hours_makes_no_blocks() {
    let now = now_ms();
    let lines = (0..SERIES).map(|i| format!("apart{{i=\"{i}\"}} 1 {}\n", now - (i + 1) * RANGE));
    let exporter = Exporter::start(&lines.chain(["good 1\n".to_owned()]).collect::<String>());
    let config = format!(
        "global: {{scrape_interval: 1s, scrape_timeout: 1s}}\nscrape_configs:\n- job_name: x\n  \
         static_configs: [{{targets: ['127.0.0.1:{}']}}]\n",
        exporter.port
    );
    let server = Server::start(&config, &[]);
    server.wait_rows("good", 1);
    server.wait_health(&[("x", "up")]);
    assert_eq!(sum(&server, "apart", 300), 0.0);
    let metrics = server.get("/metrics").text();
    let line =
        metrics.lines().find(|l| l.starts_with("prometheus_target_scrapes_sample_out_of_bounds_total "));
    let dropped: f64 =
        line.expect("the counter").rsplit(' ').next().expect("a value").parse().expect("a number");
    assert!(dropped >= SERIES as f64 && dropped % SERIES as f64 == 0.0, "{dropped}");
    let warning = "Error on ingesting samples that are too old or are too far into the future";
    let log = server.log();
    let line = log.lines().find(|line| line.contains(warning)).unwrap_or_else(|| panic!("{log}"));
    assert!(line.contains("num_dropped=3000"), "{line}");
}

#[test]
fn health_is_that_of_the_data_directory() {
    let server = Server::start("global: {}\n", &[]);
    let says = |path: &str, status: u16, text: &str| {
        eventually(path, 20, || {
            let answer = server.get(path);
            let fits = answer.status == status && answer.text().contains(text);
            if fits { Ok(()) } else { Err(format!("{} {}", answer.status, answer.text())) }
        });
    };
    let data = server.file("data");
    let away = server.file("away");
    says("/-/healthy", 200, "Healthy");
    std::fs::rename(&data, &away).expect("renamed");
    says("/-/healthy", 503, "is gone");
    says("/-/ready", 503, "the data directory");
    std::fs::create_dir(&data).expect("another directory");
    says("/-/healthy", 503, "is another one than at the start");
    // The server may create files in the other directory, or create the directory again, so it is
    // moved away until the first one is back.
    eventually("the first directory", 20, || {
        let other = server.file("other");
        let _ = std::fs::remove_dir_all(&other);
        let moved = std::fs::rename(&data, &other);
        std::fs::rename(&away, &data).map_err(|e| format!("{e}, {moved:?}"))
    });
    says("/-/healthy", 200, "Healthy");
    says("/-/ready", 200, "Ready");
    let lock = data.join("lock");
    std::fs::rename(&lock, data.join("lock.away")).expect("renamed");
    std::fs::write(&lock, "1\n").expect("another lock file");
    says("/-/healthy", 503, "is another one than at the start");
    let log = server.log();
    let count = |text: &str| log.lines().filter(|line| line.contains(text)).count();
    assert_eq!((count("the server is not healthy"), count("the server is healthy again")), (2, 1), "{log}");
}
