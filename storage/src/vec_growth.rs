//! Vectors that live long: doubling keeps as much in reserve as is there, and so does shrinking.
//! mimalloc leaves a vector where it is as long as half of its place is in use.

/// Makes room for `more` elements, and for a sixteenth of what is there.
pub fn reserve_slack<T>(vec: &mut Vec<T>, more: usize) {
    if vec.capacity() - vec.len() < more {
        vec.reserve_exact(more.max(vec.len() / 16));
    }
}

/// The elements in a place of their own size.
pub fn boxed_exact<T: Copy>(elements: &[T]) -> Box<[T]> {
    Box::from(elements)
}
