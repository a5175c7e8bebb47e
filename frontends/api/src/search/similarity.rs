//! How much a name resembles the typed text, from 0 to 1, by the two algorithms of Prometheus'
//! search API.
//!
//! *Subsequence*: the name contains the term's characters in order, with anything between;
//! consecutive characters score their number squared, gaps cost. *Jaro-Winkler*: the name contains
//! the term, or, above a threshold, nearly the same characters at nearly the same positions.

use super::super::limits::SEARCH_LETTERS;
use std::sync::Arc;

/// The algorithm.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// The term's characters in order, with gaps.
    Subsequence,
    /// The term as a part of the name, or approximately.
    JaroWinkler,
}

/// What names must resemble: any of the terms.
#[derive(Clone, Debug)]
pub struct SearchFilter {
    terms: Arc<[Term]>,
    algorithm: Algorithm,
    threshold: f64,
    case_sensitive: bool,
}

#[derive(Debug)]
struct Term {
    text: String,
    chars: Vec<char>,
}

impl SearchFilter {
    /// A filter; `threshold` is the lowest score that is accepted.
    pub fn new(terms: &[&str], algorithm: Algorithm, threshold: f64, case_sensitive: bool) -> SearchFilter {
        let term = |text: &&str| {
            let text = if case_sensitive { (*text).to_owned() } else { text.to_lowercase() };
            Term { chars: text.chars().collect(), text }
        };
        SearchFilter { terms: terms.iter().map(term).collect(), algorithm, threshold, case_sensitive }
    }

    /// Whether the filter accepts everything.
    pub fn is_open(&self) -> bool {
        self.terms.is_empty()
    }

    /// The score of a name; `None`: it is not accepted.
    pub fn score(&self, name: &str) -> Option<f64> {
        if self.is_open() {
            return Some(1.0);
        }
        let lower;
        let name = if self.case_sensitive {
            name
        } else {
            lower = name.to_lowercase();
            lower.as_str()
        };
        self.terms.iter().filter_map(|term| self.term_score(term, name)).reduce(f64::max)
    }

    fn term_score(&self, term: &Term, name: &str) -> Option<f64> {
        if name.starts_with(&term.text) {
            return Some(1.0);
        }
        let score = match self.algorithm {
            Algorithm::Subsequence => on_letters(term, name, subsequence::<u8>, subsequence::<char>),
            Algorithm::JaroWinkler if name.contains(&term.text) => return Some(0.9),
            Algorithm::JaroWinkler if self.threshold == 0.0 => 0.0,
            Algorithm::JaroWinkler => on_letters(term, name, jaro_winkler::<u8>, jaro_winkler::<char>),
        };
        (score > 0.0 && score >= self.threshold).then_some(score)
    }

    /// Whether a text contains all words of a term, ignoring case.
    pub fn in_text(&self, text: &str) -> bool {
        let text = text.to_lowercase();
        let has = |term: &Term| {
            let mut words = term.text.split_whitespace().peekable();
            words.peek().is_some() && words.all(|word| text.contains(&word.to_lowercase()))
        };
        self.terms.iter().any(has)
    }
}

/// Compares bytes if both texts are ASCII, otherwise characters; only the first [`SEARCH_LETTERS`]
/// of both, because the work grows with their product.
fn on_letters(
    term: &Term,
    name: &str,
    bytes: impl Fn(&[u8], &[u8]) -> f64,
    chars: impl Fn(&[char], &[char]) -> f64,
) -> f64 {
    match (term.text.is_ascii(), name.is_ascii()) {
        (true, true) => bytes(beginning(term.text.as_bytes()), beginning(name.as_bytes())),
        _ => chars(beginning(&term.chars), &name.chars().take(SEARCH_LETTERS).collect::<Vec<char>>()),
    }
}

fn beginning<T>(letters: &[T]) -> &[T] {
    &letters[..letters.len().min(SEARCH_LETTERS)]
}

/// The best score over all start positions. From each start, every character is matched at its
/// first occurrence.
fn subsequence<T: PartialEq>(term: &[T], name: &[T]) -> f64 {
    let Some(first) = term.first() else { return 1.0 };
    let starts = name.iter().enumerate().filter(|(_, letter)| *letter == first).map(|(at, _)| at);
    // If the characters do not fit after one start position, they do not fit after a later one.
    let scores = starts.map_while(|start| subsequence_from(term, name, start));
    let best = scores.reduce(f64::max).unwrap_or(0.0).max(0.0);
    best / (term.len() * term.len()) as f64
}

/// The squared lengths of the runs, minus the gaps as fractions of the name's length; the gap at
/// the end counts half.
fn subsequence_from<T: PartialEq>(term: &[T], name: &[T], start: usize) -> Option<f64> {
    let mut at = start;
    let mut taken = 0;
    let mut score = 0.0;
    let mut gaps = start as f64;
    while taken < term.len() {
        let gap = name[at..].iter().position(|letter| *letter == term[taken])?;
        let run = name[at + gap..].iter().zip(&term[taken..]).take_while(|(a, b)| a == b).count();
        gaps += gap as f64;
        score += (run * run) as f64;
        at = at + gap + run;
        taken += run;
    }
    gaps += (name.len() - at) as f64 / 2.0;
    Some(score - gaps / name.len() as f64)
}

fn jaro_winkler<T: PartialEq>(a: &[T], b: &[T]) -> f64 {
    let (short, long) = if a.len() <= b.len() { (a, b) } else { (b, a) };
    if short.is_empty() {
        return 0.0;
    }
    let reach = (long.len() / 2).saturating_sub(1);
    let mut met = vec![false; long.len()];
    // The characters of the shorter text that have an equal one nearby in the longer text.
    let mut partnered = Vec::with_capacity(short.len());
    for (at, letter) in short.iter().enumerate() {
        let near = at.saturating_sub(reach)..(at + reach + 1).min(long.len());
        if let Some(partner) = near.into_iter().find(|j| !met[*j] && long[*j] == *letter) {
            met[partner] = true;
            partnered.push(letter);
        }
    }
    if partnered.is_empty() {
        return 0.0;
    }
    let partners = long.iter().zip(&met).filter(|(_, met)| **met).map(|(letter, _)| letter);
    let swapped = partnered.iter().zip(partners).filter(|(a, b)| **a != *b).count() as f64 / 2.0;
    let matches = partnered.len() as f64;
    let parts = [matches / short.len() as f64, matches / long.len() as f64, (matches - swapped) / matches];
    let jaro = parts.iter().sum::<f64>() / 3.0;
    let prefix = short.iter().zip(long).take(4).take_while(|(a, b)| a == b).count() as f64;
    jaro + prefix * 0.1 * (1.0 - jaro)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use testing::assert_proportional;

    #[test]
    fn twice_the_letters_cost_twice_as_much() {
        // Every character of the name is a start of the term, and none completes it.
        let names = |n: usize| ("a".repeat(n) + "b", format!("{}cb", "a".repeat(n / 2)));
        let others = |n: usize| ("é".repeat(n) + "b", format!("{}cb", "é".repeat(n / 2)));
        for algorithm in [Algorithm::Subsequence, Algorithm::JaroWinkler] {
            for case_sensitive in [true, false] {
                let what = format!("{algorithm:?}, {case_sensitive}");
                let score = |(name, term): &(String, String)| {
                    let filter = SearchFilter::new(&[term, "ab"], algorithm, 0.5, case_sensitive);
                    (filter.score(name), filter.in_text(name))
                };
                assert_proportional(&what, 20_000, names, score);
                assert_proportional(&format!("{what}, of two bytes"), 20_000, others, score);
            }
        }
    }

    #[test]
    fn what_is_behind_the_first_letters_counts_in_whole_parts_only() {
        let long = "x".repeat(SEARCH_LETTERS) + "_seconds";
        let score = |term: &str, algorithm| SearchFilter::new(&[term], algorithm, 0.5, true).score(&long);
        assert_eq!(score("seconds", Algorithm::JaroWinkler), Some(0.9));
        assert_eq!(score(&long, Algorithm::Subsequence), Some(1.0));
        assert_eq!(score("scnds", Algorithm::Subsequence), None);
    }

    fn of_chars(term: &str, name: &str, score: fn(&[char], &[char]) -> f64) -> f64 {
        score(&term.chars().collect::<Vec<_>>(), &name.chars().collect::<Vec<_>>())
    }

    #[test]
    fn runs_count_and_gaps_cost() {
        for (term, name, want) in [
            ("", "anything", 1.0),
            ("abc", "", 0.0),
            ("same", "same", 1.0),
            // One run at the beginning; 13 of 15 characters follow, which count half.
            ("my", "my awesome text", (4.0 - 13.0 / 30.0) / 4.0),
            ("tex", "my awesome text", (9.0 - 11.0 / 15.0 - 1.0 / 30.0) / 9.0),
            // "m" and "e" of "awesome", then "t": the best of three start positions.
            ("met", "my awesome text", (5.0 - 9.0 / 15.0 - 3.0 / 30.0) / 9.0),
            ("bac", "babac", (9.0 - 2.0 / 5.0) / 9.0),
            ("abcd", "abc", 0.0),
            ("xyz", "abc", 0.0),
            ("üé", "éàü", 0.0),
            ("aé", "aéb", (4.0 - 1.0 / 6.0) / 4.0),
            // Matched at the first occurrence, not where it would score most.
            ("abaa", "abbaa", (4.0 + 4.0 - 1.0 / 5.0) / 16.0),
        ] {
            assert!((of_chars(term, name, subsequence) - want).abs() < 1e-12, "{term:?} in {name:?}");
        }
    }

    #[test]
    fn jaro_winkler_as_in_the_books() {
        for (a, b, want) in [
            ("martha", "marhta", 0.961_111_111),
            ("dixon", "dicksonx", 0.813_333_333),
            ("dwayne", "duane", 0.84),
            ("abc", "xyz", 0.0),
        ] {
            assert!((of_chars(a, b, jaro_winkler) - want).abs() < 1e-9, "{a} {b}");
            assert!((of_chars(b, a, jaro_winkler) - want).abs() < 1e-9, "{b} {a}");
        }
    }

    #[test]
    fn what_is_taken() {
        let filter =
            |terms: &[&str], algorithm, threshold| SearchFilter::new(terms, algorithm, threshold, false);
        let subsequence = filter(&["HReq"], Algorithm::Subsequence, 0.0);
        assert_eq!(subsequence.score("hreq_total"), Some(1.0), "a beginning");
        assert!(subsequence.score("http_requests").is_some_and(|s| s > 0.5 && s < 1.0));
        assert_eq!(subsequence.score("requests_h"), None);
        let near = filter(&["requets"], Algorithm::JaroWinkler, 0.8);
        assert!(near.score("requests").is_some_and(|s| s > 0.9));
        assert_eq!(near.score("up"), None);
        let part = filter(&["quest", "up"], Algorithm::JaroWinkler, 0.0);
        assert_eq!((part.score("requests"), part.score("up"), part.score("x")), (Some(0.9), Some(1.0), None));
        assert!(part.in_text("What is UP?") && !part.in_text("nothing"));
    }

    proptest! {
        #[test]
        fn scores_are_between_nothing_and_all(
            term in "[abc_é]{0,6}",
            name in "[abc_é]{0,12}",
            threshold in 0u8..=100,
        ) {
            for score in [of_chars(&term, &name, subsequence), of_chars(&term, &name, jaro_winkler)] {
                prop_assert!((0.0..=1.0 + 1e-12).contains(&score), "{}", score);
            }
            for algorithm in [Algorithm::Subsequence, Algorithm::JaroWinkler] {
                let filter = SearchFilter::new(&[&term], algorithm, f64::from(threshold) / 100.0, true);
                if name.starts_with(&term) {
                    prop_assert_eq!(filter.score(&name), Some(1.0));
                }
                // Bytes and characters give the same score.
                let a = term.replace('é', "e");
                let b = name.replace('é', "e");
                let bytes = SearchFilter::new(&[&a], algorithm, 0.5, true).score(&b);
                let chars = SearchFilter::new(&[&a.replace('e', "é")], algorithm, 0.5, true).score(&b.replace('e', "é"));
                prop_assert_eq!(bytes, chars);
            }
        }
    }
}
