//! Tests remote write with cloud credentials: AWS signatures, which OpenSSL verifies, and tokens
//! from local servers that stand for Azure's and Google's.

use crate::support::daemon::program;
use crate::support::eventually;
use crate::support::now_ms;
use crate::support::recorder::{Recorder, Reply, Request};
use crate::support::remote_write::{self, Series};
use crate::support::server::Server;
use serde_json::json;
use std::fmt::Write as _;
use std::io::Write as _;
use std::process::{Command, Stdio};

/// A receiver of remote write.
fn receiver() -> Recorder {
    Recorder::start(|_| Reply::new("204 No Content", ""))
}

/// A server that sends to `receiver` with these credentials and variables; a sample is sent
/// already.
fn sender(receiver: &Recorder, credentials: &str, variables: &[(&str, &str)]) -> Server {
    let config = format!(
        "remote_write:\n- url: http://127.0.0.1:{}/api/v1/write\n  headers: {{X-Scope: a}}\n  \
         queue_config: {{batch_send_deadline: 100ms}}\n  metadata_config: {{send: false}}\n  {credentials}\n",
        receiver.port
    );
    let server = Server::start_with_variables(&config, variables);
    let series = [Series::new("signed", &[], vec![(now_ms(), 1.0)])];
    assert_eq!(remote_write::write(server.port, &series).expect("an answer").status, 204);
    server
}

/// The first request that arrives.
fn first(receiver: &Recorder, server: &Server) -> Request {
    eventually("a request arrives", 30, || receiver.seen().into_iter().next().ok_or_else(|| server.log()))
}

fn openssl(arguments: &[&str], input: &[u8]) -> String {
    let mut child = Command::new(program("openssl", "openssl"))
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        // It draws while it looks for primes.
        .stderr(Stdio::null())
        .spawn()
        .expect("openssl");
    child.stdin.take().expect("its input").write_all(input).expect("written");
    let output = child.wait_with_output().expect("its output");
    assert!(output.status.success(), "openssl {arguments:?}");
    String::from_utf8(output.stdout).expect("text")
}

/// The digest that `openssl dgst` prints after the last blank.
fn digest(arguments: &[&str], input: &[u8]) -> String {
    openssl(arguments, input).trim().rsplit(' ').next().expect("a digest").to_owned()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a text");
        text
    })
}

fn mac(key: &str, input: &str) -> String {
    digest(&["dgst", "-sha256", "-mac", "HMAC", "-macopt", &format!("hexkey:{key}")], input.as_bytes())
}

/// The signature that a request must have, from AWS' description of version 4.
fn signature(request: &Request, secret: &str, region: &str, service: &str, names: &str) -> String {
    let headers: String =
        names.split(';').map(|name| format!("{name}:{}\n", request.headers[name])).collect();
    let body = digest(&["dgst", "-sha256"], &request.body);
    let canonical = format!("{}\n{}\n\n{headers}\n{names}\n{body}", request.method, request.path);
    let time = &request.headers["x-amz-date"];
    let day = &time[..8];
    let scope = format!("{day}/{region}/{service}/aws4_request");
    let canonical = digest(&["dgst", "-sha256"], canonical.as_bytes());
    let mut key = hex(format!("AWS4{secret}").as_bytes());
    for part in [day, region, service, "aws4_request"] {
        key = mac(&key, part);
    }
    mac(&key, &format!("AWS4-HMAC-SHA256\n{time}\n{scope}\n{canonical}"))
}

/// A request is signed with the keys of these tests; the headers `further` are, too.
fn check_signed(request: &Request, further: &[&str]) {
    let authorization = &request.headers["authorization"];
    let value = |key: &str| {
        let (_, rest) = authorization.split_once(&format!("{key}=")).expect(key);
        rest.split(',').next().expect("a value").to_owned()
    };
    assert!(authorization.starts_with("AWS4-HMAC-SHA256 Credential=AK/"), "{authorization}");
    assert!(value("Credential").ends_with("/eu-west-2/aps/aws4_request"), "{authorization}");
    let names = value("SignedHeaders");
    for name in ["host", "x-amz-date"].iter().chain(further) {
        assert!(names.split(';').any(|signed| signed == *name), "{name} is not among {names}");
    }
    assert_eq!(value("Signature"), signature(request, "s3cret", "eu-west-2", "aps", &names));
    assert_ne!(value("Signature"), signature(request, "another", "eu-west-2", "aps", &names));
}

#[test]
fn alerts_are_signed_for_aws() {
    let receiver = receiver();
    let config = format!(
        "rule_files: [rules.yml]\nalerting:\n  alertmanagers:\n  - static_configs: [{{targets: ['127.0.0.1:{}']}}]\n    \
         sigv4: {{region: eu-west-2, access_key: AK, secret_key: s3cret}}\n",
        receiver.port
    );
    let rules = "groups: [{name: g, rules: [{alert: Always, expr: vector(1)}]}]\n";
    let server = Server::start(&config, &[("rules.yml", rules)]);
    check_signed(&first(&receiver, &server), &["content-type"]);
}

#[test]
fn requests_are_signed_for_aws() {
    let receiver = receiver();
    let server = sender(&receiver, "sigv4: {region: eu-west-2, access_key: AK, secret_key: s3cret}", &[]);
    let request = first(&receiver, &server);
    check_signed(&request, &["x-prometheus-remote-write-version"]);
    assert_eq!(request.headers["x-scope"], "a");
    assert!(!server.log().contains("not supported"), "{}", server.log());
}

#[test]
fn requests_carry_tokens_of_azure_and_google() {
    const ID: &str = "00000000-a12b-3cd4-e56f-000000000000";
    let tokens = Recorder::start(|request| {
        let body = String::from_utf8_lossy(&request.body).into_owned();
        let whose = match request.path.as_str() {
            path if path.starts_with("/identity?") => "managed",
            path if path.ends_with("/oauth2/v2.0/token") && body.contains("client_assertion=WORKLOAD") => {
                "workload"
            }
            "/google" if body.contains("assertion=eyJ") => "google",
            _ => return Reply::new("400 Bad Request", "who is this?"),
        };
        Reply::json(&json!({"access_token": format!("token-of-{whose}"), "expires_in": 3600}))
    });
    let directory = tempfile::tempdir().expect("a directory");
    let path = |name: &str| directory.path().join(name).display().to_string();
    std::fs::write(path("workload"), "WORKLOAD").expect("a file");
    let key = openssl(&["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"], b"");
    let account = json!({
        "type": "service_account", "client_email": "me@p", "private_key_id": "k", "private_key": key,
        "token_uri": format!("http://127.0.0.1:{}/google", tokens.port),
    });
    std::fs::write(path("account.json"), account.to_string()).expect("a file");
    let identity = format!("http://127.0.0.1:{}/identity", tokens.port);
    let authority = format!("http://127.0.0.1:{}", tokens.port);
    let variables = [
        ("IDENTITY_ENDPOINT", identity.as_str()),
        ("IDENTITY_HEADER", "secret"),
        ("AZURE_AUTHORITY_HOST", authority.as_str()),
    ];
    let ids = format!("client_id: {ID}, tenant_id: {ID}");
    let cases = [
        (format!("azuread: {{managed_identity: {{client_id: {ID}}}}}"), "managed"),
        ("azuread: {sdk: {tenant_id: t}}".to_owned(), "managed"),
        (
            format!("azuread: {{workload_identity: {{{ids}, token_file_path: '{}'}}}}", path("workload")),
            "workload",
        ),
        (format!("google_iam: {{credentials_file: '{}'}}", path("account.json")), "google"),
    ];
    for (credentials, whose) in cases {
        let receiver = receiver();
        let server = sender(&receiver, &credentials, &variables);
        let request = first(&receiver, &server);
        assert_eq!(request.headers["authorization"], format!("Bearer token-of-{whose}"), "{credentials}");
        let shown = server.api("/api/v1/status/config")["yaml"].to_string();
        assert!(shown.contains(credentials.split(':').next().expect("a key")), "{shown}");
    }
    let managed = tokens.seen().into_iter().filter(|request| request.path.starts_with("/identity?"));
    assert!(managed.clone().count() >= 2);
    for request in managed {
        assert_eq!(request.headers["x-identity-header"], "secret");
        assert!(request.path.contains("resource=https%3A%2F%2Fmonitor.azure.com%2F"), "{}", request.path);
    }
}

/// Requests for tokens go through the proxy of the environment, as in Prometheus; those with
/// samples go as the block says.
#[test]
fn tokens_come_through_the_proxy_of_the_environment() {
    const ID: &str = "00000000-a12b-3cd4-e56f-000000000000";
    let proxy = Recorder::start(|request| {
        let whose = match request.path.as_str() {
            path if path.starts_with("http://login.far.test/") && path.ends_with("/token") => "azure",
            "http://oauth.far.test/google" => "google",
            _ => return Reply::new("400 Bad Request", "who is this?"),
        };
        Reply::json(&json!({"access_token": format!("token-of-{whose}"), "expires_in": 3600}))
    });
    let directory = tempfile::tempdir().expect("a directory");
    let [user, workload] =
        ["user.json", "workload"].map(|name| directory.path().join(name).display().to_string());
    std::fs::write(&workload, "WORKLOAD").expect("a file");
    let login = json!({
        "type": "authorized_user", "client_id": "c", "client_secret": "s", "refresh_token": "r",
        "token_uri": "http://oauth.far.test/google",
    });
    std::fs::write(&user, login.to_string()).expect("a file");
    let url = format!("http://127.0.0.1:{}", proxy.port);
    let variables = [
        ("HTTP_PROXY", url.as_str()),
        ("AZURE_AUTHORITY_HOST", "http://login.far.test"),
        ("GOOGLE_APPLICATION_CREDENTIALS", user.as_str()),
    ];
    let ids = format!("client_id: {ID}, tenant_id: {ID}");
    let azure = format!("azuread: {{workload_identity: {{{ids}, token_file_path: '{workload}'}}}}");
    for (credentials, whose) in [(azure, "azure"), ("google_iam: {}".to_owned(), "google")] {
        let receiver = receiver();
        let server = sender(&receiver, &credentials, &variables);
        let request = first(&receiver, &server);
        assert_eq!(request.headers["authorization"], format!("Bearer token-of-{whose}"), "{credentials}");
    }
    assert!(proxy.seen().iter().all(|request| request.path.contains(".far.test/")), "{:?}", proxy.seen());
}

/// Without a token nothing is sent, and the queue tries again: the samples are not given up.
#[test]
fn without_a_token_samples_wait() {
    let tokens = Recorder::start(|_| Reply::new("500 Internal Server Error", "not now"));
    let receiver = receiver();
    let identity = format!("http://127.0.0.1:{}/identity", tokens.port);
    let variables = [("IDENTITY_ENDPOINT", identity.as_str()), ("IDENTITY_HEADER", "s")];
    let server = sender(&receiver, "azuread: {managed_identity: {}}", &variables);
    eventually("the queue says why", 30, || {
        let log = server.log();
        if log.contains("Failed to get access token") { Ok(()) } else { Err(log) }
    });
    assert_eq!(receiver.seen().len(), 0);
    let metrics = server.get("/metrics").text();
    let failed =
        metrics.lines().find(|line| line.starts_with("prometheus_remote_storage_samples_failed_total{"));
    assert!(failed.is_some_and(|line| line.ends_with(" 0")), "{failed:?}");
}
