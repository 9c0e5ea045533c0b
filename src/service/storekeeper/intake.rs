//! One body's way into the spool's open object, or as it is into the quarantine.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use log::{error, warn};

use super::{Missed, Storekeeper, Unfit, name};
use crate::aws::{Class, Fault};
use crate::decode::{Broken, Decoder, Failure, Record, Sink, Summary};
use crate::discover::queue::Wanted;
use crate::fetch::body::{BodyReader, FetchFailed};
use crate::limits;
use crate::pulse::Pulse;
use crate::record::{Counts, ObjectFate, ObjectId};
use crate::select::Verdict;
use crate::spool::SpoolError;
use crate::spool::disk::Disk;
use crate::spool::quarantine::{self, QuarantineWriter};

impl<D: Disk> Storekeeper<D> {
    /// Decodes and selects one body into the spool's open object, and ends it.
    pub(super) fn collect(
        &mut self,
        wanted: &Wanted,
        body: &mut BodyReader,
    ) -> Result<(ObjectFate, Counts), Missed> {
        let id = &wanted.object;
        self.with_room(|writer| writer.begin(id))?;
        let selector = self.selectors.iter().position(|(name, _)| **name == *id.source);
        let stored = self.store(wanted, body, selector);
        if let Some(selector) = selector {
            self.selectors[selector].1.end_object(stored.is_ok());
        }
        self.remembered.window().end_object(stored.is_ok());
        stored
    }

    fn store(
        &mut self,
        wanted: &Wanted,
        body: &mut BodyReader,
        selector: Option<usize>,
    ) -> Result<(ObjectFate, Counts), Missed> {
        let id = &wanted.object;
        match self.pour(id, body, selector) {
            Ok((_, summary)) if !summary.gzip && is_another(wanted, body) => {
                self.writer.abort().map_err(Missed::Disk)?;
                Err(another_body(wanted, body.bytes_read(), "it is no gzip"))
            }
            Ok((counts, summary)) => {
                let fate = match wanted.ticket.is_again() {
                    true => ObjectFate::Recollected,
                    false => ObjectFate::Collected,
                };
                self.end(id, fate, counts)?;
                self.count_beyond(id, counts);
                if summary.trailing > 0 {
                    warn!(
                        "{}: {} bytes after the last gzip member are not covered by its checksum and were not read",
                        name(id),
                        summary.trailing
                    );
                }
                Ok((fate, counts))
            }
            Err(missed @ (Missed::Disk(_) | Missed::RolledBack)) => Err(missed),
            Err(missed) => {
                self.writer.abort().map_err(Missed::Disk)?;
                Err(missed)
            }
        }
    }

    fn pour(
        &mut self,
        id: &ObjectId,
        body: &mut BodyReader,
        selector: Option<usize>,
    ) -> Result<(Counts, Summary), Missed> {
        let Some(mut decoder) = self.decoder.take() else {
            return Err(Missed::Later("the decoder is in use, this is a defect of trailspool".into()));
        };
        decoder.start_noting(selector.is_some_and(|selector| self.selectors[selector].1.looks_inside()));
        let mut intake = Intake { keeper: self, id, selector, counts: Counts::default(), broken: None };
        let poured = intake.pour(&mut decoder, body);
        let counts = intake.counts;
        self.decoder = Some(decoder);
        poured.map(|summary| (counts, summary))
    }

    /// Puts a raw body into the quarantine; the object then counts as done.
    pub(super) fn set_aside(
        &mut self,
        wanted: &Wanted,
        body: &mut BodyReader,
        unfit: &Unfit,
    ) -> Result<(ObjectFate, Counts), Missed> {
        let id = &wanted.object;
        let entry = quarantine::Entry {
            object: id,
            index: None,
            output: None,
            reason: unfit.slug,
            detail: &unfit.why,
        };
        let mut raw = self.quarantine.writer(&entry).map_err(no_quarantine)?;
        let to_its_end = self.copy(wanted, body, &mut raw)?;
        if to_its_end && is_another(wanted, body) {
            return Err(another_body(wanted, body.bytes_read(), &unfit.why));
        }
        raw.finish().map_err(no_quarantine)?;
        if !wanted.ticket.is_again() {
            self.with_room(|writer| writer.begin(id))?;
            self.end(id, ObjectFate::Quarantined, Counts::default())?;
        }
        warn!("{}: set aside whole: {}", name(id), unfit.why);
        Ok((ObjectFate::Quarantined, Counts::default()))
    }

    /// Whether the body was read to its end. Most of what is behind the bound could not be kept anyway, and others wait.
    fn copy(
        &mut self,
        wanted: &Wanted,
        body: &mut BodyReader,
        raw: &mut QuarantineWriter<D>,
    ) -> Result<bool, Missed> {
        let mut bytes = 0;
        while let Some(chunk) = next_chunk(&self.pulse, body)? {
            let part = chunk.len() as u64;
            if bytes + part > self.body_bytes {
                let listed = wanted.size.unwrap_or_default();
                raw.leave_out(listed.saturating_sub(bytes).max(part));
                return Ok(false);
            }
            bytes += part;
            raw.append(chunk).map_err(no_quarantine)?;
            if self.commit_due() && self.commit().is_break() {
                return Err(Missed::RolledBack);
            }
        }
        Ok(true)
    }

    /// Broken records that have no entry of their own.
    fn count_beyond(&self, id: &ObjectId, counts: Counts) {
        let beyond = counts.quarantined.saturating_sub(limits::QUARANTINE_RECORDS);
        if beyond > 0 {
            self.quarantine.count_only(beyond);
            warn!("{}: {} broken records: {beyond} of them are only counted", name(id), counts.quarantined);
        }
    }

    fn end(&mut self, id: &ObjectId, fate: ObjectFate, counts: Counts) -> Result<(), Missed> {
        if !counts.balance() {
            self.status.unbalanced.fetch_add(1, Ordering::Relaxed);
            error!("{}: the books do not balance, this is a defect of trailspool: {counts:?}", name(id));
        }
        self.with_room(|writer| writer.end(fate, &counts))
    }
}

/// Takes the decoder's records, one by one.
struct Intake<'a, D: Disk> {
    keeper: &'a mut Storekeeper<D>,
    id: &'a ObjectId,
    selector: Option<usize>,
    counts: Counts,
    broken: Option<QuarantineWriter<D>>,
}

impl<D: Disk> Intake<'_, D> {
    fn pour(&mut self, decoder: &mut Decoder, body: &mut BodyReader) -> Result<Summary, Missed> {
        let mut bytes = 0;
        let pulse = Arc::clone(&self.keeper.pulse);
        while let Some(chunk) = next_chunk(&pulse, body)? {
            bytes += chunk.len() as u64;
            if bytes > self.keeper.body_bytes {
                let why = format!(
                    "it is larger than any CloudTrail object: more than {} bytes",
                    self.keeper.body_bytes
                );
                return Err(Missed::Unfit(Unfit { slug: "object-too-large", why }));
            }
            decoder.feed(chunk, self).map_err(missed)?;
            // A large body may come slowly; what ended before it does not wait for it.
            if self.keeper.commit_due() && self.keeper.commit().is_break() {
                return Err(Missed::RolledBack);
            }
        }
        decoder.finish(self).map_err(missed)
    }

    /// Adds to the entry of a broken record.
    fn keep(&mut self, index: u32, why: Broken, part: &[u8], last: bool) -> Result<(), Missed> {
        let quarantine = &self.keeper.quarantine;
        let raw = match &mut self.broken {
            Some(raw) => raw,
            None => {
                let entry = quarantine::Entry {
                    object: self.id,
                    index: Some(index),
                    output: None,
                    reason: why.slug(),
                    detail: &why.to_string(),
                };
                self.broken.insert(quarantine.writer(&entry).map_err(no_quarantine)?)
            }
        };
        raw.append(part).map_err(no_quarantine)?;
        if let Some(raw) = self.broken.take_if(|_| last) {
            raw.finish().map_err(no_quarantine)?;
        }
        Ok(())
    }
}

impl<D: Disk> Sink for Intake<'_, D> {
    type Error = Missed;

    fn record(&mut self, index: u32, record: Record<'_>) -> Result<(), Missed> {
        self.counts.records += 1;
        let keeper = &mut *self.keeper;
        // One small body may inflate to a million of them.
        keeper.pulse.beat();
        let selector = self.selector.map(|index| &mut keeper.selectors[index].1);
        let window = keeper.remembered.window();
        match selector.map_or(Verdict::Keep, |selector| selector.decide(record, window)) {
            Verdict::Keep => {
                self.counts.kept += 1;
                keeper.with_room(|writer| writer.record(index, record.bytes))
            }
            Verdict::Drop(_) => {
                self.counts.dropped += 1;
                Ok(())
            }
            Verdict::Duplicate => {
                self.counts.duplicate += 1;
                Ok(())
            }
        }
    }

    fn broken(&mut self, index: u32, why: Broken, part: &[u8], last: bool) -> Result<(), Missed> {
        self.keeper.pulse.beat();
        if self.counts.quarantined < limits::QUARANTINE_RECORDS {
            self.keep(index, why, part, last)?;
        }
        if last {
            self.counts.records += 1;
            self.counts.quarantined += 1;
        }
        Ok(())
    }
}

/// Its fetch has time-outs of its own: waiting for it is a state.
fn next_chunk<'a>(pulse: &Pulse, body: &'a mut BodyReader) -> Result<Option<&'a [u8]>, Missed> {
    pulse.waiting_for(|| body.next()).map_err(Missed::Fetch)
}

fn missed(failure: Failure<Missed>) -> Missed {
    match failure {
        Failure::Object(why) => Missed::Unfit(Unfit { slug: why.slug(), why: why.to_string() }),
        Failure::Sink(missed) => missed,
    }
}

/// Where it is not known how many bytes there must be, what came is taken for the object.
fn is_another(wanted: &Wanted, body: &BodyReader) -> bool {
    wanted.size.is_some_and(|size| size != body.bytes_read())
}

/// What came is not what was listed, nor an object that vouches for itself with a checksum: a gateway's page, or an
/// object that is being replaced. The object itself may come on a later pass.
fn another_body(wanted: &Wanted, len: u64, why: &str) -> Missed {
    let text = format!(
        "reading {:?} from bucket {}: {len} bytes came where {} are listed, and {why}: if this lasts, \
         something between here and S3 changes answers",
        wanted.object.key,
        wanted.object.bucket,
        wanted.size.unwrap_or_default()
    );
    Missed::Fetch(FetchFailed(Fault::new(Class::Retry, "bad-answer", text)))
}

fn no_quarantine(fault: io::Error) -> Missed {
    Missed::Disk(SpoolError::Disk {
        what: "set something aside in",
        path: quarantine::DIR.into(),
        error: fault,
    })
}
