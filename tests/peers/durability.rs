//! kill -9 in the middle of the work: what was acknowledged is there after the restart, once.

use crate::support::exporter::Exporter;
use crate::support::now_ms;
use crate::support::remote_write::{Series, write};
use crate::support::server::Server;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread::JoinHandle;
use std::time::Duration;

const SERIES: usize = 20;

/// Sample `i` of series `s`: a value that tells which sample it is.
fn value(s: usize, i: i64) -> f64 {
    s as f64 * 1e6 + i as f64 + 0.5
}

fn request(start: i64, i: i64) -> Vec<Series> {
    let one = |s: usize| {
        Series::new("written", &[("number", &s.to_string())], vec![(start + i * 100, value(s, i))])
    };
    (0..SERIES).map(one).collect()
}

/// Writes requests `from..` until the server dies; returns how many were acknowledged.
fn write_until_killed(port: u16, start: i64, from: i64, stop: &'static AtomicBool) -> JoinHandle<i64> {
    std::thread::spawn(move || {
        let mut next = from;
        while !stop.load(SeqCst) {
            match write(port, &request(start, next)) {
                Ok(answer) if answer.status / 100 == 2 => next += 1,
                Ok(answer) => panic!("refused: {} {}", answer.status, answer.text()),
                Err(_) => break,
            }
        }
        next
    })
}

/// All points of a range selector by label set.
fn points(server: &Server, query: &str) -> BTreeMap<String, Vec<(i64, String)>> {
    let data = server.query_at(query, now_ms() + 1000);
    let rows = data["result"].as_array().expect("rows");
    let point = |p: &Value| {
        let t = (p[0].as_f64().expect("a time") * 1000.0).round() as i64;
        (t, p[1].as_str().expect("a value").to_string())
    };
    let list = |row: &Value| row["values"].as_array().expect("points").iter().map(point).collect();
    rows.iter().map(|row| (row["metric"].to_string(), list(row))).collect()
}

fn check_written(server: &Server, start: i64, acknowledged: i64) {
    for s in 0..SERIES {
        let all = points(server, &format!("written{{number=\"{s}\"}}[1h]"));
        let found = all.values().next().unwrap_or_else(|| panic!("series {s} is gone"));
        let extra = found.len() as i64 - acknowledged;
        assert!((0..=1).contains(&extra), "series {s}: {} samples, {acknowledged} acknowledged", found.len());
        for (i, (t, v)) in found.iter().enumerate() {
            let i = i as i64;
            assert_eq!((*t, v.parse()), (start + i * 100, Ok(value(s, i))), "series {s}, sample {i}");
        }
    }
}

#[test]
fn acknowledged_writes_survive_kill_9() {
    static STOP: AtomicBool = AtomicBool::new(false);
    let mut server = Server::start("", &[]);
    let start = (now_ms() - 3_000_000) / 100 * 100;
    let mut acknowledged = 0;
    for round in 0..3 {
        let before = acknowledged;
        let writer = write_until_killed(server.port, start, acknowledged, &STOP);
        std::thread::sleep(Duration::from_millis(700 + 300 * round));
        server.kill();
        acknowledged = writer.join().expect("the writer");
        assert!(acknowledged > before, "round {round}: nothing was written");
        server.run();
        check_written(&server, start, acknowledged);
        // The request in flight is sent again, as a client does: refused as a duplicate or not, it counts once.
        let again = write(server.port, &request(start, acknowledged)).expect("an answer");
        assert!(again.status / 100 == 2 || again.status == 400, "{} {}", again.status, again.text());
        acknowledged += 1;
        check_written(&server, start, acknowledged);
    }
    STOP.store(true, SeqCst);
}

#[test]
fn scraped_samples_survive_kill_9() {
    let body: String = (0..200).map(|n| format!("scraped{{n=\"{n}\"}} {}\n", n * 3)).collect();
    let exporter = Exporter::start(&body);
    let config = format!(
        "global: {{scrape_interval: 200ms, scrape_timeout: 200ms}}\nscrape_configs:\n- job_name: x\n  \
         static_configs: [{{targets: ['127.0.0.1:{}']}}]\n",
        exporter.port
    );
    let mut server = Server::start(&config, &[]);
    for round in 0..2 {
        server.wait_rows("count_over_time(scraped[1h]) > 5", 200);
        std::thread::sleep(Duration::from_millis(600));
        let before = points(&server, "scraped[1h]");
        // The log has one order: what was visible before an acknowledged write is in it before that write.
        let answer = write(server.port, &request(now_ms() - 60_000, round)).expect("an answer");
        assert_eq!(answer.status / 100, 2, "{}", answer.text());
        server.kill();
        server.run();
        let after = points(&server, "scraped[1h]");
        assert_eq!(after.len(), before.len());
        for (labels, samples) in &before {
            let kept = &after[labels];
            assert_eq!(kept[..samples.len()], samples[..], "{labels}");
            assert!(kept.windows(2).all(|w| w[0].0 < w[1].0), "{labels}: a time twice in {kept:?}");
        }
    }
}
