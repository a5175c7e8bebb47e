//! Tests configuration keys that no other test covers: the effect of each on a scrape, a remote
//! write or a rule, against a server in this process that records the requests.

use crate::support::eventually;
use crate::support::http;
use crate::support::server::Server;
use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const BODY: &str = "# TYPE orders counter\norders_total{path=\"abcdefghij\"} 5 # {trace=\"a\"} 1\n\
                    # TYPE visits counter\nvisits_total{path=\"abcdefghij\"} 5 # {trace=\"b\"} 1\n# EOF\n";

/// Answers by the path of the request, and remembers each request with its headers, in lower case.
struct Recorder {
    port: u16,
    seen: Arc<Mutex<Vec<String>>>,
}

impl Recorder {
    fn start() -> Recorder {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let seen: Arc<Mutex<Vec<String>>> = Arc::default();
        let shared = seen.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = shared.clone();
                std::thread::spawn(move || answer(stream, &shared));
            }
        });
        Recorder { port, seen }
    }

    /// Waits for a request whose first line has `begin` and whose headers have `header`.
    fn wait(&self, begin: &str, header: &str) {
        eventually(&format!("{begin} with {header}"), 60, || {
            let seen = self.seen.lock().expect("not poisoned");
            let of_begin: Vec<&String> = seen.iter().filter(|request| request.starts_with(begin)).collect();
            let found = of_begin.iter().any(|request| request.contains(header));
            if found { Ok(()) } else { Err(format!("{:?}", of_begin.last())) }
        });
    }
}

/// Answers one request, and closes the connection.
fn answer(mut stream: TcpStream, seen: &Mutex<Vec<String>>) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).ok()? == 0 {
            return None;
        }
    }
    let head = head.to_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    let length = length.and_then(|length| length.trim().parse::<u64>().ok()).unwrap_or(0);
    reader.take(length).read_to_end(&mut Vec::new()).ok()?;
    let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
    seen.lock().expect("not poisoned").push(head);
    if path.starts_with("/slow") {
        // Longer than any timeout of these tests.
        std::thread::sleep(std::time::Duration::from_secs(5));
    }
    let (status, kind, body) = match path.as_str() {
        "/redirect" => ("302 Found\r\nLocation: /metrics", OPENMETRICS, ""),
        "/html" => ("200 OK", "text/html", "m 1\n"),
        "/busy" | "/busy?often" => ("429 Too Many Requests", "text/plain", "later"),
        "/gone" => ("404 Not Found", "text/plain", ""),
        path if path.starts_with("/write") => ("204 No Content", "text/plain", ""),
        _ => ("200 OK", OPENMETRICS, BODY),
    };
    let length = body.len();
    let text = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    );
    stream.write_all(text.as_bytes()).ok()
}

/// The jobs: name, path, keys, health, a part of the error.
const JOBS: &[(&str, &str, &str, &str, &str)] = &[
    ("names", "/metrics", "label_name_length_limit: 4", "down", "label_name_length_limit exceeded"),
    ("values", "/metrics", "label_value_length_limit: 4", "down", "label_value_length_limit exceeded"),
    ("fallback", "/html", "fallback_scrape_protocol: PrometheusText0.0.4", "up", ""),
    ("no_fallback", "/html", "sample_limit: 0", "down", "no fallback_scrape_protocol specified"),
    ("redirect", "/redirect", "follow_redirects: true", "up", ""),
    ("no_redirect", "/redirect", "follow_redirects: false", "down", "server returned HTTP status 302"),
    ("plain", "/plain", "enable_compression: false", "up", ""),
    ("packed", "/packed", "enable_compression: true", "up", ""),
    ("secret", "/secret", "http_headers: {X-Key: {secrets: [hush]}}", "up", ""),
    ("asked", "/asked", "params: {a: [b, c]}", "up", ""),
    ("typed", "/typed", "authorization: {type: Custom, credentials: cc}", "up", ""),
    ("token", "/token", "bearer_token_file: token", "up", ""),
    ("login", "/login", "basic_auth: {username_file: user, password: pw}", "up", ""),
    ("late", "/slow", "scrape_timeout: 200ms", "down", "context deadline exceeded"),
    ("logged", "/gone", "scrape_failure_log_file: failures.log", "down", "404"),
    ("tunnel", "/t", "scheme: https, proxy_url: '{proxy}', proxy_connect_header: {X-T: [tt]}", "down", ""),
    (
        "kept",
        "/metrics",
        "keep_dropped_targets: 1, relabel_configs: [{source_labels: [__address__], \
     action: drop, regex: 'x:.*'}]",
        "up",
        "",
    ),
];

fn job(port: u16, (name, path, keys, ..): &(&str, &str, &str, &str, &str)) -> String {
    let keys = keys.replace("{proxy}", &format!("http://127.0.0.1:{port}"));
    let more = if *name == "kept" { ", 'x:1', 'x:2', 'x:3'" } else { "" };
    format!(
        "- {{job_name: {name}, metrics_path: {path}, static_configs: [{{targets: ['127.0.0.1:{port}'{more}]}}], \
         {keys}}}\n"
    )
}

fn wait_targets(server: &Server) {
    eventually("every job is as it should be", 60, || {
        let all = server.api("/api/v1/targets?state=active");
        let list = all["activeTargets"].as_array().expect("a list").clone();
        let is = |(name, _, _, health, says): &(&str, &str, &str, &str, &str)| {
            list.iter().any(|target| {
                target["labels"]["job"] == *name
                    && target["health"] == *health
                    && target["lastError"].to_string().contains(says)
            })
        };
        let missing: Vec<&str> = JOBS.iter().filter(|job| !is(job)).map(|job| job.0).collect();
        if missing.is_empty() { Ok(()) } else { Err(format!("{missing:?}: {list:?}")) }
    });
}

/// The value of a metric of the server, whose line begins with `begin`; 0 if there is none.
fn metric(server: &Server, begin: &str) -> f64 {
    let text = server.get("/metrics").text();
    let line = text.lines().find(|line| line.starts_with(begin));
    line.and_then(|line| line.rsplit(' ').next()).and_then(|value| value.parse().ok()).unwrap_or(0.0)
}

#[test]
fn keys_of_jobs_remote_writes_and_rules_do_what_they_say() {
    let recorder = Recorder::start();
    let port = recorder.port;
    let jobs: String = JOBS.iter().map(|one| job(port, one)).collect();
    let queue = "batch_send_deadline: 1s, min_backoff: 100ms";
    let write = |name: &str, path: &str, keys: &str, more: &str| {
        format!(
            "- {{name: {name}, url: 'http://localhost:{port}{path}', {keys}queue_config: {{{queue}{more}}}}}\n"
        )
    };
    let writes = [
        write("again", "/busy", "", ", retry_on_http_429: true"),
        write("once", "/busy?once", "", ""),
        write("age", "/write?age", "", ", sample_age_limit: 1ms"),
        write("ex", "/write?ex", "send_exemplars: true, ", ""),
        write("random", "/write?random", "round_robin_dns: true, ", ""),
        write("often", "/busy?often", "", ", retry_on_http_429: true, max_backoff: 100ms"),
        write("head", "/write?head", "headers: {X-W: ww}, ", ""),
        write(
            "late",
            "/slow?write",
            "remote_timeout: 200ms, ",
            ", min_shards: 3, capacity: 77, max_samples_per_send: 7",
        ),
        write("meta", "/write?meta", "metadata_config: {send_interval: 1s, max_samples_per_send: 1}, ", ""),
        write("bare", "/write?bare", "metadata_config: {send: false, send_interval: 1s}, ", ""),
    ];
    let config = format!(
        "global: {{scrape_interval: 1s, evaluation_interval: 1s, rule_query_offset: 1m}}\n\
         storage: {{exemplars: {{max_exemplars: 1}}}}\nrule_files: [rules.yml]\nscrape_configs:\n{jobs}\
         remote_write:\n{}",
        writes.concat()
    );
    let rules = "groups: [{name: g, rules: [{record: past, expr: 'vector(time())'}]}]\n";
    let flags = ["--scrape.strict-content-type", "--enable-feature=exemplar-storage"];
    let files = [("rules.yml", rules), ("token", "tok\n"), ("user", "u\n")];
    let server = Server::start_with(&config, &files, &flags);
    wait_targets(&server);
    recorder.wait("get /asked?a=b&a=c", "");
    recorder.wait("get /typed", "authorization: custom cc");
    recorder.wait("get /token", "authorization: bearer tok");
    // u:pw
    recorder.wait("get /login", "authorization: basic dtpwdw==");
    recorder.wait("post /write?head", "x-w: ww");
    // A request that is not answered in time is sent again; with pauses that stay short this is
    // soon.
    recorder.wait("post /slow?write", "retry-attempt: 2");
    recorder.wait("post /busy?often", "retry-attempt: 20");
    settings_of_queues_are_told(&server);
    recorder.wait("get /plain", "accept-encoding: identity");
    recorder.wait("get /packed", "accept-encoding: gzip");
    recorder.wait("get /secret", "x-key: hush");
    recorder.wait("connect 127.0.0.1", "x-t: tt");
    recorder.wait("post /busy ", "retry-attempt: 2");
    recorder.wait("post /write?random", "snappy");
    let log = std::fs::read_to_string(server.file("failures.log")).expect("a log of failures");
    let line: Value = serde_json::from_str(log.lines().next().expect("a line")).expect("JSON");
    assert!(line.to_string().contains("404"), "{line}");
    let dropped = server.api("/api/v1/targets?state=dropped&scrapePool=kept");
    let shown = dropped["droppedTargets"].as_array().map_or(0, Vec::len);
    assert_eq!((shown, dropped["droppedTargetCounts"]["kept"].as_u64()), (1, Some(3)), "{dropped}");
    eventually("exemplars are sent, samples are too old, and a rule is of a minute ago", 60, || {
        let sent = metric(&server, "prometheus_remote_storage_exemplars_total{remote_name=\"ex\"");
        let old = server.get("/metrics").text();
        let is_old =
            |line: &&str| line.contains("reason=\"too_old\"") && line.contains("remote_name=\"age\"");
        let old = old.lines().filter(is_old).filter(|line| !line.ends_with(" 0")).count();
        let past = server.query("time() - timestamp(past) > 50");
        if sent > 0.0 && old > 0 && past.len() == 1 {
            Ok(())
        } else {
            Err(format!("{sent} exemplars sent, {old} metrics of old samples, {past:?}"))
        }
    });
    let once = recorder.seen.lock().expect("not poisoned");
    assert!(once.iter().filter(|r| r.starts_with("post /busy?once")).all(|r| !r.contains("retry-attempt")));
    drop(once);
    let kept =
        server.api(&format!("/api/v1/query_exemplars?query={}", http::encode("{__name__=~\".*_total\"}")));
    let exemplars: usize = kept
        .as_array()
        .expect("a list")
        .iter()
        .map(|one| one["exemplars"].as_array().map_or(0, Vec::len))
        .sum();
    assert_eq!(exemplars, 1, "{kept}");
}

/// What Prometheus' metrics say of the settings of a queue, and what was sent of metadata.
fn settings_of_queues_are_told(server: &Server) {
    eventually("metadata are sent, one in a request, and only where that is wanted", 60, || {
        let of = |what: &str, name: &str| {
            metric(server, &format!("prometheus_remote_storage_{what}{{remote_name=\"{name}\""))
        };
        let settings = [
            of("shards_min", "late"),
            of("shard_capacity", "late"),
            of("max_samples_per_send", "late"),
            of("metadata_total", "bare"),
        ];
        let sent = of("metadata_total", "meta");
        if settings == [3.0, 77.0, 7.0, 0.0] && sent > 0.0 {
            Ok(())
        } else {
            Err(format!("{settings:?}, {sent} metadata"))
        }
    });
}

/// What a query asks other servers with.
#[test]
fn keys_of_remote_reads_do_what_they_say() {
    let recorder = Recorder::start();
    let port = recorder.port;
    let config = format!(
        "remote_read:\n- {{url: 'http://127.0.0.1:{port}/read', read_recent: true, headers: {{X-R: rr}}, \
         filter_external_labels: false}}\n\
         - {{url: 'http://127.0.0.1:{port}/slow?read', read_recent: true, remote_timeout: 200ms}}\n"
    );
    let server = Server::start(&config, &[]);
    let asked = std::time::Instant::now();
    let answer = server.get("/api/v1/query?query=up").json();
    // Whoever does not answer in time is left out, with a warning; five seconds is what it would
    // take.
    assert!(asked.elapsed().as_secs() < 4, "{:?}", asked.elapsed());
    assert_eq!(answer["warnings"].as_array().map_or(0, Vec::len), 2, "{answer}");
    recorder.wait("post /read", "x-r: rr");
    recorder.wait("post /slow?read", "");
}

/// What jobs inherit.
#[test]
fn global_limits_hold_for_jobs_without_their_own() {
    let recorder = Recorder::start();
    let port = recorder.port;
    let static_configs = format!("static_configs: [{{targets: ['127.0.0.1:{port}', 'x:1', 'x:2']}}]");
    let rules = "relabel_configs: [{source_labels: [__address__], action: drop, regex: 'x:.*'}]";
    let config = format!(
        "global: {{scrape_interval: 1s, scrape_timeout: 200ms, label_value_length_limit: 4, keep_dropped_targets: 1, \
         scrape_failure_log_file: all.log}}\nscrape_configs:\n\
         - {{job_name: a, {static_configs}, {rules}}}\n\
         - {{job_name: b, {static_configs}, {rules}, label_value_length_limit: 100, keep_dropped_targets: 9}}\n\
         - {{job_name: late, metrics_path: /slow, {static_configs}, {rules}, label_value_length_limit: 100}}\n"
    );
    let server = Server::start(&config, &[]);
    server.wait_health(&[("a", "down"), ("b", "up"), ("late", "down")]);
    let late = server.api("/api/v1/targets?scrapePool=late")["activeTargets"][0].clone();
    assert!(late["lastError"].to_string().contains("context deadline exceeded"), "{late}");
    let dropped = server.api("/api/v1/targets?state=dropped");
    let of = |pool: &str| {
        let list = dropped["droppedTargets"].as_array().expect("a list");
        list.iter().filter(|target| target["scrapePool"] == pool).count()
    };
    assert_eq!((of("a"), of("b")), (1, 2), "{dropped}");
    let log = std::fs::read_to_string(server.file("all.log")).expect("a log of failures");
    assert!(log.contains("label_value_length_limit exceeded"), "{log}");
}
