//! Starts the PostgreSQL wire (`--sql.listen-address`): opens its socket and serves it with the
//! crate `postgres`.

use crate::flags::Flags;
use crate::server::ServerError;
use api::AppState;
use api::protection::Protection;
use std::sync::Arc;
use storage::metrics::Metrics;
use tokio::net::TcpListener;

/// The flag.
const FLAG: &str = "--sql.listen-address";

/// Listens on the address of the flag; `None`: it is off.
///
/// # Errors
///
/// If the address cannot be listened on, or is one that others can reach and nobody has to say who
/// he is.
pub(crate) async fn listener(
    flags: &Flags,
    protection: Option<&Protection>,
) -> Result<Option<TcpListener>, ServerError> {
    let address = flags.sql_listen_address.as_str();
    if address.is_empty() {
        return Ok(None);
    }
    if cfg!(not(feature = "sql")) {
        return Err(unusable("this server was built without SQL"));
    }
    let listener = crate::listen::tcp(address).await;
    let listener = listener.map_err(|source| ServerError::Listen { address: address.to_owned(), source })?;
    let is_local = listener.local_addr().is_ok_and(|address| address.ip().to_canonical().is_loopback());
    if !is_local && !protection.is_some_and(Protection::has_users) {
        return Err(unusable(
            "without users in --web.config.file only an address of this machine can be listened on, such as 127.0.0.1:5432",
        ));
    }
    Ok(Some(listener))
}

fn unusable(reason: &str) -> ServerError {
    ServerError::Flag { flag: FLAG, reason: reason.to_owned() }
}

/// Serves connections until the server stops.
#[cfg(feature = "sql")]
pub(crate) async fn serve(
    listener: Option<TcpListener>,
    state: AppState,
    protection: Option<Arc<Protection>>,
    metrics: Metrics,
) {
    let Some(listener) = listener else { return };
    if let Ok(address) = listener.local_addr() {
        tracing::info!(target: "sql", listen = %address, "SQL over the PostgreSQL wire is served");
    }
    let service = api::sql::SqlService::new(state);
    let options = postgres::WireOptions { service, protection, metrics };
    postgres::WireServer::new(options).serve(listener).await;
}

/// Serves nothing.
#[cfg(not(feature = "sql"))]
pub(crate) async fn serve(_: Option<TcpListener>, _: AppState, _: Option<Arc<Protection>>, _: Metrics) {}
