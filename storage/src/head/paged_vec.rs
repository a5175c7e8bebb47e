//! A vector in pages of 64 elements, used for what each slot of a shard has. It grows by whole
//! pages. Unlike a `Vec` it never reallocates, so it leaves no freed buffers of ever larger sizes
//! in the allocator.

use std::ops::{Index, IndexMut};

/// Elements of a page; a power of two. A page of 64 `HeadSeries` fills one size class of the
/// allocator.
const PIECE: usize = 64;

/// A vector that only grows and never moves its elements.
pub(super) struct PagedVec<T> {
    /// The pages. All but the last are full.
    pieces: Vec<Vec<T>>,
}

impl<T> Default for PagedVec<T> {
    fn default() -> PagedVec<T> {
        PagedVec { pieces: Vec::new() }
    }
}

impl<T> IntoIterator for PagedVec<T> {
    type Item = T;
    type IntoIter = std::iter::Flatten<std::vec::IntoIter<Vec<T>>>;

    fn into_iter(self) -> Self::IntoIter {
        self.pieces.into_iter().flatten()
    }
}

impl<T> PagedVec<T> {
    /// Number of elements.
    pub(super) fn len(&self) -> usize {
        self.pieces.last().map_or(0, |last| (self.pieces.len() - 1) * PIECE + last.len())
    }

    /// Adds an element at the end.
    pub(super) fn push(&mut self, element: T) {
        if self.pieces.last().is_none_or(|last| last.len() == PIECE) {
            self.pieces.push(Vec::with_capacity(PIECE));
        }
        if let Some(last) = self.pieces.last_mut() {
            last.push(element);
        }
    }

    /// Element `at`, if there is one.
    pub(super) fn get(&self, at: usize) -> Option<&T> {
        self.pieces.get(at / PIECE)?.get(at % PIECE)
    }

    /// All elements, in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.pieces.iter().flatten()
    }

    /// All elements, in order.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.pieces.iter_mut().flatten()
    }
}

impl<T> Index<usize> for PagedVec<T> {
    type Output = T;

    #[inline]
    fn index(&self, at: usize) -> &T {
        &self.pieces[at / PIECE][at % PIECE]
    }
}

impl<T> IndexMut<usize> for PagedVec<T> {
    #[inline]
    fn index_mut(&mut self, at: usize) -> &mut T {
        &mut self.pieces[at / PIECE][at % PIECE]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_a_vector() {
        let mut slots = PagedVec::default();
        for n in 0..3 * PIECE + 5 {
            assert_eq!((slots.len(), slots.get(n)), (n, None));
            slots.push(n);
        }
        slots.iter_mut().for_each(|n| *n *= 2);
        slots[PIECE] += 1;
        assert!(slots.iter().enumerate().all(|(at, n)| *n == 2 * at + usize::from(at == PIECE)));
        assert_eq!(slots.get(slots.len()), None);
        assert_eq!(slots.into_iter().last(), Some(6 * PIECE + 8));
    }
}
