//! Tests the PostgreSQL wire with real clients: psql, psycopg and tokio-postgres. [`bad_input`],
//! [`grafana`], [`parameters`], [`records`] and [`tables`] have further tests.
#![cfg(feature = "sql")]

#[allow(dead_code, reason = "shared with other tests")]
mod support;

#[path = "postgres/bad_input.rs"]
mod bad_input;
#[path = "postgres/grafana.rs"]
mod grafana;
#[path = "postgres/parameters.rs"]
mod parameters;
#[path = "postgres/records.rs"]
mod records;
#[path = "postgres/tables.rs"]
mod tables;

use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use support::daemon::{Daemon, free_port, program, python};
use support::exporter::Exporter;
use support::server::{Server, binary_under_test};
use tokio_postgres::types::Type;
use tokio_postgres::{Client, NoTls};

const CONFIG: &str = "\
global: {scrape_interval: 200ms, scrape_timeout: 200ms, evaluation_interval: 1s}
scrape_configs:
  - job_name: a
    static_configs: [{targets: ['{target}']}]
";
/// The hash of `test`.
const HASH: &str = "$2b$04$abcdefghijklmnopqrstuuoD8yw7MmybLKVooaTGGZAt3HXugv2.a";
/// The verifier of `secret`.
const VERIFIER: &str = "SCRAM-SHA-256$4096:c2l4dGVlbiBieXRlIHNhbA==$ou91IS0jrEwcRLqC8qJPmlao0rD1iE40ksecZJS3u5Q=:c0vjUtjgc0Rmxx/+M722tWatX9VS9J11ZOcg0yTHAbU=";

/// A server that has samples of `x`, and its port for the wire.
struct PostgresServer {
    server: Server,
    port: u16,
    exporter: Exporter,
}

fn served(flags: &[&str]) -> PostgresServer {
    let exporter = Exporter::start("x{a=\"1\"} 0\nx{a=\"2\"} 5\n");
    let port = free_port();
    let listen = format!("--sql.listen-address=127.0.0.1:{port}");
    let config = CONFIG.replace("{target}", &format!("127.0.0.1:{}", exporter.port));
    let flags: Vec<&str> = flags.iter().copied().chain([listen.as_str()]).collect();
    let server = Server::start_with(&config, &[], &flags);
    server.wait_rows("x", 2);
    PostgresServer { server, port, exporter }
}

/// What psql prints for a command, and on its standard error.
fn psql(connection: &str, password: &str, commands: &[&str]) -> (String, String) {
    let mut psql = Command::new(program("psql", "postgresql-client"));
    psql.args(["-X", "-A", "-t", "-d", connection]).env("PGPASSWORD", password);
    for command in commands {
        psql.args(["-c", command]);
    }
    let output = psql.output().expect("psql");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
    (text(&output.stdout), text(&output.stderr))
}

fn local(port: u16) -> String {
    format!("host=127.0.0.1 port={port} user=ana dbname=x connect_timeout=10")
}

#[test]
fn psql_asks_and_describes() {
    let served = served(&["--web.enable-admin-api"]);
    let connection = local(served.port);
    for (command, want) in [
        ("SELECT a, value FROM x ORDER BY a", "1|0\n2|5"),
        ("SELECT 1 AS one; SELECT 'b'", "1\nb"),
        ("SELECT 'NaN'::float8, NULL, true, interval '1 day 90 seconds'", "NaN||t|1 day 00:01:30"),
        ("\\dn", "meta|perennial\nmetrics|perennial\npublic|perennial\nsamples|perennial"),
        ("\\dt x", "metrics|x|table|perennial"),
        (
            "\\d samples.x",
            "ts|timestamp with time zone||not null|\na|text||not null|\ninstance|text||not null|\njob|text||not null|\nvalue|double precision|||\nhistogram|text|||\nlabels|text||not null|",
        ),
        ("\\df rate", "metrics|rate|double precision||func"),
        ("\\du ana", "ana||{}"),
        ("BEGIN; SELECT 1; COMMIT", "BEGIN\n1\nCOMMIT"),
        ("SHOW server_version", "15.0"),
        (
            "CREATE MATERIALIZED VIEW v AS SELECT job, sum(value) FROM x GROUP BY job",
            "CREATE MATERIALIZED VIEW",
        ),
        ("SHOW VIEWS", "v|||SELECT job, sum(value) FROM x GROUP BY job|materialized view"),
        ("DROP MATERIALIZED VIEW v", "DROP MATERIALIZED VIEW"),
        ("SHOW TABLES", ""),
    ] {
        let (out, err) = psql(&connection, "", &[command]);
        assert_eq!((out.as_str(), err.as_str()), (want, ""), "{command}");
    }
    let (out, _) = psql(&connection, "", &["\\l"]);
    assert!(out.starts_with("perennial|perennial|UTF8"), "{out}");
    for (command, want) in [
        (
            "SELECT job,\n rat(value) FROM x",
            "ERROR:  there is no function rat()\nLINE 2:  rat(value) FROM x\n         ^\nHINT:  did you mean",
        ),
        ("SELECT 1; SELECT nope.b FROM x", "ERROR:  "),
        ("INSERT INTO x VALUES (1)", "ERROR:  there is no table \"x\""),
        ("UPDATE x SET a = 1", "ERROR:  there is no table \"x\""),
        ("MERGE INTO x USING y ON true", "ERROR:  MERGE is not a statement that is answered here"),
        ("SELECT 1 / 0", "ERROR:  Divide by zero"),
        ("SET client_encoding = 'LATIN1'", "ERROR:  invalid value for parameter \"client_encoding\""),
    ] {
        let (_, err) = psql(&connection, "", &[command]);
        assert!(err.starts_with(want), "{command}: {err}");
    }
    support::eventually("all have gone", 10, || {
        let metrics = served.server.get("/metrics").text();
        let have_gone = metrics.contains("perennial_sql_connections 0");
        if have_gone { Ok(()) } else { Err("some are left".to_owned()) }
    });
}

/// A table that is put over HTTP is joined with a metric over the wire, and is there after kill -9.
#[test]
fn tables_are_joined_and_survive_a_kill() {
    let mut served = served(&["--web.enable-admin-api"]);
    let put = |served: &PostgresServer, name: &str, body: &str| {
        let kind = [("content-type", "text/csv")];
        support::http::send(
            served.server.port,
            "PUT",
            &format!("/api/v1/tables/{name}"),
            &kind,
            body.as_bytes(),
        )
    };
    let answer = put(&served, "owners", "a,owner,pager\n1,ana,0123\n2,bo,0456\n").expect("an answer");
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.json()["data"]["rows"], 2, "{}", answer.text());
    let ask = |served: &PostgresServer, statement: &str| psql(&local(served.port), "", &[statement]);
    let join = "SELECT o.owner, o.pager, x.value FROM x JOIN owners o ON x.a = o.a::text WHERE x.value > 1";
    assert_eq!(ask(&served, join).0, "bo|0456|5");
    assert_eq!(ask(&served, "\\d owners").0, "a|bigint|||\nowner|text|||\npager|text|||");
    served.server.kill();
    served.server.run();
    assert_eq!(ask(&served, "SELECT owner FROM owners ORDER BY 1").0, "ana\nbo");
    assert!(ask(&served, "SHOW TABLES").0.starts_with("owners|2|"), "{:?}", ask(&served, "SHOW TABLES"));
    let answer = put(&served, "owners", "a,owner\n1\n").expect("an answer");
    assert_eq!(answer.status, 400, "{}", answer.text());
    assert!(answer.text().contains("line 2: 1 fields, but there are 2 columns"), "{}", answer.text());
    assert_eq!(put(&served, "targets", "a\n1\n").expect("an answer").status, 400, "a list of the server");
    assert_eq!(ask(&served, "DROP TABLE owners").0, "DROP TABLE");
    assert!(ask(&served, "SELECT * FROM owners").1.contains("there is no metric \"owners\""));
}

#[test]
fn psycopg_prepares_cancels_and_reads_binary() {
    let served = served(&[]);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/wire_psycopg.py");
    let output = Command::new(python()).arg(script).arg(served.port.to_string()).output().expect("python");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let found: Value = serde_json::from_str(&text)
        .unwrap_or_else(|e| panic!("{e}: {text}{}", String::from_utf8_lossy(&output.stderr)));
    let hint = "did you mean \"at\" or \"irate\" or \"rate\"?";
    let want = json!({
        "version": 150_000,
        "param": [["a", 0.0]],
        "binary": [[1, 1.5, "a", true, true], true, [20, 701, 25, 16, 16, 1184]],
        "number": [3.5],
        "type": "<TypeInfo: text (oid: 25, array oid: 1009)>",
        "error": ["42883", hint, "14"],
        "failed": "25P02",
        "canceled": "57014",
        "timeout": "57014",
        "streamed": ["1", "2"],
    });
    assert_eq!(found, want);
}

async fn connected(port: u16) -> Client {
    let (client, connection) = tokio_postgres::connect(&local(port), NoTls).await.expect("a connection");
    tokio::spawn(connection);
    client
}

#[tokio::test(flavor = "multi_thread")]
async fn tokio_postgres_prepares_statements_with_binary_values() {
    let served = tokio::task::spawn_blocking(|| served(&[])).await.expect("a server");
    let mut client = connected(served.port).await;
    let statement =
        client.prepare("SELECT a, value, ts FROM x WHERE value > $1 AND a = $2").await.expect("prepared");
    assert_eq!(statement.params(), [Type::FLOAT8, Type::TEXT]);
    let kinds: Vec<&Type> = statement.columns().iter().map(|column| column.type_()).collect();
    assert_eq!(kinds, [&Type::TEXT, &Type::FLOAT8, &Type::TIMESTAMPTZ]);
    let rows = client.query(&statement, &[&1.0_f64, &"2"]).await.expect("rows");
    let row = rows.first().expect("a row");
    assert_eq!((row.get::<_, &str>(0), row.get::<_, f64>(1)), ("2", 5.0));
    assert!(client.query(&statement, &[&9.0_f64, &"2"]).await.expect("rows").is_empty());
    // A list of a type that the client asks the catalogs for.
    let row =
        client.query_one("SELECT current_schemas(false), 7::int2, 'x'::\"char\"", &[]).await.expect("a row");
    assert_eq!(row.get::<_, Vec<String>>(0), ["public", "metrics", "meta"]);
    assert_eq!((row.get::<_, i16>(1), row.get::<_, i8>(2)), (7, i8::try_from(b'x').expect("ASCII")));
    // A portal that is fetched in parts.
    let transaction = client.transaction().await.expect("a transaction");
    let portal = transaction.bind("SELECT metric FROM series ORDER BY metric", &[]).await.expect("a portal");
    let first = transaction.query_portal(&portal, 2).await.expect("rows");
    let rest = transaction.query_portal(&portal, 0).await.expect("rows");
    assert_eq!(first.len(), 2);
    assert!(rest.len() >= 5, "{}", rest.len());
    transaction.commit().await.expect("the end");
    let error = client.query("SELECT 1 FROM nothing_here", &[]).await.expect_err("no such metric");
    let error = error.as_db_error().expect("an error of the server");
    assert_eq!((error.code().code(), error.severity()), ("42P01", "ERROR"));
    assert!(error.hint().is_some(), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_hold_and_say_so() {
    let served = tokio::task::spawn_blocking(|| served(&[])).await.expect("a server");
    let mut clients = Vec::new();
    for _ in 0..postgres::limits::WIRE_CONNECTIONS {
        clients.push(connected(served.port).await);
    }
    let refused = tokio_postgres::connect(&local(served.port), NoTls).await.err().expect("one too many");
    assert_eq!(refused.as_db_error().expect("an error of the server").code().code(), "53300");
    let client = clients.pop().expect("a client");
    drop(clients);
    let mut kept = Vec::new();
    let error = loop {
        match client.prepare("SELECT 1").await {
            Ok(statement) => kept.push(statement),
            Err(e) => break e,
        }
        assert!(kept.len() <= postgres::limits::WIRE_PREPARED);
    };
    assert_eq!(error.as_db_error().expect("an error of the server").code().code(), "54000");
    drop(kept);
    let chain = format!("SELECT 1{}", " + 1".repeat(3_000));
    let error = client.query(&chain, &[]).await.expect_err("the guard");
    assert!(error.as_db_error().expect("an error").message().contains("operators in a row"), "{error:?}");
    let (_, rows) = tokio::task::spawn_blocking(move || (raw(served.port), served.server.query("up").len()))
        .await
        .expect("the end");
    assert_eq!(rows, 1, "the server goes on");
}

/// Bytes that are no messages: the connection ends, after a message if there can be one.
fn raw(port: u16) {
    let ends = |bytes: &[u8]| {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("a connection");
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
        stream.write_all(bytes).expect("written");
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        answer
    };
    assert!(ends(b"GET / HTTP/1.1\r\n\r\n").is_empty());
    assert!(ends(&[0, 0, 0, 4, 0, 0, 0, 0]).is_empty());
    let hello = |rest: &[u8]| [&[0, 0, 0, 18, 0, 3, 0, 0][..], b"user\0ana\0\0", rest].concat();
    let huge = ends(&hello(&[b'Q', 0x3f, 0xff, 0xff, 0xff, b'S']));
    let text = String::from_utf8_lossy(&huge).into_owned();
    assert!(text.contains("08P01") && text.contains("a message of 1073741823 bytes"), "{text}");
    // A message that says less than it has to.
    ends(&hello(&[b'B', 0, 0, 0, 6, 0, 0]));
}

fn openssl(directory: &Path, arguments: &str) {
    let done =
        Command::new("openssl").args(arguments.split(' ')).current_dir(directory).output().expect("openssl");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

/// A server with TLS and users; it needs no wait but for the wire.
fn protected(directory: &Path, web: &str, address: &str) -> (Daemon, u16) {
    let file = |name: &str, text: &str| std::fs::write(directory.join(name), text).expect("a file");
    file("p.yml", "global: {}\n");
    file("web.yml", web);
    let port = free_port();
    let within = |name: &str| directory.join(name).display().to_string();
    let arguments = [
        format!("--config.file={}", within("p.yml")),
        format!("--storage.tsdb.path={}", within("data")),
        format!("--web.listen-address=127.0.0.1:{}", free_port()),
        format!("--web.config.file={}", within("web.yml")),
        format!("--sql.listen-address={address}:{port}"),
    ];
    let daemon = Daemon::start(&binary_under_test(), &arguments, directory);
    support::eventually("the wire is served", 60, || {
        TcpStream::connect(("127.0.0.1", port)).map(drop).map_err(|e| e.to_string())
    });
    (daemon, port)
}

#[test]
fn users_log_in_over_tls() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path();
    openssl(
        path,
        "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout k.key -out k.pem -subj /CN=localhost -addext subjectAltName=DNS:localhost,IP:127.0.0.1",
    );
    let web = format!(
        "tls_server_config: {{cert_file: k.pem, key_file: k.key}}\nbasic_auth_users: {{us: {HASH}, cat: {HASH}}}\n\
         basic_auth_user_labels: {{cat: {{team: a}}}}\nsql_users: {{ana: '{VERIFIER}'}}\n"
    );
    let (_daemon, port) = protected(path, &web, "127.0.0.1");
    let root = path.join("k.pem");
    let ask = |user: &str, password: &str, more: &str| {
        let root = root.display();
        let connection = format!("host=localhost port={port} user={user} dbname=x sslrootcert={root} {more}");
        psql(&connection, password, &["SELECT current_user"])
    };
    assert_eq!(ask("us", "test", "sslmode=verify-full"), ("us".to_owned(), String::new()));
    assert_eq!(
        ask("ana", "secret", "sslmode=verify-full channel_binding=require"),
        ("ana".to_owned(), String::new())
    );
    assert_eq!(
        ask("ana", "secret", "sslmode=disable"),
        ("ana".to_owned(), String::new()),
        "SCRAM shows nothing"
    );
    // What users who are confined to labels see is in tests/peers/confined.rs.
    assert_eq!(ask("cat", "test", "sslmode=verify-full"), ("cat".to_owned(), String::new()));
    for (user, password) in [("us", "wrong"), ("nobody", "test"), ("ana", "wrong")] {
        let (out, err) = ask(user, password, "sslmode=verify-full");
        let want = format!("FATAL:  password authentication failed for user \"{user}\"");
        assert!(out.is_empty() && err.contains(&want), "{user}: {out}{err}");
    }
}

/// A client at an address that is not of the loopback is not asked for a password without TLS. The
/// address is this machine's own, so nothing leaves it; a machine without one has no such client.
#[test]
fn no_password_is_asked_for_in_clear_text() {
    // No packet is sent: a UDP socket only finds out its address.
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").expect("a socket");
    let own = socket.connect("198.51.100.1:9").and_then(|()| socket.local_addr()).map(|address| address.ip());
    let Some(own) = own.ok().filter(|ip| !ip.is_loopback()) else {
        eprintln!("this machine has no address of its own");
        return;
    };
    let directory = tempfile::tempdir().expect("a directory");
    let web = format!("basic_auth_users: {{us: {HASH}}}\nsql_users: {{ana: '{VERIFIER}'}}\n");
    let (_daemon, port) = protected(directory.path(), &web, "0.0.0.0");
    let ask = |host: &str, user: &str, password: &str| {
        let connection = format!("host={host} port={port} user={user} dbname=x sslmode=disable");
        psql(&connection, password, &["SELECT current_user"])
    };
    let own = own.to_string();
    let (out, err) = ask(&own, "us", "test");
    assert!(out.is_empty() && err.contains("in clear text: connect with TLS"), "{out}{err}");
    assert_eq!(ask(&own, "ana", "secret"), ("ana".to_owned(), String::new()), "SCRAM shows nothing");
    assert_eq!(ask("127.0.0.1", "us", "test"), ("us".to_owned(), String::new()));
}

#[test]
fn without_users_only_this_machine_is_let_in() {
    let server = Server::start("global: {}\n", &[]);
    let (code, text) = server.fail_beside(&["--sql.listen-address=0.0.0.0:0"]);
    assert_eq!(code, Some(1), "{text}");
    assert!(
        text.contains(
            "--sql.listen-address: without users in --web.config.file only an address of this machine"
        ),
        "{text}"
    );
}
