//! What `trailspool init` needs to know, in the order in which it asks. A core.
//!
//! Each question is an option of the command line too, so the same list serves a person at a terminal and a script that
//! prepares a hundred boxes. Secrets are none of these: they are asked for without being shown ([`super::terminal`]),
//! never taken from a command line, which every user of the machine can read.

use std::collections::BTreeMap;

/// Something to be known.
#[derive(Debug, Clone, Copy)]
pub struct Question {
    /// The option, without its dashes; answers go by it.
    pub name: &'static str,
    /// How the help calls the value: `BUCKET`.
    pub value: &'static str,
    /// What is asked, in one line: lower case, no full stop.
    pub asks: &'static str,
    /// What answers look like; shown to a person.
    pub hint: &'static str,
    /// What no answer means.
    pub default: &'static str,
    /// Whether it can be left out, and whether a person is asked.
    pub need: Need,
    /// All that it may be; empty: anything.
    pub words: &'static [&'static str],
    /// Keys of the configuration that can be at fault because of it.
    pub keys: &'static [&'static str],
    /// The other answers that it belongs to: in words, and whether they are so.
    pub with: (&'static str, fn(&Answers) -> bool),
}

/// How much an answer is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// There is no default.
    Required,
    /// The default does.
    Optional,
    /// The default does for nearly everybody: a person is not asked.
    Option,
}

/// What is known, by [`Question::name`]; without defaults.
pub type Given = BTreeMap<&'static str, String>;

/// What is known, defaults included.
#[derive(Debug, Default, Clone)]
pub struct Answers(pub Given);

impl Answers {
    /// The answer, or the question's default; empty where there is neither.
    pub fn get(&self, name: &str) -> &str {
        let default = || QUESTIONS.iter().find(|question| question.name == name).map_or("", |q| q.default);
        self.0.get(name).map_or_else(default, String::as_str)
    }

    /// Whether the question is of use beside the other answers.
    pub fn applies(&self, question: &Question) -> bool {
        (question.with.1)(self)
    }

    /// Whether requests go to a URL.
    pub fn posts(&self) -> bool {
        HTTP.contains(&self.get("output"))
    }

    /// Whether records go over a connection of their own.
    pub fn streams(&self) -> bool {
        STREAMS.contains(&self.get("output"))
    }
}

/// What has to be known and is not.
pub fn missing(answers: &Answers) -> impl Iterator<Item = &'static Question> {
    QUESTIONS.iter().filter(|question| {
        question.need == Need::Required && answers.applies(question) && answers.get(question.name).is_empty()
    })
}

/// What was said although it has no place: each in a sentence.
pub fn misplaced(answers: &Answers) -> Vec<String> {
    let said = QUESTIONS.iter().filter(|question| answers.0.contains_key(question.name));
    said.filter(|question| !answers.applies(question))
        .map(|question| format!("--{} goes with {} only", question.name, question.with.0))
        .collect()
}

const HTTP: [&str; 4] = ["http", "splunk-hec", "elastic-bulk", "loki"];
const STREAMS: [&str; 3] = ["syslog", "relp", "tcp"];
const ALWAYS: (&str, fn(&Answers) -> bool) = ("", |_| true);
const IAM_USER: (&str, fn(&Answers) -> bool) =
    ("--credentials iam-user", |answers| answers.get("credentials") == "iam-user");
const RECEIVER: (&str, fn(&Answers) -> bool) = ("an output over HTTP", Answers::posts);

const PLAIN: Question = Question {
    name: "",
    value: "",
    asks: "",
    hint: "",
    default: "",
    need: Need::Required,
    words: &[],
    keys: &[],
    with: ALWAYS,
};

/// All of them.
pub const QUESTIONS: &[Question] = &[
    Question {
        name: "bucket",
        value: "BUCKET",
        asks: "S3 bucket with the trail",
        hint: "its name, or name/folder",
        keys: &["bucket"],
        ..PLAIN
    },
    Question {
        name: "region",
        value: "REGION",
        asks: "region of the bucket",
        hint: "such as us-west-2",
        keys: &["region"],
        ..PLAIN
    },
    Question {
        name: "key-prefix",
        value: "PREFIX",
        asks: "key prefix of the trail",
        hint: "empty unless the trail was given one",
        need: Need::Optional,
        keys: &["key_prefix"],
        ..PLAIN
    },
    Question {
        name: "queue-url",
        value: "URL",
        asks: "URL of an SQS queue that is told of new objects",
        hint: "empty: the bucket is listed every five minutes",
        need: Need::Optional,
        keys: &["queue_url"],
        ..PLAIN
    },
    Question {
        name: "start",
        value: "WHEN",
        asks: "how far back the first run goes",
        hint: "now, a time such as 24h or 7d, a date such as 2026-01-31, or all",
        default: "24h",
        need: Need::Optional,
        keys: &["start"],
        ..PLAIN
    },
    Question {
        name: "endpoint",
        value: "URL",
        asks: "S3-compatible store or VPC endpoint, instead of AWS",
        need: Need::Option,
        keys: &["endpoint"],
        ..PLAIN
    },
    Question {
        name: "credentials",
        value: "METHOD",
        asks: "whose credentials sign the requests",
        default: "iam-user",
        need: Need::Optional,
        words: &["iam-user", "ec2-role", "ecs", "profile", "default"],
        ..PLAIN
    },
    Question {
        name: "access-key-id",
        value: "ID",
        asks: "access key id of the IAM user",
        hint: "AKIA and 16 more",
        keys: &["access_key_id"],
        with: IAM_USER,
        ..PLAIN
    },
    Question {
        name: "secret-key-file",
        value: "FILE",
        asks: "a file with the secret access key that is there already",
        need: Need::Option,
        keys: &["secret_key_file"],
        with: IAM_USER,
        ..PLAIN
    },
    Question {
        name: "secret-key-credential",
        value: "NAME",
        asks: "a systemd credential with the secret access key",
        need: Need::Option,
        keys: &["secret_key_credential"],
        with: IAM_USER,
        ..PLAIN
    },
    Question {
        name: "profile",
        value: "NAME",
        asks: "profile of the files that AWS's tools share",
        default: "default",
        need: Need::Optional,
        keys: &["profile"],
        with: ("--credentials profile", |answers| answers.get("credentials") == "profile"),
        ..PLAIN
    },
    Question {
        name: "assume-role",
        value: "ARN",
        asks: "role to assume with these credentials",
        hint: "empty: none",
        need: Need::Optional,
        keys: &["assume_role"],
        ..PLAIN
    },
    Question {
        name: "external-id",
        value: "ID",
        asks: "external id that the role's trust policy asks for",
        hint: "empty: none",
        need: Need::Optional,
        keys: &["external_id"],
        with: ("--assume-role", |answers| !answers.get("assume-role").is_empty()),
        ..PLAIN
    },
    Question {
        name: "output",
        value: "KIND",
        asks: "where records go",
        words: &["http", "splunk-hec", "elastic-bulk", "loki", "syslog", "relp", "tcp", "file", "stdout"],
        ..PLAIN
    },
    Question {
        name: "to",
        value: "PLACE",
        asks: "its URL; HOST:PORT for syslog, relp and tcp; the path of a file",
        keys: &["url", "address", "path"],
        with: ("an output other than stdout", |answers| !matches!(answers.get("output"), "" | "stdout")),
        ..PLAIN
    },
    Question {
        name: "transport",
        value: "TRANSPORT",
        asks: "how it is reached",
        default: "tls",
        need: Need::Optional,
        words: &["tls", "tcp", "udp"],
        keys: &["transport"],
        with: ("an output of kind syslog, relp or tcp", Answers::streams),
        ..PLAIN
    },
    Question {
        name: "ca-file",
        value: "FILE",
        asks: "PEM certificates that the receiver is trusted by, instead of the system's",
        need: Need::Option,
        keys: &["ca_file"],
        with: ("an output over HTTP or TLS", |answers| {
            answers.posts() || (answers.streams() && answers.get("transport") == "tls")
        }),
        ..PLAIN
    },
    Question {
        name: "index",
        value: "NAME",
        asks: "index that documents go to",
        hint: "such as cloudtrail",
        keys: &["index"],
        with: ("--output elastic-bulk", |answers| answers.get("output") == "elastic-bulk"),
        ..PLAIN
    },
    Question {
        name: "token-file",
        value: "FILE",
        asks: "a file with the receiver's token or API key that is there already",
        need: Need::Option,
        keys: &["bearer_token_file", "splunk_token_file", "api_key_file"],
        with: RECEIVER,
        ..PLAIN
    },
    Question {
        name: "token-credential",
        value: "NAME",
        asks: "a systemd credential with the receiver's token or API key",
        need: Need::Option,
        keys: &["bearer_token_credential", "splunk_token_credential", "api_key_credential"],
        with: RECEIVER,
        ..PLAIN
    },
    Question {
        name: "format",
        value: "FORMAT",
        asks: "what is written for each record: its bytes, or an envelope around them",
        default: "raw",
        need: Need::Option,
        words: &["raw", "envelope"],
        keys: &["format"],
        ..PLAIN
    },
    Question {
        name: "state-dir",
        value: "DIR",
        asks: "where the spool and everything else durable lives",
        need: Need::Option,
        keys: &["state_dir"],
        ..PLAIN
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    fn answers(given: &[(&'static str, &str)]) -> Answers {
        Answers(given.iter().map(|(name, answer)| (*name, (*answer).to_owned())).collect())
    }

    fn names(questions: impl Iterator<Item = &'static Question>) -> Vec<&'static str> {
        questions.map(|question| question.name).collect()
    }

    #[test]
    fn what_is_missing_depends_on_what_was_said() {
        let none = answers(&[]);
        assert_eq!(names(missing(&none)), ["bucket", "region", "access-key-id", "output"]);
        let role = answers(&[("credentials", "ec2-role"), ("output", "elastic-bulk"), ("bucket", "b")]);
        assert_eq!(names(missing(&role)), ["region", "to", "index"]);
        let stdout = answers(&[("credentials", "default"), ("output", "stdout")]);
        assert_eq!(names(missing(&stdout)), ["bucket", "region"]);
    }

    #[test]
    fn an_option_without_its_place_is_told_with_what_it_goes() {
        let given = answers(&[("profile", "audit"), ("transport", "tcp"), ("output", "http"), ("to", "x")]);
        assert_eq!(
            misplaced(&given),
            [
                "--profile goes with --credentials profile only",
                "--transport goes with an output of kind syslog, relp or tcp only"
            ]
        );
    }

    #[test]
    fn a_default_is_one_of_the_words() {
        for question in QUESTIONS.iter().filter(|question| !question.words.is_empty()) {
            assert!(
                question.default.is_empty() || question.words.contains(&question.default),
                "{}",
                question.name
            );
        }
    }
}
