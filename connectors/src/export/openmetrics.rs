//! Export as OpenMetrics text, which `perennial import openmetrics` and promtool read.
//!
//! The format has no native histograms and no stale markers: both are counted and left out. Every
//! NaN becomes the ordinary one.

use super::{ExportCounts, ExportError, ExportSchema, ExportWriter, ExportedSeries, number};
use crate::exposition::points::write_series;
use std::io::Write;
use storage::model::labels::METRIC_NAME;
use storage::model::value::is_stale;
use storage::model::{Labels, TimeMs};

struct OpenMetrics<W>(W);

/// A writer to `out`.
pub fn sink<'a>(out: impl Write + 'a, _: ExportSchema) -> Result<Box<dyn ExportWriter + 'a>, ExportError> {
    Ok(Box::new(OpenMetrics(out)))
}

impl<W: Write> ExportWriter for OpenMetrics<W> {
    fn series(
        &mut self,
        labels: &Labels,
        samples: &ExportedSeries,
        done: &mut ExportCounts,
    ) -> Result<(), ExportError> {
        let mut series = Vec::new();
        let pairs: Vec<(&str, &str)> = labels.iter().filter(|(name, _)| *name != METRIC_NAME).collect();
        write_series(&mut series, [labels.get(METRIC_NAME).unwrap_or_default(), ""], &pairs, None);
        for (t, v) in samples.ts.iter().zip(&samples.vs) {
            // A NaN in its place would be a value, and read back as one.
            if is_stale(*v) {
                done.stale_left_out += 1;
                continue;
            }
            self.0.write_all(&series)?;
            writeln!(self.0, " {} {}", number(*v), seconds(*t))?;
            done.samples += 1;
        }
        done.histograms_left_out += samples.histograms.len() as u64;
        Ok(())
    }

    fn finish(mut self: Box<Self>) -> Result<(), ExportError> {
        self.0.write_all(b"# EOF\n")?;
        Ok(self.0.flush()?)
    }
}

/// Seconds that read back as the same milliseconds. Readers multiply by 1000 and truncate, so for
/// some times three decimals alone would give the millisecond before.
fn seconds(t: TimeMs) -> String {
    let text =
        format!("{}{}.{:03}", if t < 0 { "-" } else { "" }, t.unsigned_abs() / 1000, t.unsigned_abs() % 1000);
    let exact = |text: &String| text.parse::<f64>().is_ok_and(|s| (s * 1000.0) as i64 == t);
    // The farther from 1970, the larger the distance between doubles.
    let texts = ["", "0001", "001", "01"].map(|more| format!("{text}{more}"));
    texts.into_iter().find(exact).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn times_read_back(t in -10_000_000_000_000i64..10_000_000_000_000) {
            let read: f64 = seconds(t).parse().unwrap();
            prop_assert_eq!((read * 1000.0) as i64, t, "{}", seconds(t));
        }
    }
}
