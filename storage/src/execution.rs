//! Who does the work that goes on beside its callers: a parameter, as the clock and the disk are.

/// See the module.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub enum Execution {
    /// Threads of its own.
    #[default]
    Threads,
    /// Whoever calls: nothing happens by itself, and all of it on one thread. For simulations.
    Caller,
}
