//! Runs the cases of Prometheus' alert generator compliance test in compressed time.
//!
//! Three servers scrape the same targets with the same rules: Debian's Prometheus, our server with
//! continuous evaluation, and our server with `evaluation: interval`. Alertmanager must get the
//! same alerts from all.
//!
//! The cases are in `tests/data/alert_cases.json`. A series is written as `1x4 20x6 _x3`: a value
//! (`_`: none) and its number of seconds.

use crate::support::exporter::Exporter;
use crate::support::receiver::{ReceivedAlert, Receiver};
use crate::support::server::Server;
use crate::support::{data, eventually, now_ms, wall_clock};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;

/// The resend delay of all servers; the end time of a firing alert is four times as far in the
/// future.
const RESEND: i64 = 3_000;

/// The interval at which the series `ALERTS` is read, ms: all states last longer, down to the 300
/// ms of the smallest `for`.
const STEP: i64 = 100;

fn cases() -> Vec<Value> {
    serde_json::from_str(&data("alert_cases.json")).expect("JSON")
}

fn text(value: &Value) -> &str {
    value.as_str().expect("a text")
}

/// The value of a series in each second; `None`: no sample.
fn seconds(script: &str) -> Vec<Option<&str>> {
    script
        .split(' ')
        .flat_map(|piece| {
            let (value, times) = piece.split_once('x').expect("value x seconds");
            let value = (value != "_").then_some(value);
            std::iter::repeat_n(value, times.parse().expect("seconds"))
        })
        .collect()
}

/// The body of the exporter in each second.
fn bodies(cases: &[Value]) -> Vec<String> {
    let mut bodies: Vec<String> = Vec::new();
    for (series, script) in cases.iter().flat_map(|case| case["series"].as_object().expect("series")) {
        for (second, value) in seconds(text(script)).into_iter().enumerate() {
            bodies.resize(bodies.len().max(second + 1), String::new());
            if let Some(value) = value {
                bodies[second].push_str(&format!("{series} {value}\n"));
            }
        }
    }
    bodies
}

/// The rule file; JSON is valid YAML.
fn rules(cases: &[Value], extra: Value) -> String {
    let group = |case: &Value| {
        let mut group = json!({"name": case["case"], "interval": "1s", "rules": case["rules"]});
        let own = group.as_object_mut().expect("an object");
        own.extend(extra.as_object().expect("an object").clone());
        group
    };
    json!({"groups": cases.iter().map(group).collect::<Vec<_>>()}).to_string()
}

/// The sequence of states of each alert, by its labels.
type States = BTreeMap<String, Vec<String>>;

struct Subject {
    name: &'static str,
    server: Server,
    receiver: Receiver,
    /// The states of each rule in `/api/v1/rules`, without repetitions.
    states: BTreeMap<String, Vec<String>>,
}

impl Subject {
    fn start(name: &'static str, exporter: &Exporter, rules: &str) -> Subject {
        let receiver = Receiver::start();
        let config = format!(
            "global: {{scrape_interval: 500ms, scrape_timeout: 500ms, evaluation_interval: 1s}}\nrule_files: [cases.yml]\n\
             alerting: {{alertmanagers: [{{static_configs: [{{targets: ['127.0.0.1:{}']}}]}}]}}\n\
             scrape_configs:\n- job_name: x\n  static_configs: [{{targets: ['127.0.0.1:{}']}}]\n  \
             metric_relabel_configs: [{{regex: 'job|instance', action: labeldrop}}]\n",
            receiver.port, exporter.port
        );
        let flags = [&*format!("--rules.alert.resend-delay={RESEND}ms")];
        let files = [("cases.yml", rules)];
        let server = match name {
            "prometheus" => Server::prometheus_files(&config, &files, &flags),
            _ => Server::start_with(&config, &files, &flags),
        };
        Subject { name, server, receiver, states: BTreeMap::new() }
    }

    /// Waits until the server scrapes the target and has discovered the Alertmanagers, which takes
    /// Prometheus a few seconds.
    fn wait_ready(&self) {
        self.server.wait_rows("case_rises", 1);
        eventually(&format!("{} knows its Alertmanager", self.name), 60, || {
            let known =
                self.server.api("/api/v1/alertmanagers")["activeAlertmanagers"].as_array().map(Vec::len);
            if known == Some(1) { Ok(()) } else { Err(format!("{known:?}")) }
        });
    }

    fn watch(&mut self) {
        let groups = self.server.api("/api/v1/rules");
        for rule in groups["groups"]
            .as_array()
            .expect("groups")
            .iter()
            .flat_map(|g| g["rules"].as_array().expect("rules"))
        {
            let Some(state) = rule["state"].as_str() else { continue };
            let states = self.states.entry(text(&rule["name"]).to_owned()).or_default();
            if states.last().is_none_or(|last| last != state) {
                states.push(state.to_owned());
            }
        }
    }

    /// The alerts of a case that were received, without repetitions, those of one moment in the
    /// order of their labels. `values` of a case: changes of annotations alone count.
    fn told(&self, case: &Value) -> Vec<String> {
        let values = case["values"] == true;
        let names: Vec<&str> =
            case["rules"].as_array().expect("rules").iter().filter_map(|r| r["alert"].as_str()).collect();
        let mut last: BTreeMap<String, String> = BTreeMap::new();
        let mut told: Vec<(i64, String)> = Vec::new();
        for heard in self.receiver.heard().iter().filter(|h| names.contains(&h.label("alertname"))) {
            let (who, line) = describe(heard);
            let same = if values {
                line.clone()
            } else {
                format!("{}{}", heard.is_resolved(), heard.time("startsAt"))
            };
            if last.insert(who, same.clone()).is_none_or(|before| before != same) {
                told.push((heard.at, line));
            }
        }
        // Two alerts of one evaluation have no defined order.
        let mut from = 0;
        while from < told.len() {
            let near = told[from..].iter().take_while(|(at, _)| at - told[from].0 < 700).count();
            told[from..from + near].sort_by(|a, b| a.1.cmp(&b.1));
            from += near;
        }
        told.into_iter().map(|(_, line)| line).collect()
    }

    /// The states in the series `ALERTS`, by alert.
    fn series(&self, from: i64, to: i64) -> States {
        let rows =
            self.server.query_range("ALERTS", from, to, STEP)["result"].as_array().expect("rows").clone();
        let mut points: BTreeMap<String, Vec<(i64, String)>> = BTreeMap::new();
        for row in rows {
            let mut labels = row["metric"].as_object().expect("labels").clone();
            let state = labels.remove("alertstate").expect("a state");
            let known = points.entry(Value::from(labels).to_string()).or_default();
            for point in row["values"].as_array().expect("points") {
                assert_eq!(point[1], "1");
                known.push(((point[0].as_f64().expect("a time") * 1000.0) as i64, text(&state).to_owned()));
            }
        }
        let walk = |mut points: Vec<(i64, String)>| {
            points.sort();
            // One state at a time: the series of a state ends when that of the next begins.
            assert!(
                points.windows(2).all(|w| w[0].0 < w[1].0),
                "{}: two states at once in {points:?}",
                self.name
            );
            points.dedup_by(|b, a| a.1 == b.1);
            points.into_iter().map(|(_, state)| state).collect()
        };
        points.into_iter().map(|(labels, points)| (labels, walk(points))).collect()
    }
}

/// The labels of an alert, and a line that describes the notification.
fn describe(heard: &ReceivedAlert) -> (String, String) {
    let join = |map: &Value| {
        // Go omits empty maps or writes null.
        let pairs = map.as_object().into_iter().flatten().filter(|(n, _)| *n != "alertname");
        pairs.map(|(n, v)| format!(" {n}={}", text(v))).collect::<String>()
    };
    let labels = format!("{}{}", heard.label("alertname"), join(&heard.alert["labels"]));
    let verb = if heard.is_resolved() { "resolved" } else { "firing" };
    let line = format!("{verb} {labels} |{}", join(&heard.alert["annotations"]));
    (labels, line)
}

/// Checks the properties of notification times that hold on any machine.
fn check_times(subject: &Subject) {
    let mut ends: BTreeMap<(String, i64), i64> = BTreeMap::new();
    for heard in subject.receiver.heard() {
        let start = heard.time("startsAt");
        let end = heard.time("endsAt");
        let (who, line) = describe(&heard);
        assert!(start <= heard.at, "{}: {line} starts in the future", subject.name);
        if heard.is_resolved() {
            assert!(start <= end, "{}: {line} ends before it starts", subject.name);
            let known = *ends.entry((who, start)).or_insert(end);
            assert_eq!(known, end, "{}: {line} ends twice", subject.name);
        } else {
            let ahead = end - heard.at;
            assert!((0..=4 * RESEND).contains(&ahead), "{}: {line} ends {ahead} ms from now", subject.name);
        }
    }
}

#[test]
fn alertmanager_hears_what_it_hears_from_prometheus() {
    wall_clock(|| {
        let cases = cases();
        let bodies = bodies(&cases);
        let exporter = Exporter::start(&bodies[0]);
        let plain = rules(&cases, json!({}));
        let in_slots = rules(&cases, json!({"evaluation": "interval"}));
        let mut subjects = [
            Subject::start("prometheus", &exporter, &plain),
            Subject::start("continuous", &exporter, &plain),
            Subject::start("interval", &exporter, &in_slots),
        ];
        for subject in &subjects {
            subject.wait_ready();
        }
        let begin = now_ms();
        for (second, body) in bodies.iter().enumerate() {
            exporter.set(body);
            while now_ms() < begin + (second as i64 + 1) * 1_000 {
                for subject in &mut subjects {
                    subject.watch();
                }
                std::thread::sleep(Duration::from_millis(150));
            }
        }
        std::thread::sleep(Duration::from_secs(2));
        let end = now_ms();
        let mut problems = Vec::new();
        for subject in &subjects {
            check_times(subject);
            for case in &cases {
                let expected: Vec<&str> =
                    case["expect"].as_array().expect("a list").iter().map(text).collect();
                if subject.told(case) != expected {
                    problems.push(format!(
                        "{}: {}: told {:#?}",
                        subject.name,
                        case["case"],
                        subject.told(case)
                    ));
                }
                for (rule, states) in case["states"].as_object().into_iter().flatten() {
                    let expected: Vec<&str> = states.as_array().expect("a list").iter().map(text).collect();
                    if subject.states[rule] != expected {
                        problems
                            .push(format!("{}: states of {rule}: {:?}", subject.name, subject.states[rule]));
                    }
                }
            }
        }
        assert!(problems.is_empty(), "{}", problems.join("\n"));
        let series: Vec<_> = subjects.iter().map(|s| s.series(begin, end)).collect();
        assert_eq!(series[1], series[0], "ALERTS of ours and of Prometheus");
        assert_eq!(series[2], series[0], "ALERTS of ours in slots and of Prometheus");
        // With `evaluation: interval`, times are on the grid and `for` is a number of slots.
        for heard in subjects[2].receiver.heard() {
            assert_eq!(heard.time("startsAt") % 1_000, 0, "{:?}", heard.alert);
        }
    });
}
