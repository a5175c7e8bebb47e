//! Formats attribute values as label values, as OpenTelemetry's Go library does: numbers, booleans,
//! lists and maps as JSON.

use crate::http_client::base64;
use crate::otlp_common::{AnyValue, KeyValue, Value};
use storage::model::number::{general, plain, scientific};

/// The text of a value: lists and maps are JSON.
pub(super) fn text(value: Option<&AnyValue>) -> String {
    let Some(value) = value.and_then(|value| value.value.as_ref()) else { return String::new() };
    match value {
        Value::Text(text) => text.clone(),
        Value::Flag(flag) => flag.to_string(),
        Value::Integer(number) => number.to_string(),
        Value::Double(number) => double(*number),
        Value::Bytes(bytes) => base64(bytes),
        Value::List(list) => {
            let mut json = String::new();
            let is_complete = write_list(&list.values, &mut json);
            // A number that JSON does not have makes the whole text empty.
            if is_complete { json } else { String::new() }
        }
        Value::Map(map) => {
            let mut json = String::new();
            let is_complete = write_map(&map.values, &mut json);
            if is_complete { json } else { String::new() }
        }
    }
}

/// A number as JavaScript writes it.
fn double(v: f64) -> String {
    if !v.is_finite() {
        return format!("json: unsupported value: {}", general(v));
    }
    let size = v.abs();
    if size != 0.0 && !(1e-6..1e21).contains(&size) {
        let text = scientific(v);
        // `1e-07` is `1e-7` there, and `1e+21` stays.
        return text.replacen("e-0", "e-", 1);
    }
    plain(v)
}

/// Writes a value inside a list or map. Returns whether JSON has it.
fn write(value: Option<&AnyValue>, json: &mut String) -> bool {
    match value.and_then(|value| value.value.as_ref()) {
        None => json.push_str("null"),
        Some(Value::List(list)) => return write_list(&list.values, json),
        Some(Value::Map(map)) => return write_map(&map.values, json),
        Some(Value::Double(number)) if !number.is_finite() => return false,
        Some(Value::Text(_) | Value::Bytes(_)) => write_text(&text(value), json),
        Some(_) => json.push_str(&text(value)),
    }
    true
}

/// Appends a list as JSON; false: it has a value that JSON does not have.
fn write_list(values: &[AnyValue], json: &mut String) -> bool {
    json.push('[');
    for (n, value) in values.iter().enumerate() {
        if n > 0 {
            json.push(',');
        }
        if !write(Some(value), json) {
            return false;
        }
    }
    json.push(']');
    true
}

/// Appends a map as JSON, sorted by key; false: it has a value that JSON does not have.
fn write_map(pairs: &[KeyValue], json: &mut String) -> bool {
    let mut sorted: Vec<&KeyValue> = pairs.iter().collect();
    sorted.sort_by(|a, b| a.key.cmp(&b.key));
    // The last of several with one name, as in a map of Go.
    sorted.dedup_by(|later, earlier| {
        let is_same = later.key == earlier.key;
        if is_same {
            *earlier = *later;
        }
        is_same
    });
    json.push('{');
    for (n, pair) in sorted.into_iter().enumerate() {
        if n > 0 {
            json.push(',');
        }
        write_text(&pair.key, json);
        json.push(':');
        if !write(pair.value.as_ref(), json) {
            return false;
        }
    }
    json.push('}');
    true
}

/// A text in JSON as Go writes it, which also escapes what HTML could take for markup.
fn write_text(text: &str, json: &mut String) {
    let quoted = serde_json::Value::from(text).to_string();
    for c in quoted.chars() {
        match c {
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => json.push_str(&format!("\\u{:04x}", u32::from(c))),
            _ => json.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::otlp_common::{ArrayValue, KeyValueList};

    #[test]
    fn values_are_texts() {
        let of = |value: Value| AnyValue { value: Some(value) };
        let list =
            |values: Vec<Value>| Value::List(ArrayValue { values: values.into_iter().map(of).collect() });
        let pair = |key: &str, value: Value| KeyValue { key: key.to_owned(), value: Some(of(value)) };
        let map = |pairs: Vec<KeyValue>| Value::Map(KeyValueList { values: pairs });
        let cases = [
            (Value::Text("a \"b\"".to_owned()), "a \"b\""),
            (Value::Flag(true), "true"),
            (Value::Integer(-7), "-7"),
            (Value::Double(1.5), "1.5"),
            (Value::Double(3.0), "3"),
            (Value::Double(1e21), "1e+21"),
            (Value::Double(1e20), "100000000000000000000"),
            (Value::Double(1.5e-7), "1.5e-7"),
            (Value::Double(f64::INFINITY), "json: unsupported value: +Inf"),
            (Value::Bytes(b"hello".to_vec()), "aGVsbG8="),
            (
                list(vec![Value::Text("<a&b>".to_owned()), Value::Integer(1), list(vec![])]),
                r#"["\u003ca\u0026b\u003e",1,[]]"#,
            ),
            (
                map(vec![
                    pair("b", Value::Double(0.5)),
                    pair("a", Value::Flag(false)),
                    pair("b", Value::Integer(2)),
                ]),
                r#"{"a":false,"b":2}"#,
            ),
            (list(vec![Value::Double(f64::NAN)]), ""),
        ];
        for (value, want) in cases {
            assert_eq!(text(Some(&of(value))), want);
        }
        assert_eq!(text(None), "");
    }
}
