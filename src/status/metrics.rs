//! A snapshot as `/metrics`, in Prometheus's text format. Source: Prometheus, "Exposition formats", version 0.0.4: the
//! series of one name stand together, below their HELP and TYPE.
//!
//! Objects, records and deliveries are totals over the life of the state directory, other counters those of the
//! process.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::escape;
use super::snapshot::{Counter, Snapshot};

/// What the answer is called.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The series.
pub fn exposition(snapshot: &Snapshot) -> String {
    let mut page = Page(String::with_capacity(4096));
    page.agent(snapshot);
    page.sources(snapshot);
    page.outputs(snapshot);
    page.stores(snapshot);
    page.directory(snapshot);
    page.0
}

struct Page(String);

/// Labels and their values.
type Labels<'a> = [(&'a str, &'a str)];

impl Page {
    fn agent(&mut self, snapshot: &Snapshot) {
        self.family("trailspool_build_info", "gauge", "The program that runs; always 1.");
        self.series("trailspool_build_info", &[("version", snapshot.version)], 1);
        self.gauge(
            "trailspool_healthy",
            "1 when /healthz answers 200.",
            u64::from(snapshot.faults().is_empty()),
        );
        let started = u64::try_from(snapshot.started).unwrap_or(0);
        self.gauge("process_start_time_seconds", "When the process began, Unix seconds.", started);
    }

    fn sources(&mut self, snapshot: &Snapshot) {
        let sources = &snapshot.sources;
        self.family("trailspool_objects_total", "counter", "Objects done, by what became of them.");
        for source in sources {
            for (fate, count) in [
                ("collected", source.books.objects_collected),
                ("quarantined", source.books.objects_quarantined),
            ] {
                self.series("trailspool_objects_total", &[("source", &source.name), ("fate", fate)], count);
            }
        }
        self.family(
            "trailspool_records_total",
            "counter",
            "Records of collected objects, by what became of them.",
        );
        for source in sources {
            let counts = &source.books.counts;
            for (fate, count) in [
                ("kept", counts.kept),
                ("dropped", counts.dropped),
                ("duplicate", counts.duplicate),
                ("quarantined", counts.quarantined),
            ] {
                self.series("trailspool_records_total", &[("source", &source.name), ("fate", fate)], count);
            }
        }
        self.family("trailspool_rule_drops_total", "counter", "Records that a rule removed.");
        for source in sources {
            for (rule, count) in &source.rule_drops {
                self.series(
                    "trailspool_rule_drops_total",
                    &[("source", &source.name), ("rule", rule)],
                    *count,
                );
            }
        }
        let help = "Now minus the time stamp of the newest object collected; absent until one is known.";
        self.family("trailspool_source_lag_seconds", "gauge", help);
        for source in sources {
            if let Some(lag) = source.lag(snapshot.now) {
                self.series("trailspool_source_lag_seconds", &[("source", &source.name)], lag);
            }
        }
        self.family("trailspool_source_error", "gauge", "1 while this stands in the way of the source.");
        for source in sources {
            if let Some(trouble) = &source.trouble {
                let labels = [("source", &*source.name), ("cause", trouble.cause)];
                self.series("trailspool_source_error", &labels, 1);
            }
        }
        self.family("trailspool_source_warning", "gauge", "1 while this should be mended.");
        for source in sources {
            for (cause, _) in &source.warnings {
                self.series("trailspool_source_warning", &[("source", &source.name), ("cause", cause)], 1);
            }
        }
        self.counters("source", sources.iter().map(|source| (&*source.name, &*source.counters)));
    }

    fn outputs(&mut self, snapshot: &Snapshot) {
        let outputs = &snapshot.outputs;
        self.family(
            "trailspool_delivered_records_total",
            "counter",
            "Records that the receiver acknowledged.",
        );
        for output in outputs {
            let name = [("output", &*output.name)];
            self.series("trailspool_delivered_records_total", &name, output.delivered);
        }
        let help = "Records that the receiver refused for good; they are in the quarantine.";
        self.family("trailspool_rejected_records_total", "counter", help);
        for output in outputs {
            self.series("trailspool_rejected_records_total", &[("output", &output.name)], output.rejected);
        }
        self.family(
            "trailspool_delivery_retries_total",
            "counter",
            "Attempts that are made again, by reason.",
        );
        for output in outputs {
            for (reason, count) in &output.retries {
                let labels = [("output", &*output.name), ("reason", *reason)];
                self.series("trailspool_delivery_retries_total", &labels, *count);
            }
        }
        let help = "Records given up because the spool was full (on_full = skip).";
        self.family("trailspool_skipped_records_total", "counter", help);
        for output in outputs {
            self.series("trailspool_skipped_records_total", &[("output", &output.name)], output.skipped);
        }
        self.family("trailspool_output_backlog_records", "gauge", "Records that wait in the spool.");
        for output in outputs {
            self.series("trailspool_output_backlog_records", &[("output", &output.name)], output.waiting);
        }
        self.family("trailspool_output_error", "gauge", "1 while this stands in the way of the output.");
        for output in outputs {
            if let Some(reason) = output.state.reason() {
                let labels = [("output", &*output.name), ("reason", reason)];
                self.series("trailspool_output_error", &labels, 1);
            }
        }
        self.counters("output", outputs.iter().map(|output| (&*output.name, &*output.counters)));
    }

    fn stores(&mut self, snapshot: &Snapshot) {
        let spool = &snapshot.spool;
        self.gauge("trailspool_spool_bytes", "Bytes of the spool on disk.", spool.used);
        self.gauge("trailspool_spool_max_bytes", "Bytes at which fetching pauses.", spool.max);
        let help = "Age of the oldest record that an output has yet to take; 0: none waits.";
        self.gauge("trailspool_spool_oldest_seconds", help, spool.oldest);
        let help = "1 while fetching pauses because the spool is full.";
        self.gauge("trailspool_spool_full", help, u64::from(spool.full));
        let help = "1 while fetching pauses because the state directory cannot be written.";
        self.gauge("trailspool_disk_fault", help, u64::from(spool.disk_fault.is_some()));
        self.family(
            "trailspool_spool_damaged_total",
            "counter",
            "Damaged spots of the spool that were set aside.",
        );
        self.series("trailspool_spool_damaged_total", &[], spool.damaged);
        let help = "Objects whose books did not balance: a defect.";
        self.family("trailspool_unbalanced_objects_total", "counter", help);
        self.series("trailspool_unbalanced_objects_total", &[], spool.unbalanced);
        self.gauge("trailspool_objects_queued", "Objects that are found and wait for a fetch.", spool.queued);
        self.gauge("trailspool_objects_in_work", "Objects that are found and not done yet.", spool.in_work);
        let quarantine = &snapshot.quarantine;
        self.gauge("trailspool_quarantine_entries", "Objects and records set aside.", quarantine.entries);
        self.gauge("trailspool_quarantine_bytes", "Their bytes on disk.", quarantine.bytes);
        let help = "What was set aside when the quarantine was full, and only counted.";
        self.family("trailspool_quarantine_only_counted_total", "counter", help);
        self.series("trailspool_quarantine_only_counted_total", &[], quarantine.only_counted);
    }

    fn directory(&mut self, snapshot: &Snapshot) {
        let Some(directory) = &snapshot.directory else { return };
        let help = "Accounts looked up in the directory, by how that ended.";
        self.family("trailspool_directory_lookups_total", "counter", help);
        for (result, count) in &directory.lookups {
            self.series("trailspool_directory_lookups_total", &[("result", result)], *count);
        }
        self.gauge("trailspool_directory_cached", "Answers that are kept.", directory.cached);
        self.family("trailspool_directory_error", "gauge", "1 while this stands in the way of look-ups.");
        if let Some(trouble) = &directory.trouble {
            self.series("trailspool_directory_error", &[("cause", trouble.cause)], 1);
        }
    }

    /// Counters of many owners: each name's series together.
    fn counters<'a>(&mut self, owner: &str, all: impl Iterator<Item = (&'a str, &'a [Counter])>) {
        let mut families: BTreeMap<&str, Vec<(&str, &Counter)>> = BTreeMap::new();
        for (name, counters) in all {
            for counter in counters {
                families.entry(counter.name).or_default().push((name, counter));
            }
        }
        for (family, series) in families {
            self.family(family, "counter", series[0].1.help);
            for (name, counter) in series {
                let labels: Vec<_> = [(owner, name)].into_iter().chain(counter.label).collect();
                self.series(family, &labels, counter.value);
            }
        }
    }

    fn gauge(&mut self, name: &str, help: &str, value: u64) {
        self.family(name, "gauge", help);
        self.series(name, &[], value);
    }

    fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn series(&mut self, name: &str, labels: &Labels<'_>, value: u64) {
        self.0.push_str(name);
        for (at, (key, text)) in labels.iter().enumerate() {
            let before = if at == 0 { '{' } else { ',' };
            let _ = write!(self.0, "{before}{key}=\"{}\"", escape::label(text));
        }
        let after = if labels.is_empty() { "" } else { "}" };
        let _ = writeln!(self.0, "{after} {value}");
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::super::snapshot::tests::rich;
    use super::*;

    /// Name, labels, value.
    type Series = (String, Vec<(String, String)>, f64);

    /// A line of a series by the grammar of the format: name, labels, value.
    fn parse(line: &str) -> Option<Series> {
        let name_end = line.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == ':'))?;
        let (name, mut rest) = line.split_at(name_end);
        let mut labels = Vec::new();
        if let Some(inner) = rest.strip_prefix('{') {
            rest = inner;
            loop {
                let (key, after) = rest.split_once("=\"")?;
                let mut value = String::new();
                let mut chars = after.char_indices();
                let end = loop {
                    match chars.next()? {
                        (at, '"') => break at,
                        (_, '\\') => value.push(match chars.next()?.1 {
                            'n' => '\n',
                            c @ ('\\' | '"') => c,
                            _ => return None,
                        }),
                        (_, c) => value.push(c),
                    }
                };
                labels.push((key.to_owned(), value));
                rest = &after[end + 1..];
                match rest.strip_prefix(',') {
                    Some(more) => rest = more,
                    None => break,
                }
            }
            rest = rest.strip_prefix('}')?;
        }
        Some((name.to_owned(), labels, rest.strip_prefix(' ')?.parse().ok()?))
    }

    #[test]
    fn every_line_is_of_the_grammar_and_every_series_of_its_family() {
        let page = exposition(&rich());
        let (mut families, mut seen) = (HashSet::new(), HashSet::new());
        let mut family = String::new();
        for line in page.lines() {
            if let Some(kind) = line.strip_prefix("# TYPE ") {
                family = kind.split(' ').next().unwrap().to_owned();
                assert!(families.insert(family.clone()), "{family} stands twice");
                assert_eq!(kind.ends_with(" counter"), family.ends_with("_total"), "{family}");
            } else if !line.starts_with("# HELP ") {
                let (name, labels, _) = parse(line).unwrap_or_else(|| panic!("not a series: {line}"));
                assert_eq!(name, family);
                assert!(seen.insert((name, labels)), "twice: {line}");
            }
        }
        assert!(page.ends_with('\n'));
    }

    #[test]
    fn the_promised_names_are_there_with_their_labels() {
        let mut snapshot = rich();
        let evil = "a\"b\\c\nd";
        snapshot.sources[0].rule_drops.push((evil.into(), 1));
        let page = exposition(&snapshot);
        let series: Vec<_> = page.lines().filter(|line| !line.starts_with('#')).filter_map(parse).collect();
        let keys = |name: &str| -> Vec<Vec<&str>> {
            let of = series.iter().filter(|(found, ..)| found == name);
            of.map(|(_, labels, _)| labels.iter().map(|(key, _)| key.as_str()).collect()).collect()
        };
        for (name, labels) in [
            ("trailspool_objects_total", vec!["source", "fate"]),
            ("trailspool_records_total", vec!["source", "fate"]),
            ("trailspool_rule_drops_total", vec!["source", "rule"]),
            ("trailspool_delivered_records_total", vec!["output"]),
            ("trailspool_delivery_retries_total", vec!["output", "reason"]),
            ("trailspool_spool_bytes", vec![]),
            ("trailspool_spool_oldest_seconds", vec![]),
            ("trailspool_source_lag_seconds", vec!["source"]),
            ("trailspool_source_error", vec!["source", "cause"]),
            ("trailspool_directory_lookups_total", vec!["result"]),
            ("trailspool_directory_cached", vec![]),
            ("trailspool_directory_error", vec!["cause"]),
        ] {
            let found = keys(name);
            assert!(!found.is_empty() && found.iter().all(|keys| *keys == labels), "{name}: {found:?}");
        }
        assert!(series.iter().any(|(_, labels, _)| labels.iter().any(|(_, value)| value == evil)));
        let fates = ["kept", "dropped", "duplicate", "quarantined"];
        for fate in fates {
            assert!(page.contains(&format!("trailspool_records_total{{source=\"prod\",fate=\"{fate}\"}} ")));
        }
    }
}
