//! A store in a temporary directory for one segment of a test file (what lies between two `clear`),
//! and the samples to append in the order of their times.

use super::errors::TestRunError;
use super::load::{LoadedSample, LoadedSeries};
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use storage::disk::{Disk, DiskFile, OsDisk, ReadFile};
use storage::metrics::Metrics;
use storage::model::{Labels, SeriesRef, TimeMs};
use storage::store::{FloatRow, HistogramRow, StartRow, Store, StoreError, StoreOptions};
use tempfile::TempDir;

/// All loaded samples, in the order in which they arrive.
#[derive(Default)]
pub(super) struct SampleTimeline {
    series: Vec<Labels>,
    /// Index of the series and sample, by time.
    arrivals: Vec<(usize, LoadedSample)>,
}

impl SampleTimeline {
    /// The samples of several loads, in time order.
    pub(super) fn from_loads(loads: &[LoadedSeries]) -> SampleTimeline {
        let mut samples = SampleTimeline::default();
        for (labels, of_series) in loads.iter().flatten() {
            let at = samples.series.iter().position(|known| known == labels).unwrap_or_else(|| {
                samples.series.push(labels.clone());
                samples.series.len() - 1
            });
            samples.arrivals.extend(of_series.iter().map(|sample| (at, sample.clone())));
        }
        // A stable sort: of samples with one time, those that the file loads first come first.
        samples.arrivals.sort_by_key(|(_, sample)| sample.t);
        samples
    }

    /// The number of samples.
    pub(super) fn len(&self) -> usize {
        self.arrivals.len()
    }

    /// The number of samples up to time `t`.
    pub(super) fn until(&self, t: TimeMs) -> usize {
        self.arrivals.partition_point(|(_, sample)| sample.t <= t)
    }

    /// The times of the samples.
    pub(super) fn times(&self) -> impl Iterator<Item = TimeMs> {
        self.arrivals.iter().map(|(_, sample)| sample.t)
    }
}

/// The store of a segment.
pub(super) struct TestStore {
    pub store: Arc<Store>,
    refs: Vec<SeriesRef>,
    dir: TempDir,
}

impl TestStore {
    /// An empty store for these samples.
    pub(super) fn new(samples: &SampleTimeline) -> Result<TestStore, TestRunError> {
        let dir = tempfile::tempdir().map_err(TestRunError::Directory)?;
        let store = open(dir.path())?;
        let refs = samples.series.iter().map(|labels| store.get_or_create_series(labels)).collect();
        Ok(TestStore { store, refs, dir })
    }

    /// Closes the store and opens it again.
    pub(super) fn restart(&mut self, samples: &SampleTimeline) -> Result<(), TestRunError> {
        self.store.close()?;
        self.store = open(self.dir.path())?;
        self.refs = samples.series.iter().map(|labels| self.store.get_or_create_series(labels)).collect();
        Ok(())
    }

    /// Appends a part of the samples, in order.
    pub(super) fn append(&self, samples: &SampleTimeline, which: Range<usize>) -> Result<(), TestRunError> {
        let part = &samples.arrivals[which];
        part.chunk_by(|a, b| a.1.histogram.is_some() == b.1.histogram.is_some())
            .try_for_each(|alike| self.append_alike(alike))
    }

    /// Appends samples of one kind.
    fn append_alike(&self, part: &[(usize, LoadedSample)]) -> Result<(), TestRunError> {
        let histogram = |(series, sample): &(usize, LoadedSample)| {
            let h = sample.histogram.clone()?;
            Some(HistogramRow { series: self.refs[*series], t: sample.t, h })
        };
        let float = |(series, sample): &(usize, LoadedSample)| FloatRow {
            series: self.refs[*series],
            t: sample.t,
            v: sample.v,
        };
        let start = |(series, sample): &(usize, LoadedSample)| {
            Some(StartRow { series: self.refs[*series], t: sample.t, start: sample.start? })
        };
        let histograms: Vec<HistogramRow> = part.iter().filter_map(histogram).collect();
        let stored = if histograms.is_empty() {
            self.store.append_rows(&part.iter().map(float).collect::<Vec<_>>())
        } else {
            self.store.append_histograms(&histograms)
        };
        // A test over fewer samples than its file says would prove nothing.
        let refused = part.len() - stored?.stored;
        if refused > 0 {
            return Err(TestRunError::Refused(refused));
        }
        let starts: Vec<StartRow> = part.iter().filter_map(start).collect();
        if !starts.is_empty() {
            self.store.append_starts(&starts)?;
        }
        Ok(())
    }
}

fn open(dir: &Path) -> Result<Arc<Store>, StoreError> {
    let options = StoreOptions {
        dir: dir.to_owned(),
        wal_sync_interval_ms: 60_000,
        block_range_ms: 7_200_000,
        out_of_order_ms: 0,
    };
    let (store, _) = Store::open(options, Arc::new(NoSyncDisk(OsDisk)), &Metrics::default())?;
    Ok(store)
}

/// A disk that does not sync: the files are needed only during the test.
struct NoSyncDisk(OsDisk);

struct NoSyncFile(Box<dyn DiskFile>);

impl DiskFile for NoSyncFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.append(bytes)
    }
    fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Disk for NoSyncDisk {
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(NoSyncFile(self.0.create(path)?)))
    }
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.0.read(path)
    }
    fn open(&self, path: &Path) -> io::Result<Arc<dyn ReadFile>> {
        self.0.open(path)
    }
    fn is_dir(&self, path: &Path) -> bool {
        self.0.is_dir(path)
    }
    fn list(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
        self.0.list(path)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        self.0.remove(path)
    }
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.0.create_dir(path)
    }
    fn truncate(&self, path: &Path, len: u64) -> io::Result<()> {
        self.0.truncate(path, len)
    }
    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }
}
