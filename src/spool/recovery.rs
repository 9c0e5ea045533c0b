//! What is found at the start, and what of it is kept.
//!
//! # The segments that form the log
//! A segment's header names the place at which the log stood when it was begun, and everything before that place was
//! durable first. So the log is followed backwards from the newest segment: from its header to the place where the
//! one before ends, and so on. Segments between two such places, and bytes behind such a place, are void.
//!
//! A newest segment without a readable header never had anything committed in it, and is dropped; unless a saved
//! cursor or the ledger's checkpoint stands in it: then its header has rotted.
//!
//! # Torn or rotten
//! *Torn* is the end of the log after a power cut; *rotten* is committed data that has changed. They are told apart by
//! where they are. Only the newest segment can be torn, and only behind every saved cursor and the ledger's checkpoint:
//! all else was durable. In the torn part the first frame that does not check out ends the log, and what is whole behind it
//! is not looked at. In the durable part such a frame is reported and stepped over ([`Frames::behind`]), and nothing
//! else is lost; readers set its bytes aside when they come to it. (Rot in the last few objects before a power cut,
//! which no cursor and no checkpoint has passed, counts as torn: those objects are not in the ledger, and
//! are collected again.)
//!
//! What the disk cannot read in the durable part is stepped over as well, and readers have their own tries at it. It is an
//! error where the log's end, or whether a segment belongs to it, would hang on it: nothing is cut off on such grounds.
//!
//! # What is accepted
//! The log ends behind the last end frame, whether or not its commit was acknowledged. Nobody upstream was told about an object
//! whose commit was not, but it is told to the ledger now, so it is in the spool once. Before anyone hears of it, it
//! is durable: its bytes are written again and synced, since the bytes we read may be nowhere but in
//! a cache that a failed sync has marked clean. Then the rest is cut off, later segments first.

use std::io;
use std::sync::{Arc, Condvar, Mutex};

use tokio::sync::watch;

use super::cursor::{self, Cursor, Kept};
use super::disk::{Disk, DiskFile};
use super::frame::Frame;
use super::position::Position;
use super::segment::{self, Frames, HEADER, Header};
use super::writer::{Mark, Writer};
use super::{Compression, Options, Quarantine, Segment, Shared, Spool, SpoolError, Standing, atomic, frame};
use crate::record::{Counts, ObjectFate, ObjectId};

/// What [`open`] found and did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recovery {
    /// Where the log ends.
    pub committed: Position,
    /// Objects told to the ledger.
    pub replayed: u64,
    /// Bytes without a whole object that were cut off behind the end.
    pub cut_bytes: u64,
    /// Spots of committed data that do not check out.
    pub damaged: u64,
    /// What an operator should know, as sentences: the first few.
    pub notes: Vec<String>,
}

/// Most notes of a recovery.
const NOTES: usize = 32;

impl Recovery {
    fn note(&mut self, text: String) {
        if self.notes.len() < NOTES {
            self.notes.push(text);
        }
    }
}

/// What [`open`] returns.
pub type Opened<D> = (Writer<D>, Arc<Spool<D>>, Recovery);

/// Opens the spool: finds the end of the log, cuts off what is behind it, and tells `on_object` every committed
/// object that ends behind `replay_from` (the ledger's checkpoint, a boundary of objects), oldest first: identity,
/// fate, counts, and the place behind its end frame.
///
/// Nothing is changed when an error is returned before the log is understood; an error later leaves the log as good
/// as it was. One process at a time: the caller holds a lock.
pub fn open<D: Disk>(
    disk: D,
    options: Options,
    quarantine: Quarantine<D>,
    replay_from: Position,
    on_object: &mut dyn FnMut(ObjectId, ObjectFate, Counts, Position),
) -> Result<Opened<D>, SpoolError> {
    options.validate()?;
    for dir in [segment::DIR, cursor::DIR] {
        disk.create_dir(dir).map_err(SpoolError::disk("create", dir))?;
        atomic::sweep(&disk, dir).map_err(SpoolError::disk("clear", dir))?;
    }
    let mut recovery = Recovery::default();
    let mut cursors = load_cursors(&disk, &options, &mut recovery)?;
    let known = furthest(&disk, replay_from)?;

    let files = list_known(&disk, Some(known.segment))?;
    let highest = files.last().map_or(0, |file| file.number).max(known.segment);
    let chain = chain(&files, known);
    for gap in &chain.gaps {
        recovery.note(format!("{} is missing or too short: what was in it is lost", segment::path(*gap)));
    }
    let (open, unreadable) = (None, None);
    let mut scan =
        Scan { disk: &disk, known, replay_from, on_object, open, unreadable, recovery: &mut recovery };
    let end = scan.run(&chain.parts, options.max_readable())?;
    let parts = cut(&disk, &files, &chain.parts, end, &mut recovery)?;

    // Positions only ever grow, even when the log has lost its end.
    let whole = end.position >= known && !parts.is_empty();
    if !whole && known > Position::default() {
        recovery.note(format!(
            "the log ends before a place that was reached already, {known:?}: its end is lost"
        ));
    }
    recovery.committed = end.position;
    let oldest = parts.first().map_or(end.position, |part| Position { segment: part.number, offset: HEADER });
    for (output, cursor) in options.outputs.iter().zip(&mut cursors) {
        settle(output, cursor, oldest, end.position, &mut recovery);
    }
    let file = match whole {
        true => tail(&disk, end.position.segment, options.compression)?,
        false => None,
    };
    let spool = Arc::new(shared(disk, options, quarantine, parts, end.position, &cursors, oldest));
    let mut writer = Writer::new(spool.clone(), end, file, highest + 1);
    if !whole {
        writer.found()?;
        recovery.committed = spool.committed();
    }
    Ok((writer, spool, recovery))
}

/// A file that is named like a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct File {
    number: u64,
    len: u64,
    header: Header,
}

/// The part of a segment that belongs to the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) number: u64,
    pub(super) end: u64,
}

#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Chain {
    /// Oldest first.
    pub(super) parts: Vec<Part>,
    /// Segments that belong to the log and are not there, though older ones are, or are shorter than they were.
    pub(super) gaps: Vec<u64>,
}

/// The log, as the headers tell it. `files` are in order; everything before `known` is durable. A core.
pub(super) fn chain(files: &[File], known: Position) -> Chain {
    let whole = |file: &File| !matches!(file.header, Header::Unreadable | Header::Foreign);
    let real = |file: &File| whole(file) || file.number <= known.segment;
    let mut chain = Chain::default();
    let mut rest = &files[..files.iter().rposition(real).map_or(0, |newest| newest + 1)];
    let mut end = u64::MAX;
    while let Some((file, older)) = rest.split_last() {
        chain.parts.push(Part { number: file.number, end: end.min(file.len) });
        rest = older;
        end = u64::MAX;
        if let Header::Follows(previous) = file.header {
            let kept = older.partition_point(|file| file.number <= previous.segment);
            rest = &older[..kept];
            match rest.last() {
                Some(before) if before.number == previous.segment => {
                    end = previous.offset;
                    if before.len < end {
                        chain.gaps.push(previous.segment);
                    }
                }
                Some(_) => chain.gaps.push(previous.segment),
                None => {}
            }
        }
    }
    chain.parts.reverse();
    chain
}

pub(super) fn list<D: Disk>(disk: &D) -> Result<Vec<File>, SpoolError> {
    list_known(disk, None)
}

/// The same, where a header that the disk cannot read is only that, up to the segment that is known to be of the log.
fn list_known<D: Disk>(disk: &D, known: Option<u64>) -> Result<Vec<File>, SpoolError> {
    let mut files = Vec::new();
    for (name, len) in disk.list(segment::DIR).map_err(SpoolError::disk("list", segment::DIR))? {
        let Some(number) = segment::number(&name) else { continue };
        let file = open_segment(disk, number)?;
        let header = match segment::read_header(&file, number) {
            Err(error) if known >= Some(number) && segment::is_unreadable(&error) => Header::Unreadable,
            header => header.map_err(SpoolError::disk("read", segment::path(number)))?,
        };
        if let Header::Version(version) = header {
            return Err(SpoolError::Version { path: segment::path(number).into(), version });
        }
        files.push(File { number, len, header });
    }
    files.sort_unstable_by_key(|file| file.number);
    Ok(files)
}

/// Up to here in a segment a frame that does not check out has rotted; behind it, the log ends there.
pub(super) fn durable_end(part: &Part, newest: bool, known: Position) -> u64 {
    match newest {
        true if known.segment == part.number => known.offset.min(part.end),
        true if known.segment < part.number => 0,
        _ => part.end,
    }
}

fn open_segment<D: Disk>(disk: &D, number: u64) -> Result<D::File, SpoolError> {
    let path = segment::path(number);
    disk.open(&path).map_err(SpoolError::disk("open", path))
}

/// The segment that the log ends in, for going on there; `None`: the next frame begins a new one, since this one says
/// that it holds no packed frames.
fn tail<D: Disk>(disk: &D, number: u64, compression: Compression) -> Result<Option<D::File>, SpoolError> {
    let file = open_segment(disk, number)?;
    let fits = match compression {
        Compression::None => true,
        Compression::Lz4 => segment::may_hold_packed(&file, number)
            .map_err(SpoolError::disk("read", segment::path(number)))?,
    };
    Ok(fits.then_some(file))
}

/// Walks the frames of the log.
struct Scan<'a, D> {
    disk: &'a D,
    known: Position,
    replay_from: Position,
    on_object: &'a mut dyn FnMut(ObjectId, ObjectFate, Counts, Position),
    open: Option<(Position, ObjectId)>,
    /// The last place that the disk could not read.
    unreadable: Option<(Position, io::Error)>,
    recovery: &'a mut Recovery,
}

impl<D: Disk> Scan<'_, D> {
    /// Returns where the log ends: behind the last end frame, which is durable.
    fn run(&mut self, parts: &[Part], max_payload: usize) -> Result<Mark, SpoolError> {
        let mut frames = Frames::without_records(max_payload);
        let first = parts.iter().position(|part| self.begins_in(part));
        let mut end = Mark::default();
        for (index, part) in parts.iter().enumerate().skip(first.unwrap_or(0)) {
            let from = if first == Some(index) { self.replay_from.offset } else { HEADER };
            let mut file = open_segment(self.disk, part.number)?;
            frames.lenient(part.number <= self.known.segment);
            let entered = frames.enter(&file, part.number);
            entered.map_err(SpoolError::disk("read", segment::path(part.number)))?;
            if end == Mark::default() {
                end = self.mark(&file, Position { segment: part.number, offset: from })?;
            }
            let newest = index + 1 == parts.len();
            let behind = self.segment(&mut frames, &mut file, part, from, newest)?;
            end = behind.unwrap_or(end);
            if newest {
                let synced = file.sync().map(drop).and_then(|()| self.disk.sync_dir(segment::DIR));
                synced.map_err(SpoolError::disk("sync", segment::path(part.number)))?;
            }
        }
        match self.unreadable.take().filter(|(place, _)| *place >= end.position) {
            Some((place, error)) => Err(SpoolError::disk("read", segment::path(place.segment))(error)),
            None => Ok(end),
        }
    }

    /// The checksum before a place in a segment, which seeds the frame there.
    fn mark(&mut self, file: &D::File, position: Position) -> Result<Mark, SpoolError> {
        let mut crc = [0; frame::CRC];
        match segment::read_full(file, position.offset - frame::CRC as u64, &mut crc) {
            Err(error) if segment::is_unreadable(&error) => self.unreadable = Some((position, error)),
            read => {
                read.map_err(SpoolError::disk("read", segment::path(position.segment)))?;
            }
        }
        Ok(Mark { position, crc: u32::from_le_bytes(crc) })
    }

    /// Whether the scan can begin at `replay_from`, and does so in this part.
    fn begins_in(&self, part: &Part) -> bool {
        part.number == self.replay_from.segment && (HEADER..=part.end).contains(&self.replay_from.offset)
    }

    fn segment(
        &mut self,
        frames: &mut Frames,
        file: &mut D::File,
        part: &Part,
        from: u64,
        newest: bool,
    ) -> Result<Option<Mark>, SpoolError> {
        let path = segment::path(part.number);
        let mut end = None;
        let durable = durable_end(part, newest, self.known);
        if durable < HEADER {
            // The header is as doubtful as the frames.
            rewrite(file, 0, HEADER).map_err(SpoolError::disk("write", &*path))?;
        }
        let mut offset = from;
        while offset < part.end {
            let at = Position { segment: part.number, offset };
            frames.lenient(offset < durable);
            match frames.at(file, offset, part.end).map_err(SpoolError::disk("read", &*path))? {
                Ok(parsed) => {
                    let size = parsed.size as u64;
                    let behind = Position { segment: part.number, offset: offset + size };
                    if self.frame(parsed.frame, at, behind) {
                        end = Some(Mark { position: behind, crc: parsed.crc });
                    }
                    if offset >= durable {
                        let bytes = frames.bytes(offset, size as usize);
                        file.write_at(offset, bytes).map_err(SpoolError::disk("write", &*path))?;
                    }
                    offset += size;
                }
                Err(_) if offset >= durable => break,
                Err(_) => {
                    if let Some(error) = frames.unreadable() {
                        self.unreadable = Some((at, error));
                    }
                    self.recovery.damaged += 1;
                    self.recovery.note(format!("{path} is damaged at byte {offset}"));
                    offset =
                        frames.behind(file, offset, durable).map_err(SpoolError::disk("read", &*path))?;
                }
            }
        }
        Ok(end)
    }

    /// Takes notice of a frame; `true` when an object ended with it.
    fn frame(&mut self, frame: Frame<'_>, at: Position, behind: Position) -> bool {
        match frame {
            Frame::Begin(identity) => {
                self.open = Some((at, identity.to_object()));
                false
            }
            Frame::Records { .. } | Frame::Packed { .. } => false,
            Frame::End { begin, fate, counts } => {
                // Not so when the begin frame was damaged, or removed with its segment: nobody knows its name.
                let open = self.open.take().filter(|(open, _)| *open == begin);
                if let Some((_, object)) = open.filter(|_| behind > self.replay_from) {
                    self.recovery.replayed += 1;
                    (self.on_object)(object, fate, counts, behind);
                }
                true
            }
        }
    }
}

/// Writes bytes again as they are.
fn rewrite<F: DiskFile>(file: &mut F, offset: u64, len: u64) -> std::io::Result<()> {
    let mut bytes = [0; HEADER as usize];
    let bytes = &mut bytes[..len as usize];
    let read = segment::read_full(file, offset, bytes)?;
    file.write_at(offset, &bytes[..read])
}

/// Makes the log end at `end`, durably: what is behind it goes, the newest first, so that a cut in between leaves
/// nothing that is not understood. Returns the segments that are left.
fn cut<D: Disk>(
    disk: &D,
    files: &[File],
    parts: &[Part],
    end: Mark,
    recovery: &mut Recovery,
) -> Result<Vec<Segment>, SpoolError> {
    let Position { segment, offset } = end.position;
    let kept = parts.iter().filter(|part| part.number <= segment);
    let mut segments: Vec<Segment> =
        kept.map(|part| Segment { number: part.number, end: part.end }).collect();
    let stays = |file: &&File| segments.iter().any(|kept| kept.number == file.number);
    let mut removed = false;
    for file in files.iter().rev().filter(|file| !stays(file)) {
        let path = segment::path(file.number);
        disk.remove(&path).map_err(SpoolError::disk("remove", path))?;
        recovery.cut_bytes += file.len.saturating_sub(HEADER);
        removed = true;
    }
    if removed {
        disk.sync_dir(segment::DIR).map_err(SpoolError::disk("sync", segment::DIR))?;
    }
    if let Some(last) = segments.last_mut().filter(|last| last.number == segment) {
        last.end = offset;
    }
    for Segment { number, end } in segments.iter().rev().copied() {
        let len = files.iter().find(|file| file.number == number).map_or(0, |file| file.len);
        // The new end even where it seems to be short enough: that may not be durable.
        if len > end || (removed && number == segment) {
            shorten(disk, number, end)?;
            recovery.cut_bytes += len.saturating_sub(end);
        }
    }
    Ok(segments)
}

/// Cuts a segment, durably.
fn shorten<D: Disk>(disk: &D, segment: u64, len: u64) -> Result<(), SpoolError> {
    let mut file = open_segment(disk, segment)?;
    let done = file.set_len(len).and_then(|()| file.sync().map(drop));
    done.map_err(SpoolError::disk("cut", segment::path(segment)))
}

/// The cursors as they were kept, in the order of the outputs. Those of other outputs hold no segment, and stay: the
/// configuration may yet be refused, and the one before it wants them ([`Spool::forget_other_outputs`]).
fn load_cursors<D: Disk>(
    disk: &D,
    options: &Options,
    recovery: &mut Recovery,
) -> Result<Vec<Option<Cursor>>, SpoolError> {
    // What is read here may be a name that no sync has covered yet, and segments will be removed on its word.
    disk.sync_dir(cursor::DIR).map_err(SpoolError::disk("sync", cursor::DIR))?;
    let mut load = |output: &str| match cursor::load(disk, output)
        .map_err(SpoolError::disk("read", cursor::path(output)))?
    {
        Kept::Cursor(cursor) => Ok(Some(cursor)),
        Kept::Nothing => Ok(None),
        Kept::Unreadable => {
            recovery.note(format!(
                    "{} is damaged: output {output:?} sends everything in the spool again, and its counts begin at 0",
                    cursor::path(output)
                ));
            Ok(None)
        }
    };
    options.outputs.iter().map(|output| load(output)).collect()
}

/// The furthest place that somebody durably names, be it the cursor of an output that is not configured: everything
/// before it is durable.
fn furthest<D: Disk>(disk: &D, replay_from: Position) -> Result<Position, SpoolError> {
    let mut known = replay_from;
    for (name, _) in disk.list(cursor::DIR).map_err(SpoolError::disk("list", cursor::DIR))? {
        let Some(output) = cursor::output(&name) else { continue };
        let kept = cursor::load(disk, output).map_err(SpoolError::disk("read", cursor::path(output)))?;
        if let Kept::Cursor(cursor) = kept {
            known = known.max(cursor.frame);
        }
    }
    Ok(known)
}

/// Puts a cursor that stands outside of the log back into it.
fn settle(
    output: &str,
    cursor: &mut Option<Cursor>,
    oldest: Position,
    end: Position,
    recovery: &mut Recovery,
) {
    let Some(cursor) = cursor else { return };
    let place = match () {
        () if cursor.frame > end => end,
        () if cursor.begin.segment < oldest.segment => oldest,
        () => return,
    };
    recovery.note(format!(
        "the cursor of output {output:?} stands at {:?}, which is not in the spool: it goes on at {place:?}",
        cursor.frame
    ));
    *cursor = cursor.moved_to(place);
}

fn shared<D: Disk>(
    disk: D,
    options: Options,
    quarantine: Quarantine<D>,
    segments: Vec<Segment>,
    committed: Position,
    cursors: &[Option<Cursor>],
    oldest: Position,
) -> Spool<D> {
    let new = Cursor::default().moved_to(oldest);
    let outputs = cursors
        .iter()
        .map(|cursor| Standing {
            cursor: cursor.unwrap_or(new),
            saved: cursor.unwrap_or(Cursor::default()),
            empty: None,
            may_skip: false,
            skip: None,
        })
        .collect();
    let saving = cursors.iter().map(|_| Mutex::new(())).collect();
    let shared = Mutex::new(Shared { segments, committed, outputs, moves: 0, damaged: 0 });
    let (published, _) = watch::channel(committed);
    let skips = watch::Sender::new(());
    Spool { disk, options, quarantine, shared, moved: Condvar::new(), committed: published, skips, saving }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Segment `number` of 100 bytes that follows a place; (0, 0) is none.
    fn file(number: u64, follows: (u64, u64)) -> File {
        let (segment, offset) = follows;
        File { number, len: 100, header: Header::Follows(Position { segment, offset }) }
    }

    fn parts(files: &[File], known: u64) -> (Vec<(u64, u64)>, Vec<u64>) {
        let Chain { parts, gaps } = chain(files, Position { segment: known, offset: HEADER });
        (parts.iter().map(|part| (part.number, part.end)).collect(), gaps)
    }

    #[test]
    fn segments_follow_each_other() {
        let files = [file(3, (2, 77)), file(4, (3, 100)), file(5, (4, 100))];
        assert_eq!(parts(&files, 0), (vec![(3, 100), (4, 100), (5, 100)], vec![]), "2 was reclaimed");
        assert_eq!(parts(&[], 7), (vec![], vec![]));
    }

    #[test]
    fn what_was_taken_back_is_void() {
        // 4 and 5 were taken back, and the last 40 bytes of 3.
        let files = [file(3, (2, 77)), file(4, (3, 100)), file(5, (4, 100)), file(6, (3, 60))];
        assert_eq!(parts(&files, 0), (vec![(3, 60), (6, 100)], vec![]));
    }

    #[test]
    fn a_newest_segment_without_header_counts_only_when_somebody_has_been_there() {
        let torn = File { header: Header::Unreadable, ..file(5, (0, 0)) };
        let files = [file(3, (2, 77)), file(4, (3, 60)), torn];
        assert_eq!(parts(&files, 4), (vec![(3, 60), (4, 100)], vec![]));
        assert_eq!(parts(&files, 5), (vec![(3, 60), (4, 100), (5, 100)], vec![]));
    }

    #[test]
    fn a_missing_or_short_segment_is_reported_and_the_older_ones_stay() {
        let files = [file(3, (2, 77)), file(5, (4, 100)), file(6, (5, 120))];
        assert_eq!(parts(&files, 0), (vec![(3, 100), (5, 100), (6, 100)], vec![5, 4]));
    }
}
