//! How background work is executed: a parameter, like the clock and the disk. A server runs it on
//! threads; in the simulation the caller does it, step by step, so that a run can be repeated
//! exactly.

/// Who executes background work.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub enum Execution {
    /// Threads of their own.
    #[default]
    Threads,
    /// The caller: nothing happens by itself, and everything on one thread. For simulations.
    Caller,
}
