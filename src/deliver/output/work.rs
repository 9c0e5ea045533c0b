//! The blocking side of an output's loop: it reads the next batch from the spool and puts refused records aside.

use std::ops::ControlFlow;

use crate::deliver::backlog::{Backlog, Refused};
use crate::deliver::batch::Batch;
use crate::deliver::encoding::{Encoding, Record};
use crate::deliver::lines::{Buffer, Name};
use crate::deliver::sender::Refusal;

/// What belongs to the blocking side.
pub(super) struct Work<B: Backlog> {
    pub(super) backlog: B,
    pub(super) batch: Batch<B::Cursor>,
    /// The lines of the batch.
    pub(super) lines: Buffer,
    pub(super) encoding: Encoding,
    pub(super) batch_bytes: usize,
    /// For how many requests a batch is filled.
    pub(super) requests: usize,
    /// No more records belong into the batch.
    pub(super) whole: bool,
    /// Where the next batch begins.
    pub(super) next: Next<B::Cursor>,
    /// Behind the settled records of this and earlier batches, where the spool's own cursor is not there yet.
    pub(super) settled: Option<B::Cursor>,
}

pub(super) enum Next<C> {
    /// Where the reader stands.
    Here,
    /// Here: the reader went elsewhere.
    At(C),
    /// At the first unsettled record.
    Unsettled,
}

pub(super) enum Quarantined {
    /// Under this name.
    As(String),
    /// It failed and will be tried again.
    NotYet,
    /// The spool's file was damaged since the batch was read; the reader deals with that.
    Changed,
}

impl<B: Backlog> Work<B> {
    /// Reads the next batch. What was read before a failure is a batch too; the failure shows again after it.
    pub(super) fn fill(&mut self) -> Result<(), String> {
        let Work { backlog, batch, lines, batch_bytes, requests, next, .. } = self;
        batch.clear();
        lines.begin(*batch_bytes * *requests);
        match *next {
            Next::Here => Ok(()),
            Next::At(cursor) => backlog.seek(cursor),
            Next::Unsettled => backlog.rewind(),
        }
        .map_err(|error| error.to_string())?;
        *next = Next::Here;
        self.whole = false;
        self.read_on()
    }

    /// Reads more of the batch.
    pub(super) fn read_on(&mut self) -> Result<(), String> {
        let Work { backlog, batch, lines, encoding, requests, whole, .. } = self;
        let read = backlog.read(&mut |object, index, bytes, after| {
            let draft = encoding.draft(Record { object, index, bytes });
            let bytes = draft.len();
            let next_request =
                |batch: &mut Batch<B::Cursor>| batch.requests() < *requests && batch.begin_request();
            if !batch.has_room(bytes) && !next_request(batch) {
                *whole = true;
                return ControlFlow::Break(());
            }
            lines.push(draft.name(), |out| draft.append(out));
            batch.push(bytes, after);
            *whole = !batch.has_room(1) && batch.requests() == *requests;
            ControlFlow::Continue(())
        });
        if batch.is_empty() { read.map_err(|error| error.to_string()) } else { Ok(()) }
    }

    /// Quarantines the first unsettled record, with its bytes as they stand in the spool.
    pub(super) fn set_aside(&mut self, name: Name, refusal: &Refusal) -> Result<Quarantined, String> {
        let text = |error: B::Error| error.to_string();
        self.next = self.batch.end().map_or(Next::Unsettled, Next::At);
        match self.settled {
            Some(cursor) => self.backlog.seek(cursor),
            None => self.backlog.rewind(),
        }
        .map_err(text)?;
        let mut first = None;
        let read = self.backlog.read(&mut |object, index, record, _| {
            if first.is_some() {
                return ControlFlow::Break(());
            }
            first = Some((object.clone(), index, record.to_vec()));
            ControlFlow::Continue(())
        });
        let Some((object, index, bytes)) = first else {
            self.next = Next::Unsettled;
            return read.map(|()| Quarantined::Changed).map_err(text);
        };
        if self.encoding.name(Record { object: &object, index, bytes: &bytes }) != name {
            self.next = Next::Unsettled;
            return Ok(Quarantined::Changed);
        }
        let Refusal { reason, text: detail } = refusal;
        self.backlog
            .set_aside(&Refused { object: &object, index, reason, detail, bytes: &bytes })
            .map_err(|error| format!("cannot quarantine a record that the receiver refused: {error}"))?;
        Ok(Quarantined::As(format!("record {index} of s3://{}/{}", object.bucket, object.key.escape_debug())))
    }
}
