//! Limits of configuration files: number, unit, reason.

/// The most files that one pattern may match: a pattern over the whole disk is a mistake.
pub(super) const MATCHED_FILES: usize = 10_000;
/// Bytes of a file of certificates or of a key that `--web.config.file` names: a bundle of all
/// public authorities has 200 KiB.
pub(super) const WEB_CERTIFICATE_BYTES: u64 = 1 << 20;
