//! The shape of a pattern: a set of texts, a glob, or a general regex with a literal prefix.
//!
//! Determined from the HIR of the translated pattern, so that the spelling (`(a|b)c`, `[ab]c`,
//! `(?:ac|bc)`) does not matter.

use crate::limits::REGEX_LITERALS;
use regex_syntax::hir::{Class, Hir, HirKind, Look};

/// The shape of a pattern.
#[derive(Debug)]
pub(super) enum PatternShape {
    /// Exactly these texts, sorted, unique.
    Literals(Vec<String>),
    /// Literals with `.*` or `.+` between them.
    Glob(Glob),
    /// Any other pattern; every match starts with `prefix`.
    General {
        /// "" if no prefix is known.
        prefix: String,
    },
}

/// `head gap part gap part …`; the text must end with the last part.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Glob {
    head: String,
    /// For each gap: whether it needs at least one character, and the literal after it (only the
    /// last may be empty).
    parts: Vec<(bool, String)>,
}

impl Glob {
    pub(super) fn prefix(&self) -> &str {
        &self.head
    }

    /// Whether it is `.+` (`some`) or `.*` (not `some`).
    pub(super) fn is_any(&self, some: bool) -> bool {
        self.head.is_empty()
            && matches!(self.parts.as_slice(), [(one, text)] if *one == some && text.is_empty())
    }

    pub(super) fn is_match(&self, text: &str) -> bool {
        let Some(mut rest) = text.strip_prefix(self.head.as_str()) else { return false };
        for (i, (some, literal)) in self.parts.iter().enumerate() {
            // `.+` needs a character of its own, and one may take several bytes.
            if *some {
                let Some(c) = rest.chars().next() else { return false };
                rest = &rest[c.len_utf8()..];
            }
            // The last literal must be at the end; what is before it belongs to the gap.
            if i + 1 == self.parts.len() {
                return rest.ends_with(literal.as_str());
            }
            // The leftmost match leaves most of the text for the following parts.
            let Some(at) = rest.find(literal.as_str()) else { return false };
            rest = &rest[at + literal.len()..];
        }
        rest.is_empty()
    }
}

/// Determines the shape of a translated, anchored pattern.
pub(super) fn pattern_shape(anchored: &str) -> PatternShape {
    let parser = regex_syntax::ParserBuilder::new().nest_limit(u32::MAX).build().parse(anchored);
    let Ok(hir) = parser else { return PatternShape::General { prefix: String::new() } };
    let elements: &[Hir] = match hir.kind() {
        HirKind::Concat(elements) => elements,
        _ => std::slice::from_ref(&hir),
    };
    let Some(inside) = strip_anchors(elements) else {
        return PatternShape::General { prefix: String::new() };
    };
    // The best shape: values are looked up in the index, without a test of any other.
    if let Some(mut all) = cross(inside) {
        all.sort_unstable();
        all.dedup();
        return PatternShape::Literals(all);
    }
    glob(inside).map_or_else(|| PatternShape::General { prefix: leading(inside) }, PatternShape::Glob)
}

/// The elements between the outer `^` and `$`. `None` if the parser has moved these: then nothing
/// is assumed.
fn strip_anchors(elements: &[Hir]) -> Option<&[Hir]> {
    match elements {
        [first, inside @ .., last]
            if *first.kind() == HirKind::Look(Look::Start) && *last.kind() == HirKind::Look(Look::End) =>
        {
            Some(inside)
        }
        _ => None,
    }
}

/// All texts that a concatenation matches, if they are few.
fn cross(elements: &[Hir]) -> Option<Vec<String>> {
    let mut all = vec![String::new()];
    for element in elements {
        let tails = texts(element)?;
        // `[0-9][0-9][0-9]` has a thousand texts: testing the values of a label is cheaper than so
        // many lookups.
        if all.len() * tails.len() > REGEX_LITERALS {
            return None;
        }
        all = all.iter().flat_map(|head| tails.iter().map(move |tail| format!("{head}{tail}"))).collect();
    }
    Some(all)
}

fn texts(hir: &Hir) -> Option<Vec<String>> {
    match hir.kind() {
        HirKind::Empty => Some(vec![String::new()]),
        HirKind::Literal(literal) => Some(vec![std::str::from_utf8(&literal.0).ok()?.to_owned()]),
        HirKind::Class(Class::Unicode(class)) => {
            // Counted before any text is made: `[^a]` has a million.
            let size: usize = class.ranges().iter().map(|r| r.end() as usize - r.start() as usize + 1).sum();
            if size > REGEX_LITERALS {
                return None;
            }
            Some(class.ranges().iter().flat_map(|r| r.start()..=r.end()).map(String::from).collect())
        }
        HirKind::Class(Class::Bytes(class)) => {
            let all = class.ranges().iter().flat_map(|r| r.start()..=r.end());
            all.map(|b| b.is_ascii().then(|| char::from(b).to_string())).collect()
        }
        HirKind::Capture(group) => texts(&group.sub),
        HirKind::Concat(elements) => cross(elements),
        HirKind::Alternation(branches) => {
            let mut all = Vec::new();
            for branch in branches {
                all.extend(texts(branch)?);
                if all.len() > REGEX_LITERALS {
                    return None;
                }
            }
            Some(all)
        }
        HirKind::Repetition(r) if (r.min, r.max) == (0, Some(1)) => {
            let mut all = texts(&r.sub)?;
            all.push(String::new());
            Some(all)
        }
        // An anchor in the middle matches an empty text at some places only; a repetition has no
        // end.
        HirKind::Look(_) | HirKind::Repetition(_) => None,
    }
}

/// A concatenation of literals and `.*` or `.+` as a glob.
fn glob(elements: &[Hir]) -> Option<Glob> {
    let mut flat = Vec::new();
    flatten(elements, &mut flat);
    let mut head = String::new();
    let mut parts: Vec<(bool, String)> = Vec::new();
    for element in flat {
        match element.kind() {
            HirKind::Literal(literal) => {
                let text = std::str::from_utf8(&literal.0).ok()?;
                parts.last_mut().map_or(&mut head, |(_, part)| part).push_str(text);
            }
            HirKind::Repetition(r) if r.max.is_none() && r.min <= 1 && is_any(&r.sub) => {
                match parts.last_mut() {
                    // Two adjacent gaps are left to the regex engine.
                    Some((_, part)) if part.is_empty() => return None,
                    _ => parts.push((r.min == 1, String::new())),
                }
            }
            HirKind::Empty => {}
            _ => return None,
        }
    }
    Some(Glob { head, parts })
}

/// Replaces groups and nested concatenations by their elements.
fn flatten<'a>(elements: &'a [Hir], out: &mut Vec<&'a Hir>) {
    for element in elements {
        match element.kind() {
            HirKind::Capture(group) => flatten(std::slice::from_ref(&group.sub), out),
            HirKind::Concat(inner) => flatten(inner, out),
            _ => out.push(element),
        }
    }
}

/// Whether `hir` matches any single character, newlines included.
fn is_any(hir: &Hir) -> bool {
    match hir.kind() {
        HirKind::Class(Class::Unicode(class)) => {
            matches!(class.ranges(), [all] if all.start() == '\0' && all.end() == char::MAX)
        }
        _ => false,
    }
}

fn leading(elements: &[Hir]) -> String {
    let mut flat = Vec::new();
    flatten(elements, &mut flat);
    let literals = flat.iter().map_while(|h| match h.kind() {
        HirKind::Literal(literal) => std::str::from_utf8(&literal.0).ok(),
        _ => None,
    });
    literals.collect()
}
