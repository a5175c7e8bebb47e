//! The start of the server, from an open store to being ready.
//!
//! During the log replay it scrapes, and answers queries from the blocks. Afterwards rules and
//! saved queries are installed, with the replayed samples in their windows.

use crate::control::ServerController;
use crate::server::{LoadedConfig, Server, ServerError};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::runtime::Handle;

/// The interval of log lines about the progress of the replay.
const REPORT: Duration = Duration::from_secs(5);

/// Puts the parts of `loaded` in force that do not need the replayed log, and starts a thread for
/// the rest.
///
/// The thread ends when the server is ready, or with an error if it cannot become ready; then it
/// also requests that the server quit.
pub fn begin(
    server: &Arc<Server>,
    control: &Arc<ServerController>,
    loaded: LoadedConfig,
    runtime: &Handle,
) -> Result<JoinHandle<Result<(), ServerError>>, ServerError> {
    // Before anything is scraped, so that no sample comes in under other limits.
    server.apply_storage_settings(&loaded)?;
    // During the replay: what is scraped meanwhile is not lost, and a long replay leaves no gap.
    server.start_ingestion(&loaded)?;
    let server = server.clone();
    let control = control.clone();
    let runtime = runtime.clone();
    let finish = move || {
        let _guard = runtime.enter();
        let reports = runtime.spawn(report(server.clone()));
        let ready = server
            .replayed()
            // In this order: views need the replayed samples in their windows, and rules may read
            // what saved queries record.
            .and_then(|()| server.restore_saved_queries())
            .and_then(|()| server.install_rules(&loaded));
        reports.abort();
        match &ready {
            Ok(()) => control.set_ready(),
            // The error is returned to `main`, which waits for this thread; a server without rules
            // must not go on.
            Err(_) => control.quit.notify_one(),
        }
        ready
    };
    std::thread::Builder::new().name("startup".to_owned()).spawn(finish).map_err(ServerError::Thread)
}

async fn report(server: Arc<Server>) {
    loop {
        tokio::time::sleep(REPORT).await;
        if let Some(progress) = server.storage.store.replay().progress() {
            tracing::info!(target: "wal", "{progress}");
        }
    }
}
