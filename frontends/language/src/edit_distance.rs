//! How many letters two words differ by, for errors that propose a known word in place of an
//! unknown one ("did you mean …?").

use crate::limits::EDIT_DISTANCE_CHARACTERS;

/// Levenshtein's distance: how many characters must be inserted, deleted or replaced to get from
/// `a` to `b`. Only the first [`EDIT_DISTANCE_CHARACTERS`] of each are compared.
///
/// ```
/// assert_eq!(language::edit_distance("irate", "rate"), 1);
/// ```
pub fn edit_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().take(EDIT_DISTANCE_CHARACTERS).collect();
    // The distances from what was read of `a` to each beginning of `b`.
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, of_a) in a.chars().take(EDIT_DISTANCE_CHARACTERS).enumerate() {
        // One row of the table is enough: `row[j + 1]` is still that of the row above, and
        // `diagonal` is the one to the left of it.
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, of_b) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(of_a != *of_b);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edits_are_counted_in_characters() {
        let cases = [("", "", 0), ("", "abc", 3), ("rate", "irate", 1), ("corect", "correct", 1)];
        let others = [("sitting", "kitten", 3), ("größe", "grosse", 3), ("ab", "ba", 2)];
        for (a, b, expected) in cases.into_iter().chain(others) {
            assert_eq!((edit_distance(a, b), edit_distance(b, a)), (expected, expected), "{a} {b}");
        }
        let long = "x".repeat(10 * EDIT_DISTANCE_CHARACTERS);
        assert_eq!(edit_distance(&long, ""), EDIT_DISTANCE_CHARACTERS);
    }
}
