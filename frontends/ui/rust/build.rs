//! Compresses the files of `dist/` and writes the table of them that `lib.rs` includes. Node is not
//! needed: the repository contains `dist/`, which `npm run build` makes.

use flate2::write::GzEncoder;
use flate2::{Compression, Crc};
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};

const MISSING: &str = "frontends/ui/dist is missing: cd frontends/ui && npm ci && npm run build";

fn main() -> std::io::Result<()> {
    println!("cargo::rerun-if-changed=dist");
    println!("cargo::rerun-if-changed=rust/build.rs");
    // Asked at run time: the program may have been built for a checkout at another place.
    let manifest = std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets CARGO_MANIFEST_DIR");
    let dist = Path::new(&manifest).join("dist");
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let mut files = Vec::new();
    list(&dist, &mut files).expect(MISSING);
    files.sort();
    let mut table = String::from("&[\n");
    for (index, file) in files.iter().enumerate() {
        let path = file.strip_prefix(&dist).expect("below dist").to_string_lossy().replace('\\', "/");
        let bytes = std::fs::read(file)?;
        let mut crc = Crc::new();
        crc.update(&bytes);
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(&bytes)?;
        let compressed = out.join(format!("{index}.gz"));
        std::fs::write(&compressed, encoder.finish()?)?;
        let etag = format!("\"{:08x}-{}\"", crc.sum(), bytes.len());
        let _ = writeln!(
            table,
            "    Asset {{ path: {path:?}, etag: {etag:?}, gzip: include_bytes!({compressed:?}) }},"
        );
    }
    table.push(']');
    std::fs::write(out.join("assets.rs"), table)
}

/// All files below `directory`.
fn list(directory: &Path, into: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() {
            list(&path, into)?;
        } else {
            into.push(path);
        }
    }
    Ok(())
}
