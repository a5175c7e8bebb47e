//! Files with checksums. [`CheckedWriter`] computes them while writing. [`CheckedFile`] verifies
//! every 16 KiB chunk it reads, so that Parquet's decoders never see damaged bytes.
//!
//! Decoders turn every error into a text of their own. [`CheckedFile::read_with`] keeps the error
//! of the disk, so that a caller can tell a disk that cannot be read from a damaged file.

use super::block_files::{BlockFiles, ReadRange};
use super::meta::{BlockMeta, FileMeta};
use super::{damaged, io_error};
use crate::disk::{Disk, DiskFile};
use crate::error::StoreError;
use crate::limits::{BLOCK_CHECK_BYTES, BLOCK_CRC_BYTES, BLOCK_SMALL_FILE_BYTES};
use bytes::Bytes;
use parking_lot::Mutex;
use parquet::errors::ParquetError;
use parquet::file::reader::{ChunkReader, Length};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Writes a file through a [`Disk`] and computes its checksums.
pub(super) struct CheckedWriter {
    file: Box<dyn DiskFile>,
    path: PathBuf,
    /// Bytes that are not written yet.
    buffer: Vec<u8>,
    /// Bytes written.
    bytes: u64,
    /// The checksum of all bytes written.
    crc: u32,
    /// The checksums of the chunks, one after the other.
    chunks: Vec<u8>,
}

impl CheckedWriter {
    pub(super) fn create(disk: &dyn Disk, path: &Path) -> Result<CheckedWriter, StoreError> {
        let file = disk.create(path).map_err(io_error(path))?;
        let buffer = Vec::with_capacity(2 * BLOCK_CRC_BYTES);
        let chunks = Vec::new();
        Ok(CheckedWriter { file, path: path.to_owned(), buffer, bytes: 0, crc: 0, chunks })
    }

    fn put(&mut self, len: usize) -> io::Result<()> {
        for chunk in self.buffer[..len].chunks(BLOCK_CRC_BYTES) {
            self.chunks.extend_from_slice(&crc32c::crc32c(chunk).to_le_bytes());
        }
        self.crc = crc32c::crc32c_append(self.crc, &self.buffer[..len]);
        self.file.append(&self.buffer[..len])?;
        self.buffer.drain(..len);
        Ok(())
    }

    /// Writes the rest and syncs. Returns length and checksum of the file, and the checksums of its
    /// chunks.
    pub(super) fn finish(mut self) -> Result<(FileMeta, Vec<u8>), StoreError> {
        let len = self.buffer.len();
        self.put(len).and_then(|()| self.file.sync()).map_err(io_error(&self.path))?;
        Ok((FileMeta::new(self.bytes, self.crc), self.chunks))
    }
}

impl Write for CheckedWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.buffer.extend_from_slice(bytes);
        self.bytes += bytes.len() as u64;
        // Whole chunks only: the checksum of a chunk is computed once.
        let whole = self.buffer.len() - self.buffer.len() % BLOCK_CRC_BYTES;
        if whole > 0 {
            self.put(whole)?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The entry of file `name` in `meta.json`.
fn described<'a>(meta: &'a BlockMeta, name: &str) -> Result<&'a FileMeta, StoreError> {
    meta.files.get(name).ok_or_else(|| damaged(&meta.dir.join(name), "is not named in meta.json"))
}

/// Reads the whole file `name` of block `meta`, and verifies its checksum.
pub(super) fn read_checked(
    source: &dyn BlockFiles,
    meta: &BlockMeta,
    name: &str,
) -> Result<Bytes, StoreError> {
    let path = meta.dir.join(name);
    let file = described(meta, name)?;
    let open = source.open(name, file.bytes)?;
    // Before any memory is taken for it: these files are read whole.
    if file.bytes > BLOCK_SMALL_FILE_BYTES {
        return Err(damaged(&path, format!("{} bytes are more than this file may have", file.bytes)));
    }
    // A file this small is read whole, so one checksum for all of it is enough.
    let content = open.read_at(0, file.bytes as usize).map_err(io_error(&path))?;
    if format!("{:08x}", crc32c::crc32c(&content)) != file.crc32c {
        return Err(damaged(&path, "checksum does not match"));
    }
    Ok(Bytes::from(content))
}

/// Verifies every file of block `meta` in `dir`, byte by byte.
pub(super) fn check_all(disk: &dyn Disk, dir: &Path, meta: &BlockMeta) -> Result<(), StoreError> {
    for (name, file) in &meta.files {
        let path = dir.join(name);
        let length = disk.size(&path).map_err(io_error(&path))?;
        let mut crc = 0;
        let mut at = 0;
        while at < length {
            let piece = disk.read_at(&path, at, BLOCK_CHECK_BYTES).map_err(io_error(&path))?;
            // The file became shorter while it was read.
            if piece.is_empty() {
                break;
            }
            crc = crc32c::crc32c_append(crc, &piece);
            at += piece.len() as u64;
        }
        if at != file.bytes || length != at {
            return Err(damaged(&path, format!("has {length} bytes instead of {}", file.bytes)));
        }
        if FileMeta::new(at, crc) != *file {
            return Err(damaged(&path, "checksum does not match"));
        }
    }
    Ok(())
}

/// A file whose chunks are verified before use.
#[derive(Clone)]
pub(super) struct CheckedFile {
    inner: Arc<FileState>,
    /// Gets the first error of reading through this handle.
    failure: Option<ReadFailure>,
}

/// Where the first error of some reads is kept.
pub(super) type ReadFailure = Arc<Mutex<Option<io::Error>>>;

struct FileState {
    file: Box<dyn ReadRange>,
    len: u64,
    /// CRC32C of each chunk, little-endian.
    chunks: Bytes,
}

impl CheckedFile {
    /// Opens the file `name` of block `meta`; `chunks` are the checksums of its chunks.
    pub(super) fn open(
        source: &dyn BlockFiles,
        meta: &BlockMeta,
        name: &str,
        chunks: Bytes,
    ) -> Result<CheckedFile, StoreError> {
        let len = described(meta, name)?.bytes;
        let file = source.open(name, len)?;
        if chunks.len() as u64 != len.div_ceil(BLOCK_CRC_BYTES as u64) * 4 {
            let path = meta.dir.join(name);
            return Err(damaged(&path, "its checksums have another length than this file asks for"));
        }
        Ok(CheckedFile { inner: Arc::new(FileState { file, len, chunks }), failure: None })
    }
}

impl CheckedFile {
    /// Length of the file, bytes.
    pub(super) fn bytes(&self) -> u64 {
        self.inner.len
    }

    /// Reads `len` bytes from `start` on, verified.
    pub(super) fn read(&self, start: u64, len: usize) -> io::Result<Bytes> {
        self.inner.read(start, len).map_err(|error| {
            // The decoder gets a copy of the error: it only keeps the text.
            let copy = io::Error::new(error.kind(), error.to_string());
            if let Some(failure) = &self.failure {
                failure.lock().get_or_insert(error);
            }
            copy
        })
    }

    /// A handle on the same file that records the first error of reading in `failure`.
    pub(super) fn recording(&self, failure: &ReadFailure) -> CheckedFile {
        CheckedFile { inner: self.inner.clone(), failure: Some(failure.clone()) }
    }

    /// Lets `decode` read this file, which is at `path`, or an object of this address. If it fails
    /// because the file could not be read, the result is that error, and otherwise the file is
    /// damaged.
    pub(super) fn read_with<T, E: ToString>(
        &self,
        path: &Path,
        decode: impl FnOnce(CheckedFile) -> Result<T, E>,
    ) -> Result<T, StoreError> {
        let failure = ReadFailure::default();
        decode(self.recording(&failure)).map_err(|error| decode_error(path, &failure, error))
    }
}

/// The error of a decoder of file `path` whose reads were recorded in `failure`.
pub(super) fn decode_error(path: &Path, failure: &ReadFailure, error: impl ToString) -> StoreError {
    match failure.lock().take() {
        Some(error) => read_error(path, error),
        None => damaged(path, error),
    }
}

/// The error of reading file `path`: damage if the file has other bytes than it should have, or
/// fewer; otherwise the disk or the object store could not read it, and may be able to later. See
/// the contract of [`ReadRange`].
pub(super) fn read_error(path: &Path, error: io::Error) -> StoreError {
    match error.kind() {
        io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => damaged(path, error),
        _ => io_error(path)(error),
    }
}

fn invalid(reason: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}

impl FileState {
    fn read(&self, start: u64, len: usize) -> io::Result<Bytes> {
        let end = start.checked_add(len as u64).filter(|end| *end <= self.len);
        let end = end.ok_or_else(|| invalid(format!("offset {start}: {len} bytes pass the file's end")))?;
        let size = BLOCK_CRC_BYTES as u64;
        let first = start / size;
        let last = end.div_ceil(size);
        // Whole chunks are read, because only these have checksums.
        let whole = (last * size).min(self.len) - first * size;
        let bytes = self.file.read_at(first * size, whole as usize)?;
        debug_assert_eq!(bytes.len() as u64, whole, "a clause of ReadRange");
        for (chunk, number) in bytes.chunks(BLOCK_CRC_BYTES).zip(first as usize..) {
            if self.chunks.get(number * 4..number * 4 + 4) != Some(&crc32c::crc32c(chunk).to_le_bytes()) {
                let at = number as u64 * size;
                return Err(invalid(format!(
                    "offset {at}: checksum of {} bytes does not match",
                    chunk.len()
                )));
            }
        }
        let skip = (start - first * size) as usize;
        Ok(Bytes::from(bytes).slice(skip..skip + len))
    }
}

impl Length for CheckedFile {
    fn len(&self) -> u64 {
        self.inner.len
    }
}

impl ChunkReader for CheckedFile {
    type T = CheckedRead;

    fn get_read(&self, start: u64) -> Result<CheckedRead, ParquetError> {
        Ok(CheckedRead { file: self.clone(), at: start })
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes, ParquetError> {
        self.read(start, length).map_err(|e| ParquetError::External(Box::new(e)))
    }
}

/// Sequential reading of a [`CheckedFile`], as the `parquet` crate needs it.
pub(super) struct CheckedRead {
    file: CheckedFile,
    at: u64,
}

impl Read for CheckedRead {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let left = self.file.inner.len.saturating_sub(self.at);
        let len = out.len().min(BLOCK_CRC_BYTES).min(usize::try_from(left).unwrap_or(usize::MAX));
        out[..len].copy_from_slice(&self.file.read(self.at, len)?);
        self.at += len as u64;
        Ok(len)
    }
}
