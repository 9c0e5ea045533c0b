//! A run: the entries of one source and day that one save or one merge wrote, sorted. Written once, never
//! changed.
//!
//! ```text
//! header   magic "tspl-run" | version u32 | day u32 (20260131) | count u64 | source [u8; 16] | crc32 u32
//! blocks   each 255 entries of 16 bytes, ascending, no entry twice; the last block holds the rest | crc32 u32
//! ```
//! Little-endian. `source` is the beginning of the SHA-256 of its name. A header's CRC covers what is before
//! it; a block's covers the CRC-32 of the run's path (`ledger/…`), the block's number (u64) and its entries:
//! a block that stands in the wrong place or file does not pass. The CRCs are checked as blocks are read, by
//! a look-up or a merge: opening the ledger reads no run, and a damaged block stops only what needs it.

use std::io;

use sha2::{Digest, Sha256};

use super::day::Day;
use super::error::LedgerError;
use crate::limits;
use crate::spool::atomic::TEMP;
use crate::spool::disk::{Disk, DiskFile};

/// The folder of the runs and the checkpoint.
pub(super) const DIR: &str = "ledger";
/// Bytes of an entry.
pub(super) const ENTRY: usize = 16;
/// Bytes of a run's header.
pub(super) const HEADER: usize = 44;
/// Entries of a whole block.
const BLOCK_ENTRIES: usize = 255;
/// Bytes of a whole block: one page of most file systems and flash, nearly.
const BLOCK: usize = BLOCK_ENTRIES * ENTRY + CRC;
const CRC: usize = 4;
const MAGIC: &[u8; 8] = b"tspl-run";
const VERSION: u32 = 1;
const REMEDY: &str = "remove the file while trailspool is stopped: the objects that it lists, of one source and one \
                      day, are collected and forwarded once more; nothing is lost";

/// What stands for an object: the beginning of the SHA-256 of `source \0 key`.
pub(super) type Entry = [u8; ENTRY];

/// The entry of an object.
pub(super) fn entry(source: &str, key: &str) -> Entry {
    let digest = Sha256::new().chain_update(source).chain_update([0]).chain_update(key).finalize();
    let mut entry = [0; ENTRY];
    entry.copy_from_slice(&digest[..ENTRY]);
    entry
}

/// Whether a source of this name can have runs: 1 to 64 of `A-Z a-z 0-9 . _ -`, not beginning with a dot.
pub(super) fn is_source(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    (1..=limits::NAME_BYTES).contains(&name.len()) && !name.starts_with('.') && name.bytes().all(plain)
}

/// The name of a run: `SOURCE.YYYYMMDD.SEQ.run`, the number in 16 hex digits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Name {
    pub(super) source: Box<str>,
    pub(super) day: Day,
    pub(super) seq: u64,
}

impl Name {
    pub(super) fn path(&self) -> String {
        format!("{DIR}/{}", self.file())
    }

    fn file(&self) -> String {
        format!("{}.{}.{:016x}.run", self.source, self.day, self.seq)
    }

    /// Reads a file's name. A source's name may have dots of its own.
    pub(super) fn parse(file: &str) -> Option<Name> {
        let mut parts = file.strip_suffix(".run")?.rsplitn(3, '.');
        let (seq, day, source) = (parts.next()?, parts.next()?, parts.next()?);
        let name =
            Name { source: source.into(), day: Day::parse(day)?, seq: u64::from_str_radix(seq, 16).ok()? };
        (is_source(source) && name.file() == file).then_some(name)
    }

    pub(super) fn corrupt(&self, why: &'static str) -> LedgerError {
        LedgerError::Corrupt { path: self.path(), why, remedy: REMEDY }
    }
}

/// Bytes of a run of `count` entries.
pub(super) fn file_len(count: u64) -> u64 {
    HEADER as u64 + count * ENTRY as u64 + count.div_ceil(BLOCK_ENTRIES as u64) * CRC as u64
}

/// Writes a run. Dropped before [`Writer::finish`], it leaves a temporary file, which [`Writer::discard`]
/// takes away.
pub(super) struct Writer<D: Disk> {
    disk: D,
    file: D::File,
    name: Name,
    seed: u32,
    block: Vec<u8>,
    blocks: u64,
    count: u64,
    last: Option<Entry>,
}

impl<D: Disk> Writer<D> {
    pub(super) fn create(disk: &D, name: Name) -> Result<Writer<D>, LedgerError> {
        let temp = name.path() + TEMP;
        let file = disk.create(&temp).map_err(LedgerError::disk("create", &temp))?;
        let seed = seed(&name);
        let block = Vec::with_capacity(BLOCK);
        Ok(Writer { disk: disk.clone(), file, name, seed, block, blocks: 0, count: 0, last: None })
    }

    /// Adds an entry, not before any that was added. The same again is left out.
    pub(super) fn push(&mut self, entry: &Entry) -> Result<(), LedgerError> {
        if self.last.as_ref() == Some(entry) {
            return Ok(());
        }
        debug_assert!(self.last.as_ref() < Some(entry));
        self.block.extend_from_slice(entry);
        self.count += 1;
        self.last = Some(*entry);
        if self.block.len() == BLOCK_ENTRIES * ENTRY { self.flush() } else { Ok(()) }
    }

    /// Makes the bytes durable and gives the file its name. The name is durable after a `sync_dir`.
    /// Returns how many entries it has.
    pub(super) fn finish(&mut self) -> Result<u64, LedgerError> {
        if !self.block.is_empty() {
            self.flush()?;
        }
        let path = self.name.path();
        let temp = path.clone() + TEMP;
        let header = header(&self.name, self.count);
        self.file.write_at(0, &header).map_err(LedgerError::disk("write", &temp))?;
        let _proof = self.file.sync().map_err(LedgerError::disk("sync", &temp))?;
        self.disk.rename(&temp, &path).map_err(LedgerError::disk("rename", &temp))?;
        Ok(self.count)
    }

    /// Takes back what was written, as far as the disk lets it.
    pub(super) fn discard(self) {
        let path = self.name.path();
        let _ = self.disk.remove(&(path.clone() + TEMP));
        let _ = self.disk.remove(&path);
    }

    fn flush(&mut self) -> Result<(), LedgerError> {
        let crc = block_crc(self.seed, self.blocks, &self.block);
        self.block.extend_from_slice(&crc.to_le_bytes());
        let offset = HEADER as u64 + self.blocks * BLOCK as u64;
        let write = self.file.write_at(offset, &self.block);
        write.map_err(LedgerError::disk("write", &(self.name.path() + TEMP)))?;
        self.blocks += 1;
        self.block.clear();
        Ok(())
    }
}

/// An open run whose header was found good.
pub(super) struct Run<F> {
    name: Name,
    file: F,
    seed: u32,
    count: u64,
}

impl<F: DiskFile> Run<F> {
    /// `Ok(None)`: there is no such file.
    pub(super) fn open<D: Disk<File = F>>(disk: &D, name: Name) -> Result<Option<Run<F>>, LedgerError> {
        let path = name.path();
        let file = match disk.open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(LedgerError::disk("open", &path)(error)),
        };
        let len = file.len().map_err(LedgerError::disk("measure", &path))?;
        if len < HEADER as u64 {
            return Err(name.corrupt("it is shorter than its header"));
        }
        let mut bytes = [0; HEADER];
        read_whole(&file, 0, &mut bytes, &name)?;
        let count = u64::from_le_bytes(bytes[16..24].try_into().unwrap_or_default());
        let version = u32::from_le_bytes(bytes[8..12].try_into().unwrap_or_default());
        if &bytes[..8] == MAGIC && version > VERSION {
            return Err(name.corrupt("it has a later format than this version of trailspool reads"));
        }
        if bytes != header(&name, count) {
            return Err(name.corrupt("its header does not fit its checksum or its name"));
        }
        if count > len || file_len(count) != len {
            return Err(name.corrupt("its length does not fit its header"));
        }
        let seed = seed(&name);
        Ok(Some(Run { name, file, seed, count }))
    }

    pub(super) fn seq(&self) -> u64 {
        self.name.seq
    }

    /// Whether the entry is there. Entries are hashes, so where one stands follows from what it is, nearly:
    /// one or two blocks are read. When that guess fails several times, halving goes on.
    pub(super) fn contains(&self, entry: &Entry, block: &mut Block) -> Result<bool, LedgerError> {
        let (mut low, mut high) = (0, self.count.div_ceil(BLOCK_ENTRIES as u64));
        let (mut low_key, mut high_key) = (0, u64::MAX);
        let key = prefix(entry);
        for round in 0.. {
            if low >= high {
                break;
            }
            let spread = u128::from(high_key.saturating_sub(low_key));
            let guess = match round < 4 && spread > 0 {
                true => u128::from(key - low_key) * u128::from(high - low) / spread,
                false => u128::from((high - low) / 2),
            };
            let number = (low + guess as u64).min(high - 1);
            let entries = self.read(number, block)?;
            let (Some(first), Some(last)) = (entries.first(), entries.last()) else { break };
            if entry < first {
                (high, high_key) = (number, prefix(first));
            } else if entry > last {
                (low, low_key) = (number + 1, prefix(last));
            } else {
                return Ok(entries.binary_search(entry).is_ok());
            }
        }
        Ok(false)
    }

    /// The entries in order, a block at a time.
    pub(super) fn stream(self) -> Stream<F> {
        Stream { run: self, block: Block::default(), number: 0, at: 0, len: 0, last: None }
    }

    fn read<'b>(&self, number: u64, block: &'b mut Block) -> Result<&'b [Entry], LedgerError> {
        let entries = (self.count - number * BLOCK_ENTRIES as u64).min(BLOCK_ENTRIES as u64) as usize;
        let bytes = &mut block.0[..entries * ENTRY + CRC];
        read_whole(&self.file, HEADER as u64 + number * BLOCK as u64, bytes, &self.name)?;
        let (bytes, crc) = bytes.split_at(entries * ENTRY);
        if block_crc(self.seed, number, bytes).to_le_bytes() != crc {
            return Err(self.name.corrupt("a block does not fit its checksum"));
        }
        Ok(bytes.as_chunks::<ENTRY>().0)
    }
}

/// Room for one block.
pub(super) struct Block(Box<[u8; BLOCK]>);

impl Default for Block {
    fn default() -> Block {
        Block(Box::new([0; BLOCK]))
    }
}

/// The entries of a run in order.
pub(super) struct Stream<F> {
    run: Run<F>,
    block: Block,
    /// Number of the next block.
    number: u64,
    at: usize,
    len: usize,
    last: Option<Entry>,
}

impl<F: DiskFile> Stream<F> {
    pub(super) fn next(&mut self) -> Result<Option<Entry>, LedgerError> {
        if self.at == self.len {
            if self.number * BLOCK_ENTRIES as u64 >= self.run.count {
                return Ok(None);
            }
            self.len = self.run.read(self.number, &mut self.block)?.len();
            self.number += 1;
            self.at = 0;
        }
        let entry = self.block.0.as_chunks::<ENTRY>().0[self.at];
        self.at += 1;
        if self.last.as_ref() >= Some(&entry) {
            return Err(self.run.name.corrupt("its entries are not in order"));
        }
        self.last = Some(entry);
        Ok(Some(entry))
    }
}

fn header(name: &Name, count: u64) -> [u8; HEADER] {
    let mut bytes = [0; HEADER];
    bytes[..8].copy_from_slice(MAGIC);
    bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
    bytes[12..16].copy_from_slice(&name.day.number().to_le_bytes());
    bytes[16..24].copy_from_slice(&count.to_le_bytes());
    bytes[24..40].copy_from_slice(&Sha256::digest(name.source.as_bytes())[..16]);
    let crc = crc32fast::hash(&bytes[..40]);
    bytes[40..].copy_from_slice(&crc.to_le_bytes());
    bytes
}

/// What the blocks of a run have in common that those of another have not; the count is not known while they
/// are written.
fn seed(name: &Name) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(name.path().as_bytes());
    hasher.finalize()
}

fn block_crc(seed: u32, number: u64, entries: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&seed.to_le_bytes());
    hasher.update(&number.to_le_bytes());
    hasher.update(entries);
    hasher.finalize()
}

fn prefix(entry: &Entry) -> u64 {
    u64::from_be_bytes([entry[0], entry[1], entry[2], entry[3], entry[4], entry[5], entry[6], entry[7]])
}

fn read_whole<F: DiskFile>(file: &F, offset: u64, bytes: &mut [u8], name: &Name) -> Result<(), LedgerError> {
    let mut done = 0;
    while done < bytes.len() {
        match file.read_at(offset + done as u64, &mut bytes[done..]) {
            Ok(0) => return Err(name.corrupt("it ends before its length")),
            Ok(count) => done += count,
            Err(error) => return Err(LedgerError::disk("read", &name.path())(error)),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault_disk::FaultDisk;

    fn name() -> Name {
        Name { source: "a.b".into(), day: Day::parse("20260131").unwrap(), seq: 0x2f }
    }

    fn written(count: u32) -> (FaultDisk, Vec<Entry>) {
        let disk = FaultDisk::new();
        disk.create_dir(DIR).unwrap();
        let mut entries: Vec<Entry> = (0..count).map(|number| entry("a.b", &number.to_string())).collect();
        entries.sort_unstable();
        let mut writer = Writer::create(&disk, name()).unwrap();
        for entry in &entries {
            writer.push(entry).unwrap();
            writer.push(entry).unwrap();
        }
        assert_eq!(writer.finish().unwrap(), count.into(), "what comes twice is written once");
        (disk, entries)
    }

    fn open(disk: &FaultDisk) -> Result<Run<<FaultDisk as Disk>::File>, LedgerError> {
        Run::open(disk, name()).map(Option::unwrap)
    }

    #[test]
    fn a_name_is_read_back_and_nothing_else_is_a_name() {
        assert_eq!(name().path(), "ledger/a.b.20260131.000000000000002f.run");
        assert_eq!(Name::parse("a.b.20260131.000000000000002f.run"), Some(name()));
        for file in [
            "checkpoint",
            "a.b.20260131.2f.run",
            "a.b.20260131.000000000000002F.run",
            "a.b.20260131.000000000000002f.run.tmp",
            "a.b.20260132.000000000000002f.run",
            ".20260131.000000000000002f.run",
            "..20260131.000000000000002f.run",
            "a b.20260131.000000000000002f.run",
            ".run",
        ] {
            assert_eq!(Name::parse(file), None, "{file}");
        }
    }

    #[test]
    fn a_run_holds_what_was_written_in_order_and_nothing_else() {
        for count in [1, 2, 254, 255, 256, 510, 511, 3000] {
            let (disk, entries) = written(count);
            assert_eq!(disk.contents(&name().path()).unwrap().len() as u64, file_len(count.into()));
            let (run, mut block) = (open(&disk).unwrap(), Block::default());
            for entry in &entries {
                assert!(run.contains(entry, &mut block).unwrap());
            }
            for number in 0..1000 {
                let other = entry("other", &number.to_string());
                assert!(!run.contains(&other, &mut block).unwrap());
            }
            for edge in [[0; ENTRY], [0xff; ENTRY]] {
                assert!(!run.contains(&edge, &mut block).unwrap());
            }
            let mut stream = run.stream();
            let read: Vec<Entry> = std::iter::from_fn(|| stream.next().unwrap()).collect();
            assert!(read == entries);
        }
    }

    #[test]
    fn entries_that_are_not_spread_evenly_are_found_as_well() {
        let disk = FaultDisk::new();
        disk.create_dir(DIR).unwrap();
        let mut entries: Vec<Entry> = (0..5000_u32).map(|number| u128::from(number).to_be_bytes()).collect();
        entries.extend((0..5000_u32).map(|number| (u128::MAX - u128::from(4999 - number)).to_be_bytes()));
        let mut writer = Writer::create(&disk, name()).unwrap();
        entries.iter().for_each(|entry| writer.push(entry).unwrap());
        writer.finish().unwrap();
        let (run, mut block) = (open(&disk).unwrap(), Block::default());
        for entry in entries.iter().step_by(7) {
            assert!(run.contains(entry, &mut block).unwrap());
        }
        assert!(!run.contains(&(1_u128 << 100).to_be_bytes(), &mut block).unwrap());
    }

    #[test]
    fn a_look_up_reads_hardly_more_than_one_block() {
        let (disk, entries) = written(20_000);
        let (run, mut block) = (open(&disk).unwrap(), Block::default());
        let before = disk.reads();
        for entry in &entries {
            assert!(run.contains(entry, &mut block).unwrap());
        }
        let reads = disk.reads() - before;
        assert!(reads < 20_000 * 3 / 2, "{reads} reads for 20,000 look-ups in 79 blocks");
    }

    #[test]
    fn every_flipped_bit_is_noticed_by_whoever_reads_it() {
        let (disk, entries) = written(300);
        let len = disk.contents(&name().path()).unwrap().len();
        for at in 0..len {
            disk.flip(&name().path(), at, 1 << (at % 8));
            let read = open(&disk).and_then(|run| {
                let mut stream = run.stream();
                while stream.next()?.is_some() {}
                Ok(())
            });
            let Err(LedgerError::Corrupt { path, .. }) = read else { panic!("byte {at}: {read:?}") };
            assert_eq!(path, name().path());
            disk.flip(&name().path(), at, 1 << (at % 8));
        }
        let (run, mut block) = (open(&disk).unwrap(), Block::default());
        disk.flip(&name().path(), len - 1, 1);
        assert!(run.contains(&entries[0], &mut block).unwrap(), "the first block is as good as it was");
        assert!(run.contains(&entries[299], &mut block).is_err());
    }

    #[test]
    fn a_file_that_was_cut_or_stands_under_another_name_is_refused() {
        let (disk, _) = written(300);
        let mut file = disk.open(&name().path()).unwrap();
        for len in (0..file.len().unwrap()).rev().step_by(13) {
            file.set_len(len).unwrap();
            assert!(matches!(open(&disk), Err(LedgerError::Corrupt { .. })), "{len} bytes");
        }
        let (disk, _) = written(3);
        let other = Name { source: "b".into(), ..name() };
        disk.rename(&name().path(), &other.path()).unwrap();
        assert!(matches!(Run::open(&disk, other), Err(LedgerError::Corrupt { .. })));
    }
}
