//! Go's names of cipher suites and curves, as the keys `cipher_suites` and `curve_preferences` of a
//! TLS block have them, converted to rustls' types.

use crate::TlsError;
use rustls::crypto::SupportedKxGroup;
use rustls::crypto::ring::{cipher_suite as suites, kx_group};
use rustls::{CipherSuite, SupportedCipherSuite};

/// A list of cipher suites, split by what this build can use.
#[derive(Clone, Debug, Default)]
pub struct CipherSuites {
    /// The suites of TLS 1.2 that this build supports.
    pub usable: Vec<SupportedCipherSuite>,
    /// The suites with CBC, which this build does not support.
    pub with_cbc: Vec<String>,
}

impl CipherSuites {
    /// Reads a list of names. Those of TLS 1.3 have no effect, as in Go.
    ///
    /// # Errors
    ///
    /// If a name is unknown.
    pub fn from_names(names: &[String]) -> Result<CipherSuites, TlsError> {
        let mut all = CipherSuites::default();
        for name in names {
            match cipher_suite(name)? {
                // Go always offers its suites of TLS 1.3, whatever the list says; so does this.
                Some(suite) if suite.tls13().is_none() => all.usable.push(suite),
                Some(_) => {}
                None => all.with_cbc.push(name.clone()),
            }
        }
        Ok(all)
    }

    /// Whether HTTP/2 may be spoken with these: it needs one with AES-128-GCM.
    pub fn suffice_for_http2(&self) -> bool {
        // RFC 7540 requires one of these; Go's server refuses to start without.
        self.usable.iter().any(|suite| {
            matches!(
                suite.suite(),
                CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256
                    | CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
            )
        })
    }
}

/// The cipher suite with Go's name; `None` for one with CBC, which is never spoken.
///
/// # Errors
///
/// If the name is unknown.
pub fn cipher_suite(name: &str) -> Result<Option<SupportedCipherSuite>, TlsError> {
    let suite = match name {
        "TLS_AES_128_GCM_SHA256" => suites::TLS13_AES_128_GCM_SHA256,
        "TLS_AES_256_GCM_SHA384" => suites::TLS13_AES_256_GCM_SHA384,
        "TLS_CHACHA20_POLY1305_SHA256" => suites::TLS13_CHACHA20_POLY1305_SHA256,
        "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256" => suites::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
        "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384" => suites::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
        "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256" => suites::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
        "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384" => suites::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
        "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256" => suites::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
        "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256" => {
            suites::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256
        }
        "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA"
        | "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA"
        | "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA"
        | "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA" => return Ok(None),
        other => return Err(TlsError::UnknownCipher(other.to_owned())),
    };
    Ok(Some(suite))
}

/// The key exchange with Go's name of its curve; `None` for the one that ring does not have.
///
/// # Errors
///
/// If the name is unknown.
pub fn key_exchange(name: &str) -> Result<Option<&'static dyn SupportedKxGroup>, TlsError> {
    match name {
        "CurveP256" => Ok(Some(kx_group::SECP256R1)),
        "CurveP384" => Ok(Some(kx_group::SECP384R1)),
        // A known name without a group: it is noted and left out, so that a list that Prometheus
        // takes is taken here, too.
        "CurveP521" => Ok(None),
        "X25519" => Ok(Some(kx_group::X25519)),
        other => Err(TlsError::UnknownCurve(other.to_owned())),
    }
}
