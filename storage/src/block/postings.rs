//! Postings in memory: label → value → series. Only for blocks of an old format, which have no
//! index of their own ([`super::index`]); a merge rewrites them in the current one.

use super::matcher_eval::LabelPostings;
use crate::error::StoreError;
use crate::model::Labels;
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
    /// The postings of these series; the id of a series is its index.
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

    /// The series of a pair. Allocates only for new pairs: most exist already.
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

    /// The values that begin with `prefix`, with their series.
    fn beginning<'a>(
        &'a self,
        name: &str,
        prefix: &'a str,
    ) -> impl Iterator<Item = (&'a String, &'a RoaringBitmap)> {
        let from = (Bound::Included(prefix), Bound::Unbounded);
        let values = self.labels.get(name).into_iter().flat_map(move |values| values.range::<str, _>(from));
        values.take_while(move |(value, _)| value.starts_with(prefix))
    }
}

impl LabelPostings for Postings {
    fn all(&self) -> RoaringBitmap {
        self.all.clone()
    }

    fn any_value(&self, name: &str) -> Result<RoaringBitmap, StoreError> {
        self.scan(name, "", &|_| true)
    }

    fn value(&self, name: &str, value: &str) -> Result<RoaringBitmap, StoreError> {
        Ok(self.labels.get(name).and_then(|values| values.get(value)).cloned().unwrap_or_default())
    }

    fn one_has(&self, ids: &RoaringBitmap, name: &str, value: Option<&str>) -> Result<bool, StoreError> {
        let Some(values) = self.labels.get(name) else { return Ok(false) };
        let meets = |of_value: &RoaringBitmap| !of_value.is_disjoint(ids);
        Ok(match value {
            // Stops at the first series: whether there is one is all that is asked.
            Some(value) => values.get(value).is_some_and(meets),
            None => values.values().any(meets),
        })
    }

    fn scan(
        &self,
        name: &str,
        prefix: &str,
        accept: &dyn Fn(&str) -> bool,
    ) -> Result<RoaringBitmap, StoreError> {
        let found = self.beginning(name, prefix).filter(|(value, _)| accept(value));
        Ok(found.fold(RoaringBitmap::new(), |all, (_, ids)| all | ids))
    }

    fn cheaper_one_by_one(&self, ids: &RoaringBitmap, name: &str, prefix: &str) -> Result<bool, StoreError> {
        let few = usize::try_from(ids.len()).unwrap_or(usize::MAX);
        // More values to test than series: then the labels of the series are tested.
        Ok(self.beginning(name, prefix).nth(few).is_some())
    }

    fn names(&self) -> Result<Vec<String>, StoreError> {
        Ok(self.labels.keys().cloned().collect())
    }

    fn values(&self, name: &str, each: &mut dyn FnMut(&str) -> bool) -> Result<(), StoreError> {
        let _ = self.beginning(name, "").all(|(value, _)| each(value));
        Ok(())
    }
}
