//! Sample values: an `f64` with three reserved NaN bit patterns.
//!
//! *Stale* is Prometheus' marker for "this series has ended" (`0x7ff0000000000002`). *Absent* is
//! ours for "no sample here" in a column, so that columns need no second array for presence.
//! *Histogram* is ours for "a native histogram is here: see the histogram column". The last two
//! never leave the process, and [`sanitize`] keeps them from coming in. Copies keep the payload
//! bits of a NaN; before arithmetic, values must be tested.

/// The bits of Prometheus' stale marker.
pub const STALE_BITS: u64 = 0x7ff0_0000_0000_0002;
/// The bits of the value for "no sample" in a column.
pub const ABSENT_BITS: u64 = 0x7ff0_0000_0000_ab5e;
/// The bits of the value for "a native histogram is here" in a column.
pub const HISTOGRAM_BITS: u64 = 0x7ff0_0000_0000_4157;
/// The bits of an ordinary NaN in Prometheus.
pub const NORMAL_NAN_BITS: u64 = 0x7ff8_0000_0000_0001;

/// "This series has ended."
pub const STALE: f64 = f64::from_bits(STALE_BITS);
/// "No sample here."
pub const ABSENT: f64 = f64::from_bits(ABSENT_BITS);
/// "A native histogram is here": it is in the histogram column.
pub const HISTOGRAM: f64 = f64::from_bits(HISTOGRAM_BITS);

/// Whether `v` is the stale marker.
#[inline(always)]
pub fn is_stale(v: f64) -> bool {
    v.to_bits() == STALE_BITS
}

/// Whether `v` means "no sample".
#[inline(always)]
pub fn is_absent(v: f64) -> bool {
    v.to_bits() == ABSENT_BITS
}

/// Whether `v` is a real sample: neither stale nor absent.
#[inline(always)]
pub fn is_sample(v: f64) -> bool {
    !is_absent(v) && !is_stale(v)
}

/// Whether `v` means "a native histogram is here".
#[inline(always)]
pub fn is_histogram(v: f64) -> bool {
    v.to_bits() == HISTOGRAM_BITS
}

/// Replaces the values that are reserved for internal use by an ordinary NaN. For values from
/// outside.
#[inline(always)]
pub fn sanitize(v: f64) -> f64 {
    if is_absent(v) || is_histogram(v) { f64::from_bits(NORMAL_NAN_BITS) } else { v }
}
