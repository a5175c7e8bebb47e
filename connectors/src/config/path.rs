//! [`ConfigPath`]: a file path in a configuration, relative to the directory of the configuration
//! file.

use super::document::Node;
use super::schema::{ConfigValue, ValueKind};
use serde::Deserialize;
use std::fmt;
use std::ops::Deref;
use std::path::Path;

/// A path in a configuration file; empty: none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct ConfigPath(String);

impl ConfigPath {
    /// Makes a relative path relative to `directory`; an empty path remains empty.
    pub fn resolve(&mut self, directory: &Path) {
        if !self.0.is_empty() {
            // Both parts are text of the configuration or of the command line, so the conversion is
            // lossless.
            self.0 = directory.join(&self.0).to_string_lossy().into_owned();
        }
    }
}

impl ConfigValue for ConfigPath {
    const KIND: ValueKind = ValueKind::Text;

    fn null() -> Option<ConfigPath> {
        Some(ConfigPath::default())
    }

    fn node(&self) -> Node {
        Node::Text(self.0.clone())
    }

    fn resolve_paths(&mut self, directory: &Path) {
        self.resolve(directory);
    }
}

impl From<String> for ConfigPath {
    fn from(path: String) -> ConfigPath {
        ConfigPath(path)
    }
}

impl From<&str> for ConfigPath {
    fn from(path: &str) -> ConfigPath {
        ConfigPath(path.to_owned())
    }
}

impl Deref for ConfigPath {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ConfigPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
