//! In-memory postings (an inverted index): which slots (series of the shard) have which label
//! value, and which slots satisfy a set of matchers.
//!
//! Each label pair has a posting list. It is updated together with the series, so a new series is
//! visible at once. A list of up to 7 slots (a pod's uid) is stored inline, a longer one as a
//! sorted list, a long one as a Roaring bitmap. A missing label counts as the empty string.

use crate::limits::POSTINGS_LIST;
use crate::model::regex::AnchoredRegex;
use crate::model::{Labels, MatchOp, Matcher};
use roaring::RoaringBitmap;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

/// Slots that a list stores without an allocation: as many as fit into the size of the other
/// variants.
const INLINE: usize = 7;

/// The slots of one label pair.
#[derive(Clone)]
enum PostingList {
    /// Number of slots, and the slots in ascending order.
    Inline(u8, [u32; INLINE]),
    /// Up to [`POSTINGS_LIST`] slots, ascending. A bitmap of so few slots is ten times their size.
    Few(Vec<u32>),
    Many(RoaringBitmap),
}

impl PostingList {
    fn one(slot: u32) -> PostingList {
        let mut slots = [0; INLINE];
        slots[0] = slot;
        PostingList::Inline(1, slots)
    }

    fn from_list(list: &[u32]) -> PostingList {
        let mut slots = [0; INLINE];
        // Short enough to be stored without an allocation: most values have one or two series.
        if let Some(there) = slots.get_mut(..list.len()) {
            there.copy_from_slice(list);
            return PostingList::Inline(list.len() as u8, slots);
        }
        if list.len() <= POSTINGS_LIST {
            PostingList::Few(list.to_vec())
        } else {
            PostingList::Many(list.iter().collect())
        }
    }

    /// The slots: as a list (`Ok`) or as a bitmap (`Err`).
    fn parts(&self) -> Result<&[u32], &RoaringBitmap> {
        match self {
            PostingList::Inline(len, slots) => Ok(&slots[..usize::from(*len)]),
            PostingList::Few(slots) => Ok(slots),
            PostingList::Many(slots) => Err(slots),
        }
    }

    fn len(&self) -> u64 {
        self.parts().map_or_else(RoaringBitmap::len, |list| list.len() as u64)
    }

    fn add(&mut self, slot: u32) {
        let at = match self.parts().map(|list| list.binary_search(&slot)) {
            Ok(Err(at)) => at,
            Ok(Ok(_)) => return,
            // A bitmap finds the position by itself.
            Err(_) => 0,
        };
        match self {
            PostingList::Many(slots) => put(slots, slot),
            PostingList::Few(slots) if slots.len() < POSTINGS_LIST => slots.insert(at, slot),
            PostingList::Inline(len, slots) if usize::from(*len) < INLINE => {
                slots.copy_within(at..usize::from(*len), at + 1);
                slots[at] = slot;
                *len += 1;
            }
            PostingList::Inline(_, slots) => *self = PostingList::from_list(&with(slots, at, slot)),
            PostingList::Few(slots) => *self = PostingList::from_list(&with(slots, at, slot)),
        }
    }

    /// Removes a slot. Returns whether the list is empty now.
    fn remove(&mut self, slot: u32) -> bool {
        match self {
            PostingList::Many(slots) => drop(slots.remove(slot)),
            PostingList::Few(slots) => slots.retain(|there| *there != slot),
            PostingList::Inline(len, slots) => {
                let list = &slots[..usize::from(*len)];
                if let Ok(at) = list.binary_search(&slot) {
                    slots.copy_within(at + 1.., at);
                    *len -= 1;
                }
            }
        }
        self.len() == 0
    }

    fn add_to(&self, set: &mut RoaringBitmap) {
        match self.parts() {
            Ok(list) => set.extend(list),
            Err(slots) => *set |= slots,
        }
    }

    fn meets(&self, set: &RoaringBitmap) -> bool {
        match self.parts() {
            Ok(list) => list.iter().any(|slot| set.contains(*slot)),
            Err(slots) => !slots.is_disjoint(set),
        }
    }
}

/// A copy of the list with `slot` inserted at `at`.
fn with(list: &[u32], at: usize, slot: u32) -> Vec<u32> {
    [&list[..at], &[slot], &list[at..]].concat()
}

/// Adds a slot. Slots mostly come in ascending order: `try_push` needs no search.
fn put(set: &mut RoaringBitmap, slot: u32) {
    if set.try_push(slot).is_err() {
        set.insert(slot);
    }
}

/// All values of one label name.
#[derive(Default)]
struct LabelValues {
    by_value: BTreeMap<Box<str>, PostingList>,
    any: RoaringBitmap,
}

/// The postings of one shard.
#[derive(Default)]
pub struct HeadPostings {
    names: BTreeMap<Box<str>, LabelValues>,
    all: RoaringBitmap,
}

impl HeadPostings {
    /// All visible slots.
    pub fn all(&self) -> &RoaringBitmap {
        &self.all
    }

    /// Adds a series.
    pub fn add(&mut self, slot: u32, labels: &Labels) {
        put(&mut self.all, slot);
        for (name, value) in labels.iter() {
            if !self.names.contains_key(name) {
                self.names.insert(name.into(), LabelValues::default());
            }
            let Some(values) = self.names.get_mut(name) else { continue };
            put(&mut values.any, slot);
            match values.by_value.get_mut(value) {
                Some(slots) => slots.add(slot),
                None => drop(values.by_value.insert(value.into(), PostingList::one(slot))),
            }
        }
    }

    /// Removes a series.
    pub fn remove(&mut self, slot: u32, labels: &Labels) {
        self.all.remove(slot);
        for (name, value) in labels.iter() {
            let Some(values) = self.names.get_mut(name) else { continue };
            values.any.remove(slot);
            // Empty lists and names are removed, so that churn of series does not make the index
            // grow.
            if values.by_value.get_mut(value).is_some_and(|slots| slots.remove(slot)) {
                values.by_value.remove(value);
            }
            if values.by_value.is_empty() {
                self.names.remove(name);
            }
        }
    }

    /// The slots that satisfy all matchers; `labels` returns the labels of a slot.
    pub fn select<'a>(&self, matchers: &[Matcher], labels: impl Fn(u32) -> &'a Labels) -> RoaringBitmap {
        // Equality with a value is the cheapest and most selective, a regex the most expensive.
        let mut order: Vec<&Matcher> = matchers.iter().collect();
        order.sort_by_key(|m| (m.op != MatchOp::Equal || m.value.is_empty(), m.regex().is_some()));
        let mut found: Option<RoaringBitmap> = None;
        for matcher in order {
            let narrowed = match found {
                None => self.satisfying(matcher),
                // A regex is run once per value of its label; testing the remaining series may be
                // less work.
                Some(slots) if self.cheaper_one_by_one(&slots, matcher) => {
                    slots.iter().filter(|slot| matcher.matches_labels(labels(*slot))).collect()
                }
                Some(slots) => slots & self.satisfying(matcher),
            };
            // No further matcher can add a series.
            if narrowed.is_empty() {
                return narrowed;
            }
            found = Some(narrowed);
        }
        found.unwrap_or_else(|| self.all.clone())
    }

    /// Whether it is cheaper to test the labels of the remaining slots than all values of the
    /// label.
    fn cheaper_one_by_one(&self, slots: &RoaringBitmap, matcher: &Matcher) -> bool {
        let values = self.names.get(matcher.name.as_str()).map_or(0, |v| v.by_value.len() as u64);
        matcher.regex().is_some() && slots.len() < values
    }

    fn satisfying(&self, matcher: &Matcher) -> RoaringBitmap {
        let Some(values) = self.names.get(matcher.name.as_str()) else {
            // No series has the label, so all have the empty value.
            return if matcher.matches_empty() { self.all.clone() } else { RoaringBitmap::new() };
        };
        let set = match matcher.regex() {
            None => self.having(values, std::slice::from_ref(&matcher.value)),
            // A regex such as `a|b` needs no regex engine: its values are looked up.
            Some(regex) => match regex.literals() {
                Some(literals) => self.having(values, literals),
                None => self.like(values, regex),
            },
        };
        match matcher.op {
            MatchOp::Equal | MatchOp::Regex => set,
            MatchOp::NotEqual | MatchOp::NotRegex => &self.all - set,
        }
    }

    /// The slots with one of these values; `""` stands for slots without the label.
    fn having(&self, values: &LabelValues, literals: &[String]) -> RoaringBitmap {
        let mut set = RoaringBitmap::new();
        for literal in literals {
            match values.by_value.get(literal.as_str()) {
                Some(slots) => slots.add_to(&mut set),
                // An empty value is the same as no label; no series has it in `by_value`.
                None if literal.is_empty() => set |= &self.all - &values.any,
                None => (),
            }
        }
        set
    }

    /// The slots whose value matches the regex. If the regex matches `""`, the values that do not
    /// match are collected and subtracted from all slots: these are fewer.
    fn like(&self, values: &LabelValues, regex: &AnchoredRegex) -> RoaringBitmap {
        let prefix = regex.prefix();
        let accepts_missing = regex.is_match("");
        let range = values.by_value.range::<str, _>((Bound::Included(prefix), Bound::Unbounded));
        let mut set = RoaringBitmap::new();
        for (value, slots) in range.take_while(|(value, _)| value.starts_with(prefix)) {
            if regex.is_match(value) != accepts_missing {
                slots.add_to(&mut set);
            }
        }
        if accepts_missing { &self.all - set } else { set }
    }

    /// Adds to `names` the label names of the slots in `set` (`None`: all slots).
    pub fn label_names(&self, set: Option<&RoaringBitmap>, names: &mut BTreeSet<String>) {
        let hits = self.names.iter().filter(|(_, values)| set.is_none_or(|set| !values.any.is_disjoint(set)));
        names.extend(hits.map(|(name, _)| name.to_string()));
    }

    /// Adds to `found` the values of label `name` that slots in `set` have (`None`: all slots).
    pub fn label_values(&self, name: &str, set: Option<&RoaringBitmap>, found: &mut BTreeSet<String>) {
        let Some(values) = self.names.get(name) else { return };
        let hits = values.by_value.iter().filter(|(_, slots)| set.is_none_or(|set| slots.meets(set)));
        found.extend(hits.map(|(value, _)| value.to_string()));
    }

    /// Calls `visit(name, value, number of series)` for every label pair.
    pub fn for_each_pair(&self, mut visit: impl FnMut(&str, &str, u64)) {
        for (name, values) in &self.names {
            for (value, slots) in &values.by_value {
                visit(name, value, slots.len());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use testing::assert_proportional;

    fn matcher() -> impl Strategy<Value = Matcher> {
        let value = prop_oneof![
            Just(""),
            Just("x"),
            Just("y"),
            Just("xy"),
            Just("x|y"),
            Just("x|"),
            Just("x.*"),
            Just(".*"),
            Just(".+"),
            Just("(x|xy)?"),
            Just("[xy]+"),
            Just("nothing"),
            Just("nothing.*"),
        ];
        let op = prop_oneof![
            Just(MatchOp::Equal),
            Just(MatchOp::NotEqual),
            Just(MatchOp::Regex),
            Just(MatchOp::NotRegex)
        ];
        (prop_oneof![Just("a"), Just("b"), Just("c"), Just("zz")], op, value)
            .prop_map(|(name, op, value)| Matcher::new(name, op, value).unwrap())
    }

    /// `n` series: two labels with the same value on all, one label with a value of its own on
    /// each.
    fn postings_of(n: usize) -> (Vec<Labels>, HeadPostings) {
        let labels = |i: usize| {
            let own = format!("v{i}");
            let few = (i % 7).to_string();
            Labels::from_pairs([("__name__", "m"), ("few", few.as_str()), ("own", own.as_str())])
        };
        let all: Vec<Labels> = (0..n).map(labels).collect();
        let mut postings = HeadPostings::default();
        for (i, labels) in all.iter().enumerate() {
            postings.add(i as u32, labels);
        }
        (all, postings)
    }

    #[test]
    fn twice_the_series_cost_twice_as_much() {
        assert_proportional("adding series", 2_000, |n| n, |n| postings_of(*n).0.len());
        let m = |name: &str, op, value: &str| Matcher::new(name, op, value).unwrap();
        let sets = [
            vec![m("few", MatchOp::Equal, "3"), m("own", MatchOp::Regex, "v.*7")],
            vec![m("own", MatchOp::Regex, ".*7"), m("few", MatchOp::NotRegex, "1|2")],
            vec![m("own", MatchOp::NotEqual, ""), m("few", MatchOp::NotEqual, "3")],
            vec![m("own", MatchOp::NotRegex, "v1.*"), m("none", MatchOp::Equal, "")],
        ];
        for set in sets {
            let select = |(all, postings): &(Vec<Labels>, HeadPostings)| {
                postings.select(&set, |slot| &all[slot as usize]).len()
            };
            assert_proportional(&format!("{set:?}"), 2_000, postings_of, select);
        }
        assert_proportional("names and values", 2_000, postings_of, |(_, postings)| {
            let mut found = BTreeSet::new();
            postings.label_names(None, &mut found);
            postings.label_values("own", Some(postings.all()), &mut found);
            found.len()
        });
        assert_proportional(
            "removing series",
            2_000,
            |n| n,
            |n| {
                let (all, mut postings) = postings_of(*n);
                for (i, labels) in all.iter().enumerate() {
                    postings.remove(i as u32, labels);
                }
                postings.all().len()
            },
        );
    }

    #[test]
    fn twice_the_matchers_cost_twice_as_much() {
        let (all, postings) = postings_of(1_000);
        let select = |set: &Vec<Matcher>| postings.select(set, |slot| &all[slot as usize]).len();
        let one = |op, value: fn(usize) -> String| {
            move |n: usize| (0..n).map(|i| Matcher::new("own", op, value(i)).unwrap()).collect::<Vec<_>>()
        };
        assert_proportional("!=", 500, one(MatchOp::NotEqual, |i| format!("v{i}x")), select);
        assert_proportional("!~", 200, one(MatchOp::NotRegex, |i| format!("v{i}x.*")), select);
        assert_proportional("=~", 200, one(MatchOp::Regex, |i| format!("v.*|{i}")), select);
        let alternation = |n: usize| {
            let texts: Vec<String> = (0..n).map(|i| format!("v{i}")).collect();
            vec![Matcher::new("own", MatchOp::Regex, texts.join("|")).unwrap()]
        };
        assert_proportional("an alternation that is looked up", 100, alternation, select);
        assert_proportional("an alternation that is tried", 2_000, alternation, select);
    }

    #[test]
    fn a_series_of_twice_the_labels_costs_twice_as_much() {
        let labels = |n: usize| Labels::from_pairs((0..n).map(|i| (format!("l{i}"), "v")));
        let add = |labels: &Labels| {
            let mut postings = HeadPostings::default();
            for slot in 0..10 {
                postings.add(slot, labels);
            }
            postings
        };
        assert_proportional("adding", 2_000, labels, add);
        assert_proportional("removing", 2_000, labels, |labels| {
            let mut postings = add(labels);
            for slot in 0..10 {
                postings.remove(slot, labels);
            }
            postings.all().len()
        });
    }

    proptest! {
        #[test]
        fn slots_are_a_set(steps in proptest::collection::vec((0u32..80, 0u8..4), 0..300)) {
            let mut slots = PostingList::one(40);
            let mut model = BTreeSet::from([40]);
            for (slot, step) in steps {
                // More slots are added than removed: the list grows through all variants and
                // shrinks again.
                if step > 0 {
                    slots.add(slot);
                    model.insert(slot);
                } else {
                    model.remove(&slot);
                    prop_assert_eq!(slots.remove(slot), model.is_empty());
                }
                let mut set = RoaringBitmap::new();
                slots.add_to(&mut set);
                prop_assert!(set.iter().eq(model.iter().copied()));
                prop_assert_eq!(slots.len(), model.len() as u64);
                prop_assert_eq!(slots.meets(&RoaringBitmap::from([slot])), model.contains(&slot));
            }
        }

        #[test]
        fn the_same_as_asking_every_series(
            series in proptest::collection::btree_set(proptest::collection::btree_map("[abc]", "[xy]{0,2}", 0..4), 0..30),
            gone in proptest::collection::vec(any::<bool>(), 30),
            matchers in proptest::collection::vec(matcher(), 0..4),
        ) {
            let all: Vec<Labels> = series.into_iter().map(Labels::from_pairs).collect();
            let mut postings = HeadPostings::default();
            for (i, labels) in all.iter().enumerate() { postings.add(i as u32, labels); }
            for (i, labels) in all.iter().enumerate().filter(|(i, _)| gone[*i]) { postings.remove(i as u32, labels); }
            let expected: Vec<u32> = (0..all.len() as u32)
                .filter(|i| !gone[*i as usize] && matchers.iter().all(|m| m.matches_labels(&all[*i as usize])))
                .collect();
            let found: Vec<u32> = postings.select(&matchers, |slot| &all[slot as usize]).iter().collect();
            prop_assert_eq!(found, expected);
        }
    }
}
