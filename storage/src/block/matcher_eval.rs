//! Which series of a block satisfy matchers, asked of what knows the series of each label value:
//! [`LabelPostings`].
//!
//! Lookups first, which leave little for those matchers that have to look at every value of a label.

use crate::model::regex::MatchSet;
use crate::model::{MatchOp, Matcher};
use crate::store::StoreError;
use roaring::RoaringBitmap;

/// Which series have which label value.
pub(super) trait LabelPostings {
    /// All series.
    fn all(&self) -> RoaringBitmap;
    /// The series that have the label.
    fn any_value(&self, name: &str) -> Result<RoaringBitmap, StoreError>;
    /// The series with this value; none if it is empty, which no label is.
    fn value(&self, name: &str, value: &str) -> Result<RoaringBitmap, StoreError>;
    /// Whether one of `ids` has this value; `None`: any.
    fn one_has(&self, ids: &RoaringBitmap, name: &str, value: Option<&str>) -> Result<bool, StoreError>;
    /// The series with a value that begins with `prefix` and is accepted.
    fn scan(
        &self,
        name: &str,
        prefix: &str,
        accept: &dyn Fn(&str) -> bool,
    ) -> Result<RoaringBitmap, StoreError>;
    /// Whether to look at these series one by one is cheaper than [`LabelPostings::scan`].
    fn cheaper_one_by_one(&self, ids: &RoaringBitmap, name: &str, prefix: &str) -> Result<bool, StoreError>;
    /// All label names.
    fn names(&self) -> Result<Vec<String>, StoreError>;
    /// Calls `each(value)` for the values of a label, in order, until it says no.
    fn values(&self, name: &str, each: &mut dyn FnMut(&str) -> bool) -> Result<(), StoreError>;
}

/// Those of some series of which all of a matcher holds, by their labels.
pub(super) type SeriesFilter<'a> = &'a dyn Fn(&RoaringBitmap, &Matcher) -> Result<RoaringBitmap, StoreError>;

/// The series that satisfy all matchers.
pub(super) fn select(
    terms: &dyn LabelPostings,
    matchers: &[Matcher],
    one_by_one: SeriesFilter,
) -> Result<RoaringBitmap, StoreError> {
    let mut found: Option<RoaringBitmap> = None;
    let mut order: Vec<&Matcher> = matchers.iter().collect();
    // Those that only take away last.
    order.sort_by_key(|m| (m.matches_empty(), m.regex().is_some()));
    for matcher in order {
        let narrowed = match found {
            Some(found) if found.is_empty() => return Ok(found),
            Some(found) if tested(terms, &found, matcher)? => one_by_one(&found, matcher)?,
            // It holds for series without the label: take away those whose value it refuses.
            Some(found) if matcher.matches_empty() => found - with_value(terms, matcher, false)?,
            Some(found) => found & with_value(terms, matcher, true)?,
            None if matcher.matches_empty() => terms.all() - with_value(terms, matcher, false)?,
            None => with_value(terms, matcher, true)?,
        };
        found = Some(narrowed);
    }
    Ok(found.unwrap_or_else(|| terms.all()))
}

/// Whether the values that the matcher accepts, or those that it refuses, are the ones that its
/// text or pattern names; else they are all others.
fn named(matcher: &Matcher, accepted: bool) -> bool {
    match matcher.op {
        MatchOp::Equal | MatchOp::Regex => accepted,
        MatchOp::NotEqual | MatchOp::NotRegex => !accepted,
    }
}

/// Whether to test the series that are left instead of looking for values.
fn tested(terms: &dyn LabelPostings, found: &RoaringBitmap, matcher: &Matcher) -> Result<bool, StoreError> {
    let accepted = !matcher.matches_empty();
    let prefix = match matcher.regex().map(|regex| regex.reach()) {
        // A text is one lookup, and so is any text.
        None | Some(MatchSet::Literals(_) | MatchSet::NotEmpty | MatchSet::Everything) => return Ok(false),
        Some(MatchSet::Prefix(prefix)) if named(matcher, accepted) => prefix,
        Some(MatchSet::Prefix(_)) => "",
    };
    terms.cheaper_one_by_one(found, &matcher.name, prefix)
}

/// The series with a value of the matcher's label that it accepts, or those with one that it refuses.
fn with_value(
    terms: &dyn LabelPostings,
    matcher: &Matcher,
    accepted: bool,
) -> Result<RoaringBitmap, StoreError> {
    let name = &matcher.name;
    let named = named(matcher, accepted);
    let texts = |texts: &mut dyn Iterator<Item = &String>| -> Result<RoaringBitmap, StoreError> {
        let mut all = RoaringBitmap::new();
        for text in texts {
            all |= terms.value(name, text)?;
        }
        Ok(all)
    };
    let these = match matcher.regex().map(|regex| regex.reach()) {
        None => texts(&mut std::iter::once(&matcher.value))?,
        Some(MatchSet::Literals(all)) => texts(&mut all.iter())?,
        Some(MatchSet::NotEmpty | MatchSet::Everything) => terms.any_value(name)?,
        Some(MatchSet::Prefix(prefix)) => {
            let prefix = if named { prefix } else { "" };
            return terms.scan(name, prefix, &|value| matcher.matches(value) == accepted);
        }
    };
    if named { Ok(these) } else { Ok(terms.any_value(name)? - these) }
}
