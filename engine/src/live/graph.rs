//! The shared graph of one stage: steps of all views, each distinct step once.
//!
//! A thousand rules over `rate(http_requests_total[5m])` keep one window: equal steps over equal inputs get
//! the same number. Numbers are handed out in the order of the control stream, so all workers agree on them;
//! they are never reused, so inputs always have smaller numbers than their readers.

use crate::plan::physical::{Step, StepId, StepOp};
use std::collections::HashMap;

/// See the module.
#[derive(Default)]
pub struct Graph {
    steps: Vec<Option<Step>>,
    readers: Vec<u32>,
    ids: HashMap<Step, StepId>,
}

impl Graph {
    /// Adds a view's steps; returns the number of each, and which are new.
    pub fn intern(&mut self, steps: &[Step], port: impl Fn(StepId) -> StepId) -> (Vec<StepId>, Vec<StepId>) {
        let (mut numbers, mut new) = (Vec::with_capacity(steps.len()), Vec::new());
        for step in steps {
            let op = match &step.op {
                StepOp::Port(local) => StepOp::Port(port(*local)),
                op => op.clone(),
            };
            let step = Step { op, inputs: step.inputs.iter().map(|i: &StepId| numbers[*i]).collect() };
            let next = self.steps.len();
            let id = *self.ids.entry(step.clone()).or_insert(next);
            if id == next {
                self.steps.push(Some(step));
                self.readers.push(0);
                new.push(id);
            }
            self.readers[id] += 1;
            numbers.push(id);
        }
        (numbers, new)
    }

    /// Takes a view's steps away; returns those that nobody reads any more.
    pub fn release(&mut self, numbers: &[StepId]) -> Vec<StepId> {
        let mut gone = Vec::new();
        for id in numbers {
            self.readers[*id] -= 1;
            if self.readers[*id] == 0 {
                if let Some(step) = self.steps[*id].take() {
                    self.ids.remove(&step);
                }
                gone.push(*id);
            }
        }
        gone
    }

    /// The step with this number, while it has readers.
    pub fn step(&self, id: StepId) -> Option<&Step> {
        self.steps.get(id).and_then(Option::as_ref)
    }
}
