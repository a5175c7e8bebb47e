//! Sample values: one `f64`, in which two NaN patterns are reserved.
//!
//! *Stale* is Prometheus' marker for "this series ended" (`0x7ff0000000000002`). *Absent* is ours for "no
//! sample here" in a column, so that presence costs no second array; it never leaves the process, and
//! [`sanitize`] keeps it from coming in. Moves keep payload bits; arithmetic must test first.

/// Bits of Prometheus' staleness marker.
pub const STALE_BITS: u64 = 0x7ff0_0000_0000_0002;
/// Bits of the in-column "no sample" value.
pub const ABSENT_BITS: u64 = 0x7ff0_0000_0000_ab5e;
/// The bits Prometheus gives to an ordinary NaN.
pub const NORMAL_NAN_BITS: u64 = 0x7ff8_0000_0000_0001;

/// "This series ended here."
pub const STALE: f64 = f64::from_bits(STALE_BITS);
/// "No sample here."
pub const ABSENT: f64 = f64::from_bits(ABSENT_BITS);

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

/// A value from outside, with the reserved *absent* pattern replaced by an ordinary NaN.
#[inline(always)]
pub fn sanitize(v: f64) -> f64 {
    if is_absent(v) { f64::from_bits(NORMAL_NAN_BITS) } else { v }
}
