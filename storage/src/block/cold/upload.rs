//! Uploads a local block to the object store: all files, which are read back and compared, then the
//! `meta.json` that makes them a block. An interrupted upload is not a block; it is uploaded again
//! or deleted. `storage/src/store/move_cold.rs` decides which blocks are uploaded.

use super::{ColdBlock, ColdBucket, ColdStore};
use crate::block::files::check_all;
use crate::block::meta::META;
use crate::block::{BlockMeta, damaged, io_error};
use crate::error::StoreError;
use crate::limits::COLD_REQUEST_BYTES;
use crate::object_store::ObjectStorage;
use std::path::Path;
use std::sync::Arc;

impl ColdStore {
    /// Uploads the local block `meta`. On return it is readable and undamaged in the object store,
    /// but not yet one of the cold blocks: see [`ColdStore::record`].
    pub fn upload(self: &Arc<ColdStore>, meta: &BlockMeta) -> Result<(), StoreError> {
        let bucket = self.bucket(meta)?;
        check_all(self.disk.as_ref(), &meta.dir, meta)?;
        for (name, file) in &meta.files {
            self.put(bucket, meta, name, file.bytes)?;
        }
        for (name, file) in &meta.files {
            let crc = self.crc(bucket, meta, name, file.bytes)?;
            if format!("{crc:08x}") != file.crc32c {
                return Err(differs(&self.address(&meta.name().to_string()).join(name)));
            }
        }
        let path = meta.dir.join(META);
        let text = self.disk.read(&path).map_err(io_error(&path))?;
        self.put(bucket, meta, META, text.len() as u64)?;
        if self.crc(bucket, meta, META, text.len() as u64)? != crc32c::crc32c(&text) {
            return Err(differs(&self.address(&meta.name().to_string()).join(META)));
        }
        // Read it as later readers will.
        let cold = BlockMeta { dir: self.address(&meta.name().to_string()), ..meta.clone() };
        ColdBlock::new(cold, self.clone()).open().map(drop)
    }

    fn put(&self, bucket: &ColdBucket, meta: &BlockMeta, name: &str, bytes: u64) -> Result<(), StoreError> {
        let path = meta.dir.join(name);
        let object = format!("{}/{name}", meta.name());
        let content = |at, len| self.disk.read_at(&path, at, len);
        bucket.objects.put(&object, bytes, &content).map_err(|e| bucket.error(&object, e))
    }

    /// The checksum of an object.
    fn crc(&self, bucket: &ColdBucket, meta: &BlockMeta, name: &str, bytes: u64) -> Result<u32, StoreError> {
        let object = format!("{}/{name}", meta.name());
        let bad = |e| bucket.error(&object, e);
        if bucket.objects.len_of(&object).map_err(bad)? != Some(bytes) {
            return Err(differs(&Path::new(bucket.objects.address()).join(&object)));
        }
        let mut crc = 0;
        let mut at = 0;
        while at < bytes {
            let end = bytes.min(at + COLD_REQUEST_BYTES);
            let piece = bucket.objects.get(&object, at..end).map_err(bad)?;
            crc = crc32c::crc32c_append(crc, &piece);
            at = end;
        }
        Ok(crc)
    }
}

fn differs(object: &Path) -> StoreError {
    damaged(object, "what came back of the object store is not what was put there")
}
