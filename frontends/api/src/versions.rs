//! Versions of lists: which of two answers are the same to a reader. A version is a hash of the list without what
//! moves at every evaluation and every scrape (times and durations). It is the `ETag` of the list, and what
//! subscribers to a [topic](super::subscribe::topics) hear.

use super::dispatch::ApiRequest;
use super::response::{ApiError, ApiResult, ErrorType, success};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::IntoResponse;
use serde::Serialize;
use xxhash_rust::xxh3::Xxh3;

/// The bits that a number of JSON holds exactly in every reader.
const BITS: u32 = 53;

/// The version of a list.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct Version(u64);

impl Version {
    /// The version of what `list` is as JSON.
    pub(crate) fn of<T: Serialize>(list: &T) -> Result<Version, ApiError> {
        let mut hash = HashWriter(Xxh3::new());
        let written = serde_json::to_writer(&mut hash, list);
        written.map_err(|e| ApiError::new(ErrorType::Internal, e.to_string()))?;
        Ok(Version(hash.0.digest() >> (u64::BITS - BITS)))
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

/// Hashes what is written.
struct HashWriter(Xxh3);

impl std::io::Write for HashWriter {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_lists_have_one_version_that_every_reader_holds_exactly() {
        let version = |list: &[&str]| Version::of(&list).unwrap();
        assert_eq!(version(&["a", "b"]), version(&["a", "b"]));
        assert_ne!(version(&["a", "b"]), version(&["ab"]));
        assert!((0..100).all(|i| Version::of(&i).unwrap().number() < 1 << BITS));
    }
}
