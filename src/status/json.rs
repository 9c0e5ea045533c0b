//! A snapshot as `/status.json`: one object, members in a fixed order. Moments are Unix seconds.

use std::fmt::Write as _;

use super::escape;
use super::history::SPAN;
use super::snapshot::{Directory, Output, Snapshot, Source, Trouble};

/// The document, with a newline.
pub fn document(snapshot: &Snapshot) -> String {
    let Snapshot { version, now, started, sources, outputs, spool, quarantine, .. } = snapshot;
    let faults = snapshot.faults();
    let mut out = String::with_capacity(2048);
    let _ = write!(
        out,
        "{{\"version\":{},\"now\":{now},\"started\":{started},\"healthy\":{},\"faults\":{},\n\"sources\":{},\n\"outputs\":{},\n",
        escape::json(version),
        faults.is_empty(),
        list(faults.iter(), |text| escape::json(text)),
        list(sources.iter(), |each| source(each, *now)),
        list(outputs.iter(), output),
    );
    let _ = writeln!(
        out,
        "\"spool\":{{\"bytes\":{},\"max_bytes\":{},\"oldest_seconds\":{},\"full\":{},\"disk_fault\":{},\"unbalanced\":{},\"damaged\":{},\
         \"objects_queued\":{},\"objects_in_work\":{}}},",
        spool.used,
        spool.max,
        spool.oldest,
        spool.full,
        or_null(spool.disk_fault.as_deref().map(escape::json)),
        spool.unbalanced,
        spool.damaged,
        spool.queued,
        spool.in_work
    );
    let _ = writeln!(
        out,
        "\"quarantine\":{{\"entries\":{},\"bytes\":{},\"max_bytes\":{},\"only_counted\":{}}},\n\"directory\":{}}}",
        quarantine.entries,
        quarantine.bytes,
        quarantine.max,
        quarantine.only_counted,
        or_null(snapshot.directory.as_ref().map(directory))
    );
    out
}

fn source(source: &Source, now: i64) -> String {
    let counts = &source.books.counts;
    let trouble = source.trouble.as_ref().map(trouble);
    format!(
        "{{\"name\":{},\"bucket\":{},\"prefix\":{},\"region\":{},\"lag_seconds\":{},\"newest\":{},\
         \"objects\":{{\"collected\":{},\"quarantined\":{}}},\
         \"records\":{{\"total\":{},\"kept\":{},\"dropped\":{},\"duplicate\":{},\"quarantined\":{}}},\
         \"counters\":{},\"rule_drops\":{},\"backfill\":{},\"trouble\":{},\"warnings\":{},\
         \"recent\":{{\"seconds\":{SPAN},\"objects\":{},\"records\":{}}}}}",
        escape::json(&source.name),
        escape::json(&source.bucket),
        escape::json(&source.prefix),
        escape::json(&source.region),
        or_null(source.lag(now)),
        or_null(source.newest),
        source.books.objects_collected,
        source.books.objects_quarantined,
        counts.records,
        counts.kept,
        counts.dropped,
        counts.duplicate,
        counts.quarantined,
        counters(&source.counters),
        list(source.rule_drops.iter(), |(rule, count)| format!(
            "{{\"rule\":{},\"records\":{count}}}",
            escape::json(rule)
        )),
        or_null(source.backfill.as_deref().map(escape::json)),
        or_null(trouble),
        list(source.warnings.iter(), |(cause, text)| format!(
            "{{\"cause\":{},\"text\":{}}}",
            escape::json(cause),
            escape::json(text)
        )),
        list(source.recent.iter(), |span| span[0].to_string()),
        list(source.recent.iter(), |span| span[1].to_string()),
    )
}

fn directory(directory: &Directory) -> String {
    format!(
        "{{\"place\":{},\"cached\":{},\"lookups\":{},\"trouble\":{}}}",
        escape::json(&directory.place),
        directory.cached,
        list(directory.lookups.iter(), |(result, count)| format!(
            "{{\"result\":{},\"count\":{count}}}",
            escape::json(result)
        )),
        or_null(directory.trouble.as_ref().map(trouble)),
    )
}

fn trouble(trouble: &Trouble) -> String {
    format!(
        "{{\"cause\":{},\"text\":{},\"transient\":{},\"since\":{}}}",
        escape::json(trouble.cause),
        escape::json(&trouble.text),
        trouble.transient,
        trouble.since
    )
}

fn output(output: &Output) -> String {
    let last_error = output
        .last_error
        .as_ref()
        .map(|(moment, text)| format!("{{\"at\":{moment},\"text\":{}}}", escape::json(text)));
    format!(
        "{{\"name\":{},\"kind\":{},\"state\":{},\"since\":{},\"reason\":{},\"text\":{},\
         \"records\":{{\"delivered\":{},\"rejected\":{},\"skipped\":{},\"waiting\":{}}},\"counters\":{},\"retries\":{},\
         \"last_error\":{}}}",
        escape::json(&output.name),
        escape::json(output.kind),
        escape::json(output.state.word()),
        output.since,
        or_null(output.state.reason().map(escape::json)),
        or_null(output.state.text().map(escape::json)),
        output.delivered,
        output.rejected,
        output.skipped,
        output.waiting,
        counters(&output.counters),
        list(output.retries.iter(), |(reason, count)| format!(
            "{{\"reason\":{},\"count\":{count}}}",
            escape::json(reason)
        )),
        or_null(last_error),
    )
}

fn counters(counters: &[super::snapshot::Counter]) -> String {
    list(counters.iter(), |counter| {
        let label = counter
            .label
            .map(|(key, value)| format!("\"{key}\":{},", escape::json(value)))
            .unwrap_or_default();
        format!("{{\"name\":{},{label}\"value\":{}}}", escape::json(counter.name), counter.value)
    })
}

fn list<T>(items: impl Iterator<Item = T>, each: impl Fn(T) -> String) -> String {
    format!("[{}]", items.map(each).collect::<Vec<_>>().join(","))
}

fn or_null<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(|| "null".to_owned(), |value| value.to_string())
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::super::snapshot::tests::rich;
    use super::*;

    #[test]
    fn the_document_is_json_whatever_texts_hold() {
        let snapshot = rich();
        let value: Value = serde_json::from_str(&document(&snapshot)).unwrap();
        assert_eq!(value["healthy"], false);
        assert_eq!(value["sources"][0]["lag_seconds"], 300);
        assert_eq!(value["sources"][0]["records"]["kept"], 900);
        assert_eq!(value["sources"][0]["recent"]["records"], serde_json::json!([0, 40, 80, 3]));
        assert_eq!(value["sources"][0]["rule_drops"][1]["rule"], "exclude-1");
        assert_eq!(value["sources"][1]["lag_seconds"], Value::Null);
        assert_eq!(
            value["sources"][1]["trouble"]["text"],
            snapshot.sources[1].trouble.as_ref().unwrap().text.as_str()
        );
        assert_eq!(value["outputs"][0]["state"], "retrying");
        assert_eq!(value["spool"]["oldest_seconds"], 61);
        assert_eq!(value["quarantine"]["entries"], 5);
        assert_eq!(value["directory"]["cached"], 17);
        assert_eq!(value["directory"]["trouble"]["cause"], "timeout");
    }

    #[test]
    fn an_agent_of_nothing_is_json_too() {
        let value: Value = serde_json::from_str(&document(&Snapshot::default())).unwrap();
        assert_eq!(value["healthy"], true);
        assert_eq!(value["directory"], Value::Null);
    }
}
