//! When a column set seals its open rows, and how many short windows become one
//! ([`super::chunk_merge`]). Targets that are scraped at one interval would do both at the same
//! scrapes, and all of them would hold most at the same time; so each begins somewhere else on the
//! way from one long window to the next.

use crate::limits::{HEAD_FOLDED_WINDOWS, HEAD_WINDOW_SCRAPES};

/// What a set waits for.
pub struct SealSchedule {
    /// Open rows that become a window.
    pub rows: usize,
    /// Short windows that become a long one.
    pub windows: usize,
}

impl SealSchedule {
    /// How a group's set begins. Groups in a row are spread evenly, however many there are (by the
    /// golden ratio).
    pub fn begin(group: u32) -> SealSchedule {
        let turn = u64::from(group.wrapping_mul(0x9E37_79B9));
        let scrapes = (HEAD_WINDOW_SCRAPES * HEAD_FOLDED_WINDOWS) as u64;
        let at = ((turn * scrapes) >> 32) as usize;
        // One window alone cannot become one.
        SealSchedule { rows: 1 + at % HEAD_WINDOW_SCRAPES, windows: 2 + at / HEAD_WINDOW_SCRAPES }
    }

    /// The rows were sealed.
    pub fn sealed(&mut self) {
        self.rows = HEAD_WINDOW_SCRAPES;
    }

    /// So many windows became one.
    pub fn folded(&mut self) {
        self.windows = HEAD_FOLDED_WINDOWS;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_begin_apart() {
        for groups in [8_u32, 10, 64, 1000] {
            let mut windows = [0; HEAD_FOLDED_WINDOWS];
            for group in 0..groups {
                let pace = SealSchedule::begin(group);
                assert!((1..=HEAD_WINDOW_SCRAPES).contains(&pace.rows));
                windows[pace.windows % HEAD_FOLDED_WINDOWS] += 1;
            }
            let fair = groups.div_ceil(HEAD_FOLDED_WINDOWS as u32);
            assert!(windows.iter().all(|n| *n <= fair + 1), "{groups} groups: {windows:?}");
        }
    }
}
