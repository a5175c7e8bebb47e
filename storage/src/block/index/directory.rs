//! The files of a block's index as tantivy (the library of the index) wants to see them: a
//! read-only [`Directory`] whose reads are verified and cached.

use super::super::cache::{CachedPage, PageCache};
use super::super::files::CheckedFile;
use super::schema;
use crate::limits::{BLOCK_CRC_BYTES, INDEX_CACHED_READ_BYTES};
use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, LazyLock};
use tantivy::directory::error::{DeleteError, OpenReadError, OpenWriteError};
use tantivy::directory::{
    Directory, FileHandle, OwnedBytes, RamDirectory, WatchCallback, WatchHandle, WritePtr,
};
use tantivy::index::{Index, SegmentComponent};
use tantivy::postings::InvertedIndexSerializer;
use tantivy::{HasLen, IndexSettings, SingleSegmentIndexWriter, TantivyDocument};

/// Memory for writing an empty segment, bytes: the minimum that tantivy accepts.
const EMPTY_SEGMENT_BYTES: usize = 15_000_000;

/// The files of a segment, by extension.
#[derive(Clone)]
pub(super) struct IndexFiles(Arc<FilesByExtension>);

impl IndexFiles {
    pub(super) fn new(
        terms: Arc<dyn FileHandle>,
        postings: Arc<dyn FileHandle>,
    ) -> tantivy::Result<IndexFiles> {
        let empty = EMPTY.as_ref().map_err(Clone::clone)?;
        let mut files = empty.clone();
        files.insert(SegmentComponent::Terms.to_string(), terms);
        files.insert(SegmentComponent::Postings.to_string(), postings);
        Ok(IndexFiles(Arc::new(files)))
    }
}

/// Files by extension.
type FilesByExtension = BTreeMap<String, Arc<dyn FileHandle>>;

/// The files of an empty segment, made once. tantivy opens these files although our index has none
/// of their data.
static EMPTY: LazyLock<tantivy::Result<FilesByExtension>> = LazyLock::new(empty_files);

fn empty_files() -> tantivy::Result<FilesByExtension> {
    let ram = RamDirectory::create();
    let (schema, field) = schema();
    let builder = Index::builder().schema(schema.clone());
    let writer: SingleSegmentIndexWriter<TantivyDocument> =
        builder.single_segment_index_writer(ram.clone(), EMPTY_SEGMENT_BYTES)?;
    let segments = writer.finalize()?.searchable_segment_metas()?;
    let mut files = FilesByExtension::new();
    for (segment, component) in segments.iter().flat_map(|segment| {
        [SegmentComponent::Store, SegmentComponent::FastFields, SegmentComponent::FieldNorms]
            .map(|component| (segment, component))
    }) {
        let name = component.to_string();
        files.insert(name, ram.get_file_handle(&segment.relative_path(component))?);
    }
    // The positions file must at least have an entry for the field.
    let ram = RamDirectory::create();
    let index = Index::create(ram.clone(), schema, IndexSettings::default())?;
    let segment = index.new_segment();
    let mut writer = InvertedIndexSerializer::open(&segment)?;
    writer.new_field(field, 0, None)?.close()?;
    writer.close()?;
    let positions = SegmentComponent::Positions;
    files.insert(positions.to_string(), ram.get_file_handle(&segment.relative_path(positions))?);
    Ok(files)
}

impl fmt::Debug for IndexFiles {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("the index of a block")
    }
}

impl Directory for IndexFiles {
    fn get_file_handle(&self, path: &Path) -> Result<Arc<dyn FileHandle>, OpenReadError> {
        let found = path.extension().and_then(|e| e.to_str()).and_then(|extension| self.0.get(extension));
        found.cloned().ok_or_else(|| OpenReadError::FileDoesNotExist(path.to_owned()))
    }

    fn delete(&self, path: &Path) -> Result<(), DeleteError> {
        Err(DeleteError::FileDoesNotExist(path.to_owned()))
    }

    fn exists(&self, path: &Path) -> Result<bool, OpenReadError> {
        Ok(self.get_file_handle(path).is_ok())
    }

    fn open_write(&self, path: &Path) -> Result<WritePtr, OpenWriteError> {
        Err(OpenWriteError::FileAlreadyExists(path.to_owned()))
    }

    fn atomic_read(&self, path: &Path) -> Result<Vec<u8>, OpenReadError> {
        Err(OpenReadError::FileDoesNotExist(path.to_owned()))
    }

    /// Does nothing: tantivy's own metadata are not needed, the block has a `meta.json`.
    fn atomic_write(&self, _path: &Path, _data: &[u8]) -> io::Result<()> {
        Ok(())
    }

    fn sync_directory(&self) -> io::Result<()> {
        Ok(())
    }

    fn watch(&self, _callback: WatchCallback) -> tantivy::Result<WatchHandle> {
        Ok(WatchHandle::empty())
    }
}

/// A file of the index.
pub(super) struct IndexFile {
    name: &'static str,
    file: CheckedFile,
    cache: PageCache,
    number: u64,
}

impl IndexFile {
    pub(super) fn new(name: &'static str, file: CheckedFile, cache: &PageCache) -> IndexFile {
        IndexFile { name, file, number: cache.register(), cache: cache.clone() }
    }

    /// Reads bytes of the file, verified. Adds the name of the file to errors, because tantivy does
    /// not.
    fn read(&self, start: usize, len: usize) -> io::Result<bytes::Bytes> {
        let read = self.file.read(start as u64, len);
        read.map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", self.name)))
    }

    /// One verified chunk of the file.
    fn chunk(&self, number: usize) -> io::Result<bytes::Bytes> {
        if let Some(CachedPage::Chunk(chunk)) = self.cache.get((self.number, number)) {
            return Ok(chunk);
        }
        let start = number * BLOCK_CRC_BYTES;
        let chunk = self.read(start, BLOCK_CRC_BYTES.min(self.len() - start))?;
        self.cache.put((self.number, number), CachedPage::Chunk(chunk.clone()));
        Ok(chunk)
    }
}

impl fmt::Debug for IndexFile {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{} bytes of an index", self.len())
    }
}

impl HasLen for IndexFile {
    fn len(&self) -> usize {
        self.file.bytes() as usize
    }
}

impl FileHandle for IndexFile {
    fn read_bytes(&self, range: Range<usize>) -> io::Result<OwnedBytes> {
        // Offsets come from the file of terms: a damaged one must not panic.
        if range.end > self.len() || range.start > range.end {
            let why = format!("{}: offset {}: passes its end", self.name, range.start);
            return Err(io::Error::new(io::ErrorKind::InvalidData, why));
        }
        let mut bytes = Vec::with_capacity(range.len());
        if range.len() > INDEX_CACHED_READ_BYTES {
            // A scan over many terms. It is not cached, because it would evict chunks that are read
            // again and again.
            bytes.extend_from_slice(&self.read(range.start, range.len())?);
        } else if !range.is_empty() {
            for number in range.start / BLOCK_CRC_BYTES..=(range.end - 1) / BLOCK_CRC_BYTES {
                let chunk = self.chunk(number)?;
                let start = number * BLOCK_CRC_BYTES;
                // The part of the range that is in this chunk.
                let within = range.start.max(start) - start..range.end.min(start + chunk.len()) - start;
                bytes.extend_from_slice(&chunk[within]);
            }
        }
        Ok(OwnedBytes::new(bytes))
    }
}

/// The content of a file in `ram`.
pub(super) fn written(ram: &RamDirectory, path: &Path) -> Result<Vec<u8>, OpenReadError> {
    let read = ram.get_file_handle(path)?;
    let bytes = read.read_bytes(0..read.len());
    bytes.map(|bytes| bytes.to_vec()).map_err(|e| OpenReadError::wrap_io_error(e, path.to_owned()))
}
