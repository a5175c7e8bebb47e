//! Settings of the allocator, mimalloc.
//!
//! Freed memory returns to the system after 10 ms instead of a second: during the log replay the
//! server then uses a quarter less memory, for the same CPU time (measured: docs/benchmarks.md).
//! The environment variable `MIMALLOC_PURGE_DELAY` takes precedence.

use libmimalloc_sys::{mi_option_set, mi_option_t};

/// The number of the option for how long freed memory is kept, ms: `mi_option_purge_delay` of
/// `mimalloc.h`.
const PURGE_DELAY: mi_option_t = 15;
/// The value that the server sets.
const PURGE_DELAY_MS: i64 = 10;

/// Applies the settings to this process.
pub(crate) fn configure() {
    if std::env::var_os("MIMALLOC_PURGE_DELAY").is_none() {
        set(PURGE_DELAY, PURGE_DELAY_MS);
    }
}

#[allow(unsafe_code, reason = "mimalloc's options have no safe wrapper; they are plain integers")]
fn set(option: mi_option_t, value: i64) {
    // SAFETY: writes an integer that the allocator reads later; the allocator ignores unknown
    // option numbers.
    unsafe { mi_option_set(option, value) };
}

#[cfg(test)]
mod tests {
    use super::{PURGE_DELAY, PURGE_DELAY_MS, configure};

    #[allow(unsafe_code, reason = "see above")]
    fn purge_delay() -> i64 {
        // SAFETY: reads an integer.
        unsafe { libmimalloc_sys::mi_option_get(PURGE_DELAY) }
    }

    #[test]
    fn freed_memory_is_kept_for_a_moment() {
        if std::env::var_os("MIMALLOC_PURGE_DELAY").is_none() {
            assert_eq!(purge_delay(), 1000, "another option has this number now");
            configure();
            assert_eq!(purge_delay(), PURGE_DELAY_MS);
        }
    }
}
