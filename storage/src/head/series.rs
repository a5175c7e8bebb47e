//! A series in the head: its labels and where its samples are.

use super::rows::Rows;
use crate::model::Labels;
use std::cmp::Ordering;

/// A place of a series' samples: a column of a column set.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Home {
    /// The set's key inside the shard.
    pub set: u32,
    /// The column.
    pub column: u32,
}

/// One series.
pub struct Series {
    /// Its labels.
    pub labels: Labels,
    /// Columns it has or had; nearly always one.
    pub homes: Homes,
    /// Samples that came alone.
    pub rows: Option<Box<Rows>>,
    /// Whether it is in the postings: it has samples, or a writer holds on to it.
    pub listed: bool,
    /// Whether the log knows it.
    pub logged: bool,
}

/// The homes of a series; one is kept without an allocation.
#[derive(Default)]
pub enum Homes {
    /// No column.
    #[default]
    None,
    /// The usual case.
    One(Home),
    /// Several groups, or several generations of one.
    Many(Box<[Home]>),
}

impl Homes {
    /// All of them, oldest first.
    pub fn as_slice(&self) -> &[Home] {
        match self {
            Homes::None => &[],
            Homes::One(home) => std::slice::from_ref(home),
            Homes::Many(homes) => homes,
        }
    }

    /// Adds one.
    pub fn push(&mut self, home: Home) {
        *self = match std::mem::take(self) {
            Homes::None => Homes::One(home),
            Homes::One(first) => Homes::Many([first, home].into()),
            Homes::Many(homes) => Homes::Many(homes.iter().copied().chain([home]).collect()),
        };
    }

    /// Removes the one in `set`.
    pub fn remove(&mut self, set: u32) {
        let left: Vec<Home> = self.as_slice().iter().copied().filter(|home| home.set != set).collect();
        *self = match left.as_slice() {
            [] => Homes::None,
            [one] => Homes::One(*one),
            _ => Homes::Many(left.into()),
        };
    }
}

/// The order of [`Labels`], without checking their text again: sorting selections is a hot path.
pub fn compare_labels(a: &Labels, b: &Labels) -> Ordering {
    let (a, b) = (a.encoded(), b.encoded());
    let (mut i, mut j) = (0, 0);
    while i < a.len() && j < b.len() {
        match take(a, &mut i).cmp(take(b, &mut j)) {
            Ordering::Equal => (),
            other => return other,
        }
    }
    (i < a.len()).cmp(&(j < b.len()))
}

fn take<'a>(bytes: &'a [u8], at: &mut usize) -> &'a [u8] {
    let (mut len, mut shift) = (0usize, 0);
    while let Some(&byte) = bytes.get(*at) {
        *at += 1;
        len |= usize::from(byte & 0x7f) << (shift & 31);
        shift += 7;
        if byte & 0x80 == 0 {
            break;
        }
    }
    let text = bytes.get(*at..*at + len).unwrap_or(&[]);
    *at += len;
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_order_is_that_of_labels(
            a in proptest::collection::btree_map("[ab]{1,2}", "[xy]{1,2}|z{130}", 0..4),
            b in proptest::collection::btree_map("[ab]{1,2}", "[xy]{1,2}|z{130}", 0..4),
        ) {
            let (a, b) = (Labels::from_pairs(a), Labels::from_pairs(b));
            prop_assert_eq!(compare_labels(&a, &b), a.cmp(&b));
        }
    }
}
