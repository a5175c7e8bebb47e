//! Writes the index of a block (which series have which label value): label pairs are counted,
//! sorted, and written with their series, in one pass each. The format is in [`super`].

use super::directory::written;
use super::{schema, shard_term, term};
use crate::model::{Labels, SHARDS, shard_of};
use hashbrown::HashTable;
use std::path::Path;
use tantivy::directory::RamDirectory;
use tantivy::index::{Index, SegmentComponent};
use tantivy::postings::InvertedIndexSerializer;
use tantivy::{IndexSettings, TantivyError};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

/// The term dictionary and the postings of these series; the id of a series is its index. The same
/// series always give the same bytes.
pub(in super::super) fn write(series: &[Labels]) -> Result<(Vec<u8>, Vec<u8>), TantivyError> {
    let ram = RamDirectory::create();
    let (schema, field) = schema();
    let index = Index::create(ram.clone(), schema, IndexSettings::default())?;
    let segment = index.new_segment().with_max_doc(series.len() as u32);
    let mut writer = InvertedIndexSerializer::open(&segment)?;
    let pairs = LabelPairs::collect(series);
    let mut terms = writer.new_field(field, pairs.entries.len() as u64, None)?;
    let mut put = |term: &[u8], series: &mut dyn Iterator<Item = u32>, count: u32| {
        terms.new_term(term, count, false)?;
        for id in series {
            terms.write_doc(id, 1, &[]);
        }
        terms.close_term()
    };
    let by_pair = pairs.series();
    for pair in pairs.sorted() {
        let ids = by_pair.series_of(pair);
        let (name, value) = pairs.texts[pair];
        put(&term(name, value), &mut ids.iter().copied(), ids.len() as u32)?;
    }
    // A query asks each shard by itself, so the series of a shard are looked up like those of a
    // label.
    for (shard, ids) in (0..SHARDS).zip(by_shard(series)) {
        if !ids.is_empty() {
            put(&shard_term(shard), &mut ids.iter().copied(), ids.len() as u32)?;
        }
    }
    terms.close()?;
    writer.close()?;
    let file = |component| -> Result<Vec<u8>, TantivyError> {
        let path = segment.relative_path(component);
        Ok(written(&ram, Path::new(&path))?)
    };
    Ok((file(SegmentComponent::Terms)?, file(SegmentComponent::Postings)?))
}

fn by_shard(series: &[Labels]) -> Vec<Vec<u32>> {
    let mut shards = vec![Vec::new(); usize::from(SHARDS)];
    for (id, labels) in (0u32..).zip(series) {
        shards[usize::from(shard_of(labels))].push(id);
    }
    shards
}

/// The label pairs; the value `""` stands for any value.
struct LabelPairs<'a> {
    texts: Vec<(&'a str, &'a str)>,
    counts: Vec<u32>,
    /// For each series its pairs, two per label: any value, and its value.
    entries: Vec<u32>,
    /// Where the entries of each series end.
    ends: Vec<usize>,
    table: HashTable<u32>,
}

impl<'a> LabelPairs<'a> {
    fn collect(series: &'a [Labels]) -> LabelPairs<'a> {
        let mut pairs = LabelPairs {
            texts: Vec::new(),
            counts: Vec::new(),
            entries: Vec::new(),
            ends: Vec::with_capacity(series.len()),
            table: HashTable::new(),
        };
        let mut before = 0..0;
        for labels in series {
            let start = pairs.entries.len();
            for (place, pair) in labels.iter().enumerate() {
                // Adjacent series have most of their pairs in common, at the same positions: this
                // saves the hash lookup.
                let known = before.start + 2 * place;
                let (any, one) = match pairs.entries[..before.end].get(known..known + 2) {
                    Some(&[any, one]) if pairs.texts[one as usize] == pair => (any, one),
                    _ => (pairs.find((pair.0, "")), pairs.find(pair)),
                };
                for pair in [any, one] {
                    pairs.counts[pair as usize] += 1;
                    pairs.entries.push(pair);
                }
            }
            pairs.ends.push(pairs.entries.len());
            before = start..pairs.entries.len();
        }
        pairs
    }

    fn find(&mut self, pair: (&'a str, &'a str)) -> u32 {
        let hash =
            |(name, value): (&str, &str)| xxh3_64_with_seed(value.as_bytes(), xxh3_64(name.as_bytes()));
        let LabelPairs { texts, counts, table, .. } = self;
        let is_it = |known: &u32| texts[*known as usize] == pair;
        if let Some(known) = table.find(hash(pair), is_it) {
            return *known;
        }
        // Pairs are numbered in the order in which they appear, and sorted once, when all are
        // known.
        let new = texts.len() as u32;
        texts.push(pair);
        counts.push(0);
        table.insert_unique(hash(pair), new, |known| hash(texts[*known as usize]));
        new
    }

    /// The pairs in the order of their terms.
    fn sorted(&self) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.texts.len()).collect();
        // A label name comes before a longer one that begins with it only if the next byte is less
        // than the byte that ends a name in a term.
        let name = |pair: usize| self.texts[pair].0.bytes().chain([super::END]);
        order.sort_unstable_by(|a, b| {
            if self.texts[*a].0 == self.texts[*b].0 {
                self.texts[*a].1.cmp(self.texts[*b].1)
            } else {
                name(*a).cmp(name(*b))
            }
        });
        order
    }

    /// The series of every pair.
    fn series(&self) -> PairPostings {
        let mut at: Vec<usize> = Vec::with_capacity(self.counts.len());
        let mut total = 0;
        for count in &self.counts {
            at.push(total);
            total += *count as usize;
        }
        // A counting sort: the number of series of each pair is known, so all lists fit into one
        // vector without growing.
        let mut next = at.clone();
        let mut ids = vec![0; total];
        let mut entry = 0;
        for (id, end) in (0u32..).zip(&self.ends) {
            for pair in &self.entries[entry..*end] {
                ids[next[*pair as usize]] = id;
                next[*pair as usize] += 1;
            }
            entry = *end;
        }
        PairPostings { from: at, to: next, ids }
    }
}

/// The series of each pair, in one vector.
struct PairPostings {
    from: Vec<usize>,
    to: Vec<usize>,
    ids: Vec<u32>,
}

impl PairPostings {
    fn series_of(&self, pair: usize) -> &[u32] {
        &self.ids[self.from[pair]..self.to[pair]]
    }
}
