//! `storage.objects` of the configuration: the object store for old blocks, and its credentials.
//! Keys have the names of the `object_store` crate, which are those of AWS.

use crate::config::error::BlockError;
use crate::config::path::ConfigPath;
use crate::config::secret::Secret;
use crate::config::units::{ConfigDuration, ConfigSize};
use crate::config::url::ConfigUrl;
use crate::config_block;
use std::path::PathBuf;
use url::Url;

config_block! {
    /// `storage.objects`.
    pub struct ObjectStoreConfig as "storage.objects" {
        /// `s3://bucket/prefix` or `file:///directory`.
        url: ConfigUrl = ConfigUrl::default(),
        /// The age of its newest sample at which a block is moved.
        after: ConfigDuration = ConfigDuration(7 * 86_400_000),
        /// Maximum size of the local cache of cold blocks.
        cache_size: ConfigSize = ConfigSize(1 << 30),
        /// URL of an S3-compatible server; default: AWS.
        endpoint: Option<ConfigUrl> = None,
        /// The region of the bucket.
        region: Option<String> = None,
        /// Whether `endpoint` may be `http://`.
        allow_http: bool = false,
        /// Whether the name of the bucket is part of the host name.
        virtual_hosted_style: bool = false,
        /// The id of the access key.
        access_key_id: Option<String> = None,
        /// The secret access key.
        secret_access_key: Option<Secret> = None,
        /// A file with the secret access key.
        secret_access_key_file: Option<ConfigPath> = None,
        /// The session token of temporary keys.
        session_token: Option<Secret> = None,
        /// Additional trusted certificate authorities, PEM file.
        ca_file: Option<ConfigPath> = None,
    }
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
    /// The place that `url` names.
    pub fn place(&self) -> Result<ObjectLocation, BlockError> {
        if self.url.expose().is_empty() {
            return Err("the field \"url\" is missing".into());
        }
        let bad = |why: &str| Err(BlockError::new(format!("url {:?}: {why}", self.url)));
        let url = match Url::parse(self.url.expose()) {
            Ok(url) => url,
            Err(error) => return bad(&error.to_string()),
        };
        // A URL is shown on pages and in logs; keys of their own are hidden by their type.
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

    /// Checks the block. The error is the first problem.
    pub fn validate(&self) -> Result<(), BlockError> {
        let place = self.place()?;
        if self.after.0 <= 0 {
            return Err("after must be greater than 0".into());
        }
        if self.secret_access_key.is_some() && self.secret_access_key_file.is_some() {
            return Err("at most one of secret_access_key & secret_access_key_file must be configured".into());
        }
        let secret = self.secret_access_key.is_some() || self.secret_access_key_file.is_some();
        // Half a pair of keys would silently be replaced by those of the environment.
        if secret != self.access_key_id.is_some() {
            return Err("access_key_id and secret_access_key (or …_file) go together".into());
        }
        let plain = self.endpoint.as_ref().is_some_and(|endpoint| endpoint.expose().starts_with("http://"));
        // The secret key is not sent, but every sample would be, readable for anybody on the way.
        if plain && !self.allow_http {
            return Err("endpoint is not encrypted: use https://, or set allow_http: true".into());
        }
        let of_s3 = secret || self.endpoint.is_some() || self.region.is_some() || self.ca_file.is_some();
        if of_s3 && matches!(place, ObjectLocation::Directory(_)) {
            return Err("endpoint, region and keys are for s3:// only".into());
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
