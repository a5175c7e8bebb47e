//! Tests TLS, client certificates and passwords of the web server and of scrapes: with curl, with
//! Debian's Prometheus on either side, and with certificates that openssl makes for the test.

use crate::support::daemon::{Daemon, free_port, program};
use crate::support::server::binary_under_test;
use crate::support::{eventually, wall_clock};
use serde_json::Value;
use std::path::Path;
use std::process::Command;

/// A user whose password is `test`; the cost is low, that tests are quick.
const USERS: &str = "basic_auth_users: {us: $2b$04$abcdefghijklmnopqrstuuoD8yw7MmybLKVooaTGGZAt3HXugv2.a}\n";
const SERVER: &str = "tls_server_config: {cert_file: server.pem, key_file: server.key}\n";
const NEW_KEY: &str = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout";

fn run(directory: &Path, name: &str, arguments: &str) -> (bool, String) {
    let mut command = Command::new(program(name, name));
    let out = command.args(arguments.split_whitespace()).current_dir(directory).output().expect("a program");
    let text = [out.stdout, out.stderr].concat();
    (out.status.success(), String::from_utf8_lossy(&text).into_owned())
}

fn openssl(directory: &Path, arguments: &str) {
    let (worked, text) = run(directory, "openssl", arguments);
    assert!(worked, "openssl {arguments}: {text}");
}

fn authority(directory: &Path, name: &str) {
    let subject = format!("-out {name}.pem -days 2 -subj /CN={name}");
    openssl(directory, &format!("req -x509 {NEW_KEY} {name}.key {subject}"));
}

/// A certificate with these alternative names; without any it is one of version 1.
fn certificate(directory: &Path, name: &str, ca: &str, names: &str) {
    openssl(directory, &format!("req {NEW_KEY} {name}.key -out {name}.csr -subj /CN={name}"));
    let mut extensions = String::new();
    if !names.is_empty() {
        std::fs::write(directory.join("names"), format!("subjectAltName={names}\n")).expect("a file");
        extensions = " -extfile names".to_owned();
    }
    let sign = format!("-CA {ca}.pem -CAkey {ca}.key -CAcreateserial -days 2{extensions}");
    openssl(directory, &format!("x509 -req -in {name}.csr {sign} -out {name}.pem"));
}

/// A certificate that signed itself and says that it is an authority.
fn self_signed(directory: &Path, name: &str, names: &str) {
    let extensions = format!("-addext subjectAltName={names} -days 2 -subj /CN={name}");
    openssl(directory, &format!("req -x509 {NEW_KEY} {name}.key -out {name}.pem {extensions}"));
}

fn write(directory: &Path, name: &str, text: &str) {
    std::fs::write(directory.join(name), text).expect("a file");
}

/// Starts our server or another one with `prometheus.yml` and `web.yml` of the directory.
fn start(directory: &Path, binary: &Path, port: u16, data: &str) -> Daemon {
    let path = |name: &str| directory.join(name).display().to_string();
    let arguments = [
        format!("--config.file={}", path(&format!("{data}.yml"))),
        format!("--web.config.file={}", path("web.yml")),
        format!("--storage.tsdb.path={}", path(data)),
        format!("--web.listen-address=127.0.0.1:{port}"),
    ];
    Daemon::start(binary, &arguments, directory)
}

fn ours(directory: &Path, port: u16) -> Daemon {
    start(directory, &binary_under_test(), port, "prometheus")
}

/// The status of `GET /-/ready`, or 0 and why there is none.
fn status(directory: &Path, port: u16, arguments: &str) -> (u32, String) {
    let url = format!("https://127.0.0.1:{port}/-/ready");
    let common = "-sS --max-time 20 -o /dev/null -w %{http_code}";
    let (_, text) = run(directory, "curl", &format!("{common} {arguments} {url}"));
    let code = text.get(..3).and_then(|code| code.parse().ok()).unwrap_or(0);
    (code, text)
}

fn wait_status(directory: &Path, port: u16, arguments: &str, want: u32) {
    eventually(&format!("status {want} with {arguments}"), 60, || {
        let (code, text) = status(directory, port, arguments);
        if code == want { Ok(()) } else { Err(text) }
    });
}

/// The active targets as (job, health, last error).
fn targets(directory: &Path, port: u16, access: &str) -> Vec<(String, String, String)> {
    let url = format!("https://127.0.0.1:{port}/api/v1/targets?state=active");
    let (_, text) = run(directory, "curl", &format!("-sS -k {access} {url}"));
    let json: Value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"));
    let list = json["data"]["activeTargets"].as_array().expect("a list");
    let text = |v: &Value| v.as_str().unwrap_or_default().to_string();
    list.iter().map(|t| (text(&t["labels"]["job"]), text(&t["health"]), text(&t["lastError"]))).collect()
}

fn wait_target(directory: &Path, port: u16, job: &str, health: &str, complaint: &str) {
    eventually(&format!("{job} is {health}: {complaint}"), 60, || {
        let all = targets(directory, port, "-u us:test");
        let found = all.iter().any(|t| t.0 == job && t.1 == health && t.2.contains(complaint));
        if found { Ok(()) } else { Err(format!("{all:?}")) }
    });
}

/// What clients show, for curl.
const NOTHING: &str = "";
const SIGNED: &str = "--cert client.pem --key client.key";
const FOREIGN: &str = "--cert foreign.pem --key foreign.key";
const OLD: &str = "--cert old.pem --key old.key";

/// Kind of client certificates, further options of the server, then for what a client shows
/// (nothing, a certificate that was signed, one signed by another authority, one of version 1)
/// whether it may connect.
const KINDS: [(&str, &str, [bool; 4]); 7] = [
    ("NoClientCert", "", [true, true, true, true]),
    ("RequestClientCert", "", [true, true, true, true]),
    ("RequireAnyClientCert", "", [false, true, true, true]),
    ("VerifyClientCertIfGiven", ", client_ca_file: ca.pem", [true, true, false, false]),
    ("RequireAndVerifyClientCert", ", client_ca_file: ca.pem", [false, true, false, false]),
    (
        "RequireAndVerifyClientCert",
        ", client_ca_file: ca.pem, client_allowed_sans: [client.test]",
        [false, true, false, false],
    ),
    (
        "RequireAndVerifyClientCert",
        ", client_ca_file: ca.pem, client_allowed_sans: [other.test]",
        [false, false, false, false],
    ),
];

/// Versions of TLS that a client speaks, and whether the server with these options does.
const VERSIONS: [(&str, &str, bool); 6] = [
    ("", "--tls-max 1.2", true),
    ("", "--tlsv1.3", true),
    (", min_version: TLS13", "--tls-max 1.2", false),
    (", max_version: TLS12", "--tlsv1.3", false),
    (
        ", max_version: TLS12, cipher_suites: [TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256]",
        "--ciphers ECDHE-ECDSA-AES256-GCM-SHA384",
        false,
    ),
    (", curve_preferences: [CurveP384]", "--curves P-256", false),
];

#[test]
fn every_kind_of_client_certificate_with_and_without_passwords() {
    wall_clock(|| {
        let directory = tempfile::tempdir().expect("a directory");
        let directory = directory.path();
        authority(directory, "ca");
        authority(directory, "other");
        certificate(directory, "server", "ca", "IP:127.0.0.1");
        certificate(directory, "client", "ca", "DNS:client.test");
        certificate(directory, "foreign", "other", "DNS:client.test");
        certificate(directory, "old", "other", "");
        write(directory, "prometheus.yml", "scrape_configs: []\n");
        write(directory, "web.yml", SERVER);
        let port = free_port();
        let _daemon = ours(directory, port);
        wait_status(directory, port, "--cacert ca.pem", 200);
        let mut number = 0;
        // What a file says is in force when its own header is there.
        let mut put = |options: &str, users: &str| {
            number += 1;
            let tls = SERVER.replace('}', &format!("{options}}}"));
            let headers = format!("http_server_config: {{headers: {{X-XSS-Protection: v{number}}}}}\n");
            write(directory, "web.yml", &format!("{tls}{headers}{users}"));
            // A look at the files is due after 0.1 s.
            std::thread::sleep(std::time::Duration::from_millis(300));
        };
        for (kind, options, may) in KINDS {
            for users in ["", USERS] {
                put(&format!(", client_auth_type: {kind}{options}"), users);
                for (shown, may) in [NOTHING, SIGNED, FOREIGN, OLD].iter().zip(may) {
                    for (password, known) in
                        [("", users.is_empty()), (" -u us:test", true), (" -u us:no", users.is_empty())]
                    {
                        let (code, text) =
                            status(directory, port, format!("--cacert ca.pem {shown}{password}").trim());
                        let want = match (may, known) {
                            (false, _) => 0,
                            (true, true) => 200,
                            (true, false) => 401,
                        };
                        assert_eq!(code, want, "{kind}{options} {users} {shown}{password}: {text}");
                    }
                }
            }
        }
        for (options, client, speaks) in VERSIONS {
            put(options, "");
            let (code, text) = status(directory, port, &format!("--cacert ca.pem {client}"));
            assert_eq!(code == 200, speaks, "{options} {client}: {text}");
        }
    });
}

/// A directory with an authority, `ca`, and a certificate of it for this machine, `server`.
fn with_certificates() -> tempfile::TempDir {
    let directory = tempfile::tempdir().expect("a directory");
    authority(directory.path(), "ca");
    certificate(directory.path(), "server", "ca", "IP:127.0.0.1");
    directory
}

/// The version of HTTP that a client which would like to speak HTTP/2 gets.
#[test]
fn http_2_is_spoken_as_the_file_says() {
    wall_clock(|| {
        let directory = with_certificates();
        let directory = directory.path();
        write(directory, "prometheus.yml", "scrape_configs: []\n");
        for (option, want) in [("", "2"), ("{http2: true}", "2"), ("{http2: false}", "1.1")] {
            write(directory, "web.yml", &format!("{SERVER}http_server_config: {option}\n"));
            let port = free_port();
            let _daemon = ours(directory, port);
            wait_status(directory, port, "--cacert ca.pem", 200);
            let ask = "-sS --max-time 20 --cacert ca.pem -o /dev/null -w %{http_version} --http2";
            let (_, text) = run(directory, "curl", &format!("{ask} https://127.0.0.1:{port}/-/healthy"));
            assert_eq!(text, want, "{option}");
        }
    });
}

/// Names that the server asks for, and whether a client with one name of each kind has them.
const NAMES: [(&str, bool); 8] = [
    ("other.test", false),
    ("client.test", true),
    ("10.0.0.2", false),
    ("10.0.0.1", true),
    ("b@b.test", false),
    ("a@b.test", true),
    ("spiffe://x/z", false),
    ("spiffe://x/y", true),
];

/// One of the names in `client_allowed_sans` is enough, of whatever kind it is; and `rate_limit`
/// counts all requests.
#[test]
fn clients_are_known_by_names_of_every_kind() {
    wall_clock(|| {
        let directory = with_certificates();
        let directory = directory.path();
        certificate(directory, "client", "ca", "DNS:client.test,IP:10.0.0.1,email:a@b.test,URI:spiffe://x/y");
        write(directory, "prometheus.yml", "scrape_configs: []\n");
        write(directory, "web.yml", SERVER);
        let port = free_port();
        let _daemon = ours(directory, port);
        wait_status(directory, port, "--cacert ca.pem", 200);
        let access = format!("--cacert ca.pem {SIGNED}");
        for (name, may) in NAMES {
            let asks = format!(
                ", client_auth_type: RequireAndVerifyClientCert, client_ca_file: ca.pem, \
                 client_allowed_sans: ['nobody.test', '{name}']}}"
            );
            write(directory, "web.yml", &SERVER.replace('}', &asks));
            // Each name has another answer than the one before: so the file is in force.
            wait_status(directory, port, &access, if may { 200 } else { 0 });
        }
        write(directory, "web.yml", &format!("{SERVER}rate_limit: {{interval: 1h, burst: 3}}\n"));
        wait_status(directory, port, "--cacert ca.pem", 429);
    });
}

/// Jobs that scrape this server itself: options, and what is wrong; nothing: it is up.
const JOBS: [(&str, &str, &str); 13] = [
    ("file", "tls_config: {ca_file: ca.pem, server_name: perennial.test}, PASSWORD", ""),
    ("host", "tls_config: {ca_file: ca.pem}, PASSWORD", "certificate not valid for name"),
    ("other", "tls_config: {ca_file: other.pem, server_name: perennial.test}, PASSWORD", "UnknownIssuer"),
    ("system", "tls_config: {server_name: perennial.test}, PASSWORD", "UnknownIssuer"),
    ("skip", "tls_config: {insecure_skip_verify: true}, PASSWORD", ""),
    ("wrong", "tls_config: {insecure_skip_verify: true}, basic_auth: {username: us, password: no}", "401"),
    ("nobody", "tls_config: {insecure_skip_verify: true}", "401"),
    ("old", "tls_config: {insecure_skip_verify: true, max_version: TLS11}, PASSWORD", "TLS below 1.2"),
    ("twelve", "tls_config: {insecure_skip_verify: true, max_version: TLS12}, PASSWORD", ""),
    ("one", "tls_config: {insecure_skip_verify: true}, enable_http2: false, PASSWORD", ""),
    (
        "later",
        "tls_config: {ca_file: later.pem, server_name: perennial.test}, PASSWORD",
        "unable to read CA cert",
    ),
    (
        "client",
        "tls_config: {insecure_skip_verify: true, cert_file: c.pem, key_file: c.key}, PASSWORD",
        "c.pem",
    ),
    (
        "password",
        "tls_config: {insecure_skip_verify: true}, basic_auth: {username: us, password_file: p}",
        "unable to read basic auth password",
    ),
];

fn jobs(port: u16) -> String {
    let password = "basic_auth: {username: us, password: test}";
    let one = |(name, options, _): &(&str, &str, &str)| {
        let options = options.replace("PASSWORD", password);
        format!(
            "- {{job_name: {name}, scheme: https, static_configs: [{{targets: ['127.0.0.1:{port}']}}], {options}}}\n"
        )
    };
    let all: String = JOBS.iter().map(one).collect();
    format!("global: {{scrape_interval: 1s}}\nscrape_configs:\n{all}")
}

/// A file that is missing costs one job its targets, until it is there; a certificate that is
/// replaced is used without a reload, on both sides.
#[test]
fn jobs_say_what_is_wrong_with_their_files_and_follow_changes() {
    wall_clock(|| {
        let directory = tempfile::tempdir().expect("a directory");
        let directory = directory.path();
        authority(directory, "ca");
        authority(directory, "other");
        certificate(directory, "server", "ca", "DNS:perennial.test");
        let port = free_port();
        write(directory, "prometheus.yml", &jobs(port));
        write(directory, "web.yml", &format!("{SERVER}{USERS}"));
        let _daemon = ours(directory, port);
        wait_status(directory, port, "-k -u us:test", 200);
        for (job, _, complaint) in JOBS {
            let health = if complaint.is_empty() { "up" } else { "down" };
            wait_target(directory, port, job, health, complaint);
        }
        let copy = |from: &str, to: &str| drop(std::fs::copy(directory.join(from), directory.join(to)));
        write(directory, "p", "test\n");
        copy("ca.pem", "later.pem");
        for job in ["password", "later"] {
            wait_target(directory, port, job, "up", "");
        }
        // Another certificate, of another authority: the jobs that trust the first one fail until
        // their file says otherwise.
        certificate(directory, "next", "other", "DNS:perennial.test");
        copy("next.key", "server.key");
        copy("next.pem", "server.pem");
        wait_target(directory, port, "other", "up", "");
        // The connections of before go on, as TLS has it; so this job is asked from anew.
        copy("other.pem", "later.pem");
        wait_target(directory, port, "later", "up", "");
        // One that signed itself, and is its own authority.
        self_signed(directory, "self", "DNS:perennial.test");
        copy("self.key", "server.key");
        copy("self.pem", "server.pem");
        copy("self.pem", "later.pem");
        wait_target(directory, port, "later", "up", "");
        // One of version 1, which has no names: whoever does not verify it can talk to its server.
        certificate(directory, "first", "ca", "");
        copy("first.key", "server.key");
        copy("first.pem", "server.pem");
        wait_status(directory, port, "-k -u us:test", 200);
    });
}

#[test]
fn prometheus_and_this_server_scrape_each_other() {
    wall_clock(|| {
        let directory = with_certificates();
        let directory = directory.path();
        certificate(directory, "client", "ca", "DNS:client.test");
        let ports = [free_port(), free_port()];
        let job = |name: &str, port: u16| {
            format!(
                "- {{job_name: {name}, scheme: https, static_configs: [{{targets: ['127.0.0.1:{port}']}}], \
                 basic_auth: {{username: us, password: test}}, \
                 tls_config: {{ca_file: ca.pem, cert_file: client.pem, key_file: client.key}}}}\n"
            )
        };
        let config = format!(
            "global: {{scrape_interval: 1s}}\nscrape_configs:\n{}{}",
            job("ours", ports[0]),
            job("theirs", ports[1])
        );
        write(directory, "prometheus.yml", &config);
        write(directory, "theirs.yml", &config);
        let asks = ", client_auth_type: RequireAndVerifyClientCert, client_ca_file: ca.pem}";
        write(directory, "web.yml", &format!("{}{USERS}", SERVER.replace('}', asks)));
        let _ours = ours(directory, ports[0]);
        let _theirs = start(directory, &program("prometheus", "prometheus"), ports[1], "theirs");
        let access = "--cert client.pem --key client.key -u us:test";
        for port in ports {
            wait_status(directory, port, &format!("--cacert ca.pem {access}"), 200);
            eventually("both see both", 60, || {
                let all = targets(directory, port, access);
                let up = all.iter().filter(|(_, health, _)| health == "up").count();
                if up == 2 { Ok(()) } else { Err(format!("{all:?}")) }
            });
        }
    });
}

#[test]
fn a_client_without_tls_is_told_and_one_that_guesses_is_stopped() {
    wall_clock(|| {
        let directory = with_certificates();
        let directory = directory.path();
        write(directory, "prometheus.yml", "scrape_configs: []\n");
        let quick = "basic_auth_users: {us: $2b$04$abcdefghijklmnopqrstuuoD8yw7MmybLKVooaTGGZAt3HXugv2.a}\n";
        write(directory, "web.yml", &format!("{SERVER}{quick}"));
        let port = free_port();
        let socket = directory.join("s").display().to_string();
        let path = |name: &str| directory.join(name).display().to_string();
        let arguments = [
            format!("--config.file={}", path("prometheus.yml")),
            format!("--web.config.file={}", path("web.yml")),
            format!("--storage.tsdb.path={}", path("data")),
            format!("--web.listen-address=127.0.0.1:{port}"),
            format!("--web.listen-address=unix://{socket}"),
        ];
        let _daemon = Daemon::start(&binary_under_test(), &arguments, directory);
        wait_status(directory, port, "-k", 401);
        let (_, text) = run(directory, "curl", &format!("-sS --http0.9 http://127.0.0.1:{port}/"));
        assert!(text.contains("Client sent an HTTP request to an HTTPS server."), "{text}");
        let (_, text) =
            run(directory, "curl", &format!("-sSi -k --unix-socket {socket} https://x/-/healthy"));
        assert!(text.contains(" 401"), "{text}");
        assert!(text.to_ascii_lowercase().contains("www-authenticate: basic"), "{text}");
        let guesses: Vec<u32> = (0..40).map(|_| status(directory, port, "-k -u us:no").0).collect();
        assert!(guesses.contains(&401) && guesses.contains(&429), "{guesses:?}");
        // What cannot be used changes nothing.
        write(directory, "web.yml", "basic_auth_users: {us: x}\n");
        std::thread::sleep(std::time::Duration::from_millis(300));
        let (code, text) = status(directory, port, "-k");
        assert_eq!(code, 401, "{text}");
    });
}
