//! Addresses as all mechanisms write them.

use std::fmt::Display;

/// `host:port`, with brackets around an IPv6 address.
pub(super) fn host_port(host: &str, port: impl Display) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}
