//! See docs/format; written by the store's builders.
