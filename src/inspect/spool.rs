//! `trailspool spool ls | cat | verify`.

use std::fmt::Write as _;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;

use super::{Failure, Out, Place, done, json, shown, size, verify};
use crate::config::Format;
use crate::deliver::format;
use crate::error::Exit;
use crate::record::ObjectId;
use crate::select::Attributors;
use crate::spool::frame::Frame;
use crate::spool::std_disk::StdDisk;
use crate::spool::{Cursor, Origin, Position, Sight, View};

/// What was asked for.
#[derive(Debug, PartialEq, Eq)]
pub struct Asked {
    /// The configuration.
    pub config: PathBuf,
    /// Which command.
    pub does: Does,
}

/// The commands.
#[derive(Debug, PartialEq, Eq)]
pub enum Does {
    /// What is in the spool.
    Ls {
        /// For programs.
        json: bool,
    },
    /// Its records.
    Cat(Cat),
    /// What is damaged.
    Verify {
        /// For programs.
        json: bool,
    },
}

/// Which records, and how they are written.
#[derive(Debug, PartialEq, Eq)]
pub struct Cat {
    /// Those that this output has not acknowledged.
    pub output: Option<String>,
    /// Those from here on.
    pub from: Option<Position>,
    /// At most so many.
    pub limit: Option<u64>,
    /// How a record is written.
    pub envelope: bool,
}

/// Does it.
pub fn main(asked: &Asked) -> Exit {
    let mut out = Out::new();
    let result = Place::open(&asked.config).and_then(|place| match &asked.does {
        Does::Ls { json } => ls(&place, *json, &mut out),
        Does::Cat(cat) => self::cat(&place, cat, &mut out),
        Does::Verify { json } => verify::spool(&place, *json, &mut out),
    });
    out.end();
    done(result)
}

/// What a segment holds.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Contents {
    pub(super) number: u64,
    pub(super) bytes: u64,
    /// That end in it.
    pub(super) objects: u64,
    pub(super) records: u64,
    pub(super) damaged: u64,
}

/// What waits for an output.
#[derive(Debug, Clone, Copy)]
struct Backlog<'a> {
    output: &'a str,
    /// `None`: it has none, or it is damaged; everything waits.
    cursor: Option<Cursor>,
    records: u64,
    bytes: u64,
}

fn ls(place: &Place, as_json: bool, out: &mut Out) -> Result<Exit, Failure> {
    let view = place.view()?;
    let mut segments: Vec<Contents> =
        view.segments().map(|(number, bytes)| Contents { number, bytes, ..Contents::default() }).collect();
    let saved = |name: &str| view.cursors().iter().find(|(output, _)| output == name).and_then(|(_, at)| *at);
    let mut backlogs: Vec<Backlog<'_>> = place
        .config
        .outputs
        .iter()
        .map(|output| Backlog { output: &output.name, cursor: saved(&output.name), records: 0, bytes: 0 })
        .collect();
    let left = view.walk(view.begin(), &mut |sight| {
        let at = match &sight {
            Sight::Frame { at, .. } | Sight::Damaged { at, .. } => *at,
        };
        let Some(contents) = segments.iter_mut().find(|segment| segment.number == at.segment) else {
            return ControlFlow::Continue(());
        };
        match sight {
            Sight::Frame { frame: Frame::End { .. }, .. } => contents.objects += 1,
            Sight::Frame { frame: Frame::Records { records, .. }, .. } => {
                contents.records += records.count() as u64;
                for backlog in &mut backlogs {
                    let done = match backlog.cursor {
                        Some(cursor) if at < cursor.frame => continue,
                        Some(cursor) if at == cursor.frame => cursor.record as usize,
                        _ => 0,
                    };
                    for (_, record) in records.skip(done) {
                        backlog.records += 1;
                        backlog.bytes += record.len() as u64;
                    }
                }
            }
            Sight::Frame { .. } => {}
            Sight::Damaged { .. } => contents.damaged += 1,
        }
        ControlFlow::Continue(())
    })?;
    segments.retain(|segment| segment.number >= left.segment);
    out.text(&if as_json {
        ls_json(&view, &segments, &backlogs)
    } else {
        ls_text(&view, &segments, &backlogs)
    });
    Ok(Exit::Done)
}

fn ls_text(view: &View<StdDisk>, segments: &[Contents], backlogs: &[Backlog<'_>]) -> String {
    let mut text = String::new();
    let sum = |of: fn(&Contents) -> u64| segments.iter().map(of).sum::<u64>();
    // A String takes anything.
    let _ = writeln!(
        text,
        "{} segments, {}, {} objects, {} records; the log ends at {}",
        segments.len(),
        size(sum(|s| s.bytes)),
        sum(|s| s.objects),
        sum(|s| s.records),
        view.end()
    );
    let _ = writeln!(
        text,
        "\n{:16}  {:>10}  {:>8}  {:>9}  {:>7}",
        "SEGMENT", "BYTES", "OBJECTS", "RECORDS", "DAMAGED"
    );
    for Contents { number, bytes, objects, records, damaged } in segments {
        let _ = writeln!(text, "{number:016x}  {bytes:>10}  {objects:>8}  {records:>9}  {damaged:>7}");
    }
    let width = backlogs.iter().map(|backlog| backlog.output.len()).max().unwrap_or(0).max(6);
    let _ = writeln!(
        text,
        "\n{:width$}  {:26}  {:>10}  {:>8}  {:>9}  {:>12}",
        "OUTPUT", "CURSOR", "DELIVERED", "REJECTED", "WAITING", "WAITING BYTES"
    );
    for Backlog { output, cursor, records, bytes } in backlogs {
        let at = cursor.map_or("none saved".to_owned(), |cursor| cursor.frame.to_string());
        let (delivered, rejected) = cursor.map_or((0, 0), |cursor| (cursor.delivered, cursor.rejected));
        let _ = writeln!(
            text,
            "{output:width$}  {at:26}  {delivered:>10}  {rejected:>8}  {records:>9}  {bytes:>12}"
        );
    }
    text
}

fn ls_json(view: &View<StdDisk>, segments: &[Contents], backlogs: &[Backlog<'_>]) -> String {
    let segments: Vec<String> = segments
        .iter()
        .map(|Contents { number, bytes, objects, records, damaged }| {
            format!(
                "{{\"segment\":\"{number:016x}\",\"bytes\":{bytes},\"objects\":{objects},\"records\":{records},\
                 \"damaged\":{damaged}}}"
            )
        })
        .collect();
    let outputs: Vec<String> = backlogs
        .iter()
        .map(|Backlog { output, cursor, records, bytes }| {
            let at = cursor.map_or("null".to_owned(), |cursor| json(&cursor.frame.to_string()));
            let (delivered, rejected) = cursor.map_or((0, 0), |cursor| (cursor.delivered, cursor.rejected));
            format!(
                "{{\"output\":{},\"cursor\":{at},\"delivered\":{delivered},\"rejected\":{rejected},\
                 \"waiting_records\":{records},\"waiting_bytes\":{bytes}}}",
                json(output)
            )
        })
        .collect();
    format!(
        "{{\"version\":1,\"end\":\"{}\",\"segments\":[{}],\"outputs\":[{}]}}\n",
        view.end(),
        segments.join(","),
        outputs.join(",")
    )
}

fn cat(place: &Place, asked: &Cat, out: &mut Out) -> Result<Exit, Failure> {
    let view = place.view()?;
    let cursor = match &asked.output {
        None => None,
        Some(name) if !place.config.outputs.iter().any(|output| *output.name == **name) => {
            let known: Vec<&str> = place.config.outputs.iter().map(|output| &*output.name).collect();
            let text =
                format!("--output: the configuration has no output {name:?}, but {}", known.join(", "));
            return Err(Failure::new(Exit::Usage, text));
        }
        Some(name) => {
            view.cursors().iter().find(|(output, _)| output == name).and_then(|(_, cursor)| *cursor)
        }
    };
    // What an output has acknowledged may be gone already.
    let start = asked.from.or(cursor.map(|cursor| cursor.frame)).unwrap_or_default();
    let skip = cursor.filter(|cursor| asked.from.is_none() && start >= view.begin() && cursor.frame == start);
    let mut skip = skip.map_or(0, |cursor| cursor.record as usize);
    let attributors = Arc::new(Attributors::new(&place.config.sources));
    let format = if asked.envelope { Format::Envelope } else { Format::Raw };
    let (mut left, mut damaged, mut failed) = (asked.limit.unwrap_or(u64::MAX), 0, None);
    let mut object: Option<(Position, ObjectId)> = None;
    let mut line = Vec::new();
    view.walk(start.max(view.begin()), &mut |sight| {
        let (begin, records) = match sight {
            Sight::Damaged { at, behind } => {
                damaged += 1;
                complain(&format!(
                    "{} is damaged from byte {} to {}",
                    View::<StdDisk>::path(at.segment),
                    at.offset,
                    behind.offset
                ));
                return ControlFlow::Continue(());
            }
            Sight::Frame { at, frame: Frame::Begin(identity), .. } => {
                object = Some((at, identity.to_object()));
                return ControlFlow::Continue(());
            }
            Sight::Frame { frame: Frame::Records { begin, records }, .. } => (begin, records),
            Sight::Frame { .. } => return ControlFlow::Continue(()),
        };
        if object.as_ref().is_none_or(|(known, _)| *known != begin) {
            match view.object(begin) {
                Ok(Origin::Object(found)) => object = Some((begin, found)),
                // The end of an object that every output has acknowledged.
                Ok(Origin::Removed) => return ControlFlow::Continue(()),
                Ok(Origin::Damaged) => {
                    damaged += 1;
                    complain(&format!(
                        "the begin frame at {begin} is damaged: nobody knows where its records are from"
                    ));
                    return ControlFlow::Continue(());
                }
                Err(error) => {
                    failed = Some(error);
                    return ControlFlow::Break(());
                }
            }
        }
        let Some((_, object)) = &object else { return ControlFlow::Continue(()) };
        for (index, record) in records.skip(std::mem::take(&mut skip)) {
            if left == 0 || out.gone {
                return ControlFlow::Break(());
            }
            left -= 1;
            let attribution = match format::wants_attribution(format) {
                true => attributors.attribute(&object.source, record),
                false => None,
            };
            line.clear();
            format::append(format, object, index, attribution.as_ref(), record, &mut line);
            out.raw(&line);
        }
        ControlFlow::Continue(())
    })?;
    match failed {
        Some(error) => Err(error.into()),
        None if damaged > 0 => Ok(Exit::Data),
        None => Ok(Exit::Done),
    }
}

fn complain(text: &str) {
    eprintln!("trailspool: {}", shown(text));
}
