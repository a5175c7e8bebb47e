//! Reads a segment (one file of the write-ahead log) piece by piece, so that a replay needs little
//! memory. [`SegmentReader`] is a window of the file that moves forward; [`super::reader`] finds
//! the records in it.

use crate::disk::Disk;
use crate::limits::WAL_READ_BYTES;
use std::io;
use std::path::Path;

/// A piece of a segment in memory, and the position in it.
pub(super) struct SegmentReader<'a> {
    disk: &'a dyn Disk,
    path: &'a Path,
    /// The piece of the file in memory.
    bytes: Vec<u8>,
    /// The offset of the piece in the file.
    base: usize,
    /// The position in the piece.
    position: usize,
    /// Whether the piece reaches to the end of the file.
    reaches_end: bool,
    /// Whether the position has advanced since the piece was last extended.
    advanced: bool,
}

impl<'a> SegmentReader<'a> {
    /// A reader at offset `from` of a file.
    pub(super) fn open(disk: &'a dyn Disk, path: &'a Path, from: usize) -> io::Result<SegmentReader<'a>> {
        let bytes = disk.read_at(path, from as u64, WAL_READ_BYTES)?;
        let reaches_end = bytes.len() < WAL_READ_BYTES;
        Ok(SegmentReader { disk, path, bytes, base: from, position: 0, reaches_end, advanced: true })
    }

    /// Whether the file is empty.
    pub(super) fn is_empty(&self) -> bool {
        self.reaches_end && self.base == 0 && self.bytes.is_empty()
    }

    /// The offset of the position in the file.
    pub(super) fn file_offset(&self) -> usize {
        self.base + self.position
    }

    /// The bytes in memory from the position on.
    pub(super) fn rest(&self) -> &[u8] {
        &self.bytes[self.position..]
    }

    /// Whether the position is at the end of the file.
    pub(super) fn is_done(&self) -> bool {
        self.reaches_end && self.position == self.bytes.len()
    }

    /// Moves `bytes` forward, not past the end of the piece. Reads the next piece when its end is
    /// reached.
    pub(super) fn advance(&mut self, bytes: usize) -> io::Result<()> {
        self.position += bytes;
        self.advanced = true;
        if self.position == self.bytes.len() {
            self.read_more()?;
        }
        Ok(())
    }

    /// Reads another piece, if the file has more. Returns whether it had.
    pub(super) fn read_more(&mut self) -> io::Result<bool> {
        if self.reaches_end {
            return Ok(false);
        }
        if !self.advanced {
            // One more piece was not enough: a long record, or damage.
            return self.read_to_end().map(|()| true);
        }
        self.bytes.drain(..self.position);
        self.base += self.position;
        self.position = 0;
        self.advanced = false;
        self.reaches_end = self.read(WAL_READ_BYTES)? < WAL_READ_BYTES;
        Ok(true)
    }

    /// Reads the rest of the file into memory.
    pub(super) fn read_to_end(&mut self) -> io::Result<()> {
        if !self.reaches_end {
            self.read(usize::MAX - self.base - self.bytes.len())?;
            self.reaches_end = true;
        }
        Ok(())
    }

    /// Appends up to `limit` bytes of the file to the piece. Returns how many.
    fn read(&mut self, limit: usize) -> io::Result<usize> {
        let offset = (self.base + self.bytes.len()) as u64;
        let result = self.disk.read_onto(self.path, offset, limit, &mut self.bytes);
        debug_assert!(result.as_ref().map_or(true, |bytes| *bytes <= limit), "a clause of Disk");
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::OsDisk;

    #[test]
    fn all_of_a_file_comes_by() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        for len in [0, 1, WAL_READ_BYTES - 1, WAL_READ_BYTES, 3 * WAL_READ_BYTES + 17] {
            let bytes: Vec<u8> = (0..len).map(|i| (i % 251) as u8).collect();
            std::fs::write(&path, &bytes).unwrap();
            let mut reader = SegmentReader::open(&OsDisk, &path, 0).unwrap();
            let mut at = 0;
            assert_eq!(reader.is_empty(), len == 0);
            while !reader.is_done() {
                if reader.rest().len() < 1_000 && reader.read_more().unwrap() {
                    continue;
                }
                let step = reader.rest().len().min(1_000);
                assert_eq!((reader.file_offset(), &reader.rest()[..step]), (at, &bytes[at..at + step]));
                reader.advance(step).unwrap();
                at += step;
            }
            assert_eq!(at, len);
        }
    }
}
