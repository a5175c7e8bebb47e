//! Sorting that checks the limits of the query while it works: runs of bounded length are sorted,
//! then merged in pairs. Used where a query may sort millions of rows.

use super::EvalError;
use super::evaluation_guard::EvaluationGuard;
use crate::limits::SORT_RUN;
use std::cmp::Ordering;

/// Sorts `items`; equal ones keep their order. Up to [`SORT_RUN`] items are sorted at once.
pub(crate) fn sort_paced<T>(
    mut items: Vec<T>,
    mut order: impl FnMut(&T, &T) -> Ordering,
    eval_guard: &mut EvaluationGuard,
) -> Result<Vec<T>, EvalError> {
    if items.len() <= SORT_RUN {
        eval_guard.rows(items.len())?;
        items.sort_by(order);
        return Ok(items);
    }
    let mut runs: Vec<Vec<T>> = Vec::new();
    let mut rest = items.into_iter();
    loop {
        let mut run: Vec<T> = rest.by_ref().take(SORT_RUN).collect();
        if run.is_empty() {
            break;
        }
        eval_guard.rows(run.len())?;
        run.sort_by(&mut order);
        runs.push(run);
    }
    while runs.len() > 1 {
        let mut merged = Vec::with_capacity(runs.len().div_ceil(2));
        let mut pairs = runs.into_iter();
        while let Some(left) = pairs.next() {
            merged.push(match pairs.next() {
                Some(right) => merge(left, right, &mut order, eval_guard)?,
                None => left,
            });
        }
        runs = merged;
    }
    Ok(runs.pop().unwrap_or_default())
}

/// Merges two sorted runs.
fn merge<T>(
    left: Vec<T>,
    right: Vec<T>,
    order: &mut impl FnMut(&T, &T) -> Ordering,
    eval_guard: &mut EvaluationGuard,
) -> Result<Vec<T>, EvalError> {
    let mut merged = Vec::with_capacity(left.len() + right.len());
    let mut right = right.into_iter().peekable();
    for item in left {
        eval_guard.row()?;
        while let Some(smaller) = right.next_if(|other| order(other, &item).is_lt()) {
            eval_guard.row()?;
            merged.push(smaller);
        }
        merged.push(item);
    }
    merged.extend(right);
    Ok(merged)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lists_are_sorted_as_by_the_standard_library() {
        for len in [0, 1, SORT_RUN, SORT_RUN + 1, 5 * SORT_RUN + 7] {
            // With few distinct keys many items are equal; the number shows whether those kept
            // their order.
            let items: Vec<(u32, usize)> =
                (0..len).map(|i| ((i as u32).wrapping_mul(2_654_435_761) >> 22, i)).collect();
            let mut expected = items.clone();
            expected.sort_by_key(|(key, _)| *key);
            let sorted = sort_paced(items, |a, b| a.0.cmp(&b.0), &mut EvaluationGuard::free());
            assert_eq!(sorted, Ok(expected), "{len}");
        }
    }
}
