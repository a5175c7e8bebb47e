//! Tests of the crate as a whole: the state machine of alerts with Prometheus' cases, rule files
//! with expected error texts, the rules manager over fakes, restarts, and the history of alerts.

mod alerts;
mod files;
mod history;
mod managed;
mod restart;
mod trial;
