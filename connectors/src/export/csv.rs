//! CSV (RFC 4180): a row per sample, a column per label.
//!
//! Columns: `timestamp` (ms since the epoch), `value` (empty: a stale marker, or a histogram), `histogram` (as PromQL prints it; only if there
//! is one), then the labels by name. A label that has the name of one of these gets `exported_` before it.

use super::{ExportError, Exported, Samples, Shape, Sink, number};
use std::io::Write;
use storage::model::Labels;
use storage::model::value::is_stale;

/// The columns that are no labels.
const OWN: [&str; 3] = ["timestamp", "value", "histogram"];

/// The column of a label, by its name.
pub(super) fn column(label: &str) -> String {
    if OWN.contains(&label) { format!("exported_{label}") } else { label.to_owned() }
}

struct Csv<W> {
    out: W,
    shape: Shape,
}

/// A sink into `out`; the header is written at once.
pub fn sink<'a>(out: impl Write + 'a, shape: Shape) -> Result<Box<dyn Sink + 'a>, ExportError> {
    let mut out = out;
    let own = OWN.iter().filter(|name| shape.histograms || **name != "histogram").map(|n| (*n).to_owned());
    let header: Vec<String> = own.chain(shape.labels.iter().map(|l| field(&column(l)))).collect();
    write!(out, "{}\r\n", header.join(","))?;
    Ok(Box::new(Csv { out, shape }))
}

impl<W: Write> Sink for Csv<W> {
    fn series(&mut self, labels: &Labels, samples: &Samples, done: &mut Exported) -> Result<(), ExportError> {
        let values = self.shape.labels.iter().map(|name| field(labels.get(name).unwrap_or_default()));
        let labels: String = values.map(|value| format!(",{value}")).collect();
        let empty = if self.shape.histograms { "," } else { "" };
        let mut histograms = samples.histograms.iter().peekable();
        for (t, v) in samples.ts.iter().zip(&samples.vs) {
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

/// A text, quoted if it must be.
fn field(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}
