//! [`ServerClient`]: the HTTP client of the subcommands that talk to a running server.
//! `--http.config.file` names a file with HTTP options (`basic_auth`, `tls_config`, …), as promtool
//! has it.

use crate::config::ConfigError;
use crate::usage_error::UsageError;
use crate::{UNUSABLE, say};
use connectors::compose_block;
use connectors::config::block::ConfigKeys;
use connectors::http_client::{HttpClient, HttpConfig, RequestError, SendError, error_chain};
use reqwest::{Method, RequestBuilder, Response};
use rules::yaml;
use std::path::Path;
use std::process::ExitCode;
use url::Url;

/// The flag without its dashes.
pub(crate) const FLAG: &str = "http.config.file";

/// The content of the file.
#[derive(Clone, Debug, Default, PartialEq)]
struct HttpFile {
    http: HttpConfig,
}

compose_block!(HttpFile as "config.HTTPClientConfig" { http: HttpConfig });

/// Sends requests to a server, with the HTTP options of the file.
pub(crate) struct ServerClient(HttpClient);

/// Why a server gave no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AskError {
    /// The URL cannot be parsed.
    #[error("{0}")]
    Url(#[from] url::ParseError),
    /// The request could not be made: a file that the options name cannot be read.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// The request got no answer.
    #[error("{}", error_chain(.0))]
    Send(#[from] SendError),
}

impl From<reqwest::Error> for AskError {
    fn from(error: reqwest::Error) -> AskError {
        AskError::Send(error.into())
    }
}

/// Runs a command that asks a server. What cannot be started is said on standard error; the exit
/// code is that of a server that cannot be used.
pub(crate) fn block_on<T>(command: impl Future<Output = T>) -> Result<T, ExitCode> {
    // Two providers of cryptography could be linked; only the first call counts.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime
        .map_err(|error| say(&mut std::io::stderr(), &format!("cannot start: {error}\n"), UNUSABLE))?;
    Ok(runtime.block_on(command))
}

/// Checks the value of `--url`.
pub(crate) fn check_url(url: &str) -> Result<(), UsageError> {
    if url.starts_with("http://") || url.starts_with("https://") {
        return Ok(());
    }
    Err(UsageError::bad_value("--url", url, "it must begin with http:// or https://"))
}

impl ServerClient {
    /// A client with the options of a file; "": without any.
    ///
    /// # Errors
    /// The file cannot be read, or has a mistake.
    pub(crate) fn new(path: &str) -> Result<ServerClient, ConfigError> {
        let mut http = HttpConfig::default();
        if !path.is_empty() {
            let file = Path::new(path);
            let mut given: HttpFile = yaml::parse_with(path, &yaml::read_text(file)?, &known_keys)?;
            given.resolve_paths(file.parent().unwrap_or(Path::new("")));
            http = given.http;
        }
        let mistake = |what: String| ConfigError::whole(path, what, "correct the file, or what it names");
        http.validate().map_err(|e| mistake(e.to_string()))?;
        Ok(ServerClient(http.client().map_err(|e| mistake(e.to_string()))?))
    }

    /// A request with the credentials of the file.
    pub(crate) fn request(&self, method: Method, url: &str) -> Result<RequestBuilder, AskError> {
        Ok(self.0.request(method, Url::parse(url)?)?)
    }

    /// The answer to a request.
    pub(crate) async fn send(&self, request: RequestBuilder) -> Result<Response, AskError> {
        Ok(self.0.send(request).await?)
    }
}

fn known_keys(block: &str) -> Vec<&'static str> {
    HttpFile::schema().keys_of(block).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_judged_as_by_promtool() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("http.yml");
        let name = path.display().to_string();
        for (text, says) in [
            ("basic_auth: {username: u, password: p}\n", None),
            ("tls_config: {insecure_skip_verify: true}\n", None),
            ("basic: {}\n", Some("basic")),
            ("bearer_token: a\nbearer_token_file: b\n", Some("at most one of bearer_token")),
        ] {
            std::fs::write(&path, text).unwrap();
            let error = ServerClient::new(&name).err().map(|e| e.to_string());
            match says {
                None => assert_eq!(error, None, "{text}"),
                Some(says) => assert!(error.as_ref().is_some_and(|e| e.contains(says)), "{text}: {error:?}"),
            }
        }
        assert!(ServerClient::new("/nowhere.yml").is_err());
        assert!(ServerClient::new("").is_ok());
    }
}
