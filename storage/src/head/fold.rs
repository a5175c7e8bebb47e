//! Windows that lie next to each other become one: each begins its columns anew, so one long window is smaller than many
//! short ones. A few columns are moved with each row, so that no append waits for all of them.

use super::window::{Window, WindowBuilder};
use crate::limits::{HEAD_FOLDED_WINDOWS, HEAD_WINDOW_SCRAPES};
use crate::model::TimeMs;
use std::sync::Arc;

/// Windows on their way to be one.
pub struct Fold {
    windows: Vec<Arc<Window>>,
    columns: usize,
    builder: WindowBuilder,
    column: Vec<u64>,
}

impl Fold {
    /// What there is to do: the newest windows, if enough of them are short. `range` is not crossed.
    pub fn due(windows: &[Arc<Window>], range: i64) -> Option<Fold> {
        let first = windows.len().checked_sub(HEAD_FOLDED_WINDOWS)?;
        let at = |t: TimeMs| t.div_euclid(range);
        let short = |w: &Arc<Window>| w.clock().len() <= HEAD_WINDOW_SCRAPES;
        let windows = &windows[first..];
        if !windows.iter().all(short) || at(windows[0].min()) != at(windows[windows.len() - 1].max()) {
            return None;
        }
        let columns = windows.iter().map(|w| w.columns()).max().unwrap_or(0);
        // One long window is smaller than the short ones: it never has to move to a larger place.
        let bytes = windows.iter().map(|w| w.size()).sum();
        let (builder, column) = (WindowBuilder::new(columns, bytes, true), Vec::new());
        Some(Fold { windows: windows.to_vec(), columns, builder, column })
    }

    /// Does a part of the work; whether it was the last.
    pub fn work(&mut self) -> bool {
        let end = self.columns.min(self.builder.columns() + self.columns.div_ceil(HEAD_WINDOW_SCRAPES));
        for c in self.builder.columns() as u32..end as u32 {
            let first = self.windows[0].constant(c);
            match first.filter(|_| self.windows[1..].iter().all(|window| window.constant(c) == first)) {
                Some(bits) => self.builder.push_constant(bits),
                None => {
                    self.column.clear();
                    self.windows.iter().for_each(|window| window.append_bits(c, &mut self.column));
                    self.builder.push(&self.column);
                }
            }
        }
        end == self.columns
    }

    /// Puts the one window where the others are, if they are still there.
    pub fn finish(self, windows: &mut Vec<Arc<Window>>) {
        let Some(at) = windows.iter().position(|w| Arc::ptr_eq(w, &self.windows[0])) else { return };
        let clock = self.windows.iter().flat_map(|w| w.clock().iter().copied()).collect();
        let one = Arc::new(self.builder.finish(clock));
        windows.splice(at..at + self.windows.len(), [one]);
    }
}
