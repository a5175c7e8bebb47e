//! Tests sending alerts to the real Alertmanager with TLS, a client certificate and a password. An
//! alert that could not be sent because of a wrong certificate authority is sent once the
//! configuration is corrected. Also tests bearer tokens, which proxies before an Alertmanager
//! require.

use crate::support::daemon::{Daemon, free_port, program};
use crate::support::receiver::Receiver;
use crate::support::server::Server;
use crate::support::{eventually, wall_clock};
use serde_json::Value;
use std::path::Path;
use std::process::Command;

/// A user whose password is `test`.
const USERS: &str = "basic_auth_users: {us: $2b$12$hNf2lSsxfm0.i4a.1kVpSOVyBCfIB51VRjgBUyv6kdnyTlgWj81Ay}\n";

fn run(directory: &Path, name: &str, arguments: &str) -> Vec<u8> {
    let mut command = Command::new(program(name, name));
    let out = command.args(arguments.split(' ')).current_dir(directory).output().expect("a program");
    assert!(out.status.success(), "{name} {arguments}: {}", String::from_utf8_lossy(&out.stderr));
    out.stdout
}

/// Two authorities, `ca` and `other`, and a server's and a client's certificate signed by `ca`.
fn certificates(directory: &Path) {
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout";
    for ca in ["ca", "other"] {
        run(directory, "openssl", &format!("req -x509 {key} {ca}.key -out {ca}.pem -days 2 -subj /CN={ca}"));
    }
    std::fs::write(directory.join("names"), "subjectAltName=IP:127.0.0.1\n").expect("a file");
    for name in ["server", "client"] {
        run(directory, "openssl", &format!("req {key} {name}.key -out {name}.csr -subj /CN={name}"));
        let sign = "-CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile names";
        run(directory, "openssl", &format!("x509 -req -in {name}.csr {sign} -out {name}.pem"));
    }
}

fn alertmanager(directory: &Path) -> (Daemon, u16) {
    let port = free_port();
    let tls = "tls_server_config: {cert_file: server.pem, key_file: server.key, client_ca_file: ca.pem, \
               client_auth_type: RequireAndVerifyClientCert}\n";
    let files = [
        ("web.yml", format!("{tls}{USERS}")),
        ("alertmanager.yml", "route: {receiver: nobody}\nreceivers: [{name: nobody}]\n".to_owned()),
    ];
    for (name, text) in files.iter() {
        std::fs::write(directory.join(name), text).expect("a file");
    }
    let path = |name: &str| directory.join(name).display().to_string();
    let arguments = [
        format!("--config.file={}", path("alertmanager.yml")),
        format!("--web.config.file={}", path("web.yml")),
        format!("--storage.path={}", path("alertmanager")),
        format!("--web.listen-address=127.0.0.1:{port}"),
        "--cluster.listen-address=".to_string(),
    ];
    let daemon =
        Daemon::start(&program("prometheus-alertmanager", "prometheus-alertmanager"), &arguments, directory);
    (daemon, port)
}

fn alerts(directory: &Path, port: u16) -> Vec<Value> {
    let access = "-sS --retry 20 --retry-connrefused --retry-delay 1 --cacert ca.pem --cert client.pem --key client.key -u us:test";
    let answer = run(directory, "curl", &format!("{access} https://127.0.0.1:{port}/api/v2/alerts"));
    serde_json::from_slice::<Value>(&answer).expect("JSON").as_array().expect("alerts").clone()
}

fn config(directory: &Path, port: u16, ca: &str, password: &str) -> String {
    let path = |name: &str| directory.join(name).display().to_string();
    format!(
        "global: {{evaluation_interval: 1s}}\nrule_files: [rules.yml]\nalerting:\n  alertmanagers:\n  - scheme: https\n    \
         static_configs: [{{targets: ['127.0.0.1:{port}']}}]\n    \
         basic_auth: {{username: us, password: {password}}}\n    \
         tls_config: {{ca_file: {}, cert_file: {}, key_file: {}}}\n",
        path(ca),
        path("client.pem"),
        path("client.key")
    )
}

#[test]
fn alerts_reach_an_alertmanager_behind_tls_a_client_certificate_and_a_password() {
    wall_clock(|| {
        let directory = tempfile::tempdir().expect("a directory");
        let directory = directory.path();
        certificates(directory);
        let (_daemon, port) = alertmanager(directory);
        assert_eq!(alerts(directory, port), Vec::<Value>::new());
        // With a wrong configuration the log says why. After the reload that corrects it the alert
        // arrives, with its original start time.
        let wrong = [("other.pem", "test", "certificate"), ("ca.pem", "wrong", "401")];
        let flags = ["--rules.alert.resend-delay=1s"];
        for (ca, password, complaint) in wrong {
            let name = format!("Always{complaint}");
            let rules = format!("groups:\n- name: g\n  rules:\n  - alert: {name}\n    expr: vector(1)\n");
            let rules = [("rules.yml", rules.as_str())];
            let server = Server::start_with(&config(directory, port, ca, password), &rules, &flags);
            eventually("the log says why", 60, || {
                let log = server.log();
                let line = log.lines().find(|line| line.contains("lertmanager") && line.contains(complaint));
                line.map(str::to_owned).ok_or(log)
            });
            let mine = |alert: &Value| alert["labels"]["alertname"] == name;
            assert!(!alerts(directory, port).iter().any(mine), "nothing was delivered");
            std::fs::write(server.file("prometheus.yml"), config(directory, port, "ca.pem", "test"))
                .expect("a file");
            assert_eq!(server.post("/-/reload").status, 200);
            let began = server.api("/api/v1/alerts")["alerts"][0]["activeAt"].clone();
            let heard = eventually("the alert arrives", 60, || {
                let heard = alerts(directory, port).into_iter().find(mine);
                heard.ok_or_else(|| "it has not".to_owned())
            });
            let to_the_second = |t: &Value| t.as_str().map(|t| t[..19].to_owned());
            assert_eq!(to_the_second(&heard["startsAt"]), to_the_second(&began));
        }
    });
}

/// A token in a file is read for each request, because it may be renewed while the server runs.
#[test]
fn tokens_go_to_alertmanagers() {
    wall_clock(|| {
        let plain = Receiver::start();
        let from_file = Receiver::start();
        let manager = |port: u16, access: &str| {
            format!("  - static_configs: [{{targets: ['127.0.0.1:{port}']}}]\n    authorization: {access}\n")
        };
        let config = format!(
            "global: {{evaluation_interval: 1s}}\nrule_files: [rules.yml]\nalerting:\n  alertmanagers:\n{}{}",
            manager(plain.port, "{credentials: one}"),
            manager(from_file.port, "{type: Token, credentials_file: token}")
        );
        let rules = "groups:\n- name: g\n  rules:\n  - alert: Always\n    expr: vector(1)\n";
        let files = [("rules.yml", rules), ("token", "two\n")];
        let server = Server::start_with(&config, &files, &["--rules.alert.resend-delay=1s"]);
        let tells = |receiver: &Receiver, wanted: &str| {
            eventually(&format!("{wanted} comes along"), 60, || {
                let latest = receiver.heard().pop().and_then(|heard| heard.authorization);
                if latest.as_deref() == Some(wanted) { Ok(()) } else { Err(format!("{latest:?}")) }
            });
        };
        tells(&plain, "Bearer one");
        tells(&from_file, "Token two");
        std::fs::write(server.file("token"), "three\n").expect("a file");
        tells(&from_file, "Token three");
        assert!(!server.log().contains("three"), "secrets are not logged");
    });
}
