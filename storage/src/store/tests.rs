//! Tests of the store from inside: damage, failing disks, flushes.
