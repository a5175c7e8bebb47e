//! Tests that doubling the labels of a series, or the labels that a query lists, costs at most 2.6
//! times as much.

use super::super::grouping::{MatchNames, group_key};
use crate::functions::labels::absent_labels;
use crate::plan::{Grouping, VectorMatching};
use storage::model::{Labels, Matcher};
use testing::assert_proportional;

const LABELS: usize = 3_000;

fn names(n: usize) -> Vec<String> {
    let mut names: Vec<String> = (0..n).map(|i| format!("label_{i}")).collect();
    names.sort_unstable();
    names
}

/// A series with these labels and as many others.
fn series(names: &[String]) -> Labels {
    let others = (0..names.len()).map(|i| format!("other_{i}"));
    Labels::from_pairs(names.iter().cloned().chain(others).map(|name| (name, "v")))
}

#[test]
fn keys_of_groups_and_matches() {
    let labels = |n: usize| (names(n), series(&names(n)));
    for yes in [true, false] {
        assert_proportional("a group", LABELS, labels, |(names, series)| {
            group_key(&Grouping { without: yes, labels: names.clone() }, series)
        });
        assert_proportional("a match", LABELS, labels, |(names, series)| {
            MatchNames::from_matching(&VectorMatching {
                on: yes,
                labels: names.clone(),
                ..VectorMatching::default()
            })
            .key(series)
        });
    }
}

#[test]
fn labels_that_a_series_is_given() {
    let labels = |n: usize| (names(n), series(&names(n)), Labels::from_pairs([("a", "b")]));
    assert_proportional("group_left", LABELS, labels, |(names, many, few)| {
        let names = MatchNames::from_matching(&VectorMatching {
            include: names.clone(),
            ..VectorMatching::default()
        });
        [names.with_included(many, few), names.with_included(few, many)]
    });
}

#[test]
fn labels_of_what_is_absent() {
    let matchers = |n: usize| {
        let once = names(n).into_iter().map(|name| Matcher::equal(name, "v"));
        let twice = names(n / 2).into_iter().map(|name| Matcher::equal(name, "w"));
        once.chain(twice).collect::<Vec<Matcher>>()
    };
    assert_proportional("absent", LABELS, matchers, |matchers| absent_labels(matchers));
}
