//! Reads the files of Prometheus' log: pages of 32 KiB with fragments of records, each with a
//! checksum; records may be compressed.

use super::super::super::{ImportError, damaged, io_error};
use super::super::bytes::{TsdbByteReader, sealed};
use crate::decompress::{DecompressError, unsnappy, unzstd};
use crate::limits::IMPORT_RECORD_BYTES;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

const PAGE: usize = 32 << 10;
/// Length of what stands before a fragment: kind, length, checksum.
const HEADER: usize = 7;
const SNAPPY: u8 = 8;
const ZSTD: u8 = 16;

/// Which piece of a record a fragment is: the low three bits of its first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FragmentKind {
    Full,
    First,
    Middle,
    Last,
}

impl FragmentKind {
    fn new(head: u8) -> Option<FragmentKind> {
        match head & 7 {
            1 => Some(FragmentKind::Full),
            2 => Some(FragmentKind::First),
            3 => Some(FragmentKind::Middle),
            4 => Some(FragmentKind::Last),
            _ => None,
        }
    }

    fn begins(self) -> bool {
        matches!(self, FragmentKind::Full | FragmentKind::First)
    }

    fn ends(self) -> bool {
        matches!(self, FragmentKind::Full | FragmentKind::Last)
    }
}

/// Why a record cannot be read.
#[derive(Clone, Debug, thiserror::Error)]
enum LogRecordError {
    #[error("the file ends within a record")]
    Torn,
    #[error("a fragment of a record is of no known kind, or out of order")]
    Kind,
    #[error("the checksum of a record does not match")]
    Checksum,
    #[error("a record is longer than {IMPORT_RECORD_BYTES} bytes")]
    TooLong,
    #[error("a record: {0}")]
    Decompress(#[from] DecompressError),
}

/// A file of the log that is being read.
pub(super) struct LogFile {
    path: PathBuf,
    file: File,
    page: Vec<u8>,
    /// The next byte of the page.
    at: usize,
    /// Where the page begins in the file.
    offset: u64,
    record: Vec<u8>,
}

impl LogFile {
    pub(super) fn open(path: &Path) -> Result<LogFile, ImportError> {
        let file = File::open(path).map_err(io_error(path))?;
        Ok(LogFile {
            path: path.to_owned(),
            file,
            page: Vec::with_capacity(PAGE),
            at: 0,
            offset: 0,
            record: Vec::new(),
        })
    }

    /// The next record; `None` at the end of the file. The newest file of a log may be `open`: it
    /// ends where its writer was.
    pub(super) fn next_record(&mut self, open: bool) -> Result<Option<&[u8]>, ImportError> {
        self.record.clear();
        let mut begun = false;
        loop {
            if self.at >= self.page.len() && !self.next_page()? {
                return if begun && !open { Err(self.error(&LogRecordError::Torn)) } else { Ok(None) };
            }
            // The rest of a page that had no space for another fragment.
            if self.page[self.at] == 0 {
                self.at = self.page.len();
                continue;
            }
            let head = self.page[self.at];
            let kind = match self.fragment(begun) {
                Ok(kind) => kind,
                Err(LogRecordError::Torn) if open && self.page.len() < PAGE => return Ok(None),
                Err(error) => return Err(self.error(&error)),
            };
            begun = true;
            if kind.ends() {
                self.decompress(head).map_err(|error| self.error(&error))?;
                return Ok(Some(&self.record));
            }
        }
    }

    /// Where the next fragment begins: file and offset.
    pub(super) fn error(&self, reason: &dyn std::fmt::Display) -> ImportError {
        damaged(&self.path, format!("offset {}: {reason}", self.offset + self.at as u64))
    }

    fn next_page(&mut self) -> Result<bool, ImportError> {
        self.offset += self.page.len() as u64;
        self.at = 0;
        self.page.clear();
        let page = (&mut self.file).take(PAGE as u64).read_to_end(&mut self.page);
        Ok(page.map_err(io_error(&self.path))? > 0)
    }

    /// Appends the fragment at the current byte to the record.
    fn fragment(&mut self, begun: bool) -> Result<FragmentKind, LogRecordError> {
        let rest = &self.page[self.at..];
        let kind = FragmentKind::new(rest[0]).filter(|kind| kind.begins() != begun);
        let kind = kind.ok_or(LogRecordError::Kind)?;
        let (head, rest) = rest.split_at_checked(HEADER).ok_or(LogRecordError::Torn)?;
        let length = usize::from(u16::from_be_bytes([head[1], head[2]]));
        let body = rest.get(..length).ok_or(LogRecordError::Torn)?;
        if !sealed(body, TsdbByteReader::new(&head[3..]).u32()) {
            return Err(LogRecordError::Checksum);
        }
        if self.record.len() + length > IMPORT_RECORD_BYTES {
            return Err(LogRecordError::TooLong);
        }
        self.record.extend_from_slice(body);
        self.at += HEADER + length;
        Ok(kind)
    }

    fn decompress(&mut self, head: u8) -> Result<(), LogRecordError> {
        if head & SNAPPY != 0 {
            self.record = unsnappy(&self.record, IMPORT_RECORD_BYTES)?;
        } else if head & ZSTD != 0 {
            self.record = unzstd(&self.record, IMPORT_RECORD_BYTES)?;
        }
        Ok(())
    }
}
