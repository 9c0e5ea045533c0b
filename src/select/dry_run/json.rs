//! A dry run for programs: one JSON object.

use super::{Fate, Found, Tally};
use crate::deliver::format::append_escaped;

/// The object and a newline.
pub(super) fn text(found: &Found) -> String {
    let mut out = Vec::new();
    member(&mut out, "{", "source", |out| string(out, &found.source));
    member(&mut out, ",", "files", |out| number(out, found.files));
    member(&mut out, ",", "files_set_aside", |out| number(out, found.files_set_aside));
    member(&mut out, ",", "set_aside", |out| {
        list(out, &found.set_aside, |out, (file, why)| {
            member(out, "{", "file", |out| string(out, file));
            member(out, ",", "why", |out| string(out, why));
            out.push(b'}');
        });
    });
    member(&mut out, ",", "records", |out| number(out, found.records()));
    member(&mut out, ",", "bytes", |out| number(out, found.bytes()));
    for (name, fate) in
        [("kept", Fate::Kept), ("duplicate", Fate::Duplicate), ("quarantined", Fate::Quarantined)]
    {
        member(&mut out, ",", name, |out| {
            out.push(b'{');
            tally(out, found.fate(fate));
            out.push(b'}');
        });
    }
    let dropped: Vec<_> = found.dropped().collect();
    member(&mut out, ",", "dropped", |out| {
        list(out, &dropped, |out, (reason, of_reason)| {
            let (field, regex) = found.looks_for(*reason);
            member(out, "{", "rule", |out| string(out, &reason.to_string()));
            member(out, ",", "field", |out| optional(out, field));
            member(out, ",", "regex", |out| optional(out, regex));
            out.push(b',');
            tally(out, of_reason);
            out.push(b'}');
        });
    });
    out.extend_from_slice(b"}\n");
    String::from_utf8_lossy(&out).into_owned()
}

fn tally(out: &mut Vec<u8>, tally: &Tally) {
    member(out, "", "records", |out| number(out, tally.records));
    member(out, ",", "bytes", |out| number(out, tally.bytes));
    member(out, ",", "examples", |out| {
        list(out, &tally.examples, |out, example| {
            member(out, "{", "file", |out| string(out, &example.file));
            member(out, ",", "index", |out| number(out, example.index.into()));
            member(out, ",", "event", |out| string(out, &example.event));
            out.push(b'}');
        });
    });
}

fn member(out: &mut Vec<u8>, before: &str, name: &str, value: impl FnOnce(&mut Vec<u8>)) {
    out.extend_from_slice(before.as_bytes());
    string(out, name);
    out.push(b':');
    value(out);
}

fn list<T>(out: &mut Vec<u8>, items: &[T], mut item: impl FnMut(&mut Vec<u8>, &T)) {
    out.push(b'[');
    for (n, one) in items.iter().enumerate() {
        if n > 0 {
            out.push(b',');
        }
        item(out, one);
    }
    out.push(b']');
}

fn string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    append_escaped(text, out);
    out.push(b'"');
}

fn optional(out: &mut Vec<u8>, text: Option<&str>) {
    match text {
        Some(text) => string(out, text),
        None => out.extend_from_slice(b"null"),
    }
}

fn number(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(number.to_string().as_bytes());
}
