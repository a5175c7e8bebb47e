//! Tests `/api/v1/views` of a running server with a rule file: which views are maintained, queried,
//! shared, or fail.

use crate::support::exporter::Exporter;
use crate::support::server::Server;
use crate::support::{eventually, http, wall_clock};
use serde_json::{Value, json};

/// `copy` fails, because it has one series for each of two rooms. `peak` queries the store.
const RULES: &str = r#"
groups:
- name: rooms
  interval: 1s
  rules:
  - record: room:temperature:max
    expr: max by (room) (temperature_celsius)
  - alert: TooWarm
    expr: room:temperature:max > 30
  - record: room:temperature:drift
    expr: temperature_celsius - avg_over_time(temperature_celsius[1m])
    labels: {team: heating}
  - record: peak
    expr: max_over_time(sum(temperature_celsius)[10s:1s])
- name: tight
  interval: 1s
  limit: 1
  rules:
  - record: copy
    expr: temperature_celsius
"#;

fn start() -> (Server, Exporter) {
    let exporter =
        Exporter::start("temperature_celsius{room=\"attic\"} 21\ntemperature_celsius{room=\"hall\"} 18\n");
    let config = format!(
        "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\nrule_files: [rooms.yml]\n\
         scrape_configs:\n- job_name: rooms\n  static_configs: [{{targets: ['127.0.0.1:{}']}}]\n",
        exporter.port
    );
    (Server::start(&config, &[("rooms.yml", RULES)]), exporter)
}

fn list(page: &Value) -> Vec<Value> {
    page["views"].as_array().expect("a list").clone()
}

/// All views, once all rules have results.
fn settled(server: &Server) -> Value {
    server.wait_rows("room:temperature:max", 2);
    server.wait_rows("peak", 1);
    eventually("the rules have been evaluated", 30, || {
        let page = server.api("/api/v1/views");
        let evaluated = |view: &Value| view["health"] != "unknown";
        if list(&page).iter().all(evaluated) { Ok(page) } else { Err(page.to_string()) }
    })
}

fn named(page: &Value, name: &str) -> Value {
    let found: Vec<Value> = list(page).into_iter().filter(|view| view["name"] == name).collect();
    assert_eq!(found.len(), 1, "{name} in {page}");
    found[0].clone()
}

#[test]
fn views_tell_what_stands_and_what_does_not() {
    wall_clock(|| {
        let (server, _exporter) = start();
        let page = settled(&server);
        assert_eq!((list(&page).len(), &page["total"]), (5, &json!(5)), "{page}");

        let max = named(&page, "room:temperature:max");
        let plan = "aggregate max by (room)\n  select {__name__=\"temperature_celsius\"}";
        for (key, expected) in [
            ("kind", json!("recorded")),
            ("standing", json!(true)),
            ("record", json!("room:temperature:max")),
            ("interval", json!(1)),
            ("plan", json!(plan)),
            ("rows", json!(2)),
            ("taps", json!(1)),
            ("level", json!(0)),
            ("health", json!("ok")),
            ("lastError", json!("")),
        ] {
            assert_eq!(max[key], expected, "{key} of {max}");
        }
        // `copy` and the drift use the same selector; the drift reads the ring twice and counts as
        // one reader.
        assert_eq!(max["localSteps"]["shared"], json!(1), "{max}");
        let ring = &max["rings"][0];
        assert_eq!(
            (&ring["selector"], &ring["series"]),
            (&json!("{__name__=\"temperature_celsius\"}"), &json!(2))
        );
        assert_eq!(ring["readers"], json!(3), "{max}");
        assert!(ring["bytes"].as_u64().expect("a number") > 0, "{max}");

        let warm = named(&page, "TooWarm");
        // Its level is one above that of the rule that it reads.
        assert_eq!(
            (&warm["kind"], &warm["level"], &warm["rows"]),
            (&json!("continuous"), &json!(1), &json!(0))
        );
        assert_eq!(named(&page, "room:temperature:drift")["labels"], json!({"team": "heating"}));
        let copy = named(&page, "copy");
        let error = "exceeded limit of 1 with 2 series";
        assert_eq!((&copy["health"], &copy["lastError"]), (&json!("err"), &json!(error)), "{copy}");
        let peak = named(&page, "peak");
        assert_eq!(
            (&peak["standing"], &peak["rows"], &peak["health"]),
            (&json!(true), &json!(1), &json!("ok"))
        );
        assert!(peak["subqueryCache"]["steps"].as_u64().is_some_and(|steps| steps > 0), "{peak}");
    });
}

#[test]
fn one_view_and_pages_of_them() {
    wall_clock(|| {
        let (server, _exporter) = start();
        let page = settled(&server);
        let max = named(&page, "room:temperature:max");
        let id = max["id"].as_str().expect("an id");
        let again = server.api(&format!("/api/v1/views/{id}"));
        assert_eq!((&again["name"], &again["plan"]), (&max["name"], &max["plan"]));

        let mut from = "0".to_owned();
        let mut ids = Vec::new();
        loop {
            let part = server.api(&format!("/api/v1/views?limit=2&from={from}"));
            ids.extend(list(&part).iter().map(|view| view["id"].clone()));
            let Some(next) = part["next"].as_str() else { break };
            from = next.to_owned();
        }
        assert_eq!(ids, list(&page).iter().map(|view| view["id"].clone()).collect::<Vec<_>>());

        let missing = server.get("/api/v1/views/4711");
        assert_eq!((missing.status, &missing.json()["errorType"]), (404, &json!("not_found")));

        // A subscription is a view with a tap; its name is its query text.
        let _stream =
            http::stream(server.port, "/api/v1/subscribe?query=sum(temperature_celsius)&format=ndjson", &[]);
        eventually("the subscription is a view", 20, || {
            let page = server.api("/api/v1/views");
            let found = list(&page).into_iter().find(|view| view["name"] == "sum(temperature_celsius)");
            match found {
                Some(view) if view["taps"] == 1 && view["rows"] == 1 => Ok(()),
                other => Err(format!("{other:?}")),
            }
        });
    });
}

#[test]
fn nothing_stands_and_the_list_is_empty() {
    wall_clock(|| {
        let server = Server::start("global: {scrape_interval: 1s}\n", &[]);
        assert_eq!(server.api("/api/v1/views"), json!({"views": [], "total": 0}));
    });
}
