//! The scalar parameters of a leaf's window function, such as the first argument of
//! `quantile_over_time(scalar(x), y[5m])`: their current values, and whether the function accepts
//! them.

use crate::functions::{Function, ParamError};
use crate::heap_size::HeapSize;

/// The parameters of a leaf.
#[derive(Default)]
pub(super) struct LeafParams {
    pub values: Vec<f64>,
    /// Why the function rejects the current parameters.
    pub rejection: Option<ParamError>,
    /// In this evaluation a window had samples although the function rejects its parameters. Only
    /// then is that an error: Prometheus reports none for an empty selector.
    pub met_samples: bool,
}

impl LeafParams {
    /// Whether other parameters differ from the current ones. Compared by bits, so that NaN equals
    /// itself.
    pub(super) fn differ_from(&self, values: &[f64]) -> bool {
        values.len() != self.values.len()
            || values.iter().zip(&self.values).any(|(a, b)| a.to_bits() != b.to_bits())
    }

    /// Sets the parameters, and asks the function whether it accepts them.
    pub(super) fn set(&mut self, values: Vec<f64>, function: Option<&Function>) {
        let check = function.and_then(|function| function.check);
        self.rejection = check.and_then(|check| check(&values).err());
        self.values = values;
    }

    /// Whether the function rejects the current parameters.
    pub(super) fn are_rejected(&self) -> bool {
        self.rejection.is_some()
    }

    /// Bytes allocated.
    pub(super) fn bytes(&self) -> usize {
        self.values.heap()
    }
}
