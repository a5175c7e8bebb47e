//! Formats an answer of the server for `perennial sql`: as a table that fits the terminal, or with
//! a line for each column of each row.

use serde_json::Value;

/// Characters of a cell of a table where no width is known; longer texts are cut.
const CELL_WIDTH: usize = 60;
/// The narrowest width of a column that must shrink to fit. Below it nothing can be read.
const NARROWEST: usize = 8;

/// How an answer is shown.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Shape {
    /// The characters of a line; `None`: it goes to a file or a pipe.
    pub(super) width: Option<usize>,
    /// A line for each column of each row.
    pub(super) is_expanded: bool,
}

/// The cells of an answer as texts.
struct TextTable {
    names: Vec<String>,
    /// Whether a column has numbers, which are aligned to the right.
    right: Vec<bool>,
    /// Whether a column has texts, which may be cut; a part of a number or of a time says nothing.
    can_be_cut: Vec<bool>,
    rows: Vec<Vec<String>>,
}

impl TextTable {
    fn from_answer(answer: &Value) -> TextTable {
        let columns = answer["data"]["columns"].as_array().map(Vec::as_slice).unwrap_or_default();
        let rows = answer["data"]["rows"].as_array().map(Vec::as_slice).unwrap_or_default();
        let is_number = |column: &Value| {
            let kind = column["type"].as_str().unwrap_or_default();
            kind.starts_with("int") || kind.starts_with("float") || kind == "numeric"
        };
        let is_text = |column: &Value| {
            let kind = column["type"].as_str().unwrap_or_default();
            !(is_number(column)
                || kind.starts_with("timestamp")
                || ["date", "time", "interval", "bool"].contains(&kind))
        };
        let row = |row: &Value| row.as_array().into_iter().flatten().map(in_one_line).collect();
        TextTable {
            names: columns.iter().map(|column| in_one_line(&column["name"])).collect(),
            right: columns.iter().map(is_number).collect(),
            can_be_cut: columns.iter().map(is_text).collect(),
            rows: rows.iter().map(row).collect(),
        }
    }

    /// The characters of the longest text of each column.
    fn widths(&self) -> Vec<usize> {
        let longest = |at: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(at));
            cells.chain(self.names.get(at)).map(|text| text.chars().count()).max().unwrap_or(0)
        };
        (0..self.names.len()).map(longest).collect()
    }
}

/// The answer as a table, numbers to the right; then warnings and the number of rows. Where the
/// terminal is too narrow for all columns, each has a line of its own.
pub(super) fn table(answer: &Value, shape: Shape) -> String {
    let cells = TextTable::from_answer(answer);
    let mut out = match fitting(&cells.widths(), &cells.can_be_cut, shape.width) {
        Some(widths) if !shape.is_expanded => lines_of_rows(&cells, &widths),
        _ => lines_of_columns(&cells, shape.width),
    };
    for warning in answer["warnings"].as_array().into_iter().flatten() {
        out.push_str(&format!("warning: {}\n", in_one_line(warning)));
    }
    let count = cells.rows.len();
    out.push_str(&format!("({count} row{})\n", if count == 1 { "" } else { "s" }));
    out
}

/// The widths of the columns so that a row fits into a line; `None`: it cannot. Only columns that
/// can be cut are narrower than they want.
fn fitting(wanted: &[usize], can_be_cut: &[bool], line: Option<usize>) -> Option<Vec<usize>> {
    let within = |most: usize| -> Vec<usize> {
        let columns = wanted.iter().zip(can_be_cut);
        columns.map(|(width, can_be_cut)| if *can_be_cut { (*width).min(most) } else { *width }).collect()
    };
    let Some(line) = line else {
        // A plan, or another single text, is shown as a whole.
        return Some(within(if wanted.len() == 1 { usize::MAX } else { CELL_WIDTH }));
    };
    if wanted.len() == 1 {
        // The terminal wraps a single text, and nothing of it is lost.
        return Some(wanted.to_vec());
    }
    let room = line.saturating_sub(3 * wanted.len().saturating_sub(1));
    let taken = |most: usize| within(most).iter().sum::<usize>();
    if taken(NARROWEST) > room {
        return None;
    }
    // The largest width that all texts may have: narrow columns stay as they are.
    let mut most = wanted.iter().copied().max().unwrap_or(0).min(room);
    while most > NARROWEST && taken(most) > room {
        most -= 1;
    }
    Some(within(most))
}

fn lines_of_rows(cells: &TextTable, widths: &[usize]) -> String {
    let line = |texts: &[String]| {
        let padded = texts.iter().zip(widths).zip(&cells.right).map(|((text, width), right)| {
            let text = cut(text, *width);
            if *right { format!("{text:>width$}") } else { format!("{text:<width$}") }
        });
        padded.collect::<Vec<_>>().join(" | ").trim_end().to_owned()
    };
    let rules: Vec<String> = widths.iter().map(|width| "-".repeat(*width)).collect();
    let head = [line(&cells.names), rules.join("-+-")];
    let lines = head.into_iter().chain(cells.rows.iter().map(|row| line(row)));
    lines.map(|line| line + "\n").collect()
}

fn lines_of_columns(cells: &TextTable, width: Option<usize>) -> String {
    let names = cells.names.iter().map(|name| name.chars().count()).max().unwrap_or(0);
    let mut out = String::new();
    for (at, row) in cells.rows.iter().enumerate() {
        let title = format!("-[ {} ]", at + 1);
        let rule = width.unwrap_or(CELL_WIDTH).saturating_sub(title.len());
        out.push_str(&format!("{title}{}\n", "-".repeat(rule.min(CELL_WIDTH))));
        for (name, text) in cells.names.iter().zip(row) {
            out.push_str(format!("{name:<names$} | {text}").trim_end());
            out.push('\n');
        }
    }
    out
}

/// A value in one line.
fn in_one_line(value: &Value) -> String {
    match value {
        Value::String(text) => text.replace(['\n', '\r'], " "),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

/// The beginning of a text, with `…` if it was cut.
fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    text.chars().take(width.saturating_sub(1)).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(columns: &[(&str, &str)], rows: Value) -> Value {
        let columns: Vec<Value> =
            columns.iter().map(|(name, kind)| serde_json::json!({ "name": name, "type": kind })).collect();
        serde_json::json!({ "data": { "columns": columns, "rows": rows } })
    }

    #[test]
    fn a_table_has_numbers_to_the_right() {
        let rows = serde_json::json!([["api", 12.5], ["a long name", null]]);
        let mut answer = answer(&[("job", "text"), ("rps", "float8")], rows);
        answer["warnings"] = serde_json::json!(["w"]);
        let wanted = "job         |  rps\n------------+-----\napi         | 12.5\na long name |\nwarning: w\n(2 rows)\n";
        assert_eq!(table(&answer, Shape::default()), wanted);
    }

    #[test]
    fn a_table_fits_the_line() {
        let long = "x".repeat(70);
        let answer =
            answer(&[("a", "text"), ("b", "text"), ("n", "int8")], serde_json::json!([["id", long, 7]]));
        let shown = |width| table(&answer, Shape { width: Some(width), is_expanded: false });
        let wanted = "a  | b           | n\n---+-------------+--\nid | xxxxxxxxxx… | 7\n(1 row)\n";
        assert_eq!(shown(20), wanted);
        assert!(shown(200).contains(&long), "nothing is cut where there is room");
        assert!(shown(12).starts_with("-[ 1 ]"), "no room: a line for each column");
        let expanded = table(&answer, Shape { width: Some(10), is_expanded: true });
        assert_eq!(expanded, format!("-[ 1 ]----\na | id\nb | {long}\nn | 7\n(1 row)\n"));
    }

    #[test]
    fn times_and_numbers_are_never_cut() {
        let columns = [("ts", "timestamptz"), ("instance", "text"), ("value", "float8")];
        let time = "2026-11-24T23:59:15.000Z";
        let answer =
            answer(&columns, serde_json::json!([[time, "a-long-name.example.org:9100", 1234567.25]]));
        let shown = |width| table(&answer, Shape { width: Some(width), is_expanded: false });
        assert!(shown(50).contains(&format!("{time} | a-long-na… | 1234567.25")), "{}", shown(50));
        assert!(shown(40).starts_with("-[ 1 ]"), "no room: a line for each column");
    }

    #[test]
    fn a_single_text_is_shown_as_a_whole() {
        let long = "x".repeat(300);
        let answer = answer(&[("plan", "text")], serde_json::json!([[long]]));
        for width in [None, Some(80)] {
            assert!(table(&answer, Shape { width, is_expanded: false }).contains(&long));
        }
    }
}
