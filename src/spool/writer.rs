//! Appends objects to the log.
//!
//! Frames gather in one buffer and are written when it is full, when a segment ends, or at a commit; a record too
//! large for it is written from where it is. Nothing reaches a reader before [`Writer::commit`].
//!
//! A segment is synced to its end, and its name too, *before* the next one is created: so a commit has one file to
//! sync, and what lies before a later segment is known to be durable. Taking back (an abort or a rollback) shortens
//! the current segment, or leaves it where it stands and goes on in a new one whose header says where the log goes on
//! from; what lies between is void from then on, whether or not the disk still obeys.
//!
//! After an error of the disk everything but [`Writer::rollback`] is refused. A sync that failed is never repeated:
//! the log goes on in a new segment, behind the last commit.

use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

use super::disk::{Disk, DiskFile, Synced};
use super::pack::Packer;
use super::position::{Committed, Position};
use super::segment::{self, HEADER};
use super::{Compression, Options, Segment, Spool, SpoolError, frame};
use crate::record::{Counts, ObjectFate, ObjectId};

/// Room that is never given to records: what an open object needs to end, on a new segment if need be.
pub(super) const RESERVE: u64 =
    (frame::OVERHEAD + frame::END + frame::OVERHEAD + frame::RECORDS_HEAD) as u64 + 2 * HEADER;

/// The one writer of a spool.
pub struct Writer<D: Disk> {
    spool: Arc<Spool<D>>,
    /// The segment that is written; `None` after something was taken back: the next frame begins a new one.
    tail: Option<Tail<D::File>>,
    /// Number of the next segment.
    next: u64,
    /// Bytes of all segments but the tail.
    older: u64,
    /// What the tail gets next: whole frames, then perhaps an open records frame.
    buf: Vec<u8>,
    /// `None`: records are written as they are.
    packer: Option<Packer>,
    /// Segments that were taken back and could not be removed yet.
    void: Vec<u64>,
    /// Where in `buf` the open records frame begins.
    open_frame: Option<usize>,
    /// Behind the last closed frame.
    at: Mark,
    /// Behind the last end frame.
    ended: Mark,
    /// Behind the last end frame that is durable.
    durable: Mark,
    object: Option<Open>,
    uncommitted: Uncommitted,
    broken: bool,
    /// What was seen of the outputs' moves at the last reclaim.
    moves: u64,
}

/// A place in the log and the checksum before it, which seeds what follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Mark {
    pub(super) position: Position,
    pub(super) crc: u32,
}

struct Tail<F> {
    number: u64,
    file: F,
    /// Bytes in the file; the buffer follows.
    written: u64,
    /// Whether its name is durable.
    named: bool,
}

/// The object that is being written.
struct Open {
    begin: Mark,
    records: u64,
    /// Bytes in the log so far, headers of segments included.
    bytes: u64,
}

/// What waits for the next commit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Uncommitted {
    /// Objects that ended.
    pub objects: usize,
    /// Bytes they take in the log.
    pub bytes: u64,
}

impl<D: Disk> Writer<D> {
    /// A writer that goes on at `end`, which is durable: in its own segment, or in a new one that is numbered `next`.
    pub(super) fn new(spool: Arc<Spool<D>>, end: Mark, file: Option<D::File>, next: u64) -> Writer<D> {
        let Position { segment, offset } = end.position;
        let tail = file.map(|file| Tail { number: segment, file, written: offset, named: true });
        let all = spool.used_bytes();
        Writer {
            older: if tail.is_some() { all - offset } else { all },
            buf: Vec::with_capacity(buffer_bytes(&spool.options)),
            packer: (spool.options.compression == Compression::Lz4).then(Packer::new),
            void: Vec::new(),
            open_frame: None,
            at: end,
            ended: end,
            durable: end,
            object: None,
            uncommitted: Uncommitted::default(),
            broken: false,
            moves: 0,
            spool,
            tail,
            next,
        }
    }

    /// Begins an object.
    ///
    /// [`SpoolError::Full`]: nothing was written, call again when there is room.
    pub fn begin(&mut self, object: &ObjectId) -> Result<(), SpoolError> {
        self.usable()?;
        if self.object.is_some() {
            return Err(SpoolError::Misuse("an object begins before the one before it has ended"));
        }
        let size = frame::begin_size(object)
            .ok_or(SpoolError::Misuse("a source, bucket or key is longer than its bound"))?;
        self.room_for(size as u64)?;
        self.place(size)?;
        self.object = Some(Open { begin: self.at, records: 0, bytes: size as u64 });
        let crc = frame::push_begin(&mut self.buf, object, self.at.crc);
        self.closed(crc);
        Ok(())
    }

    /// Appends a record of the open object.
    ///
    /// [`SpoolError::Full`]: this record was not written, call again when there is room.
    /// [`SpoolError::TooLarge`]: it never will be, [`Writer::abort`] the object.
    pub fn record(&mut self, index: u32, record: &[u8]) -> Result<(), SpoolError> {
        self.usable()?;
        let Some(object) = &self.object else { return Err(SpoolError::Misuse("a record outside an object")) };
        if record.len() > self.spool.options.max_record_bytes {
            return Err(SpoolError::Misuse("a record is longer than max_record_bytes"));
        }
        let begin = object.begin.position;
        let need = frame::RECORD_HEAD + record.len();
        // As if it needed a frame of its own: what that overstates is at most one frame's head.
        let most = (need + frame::OVERHEAD + frame::RECORDS_HEAD) as u64;
        let limit = self.spool.options.object_limit();
        if object.bytes + most + RESERVE > limit {
            return Err(SpoolError::TooLarge { limit });
        }
        self.room_for(most)?;
        if frame::RECORDS_HEAD + need > self.spool.options.frame_payload() {
            self.lone_record(begin, index, record)?;
        } else {
            if !self.fits_open_frame(need) {
                self.close_frame();
                self.place(most as usize)?;
                self.open_frame = Some(frame::open_records(&mut self.buf, begin));
                self.grow(frame::HEAD + frame::RECORDS_HEAD + frame::CRC);
            }
            frame::push_record(&mut self.buf, index, record);
            self.grow(need);
        }
        if let Some(object) = &mut self.object {
            object.records += 1;
        }
        Ok(())
    }

    /// Ends the open object. It is in the spool from the next [`Writer::commit`] on. Never [`SpoolError::Full`].
    pub fn end(&mut self, fate: ObjectFate, counts: &Counts) -> Result<(), SpoolError> {
        self.usable()?;
        let Some(object) = &self.object else { return Err(SpoolError::Misuse("an end outside an object")) };
        if !counts.balance() || counts.kept != object.records {
            return Err(SpoolError::Misuse("the counts of an object do not balance"));
        }
        let begin = object.begin.position;
        self.close_frame();
        let size = frame::OVERHEAD + frame::END;
        self.place(size)?;
        self.grow(size);
        let crc = frame::push_end(&mut self.buf, begin, fate, counts, self.at.crc);
        self.closed(crc);
        self.ended = self.at;
        self.uncommitted.objects += 1;
        self.uncommitted.bytes += self.object.take().map_or(0, |object| object.bytes);
        Ok(())
    }

    /// Takes the open object back, if there is one.
    pub fn abort(&mut self) -> Result<(), SpoolError> {
        let Some(object) = self.object.take() else { return Ok(()) };
        self.usable()?;
        let begin = object.begin.position;
        self.open_frame = None;
        match &mut self.tail {
            Some(tail) if tail.number == begin.segment => {
                match begin.offset.checked_sub(tail.written) {
                    Some(kept) => self.buf.truncate(kept as usize),
                    None => {
                        self.buf.clear();
                        let cut = tail.file.set_len(begin.offset);
                        tail.written = begin.offset;
                        self.publish_length();
                        self.check(cut, "cut", begin.segment)?;
                    }
                }
                self.at = object.begin;
            }
            // Which is where it began, but for the header of a segment that may have been begun for it.
            _ => self.retreat(self.ended),
        }
        Ok(())
    }

    /// Makes every object that has ended durable, with one fsync, and shows them to the readers. An object may be
    /// open: it is no part of it.
    pub fn commit(&mut self) -> Result<Committed, SpoolError> {
        self.usable()?;
        self.close_frame();
        let synced = match self.tail {
            Some(_) => self.sync_tail()?,
            // What was written before something was taken back is durable already: this is for the proof.
            None => {
                let segment = self.ended.position.segment;
                let proof = self.spool.disk.open(&segment::path(segment)).and_then(|mut file| file.sync());
                self.check(proof, "sync", segment)?
            }
        };
        self.durable = self.ended;
        self.uncommitted = Uncommitted::default();
        let through = self.durable.position;
        self.spool.lock().committed = through;
        self.spool.committed.send_if_modified(|seen| std::mem::replace(seen, through) != through);
        Ok(Committed::new(through, synced))
    }

    /// What waits for the next commit.
    pub fn uncommitted(&self) -> Uncommitted {
        self.uncommitted
    }

    /// Takes back everything since the last commit, the open object too, and makes the writer usable again after an
    /// error of the disk.
    pub fn rollback(&mut self) {
        self.object = None;
        self.uncommitted = Uncommitted::default();
        self.ended = self.durable;
        self.retreat(self.durable);
        self.broken = false;
    }

    /// Removes the segments that nobody needs any more: those before every output's saved cursor and before
    /// `ledger_through`, the ledger's checkpoint. Saves the cursors of outputs that have left their segment first.
    /// Returns the bytes freed. An error leaves the writer usable.
    pub fn reclaim(&mut self, ledger_through: Position) -> Result<u64, SpoolError> {
        let mut needed = ledger_through.segment.min(self.durable.position.segment);
        self.moves = self.spool.lock().moves;
        for (index, output) in self.spool.options.outputs.iter().enumerate() {
            let standing = self.spool.lock().outputs[index];
            if standing.saved.begin.segment < standing.cursor.begin.segment {
                self.spool
                    .save_cursor(index)
                    .map_err(SpoolError::disk("save", super::cursor::path(output)))?;
            }
            needed = needed.min(self.spool.lock().outputs[index].saved.begin.segment);
        }
        // First, since what is void is known to be so from a later segment, which may be among those removed.
        self.remove_void().map_err(SpoolError::disk("remove void segments from", segment::DIR))?;
        let mut freed = 0;
        loop {
            let oldest = self.spool.lock().segments.first().copied();
            let Some(segment) = oldest.filter(|segment| segment.number < needed) else { break };
            let path = segment::path(segment.number);
            match self.spool.disk.remove(&path) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    return Err(SpoolError::disk("remove", path)(error));
                }
                _ => {}
            }
            self.spool.lock().segments.remove(0);
            self.older -= segment.end;
            freed += segment.end;
        }
        if freed > 0 {
            // Or a power cut would bring them back, beside what has been written in their room.
            self.spool.disk.sync_dir(segment::DIR).map_err(SpoolError::disk("sync", segment::DIR))?;
        }
        Ok(freed)
    }

    /// After [`SpoolError::Full`]: waits until an output has come to need fewer segments than at the last reclaim, or
    /// the time is over.
    pub fn wait_for_room(&self, timeout: Duration) {
        self.spool.wait_moved(self.moves, timeout);
    }

    fn usable(&self) -> Result<(), SpoolError> {
        match self.broken {
            false => Ok(()),
            true => Err(SpoolError::Misuse("the writer needs a rollback after an error of the disk")),
        }
    }

    /// Notes that the disk failed.
    fn check<T>(
        &mut self,
        result: std::io::Result<T>,
        what: &'static str,
        segment: u64,
    ) -> Result<T, SpoolError> {
        self.broken |= result.is_err();
        result.map_err(SpoolError::disk(what, segment::path(segment)))
    }

    fn room_for(&self, bytes: u64) -> Result<(), SpoolError> {
        let tail = self.tail.as_ref().map_or(0, |tail| tail.written);
        let used = self.older + tail + self.buf.len() as u64;
        match used + bytes + RESERVE <= self.spool.options.max_bytes {
            true => Ok(()),
            false => Err(SpoolError::Full),
        }
    }

    /// Makes sure that a closed frame of `size` bytes fits behind the buffer, in the segment and, unless it is larger
    /// than any buffer, in memory. No records frame is open.
    fn place(&mut self, size: usize) -> Result<(), SpoolError> {
        let offset = self.at.position.offset;
        let full = offset > HEADER && offset + size as u64 > self.spool.options.segment_bytes;
        if self.tail.is_none() || full {
            self.new_segment()?;
        }
        if self.buf.len() + size > buffer_bytes(&self.spool.options) {
            self.flush()?;
        }
        Ok(())
    }

    /// Whether a record of `need` bytes, its head included, still goes into the open records frame.
    fn fits_open_frame(&self, need: usize) -> bool {
        let Some(start) = self.open_frame else { return false };
        let payload = self.buf.len() - start - frame::HEAD + need;
        let end = self.at.position.offset + (frame::OVERHEAD + payload) as u64;
        payload <= self.spool.options.frame_payload()
            && end <= self.spool.options.segment_bytes
            && self.buf.len() + need + frame::CRC <= buffer_bytes(&self.spool.options)
    }

    fn lone_record(&mut self, begin: Position, index: u32, record: &[u8]) -> Result<(), SpoolError> {
        self.close_frame();
        let size = frame::LONE_HEAD + record.len() + frame::CRC;
        self.place(size)?;
        self.flush()?;
        let (head, crc) = frame::lone_record(begin, index, record, self.at.crc);
        if let Some(tail) = &mut self.tail {
            let at = tail.written;
            let body = at + head.len() as u64;
            let written = tail
                .file
                .write_at(at, &head)
                .and_then(|()| tail.file.write_at(body, record))
                .and_then(|()| tail.file.write_at(body + record.len() as u64, &crc.to_le_bytes()));
            let number = tail.number;
            if written.is_ok() {
                tail.written += size as u64;
            }
            self.check(written, "write", number)?;
        }
        self.grow(size);
        self.publish_length();
        self.closed(crc);
        Ok(())
    }

    fn close_frame(&mut self) {
        if let Some(start) = self.open_frame.take() {
            let saved = self.packer.as_mut().map_or(0, |packer| packer.pack(&mut self.buf, start));
            if let Some(object) = &mut self.object {
                object.bytes -= saved as u64;
            }
            let crc = frame::seal(&mut self.buf, start, self.at.crc);
            self.closed(crc);
        }
    }

    /// All frames are closed, the last one with `crc`.
    fn closed(&mut self, crc: u32) {
        if let Some(tail) = &self.tail {
            let offset = tail.written + self.buf.len() as u64;
            self.at = Mark { position: Position { segment: tail.number, offset }, crc };
        }
    }

    fn grow(&mut self, bytes: usize) {
        if let Some(object) = &mut self.object {
            object.bytes += bytes as u64;
        }
    }

    fn flush(&mut self) -> Result<(), SpoolError> {
        let Some(tail) = self.tail.as_mut().filter(|_| !self.buf.is_empty()) else { return Ok(()) };
        let number = tail.number;
        let written = tail.file.write_at(tail.written, &self.buf);
        if written.is_ok() {
            tail.written += self.buf.len() as u64;
            self.buf.clear();
        }
        self.check(written, "write", number)?;
        self.publish_length();
        Ok(())
    }

    fn sync_tail(&mut self) -> Result<Synced, SpoolError> {
        self.flush()?;
        let Some(tail) = &mut self.tail else { return Err(SpoolError::Misuse("no segment to sync")) };
        let (number, named) = (tail.number, tail.named);
        let synced = tail.file.sync();
        let synced = self.check(synced, "sync", number)?;
        if !named {
            let named = self.spool.disk.sync_dir(segment::DIR);
            self.broken |= named.is_err();
            named.map_err(SpoolError::disk("sync", segment::DIR))?;
            if let Some(tail) = &mut self.tail {
                tail.named = true;
            }
        }
        Ok(synced)
    }

    fn new_segment(&mut self) -> Result<(), SpoolError> {
        if self.tail.is_some() {
            let _durable = self.sync_tail()?;
        }
        let number = self.next;
        // A number whose file could not be made is not used again either.
        self.next += 1;
        let created = self.spool.disk.create(&segment::path(number));
        let file = self.check(created, "create", number)?;
        self.older += self.tail.take().map_or(0, |tail| tail.written);
        let (header, crc) = segment::header(number, self.at.position, self.packer.is_some());
        self.buf.extend_from_slice(&header);
        self.grow(header.len());
        self.tail = Some(Tail { number, file, written: 0, named: false });
        self.spool.lock().segments.push(Segment { number, end: 0 });
        self.closed(crc);
        Ok(())
    }

    /// Makes a place the end of the log that is durable up to there, whatever the disk does: the next frame begins a
    /// segment whose header says so. Giving the room back at once is an attempt.
    fn retreat(&mut self, to: Mark) {
        self.buf.clear();
        self.open_frame = None;
        self.tail = None;
        self.at = to;
        let Position { segment, offset } = to.position;
        {
            let mut shared = self.spool.lock();
            let kept = shared.segments.partition_point(|known| known.number <= segment);
            self.void.extend(shared.segments.drain(kept..).map(|void| void.number));
            if let Some(last) = shared.segments.last_mut().filter(|last| last.number == segment) {
                last.end = offset;
            }
        }
        self.older = self.spool.used_bytes();
        if let Err(error) = self.give_back(to.position) {
            log::warn!(
                "cannot free what is void behind byte {offset} of {}: {error}",
                segment::path(segment)
            );
        }
    }

    fn give_back(&mut self, end: Position) -> std::io::Result<()> {
        self.remove_void()?;
        self.spool.disk.open(&segment::path(end.segment))?.set_len(end.offset)
    }

    /// Removes what is void, the newest first and durably before what is older is touched: until the next segment
    /// says that they are void, a restart must find the log as it was, or a beginning of it.
    fn remove_void(&mut self) -> std::io::Result<()> {
        if self.void.is_empty() {
            return Ok(());
        }
        let disk = &self.spool.disk;
        for number in self.void.iter().rev() {
            match disk.remove(&segment::path(*number)) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        disk.sync_dir(segment::DIR)?;
        self.void.clear();
        Ok(())
    }

    /// Tells the tail's length on disk to the books of [`Spool::used_bytes`].
    fn publish_length(&self) {
        let Some(tail) = &self.tail else { return };
        if let Some(last) = self.spool.lock().segments.last_mut().filter(|last| last.number == tail.number) {
            last.end = tail.written;
        }
    }

    /// For the start: a first segment that is durable, and the log stands at its beginning.
    pub(super) fn found(&mut self) -> Result<(), SpoolError> {
        self.new_segment()?;
        let _durable = self.sync_tail()?;
        self.ended = self.at;
        self.durable = self.at;
        let at = self.at.position;
        self.spool.lock().committed = at;
        self.spool.committed.send_replace(at);
        Ok(())
    }
}

/// One frame of any size that is buffered.
fn buffer_bytes(options: &Options) -> usize {
    frame::OVERHEAD + options.frame_payload().max(frame::BEGIN_MAX)
}
