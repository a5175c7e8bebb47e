//! The PostgreSQL types that the catalogs list: names, lengths, categories, array types. The
//! `postgres-types` crate has the object identifiers.

use postgres_types::{Kind, Type};

/// The types of `pg_type`.
pub(crate) const LISTED: &[Type] = &[
    Type::BOOL,
    Type::BYTEA,
    Type::CHAR,
    Type::NAME,
    Type::INT8,
    Type::INT2,
    Type::INT4,
    Type::TEXT,
    Type::OID,
    Type::JSON,
    Type::JSONB,
    Type::FLOAT4,
    Type::FLOAT8,
    Type::UNKNOWN,
    Type::VARCHAR,
    Type::DATE,
    Type::TIME,
    Type::TIMESTAMP,
    Type::TIMESTAMPTZ,
    Type::INTERVAL,
    Type::NUMERIC,
    Type::UUID,
    Type::REGPROC,
    Type::REGCLASS,
    Type::REGTYPE,
    Type::REGNAMESPACE,
    Type::INT2_VECTOR,
    Type::OID_VECTOR,
    Type::RECORD,
    Type::BOOL_ARRAY,
    Type::CHAR_ARRAY,
    Type::NAME_ARRAY,
    Type::INT2_ARRAY,
    Type::INT4_ARRAY,
    Type::INT8_ARRAY,
    Type::TEXT_ARRAY,
    Type::OID_ARRAY,
    Type::FLOAT4_ARRAY,
    Type::FLOAT8_ARRAY,
    Type::VARCHAR_ARRAY,
    Type::TIMESTAMP_ARRAY,
    Type::TIMESTAMPTZ_ARRAY,
    Type::NUMERIC_ARRAY,
    Type::JSONB_ARRAY,
    Type::DATE_ARRAY,
    Type::TIME_ARRAY,
    Type::INTERVAL_ARRAY,
    Type::UUID_ARRAY,
];

/// The type with the name that [`sql::output::type_name`] gives.
pub(crate) fn named(name: &str) -> Type {
    match name {
        "bool" => Type::BOOL,
        "int2" => Type::INT2,
        "int4" => Type::INT4,
        "int8" => Type::INT8,
        "float4" => Type::FLOAT4,
        "float8" => Type::FLOAT8,
        "numeric" => Type::NUMERIC,
        "timestamptz" => Type::TIMESTAMPTZ,
        "timestamp" => Type::TIMESTAMP,
        "date" => Type::DATE,
        "time" => Type::TIME,
        "interval" => Type::INTERVAL,
        _ => Type::TEXT,
    }
}

/// The type with this name as people and clients write it: `int`, `double precision`, `_text`,
/// `text[]`.
pub(crate) fn written(name: &str) -> Option<Type> {
    let name = name.trim().trim_start_matches("pg_catalog.").trim_matches('"').to_ascii_lowercase();
    if let Some(element) = name.strip_suffix("[]") {
        // `text[]` and `_text` are two spellings of one type; the list has it under the second.
        let element = written(element)?;
        return Some(list_of(&element));
    }
    let known = match name.as_str() {
        "boolean" => Type::BOOL,
        "smallint" => Type::INT2,
        "integer" | "int" => Type::INT4,
        "bigint" => Type::INT8,
        "real" => Type::FLOAT4,
        "double precision" | "double" | "float" => Type::FLOAT8,
        "decimal" => Type::NUMERIC,
        "character varying" => Type::VARCHAR,
        "timestamp with time zone" => Type::TIMESTAMPTZ,
        "timestamp without time zone" => Type::TIMESTAMP,
        "time without time zone" => Type::TIME,
        other => return LISTED.iter().find(|kind| kind.name() == other).cloned(),
    };
    Some(known)
}

/// The name that `format_type` prints.
pub(crate) fn printed(kind: &Type) -> String {
    if let Kind::Array(element) = kind.kind() {
        return format!("{}[]", printed(element));
    }
    match *kind {
        Type::BOOL => "boolean",
        Type::INT2 => "smallint",
        Type::INT4 => "integer",
        Type::INT8 => "bigint",
        Type::FLOAT4 => "real",
        Type::FLOAT8 => "double precision",
        Type::VARCHAR => "character varying",
        Type::TIMESTAMPTZ => "timestamp with time zone",
        Type::TIMESTAMP => "timestamp without time zone",
        Type::TIME => "time without time zone",
        Type::CHAR => "\"char\"",
        // All others print as they are called in `pg_type`.
        _ => kind.name(),
    }
    .to_owned()
}

/// `pg_type.typlen`: bytes of a value, or -1.
pub(crate) fn length(kind: &Type) -> i16 {
    match *kind {
        Type::BOOL | Type::CHAR => 1,
        Type::INT2 => 2,
        Type::INT4 | Type::FLOAT4 | Type::OID | Type::DATE => 4,
        Type::REGPROC | Type::REGCLASS | Type::REGTYPE | Type::REGNAMESPACE => 4,
        Type::INT8 | Type::FLOAT8 | Type::TIME | Type::TIMESTAMP | Type::TIMESTAMPTZ => 8,
        Type::INTERVAL | Type::UUID => 16,
        Type::NAME => 64,
        // As in PostgreSQL: -2 is a text that ends with a zero byte, -1 one with its length before
        // it.
        Type::UNKNOWN => -2,
        _ => -1,
    }
}

/// `pg_type.typcategory`.
pub(crate) fn category(kind: &Type) -> &'static str {
    if matches!(kind.kind(), Kind::Array(_)) {
        return "A";
    }
    match *kind {
        Type::BOOL => "B",
        Type::INT2 | Type::INT4 | Type::INT8 | Type::FLOAT4 | Type::FLOAT8 | Type::NUMERIC => "N",
        Type::OID | Type::REGPROC | Type::REGCLASS | Type::REGTYPE | Type::REGNAMESPACE => "N",
        Type::TEXT | Type::VARCHAR | Type::NAME => "S",
        // PostgreSQL gives its internal one-byte type a category of its own, so that it is no text
        // for casts.
        Type::CHAR => "Z",
        Type::DATE | Type::TIME | Type::TIMESTAMP | Type::TIMESTAMPTZ => "D",
        Type::INTERVAL => "T",
        Type::UNKNOWN => "X",
        _ => "U",
    }
}

/// The type of a list of these.
pub(crate) fn list_of(kind: &Type) -> Type {
    // The vectors of the catalogs come before the lists of their types.
    let list = LISTED.iter().rev().find(|listed| *listed.kind() == Kind::Array(kind.clone()));
    list.cloned().unwrap_or(Type::TEXT_ARRAY)
}

/// The type of the elements of a list.
pub(crate) fn element_of(kind: &Type) -> Type {
    match kind.kind() {
        Kind::Array(element) => element.clone(),
        _ => Type::TEXT,
    }
}
