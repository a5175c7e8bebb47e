//! Tests scrapes through a real SOCKS proxy, with and without a login, plain and over TLS.

use crate::support::daemon::{Daemon, free_port, program};
use crate::support::eventually;
use crate::support::exporter::Exporter;
use crate::support::server::Server;
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;

/// Starts microsocks and waits until it listens.
fn proxy(directory: &Path, login: &[&str]) -> (Daemon, u16) {
    let port = free_port();
    let mut arguments = vec!["-i".to_owned(), "127.0.0.1".to_owned(), "-p".to_owned(), port.to_string()];
    arguments.extend(login.iter().map(ToString::to_string));
    let daemon = Daemon::start(&program("microsocks", "microsocks"), &arguments, directory);
    eventually("microsocks listens", 20, || {
        TcpStream::connect(("127.0.0.1", port)).map(drop).map_err(|e| e.to_string())
    });
    (daemon, port)
}

/// A server that speaks TLS, with a certificate that it signed itself.
fn encrypted(directory: &Path) -> (Daemon, u16) {
    let file = |name: &str| directory.join(name).display().to_string();
    let made = Command::new(program("openssl", "openssl"))
        .args("req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2".split(' '))
        .args("-subj /CN=server -addext subjectAltName=DNS:localhost".split(' '))
        .args(["-keyout", &file("server.key"), "-out", &file("server.pem")])
        .output();
    assert!(made.expect("openssl").status.success());
    let tls = "tls_server_config: {cert_file: server.pem, key_file: server.key}\n";
    std::fs::write(file("web.yml"), tls).expect("a file");
    std::fs::write(file("empty.yml"), "{}\n").expect("a file");
    let port = free_port();
    let arguments = [
        format!("--config.file={}", file("empty.yml")),
        format!("--web.config.file={}", file("web.yml")),
        format!("--storage.tsdb.path={}", file("data")),
        format!("--web.listen-address=127.0.0.1:{port}"),
    ];
    (Daemon::start(&crate::support::server::binary_under_test(), &arguments, directory), port)
}

#[test]
fn targets_are_scraped_through_socks_proxies() {
    let directory = tempfile::tempdir().expect("a directory");
    let directory = directory.path();
    let (_open, open) = proxy(directory, &[]);
    let (_closed, closed) = proxy(directory, &["-u", "us", "-P", "p:w"]);
    let (_encrypted, encrypted) = encrypted(directory);
    let exporter = Exporter::start("m 1\n").port;
    let nobody = free_port();
    let job = |name: &str, url: &str, target: String, more: &str| {
        format!(
            "- {{job_name: {name}, proxy_url: '{url}', static_configs: [{{targets: ['{target}']}}]{more}}}\n"
        )
    };
    let ca = directory.join("server.pem").display().to_string();
    let tls = format!(", scheme: https, tls_config: {{ca_file: '{ca}'}}");
    let jobs = [
        job("open", &format!("socks5://127.0.0.1:{open}"), format!("127.0.0.1:{exporter}"), ""),
        // The proxy resolves the name, whichever of the two schemes it is.
        job("name", &format!("socks5h://127.0.0.1:{open}"), format!("localhost:{exporter}"), ""),
        job("login", &format!("socks5://us:p%3Aw@127.0.0.1:{closed}"), format!("127.0.0.1:{exporter}"), ""),
        // A login that the proxy does not ask for.
        job("needless", &format!("socks5://us:x@127.0.0.1:{open}"), format!("127.0.0.1:{exporter}"), ""),
        job("tls", &format!("socks5://127.0.0.1:{open}"), format!("localhost:{encrypted}"), &tls),
        job("wrong", &format!("socks5://us:no@127.0.0.1:{closed}"), format!("127.0.0.1:{exporter}"), ""),
        job("nobody", &format!("socks5://127.0.0.1:{open}"), format!("127.0.0.1:{nobody}"), ""),
        job("gone", &format!("socks5://127.0.0.1:{nobody}"), format!("127.0.0.1:{exporter}"), ""),
        job(
            "direct",
            &format!("socks5://127.0.0.1:{nobody}"),
            format!("127.0.0.1:{exporter}"),
            ", no_proxy: 127.0.0.1",
        ),
    ];
    let config = format!("global: {{scrape_interval: 1s}}\nscrape_configs:\n{}", jobs.concat());
    let server = Server::start(&config, &[]);
    let via = |port: u16| format!("socks connect tcp 127.0.0.1:{port}->127.0.0.1:");
    let refused = format!("{}{nobody}: unknown error connection refused", via(open));
    let expected = [
        ("open", "up", ""),
        ("name", "up", ""),
        ("login", "up", ""),
        ("needless", "up", ""),
        ("tls", "up", ""),
        ("wrong", "down", "username/password authentication failed"),
        ("nobody", "down", &refused),
        ("gone", "down", &via(nobody)),
        ("direct", "up", ""),
    ];
    eventually("every job is as it should be", 60, || {
        let all = server.targets();
        let is = |(job, health, says): &(&str, &str, &str)| {
            all.iter().any(|target| target.0 == *job && target.1 == *health && target.2.contains(says))
        };
        if expected.iter().all(is) { Ok(()) } else { Err(format!("{all:?}")) }
    });
}
