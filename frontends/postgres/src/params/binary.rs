//! Values of parameters in PostgreSQL's binary format.

use super::{float, utf8};
use crate::failure::{Failure, state};
use bytes::{Buf, Bytes};
use chrono::{DateTime, SecondsFormat};
use postgres_types::{Kind, Type};
use serde_json::Value as Json;
use sql::tables::POSTGRES_EPOCH_MICROS;
use std::fmt::Write;

const DAY_MICROS: i64 = 86_400_000_000;

/// A value of type `kind` in binary form.
pub(super) fn json(bytes: &Bytes, kind: &Type) -> Result<Json, Failure> {
    if matches!(kind.kind(), Kind::Array(_)) {
        return list(bytes, kind);
    }
    let mut buf = bytes.clone();
    let fits = |length: usize| if bytes.len() == length { Ok(()) } else { Err(wrong_length(bytes, kind)) };
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
        Type::OID | Type::REGCLASS | Type::REGTYPE | Type::REGNAMESPACE | Type::REGPROC => {
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
        Type::NUMERIC => Json::String(decimal(buf).ok_or_else(|| wrong_length(bytes, kind))?),
        Type::TIMESTAMP | Type::TIMESTAMPTZ => {
            fits(8)?;
            let time = moment(buf.get_i64())?;
            Json::String(time.to_rfc3339_opts(SecondsFormat::Micros, true))
        }
        Type::DATE => {
            fits(4)?;
            let time = moment(i64::from(buf.get_i32()).saturating_mul(DAY_MICROS))?;
            Json::String(time.format("%Y-%m-%d").to_string())
        }
        Type::TIME => {
            fits(8)?;
            let time = moment(buf.get_i64().rem_euclid(DAY_MICROS))?;
            Json::String(time.format("%H:%M:%S%.6f").to_string())
        }
        Type::INTERVAL => {
            fits(16)?;
            let micros = buf.get_i64();
            let days = buf.get_i32();
            let months = buf.get_i32();
            Json::String(format!("{months} months {days} days {micros} microseconds"))
        }
        Type::UUID => {
            fits(16)?;
            Json::String(uuid(&buf))
        }
        Type::TEXT | Type::VARCHAR | Type::NAME | Type::UNKNOWN | Type::BPCHAR | Type::JSON | Type::CHAR => {
            Json::String(utf8(bytes)?)
        }
        _ => {
            let error = format!("a binary parameter of type {} is not available", kind.name());
            return Err(Failure::new(state::NOT_SUPPORTED, error).hint("send it as text"));
        }
    })
}

fn wrong_length(bytes: &Bytes, kind: &Type) -> Failure {
    Failure::new("22P03", format!("a binary parameter of type {} has {} bytes", kind.name(), bytes.len()))
}

/// The time so many microseconds after 2000.
fn moment(micros: i64) -> Result<DateTime<chrono::Utc>, Failure> {
    let time = DateTime::from_timestamp_micros(micros.saturating_add(POSTGRES_EPOCH_MICROS));
    time.ok_or_else(|| Failure::new("22008", "a time is out of range"))
}

/// A list: how many dimensions, whether there is a NULL, the type of the elements; length and first
/// index of each dimension; then the elements with their lengths.
fn list(bytes: &Bytes, kind: &Type) -> Result<Json, Failure> {
    let mut buf = bytes.clone();
    let broken = || wrong_length(bytes, kind);
    if buf.remaining() < 12 {
        return Err(broken());
    }
    let dimensions = buf.get_i32();
    let _has_null = buf.get_i32();
    let element = buf.get_u32();
    let element =
        Type::from_oid(element).ok_or_else(|| Failure::new("22P03", "a list of an unknown type"))?;
    match dimensions {
        0 => return Ok(Json::Array(Vec::new())),
        1 => {}
        _ => return Err(Failure::new(state::NOT_SUPPORTED, "a list of lists is not available")),
    }
    if buf.remaining() < 8 {
        return Err(broken());
    }
    let count = buf.get_i32();
    let _first_index = buf.get_i32();
    let mut values = Vec::new();
    for _ in 0..count {
        if buf.remaining() < 4 {
            return Err(broken());
        }
        let length = buf.get_i32();
        if length == -1 {
            values.push(Json::Null);
            continue;
        }
        let length = usize::try_from(length).ok().filter(|length| *length <= buf.remaining());
        let value = buf.split_to(length.ok_or_else(broken)?);
        values.push(json(&value, &element)?);
    }
    if buf.has_remaining() {
        return Err(broken());
    }
    Ok(Json::Array(values))
}

/// A decimal number: groups of four digits, of which the first has the weight 10000^weight.
fn decimal(mut buf: Bytes) -> Option<String> {
    if buf.remaining() < 8 {
        return None;
    }
    let count = buf.get_u16();
    let weight = buf.get_i16();
    let sign = buf.get_u16();
    let scale = usize::from(buf.get_u16());
    match sign {
        0xC000 => return Some("NaN".to_owned()),
        0xD000 => return Some("Infinity".to_owned()),
        0xF000 => return Some("-Infinity".to_owned()),
        _ => {}
    }
    if buf.remaining() != usize::from(count) * 2 {
        return None;
    }
    let groups: Vec<u16> = (0..count).map(|_| buf.get_u16()).collect();
    let group = |at: i32| usize::try_from(at).ok().and_then(|at| groups.get(at)).copied().unwrap_or(0);
    let weight = i32::from(weight);
    let mut text = if sign == 0x4000 { "-".to_owned() } else { String::new() };
    if weight < 0 {
        text.push('0');
    }
    for at in 0..=weight {
        let _ = if at == 0 { write!(text, "{}", group(at)) } else { write!(text, "{:04}", group(at)) };
    }
    if scale > 0 {
        let mut fraction = String::new();
        let mut at = weight + 1;
        while fraction.len() < scale {
            let _ = write!(fraction, "{:04}", group(at));
            at += 1;
        }
        fraction.truncate(scale);
        text.push('.');
        text.push_str(&fraction);
    }
    Some(text)
}

fn uuid(bytes: &[u8]) -> String {
    let mut text = String::new();
    for (at, byte) in bytes.iter().enumerate() {
        if matches!(at, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        let _ = write!(text, "{byte:02x}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json as j;

    fn read(parts: &[&[u8]], kind: &Type) -> Result<Json, &'static str> {
        json(&Bytes::from(parts.concat()), kind).map_err(|failure| failure.state)
    }

    #[test]
    fn lists_are_read() {
        let head = |dimensions: i32, element: &Type| {
            [dimensions.to_be_bytes(), 1_i32.to_be_bytes(), element.oid().to_be_bytes()].concat()
        };
        let size = |count: i32| [count.to_be_bytes(), 1_i32.to_be_bytes()].concat();
        let texts = [&head(1, &Type::TEXT)[..], &size(2), &[0, 0, 0, 1, b'a'], &[255; 4]];
        assert_eq!(read(&texts, &Type::TEXT_ARRAY), Ok(j!(["a", null])));
        let numbers = [&head(1, &Type::INT8)[..], &size(1), &[0, 0, 0, 8], &7_i64.to_be_bytes()];
        assert_eq!(read(&numbers, &Type::INT8_ARRAY), Ok(j!([7])));
        assert_eq!(read(&[&head(0, &Type::INT8)], &Type::INT8_ARRAY), Ok(j!([])));
        assert_eq!(read(&[&head(2, &Type::INT8)], &Type::INT8_ARRAY), Err(state::NOT_SUPPORTED));
        for broken in [&numbers[..3], &numbers[..1], &[&[0, 0, 0, 1]]] {
            assert_eq!(read(broken, &Type::INT8_ARRAY), Err("22P03"));
        }
        let long = [&head(1, &Type::TEXT)[..], &size(1), &[0, 0, 0, 9, b'a']];
        assert_eq!(read(&long, &Type::TEXT_ARRAY), Err("22P03"));
    }

    #[test]
    fn times_and_decimals_are_read() {
        let number = |parts: &[i16]| parts.iter().flat_map(|part| part.to_be_bytes()).collect::<Vec<u8>>();
        for (parts, want) in [
            (&[2, 0, 0, 2, 12, 5_000][..], "12.50"),
            (&[2, 1, 0x4000, 0, 1, 23], "-10023"),
            (&[1, -1, 0, 4, 25], "0.0025"),
            (&[0, 0, 0, 0], "0"),
            (&[1, 1, 0, 0, 3], "30000"),
            (&[0, 0, -0x4000, 0], "NaN"),
        ] {
            assert_eq!(read(&[&number(parts)], &Type::NUMERIC), Ok(j!(want)), "{parts:?}");
        }
        assert_eq!(read(&[&number(&[2, 0, 0, 0, 1])], &Type::NUMERIC), Err("22P03"));
        assert_eq!(read(&[&(-1_i32).to_be_bytes()], &Type::DATE), Ok(j!("1999-12-31")));
        assert_eq!(read(&[&3_723_500_000_i64.to_be_bytes()], &Type::TIME), Ok(j!("01:02:03.500000")));
        let interval = [&10_i64.to_be_bytes()[..], &2_i32.to_be_bytes(), &1_i32.to_be_bytes()];
        assert_eq!(read(&interval, &Type::INTERVAL), Ok(j!("1 months 2 days 10 microseconds")));
        assert_eq!(read(&[&[0x12; 16]], &Type::UUID), Ok(j!("12121212-1212-1212-1212-121212121212")));
        let micros = 1_500_001_i64.to_be_bytes();
        assert_eq!(read(&[&micros], &Type::TIMESTAMPTZ), Ok(j!("2000-01-01T00:00:01.500001Z")));
    }
}
