//! The object store (S3 and compatible ones) as a parameter, like [`crate::disk`], so that tests
//! can make it fail, kill it and remove it. The real one is in the crate `connectors`; what is kept
//! there is in [`crate::block`] (`cold/`).

use crate::metrics::{Counter, Gauge, Metrics};
use std::io;
use std::ops::Range;
use std::sync::Arc;

/// Returns `len` bytes from an offset on of the content to be uploaded.
pub type UploadReader<'a> = dyn Fn(u64, usize) -> io::Result<Vec<u8>> + Sync + 'a;

/// The operations that the store needs. Names contain `/` and are relative to a prefix that is the
/// store's own.
///
/// # Contract
/// 1. Every call returns, at the latest with an error after a timeout, and may block until then;
///    housekeeping has one thread for all of them. Callable from any thread.
/// 2. [`ObjectStorage::put`] is all or nothing: `meta.json` makes a block of the objects beside it,
///    so half of one would be a damaged block.
/// 3. [`ObjectStorage::create`] never replaces: that two data directories do not share a prefix
///    depends on it.
/// 4. [`ObjectStorage::get`] returns exactly the bytes of `range`, which the caller keeps within
///    the object: a shorter answer is taken for damage, a longer one fails a `debug_assert!` in
///    [`MeteredObjectStore`]. [`ObjectStorage::get_many`] returns one result for each range, in
///    order (`debug_assert!` there).
/// 5. An object that is not there is [`io::ErrorKind::NotFound`]; no failure of the network or of
///    the service has this kind, nor [`io::ErrorKind::AlreadyExists`]. A missing object is not
///    asked for again, a failed request is.
/// 6. [`ObjectStorage::list`] is complete, whatever the page size of the service, sees everything
///    that this client wrote before, and returns only names below `folder` (`debug_assert!` in
///    [`MeteredObjectStore`]). A block that is missing in it is reported as lost.
///
/// *Checked:* by `connectors/tests` against a server of the S3 protocol, and by
/// `storage/tests/cold_blocks.rs` with an object store that fails at every step.
pub trait ObjectStorage: Send + Sync {
    /// The address, for messages.
    fn address(&self) -> &str;
    /// Creates or replaces the object `name` of `bytes` bytes; readers see it completely or not at
    /// all.
    fn put(&self, name: &str, bytes: u64, content: &UploadReader) -> io::Result<()>;
    /// Creates the object `name`. The error is [`io::ErrorKind::AlreadyExists`] if there is one.
    fn create(&self, name: &str, content: &[u8]) -> io::Result<()>;
    /// The bytes of an object in `range`, which must be within it. The error is
    /// [`io::ErrorKind::NotFound`] if there is no such object.
    fn get(&self, name: &str, range: Range<u64>) -> io::Result<Vec<u8>>;
    /// As [`ObjectStorage::get`] for several non-empty ranges; in parallel if the implementation
    /// can.
    fn get_many(&self, wanted: &[(String, Range<u64>)]) -> Vec<io::Result<Vec<u8>>> {
        wanted.iter().map(|(name, range)| self.get(name, range.clone())).collect()
    }
    /// Length of an object, bytes; `None` if there is none.
    fn len_of(&self, name: &str) -> io::Result<Option<u64>>;
    /// Names and lengths of all objects whose names begin with `folder/`; of all objects if
    /// `folder` is empty.
    fn list(&self, folder: &str) -> io::Result<Vec<(String, u64)>>;
    /// Deletes an object. It is not an error if there is none.
    fn delete(&self, name: &str) -> io::Result<()>;
}

/// Wraps an object store and counts its requests, bytes and failures.
pub struct MeteredObjectStore {
    objects: Arc<dyn ObjectStorage>,
    metrics: Metrics,
    up: Arc<Gauge>,
    read: Arc<Counter>,
    written: Arc<Counter>,
}

impl MeteredObjectStore {
    /// Counts the requests to `objects`.
    pub fn new(objects: Arc<dyn ObjectStorage>, metrics: &Metrics) -> MeteredObjectStore {
        let bytes = |direction| {
            let help = "Bytes of objects that went to the object store or came from it.";
            metrics.counter("perennial_object_store_bytes_total", help, &[("direction", direction)])
        };
        let help = "Whether the last request to the object store succeeded.";
        MeteredObjectStore {
            up: metrics.gauge("perennial_object_store_up", help, &[]),
            read: bytes("read"),
            written: bytes("written"),
            metrics: metrics.clone(),
            objects,
        }
    }

    /// Whether the last request succeeded.
    pub fn is_up(&self) -> bool {
        self.up.get() > 0.0
    }

    fn ask<T>(
        &self,
        operation: &str,
        ask: impl FnOnce(&dyn ObjectStorage) -> io::Result<T>,
    ) -> io::Result<T> {
        self.count_requests(operation, 1);
        self.answered(operation, ask(self.objects.as_ref()))
    }

    fn count_requests(&self, operation: &str, requests: u64) {
        let help = "Requests to the object store.";
        let labels = [("operation", operation)];
        self.metrics.counter("perennial_object_store_requests_total", help, &labels).add(requests);
    }

    fn answered<T>(&self, operation: &str, answer: io::Result<T>) -> io::Result<T> {
        // `AlreadyExists` and `NotFound` are answers, not failures.
        let answered = answer
            .as_ref()
            .err()
            .is_none_or(|e| matches!(e.kind(), io::ErrorKind::AlreadyExists | io::ErrorKind::NotFound));
        self.up.set(f64::from(u8::from(answered)));
        let help = "Requests to the object store that failed.";
        let labels = [("operation", operation)];
        self.metrics.counter("perennial_object_store_errors_total", help, &labels).add(u64::from(!answered));
        answer
    }
}

impl ObjectStorage for MeteredObjectStore {
    fn address(&self) -> &str {
        self.objects.address()
    }
    fn put(&self, name: &str, bytes: u64, content: &UploadReader) -> io::Result<()> {
        self.ask("put", |objects| objects.put(name, bytes, content))?;
        self.written.add(bytes);
        Ok(())
    }
    fn create(&self, name: &str, content: &[u8]) -> io::Result<()> {
        self.ask("put", |objects| objects.create(name, content))?;
        self.written.add(content.len() as u64);
        Ok(())
    }
    fn get(&self, name: &str, range: Range<u64>) -> io::Result<Vec<u8>> {
        let wanted = range.end.saturating_sub(range.start);
        // Counted only after it succeeded: bytes of a failed request are not known.
        let bytes = self.ask("get", |objects| objects.get(name, range))?;
        debug_assert!(bytes.len() as u64 <= wanted, "a clause of ObjectStorage: {name}");
        self.read.add(bytes.len() as u64);
        Ok(bytes)
    }
    fn get_many(&self, wanted: &[(String, Range<u64>)]) -> Vec<io::Result<Vec<u8>>> {
        self.count_requests("get", wanted.len() as u64);
        let answers = self.objects.get_many(wanted);
        debug_assert_eq!(answers.len(), wanted.len(), "a clause of ObjectStorage");
        let answers = answers.into_iter().map(|answer| self.answered("get", answer));
        answers
            .inspect(|answer| self.read.add(answer.as_ref().map_or(0, |bytes| bytes.len() as u64)))
            .collect()
    }
    fn len_of(&self, name: &str) -> io::Result<Option<u64>> {
        self.ask("head", |objects| objects.len_of(name))
    }
    fn list(&self, folder: &str) -> io::Result<Vec<(String, u64)>> {
        let objects = self.ask("list", |objects| objects.list(folder))?;
        let is_below = |name: &str| folder.is_empty() || name.starts_with(&format!("{folder}/"));
        debug_assert!(objects.iter().all(|(name, _)| is_below(name)), "a clause of ObjectStorage: {folder}");
        Ok(objects)
    }
    fn delete(&self, name: &str) -> io::Result<()> {
        self.ask("delete", |objects| objects.delete(name))
    }
}
