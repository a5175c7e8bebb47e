//! The steps (operators) of all views in one stage, as a shared graph: equal steps exist once.
//!
//! A thousand rules over `rate(http_requests_total[5m])` share one window, because equal steps over
//! equal inputs get the same number. Numbers are assigned in the order of the control messages, so
//! they are equal in all workers. The inputs of a step always have smaller numbers than the step; a
//! free number is reused only for a step whose inputs have smaller ones.

use super::describe::StepCount;
use crate::plan::physical::{Step, StepId, StepOp};
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

/// The steps of one stage.
#[derive(Default)]
pub struct StepGraph {
    steps: Vec<Option<Arc<Step>>>,
    readers: Vec<u32>,
    ids: HashMap<Arc<Step>, StepId>,
    free: BTreeSet<StepId>,
}

impl StepGraph {
    /// Adds a view's steps. Returns the number of each, and which are new.
    pub fn intern(&mut self, steps: &[Step], port: impl Fn(StepId) -> StepId) -> (Vec<StepId>, Vec<StepId>) {
        let mut numbers = Vec::with_capacity(steps.len());
        let mut new = Vec::new();
        for step in steps {
            let op = match &step.op {
                StepOp::Port(local) => StepOp::Port(port(*local)),
                op => op.clone(),
            };
            let step = Step { op, inputs: step.inputs.iter().map(|i: &StepId| numbers[*i]).collect() };
            let id = match self.ids.get(&step) {
                Some(id) => *id,
                None => {
                    let id = self.add(step);
                    new.push(id);
                    id
                }
            };
            self.readers[id] += 1;
            numbers.push(id);
        }
        (numbers, new)
    }

    /// Gives a new step the smallest free number above those of its inputs.
    fn add(&mut self, step: Step) -> StepId {
        // One pass in ascending order must evaluate inputs before readers. A free number below an
        // input would break that.
        let above = step.inputs.iter().max().map_or(0, |input| input + 1);
        let free = self.free.range(above..).next().copied();
        let id = free.unwrap_or(self.steps.len());
        self.free.remove(&id);
        if id == self.steps.len() {
            self.steps.push(None);
            self.readers.push(0);
        }
        let step = Arc::new(step);
        self.ids.insert(step.clone(), id);
        self.steps[id] = Some(step);
        id
    }

    /// Removes a view's steps. Returns those that have no readers any more.
    pub fn release(&mut self, numbers: &[StepId]) -> Vec<(StepId, Step)> {
        let mut gone = Vec::new();
        for id in numbers {
            self.readers[*id] -= 1;
            if self.readers[*id] > 0 {
                continue;
            }
            if let Some(step) = self.steps[*id].take() {
                // A retired step has left `ids` already, and an equal newer step may have taken its
                // place there.
                if self.ids.get(&step) == Some(id) {
                    self.ids.remove(&step);
                }
                self.free.insert(*id);
                gone.push((*id, Arc::unwrap_or_clone(step)));
            }
        }
        gone
    }

    /// Makes equal steps of later views get new numbers, and so all steps that read them. Existing
    /// readers keep the old steps. Returns the numbers.
    pub fn retire(&mut self, which: impl Fn(&Step) -> bool) -> Vec<StepId> {
        let steps = self.steps.iter().enumerate();
        let retired: Vec<StepId> = steps
            .filter_map(|(id, step)| {
                let step = step.as_ref().filter(|step| which(step))?;
                (self.ids.get(step) == Some(&id)).then_some(id)
            })
            .collect();
        for id in &retired {
            if let Some(step) = &self.steps[*id] {
                self.ids.remove(step);
            }
        }
        retired
    }

    /// How many distinct steps a view with these steps has, and how many of them other views have,
    /// too.
    pub fn sharing(&self, numbers: &[StepId]) -> StepCount {
        let mut steps = StepCount::default();
        for (_, shared) in self.distinct(numbers) {
            steps.total += 1;
            steps.shared += usize::from(shared);
        }
        steps
    }

    /// The distinct steps of a view with these steps, and whether other views have them, too.
    pub fn distinct(&self, numbers: &[StepId]) -> Vec<(StepId, bool)> {
        let mut sorted = numbers.to_vec();
        sorted.sort_unstable();
        let same = sorted.chunk_by(|a, b| a == b);
        same.map(|same| (same[0], self.readers[same[0]] as usize > same.len())).collect()
    }

    /// Number of steps that new views can share.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// How often views use a step.
    pub fn readers(&self, id: StepId) -> u32 {
        self.readers.get(id).copied().unwrap_or(0)
    }

    /// The step with this number, while it has readers.
    pub fn step(&self, id: StepId) -> Option<&Arc<Step>> {
        self.steps.get(id).and_then(Option::as_ref)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::BitFloat;

    fn number(n: f64) -> Step {
        Step { op: StepOp::Number(BitFloat(n)), inputs: Vec::new() }
    }

    fn sum(a: StepId, b: StepId) -> Step {
        Step { op: StepOp::ToVector, inputs: vec![a, b] }
    }

    #[test]
    fn numbers_are_used_again_above_their_inputs() {
        let mut graph = StepGraph::default();
        let (first, _) = graph.intern(&[number(1.0), number(2.0), sum(0, 1)], |port| port);
        assert_eq!(first, [0, 1, 2]);
        let (second, new) = graph.intern(&[number(2.0), number(3.0), sum(0, 1)], |port| port);
        assert_eq!((second.clone(), new), (vec![1, 3, 4], vec![3, 4]));
        let gone: Vec<StepId> = graph.release(&first).into_iter().map(|(id, _)| id).collect();
        assert_eq!(gone, [0, 2]);
        let (third, _) = graph.intern(&[number(3.0), number(4.0), sum(0, 1)], |port| port);
        assert_eq!(third, [3, 0, 5], "2 is below its input");
    }

    #[test]
    fn what_is_retired_is_not_shared_any_more() {
        let mut graph = StepGraph::default();
        let steps = [number(1.0), sum(0, 0)];
        let (old, _) = graph.intern(&steps, |port| port);
        assert_eq!(graph.retire(|step| matches!(step.op, StepOp::Number(_))), [0]);
        let (new, _) = graph.intern(&steps, |port| port);
        assert_eq!(new, [2, 3]);
        assert_eq!(graph.release(&old).len(), 2);
        assert_eq!(graph.intern(&steps, |port| port).0, new, "the old ones took nothing along");
    }
}
