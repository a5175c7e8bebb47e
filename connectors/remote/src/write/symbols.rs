//! The table of texts ("symbols") of a request of remote write 2.0: labels name their texts by
//! their numbers in it. Each request has a table of its own. So that no text is hashed per sample,
//! the texts of all series of a queue have lasting numbers ([`SymbolIds`]), and a request finds its
//! number of a text by the lasting one ([`BatchSymbols`]).

use crate::protobuf::put_bytes;
use hashbrown::HashMap;
use std::sync::Arc;

/// The lasting numbers of the texts of a queue.
#[derive(Default)]
pub(super) struct SymbolIds {
    ids: HashMap<Arc<str>, u32>,
    texts: Vec<Arc<str>>,
}

impl SymbolIds {
    /// The number of a text; a new one if it has none.
    pub(super) fn id(&mut self, text: &str) -> u32 {
        if let Some(id) = self.ids.get(text) {
            return *id;
        }
        let id = self.texts.len() as u32;
        let text: Arc<str> = text.into();
        self.ids.insert(text.clone(), id);
        self.texts.push(text);
        id
    }

    /// The text with this number.
    pub(super) fn text(&self, id: u32) -> &str {
        self.texts.get(id as usize).map_or("", |text| text)
    }
}

/// The table of the request that is being built.
pub(super) struct BatchSymbols {
    /// By lasting number: the number in the request; 0: none yet.
    refs: Vec<u32>,
    /// The lasting numbers that have one.
    used: Vec<u32>,
    /// Texts that are in no series, such as help: the number in the request.
    others: HashMap<String, u32>,
    /// The number in the request of the next text.
    next: u32,
    /// The encoded table.
    table: Vec<u8>,
}

impl Default for BatchSymbols {
    fn default() -> BatchSymbols {
        let mut symbols = BatchSymbols {
            refs: Vec::new(),
            used: Vec::new(),
            others: HashMap::new(),
            next: 0,
            table: Vec::new(),
        };
        symbols.clear();
        symbols
    }
}

impl BatchSymbols {
    /// The number in the request of the text with the lasting number `id`.
    pub(super) fn reference(&mut self, id: u32, ids: &SymbolIds) -> u32 {
        let at = id as usize;
        if self.refs.len() <= at {
            self.refs.resize(at + 1, 0);
        }
        let text = ids.text(id);
        if self.refs[at] == 0 && !text.is_empty() {
            // It may be there as a text that is in no series.
            self.refs[at] = match self.others.get(text) {
                Some(known) => *known,
                None => self.add(text),
            };
            self.used.push(id);
        }
        self.refs[at]
    }

    /// The number in the request of a text that is in no series.
    pub(super) fn text(&mut self, text: &str, ids: &SymbolIds) -> u32 {
        if text.is_empty() {
            return 0;
        }
        if let Some(id) = ids.ids.get(text) {
            return self.reference(*id, ids);
        }
        if let Some(known) = self.others.get(text) {
            return *known;
        }
        let number = self.add(text);
        self.others.insert(text.to_owned(), number);
        number
    }

    /// Adds a text; returns its number in the request.
    fn add(&mut self, text: &str) -> u32 {
        put_bytes(&mut self.table, 4, text.as_bytes());
        self.next += 1;
        self.next - 1
    }

    /// The encoded table.
    pub(super) fn table(&self) -> &[u8] {
        &self.table
    }

    /// Begins the table of the next batch.
    pub(super) fn clear(&mut self) {
        for id in self.used.drain(..) {
            self.refs[id as usize] = 0;
        }
        self.others.clear();
        self.table.clear();
        // The first text is the empty one, as the specification wants it.
        put_bytes(&mut self.table, 4, b"");
        self.next = 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_text_is_in_the_table_once() {
        let mut ids = SymbolIds::default();
        let [a, b] = ["__name__", "up"].map(|text| ids.id(text));
        assert_eq!(ids.id("up"), b);
        let mut batch = BatchSymbols::default();
        for _ in 0..2 {
            assert_eq!([batch.reference(b, &ids), batch.reference(a, &ids)], [1, 2]);
            assert_eq!([batch.text("help", &ids), batch.text("up", &ids), batch.text("", &ids)], [3, 1, 0]);
            assert_eq!([batch.text("help", &ids), batch.reference(b, &ids)], [3, 1]);
            let late = ids.id("help");
            assert_eq!(batch.reference(late, &ids), 3);
            let table =
                [&[0x22, 0, 0x22, 2][..], b"up", &[0x22, 8], b"__name__", &[0x22, 4], b"help"].concat();
            assert_eq!(batch.table(), table);
            batch.clear();
            ids = SymbolIds::default();
            for text in ["__name__", "up"] {
                ids.id(text);
            }
        }
    }
}
