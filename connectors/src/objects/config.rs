//! `storage.objects` of the configuration: the object store for old blocks, and its credentials.
//! Keys have the names of the `object_store` crate, which are those of AWS.

use crate::secret::Secret;
use crate::units::{ConfigDuration, ConfigSize};
use serde::Deserialize;
use std::path::{Path, PathBuf};
use url::Url;

/// `storage.objects`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ObjectStoreConfig {
    /// `s3://bucket/prefix` or `file:///directory`.
    pub url: String,
    /// The age of its newest sample at which a block is moved.
    #[serde(default = "week")]
    pub after: ConfigDuration,
    /// Maximum size of the local cache of cold blocks.
    #[serde(default = "gigabyte")]
    pub cache_size: ConfigSize,
    /// URL of an S3-compatible server; default: AWS.
    pub endpoint: Option<String>,
    /// The region of the bucket.
    pub region: Option<String>,
    /// Whether `endpoint` may be `http://`.
    #[serde(default)]
    pub allow_http: bool,
    /// Whether the name of the bucket is part of the host name.
    #[serde(default)]
    pub virtual_hosted_style: bool,
    /// The id of the access key.
    pub access_key_id: Option<String>,
    /// The secret access key.
    pub secret_access_key: Option<Secret>,
    /// A file with the secret access key.
    pub secret_access_key_file: Option<String>,
    /// The session token of temporary keys.
    pub session_token: Option<Secret>,
    /// Additional trusted certificate authorities, PEM file.
    pub ca_file: Option<String>,
}

fn week() -> ConfigDuration {
    ConfigDuration(7 * 86_400_000)
}

fn gigabyte() -> ConfigSize {
    ConfigSize(1 << 30)
}

/// Where a URL points.
#[derive(Debug, PartialEq)]
pub enum ObjectLocation {
    /// A bucket, and the prefix of all names in it.
    Bucket(String, String),
    /// A directory.
    Directory(PathBuf),
}

impl ObjectStoreConfig {
    /// Makes the file paths relative to `directory`.
    pub fn resolve_paths(&mut self, directory: &Path) {
        for file in [&mut self.secret_access_key_file, &mut self.ca_file].into_iter().flatten() {
            *file = directory.join(&*file).display().to_string();
        }
    }

    /// Parses `url`.
    pub fn place(&self) -> Result<ObjectLocation, String> {
        let bad = |why: &str| Err(format!("url {:?}: {why}", self.url));
        let url = match Url::parse(&self.url) {
            Ok(url) => url,
            Err(error) => return bad(&error.to_string()),
        };
        if !url.username().is_empty() || url.password().is_some() || url.query().is_some() {
            return bad("credentials and options are keys of their own");
        }
        match (url.scheme(), url.host_str()) {
            ("s3", Some(bucket)) => {
                let prefix = url.path().trim_matches('/').to_owned();
                Ok(ObjectLocation::Bucket(bucket.to_owned(), prefix))
            }
            ("s3", None) => bad("names no bucket"),
            ("file", None) => {
                url.to_file_path().map(ObjectLocation::Directory).or_else(|()| bad("is no path"))
            }
            ("file", Some(_)) => bad("a path begins with a third slash: file:///directory"),
            _ => bad("must begin with s3:// or file:///"),
        }
    }

    /// Checks the block. The error is the text of the first problem.
    pub fn validate(&self) -> Result<(), String> {
        let place = self.place()?;
        if self.after.0 <= 0 {
            return Err("after must be greater than 0".to_owned());
        }
        if self.secret_access_key.is_some() && self.secret_access_key_file.is_some() {
            return Err(
                "at most one of secret_access_key & secret_access_key_file must be configured".to_owned()
            );
        }
        let secret = self.secret_access_key.is_some() || self.secret_access_key_file.is_some();
        if secret != self.access_key_id.is_some() {
            return Err("access_key_id and secret_access_key (or …_file) go together".to_owned());
        }
        let plain = self.endpoint.as_deref().is_some_and(|endpoint| endpoint.starts_with("http://"));
        if plain && !self.allow_http {
            return Err("endpoint is not encrypted: use https://, or set allow_http: true".to_owned());
        }
        let of_s3 = secret || self.endpoint.is_some() || self.region.is_some() || self.ca_file.is_some();
        if of_s3 && matches!(place, ObjectLocation::Directory(_)) {
            return Err("endpoint, region and keys are for s3:// only".to_owned());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn twice_the_text_costs_at_most_a_little_more_than_twice() {
        let long = |n: usize| format!("url: s3://bucket/{}\n", "prefix/".repeat(n));
        let wrong =
            |n: usize| format!("{}url: s3://bucket/\n", "# s3\n".repeat(n)) + &"x".repeat(n) + ": 1\n";
        let read = |text: &String| serde_saphyr::from_str::<ObjectStoreConfig>(text);
        testing::assert_proportional("a long prefix", 10_000, long, |text| {
            let config = read(text).unwrap();
            config.validate().unwrap();
            config.place().unwrap()
        });
        testing::assert_proportional("an unknown key", 10_000, wrong, |text| {
            read(text).unwrap_err().to_string()
        });
    }
}
