//! Tests: statements that make and change tables, and `COPY`, are read.

use super::super::parse;
use super::*;

fn text(text: &str) -> InsertedValue {
    InsertedValue::Text(text.to_owned())
}

#[test]
fn tables_are_read() {
    let column = |name: &str, kind| ColumnDefinition { name: name.to_owned(), kind };
    let want = CreateTableStatement {
        name: "owners".to_owned(),
        if_not_exists: true,
        columns: vec![
            column("job", ColumnType::Text),
            column("n", ColumnType::Integer),
            column("Price", ColumnType::Float),
            column("since", ColumnType::Time),
        ],
        key: vec!["job".to_owned()],
    };
    let statement = "CREATE TABLE IF NOT EXISTS public.Owners (job varchar(20) PRIMARY KEY, n int NULL, \
        \"Price\" double precision, since timestamp with time zone);";
    assert_eq!(parse(statement), Ok(SqlStatement::CreateTable(want)));
    let Ok(SqlStatement::CreateTable(of_two)) = parse("CREATE TABLE t (a text, b text, PRIMARY KEY (b, a))")
    else {
        panic!("a table");
    };
    assert_eq!(of_two.key, ["b", "a"]);
    let inserted = InsertStatement {
        name: "t".to_owned(),
        columns: vec!["a".to_owned(), "b".to_owned()],
        source: InsertSource::Values(vec![
            vec![text("it's"), text("-1.5")],
            vec![InsertedValue::Null, InsertedValue::Parameter(2)],
            vec![text("true"), InsertedValue::Now],
        ]),
    };
    let statement = "INSERT INTO t (a, b) VALUES ('it''s', -1.5), (NULL::text, $2::int8), (true, now())";
    assert_eq!(parse(statement), Ok(SqlStatement::Insert(inserted)));
    let of_query = InsertStatement {
        name: "t".to_owned(),
        columns: vec!["a".to_owned()],
        source: InsertSource::Query {
            text: "                  SELECT job FROM up WHERE value = $2".to_owned(),
            params: 2,
        },
    };
    let statement = "INSERT INTO t (a) SELECT job FROM up WHERE value = $2;";
    assert_eq!(parse(statement), Ok(SqlStatement::Insert(of_query)));
    let updated = UpdateStatement {
        name: "t".to_owned(),
        assignments: vec![("a".to_owned(), text("x")), ("b".to_owned(), InsertedValue::Null)],
        conditions: vec![("c".to_owned(), InsertedValue::Parameter(1))],
    };
    let statement = "UPDATE public.t SET a = 'x', B = NULL WHERE c = $1";
    assert_eq!(parse(statement), Ok(SqlStatement::Update(updated)));
    let deleted = DeleteStatement {
        name: "t".to_owned(),
        is_truncate: false,
        conditions: vec![("a".to_owned(), text("1")), ("b".to_owned(), InsertedValue::Parameter(1))],
    };
    assert_eq!(parse("DELETE FROM t WHERE a = 1 AND b = $1"), Ok(SqlStatement::Delete(deleted)));
    let emptied = DeleteStatement { name: "t".to_owned(), is_truncate: true, conditions: Vec::new() };
    assert_eq!(parse("TRUNCATE TABLE T"), Ok(SqlStatement::Delete(emptied)));
}

#[test]
fn copies_are_read() {
    let into = |columns: &[&str], format| {
        Ok(SqlStatement::CopyIn(CopyInStatement {
            name: "t".to_owned(),
            columns: columns.iter().map(|name| (*name).to_owned()).collect(),
            format,
        }))
    };
    let csv = CopyFormat { has_header: true, ..CopyFormat::csv() };
    assert_eq!(parse("COPY t FROM STDIN"), into(&[], CopyFormat::text()));
    assert_eq!(parse("COPY t (a, B) FROM STDIN WITH (FORMAT csv, HEADER)"), into(&["a", "b"], csv.clone()));
    assert_eq!(parse("COPY public.t FROM stdin CSV HEADER"), into(&[], csv.clone()));
    assert_eq!(
        parse("COPY t FROM STDIN (HEADER false, DELIMITER ';', NULL 'x', FORMAT 'csv')"),
        into(&[], CopyFormat { delimiter: b';', null: "x".to_owned(), ..CopyFormat::csv() })
    );
    for options in
        ["BINARY", "WITH BINARY", "(FORMAT binary)", "WITH (FORMAT 'BINARY')", "BINARY ENCODING 'utf8'"]
    {
        assert_eq!(
            parse(&format!("COPY t FROM STDIN {options}")),
            into(&[], CopyFormat::binary()),
            "{options}"
        );
    }
    let out = |source, format| Ok(SqlStatement::CopyOut(CopyOutStatement { source, format }));
    assert_eq!(
        parse("COPY (SELECT (1)) TO STDOUT WITH (FORMAT csv, HEADER true)"),
        out(CopySource::Query("      SELECT (1)".to_owned()), csv)
    );
    assert_eq!(
        parse("COPY metrics.up (job) TO STDOUT"),
        out(CopySource::Query("SELECT \"job\" FROM metrics.up".to_owned()), CopyFormat::text())
    );
    assert_eq!(
        parse("COPY (SUBSCRIBE SELECT 1) TO STDOUT"),
        out(CopySource::Changes("SELECT 1".to_owned()), CopyFormat::text())
    );
    assert_eq!(
        parse("COPY (SELECT 1) TO STDOUT (FORMAT binary)"),
        out(CopySource::Query("      SELECT 1".to_owned()), CopyFormat::binary())
    );
}

#[test]
fn what_is_not_taken_is_told() {
    for (text, what) in [
        ("CREATE TABLE t (a text NOT NULL)", "other constraints are not kept"),
        ("CREATE TABLE t (a blob)", "a type is expected, not blob"),
        ("CREATE TABLE t (a text PRIMARY KEY, b text PRIMARY KEY)", "one primary key is expected"),
        ("INSERT INTO t TABLE u", "VALUES is expected, not TABLE"),
        ("UPDATE t SET a = b", "a value is expected, not b"),
        ("COPY t FROM STDIN (FORMAT parquet)", "csv, text or binary is expected, not parquet"),
        ("COPY t FROM STDIN (FORMAT binary, HEADER)", "cannot specify HEADER in BINARY mode"),
        ("COPY t FROM STDIN (DELIMITER ';', FORMAT binary)", "cannot specify DELIMITER in BINARY mode"),
        ("COPY t FROM STDIN BINARY NULL 'x'", "cannot specify NULL in BINARY mode"),
        ("UPDATE t SET a = a + 1", "a value is expected, not a"),
        ("UPDATE t SET a = 1, a = 2", "another column is expected, not a"),
        ("UPDATE t SET a = 1 FROM u", "the end is expected, not FROM"),
        ("UPDATE metrics.up SET value = 1", "a name in the schema public is expected"),
        ("INSERT INTO t VALUES (1 + 1)", ") is expected, not +"),
        ("INSERT INTO t VALUES (f())", "a value is expected, not f"),
        ("INSERT INTO t VALUES (1) RETURNING a", "the end is expected, not RETURNING"),
        ("DELETE FROM t WHERE a > 1", "= is expected, not >"),
        ("COPY t FROM '/etc/passwd'", "the server reads no files"),
        ("COPY (SELECT 1) TO '/tmp/x'", "the server writes no files"),
        ("COPY (SELECT 1) TO PROGRAM 'sh'", "the server writes no files"),
        ("COPY metrics.up FROM STDIN", "only tables of the schema public take rows"),
        ("COPY (SELECT 1", ") is expected, not the end"),
    ] {
        assert!(parse(text).expect_err(text).to_string().contains(what), "{text}: {:?}", parse(text));
    }
}
