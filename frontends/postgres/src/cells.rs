//! Converts cells of an answer to PostgreSQL's text and binary formats.
//!
//! Input: Arrow arrays ([`Cells`]) or JSON values. Output: the bytes of a field of a `DataRow`
//! message. [`super::run`] calls it for each row; [`super::params`] is the other direction.

use crate::catalog::types;
use crate::catalog::value::Value;
use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{
    DataType, Date32Type, DurationMicrosecondType, Float64Type, Int64Type, IntervalMonthDayNanoType,
    IntervalUnit, Time64MicrosecondType, TimeUnit, TimestampMicrosecondType,
};
use arrow::error::ArrowError;
use bytes::{BufMut, BytesMut};
use chrono::DateTime;
use postgres_types::Type;
use serde_json::Value as Json;
use sql::tables::POSTGRES_EPOCH_MICROS;

/// A column of an answer.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct WireColumn {
    pub(crate) name: String,
    pub(crate) kind: Type,
}

/// How a client wants the cells of a column.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum CellFormat {
    Text,
    Binary,
}

impl CellFormat {
    pub(crate) fn code(self) -> i16 {
        match self {
            CellFormat::Text => 0,
            CellFormat::Binary => 1,
        }
    }
}

/// The format of column `at` of those that a client has listed: none means text, one is for all.
pub(crate) fn format_of(codes: &[i16], at: usize) -> CellFormat {
    let code = if codes.len() == 1 { codes.first() } else { codes.get(at) };
    if code == Some(&1) { CellFormat::Binary } else { CellFormat::Text }
}

/// A value on its way to a client.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Cell<'a> {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(&'a str),
    /// Microseconds since 1970; with a time zone.
    Time {
        micros: i64,
        has_zone: bool,
    },
    /// Days since 1970.
    Date(i32),
    /// Microseconds since midnight.
    TimeOfDay(i64),
    Interval {
        months: i32,
        days: i32,
        micros: i64,
    },
    List(Vec<Cell<'a>>),
}

const DAY_MICROS: i64 = 86_400_000_000;

/// The type of a column of an answer of the engine.
pub(crate) fn kind_of(kind: &DataType) -> Type {
    match kind {
        DataType::List(field) | DataType::LargeList(field) => types::list_of(&kind_of(field.data_type())),
        other => types::named(sql::output::type_name(other)),
    }
}

/// A column of a batch, in a form that cells are read from.
pub(crate) enum Cells {
    Bool(ArrayRef),
    Int(ArrayRef),
    Float(ArrayRef),
    Text(ArrayRef),
    Time { array: ArrayRef, has_zone: bool },
    Date(ArrayRef),
    TimeOfDay(ArrayRef),
    Interval(ArrayRef),
    Duration(ArrayRef),
    List { array: ArrayRef, elements: Vec<Cells> },
    Null,
}

impl Cells {
    /// # Errors
    ///
    /// If the type has no form here.
    pub(crate) fn from_array(array: &ArrayRef) -> Result<Cells, ArrowError> {
        let to = |kind: &DataType| cast(array, kind);
        Ok(match array.data_type() {
            DataType::Null => Cells::Null,
            DataType::Boolean => Cells::Bool(array.clone()),
            kind if kind.is_integer() => Cells::Int(to(&DataType::Int64)?),
            kind if kind.is_floating() => Cells::Float(to(&DataType::Float64)?),
            DataType::Timestamp(_, zone) => Cells::Time {
                array: to(&DataType::Timestamp(TimeUnit::Microsecond, zone.clone()))?,
                has_zone: zone.is_some(),
            },
            DataType::Date32 | DataType::Date64 => Cells::Date(to(&DataType::Date32)?),
            DataType::Time32(_) | DataType::Time64(_) => {
                Cells::TimeOfDay(to(&DataType::Time64(TimeUnit::Microsecond))?)
            }
            DataType::Interval(_) => Cells::Interval(to(&DataType::Interval(IntervalUnit::MonthDayNano))?),
            DataType::Duration(_) => Cells::Duration(to(&DataType::Duration(TimeUnit::Microsecond))?),
            DataType::List(_) => {
                let list = array.as_list::<i32>();
                let elements = (0..list.len()).map(|row| Cells::from_array(&list.value(row)));
                Cells::List { elements: elements.collect::<Result<_, _>>()?, array: array.clone() }
            }
            _ => Cells::Text(to(&DataType::Utf8)?),
        })
    }

    /// The cell of a row.
    pub(crate) fn cell(&self, row: usize) -> Cell<'_> {
        let array = match self {
            Cells::Null => return Cell::Null,
            Cells::Bool(array)
            | Cells::Int(array)
            | Cells::Float(array)
            | Cells::Text(array)
            | Cells::Time { array, .. }
            | Cells::Date(array)
            | Cells::TimeOfDay(array)
            | Cells::Interval(array)
            | Cells::Duration(array)
            | Cells::List { array, .. } => array,
        };
        if array.is_null(row) {
            return Cell::Null;
        }
        match self {
            Cells::Null => Cell::Null,
            Cells::Bool(array) => Cell::Bool(array.as_boolean().value(row)),
            Cells::Int(array) => Cell::Int(array.as_primitive::<Int64Type>().value(row)),
            Cells::Float(array) => Cell::Float(array.as_primitive::<Float64Type>().value(row)),
            Cells::Text(array) => Cell::Text(array.as_string::<i32>().value(row)),
            Cells::Time { array, has_zone } => {
                let micros = array.as_primitive::<TimestampMicrosecondType>().value(row);
                Cell::Time { micros, has_zone: *has_zone }
            }
            Cells::Date(array) => Cell::Date(array.as_primitive::<Date32Type>().value(row)),
            Cells::TimeOfDay(array) => {
                Cell::TimeOfDay(array.as_primitive::<Time64MicrosecondType>().value(row))
            }
            Cells::Interval(array) => {
                let value = array.as_primitive::<IntervalMonthDayNanoType>().value(row);
                Cell::Interval { months: value.months, days: value.days, micros: value.nanoseconds / 1_000 }
            }
            Cells::Duration(array) => {
                let micros = array.as_primitive::<DurationMicrosecondType>().value(row);
                Cell::Interval {
                    months: 0,
                    days: i32::try_from(micros / DAY_MICROS).unwrap_or(0),
                    micros: micros % DAY_MICROS,
                }
            }
            Cells::List { elements, .. } => {
                let list = &elements[row];
                let length = array.as_list::<i32>().value_length(row);
                Cell::List((0..usize::try_from(length).unwrap_or(0)).map(|at| list.cell(at)).collect())
            }
        }
    }
}

/// A value of the catalogs.
pub(crate) fn of_value(value: &Value) -> Cell<'_> {
    match value {
        Value::Null => Cell::Null,
        Value::Bool(b) => Cell::Bool(*b),
        Value::Int(n) => Cell::Int(*n),
        Value::Float(v) => Cell::Float(*v),
        Value::Text(text) => Cell::Text(text),
        Value::List(list) => Cell::List(list.iter().map(of_value).collect()),
    }
}

/// A value in the JSON of answers, as a cell of a column of type `kind`.
pub(crate) fn of_json<'a>(value: &'a Json, kind: &Type) -> Cell<'a> {
    match value {
        Json::Null => Cell::Null,
        Json::Bool(b) => Cell::Bool(*b),
        Json::Number(number) => match number.as_i64().filter(|_| *kind != Type::FLOAT8) {
            Some(whole) => Cell::Int(whole),
            None => Cell::Float(number.as_f64().unwrap_or(f64::NAN)),
        },
        // What JSON has no number for is a text in it.
        Json::String(text) if *kind == Type::FLOAT8 => Cell::Float(text.parse().unwrap_or(f64::NAN)),
        Json::String(text) if *kind == Type::INT8 => text.parse().map_or(Cell::Null, Cell::Int),
        Json::String(text) if *kind == Type::TIMESTAMPTZ => match DateTime::parse_from_rfc3339(text) {
            Ok(time) => Cell::Time { micros: time.timestamp_micros(), has_zone: true },
            Err(_) => Cell::Text(text),
        },
        Json::String(text) => Cell::Text(text),
        Json::Array(_) | Json::Object(_) => Cell::Null,
    }
}

/// Writes a cell with its length.
pub(crate) fn put(out: &mut BytesMut, cell: &Cell<'_>, kind: &Type, format: CellFormat) {
    if *cell == Cell::Null {
        out.put_i32(-1);
        return;
    }
    let begin = out.len();
    out.put_i32(0);
    match format {
        CellFormat::Text => match cell {
            Cell::List(list) if matches!(*kind, Type::INT2_VECTOR | Type::OID_VECTOR) => {
                let numbers: Vec<String> = list.iter().map(text).collect();
                out.put_slice(numbers.join(" ").as_bytes());
            }
            _ => out.put_slice(text(cell).as_bytes()),
        },
        CellFormat::Binary => put_binary(out, cell, kind),
    }
    let length = i32::try_from(out.len() - begin - 4).unwrap_or(i32::MAX);
    out[begin..begin + 4].copy_from_slice(&length.to_be_bytes());
}

/// A cell as PostgreSQL prints it.
pub(crate) fn text(cell: &Cell<'_>) -> String {
    match cell {
        Cell::Null => String::new(),
        Cell::Bool(b) => if *b { "t" } else { "f" }.to_owned(),
        Cell::Int(n) => n.to_string(),
        Cell::Float(v) => float(*v),
        Cell::Text(text) => (*text).to_owned(),
        Cell::Time { micros, has_zone } => {
            let time = DateTime::from_timestamp_micros(*micros).unwrap_or_default().naive_utc();
            let zone = if *has_zone { "+00" } else { "" };
            format!("{}{}{zone}", time.format("%Y-%m-%d %H:%M:%S"), fraction(micros.rem_euclid(1_000_000)))
        }
        Cell::Date(days) => {
            let time = DateTime::from_timestamp(i64::from(*days) * 86_400, 0).unwrap_or_default();
            time.format("%Y-%m-%d").to_string()
        }
        Cell::TimeOfDay(micros) => clock(*micros),
        Cell::Interval { months, days, micros } => interval(*months, *days, *micros),
        Cell::List(list) => {
            let values: Vec<Value> = list.iter().map(|cell| listed(cell)).collect();
            Value::List(values.into()).to_text()
        }
    }
}

/// An element of a list, as text.
fn listed(cell: &Cell<'_>) -> Value {
    match cell {
        Cell::Null => Value::Null,
        other => Value::text(&text(other)),
    }
}

fn float(v: f64) -> String {
    if v.is_nan() {
        return "NaN".to_owned();
    }
    if v.is_infinite() {
        return if v > 0.0 { "Infinity" } else { "-Infinity" }.to_owned();
    }
    // As PostgreSQL: the fewest digits that give the number back, with an exponent where it is
    // short.
    let magnitude = v.abs();
    if v != 0.0 && !(1e-4..1e15).contains(&magnitude) {
        let text = format!("{v:e}");
        let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let exponent: i32 = exponent.parse().unwrap_or(0);
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{digits}e{sign}{:02}", exponent.abs());
    }
    v.to_string()
}

/// `.25`, or nothing.
fn fraction(micros: i64) -> String {
    if micros == 0 {
        return String::new();
    }
    format!(".{micros:06}").trim_end_matches('0').to_owned()
}

fn clock(micros: i64) -> String {
    let sign = if micros < 0 { "-" } else { "" };
    let micros = micros.abs();
    let seconds = micros / 1_000_000;
    let part = fraction(micros % 1_000_000);
    format!("{sign}{:02}:{:02}:{:02}{part}", seconds / 3_600, seconds / 60 % 60, seconds % 60)
}

fn interval(months: i32, days: i32, micros: i64) -> String {
    let mut parts = Vec::new();
    let mut add = |n: i32, unit: &str| {
        if n != 0 {
            parts.push(format!("{n} {unit}{}", if n == 1 { "" } else { "s" }));
        }
    };
    add(months / 12, "year");
    add(months % 12, "mon");
    add(days, "day");
    if micros != 0 || parts.is_empty() {
        parts.push(clock(micros));
    }
    parts.join(" ")
}

/// Writes the binary form of a cell that is not NULL, as a value of type `kind`.
fn put_binary(out: &mut BytesMut, cell: &Cell<'_>, kind: &Type) {
    let whole = || match cell {
        Cell::Int(n) => *n,
        Cell::Bool(b) => i64::from(*b),
        Cell::Float(v) => *v as i64,
        _ => 0,
    };
    let number = || match cell {
        Cell::Float(v) => *v,
        Cell::Int(n) => *n as f64,
        _ => f64::NAN,
    };
    match *kind {
        Type::BOOL => out.put_u8(u8::from(*cell == Cell::Bool(true) || *cell == Cell::Int(1))),
        Type::INT2 => out.put_i16(whole() as i16),
        Type::INT4 => out.put_i32(whole() as i32),
        Type::OID => out.put_u32(whole() as u32),
        Type::INT8 => out.put_i64(whole()),
        Type::FLOAT4 => out.put_f32(number() as f32),
        Type::FLOAT8 => out.put_f64(number()),
        Type::NUMERIC => put_numeric(out, &text(cell)),
        _ => match cell {
            Cell::Time { micros, .. } => out.put_i64(micros.saturating_sub(POSTGRES_EPOCH_MICROS)),
            Cell::Date(days) => out.put_i32(days.saturating_sub((POSTGRES_EPOCH_MICROS / DAY_MICROS) as i32)),
            Cell::TimeOfDay(micros) => out.put_i64(*micros),
            Cell::Interval { months, days, micros } => {
                out.put_i64(*micros);
                out.put_i32(*days);
                out.put_i32(*months);
            }
            Cell::List(list) => put_list(out, list, &types::element_of(kind)),
            other => out.put_slice(text(other).as_bytes()),
        },
    }
}

fn put_list(out: &mut BytesMut, list: &[Cell<'_>], element: &Type) {
    out.put_i32(i32::from(!list.is_empty()));
    out.put_i32(i32::from(list.contains(&Cell::Null)));
    out.put_u32(element.oid());
    if list.is_empty() {
        return;
    }
    out.put_i32(i32::try_from(list.len()).unwrap_or(i32::MAX));
    out.put_i32(1);
    for cell in list {
        put(out, cell, element, CellFormat::Binary);
    }
}

/// A decimal number: groups of four digits.
fn put_numeric(out: &mut BytesMut, text: &str) {
    let is_negative = text.starts_with('-');
    let digits = text.trim_start_matches(['-', '+']);
    let (before, after) = digits.split_once('.').unwrap_or((digits, ""));
    let before = before.trim_start_matches('0');
    let padded = format!("{}{before}", "0".repeat((4 - before.len() % 4) % 4));
    let rest = format!("{after}{}", "0".repeat((4 - after.len() % 4) % 4));
    let group =
        |at: usize, text: &str| text.get(at..at + 4).and_then(|four| four.parse::<i16>().ok()).unwrap_or(0);
    let groups: Vec<i16> = (0..padded.len()).step_by(4).map(|at| group(at, &padded)).collect();
    let fractions: Vec<i16> = (0..rest.len()).step_by(4).map(|at| group(at, &rest)).collect();
    out.put_i16((groups.len() + fractions.len()) as i16);
    out.put_i16(groups.len() as i16 - 1);
    out.put_u16(if is_negative { 0x4000 } else { 0 });
    out.put_i16(after.len() as i16);
    for group in groups.into_iter().chain(fractions) {
        out.put_i16(group);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_those_of_postgresql() {
        for (cell, want) in [
            (Cell::Bool(true), "t"),
            (Cell::Float(f64::INFINITY), "Infinity"),
            (Cell::Float(1e300), "1e+300"),
            (Cell::Float(0.00001), "1e-05"),
            (Cell::Float(-0.5), "-0.5"),
            (Cell::Float(1_000_000.0), "1000000"),
            (Cell::Time { micros: 1_795_793_400_250_000, has_zone: true }, "2026-11-27 15:30:00.25+00"),
            (Cell::Time { micros: 0, has_zone: false }, "1970-01-01 00:00:00"),
            (Cell::Date(-1), "1969-12-31"),
            (Cell::Interval { months: 14, days: 1, micros: 90_000_000 }, "1 year 2 mons 1 day 00:01:30"),
            (Cell::Interval { months: 0, days: 0, micros: 0 }, "00:00:00"),
            (Cell::List(vec![Cell::Text("a b"), Cell::Null, Cell::Text("c")]), "{\"a b\",NULL,c}"),
        ] {
            assert_eq!(text(&cell), want, "{cell:?}");
        }
    }

    #[test]
    fn numerics_have_groups_of_four_digits() {
        let bytes = |text: &str| {
            let mut out = BytesMut::new();
            put_numeric(&mut out, text);
            out.to_vec()
        };
        assert_eq!(bytes("-12345.67"), [0, 3, 0, 1, 0x40, 0, 0, 2, 0, 1, 0x09, 0x29, 0x1a, 0x2c]);
        assert_eq!(bytes("0"), [0, 0, 0xff, 0xff, 0, 0, 0, 0]);
    }
}
