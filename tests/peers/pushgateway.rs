//! Tests the metrics of a batch job through the real Pushgateway: `honor_labels` keeps the job
//! label of the pushed metrics.

use crate::support::daemon::{Daemon, free_port, program};
use crate::support::server::Server;
use crate::support::{http, wall_clock};

#[test]
fn pushed_labels_are_kept() {
    wall_clock(|| {
        let directory = tempfile::tempdir().expect("a directory");
        let port = free_port();
        let path = program("prometheus-pushgateway", "prometheus-pushgateway");
        let arguments = [format!("--web.listen-address=127.0.0.1:{port}")];
        let mut gateway = Daemon::start(&path, &arguments, directory.path());
        gateway.wait_ready(port, "/-/ready");
        let pushed = b"# TYPE backup_bytes gauge\nbackup_bytes{disk=\"sda\"} 123456789\n";
        let answer =
            http::send(port, "POST", "/metrics/job/backup/instance/nightly", &[], pushed).expect("a gateway");
        assert_eq!(answer.status, 200, "{}", answer.text());

        let job = |name: &str, honor: bool| {
            format!(
                "- job_name: {name}\n  honor_labels: {honor}\n  static_configs: [{{targets: ['127.0.0.1:{port}']}}]\n"
            )
        };
        let config = format!(
            "global: {{scrape_interval: 1s}}\nscrape_configs:\n{}{}",
            job("gateway", true),
            job("literal", false)
        );
        let server = Server::start(&config, &[]);
        server.wait_health(&[("gateway", "up"), ("literal", "up")]);

        let kept = server.wait_rows("backup_bytes{job=\"backup\"}", 1);
        let labels = serde_json::json!({"__name__": "backup_bytes", "disk": "sda", "instance": "nightly", "job": "backup"});
        assert_eq!(kept[0]["metric"], labels);
        assert_eq!(kept[0]["value"][1], "123456789");
        let moved = server.wait_rows("backup_bytes{job=\"literal\"}", 1);
        assert_eq!(moved[0]["metric"]["exported_job"], "backup");
        assert_eq!(moved[0]["metric"]["exported_instance"], "nightly");
        server.wait_rows("push_time_seconds{job=\"backup\"}", 1);
        server.wait_rows("up{job=\"gateway\"} == 1", 1);
    });
}
