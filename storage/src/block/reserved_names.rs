//! Names that a new block must not get. The name of a block is a hash of its content.
//!
//! A block that another block `replaces` is removed when it is found, and samples of a block that a
//! tombstone names are left out. So samples that are written again, after they were merged into
//! another block and deleted there, must not get such a name.

use super::meta::{BlockMeta, META};
use super::tombstones::{Tombstone, Tombstones};
use super::{block_set::replaced, io_error};
use crate::disk::Disk;
use crate::error::StoreError;
use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// The names that a new block must not have, next to blocks with these metadata and tombstones.
pub fn reserved_names<'a>(
    metas: impl Iterator<Item = &'a BlockMeta>,
    tombstones: &[Tombstone],
) -> BTreeSet<String> {
    let mut names = replaced(metas);
    names.extend(tombstones.iter().flat_map(|one| one.blocks.iter().cloned()));
    names
}

/// As [`reserved_names`], for all local and cold blocks of the data directory `data`, which no
/// server may be using. Damaged blocks are left out, as when they are opened.
pub fn reserved_names_in(disk: &dyn Disk, data: &Path) -> Result<BTreeSet<String>, StoreError> {
    let here = list(disk, &data.join("blocks"))?.into_iter().map(|dir| dir.join(META));
    let cold = list(disk, &data.join("objects"))?.into_iter().filter(|path| !disk.is_dir(path));
    let read = |path: PathBuf| BlockMeta::decode(&path, &disk.read(&path).ok()?).ok();
    let metas: Vec<BlockMeta> = here.chain(cold).filter_map(read).collect();
    Ok(reserved_names(metas.iter(), &Tombstones::open(disk, data)?.list()))
}

fn list(disk: &dyn Disk, dir: &Path) -> Result<Vec<PathBuf>, StoreError> {
    match disk.list(dir) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        listed => listed.map_err(io_error(dir)),
    }
}
