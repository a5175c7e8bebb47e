//! The index of a block: which series have which label value, as a segment of tantivy
//! (`docs/format/block.md`).
//!
//! Document `n` is series `n` of the block. There is one field; a term is label name, 0xff, value.
//! The empty value, which no label has, stands for any value; the empty label name stands for the
//! shards. [`mod@write`] makes the term dictionary and the postings, [`directory`] is tantivy's
//! view of the files, and [`read`] queries them. Docstore, norms, positions and fast fields would
//! be empty and are not stored.

mod directory;
mod read;
mod write;

pub(super) use read::LabelIndex;
pub(super) use write::write;

use tantivy::schema::{BytesOptions, Field, Schema};

/// Ends the label name in a term. Not a byte of UTF-8 text.
const END: u8 = 0xff;

/// The schema of every index, and its only field.
fn schema() -> (Schema, Field) {
    let mut schema = Schema::builder();
    let field = schema.add_bytes_field("label", BytesOptions::default().set_indexed());
    (schema.build(), field)
}

/// The term of a label value; with `""` that of all series with the label.
fn term(name: &str, value: &str) -> Vec<u8> {
    let mut term = Vec::with_capacity(name.len() + 1 + value.len());
    term.extend_from_slice(name.as_bytes());
    term.push(END);
    term.extend_from_slice(value.as_bytes());
    term
}

/// The term of the series of a shard.
fn shard_term(shard: u16) -> [u8; 4] {
    let [high, low] = shard.to_be_bytes();
    [END, END, high, low]
}

/// The label and value of a term; `None` for the term of a shard, or if it is not text.
fn split_term(term: &[u8]) -> Option<(&str, &str)> {
    let at = term.iter().position(|byte| *byte == END)?;
    Some((std::str::from_utf8(&term[..at]).ok()?, std::str::from_utf8(&term[at + 1..]).ok()?))
}

#[cfg(test)]
mod tests;
