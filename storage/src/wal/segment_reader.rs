//! A file of the log on its way through memory, piece by piece: a replay holds a little of it, not all.

use crate::disk::Disk;
use crate::limits::WAL_READ_BYTES;
use std::io;
use std::path::Path;

/// See the module.
pub struct SegmentReader<'a> {
    disk: &'a dyn Disk,
    path: &'a Path,
    /// A part of the file.
    bytes: Vec<u8>,
    /// Where the part begins in the file.
    base: usize,
    /// Where we are in the part.
    at: usize,
    /// Whether the part reaches to the file's end.
    ends: bool,
    /// Whether something was read since the part was last made longer.
    moved: bool,
}

impl<'a> SegmentReader<'a> {
    /// At this offset of a file.
    pub fn open(disk: &'a dyn Disk, path: &'a Path, from: usize) -> io::Result<SegmentReader<'a>> {
        let bytes = disk.read_at(path, from as u64, WAL_READ_BYTES)?;
        let ends = bytes.len() < WAL_READ_BYTES;
        Ok(SegmentReader { disk, path, bytes, base: from, at: 0, ends, moved: true })
    }

    /// Whether the file is empty.
    pub fn is_empty(&self) -> bool {
        self.ends && self.base == 0 && self.bytes.is_empty()
    }

    /// Offset in the file.
    pub fn at(&self) -> usize {
        self.base + self.at
    }

    /// What is in memory from here on: all of the file, or a piece.
    pub fn rest(&self) -> &[u8] {
        &self.bytes[self.at..]
    }

    /// Whether the file is at its end. One that is longer than what is in memory is made to show a
    /// piece more.
    pub fn is_done(&self) -> bool {
        self.ends && self.at == self.bytes.len()
    }

    /// Goes `bytes` on, not beyond what is in memory.
    pub fn go(&mut self, bytes: usize) -> io::Result<()> {
        self.at += bytes;
        self.moved = true;
        if self.at == self.bytes.len() {
            self.more()?;
        }
        Ok(())
    }

    /// Has more of the file in memory, if there is more; whether there was.
    pub fn more(&mut self) -> io::Result<bool> {
        if self.ends {
            return Ok(false);
        }
        if !self.moved {
            // One piece more did not do: a long record, or damage.
            return self.whole().map(|()| true);
        }
        self.bytes.drain(..self.at);
        self.base += self.at;
        (self.at, self.moved) = (0, false);
        self.ends = self.read(WAL_READ_BYTES)? < WAL_READ_BYTES;
        Ok(true)
    }

    /// Has all that is left of the file in memory.
    pub fn whole(&mut self) -> io::Result<()> {
        if !self.ends {
            self.read(usize::MAX - self.base - self.bytes.len())?;
            self.ends = true;
        }
        Ok(())
    }

    fn read(&mut self, most: usize) -> io::Result<usize> {
        let from = (self.base + self.bytes.len()) as u64;
        self.disk.read_onto(self.path, from, most, &mut self.bytes)
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
