//! `--web.config.file`: TLS and passwords of the web server, which this build does not support.
//!
//! A user who names such a file expects a protected server, so any file with content is refused.

use super::ConfigError;
use rules::yaml;
use serde_json::{Map, Value};
use std::path::Path;

/// Refuses any file except an empty one or `{}`.
pub fn check_web_file(path: &Path) -> Result<(), ConfigError> {
    let file = path.display().to_string();
    let said: Map<String, Value> = yaml::parse(&file, &yaml::read_text(path)?)?;
    match said.keys().next() {
        None => Ok(()),
        Some(key) => Err(ConfigError::whole(
            &file,
            format!(
                "--web.config.file: {key} is not supported: this build has neither TLS nor passwords, and does not start open where they are asked for"
            ),
            "leave the flag out and put a proxy with TLS and authentication before the server",
        )),
    }
}
