//! Splits a YAML text into documents. Go's library parses the first and ignores the others, even
//! broken ones; so does [`super::read`].

/// The first document of a text, from its beginning on, so that positions in it hold.
pub(crate) fn first(text: &str) -> &str {
    let mut begun = false;
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        // At the start of a line neither marker can be part of a value.
        let is_start = is_marker(line, "---");
        if is_marker(line, "...") || (is_start && begun) {
            return &text[..at];
        }
        begun = begun || is_start || has_value(line);
        at += line.len();
    }
    text
}

/// Whether a document has no values.
pub(crate) fn is_empty(document: &str) -> bool {
    document.lines().all(|line| !has_value(line.strip_prefix("---").unwrap_or(line)))
}

fn is_marker(line: &str, marker: &str) -> bool {
    line.strip_prefix(marker).is_some_and(|rest| rest.is_empty() || rest.starts_with(char::is_whitespace))
}

/// Whether a line outside a value is more than a comment or a directive (`%YAML 1.1`).
fn has_value(line: &str) -> bool {
    let line = line.trim();
    !(line.is_empty() || line.starts_with('#') || line.starts_with('%'))
}
