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

    /// The series that satisfy all matchers; `labels` are those of every series.
    pub(super) fn select(&self, matchers: &[Matcher], labels: &[Labels]) -> RoaringBitmap {
        self.select_within(None, matchers, labels)
    }

    /// As [`Postings::select`], of some series only.
    pub(super) fn select_within(
        &self,
        within: Option<&RoaringBitmap>,
        matchers: &[Matcher],
        labels: &[Labels],
    ) -> RoaringBitmap {
        let mut found: Option<RoaringBitmap> = within.cloned();
        let mut order: Vec<&Matcher> = matchers.iter().collect();
        // First lookups, which leave little to look at for those that ask every value; those that only take away last.
        order.sort_by_key(|m| (m.matches_empty(), m.regex().is_some()));
        for matcher in order {
            let narrowed = match found {
                Some(found) if found.is_empty() => return found,
                Some(found) if self.cheaper_one_by_one(&found, matcher) => {
                    let holds = |id: &u32| matcher.matches_labels(&labels[*id as usize]);
                    RoaringBitmap::from_sorted_iter(found.iter().filter(holds)).unwrap_or_default()
                }
                // It holds for series without the label: take away those whose value it refuses.
                Some(found) if matcher.matches_empty() => found - self.refused(matcher),
                Some(found) => found & self.union(matcher, |value| matcher.matches(value)),
                None if matcher.matches_empty() => &self.all - self.refused(matcher),
                None => self.union(matcher, |value| matcher.matches(value)),
            };
            found = Some(narrowed);
        }
        found.unwrap_or_else(|| self.all.clone())
    }

    /// Whether testing the few series left beats testing the label's many values.
    fn cheaper_one_by_one(&self, found: &RoaringBitmap, matcher: &Matcher) -> bool {
        let Some(values) = self.labels.get(&matcher.name) else { return false };
        let prefix = match matcher.regex() {
            Some(regex) if regex.literals().is_some() => return false,
            // Asked of a series without the label, it holds or not whatever the prefix.
            Some(regex) if !regex.is_match("") => regex.prefix(),
            Some(_) => "",
            // A text is one lookup; "" asks for all that have any value.
            None if !matcher.value.is_empty() => return false,
            None => "",
        };
        let few = usize::try_from(found.len()).unwrap_or(usize::MAX);
        if values.len() <= few {
            return false;
        }
        let range = values.range::<str, _>((Bound::Included(prefix), Bound::Unbounded));
        prefix.is_empty() || range.take_while(|(value, _)| value.starts_with(prefix)).nth(few).is_some()
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn matcher() -> impl Strategy<Value = Matcher> {
        let values =
            ["", "x", "y", "xy", "x|y", "x|", "x.*", ".*", ".+", "(x|xy)?", "[xy]+", "nothing", "n.*"];
        let op = prop_oneof![
            Just(MatchOp::Equal),
            Just(MatchOp::NotEqual),
            Just(MatchOp::Regex),
            Just(MatchOp::NotRegex)
        ];
        let name = prop_oneof![Just("a"), Just("b"), Just("c"), Just("zz")];
        (name, op, proptest::sample::select(values.to_vec()))
            .prop_map(|(name, op, value)| Matcher::new(name, op, value).unwrap())
    }

    proptest! {
        #[test]
        fn the_same_as_asking_every_series(
            series in proptest::collection::btree_set(proptest::collection::btree_map("[abc]", "[xy]{0,2}", 0..4), 0..30),
            within in proptest::collection::btree_set(0u32..30, 0..30),
            matchers in proptest::collection::vec(matcher(), 0..4),
        ) {
            let all: Vec<Labels> = series.into_iter().map(Labels::from_pairs).collect();
            let postings = Postings::build(&all);
            let holds = |i: &u32| matchers.iter().all(|m| m.matches_labels(&all[*i as usize]));
            let expected: RoaringBitmap = (0..all.len() as u32).filter(holds).collect();
            prop_assert_eq!(postings.select(&matchers, &all), expected.clone());
            let within: RoaringBitmap = within.into_iter().filter(|i| (*i as usize) < all.len()).collect();
            prop_assert_eq!(postings.select_within(Some(&within), &matchers, &all), expected & within);
        }
    }
}
