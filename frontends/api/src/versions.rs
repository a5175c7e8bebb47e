//! Versions of lists (alerts, rules, targets, views): two answers with the same version say the
//! same.
//!
//! A version is a hash of the list without the times and durations that change at every evaluation
//! and every scrape. It is the `ETag` of an answer over HTTP, and the message that a subscriber to
//! a [topic](super::subscribe::topics) gets. What belongs to a version is said by the `Hash` of the
//! types in [`super::json_model`]; the list itself is serialised once, for the answer.

use super::dispatch::ApiRequest;
use super::response::{ApiResult, success};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::IntoResponse;
use serde::Serialize;
use std::hash::Hash;
use xxhash_rust::xxh3::Xxh3;

/// The bits that a number of JSON holds exactly in every reader.
const BITS: u32 = 53;

/// The version of a list.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct Version(u64);

impl Version {
    /// The version of a list: lists with the same hash have the same.
    pub(crate) fn new<T: Hash + ?Sized>(list: &T) -> Version {
        let mut hasher = Xxh3::new();
        list.hash(&mut hasher);
        Version(hasher.digest() >> (u64::BITS - BITS))
    }

    /// The version of a list that counts its changes.
    pub(crate) fn counted(changes: u64) -> Version {
        Version(changes & ((1 << BITS) - 1))
    }

    /// The version as a number of JSON.
    pub(crate) fn number(self) -> u64 {
        self.0
    }

    /// The answer with `list`, or 304 if the client has this version.
    ///
    /// The tag is weak: the bytes of two answers of one version may differ in times.
    pub(crate) fn answer<T: Serialize>(self, call: &ApiRequest, list: &T) -> ApiResult {
        let tag = format!("\"{}\"", self.0);
        let is_known = call.header(header::IF_NONE_MATCH).contains(&tag);
        let mut response = if is_known { StatusCode::NOT_MODIFIED.into_response() } else { success(list)? };
        if let Ok(tag) = HeaderValue::from_str(&format!("W/{tag}")) {
            response.headers_mut().insert(header::ETAG, tag);
        }
        Ok(response)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_lists_have_one_version_that_every_reader_holds_exactly() {
        let version = |list: &[&str]| Version::new(list);
        assert_eq!(version(&["a", "b"]), version(&["a", "b"]));
        assert_ne!(version(&["a", "b"]), version(&["ab"]));
        assert!((0..100).all(|i| Version::new(&i).number() < 1 << BITS));
    }
}
