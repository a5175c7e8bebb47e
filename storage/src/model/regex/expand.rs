//! Go's `Regexp.Expand`: templates such as `${1}-$name`, for relabelling and `label_replace`.
//!
//! `$1x` is the group named `1x`; `$$` is a dollar sign. A group that is unknown or did not match
//! is empty. A dollar sign that does not start a reference is literal.

use super::AnchoredRegex;
use regex::Captures;
use std::collections::HashMap;
use std::fmt::Write;
use std::ops::Range;

/// Fills `template` with the groups of a match of [`super::AnchoredRegex::inner`].
pub fn expand(template: &str, captures: &Captures<'_>) -> String {
    let mut out = String::with_capacity(template.len());
    each_part(template, |part| match part {
        TemplateSegment::Text(stretch) => out.push_str(&template[stretch]),
        TemplateSegment::Group(name) => out.push_str(group(name, captures)),
    });
    out
}

/// A template for many matches of one pattern: its group names are resolved once.
#[derive(Debug)]
pub struct Template {
    text: String,
    parts: Vec<CompiledSegment>,
    /// For each name in the template, the groups that it may refer to; the first that matched
    /// counts.
    groups: Vec<Vec<usize>>,
}

#[derive(Debug)]
enum CompiledSegment {
    /// A range of the template's text.
    Text(Range<usize>),
    /// The group name with this index.
    Group(usize),
}

impl Template {
    /// The template `text` for matches of `regex`.
    pub fn new(text: &str, regex: &AnchoredRegex) -> Template {
        let groups: HashMap<&str, usize> =
            regex.inner().capture_names().enumerate().filter_map(|(at, name)| Some((name?, at))).collect();
        let mut numbers = HashMap::new();
        let mut meanings = Vec::new();
        let mut parts = Vec::new();
        each_part(text, |part| match part {
            TemplateSegment::Text(stretch) => parts.push(CompiledSegment::Text(stretch)),
            TemplateSegment::Group(name) => {
                let number = *numbers.entry(name).or_insert_with(|| {
                    meanings.push(match number(name) {
                        Some(number) => vec![number],
                        None => (1..).map_while(|nth| groups.get(&*group_name(name, nth)).copied()).collect(),
                    });
                    meanings.len() - 1
                });
                parts.push(CompiledSegment::Group(number));
            }
        });
        Template { text: text.to_owned(), parts, groups: meanings }
    }

    /// Fills the template with the groups of a match. The error is the length reached, if that is
    /// more than `limit` bytes.
    pub fn fill(&self, captures: &Captures<'_>, limit: usize) -> Result<String, usize> {
        let took_part = |groups: &Vec<usize>| groups.iter().find_map(|at| captures.get(*at));
        let groups: Vec<&str> =
            self.groups.iter().map(|groups| took_part(groups).map_or("", |found| found.as_str())).collect();
        let mut out = String::new();
        for part in &self.parts {
            out.push_str(match part {
                CompiledSegment::Text(stretch) => &self.text[stretch.clone()],
                CompiledSegment::Group(number) => groups[*number],
            });
            if out.len() > limit {
                return Err(out.len());
            }
        }
        Ok(out)
    }
}

/// A part of a template.
enum TemplateSegment<'t> {
    /// A non-empty range of its text.
    Text(Range<usize>),
    /// A reference to the group of this name.
    Group(&'t str),
}

/// Splits a template into its parts.
fn each_part<'t>(template: &'t str, mut take: impl FnMut(TemplateSegment<'t>)) {
    // Everything before `text` has been passed to `take`.
    let mut text = 0;
    let mut from = 0;
    while let Some(dollar) = template[from..].find('$').map(|at| from + at) {
        let after = &template[dollar + 1..];
        if after.starts_with('$') {
            take(TemplateSegment::Text(text..dollar + 1));
            text = dollar + 2;
            from = text;
        } else if let Some((name, rest)) = reference(after) {
            if text < dollar {
                take(TemplateSegment::Text(text..dollar));
            }
            take(TemplateSegment::Group(name));
            text = template.len() - rest.len();
            from = text;
        } else {
            from = dollar + 1;
        }
    }
    if text < template.len() {
        take(TemplateSegment::Text(text..template.len()));
    }
}

/// The name at the start of `s` (after the dollar sign), and the text after the reference.
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

/// The number of a group, if the name is a number.
fn number(name: &str) -> Option<usize> {
    let is_number = name.bytes().all(|b| b.is_ascii_digit()) && (name == "0" || !name.starts_with('0'));
    name.parse().ok().filter(|number| is_number && *number < 1_000_000_000)
}

fn group<'t>(name: &str, captures: &Captures<'t>) -> &'t str {
    let found = match number(name) {
        Some(number) => captures.get(number),
        // Go allows several groups with one name: the first that matched counts.
        _ => (1..=captures.len()).find_map(|nth| captures.name(&group_name(name, nth))),
    };
    found.map_or("", |m| m.as_str())
}

/// The name in the `regex` crate of the `nth` group (from 1) that a Go pattern calls `name`. The
/// crate's names are unique and start with a letter, but may contain dots.
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
