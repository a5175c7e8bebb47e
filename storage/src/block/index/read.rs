//! [`LabelIndex`]: queries the index of a block, which says what series have which label value. A
//! lookup reads one block of the term dictionary and one posting list; a scan walks over the terms
//! of a label. The format is in [`super`].

use super::super::block_files::BlockFiles;
use super::super::cache::PageCache;
use super::super::damaged;
use super::super::files::{CheckedFile, read_checked, read_error};
use super::super::matcher_eval::LabelPostings;
use super::super::meta::BlockMeta;
use super::super::schema::{POSTINGS, POSTINGS_CHECKSUMS, TERMS, TERMS_CHECKSUMS};
use super::directory::{IndexFile, IndexFiles};
use super::{END, schema, shard_term, split_term, term};
use crate::error::StoreError;
use crate::limits::{INDEX_WALK_NS_PER_BYTE, POSTINGS_LIST, SERIES_NS, SERIES_PAGE_NS, SERIES_PAGE_ROWS};
use roaring::RoaringBitmap;
use std::io;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tantivy::directory::error::OpenReadError;
use tantivy::index::{InvertedIndexReader, SegmentId, SegmentReader};
use tantivy::postings::{BlockSegmentPostings, TermInfo};
use tantivy::schema::IndexRecordOption;
use tantivy::{HasLen, IndexSettings, TERMINATED, TantivyError};

/// The index of an open block.
pub(in super::super) struct LabelIndex {
    reader: Arc<InvertedIndexReader>,
    /// Number of series in the block.
    series: u32,
    /// The path of the term dictionary, for errors.
    terms: PathBuf,
    /// The path of the postings, for errors.
    postings: PathBuf,
}

/// The union of the series of several terms.
#[derive(Default)]
struct SeriesUnion {
    /// The series of terms with few series: collected first, because adding single series to a
    /// bitmap is slow.
    few: Vec<u32>,
    many: RoaringBitmap,
}

impl SeriesUnion {
    fn series(mut self) -> RoaringBitmap {
        self.few.sort_unstable();
        self.few.dedup();
        // Sorted and without duplicates: this cannot fail.
        self.many | RoaringBitmap::from_sorted_iter(self.few).unwrap_or_default()
    }
}

impl LabelIndex {
    /// Opens the index of block `meta`, whose files are in `source`.
    pub(in super::super) fn open(
        source: &dyn BlockFiles,
        meta: &BlockMeta,
        cache: &PageCache,
    ) -> Result<LabelIndex, StoreError> {
        let terms = meta.dir.join(TERMS);
        let postings = meta.dir.join(POSTINGS);
        let open = |name: &'static str, checksums: &str| -> Result<Arc<IndexFile>, StoreError> {
            let checksums = read_checked(source, meta, checksums)?;
            Ok(Arc::new(IndexFile::new(name, CheckedFile::open(source, meta, name, checksums)?, cache)))
        };
        let term_file = open(TERMS, TERMS_CHECKSUMS)?;
        let posting_file = open(POSTINGS, POSTINGS_CHECKSUMS)?;
        let series = u32::try_from(meta.series).map_err(|e| damaged(&terms, e))?;
        let read = || -> tantivy::Result<Arc<InvertedIndexReader>> {
            let (schema, field) = schema();
            let files = IndexFiles::new(term_file, posting_file)?;
            let index = tantivy::Index::create(files, schema, IndexSettings::default())?;
            let segment = index.segment(index.new_segment_meta(SegmentId::generate_random(), series));
            SegmentReader::open(&segment)?.inverted_index(field)
        };
        // The error names the terms file: more of it than of the postings is read here.
        let reader = read().map_err(|e| open_error(&terms, e))?;
        Ok(LabelIndex { reader, series, terms, postings })
    }

    /// The series of a shard.
    pub(in super::super) fn shard(&self, shard: u16) -> Result<RoaringBitmap, StoreError> {
        self.term_postings(&shard_term(shard))
    }

    /// The series of `ids` that belong to a shard. Cheaper than [`LabelIndex::shard`] if `ids` are
    /// few.
    pub(in super::super) fn in_shard(
        &self,
        ids: &RoaringBitmap,
        shard: u16,
    ) -> Result<RoaringBitmap, StoreError> {
        let mut found = RoaringBitmap::new();
        self.among(ids, &shard_term(shard), |id| {
            found.insert(id);
            true
        })?;
        Ok(found)
    }

    fn term_postings(&self, term: &[u8]) -> Result<RoaringBitmap, StoreError> {
        let mut found = SeriesUnion::default();
        if let Some(info) = self.reader.terms().get(term).map_err(|e| read_error(&self.terms, e))? {
            self.add(&info, &mut found)?;
        }
        Ok(found.series())
    }

    /// Calls `each` for those of `ids` that have the term, in order, until it returns false. Skips
    /// the postings between them.
    fn among(
        &self,
        ids: &RoaringBitmap,
        term: &[u8],
        mut each: impl FnMut(u32) -> bool,
    ) -> Result<(), StoreError> {
        let Some(info) = self.reader.terms().get(term).map_err(|e| read_error(&self.terms, e))? else {
            return Ok(());
        };
        let mut postings = self.postings(&info)?;
        let mut ids = ids.iter();
        while let Some(id) = ids.next() {
            let place = postings.seek(id);
            match postings.doc(place) {
                TERMINATED => break,
                // The postings jump to the next id that has the term, and the ids to that one:
                // neither is walked through.
                there if there != id => ids.advance_to(there),
                _ if !each(id) => break,
                _ => {}
            }
        }
        Ok(())
    }

    fn postings(&self, info: &TermInfo) -> Result<BlockSegmentPostings, StoreError> {
        let open = self.reader.read_block_postings_from_terminfo(info, IndexRecordOption::Basic);
        open.map_err(|e| read_error(&self.postings, e))
    }

    fn add(&self, info: &TermInfo, found: &mut SeriesUnion) -> Result<(), StoreError> {
        let mut postings = self.postings(info)?;
        let mut list = RoaringBitmap::new();
        while postings.block_len() > 0 {
            // Short lists are collected and sorted together at the end: a bitmap for each of a
            // thousand values would cost more.
            if info.doc_freq < POSTINGS_LIST as u32 {
                found.few.extend_from_slice(postings.docs());
            } else {
                list.append(postings.docs().iter().copied()).map_err(|e| damaged(&self.postings, e))?;
            }
            postings.advance();
        }
        found.many |= list;
        Ok(())
    }

    /// Calls `each(value, term)` for the values of label `name` that begin with `prefix`, in order,
    /// until it returns false.
    fn walk(
        &self,
        name: &str,
        prefix: &str,
        mut each: impl FnMut(&str, &TermInfo) -> Result<bool, StoreError>,
    ) -> Result<(), StoreError> {
        let from = term(name, prefix);
        let range = self.reader.terms().range().ge(&from).lt(behind(&from));
        let mut terms = range.into_stream().map_err(|e| read_error(&self.terms, e))?;
        while let Some((term, info)) = terms.next() {
            let (_, value) = split_term(term).ok_or_else(|| damaged(&self.terms, "a term is no text"))?;
            if !value.is_empty() && !each(value, info)? {
                break;
            }
        }
        Ok(())
    }
}

/// The error of opening an index whose file of terms is at `path`. tantivy shares its errors, so
/// only kind and text can be taken over.
fn open_error(path: &Path, error: TantivyError) -> StoreError {
    match &error {
        TantivyError::IoError(io)
        | TantivyError::OpenReadError(OpenReadError::IoError { io_error: io, .. }) => {
            read_error(path, io::Error::new(io.kind(), io.to_string()))
        }
        _ => damaged(path, error),
    }
}

/// A bound greater than every term that begins with `prefix` followed by text: no byte of text is
/// as large as [`END`].
fn behind(prefix: &[u8]) -> Vec<u8> {
    [prefix, &[END]].concat()
}

impl LabelPostings for LabelIndex {
    fn all(&self) -> RoaringBitmap {
        (0..self.series).collect()
    }

    fn any_value(&self, name: &str) -> Result<RoaringBitmap, StoreError> {
        self.term_postings(&term(name, ""))
    }

    fn value(&self, name: &str, value: &str) -> Result<RoaringBitmap, StoreError> {
        // The term with the empty value has another meaning.
        if value.is_empty() { Ok(RoaringBitmap::new()) } else { self.term_postings(&term(name, value)) }
    }

    fn one_has(&self, ids: &RoaringBitmap, name: &str, value: Option<&str>) -> Result<bool, StoreError> {
        if value == Some("") {
            return Ok(false);
        }
        let mut has = false;
        self.among(ids, &term(name, value.unwrap_or_default()), |_| {
            has = true;
            false
        })?;
        Ok(has)
    }

    fn scan(
        &self,
        name: &str,
        prefix: &str,
        accept: &dyn Fn(&str) -> bool,
    ) -> Result<RoaringBitmap, StoreError> {
        let mut found = SeriesUnion::default();
        self.walk(name, prefix, |value, info| {
            if accept(value) {
                self.add(info, &mut found)?;
            }
            Ok(true)
        })?;
        Ok(found.series())
    }

    fn cheaper_one_by_one(&self, ids: &RoaringBitmap, name: &str, prefix: &str) -> Result<bool, StoreError> {
        let from = term(name, prefix);
        let to = behind(&from);
        let range = (Bound::Included(from.as_slice()), Bound::Excluded(to.as_slice()));
        // The size of the range to scan is known without reading it.
        let walk =
            self.reader.terms().file_slice_for_range(range, None).len() as u64 * INDEX_WALK_NS_PER_BYTE;
        if ids.len() * SERIES_NS > walk {
            return Ok(false);
        }
        let mut pages: Vec<u32> = ids.iter().map(|id| id / SERIES_PAGE_ROWS as u32).collect();
        pages.dedup();
        Ok(ids.len() * SERIES_NS + pages.len() as u64 * SERIES_PAGE_NS < walk)
    }

    fn names(&self) -> Result<Vec<String>, StoreError> {
        let mut names = Vec::new();
        let mut from = Vec::new();
        loop {
            let stream = self.reader.terms().range().ge(&from).limit(1).into_stream();
            let mut stream = stream.map_err(|e| read_error(&self.terms, e))?;
            let name = stream.next().and_then(|(term, _)| split_term(term)).map(|(name, _)| name.to_owned());
            // The terms of the shards come after all labels.
            let Some(name) = name else { return Ok(names) };
            from = behind(&term(&name, ""));
            names.push(name);
        }
    }

    fn values(&self, name: &str, each: &mut dyn FnMut(&str) -> bool) -> Result<(), StoreError> {
        self.walk(name, "", |value, _| Ok(each(value)))
    }
}
