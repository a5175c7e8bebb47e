//! Cold blocks: the blocks of a data directory that are in an object store (`docs/objects.md`,
//! `docs/format/objects.md`).
//!
//! `objects/` in the data directory has a small file for each of them, so that a start knows all
//! cold blocks even if the object store does not answer. In the store, a block has a `meta.json`
//! that is written last and deleted first: without it the objects are not a block. [`ColdBlock`] is
//! a cold block as readers see it; [`range_cache`] caches what was read of all of them.

mod block;
mod files;
mod prefetch;
mod range_cache;
mod upload;

pub use block::ColdBlock;

use super::cache::PageCache;
use super::meta::META;
use super::{Block, BlockMeta, damaged, io_error};
use crate::disk::Disk;
use crate::error::StoreError;
use crate::limits::COLD_META_BYTES;
use crate::metrics::Metrics;
use crate::object_store::{MeteredObjectStore, ObjectStorage};
use block::OpenColdBlocks;
use files::ColdFiles;
use parking_lot::Mutex;
use range_cache::RangeCache;
use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The object that says which data directory owns the others.
const OWNER: &str = "owner";
/// The extension of the file of a block whose objects must be deleted.
const DELETING: &str = "deleting";

/// Where cold blocks are, and when blocks become cold.
#[derive(Clone)]
pub struct ColdOptions {
    /// The object store.
    pub objects: Arc<dyn ObjectStorage>,
    /// A block is moved when its newest sample is older than this, ms.
    pub after_ms: i64,
    /// Maximum size of the range cache, bytes.
    pub cache_bytes: u64,
    /// Identifies this data directory, if it has no such mark yet.
    pub mark: String,
}

/// The cold blocks of a data directory.
pub struct ColdStore {
    disk: Arc<dyn Disk>,
    /// `objects/` in the data directory.
    dir: PathBuf,
    bucket: Option<ColdBucket>,
    pages: PageCache,
    opened: OpenColdBlocks,
    /// Held while a thread prefetches.
    ahead: Mutex<()>,
    state: Mutex<State>,
}

/// The object store and what belongs to it.
struct ColdBucket {
    objects: Arc<MeteredObjectStore>,
    cache: Arc<RangeCache>,
    after_ms: i64,
    mark: String,
}

#[derive(Default)]
struct State {
    /// Names of the blocks that are recorded in `objects/`.
    known: BTreeSet<String>,
    /// Why the content of the object store is not known; `None` if it is.
    unlisted: Option<String>,
    /// Recorded blocks that the object store does not have.
    missing: BTreeSet<String>,
}

impl ColdStore {
    /// Opens `data/objects`. Also returns the recorded blocks.
    pub(super) fn open(
        disk: Arc<dyn Disk>,
        data: &Path,
        options: Option<ColdOptions>,
        pages: PageCache,
        metrics: &Metrics,
    ) -> Result<(Arc<ColdStore>, Vec<ColdBlock>), StoreError> {
        let dir = data.join("objects");
        // Nothing was ever moved: no directory is made for a feature that is not used. With a
        // directory but without options the blocks are known, and reading them says what is
        // missing.
        if !disk.is_dir(&dir) && options.is_none() {
            return Ok((Arc::new(ColdStore::new(disk, dir, None, pages)), Vec::new()));
        }
        // What is seen now must survive a power loss, as in `blocks/`.
        disk.create_dir(&dir).and_then(|()| disk.sync_dir(&dir)).map_err(io_error(&dir))?;
        let bucket = options.map(|options| ColdBucket::open(&disk, &dir, options, metrics)).transpose()?;
        let cold = ColdStore::new(disk, dir, bucket, pages);
        let metas = cold.described()?;
        cold.state.lock().known = metas.iter().map(|meta| meta.name().to_string()).collect();
        let cold = Arc::new(cold);
        let blocks = metas.into_iter().map(|meta| ColdBlock::new(meta, cold.clone())).collect();
        Ok((cold, blocks))
    }

    fn new(disk: Arc<dyn Disk>, dir: PathBuf, bucket: Option<ColdBucket>, pages: PageCache) -> ColdStore {
        let unlisted = bucket.as_ref().map(|_| "it was not reached yet".to_owned());
        let state = Mutex::new(State { unlisted, ..State::default() });
        ColdStore {
            disk,
            dir,
            bucket,
            pages,
            opened: OpenColdBlocks::default(),
            ahead: Mutex::default(),
            state,
        }
    }

    /// The metadata of the blocks recorded in `objects/`. A damaged record is skipped;
    /// [`ColdStore::reconcile_cold_storage`] writes it again.
    fn described(&self) -> Result<Vec<BlockMeta>, StoreError> {
        let mut metas = Vec::new();
        for path in self.disk.list(&self.dir).map_err(io_error(&self.dir))? {
            // Records of deletions have another extension; temporary files are written again.
            let (Some("json"), Some(name)) = (extension(&path), path.file_stem()) else { continue };
            let text = self.disk.read(&path).map_err(io_error(&path))?;
            match BlockMeta::decode(&self.address(&name.to_string_lossy()), &text) {
                Ok(meta) => metas.push(meta),
                Err(error) => {
                    tracing::error!(path = %path.display(), %error, "the record of a cold block is damaged: the block is not known before the object store is listed")
                }
            }
        }
        Ok(metas)
    }

    /// The address of block `name`, for messages and as its directory.
    fn address(&self, name: &str) -> PathBuf {
        match &self.bucket {
            Some(bucket) => Path::new(bucket.objects.address()).join(name),
            None => self.dir.join(name),
        }
    }

    /// The age at which blocks are moved, ms; `None`: never.
    pub fn move_after_ms(&self) -> Option<i64> {
        self.bucket.as_ref().map(|bucket| bucket.after_ms)
    }

    fn bucket(&self, block: &BlockMeta) -> Result<&ColdBucket, StoreError> {
        self.bucket.as_ref().ok_or_else(|| {
            let why = "the block is in an object store, and the configuration names none (storage.objects)";
            io_error(&block.dir)(std::io::Error::new(ErrorKind::NotConnected, why))
        })
    }

    fn source(&self, meta: &BlockMeta) -> Result<ColdFiles, StoreError> {
        let bucket = self.bucket(meta)?;
        let objects = bucket.objects.clone();
        let cache = bucket.cache.clone();
        Ok(ColdFiles { objects, cache, block: meta.name().to_string() })
    }

    fn read(&self, meta: &BlockMeta) -> Result<Block, StoreError> {
        Block::open_in(&self.source(meta)?, meta.clone(), &self.pages)
    }

    /// Names of the blocks recorded in `objects/`, including damaged records.
    pub fn names(&self) -> Result<Vec<String>, StoreError> {
        if !self.disk.is_dir(&self.dir) {
            return Ok(Vec::new());
        }
        let files = self.disk.list(&self.dir).map_err(io_error(&self.dir))?;
        let described = files.iter().filter(|path| extension(path) == Some("json"));
        Ok(described.filter_map(|path| Some(path.file_stem()?.to_string_lossy().into_owned())).collect())
    }

    /// Whether a block of this name is recorded in `objects/`.
    pub fn is_recorded(&self, name: &str) -> bool {
        self.state.lock().known.contains(name)
    }

    /// Why answers may be incomplete; `None` if they are complete, or errors.
    pub fn incomplete_reason(&self) -> Option<String> {
        let bucket = self.bucket.as_ref()?;
        let why = self.state.lock().unlisted.clone()?;
        Some(format!("blocks in the object store {} may be missing: {why}", bucket.objects.address()))
    }

    /// Records durably that the block is cold.
    pub fn record(self: &Arc<ColdStore>, meta: &BlockMeta) -> Result<ColdBlock, StoreError> {
        let name = meta.name().to_string();
        let path = self.dir.join(format!("{name}.json"));
        let temporary = path.with_extension("tmp");
        let text = meta.encode().map_err(|e| damaged(&path, e))?;
        let write = || {
            let mut file = self.disk.create(&temporary)?;
            file.append(&text)?;
            file.sync()?;
            drop(file);
            self.disk.rename(&temporary, &path)
        };
        write().map_err(io_error(&path))?;
        let mut meta = meta.clone();
        meta.dir = self.address(&name);
        self.state.lock().known.insert(name);
        Ok(ColdBlock::new(meta, self.clone()))
    }

    /// Records durably that the objects of the block must be deleted.
    pub fn schedule_delete(&self, name: &str) -> Result<(), StoreError> {
        let path = self.dir.join(format!("{name}.json"));
        let renamed = self.disk.rename(&path, &path.with_extension(DELETING)).or_else(|error| {
            // After an error the rename may have happened without becoming durable.
            if self.disk.size(&path).is_ok() { Err(error) } else { self.disk.sync_dir(&self.dir) }
        });
        renamed.map_err(io_error(&path))?;
        let mut state = self.state.lock();
        state.known.remove(name);
        state.missing.remove(name);
        Ok(())
    }

    /// Names of the blocks whose objects must be deleted.
    fn forgotten(&self) -> Result<Vec<String>, StoreError> {
        let files = self.disk.list(&self.dir).map_err(io_error(&self.dir))?;
        let gone = files.iter().filter(|path| extension(path) == Some(DELETING));
        Ok(gone.filter_map(|path| Some(path.file_stem()?.to_string_lossy().into_owned())).collect())
    }

    /// Whether there is an object store, it answers, and its content is known.
    pub fn is_there(&self) -> bool {
        let answers = self.bucket.as_ref().is_some_and(|bucket| bucket.objects.is_up());
        answers && self.state.lock().unlisted.is_none()
    }

    /// Lists the object store if that was not done yet: `found` gets the blocks that were not
    /// recorded, also if an error is returned. Then deletes objects that are scheduled for
    /// deletion.
    pub fn reconcile_cold_storage(
        self: &Arc<ColdStore>,
        found: &mut Vec<ColdBlock>,
    ) -> Result<(), StoreError> {
        let Some(bucket) = &self.bucket else { return Ok(()) };
        if self.incomplete_reason().is_some() {
            let outcome = self.list(bucket, found);
            self.state.lock().unlisted = outcome.as_ref().err().map(ToString::to_string);
            match outcome {
                // The other blocks are known. The error is logged, and reported with the next
                // request.
                Err(error @ StoreError::Damaged { .. }) => {
                    tracing::error!(%error, "a cold block is left out")
                }
                outcome => outcome?,
            }
        } else if !bucket.objects.is_up() {
            // Ask now whether the store answers again: it may be long until a query does.
            bucket.own()?;
        }
        for name in self.forgotten()? {
            // A block with the same content, and so the same name, may have been uploaded again.
            if !self.is_recorded(&name) {
                self.delete(bucket, &name)?;
            }
            let path = self.dir.join(format!("{name}.{DELETING}"));
            self.disk.remove(&path).map_err(io_error(&path))?;
        }
        Ok(())
    }

    fn list(
        self: &Arc<ColdStore>,
        bucket: &ColdBucket,
        found: &mut Vec<ColdBlock>,
    ) -> Result<(), StoreError> {
        bucket.own()?;
        let bad = |e| bucket.error("", e);
        let mut blocks: BTreeMap<String, BTreeMap<String, u64>> = BTreeMap::new();
        for (object, bytes) in bucket.objects.list("").map_err(bad)? {
            // Objects that are not ours may lie under the prefix: they are not looked at, and not
            // deleted.
            if let Some((name, file)) = object.split_once('/').filter(|(name, _)| is_name(name)) {
                blocks.entry(name.to_owned()).or_default().insert(file.to_owned(), bytes);
            }
        }
        let gone: BTreeSet<String> = self.forgotten()?.into_iter().collect();
        let mut damage = Ok(());
        for (name, files) in
            blocks.iter().filter(|(name, _)| !self.is_recorded(name) && !gone.contains(*name))
        {
            let Some(bytes) = files.get(META) else {
                tracing::info!(block = name, "removing what an interrupted upload left in the object store");
                self.delete(bucket, name)?;
                continue;
            };
            let object = format!("{name}/{META}");
            // A longer one is cut off, and then has no valid checksum: it is reported as damage.
            let most = *bytes.min(&COLD_META_BYTES);
            let text = bucket.objects.get(&object, 0..most).map_err(|e| bucket.error(&object, e))?;
            match BlockMeta::decode(&self.address(name), &text) {
                Ok(meta) => found.push(self.record(&meta)?),
                Err(error) => damage = Err(error),
            }
        }
        let mut state = self.state.lock();
        let exists = |name: &String| blocks.get(name).is_some_and(|files| files.contains_key(META));
        // Someone else deleted them. They stay on the list, so that a query of their time fails
        // instead of answering less.
        state.missing = state.known.iter().filter(|name| !exists(name)).cloned().collect();
        for name in &state.missing {
            tracing::error!(
                block = name,
                "a block is missing in the object store; queries that need it fail"
            );
        }
        damage
    }

    /// Deletes the objects of a block, `meta.json` first.
    fn delete(&self, bucket: &ColdBucket, name: &str) -> Result<(), StoreError> {
        let objects = bucket.objects.list(name).map_err(|e| bucket.error(name, e))?;
        let meta = format!("{name}/{META}");
        let others = objects.iter().map(|(object, _)| object).filter(|object| **object != meta);
        // If it stops in between, what is left is no block, and the next listing removes it.
        for object in [&meta].into_iter().chain(others) {
            bucket.objects.delete(object).map_err(|e| bucket.error(object, e))?;
        }
        bucket.cache.forget(&format!("{name}."));
        Ok(())
    }

    /// Number of recorded blocks that the object store does not have.
    pub fn missing(&self) -> usize {
        self.state.lock().missing.len()
    }
}

impl ColdBucket {
    fn open(
        disk: &Arc<dyn Disk>,
        dir: &Path,
        options: ColdOptions,
        metrics: &Metrics,
    ) -> Result<ColdBucket, StoreError> {
        let ColdOptions { objects, after_ms, cache_bytes, mark } = options;
        let cache = RangeCache::open(disk.clone(), dir.join("cache"), cache_bytes, metrics);
        let cache = Arc::new(cache.map_err(io_error(dir))?);
        let path = dir.join("mark");
        let mark = match disk.read(&path) {
            // An empty file was created by a start that was killed before it wrote the mark.
            Ok(text) if !text.is_empty() => String::from_utf8_lossy(&text).trim().to_owned(),
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(io_error(&path)(error)),
            _ => {
                let temporary = dir.join("mark.tmp");
                let write = || {
                    let mut file = disk.create(&temporary)?;
                    file.append(mark.as_bytes())?;
                    file.sync()?;
                    disk.rename(&temporary, &path)
                };
                write().map_err(io_error(&path))?;
                mark
            }
        };
        Ok(ColdBucket { objects: Arc::new(MeteredObjectStore::new(objects, metrics)), cache, after_ms, mark })
    }

    fn error(&self, object: &str, error: std::io::Error) -> StoreError {
        let path = Path::new(self.objects.address()).join(object);
        io_error(&path)(error)
    }

    /// Makes sure that the bucket in the object store belongs to this data directory.
    fn own(&self) -> Result<(), StoreError> {
        // Created, never replaced: of two servers that start at once one finds the mark of the
        // other.
        match self.objects.create(OWNER, self.mark.as_bytes()) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(self.error(OWNER, error)),
            _ => {}
        }
        let bad = |error| self.error(OWNER, error);
        let bytes = self.objects.len_of(OWNER).map_err(bad)?.unwrap_or(0);
        let owner = self.objects.get(OWNER, 0..bytes.min(COLD_META_BYTES)).map_err(bad)?;
        if owner == self.mark.as_bytes() {
            return Ok(());
        }
        Err(StoreError::OwnedByOther {
            address: self.objects.address().to_owned(),
            owner: String::from_utf8_lossy(&owner).into_owned(),
            mark: self.mark.clone(),
        })
    }
}

/// Whether `name` can be the name of a block. Other objects are never read or deleted.
fn is_name(name: &str) -> bool {
    let parts: Vec<&str> = name.split('_').collect();
    let [from, to, id] = parts.as_slice() else { return false };
    from.parse::<i64>().is_ok()
        && to.parse::<i64>().is_ok()
        && id.len() == 16
        && id.bytes().all(|b| b.is_ascii_hexdigit())
}

fn extension(path: &Path) -> Option<&str> {
    path.extension().and_then(|e| e.to_str())
}
