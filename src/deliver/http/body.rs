//! The body of a request: what a preset puts before and behind the encoded records, and gzip over all.

use bytes::Bytes;

use super::super::format::append_escaped;
use super::super::gzip::{Failed, Gzip};
use super::super::lines::Lines;
use crate::config::http::Preset;

/// What stands around the records.
#[derive(Debug, Clone, Default)]
pub struct Frame {
    head: Box<[u8]>,
    tail: &'static [u8],
    /// Records end with a comma, and the last comma is one too many.
    comma: bool,
}

impl Frame {
    /// A preset's.
    pub fn of(preset: &Preset) -> Frame {
        match preset {
            Preset::Ndjson | Preset::SplunkHec(_) | Preset::ElasticBulk(_) => Frame::default(),
            Preset::JsonArray => Frame { head: b"[".as_slice().into(), tail: b"]", comma: true },
            Preset::Loki(loki) => {
                let mut head = b"{\"streams\":[{\"stream\":{".to_vec();
                for (at, (name, value)) in loki.labels.iter().enumerate() {
                    if at > 0 {
                        head.push(b',');
                    }
                    head.push(b'"');
                    append_escaped(name, &mut head);
                    head.extend_from_slice(b"\":\"");
                    append_escaped(value, &mut head);
                    head.push(b'"');
                }
                head.extend_from_slice(b"},\"values\":[");
                Frame { head: head.into(), tail: b"]}]}", comma: true }
            }
        }
    }

    /// The body as it is. Copies the records only where something stands around them.
    pub fn plain(&self, lines: &Lines) -> Bytes {
        if self.head.is_empty() && self.tail.is_empty() && !self.comma {
            return lines.bytes();
        }
        let records = self.records(lines);
        [&self.head[..], &records, self.tail].concat().into()
    }

    /// The body, compressed.
    ///
    /// # Errors
    /// As [`Gzip::write`].
    pub fn packed(&self, lines: &Lines, gzip: &mut Gzip) -> Result<Bytes, Failed> {
        let records = self.records(lines);
        // most records shrink to less than a sixth
        let mut out = Vec::with_capacity(records.len() / 6 + 64);
        gzip.begin(&mut out);
        for part in [&self.head[..], &records, self.tail] {
            gzip.write(part, &mut out)?;
        }
        gzip.finish(&mut out)?;
        Ok(out.into())
    }

    fn records(&self, lines: &Lines) -> Bytes {
        let bytes = lines.bytes();
        bytes.slice(..bytes.len() - usize::from(self.comma))
    }
}
