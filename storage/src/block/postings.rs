//! Postings of a block: label → value → series, in memory.

use crate::model::{Labels, MatchOp, Matcher};
use roaring::RoaringBitmap;
use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;

/// Which series have which label value.
#[derive(Default)]
pub(super) struct Postings {
    all: RoaringBitmap,
    labels: HashMap<String, BTreeMap<String, RoaringBitmap>>,
}

impl Postings {
    /// The postings of these series; the index is the id.
    pub(super) fn build(series: &[Labels]) -> Postings {
        let mut postings = Postings::default();
        for (id, labels) in (0u32..).zip(series) {
            postings.all.insert(id);
            for (name, value) in labels.iter() {
                postings.entry(name, value).insert(id);
            }
        }
        postings
    }

    /// Looks up before it allocates: most pairs are there already.
    fn entry(&mut self, name: &str, value: &str) -> &mut RoaringBitmap {
        if !self.labels.contains_key(name) {
            self.labels.insert(name.to_owned(), BTreeMap::new());
        }
        let values = self.labels.entry(name.to_owned()).or_default();
        if !values.contains_key(value) {
            values.insert(value.to_owned(), RoaringBitmap::new());
        }
        values.entry(value.to_owned()).or_default()
    }

    /// The series that satisfy all matchers.
    pub(super) fn select(&self, matchers: &[Matcher]) -> RoaringBitmap {
        let mut found: Option<RoaringBitmap> = None;
        // First those that can only narrow to what they name: cheap, and they leave little to subtract from.
        let (narrow, wide): (Vec<_>, Vec<_>) = matchers.iter().partition(|m| !m.matches_empty());
        for matcher in narrow {
            let with = self.union(matcher, |value| matcher.matches(value));
            found = Some(found.map_or(with.clone(), |f| f & with));
        }
        let mut found = found.unwrap_or_else(|| self.all.clone());
        for matcher in wide {
            if found.is_empty() {
                break;
            }
            // It holds for series without the label: take away those whose value it refuses.
            found -= self.refused(matcher);
        }
        found
    }

    fn refused(&self, matcher: &Matcher) -> RoaringBitmap {
        // Of `!=` and `!~` the refused values are those that the opposite accepts, which may be lookups.
        self.union(matcher, |value| !matcher.matches(value))
    }

    /// The series whose value of the matcher's label satisfies `accept`, looking only where the pattern allows:
    /// for positive matchers at what matches, for negative ones at what does not.
    fn union(&self, matcher: &Matcher, accept: impl Fn(&str) -> bool) -> RoaringBitmap {
        let Some(values) = self.labels.get(&matcher.name) else { return RoaringBitmap::new() };
        let named_only = match matcher.op {
            MatchOp::Equal | MatchOp::Regex => !matcher.matches_empty(),
            MatchOp::NotEqual | MatchOp::NotRegex => matcher.matches_empty(),
        };
        let scan = |prefix: &str| {
            let from = (Bound::Included(prefix), Bound::Unbounded);
            let range = values.range::<str, _>(from).take_while(|(value, _)| value.starts_with(prefix));
            range.filter(|(value, _)| accept(value)).fold(RoaringBitmap::new(), |all, (_, ids)| all | ids)
        };
        let lookup = |value: &str| values.get(value).cloned().unwrap_or_default();
        match (named_only, matcher.regex()) {
            (false, _) => scan(""),
            (true, None) => lookup(&matcher.value),
            (true, Some(regex)) => match regex.literals() {
                Some(literals) => {
                    literals.iter().fold(RoaringBitmap::new(), |all, value| all | lookup(value))
                }
                None => scan(regex.prefix()),
            },
        }
    }

    /// All label names.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.labels.keys().map(String::as_str)
    }

    /// All values of label `name`.
    pub(super) fn values(&self, name: &str) -> impl Iterator<Item = &str> {
        self.labels.get(name).into_iter().flat_map(|values| values.keys().map(String::as_str))
    }
}
