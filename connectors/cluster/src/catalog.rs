//! The catalog of a cluster, which is the lists of all series, label names, label values, newest
//! samples and exemplars: requests them from each process and merges them. [`ClusterCatalog`] asks,
//! [`answer`] answers in the other process. A list is sent in pages.

use super::handshake::ConnectionPurpose;
use super::peer_client::{PeerCall, PeerClient};
use crate::limits::CATALOG_PAGE_ENTRIES;
use engine::limits::{MESSAGE_BYTES, WAIT_DURABLE};
use engine::memory::{MemoryPool, MemoryReservation};
use engine::query::guard::QueryGuard;
use engine::query::peers::PeerChannel;
use engine::query::{QueryError, QueryOptions};
use engine::query::{SeriesCatalog, count_labels, count_sample};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;
use storage::codec;
use storage::exemplars::{Exemplar, SeriesExemplars};
use storage::model::{Labels, Matcher, TimeMs};
use storage::store::{HeadStats, NewestSample, Store};

/// A request for the series that satisfy any of the matcher sets in a time range.
#[derive(Serialize, Deserialize)]
struct CatalogRequest {
    kind: CatalogRequestKind,
    sets: Vec<Vec<Matcher>>,
    from: TimeMs,
    to: TimeMs,
}

#[derive(Serialize, Deserialize)]
enum CatalogRequestKind {
    Series,
    LabelNames,
    LabelValues(String),
    Newest,
    Exemplars,
}

impl CatalogRequest {
    fn new(kind: CatalogRequestKind, sets: &[Vec<Matcher>], from: TimeMs, to: TimeMs) -> CatalogRequest {
        CatalogRequest { kind, sets: sets.to_vec(), from, to }
    }
}

/// A page of a list; an empty page ends the list.
type CatalogPage<T> = Result<Vec<T>, QueryError>;
/// A series with its exemplars, as sent.
type SeriesExemplarsMessage = (Labels, Vec<(Labels, f64, TimeMs)>);

/// The catalog of the series of all processes.
pub struct ClusterCatalog {
    /// The local store.
    pub store: Arc<Store>,
    /// The client for requests to the other processes.
    pub client: Arc<PeerClient>,
    /// The timeout of requests to the other processes.
    pub timeout: Duration,
}

impl ClusterCatalog {
    /// Appends the lists of the other processes to `own`.
    fn all<T: DeserializeOwned>(
        &self,
        request: &CatalogRequest,
        own: impl FnOnce() -> Result<Vec<T>, QueryError>,
    ) -> Result<Vec<T>, QueryError> {
        self.all_counted(request, own, |_| Ok(()))
    }

    /// As [`ClusterCatalog::all`]; `count` accounts for the memory of what the others send.
    fn all_counted<T: DeserializeOwned>(
        &self,
        request: &CatalogRequest,
        own: impl FnOnce() -> Result<Vec<T>, QueryError>,
        count: impl Fn(&[T]) -> Result<(), QueryError>,
    ) -> Result<Vec<T>, QueryError> {
        let guard = QueryGuard::new(&QueryOptions { timeout: self.timeout, ..QueryOptions::default() });
        let request =
            codec::encode(request).map_err(|e| QueryError::BadData(format!("too many matchers: {e}")))?;
        let mut calls = self.client.call_all(ConnectionPurpose::Catalog, &guard)?;
        // Sent to all before any answer is read: the processes work at the same time, and so does
        // this one.
        for (_, call) in &mut calls {
            call.send(&request, &guard).and_then(|()| call.flush(&guard))?;
        }
        // Meanwhile the others work.
        let mut all = own()?;
        for (_, call) in &mut calls {
            loop {
                let page = receive_page(call, &guard)?;
                // Only the empty page says that the list is whole; an end of the connection is an
                // error, never a shorter answer.
                if page.is_empty() {
                    break;
                }
                count(&page)?;
                all.extend(page);
            }
        }
        Ok(all)
    }
}

/// Receives the next page from a process.
fn receive_page<T: DeserializeOwned>(call: &mut PeerCall, guard: &QueryGuard) -> Result<Vec<T>, QueryError> {
    let page = call.receive(guard)?;
    let unreadable = |e: codec::CodecError| QueryError::Internal(format!("{}: {e}", call.name()));
    let page: CatalogPage<T> = codec::decode_within(MESSAGE_BYTES, &page).map_err(unreadable)?;
    page.map_err(|error| error.with_peer_name(&call.name()))
}

fn sorted<T: Ord>(mut list: Vec<T>) -> Vec<T> {
    list.sort_unstable();
    list.dedup();
    list
}

impl SeriesCatalog for ClusterCatalog {
    fn series(
        &self,
        sets: &[Vec<Matcher>],
        from: TimeMs,
        to: TimeMs,
        memory: &MemoryReservation,
    ) -> Result<Vec<Labels>, QueryError> {
        let own = || SeriesCatalog::series(&*self.store, sets, from, to, memory);
        let others = |page: &[Labels]| page.iter().try_for_each(|labels| count_labels(memory, labels));
        let request = CatalogRequest::new(CatalogRequestKind::Series, sets, from, to);
        self.all_counted(&request, own, others).map(sorted)
    }

    fn label_names(
        &self,
        sets: &[Vec<Matcher>],
        from: TimeMs,
        to: TimeMs,
    ) -> Result<Vec<String>, QueryError> {
        let own = || SeriesCatalog::label_names(&*self.store, sets, from, to);
        let request = CatalogRequest::new(CatalogRequestKind::LabelNames, sets, from, to);
        self.all(&request, own).map(sorted)
    }

    fn label_values(
        &self,
        name: &str,
        sets: &[Vec<Matcher>],
        from: TimeMs,
        to: TimeMs,
    ) -> Result<Vec<String>, QueryError> {
        let own = || SeriesCatalog::label_values(&*self.store, name, sets, from, to);
        let kind = CatalogRequestKind::LabelValues(name.to_owned());
        self.all(&CatalogRequest::new(kind, sets, from, to), own).map(sorted)
    }

    fn newest(
        &self,
        sets: &[Vec<Matcher>],
        from: TimeMs,
        to: TimeMs,
        memory: &MemoryReservation,
    ) -> Result<Vec<NewestSample>, QueryError> {
        let own = || SeriesCatalog::newest(&*self.store, sets, from, to, memory);
        let others = |page: &[NewestSample]| page.iter().try_for_each(|sample| count_sample(memory, sample));
        let request = CatalogRequest::new(CatalogRequestKind::Newest, sets, from, to);
        let mut all = self.all_counted(&request, own, others)?;
        // A series that several processes have is listed once, with its newest entry.
        all.sort_by(|a, b| (&a.labels, b.t).cmp(&(&b.labels, a.t)));
        all.dedup_by(|a, b| a.labels == b.labels);
        Ok(all)
    }

    fn exemplars(
        &self,
        sets: &[Vec<Matcher>],
        from: TimeMs,
        to: TimeMs,
    ) -> Result<Vec<SeriesExemplars>, QueryError> {
        let own = || exemplars(&self.store, sets, from, to);
        let mut all: BTreeMap<Labels, Vec<(Labels, f64, TimeMs)>> = BTreeMap::new();
        let request = CatalogRequest::new(CatalogRequestKind::Exemplars, sets, from, to);
        for (labels, found) in self.all(&request, own)? {
            all.entry(labels).or_default().extend(found);
        }
        let exemplar = |(labels, v, t)| Exemplar { labels, t, v };
        let series = |(labels, mut found): SeriesExemplarsMessage| {
            // Each process has them in order; together they need not be.
            found.sort_by_key(|(.., t)| *t);
            SeriesExemplars { labels, exemplars: found.into_iter().map(exemplar).collect() }
        };
        Ok(all.into_iter().map(series).collect())
    }

    fn stats(&self, limit: usize) -> HeadStats {
        SeriesCatalog::stats(&*self.store, limit)
    }

    fn incomplete_reason(&self) -> Option<String> {
        [SeriesCatalog::incomplete_reason(&*self.store), self.client.incomplete_reason()]
            .into_iter()
            .flatten()
            .reduce(|one, other| format!("{one}; {other}"))
    }
}

/// The exemplars in the form in which they are sent.
fn exemplars(
    store: &Store,
    sets: &[Vec<Matcher>],
    from: TimeMs,
    to: TimeMs,
) -> Result<Vec<SeriesExemplarsMessage>, QueryError> {
    let exemplar = |e: Exemplar| (e.labels, e.v, e.t);
    let series = |s: SeriesExemplars| (s.labels, s.exemplars.into_iter().map(exemplar).collect());
    Ok(SeriesCatalog::exemplars(store, sets, from, to)?.into_iter().map(series).collect())
}

/// Receives a request on `call` and answers it from `store`.
pub(crate) fn answer(
    store: &Store,
    call: &mut dyn PeerChannel,
    cancel: Arc<AtomicBool>,
) -> Result<(), QueryError> {
    let guard = QueryGuard::new(&QueryOptions { cancel, ..QueryOptions::default() });
    let request = call.receive(&guard)?;
    let request: CatalogRequest =
        codec::decode(&request).map_err(|e| QueryError::Internal(format!("{}: {e}", call.name())))?;
    let CatalogRequest { kind, sets, from, to } = request;
    // The requesting process counts the memory of what it receives.
    let uncounted = MemoryPool::for_queries(usize::MAX).reservation(usize::MAX);
    match kind {
        CatalogRequestKind::Series => {
            send_pages(store, call, SeriesCatalog::series(store, &sets, from, to, &uncounted), &guard)?
        }
        CatalogRequestKind::LabelNames => {
            send_pages(store, call, SeriesCatalog::label_names(store, &sets, from, to), &guard)?
        }
        CatalogRequestKind::LabelValues(name) => {
            send_pages(store, call, SeriesCatalog::label_values(store, &name, &sets, from, to), &guard)?;
        }
        CatalogRequestKind::Newest => {
            send_pages(store, call, SeriesCatalog::newest(store, &sets, from, to, &uncounted), &guard)?
        }
        CatalogRequestKind::Exemplars => send_pages(store, call, exemplars(store, &sets, from, to), &guard)?,
    }
    call.flush(&guard)
}

/// Sends a list in pages. The last page follows once the WAL has committed what the list contains,
/// because everything shown to a client must survive kill -9.
fn send_pages<T: Serialize>(
    store: &Store,
    call: &mut dyn PeerChannel,
    found: Result<Vec<T>, QueryError>,
    guard: &QueryGuard,
) -> Result<(), QueryError> {
    let mut send_page = |page: Result<&[T], QueryError>| {
        let message = codec::encode_within(MESSAGE_BYTES, &page);
        call.send(&message.map_err(|e| QueryError::Internal(e.to_string()))?, guard)
    };
    match found {
        Ok(found) => {
            found.chunks(CATALOG_PAGE_ENTRIES).try_for_each(|page| send_page(Ok(page)))?;
            // A series that a client has seen must still be there after a crash.
            store.wal().wait_durable(WAIT_DURABLE);
            send_page(Ok(&[]))
        }
        Err(error) => send_page(Err(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use storage::model::NativeHistogram;
    use storage::store::NewestValue;

    #[test]
    fn newest_samples_travel_whole() {
        let labels = Labels::from_pairs([("__name__", "h")]);
        let h = NativeHistogram { count: 2.5, bounds: vec![0.5, 1.0].into(), ..NativeHistogram::default() };
        let values = [NewestValue::Float(-0.5), NewestValue::Histogram(Arc::new(h))];
        let sample = |value| NewestSample { labels: labels.clone(), t: 7, value };
        let all: Vec<NewestSample> = values.into_iter().map(sample).collect();
        let bytes = codec::encode_within(MESSAGE_BYTES, &CatalogPage::<NewestSample>::Ok(all.clone()))
            .expect("small enough");
        let read: CatalogPage<NewestSample> = codec::decode_within(MESSAGE_BYTES, &bytes).expect("a page");
        assert_eq!(read, Ok(all));
    }

    #[test]
    fn twice_the_message_costs_at_most_a_little_more_than_twice() {
        let request = |n: usize| {
            let sets = (0..n).map(|i| vec![Matcher::equal("l", i.to_string())]).collect();
            codec::encode(&CatalogRequest { kind: CatalogRequestKind::Series, sets, from: 1, to: 2 })
                .expect("small enough")
        };
        testing::assert_proportional("matchers", 1_000, request, |bytes| {
            codec::decode::<CatalogRequest>(bytes).expect("a request").sets.len()
        });
        let page = |n: usize| {
            let list = (0..n).map(|i| Labels::from_pairs([("l", i.to_string())])).collect();
            codec::encode_within(MESSAGE_BYTES, &CatalogPage::<Labels>::Ok(list)).expect("small enough")
        };
        testing::assert_proportional("a list", 1_000, page, |bytes| {
            codec::decode_within::<CatalogPage<Labels>>(MESSAGE_BYTES, bytes).expect("a page").map(sorted)
        });
    }
}
