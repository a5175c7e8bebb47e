//! Discovered targets in little memory: a target is a list of label sets, some of which it shares
//! with other targets, and each name of a label is stored once.
//!
//! Ten thousand pods have half a million labels. A set of labels is one text and the positions
//! where values end; the labels of a pod or node are in one set, to which all of its targets refer.

use super::DiscoveredTarget;
use std::collections::HashSet;
use std::sync::Arc;

/// Labels: names, and where the value of each ends in the text. Labels without a value are left
/// out, because they mean what a missing one means.
#[derive(Debug, PartialEq, Eq)]
pub struct LabelSet {
    ends: Box<[(Arc<str>, u32)]>,
    text: Box<str>,
}

impl LabelSet {
    /// The names and values.
    fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        let starts = std::iter::once(0).chain(self.ends.iter().map(|(_, end)| *end as usize));
        starts.zip(self.ends.iter()).map(|(start, (name, end))| (&**name, &self.text[start..*end as usize]))
    }
}

/// The names of labels, each once.
#[derive(Default)]
pub struct LabelNames(HashSet<Arc<str>>);

impl LabelNames {
    fn get(&mut self, name: &str) -> Arc<str> {
        if let Some(known) = self.0.get(name) {
            return known.clone();
        }
        let name: Arc<str> = name.into();
        self.0.insert(name.clone());
        name
    }

    /// Forgets the names that no label has any more.
    pub fn prune(&mut self) {
        // One reference is that of this set itself.
        self.0.retain(|name| Arc::strong_count(name) > 1);
    }

    /// Begins a set of labels.
    pub fn build(&mut self) -> LabelSetBuilder<'_> {
        LabelSetBuilder { names: self, ends: Vec::new(), text: String::new() }
    }
}

/// A set of labels that is being made.
pub struct LabelSetBuilder<'a> {
    names: &'a mut LabelNames,
    ends: Vec<(Arc<str>, u32)>,
    text: String,
}

impl LabelSetBuilder<'_> {
    /// Adds a label. If it is added twice, the later value counts.
    pub fn set(&mut self, name: &str, value: &str) -> &mut Self {
        // Four gigabytes of labels are no set of labels.
        if let Ok(end) = u32::try_from(self.text.len() + value.len())
            && !value.is_empty()
        {
            self.text.push_str(value);
            self.ends.push((self.names.get(name), end));
        }
        self
    }

    /// The set.
    pub fn finish(self) -> Arc<LabelSet> {
        Arc::new(LabelSet { ends: self.ends.into(), text: self.text.into() })
    }
}

/// A target as a list of label sets. A label of a later set wins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharedTarget(Arc<[Arc<LabelSet>]>);

impl SharedTarget {
    /// A target with the labels of `sets`.
    pub fn new(sets: Vec<Arc<LabelSet>>) -> SharedTarget {
        SharedTarget(sets.into())
    }

    /// A target that shares only the names of its labels.
    pub fn from_target(target: &DiscoveredTarget, names: &mut LabelNames) -> SharedTarget {
        let mut labels = names.build();
        for (name, value) in target {
            labels.set(name, value);
        }
        SharedTarget::new(vec![labels.finish()])
    }

    /// All labels.
    pub fn labels(&self) -> DiscoveredTarget {
        // Into a map in the order of the sets, so that a later one wins.
        let pairs = self.0.iter().flat_map(|set| set.pairs());
        pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_are_shared_and_later_labels_win() {
        let mut names = LabelNames::default();
        let mut group = names.build();
        group.set("a", "1").set("b", "2").set("empty", "");
        let group = group.finish();
        let mut own = names.build();
        own.set("b", "three").set("c", "4");
        let own = own.finish();
        let target = SharedTarget::new(vec![group.clone(), own]);
        let shown: Vec<(String, String)> = target.labels().into_iter().collect();
        let pair = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        assert_eq!(shown, [("a", "1"), ("b", "three"), ("c", "4")].map(pair));
        drop(target);
        names.prune();
        assert_eq!(names.0.len(), 2, "c is forgotten");
        assert_eq!(SharedTarget::new(vec![group]).labels().len(), 2);
    }
}
