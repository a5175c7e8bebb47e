//! The remote write receiver: a request's samples into the store, the answer when the log has them.

use bytes::Bytes;
use connectors::remote::write::check_headers;
use connectors::remote::{Proto, RemoteWriter, RemoteWritten};
use frontends::http::sources::{RemoteWrite, WriteReply};
use futures::future::BoxFuture;
use std::sync::Arc;
use storage::clock::Clock;
use storage::model::TimeMs;
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
    fn write(&self, content_type: &str, encoding: &str, body: Bytes) -> BoxFuture<'static, WriteReply> {
        let proto = check_headers(Some(content_type), Some(encoding));
        let (store, writer, now) = (self.store.clone(), self.writer.clone(), self.clock.now());
        Box::pin(async move {
            let tells = matches!(proto, Ok(Proto::V2));
            let written = match proto {
                Ok(proto) => apply(writer, body, proto, now).await,
                Err(refused) => Err((refused.status(), refused.to_string())),
            };
            let written = match written {
                Ok(written) => committed(&store, written.lsn).await.map(|()| written).map_err(|e| (503, e)),
                Err(refused) => Err(refused),
            };
            let (fate, counts) = match written {
                Ok(written) => {
                    let counts = [written.samples, written.histograms, written.exemplars];
                    (written.refusal().map_or((204, String::new()), |text| (400, text)), counts)
                }
                Err(refused) => (refused, [0; 3]),
            };
            WriteReply { status: fate.0, text: fate.1, written: tells.then_some(counts) }
        })
    }
}

/// Appends a request, off the async threads: it may wait for the disk.
async fn apply(
    writer: Arc<RemoteWriter>,
    body: Bytes,
    proto: Proto,
    now: TimeMs,
) -> Result<RemoteWritten, (u16, String)> {
    let written = tokio::task::spawn_blocking(move || writer.apply(&body, proto, now)).await;
    let written = written.map_err(|e| (500, e.to_string()))?;
    written.map_err(|e| (e.status(), e.to_string()))
}

/// Resolves when everything up to `lsn` would survive the process.
async fn committed(store: &Store, lsn: u64) -> Result<(), String> {
    let (tell, told) = oneshot::channel();
    store.on_committed(lsn, Box::new(move |result| drop(tell.send(result.map_err(|e| e.to_string())))));
    told.await.unwrap_or_else(|_| Err("the server is stopping".to_owned()))
}
