//! The start of an open store until the server is ready. During the log replay the server scrapes
//! and answers queries from the blocks; afterwards rules and saved queries are installed, with the
//! replayed samples in their windows.

use crate::control::ServerController;
use crate::server::{LoadedConfig, Server};
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
) -> Result<JoinHandle<Result<(), String>>, String> {
    server.apply_storage_settings(&loaded)?;
    server.start_ingestion(&loaded)?;
    let server = server.clone();
    let control = control.clone();
    let runtime = runtime.clone();
    let finish = move || {
        let _guard = runtime.enter();
        let reports = runtime.spawn(report(server.clone()));
        let ready = server
            .replayed()
            .and_then(|()| server.restore_saved_queries())
            .and_then(|()| server.install_rules(&loaded));
        reports.abort();
        match &ready {
            Ok(()) => control.set_ready(),
            Err(_) => control.quit.notify_one(),
        }
        ready
    };
    std::thread::Builder::new().name("startup".to_owned()).spawn(finish).map_err(|e| e.to_string())
}

async fn report(server: Arc<Server>) {
    loop {
        tokio::time::sleep(REPORT).await;
        if let Some(progress) = server.store.replay().progress() {
            tracing::info!("{progress}");
        }
    }
}
