//! Tests catalog queries: those of clients (`tests/data/`, a file for each), with the rows that
//! they must get.

use super::*;
use sql::catalog::{KeyColumn, RelationKind};
use sqlparser::ast::Statement;
use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::parser::Parser;
use std::time::Duration;

/// Some relations of a server.
struct FewRelations;

impl RelationList for FewRelations {
    fn relations(&self) -> Result<Vec<ListedRelation>, SqlError> {
        let listed = [
            ("meta", "targets", RelationKind::Table),
            ("metrics", "job:rps:5m", RelationKind::Table),
            ("metrics", "up", RelationKind::Table),
            ("samples", "up", RelationKind::Table),
            ("public", "owners", RelationKind::Table),
            ("public", "down", RelationKind::View),
        ];
        let relation = |(schema, name, kind): &(&str, &str, RelationKind)| ListedRelation {
            schema: (*schema).to_owned(),
            name: (*name).to_owned(),
            kind: *kind,
        };
        Ok(listed.iter().map(relation).collect())
    }

    fn tables(&self) -> Vec<ListedTable> {
        let key = vec![KeyColumn { name: "job".to_owned(), number: 1 }];
        vec![ListedTable { name: "owners".to_owned(), rows: 3, key }]
    }

    fn columns(&self, schema: &str, name: &str) -> Result<Vec<ListedColumn>, SqlError> {
        let listed: &[(&str, &'static str, bool)] = match (schema, name) {
            ("public", "owners") => &[("job", "text", false), ("pager", "int8", true)],
            ("public", "down") => &[("instance", "text", true)],
            _ => &[("ts", "timestamptz", false), ("job", "text", false), ("value", "float8", true)],
        };
        let column = |(name, kind, is_nullable): &(&str, &'static str, bool)| ListedColumn {
            name: (*name).to_owned(),
            kind,
            is_nullable: *is_nullable,
        };
        Ok(listed.iter().map(column).collect())
    }

    fn functions(&self) -> Vec<String> {
        vec!["irate".to_owned(), "rate".to_owned()]
    }
}

fn facts() -> SessionInfo {
    let setting = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
    SessionInfo {
        user: "ana".to_owned(),
        users: vec!["ana".to_owned(), "bo".to_owned()],
        settings: [("search_path", "public, metrics, meta"), ("server_version_num", "150000")]
            .map(setting)
            .to_vec(),
        process: 7,
    }
}

fn patience() -> CatalogDeadline {
    CatalogDeadline { deadline: Instant::now() + Duration::from_secs(60), cancel: Arc::default() }
}

fn query(text: &str) -> Box<Query> {
    let mut statements = Parser::parse_sql(&PostgreSqlDialect {}, text).expect(text);
    let Some(Statement::Query(query)) = statements.pop() else { panic!("no query: {text}") };
    query
}

/// The rows of an answer, a line each; NULL is empty, and a row with nothing else is `-`.
fn lines(answer: &Answer) -> Vec<String> {
    let line = |row: &Vec<Value>| {
        let line = row.iter().map(Value::to_text).collect::<Vec<_>>().join("|");
        if line.is_empty() { "-".to_owned() } else { line }
    };
    answer.rows.iter().map(line).collect()
}

/// The files of `tests/data/`.
const RECORDED: [&str; 5] = [
    include_str!("../../tests/data/clients.txt"),
    include_str!("../../tests/data/grafana.txt"),
    include_str!("../../tests/data/metabase.txt"),
    include_str!("../../tests/data/dbeaver.txt"),
    include_str!("../../tests/data/pgjdbc.txt"),
];

/// A query of a client, with its rows.
struct ClientQuery<'t> {
    name: &'t str,
    text: String,
    /// The values of `$1`, `$2`, ….
    params: Vec<Value>,
    want: Vec<&'t str>,
}

impl ClientQuery<'_> {
    /// All queries of the files. Names begin a line: values may have the signs before them, too.
    fn all() -> Vec<ClientQuery<'static>> {
        let cases = RECORDED.iter().flat_map(|file| file.split("\n== ").skip(1));
        cases.map(ClientQuery::read).collect()
    }

    fn read(case: &'static str) -> ClientQuery<'static> {
        let (name, rest) = case.split_once('\n').expect("a name");
        let (head, want) = rest.split_once("\n----").expect(name);
        let is_param = |line: &&str| line.starts_with('$') && line.contains(" = ");
        let value = |line: &str| line.split_once(" = ").map(|(_, value)| Value::text(value));
        ClientQuery {
            name,
            text: head.lines().filter(|line| !is_param(line)).collect::<Vec<_>>().join("\n"),
            params: head.lines().filter(is_param).filter_map(value).collect(),
            want: want.lines().filter(|line| !line.is_empty()).collect(),
        }
    }
}

#[test]
fn clients_get_the_rows_that_they_expect() {
    let facts = facts();
    let mut wrong = Vec::new();
    for ClientQuery { name, text, params, want } in ClientQuery::all() {
        let query = query(&text);
        assert!(asks_catalogs(&query), "{name}: the engine would be asked");
        assert!(sql::guard::check_catalog_text(&text).is_ok(), "{name}: the guard refuses it");
        let patience = patience();
        let evaluator = Evaluator::new(&FewRelations, &facts, &params, &patience);
        let answer = match evaluator.answer(&query) {
            Ok(answer) => answer,
            Err(e) => {
                wrong.push(format!("{name}: {e}"));
                continue;
            }
        };
        assert_eq!(evaluator.columns(&query).expect(name), answer.columns, "{name}: described before");
        let got = lines(&answer);
        if got != want {
            wrong.push(format!("== {name}\n{}\n", got.join("\n")));
        }
    }
    assert!(wrong.is_empty(), "{} cases have other rows:\n{}", wrong.len(), wrong.join("\n"));
}

/// `WITH RECURSIVE` reads its own rows, and has an end.
#[test]
fn recursive_queries_run_in_rounds() {
    let facts = facts();
    let patience = patience();
    let evaluator = Evaluator::new(&FewRelations, &facts, &[], &patience);
    for (text, want) in [
        (
            "WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t WHERE n < 4) SELECT n, current_user FROM t",
            "1|ana 2|ana 3|ana 4|ana",
        ),
        (
            "WITH RECURSIVE t(n) AS (VALUES (1) UNION SELECT (n + 1) % 3 FROM t) SELECT n FROM t, pg_am WHERE amname = 'heap'",
            "1 2 0",
        ),
        (
            "WITH RECURSIVE path AS (SELECT oid, relnamespace, 1 AS depth FROM pg_class WHERE relname = 'owners' \
             UNION ALL SELECT c.oid, c.relnamespace, p.depth + 1 FROM pg_class c JOIN path p \
             ON c.relnamespace = p.relnamespace AND c.oid < p.oid) SELECT count(*), max(depth) FROM path",
            "4|3",
        ),
        ("WITH RECURSIVE t AS (SELECT amname FROM pg_am) SELECT amname FROM t ORDER BY 1", "btree heap"),
    ] {
        let query = query(text);
        let answer = evaluator.answer(&query).expect(text);
        assert_eq!(lines(&answer).join(" "), want, "{text}");
        assert_eq!(evaluator.columns(&query).expect(text), answer.columns, "{text}: described before");
    }
    for (text, part) in [
        (
            "WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n FROM t) SELECT n, user FROM t",
            "more than 500000 rows",
        ),
        ("WITH RECURSIVE t(n) AS (SELECT n FROM t) SELECT n, user FROM t", "does not have the form"),
        (
            "WITH RECURSIVE t AS (SELECT 1 UNION SELECT 1, 2 FROM t) SELECT *, user FROM t",
            "same number of columns",
        ),
    ] {
        let error = evaluator.answer(&query(text)).expect_err(text);
        assert!(error.to_string().contains(part), "{text}: {error}");
    }
}

#[test]
fn the_search_path_is_that_of_the_connection() {
    let patience = patience();
    for (path, want) in
        [("metrics", "metrics|{metrics}"), ("\"$user\", public", "public|{public}"), ("nothing", "|{}")]
    {
        let mut facts = facts();
        facts.settings = vec![("search_path".to_owned(), path.to_owned())];
        let evaluator = Evaluator::new(&FewRelations, &facts, &[], &patience);
        let answer = evaluator.answer(&query("SELECT current_schema(), current_schemas(false)"));
        assert_eq!(lines(&answer.expect(path)), [want], "{path}");
    }
}

#[test]
fn queries_of_the_server_go_to_its_engine() {
    for (text, is_catalog) in [
        ("SELECT 1", false),
        ("SELECT * FROM up", false),
        ("SELECT version()", true),
        ("SELECT * FROM pg_class", true),
        ("SELECT * FROM pg_catalog.pg_nothing", true),
        ("SELECT * FROM information_schema.tables", true),
        ("WITH pg_class AS (SELECT 1) SELECT * FROM pg_class", false),
        ("SELECT current_user, job FROM up", false),
        ("SELECT i FROM generate_series(1, 3) AS i", true),
    ] {
        assert_eq!(asks_catalogs(&query(text)), is_catalog, "{text}");
    }
}

/// Drivers encode values by these types: those that PostgreSQL 15 describes.
#[test]
fn parameters_have_the_types_of_what_they_stand_beside() {
    let facts = facts();
    let patience = patience();
    let evaluator = Evaluator::new(&FewRelations, &facts, &[], &patience);
    for (text, want) in [
        ("SELECT oid FROM pg_class WHERE oid = $1", "oid"),
        ("SELECT oid FROM pg_class c WHERE $1 = c.relname", "name"),
        ("SELECT oid FROM pg_class WHERE relname = ANY($1) AND oid = ANY($2)", "_name _oid"),
        ("SELECT relname FROM pg_class LIMIT $1 OFFSET $2", "int8 int8"),
        ("SELECT $1::regclass, $2::text::regclass", "regclass text"),
        (
            "SELECT table_name FROM information_schema.tables WHERE table_schema = $1 AND table_name LIKE $2",
            "name text",
        ),
        ("SELECT format_type($1, $2)", "oid int4"),
        ("SELECT pg_get_userbyid($1), current_setting($2)", "oid -"),
        (
            "SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
             WHERE n.nspname = $1 AND c.relkind IN ($2, $3)",
            "name char char",
        ),
        ("WITH o AS (SELECT oid AS o FROM pg_class) SELECT * FROM o, pg_am WHERE o.o = $1", "oid"),
        ("SELECT (SELECT relname FROM pg_class WHERE oid = $1)", "oid"),
        ("SELECT version(), $2", "- -"),
    ] {
        let query = query(text);
        assert!(asks_catalogs(&query), "{text}");
        let types = evaluator.parameters(&query);
        let name = |kind: &Option<Type>| kind.as_ref().map_or("-", |kind| kind.name()).to_owned();
        let found: Vec<String> = types.iter().map(name).collect();
        assert_eq!(found.join(" "), want, "{text}");
    }
}

#[test]
fn errors_name_what_is_missing() {
    let facts = facts();
    let patience = patience();
    let evaluator = Evaluator::new(&FewRelations, &facts, &[], &patience);
    for (text, part) in [
        ("SELECT nope FROM pg_class", "column \"nope\" does not exist"),
        ("SELECT 1 FROM pg_catalog.pg_nothing", "relation \"pg_catalog.pg_nothing\" does not exist"),
        ("SELECT pg_nothing()", "function pg_nothing() does not exist"),
        ("SELECT 'nope'::regclass", "relation \"nope\" does not exist"),
        ("SELECT oid FROM pg_class WHERE relname ~ '('", "invalid regular expression"),
        ("SELECT current_setting('nope')", "unrecognized configuration parameter"),
        ("SELECT i FROM generate_series(1, 1000000000) AS i", "more than 500000 rows"),
    ] {
        let error = evaluator.answer(&query(text)).expect_err(text);
        assert!(error.to_string().contains(part), "{text}: {error}");
    }
}

/// Many metrics: what `\dt` asks, and what Grafana asks, without listing the columns of all.
#[test]
fn many_relations_are_listed_quickly() {
    struct ManyMetrics(RefCell<usize>);
    impl RelationList for ManyMetrics {
        fn relations(&self) -> Result<Vec<ListedRelation>, SqlError> {
            let listed = |n: usize| ListedRelation {
                schema: "metrics".to_owned(),
                name: format!("m{n}"),
                kind: RelationKind::Table,
            };
            Ok((0..5_000).map(listed).collect())
        }
        fn tables(&self) -> Vec<ListedTable> {
            Vec::new()
        }
        fn columns(&self, schema: &str, name: &str) -> Result<Vec<ListedColumn>, SqlError> {
            *self.0.borrow_mut() += 1;
            FewRelations.columns(schema, name)
        }
        fn functions(&self) -> Vec<String> {
            Vec::new()
        }
    }
    let facts = facts();
    let recorded = ClientQuery::all();
    let text_of = |name: &str| {
        let case = recorded.iter().find(|case| case.name == name).expect(name);
        let mut text = case.text.clone();
        for (at, value) in case.params.iter().enumerate() {
            text = text.replace(&format!("${}", at + 1), &format!("'{}'", value.to_text()));
        }
        text
    };
    for (name, rows, listed) in [
        ("psql 15 \\dt", 5_002, 0),
        ("Grafana: columns of up", 3, 1),
        ("pgjdbc 42.7.14: getColumns", 3, 1),
        ("DBeaver: columns of a table", 3, 1),
    ] {
        let many = ManyMetrics(RefCell::new(0));
        let patience = patience();
        let evaluator = Evaluator::new(&many, &facts, &[], &patience);
        let text = text_of(name).replace("'up'", "'m7'").replace("LIKE 'owners'", "LIKE 'm7'");
        let text = text.replace("770570966", &oid_of(&many, "m7").to_string());
        let began = Instant::now();
        let answer = evaluator.answer(&query(&text)).expect(name);
        eprintln!("{} rows, {:?}: {}", answer.rows.len(), began.elapsed(), name);
        let has_own = usize::from(rows > 5_000) * 2;
        assert_eq!((answer.rows.len() + has_own, *many.0.borrow()), (rows, listed), "{name}");
    }
}

fn oid_of(list: &dyn RelationList, name: &str) -> i64 {
    let facts = facts();
    let maker = RowMaker::new(list, &facts);
    let relations = maker.relations().expect("relations");
    relations.named(Some("metrics"), name).map_or(0, |relation| relation.oid)
}
