//! The names of TLS versions: `TLS10` to `TLS13`.
//!
//! Versions below 1.2 are accepted as names, because Prometheus knows them; they are never spoken.

use crate::TlsError;
use rustls::SupportedProtocolVersion;
use rustls::version::{TLS12, TLS13};

/// The versions that may be spoken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Versions {
    /// Those that rustls speaks, the oldest first; never empty.
    pub allowed: Vec<&'static SupportedProtocolVersion>,
    /// Whether versions below 1.2 are allowed as well, which has no effect.
    pub names_old: bool,
}

/// The versions between two names; an empty one is the default.
///
/// # Errors
///
/// If a name is unknown, if the names are in the wrong order, or if no version is left.
pub fn between(min: &str, max: &str) -> Result<Versions, TlsError> {
    // Go's defaults.
    let lowest = number(min)?.unwrap_or(12);
    let highest = number(max)?.unwrap_or(13);
    // Only if both are given: the default of the other is not the user's mistake.
    if !min.is_empty() && !max.is_empty() && lowest > highest {
        return Err(TlsError::VersionOrder);
    }
    let spoken = [(12, &TLS12), (13, &TLS13)];
    let allowed: Vec<_> =
        spoken.iter().filter(|(n, _)| (lowest..=highest).contains(n)).map(|(_, version)| *version).collect();
    if allowed.is_empty() {
        return Err(TlsError::OldVersions);
    }
    Ok(Versions { allowed, names_old: lowest < 12 })
}

fn number(name: &str) -> Result<Option<u8>, TlsError> {
    match name {
        "" => Ok(None),
        "TLS10" => Ok(Some(10)),
        "TLS11" => Ok(Some(11)),
        "TLS12" => Ok(Some(12)),
        "TLS13" => Ok(Some(13)),
        other => Err(TlsError::UnknownVersion(other.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_give_the_versions_between_them() {
        let counted = |min, max| between(min, max).map(|v| (v.allowed.len(), v.names_old));
        assert_eq!(counted("", ""), Ok((2, false)));
        assert_eq!(counted("TLS13", ""), Ok((1, false)));
        assert_eq!(counted("", "TLS12"), Ok((1, false)));
        assert_eq!(counted("TLS10", "TLS13"), Ok((2, true)));
        assert_eq!(counted("TLS10", "TLS11"), Err(TlsError::OldVersions));
        assert_eq!(counted("", "TLS11"), Err(TlsError::OldVersions));
        assert_eq!(counted("TLS13", "TLS12"), Err(TlsError::VersionOrder));
        assert_eq!(counted("TLS111", ""), Err(TlsError::UnknownVersion("TLS111".to_owned())));
    }
}
