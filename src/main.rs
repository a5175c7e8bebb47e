//! The `perennial` binary. The program is in `lib.rs`; read that next.

/// mimalloc: for many small label sets and several threads. The design was measured with it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    perennial::main()
}
