//! Export as CSV (RFC 4180): one row per sample, one column per label.
//!
//! Columns: `timestamp` (ms since the epoch), `value` (empty for a stale marker or a histogram),
//! `histogram` (as PromQL prints it; only if there is any), then the labels by name. A label with
//! the name of one of these columns gets the prefix `exported_`, repeated until the name is unique.

use super::{ExportCounts, ExportError, ExportSchema, ExportWriter, ExportedSeries, number};
use std::io::Write;
use storage::model::Labels;
use storage::model::value::is_stale;

/// The columns that are not labels.
const FIXED_COLUMNS: [&str; 3] = ["timestamp", "value", "histogram"];

/// The column names of labels.
pub(super) fn columns(labels: &[String]) -> impl Iterator<Item = String> {
    labels.iter().map(|label| {
        let mut column = label.clone();
        // Two columns of one name would be read as one by most programs.
        while FIXED_COLUMNS.contains(&column.as_str()) || column != *label && labels.contains(&column) {
            column = format!("exported_{column}");
        }
        column
    })
}

struct CsvWriter<W> {
    out: W,
    schema: ExportSchema,
}

/// A writer to `out`. Writes the header at once.
pub fn sink<'a>(
    out: impl Write + 'a,
    schema: ExportSchema,
) -> Result<Box<dyn ExportWriter + 'a>, ExportError> {
    let mut out = out;
    let own = FIXED_COLUMNS
        .iter()
        .filter(|name| schema.histograms || **name != "histogram")
        .map(|n| (*n).to_owned());
    let header: Vec<String> = own.chain(columns(&schema.labels).map(|column| field(&column))).collect();
    write!(out, "{}\r\n", header.join(","))?;
    Ok(Box::new(CsvWriter { out, schema }))
}

impl<W: Write> ExportWriter for CsvWriter<W> {
    fn series(
        &mut self,
        labels: &Labels,
        samples: &ExportedSeries,
        done: &mut ExportCounts,
    ) -> Result<(), ExportError> {
        let values = self.schema.labels.iter().map(|name| field(labels.get(name).unwrap_or_default()));
        let labels: String = values.map(|value| format!(",{value}")).collect();
        let empty = if self.schema.histograms { "," } else { "" };
        let mut histograms = samples.histograms.iter().peekable();
        for (t, v) in samples.ts.iter().zip(&samples.vs) {
            // Floats and histograms of a series are merged by time, because readers expect rows in
            // order.
            while let Some((t, h)) = histograms.next_if(|(at, _)| at < t) {
                write!(self.out, "{t},,{}{labels}\r\n", field(&h.to_string()))?;
            }
            let v = if is_stale(*v) { String::new() } else { number(*v) };
            write!(self.out, "{t},{v}{empty}{labels}\r\n")?;
        }
        for (t, h) in histograms {
            write!(self.out, "{t},,{}{labels}\r\n", field(&h.to_string()))?;
        }
        done.samples += (samples.ts.len() + samples.histograms.len()) as u64;
        Ok(())
    }

    fn finish(mut self: Box<Self>) -> Result<(), ExportError> {
        Ok(self.out.flush()?)
    }
}

/// A field, quoted if necessary.
fn field(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::columns;

    #[test]
    fn no_two_columns_have_the_same_name() {
        let labels = ["exported_value", "i", "value", "timestamp"].map(str::to_owned);
        let named: Vec<String> = columns(&labels).collect();
        assert_eq!(named, ["exported_value", "i", "exported_exported_value", "exported_timestamp"]);
    }
}
