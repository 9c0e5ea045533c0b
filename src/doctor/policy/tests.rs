//! What the policies say, read back by another JSON parser.

use serde_json::{Value, json};

use super::*;
use crate::discover::testing;

const USER: &str = "arn:aws:iam::111122223333:user/reader";
const ROLE: &str = "arn:aws:iam::444455556666:role/logs";
const KEY: &str = "arn:aws:kms:us-west-2:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab";
const QUEUE: &str = "https://sqs.us-west-2.amazonaws.com/111122223333/trail-queue";

fn source(region: &str, prefix: &str) -> Source {
    Source { region: region.into(), bucket: "acme".into(), prefix: prefix.into(), ..testing::source("prod") }
}

fn with_role(source: Source, arn: &str) -> Source {
    let role = Role {
        arn: arn.into(),
        external_id: Some("ext-1".into()),
        session_name: "trailspool".into(),
        duration: std::time::Duration::from_secs(3600),
    };
    Source { credentials: Credentials::AssumeRole { base: Box::new(source.credentials), role }, ..source }
}

fn with_queue(source: Source, url: &str) -> Source {
    let queue = Queue::parse(url, &source.region).unwrap();
    Source { queue_url: Some(queue), ..source }
}

fn parsed(policies: &Policies, kind: Kind) -> Value {
    let mut of_kind = policies.documents.iter().filter(|document| document.kind == kind);
    let found = of_kind.next().unwrap_or_else(|| panic!("no {kind:?}"));
    assert!(of_kind.next().is_none());
    serde_json::from_str(&found.json).unwrap()
}

fn kinds(policies: &Policies) -> Vec<Kind> {
    policies.documents.iter().map(|document| document.kind).collect()
}

#[test]
fn a_reader_may_list_and_get_below_its_prefix_and_nothing_else() {
    let policies = policies(&source("us-west-2", "folder/"), &Setup::default()).unwrap();
    assert_eq!(kinds(&policies), [Kind::Iam]);
    assert_eq!(
        parsed(&policies, Kind::Iam),
        json!({"Version": "2012-10-17", "Statement": [
            {"Sid": "ListTrailLogs", "Effect": "Allow", "Action": "s3:ListBucket", "Resource": "arn:aws:s3:::acme",
             "Condition": {"StringLike": {"s3:prefix": ["folder/AWSLogs/*"]}}},
            {"Sid": "ReadTrailLogs", "Effect": "Allow", "Action": "s3:GetObject",
             "Resource": "arn:aws:s3:::acme/folder/AWSLogs/*"}
        ]})
    );
    assert!(policies.notes.iter().any(|note| note.contains("--principal")));
}

#[test]
fn every_arn_is_of_the_sources_partition() {
    for (region, partition, suffix) in [
        ("eu-west-1", "aws", "amazonaws.com"),
        ("us-gov-west-1", "aws-us-gov", "amazonaws.com"),
        ("cn-north-1", "aws-cn", "amazonaws.com.cn"),
    ] {
        let principal = Principal::parse(&USER.replace("arn:aws:", &format!("arn:{partition}:"))).unwrap();
        let key = KmsKey::parse(&KEY.replace("arn:aws:", &format!("arn:{partition}:"))).unwrap();
        let role = format!("arn:{partition}:iam::444455556666:role/logs");
        let url = format!("https://sqs.{region}.{suffix}/111122223333/trail-queue");
        let setup = Setup { principal: Some(&principal), kms_key: Some(&key) };
        let policies = policies(&with_queue(with_role(source(region, ""), &role), &url), &setup).unwrap();
        assert_eq!(
            kinds(&policies),
            [Kind::Iam, Kind::Assume, Kind::Trust, Kind::Bucket, Kind::Key, Kind::Queue, Kind::Notification]
        );
        for document in &policies.documents {
            serde_json::from_str::<Value>(&document.json).unwrap();
            let arns = document.json.matches("\"arn:").count();
            assert_eq!(
                arns,
                document.json.matches(&format!("\"arn:{partition}:")).count(),
                "{}",
                document.json
            );
            assert!(arns > 0 && !document.heading.contains('\n'), "{}", document.json);
        }
        let queue = parsed(&policies, Kind::Queue)["Statement"][0]["Resource"].clone();
        assert_eq!(queue, json!(format!("arn:{partition}:sqs:{region}:111122223333:trail-queue")));
    }
}

#[test]
fn what_belongs_to_another_partition_is_refused() {
    let principal = Principal::parse(USER).unwrap();
    let key = KmsKey::parse(KEY).unwrap();
    for setup in [
        Setup { principal: Some(&principal), ..Setup::default() },
        Setup { kms_key: Some(&key), ..Setup::default() },
    ] {
        let text = policies(&source("cn-north-1", ""), &setup).unwrap_err();
        assert!(text.contains("in partition aws-cn, but the ") && text.contains("is in aws:"), "{text}");
    }
    let foreign = with_role(source("cn-north-1", ""), ROLE);
    assert!(policies(&foreign, &Setup::default()).unwrap_err().contains("but the role is in aws:"));
}

/// IAM User Guide: `${*}`, `${?}` and `${$}` are the characters themselves.
#[test]
fn a_prefix_with_wildcards_quotes_and_variables_names_itself_alone() {
    let principal = Principal::parse(USER).unwrap();
    let setup = Setup { principal: Some(&principal), ..Setup::default() };
    let source = with_queue(source("us-west-2", "a*b?${aws:username}\"\\ü日/"), QUEUE);
    let policies = policies(&source, &setup).unwrap();
    let written = "a${*}b${?}${$}{aws:username}\"\\ü日/AWSLogs/*";
    for kind in [Kind::Iam, Kind::Bucket] {
        let statements = &parsed(&policies, kind)["Statement"];
        assert_eq!(statements[0]["Condition"]["StringLike"]["s3:prefix"][0], written);
        assert_eq!(statements[1]["Resource"], format!("arn:aws:s3:::acme/{written}"));
    }
    assert!(policies.documents.iter().all(|document| document.json.is_ascii()));
}

#[test]
fn a_role_has_the_permissions_and_trusts_the_base_credentials() {
    let principal = Principal::parse(USER).unwrap();
    let setup = Setup { principal: Some(&principal), ..Setup::default() };
    let source = with_role(source("us-west-2", ""), ROLE);
    let found = policies(&source, &setup).unwrap();
    let assume = &parsed(&found, Kind::Assume)["Statement"][0];
    assert_eq!((&assume["Action"], &assume["Resource"]), (&json!("sts:AssumeRole"), &json!(ROLE)));
    let trust = &parsed(&found, Kind::Trust)["Statement"][0];
    assert_eq!(trust["Principal"]["AWS"], USER);
    assert_eq!(trust["Condition"]["StringEquals"]["sts:ExternalId"], "ext-1");
    // The bucket meets the role, not who assumes it.
    assert_eq!(parsed(&found, Kind::Bucket)["Statement"][0]["Principal"]["AWS"], ROLE);

    let unknown = policies(&source, &Setup::default()).unwrap();
    assert_eq!(kinds(&unknown), [Kind::Iam, Kind::Assume, Kind::Bucket]);
    assert!(unknown.notes.iter().any(|note| note.contains("trust policy") && note.contains("--principal")));
}

#[test]
fn a_kms_key_is_allowed_when_asked_for() {
    let (principal, key) = (Principal::parse(USER).unwrap(), KmsKey::parse(KEY).unwrap());
    let setup = Setup { principal: Some(&principal), kms_key: Some(&key) };
    let found = policies(&source("us-west-2", ""), &setup).unwrap();
    let decrypt = &parsed(&found, Kind::Iam)["Statement"][2];
    assert_eq!((&decrypt["Action"], &decrypt["Resource"]), (&json!("kms:Decrypt"), &json!(KEY)));
    // In a key's own policy the key is "*".
    let own = &parsed(&found, Kind::Key)["Statement"][0];
    assert_eq!((&own["Principal"]["AWS"], &own["Resource"]), (&json!(USER), &json!("*")));
    let without = policies(&source("us-west-2", ""), &Setup::default()).unwrap();
    assert!(!without.documents[0].json.contains("kms"));
}

#[test]
fn a_queue_hears_from_this_bucket_alone_and_the_reader_may_empty_it() {
    let principal = Principal::parse(USER).unwrap();
    let setup = Setup { principal: Some(&principal), ..Setup::default() };
    let found = policies(&with_queue(source("us-west-2", "a b+ü/"), QUEUE), &setup).unwrap();
    let arn = "arn:aws:sqs:us-west-2:111122223333:trail-queue";
    let statements = &parsed(&found, Kind::Queue)["Statement"];
    assert_eq!(statements[0]["Principal"]["Service"], "s3.amazonaws.com");
    assert_eq!(statements[0]["Action"], "sqs:SendMessage");
    assert_eq!(statements[0]["Condition"]["ArnEquals"]["aws:SourceArn"], "arn:aws:s3:::acme");
    assert_eq!((&statements[1]["Principal"]["AWS"], &statements[1]["Resource"]), (&json!(USER), &json!(arn)));
    let actions = json!([
        "sqs:ReceiveMessage",
        "sqs:DeleteMessage",
        "sqs:ChangeMessageVisibility",
        "sqs:GetQueueAttributes"
    ]);
    assert_eq!(parsed(&found, Kind::Iam)["Statement"][2]["Action"], actions);
    assert_eq!(
        parsed(&found, Kind::Notification),
        json!({"QueueConfigurations": [{
            "Id": "trailspool-prod", "QueueArn": arn, "Events": ["s3:ObjectCreated:*"],
            "Filter": {"Key": {"FilterRules": [
                {"Name": "prefix", "Value": "a+b%2B%C3%BC/AWSLogs/"}, {"Name": "suffix", "Value": ".json.gz"}
            ]}}
        }]})
    );
}

#[test]
fn a_queue_that_s3_cannot_tell_is_noted() {
    let note = |url: &str, part: &str| {
        let policies = policies(&with_queue(source("us-west-2", ""), url), &Setup::default()).unwrap();
        policies.notes.iter().any(|note| note.contains(part))
    };
    assert!(note("https://sqs.us-west-2.amazonaws.com/111122223333/q.fifo", "FIFO"));
    assert!(note("https://sqs.eu-west-1.amazonaws.com/111122223333/q", "SNS"));
    assert!(!note(QUEUE, "FIFO") && !note(QUEUE, "SNS"));
    let foreign = with_queue(source("cn-north-1", ""), QUEUE);
    assert!(policies(&foreign, &Setup::default()).unwrap_err().contains("but the queue is in aws:"));
}

#[test]
fn arns_are_checked_before_they_enter_a_policy() {
    for right in [USER, "arn:aws-cn:iam::111122223333:role/a/b", "arn:aws:iam::111122223333:root"] {
        assert_eq!(&*Principal::parse(right).unwrap().0, right);
    }
    for wrong in [
        "",
        "*",
        "111122223333",
        "arn:aws:iam::1:user/x",
        "arn:aws:iam::111122223333:user/",
        "arn:aws:iam::111122223333:user/*",
        "arn:aws:s3:::acme",
        "arn:aws:iam::111122223333:user/x y",
    ] {
        assert!(
            Principal::parse(wrong).unwrap_err().contains("arn:aws:iam::111122223333:user/NAME"),
            "{wrong}"
        );
    }
    let session = Principal::parse("arn:aws-us-gov:sts::111122223333:assumed-role/box/i-0abc").unwrap_err();
    assert!(session.ends_with("arn:aws-us-gov:iam::111122223333:role/box"), "{session}");
    for wrong in
        ["", "arn:aws:kms:us-west-2:111122223333:alias/x", "arn:aws:kms:us-west-2:111122223333:key/*", "1234"]
    {
        assert!(KmsKey::parse(wrong).unwrap_err().contains("an alias does not do"), "{wrong}");
    }
}

#[test]
fn notes_say_what_policies_cannot() {
    let alias = Source { bucket: "trail-abc-s3alias".into(), request_payer: true, ..source("us-west-2", "") };
    let notes = policies(&alias, &Setup::default()).unwrap().notes.join("\n");
    assert!(notes.contains("access point's alias") && notes.contains("the requester pays"), "{notes}");
}
