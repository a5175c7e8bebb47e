//! From an open store to a server that is ready: while the log is replayed the server scrapes and
//! answers from history; then rules and standing queries stand, with what the log had in their
//! windows.

use crate::control::ServerController;
use crate::server::{LoadedConfig, Server};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::runtime::Handle;

/// Time between lines of the log that say how far the replay is.
const REPORT: Duration = Duration::from_secs(5);

/// Makes `loaded` the configuration in force, as far as that goes at once. The thread that does the
/// rest ends when the server is ready, or with the reason why it never will be; the server is asked
/// to quit then.
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
        if let Some(progress) = server.store.replay_progress() {
            tracing::info!("{progress}");
        }
    }
}
