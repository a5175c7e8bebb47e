//! Errors of [`super::HttpClient`]: why a request could not be made, or got no answer.

use super::HyperSendError;
use crate::api_client::ApiError;
use crate::config::error::BlockError;
use crate::config::secret::CredentialError;

/// Why a request cannot be made now. The texts are those of Prometheus where it has the same error.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// The options cannot be used: only a change of the configuration mends that.
    #[error(transparent)]
    Options(#[from] BlockError),
    /// A file cannot be read now. The next request reads it again.
    #[error("unable to read {what}: {error}")]
    Unreadable {
        /// What the file has, such as `CA cert`.
        what: String,
        /// Why it cannot be read.
        error: CredentialError,
    },
    /// A certificate or key, of a file or of the configuration, cannot be used.
    #[error("unable to use specified {what}: {error}")]
    Certificate {
        /// Which one, and where it comes from.
        what: String,
        /// What is wrong with it.
        error: tls::TlsError,
    },
    /// The options of TLS allow no connection.
    #[error(transparent)]
    Tls(#[from] tls::TlsError),
    /// Credentials that were read cannot be sent.
    #[error(transparent)]
    Credential(#[from] CredentialError),
    /// The HTTP library cannot use the options.
    #[error("{0}")]
    Library(String),
}

/// Why there is no token of OAuth 2.0. A token is asked for again after a pause.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// The request for a token cannot be made.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// The server could not be reached, or refused the request.
    #[error("oauth2: cannot fetch token: {0}")]
    Refused(String),
    /// The server's answer has no token.
    #[error("oauth2: {0}")]
    Answer(String),
}

/// Why a request got no answer.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// The server could not be reached, or did not speak HTTP.
    #[error(transparent)]
    Http(#[from] reqwest::Error),
    /// The same of a request that the HTTP library cannot send.
    #[error(transparent)]
    Hyper(#[from] HyperSendError),
    /// There is no token for the request.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// There are no credentials of a cloud for the request.
    #[error(transparent)]
    Cloud(#[from] ApiError),
}

impl SendError {
    /// The same without the URL, which may contain a secret.
    #[must_use]
    pub fn without_url(self) -> SendError {
        match self {
            SendError::Http(e) => SendError::Http(e.without_url()),
            token => token,
        }
    }

    /// Whether there was no connection.
    pub fn is_connect(&self) -> bool {
        match self {
            SendError::Http(e) => e.is_connect(),
            SendError::Hyper(e) => matches!(e, HyperSendError::Connection(_)),
            SendError::Token(_) | SendError::Cloud(_) => false,
        }
    }
}
