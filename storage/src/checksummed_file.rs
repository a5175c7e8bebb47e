//! Small text files that are replaced as a whole. After a crash the file is the old or the new one,
//! and damage is detected. The last line is `crc32c:` and eight hex digits: the checksum of all
//! lines before.

use crate::disk::Disk;
use std::io;
use std::path::Path;

const SEAL: &str = "crc32c:";

/// Replaces `path` with `text`, which ends with a line feed. Durable on return.
pub fn write(disk: &dyn Disk, path: &Path, text: &str) -> io::Result<()> {
    let temporary = path.with_extension("tmp");
    let mut file = disk.create(&temporary)?;
    file.append(text.as_bytes())?;
    file.append(format!("{SEAL}{:08x}\n", crc32c::crc32c(text.as_bytes())).as_bytes())?;
    file.sync()?;
    disk.rename(&temporary, path)
}

/// The text written last; `None` if the file does not exist. The error says what is wrong with the
/// file.
pub fn read(disk: &dyn Disk, path: &Path) -> io::Result<Option<String>> {
    let bytes = match disk.read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let damaged = |why: &str| io::Error::new(io::ErrorKind::InvalidData, why.to_owned());
    let mut text = String::from_utf8(bytes).map_err(|_| damaged("is no text"))?;
    let at = text.rfind(SEAL).ok_or_else(|| damaged("has no seal"))?;
    let wanted = format!("{SEAL}{:08x}\n", crc32c::crc32c(&text.as_bytes()[..at]));
    if text[at..] != wanted {
        return Err(damaged("its checksum does not match"));
    }
    text.truncate(at);
    Ok(Some(text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::OsDisk;

    #[test]
    fn every_flipped_bit_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.json");
        assert!(read(&OsDisk, &path).unwrap().is_none());
        write(&OsDisk, &path, "one\n").unwrap();
        write(&OsDisk, &path, "two\n").unwrap();
        assert_eq!(read(&OsDisk, &path).unwrap().as_deref(), Some("two\n"));
        let whole = std::fs::read(&path).unwrap();
        for bit in 0..whole.len() * 8 {
            let mut bytes = whole.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            std::fs::write(&path, bytes).unwrap();
            assert!(read(&OsDisk, &path).is_err(), "bit {bit}");
        }
        for len in 0..whole.len() {
            std::fs::write(&path, &whole[..len]).unwrap();
            assert!(read(&OsDisk, &path).is_err(), "cut at {len}");
        }
    }
}
