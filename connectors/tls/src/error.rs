//! [`TlsError`]: why a TLS configuration cannot be used: files, names of versions and suites,
//! certificates.

/// Why a TLS configuration cannot be used. The texts are those of Go where it has one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TlsError {
    /// A text holds no certificate.
    #[error("no certificate in PEM form")]
    NoCertificate,
    /// A text holds no private key, or one that cannot be used.
    #[error("no private key in PEM form that can be used")]
    NoKey,
    /// A certificate and a key do not belong together, or the kind of key is unknown.
    #[error("the certificate and the key cannot be used together: {0}")]
    Pair(String),
    /// A version that does not exist.
    #[error("unknown TLS version: {0}")]
    UnknownVersion(String),
    /// The lowest version is above the highest.
    #[error(
        "tls_config.max_version must be greater than or equal to tls_config.min_version if both are specified"
    )]
    VersionOrder,
    /// All versions that are allowed are below 1.2.
    #[error("only versions of TLS below 1.2 are allowed, and this server speaks 1.2 and 1.3")]
    OldVersions,
    /// A cipher suite that does not exist.
    #[error("unknown cipher: {0}")]
    UnknownCipher(String),
    /// A curve that does not exist.
    #[error("unknown curve: {0}")]
    UnknownCurve(String),
    /// Nothing that is allowed can be used.
    #[error("{0}")]
    NothingLeft(&'static str),
    /// A name to verify that is neither a host name nor an address.
    #[error("server_name {0:?} is neither a host name nor an IP address")]
    ServerName(String),
}
