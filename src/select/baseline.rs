//! The baseline filter: read-only noise is removed, reads that matter to security are kept. Which ones those are
//! stands in `baseline.txt`, with the reasons.

use std::sync::LazyLock;

use super::facts::{Facts, Keys, Place};
use crate::decode::field::Field;
use crate::decode::text;

/// The list, as `trailspool filter --baseline` prints it.
pub const TEXT: &str = include_str!("baseline.txt");

/// Which reads are kept, sorted by event source.
static KEPT: LazyLock<Box<[Entry]>> = LazyLock::new(|| {
    let mut entries: Box<[Entry]> = TEXT.lines().filter_map(Entry::parse).collect();
    entries.sort_by_key(|entry| entry.source);
    entries
});

/// Fields that decide. `eventID` is not among them: duplicates ask for that.
pub(super) const FIELDS: [&str; 8] = [
    "readOnly",
    "errorCode",
    "errorMessage",
    "eventCategory",
    "managementEvent",
    "userIdentity.type",
    "eventSource",
    "eventName",
];

struct Entry {
    source: &'static str,
    event: &'static str,
    condition: Option<(&'static str, &'static str)>,
}

impl Entry {
    /// `None`: the line is empty or a comment.
    fn parse(line: &'static str) -> Option<Entry> {
        let mut columns = line.split('|').map(str::trim);
        let (source, event, condition) = (columns.next()?, columns.next()?, columns.next()?);
        (!source.starts_with('#')).then_some(Entry { source, event, condition: condition.split_once('=') })
    }

    fn is_for(&self, event: &[u8]) -> bool {
        match self.event.strip_suffix('*') {
            Some(beginning) => event.starts_with(beginning.as_bytes()),
            None => event == self.event.as_bytes(),
        }
    }
}

/// Fields that the conditions of the list ask for.
pub(super) fn condition_fields() -> impl Iterator<Item = &'static str> {
    KEPT.iter().filter_map(|entry| entry.condition.map(|(path, _)| path))
}

/// The filter of one source.
pub(super) struct Baseline {
    read_only: Place,
    errors: [Place; 2],
    category: Place,
    management: Place,
    identity: Place,
    source: Place,
    event: Place,
    /// Where the condition of an entry looks, in the order of [`KEPT`].
    conditions: Box<[Option<Place>]>,
}

impl Baseline {
    /// For facts that are read with these keys.
    pub(super) fn new(keys: &Keys) -> Baseline {
        let [read_only, code, message, category, management, identity, source, event] =
            FIELDS.map(|path| keys.place(path));
        Baseline {
            read_only,
            errors: [code, message],
            category,
            management,
            identity,
            source,
            event,
            conditions: KEPT.iter().map(|entry| entry.condition.map(|(path, _)| keys.place(path))).collect(),
        }
    }

    /// Whether the record is a read that nobody needs. Never so when one of the fields cannot be read.
    pub(super) fn is_noise(&self, facts: &Facts<'_>) -> bool {
        let at = |place| facts.at(place);
        let nothing = |place| matches!(at(place), Field::Absent | Field::Null);
        is(at(&self.read_only), "true")
            && self.errors.iter().all(nothing)
            && (nothing(&self.category) || is(at(&self.category), "Management"))
            && (nothing(&self.management) || is(at(&self.management), "true"))
            && self.is_not_root(facts)
            && self.is_not_listed(facts)
    }

    fn is_not_root(&self, facts: &Facts<'_>) -> bool {
        match facts.at(&self.identity) {
            Field::Text(kind) => !text::is(kind, b"Root"),
            Field::Absent | Field::Null => true,
            _ => false,
        }
    }

    fn is_not_listed(&self, facts: &Facts<'_>) -> bool {
        let (Field::Text(source), Field::Text(event)) = (facts.at(&self.source), facts.at(&self.event))
        else {
            return false;
        };
        let (mut buffer, mut buffer_of_event) = (Vec::new(), Vec::new());
        let (Ok(source), Ok(event)) =
            (text::unescape(source, &mut buffer), text::unescape(event, &mut buffer_of_event))
        else {
            return false;
        };
        let first = KEPT.partition_point(|entry| entry.source.as_bytes() < source);
        let of_source = KEPT[first..].iter().take_while(|entry| entry.source.as_bytes() == source);
        !of_source.zip(&self.conditions[first..]).any(|(entry, place)| {
            entry.is_for(event)
                && match (entry.condition, place) {
                    (Some((_, wanted)), Some(place)) => match facts.at(place) {
                        Field::Absent | Field::Null | Field::Bool(false) => false,
                        // A read of what cannot be read is kept.
                        Field::Unreadable => true,
                        found => is(found, wanted),
                    },
                    _ => true,
                }
        })
    }
}

/// Whether a text or a boolean says this. Other tools write `"readOnly": "true"`.
fn is(field: Field<'_>, wanted: &str) -> bool {
    match field {
        Field::Text(raw) => text::is(raw, wanted.as_bytes()),
        Field::Bool(value) => wanted == if value { "true" } else { "false" },
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_noise(record: &str) -> bool {
        let keys = Keys::new(FIELDS.into_iter().chain(condition_fields()));
        Baseline::new(&keys).is_noise(&keys.read(record.as_bytes().into()))
    }

    fn read(source: &str, event: &str, more: &str) -> String {
        format!(
            r#"{{"userIdentity":{{"type":"IAMUser"}},"eventSource":"{source}.amazonaws.com","eventName":"{event}",{more}"readOnly":true}}"#
        )
    }

    #[test]
    fn a_plain_read_is_noise_and_a_change_is_not() {
        assert!(is_noise(&read("ec2", "DescribeInstances", "")));
        assert!(is_noise(&read(
            "ec2",
            "DescribeInstances",
            r#""eventCategory":"Management","errorCode":null,"#
        )));
        assert!(is_noise(&read("ec2", "DescribeInstances", "").replace("true", "\"true\"")));
        assert!(!is_noise(&read("ec2", "DescribeInstances", "").replace("true", "false")));
        assert!(!is_noise(r#"{"eventSource":"ec2.amazonaws.com","eventName":"DescribeInstances"}"#));
    }

    #[test]
    fn what_failed_and_what_root_did_stays() {
        assert!(!is_noise(&read("ec2", "DescribeInstances", r#""errorCode":"AccessDenied","#)));
        assert!(!is_noise(&read("ec2", "DescribeInstances", r#""errorMessage":"denied","#)));
        assert!(!is_noise(&read("ec2", "DescribeInstances", "").replace("IAMUser", "Root")));
    }

    #[test]
    fn data_insight_and_network_events_stay() {
        for more in [
            r#""eventCategory":"Data","#,
            r#""managementEvent":false,"#,
            r#""eventCategory":"Insight","#,
            r#""eventCategory":"NetworkActivity","#,
        ] {
            assert!(!is_noise(&read("s3", "GetObject", more)), "{more}");
        }
    }

    #[test]
    fn reads_that_matter_to_security_stay() {
        for (source, event, stays) in [
            ("sts", "AssumeRole", true),
            ("sts", "AssumeRoleWithSAML", true),
            ("sts", "GetSessionToken", true),
            ("sts", "GetFederationToken", true),
            ("secretsmanager", "GetSecretValue", true),
            ("secretsmanager", "ListSecrets", false),
            ("kms", "Decrypt", true),
            ("kms", "DecryptNot", false),
            ("kms", "ListKeys", false),
            ("ec2", "GetPasswordData", true),
            ("s3", "GetPasswordData", false),
            ("signin", "GetSigninToken", true),
            ("sts", "Assume\\u0052ole", true),
            ("st\\u0073", "AssumeRole", true),
            ("sts", "Assume\\x", true),
        ] {
            assert_eq!(!is_noise(&read(source, event, "")), stays, "{source} {event}");
        }
    }

    #[test]
    fn a_parameter_is_a_secret_when_it_is_decrypted() {
        for (parameters, stays) in [
            (r#"{"name":"/db","withDecryption":true}"#, true),
            (r#"{"withDecryption":"true"}"#, true),
            (r#"{"withDecryption":false}"#, false),
            (r#"{"name":"/db"}"#, false),
            ("null", false),
            (r#"{"withDecryption":tru}"#, true),
        ] {
            let more = format!(r#""requestParameters":{parameters},"#);
            for event in ["GetParameter", "GetParameters", "GetParametersByPath"] {
                assert_eq!(!is_noise(&read("ssm", event, &more)), stays, "{event} {parameters}");
            }
        }
    }

    #[test]
    fn a_record_that_cannot_be_read_stays() {
        for record in [
            "",
            "{",
            r#"{"readOnly":true"#,
            r#"{"readOnly":true,"eventName":1,"eventSource":"ec2.amazonaws.com"}"#,
            r#"{"readOnly":true,"eventName":"List"}"#,
            r#"{"readOnly":true,"eventName":"List","eventSource":"ec2.amazonaws.com","userIdentity":{"type" "x"}}"#,
            r#"{"readOnly":true,"eventName":"List","eventSource":"ec2.amazonaws.com","errorCode":}"#,
        ] {
            assert!(!is_noise(record), "{record}");
        }
    }

    #[test]
    fn every_line_of_the_list_has_its_columns_and_a_reason() {
        assert!(TEXT.starts_with("# trailspool baseline "));
        let lines = TEXT.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        for line in lines.clone() {
            let columns: Vec<&str> = line.split('|').map(str::trim).collect();
            let [source, event, condition, reason] = columns[..] else { panic!("{line}") };
            assert!(source.ends_with(".amazonaws.com") && !event.is_empty() && !reason.is_empty(), "{line}");
            assert_eq!(condition.is_empty(), !condition.contains('='), "{line}");
        }
        assert_eq!(lines.count(), KEPT.len());
    }
}
