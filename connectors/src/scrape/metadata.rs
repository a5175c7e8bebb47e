//! Type, help and unit of a target's metric families.
//!
//! Metadata hardly ever changes, so a scrape only hashes the metadata lines as they pass; when the hash differs from the
//! last scrape's, the next scrape collects them: a body is not kept to be read a second time.

use crate::limits;
use crate::scrape::exposition::families::Family;
use crate::scrape::exposition::{Kind, Meta, MetaText, series};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What a target says about one metric family.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metadata {
    /// The type.
    pub kind: Kind,
    /// The help text.
    pub help: String,
    /// The unit.
    pub unit: String,
}

/// By family name.
pub type MetadataMap = BTreeMap<String, Metadata>;

/// Watches for changes.
#[derive(Debug)]
pub struct MetadataWatch {
    last: u64,
    now: u64,
    /// What this scrape has said so far, if that is collected.
    collected: Option<Collected>,
}

impl Default for MetadataWatch {
    fn default() -> Self {
        MetadataWatch { last: 0, now: 0, collected: Some(Collected::default()) }
    }
}

impl MetadataWatch {
    /// Notes a metadata line.
    #[inline]
    pub fn note(&mut self, meta: &Meta<'_>) {
        let text = match meta.what {
            MetaText::Help(text) => text,
            MetaText::Unit(unit) => unit,
            MetaText::Type(kind) => kind.as_str().as_bytes(),
        };
        let line = xxhash_rust::xxh3::xxh3_64_with_seed(text, xxhash_rust::xxh3::xxh3_64(meta.name));
        self.now = self.now.rotate_left(7).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ line;
        if let Some(collected) = &mut self.collected {
            collected.add(meta);
        }
    }

    /// Notes what a protobuf family says of itself.
    pub fn note_family(&mut self, family: &Family<'_>) {
        let name = family.name.as_bytes();
        let all = [
            MetaText::Type(family.kind),
            MetaText::Help(family.help.as_bytes()),
            MetaText::Unit(family.unit.as_bytes()),
        ];
        all.into_iter().for_each(|what| self.note(&Meta { name, what }));
    }

    /// The scrape is over: what it said, if that was collected.
    pub fn finish(&mut self) -> Option<Arc<MetadataMap>> {
        let now = std::mem::take(&mut self.now);
        let collected = self.collected.take();
        if collected.is_none() && now != self.last {
            self.collected = Some(Collected::default());
        }
        self.last = now;
        collected.map(|collected| Arc::new(collected.map))
    }

    /// The scrape failed.
    pub fn discard(&mut self) {
        self.now = 0;
        if let Some(collected) = &mut self.collected {
            *collected = Collected::default();
        }
    }
}

/// Metadata of a scrape, within limits: beyond them it is left out.
#[derive(Debug, Default)]
struct Collected {
    map: MetadataMap,
    bytes: usize,
}

impl Collected {
    fn add(&mut self, meta: &Meta<'_>) {
        let text = match meta.what {
            MetaText::Help(text) | MetaText::Unit(text) => text,
            MetaText::Type(_) => b"",
        };
        self.bytes += meta.name.len() + text.len();
        let Ok(name) = series::metadata_name(meta.name) else { return };
        let full = self.map.len() >= limits::METADATA_PER_TARGET && !self.map.contains_key(&name);
        if full || self.bytes > limits::METADATA_BYTES_PER_TARGET {
            return;
        }
        let metadata = self.map.entry(name).or_default();
        let text = series::unescape(String::from_utf8_lossy(text).into_owned());
        match meta.what {
            MetaText::Help(_) => metadata.help = text,
            MetaText::Unit(_) => metadata.unit = text,
            MetaText::Type(kind) => metadata.kind = kind,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a scrape with these help texts leaves: number of families, or nothing new.
    fn scrape(watch: &mut MetadataWatch, helps: &[(&str, &str)]) -> Option<usize> {
        for (name, help) in helps {
            watch.note(&Meta { name: name.as_bytes(), what: MetaText::Help(help.as_bytes()) });
        }
        watch.finish().map(|map| map.len())
    }

    #[test]
    fn a_change_is_collected_by_the_scrape_after_it() {
        let mut watch = MetadataWatch::default();
        assert_eq!(scrape(&mut watch, &[("a", "x")]), Some(1));
        assert_eq!(scrape(&mut watch, &[("a", "x")]), None);
        let more = [("a", "x"), ("b", "y")];
        assert_eq!((scrape(&mut watch, &more), scrape(&mut watch, &more)), (None, Some(2)));
        assert_eq!(scrape(&mut watch, &more), None);
    }

    #[test]
    fn endless_metadata_is_cut() {
        let mut watch = MetadataWatch::default();
        let help = "x".repeat(1 << 20);
        let names: Vec<String> = (0..64).map(|i| format!("m{i}")).collect();
        let all: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), help.as_str())).collect();
        let kept = scrape(&mut watch, &all).unwrap();
        assert!(kept > 0 && kept << 20 <= limits::METADATA_BYTES_PER_TARGET, "{kept}");
    }
}
