//! Evaluates matchers on a block: which series satisfy them. It works on [`LabelPostings`], which
//! know the series of each label value.
//!
//! Matchers that need only lookups are evaluated first. Often few series remain, and then a matcher
//! that would have to scan all values of a label tests these series instead.

use crate::error::StoreError;
use crate::model::regex::MatchSet;
use crate::model::{MatchOp, Matcher};
use roaring::RoaringBitmap;

/// Which series have which label value.
///
/// # Contract
/// 1. No label has the empty value: [`LabelPostings::value`] of it is empty, and the evaluation
///    here treats a missing label as one.
/// 2. [`LabelPostings::scan`] asks `accept` only for values that begin with the prefix, and for
///    each of them at least once; `accept` must depend on the value alone.
/// 3. [`LabelPostings::values`] come in ascending order, each once, so that lists can be cut off.
/// 4. [`LabelPostings::cheaper_one_by_one`] may be wrong in both directions; it costs time only.
///
/// Implemented by the index of a block ([`super::index`]) and by [`super::postings`].
pub(super) trait LabelPostings {
    /// All series.
    fn all(&self) -> RoaringBitmap;
    /// The series that have the label.
    fn any_value(&self, name: &str) -> Result<RoaringBitmap, StoreError>;
    /// The series with this value; none for the empty value, which no label has.
    fn value(&self, name: &str, value: &str) -> Result<RoaringBitmap, StoreError>;
    /// Whether any of `ids` has this value, or with `None` any value.
    fn one_has(&self, ids: &RoaringBitmap, name: &str, value: Option<&str>) -> Result<bool, StoreError>;
    /// The series with a value that begins with `prefix` and for which `accept` is true.
    fn scan(
        &self,
        name: &str,
        prefix: &str,
        accept: &dyn Fn(&str) -> bool,
    ) -> Result<RoaringBitmap, StoreError>;
    /// Whether testing these series one by one is cheaper than [`LabelPostings::scan`].
    fn cheaper_one_by_one(&self, ids: &RoaringBitmap, name: &str, prefix: &str) -> Result<bool, StoreError>;
    /// All label names.
    fn names(&self) -> Result<Vec<String>, StoreError>;
    /// Calls `each(value)` for the values of a label, in order, until it returns false.
    fn values(&self, name: &str, each: &mut dyn FnMut(&str) -> bool) -> Result<(), StoreError>;
}

/// Tests series by their labels: returns those that satisfy a matcher.
pub(super) type SeriesFilter<'a> = &'a dyn Fn(&RoaringBitmap, &Matcher) -> Result<RoaringBitmap, StoreError>;

/// The series that satisfy all matchers.
pub(super) fn select(
    terms: &dyn LabelPostings,
    matchers: &[Matcher],
    one_by_one: SeriesFilter,
) -> Result<RoaringBitmap, StoreError> {
    let mut found: Option<RoaringBitmap> = None;
    let mut order: Vec<&Matcher> = matchers.iter().collect();
    // Matchers that also accept series without the label only remove series: last.
    order.sort_by_key(|m| (m.matches_empty(), m.regex().is_some()));
    for matcher in order {
        let narrowed = match found {
            Some(found) if found.is_empty() => return Ok(found),
            Some(found) if tested(terms, &found, matcher)? => one_by_one(&found, matcher)?,
            // The matcher accepts series without the label: remove those with a value that it does
            // not accept.
            Some(found) if matcher.matches_empty() => found - with_value(terms, matcher, false)?,
            Some(found) => found & with_value(terms, matcher, true)?,
            None if matcher.matches_empty() => terms.all() - with_value(terms, matcher, false)?,
            None => with_value(terms, matcher, true)?,
        };
        found = Some(narrowed);
    }
    Ok(found.unwrap_or_else(|| terms.all()))
}

/// Whether the accepted (or, with `accepted` false, the refused) values are those that the text or
/// pattern names. Otherwise they are all other values.
fn named(matcher: &Matcher, accepted: bool) -> bool {
    match matcher.op {
        MatchOp::Equal | MatchOp::Regex => accepted,
        MatchOp::NotEqual | MatchOp::NotRegex => !accepted,
    }
}

/// Whether to test the remaining series instead of looking up values.
fn tested(terms: &dyn LabelPostings, found: &RoaringBitmap, matcher: &Matcher) -> Result<bool, StoreError> {
    let accepted = !matcher.matches_empty();
    let prefix = match matcher.regex().map(|regex| regex.reach()) {
        // A text is a single lookup, and so is "any value".
        None | Some(MatchSet::Literals(_) | MatchSet::NotEmpty | MatchSet::Everything) => return Ok(false),
        Some(MatchSet::Prefix(prefix)) if named(matcher, accepted) => prefix,
        Some(MatchSet::Prefix(_)) => "",
    };
    terms.cheaper_one_by_one(found, &matcher.name, prefix)
}

/// The series with a value of the matcher's label that it accepts, or with `accepted` false, that
/// it refuses.
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
