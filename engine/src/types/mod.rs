//! The types that all layers of the engine share: the type of an answer, positions in the query
//! text, the column of native histograms, and texts as Go prints them. Nothing here knows a
//! function or a plan.

pub mod go_text;
pub mod histogram_column;

use serde::{Deserialize, Serialize};

/// Byte range of the query text that a node came from.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Span {
    /// First byte.
    pub start: u32,
    /// Byte after the last.
    pub end: u32,
}

/// The type of a node's answer.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ValueType {
    /// One number.
    Scalar,
    /// Labelled values at one time.
    Vector,
    /// Labelled stretches of samples.
    Matrix,
    /// A string.
    Text,
}

/// How far beyond the edges of a window, or beyond the evaluation time, samples are looked at: by
/// the lookback.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum WindowExtension {
    /// Before the left edge: the value there is that of the sample before.
    Anchored,
    /// On both sides: the value at an edge lies on the line between the samples around it.
    Smoothed,
}

impl WindowExtension {
    /// As written in PromQL.
    pub fn as_str(self) -> &'static str {
        match self {
            WindowExtension::Anchored => "anchored",
            WindowExtension::Smoothed => "smoothed",
        }
    }
}
