//! The perennial binary. What it does is in `lib.rs`.

/// mimalloc: many small label sets, several threads; the allocator the design was measured with.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    perennial::main()
}
