//! Limits of configuration files: number, unit, reason.

/// The most files that one pattern may match: a pattern over the whole disk is a mistake.
pub(super) const MATCHED_FILES: usize = 10_000;
