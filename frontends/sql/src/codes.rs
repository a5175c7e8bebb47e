//! Numbers in the place of texts, for statements that run again ([`crate::standing::run_again`]).
//!
//! To group, join and count distinct values, DataFusion hashes and copies texts, and it does so
//! anew in each run. A number of four bytes stands for a text as well. [`TextCodes`] gives each
//! text of a statement its number, [`with_codes`] rewrites a plan so that scans give numbers where
//! only equality counts, and [`functions`] turns them into texts again where the text is needed.

mod functions;
mod rewrite;

pub(crate) use rewrite::with_codes;

use crate::limits::CODED_TEXTS;
use datafusion::arrow::array::{Array, ArrayRef, StringArray, StringBuilder, UInt32Array};
use datafusion::arrow::datatypes::DataType;
use datafusion::common::HashMap;
use parking_lot::Mutex;
use std::fmt;
use std::sync::Arc;

/// The type of a number that stands for a text.
pub(crate) const CODE: DataType = DataType::UInt32;

/// The texts of one statement, each with a number. A number is valid until [`TextCodes::tidy`].
#[derive(Default)]
pub(crate) struct TextCodes(Mutex<CodeTable>);

struct CodeTable {
    numbers: HashMap<Arc<str>, u32>,
    texts: Vec<Arc<str>>,
    /// Changes when all numbers become invalid.
    generation: u64,
    /// More texts than this are forgotten before the next run.
    most: usize,
    was_cleared: bool,
}

impl Default for CodeTable {
    fn default() -> CodeTable {
        CodeTable {
            numbers: HashMap::new(),
            texts: Vec::new(),
            generation: 0,
            most: CODED_TEXTS,
            was_cleared: false,
        }
    }
}

impl CodeTable {
    fn number(&mut self, text: &str) -> u32 {
        if let Some(number) = self.numbers.get(text) {
            return *number;
        }
        let number = self.texts.len() as u32;
        let text: Arc<str> = text.into();
        self.texts.push(text.clone());
        self.numbers.insert(text, number);
        number
    }
}

impl fmt::Debug for TextCodes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TextCodes").field("texts", &self.0.lock().texts.len()).finish()
    }
}

impl TextCodes {
    /// Forgets all texts if there are many, most of which may be of series that are gone. Called
    /// between runs: a run sees one number for a text.
    pub(crate) fn tidy(&self) {
        let mut table = self.0.lock();
        if table.was_cleared {
            // What one run needs is not forgotten after each.
            table.most = CODED_TEXTS.max(2 * table.texts.len());
            table.was_cleared = false;
        } else if table.texts.len() > table.most {
            let generation = table.generation + 1;
            *table = CodeTable { generation, was_cleared: true, ..CodeTable::default() };
        }
    }

    /// Changes when all numbers become invalid.
    pub(crate) fn generation(&self) -> u64 {
        self.0.lock().generation
    }

    /// The number of a text.
    pub(crate) fn number(&self, text: &str) -> u32 {
        self.0.lock().number(text)
    }

    /// The numbers of texts; NULL stays NULL.
    pub(crate) fn numbers(&self, texts: &StringArray) -> UInt32Array {
        let mut table = self.0.lock();
        texts.iter().map(|text| text.map(|text| table.number(text))).collect()
    }

    /// The texts of numbers.
    pub(crate) fn texts(&self, numbers: &UInt32Array) -> StringArray {
        let table = self.0.lock();
        let text = |number: u32| table.texts.get(number as usize).map_or("", |text| text);
        let bytes = numbers.iter().flatten().map(|number| text(number).len()).sum();
        let mut out = StringBuilder::with_capacity(numbers.len(), bytes);
        for number in numbers {
            out.append_option(number.map(text));
        }
        out.finish()
    }
}

/// A column of texts, and its numbers.
#[derive(Clone, Debug)]
pub(crate) struct CodedColumn {
    texts: ArrayRef,
    generation: u64,
    numbers: ArrayRef,
}

/// The columns that a scan made numbers of in its last run, by their places. Texts of live views
/// and lists are the same arrays again until the rows change.
pub(crate) type CodedColumns = Arc<Mutex<HashMap<usize, CodedColumn>>>;

/// The numbers of the column at `place` of a scan.
pub(crate) fn coded_column(
    codes: &TextCodes,
    known: &CodedColumns,
    place: usize,
    texts: ArrayRef,
) -> ArrayRef {
    let generation = codes.generation();
    let mut known = known.lock();
    if let Some(column) = known.get(&place)
        && column.generation == generation
        && Arc::ptr_eq(&column.texts, &texts)
    {
        return column.numbers.clone();
    }
    let Some(strings) = texts.as_any().downcast_ref::<StringArray>() else { return texts };
    let numbers: ArrayRef = Arc::new(codes.numbers(strings));
    known.insert(place, CodedColumn { texts, generation, numbers: numbers.clone() });
    numbers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_come_back_and_equal_ones_have_one_number() {
        let codes = TextCodes::default();
        let texts = StringArray::from(vec![Some("a"), None, Some(""), Some("a")]);
        let numbers = codes.numbers(&texts);
        assert_eq!(numbers.value(0), numbers.value(3));
        assert_ne!(numbers.value(0), numbers.value(2));
        assert_eq!(codes.number(""), numbers.value(2));
        assert_eq!(codes.texts(&numbers), texts);
    }

    #[test]
    fn many_texts_are_forgotten_but_not_those_of_every_run() {
        let codes = TextCodes::default();
        let run = |begin: usize, count: usize| {
            codes.tidy();
            let before = codes.generation();
            let texts: Vec<String> = (begin..begin + count).map(|i| i.to_string()).collect();
            codes.numbers(&StringArray::from(texts));
            before
        };
        assert_eq!(run(0, CODED_TEXTS), 0);
        assert_eq!(run(CODED_TEXTS, 1), 0);
        assert_eq!(run(0, 2 * CODED_TEXTS), 1, "one more than is kept");
        assert_eq!(run(0, 2 * CODED_TEXTS), 1, "a run that needs as many");
        assert_eq!(run(0, 2 * CODED_TEXTS), 1);
    }

    #[test]
    fn a_column_is_numbered_once() {
        let codes = TextCodes::default();
        let known = CodedColumns::default();
        let texts: ArrayRef = Arc::new(StringArray::from(vec!["a", "b"]));
        let first = coded_column(&codes, &known, 0, texts.clone());
        assert!(Arc::ptr_eq(&first, &coded_column(&codes, &known, 0, texts)));
        let other: ArrayRef = Arc::new(StringArray::from(vec!["b", "a"]));
        let other = coded_column(&codes, &known, 0, other);
        assert_eq!(other.as_any().downcast_ref::<UInt32Array>(), Some(&UInt32Array::from(vec![1, 0])));
    }
}
