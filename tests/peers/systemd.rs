//! Tests `--web.systemd-socket`: systemd's own launcher opens a port and a Unix socket, and starts
//! the server at the first connection.

use crate::support::daemon::{Daemon, free_port, program};
use crate::support::server::binary_under_test;
use std::process::Command;

#[test]
fn systemd_starts_the_server_at_the_first_connection() {
    let directory = tempfile::tempdir().expect("a directory");
    let directory = directory.path();
    let file = |name: &str| directory.join(name).display().to_string();
    std::fs::write(file("prometheus.yml"), "{}\n").expect("a file");
    let port = free_port();
    let socket = file("web.sock");
    let arguments = [
        format!("--listen=127.0.0.1:{port}"),
        format!("--listen={socket}"),
        binary_under_test().display().to_string(),
        "--web.systemd-socket".to_owned(),
        format!("--config.file={}", file("prometheus.yml")),
        format!("--storage.tsdb.path={}", file("data")),
    ];
    let launcher = program("systemd-socket-activate", "systemd");
    let mut daemon = Daemon::start(&launcher, &arguments, directory);
    daemon.wait_ready(port, "/-/ready");
    let asked = Command::new(program("curl", "curl"))
        .args(["-sS", "--max-time", "20", "--unix-socket", &socket, "http://local/-/ready"])
        .output()
        .expect("curl");
    let text = String::from_utf8_lossy(&[asked.stdout, asked.stderr].concat()).into_owned();
    assert!(text.contains("Ready"), "over the socket: {text}");
}

/// Without systemd there is nothing to listen on, which is said at once.
#[test]
fn without_a_socket_the_server_does_not_start() {
    let directory = tempfile::tempdir().expect("a directory");
    let config = directory.path().join("prometheus.yml");
    std::fs::write(&config, "{}\n").expect("a file");
    let arguments = [
        "--web.systemd-socket".to_owned(),
        format!("--config.file={}", config.display()),
        format!("--storage.tsdb.path={}", directory.path().join("data").display()),
    ];
    let (code, log) = Daemon::start(&binary_under_test(), &arguments, directory.path()).wait();
    assert_eq!(code, Some(1), "{log}");
    assert!(log.contains("systemd has handed over no socket (LISTEN_FDS)"), "{log}");
}
