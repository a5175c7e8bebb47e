//! Which rule continues which: after a reload and after a restart.
//!
//! A rule is identified by its file, group, name, labels and expression. After a change of the
//! files, rules that are equal in all of these are matched first, then those that moved to another
//! group, then those in one group of which only the expression changed. Order does not matter,
//! except among equal rules.

use super::file::{Rule, RuleGroup};
use serde::{Deserialize, Serialize};
use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use storage::model::Labels;

/// The identity of a rule.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RuleKey {
    /// Path of its rule file.
    pub file: String,
    /// Name of its group.
    pub group: String,
    /// The alert or the recorded metric.
    pub name: String,
    /// Its own labels, unexpanded.
    pub labels: Vec<(String, String)>,
    /// Its expression, as printed.
    pub expr: String,
    /// Its index among rules that are equal in all of this.
    pub duplicate_index: u32,
}

impl RuleKey {
    /// The keys of all rules, in order.
    pub fn all(groups: &[RuleGroup]) -> Vec<RuleKey> {
        let mut seen: HashMap<RuleKey, u32> = HashMap::new();
        let mut number = |mut key: RuleKey| {
            let count = seen.entry(key.clone()).or_default();
            key.duplicate_index = *count;
            *count += 1;
            key
        };
        let rules = groups.iter().flat_map(|group| group.rules.iter().map(move |rule| (group, rule)));
        rules.map(|(group, rule)| number(RuleKey::new(group, rule))).collect()
    }

    fn new(group: &RuleGroup, rule: &Rule) -> RuleKey {
        RuleKey {
            file: group.file.clone(),
            group: group.name.clone(),
            name: rule.name.clone(),
            labels: rule.labels.clone(),
            expr: rule.expr.text.clone(),
            duplicate_index: 0,
        }
    }

    /// A hash of the key, used on disk.
    pub fn hash64(&self) -> u64 {
        // A hash of labels, because theirs is fixed by the format on disk; one of Rust's standard
        // library may change with the compiler, and all alerts would be forgotten.
        let nth = self.duplicate_index.to_string();
        let fixed = [
            ("file", &self.file),
            ("group", &self.group),
            ("name", &self.name),
            ("expr", &self.expr),
            ("nth", &nth),
        ];
        let own = self.labels.iter().map(|(n, v)| (format!("label.{n}"), v));
        Labels::from_pairs(fixed.into_iter().map(|(n, v)| (n.to_owned(), v)).chain(own)).hash64()
    }
}

/// How a rule and the rule that it continues differ.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum RuleMatch {
    /// They are equal.
    Same,
    /// It is in another group.
    Moved,
    /// Its expression has changed.
    Rewritten,
}

/// For each rule of `new`, which rule of `old` it continues, if any. Every old rule is continued by
/// at most one.
pub fn match_rules(old: &[&RuleKey], new: &[RuleKey]) -> Vec<Option<(usize, RuleMatch)>> {
    let mut found = vec![None; new.len()];
    let mut taken = vec![false; old.len()];
    // From the strictest, over all rules, before a looser one: otherwise a rule with a changed
    // expression could take the state of the one that is still there unchanged.
    match_by(old, new, &mut taken, &mut found, RuleMatch::Same, |k| {
        (&k.file, &k.group, &k.name, &k.labels, &k.expr)
    });
    match_by(old, new, &mut taken, &mut found, RuleMatch::Moved, |k| (&k.name, &k.labels, &k.expr));
    match_by(old, new, &mut taken, &mut found, RuleMatch::Rewritten, |k| {
        (&k.file, &k.group, &k.name, &k.labels)
    });
    found
}

fn match_by<'a, K: Eq + Hash>(
    old: &[&'a RuleKey],
    new: &'a [RuleKey],
    taken: &mut [bool],
    found: &mut [Option<(usize, RuleMatch)>],
    rule_match: RuleMatch,
    part: impl Fn(&'a RuleKey) -> K,
) {
    let mut free: HashMap<K, VecDeque<usize>> = HashMap::new();
    // A queue for each key, so that equal rules continue each other in the order of the file.
    for (at, key) in old.iter().enumerate().filter(|(at, _)| !taken[*at]) {
        free.entry(part(key)).or_default().push_back(at);
    }
    for (key, found) in new.iter().zip(found).filter(|(_, found)| found.is_none()) {
        if let Some(at) = free.get_mut(&part(key)).and_then(VecDeque::pop_front) {
            taken[at] = true;
            *found = Some((at, rule_match));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(group: &str, name: &str, expr: &str) -> RuleKey {
        let file = "f.yml".to_owned();
        let labels = vec![("severity".to_owned(), "page".to_owned())];
        let own = |text: &str| text.to_owned();
        RuleKey { file, group: own(group), name: own(name), labels, expr: own(expr), duplicate_index: 0 }
    }

    fn ancestors(old: &[RuleKey], new: &[RuleKey]) -> Vec<Option<(usize, RuleMatch)>> {
        match_rules(&old.iter().collect::<Vec<_>>(), new)
    }

    #[test]
    fn order_and_groups_may_change_and_so_may_one_expression() {
        use RuleMatch::*;
        let old = [key("g", "A", "a"), key("g", "B", "b"), key("g", "C", "c"), key("g", "C", "c2")];
        let new = [
            key("g", "C", "c2"),
            key("h", "B", "b"),
            key("g", "A", "a > 1"),
            key("g", "C", "c3"),
            key("g", "D", "a"),
        ];
        let expected = [Some((3, Same)), Some((1, Moved)), Some((0, Rewritten)), Some((2, Rewritten)), None];
        assert_eq!(ancestors(&old, &new), expected);
        assert_eq!(ancestors(&old, &[key("h", "A", "a > 1")]), [None], "another group and another question");
    }

    #[test]
    fn no_two_rules_go_on_from_one() {
        let old = [key("g", "A", "a")];
        let duplicates = [key("g", "A", "a"), key("g", "A", "a")];
        assert_eq!(ancestors(&old, &duplicates), [Some((0, RuleMatch::Same)), None]);
    }

    #[test]
    fn twice_the_rules_cost_at_most_a_little_more_than_twice() {
        let all_of = |old: &[RuleKey], new: &[RuleKey], rule_match: RuleMatch| {
            let found = ancestors(old, new);
            assert!(found.iter().all(|found| found.is_some_and(|(_, of)| of == rule_match)));
        };
        let named = |n: usize, group: &str, expr: &str| -> Vec<RuleKey> {
            (0..n).map(|i| key(group, &format!("r{i}"), expr)).collect()
        };
        let same = |n: usize| (named(n, "g", "up"), named(n, "g", "up"));
        testing::assert_proportional("rules that stay", 1_000, same, |(old, new)| {
            all_of(old, new, RuleMatch::Same)
        });
        let moved = |n: usize| (named(n, "g", "up"), named(n, "h", "up"));
        testing::assert_proportional("rules that move", 1_000, moved, |(old, new)| {
            all_of(old, new, RuleMatch::Moved)
        });
        let rewritten = |n: usize| (named(n, "g", "up"), named(n, "g", "down"));
        testing::assert_proportional("rules with another expression", 1_000, rewritten, |(old, new)| {
            all_of(old, new, RuleMatch::Rewritten);
        });
        let equal = |n: usize| (vec![key("g", "r", "up"); n], vec![key("g", "r", "up"); n]);
        testing::assert_proportional("equal rules", 1_000, equal, |(old, new)| {
            all_of(old, new, RuleMatch::Same)
        });
    }
}
