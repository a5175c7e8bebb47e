//! Reads the values of `$1`, `$2`, … in PostgreSQL's text and binary formats, as JSON values for
//! the SQL engine. [`super::cells`] is the other direction.

use crate::catalog::value::Value;
use crate::cells::CellFormat;
use crate::failure::{Failure, state};
use bytes::{Buf, Bytes};
use chrono::{DateTime, SecondsFormat};
use postgres_types::Type;
use serde_json::Value as Json;
use sql::tables::POSTGRES_EPOCH_MICROS;

/// A parameter as the engine takes it.
pub(crate) fn json(given: Option<&Bytes>, kind: &Type, format: CellFormat) -> Result<Json, Failure> {
    let Some(bytes) = given else { return Ok(Json::Null) };
    let text = match format {
        CellFormat::Text => utf8(bytes)?,
        // The binary form is fixed by the type; only texts are parsed.
        CellFormat::Binary => return binary(bytes, kind),
    };
    let refused = || {
        Failure::new(
            state::INVALID_TEXT,
            format!("invalid input syntax for type {}: \"{text}\"", kind.name()),
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
        other => Value::text(&other.to_string()),
    }
}

/// JSON has no NaN and no infinities: their texts are cast by the engine.
fn float(v: f64) -> Json {
    serde_json::Number::from_f64(v).map_or_else(|| Json::String(v.to_string()), Json::Number)
}

/// A value in text form.
fn utf8(bytes: &[u8]) -> Result<String, Failure> {
    let text = std::str::from_utf8(bytes);
    text.map(str::to_owned).map_err(|_| Failure::new("22021", "a parameter is no text in UTF8"))
}

/// A value in binary form.
fn binary(bytes: &Bytes, kind: &Type) -> Result<Json, Failure> {
    let mut buf = bytes.clone();
    let fits = |length: usize| {
        if bytes.len() == length {
            return Ok(());
        }
        Err(Failure::new(
            "22P03",
            format!("a binary parameter of type {} has {} bytes", kind.name(), bytes.len()),
        ))
    };
    Ok(match *kind {
        Type::BOOL => {
            fits(1)?;
            Json::Bool(buf.get_u8() != 0)
        }
        Type::INT2 => {
            fits(2)?;
            Json::from(buf.get_i16())
        }
        Type::INT4 => {
            fits(4)?;
            Json::from(buf.get_i32())
        }
        Type::OID => {
            fits(4)?;
            Json::from(buf.get_u32())
        }
        Type::INT8 => {
            fits(8)?;
            Json::from(buf.get_i64())
        }
        Type::FLOAT4 => {
            fits(4)?;
            float(f64::from(buf.get_f32()))
        }
        Type::FLOAT8 => {
            fits(8)?;
            float(buf.get_f64())
        }
        Type::TIMESTAMP | Type::TIMESTAMPTZ => {
            fits(8)?;
            // Microseconds since 2000; saturating, because a client may send the number that stands
            // for infinity.
            let micros = buf.get_i64().saturating_add(POSTGRES_EPOCH_MICROS);
            let time = DateTime::from_timestamp_micros(micros);
            let time = time.ok_or_else(|| Failure::new("22008", "a time is out of range"))?;
            Json::String(time.to_rfc3339_opts(SecondsFormat::Millis, true))
        }
        Type::TEXT | Type::VARCHAR | Type::NAME | Type::UNKNOWN | Type::BPCHAR | Type::JSON | Type::CHAR => {
            Json::String(utf8(bytes)?)
        }
        _ => {
            // Not guessed: a wrong layout would be a wrong value, and every client can send text
            // instead.
            let error = format!("a binary parameter of type {} is not available", kind.name());
            return Err(Failure::new(state::NOT_SUPPORTED, error).hint("send it as text"));
        }
    })
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
        assert_eq!(binary(&0_i64.to_be_bytes(), &Type::TIMESTAMPTZ).unwrap(), j!("2000-01-01T00:00:00.000Z"));
        assert!(binary(&[1], &Type::INT8).is_err());
        assert_eq!(binary(b"api", &Type::TEXT).unwrap(), j!("api"));
        assert_eq!(binary(b"{}", &Type::POINT).unwrap_err().state, state::NOT_SUPPORTED);
    }
}
