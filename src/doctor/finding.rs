//! What the doctor found: findings in a stable order, and the exit code they add up to. A core.
//!
//! A [`Notes`] takes the findings of one part as its probes end, in any order, and fills in those that could
//! not be made: every probe of a part has a finding, whatever failed before it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::error::Exit;

/// What a finding is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// The configuration file.
    Config,
    /// What all sources and outputs share: the state directory.
    Agent,
    /// The directory that accounts are looked up in.
    Directory,
    /// The source of this name.
    Source(Box<str>),
    /// The output of this name.
    Output(Box<str>),
}

/// How bad it is. The order is that of severity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// As it should be.
    Ok,
    /// Could not be tested, for something before it failed.
    NotTested,
    /// Works, or may work, but somebody should know.
    Warn,
    /// Does not work.
    Fail(Kind),
}

/// What kind of failure it is, which decides the exit code. The order is that of the codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A service does not answer: 69.
    Unavailable,
    /// The disk: 74.
    Io,
    /// Permission or credentials: 77.
    Permission,
    /// The configuration: 78.
    Config,
}

impl Kind {
    /// The exit code.
    pub fn exit(self) -> Exit {
        match self {
            Kind::Unavailable => Exit::Unavailable,
            Kind::Io => Exit::Io,
            Kind::Permission => Exit::Permission,
            Kind::Config => Exit::Config,
        }
    }
}

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Stable slug of the probe, e.g. `tls`.
    pub probe: &'static str,
    /// How bad it is.
    pub level: Level,
    /// What was found, a clause.
    pub what: String,
    /// Why: the reason that a server, the system or the configuration gave. May be empty.
    pub why: String,
    /// What to do, as exact as can be. May be empty when nothing is to be done.
    pub fix: String,
}

impl Finding {
    /// All is well.
    pub fn ok(probe: &'static str, what: impl Into<String>) -> Finding {
        Finding { probe, level: Level::Ok, what: what.into(), why: String::new(), fix: String::new() }
    }

    /// Something to know.
    pub fn warn(
        probe: &'static str,
        what: impl Into<String>,
        why: impl Into<String>,
        fix: impl Into<String>,
    ) -> Finding {
        Finding { probe, level: Level::Warn, what: what.into(), why: why.into(), fix: fix.into() }
    }

    /// Something that does not work.
    pub fn fail(
        probe: &'static str,
        kind: Kind,
        what: impl Into<String>,
        why: impl Into<String>,
        fix: impl Into<String>,
    ) -> Finding {
        Finding { probe, level: Level::Fail(kind), what: what.into(), why: why.into(), fix: fix.into() }
    }

    /// Nothing is known; `because`: a clause that goes on after "because".
    pub fn not_tested(probe: &'static str, because: &str) -> Finding {
        Finding { level: Level::NotTested, ..Finding::ok(probe, format!("not tested, because {because}")) }
    }
}

/// The findings of one part, in the order of its probes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section {
    /// What they are about.
    pub part: Part,
    /// At least one for each probe of the part.
    pub findings: Vec<Finding>,
}

/// All findings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The configuration, the agent, sources, the directory and outputs, these in the order of the configuration.
    pub sections: Vec<Section>,
}

impl Report {
    /// Findings of all sections.
    pub fn findings(&self) -> impl Iterator<Item = &Finding> {
        self.sections.iter().flat_map(|section| &section.findings)
    }

    /// The worst level.
    pub fn worst(&self) -> Level {
        self.findings().map(|finding| finding.level).max().unwrap_or(Level::Ok)
    }

    /// The exit code of the worst failure; warnings do not count.
    pub fn exit(&self) -> Exit {
        match self.worst() {
            Level::Fail(kind) => kind.exit(),
            Level::Ok | Level::NotTested | Level::Warn => Exit::Done,
        }
    }
}

/// A probe that ends a part's chain: what depends on it is not tested. The clause says why.
#[derive(Debug, PartialEq, Eq)]
pub struct Blocked(pub String);

/// Takes the findings of a part while its probes run. A clone is the same notes, so that what was found stays
/// when the probing is cut short.
#[derive(Debug, Clone, Default)]
pub struct Notes(Arc<Mutex<Vec<Finding>>>);

impl Notes {
    /// Notes a finding.
    pub fn add(&self, finding: Finding) {
        self.lock().push(finding);
    }

    /// Notes a failure that what follows depends on.
    pub fn block(&self, finding: Finding, because: impl Into<String>) -> Blocked {
        self.add(finding);
        Blocked(because.into())
    }

    /// Whether a probe has its finding.
    pub fn has(&self, probe: &str) -> bool {
        self.lock().iter().any(|finding| finding.probe == probe)
    }

    /// The findings in the order of `probes`; those without any are not tested `because`.
    pub fn finish(&self, part: Part, probes: &[&'static str], because: &str) -> Section {
        let noted = self.lock();
        let mut findings = Vec::with_capacity(noted.len().max(probes.len()));
        for probe in probes {
            let of_probe = || noted.iter().filter(|finding| finding.probe == *probe);
            match of_probe().next() {
                Some(_) => findings.extend(of_probe().cloned()),
                None => findings.push(Finding::not_tested(probe, because)),
            }
        }
        Section { part, findings }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Finding>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(levels: &[Level]) -> Report {
        let finding = |level| Finding { level, ..Finding::ok("probe", "") };
        let findings = levels.iter().map(|level| finding(*level)).collect();
        Report { sections: vec![Section { part: Part::Agent, findings }] }
    }

    #[test]
    fn the_exit_code_is_that_of_the_worst_failure() {
        use Kind::{Config, Io, Permission, Unavailable};
        use Level::{Fail, NotTested, Ok, Warn};
        for (levels, exit) in [
            (&[][..], Exit::Done),
            (&[Ok], Exit::Done),
            (&[Warn, NotTested, Ok], Exit::Done),
            (&[Ok, Fail(Unavailable)], Exit::Unavailable),
            (&[Fail(Io), Fail(Unavailable)], Exit::Io),
            (&[Fail(Io), Fail(Permission), Warn], Exit::Permission),
            (&[Fail(Config), Fail(Permission), Fail(Io)], Exit::Config),
        ] {
            assert_eq!(report(levels).exit(), exit, "{levels:?}");
        }
    }

    #[test]
    fn every_probe_has_a_finding_in_the_order_of_the_probes() {
        let notes = Notes::default();
        notes.add(Finding::ok("third", "3"));
        notes.add(Finding::ok("first", "1"));
        notes.add(Finding::ok("third", "3 again"));
        let Section { findings, .. } =
            notes.finish(Part::Agent, &["first", "second", "third", "fourth"], "it rains");
        let found: Vec<_> = findings.iter().map(|f| (f.probe, f.what.as_str())).collect();
        let because = "not tested, because it rains";
        let expected =
            [("first", "1"), ("second", because), ("third", "3"), ("third", "3 again"), ("fourth", because)];
        assert_eq!(found, expected);
        assert_eq!(findings[1].level, Level::NotTested);
    }
}
