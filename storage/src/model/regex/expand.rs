//! Go's `Regexp.Expand`: templates such as `${1}-$name`, for relabelling and `label_replace`.
//!
//! `$1x` is the group named `1x`; `$$` is a dollar; a group that is unknown or did not take part is empty; a
//! dollar that starts no reference stands for itself.

use regex::Captures;
use std::fmt::Write;

/// Fills `template` from the groups of a match of [`super::AnchoredRegex::inner`].
pub fn expand(template: &str, captures: &Captures<'_>) -> String {
    let mut out = String::with_capacity(template.len());
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('$') {
        out.push_str(before);
        if let Some(after) = after.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some((name, after)) = reference(after) {
            out.push_str(group(name, captures));
            rest = after;
        } else {
            out.push('$');
            rest = after;
        }
    }
    out.push_str(rest);
    out
}

/// The name at the start of `s` (after the dollar) and what follows the reference.
fn reference(s: &str) -> Option<(&str, &str)> {
    let inner = s.strip_prefix('{');
    let body = inner.unwrap_or(s);
    let end = body.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(body.len());
    let (name, after) = body.split_at(end);
    if name.is_empty() {
        return None;
    }
    let after = if inner.is_some() { after.strip_prefix('}')? } else { after };
    Some((name, after))
}

fn group<'t>(name: &str, captures: &Captures<'t>) -> &'t str {
    let is_number = name.bytes().all(|b| b.is_ascii_digit()) && (name == "0" || !name.starts_with('0'));
    let found = match name.parse::<usize>() {
        Ok(number) if is_number && number < 1_000_000_000 => captures.get(number),
        // Go allows one name for several groups: the first that took part counts.
        _ => (1..=captures.len()).find_map(|nth| captures.name(&group_name(name, nth))),
    };
    found.map_or("", |m| m.as_str())
}

/// How the `nth` group (from 1) that a Go pattern calls `name` is called for the `regex` crate, whose names
/// are unique and start with a letter, but may contain dots.
pub(super) fn group_name(name: &str, nth: usize) -> String {
    let mut out = String::new();
    if name.starts_with(|c: char| c.is_ascii_digit()) {
        out.push_str("_.");
    }
    out.push_str(name);
    if nth > 1 {
        let _ = write!(out, ".{nth}");
    }
    out
}
