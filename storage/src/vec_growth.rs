//! Growth of vectors that live long and get few new elements. `Vec` doubles its capacity; these
//! functions reserve only a little more than is used.
//!
//! Why not `shrink_to_fit` afterwards: mimalloc does not move an allocation while at least half of
//! it is used, so the memory would not come back.

/// Reserves space for `more` elements, and at least for 1/16 of the current ones.
pub fn reserve_slack<T>(vec: &mut Vec<T>, more: usize) {
    if vec.capacity() - vec.len() < more {
        vec.reserve_exact(more.max(vec.len() / 16));
    }
}

/// Copies the elements to an allocation of exactly their size.
pub fn boxed_exact<T: Copy>(elements: &[T]) -> Box<[T]> {
    Box::from(elements)
}
