//! The index of a block: which series have which label value, as one segment of tantivy
//! (`docs/format/block.md`).
//!
//! Document `n` is the block's series `n`; there is one field, and its terms are label, 0xff,
//! value. The empty value, which no label has, stands for any value, and the empty label for the
//! shards. [`mod@write`] makes the term dictionary and the postings; [`directory`] is how tantivy
//! sees the block's files; [`read`] asks them. Docstore, norms, positions and fast fields would be
//! empty and are not kept.

mod directory;
mod read;
mod write;

pub(super) use read::LabelIndex;
pub(super) use write::write;

use tantivy::schema::{BytesOptions, Field, Schema};

/// Ends the label in a term: no byte of UTF-8 text.
const END: u8 = 0xff;

/// The schema of every index, and its only field.
fn schema() -> (Schema, Field) {
    let mut schema = Schema::builder();
    let field = schema.add_bytes_field("label", BytesOptions::default().set_indexed());
    (schema.build(), field)
}

/// The term of a label value; of "", that of all series that have the label.
fn term(name: &str, value: &str) -> Vec<u8> {
    let mut term = Vec::with_capacity(name.len() + 1 + value.len());
    term.extend_from_slice(name.as_bytes());
    term.push(END);
    term.extend_from_slice(value.as_bytes());
    term
}

/// The term of a shard's series.
fn shard_term(shard: u16) -> [u8; 4] {
    let [high, low] = shard.to_be_bytes();
    [END, END, high, low]
}

/// Label and value of a term; `None` for one of a shard, and for what is not text.
fn parts(term: &[u8]) -> Option<(&str, &str)> {
    let at = term.iter().position(|byte| *byte == END)?;
    Some((std::str::from_utf8(&term[..at]).ok()?, std::str::from_utf8(&term[at + 1..]).ok()?))
}

#[cfg(test)]
mod tests;
