//! Reads the values of `$1`, `$2`, … in PostgreSQL's text and binary formats, as JSON values for
//! the SQL engine; a list is a JSON array. [`binary`] has the binary format; [`super::cells`] is
//! the other direction.

mod binary;

use crate::catalog::value::Value;
use crate::cells::CellFormat;
use crate::failure::{Failure, state};
use bytes::Bytes;
use postgres_types::{Kind, Type};
use serde_json::Value as Json;

/// A parameter as the engine takes it.
pub(crate) fn json(given: Option<&Bytes>, kind: &Type, format: CellFormat) -> Result<Json, Failure> {
    let Some(bytes) = given else { return Ok(Json::Null) };
    match format {
        CellFormat::Text => of_text(utf8(bytes)?, kind),
        // The binary form is fixed by the type; only texts are parsed.
        CellFormat::Binary => binary::json(bytes, kind),
    }
}

/// A value in text form.
fn of_text(text: String, kind: &Type) -> Result<Json, Failure> {
    if let Kind::Array(element) = kind.kind() {
        let malformed = || Failure::new(state::INVALID_TEXT, format!("malformed array literal: \"{text}\""));
        let elements = sql::lists::elements(&text).ok_or_else(malformed)?;
        let value = |value: Option<String>| value.map_or(Ok(Json::Null), |text| of_text(text, element));
        return Ok(Json::Array(elements.into_iter().map(value).collect::<Result<_, _>>()?));
    }
    let refused = || {
        Failure::new(
            state::INVALID_TEXT,
            format!("invalid input syntax for type {}: \"{text}\"", crate::catalog::types::printed(kind)),
        )
    };
    match *kind {
        Type::BOOL => match text.trim().to_ascii_lowercase().as_str() {
            "t" | "true" | "on" | "yes" | "y" | "1" => Ok(Json::Bool(true)),
            "f" | "false" | "off" | "no" | "n" | "0" => Ok(Json::Bool(false)),
            _ => Err(refused()),
        },
        Type::INT2 | Type::INT4 | Type::INT8 | Type::OID => {
            text.trim().parse::<i64>().map(Json::from).map_err(|_| refused())
        }
        // NUMERIC as a double: the values of series are doubles, so more digits would be lost in
        // any case.
        Type::FLOAT4 | Type::FLOAT8 | Type::NUMERIC => {
            text.trim().parse::<f64>().map(float).map_err(|_| refused())
        }
        // Times and all other types stay texts: the engine casts them where the type is needed,
        // with its own error.
        _ => Ok(Json::String(text)),
    }
}

/// A parameter as the catalogs take it.
pub(crate) fn value(json: &Json) -> Value {
    match json {
        Json::Null => Value::Null,
        Json::Bool(b) => Value::Bool(*b),
        Json::Number(n) => {
            n.as_i64().map_or_else(|| Value::Float(n.as_f64().unwrap_or(f64::NAN)), Value::Int)
        }
        Json::String(text) => Value::text(text),
        Json::Array(list) => Value::List(list.iter().map(value).collect()),
        other => Value::text(&other.to_string()),
    }
}

/// JSON has no NaN and no infinities: their texts are cast by the engine.
fn float(v: f64) -> Json {
    serde_json::Number::from_f64(v).map_or_else(|| Json::String(v.to_string()), Json::Number)
}

/// The text in these bytes.
fn utf8(bytes: &[u8]) -> Result<String, Failure> {
    let text = std::str::from_utf8(bytes);
    text.map(str::to_owned).map_err(|_| Failure::new("22021", "a parameter is no text in UTF8"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json as j;

    #[test]
    fn parameters_are_read_in_both_forms() {
        let text = |text: &str, kind: &Type| {
            json(Some(&Bytes::copy_from_slice(text.as_bytes())), kind, CellFormat::Text)
        };
        assert_eq!(text("7", &Type::INT8).unwrap(), j!(7));
        assert_eq!(text("1.5", &Type::FLOAT8).unwrap(), j!(1.5));
        assert_eq!(text("t", &Type::BOOL).unwrap(), j!(true));
        assert_eq!(text("api", &Type::TEXT).unwrap(), j!("api"));
        assert_eq!(text("x", &Type::INT4).unwrap_err().state, state::INVALID_TEXT);
        assert_eq!(json(None, &Type::INT4, CellFormat::Text).unwrap(), Json::Null);
        let binary =
            |bytes: &[u8], kind: &Type| json(Some(&Bytes::copy_from_slice(bytes)), kind, CellFormat::Binary);
        assert_eq!(binary(&7_i64.to_be_bytes(), &Type::INT8).unwrap(), j!(7));
        assert_eq!(
            binary(&0_i64.to_be_bytes(), &Type::TIMESTAMPTZ).unwrap(),
            j!("2000-01-01T00:00:00.000000Z")
        );
        assert!(binary(&[1], &Type::INT8).is_err());
        assert_eq!(binary(b"api", &Type::TEXT).unwrap(), j!("api"));
        assert_eq!(binary(b"{}", &Type::POINT).unwrap_err().state, state::NOT_SUPPORTED);
        assert_eq!(text("{a,\"b c\",NULL}", &Type::TEXT_ARRAY).unwrap(), j!(["a", "b c", null]));
        assert_eq!(text("{1,2}", &Type::INT8_ARRAY).unwrap(), j!([1, 2]));
        assert_eq!(text("1,2", &Type::INT8_ARRAY).unwrap_err().state, state::INVALID_TEXT);
        assert_eq!(text("{x}", &Type::INT8_ARRAY).unwrap_err().state, state::INVALID_TEXT);
    }
}
