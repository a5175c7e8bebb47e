//! Tests users who are confined to labels: what such a user gets from every endpoint of the
//! server's table, and that no answer contains data of the other team.
//!
//! Two teams have targets, series, exemplars, metadata, rules, alerts, a view and a table. The user
//! `alice` belongs to the team `tango`; every text of the team `zebra` contains that word.

use crate::support::daemon::free_port;
use crate::support::exporter::Exporter;
use crate::support::http::{self, Answer};
use crate::support::server::{Server, binary_under_test};
use crate::support::{eventually, now_ms};
use api::confinement::ConfinedAccess;
use api::endpoints::ENDPOINTS;
use std::io::{BufRead, Write};

/// Both have the password `test`.
const WEB: &str = "basic_auth_users:\n  \
    alice: $2b$04$abcdefghijklmnopqrstuuoD8yw7MmybLKVooaTGGZAt3HXugv2.a\n  \
    root: $2b$04$abcdefghijklmnopqrstuuoD8yw7MmybLKVooaTGGZAt3HXugv2.a\n\
    basic_auth_user_labels: {alice: {team: tango}}\n";
const ALICE: (&str, &str) = ("Authorization", "Basic YWxpY2U6dGVzdA==");
const ROOT: (&str, &str) = ("Authorization", "Basic cm9vdDp0ZXN0");

const RULES: &str = "groups:\n- name: all\n  rules:\n  \
    - {alert: Everybodys, expr: 'depth > 0'}\n  \
    - {alert: TangoRule, expr: 'tango_depth > 0', labels: {team: tango}}\n  \
    - {alert: ZebraRule, expr: 'zebra_depth > 0', labels: {team: zebra}}\n  \
    - {record: 'depth:by_team', expr: 'sum by (team) (depth)'}\n";

/// Statements over PostgreSQL's wire, and what a confined user gets.
const WIRE: &[(&str, ExpectedAnswer)] = &[
    ("SELECT team, value FROM depth", Own("tango")),
    ("SELECT team FROM samples.depth WHERE ts > now() - interval '1m'", Own("tango")),
    ("SELECT * FROM promql('depth')", Own("tango")),
    ("SELECT * FROM meta.series", Own("tango")),
    ("SELECT * FROM meta.alerts", Own("tango")),
    ("SELECT * FROM meta.views", Nothing("confined to labels")),
    ("SELECT * FROM meta.targets", Nothing("confined to labels")),
    ("SELECT table_name FROM information_schema.tables", Own("tango_depth")),
    ("SELECT relname FROM pg_catalog.pg_class", Own("tango_depth")),
    ("SELECT column_name FROM information_schema.columns", Own("tango_only")),
    ("SELECT usename FROM pg_catalog.pg_user", Nothing("alice")),
    ("COPY (SELECT team FROM depth) TO STDOUT", Own("tango")),
    ("BEGIN; DECLARE c CURSOR FOR SELECT team FROM depth; FETCH ALL FROM c; COMMIT", Own("tango")),
    ("SELECT * FROM sebra_depth", Nothing("sebra_depth")),
    ("SELECT * FROM some_table", Nothing("some_table")),
    ("SHOW TABLES", Nothing("confined to labels")),
    ("SHOW VIEWS", Nothing("confined to labels")),
    ("CREATE TABLE mine (a text)", Nothing("confined to labels")),
    ("INSERT INTO some_table VALUES ('x')", Nothing("confined to labels")),
    ("DELETE FROM some_table", Nothing("confined to labels")),
    ("DROP TABLE some_table", Nothing("confined to labels")),
    ("DROP MATERIALIZED VIEW IF EXISTS other", Nothing("confined to labels")),
    ("COPY some_table FROM STDIN", Nothing("confined to labels")),
];

/// What psql prints for a statement.
fn psql(port: u16, user: &str, statement: &str) -> String {
    let asked = std::process::Command::new("psql")
        .arg(format!("host=127.0.0.1 port={port} user={user} dbname=x"))
        .args(["-X", "-A", "-t", "-c", statement])
        .env("PGPASSWORD", "test")
        .output()
        .expect("psql (Debian package postgresql-client)");
    String::from_utf8_lossy(&[asked.stdout, asked.stderr].concat()).into_owned()
}

fn check_wire(port: u16, statement: &str, want: ExpectedAnswer) {
    let text = psql(port, "alice", statement);
    assert!(!text.contains("zebra"), "{statement}: {text}");
    // Nor who else there is.
    assert!(!text.lines().any(|line| line == "root"), "{statement}: {text}");
    match want {
        Own(own) => {
            assert!(text.contains(own), "{statement} has nothing of their own: {text}");
            let all = psql(port, "root", statement);
            assert!(all.contains("zebra"), "{statement} shows nothing that could be hidden: {all}");
        }
        Nothing(says) => assert!(text.contains(says), "{statement}: {text}"),
        Refused | Same => unreachable!("the wire has no such line"),
    }
}

/// Takes the confinement of `alice` out of the file while a connection of hers is open.
fn check_open_connection(port: u16, web: &std::path::Path) {
    let mut client = std::process::Command::new("psql")
        .arg(format!("host=127.0.0.1 port={port} user=alice dbname=x"))
        .args(["-X", "-A", "-t"])
        .env("PGPASSWORD", "test")
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("psql");
    let mut stdin = client.stdin.take().expect("a pipe");
    let mut lines = std::io::BufReader::new(client.stdout.take().expect("a pipe")).lines();
    stdin.write_all(b"SELECT 'first';\n").expect("written");
    assert_eq!(lines.next().expect("a line").expect("text"), "first");
    let without = WEB.lines().filter(|line| !line.starts_with("basic_auth_user_labels"));
    std::fs::write(web, without.collect::<Vec<_>>().join("\n")).expect("a file");
    // Whoever logs in now sees everything.
    eventually("the new file is in force", 20, || {
        let all = psql(port, "alice", "SELECT team FROM depth");
        if all.contains("zebra") { Ok(()) } else { Err(all) }
    });
    stdin.write_all(b"SELECT team FROM depth;\n").expect("written");
    drop(stdin);
    let rest: String = lines.map(|line| line.expect("text")).collect();
    assert_eq!(rest, "tango");
    client.wait().expect("the end");
    std::fs::write(web, WEB).expect("a file");
    eventually("the old file is in force", 20, || {
        let own = psql(port, "alice", "SELECT team FROM depth");
        if own.contains("zebra") { Err(own) } else { Ok(()) }
    });
}

/// What a confined user should get.
#[derive(Copy, Clone, PartialEq, Debug)]
enum ExpectedAnswer {
    /// 403, whatever the method.
    Refused,
    /// An answer without anything of a series.
    Same,
    /// An answer that has this of the user's own, while that of everybody has the other team's,
    /// too.
    Own(&'static str),
    /// An answer with nothing in it, or an error that says this.
    Nothing(&'static str),
}

use ExpectedAnswer::{Nothing, Own, Refused, Same};

/// Endpoints, as in the table of the server; what is asked; what a confined user gets. The label
/// `{name}` of a path is in the second column.
const TABLE: &[(&str, &str, ExpectedAnswer)] = &[
    ("/api/v1/query", "/api/v1/query?query=depth", Own("tango")),
    ("/api/v1/query", "/api/v1/query?query=sum(depth)by(team)", Own("tango")),
    ("/api/v1/query", "/api/v1/query?query=depth[1m:1s]", Own("tango")),
    ("/api/v1/query", "/api/v1/query?query=max_over_time(depth[1m])", Own("tango")),
    ("/api/v1/query", "/api/v1/query?query=ALERTS", Own("TangoRule")),
    ("/api/v1/query", "/api/v1/query?query=depth{team=\"ze\"}or+depth{team!=\"tango\"}", Nothing("[]")),
    ("/api/v1/query", "/api/v1/query?query=info(depth)", Nothing("confined to labels")),
    ("/api/v1/query_range", "/api/v1/query_range?query=depth&start={then}&end={now}&step=5", Own("tango")),
    ("/api/v1/sql", "/api/v1/sql?query=SELECT+*+FROM+depth", Own("tango")),
    ("/api/v1/sql", "/api/v1/sql?query=SELECT+*+FROM+metrics.metrics", Own("tango")),
    (
        "/api/v1/sql",
        "/api/v1/sql?query=SELECT+*+FROM+samples.depth+WHERE+ts>now()-interval'1m'",
        Own("tango"),
    ),
    ("/api/v1/sql", "/api/v1/sql?query=SELECT+*+FROM+promql('depth')", Own("tango")),
    ("/api/v1/sql", "/api/v1/sql?query=SELECT+team,+count(*)+FROM+depth+GROUP+BY+team", Own("tango")),
    ("/api/v1/sql", "/api/v1/sql?query=SELECT+count(DISTINCT+team),+max(team)+FROM+depth", Own("tango")),
    ("/api/v1/sql", "/api/v1/sql?query=SELECT+*+FROM+sebra_depth", Nothing("")),
    ("/api/v1/sql", "/api/v1/sql?query=SELECT+*+FROM+meta.series", Own("tango")),
    ("/api/v1/sql", "/api/v1/sql?query=SELECT+*+FROM+meta.label_pairs", Own("tango")),
    ("/api/v1/sql", "/api/v1/sql?query=SELECT+*+FROM+meta.exemplars", Own("tango")),
    ("/api/v1/sql", "/api/v1/sql?query=SELECT+*+FROM+meta.metadata", Own("tango")),
    ("/api/v1/sql", "/api/v1/sql?query=SELECT+*+FROM+meta.alerts", Own("tango")),
    ("/api/v1/sql", "/api/v1/sql?query=SELECT+*+FROM+meta.rules", Own("tango")),
    ("/api/v1/sql", "/api/v1/sql?query=SELECT+*+FROM+meta.targets", Nothing("confined to labels")),
    ("/api/v1/sql", "/api/v1/sql?query=SELECT+*+FROM+meta.dropped_targets", Nothing("confined to labels")),
    ("/api/v1/sql", "/api/v1/sql?query=SELECT+*+FROM+meta.alert_history", Nothing("confined to labels")),
    ("/api/v1/sql", "/api/v1/sql?query=SELECT+*+FROM+meta.uses", Nothing("confined to labels")),
    ("/api/v1/sql", "/api/v1/sql?query=SELECT+*+FROM+meta.views", Nothing("confined to labels")),
    ("/api/v1/sql", "/api/v1/sql?query=SELECT+*+FROM+meta.flags", Nothing("confined to labels")),
    ("/api/v1/sql", "/api/v1/sql?query=SHOW+TABLES", Nothing("confined to labels")),
    ("/api/v1/sql", "/api/v1/sql?query=SHOW+VIEWS", Nothing("confined to labels")),
    ("/api/v1/sql", "/api/v1/sql?query=SHOW+ALERTS", Nothing("confined to labels")),
    ("/api/v1/sql", "/api/v1/sql?query=DROP+MATERIALIZED+VIEW+zebra_view", Nothing("confined to labels")),
    ("/api/v1/sql", "/api/v1/sql?query=SELECT+*+FROM+some_table", Nothing("")),
    ("/api/v1/tables", "/api/v1/tables", Refused),
    ("/api/v1/tables/{name}", "/api/v1/tables/some_table", Refused),
    ("/api/v1/query_exemplars", "/api/v1/query_exemplars?query=orders_total", Own("tango")),
    ("/api/v1/format_query", "/api/v1/format_query?query=up", Same),
    ("/api/v1/promql/functions", "/api/v1/promql/functions", Same),
    ("/api/v1/parse_query", "/api/v1/parse_query?query=up", Same),
    ("/api/v1/subscribe", "/api/v1/subscribe?format=ndjson&query=depth", Own("tango")),
    ("/api/v1/subscribe", "/api/v1/subscribe?format=ndjson&query=sum(depth)by(team)", Own("tango")),
    ("/api/v1/subscribe", "/api/v1/subscribe?format=ndjson&sql=SELECT+team,value+FROM+depth", Own("tango")),
    ("/api/v1/subscribe", "/api/v1/subscribe?format=ndjson&view=zebra_view", Nothing("confined to labels")),
    ("/api/v1/subscriptions", "/api/v1/subscriptions", Refused),
    ("/api/v1/subscriptions/{id}", "/api/v1/subscriptions/s0", Refused),
    ("/api/v1/views", "/api/v1/views", Refused),
    ("/api/v1/views/{id}", "/api/v1/views/zebra_view", Refused),
    ("/api/v1/views/{id}/result", "/api/v1/views/zebra_view/result", Refused),
    ("/api/v1/views/{id}/check", "/api/v1/views/zebra_view/check", Refused),
    ("/api/v1/series", "/api/v1/series?match[]={__name__=~\".%2b\"}", Own("tango")),
    ("/api/v1/labels", "/api/v1/labels", Own("tango_only")),
    ("/api/v1/labels", "/api/v1/labels?match[]=depth", Nothing("team")),
    ("/api/v1/label/{name}/values", "/api/v1/label/team/values", Own("tango")),
    ("/api/v1/label/{name}/values", "/api/v1/label/__name__/values", Own("tango_depth")),
    ("/api/v1/label/{name}/values", "/api/v1/label/team/values?match[]=depth", Own("tango")),
    (
        "/api/v1/search/metric_names",
        "/api/v1/search/metric_names?search=&include_metadata=true",
        Own("tango"),
    ),
    ("/api/v1/search/label_names", "/api/v1/search/label_names?search=", Own("tango_only")),
    ("/api/v1/search/label_values", "/api/v1/search/label_values?label=team&search=", Own("tango")),
    ("/api/v1/rules", "/api/v1/rules", Own("TangoRule")),
    ("/api/v1/alerts", "/api/v1/alerts", Own("Everybodys")),
    ("/api/v1/rules/source", "/api/v1/rules/source", Refused),
    ("/api/v1/alerts/history", "/api/v1/alerts/history", Refused),
    ("/api/v1/alerts/silences", "/api/v1/alerts/silences", Refused),
    ("/api/v1/rules/test", "/api/v1/rules/test", Refused),
    ("/api/v1/targets", "/api/v1/targets", Refused),
    ("/api/v1/targets/metadata", "/api/v1/targets/metadata", Refused),
    ("/api/v1/scrape_pools", "/api/v1/scrape_pools", Refused),
    ("/api/v1/targets/relabel_steps", "/api/v1/targets/relabel_steps?scrapePool=zebra&labels={}", Refused),
    ("/api/v1/relabel", "/api/v1/relabel?labels={}", Refused),
    ("/api/v1/scrape_pools/config", "/api/v1/scrape_pools/config?scrapePool=zebra", Refused),
    ("/api/v1/notifications", "/api/v1/notifications", Refused),
    ("/api/v1/notifications/live", "/api/v1/notifications/live", Refused),
    ("/api/v1/features", "/api/v1/features", Same),
    ("/api/v1/openapi.yaml", "/api/v1/openapi.yaml", Same),
    ("/api/v1/status/self_metrics", "/api/v1/status/self_metrics", Refused),
    ("/api/v1/status/tsdb/blocks", "/api/v1/status/tsdb/blocks", Refused),
    ("/api/v1/metadata", "/api/v1/metadata", Own("tango_depth")),
    ("/api/v1/alertmanagers", "/api/v1/alertmanagers", Refused),
    ("/api/v1/status/buildinfo", "/api/v1/status/buildinfo", Same),
    ("/api/v1/status/runtimeinfo", "/api/v1/status/runtimeinfo", Refused),
    ("/api/v1/status/flags", "/api/v1/status/flags", Refused),
    ("/api/v1/status/config", "/api/v1/status/config", Refused),
    ("/api/v1/status/tsdb", "/api/v1/status/tsdb", Refused),
    ("/api/v1/status/queries", "/api/v1/status/queries", Refused),
    ("/api/v1/status/queries/{id}", "/api/v1/status/queries/1", Refused),
    ("/api/v1/status/walreplay", "/api/v1/status/walreplay", Same),
    ("/api/v1/write", "/api/v1/write", Refused),
    ("/api/v1/otlp/v1/metrics", "/api/v1/otlp/v1/metrics", Refused),
    ("/api/v1/read", "/api/v1/read", Own("tango")),
    ("/api/v1/admin/tsdb/delete_series", "/api/v1/admin/tsdb/delete_series?match[]=depth", Refused),
    ("/api/v1/admin/tsdb/clean_tombstones", "/api/v1/admin/tsdb/clean_tombstones", Refused),
    ("/api/v1/admin/tsdb/snapshot", "/api/v1/admin/tsdb/snapshot", Refused),
    ("/federate", "/federate?match[]={__name__=~\".%2b\"}", Own("tango")),
    ("/metrics", "/metrics", Refused),
    ("/version", "/version", Same),
    ("/-/ready", "/-/ready", Same),
    ("/-/healthy", "/-/healthy", Same),
    ("/-/reload", "/-/reload", Refused),
    ("/-/quit", "/-/quit", Refused),
    ("/api", "/api", Same),
    ("/graph", "/graph", Same),
    ("/consoles/{*path}", "/consoles/index.html", Refused),
    ("/user/{*path}", "/user/index.html", Refused),
    ("/", "/", Same),
    ("/a/{file}", "/a/none.js", Same),
    ("/classic/static/{*path}", "/classic/static/none.js", Same),
    ("/favicon.svg", "/favicon.svg", Same),
    ("/agent", "/agent", Same),
    ("/query", "/query", Same),
    ("/alerts", "/alerts", Same),
    ("/alerts/history", "/alerts/history", Same),
    ("/targets", "/targets", Same),
    ("/cardinality", "/cardinality", Same),
    ("/relabel", "/relabel", Same),
    ("/rules", "/rules", Same),
    ("/sql", "/sql", Same),
    ("/queries", "/queries", Same),
    ("/lint", "/lint", Same),
    ("/views", "/views", Same),
    ("/views/{id}", "/views/1", Same),
    ("/service-discovery", "/service-discovery", Same),
    ("/tsdb-status", "/tsdb-status", Same),
    ("/status", "/status", Same),
    ("/flags", "/flags", Same),
    ("/config", "/config", Same),
    ("/alertmanager-discovery", "/alertmanager-discovery", Same),
];

/// The metrics of a team.
fn body(team: &str) -> String {
    format!(
        "# HELP depth Of everybody.\n# TYPE depth gauge\ndepth 3\n\
         # HELP {team}_depth Of {team}.\n# TYPE {team}_depth gauge\n{team}_depth{{{team}_only=\"x\"}} 4\n\
         # TYPE orders counter\norders_total{{path=\"{team}\"}} 5 # {{trace=\"{team}\"}} 1\n# EOF\n"
    )
}

/// A remote read of `depth` of all times.
fn read_request() -> Vec<u8> {
    let matcher = [&[0x12, 8][..], b"__name__", &[0x1a, 5], b"depth"].concat();
    let mut query = vec![0x08, 0, 0x10];
    query.extend([0xff, 0xff, 0xff, 0xff, 0xff, 0x3f]);
    query.push(0x1a);
    query.push(matcher.len() as u8);
    query.extend(&matcher);
    let message = [&[0x0a, query.len() as u8][..], &query].concat();
    snap::raw::Encoder::new().compress_vec(&message).expect("short")
}

/// The answer to one line of the table.
fn ask(server: &Server, url: &str, user: (&str, &str)) -> Answer {
    let now = now_ms() / 1000;
    let url = url.replace("{then}", &(now - 30).to_string()).replace("{now}", &now.to_string());
    let url = url.replace('{', "%7B").replace('}', "%7D").replace('"', "%22").replace('>', "%3E");
    if url.starts_with("/api/v1/read") {
        let mut answer = http::send(server.port, "POST", &url, &[user], &read_request()).expect("an answer");
        let plain = snap::raw::Decoder::new().decompress_vec(&answer.body);
        answer.body = plain.unwrap_or(answer.body);
        return answer;
    }
    if url.starts_with("/api/v1/subscribe") && !url.contains("view=") {
        let mut lines = http::stream(server.port, &url, &[user]).lines();
        let mut text = String::new();
        while !text.contains("\"snapshot\"") {
            text.push_str(&lines.next().expect("a line").expect("a line"));
        }
        return Answer { status: 200, body: text.into_bytes() };
    }
    http::send(server.port, "GET", &url, &[user], b"").unwrap_or_else(|e| panic!("{url}: {e}"))
}

/// A server that scrapes both teams.
struct BothTeams {
    server: Server,
    /// The port of PostgreSQL's wire.
    wire: u16,
    /// The directory of the web file.
    directory: tempfile::TempDir,
    _exporters: [Exporter; 2],
}

fn both_teams() -> BothTeams {
    let openmetrics = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    let exporters = ["tango", "zebra"].map(|team| Exporter::start_as(openmetrics, body(team).as_bytes()));
    let [tango, zebra] = exporters.each_ref().map(|exporter| exporter.port);
    let config = format!(
        "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\nrule_files: [rules.yml]\nscrape_configs:\n\
         - {{job_name: tango, static_configs: [{{targets: ['127.0.0.1:{tango}'], labels: {{team: tango}}}}]}}\n\
         - {{job_name: zebra, static_configs: [{{targets: ['127.0.0.1:{zebra}'], labels: {{team: zebra}}}}]}}\n"
    );
    let directory = tempfile::tempdir().expect("a directory");
    let web = directory.path().join("web.yml");
    // The users come when the server is there: who waits for it has no name.
    std::fs::write(&web, "{}\n").expect("a file");
    let wire = free_port();
    let flags = [
        &format!("--web.config.file={}", web.display()),
        &format!("--sql.listen-address=127.0.0.1:{wire}"),
        "--web.enable-admin-api",
        "--web.enable-otlp-receiver",
        "--enable-feature=exemplar-storage,search-api,promql-experimental-functions",
    ];
    let server = Server::start_with(&config, &[("rules.yml", RULES)], &flags);
    server.wait_rows("count_over_time(depth[1m]) > 3", 2);
    server.wait_rows("ALERTS{alertstate=\"firing\"}", 4);
    let put = |path: &str, kind: &str, text: &str| {
        let answer = http::send(server.port, "PUT", path, &[("Content-Type", kind)], text.as_bytes());
        let answer = answer.expect("an answer");
        assert!(answer.status < 300, "{path}: {}", answer.text());
    };
    put("/api/v1/views/zebra_view", "application/json", r#"{"query": "depth{team=\"zebra\"}"}"#);
    put("/api/v1/tables/some_table", "text/csv", "a\nzebra\n");
    std::fs::write(&web, WEB).expect("a file");
    eventually("users have to say who they are", 20, || match server.get("/version").status {
        401 => Ok(()),
        other => Err(other.to_string()),
    });
    BothTeams { server, wire, directory, _exporters: exporters }
}

fn check(server: &Server, path: &str, url: &str, want: ExpectedAnswer) {
    let answer = ask(server, url, ALICE);
    let text = answer.text();
    assert!(!text.to_lowercase().contains("zebra"), "{url}: {text}");
    match want {
        Refused => {
            let endpoint = ENDPOINTS.iter().find(|endpoint| endpoint.path == path).expect("an endpoint");
            let plain = url.replace('{', "%7B").replace('}', "%7D");
            for method in endpoint.methods {
                let answer =
                    http::send(server.port, method.as_str(), &plain, &[ALICE], b"").expect("an answer");
                assert_eq!(answer.status, 403, "{method} {url}: {}", answer.text());
                assert!(answer.text().contains("confined to labels"), "{method} {url}: {}", answer.text());
            }
        }
        Same => assert!(![401, 403, 500].contains(&answer.status), "{url}: {} {text}", answer.status),
        Own(own) => {
            assert_eq!(answer.status, 200, "{url}: {text}");
            assert!(text.contains(own), "{url} has nothing of their own: {text}");
            let all = ask(server, url, ROOT).text();
            assert!(all.to_lowercase().contains("zebra"), "{url} shows nothing that could be hidden: {all}");
        }
        Nothing(says) => assert!(text.contains(says), "{url}: {} {text}", answer.status),
    }
}

/// A new endpoint fails this test until it has a line in the table.
#[test]
fn every_endpoint_shows_a_confined_user_their_own_series_only() {
    let BothTeams { server, wire, directory, _exporters } = both_teams();
    for endpoint in ENDPOINTS {
        let lines: Vec<_> = TABLE.iter().filter(|(path, _, _)| *path == endpoint.path).collect();
        assert!(!lines.is_empty(), "{} has no line in the table of this test", endpoint.path);
        let access = endpoint.confined;
        for (_, url, want) in &lines {
            let agrees = match want {
                Refused => access == ConfinedAccess::Refused,
                Same => access == ConfinedAccess::Same,
                Own(_) | Nothing(_) => access == ConfinedAccess::Own,
            };
            assert!(agrees, "{url}: the table of endpoints says {access:?}, this one {want:?}");
        }
    }
    for (path, url, want) in TABLE {
        assert!(ENDPOINTS.iter().any(|endpoint| endpoint.path == *path), "there is no endpoint {path}");
        check(&server, path, url, *want);
    }
    // Forms are the same as URLs.
    let form = [ALICE, ("Content-Type", "application/x-www-form-urlencoded")];
    let answer = http::send(server.port, "POST", "/api/v1/query", &form, b"query=depth").expect("an answer");
    assert!(answer.text().contains("tango") && !answer.text().contains("zebra"), "{}", answer.text());
    for (statement, want) in WIRE {
        check_wire(wire, statement, *want);
    }
    // A confinement that is taken away does not let an open connection see more.
    check_open_connection(wire, &directory.path().join("web.yml"));
    // Our own command, with a file as promtool takes it.
    let http_file = directory.path().join("http.yml");
    std::fs::write(&http_file, "basic_auth: {username: alice, password: test}\n").expect("a file");
    let asked = std::process::Command::new(binary_under_test())
        .args(["sql", &format!("--url=http://127.0.0.1:{}", server.port)])
        .arg(format!("--http.config.file={}", http_file.display()))
        .arg("SELECT team, value FROM depth")
        .output()
        .expect("our binary");
    let text = String::from_utf8_lossy(&[asked.stdout, asked.stderr].concat()).into_owned();
    assert!(text.contains("tango") && text.contains("(1 row"), "{text}");
}

#[test]
fn a_web_file_with_a_slip_confines_nobody_by_mistake() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("web.yml");
    let users = "basic_auth_users: {alice: $2b$04$abcdefghijklmnopqrstuuoD8yw7MmybLKVooaTGGZAt3HXugv2.a}\n";
    for (labels, says) in [
        ("{alcie: {team: a}}", "alcie is not among basic_auth_users"),
        ("{alice: {}}", "there is no label that confines the user"),
        ("{alice: {team: ''}}", "needs a name and a value"),
    ] {
        std::fs::write(&file, format!("{users}basic_auth_user_labels: {labels}\n")).expect("a file");
        let error = perennial::config::read_web_file(&file).expect_err("a slip").to_string();
        assert!(error.contains(says), "{labels}: {error}");
    }
}
