//! [`BinarySplitter`]: PostgreSQL's binary form of the rows of `COPY`, as drivers write it.
//!
//! A header, then for each row the number of its fields and each field with its length, then a
//! mark at the end. [`super::copy`] passes the bytes as they arrive. A field becomes the text that
//! the other forms have for it, so that one place knows the types of columns.

use super::csv::Record;
use super::kind::ColumnType;
use crate::error::SqlError;
use chrono::{DateTime, SecondsFormat};

/// The first bytes of every `COPY` in the binary form.
pub const COPY_SIGNATURE: &[u8; 11] = b"PGCOPY\n\xff\r\n\0";
/// Microseconds between 1970 and 2000, from which PostgreSQL counts times in the binary form.
pub const POSTGRES_EPOCH_MICROS: i64 = 946_684_800_000_000;

/// Flags of the header that a reader must understand.
const CRITICAL_FLAGS: i32 = !0xffff;
/// The flag of rows with object identifiers, which PostgreSQL 12 has dropped.
const WITH_OIDS: i32 = 1 << 16;

/// Splits the binary form into records.
pub(super) struct BinarySplitter {
    kinds: Vec<ColumnType>,
    part: BinarySection,
    /// The bytes of the part that have come so far.
    pending: Vec<u8>,
    fields: Vec<Option<String>>,
    /// The number of the row that is read, from 1.
    row: usize,
}

/// What is read next.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum BinarySection {
    Signature,
    Flags,
    ExtensionLength,
    Extension(usize),
    /// The number of fields of a row, or the mark at the end.
    FieldCount,
    FieldLength,
    Field(usize),
    /// Nothing: the mark has come.
    End,
}

impl BinarySection {
    /// How many bytes it has.
    fn length(self) -> usize {
        match self {
            BinarySection::Signature => COPY_SIGNATURE.len(),
            BinarySection::Flags | BinarySection::ExtensionLength | BinarySection::FieldLength => 4,
            BinarySection::FieldCount => 2,
            BinarySection::Extension(length) | BinarySection::Field(length) => length,
            BinarySection::End => 0,
        }
    }
}

impl BinarySplitter {
    /// For rows of columns of these types.
    pub(super) fn new(kinds: Vec<ColumnType>) -> BinarySplitter {
        BinarySplitter {
            kinds,
            part: BinarySection::Signature,
            pending: Vec::new(),
            fields: Vec::new(),
            row: 1,
        }
    }

    /// Reads the next bytes.
    pub(super) fn feed(
        &mut self,
        mut bytes: &[u8],
        take: &mut dyn FnMut(Record) -> Result<(), SqlError>,
    ) -> Result<(), SqlError> {
        loop {
            if self.part == BinarySection::End {
                if bytes.is_empty() {
                    return Ok(());
                }
                return Err(SqlError::bad("received copy data after EOF marker"));
            }
            let missing = self.part.length() - self.pending.len();
            let Some((now, later)) = bytes.split_at_checked(missing) else {
                self.pending.extend_from_slice(bytes);
                return Ok(());
            };
            self.pending.extend_from_slice(now);
            bytes = later;
            let part = std::mem::take(&mut self.pending);
            self.part = self.next(&part, take)?;
        }
    }

    /// The end of the bytes, which may be between two rows without the mark.
    pub(super) fn finish(self) -> Result<(), SqlError> {
        let is_between_rows = self.part == BinarySection::FieldCount && self.pending.is_empty();
        match self.part {
            BinarySection::End => Ok(()),
            _ if is_between_rows => Ok(()),
            BinarySection::Signature => Err(no_signature()),
            BinarySection::Flags => Err(SqlError::bad("invalid COPY file header (missing flags)")),
            BinarySection::ExtensionLength => Err(SqlError::bad("invalid COPY file header (missing length)")),
            BinarySection::Extension(_) => Err(SqlError::bad("invalid COPY file header (wrong length)")),
            BinarySection::FieldCount | BinarySection::FieldLength | BinarySection::Field(_) => {
                Err(self.refused("unexpected EOF in COPY data"))
            }
        }
    }

    /// Takes a whole part; returns what comes after it.
    fn next(
        &mut self,
        part: &[u8],
        take: &mut dyn FnMut(Record) -> Result<(), SqlError>,
    ) -> Result<BinarySection, SqlError> {
        Ok(match self.part {
            BinarySection::Signature if part == COPY_SIGNATURE => BinarySection::Flags,
            BinarySection::Signature => return Err(no_signature()),
            BinarySection::Flags => {
                let flags = i32_of(part);
                if flags & WITH_OIDS != 0 {
                    return Err(SqlError::bad("invalid COPY file header (WITH OIDS)"));
                }
                if flags & CRITICAL_FLAGS != 0 {
                    return Err(SqlError::bad("unrecognized critical flags in COPY file header"));
                }
                BinarySection::ExtensionLength
            }
            BinarySection::ExtensionLength => match usize::try_from(i32_of(part)) {
                Ok(length) => BinarySection::Extension(length),
                Err(_) => return Err(SqlError::bad("invalid COPY file header (missing length)")),
            },
            BinarySection::Extension(_) => BinarySection::FieldCount,
            BinarySection::FieldCount => self.field_count(part)?,
            BinarySection::FieldLength => match i32_of(part) {
                -1 => self.field(None, take)?,
                length => BinarySection::Field(
                    usize::try_from(length).map_err(|_| self.refused("invalid field size"))?,
                ),
            },
            BinarySection::Field(_) => {
                let value = self.value(part)?;
                self.field(Some(value), take)?
            }
            BinarySection::End => BinarySection::End,
        })
    }

    fn field_count(&self, part: &[u8]) -> Result<BinarySection, SqlError> {
        let count = i16::from_be_bytes(part.try_into().unwrap_or_default());
        if count == -1 {
            return Ok(BinarySection::End);
        }
        let expected = self.kinds.len();
        if usize::try_from(count) != Ok(expected) {
            return Err(self.refused(&format!("row field count is {count}, expected {expected}")));
        }
        Ok(BinarySection::FieldLength)
    }

    /// Adds a field to the row; the last one completes it.
    fn field(
        &mut self,
        value: Option<String>,
        take: &mut dyn FnMut(Record) -> Result<(), SqlError>,
    ) -> Result<BinarySection, SqlError> {
        self.fields.push(value);
        if self.fields.len() < self.kinds.len() {
            return Ok(BinarySection::FieldLength);
        }
        take(Record { fields: std::mem::take(&mut self.fields), line: self.row })?;
        self.row += 1;
        Ok(BinarySection::FieldCount)
    }

    /// The text of a field of the next column.
    fn value(&self, bytes: &[u8]) -> Result<String, SqlError> {
        let column = self.fields.len();
        let text = self.kinds.get(column).and_then(|kind| text_of(*kind, bytes));
        text.ok_or_else(|| self.refused(&format!("incorrect binary data format in column {}", column + 1)))
    }

    fn refused(&self, what: &str) -> SqlError {
        SqlError::bad(format!("row {}: {what}", self.row))
    }
}

fn no_signature() -> SqlError {
    SqlError::bad("COPY file signature not recognized")
}

fn i32_of(bytes: &[u8]) -> i32 {
    i32::from_be_bytes(bytes.try_into().unwrap_or_default())
}

/// The text of a value in the binary form. Numbers may be shorter than the column has them: a
/// column that was declared as `int` is an `int8`.
fn text_of(kind: ColumnType, bytes: &[u8]) -> Option<String> {
    match kind {
        ColumnType::Text => std::str::from_utf8(bytes).ok().map(str::to_owned),
        ColumnType::Integer => match bytes.len() {
            2 => Some(i16::from_be_bytes(bytes.try_into().ok()?).to_string()),
            4 => Some(i32::from_be_bytes(bytes.try_into().ok()?).to_string()),
            8 => Some(i64::from_be_bytes(bytes.try_into().ok()?).to_string()),
            _ => None,
        },
        ColumnType::Float => match bytes.len() {
            4 => Some(f32::from_be_bytes(bytes.try_into().ok()?).to_string()),
            8 => Some(f64::from_be_bytes(bytes.try_into().ok()?).to_string()),
            _ => None,
        },
        ColumnType::Bool => match bytes {
            [byte] => Some((*byte != 0).to_string()),
            _ => None,
        },
        ColumnType::Time => {
            let micros = i64::from_be_bytes(bytes.try_into().ok()?).checked_add(POSTGRES_EPOCH_MICROS)?;
            Some(DateTime::from_timestamp_micros(micros)?.to_rfc3339_opts(SecondsFormat::Micros, true))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KINDS: [ColumnType; 5] =
        [ColumnType::Text, ColumnType::Integer, ColumnType::Float, ColumnType::Bool, ColumnType::Time];

    fn header() -> Vec<u8> {
        [COPY_SIGNATURE.as_slice(), &[0; 8]].concat()
    }

    fn row(fields: &[Option<&[u8]>]) -> Vec<u8> {
        let mut out = (fields.len() as i16).to_be_bytes().to_vec();
        for field in fields {
            let length = field.map_or(-1, |field| field.len() as i32);
            out.extend_from_slice(&length.to_be_bytes());
            out.extend_from_slice(field.unwrap_or_default());
        }
        out
    }

    /// The rows of bytes that come in pieces of `size`.
    fn split(bytes: &[u8], size: usize) -> Result<Vec<Vec<Option<String>>>, String> {
        let mut splitter = BinarySplitter::new(KINDS.to_vec());
        let mut rows = Vec::new();
        let mut take = |record: Record| {
            assert_eq!(record.line, rows.len() + 1);
            rows.push(record.fields);
            Ok(())
        };
        for piece in bytes.chunks(size) {
            splitter.feed(piece, &mut take).map_err(|e| e.text)?;
        }
        splitter.finish().map_err(|e| e.text)?;
        Ok(rows)
    }

    fn good() -> Vec<u8> {
        let all = [
            Some("ü".as_bytes()),
            Some([0xff; 8].as_slice()),
            Some(&[0x3f, 0xf8, 0, 0, 0, 0, 0, 0]),
            Some(&[1]),
            Some(&[0, 0, 0, 0, 0, 0, 0x03, 0xe8]),
        ];
        let short = [Some([].as_slice()), Some(&[0, 7]), Some(&[0x40, 0, 0, 0]), Some(&[0]), None];
        [row(&all), row(&short), row(&[None; 5])].concat()
    }

    #[test]
    fn rows_are_read_wherever_their_pieces_end() {
        let texts = |row: [&str; 5]| row.map(|text| (text != "NULL").then(|| text.to_owned())).to_vec();
        let want = vec![
            texts(["ü", "-1", "1.5", "true", "2000-01-01T00:00:00.001000Z"]),
            texts(["", "7", "2", "false", "NULL"]),
            texts(["NULL"; 5]),
        ];
        let extended = [COPY_SIGNATURE.as_slice(), &[0, 0, 0, 1, 0, 0, 0, 2, 9, 9]].concat();
        for header in [header(), extended] {
            for end in [&[0xff, 0xff][..], &[]] {
                let bytes = [&header, &good(), end].concat();
                for size in 1..=bytes.len() {
                    assert_eq!(split(&bytes, size).as_ref(), Ok(&want), "pieces of {size}");
                }
            }
        }
        assert_eq!(split(&[header(), vec![0xff, 0xff]].concat(), 3), Ok(Vec::new()), "no rows");
    }

    #[test]
    fn what_is_broken_is_told_with_its_row() {
        let with_header = |rest: &[u8]| [header(), rest.to_vec()].concat();
        let after_good = |rest: &[u8]| [header(), good(), rest.to_vec()].concat();
        let other = |at: usize, bytes: &[u8]| {
            let mut fields = [None; 5];
            fields[at] = Some(bytes);
            after_good(&row(&fields))
        };
        for (bytes, want) in [
            (Vec::new(), "COPY file signature not recognized"),
            (b"a\t1\n".to_vec(), "COPY file signature not recognized"),
            (b"api\t1\t2\t3\t4\nweb\t".to_vec(), "COPY file signature not recognized"),
            (COPY_SIGNATURE.to_vec(), "invalid COPY file header (missing flags)"),
            ([COPY_SIGNATURE.as_slice(), &[0; 4]].concat(), "invalid COPY file header (missing length)"),
            (
                [COPY_SIGNATURE.as_slice(), &[0, 0, 0, 0, 0xff, 0, 0, 0]].concat(),
                "invalid COPY file header (missing length)",
            ),
            (
                [COPY_SIGNATURE.as_slice(), &[0, 0, 0, 0, 0, 0, 0, 9, 1]].concat(),
                "invalid COPY file header (wrong length)",
            ),
            ([COPY_SIGNATURE.as_slice(), &[0, 1, 0, 0]].concat(), "invalid COPY file header (WITH OIDS)"),
            (
                [COPY_SIGNATURE.as_slice(), &[0, 2, 0, 0]].concat(),
                "unrecognized critical flags in COPY file header",
            ),
            (after_good(&[0, 1]), "row 4: row field count is 1, expected 5"),
            (with_header(&[0xff, 0xfe]), "row 1: row field count is -2, expected 5"),
            (with_header(&[0]), "row 1: unexpected EOF in COPY data"),
            (with_header(&[0, 5, 0, 0]), "row 1: unexpected EOF in COPY data"),
            (with_header(&[0, 5, 0, 0, 0, 3, b'a']), "row 1: unexpected EOF in COPY data"),
            (with_header(&[0, 5, 0xff, 0xff, 0xff, 0xfe]), "row 1: invalid field size"),
            (with_header(&[0xff, 0xff, 0]), "received copy data after EOF marker"),
            (other(0, &[0xff]), "row 4: incorrect binary data format in column 1"),
            (other(1, &[0; 3]), "row 4: incorrect binary data format in column 2"),
            (other(2, &[0; 2]), "row 4: incorrect binary data format in column 3"),
            (other(3, &[]), "row 4: incorrect binary data format in column 4"),
            (other(4, &[0; 4]), "row 4: incorrect binary data format in column 5"),
            (
                other(4, &[0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
                "row 4: incorrect binary data format in column 5",
            ),
        ] {
            for size in [1, 7, bytes.len().max(1)] {
                assert_eq!(split(&bytes, size), Err(want.to_owned()), "{bytes:?} in pieces of {size}");
            }
        }
    }
}
