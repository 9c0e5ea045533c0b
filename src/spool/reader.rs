//! Reads the committed part of the log, record by record, beside the writer.
//!
//! A reader holds one buffer: a frame, or as many small ones as fit. It never reads behind the committed position,
//! and what is before it does not change.
//!
//! A frame that does not check out is set aside in the quarantine, durably, before the reader goes on behind it
//! ([`Frames::behind`]). So is one that the disk cannot read, after some tries. Records whose begin frame is damaged are
//! set aside too: nobody knows where they are from.

use std::io;
use std::ops::ControlFlow;
use std::sync::Arc;

use super::cursor::Cursor;
use super::disk::Disk;
use super::frame::{self, Frame, Identity};
use super::position::Position;
use super::quarantine::{self, Entry};
use super::segment::{self, Frames, HEADER};
use super::{Spool, SpoolError};
use crate::record::ObjectId;

/// Bytes that are copied at a time from a damaged segment into the quarantine.
const COPY: usize = 4096;
/// Calls of [`Reader::read`] that fail at the same place before what the disk cannot read there counts as damaged: a
/// disk that is only out of order for a while may read it later. Who calls waits longer after each.
const TRIES: u32 = 5;

/// Gets a record: its object, its index there, its bytes, and the cursor that stands behind it. `Break`: it was not
/// taken.
pub type Visit<'a> = dyn FnMut(&ObjectId, u32, &[u8], Cursor) -> ControlFlow<()> + 'a;

/// Reads for one output.
pub struct Reader<D: Disk> {
    spool: Arc<Spool<D>>,
    /// `None`: for nobody who acknowledges.
    output: Option<usize>,
    /// Behind the last record that was taken.
    stand: Cursor,
    /// The frame that comes next, and how many of its records are done.
    at: Position,
    done: u32,
    /// The object of the last begin frame, and where that stands.
    object: Option<(Position, ObjectId)>,
    file: Option<(u64, D::File)>,
    frames: Frames,
    /// A place that could not be read, and how often.
    failed: (Position, u32),
}

impl<D: Disk> Reader<D> {
    pub(super) fn new(spool: Arc<Spool<D>>, output: Option<usize>, cursor: Cursor) -> Reader<D> {
        let frames = Frames::new(spool.options.max_readable());
        let mut reader = Reader {
            spool,
            output,
            stand: cursor,
            at: cursor.frame,
            done: cursor.record,
            object: None,
            file: None,
            frames,
            failed: (Position::default(), 0),
        };
        reader.seek(cursor);
        reader
    }

    /// Goes to a cursor of this output that is not older than the acknowledged one: to send again.
    pub fn seek(&mut self, cursor: Cursor) {
        self.stand = cursor;
        self.at = cursor.frame;
        self.done = cursor.record;
    }

    /// Visits the committed records behind the last one taken, in order: object, index in it, bytes, and the cursor
    /// that stands behind the record and counts it as delivered. Returns at the end of the log, or when `visit`
    /// breaks: then that record was not taken, and comes first the next time.
    ///
    /// Blocks on the disk. After an error the reader stands behind the last record that was taken.
    pub fn read(&mut self, visit: &mut Visit<'_>) -> Result<(), SpoolError> {
        while let Some(limit) = self.limit()? {
            let given_up = self.has_given_up();
            let Reader { frames, file, stand, at, done, object, .. } = self;
            let Some((_, file)) = file else { return Err(SpoolError::Misuse("no file to read")) };
            frames.lenient(given_up);
            let parsed = match frames.at(file, at.offset, limit) {
                Ok(Ok(parsed)) => parsed,
                Ok(Err(_)) => {
                    self.step_over(limit)?;
                    continue;
                }
                Err(error) => return Err(self.fails(error, self.at.segment)),
            };
            let behind = at.offset + parsed.size as u64;
            match parsed.frame {
                Frame::Begin(identity) => remember(object, *at, identity),
                // Unpacked by `frames` already.
                Frame::End { .. } | Frame::Packed { .. } => {}
                Frame::Records { begin, records } => {
                    match object.as_ref().filter(|(known, _)| *known == begin) {
                        Some((_, object)) => {
                            for (index, record) in records.skip(*done as usize) {
                                let cursor = Cursor {
                                    begin,
                                    frame: *at,
                                    record: *done + 1,
                                    delivered: stand.delivered + 1,
                                    rejected: stand.rejected,
                                    skipped: stand.skipped,
                                };
                                if visit(object, index, record, cursor).is_break() {
                                    return Ok(());
                                }
                                *stand = cursor;
                                *done = cursor.record;
                            }
                        }
                        None => {
                            if self.find_object(begin, behind)? {
                                continue;
                            }
                        }
                    }
                }
            }
            self.at.offset = behind;
            self.done = 0;
        }
        if let Some(output) = self.output {
            self.stand = self.spool.reached(output, self.stand, self.at);
        }
        Ok(())
    }

    /// The end of what may be read in the segment of the next frame, with its file at hand; `None` at the end of the
    /// log. Goes on to the next segment at the end of one.
    fn limit(&mut self) -> Result<Option<u64>, SpoolError> {
        let limit = {
            let shared = self.spool.lock();
            loop {
                let committed = shared.committed;
                if self.at >= committed {
                    return Ok(None);
                }
                let next = shared.segments.partition_point(|segment| segment.number < self.at.segment);
                let Some(segment) = shared.segments.get(next) else { return Ok(None) };
                if segment.number > self.at.segment {
                    self.at = Position { segment: segment.number, offset: HEADER };
                    self.done = 0;
                    continue;
                }
                let limit = if segment.number == committed.segment { committed.offset } else { segment.end };
                if self.at.offset < limit {
                    break limit;
                }
                // Before the committed position, so there is a later segment: the committed one at the latest.
                self.at = Position { segment: segment.number + 1, offset: HEADER };
                self.done = 0;
            }
        };
        if self.file.as_ref().is_none_or(|(number, _)| *number != self.at.segment) {
            let number = self.at.segment;
            let file = self.open(number)?;
            self.frames.lenient(self.has_given_up());
            self.frames.enter(&file, number).map_err(|error| self.fails(error, number))?;
            self.file = Some((number, file));
        }
        Ok(Some(limit))
    }

    fn open(&self, number: u64) -> Result<D::File, SpoolError> {
        let path = segment::path(number);
        self.spool.disk.open(&path).map_err(SpoolError::disk("open", path))
    }

    /// Reads the begin frame of the records at hand: the reader was put into the middle of an object. When there is
    /// none, sets the frame aside that ends at `behind`, and returns `false`: it is to be passed.
    fn find_object(&mut self, begin: Position, behind: u64) -> Result<bool, SpoolError> {
        let known = {
            let shared = self.spool.lock();
            if shared.segments.first().is_some_and(|oldest| begin.segment < oldest.number) {
                // Every output had acknowledged it when its beginning was removed; a new one starts behind it.
                return Ok(false);
            }
            shared.segments.iter().find(|segment| segment.number == begin.segment).copied()
        };
        if let Some(segment) = known.filter(|_| begin < self.at && begin.offset >= HEADER) {
            let file = self.open(begin.segment)?;
            let mut frames = Frames::new(frame::BEGIN_MAX);
            frames.lenient(self.has_given_up());
            let parsed =
                frames.enter(&file, begin.segment).and_then(|()| frames.at(&file, begin.offset, segment.end));
            if let Ok(parsed) = parsed.map_err(|error| self.fails(error, begin.segment))?
                && let Frame::Begin(identity) = parsed.frame
            {
                self.object = Some((begin, identity.to_object()));
                return Ok(true);
            }
        }
        self.set_aside(behind, "the begin frame of these records is damaged", false)?;
        Ok(false)
    }

    /// Sets a damaged frame aside and goes on behind it.
    fn step_over(&mut self, limit: u64) -> Result<(), SpoolError> {
        let Some((number, file)) = &self.file else { return Err(SpoolError::Misuse("no file to read")) };
        let number = *number;
        let unreadable = self.frames.unreadable().is_some();
        let behind = self.frames.behind(file, self.at.offset, limit);
        let behind = behind.map_err(|error| self.fails(error, number))?;
        let detail = match unreadable {
            false => "a frame does not check out",
            true => "the disk cannot read it, and zeros stand for what it does not give",
        };
        if self.set_aside(behind, detail, unreadable && self.output.is_some())? {
            self.at.offset = behind;
            self.done = 0;
        } else {
            log::info!("{} can be read again at byte {}", segment::path(number), self.at.offset);
            self.failed = (Position::default(), 0);
        }
        Ok(())
    }

    /// What the disk cannot read at the reader's place counts as damaged. Who reads for nobody that acknowledges takes
    /// nothing from anybody by going on at once.
    fn has_given_up(&self) -> bool {
        self.output.is_none() || (self.failed.0 == self.at && self.failed.1 >= TRIES)
    }

    /// Counts a failure at the reader's place.
    fn fails(&mut self, error: io::Error, segment: u64) -> SpoolError {
        if segment::is_unreadable(&error) {
            let before = if self.failed.0 == self.at { self.failed.1 } else { 0 };
            self.failed = (self.at, before + 1);
        }
        SpoolError::disk("read", segment::path(segment))(error)
    }

    /// Copies the bytes from the reader's place up to `behind` into the quarantine. `false`: nothing is set aside, since
    /// all of it can be read and `unless_read`.
    fn set_aside(&mut self, behind: u64, detail: &str, unless_read: bool) -> Result<bool, SpoolError> {
        let given_up = self.has_given_up();
        let Some((number, file)) = &self.file else { return Err(SpoolError::Misuse("no file to read")) };
        let number = *number;
        let path = segment::path(number);
        // Under the name of its place: all outputs come across the same damage.
        let place = ObjectId {
            source: "".into(),
            bucket: "".into(),
            key: format!("{path}@{}", self.at.offset).into(),
        };
        let entry = Entry { object: &place, index: None, output: None, reason: "spool-damaged", detail };
        let aside = |error| SpoolError::disk("set a damaged part aside in", quarantine::DIR)(error);
        let mut writer = self.spool.quarantine.writer(&entry).map_err(aside)?;
        let mut buf = [0; COPY];
        let mut offset = self.at.offset;
        // The seed of the frame stands before it.
        let seed = segment::read_full(file, offset - frame::CRC as u64, &mut buf[..frame::CRC]);
        let mut missing = seed.is_err_and(|error| segment::is_unreadable(&error));
        while offset < behind {
            // Block by block: one that cannot be read takes no other with it.
            let part = (COPY as u64 - offset % COPY as u64).min(behind - offset) as usize;
            let read = match segment::read_full(file, offset, &mut buf[..part]) {
                Ok(0) => break,
                Ok(read) => read,
                Err(error) if given_up && segment::is_unreadable(&error) => {
                    missing = true;
                    buf[..part].fill(0);
                    part
                }
                Err(error) => return Err(self.fails(error, number)),
            };
            writer.append(&buf[..read]).map_err(aside)?;
            offset += read as u64;
        }
        if unless_read && !missing {
            return Ok(false);
        }
        writer.finish().map_err(aside)?;
        self.spool.lock().damaged += 1;
        log::warn!(
            "{path} is damaged at byte {}: {detail}; {} bytes are set aside",
            self.at.offset,
            behind - self.at.offset
        );
        Ok(true)
    }
}

/// Keeps the names of the object; source and bucket are nearly always those of the one before.
fn remember(object: &mut Option<(Position, ObjectId)>, at: Position, identity: Identity<'_>) {
    match object {
        Some((begin, known)) if *known.source == *identity.source && *known.bucket == *identity.bucket => {
            *begin = at;
            known.key = identity.key.into();
        }
        _ => *object = Some((at, identity.to_object())),
    }
}
