//! A disk in memory which loses power at any step, loses and tears what was not synced, fills up and fails.
//!
//! It keeps two images: the live one, which the program sees, and the durable one, which a power cut leaves.
//!
//! * **Steps.** Every operation that changes something (create, write, set_len, sync, rename, remove,
//!   sync_dir, create_dir) is a step, and a write is one for each byte at which it can be cut.
//!   [`FaultDisk::cut_after`] sets a fuse: the step after it does not happen, nor does anything later; all
//!   operations then fail, and [`is_power_cut`] tells that error. Reads are no steps: a cut there is the cut
//!   before the next change.
//! * **Files.** Each write and set_len since the last good sync is kept, lost or torn, each on its own. A
//!   torn write has only its beginning or only its end (blocks reach the medium in any order; what lies
//!   between is old bytes or zeros). A failed sync is Linux's mark-clean: what was pending stays visible, but
//!   each piece may be lost for ever, even when a later sync returns `Ok`.
//! * **Folders.** Names created, renamed and removed since the last sync_dir survive as a prefix, per folder:
//!   ext4, xfs, btrfs and f2fs journal a folder's changes in order. With [`Names::AnyOrder`] each survives on
//!   its own, which is all that the trait promises: what removes a name because another one is there must
//!   have synced that one. A file whose bytes were synced and whose name was not may be gone, and a name that
//!   survives may stand for a file whose bytes are lost.
//! * **Handles** to one path share the file; a removed file stays readable through its handles, until the
//!   cut.
//!
//! It costs about what the bytes cost: an exhaustive test reboots it thousands of times a second.

#![allow(dead_code, missing_docs, unreachable_pub)]

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard};

use trailspool::spool::disk::{Disk, DiskFile, Synced};
use trailspool::spool::worker;

/// "No space left on device".
pub const ENOSPC: i32 = 28;
/// "Read-only file system".
pub const EROFS: i32 = 30;
/// "Input/output error".
pub const EIO: i32 = 5;

/// The disk. Clones share it, as the threads of one machine do; [`FaultDisk::reboot`] makes another.
#[derive(Clone)]
pub struct FaultDisk(Arc<Mutex<State>>);

/// An open file of a [`FaultDisk`].
pub struct FaultFile {
    disk: FaultDisk,
    inode: usize,
    path: String,
}

/// What becomes, at a reboot, of everything that no sync covered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Survive {
    /// All of it is lost.
    Nothing,
    /// All of it is there. A killed process leaves this, too.
    Everything,
    /// Each piece kept, lost or torn by the dice.
    Random(u64),
}

/// Where a write may be cut, and so how many steps it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cuts {
    /// Before each byte.
    EveryByte,
    /// Before the first byte, after it, in the middle, before the last byte: at most four steps a write.
    Coarse,
}

/// Which of a folder's unsynced changes can survive without the ones before them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Names {
    /// None: as on a file system with a journal.
    InOrder,
    /// Any.
    AnyOrder,
}

/// An operation that can be made to fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op {
    Create,
    Open,
    Read,
    /// A failing write leaves the first half of its bytes in the file.
    Write,
    SetLen,
    /// Promises nothing about what was pending, then or later.
    Sync,
    Rename,
    Remove,
    SyncDir,
    List,
}

/// An error to come.
#[derive(Debug, Clone)]
pub struct Fault {
    pub op: Op,
    /// Raw OS error, e.g. [`EIO`].
    pub errno: i32,
    /// Only on paths that begin so; `""` is any.
    pub path: String,
    /// This many matching operations succeed first.
    pub skip: u64,
    /// Then this many fail.
    pub times: u64,
}

/// Whether an error says that the power is cut.
pub fn is_power_cut(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<PowerCut>())
}

impl FaultDisk {
    /// An empty disk that never fails, cut at every byte.
    pub fn new() -> FaultDisk {
        FaultDisk::from_state(State::default())
    }

    /// Sets how finely writes can be cut. A reboot keeps it.
    pub fn with_cuts(self, cuts: Cuts) -> FaultDisk {
        self.state().cuts = cuts;
        self
    }

    /// Sets in which order names survive. A reboot keeps it.
    pub fn with_names(self, names: Names) -> FaultDisk {
        self.state().names = names;
        self
    }

    /// Bytes of a file that the medium does not give any more. A read that reaches them is short.
    pub fn spoil(&self, path: &str, bytes: Range<u64>) {
        self.state().bad.push((path.to_owned(), bytes));
    }

    /// It gives them again.
    pub fn unspoil(&self) {
        self.state().bad.clear();
    }

    /// Cuts the power after `steps` more steps.
    pub fn cut_after(&self, steps: u64) {
        let mut state = self.state();
        state.fuse = Some(state.steps + steps);
    }

    /// Steps taken since the disk was made or rebooted.
    pub fn steps(&self) -> u64 {
        self.state().steps
    }

    /// Whether the power is cut.
    pub fn is_cut(&self) -> bool {
        self.state().cut
    }

    /// Bytes handed to writes since the disk was made or rebooted.
    pub fn written(&self) -> u64 {
        self.state().written
    }

    /// Reads of files since the disk was made or rebooted.
    pub fn reads(&self) -> u64 {
        self.state().reads
    }

    /// Bytes of all files that have a name.
    pub fn used(&self) -> u64 {
        self.state().used()
    }

    /// Most bytes the files may have together: a write beyond leaves what fits and fails with ENOSPC. A
    /// reboot keeps it.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.state().capacity = bytes;
    }

    /// The next operation of this kind fails.
    pub fn fail_next(&self, op: Op, errno: i32) {
        self.fail(Fault { op, errno, path: String::new(), skip: 0, times: 1 });
    }

    /// Adds an error to come.
    pub fn fail(&self, fault: Fault) {
        self.state().faults.push(fault);
    }

    /// Forgets all errors to come.
    pub fn heal(&self) {
        self.state().faults.clear();
    }

    /// Flips the bits of `mask` in one byte of a file, in both images: rot, or a stray writer.
    pub fn flip(&self, path: &str, offset: usize, mask: u8) {
        let mut state = self.state();
        let inode = state.find(path).expect("a file to damage");
        let inode = &mut state.inodes[inode];
        inode.live[offset] ^= mask;
        let byte = inode.live[offset];
        inode.apply_durably(Change::Write { offset, bytes: vec![byte] });
    }

    /// Puts other bytes in the place of a file's, in both images.
    pub fn overwrite(&self, path: &str, bytes: &[u8]) {
        let mut state = self.state();
        let inode = state.find(path).expect("a file to damage");
        state.inodes[inode] = Inode { live: bytes.to_vec(), durable: bytes.to_vec(), pending: Vec::new() };
    }

    /// Everything is removed under the program, as by `rm -r`: files that are open stay so.
    pub fn remove_everything(&self) {
        let mut state = self.state();
        state.dirs.retain(|name, _| name.is_empty());
        state.dirs.insert(String::new(), Dir::default());
    }

    /// The bytes of a file as the program would see them.
    pub fn contents(&self, path: &str) -> Option<Vec<u8>> {
        let state = self.state();
        state.find(path).map(|inode| state.inodes[inode].live.clone())
    }

    /// The disk after the power came back. The old one is cut, if it was not; it can be rebooted again,
    /// differently.
    pub fn reboot(&self, survive: Survive) -> FaultDisk {
        self.state().cut = true;
        self.preview(survive)
    }

    /// Every disk that a power cut now may leave, each once: every unsynced name and piece kept, lost or torn in every
    /// combination. A write is torn in the middle, with its beginning or its end left; where else it may be torn is for
    /// the dice. `None`: there are more than `bound` combinations.
    pub fn every_reboot(&self, bound: usize) -> Option<Vec<FaultDisk>> {
        self.state().cut = true;
        let (mut disks, mut seen) = (Vec::new(), std::collections::BTreeSet::new());
        let mut script: Vec<(usize, usize)> = Vec::new();
        for _ in 0..bound {
            let mut dice = Dice::Script { script, at: 0 };
            let disk = self.survivor(&mut dice);
            let Dice::Script { script: played, .. } = dice else { unreachable!("the same dice") };
            script = played;
            let image = disk.image();
            if seen.insert(image) {
                disks.push(disk);
            }
            // The next combination: the last choice that has another one takes it.
            while script.last().is_some_and(|(choice, choices)| choice + 1 == *choices) {
                script.pop();
            }
            match script.last_mut() {
                Some((choice, _)) => *choice += 1,
                None => return Some(disks),
            }
        }
        None
    }

    /// All names and bytes.
    fn image(&self) -> Vec<(String, Vec<u8>)> {
        let state = self.state();
        let files = state.dirs.iter().flat_map(|(dir, names)| {
            names.live.iter().map(move |(name, inode)| (format!("{dir}/{name}"), *inode))
        });
        files.map(|(path, inode)| (path, state.inodes[inode].live.clone())).collect()
    }

    /// What a reboot would find if the power failed now. This disk goes on.
    pub fn preview(&self, survive: Survive) -> FaultDisk {
        let mut dice = match survive {
            Survive::Random(seed) => Dice::Random(fastrand::Rng::with_seed(seed)),
            Survive::Nothing => Dice::Nothing,
            Survive::Everything => Dice::Everything,
        };
        self.survivor(&mut dice)
    }

    fn survivor(&self, dice: &mut Dice) -> FaultDisk {
        let old = self.state();
        let mut new = State { cuts: old.cuts, names: old.names, capacity: old.capacity, ..State::default() };
        for (name, dir) in &old.dirs {
            let mut names = dir.durable.clone();
            let prefix = dice.prefix(dir.pending.len());
            for (at, op) in dir.pending.iter().enumerate() {
                let survives = match old.names {
                    Names::InOrder => at < prefix,
                    Names::AnyOrder => dice.prefix(1) == 1,
                };
                if survives {
                    op.apply(&mut names);
                }
            }
            for inode in names.values_mut() {
                let bytes = old.inodes[*inode].survivor(dice);
                *inode = new.inodes.len();
                new.inodes.push(Inode { live: bytes.clone(), durable: bytes, pending: Vec::new() });
            }
            new.dirs.insert(name.clone(), Dir { live: names.clone(), durable: names, pending: Vec::new() });
        }
        FaultDisk::from_state(new)
    }

    fn from_state(state: State) -> FaultDisk {
        FaultDisk(Arc::new(Mutex::new(state)))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A test that panicked in another thread is reported there.
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Disk for FaultDisk {
    type File = FaultFile;

    fn create_dir(&self, dir: &str) -> io::Result<()> {
        let mut state = self.state();
        state.step()?;
        state.dirs.entry(dir.to_owned()).or_default();
        Ok(())
    }

    fn create(&self, path: &str) -> io::Result<FaultFile> {
        let mut state = self.state();
        state.step()?;
        state.fails(Op::Create, path)?;
        let inode = match state.find(path) {
            Some(inode) => {
                state.inodes[inode].change(Change::SetLen(0));
                inode
            }
            None => {
                let inode = state.inodes.len();
                state.dir(path)?.change(DirOp::Link { name: name(path).to_owned(), inode });
                state.inodes.push(Inode::default());
                inode
            }
        };
        Ok(FaultFile { disk: self.clone(), inode, path: path.to_owned() })
    }

    fn open(&self, path: &str) -> io::Result<FaultFile> {
        let mut state = self.state();
        state.powered()?;
        state.fails(Op::Open, path)?;
        let inode = state.find(path).ok_or_else(not_found)?;
        Ok(FaultFile { disk: self.clone(), inode, path: path.to_owned() })
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.state();
        state.step()?;
        state.fails(Op::Rename, from)?;
        if dir_name(from) != dir_name(to) {
            return Err(io::Error::new(
                io::ErrorKind::Unsupported,
                "a rename across folders is not modelled",
            ));
        }
        let inode = state.find(from).ok_or_else(not_found)?;
        state.dir(from)?.change(DirOp::Rename {
            from: name(from).to_owned(),
            to: name(to).to_owned(),
            inode,
        });
        Ok(())
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        let mut state = self.state();
        state.step()?;
        state.fails(Op::Remove, path)?;
        state.find(path).ok_or_else(not_found)?;
        state.dir(path)?.change(DirOp::Remove { name: name(path).to_owned() });
        Ok(())
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        let mut state = self.state();
        state.step()?;
        state.fails(Op::SyncDir, dir)?;
        let dir = state.dirs.get_mut(dir).ok_or_else(not_found)?;
        dir.durable.clone_from(&dir.live);
        dir.pending.clear();
        Ok(())
    }

    fn list(&self, dir: &str) -> io::Result<Vec<(String, u64)>> {
        let mut state = self.state();
        state.powered()?;
        state.fails(Op::List, dir)?;
        let Some(dir) = state.dirs.get(dir) else { return Ok(Vec::new()) };
        let length = |inode: &usize| state.inodes[*inode].live.len() as u64;
        Ok(dir.live.iter().map(|(name, inode)| (name.clone(), length(inode))).collect())
    }
}

impl DiskFile for FaultFile {
    fn len(&self) -> io::Result<u64> {
        let state = self.disk.state();
        state.powered()?;
        Ok(state.inodes[self.inode].live.len() as u64)
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let mut state = self.disk.state();
        state.powered()?;
        state.fails(Op::Read, &self.path)?;
        state.reads += 1;
        let bad = state.bad.iter().filter(|(path, bad)| *path == self.path && offset < bad.end);
        let good = bad.map(|(_, bad)| bad.start.saturating_sub(offset)).min().unwrap_or(u64::MAX);
        let live = &state.inodes[self.inode].live;
        if good == 0 && offset < live.len() as u64 {
            return Err(io::Error::from_raw_os_error(EIO));
        }
        let wanted = buf.len().min(usize::try_from(good).unwrap_or(usize::MAX));
        let buf = &mut buf[..wanted];
        let rest = live.get(usize::try_from(offset).unwrap_or(usize::MAX)..).unwrap_or_default();
        let count = rest.len().min(buf.len());
        buf[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.disk.state();
        let offset = usize::try_from(offset).expect("an offset in memory");
        let (count, result) = state.write_outcome(&self.path, self.inode, offset, bytes.len());
        if count > 0 {
            state.written += count as u64;
            state.inodes[self.inode].change(Change::Write { offset, bytes: bytes[..count].to_vec() });
        }
        result
    }

    fn set_len(&mut self, len: u64) -> io::Result<()> {
        let mut state = self.disk.state();
        state.step()?;
        state.fails(Op::SetLen, &self.path)?;
        let len = usize::try_from(len).expect("a length in memory");
        state.inodes[self.inode].change(Change::SetLen(len));
        Ok(())
    }

    fn sync(&mut self) -> io::Result<Synced> {
        let mut state = self.disk.state();
        state.step()?;
        let mut failed = state.fails(Op::Sync, &self.path);
        if !state.dirs.values().any(|dir| dir.live.values().any(|inode| *inode == self.inode)) {
            failed = Err(not_found());
        }
        state.inodes[self.inode].sync(failed.is_ok());
        failed.map(|()| Synced::after_ok_sync())
    }
}

#[derive(Debug)]
struct PowerCut;

impl std::fmt::Display for PowerCut {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the power is cut")
    }
}

impl std::error::Error for PowerCut {}

fn power_cut() -> io::Error {
    io::Error::other(PowerCut)
}

fn not_found() -> io::Error {
    io::Error::from(io::ErrorKind::NotFound)
}

fn dir_name(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(dir, _)| dir)
}

fn name(path: &str) -> &str {
    path.rsplit_once('/').map_or(path, |(_, name)| name)
}

struct State {
    dirs: BTreeMap<String, Dir>,
    inodes: Vec<Inode>,
    cuts: Cuts,
    names: Names,
    steps: u64,
    fuse: Option<u64>,
    cut: bool,
    capacity: Option<u64>,
    written: u64,
    reads: u64,
    faults: Vec<Fault>,
    bad: Vec<(String, Range<u64>)>,
}

impl Default for State {
    fn default() -> State {
        State {
            dirs: BTreeMap::from([(String::new(), Dir::default())]),
            inodes: Vec::new(),
            cuts: Cuts::EveryByte,
            names: Names::InOrder,
            steps: 0,
            fuse: None,
            cut: false,
            capacity: None,
            written: 0,
            reads: 0,
            faults: Vec::new(),
            bad: Vec::new(),
        }
    }
}

impl State {
    fn powered(&self) -> io::Result<()> {
        worker::beat();
        if self.cut { Err(power_cut()) } else { Ok(()) }
    }

    fn step(&mut self) -> io::Result<()> {
        self.powered()?;
        if self.take_steps(1) == 1 { Ok(()) } else { Err(power_cut()) }
    }

    /// Takes up to `wanted` steps; fewer when the fuse burns through.
    fn take_steps(&mut self, wanted: u64) -> u64 {
        let left = self.fuse.map_or(u64::MAX, |fuse| fuse.saturating_sub(self.steps));
        let taken = wanted.min(left);
        self.steps += taken;
        self.cut = taken < wanted;
        taken
    }

    /// How many bytes of a write of `len` reach the file, and what its caller is told.
    fn write_outcome(
        &mut self,
        path: &str,
        inode: usize,
        offset: usize,
        len: usize,
    ) -> (usize, io::Result<()>) {
        if let Err(error) = self.powered() {
            return (0, Err(error));
        }
        let mut coarse = vec![0, 1, len / 2, len.saturating_sub(1)];
        coarse.sort_unstable();
        coarse.dedup();
        coarse.retain(|&cut| cut < len.max(1));
        let wanted = match self.cuts {
            Cuts::EveryByte => len.max(1),
            Cuts::Coarse => coarse.len(),
        };
        let taken = self.take_steps(wanted as u64) as usize;
        if taken < wanted {
            let count = if self.cuts == Cuts::Coarse { coarse[taken] } else { taken };
            return (count, Err(power_cut()));
        }
        if let Err(error) = self.fails(Op::Write, path) {
            return (len / 2, Err(error));
        }
        let size = self.inodes[inode].live.len();
        let room = self.capacity.map_or(u64::MAX, |capacity| capacity.saturating_sub(self.used()));
        let limit = (size as u64).saturating_add(room);
        if (offset + len) as u64 > limit && offset + len > size {
            let fits = limit.saturating_sub(offset as u64) as usize;
            return (fits, Err(io::Error::from_raw_os_error(ENOSPC)));
        }
        (len, Ok(()))
    }

    fn fails(&mut self, op: Op, path: &str) -> io::Result<()> {
        for fault in &mut self.faults {
            if fault.op != op || !path.starts_with(&fault.path) || fault.times == 0 {
                continue;
            }
            if fault.skip > 0 {
                fault.skip -= 1;
                continue;
            }
            fault.times -= 1;
            return Err(io::Error::from_raw_os_error(fault.errno));
        }
        Ok(())
    }

    fn used(&self) -> u64 {
        self.dirs
            .values()
            .flat_map(|dir| dir.live.values())
            .map(|&inode| self.inodes[inode].live.len() as u64)
            .sum()
    }

    fn dir(&mut self, path: &str) -> io::Result<&mut Dir> {
        self.dirs.get_mut(dir_name(path)).ok_or_else(not_found)
    }

    fn find(&self, path: &str) -> Option<usize> {
        self.dirs.get(dir_name(path))?.live.get(name(path)).copied()
    }
}

/// The names of a folder.
#[derive(Default)]
struct Dir {
    live: BTreeMap<String, usize>,
    durable: BTreeMap<String, usize>,
    pending: Vec<DirOp>,
}

impl Dir {
    fn change(&mut self, op: DirOp) {
        op.apply(&mut self.live);
        self.pending.push(op);
    }
}

enum DirOp {
    Link { name: String, inode: usize },
    Rename { from: String, to: String, inode: usize },
    Remove { name: String },
}

impl DirOp {
    fn apply(&self, names: &mut BTreeMap<String, usize>) {
        match self {
            DirOp::Link { name, inode } => {
                names.insert(name.clone(), *inode);
            }
            DirOp::Rename { from, to, inode } => {
                names.remove(from);
                names.insert(to.clone(), *inode);
            }
            DirOp::Remove { name } => {
                names.remove(name);
            }
        }
    }
}

/// The bytes of a file.
#[derive(Default)]
struct Inode {
    live: Vec<u8>,
    /// What a power cut leaves for certain, but for `pending`.
    durable: Vec<u8>,
    /// Changes on top of `durable`, in order, since the first that is not certain.
    pending: Vec<(Change, Certainty)>,
}

#[derive(Clone, Copy, PartialEq)]
enum Certainty {
    /// No sync since.
    Pending,
    /// Its sync failed: no later sync makes it certain.
    Doubtful,
    /// Synced, but on top of something doubtful.
    Certain,
}

enum Change {
    Write { offset: usize, bytes: Vec<u8> },
    SetLen(usize),
}

impl Inode {
    fn change(&mut self, change: Change) {
        change.apply(&mut self.live, 0, usize::MAX);
        self.pending.push((change, Certainty::Pending));
    }

    fn apply_durably(&mut self, change: Change) {
        if self.pending.is_empty() {
            change.apply(&mut self.durable, 0, usize::MAX);
        } else {
            self.pending.push((change, Certainty::Certain));
        }
    }

    fn sync(&mut self, ok: bool) {
        for (_, certainty) in &mut self.pending {
            if *certainty == Certainty::Pending {
                *certainty = if ok { Certainty::Certain } else { Certainty::Doubtful };
            }
        }
        let doubtful = |(_, certainty): &(Change, Certainty)| *certainty != Certainty::Certain;
        let certain = self.pending.iter().position(doubtful).unwrap_or(self.pending.len());
        for (change, _) in self.pending.drain(..certain) {
            change.apply(&mut self.durable, 0, usize::MAX);
        }
    }

    fn survivor(&self, dice: &mut Dice) -> Vec<u8> {
        let mut bytes = self.durable.clone();
        for (change, certainty) in &self.pending {
            let (from, to) = match certainty {
                Certainty::Certain => (0, usize::MAX),
                _ => dice.piece(change.len()),
            };
            change.apply(&mut bytes, from, to);
        }
        bytes
    }
}

impl Change {
    /// Bytes at which it may be torn; a set_len is whole or not at all.
    fn len(&self) -> usize {
        match self {
            Change::Write { bytes, .. } => bytes.len(),
            Change::SetLen(_) => 1,
        }
    }

    /// Applies the part `from..to` of the change.
    fn apply(&self, file: &mut Vec<u8>, from: usize, to: usize) {
        match self {
            Change::Write { offset, bytes } => {
                let to = to.min(bytes.len());
                if from < to {
                    let end = offset + to;
                    if file.len() < end {
                        file.resize(end, 0);
                    }
                    file[offset + from..end].copy_from_slice(&bytes[from..to]);
                }
            }
            Change::SetLen(len) if from < to => file.resize(*len, 0),
            Change::SetLen(_) => {}
        }
    }
}

/// Decides what survives.
enum Dice {
    Nothing,
    Everything,
    Random(fastrand::Rng),
    /// Choices that were made, each with how many there were; then the first of each.
    Script {
        script: Vec<(usize, usize)>,
        at: usize,
    },
}

impl Dice {
    /// The next choice of a script, out of `choices`.
    fn choose(script: &mut Vec<(usize, usize)>, at: &mut usize, choices: usize) -> usize {
        if script.len() == *at {
            script.push((0, choices));
        }
        let (choice, known) = script[*at];
        assert_eq!(known, choices, "the same choices lead to the same next one");
        *at += 1;
        choice
    }

    /// How many of `count` changes in order.
    fn prefix(&mut self, count: usize) -> usize {
        match self {
            Dice::Nothing => 0,
            Dice::Everything => count,
            Dice::Random(rng) => rng.usize(..=count),
            Dice::Script { script, at } => Dice::choose(script, at, count + 1),
        }
    }

    /// Which part of a change of `len` bytes.
    fn piece(&mut self, len: usize) -> (usize, usize) {
        match self {
            Dice::Nothing => (0, 0),
            Dice::Everything => (0, len),
            Dice::Random(rng) => match rng.u8(..4) {
                0 => (0, 0),
                1 => (0, len),
                2 => (0, rng.usize(..=len)),
                _ => (rng.usize(..=len), len),
            },
            Dice::Script { script, at } => {
                let choices = if len > 1 { 4 } else { 2 };
                [(0, 0), (0, len), (0, len / 2), (len / 2, len)][Dice::choose(script, at, choices)]
            }
        }
    }
}
