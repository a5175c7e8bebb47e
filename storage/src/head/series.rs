//! A series in the head: its labels and where its samples are.

use super::lanes::Lanes;
use super::rows::Rows;
use crate::model::Labels;

/// A place of a series' samples: a column of a column set.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Home {
    /// The set's key inside the shard.
    pub set: u32,
    /// The column.
    pub column: u32,
}

/// One series.
#[derive(Default)]
pub struct Series {
    /// Its labels.
    pub labels: Labels,
    /// Columns it has or had; nearly always one.
    pub homes: Homes,
    /// Samples that came alone.
    pub rows: Option<Box<Rows>>,
    /// Native histograms and start timestamps, if it ever had some.
    pub lanes: Option<Box<Lanes>>,
    /// Whether it is in the postings: it has samples, or a writer holds on to it.
    pub listed: bool,
    /// Whether the log knows it.
    pub logged: bool,
}

impl Series {
    /// Whether it has samples outside columns, so that those in columns must be checked one by one.
    pub fn is_mixed(&self) -> bool {
        self.rows.is_some() || self.lanes.as_ref().is_some_and(|lanes| !lanes.histograms.is_empty())
    }
}

/// The homes of a series; one is kept without an allocation.
#[derive(Default)]
pub enum Homes {
    /// No column.
    #[default]
    None,
    /// The usual case.
    One(Home),
    /// Several groups, or several generations of one.
    Many(Box<[Home]>),
}

impl Homes {
    /// All of them, oldest first.
    pub fn as_slice(&self) -> &[Home] {
        match self {
            Homes::None => &[],
            Homes::One(home) => std::slice::from_ref(home),
            Homes::Many(homes) => homes,
        }
    }

    /// Adds one.
    pub fn push(&mut self, home: Home) {
        *self = match std::mem::take(self) {
            Homes::None => Homes::One(home),
            Homes::One(first) => Homes::Many([first, home].into()),
            Homes::Many(homes) => Homes::Many(homes.iter().copied().chain([home]).collect()),
        };
    }

    /// Removes the one in `set`.
    pub fn remove(&mut self, set: u32) {
        let left: Vec<Home> = self.as_slice().iter().copied().filter(|home| home.set != set).collect();
        *self = match left.as_slice() {
            [] => Homes::None,
            [one] => Homes::One(*one),
            _ => Homes::Many(left.into()),
        };
    }
}
