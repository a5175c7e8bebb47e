//! Files with checksums: a writer that computes them on the way out, and a reader of `samples.parquet` that
//! checks every 16 KiB it touches, so that Parquet's decoders never see damaged bytes.

use super::meta::FileMeta;
use super::{damaged, io_error};
use crate::disk::{Disk, DiskFile};
use crate::limits::{BLOCK_CRC_BYTES, BLOCK_SMALL_FILE_BYTES};
use crate::store::StoreError;
use bytes::Bytes;
use parquet::errors::ParquetError;
use parquet::file::reader::{ChunkReader, Length};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Writes a file through a [`Disk`] and keeps its checksums.
pub(super) struct CheckedWriter {
    file: Box<dyn DiskFile>,
    path: PathBuf,
    buffer: Vec<u8>,
    bytes: u64,
    crc: u32,
    chunks: Vec<u8>,
}

impl CheckedWriter {
    pub(super) fn create(disk: &dyn Disk, path: &Path) -> Result<CheckedWriter, StoreError> {
        let file = disk.create(path).map_err(io_error(path))?;
        let (buffer, chunks) = (Vec::with_capacity(2 * BLOCK_CRC_BYTES), Vec::new());
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

    /// Writes the rest and syncs. Length and checksum of the file, and the checksums of its chunks.
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

/// The content of a file that must be as `meta` says.
pub(super) fn read_checked(path: &Path, meta: Option<&FileMeta>) -> Result<Bytes, StoreError> {
    let meta = meta.ok_or_else(|| damaged(path, "is not named in meta.json"))?;
    check_length(path, meta)?;
    if meta.bytes > BLOCK_SMALL_FILE_BYTES {
        return Err(damaged(path, format!("{} bytes are more than this file may have", meta.bytes)));
    }
    let content = std::fs::read(path).map_err(io_error(path))?;
    if format!("{:08x}", crc32c::crc32c(&content)) != meta.crc32c {
        return Err(damaged(path, "checksum does not match"));
    }
    Ok(Bytes::from(content))
}

fn check_length(path: &Path, meta: &FileMeta) -> Result<(), StoreError> {
    let found = std::fs::metadata(path).map_err(io_error(path))?.len();
    if found != meta.bytes {
        return Err(damaged(path, format!("has {found} bytes instead of {}", meta.bytes)));
    }
    Ok(())
}

/// A file of which every chunk that is read is checked first.
#[derive(Clone)]
pub(super) struct CheckedFile(Arc<Inner>);

struct Inner {
    file: File,
    len: u64,
    /// Little-endian CRC32C per chunk.
    chunks: Bytes,
}

impl CheckedFile {
    pub(super) fn open(
        path: &Path,
        meta: Option<&FileMeta>,
        chunks: Bytes,
    ) -> Result<CheckedFile, StoreError> {
        let meta = meta.ok_or_else(|| damaged(path, "is not named in meta.json"))?;
        check_length(path, meta)?;
        if chunks.len() as u64 != meta.bytes.div_ceil(BLOCK_CRC_BYTES as u64) * 4 {
            return Err(damaged(path, "its checksums have another length than this file asks for"));
        }
        let file = File::open(path).map_err(io_error(path))?;
        Ok(CheckedFile(Arc::new(Inner { file, len: meta.bytes, chunks })))
    }
}

impl CheckedFile {
    /// Its length.
    pub(super) fn bytes(&self) -> u64 {
        self.0.len
    }

    /// `len` bytes from `start` on, checked.
    pub(super) fn read(&self, start: u64, len: usize) -> io::Result<Bytes> {
        self.0.read(start, len)
    }
}

impl Inner {
    fn read(&self, start: u64, len: usize) -> io::Result<Bytes> {
        let end = start.checked_add(len as u64).filter(|end| *end <= self.len);
        let end =
            end.ok_or_else(|| io::Error::other(format!("offset {start}: {len} bytes pass the file's end")))?;
        let size = BLOCK_CRC_BYTES as u64;
        let (first, last) = (start / size, end.div_ceil(size));
        let mut bytes = vec![0; ((last * size).min(self.len) - first * size) as usize];
        self.file.read_exact_at(&mut bytes, first * size)?;
        for (chunk, number) in bytes.chunks(BLOCK_CRC_BYTES).zip(first as usize..) {
            if self.chunks.get(number * 4..number * 4 + 4) != Some(&crc32c::crc32c(chunk).to_le_bytes()) {
                let at = number as u64 * size;
                return Err(io::Error::other(format!(
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
        self.0.len
    }
}

impl ChunkReader for CheckedFile {
    type T = CheckedRead;

    fn get_read(&self, start: u64) -> Result<CheckedRead, ParquetError> {
        Ok(CheckedRead { file: self.clone(), at: start })
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes, ParquetError> {
        self.0.read(start, length).map_err(|e| ParquetError::External(Box::new(e)))
    }
}

/// Sequential reading of a [`CheckedFile`].
pub(super) struct CheckedRead {
    file: CheckedFile,
    at: u64,
}

impl Read for CheckedRead {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let left = self.file.0.len.saturating_sub(self.at);
        let len = out.len().min(BLOCK_CRC_BYTES).min(usize::try_from(left).unwrap_or(usize::MAX));
        out[..len].copy_from_slice(&self.file.0.read(self.at, len)?);
        self.at += len as u64;
        Ok(len)
    }
}
