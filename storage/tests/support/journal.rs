//! A disk that records every change, and what a power loss after any change can leave: synced
//! changes remain; of the others, writes (in pieces of 512 bytes), file lengths and directory
//! entries may each remain or not.
//!
//! This is stricter than real file systems, which keep the order of changes to directory entries.

use super::hooked::{Call, Hooks};
use super::random::Random;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use xxhash_rust::xxh3::Xxh3;

/// The number of bytes that a disk writes completely or not at all.
const SECTOR: usize = 512;

/// A change that was made; paths are relative to the directory of the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    Create(PathBuf),
    Append(PathBuf, Vec<u8>),
    Sync(PathBuf),
    Rename(PathBuf, PathBuf),
    Remove(PathBuf),
    CreateDir(PathBuf),
    Truncate(PathBuf, usize),
    SyncDir(PathBuf),
}

impl Change {
    /// Whether a file gets a name that ends with `end`.
    pub fn is_rename_to(&self, end: &str) -> bool {
        matches!(self, Change::Rename(_, to) if to.to_string_lossy().ends_with(end))
    }
}

/// Records the changes in a directory until the process is dead; fails on demand.
pub struct Journal {
    root: PathBuf,
    changes: Mutex<Vec<Change>>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    dead: bool,
    /// The number of changes after which the process dies.
    dies_in: Option<usize>,
    /// How many of the next changes fail.
    failing: usize,
    /// How many changes have failed.
    failures: usize,
    /// The current paths of files that may be open under another name.
    renamed: BTreeMap<PathBuf, PathBuf>,
}

impl State {
    /// The current path of a file that was opened at `path`.
    fn name_now(&self, path: &Path) -> PathBuf {
        self.renamed.get(path).cloned().unwrap_or_else(|| path.to_owned())
    }
}

impl Journal {
    pub fn new(root: &Path) -> Journal {
        Journal { root: root.to_owned(), changes: Mutex::default(), state: Mutex::default() }
    }

    /// Makes the process die after this many more changes.
    pub fn die_in(&self, changes: usize) {
        self.state.lock().dies_in = Some(changes);
    }

    /// Makes this many of the next changes fail.
    pub fn fail(&self, changes: usize) {
        self.state.lock().failing = changes;
    }

    /// The number of failed changes so far.
    pub fn failures(&self) -> usize {
        self.state.lock().failures
    }

    /// The number of changes so far.
    pub fn len(&self) -> usize {
        self.changes.lock().len()
    }

    pub fn changes(&self) -> Vec<Change> {
        self.changes.lock().clone()
    }

    /// Ends the process: no change has an effect from now on.
    pub fn kill(&self) {
        self.state.lock().dead = true;
    }
}

impl Hooks for Journal {
    fn before(&self, call: &Call) -> io::Result<()> {
        if matches!(call, Call::Read(_)) {
            return Ok(());
        }
        let mut state = self.state.lock();
        state.dead |= state.dies_in == Some(0);
        state.dies_in = state.dies_in.map(|left| left.saturating_sub(1));
        let fails = state.dead || state.failing > 0;
        state.failures += usize::from(fails);
        state.failing = state.failing.saturating_sub(1);
        if fails { Err(io::Error::other("no")) } else { Ok(()) }
    }

    fn torn(&self, bytes: &[u8]) -> usize {
        if self.state.lock().dead { 0 } else { bytes.len() / 2 }
    }

    fn after(&self, call: &Call) {
        let inside = |path: &Path| path.strip_prefix(&self.root).expect("a path of this disk").to_owned();
        let mut state = self.state.lock();
        match call {
            Call::Create(path) => drop(state.renamed.remove(*path)),
            Call::Rename(from, to) => drop(state.renamed.insert((*from).to_owned(), (*to).to_owned())),
            _ => {}
        }
        let change = match call {
            Call::Create(path) => Change::Create(inside(path)),
            Call::Append(path, bytes) => Change::Append(inside(&state.name_now(path)), bytes.to_vec()),
            Call::Sync(path) => Change::Sync(inside(&state.name_now(path))),
            Call::Rename(from, to) => Change::Rename(inside(from), inside(to)),
            Call::Remove(path) => Change::Remove(inside(path)),
            Call::CreateDir(path) => Change::CreateDir(inside(path)),
            Call::Truncate(path, len) => Change::Truncate(inside(path), *len as usize),
            Call::SyncDir(path) => Change::SyncDir(inside(path)),
            Call::Read(_) => return,
        };
        drop(state);
        self.changes.lock().push(change);
    }

    fn syncs(&self) -> bool {
        false
    }
}

/// Adds changes to the hash of a run.
pub fn hash_changes(changes: &[Change], hash: &mut Xxh3) {
    for change in changes.iter() {
        hash.update(format!("{change:?}").as_bytes());
    }
}

/// What happens to unsynced changes.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum UnsyncedChanges {
    /// They remain: only the process ended.
    Kept,
    Lost,
    /// Each remains or not, at random.
    Some,
}

#[derive(Clone)]
enum Node {
    File { synced: Vec<u8>, unsynced: Vec<Write> },
    Dir(BTreeMap<String, usize>),
}

#[derive(Clone)]
enum Write {
    At(usize, Vec<u8>),
    Cut(usize),
}

/// A change of a directory entry that was not followed by a sync of the directory.
#[derive(Clone)]
enum Naming {
    Link { dir: usize, name: String, node: usize },
    Unlink { dir: usize, name: String },
    Rename { from: (usize, String), to: (usize, String), node: usize },
}

impl Naming {
    fn concerns(&self, at: usize) -> bool {
        match self {
            Naming::Link { dir, .. } | Naming::Unlink { dir, .. } => *dir == at,
            Naming::Rename { from, to, .. } => from.0 == at || to.0 == at,
        }
    }
}

/// The content of a disk after some changes: synced content, and unsynced changes in their order.
#[derive(Clone)]
pub struct DiskContent {
    nodes: Vec<Node>,
    /// What a running process sees, by path.
    now: BTreeMap<PathBuf, usize>,
    naming: Vec<Naming>,
}

impl DiskContent {
    /// The content of a directory; all of it counts as synced.
    pub fn scan(root: &Path) -> DiskContent {
        let mut held = DiskContent { nodes: Vec::new(), now: BTreeMap::new(), naming: Vec::new() };
        held.scan_into(root, PathBuf::new());
        held
    }

    fn scan_into(&mut self, real: &Path, path: PathBuf) -> usize {
        let node = self.nodes.len();
        self.now.insert(path.clone(), node);
        if real.is_dir() {
            self.nodes.push(Node::Dir(BTreeMap::new()));
            let names = std::fs::read_dir(real).expect("a directory").map(|entry| entry.expect("a name"));
            let mut names: Vec<String> =
                names.map(|entry| entry.file_name().into_string().expect("text")).collect();
            names.sort();
            let inside = names
                .into_iter()
                .map(|name| (name.clone(), self.scan_into(&real.join(&name), path.join(&name))))
                .collect();
            self.nodes[node] = Node::Dir(inside);
        } else {
            let synced = std::fs::read(real).expect("a file");
            self.nodes.push(Node::File { synced, unsynced: Vec::new() });
        }
        node
    }

    fn place(&self, path: &Path) -> (usize, String) {
        let parent = path.parent().expect("not the root");
        let name = path.file_name().expect("a name").to_str().expect("text").to_owned();
        (self.now[parent], name)
    }

    fn link(&mut self, path: &Path, node: Node) {
        let ((dir, name), number) = (self.place(path), self.nodes.len());
        self.nodes.push(node);
        self.now.insert(path.to_owned(), number);
        self.naming.push(Naming::Link { dir, name, node: number });
    }

    /// Applies a change.
    pub fn apply(&mut self, change: &Change) {
        match change {
            Change::Create(path) => match self.now.get(path).map(|node| &mut self.nodes[*node]) {
                Some(Node::File { unsynced, .. }) => unsynced.push(Write::Cut(0)),
                _ => self.link(path, Node::File { synced: Vec::new(), unsynced: Vec::new() }),
            },
            Change::CreateDir(path) => self.link(path, Node::Dir(BTreeMap::new())),
            Change::Append(path, bytes) => {
                let at = self.file(path).len();
                self.write(path, Write::At(at, bytes.clone()));
            }
            Change::Truncate(path, len) => self.write(path, Write::Cut(*len)),
            Change::Sync(path) => {
                let content = self.file(path);
                self.nodes[self.now[path]] = Node::File { synced: content, unsynced: Vec::new() };
            }
            Change::Remove(path) => {
                let (dir, name) = self.place(path);
                self.now.remove(path);
                self.naming.push(Naming::Unlink { dir, name });
            }
            Change::Rename(from, to) => {
                let node = self.now[from];
                let ends = (self.place(from), self.place(to));
                let moved: Vec<PathBuf> = self.now.keys().filter(|p| p.starts_with(from)).cloned().collect();
                for path in moved {
                    let node = self.now.remove(&path).expect("just found");
                    let rest = path.strip_prefix(from).expect("begins so");
                    // Joining an empty path would add a slash.
                    let new = if rest.as_os_str().is_empty() { to.clone() } else { to.join(rest) };
                    self.now.insert(new, node);
                }
                self.naming.push(Naming::Rename { from: ends.0, to: ends.1, node });
            }
            Change::SyncDir(path) => {
                let dir = self.now[path];
                let (synced, rest) =
                    std::mem::take(&mut self.naming).into_iter().partition(|n| n.concerns(dir));
                self.naming = rest;
                for naming in synced {
                    self.name(&naming);
                }
            }
        }
    }

    fn write(&mut self, path: &Path, write: Write) {
        if let Node::File { unsynced, .. } = &mut self.nodes[self.now[path]] {
            unsynced.push(write);
        }
    }

    /// The content that a running process reads.
    fn file(&self, path: &Path) -> Vec<u8> {
        self.content(self.now[path], UnsyncedChanges::Kept, &mut Random::new(0))
    }

    fn content(&self, node: usize, what: UnsyncedChanges, random: &mut Random) -> Vec<u8> {
        let Node::File { synced, unsynced } = &self.nodes[node] else { panic!("a directory is read") };
        let mut content = synced.clone();
        let mut stays = || match what {
            UnsyncedChanges::Kept => true,
            UnsyncedChanges::Lost => false,
            UnsyncedChanges::Some => random.chance(50),
        };
        for write in unsynced {
            match write {
                Write::Cut(len) if stays() => content.truncate(*len),
                Write::Cut(_) => (),
                Write::At(at, bytes) => {
                    // The length of the file may be extended before the bytes are written.
                    if stays() && content.len() < at + bytes.len() {
                        content.resize(at + bytes.len(), 0);
                    }
                    for (piece, from) in bytes.chunks(SECTOR).zip((*at..).step_by(SECTOR)) {
                        if stays() {
                            content.resize(content.len().max(from + piece.len()), 0);
                            content[from..from + piece.len()].copy_from_slice(piece);
                        }
                    }
                }
            }
        }
        content
    }

    fn name(&mut self, naming: &Naming) {
        match naming {
            Naming::Link { dir, name, node } => self.entries(*dir).insert(name.clone(), *node),
            Naming::Unlink { dir, name } => self.entries(*dir).remove(name),
            Naming::Rename { from, to, node } => {
                let there = self.entries(from.0);
                if there.get(&from.1) == Some(node) {
                    there.remove(&from.1);
                }
                self.entries(to.0).insert(to.1.clone(), *node)
            }
        };
    }

    fn entries(&mut self, dir: usize) -> &mut BTreeMap<String, usize> {
        match &mut self.nodes[dir] {
            Node::Dir(entries) => entries,
            Node::File { .. } => panic!("a file has no names"),
        }
    }

    /// Writes what remains into `target`.
    pub fn write_to(&self, target: &Path, what: UnsyncedChanges, random: &mut Random) {
        let mut left = self.clone();
        for naming in &self.naming {
            let stays = match what {
                UnsyncedChanges::Kept => true,
                UnsyncedChanges::Lost => false,
                UnsyncedChanges::Some => random.chance(50),
            };
            if stays {
                left.name(naming);
            }
        }
        left.put(0, target, what, random);
    }

    fn put(&self, node: usize, path: &Path, what: UnsyncedChanges, random: &mut Random) {
        match &self.nodes[node] {
            Node::Dir(entries) => {
                std::fs::create_dir_all(path).expect("a directory");
                for (name, node) in entries {
                    self.put(*node, &path.join(name), what, random);
                }
            }
            Node::File { .. } => {
                std::fs::write(path, self.content(node, what, random)).expect("a file");
            }
        }
    }
}
