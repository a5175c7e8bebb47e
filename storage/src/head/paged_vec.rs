//! A vector in pages of 64 elements, used for what each slot or group of a shard has.
//!
//! It grows by whole pages. Unlike a `Vec` it never moves its elements, so it leaves no freed
//! buffers of ever larger sizes in the allocator. A page in which no element was ever changed is
//! not allocated: after a restart the log may name slot 50,000,000 and only a few below it, because
//! slots are never reused and inactive series leave the log.

use std::ops::{Index, IndexMut};

/// Elements of a page; a power of two. A page of 64 `HeadSeries` fills one size class of the
/// allocator.
const PAGE: usize = 64;

/// A vector that only grows. Elements that were never changed have their default value.
pub(super) struct PagedVec<T> {
    /// `None`: all elements of the page have their default value.
    pages: Vec<Option<Box<[T; PAGE]>>>,
    len: usize,
    /// The default value, for readers of pages that are not allocated.
    default: T,
}

impl<T: Default> Default for PagedVec<T> {
    fn default() -> PagedVec<T> {
        PagedVec { pages: Vec::new(), len: 0, default: T::default() }
    }
}

impl<T: Default> PagedVec<T> {
    /// Number of elements.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Makes the vector at least `len` elements long; the new ones have their default value.
    pub(super) fn extend_to(&mut self, len: usize) {
        if len > self.len {
            self.pages.resize_with(len.div_ceil(PAGE), || None);
            self.len = len;
        }
    }

    /// Adds an element at the end.
    pub(super) fn push(&mut self, element: T) {
        let index = self.len;
        self.extend_to(index + 1);
        self[index] = element;
    }

    /// Element `index`, if there is one.
    pub(super) fn get(&self, index: usize) -> Option<&T> {
        (index < self.len).then(|| &self[index])
    }

    /// All elements of allocated pages with their numbers, in order. All others have their default
    /// value, and visiting them would take time for nothing.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        let pages = self.pages.iter().enumerate().filter_map(|(index, page)| Some((index, page.as_deref()?)));
        pages
            .flat_map(|(index, page)| ((index * PAGE) as u32..).zip(page))
            .take_while(|(index, _)| self.has(*index))
    }

    /// As [`PagedVec::iter`].
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (u32, &mut T)> {
        let len = self.len;
        let pages = self.pages.iter_mut().enumerate();
        let pages = pages.filter_map(|(index, page)| Some((index, page.as_deref_mut()?)));
        let elements = pages.flat_map(|(index, page)| ((index * PAGE) as u32..).zip(page));
        elements.take_while(move |(index, _)| (*index as usize) < len)
    }

    fn has(&self, index: u32) -> bool {
        (index as usize) < self.len
    }
}

impl<T: Default + 'static> IntoIterator for PagedVec<T> {
    type Item = (u32, T);
    type IntoIter = Box<dyn Iterator<Item = (u32, T)>>;

    fn into_iter(self) -> Self::IntoIter {
        let len = self.len;
        let pages = self.pages.into_iter().enumerate().filter_map(|(index, page)| Some((index, page?)));
        let elements = pages.flat_map(|(index, page)| ((index * PAGE) as u32..).zip(*page));
        Box::new(elements.take_while(move |(index, _)| (*index as usize) < len))
    }
}

impl<T> Index<usize> for PagedVec<T> {
    type Output = T;

    #[inline]
    fn index(&self, index: usize) -> &T {
        self.pages[index / PAGE].as_ref().map_or(&self.default, |page| &page[index % PAGE])
    }
}

impl<T: Default> IndexMut<usize> for PagedVec<T> {
    #[inline]
    fn index_mut(&mut self, index: usize) -> &mut T {
        // Beyond the end this panics, as for a `Vec`: slots are created before they are used.
        let page = &mut self.pages[index / PAGE];
        &mut page.get_or_insert_with(|| Box::new(std::array::from_fn(|_| T::default())))[index % PAGE]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_a_vector() {
        let mut slots = PagedVec::default();
        for n in 0..3 * PAGE + 5 {
            assert_eq!((slots.len(), slots.get(n)), (n, None));
            slots.push(n);
        }
        for (_, n) in slots.iter_mut() {
            *n *= 2;
        }
        slots[PAGE] += 1;
        assert!(
            slots.iter().all(|(index, n)| *n == 2 * index as usize + usize::from(index as usize == PAGE))
        );
        assert_eq!(slots.iter().count(), slots.len());
        assert_eq!(slots.get(slots.len()), None);
        assert_eq!(slots.into_iter().last(), Some((3 * PAGE as u32 + 4, 6 * PAGE + 8)));
    }

    #[test]
    fn only_pages_that_are_used_are_allocated() {
        let mut slots: PagedVec<u64> = PagedVec::default();
        slots.extend_to(1 << 26);
        slots[(1 << 26) - 1] = 7;
        slots[5] = 3;
        assert_eq!(slots.pages.iter().flatten().count(), 2);
        assert_eq!((slots.len(), slots[1 << 20], slots.get(1 << 20)), (1 << 26, 0, Some(&0)));
        let found: Vec<(u32, u64)> =
            slots.iter().map(|(index, n)| (index, *n)).filter(|(_, n)| *n != 0).collect();
        assert_eq!(found, [(5, 3), ((1 << 26) - 1, 7)]);
        slots.push(9);
        assert_eq!((slots.len(), slots[1 << 26]), ((1 << 26) + 1, 9));
    }
}
