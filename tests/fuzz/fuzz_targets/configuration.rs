//! `cargo fuzz run configuration`: the program of one fuzz target; `../targets.rs` has its code.
#![no_main]
#[path = "../targets.rs"]
#[allow(dead_code, reason = "each program runs one of the targets")]
mod targets;
libfuzzer_sys::fuzz_target!(|data: &[u8]| targets::configuration(data));
