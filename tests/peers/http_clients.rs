//! The clients of every kind (scrapes, discovery, Alertmanagers, remote write and remote read)
//! with the options of `<http_config>`, against servers in this process that remember what they
//! were asked: files that are replaced while the server runs, tokens, proxies, names, sockets,
//! certificates in the configuration itself.

use crate::support::daemon::{free_port, program};
use crate::support::recorder::{Recorder, Reply, Request};
use crate::support::server::Server;
use crate::support::{eventually, now_ms};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Command;
use tls::{ClientAuth, ServerOptions};

/// Each kind of client, and what its requests begin with.
const KINDS: [(&str, &str); 5] = [
    ("scrape", "GET /metrics"),
    ("discovery", "GET /sd"),
    ("alertmanager", "POST /api/v2/alerts"),
    ("remote write", "POST /write"),
    ("remote read", "POST /read"),
];

fn openssl(directory: &Path, arguments: &str) {
    let mut command = Command::new(program("openssl", "openssl"));
    let made = command.args(arguments.split_whitespace()).current_dir(directory).output().expect("openssl");
    assert!(made.status.success(), "openssl {arguments}: {}", String::from_utf8_lossy(&made.stderr));
}

/// An authority, and certificates of a server and of a client that it signed: `ca-NAME`,
/// `server-NAME`, `client-NAME`.
fn certificates(directory: &Path, name: &str) {
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout";
    openssl(
        directory,
        &format!("req -x509 {key} ca-{name}.key -out ca-{name}.pem -days 2 -subj /CN=ca-{name}"),
    );
    std::fs::write(directory.join("names"), "subjectAltName=IP:127.0.0.1,DNS:localhost,DNS:other.test\n")
        .expect("a file");
    for whose in ["server", "client"] {
        let file = format!("{whose}-{name}");
        openssl(directory, &format!("req {key} {file}.key -out {file}.csr -subj /CN={file}"));
        let sign = format!("-CA ca-{name}.pem -CAkey ca-{name}.key -CAcreateserial -days 2 -extfile names");
        openssl(directory, &format!("x509 -req -in {file}.csr {sign} -out {file}.pem"));
    }
}

/// Puts the files of a set in the places from which a server takes them.
fn serve(directory: &Path, name: &str) {
    for (from, to) in
        [("server-*.pem", "server.pem"), ("server-*.key", "server.key"), ("ca-*.pem", "clients.pem")]
    {
        std::fs::copy(directory.join(from.replace('*', name)), directory.join(to)).expect("a file");
    }
}

fn text(directory: &Path, name: &str) -> String {
    std::fs::read_to_string(directory.join(name)).expect("a file")
}

/// The certificate of a file, DER.
fn der(directory: &Path, name: &str) -> Vec<u8> {
    tls::pem::certificates(text(directory, name).as_bytes()).expect("a certificate")[0].to_vec()
}

/// What a server presents and demands: the files `server.pem`, `server.key` and `clients.pem`, as
/// they are now.
fn demanding(directory: PathBuf) -> impl Fn() -> ServerOptions + Send + Sync + 'static {
    move || ServerOptions {
        certificate: text(&directory, "server.pem").into_bytes(),
        key: text(&directory, "server.key").into_bytes(),
        client_auth: ClientAuth::RequireAndVerifyClientCert,
        client_ca: Some(text(&directory, "clients.pem").into_bytes()),
        ..ServerOptions::default()
    }
}

/// What servers of every kind answer.
fn answer(request: &Request) -> Reply {
    match request.path.rsplit('/').next().unwrap_or_default() {
        "metrics" => Reply::new("200 OK", "m 1\n"),
        "sd" => Reply::json(&json!([])),
        "read" => Reply {
            content_type: "application/x-streamed-protobuf; proto=prometheus.ChunkedReadResponse",
            ..Reply::new("200 OK", "")
        },
        _ => Reply::new("200 OK", ""),
    }
}

/// A configuration in which every kind of client has `options` and asks the server at `scheme` and
/// `address`; `*` in it is the place of the kind.
fn every_kind(scheme: &str, address: &str, options: &Value) -> Value {
    let with = |mut block: Value| {
        let keys = block.as_object_mut().expect("a block");
        for (name, value) in options.as_object().expect("a block") {
            keys.insert(name.clone(), value.clone());
        }
        block
    };
    let url = |path: &str| format!("{scheme}://{}/{path}", address.replace('*', path));
    let targets = |name: &str| json!([{"targets": [address.replace('*', name)]}]);
    json!({
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": ["rules.yml"],
        "scrape_configs": [
            with(json!({"job_name": "scrape", "scheme": scheme, "static_configs": targets("metrics")})),
            {"job_name": "found", "http_sd_configs": [with(json!({"url": url("sd"), "refresh_interval": "1s"}))]},
        ],
        "alerting": {"alertmanagers": [with(json!({"scheme": scheme, "static_configs": targets("alerts")}))]},
        "remote_write": [with(json!({
            "url": url("write"), "metadata_config": {"send": false},
            "queue_config": {"batch_send_deadline": "100ms", "max_backoff": "100ms"},
        }))],
        "remote_read": [with(json!({"url": url("read"), "read_recent": true}))],
    })
}

const RULES: &str = "groups: [{name: g, rules: [{alert: Always, expr: vector(1)}]}]\n";

/// Starts a server with a configuration in JSON, which is YAML, and these variables.
fn start(config: &Value, variables: &[(&str, &str)]) -> Server {
    let files = [("rules.yml", RULES)];
    Server::start_files(&config.to_string(), &files, &["--rules.alert.resend-delay=1s"], variables)
}

/// Waits until a request of each kind has come that is as `check` wants it; it says what is not.
fn every_kind_is(server: &Server, recorder: &Recorder, check: impl Fn(&str, &Request) -> Result<(), String>) {
    for (kind, begin) in KINDS {
        eventually(&format!("{kind} asks as it should"), 60, || {
            // Remote reads are made for queries.
            server.get(&format!("/api/v1/query?query=up&time={}", now_ms() / 1000));
            let seen = recorder.seen();
            let mut last = "no request".to_owned();
            for request in seen.iter().rev() {
                let path = request
                    .path
                    .split_once("://")
                    .map_or(&*request.path, |(_, rest)| rest.find('/').map_or("", |at| &rest[at..]));
                if !format!("{} {path}", request.method).starts_with(begin) {
                    continue;
                }
                match check(kind, request) {
                    Ok(()) => return Ok(()),
                    Err(problem) => last = problem,
                }
            }
            Err(format!("{last}; {}", server.log().lines().last().unwrap_or_default()))
        });
    }
}

fn header<'a>(request: &'a Request, name: &str) -> &'a str {
    request.headers.get(name).map_or("", String::as_str)
}

/// An authority, a client's certificate and its key, a password and a header are replaced while the
/// server runs, and nothing is reloaded.
#[test]
fn every_kind_of_client_follows_its_files() {
    let directory = tempfile::tempdir().expect("a directory");
    let directory = directory.path();
    let put = |from: &str, to: &str| {
        std::fs::copy(directory.join(from), directory.join(to)).expect("a file");
    };
    let write = |name: &str, text: &str| std::fs::write(directory.join(name), text).expect("a file");
    let file = |name: &str| directory.join(name).display().to_string();
    let use_files = |name: &str| {
        serve(directory, name);
        put(&format!("ca-{name}.pem"), "ca.pem");
        put(&format!("client-{name}.pem"), "client.pem");
        put(&format!("client-{name}.key"), "client.key");
        write("password", &format!("password-{name}\n"));
        write("user", &format!("user-{name}\n"));
        write("header", &format!("header-{name}\n"));
    };
    for name in ["one", "two"] {
        certificates(directory, name);
    }
    use_files("one");
    let recorder = Recorder::start_tls(demanding(directory.to_path_buf()), answer);
    let options = json!({
        "tls_config": {"ca_file": file("ca.pem"), "cert_file": file("client.pem"), "key_file": file("client.key")},
        "basic_auth": {"username_file": file("user"), "password_file": file("password")},
        "http_headers": {"X-Key": {"files": [file("header")]}},
    });
    let server = start(&every_kind("https", &format!("localhost:{}", recorder.port), &options), &[]);
    for (name, login) in [("one", "dXNlci1vbmU6cGFzc3dvcmQtb25l"), ("two", "dXNlci10d286cGFzc3dvcmQtdHdv")] {
        use_files(name);
        let shown = der(directory, &format!("client-{name}.pem"));
        every_kind_is(&server, &recorder, |_, request| {
            let hello = request.hello.clone().unwrap_or_default();
            let is = header(request, "authorization") == format!("Basic {login}")
                && header(request, "x-key") == format!("header-{name}")
                && hello.certificate.as_ref() == Some(&shown)
                && hello.server_name.as_deref() == Some("localhost");
            if is { Ok(()) } else { Err(format!("{:?}", request.headers)) }
        });
    }
}

/// HTTP/2 is offered as the configuration says; remote write does not by default.
#[test]
fn every_kind_of_client_offers_http_2_as_it_is_told() {
    let directory = tempfile::tempdir().expect("a directory");
    let directory = directory.path();
    certificates(directory, "a");
    serve(directory, "a");
    // Certificates in the configuration itself.
    let inline = json!({
        "ca": text(directory, "ca-a.pem"),
        "cert": text(directory, "client-a.pem"),
        "key": text(directory, "client-a.key"),
    });
    for given in [None, Some(true), Some(false)] {
        let recorder = Recorder::start_tls(demanding(directory.to_path_buf()), answer);
        let mut options = json!({"tls_config": inline});
        if let Some(given) = given {
            options["enable_http2"] = given.into();
        }
        let server = start(&every_kind("https", &format!("localhost:{}", recorder.port), &options), &[]);
        every_kind_is(&server, &recorder, |kind, request| {
            let hello = request.hello.clone().unwrap_or_default();
            let offered = hello.protocols.iter().any(|name| name == "h2");
            let wanted = given.unwrap_or(kind != "remote write");
            if offered == wanted { Ok(()) } else { Err(format!("{given:?}: {:?}", hello.protocols)) }
        });
        let shown = server.api("/api/v1/status/config")["yaml"].to_string();
        assert!(!shown.contains("PRIVATE KEY"), "{shown}");
    }
}

/// The name of `server_name` is in the greeting, so that a server can choose its certificate by
/// it, and the certificate must have it.
#[test]
fn every_kind_of_client_asks_for_the_name_that_it_is_told() {
    let directory = tempfile::tempdir().expect("a directory");
    let directory = directory.path();
    certificates(directory, "a");
    serve(directory, "a");
    let recorder = Recorder::start_tls(demanding(directory.to_path_buf()), answer);
    let file = |name: &str| directory.join(name).display().to_string();
    let options = json!({"tls_config": {
        "ca_file": file("ca-a.pem"), "cert_file": file("client-a.pem"), "key_file": file("client-a.key"),
        "server_name": "other.test",
    }});
    let server = start(&every_kind("https", &format!("127.0.0.1:{}", recorder.port), &options), &[]);
    every_kind_is(&server, &recorder, |_, request| {
        let name = request.hello.clone().unwrap_or_default().server_name;
        let host = header(request, "host");
        if name.as_deref() == Some("other.test") && host.starts_with("127.0.0.1:") {
            Ok(())
        } else {
            Err(format!("{name:?}, {host}"))
        }
    });
}

/// Tokens for a secret, for a certificate that the token server wants to see, and for a signed
/// statement; a secret that is replaced brings another token.
#[test]
fn every_kind_of_client_gets_its_tokens() {
    let directory = tempfile::tempdir().expect("a directory");
    let directory = directory.path();
    certificates(directory, "a");
    serve(directory, "a");
    openssl(directory, "genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out jwt.key");
    let file = |name: &str| directory.join(name).display().to_string();
    let tokens = Recorder::start_tls(demanding(directory.to_path_buf()), |request| {
        let body = String::from_utf8_lossy(&request.body).into_owned();
        let whose = if body.contains("assertion=eyJ") {
            "statement".to_owned()
        } else {
            header(request, "authorization").replace("Basic ", "secret ")
        };
        Reply::json(&json!({"access_token": whose, "token_type": "Bearer", "expires_in": 3600}))
    });
    std::fs::write(directory.join("secret"), "s1\n").expect("a file");
    let tls = json!({
        "ca_file": file("ca-a.pem"), "cert_file": file("client-a.pem"), "key_file": file("client-a.key"),
    });
    let url = format!("https://localhost:{}/token", tokens.port);
    let by_secret = json!({"oauth2": {
        "client_id": "us", "client_secret_file": file("secret"), "token_url": url, "tls_config": tls,
    }});
    let recorder = Recorder::start(answer);
    let address = format!("127.0.0.1:{}", recorder.port);
    let server = start(&every_kind("http", &address, &by_secret), &[]);
    // `us:s1` and `us:s2`.
    for (secret, token) in [("s1", "Bearer secret dXM6czE="), ("s2", "Bearer secret dXM6czI=")] {
        std::fs::write(directory.join("secret"), secret).expect("a file");
        every_kind_is(&server, &recorder, |_, request| {
            let shown = header(request, "authorization");
            if shown == token { Ok(()) } else { Err(shown.to_owned()) }
        });
    }
    let by_statement = json!({"oauth2": {
        "client_id": "us", "grant_type": "urn:ietf:params:oauth:grant-type:jwt-bearer",
        "client_certificate_key_file": file("jwt.key"), "token_url": url, "tls_config": tls,
    }});
    let recorder = Recorder::start(answer);
    let address = format!("127.0.0.1:{}", recorder.port);
    let server = start(&every_kind("http", &address, &by_statement), &[]);
    every_kind_is(&server, &recorder, |_, request| {
        let shown = header(request, "authorization");
        if shown == "Bearer statement" { Ok(()) } else { Err(shown.to_owned()) }
    });
}

/// Requests go through the proxy of the configuration or of the environment, and those to
/// exceptions do not.
#[test]
fn every_kind_of_client_goes_through_its_proxy() {
    let proxy = Recorder::start(answer);
    let url = format!("http://127.0.0.1:{}", proxy.port);
    let through = |_: &str, request: &Request| {
        if request.path.starts_with("http://far.test:1/") { Ok(()) } else { Err(request.path.clone()) }
    };
    let server = start(&every_kind("http", "far.test:1", &json!({"proxy_url": url})), &[]);
    every_kind_is(&server, &proxy, through);
    drop(server);
    let proxy = Recorder::start(answer);
    let url = format!("http://127.0.0.1:{}", proxy.port);
    let variables = [("HTTP_PROXY", url.as_str()), ("NO_PROXY", "127.0.0.1")];
    let config = every_kind("http", "far.test:1", &json!({"proxy_from_environment": true}));
    let server = start(&config, &variables);
    every_kind_is(&server, &proxy, through);
    drop(server);
    let direct = Recorder::start(answer);
    let address = format!("127.0.0.1:{}", direct.port);
    let options = json!({"proxy_url": "http://127.0.0.1:1", "no_proxy": "127.0.0.1"});
    for (options, variables) in [
        (options, &[][..]),
        (
            json!({"proxy_from_environment": true}),
            &[("HTTP_PROXY", "http://127.0.0.1:1"), ("NO_PROXY", "127.0.0.1")][..],
        ),
    ] {
        let server = start(&every_kind("http", &address, &options), variables);
        every_kind_is(&server, &direct, |_, request| {
            if request.path.starts_with('/') { Ok(()) } else { Err(request.path.clone()) }
        });
    }
}

/// The headers for a proxy are in the request for a tunnel, and there alone.
#[test]
fn every_kind_of_client_shows_its_headers_to_the_proxy() {
    let proxy = Recorder::start(|_| Reply::new("403 Forbidden", ""));
    let url = format!("http://127.0.0.1:{}", proxy.port);
    let options = json!({"proxy_url": url, "proxy_connect_header": {"X-Tunnel": ["t1"]}});
    let server = start(&every_kind("https", "*.test:1", &options), &[]);
    for kind in ["metrics", "sd", "alerts", "write", "read"] {
        eventually(&format!("a tunnel to {kind}"), 60, || {
            server.get("/api/v1/query?query=up");
            let wanted = |request: &&Request| request.path == format!("{kind}.test:1");
            let asked = proxy.seen().iter().find(wanted).cloned().ok_or("no request")?;
            let shown = (asked.method.as_str(), header(&asked, "x-tunnel"));
            if shown == ("CONNECT", "t1") { Ok(()) } else { Err(format!("{shown:?}")) }
        });
    }
}

/// A server that speaks only suites with CBC cannot be talked to; its target says why.
#[test]
fn a_target_with_old_suites_alone_says_so() {
    let directory = tempfile::tempdir().expect("a directory");
    let directory = directory.path();
    certificates(directory, "a");
    let port = free_port();
    let arguments = format!(
        "s_server -accept 127.0.0.1:{port} -cert server-a.pem -key server-a.key -tls1_2 \
         -cipher ECDHE-ECDSA-AES128-SHA:@SECLEVEL=0 -WWW"
    );
    let mut command = Command::new(program("openssl", "openssl"));
    let mut old = command.args(arguments.split_whitespace()).current_dir(directory).spawn().expect("openssl");
    let ca = directory.join("ca-a.pem").display().to_string();
    let config = format!(
        "global: {{scrape_interval: 1s}}\nscrape_configs:\n\
         - {{job_name: old, scheme: https, tls_config: {{ca_file: '{ca}'}}, static_configs: [{{targets: ['localhost:{port}']}}]}}\n"
    );
    let server = Server::start(&config, &[]);
    eventually("the target says why", 60, || {
        let targets = server.targets();
        let says =
            targets.iter().any(|target| target.1 == "down" && target.2.contains("cipher suites with CBC"));
        if says { Ok(()) } else { Err(format!("{targets:?}")) }
    });
    old.kill().expect("a running program");
    old.wait().expect("a program");
}

/// A target at a socket of this machine, and one line in the log for each job with an old version
/// of TLS.
#[test]
fn targets_at_sockets_and_jobs_with_old_versions() {
    let directory = tempfile::tempdir().expect("a directory");
    let socket = directory.path().join("s").display().to_string();
    let listens = format!("--web.listen-address=unix://{socket}");
    let target = Server::start_with("", &[], &[&listens]);
    assert_eq!(target.get("/-/ready").status, 200);
    let to_socket = format!("relabel_configs: [{{target_label: __unix_socket__, replacement: '{socket}'}}]");
    let config = format!(
        "global: {{scrape_interval: 1s}}\nscrape_configs:\n\
         - {{job_name: socket, static_configs: [{{targets: ['anything.test:80']}}], {to_socket}}}\n\
         - {{job_name: old, scheme: https, static_configs: [{{targets: ['127.0.0.1:1']}}], tls_config: {{min_version: TLS10}}}}\n"
    );
    let server = Server::start(&config, &[]);
    server.wait_health(&[("socket", "up"), ("old", "down")]);
    let log = server.log();
    let lines = log.lines().filter(|line| line.contains("versions of TLS below 1.2 are not spoken"));
    let lines: Vec<&str> = lines.collect();
    assert_eq!(lines.len(), 1, "{log}");
    assert!(lines[0].contains("old"), "{log}");
}
