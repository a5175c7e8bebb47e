//! The perennial binary: flags, configuration, wiring, shutdown. The only place that knows every crate.
fn main() {}
