//! The ports of the views that a worker owns, and the deltas that have arrived for them. A port is
//! where rows of the local stage enter the gather stage. Deltas are kept until a round of the tick
//! applies them, so that steps see the rows of all shards as of the same tick. [`super::port`] is
//! one port.

use super::super::cost::StepTimer;
use super::super::message::PortDelta;
use super::port::GatherPort;
use crate::operators::stage::Stage;
use crate::plan::physical::StepId;
use std::collections::HashMap;

/// The ports, by local step.
#[derive(Default)]
pub(super) struct GatherPorts {
    by_step: HashMap<StepId, GatherPort>,
    /// Deltas that arrived since the last round.
    arrived: Vec<PortDelta>,
    /// Ports that received a delta since the last round.
    touched: Vec<StepId>,
}

/// What arrived deltas have changed.
#[derive(Default)]
pub(super) struct PortChanges {
    /// The gather steps whose rows changed.
    pub steps: Vec<StepId>,
    /// Annotations of local steps changed.
    pub annotations: bool,
}

impl GatherPorts {
    /// Adds the port of a local step.
    pub(super) fn add(&mut self, local: StepId, port: GatherPort) {
        self.by_step.insert(local, port);
    }

    /// Removes the port of a local step.
    pub(super) fn remove(&mut self, local: StepId) {
        self.by_step.remove(&local);
    }

    /// The port of a local step.
    pub(super) fn get(&self, local: StepId) -> Option<&GatherPort> {
        self.by_step.get(&local)
    }

    /// Takes a delta, which is applied in the next round.
    pub(super) fn deliver(&mut self, delta: PortDelta) {
        self.arrived.push(delta);
    }

    /// Applies the deltas that have arrived, and marks the steps that read these ports.
    pub(super) fn apply_arrived(&mut self, stage: &mut Stage, meter: &mut StepTimer) -> PortChanges {
        let mut changes = PortChanges::default();
        for delta in std::mem::take(&mut self.arrived) {
            let local = delta.port as StepId;
            changes.annotations |= delta.annotations.is_some();
            // The port may have been removed after the delta was sent.
            let Some(port) = self.by_step.get_mut(&local) else { continue };
            if !port.is_touched() {
                self.touched.push(local);
            }
            port.apply(delta, stage.output_mut(port.step));
            meter.step(port.step);
        }
        for local in std::mem::take(&mut self.touched) {
            let Some(port) = self.by_step.get_mut(&local) else { continue };
            if port.publish(stage.output_mut(port.step)) {
                stage.mark_readers_dirty(port.step);
                changes.steps.push(port.step);
            }
        }
        changes
    }
}
