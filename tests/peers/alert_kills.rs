//! Tests kill -9 while alerts are pending, firing and ending: Alertmanager gets each alert once,
//! with the same times as without the kill.

use crate::support::daemon::free_port;
use crate::support::exporter::Exporter;
use crate::support::receiver::{ReceivedAlert, Receiver, ReceiverBehavior};
use crate::support::server::Server;
use crate::support::{eventually, now_ms, wall_clock};
use std::time::Duration;

const RULES: &str = r#"
groups:
- name: g
  interval: 1s
  rules:
  - {alert: AtOnce, expr: level > 10}
  - {alert: Held, expr: level > 10, for: 5s, annotations: {text: "{{ $value }}"}}
  - {alert: Kept, expr: level > 10, for: 1s, keep_firing_for: 4s}
"#;
const HOLD: i64 = 5_000;

fn config(exporter: &Exporter, receivers: &[u16]) -> String {
    let targets: Vec<String> = receivers.iter().map(|port| format!("'127.0.0.1:{port}'")).collect();
    format!(
        "global: {{scrape_interval: 200ms, scrape_timeout: 200ms, evaluation_interval: 1s}}\nrule_files: [rules.yml]\n\
         alerting: {{alertmanagers: [{{static_configs: [{{targets: [{}]}}]}}]}}\n\
         scrape_configs:\n- job_name: x\n  static_configs: [{{targets: ['127.0.0.1:{}']}}]\n",
        targets.join(", "),
        exporter.port
    )
}

fn notifications_of<'a>(heard: &'a [ReceivedAlert], alert: &str) -> Vec<&'a ReceivedAlert> {
    heard.iter().filter(|h| h.label("alertname") == alert).collect()
}

/// (state, activeAt) of an alert in the API.
fn state(server: &Server, alert: &str) -> Option<(String, i64)> {
    let all = server.api("/api/v1/alerts")["alerts"].as_array().expect("alerts").clone();
    let found = all.into_iter().find(|a| a["labels"]["alertname"] == alert)?;
    let field = |name: &str| found[name].as_str().expect("a text").to_owned();
    let at = chrono::DateTime::parse_from_rfc3339(&field("activeAt")).expect("a time");
    Some((field("state"), at.timestamp_millis()))
}

fn wait_state(server: &Server, alert: &str, wanted: &str) -> i64 {
    eventually(&format!("{alert} is {wanted}"), 60, || match state(server, alert) {
        Some((found, at)) if found == wanted => Ok(at),
        other => Err(format!("{other:?}")),
    })
}

fn wait_heard(receiver: &Receiver, alert: &str, count: usize) {
    eventually(&format!("{count} notifications of {alert}"), 60, || {
        let heard = receiver.heard();
        let found = notifications_of(&heard, alert);
        if found.len() >= count { Ok(()) } else { Err(format!("{found:?}")) }
    });
}

/// Waits longer than it takes to store that an Alertmanager has accepted an alert.
fn rest() {
    std::thread::sleep(Duration::from_millis(500));
}

#[test]
fn kills_neither_delay_nor_repeat_alerts() {
    wall_clock(|| {
        let exporter = Exporter::start("level 1\n");
        let receiver = Receiver::start();
        let mut server =
            Server::start_with(&config(&exporter, &[receiver.port]), &[("rules.yml", RULES)], &[]);
        server.wait_rows("level", 1);
        let mut starts = Vec::new();
        for round in 0..3 {
            exporter.set("level 20\n");
            let active = wait_state(&server, "Held", "pending");
            wait_heard(&receiver, "Kept", 2 * round + 1);
            // In the middle of `for`, twice.
            for _ in 0..2 {
                rest();
                server.kill();
                server.run();
                assert_eq!(state(&server, "Held").map(|s| s.1), Some(active), "round {round}");
            }
            wait_heard(&receiver, "Held", 2 * round + 1);
            starts.push(active + HOLD);
            rest();
            // While all three fire. In one round the condition ends while the server is down, in
            // the others afterwards.
            server.kill();
            if round == 1 {
                exporter.set("level 2\n");
            }
            server.run();
            exporter.set("level 2\n");
            wait_heard(&receiver, "Held", 2 * round + 2);
            rest();
            // During `keep_firing_for`.
            server.kill();
            server.run();
            wait_heard(&receiver, "Kept", 2 * round + 2);
            rest();
        }
        let heard = receiver.heard();
        for alert in ["AtOnce", "Held", "Kept"] {
            let mine = notifications_of(&heard, alert);
            let ends: Vec<bool> = mine.iter().map(|h| h.is_resolved()).collect();
            assert_eq!(ends, [false, true].repeat(3), "{alert}: {mine:#?}");
            for pair in mine.chunks(2) {
                assert_eq!(pair[0].time("startsAt"), pair[1].time("startsAt"), "{alert}: one start");
                assert!(pair[1].time("endsAt") >= pair[0].time("startsAt"));
            }
        }
        let told: Vec<i64> =
            notifications_of(&heard, "Held").iter().step_by(2).map(|h| h.time("startsAt")).collect();
        assert_eq!(told, starts, "`for` ends where it would have without a kill");
        let text = |h: &&ReceivedAlert| h.alert["annotations"]["text"].clone();
        assert!(
            notifications_of(&heard, "Held").iter().all(|h| text(h) == "20"),
            "{:?}",
            notifications_of(&heard, "Held")
        );
    });
}

/// One Alertmanager accepts alerts, one does not respond, one refuses, one does not exist: none of
/// them delays a tick or the others, and those that return get the alerts that still fire.
#[test]
fn alertmanagers_that_hang_refuse_or_are_gone_delay_nothing() {
    wall_clock(|| {
        let exporter = Exporter::start("level 1\n");
        let good = Receiver::start();
        let hangs = Receiver::start();
        let refuses = Receiver::start();
        hangs.set(ReceiverBehavior::Hangs);
        refuses.set(ReceiverBehavior::Refuses);
        let ports = [good.port, hangs.port, refuses.port, free_port()];
        let config = config(&exporter, &ports);
        let server = Server::start_with(&config, &[("rules.yml", RULES)], &["--rules.alert.resend-delay=2s"]);
        server.wait_rows("level", 1);
        exporter.set("level 20\n");
        wait_heard(&good, "AtOnce", 1);
        wait_heard(&good, "Held", 1);
        let ticks = |server: &Server| metric(server, "perennial_ticks_total");
        let before = ticks(&server);
        let began = now_ms();
        std::thread::sleep(Duration::from_secs(3));
        // One tick per scrape, five per second, minus those that a loaded machine skips.
        assert!(ticks(&server) - before >= 3.0, "ticks went on");
        assert!(
            metric(&server, "perennial_tick_duration_seconds_sum") < (now_ms() - began) as f64 / 1000.0 + 5.0
        );
        eventually("errors are counted", 60, || {
            let errors = format!(
                "prometheus_notifications_errors_total{{alertmanager=\"http://127.0.0.1:{}/api/v2/alerts\"}}",
                refuses.port
            );
            if metric(&server, &errors) > 0.0 { Ok(()) } else { Err("none".to_owned()) }
        });
        assert_eq!(metric(&server, "prometheus_notifications_alertmanagers_discovered"), 4.0);
        refuses.set(ReceiverBehavior::Takes);
        for alert in ["AtOnce", "Held", "Kept"] {
            wait_heard(&refuses, alert, 1);
        }
        let started = |receiver: &Receiver| notifications_of(&receiver.heard(), "Held")[0].time("startsAt");
        assert_eq!(started(&refuses), started(&good));
    });
}

/// The value of a line of `/metrics` that begins with `name`.
fn metric(server: &Server, name: &str) -> f64 {
    let page = server.get("/metrics").text();
    let line = page.lines().find(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(' ')));
    line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or(f64::NAN)
}
