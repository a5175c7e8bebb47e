//! Parameters over PostgreSQL's wire: tokio-postgres and psycopg send them in the types that the
//! server describes, also lists; and an exchange of pgx (Go) that was recorded.

use super::*;
use tokio_postgres::error::SqlState;

#[tokio::test(flavor = "multi_thread")]
async fn tokio_postgres_sends_lists_and_limits() {
    let served = tokio::task::spawn_blocking(|| served(&[])).await.expect("a server");
    let client = connected(served.port).await;
    for (text, params) in [
        ("SELECT a FROM x WHERE a = ANY($1)", vec![Type::TEXT_ARRAY]),
        ("SELECT a FROM x WHERE value = ANY($1)", vec![Type::FLOAT8_ARRAY]),
        ("SELECT a FROM x LIMIT $1 OFFSET $2", vec![Type::INT8, Type::INT8]),
        ("SELECT $1::int8, $2::text, $3::timestamptz", vec![Type::INT8, Type::TEXT, Type::TIMESTAMPTZ]),
        ("SELECT oid FROM pg_class WHERE oid = $1 OR relname = ANY($2)", vec![Type::OID, Type::NAME_ARRAY]),
    ] {
        let statement = client.prepare(text).await.expect(text);
        assert_eq!(statement.params(), params, "{text}");
    }
    let texts =
        |rows: Vec<tokio_postgres::Row>| -> Vec<String> { rows.iter().map(|row| row.get(0)).collect() };
    let rows = client.query("SELECT a FROM x WHERE a = ANY($1)", &[&["2", "9"].as_slice()]).await;
    assert_eq!(texts(rows.expect("rows")), ["2"]);
    let rows = client.query("SELECT a FROM x WHERE a <> ALL($1) ORDER BY a", &[&Vec::<String>::new()]).await;
    assert_eq!(texts(rows.expect("rows")), ["1", "2"]);
    let rows =
        client.query("SELECT a FROM x WHERE value = ANY($1::int8[])", &[&vec![Some(5_i64), None]]).await;
    assert_eq!(texts(rows.expect("rows")), ["2"]);
    let rows = client.query("SELECT a FROM x ORDER BY a LIMIT $1 OFFSET $2", &[&1_i64, &1_i64]).await;
    assert_eq!(texts(rows.expect("rows")), ["2"]);
    let row =
        client.query_one("SELECT $1::int8 + 1, $2::bool, $3::text", &[&41_i64, &true, &None::<&str>]).await;
    let row = row.expect("a row");
    assert_eq!(
        (row.get::<_, i64>(0), row.get::<_, bool>(1), row.get::<_, Option<&str>>(2)),
        (42, true, None)
    );
    let names = ["x", "pg_am"].as_slice();
    let rows = client.query("SELECT relname FROM pg_class WHERE relname = ANY($1)", &[&names]).await;
    let mut found = texts(rows.expect("rows"));
    found.sort();
    assert_eq!(found, ["pg_am", "x", "x"], "of the catalogs, of metrics, and of samples");
    let error = client.query("SELECT 'x'::int8", &[]).await.expect_err("no number");
    assert_eq!(error.code(), Some(&SqlState::INVALID_TEXT_REPRESENTATION));
    assert_eq!(
        error.as_db_error().expect("an error").message(),
        "invalid input syntax for type bigint: \"x\""
    );
}

#[test]
fn psycopg_sends_values_of_its_types() {
    let served = served(&["--web.enable-admin-api"]);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/wire_parameters.py");
    let output = Command::new(python()).arg(script).arg(served.port.to_string()).output().expect("python");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let found: Value = serde_json::from_str(&text)
        .unwrap_or_else(|e| panic!("{e}: {text}{}", String::from_utf8_lossy(&output.stderr)));
    // The same in the text and in the binary form.
    let values = json!({
        "list": ["2"],
        "numbers": ["2"],
        "none of": ["1"],
        "limit": ["2"],
        "typed": [7, 2.5, "x'y", true, null],
        "time": ["2026-01-02T03:04:05.678000+00:00", "2026-01-02", "1 day, 0:00:01"],
        "decimal": "12.50",
        "catalog": ["pg_am"],
    });
    assert_eq!(
        found,
        json!({ "text": values, "binary": values, "errors": ["22P02", "22P02", "22003", "42883", "42804", "42P01"] })
    );
}

/// What pgx 5 sends for the statements of `tests/data/wire_pgx.txt` gets the answers that it could
/// work with when it was recorded: it encodes values by the types that the server describes.
#[test]
fn an_exchange_of_pgx_is_answered_as_it_was_recorded() {
    let served = served(&[]);
    let recorded = include_str!("../data/wire_pgx.txt");
    let mut wire = WireReplay::connect(served.port);
    let mut steps = 0;
    for case in recorded.split("\n\n").filter(|case| !case.starts_with('#')) {
        let lines: Vec<&str> = case.lines().collect();
        let name = lines.first().expect("a name");
        let sent = lines.iter().filter_map(|line| line.strip_prefix("> "));
        wire.stream.write_all(&sent.flat_map(from_hex).collect::<Vec<u8>>()).expect("sent");
        let wanted: Vec<&str> = lines.iter().filter_map(|line| line.strip_prefix("< ")).collect();
        let ends = wanted.iter().filter(|line| line.starts_with('Z')).count();
        assert_eq!(wire.answers(ends), wanted, "{name}");
        steps += 1;
    }
    assert!(steps >= 8, "{steps}");
}

fn from_hex(text: &str) -> Vec<u8> {
    let digits: Vec<u32> = text.chars().map(|c| c.to_digit(16).expect("a digit")).collect();
    digits.chunks(2).map(|pair| u8::try_from(pair[0] * 16 + pair[1]).expect("a byte")).collect()
}

/// A connection over which recorded messages are sent.
struct WireReplay {
    stream: TcpStream,
}

impl WireReplay {
    /// Connects and waits for the server to be ready.
    fn connect(port: u16) -> WireReplay {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("a connection");
        stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a timeout");
        let body = b"\0\x03\0\0user\0ana\0database\0x\0\0";
        let length = u32::try_from(body.len() + 4).expect("a length");
        stream.write_all(&[&length.to_be_bytes()[..], body].concat()).expect("sent");
        let mut wire = WireReplay { stream };
        wire.answers(1);
        wire
    }

    /// The messages up to the last of so many `ReadyForQuery`, a line each: the letter, and in hex
    /// what is not the same in each run.
    fn answers(&mut self, mut ends: usize) -> Vec<String> {
        let mut lines = Vec::new();
        while ends > 0 {
            let mut head = [0; 5];
            self.stream.read_exact(&mut head).expect("a message");
            let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]);
            let mut body = vec![0; length as usize - 4];
            self.stream.read_exact(&mut body).expect("a message");
            let letter = char::from(head[0]);
            ends -= usize::from(letter == 'Z');
            let hex: String = body.iter().map(|byte| format!("{byte:02x}")).collect();
            lines.push(format!("{letter} {hex}").trim_end().to_owned());
        }
        lines
    }
}
