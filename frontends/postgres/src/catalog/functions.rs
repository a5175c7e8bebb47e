//! The functions of PostgreSQL that clients call in catalog queries, such as `pg_table_is_visible`
//! and `format_type`. [`super::expr`] calls them; [`super::infer`] knows their types.

use super::rows::{DATABASE, OWNER, OWNER_OID, SCHEMAS, SEARCH_PATH, is_visible};
use super::value::Value;
use super::{Evaluator, types};
use postgres_types::Type;
use sql::SqlError;
use sql::catalog::RelationKind;

/// What `version()` says: PostgreSQL 15, whose catalogs these are.
pub(crate) const VERSION: &str = concat!("PostgreSQL 15.0 (Perennial ", env!("CARGO_PKG_VERSION"), ")");

/// Functions that only a query of the catalogs calls.
const OF_CATALOGS: &[&str] = &[
    "version",
    "current_database",
    "current_catalog",
    "current_schema",
    "current_schemas",
    "current_user",
    "session_user",
    "user",
    "current_role",
    "current_setting",
    "set_config",
    "format_type",
    "obj_description",
    "col_description",
    "shobj_description",
    "quote_ident",
    "quote_literal",
    "quote_nullable",
    "parse_ident",
    "to_regclass",
    "to_regtype",
    "to_regnamespace",
    "string_to_array",
    "array_to_string",
    "array_lower",
    "array_upper",
    "generate_series",
    "generate_subscripts",
    "unnest",
    "inet_server_addr",
    "inet_server_port",
    "inet_client_addr",
    "inet_client_port",
    "txid_current",
    "lastval",
];

const AGGREGATES: &[&str] =
    &["count", "min", "max", "sum", "array_agg", "string_agg", "bool_and", "bool_or", "every"];

/// Whether a function marks a query as one of the catalogs.
pub(crate) fn is_of_catalogs(name: &str) -> bool {
    OF_CATALOGS.contains(&name) || name.starts_with("pg_") || is_test(name)
}

/// Whether a function may stand in FROM.
pub(crate) fn is_known(name: &str) -> bool {
    is_of_catalogs(name)
}

/// Whether this is an aggregate.
pub(crate) fn is_aggregate(name: &str) -> bool {
    AGGREGATES.contains(&name)
}

/// Whether a function answers yes or no.
pub(crate) fn is_test(name: &str) -> bool {
    (name.starts_with("has_") && name.ends_with("_privilege"))
        || (name.starts_with("pg_") && name.ends_with("_is_visible"))
        || [
            "pg_is_in_recovery",
            "pg_is_other_temp_schema",
            "pg_relation_is_publishable",
            "pg_has_role",
            "starts_with",
        ]
        .contains(&name)
}

/// Whether values of this type are object identifiers that are shown as names.
pub(crate) fn is_identifier_type(kind: &Type) -> bool {
    matches!(*kind, Type::REGCLASS | Type::REGTYPE | Type::REGNAMESPACE | Type::REGPROC)
}

/// A name as it has to be written in a statement.
pub(super) fn quoted_name(name: &str) -> String {
    let is_plain = name.chars().next().is_some_and(|c| c.is_ascii_lowercase() || c == '_')
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    // Names of metrics may have capitals and colons, which without quotes would be folded or
    // refused.
    if is_plain { name.to_owned() } else { format!("\"{}\"", name.replace('"', "\"\"")) }
}

/// The parts of a name as it is written in a statement.
fn name_parts(text: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut chars = text.trim().chars().peekable();
    let mut is_quoted = false;
    while let Some(c) = chars.next() {
        let Some(part) = parts.last_mut() else { break };
        match c {
            // Two quotes inside of quotes are one.
            '"' if is_quoted && chars.peek() == Some(&'"') => {
                chars.next();
                part.push('"');
            }
            '"' => is_quoted = !is_quoted,
            '.' if !is_quoted => parts.push(String::new()),
            c if is_quoted => part.push(c),
            // Outside of quotes names have no case.
            c => part.extend(c.to_lowercase()),
        }
    }
    parts
}

impl Evaluator<'_> {
    /// The object identifier that a name means.
    pub(crate) fn identifier(&self, value: &Value, kind: &Type) -> Result<Value, SqlError> {
        if let Value::Int(_) = value {
            return Ok(value.clone());
        }
        let text = value.to_text();
        // `'16384'::regclass` is the identifier itself.
        if let Ok(number) = text.trim().parse::<i64>() {
            return Ok(Value::Int(number));
        }
        // The catalogs name the functions of types, and have no numbers for them.
        if *kind == Type::REGPROC {
            return Ok(Value::text(&name_parts(&text).pop().unwrap_or_default()));
        }
        let found = self.named_identifier(&text, kind)?;
        // An error and not NULL: that is what `to_regclass` is for.
        if found.is_null() {
            let what = match *kind {
                Type::REGCLASS => "relation",
                Type::REGTYPE => "type",
                Type::REGNAMESPACE => "schema",
                _ => "function",
            };
            return Err(SqlError::bad(format!("{what} \"{text}\" does not exist")));
        }
        Ok(found)
    }

    /// The object identifier of a name; NULL if there is none.
    fn named_identifier(&self, text: &str, kind: &Type) -> Result<Value, SqlError> {
        let number = match *kind {
            Type::REGTYPE => types::written(text).map(|kind| i64::from(kind.oid())),
            Type::REGNAMESPACE => {
                let name = name_parts(text).pop().unwrap_or_default();
                SCHEMAS.iter().find(|(known, _)| *known == name).map(|(_, oid)| *oid)
            }
            Type::REGCLASS => match name_parts(text).as_slice() {
                [.., schema, name] => self.maker.relations()?.named(Some(schema), name).map(|r| r.oid),
                [name] => self.maker.relations()?.named(None, name).map(|r| r.oid),
                [] => None,
            },
            _ => None,
        };
        Ok(number.map_or(Value::Null, Value::Int))
    }

    /// The name of an object identifier.
    pub(crate) fn identifier_name(&self, value: &Value, kind: &Type) -> Result<Value, SqlError> {
        let Some(oid) = value.to_int() else { return Ok(value.clone()) };
        let name = match *kind {
            Type::REGTYPE => {
                u32::try_from(oid).ok().and_then(Type::from_oid).map(|kind| types::printed(&kind))
            }
            Type::REGNAMESPACE => {
                SCHEMAS.iter().find(|(_, known)| *known == oid).map(|(name, _)| (*name).to_owned())
            }
            Type::REGCLASS => self.maker.relations()?.by_oid(oid).map(|relation| {
                let name = quoted_name(&relation.name);
                if is_visible(&relation.schema) {
                    name
                } else {
                    // With its schema if the name alone would not find it.
                    format!("{}.{name}", quoted_name(&relation.schema))
                }
            }),
            _ => None,
        };
        // Zero is the identifier of nothing.
        let missing = || if oid == 0 { "-".to_owned() } else { oid.to_string() };
        Ok(Value::text(&name.unwrap_or_else(missing)))
    }

    /// The value of a function.
    pub(crate) fn call(&self, name: &str, args: &[Value]) -> Result<Value, SqlError> {
        if let Some(value) = self.about_server(name, args)? {
            return Ok(value);
        }
        if let Some(value) = text_function(name, args) {
            return Ok(value);
        }
        if let Some(value) = list_function(name, args) {
            return Ok(value);
        }
        let arg = |at: usize| args.get(at).cloned().unwrap_or(Value::Null);
        match name {
            "coalesce" => Ok(args.iter().find(|value| !value.is_null()).cloned().unwrap_or(Value::Null)),
            "nullif" if arg(0).compare(&arg(1)) == Some(std::cmp::Ordering::Equal) => Ok(Value::Null),
            "nullif" => Ok(arg(0)),
            "greatest" => Ok(known(args).max_by(|a, b| a.sort_order(b)).cloned().unwrap_or(Value::Null)),
            "least" => Ok(known(args).min_by(|a, b| a.sort_order(b)).cloned().unwrap_or(Value::Null)),
            "regexp_replace" => {
                let flags = arg(3).to_text();
                let pattern = self.pattern(&arg(1).to_text(), flags.contains('i'))?;
                // `\1` is PostgreSQL's way to name a group, `$1` that of the regex crate.
                let with = arg(2).to_text().replace('\\', "$");
                let text = arg(0).to_text();
                let replaced = if flags.contains('g') {
                    pattern.replace_all(&text, with.as_str())
                } else {
                    pattern.replace(&text, with.as_str())
                };
                Ok(if arg(0).is_null() { Value::Null } else { Value::text(&replaced) })
            }
            "regexp_match" => {
                let pattern = self.pattern(&arg(1).to_text(), arg(2).to_text().contains('i'))?;
                let text = arg(0).to_text();
                let Some(found) = pattern.captures(&text) else { return Ok(Value::Null) };
                // With groups the answer has these; without, the whole match.
                let first = usize::from(found.len() > 1);
                let group = |at| found.get(at).map_or(Value::Null, |part| Value::text(part.as_str()));
                Ok(Value::List((first..found.len()).map(group).collect()))
            }
            _ => Err(SqlError::bad(format!("function {name}() does not exist"))),
        }
    }

    /// The schemas that the connection searches, as `search_path` has them; others are left out.
    fn search_path(&self) -> Vec<&'static str> {
        let Some(path) = self.facts.setting("search_path") else { return SEARCH_PATH.to_vec() };
        let known = |name: &str| SCHEMAS.iter().map(|(known, _)| *known).find(|known| *known == name);
        path.split(',').filter_map(|name| known(name.trim().trim_matches(['"', '\'']))).collect()
    }

    /// Functions about the server, its objects and the connection.
    fn about_server(&self, name: &str, args: &[Value]) -> Result<Option<Value>, SqlError> {
        let arg = |at: usize| args.get(at).cloned().unwrap_or(Value::Null);
        let facts = self.facts;
        Ok(Some(match name {
            "version" => Value::text(VERSION),
            "current_database" | "current_catalog" => Value::text(DATABASE),
            "current_schema" => self.search_path().first().map_or(Value::Null, |first| Value::text(first)),
            "current_schemas" if arg(0).is_true() => {
                Value::texts([super::tables::PG_CATALOG].into_iter().chain(self.search_path()))
            }
            "current_schemas" => Value::texts(self.search_path()),
            "current_user" | "session_user" | "user" | "current_role" => Value::text(&facts.user),
            "pg_get_userbyid" => Value::text(match arg(0).to_int() {
                Some(OWNER_OID) => OWNER,
                Some(oid) => {
                    // The identifiers of users follow that of the owner, in the order of their
                    // names.
                    let at = usize::try_from(oid - OWNER_OID).unwrap_or(usize::MAX);
                    facts.roles().nth(at).unwrap_or("unknown")
                }
                None => return Ok(Some(Value::Null)),
            }),
            "current_setting" => match facts.setting(&arg(0).to_text()) {
                Some(value) => Value::text(value),
                None if arg(1).is_true() => Value::Null,
                None => {
                    let error = format!("unrecognized configuration parameter \"{}\"", arg(0).to_text());
                    return Err(SqlError::bad(error));
                }
            },
            // It is the client's wish that changes nothing here.
            "set_config" => arg(1),
            "pg_backend_pid" => Value::Int(i64::from(facts.process)),
            "pg_is_in_recovery" | "pg_is_other_temp_schema" | "pg_relation_is_publishable" => {
                Value::Bool(false)
            }
            "pg_table_is_visible" => {
                let relation = arg(0).to_int();
                let relations = self.maker.relations()?;
                relation
                    .and_then(|oid| relations.by_oid(oid))
                    .map_or(Value::Null, |r| Value::Bool(is_visible(&r.schema)))
            }
            "has_table_privilege" | "has_any_column_privilege" | "has_column_privilege" => {
                self.has_privilege(name, args)?
            }
            // There are no other privileges on single objects.
            name if is_test(name) && name != "starts_with" => Value::Bool(true),
            "pg_encoding_to_char" => Value::text("UTF8"),
            "pg_char_to_encoding" => Value::Int(6),
            "getdatabaseencoding" | "pg_client_encoding" => Value::text("UTF8"),
            "format_type" => {
                let kind = arg(0).to_int().and_then(|oid| u32::try_from(oid).ok()).and_then(Type::from_oid);
                kind.map_or_else(
                    || if arg(0).is_null() { Value::Null } else { Value::text("???") },
                    |kind| Value::text(&types::printed(&kind)),
                )
            }
            "to_regclass" => self.named_identifier(&arg(0).to_text(), &Type::REGCLASS)?,
            "to_regtype" => self.named_identifier(&arg(0).to_text(), &Type::REGTYPE)?,
            "to_regnamespace" => self.named_identifier(&arg(0).to_text(), &Type::REGNAMESPACE)?,
            "pg_get_function_result" => Value::text("double precision"),
            "pg_get_function_arguments" | "pg_get_function_identity_arguments" => Value::text(""),
            "pg_size_pretty" => {
                arg(0).to_int().map_or(Value::Null, |bytes| Value::text(&format!("{bytes} bytes")))
            }
            "pg_relation_size"
            | "pg_total_relation_size"
            | "pg_table_size"
            | "pg_indexes_size"
            | "pg_database_size" => Value::Int(0),
            // There are no transactions; a number is enough for clients that compare two.
            "txid_current" => Value::Int(1),
            "pg_get_constraintdef" | "pg_get_indexdef" => self.key_definition(name, args)?,
            // What nothing here has: comments, defaults, definitions, addresses.
            "obj_description"
            | "col_description"
            | "shobj_description"
            | "pg_get_expr"
            | "pg_get_viewdef"
            | "pg_get_functiondef"
            | "pg_get_partkeydef"
            | "pg_get_triggerdef"
            | "pg_get_ruledef"
            | "pg_get_statisticsobjdef"
            | "pg_get_serial_sequence"
            | "pg_tablespace_location"
            | "pg_relation_filenode"
            | "inet_server_addr"
            | "inet_server_port"
            | "inet_client_addr"
            | "inet_client_port"
            | "pg_postmaster_start_time"
            | "pg_conf_load_time"
            | "lastval"
            | "pg_stat_get_numscans"
            | "pg_my_temp_schema" => Value::Null,
            _ => return Ok(None),
        }))
    }

    /// The definition of a primary key, as a constraint or as an index, or one of its columns.
    fn key_definition(&self, name: &str, args: &[Value]) -> Result<Value, SqlError> {
        let number = |at: usize| args.get(at).and_then(Value::to_int);
        let oid = number(0);
        let relations = self.maker.relations()?;
        if name == "pg_get_constraintdef" {
            let key = relations.keys.iter().find(|key| Some(key.constraint) == oid);
            return Ok(key.map_or(Value::Null, |key| Value::text(&key.constraint_text())));
        }
        let Some(key) = relations.keys.iter().find(|key| Some(key.index) == oid) else {
            return Ok(Value::Null);
        };
        let Some(column) = number(1).filter(|column| *column > 0) else {
            return Ok(Value::text(&key.index_text()));
        };
        let column = usize::try_from(column - 1).ok().and_then(|at| key.columns.get(at));
        Ok(column.map_or(Value::Null, |column| Value::text(&quoted_name(&column.name))))
    }

    /// Whether the user may do something with a relation: all read all, tables of people are
    /// changed by statements.
    fn has_privilege(&self, name: &str, args: &[Value]) -> Result<Value, SqlError> {
        let Some(privilege) = args.last().map(Value::to_text) else { return Ok(Value::Null) };
        if privilege.to_ascii_lowercase().contains("select") {
            return Ok(Value::Bool(true));
        }
        // The user comes first where it is said, the column after the relation.
        let behind = if name == "has_column_privilege" { 3 } else { 2 };
        let relation = args.len().checked_sub(behind).and_then(|at| args.get(at));
        let Some(relation) = relation.filter(|relation| !relation.is_null()) else { return Ok(Value::Null) };
        let oid = self.identifier(relation, &Type::REGCLASS)?.to_int();
        let relations = self.maker.relations()?;
        let found = oid.and_then(|oid| relations.by_oid(oid));
        let is_table = |relation: &super::rows::NumberedRelation| {
            relation.schema == SEARCH_PATH[0] && relation.kind == RelationKind::Table
        };
        Ok(Value::Bool(found.is_some_and(is_table)))
    }
}

/// The text of `format('%s %I %L', …)`.
fn formatted(args: &[Value]) -> Value {
    let Some(pattern) = args.first().filter(|pattern| !pattern.is_null()) else { return Value::Null };
    let pattern = pattern.to_text();
    let mut values = args.iter().skip(1);
    let mut out = String::new();
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let mut text = || values.next().map(Value::to_text).unwrap_or_default();
        match chars.next() {
            Some('I') => out.push_str(&quoted_name(&text())),
            Some('L') => out.push_str(&format!("'{}'", text().replace('\'', "''"))),
            Some('s') => out.push_str(&text()),
            Some(other) => out.push(other),
            None => {}
        }
    }
    Value::text(&out)
}

/// The arguments that are not NULL.
fn known(args: &[Value]) -> impl Iterator<Item = &Value> {
    args.iter().filter(|value| !value.is_null())
}

/// Functions of texts; a NULL gives NULL.
fn text_function(name: &str, args: &[Value]) -> Option<Value> {
    let text = |at: usize| args.get(at).map(Value::to_text).unwrap_or_default();
    let number = |at: usize| args.get(at).and_then(Value::to_int);
    match name {
        "concat" => return Some(Value::text(&args.iter().map(Value::to_text).collect::<String>())),
        "concat_ws" => {
            let parts: Vec<String> = known(args.get(1..).unwrap_or_default()).map(Value::to_text).collect();
            return Some(Value::text(&parts.join(&text(0))));
        }
        "format" => return Some(formatted(args)),
        "quote_nullable" if args.first().is_some_and(Value::is_null) => return Some(Value::text("NULL")),
        _ => {}
    }
    let cut = |chars: &str, from: bool, to: bool| {
        let is_cut = |c: char| chars.contains(c);
        let whole = text(0);
        let mut rest = whole.as_str();
        if from {
            rest = rest.trim_start_matches(is_cut);
        }
        if to {
            rest = rest.trim_end_matches(is_cut);
        }
        Value::text(rest)
    };
    let chars = if args.len() > 1 { text(1) } else { " ".to_owned() };
    let value = match name {
        "quote_ident" => Value::text(&quoted_name(&text(0))),
        "quote_literal" | "quote_nullable" => Value::text(&format!("'{}'", text(0).replace('\'', "''"))),
        "lower" => Value::text(&text(0).to_lowercase()),
        "upper" => Value::text(&text(0).to_uppercase()),
        "length" | "char_length" | "character_length" => Value::Int(text(0).chars().count() as i64),
        "octet_length" => Value::Int(text(0).len() as i64),
        "btrim" | "trim" => cut(&chars, true, true),
        "ltrim" => cut(&chars, true, false),
        "rtrim" => cut(&chars, false, true),
        "replace" => Value::text(&text(0).replace(&text(1), &text(2))),
        "starts_with" => Value::Bool(text(0).starts_with(&text(1))),
        "strpos" => {
            let whole = text(0);
            Value::Int(whole.find(&text(1)).map_or(0, |at| whole[..at].chars().count() as i64 + 1))
        }
        "left" => {
            Value::text(&text(0).chars().take(usize::try_from(number(1)?).unwrap_or(0)).collect::<String>())
        }
        "substring" | "substr" => {
            let from = usize::try_from(number(1)? - 1).unwrap_or(0);
            let count = number(2).map_or(usize::MAX, |n| usize::try_from(n).unwrap_or(0));
            Value::text(&text(0).chars().skip(from).take(count).collect::<String>())
        }
        "split_part" => {
            let at = usize::try_from(number(2)? - 1).unwrap_or(usize::MAX);
            Value::text(text(0).split(&text(1)).nth(at).unwrap_or_default())
        }
        _ => return None,
    };
    Some(if args.iter().any(Value::is_null) { Value::Null } else { value })
}

/// Functions of lists.
fn list_function(name: &str, args: &[Value]) -> Option<Value> {
    let list = args.first().and_then(Value::to_list);
    let text = |at: usize| args.get(at).map(Value::to_text).unwrap_or_default();
    let length = || list.as_ref().map(|list| list.len()).filter(|n| *n > 0);
    let whole = |n: Option<usize>| n.map_or(Value::Null, |n| Value::Int(n as i64));
    Some(match name {
        "parse_ident" => Value::texts(name_parts(&text(0)).iter().map(String::as_str)),
        "string_to_array" if args.first().is_none_or(Value::is_null) => Value::Null,
        "string_to_array" if text(1).is_empty() => Value::texts([text(0).as_str()]),
        "string_to_array" => Value::texts(text(0).split(&text(1))),
        "array_to_string" => match list {
            Some(list) => {
                let parts: Vec<String> = known(&list).map(Value::to_text).collect();
                Value::text(&parts.join(&text(1)))
            }
            None => Value::Null,
        },
        "array_lower" => whole(length().map(|_| 1)),
        "array_upper" | "array_length" => whole(length()),
        "array_ndims" => whole(length().map(|_| 1)),
        "cardinality" => whole(list.map(|list| list.len())),
        "array_position" => {
            let wanted = args.get(1).map(Value::key);
            let at = list.and_then(|list| list.iter().position(|value| Some(value.key()) == wanted));
            whole(at.map(|at| at + 1))
        }
        "array_append" => {
            let added = args.get(1).cloned().unwrap_or(Value::Null);
            Value::List(list.iter().flat_map(|list| list.iter()).cloned().chain([added]).collect())
        }
        "array_remove" => {
            let gone = args.get(1).map(Value::key);
            let kept = list.iter().flat_map(|list| list.iter()).filter(|value| Some(value.key()) != gone);
            Value::List(kept.cloned().collect())
        }
        "array_cat" => {
            let more = args.get(1).and_then(Value::to_list);
            Value::List(list.iter().chain(&more).flat_map(|list| list.iter()).cloned().collect())
        }
        _ => return None,
    })
}
