//! Limits of configuration files, each with unit and reason; `docs/limits.md` lists them for users.

/// The most files that one pattern may match: a pattern over the whole disk is a mistake.
pub(super) const MATCHED_FILES: usize = 10_000;
/// Bytes of a file of certificates or of a key that `--web.config.file` names: a bundle of all
/// public authorities has 200 KiB.
pub(super) const WEB_CERTIFICATE_BYTES: u64 = 1 << 20;
