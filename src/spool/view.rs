//! Looks at the spool of a state directory without touching it: beside a running agent, or without one.
//!
//! A view is made of what a start would find at that moment: the segments that form the log, up to the last object that
//! is whole. An object that has just ended may be in it a moment before its commit. Segments that the agent removes
//! meanwhile are passed over: every output has acknowledged what was in them.

use std::io;
use std::ops::ControlFlow;

use super::cursor::{self, Cursor, Kept};
use super::disk::Disk;
use super::frame::Frame;
use super::position::Position;
use super::recovery::{self, Part};
use super::segment::{self, Frames, HEADER};
use super::{Compression, Options, SpoolError};
use crate::limits;
use crate::record::ObjectId;

/// How often a listing is begun anew because a segment was removed in the middle of it.
const TRIES: usize = 5;

/// A spool as it was found.
pub struct View<D: Disk> {
    disk: D,
    max_payload: usize,
    parts: Vec<Part>,
    gaps: Vec<u64>,
    cursors: Vec<(String, Option<Cursor>)>,
    known: Position,
    end: Position,
}

/// What a walk comes across.
#[derive(Debug)]
pub enum Sight<'a> {
    /// A frame; records are unpacked.
    Frame {
        /// Where it stands.
        at: Position,
        /// Where the next one does.
        behind: Position,
        /// What it says.
        frame: Frame<'a>,
    },
    /// Bytes that do not check out.
    Damaged {
        /// Where they begin.
        at: Position,
        /// Where the walk goes on.
        behind: Position,
    },
}

/// What is found where an object should begin.
#[derive(Debug, PartialEq, Eq)]
pub enum Origin {
    /// Its begin frame.
    Object(ObjectId),
    /// Nothing any more: it went with its segment, which every output had acknowledged.
    Removed,
    /// No begin frame that checks out.
    Damaged,
}

impl<D: Disk> View<D> {
    /// Finds the log. `checkpoint` is the ledger's; `max_record_bytes` the configuration's.
    pub fn open(disk: D, checkpoint: Position, max_record_bytes: usize) -> Result<View<D>, SpoolError> {
        // The cursors first: what they name is in the segments that are listed later.
        let mut cursors = Vec::new();
        for (name, _) in disk.list(cursor::DIR).map_err(SpoolError::disk("list", cursor::DIR))? {
            let Some(output) = cursor::output(&name) else { continue };
            let kept = cursor::load(&disk, output).map_err(SpoolError::disk("read", cursor::path(output)))?;
            match kept {
                Kept::Nothing => {}
                Kept::Cursor(cursor) => cursors.push((output.to_owned(), Some(cursor))),
                Kept::Unreadable => cursors.push((output.to_owned(), None)),
            }
        }
        cursors.sort_by(|(a, _), (b, _)| a.cmp(b));
        let places = cursors.iter().filter_map(|(_, cursor)| Some(cursor.as_ref()?.frame));
        let known = places.fold(checkpoint, Position::max);
        let mut tries = 0;
        let files = loop {
            match recovery::list(&disk) {
                Err(error) if error.kind() == Some(io::ErrorKind::NotFound) && tries < TRIES => tries += 1,
                listed => break listed?,
            }
        };
        let chain = recovery::chain(&files, known);
        let options = Options {
            max_bytes: 0,
            segment_bytes: limits::SEGMENT_BYTES,
            max_record_bytes,
            compression: Compression::None,
            outputs: Vec::new(),
        };
        let max_payload = options.max_readable();
        let (parts, gaps) = (chain.parts, chain.gaps);
        let mut view = View { disk, max_payload, parts, gaps, cursors, known, end: Position::default() };
        view.end = view.find_end()?;
        Ok(view)
    }

    /// Behind the last whole object.
    pub fn end(&self) -> Position {
        self.end
    }

    /// Where the oldest segment begins.
    pub fn begin(&self) -> Position {
        self.parts.first().map_or(self.end, |part| Position { segment: part.number, offset: HEADER })
    }

    /// The furthest place that a cursor or the ledger's checkpoint names: everything before it was durable.
    pub fn known(&self) -> Position {
        self.known
    }

    /// The segments, oldest first: number, and bytes that belong to the log.
    pub fn segments(&self) -> impl Iterator<Item = (u64, u64)> {
        self.parts.iter().filter(|part| part.number <= self.end.segment).map(|part| {
            (part.number, if part.number == self.end.segment { self.end.offset } else { part.end })
        })
    }

    /// Segments that belong to the log and are missing, or shorter than they were.
    pub fn gaps(&self) -> &[u64] {
        &self.gaps
    }

    /// The saved cursors by output; `None`: the file is damaged.
    pub fn cursors(&self) -> &[(String, Option<Cursor>)] {
        &self.cursors
    }

    /// The name of a segment's file.
    pub fn path(segment: u64) -> String {
        segment::path(segment)
    }

    /// Shows everything from a place on, in order, until `visit` breaks or the log ends. The place is where a frame
    /// begins.
    ///
    /// Returns the place before which something was removed meanwhile, and may not have been shown; `from` when nothing
    /// was.
    pub fn walk(
        &self,
        from: Position,
        visit: &mut dyn FnMut(Sight<'_>) -> ControlFlow<()>,
    ) -> Result<Position, SpoolError> {
        let mut frames = Frames::new(self.max_payload);
        let mut left = from;
        for (number, limit) in self.segments().filter(|(number, _)| *number >= from.segment) {
            let Some(file) = self.file(number)? else {
                left = Position { segment: number + 1, offset: HEADER };
                continue;
            };
            let read = || SpoolError::disk("read", segment::path(number));
            frames.enter(&file, number).map_err(read())?;
            let mut offset = if number == from.segment { from.offset.max(HEADER) } else { HEADER };
            while offset < limit {
                let at = Position { segment: number, offset };
                let (sight, next) = match frames.at(&file, offset, limit).map_err(read())? {
                    Ok(parsed) => {
                        let next = offset + parsed.size as u64;
                        let behind = Position { offset: next, ..at };
                        (Sight::Frame { at, behind, frame: parsed.frame }, next)
                    }
                    Err(_) => {
                        let next = frames.behind(&file, offset, limit).map_err(read())?;
                        (Sight::Damaged { at, behind: Position { offset: next, ..at } }, next)
                    }
                };
                if visit(sight).is_break() {
                    return Ok(left);
                }
                offset = next;
            }
        }
        Ok(left)
    }

    /// The object whose begin frame stands at a place.
    pub fn object(&self, begin: Position) -> Result<Origin, SpoolError> {
        if begin < self.begin() {
            return Ok(Origin::Removed);
        }
        let Some((number, limit)) = self.segments().find(|(number, _)| *number == begin.segment) else {
            return Ok(Origin::Damaged);
        };
        let Some(file) = self.file(number)? else { return Ok(Origin::Removed) };
        let mut frames = Frames::without_records(self.max_payload);
        let parsed = frames.enter(&file, number).and_then(|()| frames.at(&file, begin.offset, limit));
        Ok(match parsed.map_err(SpoolError::disk("read", segment::path(number)))? {
            Ok(parsed) => match parsed.frame {
                Frame::Begin(identity) => Origin::Object(identity.to_object()),
                _ => Origin::Damaged,
            },
            Err(_) => Origin::Damaged,
        })
    }

    fn find_end(&self) -> Result<Position, SpoolError> {
        for (index, part) in self.parts.iter().enumerate().rev() {
            let Some(file) = self.file(part.number)? else { continue };
            let durable = recovery::durable_end(part, index + 1 == self.parts.len(), self.known);
            let mut frames = Frames::without_records(self.max_payload);
            let read = || SpoolError::disk("read", segment::path(part.number));
            frames.enter(&file, part.number).map_err(read())?;
            let (mut offset, mut end) = (HEADER, None);
            while offset < part.end {
                match frames.at(&file, offset, part.end).map_err(read())? {
                    Ok(parsed) => {
                        offset += parsed.size as u64;
                        if let Frame::End { .. } = parsed.frame {
                            end = Some(Position { segment: part.number, offset });
                        }
                    }
                    Err(_) if offset >= durable => break,
                    Err(_) => offset = frames.behind(&file, offset, durable).map_err(read())?,
                }
            }
            if let Some(end) = end {
                return Ok(end);
            }
        }
        Ok(self.begin())
    }

    fn file(&self, number: u64) -> Result<Option<D::File>, SpoolError> {
        let path = segment::path(number);
        match self.disk.open(&path) {
            Ok(file) => Ok(Some(file)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(SpoolError::disk("open", path)(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Quarantine, Writer, open};
    use super::*;
    use crate::fault_disk::FaultDisk;
    use crate::record::{Counts, ObjectFate};

    /// Objects that take several segments each.
    fn filled(disk: &FaultDisk) -> Writer<FaultDisk> {
        let options = Options {
            max_bytes: 64 * 1024,
            segment_bytes: 1024,
            max_record_bytes: 1024,
            compression: Compression::None,
            outputs: vec!["siem".into()],
        };
        let quarantine = Quarantine::open(disk.clone(), 0).unwrap();
        let opened = open(disk.clone(), options, quarantine, Position::default(), &mut |_, _, _, _| {});
        let mut writer = opened.unwrap().0;
        for key in ["a", "b"] {
            writer
                .begin(&ObjectId { source: "prod".into(), bucket: "acme".into(), key: key.into() })
                .unwrap();
            (0..10).for_each(|index| writer.record(index, &[b'x'; 400]).unwrap());
            let counts = Counts { records: 10, kept: 10, ..Counts::default() };
            writer.end(ObjectFate::Collected, &counts).unwrap();
        }
        let _ = writer.commit().unwrap();
        writer
    }

    #[test]
    fn what_is_removed_during_a_walk_is_passed_over_and_said() {
        let disk = FaultDisk::new();
        let _writer = filled(&disk);
        let view = View::open(disk.clone(), Position::default(), 1024).unwrap();
        let [first, second, third] = [0, 1, 2].map(|n| view.segments().nth(n).unwrap().0);
        let begin = view.begin();
        assert_eq!(
            view.walk(begin, &mut |_| ControlFlow::Continue(())).unwrap(),
            begin,
            "nothing was removed"
        );

        let mut seen = Vec::new();
        let left = view.walk(begin, &mut |sight| {
            let Sight::Frame { at, .. } = sight else { panic!("{sight:?}") };
            if seen.is_empty() {
                [first, second].iter().for_each(|number| disk.remove(&segment::path(*number)).unwrap());
            }
            seen.push(at.segment);
            ControlFlow::Continue(())
        });
        assert_eq!(left.unwrap(), Position { segment: third, offset: HEADER });
        assert!(seen.contains(&first) && !seen.contains(&second) && seen.contains(&third), "{seen:?}");
    }

    #[test]
    fn the_beginning_of_an_object_is_there_or_removed_or_damaged() {
        let disk = FaultDisk::new();
        let _writer = filled(&disk);
        let view = View::open(disk.clone(), Position::default(), 1024).unwrap();
        let begin = view.begin();
        assert!(matches!(view.object(begin).unwrap(), Origin::Object(object) if &*object.key == "a"));
        assert_eq!(view.object(Position { offset: HEADER + 1, ..begin }).unwrap(), Origin::Damaged);
        disk.remove(&segment::path(begin.segment)).unwrap();
        assert_eq!(view.object(begin).unwrap(), Origin::Removed, "since the view was made");
        let view = View::open(disk, Position::default(), 1024).unwrap();
        assert_eq!(view.object(begin).unwrap(), Origin::Removed, "before it was made");
    }
}
