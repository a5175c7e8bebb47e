//! Single samples in one shard, by the *slot* of their series: its number in the shard. Inside the
//! storage engine series are named by slots, because comparing and hashing labels costs more than
//! everything else that an append does.

use super::{NativeHistogram, TimeMs};
use std::sync::Arc;

/// A single float sample: slot, time, value.
pub type SlotFloat = (u32, TimeMs, f64);
/// A histogram sample: slot, time, histogram.
pub type SlotHistogram = (u32, TimeMs, Arc<NativeHistogram>);
/// A start timestamp: slot, time of its sample, start.
pub type SlotStart = (u32, TimeMs, TimeMs);
