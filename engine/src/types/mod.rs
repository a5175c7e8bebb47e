//! Types that all layers of the engine share: the type of an answer, positions in the query text,
//! the column of native histograms, and texts as Go prints them. Nothing here depends on functions
//! or plans.

pub mod go_text;
pub mod histogram_column;

use serde::{Deserialize, Serialize};

/// The byte range of the query text that a node comes from.
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
    /// Labelled series of samples.
    Matrix,
    /// A string.
    Text,
}

/// Modifiers of a window that also use samples outside of it, up to the lookback away from its
/// edges.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum WindowExtension {
    /// `anchored`: the value at the left edge is that of the sample before it.
    Anchored,
    /// `smoothed`: the value at each edge is interpolated between the samples around it.
    Smoothed,
}

impl WindowExtension {
    /// The keyword of PromQL.
    pub fn as_str(self) -> &'static str {
        match self {
            WindowExtension::Anchored => "anchored",
            WindowExtension::Smoothed => "smoothed",
        }
    }
}
