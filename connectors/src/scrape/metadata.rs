//! Type, help and unit of a target's metric families.
//!
//! Metadata hardly ever changes, so a scrape only hashes the metadata lines as they pass; when the hash differs
//! from the last scrape's, the body is read a second time for them.

use crate::limits;
use crate::scrape::exposition::families::{Family, each_family};
use crate::scrape::exposition::{BodyFormat, Entry, Format, Kind, Meta, MetaText, Parser, series};
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
#[derive(Debug, Default)]
pub struct MetadataWatch {
    last: u64,
    now: u64,
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

    /// The scrape is over: what it said, if that differs from the scrape before.
    pub fn finish(&mut self, body: &[u8], format: BodyFormat) -> Option<Arc<MetadataMap>> {
        let now = std::mem::take(&mut self.now);
        if now == self.last {
            return None;
        }
        self.last = now;
        Some(Arc::new(match format {
            BodyFormat::Text(format) => collect(body, format),
            BodyFormat::Protobuf => collect_families(body),
        }))
    }

    /// The scrape failed.
    pub fn discard(&mut self) {
        self.now = 0;
    }
}

fn collect_families(body: &[u8]) -> MetadataMap {
    let mut map = MetadataMap::new();
    each_family(body, |family| {
        if map.len() < limits::METADATA_PER_TARGET {
            let (help, unit) = (family.help.to_owned(), family.unit.to_owned());
            map.insert(family.name.to_owned(), Metadata { kind: family.kind, help, unit });
        }
    });
    map
}

fn collect(body: &[u8], format: Format) -> MetadataMap {
    let mut map = MetadataMap::new();
    let mut parser = Parser::new(body, format);
    while let Ok(Some(entry)) = parser.next(&[]) {
        let Entry::Meta(meta) = entry else { continue };
        let Ok(name) = series::metadata_name(meta.name) else { continue };
        if map.len() >= limits::METADATA_PER_TARGET && !map.contains_key(&name) {
            continue;
        }
        let metadata = map.entry(name).or_default();
        let text = |bytes: &[u8]| series::unescape(String::from_utf8_lossy(bytes).into_owned());
        match meta.what {
            MetaText::Help(help) => metadata.help = text(help),
            MetaText::Unit(unit) => metadata.unit = text(unit),
            MetaText::Type(kind) => metadata.kind = kind,
        }
    }
    map
}
