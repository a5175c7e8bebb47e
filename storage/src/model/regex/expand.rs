//! Go's `Regexp.Expand`: templates such as `${1}-$name`, for relabelling and `label_replace`.
//!
//! `$1x` is the group named `1x`; `$$` is a dollar; a group that is unknown or did not take part is empty; a
//! dollar that starts no reference stands for itself.

use super::AnchoredRegex;
use regex::Captures;
use std::collections::HashMap;
use std::fmt::Write;
use std::ops::Range;

/// Fills `template` from the groups of a match of [`super::AnchoredRegex::inner`].
pub fn expand(template: &str, captures: &Captures<'_>) -> String {
    let mut out = String::with_capacity(template.len());
    each_part(template, |part| match part {
        TemplatePart::Text(stretch) => out.push_str(&template[stretch]),
        TemplatePart::Group(name) => out.push_str(group(name, captures)),
    });
    out
}

/// A template that many matches of one pattern fill: what its names mean is looked up once.
#[derive(Debug)]
pub struct Template {
    text: String,
    parts: Vec<Filled>,
    /// By name that stands in the template: the groups that it may mean, of which the first that
    /// took part counts.
    groups: Vec<Vec<usize>>,
}

#[derive(Debug)]
enum Filled {
    /// This stretch of the template.
    Text(Range<usize>),
    /// What the name of that number stands for.
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
            TemplatePart::Text(stretch) => parts.push(Filled::Text(stretch)),
            TemplatePart::Group(name) => {
                let number = *numbers.entry(name).or_insert_with(|| {
                    meanings.push(match number(name) {
                        Some(number) => vec![number],
                        None => (1..).map_while(|nth| groups.get(&*group_name(name, nth)).copied()).collect(),
                    });
                    meanings.len() - 1
                });
                parts.push(Filled::Group(number));
            }
        });
        Template { text: text.to_owned(), parts, groups: meanings }
    }

    /// Filled from the groups of a match; the error is the length that it would have at least, if
    /// that is more than `limit` bytes.
    pub fn fill(&self, captures: &Captures<'_>, limit: usize) -> Result<String, usize> {
        let took_part = |groups: &Vec<usize>| groups.iter().find_map(|at| captures.get(*at));
        let groups: Vec<&str> =
            self.groups.iter().map(|groups| took_part(groups).map_or("", |found| found.as_str())).collect();
        let mut out = String::new();
        for part in &self.parts {
            out.push_str(match part {
                Filled::Text(stretch) => &self.text[stretch.clone()],
                Filled::Group(number) => groups[*number],
            });
            if out.len() > limit {
                return Err(out.len());
            }
        }
        Ok(out)
    }
}

/// What a template consists of.
enum TemplatePart<'t> {
    /// A stretch of it that is not empty.
    Text(Range<usize>),
    /// A reference to the group of this name.
    Group(&'t str),
}

/// Takes a template apart.
fn each_part<'t>(template: &'t str, mut take: impl FnMut(TemplatePart<'t>)) {
    // What lies before `text` has been taken.
    let mut text = 0;
    let mut from = 0;
    while let Some(dollar) = template[from..].find('$').map(|at| from + at) {
        let after = &template[dollar + 1..];
        if after.starts_with('$') {
            take(TemplatePart::Text(text..dollar + 1));
            text = dollar + 2;
            from = text;
        } else if let Some((name, rest)) = reference(after) {
            if text < dollar {
                take(TemplatePart::Text(text..dollar));
            }
            take(TemplatePart::Group(name));
            text = template.len() - rest.len();
            from = text;
        } else {
            from = dollar + 1;
        }
    }
    if text < template.len() {
        take(TemplatePart::Text(text..template.len()));
    }
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

/// The number that a name is.
fn number(name: &str) -> Option<usize> {
    let is_number = name.bytes().all(|b| b.is_ascii_digit()) && (name == "0" || !name.starts_with('0'));
    name.parse().ok().filter(|number| is_number && *number < 1_000_000_000)
}

fn group<'t>(name: &str, captures: &Captures<'t>) -> &'t str {
    let found = match number(name) {
        Some(number) => captures.get(number),
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
