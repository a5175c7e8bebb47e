//! Tests of the room as a whole: the state machine against Prometheus' cases, rule files against
//! golden faults, the manager over fakes.

mod alerts;
mod files;
mod history;
mod managed;
mod restart;
mod trial;
