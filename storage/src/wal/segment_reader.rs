//! Reads a file of the log piece by piece, so that a replay needs little memory. [`SegmentReader`]
//! is a window of the file that moves forward.

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
    at: usize,
    /// Whether the piece reaches to the end of the file.
    ends: bool,
    /// Whether the position has moved since the piece was last extended.
    moved: bool,
}

impl<'a> SegmentReader<'a> {
    /// A reader at offset `from` of a file.
    pub(super) fn open(disk: &'a dyn Disk, path: &'a Path, from: usize) -> io::Result<SegmentReader<'a>> {
        let bytes = disk.read_at(path, from as u64, WAL_READ_BYTES)?;
        let ends = bytes.len() < WAL_READ_BYTES;
        Ok(SegmentReader { disk, path, bytes, base: from, at: 0, ends, moved: true })
    }

    /// Whether the file is empty.
    pub(super) fn is_empty(&self) -> bool {
        self.ends && self.base == 0 && self.bytes.is_empty()
    }

    /// The offset of the position in the file.
    pub(super) fn at(&self) -> usize {
        self.base + self.at
    }

    /// The bytes in memory from the position on.
    pub(super) fn rest(&self) -> &[u8] {
        &self.bytes[self.at..]
    }

    /// Whether the position is at the end of the file.
    pub(super) fn is_done(&self) -> bool {
        self.ends && self.at == self.bytes.len()
    }

    /// Moves `bytes` forward, not past the end of the piece. Reads the next piece when its end is
    /// reached.
    pub(super) fn go(&mut self, bytes: usize) -> io::Result<()> {
        self.at += bytes;
        self.moved = true;
        if self.at == self.bytes.len() {
            self.more()?;
        }
        Ok(())
    }

    /// Reads another piece, if the file has more. Returns whether it had.
    pub(super) fn more(&mut self) -> io::Result<bool> {
        if self.ends {
            return Ok(false);
        }
        if !self.moved {
            // One more piece was not enough: a long record, or damage.
            return self.whole().map(|()| true);
        }
        self.bytes.drain(..self.at);
        self.base += self.at;
        self.at = 0;
        self.moved = false;
        self.ends = self.read(WAL_READ_BYTES)? < WAL_READ_BYTES;
        Ok(true)
    }

    /// Reads the rest of the file into memory.
    pub(super) fn whole(&mut self) -> io::Result<()> {
        if !self.ends {
            self.read(usize::MAX - self.base - self.bytes.len())?;
            self.ends = true;
        }
        Ok(())
    }

    fn read(&mut self, most: usize) -> io::Result<usize> {
        let from = (self.base + self.bytes.len()) as u64;
        let read = self.disk.read_onto(self.path, from, most, &mut self.bytes);
        debug_assert!(read.as_ref().is_ok_and(|read| *read <= most) || read.is_err(), "a clause of Disk");
        read
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
            let mut tape = SegmentReader::open(&OsDisk, &path, 0).unwrap();
            let mut at = 0;
            assert_eq!(tape.is_empty(), len == 0);
            while !tape.is_done() {
                if tape.rest().len() < 1_000 && tape.more().unwrap() {
                    continue;
                }
                let step = tape.rest().len().min(1_000);
                assert_eq!((tape.at(), &tape.rest()[..step]), (at, &bytes[at..at + step]));
                tape.go(step).unwrap();
                at += step;
            }
            assert_eq!(at, len);
        }
    }
}
