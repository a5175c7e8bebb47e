//! Tests the admin API: the same requests to the real Prometheus and to our server must have the
//! same responses and leave the same samples.

use crate::support::http::{self, encode};
use crate::support::remote_write::{Series, write};
use crate::support::server::Server;
use crate::support::{eventually, now_ms, wall_clock};
use serde_json::{Value, json};

const OPEN: &[&str] = &["--web.enable-admin-api"];
const ADMIN: &str = "/api/v1/admin/tsdb";

/// Status and body, without the differences between versions.
fn told(server: &Server, method: &str, path: &str) -> (u16, String) {
    let answer = http::send(server.port, method, path, &[], b"").expect("an answer");
    // 2.42 begins this text with a capital letter, 3.14 does not.
    (answer.status, answer.text().replace("Invalid time value", "invalid time value"))
}

fn both(config: &str, flags: &[&str]) -> (Server, Server) {
    (Server::start_with(config, &[], flags), Server::prometheus_with(config, flags))
}

#[test]
fn what_is_refused_is_refused_alike() {
    let (ours, theirs) = both("", &[]);
    for what in ["delete_series?match[]=up", "clean_tombstones", "snapshot"] {
        for method in ["POST", "PUT", "GET"] {
            let path = format!("{ADMIN}/{what}").replace("[]", "%5B%5D");
            assert_eq!(told(&ours, method, &path), told(&theirs, method, &path), "{method} {path}");
        }
    }
    let (ours, theirs) = both("", OPEN);
    for query in [
        "delete_series",
        "delete_series?match[]=a{",
        "delete_series?match[]=up&start=x",
        "delete_series?match[]=up&end=x",
        "delete_series?match[]=up&start=10&end=5",
        "delete_series?match[]=up&start=2026-11-21T08:06:11Z&end=1e9",
        "delete_series?match[]=nothing&match[]=b{",
        "delete_series?match[]=nothing&match[]=nobody",
        "snapshot?skip_head=perhaps",
        "clean_tombstones",
    ] {
        let path = format!("{ADMIN}/{query}").replace("[]", "%5B%5D").replace('{', "%7B");
        assert_eq!(told(&ours, "POST", &path), told(&theirs, "POST", &path), "{path}");
    }
    assert!(!ours.file("data/snapshots").exists());
}

/// Samples of some series, one per second.
fn load(end: i64) -> Vec<Series> {
    let one = |kind: &str| {
        let samples = (0..600).map(|i| (end - (599 - i) * 1000, i as f64)).collect();
        Series::new("kept", &[("kind", kind)], samples)
    };
    ["a", "b", "c"].map(one).into_iter().collect()
}

/// All raw samples.
fn samples(server: &Server, t: i64) -> Vec<Value> {
    let data = server.query_at("kept[1h]", t);
    let mut rows = data["result"].as_array().expect("rows").clone();
    rows.sort_by_key(|row| row["metric"].to_string());
    rows
}

fn delete(server: &Server, selectors: &[&str], from: i64, to: Option<i64>) {
    let matches: Vec<String> = selectors.iter().map(|s| format!("match%5B%5D={}", encode(s))).collect();
    let end = to.map_or(String::new(), |to| format!("&end={}.5", to / 1000));
    let path = format!("{ADMIN}/delete_series?{}&start={}{end}", matches.join("&"), from / 1000);
    assert_eq!(told(server, "POST", &path), (204, String::new()));
}

#[test]
fn deletions_are_those_of_prometheus() {
    let end = now_ms() / 1000 * 1000 - 60_000;
    let (mut ours, theirs) = both("", OPEN);
    for server in [&ours, &theirs] {
        assert_eq!(write(server.port, &load(end)).expect("an answer").status / 100, 2);
        delete(server, &["kept{kind=\"a\"}"], end - 400_000, Some(end - 300_000));
        delete(server, &["kept{kind=~\"a|b\"}", "nothing"], end - 350_000, Some(end - 100_000));
        delete(server, &["{__name__=\"kept\",kind=\"c\"}"], 0, None);
        // A deletion without an end time must not delete samples that arrive later.
        let later = Series::new("kept", &[("kind", "c")], vec![(end + 5_000, 7.0)]);
        assert_eq!(write(server.port, &[later]).expect("an answer").status / 100, 2);
    }
    let want = samples(&theirs, end + 10_000);
    assert_eq!(
        want.iter().map(|row| row["values"].as_array().expect("values").len()).collect::<Vec<_>>(),
        [299, 349, 1]
    );
    assert_eq!(samples(&ours, end + 10_000), want);
    ours.kill();
    ours.run();
    assert_eq!(samples(&ours, end + 10_000), want, "over kill -9");
    assert_eq!(told(&ours, "PUT", &format!("{ADMIN}/clean_tombstones")), (204, String::new()));
    assert_eq!(samples(&ours, end + 10_000), want);
    // The series is not listed for ranges without samples, and is listed for others.
    let series = |server: &Server, from: i64, to: i64| {
        let span = format!("start={}&end={}", from / 1000, to / 1000);
        server.api(&format!("/api/v1/series?match%5B%5D={}&{span}", encode("kept{kind=\"c\"}")))
    };
    assert_eq!(series(&ours, end - 500_000, end), json!([]));
    let c = json!([{"__name__": "kept", "kind": "c"}]);
    assert_eq!(series(&ours, 0, end + 10_000), c);
    assert_eq!(series(&theirs, 0, end + 10_000), c);
}

#[test]
fn a_snapshot_is_opened_by_another_server() {
    let end = now_ms() / 1000 * 1000 - 60_000;
    let ours = Server::start_with("", &[], OPEN);
    assert_eq!(write(ours.port, &load(end)).expect("an answer").status / 100, 2);
    delete(&ours, &["kept{kind=\"b\"}"], end - 100_000, None);
    let want = samples(&ours, end);
    let name = |query: &str| {
        let made = ours.post(&format!("{ADMIN}/snapshot{query}"));
        let json = made.json();
        assert_eq!((made.status, json["status"].as_str()), (200, Some("success")), "{json}");
        json["data"]["name"].as_str().expect("a name").to_owned()
    };
    let with = name("?skip_head=false");
    let without = name("?skip_head=1");
    assert!(with.len() == 33 && with.as_bytes()[8] == b'T' && with.contains("Z-"), "{with}");
    delete(&ours, &["kept"], 0, None);
    assert_eq!(samples(&ours, end), Vec::<Value>::new());
    for (name, want) in [(with, want), (without, Vec::new())] {
        let path = ours.file(&format!("data/snapshots/{name}"));
        let flag = format!("--storage.tsdb.path={}", path.display());
        let copy = Server::start_with("", &[], &[&flag]);
        assert_eq!(samples(&copy, end), want);
    }
}

#[test]
fn what_stands_lets_go_of_what_is_deleted() {
    wall_clock(|| {
        let server = Server::start_with("", &[], &["--web.enable-admin-api"]);
        let end = now_ms() / 1000 * 1000;
        let ones = (0..60).map(|i| (end - i * 10_000, 1.0)).rev().collect();
        let sent = write(server.port, &[Series::new("spent", &[], ones)]).expect("an answer");
        assert_eq!(sent.status, 204);
        let query = "sum_over_time(spent[30m])";
        let body = format!("{{\"query\": \"{query}\"}}");
        let put = http::send(server.port, "PUT", "/api/v1/views/v", &[], body.as_bytes()).expect("an answer");
        assert_eq!(put.status, 201);
        let stands = |expected: &str| {
            eventually(&format!("the view says {expected}"), 60, || {
                let stands = server.api("/api/v1/views/v/result")["result"][0]["value"][1].clone();
                if stands == expected { Ok(()) } else { Err(stands.to_string()) }
            });
            assert_eq!(server.query(query)[0]["value"][1], expected);
        };
        stands("60");
        delete(&server, &["spent"], end - 400_000, Some(end - 101_000));
        stands("30");
        assert!(!server.get("/metrics").text().contains("perennial_rebuilds_total 0\n"));
        let late = write(server.port, &[Series::new("spent", &[], vec![(end - 200_000, 5.0)])]);
        assert_eq!(late.expect("an answer").status, 204);
        stands("35");
    });
}
