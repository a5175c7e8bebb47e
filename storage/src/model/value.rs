//! Sample values: one `f64`, in which three NaN patterns are reserved.
//!
//! *Stale* is Prometheus' marker for "this series ended" (`0x7ff0000000000002`). *Absent* is ours for "no
//! sample here" in a column, so that presence costs no second array; *histogram* is ours for "a native histogram is
//! here: look into the side column". The two never leave the process, and [`sanitize`] keeps them from coming in.
//! Moves keep payload bits; arithmetic must test first.

/// Bits of Prometheus' staleness marker.
pub const STALE_BITS: u64 = 0x7ff0_0000_0000_0002;
/// Bits of the in-column "no sample" value.
pub const ABSENT_BITS: u64 = 0x7ff0_0000_0000_ab5e;
/// Bits of the in-column "a native histogram is here" value.
pub const HISTOGRAM_BITS: u64 = 0x7ff0_0000_0000_4157;
/// The bits Prometheus gives to an ordinary NaN.
pub const NORMAL_NAN_BITS: u64 = 0x7ff8_0000_0000_0001;

/// "This series ended here."
pub const STALE: f64 = f64::from_bits(STALE_BITS);
/// "No sample here."
pub const ABSENT: f64 = f64::from_bits(ABSENT_BITS);
/// "A native histogram is here": the side column has it.
pub const HISTOGRAM: f64 = f64::from_bits(HISTOGRAM_BITS);

/// Whether `v` is the staleness marker.
#[inline(always)]
pub fn is_stale(v: f64) -> bool {
    v.to_bits() == STALE_BITS
}

/// Whether `v` stands for "no sample".
#[inline(always)]
pub fn is_absent(v: f64) -> bool {
    v.to_bits() == ABSENT_BITS
}

/// Whether `v` is a real sample: neither stale nor absent.
#[inline(always)]
pub fn is_sample(v: f64) -> bool {
    !is_absent(v) && !is_stale(v)
}

/// Whether `v` stands for a native histogram.
#[inline(always)]
pub fn is_histogram(v: f64) -> bool {
    v.to_bits() == HISTOGRAM_BITS
}

/// A value from outside, with the patterns that are reserved for the inside replaced by an ordinary NaN.
#[inline(always)]
pub fn sanitize(v: f64) -> f64 {
    if is_absent(v) || is_histogram(v) { f64::from_bits(NORMAL_NAN_BITS) } else { v }
}
