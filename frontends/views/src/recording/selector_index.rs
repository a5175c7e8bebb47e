//! The selectors of recording rules that are watched for late samples, with an index that finds
//! those that match a series.

use std::collections::HashMap;
use std::sync::Arc;
use storage::model::labels::METRIC_NAME;
use storage::model::{Labels, MatchOp, Matcher};

/// Numbers of the selectors that match a series.
pub(super) type SelectorIds = Arc<[u32]>;

/// The selectors, numbered.
#[derive(Clone, Debug, Default)]
pub(super) struct SelectorIndex {
    /// The selectors by number.
    all: Vec<Vec<Matcher>>,
    /// Numbers of the selectors with a metric name, by that name, and of those without.
    by_name: HashMap<String, Vec<u32>>,
    unnamed: Vec<u32>,
}

impl SelectorIndex {
    /// Selectors with their indices in the list as numbers.
    pub(super) fn new(list: &[Vec<Matcher>]) -> SelectorIndex {
        let mut selectors = SelectorIndex::default();
        for matchers in list {
            selectors.put(matchers);
        }
        selectors
    }

    /// The number of a selector, added if it is new.
    pub(super) fn add(&mut self, matchers: &[Matcher]) -> u32 {
        let named = self.named(matchers);
        let known = named.iter().find(|number| self.all[**number as usize] == matchers).copied();
        known.unwrap_or_else(|| self.put(matchers))
    }

    /// All selectors, in the order of their numbers.
    pub(super) fn list(&self) -> &[Vec<Matcher>] {
        &self.all
    }

    /// The selectors that match a series.
    pub(super) fn seen(&self, labels: &Labels) -> SelectorIds {
        let named = self.by_name.get(labels.name()).into_iter().flatten();
        let sees = |number: &&u32| self.all[**number as usize].iter().all(|m| m.matches_labels(labels));
        // Nearly all selectors name a metric; without the index each late series would be matched
        // with all selectors of all rules.
        named.chain(&self.unnamed).filter(sees).copied().collect()
    }

    /// The selectors with the same name.
    fn named(&self, matchers: &[Matcher]) -> &[u32] {
        match name(matchers) {
            Some(name) => self.by_name.get(name).map_or(&[], Vec::as_slice),
            None => &self.unnamed,
        }
    }

    fn put(&mut self, matchers: &[Matcher]) -> u32 {
        let number = self.all.len() as u32;
        match name(matchers) {
            Some(name) => self.by_name.entry(name.to_owned()).or_default().push(number),
            None => self.unnamed.push(number),
        }
        self.all.push(matchers.to_vec());
        number
    }
}

/// The metric name that a selector requires.
fn name(matchers: &[Matcher]) -> Option<&str> {
    let name = matchers.iter().find(|m| m.name == METRIC_NAME && m.op == MatchOp::Equal);
    name.map(|m| m.value.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_selectors_are_one_and_numbers_are_places() {
        let a = vec![Matcher::equal(METRIC_NAME, "a")];
        let job = vec![Matcher::equal("job", "x")];
        let both = [a.clone(), job.clone()].concat();
        let mut selectors = SelectorIndex::default();
        let numbers: Vec<u32> = [&a, &job, &both, &a, &job].map(|m| selectors.add(m)).to_vec();
        assert_eq!(numbers, [0, 1, 2, 0, 1]);
        let again = SelectorIndex::new(selectors.list());
        let labels = Labels::from_pairs([(METRIC_NAME, "a"), ("job", "x")]);
        assert_eq!(*again.seen(&labels), [0, 2, 1]);
        assert_eq!(again.seen(&labels), selectors.seen(&labels));
        assert!(again.seen(&Labels::from_pairs([(METRIC_NAME, "b")])).is_empty());
    }
}
