//! The files of a far block: read by ranges, in aligned pieces, which are kept in the cache.

use super::cache::PieceCache;
use crate::block::source::{ReadAt, Source};
use crate::limits::{FAR_GET_BYTES, FAR_PIECE_BYTES};
use crate::objects::Objects;
use crate::store::StoreError;
use bytes::Bytes;
use std::io;
use std::sync::Arc;

/// The files of the block `block`.
pub struct FarSource {
    pub objects: Arc<dyn Objects>,
    pub cache: Arc<PieceCache>,
    pub block: String,
}

struct FarFile {
    objects: Arc<dyn Objects>,
    cache: Arc<PieceCache>,
    /// Name of the object.
    object: String,
    /// What the names of its pieces begin with.
    prefix: String,
    bytes: u64,
}

impl Source for FarSource {
    fn open(&self, name: &str, bytes: u64) -> Result<Box<dyn ReadAt>, StoreError> {
        Ok(Box::new(FarFile {
            objects: self.objects.clone(),
            cache: self.cache.clone(),
            object: format!("{}/{name}", self.block),
            prefix: format!("{}.{name}", self.block),
            bytes,
        }))
    }
}

impl FarFile {
    fn piece_name(&self, number: u64) -> String {
        format!("{}.{number}", self.prefix)
    }

    /// Fetches the pieces `first..end` with one request, and keeps them.
    fn fetch(&self, first: u64, end: u64) -> io::Result<Bytes> {
        let (from, to) = (first * FAR_PIECE_BYTES, (end * FAR_PIECE_BYTES).min(self.bytes));
        let told = |e: io::Error| io::Error::new(e.kind(), format!("the object store: {e}"));
        let bytes = self.objects.get(&self.object, from..to).map_err(told)?;
        if bytes.len() as u64 != to - from {
            let why = format!("the object store gave {} bytes instead of {}", bytes.len(), to - from);
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, why));
        }
        let bytes = Bytes::from(bytes);
        for number in first..end {
            let at = ((number - first) * FAR_PIECE_BYTES) as usize;
            // A copy: what is kept of a piece must not keep its neighbours.
            let piece = &bytes[at..bytes.len().min(at + FAR_PIECE_BYTES as usize)];
            self.cache.put(&self.piece_name(number), Bytes::copy_from_slice(piece));
        }
        Ok(bytes)
    }
}

impl ReadAt for FarFile {
    fn read_at(&self, start: u64, len: usize) -> io::Result<Vec<u8>> {
        let end = start.checked_add(len as u64).filter(|end| *end <= self.bytes);
        let end = end.ok_or_else(|| io::Error::other("a range passes the file's end"))?;
        let (first, last) = (start / FAR_PIECE_BYTES, end.div_ceil(FAR_PIECE_BYTES));
        let (mut bytes, mut at) = (Vec::with_capacity(len), first);
        while at < last {
            if let Some(piece) = self.cache.get(&self.piece_name(at)) {
                bytes.extend_from_slice(&piece);
                at += 1;
                continue;
            }
            // Those behind it that are missing, too, come with the same request.
            let most = last.min(at + FAR_GET_BYTES / FAR_PIECE_BYTES);
            let missing = (at + 1..most).find(|next| self.cache.has(&self.piece_name(*next))).unwrap_or(most);
            bytes.extend_from_slice(&self.fetch(at, missing)?);
            at = missing;
        }
        let skip = (start - first * FAR_PIECE_BYTES) as usize;
        bytes.drain(..skip.min(bytes.len()));
        bytes.truncate(len);
        if bytes.len() < len {
            // A piece of another length has a right checksum of its own only if somebody put it there.
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "cached pieces are too short"));
        }
        Ok(bytes)
    }
}
