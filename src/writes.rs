//! The remote write receiver: a request's samples into the store, the answer when the log has them.

use bytes::Bytes;
use connectors::remote::RemoteWriter;
use connectors::remote::write::check_headers;
use frontends::http::sources::RemoteWrite;
use futures::future::BoxFuture;
use std::sync::Arc;
use storage::clock::Clock;
use storage::store::Store;
use tokio::sync::oneshot;

/// See the module.
pub struct Writes {
    store: Arc<Store>,
    clock: Arc<dyn Clock>,
    writer: Arc<RemoteWriter>,
}

impl Writes {
    /// A receiver for `store`.
    pub fn new(store: Arc<Store>, clock: Arc<dyn Clock>) -> Writes {
        Writes { writer: Arc::new(RemoteWriter::new(store.clone())), store, clock }
    }
}

impl RemoteWrite for Writes {
    fn write(
        &self,
        content_type: &str,
        encoding: &str,
        body: Bytes,
    ) -> BoxFuture<'static, Result<(), (u16, String)>> {
        let headers = check_headers(Some(content_type), Some(encoding));
        let (store, writer, now) = (self.store.clone(), self.writer.clone(), self.clock.now());
        Box::pin(async move {
            headers.map_err(|e| (e.status(), e.to_string()))?;
            // Appending may wait for the disk, so it stays off the async threads.
            let written = tokio::task::spawn_blocking(move || writer.apply(&body, now)).await;
            let written = written.map_err(|e| (500, e.to_string()))?;
            let written = written.map_err(|e| (e.status(), e.to_string()))?;
            committed(&store, written.lsn).await.map_err(|e| (503, e))?;
            written.refusal().map_or(Ok(()), |text| Err((400, text)))
        })
    }
}

/// Resolves when everything up to `lsn` would survive the process.
async fn committed(store: &Store, lsn: u64) -> Result<(), String> {
    let (tell, told) = oneshot::channel();
    store.on_committed(lsn, Box::new(move |result| drop(tell.send(result.map_err(|e| e.to_string())))));
    told.await.unwrap_or_else(|_| Err("the server is stopping".to_owned()))
}
