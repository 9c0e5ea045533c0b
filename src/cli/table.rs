//! The command line's one definition. What is read, what the help says, the manual and the completion of shells all
//! come from [`COMMANDS`], so they cannot differ.
//!
//! A new command takes three things: a [`Spec`] here, a variant of [`Command`](super::Command), and what it does
//! in [`super::main`]. Commands of a group (`spool ls`) stand in the [`Does::Group`] of their group.

use super::args::Args;
use super::{Command, read};
use crate::doctor::init::question::QUESTIONS;
use crate::doctor::policy::Kind;

/// The configuration that is read unless `--config` names another.
pub const CONFIG_PATH: &str = "/etc/trailspool/trailspool.toml";

/// What the program is for, in one sentence.
pub(super) const ABOUT: &str = "collects AWS CloudTrail logs from S3, spools them to disk and forwards them";

/// A command, or a group of commands.
pub(super) struct Spec {
    /// The word that names it.
    pub(super) name: &'static str,
    /// What it does, in one line for lists of commands: lower case, no full stop.
    pub(super) about: &'static str,
    /// Paragraphs beyond that line: sentences.
    pub(super) more: &'static [&'static str],
    /// Its options, without `--help`, which all have.
    pub(super) options: &'static [Opt],
    /// The words that are no options.
    pub(super) operands: Option<Operands>,
    /// What it consists of.
    pub(super) does: Does,
}

/// What stands behind a word of the command line.
pub(super) enum Does {
    /// A command: turns its arguments into what is asked for. The error is a sentence for the operator.
    Command(fn(&Args) -> Result<Command, String>),
    /// A group: the next word names one of these.
    Group(&'static [Spec]),
}

/// An option, always with a long name.
#[derive(Clone, Copy)]
pub(super) struct Opt {
    /// Without its dashes.
    pub(super) name: &'static str,
    /// What it takes; `None`: nothing.
    pub(super) value: Option<Value>,
    /// What it does, in one line: lower case, no full stop; the default in brackets.
    pub(super) about: &'static str,
}

/// The value of an option.
#[derive(Clone, Copy)]
pub(super) struct Value {
    /// How the help calls it: `FILE`.
    pub(super) name: &'static str,
    /// What it may be.
    pub(super) kind: ValueKind,
}

/// What a value may be; for the check of it and for completion.
#[derive(Clone, Copy)]
pub(super) enum ValueKind {
    /// A path.
    File,
    /// One of these words.
    Words(&'static [&'static str]),
    /// Anything else: the command judges.
    Text,
}

/// The words of a command that are no options.
pub(super) struct Operands {
    /// How the help calls one: `PATH`.
    pub(super) name: &'static str,
    /// Fewest.
    pub(super) least: usize,
    /// Most; `None`: any number.
    pub(super) most: Option<usize>,
    /// What one may be.
    pub(super) kind: ValueKind,
    /// What they are, in one line.
    pub(super) about: &'static str,
}

/// The option that nearly every command has.
pub(super) const CONFIG: Opt = Opt {
    name: "config",
    value: Some(Value { name: "FILE", kind: ValueKind::File }),
    about: "the configuration [/etc/trailspool/trailspool.toml]",
};

/// For programs.
const JSON: Opt = Opt { name: "json", value: None, about: "as JSON" };

/// The shells that `completion` knows.
pub(super) const SHELLS: &[&str] = &["bash", "zsh", "fish"];

/// Every command, in the order of the help.
pub(super) const COMMANDS: &[Spec] = &[
    Spec {
        name: "run",
        about: "collect and forward until stopped",
        more: &[
            "SIGTERM and SIGINT stop it, what was fetched is stored first; SIGHUP reads the configuration again. \
             With --once the books, a line for each source and each output, stand on standard error at the end.",
        ],
        options: &[
            CONFIG,
            Opt { name: "once", value: None, about: "one discovery pass, forward everything, then end" },
            Opt {
                name: "timeout",
                value: Some(Value { name: "SECONDS", kind: ValueKind::Text }),
                about: "with --once: end with code 75 when that takes longer",
            },
        ],
        operands: None,
        does: Does::Command(read::run),
    },
    Spec {
        name: "init",
        about: "write a configuration by asking, or by options, and check it",
        more: &[
            "What is not said by options is asked for at a terminal; where there is none, or nothing is missing, \
             defaults stand. Secrets are asked for without being shown, and kept in a file of their own that only \
             its owner can read; they are no options, since a command line can be seen by everybody.",
            "A configuration that is there already is replaced with --force alone, or when it is the package's and \
             not filled in yet; either is kept beside it as FILE.old.",
        ],
        options: &INIT,
        operands: None,
        does: Does::Command(read::init),
    },
    Spec {
        name: "check",
        about: "find what is wrong with the configuration, the network, AWS and the outputs, and say the fix",
        more: &[
            "It takes at most half a minute, disturbs no running agent, leaves nothing behind and sends nothing to \
             an output. Run it as the user that the agent runs as. The exit code is that of the worst failure.",
        ],
        options: &[CONFIG, Opt { name: "json", value: None, about: "findings as JSON" }],
        operands: None,
        does: Does::Command(read::check),
    },
    Spec {
        name: "policy",
        about: "print the IAM, bucket, key and queue policies that the sources need",
        more: &[
            "The documents are JSON on standard output; what each is and where it belongs stands on standard error.",
        ],
        options: &[
            CONFIG,
            Opt {
                name: "only",
                value: Some(Value { name: "DOCUMENT", kind: ValueKind::Words(&DOCUMENTS) }),
                about: "one kind of document: iam, assume, trust, bucket, key, queue, notification",
            },
            Opt {
                name: "principal",
                value: Some(Value { name: "ARN", kind: ValueKind::Text }),
                about: "the IAM user or role whose credentials the sources use",
            },
            Opt {
                name: "kms-key",
                value: Some(Value { name: "ARN", kind: ValueKind::Text }),
                about: "allow to decrypt objects that this KMS key encrypts",
            },
        ],
        operands: None,
        does: Does::Command(read::policy),
    },
    Spec {
        name: "regions",
        about: "print AWS's regions and their endpoints",
        more: &[],
        options: &[Opt { name: "tsv", value: None, about: "every endpoint, tab-separated, for programs" }],
        operands: None,
        does: Does::Command(read::regions),
    },
    Spec {
        name: "status",
        about: "ask the running agent how it is doing",
        more: &[
            "The agent is asked where the configuration's status_listen says, with the configuration's token. When \
             none answers the exit code is 69.",
        ],
        options: &[CONFIG, JSON],
        operands: None,
        does: Does::Command(read::status),
    },
    Spec {
        name: "spool",
        about: "look into the spool",
        more: &[
            "They only read, beside a running agent or without one. Run them as the user that the agent runs as.",
        ],
        options: &[],
        operands: None,
        does: Does::Group(&[
            Spec {
                name: "ls",
                about: "list the spool's segments, and what waits for each output",
                more: &["The log is shown up to the last whole object, as a start would find it."],
                options: &[CONFIG, JSON],
                operands: None,
                does: Does::Command(read::spool_ls),
            },
            Spec {
                name: "cat",
                about: "print the records in the spool",
                more: &[
                    "Damaged parts are passed over and told on standard error; the exit code is then 65.",
                ],
                options: &[
                    CONFIG,
                    Opt {
                        name: "output",
                        value: Some(Value { name: "NAME", kind: ValueKind::Text }),
                        about: "only what this output has not acknowledged, by its saved cursor",
                    },
                    Opt {
                        name: "from",
                        value: Some(Value { name: "SEGMENT[:OFFSET]", kind: ValueKind::Text }),
                        about: "from this place on, as ls prints it",
                    },
                    Opt {
                        name: "limit",
                        value: Some(Value { name: "N", kind: ValueKind::Text }),
                        about: "at most so many records",
                    },
                    Opt {
                        name: "format",
                        value: Some(Value { name: "FORMAT", kind: ValueKind::Words(&["raw", "envelope"]) }),
                        about: "raw or envelope, as outputs have it [raw]",
                    },
                ],
                operands: None,
                does: Does::Command(read::spool_cat),
            },
            Spec {
                name: "verify",
                about: "check every checksum in the state directory",
                more: &[
                    "Reads the spool's frames, the cursors, the ledger, the sources' state, the marks of duplicates and the \
                     quarantine, and prints a line for each file: what is in it, or what is damaged and where. The exit code \
                     is then 65; a file that cannot be read ends it with 74.",
                ],
                options: &[CONFIG, JSON],
                operands: None,
                does: Does::Command(read::spool_verify),
            },
        ]),
    },
    Spec {
        name: "quarantine",
        about: "look at what was set aside, and try it again",
        more: &["An ID may be cut to its beginning, at least 4 digits, as long as no other entry begins so."],
        options: &[],
        operands: None,
        does: Does::Group(&[
            Spec {
                name: "ls",
                about: "list what was set aside: when, how large, why",
                more: &[],
                options: &[CONFIG, JSON],
                operands: None,
                does: Does::Command(read::quarantine_ls),
            },
            Spec {
                name: "show",
                about: "print an entry: where it comes from, why it was set aside, how its bytes begin",
                more: &[],
                options: &[CONFIG, Opt { name: "raw", value: None, about: "its raw bytes alone" }, JSON],
                operands: Some(Operands {
                    name: "ID",
                    least: 1,
                    most: Some(1),
                    kind: ValueKind::Text,
                    about: "the entry's name, as ls prints it",
                }),
                does: Does::Command(read::quarantine_show),
            },
            Spec {
                name: "retry",
                about: "ask the agent to try an entry again",
                more: &[
                    "An object is fetched again, a record is sent again to the output that refused it. A running agent \
                     takes that up within seconds, otherwise the next start does. What succeeds leaves the quarantine; \
                     the books stay right.",
                ],
                options: &[
                    CONFIG,
                    Opt { name: "all", value: None, about: "everything that can be tried again" },
                ],
                operands: Some(Operands {
                    name: "ID",
                    least: 0,
                    most: Some(1),
                    kind: ValueKind::Text,
                    about: "the entry's name, as ls prints it",
                }),
                does: Does::Command(read::quarantine_retry),
            },
        ]),
    },
    Spec {
        name: "filter",
        about: "show what rules, baseline filter and duplicates would remove from objects in files",
        more: &[
            "Reads as the agent does, every .json and .json.gz of a folder in the order of names; sends nothing and \
             leaves nothing behind. It ends with 65 when a file or a record had to be set aside.",
        ],
        options: &[
            CONFIG,
            Opt {
                name: "source",
                value: Some(Value { name: "NAME", kind: ValueKind::Text }),
                about: "whose rules, where the configuration has several sources",
            },
            Opt { name: "json", value: None, about: "one JSON object, for programs" },
            Opt { name: "baseline", value: None, about: "print the list of the baseline filter instead" },
        ],
        operands: Some(Operands {
            name: "PATH",
            least: 0,
            most: None,
            kind: ValueKind::File,
            about: "files or folders with objects",
        }),
        does: Does::Command(read::filter),
    },
    Spec {
        name: "man",
        about: "print the manual page",
        more: &["In the language of man(7): `trailspool man | man -l -` shows it."],
        options: &[],
        operands: None,
        does: Does::Command(read::man),
    },
    Spec {
        name: "completion",
        about: "print the completion script of a shell",
        more: &["For instance: `trailspool completion bash > /etc/bash_completion.d/trailspool`."],
        options: &[],
        operands: Some(Operands {
            name: "SHELL",
            least: 1,
            most: Some(1),
            kind: ValueKind::Words(SHELLS),
            about: "bash, zsh or fish",
        }),
        does: Does::Command(read::completion),
    },
];

/// The options of `init`: its questions, after its own.
const INIT: [Opt; 3 + QUESTIONS.len()] = {
    let mut options = [CONFIG; 3 + QUESTIONS.len()];
    options[0] = Opt { about: "the file to write [/etc/trailspool/trailspool.toml]", ..CONFIG };
    options[1] = Opt { name: "force", value: None, about: "replace a configuration that is there" };
    options[2] = Opt { name: "no-check", value: None, about: "do not check it" };
    let mut index = 0;
    while index < QUESTIONS.len() {
        let question = &QUESTIONS[index];
        let kind = match question.value.as_bytes() {
            b"FILE" | b"DIR" => ValueKind::File,
            _ if question.words.is_empty() => ValueKind::Text,
            _ => ValueKind::Words(question.words),
        };
        let value = Some(Value { name: question.value, kind });
        options[3 + index] = Opt { name: question.name, value, about: question.asks };
        index += 1;
    }
    options
};

const DOCUMENTS: [&str; Kind::ALL.len()] = {
    let mut names = [""; Kind::ALL.len()];
    let mut index = 0;
    while index < names.len() {
        names[index] = Kind::ALL[index].0;
        index += 1;
    }
    names
};

/// What the exit codes mean. Source: sysexits(3), as far as they are used.
pub(super) const EXIT_CODES: &[(u8, &str)] = &[
    (0, "done"),
    (64, "usage"),
    (65, "bad data found"),
    (69, "service unavailable"),
    (74, "I/O"),
    (75, "temporary failure"),
    (77, "permission or credentials"),
    (78, "configuration"),
];

/// The commands themselves, groups opened, each with its words: `["spool", "ls"]`.
pub(super) fn leaves() -> Vec<(Vec<&'static str>, &'static Spec)> {
    let mut found = Vec::new();
    for spec in COMMANDS {
        match &spec.does {
            Does::Command(_) => found.push((vec![spec.name], spec)),
            Does::Group(inner) => found.extend(inner.iter().map(|leaf| (vec![spec.name, leaf.name], leaf))),
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::error::Exit;

    #[test]
    fn names_are_words_and_stand_once() {
        let word = |name: &str| !name.is_empty() && name.chars().all(|c| c.is_ascii_lowercase() || c == '-');
        let mut seen = HashSet::new();
        for (words, spec) in leaves() {
            assert!(words.iter().all(|name| word(name)), "{words:?}");
            assert!(seen.insert(words.clone()), "{words:?} stands twice");
            let options: HashSet<_> = spec.options.iter().map(|option| option.name).collect();
            assert_eq!(options.len(), spec.options.len(), "{words:?}: an option stands twice");
            assert!(
                spec.options.iter().all(|option| word(option.name) && option.name != "help"),
                "{words:?}"
            );
        }
    }

    #[test]
    fn what_the_help_says_of_a_line_fits_a_line() {
        for (words, spec) in leaves() {
            let abouts = spec.options.iter().map(|option| option.about).chain([spec.about]);
            for about in abouts.chain(spec.operands.iter().map(|operands| operands.about)) {
                assert!(
                    about.len() <= 100 && !about.ends_with('.') && !about.contains('\n'),
                    "{words:?}: {about}"
                );
            }
        }
    }

    #[test]
    fn groups_do_not_nest_and_take_nothing_themselves() {
        for group in COMMANDS {
            if let Does::Group(inner) = &group.does {
                assert!(inner.iter().all(|leaf| matches!(leaf.does, Does::Command(_))), "{}", group.name);
                assert!(group.options.is_empty() && group.operands.is_none(), "{}", group.name);
            }
        }
    }

    #[test]
    fn every_exit_code_has_its_meaning() {
        let used = [
            Exit::Done,
            Exit::Usage,
            Exit::Data,
            Exit::Unavailable,
            Exit::Io,
            Exit::Temporary,
            Exit::Permission,
            Exit::Config,
        ];
        assert!(used.iter().map(|exit| *exit as u8).eq(EXIT_CODES.iter().map(|(code, _)| *code)));
    }

    #[test]
    fn the_help_of_config_names_its_default() {
        assert!(CONFIG.about.contains(CONFIG_PATH));
    }
}
