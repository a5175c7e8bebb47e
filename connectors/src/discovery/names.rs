//! Makes names of labels valid (other characters become `_`) and joins hosts and ports (IPv6
//! addresses get brackets), for all discovery mechanisms.

use std::fmt::Display;

/// `name` as part of a label name: every character outside `[a-zA-Z0-9_]` becomes `_`.
pub(super) fn label_name(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect()
}

/// `host:port`, with brackets around an IPv6 address.
pub(super) fn host_port(host: &str, port: impl Display) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}
