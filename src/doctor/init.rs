//! `trailspool init`: writes a configuration by asking, or by options, and ends with a check of it.
//!
//! | file | what |
//! |---|---|
//! | `question` | what has to be known, in order (a core) |
//! | `template` | the configuration with what is known (a core) |
//! | `terminal` | asks a person |
//! | `place` | writes files whole or not at all |
//!
//! What holds: nothing is written before every answer is one that the agent accepts; what stood there is kept; a secret is
//! never on the command line, never shown, and in a file that its owner alone can read.

mod place;
pub mod question;
mod template;
mod terminal;

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use zeroize::Zeroizing;

use self::place::Existing;
use self::question::{Answers, Given, Need, QUESTIONS, Question};
use crate::config;
use crate::error::Exit;

/// What `init` was asked to do.
#[derive(Debug, PartialEq, Eq)]
pub struct Request {
    /// The file to write.
    pub config: PathBuf,
    /// The configuration of the package: its secrets reach the agent by the unit.
    pub packaged: bool,
    /// What is known already.
    pub given: Given,
    /// What stands there may be replaced.
    pub force: bool,
    /// Ends with a check.
    pub check: bool,
}

/// Why nothing was written.
struct Stop(Exit, String);

/// A secret, and the two options that say where it is.
struct Wanted {
    /// Its file, when nothing else is said.
    name: &'static str,
    what: &'static str,
    file: &'static str,
    credential: &'static str,
}

const SECRET_KEY: Wanted = Wanted {
    name: "secret_key",
    what: "secret access key",
    file: "secret-key-file",
    credential: "secret-key-credential",
};
const TOKEN: Wanted = Wanted {
    name: "output_token",
    what: "token or API key of the receiver",
    file: "token-file",
    credential: "token-credential",
};

/// The command.
pub fn main(request: &Request) -> ExitCode {
    match init(request) {
        Ok(()) if request.check => {
            let exit = super::checked(&request.config, false);
            if exit == Exit::Done && request.packaged {
                say("start it: systemctl enable --now trailspool");
            }
            exit.into()
        }
        Ok(()) => Exit::Done.into(),
        Err(Stop(exit, text)) => {
            say(&text);
            exit.into()
        }
    }
}

fn init(request: &Request) -> Result<(), Stop> {
    let mut answers = Answers(request.given.clone());
    if let Some(text) = joined(question::misplaced(&answers)) {
        return Err(Stop(Exit::Usage, text));
    }
    let path = std::path::absolute(&request.config).map_err(|error| failed(&request.config, &error))?;
    place::folder_of(&path, 0o755).map_err(|error| failed(&path, &error))?;
    let asking = terminal::is_there() && question::missing(&answers).next().is_some();
    let existing = place::existing(&path);
    if existing == Existing::Work && !request.force {
        may_replace(&path, asking)?;
    }
    if asking {
        ask_all(&mut answers, &path)?;
    }
    if let Some(text) = joined(missing(&answers)) {
        return Err(Stop(Exit::Usage, text));
    }
    let secrets = secrets(&mut answers, request.packaged, &path, asking)?;
    let text = template::render(&answers);
    let later = secrets.iter().flat_map(|secret| secret.keys);
    if let Some(text) = joined(faults(&answers, &text, &path, &later.copied().collect::<Vec<_>>())) {
        return Err(Stop(Exit::Config, text));
    }
    for secret in &secrets {
        secret.put()?;
    }
    if existing != Existing::Nothing {
        place::keep(&path).map_err(|error| failed(&place::kept_as(&path), &error))?;
        say(&format!("what stood in {} is kept as {}", path.display(), place::kept_as(&path).display()));
    }
    place::write(&path, text.as_bytes(), 0o644).map_err(|error| failed(&path, &error))?;
    say(&format!("written: {}", path.display()));
    Ok(())
}

fn may_replace(path: &Path, asking: bool) -> Result<(), Stop> {
    let (shown, kept) = (path.display(), place::kept_as(path));
    let kept = kept.display();
    let answer = match asking {
        true => {
            answer(terminal::ask(&format!("{shown} is there; replace it, and keep it as {kept}? [no]: ")))?
        }
        false => String::new(),
    };
    match matches!(&*answer, "y" | "yes") {
        true => Ok(()),
        false => {
            let text =
                format!("{shown} is there and was left alone; --force replaces it and keeps it as {kept}");
            Err(Stop(Exit::Config, text))
        }
    }
}

/// Asks for everything that was not given, each until it is right.
fn ask_all(answers: &mut Answers, path: &Path) -> Result<(), Stop> {
    say("An empty answer takes what stands in brackets.");
    for question in QUESTIONS {
        let known = answers.0.contains_key(question.name) || question.need == Need::Option;
        if known || !answers.applies(question) {
            continue;
        }
        loop {
            let given = answer(terminal::ask(&prompt(question)))?;
            let wrong = match (&*given, question.need, question.words) {
                ("", Need::Required, _) => vec!["this has no default".to_owned()],
                ("", ..) => break,
                (word, _, words) if !words.is_empty() && !words.contains(&word) => {
                    vec![format!("one of these: {}", words.join(", "))]
                }
                _ => {
                    answers.0.insert(question.name, given);
                    own_faults(question, answers, path)
                }
            };
            if wrong.is_empty() {
                break;
            }
            answers.0.remove(question.name);
            wrong.iter().for_each(|text| say(&format!("  {text}")));
        }
    }
    Ok(())
}

fn prompt(question: &Question) -> String {
    let hint = match (question.words, question.hint) {
        ([], "") => String::new(),
        ([], hint) => format!(" ({hint})"),
        (words, _) => format!(" ({})", words.join(", ")),
    };
    let default = match question.default {
        "" => String::new(),
        default => format!(" [{default}]"),
    };
    format!("{}{hint}{default}: ", question.asks)
}

fn missing(answers: &Answers) -> Vec<String> {
    question::missing(answers)
        .map(|question| format!("--{} {} is missing: {}", question.name, question.value, question.asks))
        .collect()
}

/// What the agent would say of this answer, whatever is still missing.
fn own_faults(question: &Question, answers: &Answers, path: &Path) -> Vec<String> {
    let text = template::render(answers);
    let found = config::parse_here(&text, path).err().map(|faults| faults.faults).unwrap_or_default();
    let own = found.into_iter().filter(|fault| question.keys.contains(&key_at(&text, fault.line)));
    own.map(|fault| fault.text).collect()
}

/// What the agent would say of the whole, but for these keys: what they name is about to be written.
fn faults(answers: &Answers, text: &str, path: &Path, later: &[&str]) -> Vec<String> {
    let found = config::parse_here(text, path).err().map(|faults| faults.faults).unwrap_or_default();
    let found = found.into_iter().filter(|fault| !later.contains(&key_at(text, fault.line)));
    found
        .map(|fault| {
            let key = key_at(text, fault.line);
            let of =
                QUESTIONS.iter().find(|question| answers.applies(question) && question.keys.contains(&key));
            match of {
                Some(question) => format!("--{}: {}", question.name, fault.text),
                None => format!("{}: {}", fault.place, fault.text),
            }
        })
        .collect()
}

/// The key that stands on a line.
fn key_at(text: &str, line: usize) -> &str {
    let line = line.checked_sub(1).and_then(|before| text.lines().nth(before)).unwrap_or("");
    line.split_once('=').map_or("", |(key, _)| key.trim())
}

/// A secret that the configuration names and that is not there yet.
struct Secret {
    what: &'static str,
    /// The keys that name it.
    keys: &'static [&'static str],
    path: PathBuf,
    /// What was typed; `None`: somebody puts it there.
    typed: Option<Zeroizing<String>>,
}

/// Gives each secret that is needed a place, unless it has one, and asks for it.
fn secrets(answers: &mut Answers, packaged: bool, config: &Path, asking: bool) -> Result<Vec<Secret>, Stop> {
    let mut secrets = Vec::new();
    let iam_user = answers.get("credentials") == "iam-user";
    let needed =
        [(SECRET_KEY, iam_user, true), (TOKEN, answers.posts(), answers.get("output") == "splunk-hec")];
    for (wanted, applies, required) in needed {
        let placed = [wanted.file, wanted.credential].iter().any(|option| answers.0.contains_key(option));
        if !applies || placed {
            continue;
        }
        let path = match packaged {
            true => Path::new(config::CREDENTIALS).join(wanted.name),
            false => config.with_file_name(wanted.name),
        };
        let typed = if asking { ask_secret(wanted.what, &path, required)? } else { None };
        if !required && typed.is_none() && !(asking && path.exists()) {
            continue;
        }
        let (option, place) = match packaged {
            true => (wanted.credential, wanted.name.to_owned()),
            false => (wanted.file, path.display().to_string()),
        };
        answers.0.insert(option, place);
        let keys = QUESTIONS.iter().find(|question| question.name == option).map_or(&[][..], |q| q.keys);
        secrets.push(Secret { what: wanted.what, keys, path, typed });
    }
    Ok(secrets)
}

fn ask_secret(what: &str, path: &Path, required: bool) -> Result<Option<Zeroizing<String>>, Stop> {
    let empty = match (path.exists(), required) {
        (true, _) => "empty: what is there stays",
        (false, true) => "empty: you put it there yourself",
        (false, false) => "empty: there is none",
    };
    let asked = terminal::ask_hidden(&format!("{what}, not shown, for {} ({empty}): ", path.display()));
    Ok(Some(answer(asked)?).filter(|typed| !typed.is_empty()))
}

impl Secret {
    /// Writes what was typed, or says where it belongs.
    fn put(&self) -> Result<(), Stop> {
        let shown = self.path.display();
        match &self.typed {
            Some(typed) => place::folder_of(&self.path, 0o700)
                .and_then(|_| place::write(&self.path, typed.as_bytes(), 0o600))
                .map_err(|error| failed(&self.path, &error)),
            None if self.path.exists() => Ok(()),
            None => {
                let what = self.what;
                say(&format!(
                    "put the {what} into {shown}, readable by its owner only: (umask 077 && cat >{shown})"
                ));
                Ok(())
            }
        }
    }
}

fn answer<T>(asked: io::Result<Option<T>>) -> Result<T, Stop> {
    match asked {
        Ok(Some(answer)) => Ok(answer),
        Ok(None) => Err(Stop(Exit::Usage, "\nthe input ended: nothing was written".to_owned())),
        Err(error) => Err(Stop(Exit::Io, format!("the terminal cannot be read: {error}"))),
    }
}

fn say(text: &str) {
    // A terminal that went away hears nothing; the files are what counts.
    let _ = terminal::show(&format!("{text}\n"));
}

fn failed(path: &Path, error: &io::Error) -> Stop {
    let (exit, hint) = match error.kind() {
        io::ErrorKind::PermissionDenied => {
            (Exit::Permission, "; run this as root, or write elsewhere with --config FILE")
        }
        _ => (Exit::Io, ""),
    };
    Stop(exit, format!("{} cannot be written: {error}{hint}", path.display()))
}

/// All of them, one a line.
fn joined(texts: Vec<String>) -> Option<String> {
    (!texts.is_empty()).then(|| texts.join("\n"))
}
