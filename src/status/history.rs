//! What the last hours brought: a ring of fixed length for each of the first sources. A core: the moments come from
//! outside.

use super::snapshot::Snapshot;
use crate::limits;

/// Seconds of one span.
pub(crate) const SPAN: u64 = 300;
/// Spans that are kept: six hours.
pub(crate) const SPANS: usize = 72;

/// The rings.
#[derive(Debug, Default)]
pub(crate) struct History {
    rings: Vec<Ring>,
}

#[derive(Debug)]
struct Ring {
    source: Box<str>,
    /// Totals when the open span began.
    base: [u64; 2],
    /// Ended spans; the oldest stands at `next` once the ring is full.
    spans: [[u32; 2]; SPANS],
    ended: usize,
    next: usize,
}

impl History {
    /// Takes up sources that are new, and forgets those that are gone. What a source has collected before it is
    /// taken up belongs to no span.
    pub(crate) fn adopt(&mut self, snapshot: &Snapshot) {
        self.rings.retain(|ring| snapshot.sources.iter().any(|source| source.name == ring.source));
        for source in &snapshot.sources {
            let known = self.rings.iter().any(|ring| ring.source == source.name);
            if !known && self.rings.len() < limits::STATUS_HISTORIES {
                let base = [source.objects(), source.books.counts.records];
                let spans = [[0; 2]; SPANS];
                self.rings.push(Ring { source: source.name.clone(), base, spans, ended: 0, next: 0 });
            }
        }
    }

    /// Ends the open span.
    pub(crate) fn turn(&mut self, snapshot: &Snapshot) {
        for ring in &mut self.rings {
            let Some(source) = snapshot.sources.iter().find(|source| source.name == ring.source) else {
                continue;
            };
            let totals = [source.objects(), source.books.counts.records];
            ring.spans[ring.next] = since(ring.base, totals);
            ring.next = (ring.next + 1) % SPANS;
            ring.ended = (ring.ended + 1).min(SPANS);
            ring.base = totals;
        }
    }

    /// Puts the spans into a snapshot, oldest first, the open one last.
    pub(crate) fn fill(&self, snapshot: &mut Snapshot) {
        for source in &mut snapshot.sources {
            let Some(ring) = self.rings.iter().find(|ring| ring.source == source.name) else { continue };
            let open = since(ring.base, [source.objects(), source.books.counts.records]);
            let oldest = (ring.next + SPANS - ring.ended) % SPANS;
            let ended = (0..ring.ended).map(|n| ring.spans[(oldest + n) % SPANS]);
            source.recent = ended.chain([open]).collect();
        }
    }
}

fn since(base: [u64; 2], totals: [u64; 2]) -> [u32; 2] {
    std::array::from_fn(|n| u32::try_from(totals[n].saturating_sub(base[n])).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::super::snapshot::Source;
    use super::*;

    fn of(name: &str, objects: u64, records: u64) -> Snapshot {
        let mut source = Source { name: name.into(), ..Source::default() };
        source.books.objects_collected = objects;
        source.books.counts.records = records;
        Snapshot { sources: vec![source], ..Snapshot::default() }
    }

    fn recent(history: &History, mut snapshot: Snapshot) -> Vec<[u32; 2]> {
        history.fill(&mut snapshot);
        snapshot.sources.remove(0).recent
    }

    #[test]
    fn spans_hold_what_came_in_them_and_not_what_was_there_before() {
        let mut history = History::default();
        history.adopt(&of("a", 100, 1000));
        assert_eq!(recent(&history, of("a", 100, 1000)), [[0, 0]]);
        history.turn(&of("a", 103, 1010));
        history.adopt(&of("a", 103, 1010));
        assert_eq!(recent(&history, of("a", 104, 1011)), [[3, 10], [1, 1]]);
    }

    #[test]
    fn the_ring_keeps_the_last_spans_in_order() {
        let mut history = History::default();
        history.adopt(&of("a", 0, 0));
        let mut total = 0;
        for n in 0..200 {
            total += n;
            history.turn(&of("a", total, 0));
        }
        let recent = recent(&history, of("a", total, 0));
        assert_eq!(recent.len(), SPANS + 1);
        assert_eq!(
            (recent[0], recent[SPANS - 1], recent[SPANS]),
            ([200 - SPANS as u32, 0], [199, 0], [0, 0])
        );
    }

    #[test]
    fn another_configuration_keeps_the_sources_that_stay_and_is_bounded() {
        let mut history = History::default();
        history.adopt(&of("a", 0, 0));
        history.turn(&of("a", 5, 5));
        history.adopt(&of("b", 7, 7));
        assert_eq!(recent(&history, of("b", 8, 7)), [[1, 0]]);
        assert_eq!(recent(&history, of("a", 8, 7)), [[0; 2]; 0]);
        let many = (0..1000).flat_map(|n| of(&n.to_string(), 0, 0).sources).collect();
        history.adopt(&Snapshot { sources: many, ..Snapshot::default() });
        assert_eq!(history.rings.len(), limits::STATUS_HISTORIES);
    }
}
