//! [`Labels`]: a label set, sorted name-value pairs in one allocation.
//!
//! The bytes are `(len name len value)*` with LEB128 lengths, sorted by name, without empty values
//! (an empty label is an absent label). Equality and hashing work on the bytes; a clone only counts
//! a reference. [`super::matcher`] has the conditions on labels.

use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// The name of the label that holds the metric name.
pub const METRIC_NAME: &str = "__name__";

/// The labels of the feature `type-and-unit-labels`: the type and the unit of the metric.
pub const METRIC_TYPE: &str = "__type__";
/// See [`METRIC_TYPE`].
pub const METRIC_UNIT: &str = "__unit__";

/// Whether `name` is a label that describes the metric (its name, type or unit), which a computed
/// value loses.
pub fn describes_metric(name: &str) -> bool {
    matches!(name, METRIC_NAME | METRIC_TYPE | METRIC_UNIT)
}

/// An immutable, sorted label set.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Labels(Arc<[u8]>);

/// Hashes the bytes with a hash made for short texts; the map's own hasher gets only one word.
impl Hash for Labels {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash64());
    }
}

impl Labels {
    /// The label set of these pairs, in any order. Empty values are dropped; if a name is repeated,
    /// the last one wins.
    pub fn from_pairs<N: Into<String>, V: Into<String>>(pairs: impl IntoIterator<Item = (N, V)>) -> Labels {
        let mut builder = LabelsBuilder::default();
        for (name, value) in pairs {
            builder.set(name, value);
        }
        builder.build()
    }

    /// The label set of pairs that are sorted by name, unique and without empty values.
    pub fn from_sorted<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Labels {
        let mut bytes = Vec::with_capacity(128);
        for (name, value) in pairs {
            put_pair(&mut bytes, name.as_bytes(), value.as_bytes());
        }
        Labels(Arc::from(bytes))
    }

    /// The encoded form, for [`Labels::from_encoded`].
    pub fn encoded(&self) -> &[u8] {
        &self.0
    }

    /// Decodes a label set. `None` if the bytes are not one.
    pub fn from_encoded(bytes: &[u8]) -> Option<Labels> {
        let mut at = 0;
        let mut previous: Option<&str> = None;
        while at < bytes.len() {
            let name = checked_take(bytes, &mut at)?;
            let value = checked_take(bytes, &mut at)?;
            // An empty value is the same as no label, and a second order of the same labels would
            // be a second series: neither is a label set.
            if value.is_empty() || previous.is_some_and(|p| p >= name) {
                return None;
            }
            previous = Some(name);
        }
        Some(Labels(Arc::from(bytes)))
    }

    /// The pairs, sorted by name.
    pub fn iter(&self) -> LabelsIter<'_> {
        LabelsIter { bytes: &self.0, text: std::str::from_utf8(&self.0).ok(), at: 0 }
    }

    /// The pairs as bytes.
    fn raw(&self) -> RawPairs<'_> {
        RawPairs::new(&self.0)
    }

    /// The value of label `name`.
    pub fn get(&self, name: &str) -> Option<&str> {
        let pair = self.raw().find(|pair| pair.name == name.as_bytes())?;
        std::str::from_utf8(pair.value).ok()
    }

    /// The metric name, or "".
    pub fn name(&self) -> &str {
        self.get(METRIC_NAME).unwrap_or("")
    }

    /// Whether there are no labels.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether both share one allocation, as clones do.
    pub fn shares_memory(&self, other: &Labels) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Number of labels.
    pub fn len(&self) -> usize {
        self.raw().count()
    }

    /// A 64-bit hash of the content, stable across runs and machines.
    pub fn hash64(&self) -> u64 {
        hash_encoded(&self.0)
    }

    /// xxHash64 of the label set in the memory layout of Prometheus: the hash by which `limitk` and
    /// `limit_ratio` sample series.
    pub fn sampling_hash(&self) -> u64 {
        let mut bytes = Vec::with_capacity(self.0.len() + 8);
        for text in self.iter().flat_map(|(name, value)| [name, value]) {
            match u8::try_from(text.len()) {
                // The length as Prometheus' `stringlabels` encode it: the value of the hash decides
                // which series a query samples, so it must be the same there.
                Ok(len) if len < 255 => bytes.push(len),
                _ => {
                    bytes.push(255);
                    bytes.extend_from_slice(&(text.len() as u32).to_le_bytes()[..3]);
                }
            }
            bytes.extend_from_slice(text.as_bytes());
        }
        xxhash_rust::xxh64::xxh64(&bytes, 0)
    }

    /// The labels for which `keep(name)` holds.
    pub fn filter(&self, mut keep: impl FnMut(&str) -> bool) -> Labels {
        let mut bytes = Vec::with_capacity(self.0.len());
        for pair in self.raw() {
            if std::str::from_utf8(pair.name).is_ok_and(&mut keep) {
                bytes.extend_from_slice(pair.encoded);
            }
        }
        // All labels were kept: share the memory.
        if bytes.len() == self.0.len() { self.clone() } else { Labels(Arc::from(bytes)) }
    }

    /// Without the metric name.
    pub fn without_name(&self) -> Labels {
        self.filter(|n| n != METRIC_NAME)
    }

    /// Without the labels that describe the metric: the labels of a value computed from it.
    pub fn without_metric_labels(&self) -> Labels {
        self.filter(|n| !describes_metric(n))
    }

    /// The same labels with these pairs set; the pairs are sorted by name and unique, and an empty
    /// value removes the label. A single merge of both, however many there are.
    pub fn with_sorted<'a>(&self, pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Labels {
        let mut bytes = Vec::with_capacity(self.0.len() + 64);
        let mut own = self.raw().peekable();
        for (name, value) in pairs {
            while let Some(pair) = own.next_if(|pair| pair.name < name.as_bytes()) {
                bytes.extend_from_slice(pair.encoded);
            }
            // The pair that is replaced, or removed if the new value is empty.
            own.next_if(|pair| pair.name == name.as_bytes());
            if !value.is_empty() {
                put_pair(&mut bytes, name.as_bytes(), value.as_bytes());
            }
        }
        for pair in own {
            bytes.extend_from_slice(pair.encoded);
        }
        if bytes == *self.0 { self.clone() } else { Labels(Arc::from(bytes)) }
    }

    /// A builder that starts from this set.
    pub fn to_builder(&self) -> LabelsBuilder {
        LabelsBuilder { pairs: self.iter().map(|(n, v)| (n.to_owned(), v.to_owned())).collect() }
    }
}

/// The order of Prometheus' `labels.Compare`: pair by pair, by name, then value, bytewise; the
/// shorter set first.
impl Ord for Labels {
    fn cmp(&self, other: &Self) -> Ordering {
        let a = &*self.0;
        let b = &*other.0;
        let differ = first_difference(a, b);
        // One is the beginning of the other, so it has fewer labels.
        if differ == a.len().min(b.len()) {
            return a.len().cmp(&b.len());
        }
        // Label sets mostly have their first texts in common: skip to the text that differs.
        let mut from = 0;
        let mut end = 0;
        while end <= differ {
            from = end;
            if take(a, &mut end).is_none() {
                break;
            }
        }
        // The lengths stand before the texts, so bytes alone would order "b" before "aa".
        let text = |bytes| take(bytes, &mut from.clone());
        text(a).cmp(&text(b))
    }
}

/// The index of the first byte that differs; the length of the shorter slice if there is none.
fn first_difference(a: &[u8], b: &[u8]) -> usize {
    const WORD: usize = size_of::<u64>();
    // Eight bytes at a time: sorting a large answer spends most of its time here.
    let a_words = a.as_chunks::<WORD>().0;
    let b_words = b.as_chunks::<WORD>().0;
    let words = a_words.iter().zip(b_words);
    let same = words.take_while(|(a, b)| a == b).count() * WORD;
    same + a[same..].iter().zip(&b[same..]).take_while(|(a, b)| a == b).count()
}

impl PartialOrd for Labels {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// As PromQL writes it: `name{a="b"}`.
impl std::fmt::Display for Labels {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())?;
        let rest = self.iter().filter(|(n, _)| *n != METRIC_NAME);
        let mut opened = self.name().is_empty();
        if opened {
            f.write_str("{")?;
        }
        for (i, (name, value)) in rest.enumerate() {
            if i == 0 && !opened {
                f.write_str("{")?;
                opened = true;
            }
            write!(f, "{}{name}={value:?}", if i == 0 { "" } else { ", " })?;
        }
        if opened { f.write_str("}") } else { Ok(()) }
    }
}

impl std::fmt::Debug for Labels {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self}")
    }
}

impl Serialize for Labels {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Labels {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_bytes(EncodedVisitor)
    }
}

/// Visits the encoded form as one byte string.
struct EncodedVisitor;

impl Visitor<'_> for EncodedVisitor {
    type Value = Labels;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("an encoded label set")
    }

    fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Labels, E> {
        Labels::from_encoded(bytes).ok_or_else(|| E::custom("not an encoded label set"))
    }
}

/// The pairs of a [`Labels`], sorted by name.
#[derive(Clone)]
pub struct LabelsIter<'a> {
    bytes: &'a [u8],
    /// The same bytes as text, if all of them are valid UTF-8 (lengths below 128 are): then texts
    /// need no further check.
    text: Option<&'a str>,
    at: usize,
}

impl<'a> LabelsIter<'a> {
    #[inline]
    fn take(&mut self) -> Option<&'a str> {
        // A length of 128 or more takes bytes that are no UTF-8, so the whole is no text and each
        // part is checked by itself.
        let Some(text) = self.text else { return checked_take(self.bytes, &mut self.at) };
        let from = self.at + 1;
        self.at = from + usize::from(*self.bytes.get(self.at)?);
        text.get(from..self.at)
    }
}

impl<'a> Iterator for LabelsIter<'a> {
    type Item = (&'a str, &'a str);

    fn next(&mut self) -> Option<Self::Item> {
        if self.at >= self.bytes.len() {
            return None;
        }
        let name = self.take()?;
        let value = self.take()?;
        Some((name, value))
    }
}

/// [`Labels::hash64`] of labels in their encoded form.
pub fn hash_encoded(encoded: &[u8]) -> u64 {
    xxhash_rust::xxh3::xxh3_64(encoded)
}

/// Appends a pair to encoded labels. Does not check that they are a label set (sorted, valid text):
/// for lookups ([`crate::store::StoreSeries::find_encoded`]).
pub fn put_pair(encoded: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    put(encoded, name);
    put(encoded, value);
}

/// The pairs of a [`Labels`] as bytes, without checking their text again: used for sorting and
/// grouping.
pub(super) struct RawPairs<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> RawPairs<'a> {
    /// The pairs of encoded labels.
    pub(super) fn new(bytes: &'a [u8]) -> RawPairs<'a> {
        RawPairs { bytes, at: 0 }
    }
}

pub(super) struct RawPair<'a> {
    pub(super) name: &'a [u8],
    pub(super) value: &'a [u8],
    /// Both, encoded.
    encoded: &'a [u8],
}

impl<'a> Iterator for RawPairs<'a> {
    type Item = RawPair<'a>;

    #[inline]
    fn next(&mut self) -> Option<RawPair<'a>> {
        let from = self.at;
        if from >= self.bytes.len() {
            return None;
        }
        let name = take(self.bytes, &mut self.at)?;
        let value = take(self.bytes, &mut self.at)?;
        Some(RawPair { name, value, encoded: &self.bytes[from..self.at] })
    }
}

/// Collects labels in any order. Setting, reading and removing one costs the logarithm of their
/// number.
#[derive(Clone, Debug, Default)]
pub struct LabelsBuilder {
    pairs: BTreeMap<String, String>,
}

impl LabelsBuilder {
    /// Sets label `name`; an empty value removes it.
    pub fn set(&mut self, name: impl Into<String>, value: impl Into<String>) -> &mut Self {
        self.pairs.insert(name.into(), value.into());
        self
    }

    /// Removes label `name`.
    pub fn remove(&mut self, name: &str) -> &mut Self {
        self.pairs.remove(name);
        self
    }

    /// Removes the labels for which `keep(name)` is false.
    pub fn retain(&mut self, mut keep: impl FnMut(&str) -> bool) {
        self.pairs.retain(|name, _| keep(name));
    }

    /// The current value of label `name`, or "".
    pub fn get(&self, name: &str) -> &str {
        self.pairs.get(name).map_or("", String::as_str)
    }

    /// Whether label `name` was set, possibly to an empty value.
    pub fn has(&self, name: &str) -> bool {
        self.pairs.contains_key(name)
    }

    /// The pairs so far, by name; values may be empty.
    pub fn pairs(&self) -> &BTreeMap<String, String> {
        &self.pairs
    }

    /// The finished set.
    pub fn build(&self) -> Labels {
        let pairs = self.pairs.iter().filter(|(_, value)| !value.is_empty());
        Labels::from_sorted(pairs.map(|(name, value)| (name.as_str(), value.as_str())))
    }
}

fn put(bytes: &mut Vec<u8>, text: &[u8]) {
    let mut len = text.len();
    while len >= 0x80 {
        bytes.push(len as u8 | 0x80);
        len >>= 7;
    }
    bytes.push(len as u8);
    bytes.extend_from_slice(text);
}

/// The next text, which must be UTF-8.
fn checked_take<'a>(bytes: &'a [u8], at: &mut usize) -> Option<&'a str> {
    std::str::from_utf8(take(bytes, at)?).ok()
}

/// The bytes of the next text.
#[inline]
fn take<'a>(bytes: &'a [u8], at: &mut usize) -> Option<&'a [u8]> {
    let mut len = 0usize;
    let mut shift = 0;
    loop {
        let byte = *bytes.get(*at)?;
        *at += 1;
        len |= usize::from(byte & 0x7f).checked_shl(shift)?;
        shift += 7;
        if byte & 0x80 == 0 {
            break;
        }
        if shift > 28 {
            return None;
        }
    }
    let end = at.checked_add(len)?;
    let text = bytes.get(*at..end)?;
    *at = end;
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use testing::assert_proportional;

    #[test]
    fn sorts_drops_empty_and_round_trips() {
        let labels = Labels::from_pairs([("z", "1"), ("__name__", "up"), ("empty", ""), ("a", "2")]);
        assert_eq!(labels.to_string(), r#"up{a="2", z="1"}"#);
        assert_eq!(Labels::from_encoded(labels.encoded()), Some(labels.clone()));
        assert_eq!(Labels::from_encoded(&labels.encoded()[1..]), None);
        assert_eq!(labels.without_name().to_string(), r#"{a="2", z="1"}"#);
    }

    proptest::proptest! {
        #[test]
        fn bytes_and_texts_agree(
            a in proptest::collection::btree_map("[abä]{1,2}", "[xyß]{1,2}|z{130}", 0..4),
            b in proptest::collection::btree_map("[abä]{1,2}", "[xyß]{1,2}|z{130}", 0..4),
        ) {
            let left = Labels::from_pairs(a.clone());
            let right = Labels::from_pairs(b.clone());
            proptest::prop_assert_eq!(left.cmp(&right), a.iter().cmp(b.iter()));
            let kept = Labels::from_pairs(a.iter().filter(|(n, _)| n.starts_with('a')));
            proptest::prop_assert_eq!(left.filter(|n| n.starts_with('a')), kept);
            proptest::prop_assert_eq!(left.get("a"), a.get("a").map(String::as_str));
            let mut builder = left.to_builder();
            for (name, value) in &b {
                builder.set(name.as_str(), value.as_str());
            }
            let set = left.with_sorted(b.iter().map(|(name, value)| (name.as_str(), value.as_str())));
            proptest::prop_assert_eq!(&set, &builder.build());
            let cleared = set.with_sorted(b.keys().map(|name| (name.as_str(), "")));
            proptest::prop_assert_eq!(cleared, left.filter(|name| !b.contains_key(name)));
            proptest::prop_assert!(left.with_sorted(left.iter()).shares_memory(&left));
            proptest::prop_assert_eq!(left.len(), a.len());
        }
    }

    #[test]
    fn samples_of_series_are_taken_as_prometheus_takes_them() {
        // A length below 255 is one byte; otherwise a byte of 255 and then three bytes.
        let hash = |bytes: &[u8]| xxhash_rust::xxh64::xxh64(bytes, 0);
        assert_eq!(Labels::default().sampling_hash(), 0xef46_db37_51d8_e999);
        let short = Labels::from_pairs([("b", "2"), ("a", "1")]);
        assert_eq!(short.sampling_hash(), hash(b"\x01a\x011\x01b\x012"));
        let less = "x".repeat(254);
        let more = "x".repeat(0x0123);
        let of = |text: &str| Labels::from_pairs([("a", text)]).sampling_hash();
        assert_eq!(of(&less), hash(&[b"\x01a\xfe", less.as_bytes()].concat()));
        assert_eq!(of(&more), hash(&[b"\x01a\xff\x23\x01\x00", more.as_bytes()].concat()));
    }

    #[test]
    fn twice_the_labels_cost_twice_as_much() {
        let pairs = |n: usize| (0..n).map(|i| (format!("label_{i}"), format!("v{i}"))).collect::<Vec<_>>();
        let labels = |n: usize| Labels::from_pairs(pairs(n));
        assert_proportional("from_pairs", 5_000, pairs, |pairs| Labels::from_pairs(pairs.iter().cloned()));
        assert_proportional("set, get and has", 5_000, pairs, |pairs| {
            let mut builder = LabelsBuilder::default();
            for (name, value) in pairs {
                builder.set(name.as_str(), value.as_str());
            }
            pairs.iter().filter(|(name, value)| builder.has(name) && builder.get(name) == value).count()
        });
        assert_proportional("a builder of labels", 5_000, labels, |labels| {
            let mut builder = labels.to_builder();
            for i in 0..labels.len() / 2 {
                builder.set(format!("label_{i}"), "").remove(&format!("label_{}", 2 * i));
            }
            builder.retain(|name| name.ends_with('7'));
            builder.build()
        });
        assert_proportional("reading", 5_000, labels, |labels| {
            let copied = Labels::from_encoded(labels.encoded()).map(|copy| copy.filter(|n| n.ends_with('7')));
            let looked_for = labels.get("none").is_some();
            (labels.to_string(), labels.iter().count(), labels.sampling_hash(), looked_for, copied)
        });
    }

    #[test]
    fn long_values_have_multi_byte_lengths() {
        let long = "x".repeat(70_000);
        let labels = Labels::from_pairs([("a", long.as_str())]);
        assert_eq!(labels.get("a"), Some(long.as_str()));
    }
}
