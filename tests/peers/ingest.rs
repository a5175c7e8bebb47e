//! Compares both ways of ingestion with the real Prometheus: Prometheus' remote write into our
//! receiver, and a scrape of the same constant exporter by both.

use super::seeds::{node_exporter, python_exporter};
use crate::support::exporter::Exporter;
use crate::support::server::Server;
use crate::support::{compare, eventually, now_ms, wall_clock};

#[test]
fn prometheus_remote_writes_into_us() {
    wall_clock(|| {
        let directory = tempfile::tempdir().expect("a directory");
        let (_app, app) = python_exporter(directory.path());
        let (_node, node) = node_exporter(directory.path());
        let ours = Server::start("", &[]);
        let theirs = Server::prometheus(&format!(
            "global: {{scrape_interval: 1s}}\n\
         remote_write:\n\
         - url: http://127.0.0.1:{}/api/v1/write\n  queue_config: {{batch_send_deadline: 200ms}}\n\
         scrape_configs:\n\
         - job_name: app\n  static_configs: [{{targets: ['127.0.0.1:{app}']}}]\n\
         - job_name: node\n  static_configs: [{{targets: ['127.0.0.1:{node}']}}]\n",
            ours.port
        ));
        theirs.wait_health(&[("app", "up"), ("node", "up")]);
        std::thread::sleep(std::time::Duration::from_secs(5));
        let t = now_ms();
        for query in
            ["{job=~\".+\"}", "{job=~\".+\"}[4s]", "sum by (mode) (rate(node_cpu_seconds_total[4s]))"]
        {
            let expected = theirs.query_at(query, t);
            assert!(
                !expected["result"].as_array().expect("rows").is_empty(),
                "{query} has no rows in Prometheus"
            );
            eventually(&format!("{query} answers as Prometheus"), 20, || {
                compare::difference(&ours.query_at(query, t), &expected).map_or(Ok(()), Err)
            });
        }
    });
}

/// Values and labels at the borders of the text format. `le` and `quantile` are written as
/// Prometheus 3 normalises them, because 2.42 does not.
const FIXTURE: &str = r#"# HELP fixture_values Numbers that are easy to get wrong, \\ and \n.
# TYPE fixture_values gauge
fixture_values{kind="tiny"} 4.9406564584124654e-324
fixture_values{kind="huge"} 1.7976931348623157e+308
fixture_values{kind="third"} 0.3333333333333333
fixture_values{kind="integer"} 9007199254740993
fixture_values{kind="not a number"} NaN
fixture_values{kind="infinite"} +Inf
fixture_values{kind="minus infinite"} -Inf
fixture_values{kind="minus zero"} -0
fixture_values   {  kind="spaces"  ,  }   7
fixture_values{kind="quote \" backslash \\ newline \n end"} 1
fixture_values{kind="ünïcode 🌍"} 2
fixture_values{kind="empty",gone=""} 3
fixture_bare 4
# TYPE fixture_seconds histogram
fixture_seconds_bucket{le="0.5"} 1
fixture_seconds_bucket{le="1.0"} 2
fixture_seconds_bucket{le="+Inf"} 3
fixture_seconds_sum 2.5
fixture_seconds_count 3
# TYPE fixture_summary summary
fixture_summary{quantile="0.5"} 1
fixture_summary{quantile="0.99"} 2
fixture_summary_sum 10
fixture_summary_count 7
# TYPE fixture_total counter
fixture_total{job="own",instance="own"} 5
"#;

#[test]
fn a_scrape_means_what_it_means_to_prometheus() {
    wall_clock(|| {
        let stamped = format!("fixture_stamped 6 {}\n", now_ms() - 10_000);
        let exporter = Exporter::start(&(FIXTURE.to_string() + &stamped));
        let config = format!(
            "global: {{scrape_interval: 1s}}\nscrape_configs:\n- job_name: fixture\n  static_configs:\n  \
         - targets: ['127.0.0.1:{}']\n    labels: {{extra: yes}}\n",
            exporter.port
        );
        let ours = Server::start(&config, &[]);
        let theirs = Server::prometheus(&config);
        for server in [&ours, &theirs] {
            server.wait_health(&[("fixture", "up")]);
            server.wait_rows("{__name__=~\"fixture_.+\"}", 24);
        }
        let t = now_ms();
        for query in
            ["{__name__=~\"fixture_.+\"}", "up", "scrape_samples_scraped", "timestamp(fixture_stamped)"]
        {
            let difference = compare::difference(&ours.query_at(query, t), &theirs.query_at(query, t));
            assert_eq!(difference, None, "{query}");
        }
    });
}
