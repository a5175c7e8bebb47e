//! Type, help and unit of a target's metric families.
//!
//! Metadata hardly ever changes: a line that repeats a known value costs a lookup and a comparison.
//! As in Prometheus, a family that is no longer exposed is kept for ten scrapes, and metadata lines
//! before the error of a failed scrape count.

use crate::exposition::protobuf::ProtobufFamily;
use crate::exposition::series::Escapes;
use crate::exposition::{MetadataLine, MetadataValue, MetricType, series};
use crate::limits;
use hashbrown::HashTable;
use std::collections::BTreeMap;
use std::sync::Arc;
use xxhash_rust::xxh3::xxh3_64;

/// For how many scrapes a family that is no longer exposed is kept.
const KEPT_SCRAPES: u64 = 10;

/// The metadata of one metric family.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metadata {
    /// The type.
    pub kind: MetricType,
    /// The help text.
    pub help: String,
    /// The unit.
    pub unit: String,
}

/// Metadata by family name.
pub type MetadataMap = BTreeMap<Arc<str>, Arc<Metadata>>;

/// The metadata that a target has exposed, within limits; families beyond the limits are ignored.
#[derive(Debug, Default)]
pub struct MetadataChangeDetector {
    families: HashTable<KnownFamily>,
    /// The number of the current scrape.
    scrape: u64,
    /// The bytes of all names and texts.
    bytes: usize,
    /// Whether something differs from the last published map.
    has_changed: bool,
}

#[derive(Debug)]
struct KnownFamily {
    name: Arc<str>,
    metadata: Arc<Metadata>,
    /// The last scrape that exposed the family.
    last: u64,
}

impl KnownFamily {
    fn bytes(&self) -> usize {
        self.name.len() + self.metadata.help.len() + self.metadata.unit.len()
    }

    /// Records a value; returns whether it is new.
    fn note(&mut self, what: &MetadataValue<'_>, text: &str) -> bool {
        let known = &*self.metadata;
        let is_known = match what {
            MetadataValue::Help(_) => known.help == text,
            MetadataValue::Unit(_) => known.unit == text,
            MetadataValue::Type(kind) => known.kind == *kind,
        };
        if is_known {
            return false;
        }
        let metadata = Arc::make_mut(&mut self.metadata);
        match what {
            MetadataValue::Help(_) => metadata.help = text.to_owned(),
            MetadataValue::Unit(_) => metadata.unit = text.to_owned(),
            MetadataValue::Type(kind) => metadata.kind = *kind,
        }
        true
    }
}

fn hash(name: &str) -> u64 {
    xxh3_64(name.as_bytes())
}

impl MetadataChangeDetector {
    /// Records a metadata line.
    pub fn note(&mut self, meta: &MetadataLine<'_>, escapes: Escapes) {
        let Ok(name) = series::metadata_name(meta.name) else { return };
        let text = match meta.what {
            MetadataValue::Help(text) | MetadataValue::Unit(text) => text,
            MetadataValue::Type(_) => b"",
        };
        let text = String::from_utf8_lossy(text);
        let text = series::unescape(&text, escapes);
        let last = self.scrape;
        match self.families.find_mut(hash(&name), |known| *known.name == *name) {
            Some(known) if self.bytes + text.len() <= limits::METADATA_BYTES_PER_TARGET => {
                let before = known.bytes();
                known.last = last;
                self.has_changed |= known.note(&meta.what, &text);
                self.bytes = self.bytes + known.bytes() - before;
            }
            // The limit is reached: the family stays as it is known, and is not forgotten as long
            // as it is exposed.
            Some(known) => known.last = last,
            None => self.add(&name, &meta.what, &text),
        }
    }

    /// Records a family that was not known.
    #[cold]
    fn add(&mut self, name: &str, what: &MetadataValue<'_>, text: &str) {
        let is_full = self.families.len() >= limits::METADATA_PER_TARGET
            || self.bytes + name.len() + text.len() > limits::METADATA_BYTES_PER_TARGET;
        // Metadata is decoration: a target with too much of it loses some and not its scrape.
        if is_full {
            return;
        }
        let mut known = KnownFamily { name: name.into(), metadata: Arc::default(), last: self.scrape };
        known.note(what, text);
        self.bytes += known.bytes();
        self.families.insert_unique(hash(name), known, |known| hash(&known.name));
        self.has_changed = true;
    }

    /// Records the metadata of a protobuf family.
    pub fn note_family(&mut self, family: &ProtobufFamily<'_>) {
        let name = family.name.as_bytes();
        let all = [
            MetadataValue::Type(family.kind),
            MetadataValue::Help(family.help.as_bytes()),
            MetadataValue::Unit(family.unit.as_bytes()),
        ];
        for what in all.into_iter() {
            self.note(&MetadataLine { name, what }, Escapes::None);
        }
    }

    /// Ends the scrape; returns the current metadata if they differ from the last published ones.
    ///
    /// A failed or empty scrape evicts no family, unless half of the limit is in use.
    pub fn finish(&mut self, is_good: bool) -> Option<Arc<MetadataMap>> {
        let is_full = 2 * self.families.len() > limits::METADATA_PER_TARGET
            || 2 * self.bytes > limits::METADATA_BYTES_PER_TARGET;
        // A target that fails for an hour still has its help texts. But a target that exposes other
        // names at every scrape must not fill the memory by failing in between.
        if is_good || is_full {
            self.forget();
        }
        self.scrape += 1;
        // The map is built only when something differs: it is read by the API, seldom, and written
        // by every scrape.
        let tell = std::mem::take(&mut self.has_changed);
        tell.then(|| {
            Arc::new(self.families.iter().map(|known| (known.name.clone(), known.metadata.clone())).collect())
        })
    }

    fn forget(&mut self) {
        let Self { families, scrape, bytes, has_changed } = self;
        families.retain(|known| {
            let keep = *scrape - known.last <= KEPT_SCRAPES;
            if !keep {
                *bytes -= known.bytes();
                *has_changed = true;
            }
            keep
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a scrape with these help texts; returns names and texts, or `None` if nothing is new.
    fn scrape(watch: &mut MetadataChangeDetector, helps: &[(&str, &str)], is_good: bool) -> Option<String> {
        for (name, help) in helps {
            watch.note(
                &MetadataLine { name: name.as_bytes(), what: MetadataValue::Help(help.as_bytes()) },
                Escapes::Text,
            );
        }
        let told = watch.finish(is_good)?;
        let lines = told.iter().map(|(name, metadata)| format!("{name}={}", metadata.help));
        Some(lines.collect::<Vec<String>>().join(" "))
    }

    #[test]
    fn a_change_is_told_at_once_and_what_goes_is_kept_for_ten_scrapes() {
        let mut watch = MetadataChangeDetector::default();
        let text = |text: &str| Some(text.to_owned());
        assert_eq!(scrape(&mut watch, &[("a", "x")], true), text("a=x"));
        assert_eq!(scrape(&mut watch, &[("a", "x")], true), None);
        assert_eq!(scrape(&mut watch, &[("a", "x"), ("b", "y\\\\\\\"")], true), text("a=x b=y\\\\\""));
        assert_eq!(scrape(&mut watch, &[("b", "z")], false), text("a=x b=z"), "of a failing scrape");
        for _ in 0..20 {
            assert_eq!(scrape(&mut watch, &[], false), None, "failing scrapes forget nothing");
        }
        assert_eq!(
            scrape(&mut watch, &[("b", "z")], true),
            text("b=z"),
            "but what is there is looked at then"
        );
        for n in 0..KEPT_SCRAPES {
            assert_eq!(scrape(&mut watch, &[("c", "")], true).is_some(), n == 0, "{n}");
        }
        assert_eq!(scrape(&mut watch, &[("c", "")], true), text("c="));
    }

    #[test]
    fn endless_metadata_is_cut() {
        let mut watch = MetadataChangeDetector::default();
        let help = "x".repeat(1 << 20);
        let names: Vec<String> = (0..64).map(|i| format!("m{i}")).collect();
        let all: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), help.as_str())).collect();
        let kept = scrape(&mut watch, &all, true).unwrap().len();
        assert!(kept > 1 << 20 && kept <= limits::METADATA_BYTES_PER_TARGET + 1000, "{kept}");
        let many: Vec<String> = (0..2 * limits::METADATA_PER_TARGET).map(|i| format!("n{i}")).collect();
        let all: Vec<(&str, &str)> = many.iter().map(|name| (name.as_str(), "")).collect();
        scrape(&mut watch, &all, false);
        assert!(watch.families.len() <= limits::METADATA_PER_TARGET);
        for _ in 0..20 {
            scrape(&mut watch, &[], false);
        }
        assert_eq!((watch.families.len(), watch.bytes), (0, 0), "a target that always fails makes room");
    }
}
