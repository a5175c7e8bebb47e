//! [`RemoteObjects`]: the object store for old blocks: S3 and compatible servers, or a directory.
//!
//! It implements [`storage::object_store::ObjectStorage`], which is synchronous; requests run on a
//! small runtime of their own, so that they do not delay other work. [`config`] is the block
//! `storage.objects`. `docs/objects.md` describes blocks in an object store.

pub mod config;

use crate::config::error::BlockError;
use crate::config::secret::{CredentialError, read_credential};
use crate::limits::{
    OBJECT_CONNECT_SECONDS, OBJECT_PART_BYTES, OBJECT_REQUEST_SECONDS, OBJECT_REQUESTS, OBJECT_RETRIES,
    OBJECT_RETRY_SECONDS, OBJECTS_LISTED,
};
use config::{ObjectLocation, ObjectStoreConfig};
use futures::TryStreamExt;
use object_store::aws::AmazonS3Builder;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    BackoffConfig, Certificate, ClientOptions, Error, MultipartUpload, ObjectStore, ObjectStoreExt, PutMode,
    PutOptions, PutPayload, RetryConfig,
};
use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Duration;
use storage::object_store::{ObjectStorage, UploadReader};
use tokio::runtime::Runtime;
use tokio::sync::Semaphore;

/// Why an object store cannot be opened. No request was sent yet: all of these are about this
/// machine and its configuration.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The block cannot be used.
    #[error(transparent)]
    Block(#[from] BlockError),
    /// A file with a key or with certificates cannot be read.
    #[error(transparent)]
    Credentials(#[from] CredentialError),
    /// The directory that is used instead of a server cannot be created.
    #[error("{}: {reason}", directory.display())]
    Directory {
        /// The directory.
        directory: PathBuf,
        /// The error of the operating system.
        reason: String,
    },
    /// The client refuses its options.
    #[error("{0}")]
    Client(String),
    /// The threads for requests cannot be started.
    #[error("no runtime for the object store: {0}")]
    Runtime(io::Error),
}

/// An object store, and the prefix in it that belongs to this server.
pub struct RemoteObjects {
    store: Arc<dyn ObjectStore>,
    prefix: Path,
    address: String,
    /// Limits the number of concurrent requests.
    turns: Arc<Semaphore>,
    /// `None` only while the value is dropped.
    runtime: Option<Runtime>,
}

impl RemoteObjects {
    /// Opens the object store of `config`. `variables` are environment variables: those that AWS
    /// defines are used where the configuration has no value. Sends no request yet.
    pub fn open(
        config: &ObjectStoreConfig,
        variables: impl Iterator<Item = (String, String)>,
    ) -> Result<RemoteObjects, OpenError> {
        config.validate()?;
        let (store, prefix): (Arc<dyn ObjectStore>, String) = match config.place()? {
            ObjectLocation::Directory(directory) => {
                let bad = |reason: String| OpenError::Directory { directory: directory.clone(), reason };
                std::fs::create_dir_all(&directory).map_err(|error| bad(error.to_string()))?;
                let store = LocalFileSystem::new_with_prefix(&directory);
                let store = store.map_err(|error| bad(error.to_string()))?;
                (Arc::new(store.with_fsync(true)), String::new())
            }
            ObjectLocation::Bucket(bucket, prefix) => {
                // The bucket last, so that no variable of the environment can name another one.
                let builder = builder(config, variables)?.with_bucket_name(bucket);
                let store = builder.build().map_err(|error| OpenError::Client(error.to_string()))?;
                (Arc::new(store), prefix)
            }
        };
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("objects")
            .enable_all()
            .build()
            .map_err(OpenError::Runtime)?;
        Ok(RemoteObjects {
            store,
            prefix: Path::parse(prefix).map_err(|error| BlockError::new(error.to_string()))?,
            address: config.url.expose().trim_end_matches('/').to_owned(),
            turns: Arc::new(Semaphore::new(OBJECT_REQUESTS)),
            runtime: Some(runtime),
        })
    }

    fn path(&self, name: &str) -> Path {
        name.split('/').fold(self.prefix.clone(), |path, part| path.join(part))
    }

    /// Sends a request and waits for the answer.
    fn ask<T: Send + 'static>(
        &self,
        request: impl Future<Output = Result<T, Error>> + Send + 'static,
    ) -> io::Result<T> {
        finish(self.begin(request))
    }

    /// Starts a request; [`finish`] waits for its answer.
    fn begin<T: Send + 'static>(
        &self,
        request: impl Future<Output = Result<T, Error>> + Send + 'static,
    ) -> Receiver<Result<T, Error>> {
        let (send, receive) = sync_channel(1);
        let turns = self.turns.clone();
        if let Some(runtime) = &self.runtime {
            runtime.spawn(async move {
                // Waited for inside the task: whoever asks for many objects gets all of their
                // receivers at once and is not blocked by the limit.
                let turn = turns.acquire_owned().await;
                let answer = request.await;
                drop(turn);
                // Sending fails if nobody waits for the answer any more.
                let _ = send.send(answer);
            });
        }
        receive
    }

    fn begin_get(&self, name: &str, range: Range<u64>) -> Receiver<Result<Vec<u8>, Error>> {
        let store = self.store.clone();
        let path = self.path(name);
        self.begin(async move { store.get_range(&path, range).await.map(Vec::from) })
    }

    /// Uploads an object in parts.
    fn put_parts(&self, path: Path, bytes: u64, content: &UploadReader) -> io::Result<()> {
        let store = self.store.clone();
        let mut upload = self.ask(async move { store.put_multipart(&path).await })?;
        let parts = self.parts(upload.as_mut(), bytes, content);
        // If the upload cannot even be aborted, a lifecycle rule of the bucket must remove its
        // parts.
        match parts {
            Ok(()) => self.ask(async move { upload.complete().await.map(|_| ()) }),
            Err(error) => {
                let _ = self.ask(async move { upload.abort().await });
                Err(error)
            }
        }
    }

    fn parts(&self, upload: &mut dyn MultipartUpload, bytes: u64, content: &UploadReader) -> io::Result<()> {
        let mut at = 0;
        while at < bytes {
            let part = content(at, OBJECT_PART_BYTES)?;
            if part.is_empty() {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file is shorter than it was"));
            }
            at += part.len() as u64;
            self.ask(upload.put_part(part.into()))?;
        }
        Ok(())
    }
}

/// Waits for the answer to a request.
fn finish<T>(answer: Receiver<Result<T, Error>>) -> io::Result<T> {
    let gone = |_| io::Error::other("the server is stopping");
    answer.recv().map_err(gone)?.map_err(io_error)
}

impl Drop for RemoteObjects {
    fn drop(&mut self) {
        // Does not wait: this may run on a thread of another runtime.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl ObjectStorage for RemoteObjects {
    fn address(&self) -> &str {
        &self.address
    }

    fn put(&self, name: &str, bytes: u64, content: &UploadReader) -> io::Result<()> {
        let path = self.path(name);
        // In parts, because S3 refuses large objects in one request, and a part that fails is
        // repeated alone.
        if bytes > OBJECT_PART_BYTES as u64 {
            return self.put_parts(path, bytes, content);
        }
        let store = self.store.clone();
        let content = content(0, OBJECT_PART_BYTES)?;
        self.ask(async move { store.put(&path, content.into()).await.map(|_| ()) })
    }

    fn create(&self, name: &str, content: &[u8]) -> io::Result<()> {
        let path = self.path(name);
        let content = PutPayload::from(content.to_vec());
        let store = self.store.clone();
        self.ask(async move {
            let only_new = PutOptions::from(PutMode::Create);
            match store.put_opts(&path, content.clone(), only_new).await {
                // The server does not support conditional requests: of two simultaneous calls, both
                // may succeed.
                Err(Error::NotImplemented { .. }) => match store.head(&path).await {
                    Ok(_) => {
                        Err(Error::AlreadyExists { path: path.to_string(), source: "there is one".into() })
                    }
                    Err(Error::NotFound { .. }) => store.put(&path, content).await.map(|_| ()),
                    Err(error) => Err(error),
                },
                outcome => outcome.map(|_| ()),
            }
        })
    }

    fn get(&self, name: &str, range: Range<u64>) -> io::Result<Vec<u8>> {
        if range.is_empty() {
            return Ok(Vec::new());
        }
        finish(self.begin_get(name, range))
    }

    fn get_many(&self, wanted: &[(String, Range<u64>)]) -> Vec<io::Result<Vec<u8>>> {
        let begun: Vec<_> = wanted.iter().map(|(name, range)| self.begin_get(name, range.clone())).collect();
        begun.into_iter().map(finish).collect()
    }

    fn len_of(&self, name: &str) -> io::Result<Option<u64>> {
        let store = self.store.clone();
        let path = self.path(name);
        self.ask(async move {
            match store.head(&path).await {
                Ok(meta) => Ok(Some(meta.size)),
                Err(Error::NotFound { .. }) => Ok(None),
                Err(error) => Err(error),
            }
        })
    }

    fn list(&self, folder: &str) -> io::Result<Vec<(String, u64)>> {
        let store = self.store.clone();
        let prefix = self.prefix.clone();
        let folder = if folder.is_empty() { prefix.clone() } else { self.path(folder) };
        self.ask(async move {
            let mut found = Vec::new();
            let mut objects = store.list(Some(&folder));
            while let Some(object) = objects.try_next().await? {
                let name = object
                    .location
                    .prefix_match(&prefix)
                    .map(|parts| parts.map(|part| part.as_ref().to_owned()).collect::<Vec<_>>().join("/"));
                found.extend(name.map(|name| (name, object.size)));
                // A wrong bucket can have billions of objects; a data directory never has.
                if found.len() > OBJECTS_LISTED {
                    let source = format!("more than {OBJECTS_LISTED} objects").into();
                    return Err(Error::Generic { store: "list", source });
                }
            }
            Ok(found)
        })
    }

    fn delete(&self, name: &str) -> io::Result<()> {
        let store = self.store.clone();
        let path = self.path(name);
        self.ask(async move {
            match store.delete(&path).await {
                // Gone is what was wanted: a deletion that was repeated after a lost answer must
                // not fail.
                Err(Error::NotFound { .. }) => Ok(()),
                outcome => outcome,
            }
        })
    }
}

fn builder(
    config: &ObjectStoreConfig,
    variables: impl Iterator<Item = (String, String)>,
) -> Result<AmazonS3Builder, OpenError> {
    // The TLS provider is installed once per process; a second installation fails without harm.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut builder = AmazonS3Builder::new();
    for (name, value) in variables.filter(|(name, _)| name.starts_with("AWS_")) {
        // Variables that the client does not know are not for it.
        if let Ok(key) = name.to_ascii_lowercase().parse() {
            builder = builder.with_config(key, value);
        }
    }
    let mut client = ClientOptions::new()
        .with_connect_timeout(Duration::from_secs(OBJECT_CONNECT_SECONDS))
        .with_timeout(Duration::from_secs(OBJECT_REQUEST_SECONDS))
        .with_allow_http(config.allow_http);
    if let Some(file) = &config.ca_file {
        let pem = read_credential(file)?;
        let certificates = Certificate::from_pem_bundle(pem.as_bytes());
        let bad = |error: Error| BlockError::new(format!("{file}: {error}"));
        for certificate in certificates.map_err(bad)? {
            client = client.with_root_certificate(certificate);
        }
    }
    let backoff = BackoffConfig { init_backoff: Duration::from_millis(100), ..BackoffConfig::default() };
    let retry = RetryConfig {
        backoff,
        max_retries: OBJECT_RETRIES,
        retry_timeout: Duration::from_secs(OBJECT_RETRY_SECONDS),
    };
    builder = builder
        .with_client_options(client)
        .with_retry(retry)
        .with_virtual_hosted_style_request(config.virtual_hosted_style);
    if let Some(endpoint) = &config.endpoint {
        builder = builder.with_endpoint(endpoint.expose());
    }
    if let Some(region) = &config.region {
        builder = builder.with_region(region);
    }
    if let Some(id) = &config.access_key_id {
        builder = builder.with_access_key_id(id);
    }
    if let Some(secret) = &config.secret_access_key {
        builder = builder.with_secret_access_key(secret.expose());
    }
    if let Some(file) = &config.secret_access_key_file {
        builder = builder.with_secret_access_key(read_credential(file)?);
    }
    if let Some(token) = &config.session_token {
        builder = builder.with_token(token.expose());
    }
    Ok(builder)
}

fn io_error(error: Error) -> io::Error {
    let kind = match &error {
        Error::NotFound { .. } => io::ErrorKind::NotFound,
        Error::AlreadyExists { .. } | Error::Precondition { .. } => io::ErrorKind::AlreadyExists,
        Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => io::ErrorKind::PermissionDenied,
        // Everything that may pass: the caller tries again later.
        _ => io::ErrorKind::Other,
    };
    io::Error::new(kind, error.to_string())
}
