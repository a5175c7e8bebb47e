//! Tests `perennial check views` with a running server.

#[path = "support/quick_config.rs"]
mod quick_config;
#[allow(dead_code, reason = "shared with other tests")]
mod support;

use std::process::{Command, Output};
use support::exporter::Exporter;
use support::server::{Server, binary_under_test};

const RULES: &str = "\
groups:
  - name: g
    rules:
      - {record: 'job:x:sum', expr: 'sum by (job) (x)'}
      - {record: 'job:x:max', expr: 'max(job:x:sum)'}
      - {alert: Low, expr: 'x < 1', for: 5m}
";

fn check(arguments: &[&str]) -> Output {
    Command::new(binary_under_test()).arg("check").args(arguments).output().expect("the program runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn all_views_of_a_server_are_checked() {
    let exporter = Exporter::start("x{a=\"1\"} 1\nx{a=\"2\"} 2\n");
    let config = quick_config::config(exporter.port);
    let server = Server::start(&config, &[("rules.yml", RULES)]);
    let url = format!("--url=http://127.0.0.1:{}", server.port);
    // Views begin within the first second.
    let done = support::eventually("all views have an answer", 30, || {
        let done = check(&["views", &url]);
        let out = text(&done.stdout);
        if out.contains("3 same, 0 differs") { Ok(done) } else { Err(format!("{out}{}", text(&done.stderr))) }
    });
    assert_eq!(done.status.code(), Some(0));

    let nobody = check(&["views", "--url=http://127.0.0.1:1"]);
    assert_eq!(nobody.status.code(), Some(2));
    assert!(text(&nobody.stderr).contains("cannot be asked"), "{}", text(&nobody.stderr));
    let help = check(&["views", "--help"]);
    assert!(text(&help.stdout).contains("usage: perennial check views"));
    assert_eq!(check(&["views"]).status.code(), Some(2));
}
