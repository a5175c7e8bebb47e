//! Bytes that values occupy on the heap, for reports on memory: what is allocated, not what is in
//! use.
//!
//! Shared values ([`Labels`], [`Arc`]s) count nothing here; they count where they were created,
//! mostly in the store.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use storage::model::Labels;

/// A value that may occupy bytes on the heap.
///
/// # Contract
/// 1. The bytes that the value itself occupies are not included: whoever holds it counts them.
/// 2. What is allocated counts, not what is in use. Vectors are exact, because they are
///    most of the memory; for maps an estimate is enough.
/// 3. What is shared counts nothing. Otherwise a report on a thousand views would show the same
///    labels a thousand times.
/// 4. It may walk over all elements, so it is called for reports only, never in a tick.
pub trait HeapSize {
    /// The number of bytes.
    fn heap(&self) -> usize;
}

macro_rules! nothing {
    ($($plain:ty),*) => {
        $(impl HeapSize for $plain {
            fn heap(&self) -> usize {
                0
            }
        })*
    };
}

nothing!(bool, u8, u16, u32, u64, usize, i64, f64, Labels);

impl<T> HeapSize for Arc<T> {
    fn heap(&self) -> usize {
        0
    }
}

impl HeapSize for String {
    fn heap(&self) -> usize {
        self.capacity()
    }
}

impl<T: HeapSize> HeapSize for Option<T> {
    fn heap(&self) -> usize {
        self.as_ref().map_or(0, HeapSize::heap)
    }
}

impl<T: HeapSize> HeapSize for Box<T> {
    fn heap(&self) -> usize {
        size_of::<T>() + T::heap(self)
    }
}

impl<A: HeapSize, B: HeapSize> HeapSize for (A, B) {
    fn heap(&self) -> usize {
        self.0.heap() + self.1.heap()
    }
}

impl<T: HeapSize> HeapSize for Vec<T> {
    fn heap(&self) -> usize {
        self.capacity() * size_of::<T>() + self.iter().map(HeapSize::heap).sum::<usize>()
    }
}

impl<T: HeapSize, const N: usize> HeapSize for [T; N] {
    fn heap(&self) -> usize {
        self.iter().map(HeapSize::heap).sum()
    }
}

/// An entry of a hash table has one byte of metadata.
impl<K: HeapSize, V: HeapSize> HeapSize for HashMap<K, V> {
    fn heap(&self) -> usize {
        let entries = self.iter().map(|(k, v)| k.heap() + v.heap());
        self.capacity() * (size_of::<(K, V)>() + 1) + entries.sum::<usize>()
    }
}

impl<K: HeapSize> HeapSize for HashSet<K> {
    fn heap(&self) -> usize {
        self.capacity() * (size_of::<K>() + 1) + self.iter().map(HeapSize::heap).sum::<usize>()
    }
}

/// Counted as if all nodes were full.
impl<K: HeapSize, V: HeapSize> HeapSize for BTreeMap<K, V> {
    fn heap(&self) -> usize {
        let entries = self.iter().map(|(k, v)| k.heap() + v.heap());
        self.len() * size_of::<(K, V)>() + entries.sum::<usize>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_those_allocated() {
        let mut numbers: Vec<f64> = Vec::with_capacity(8);
        assert_eq!(numbers.heap(), 64);
        numbers.push(1.0);
        assert_eq!(numbers.heap(), 64);
        assert_eq!(vec![vec![1u32; 4], Vec::new()].heap(), 2 * size_of::<Vec<u32>>() + 16);
        assert_eq!(Some(Box::new(7u64)).heap(), 8);
        let map: HashMap<u32, u32> = (0..100).map(|i| (i, i)).collect();
        assert!(map.heap() >= 900, "{}", map.heap());
    }
}
