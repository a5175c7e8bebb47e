//! Remembers which series the label bytes of a remote-write request mean.
//!
//! A sender encodes the same labels in the same bytes every time, so a known series costs one hash and one
//! comparison. The map is cut into pieces with a lock each; when a piece is full it starts anew.

use crate::limits;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::hash::BuildHasherDefault;
use storage::model::SeriesRef;

use crate::scrape::cache::HashedKey;

const PIECES: usize = 16;

type Piece = HashMap<u64, (Box<[u8]>, SeriesRef), BuildHasherDefault<HashedKey>>;

/// See the module.
#[derive(Default)]
pub struct LabelBytesCache {
    pieces: [Mutex<Piece>; PIECES],
}

impl LabelBytesCache {
    /// The series that these bytes mean; `make` says so the first time (`None`: they are no series).
    pub fn get<E>(
        &self,
        bytes: &[u8],
        make: impl FnOnce() -> Result<Option<SeriesRef>, E>,
    ) -> Result<Option<SeriesRef>, E> {
        let hash = xxhash_rust::xxh3::xxh3_64(bytes);
        let piece = &self.pieces[(hash >> 60) as usize % PIECES];
        if let Some((known, series)) = piece.lock().get(&hash)
            && known.as_ref() == bytes
        {
            return Ok(Some(*series));
        }
        let made = make()?;
        if let Some(series) = made {
            let mut piece = piece.lock();
            if piece.len() >= limits::REMOTE_WRITE_SERIES / PIECES {
                piece.clear();
            }
            piece.insert(hash, (bytes.into(), series));
        }
        Ok(made)
    }
}
