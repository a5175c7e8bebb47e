//! The files of a cold block, read from the object store in aligned ranges of 256 KiB, which are
//! kept in the range cache ([`super::range_cache`]): a request costs tens of milliseconds, whatever
//! its length, and a query reads adjacent pages.

use super::range_cache::RangeCache;
use crate::block::block_files::{BlockFiles, ReadRange};
use crate::block::io_error;
use crate::error::StoreError;
use crate::limits::{COLD_RANGE_BYTES, COLD_REQUEST_BYTES};
use crate::object_store::ObjectStorage;
use bytes::Bytes;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

/// The files of the block `block`.
pub(super) struct ColdFiles {
    pub objects: Arc<dyn ObjectStorage>,
    pub cache: Arc<RangeCache>,
    pub block: String,
}

/// A file of a cold block.
pub(super) struct ColdFile {
    objects: Arc<dyn ObjectStorage>,
    cache: Arc<RangeCache>,
    /// The name of the object.
    object: String,
    /// The prefix of the names of its pieces in the cache.
    prefix: String,
    /// Length of the file, bytes.
    bytes: u64,
}

impl BlockFiles for ColdFiles {
    fn open(&self, name: &str, bytes: u64) -> Result<Box<dyn ReadRange>, StoreError> {
        Ok(Box::new(self.file(name, bytes)))
    }
}

impl ColdFiles {
    /// The file `name` with `bytes` bytes.
    pub(super) fn file(&self, name: &str, bytes: u64) -> ColdFile {
        ColdFile {
            objects: self.objects.clone(),
            cache: self.cache.clone(),
            object: format!("{}/{name}", self.block),
            prefix: format!("{}.{name}", self.block),
            bytes,
        }
    }
}

impl ColdFile {
    fn piece_name(&self, number: u64) -> String {
        format!("{}.{number}", self.prefix)
    }

    /// The byte range of the pieces `first..end`.
    fn range(&self, first: u64, end: u64) -> Range<u64> {
        first * COLD_RANGE_BYTES..(end * COLD_RANGE_BYTES).min(self.bytes)
    }

    /// Fetches the pieces `first..end` with one request, and caches them.
    fn fetch(&self, first: u64, end: u64) -> io::Result<Bytes> {
        let range = self.range(first, end);
        self.store(first, range.clone(), self.objects.get(&self.object, range))
    }

    /// Caches the pieces from `first` on that the object store has returned (`given`).
    fn store(&self, first: u64, range: Range<u64>, given: io::Result<Vec<u8>>) -> io::Result<Bytes> {
        let wanted = range.end - range.start;
        self.cache.missed(wanted.div_ceil(COLD_RANGE_BYTES));
        let bytes = given.map_err(request_error)?;
        if bytes.len() as u64 != wanted {
            // Whole, but of another length than the upload has verified: the object was replaced.
            let why = format!("the object store gave {} bytes instead of {wanted}", bytes.len());
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, why));
        }
        let bytes = Bytes::from(bytes);
        for (number, piece) in (first..).zip(bytes.chunks(COLD_RANGE_BYTES as usize)) {
            // A copy: a slice would keep the memory of its neighbours, too.
            self.cache.put(&self.piece_name(number), Bytes::copy_from_slice(piece));
        }
        Ok(bytes)
    }

    /// If the last piece is not cached: the name of the object, and the bytes to fetch.
    pub(super) fn missing_footer(&self) -> Option<(String, Range<u64>)> {
        let last = self.bytes.div_ceil(COLD_RANGE_BYTES).checked_sub(1)?;
        let missing = !self.cache.has(&self.piece_name(last));
        missing.then(|| (self.object.clone(), self.range(last, last + 1)))
    }

    /// Caches what the object store has returned for [`ColdFile::missing_footer`]. Errors name the
    /// object.
    pub(super) fn store_footer(
        &self,
        range: Range<u64>,
        given: io::Result<Vec<u8>>,
    ) -> Result<(), StoreError> {
        let first = range.start / COLD_RANGE_BYTES;
        let path = Path::new(self.objects.address()).join(&self.object);
        self.store(first, range, given).map(drop).map_err(io_error(&path))
    }
}

/// The error of a request. A connection that ends in the middle of an answer is no damage of the
/// object, so the kinds that would say so ([`ReadRange`]) are replaced.
fn request_error(error: io::Error) -> io::Error {
    let kind = match error.kind() {
        io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => io::ErrorKind::Other,
        kind => kind,
    };
    io::Error::new(kind, format!("the object store: {error}"))
}

impl ReadRange for ColdFile {
    fn read_at(&self, start: u64, len: usize) -> io::Result<Vec<u8>> {
        let end = start.checked_add(len as u64).filter(|end| *end <= self.bytes);
        let end = end.ok_or_else(|| io::Error::other("a range passes the file's end"))?;
        let first = start / COLD_RANGE_BYTES;
        let last = end.div_ceil(COLD_RANGE_BYTES);
        let mut bytes = Vec::with_capacity(len);
        let mut at = first;
        while at < last {
            if let Some(piece) = self.cache.get(&self.piece_name(at)) {
                bytes.extend_from_slice(&piece);
                at += 1;
                continue;
            }
            // Missing pieces that follow are fetched with the same request.
            let most = last.min(at + COLD_REQUEST_BYTES / COLD_RANGE_BYTES);
            let missing = (at + 1..most).find(|next| self.cache.has(&self.piece_name(*next))).unwrap_or(most);
            bytes.extend_from_slice(&self.fetch(at, missing)?);
            at = missing;
        }
        let skip = (start - first * COLD_RANGE_BYTES) as usize;
        bytes.drain(..skip.min(bytes.len()));
        bytes.truncate(len);
        if bytes.len() < len {
            // Only a piece that somebody else wrote can have another length and a valid checksum.
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "cached pieces are too short"));
        }
        Ok(bytes)
    }
}
