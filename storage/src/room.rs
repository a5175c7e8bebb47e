//! Vectors that live long and grow slowly: doubling would keep as much in reserve as is there.

/// Makes room for `more` elements, and for a sixteenth of what is there.
pub fn make_room<T>(vec: &mut Vec<T>, more: usize) {
    if vec.capacity() - vec.len() < more {
        vec.reserve_exact(more.max(vec.len() / 16));
    }
}
