//! Opens the listening sockets of the server: TCP addresses, Unix sockets, and sockets that systemd
//! passes.

use crate::flags::Flags;
use crate::server::ServerError;
use api::Listener;
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use tokio::net::{TcpListener, UnixListener};

/// What begins the address of a socket of this machine: `unix:///run/perennial.sock`.
pub(crate) const UNIX: &str = "unix://";

/// Listens on all addresses of the flags.
pub(crate) async fn listeners(flags: &Flags) -> Result<Vec<Listener>, ServerError> {
    if *flags.web_systemd_socket {
        return from_systemd();
    }
    let mut listeners = Vec::new();
    for address in flags.listen_addresses() {
        let listener = match address.strip_prefix(UNIX) {
            Some(path) => socket(Path::new(path)).await.map(Listener::from),
            None => tcp(&address).await.map(Listener::from),
        };
        match listener {
            Ok(listener) => listeners.push(listener),
            Err(source) => return Err(ServerError::Listen { address, source }),
        }
    }
    Ok(listeners)
}

/// Listens on an address and a port.
pub(crate) async fn tcp(address: &str) -> io::Result<TcpListener> {
    // Prometheus also accepts ":9090".
    let full = if address.starts_with(':') { format!("0.0.0.0{address}") } else { address.to_owned() };
    TcpListener::bind(&full).await
}

/// Listens at a path. A socket that a server left behind is replaced; one that is in use is not.
async fn socket(path: &Path) -> io::Result<UnixListener> {
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket());
    if is_socket {
        if tokio::net::UnixStream::connect(path).await.is_ok() {
            return Err(io::Error::new(io::ErrorKind::AddrInUse, "another server listens there"));
        }
        std::fs::remove_file(path)?;
    }
    UnixListener::bind(path)
}

/// The sockets that systemd hands over (`LISTEN_FDS`).
fn from_systemd() -> Result<Vec<Listener>, ServerError> {
    let mut handed = listenfd::ListenFd::from_env();
    let mut listeners = Vec::new();
    for number in 0..handed.len() {
        let failed = |e: io::Error| unusable(format!("socket {number} cannot be used: {e}"));
        let listener = match handed.take_tcp_listener(number) {
            Ok(Some(listener)) => {
                listener.set_nonblocking(true).map_err(failed)?;
                TcpListener::from_std(listener).map(Listener::from)
            }
            _ => match handed.take_unix_listener(number).map_err(failed)? {
                Some(listener) => {
                    listener.set_nonblocking(true).map_err(failed)?;
                    UnixListener::from_std(listener).map(Listener::from)
                }
                None => continue,
            },
        };
        listeners.push(listener.map_err(failed)?);
    }
    if listeners.is_empty() {
        return Err(unusable(
            "systemd has handed over no socket (LISTEN_FDS); start the server by a .socket unit".to_owned(),
        ));
    }
    Ok(listeners)
}

fn unusable(reason: String) -> ServerError {
    ServerError::Flag { flag: "--web.systemd-socket", reason }
}
