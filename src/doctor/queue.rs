//! What a queue's attributes tell an operator, and what to do when they cannot be had. A core.

use std::time::Duration;

use super::finding::{Finding, Kind};
use crate::aws::Fault;
use crate::aws::sqs::Attributes;
use crate::config::Queue;

/// It can be reached, it exists, and may be asked.
pub const QUEUE: &str = "queue";
/// How it is set up.
pub const SET_UP: &str = "queue-set-up";

/// A hiding time below this is shorter than what it takes to collect ten objects on a bad day.
const VISIBILITY: Duration = Duration::from_secs(30);
/// The default of SQS. An agent that is off for a long weekend finds everything.
const RETENTION: Duration = Duration::from_secs(4 * 86_400);
/// A message is received anew whenever an agent is restarted.
const RECEIPTS: u32 = 5;
/// The key that AWS manages for SQS, which S3, SNS and EventBridge may not use. Source: S3 User Guide, "Granting
/// permissions to publish event notification messages to a destination".
const MANAGED_KEY: &str = "alias/aws/sqs";

/// A failed request as a finding; `who`: the ARN of who signs, where that is known.
pub fn of_fault(fault: &Fault, queue: &Queue, who: Option<&str>) -> Finding {
    let policy = who.map_or_else(|| "the IAM policy".to_owned(), |arn| format!("the IAM policy of {arn}"));
    let Queue { url, region, account, name, .. } = queue;
    let (kind, what, fix) = match fault.cause {
        "no-queue" => (
            Kind::Config,
            format!("there is no queue {name} of account {account} in region {region}"),
            format!(
                "correct `queue_url`: `aws sqs get-queue-url --queue-name {name} --queue-owner-aws-account-id {account} \
                 --region {region}` prints it"
            ),
        ),
        "queue-denied" => (
            Kind::Permission,
            format!("queue {name} may not be read"),
            format!(
                "add to {policy}: `{{\"Effect\":\"Allow\",\"Action\":[\"sqs:ReceiveMessage\",\"sqs:DeleteMessage\",\
                 \"sqs:ChangeMessageVisibility\",\"sqs:GetQueueAttributes\"],\"Resource\":\"{}\"}}`, and allow the same in \
                 the queue's own policy if it is another account's: `trailspool policy` prints both",
                queue.arn()
            ),
        ),
        "kms-denied" => (
            Kind::Permission,
            format!("queue {name} may not be read: it is encrypted with a KMS key that may not be used"),
            format!(
                "allow kms:Decrypt on the queue's key in {policy}, and in the key's own policy if it is another account's; \
                 `aws sqs get-queue-attributes --queue-url {url} --attribute-names KmsMasterKeyId` names it"
            ),
        ),
        "wrong-region" => (
            Kind::Config,
            format!("{} is not where the queue's requests are signed for, {region}", host(queue)),
            "write `queue_url` as `aws sqs get-queue-url` prints it, with the queue's own region in its host".to_owned(),
        ),
        "not-sqs" | "not-http" | "bad-answer" => (
            Kind::Config,
            format!("{} does not answer as SQS does", host(queue)),
            "check the host of `queue_url`, and whether a proxy or a captive portal answers instead".to_owned(),
        ),
        "signature" | "access-key" | "expired" => (
            Kind::Permission,
            format!("queue {name} cannot be asked: the credentials are not accepted"),
            "see what is found of `credentials`; a queue in another partition needs a source of its own".to_owned(),
        ),
        "clock" => (
            Kind::Unavailable,
            "this machine's clock is too far from the server's".to_owned(),
            "set the clock: `timedatectl set-ntp true`".to_owned(),
        ),
        "refused" | "config" => {
            (Kind::Config, format!("asking queue {name} is refused"), "check `queue_url`".to_owned())
        }
        _ => (
            Kind::Unavailable,
            format!("{} does not answer for queue {name}", host(queue)),
            "let this machine reach it (name, route, firewall, `proxy`); a VPC needs an interface endpoint of SQS"
                .to_owned(),
        ),
    };
    let why = if fault.said.is_empty() { fault.text.clone() } else { fault.said.to_string() };
    Finding::fail(QUEUE, kind, what, why, fix)
}

fn host(queue: &Queue) -> &str {
    queue.endpoint.authority().map_or("", |authority| authority.as_str())
}

/// The queue answers: what is in it, and each thing about it that somebody should know.
pub fn of_attributes(attributes: &Attributes, queue: &Queue) -> Vec<Finding> {
    let mut findings = vec![Finding::ok(QUEUE, in_it(attributes, queue))];
    let warnings: Vec<Finding> = [
        retention(attributes, queue),
        visibility(attributes, queue),
        redrive(attributes),
        fifo(attributes, queue),
        key(attributes),
        policy(attributes),
        delay(attributes, queue),
    ]
    .into_iter()
    .flatten()
    .collect();
    match warnings.is_empty() {
        true => findings.push(Finding::ok(SET_UP, set_up(attributes))),
        false => findings.extend(warnings),
    }
    findings
}

fn in_it(attributes: &Attributes, queue: &Queue) -> String {
    let count = |number: Option<u64>| number.map_or_else(|| "?".to_owned(), |number| number.to_string());
    let Attributes { waiting, in_flight, delayed, .. } = attributes;
    let empty = [waiting, in_flight, delayed].into_iter().all(|number| *number == Some(0));
    let hint = match empty {
        true => {
            "; if it stays empty although logs are delivered, nobody tells it of them: `trailspool policy --only \
                 notification`"
        }
        false => "",
    };
    format!(
        "queue {} of account {} in {}: about {} messages wait, {} are in work{hint}",
        queue.name,
        queue.account,
        queue.region,
        count(*waiting),
        count(*in_flight)
    )
}

fn set_up(attributes: &Attributes) -> String {
    let period = |time: Option<Duration>| time.map_or_else(|| "?".to_owned(), human);
    let mut text = format!(
        "messages are kept for {} and hidden for {}",
        period(attributes.retention),
        period(attributes.visibility)
    );
    if let Some((to, after)) = &attributes.redrive {
        let name = to.rsplit(':').next().unwrap_or(to);
        text.push_str(&format!(", and go to the dead-letter queue {name} after {after} receipts"));
    }
    if let Some(key) = &attributes.kms_key {
        text.push_str(&format!("; encrypted with KMS key {key}"));
    }
    text
}

fn human(time: Duration) -> String {
    match time.as_secs() {
        secs if secs > 0 && secs % 86_400 == 0 => format!("{} d", secs / 86_400),
        secs if secs > 0 && secs % 3600 == 0 => format!("{} h", secs / 3600),
        secs => format!("{secs} s"),
    }
}

fn warn(what: String, why: &str, fix: String) -> Option<Finding> {
    Some(Finding::warn(SET_UP, what, why, fix))
}

fn set(queue: &Queue, attribute: &str) -> String {
    format!("`aws sqs set-queue-attributes --queue-url {} --attributes {attribute}`", queue.url)
}

fn retention(attributes: &Attributes, queue: &Queue) -> Option<Finding> {
    let kept = attributes.retention.filter(|kept| *kept < RETENTION)?;
    warn(
        format!("the queue keeps messages for {} only", human(kept)),
        "what nobody collects in that time, because the agent or the network is down, is forgotten; only a sweep finds it",
        set(queue, "MessageRetentionPeriod=1209600"),
    )
}

fn visibility(attributes: &Attributes, queue: &Queue) -> Option<Finding> {
    let hidden = attributes.visibility.filter(|hidden| *hidden < VISIBILITY)?;
    warn(
        format!("the queue hides a received message for {} only", human(hidden)),
        "whoever takes longer sees it come again while it is in work: objects are collected twice",
        set(queue, "VisibilityTimeout=120"),
    )
}

fn redrive(attributes: &Attributes) -> Option<Finding> {
    let (to, after) = attributes.redrive.as_ref().filter(|(_, after)| *after < RECEIPTS)?;
    warn(
        format!("a message goes to the dead-letter queue {to} after {after} receipts"),
        "an agent that is restarted, or S3 out of reach for some minutes, takes that many: the logs are then not collected",
        format!("raise maxReceiveCount of the redrive policy to 10 or more, and watch {to}"),
    )
}

fn fifo(attributes: &Attributes, queue: &Queue) -> Option<Finding> {
    (attributes.fifo || queue.is_fifo()).then_some(())?;
    warn(
        format!("{} is a FIFO queue", queue.name),
        "S3 tells no FIFO queue of objects; an SNS FIFO topic or a pipe of EventBridge can",
        "make a standard queue, unless something else sends to this one".to_owned(),
    )
}

fn key(attributes: &Attributes) -> Option<Finding> {
    attributes
        .kms_key
        .as_deref()
        .filter(|key| *key == MANAGED_KEY || key.ends_with(&format!(":{MANAGED_KEY}")))?;
    warn(
        format!("the queue is encrypted with {MANAGED_KEY}, the key that AWS manages"),
        "S3, SNS and EventBridge may not use that key: their messages are lost without a trace",
        "encrypt it with SSE-SQS, or with a KMS key of your own whose policy lets s3.amazonaws.com use \
         kms:GenerateDataKey and kms:Decrypt"
            .to_owned(),
    )
}

fn policy(attributes: &Attributes) -> Option<Finding> {
    (!attributes.has_policy).then_some(())?;
    warn(
        "the queue has no policy".to_owned(),
        "without one S3 may not send to it",
        "set the one that `trailspool policy --only queue` prints".to_owned(),
    )
}

fn delay(attributes: &Attributes, queue: &Queue) -> Option<Finding> {
    let delay = attributes.delay.filter(|delay| !delay.is_zero())?;
    warn(
        format!("the queue holds every message back for {} at first", human(delay)),
        "logs are collected that much later",
        set(queue, "DelaySeconds=0"),
    )
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::*;
    use crate::aws::Class;

    fn queue(name: &str) -> Queue {
        Queue::parse(&format!("https://sqs.us-west-2.amazonaws.com/444455556666/{name}"), "us-west-2")
            .unwrap()
    }

    fn good() -> Attributes {
        Attributes {
            waiting: Some(7),
            in_flight: Some(2),
            delayed: Some(0),
            visibility: Some(Duration::from_secs(300)),
            retention: Some(Duration::from_secs(14 * 86_400)),
            delay: Some(Duration::ZERO),
            redrive: Some(("arn:aws:sqs:us-west-2:444455556666:dead".into(), 10)),
            kms_key: Some("alias/trail".into()),
            fifo: false,
            has_policy: true,
        }
    }

    #[test]
    fn a_queue_that_is_well_says_what_is_in_it_and_how_it_is_set_up() {
        let findings = of_attributes(&good(), &queue("trail"));
        assert!(findings.iter().all(|finding| finding.level == Level::Ok), "{findings:?}");
        assert_eq!(
            findings[0].what,
            "queue trail of account 444455556666 in us-west-2: about 7 messages wait, 2 are in work"
        );
        assert_eq!(
            findings[1].what,
            "messages are kept for 14 d and hidden for 300 s, and go to the dead-letter queue dead after 10 receipts; \
             encrypted with KMS key alias/trail"
        );
        let empty = Attributes { waiting: Some(0), in_flight: Some(0), ..good() };
        assert!(of_attributes(&empty, &queue("trail"))[0].what.contains("nobody tells it"));
    }

    #[test]
    fn each_thing_that_somebody_should_know_is_a_warning_with_its_fix() {
        let secs = |secs| Some(Duration::from_secs(secs));
        for (attributes, name, what, fix) in [
            (
                Attributes { retention: secs(86_400), ..good() },
                "q",
                "for 1 d only",
                "MessageRetentionPeriod=1209600",
            ),
            (Attributes { visibility: secs(5), ..good() }, "q", "for 5 s only", "VisibilityTimeout=120"),
            (
                Attributes { redrive: Some(("dead".into(), 1)), ..good() },
                "q",
                "after 1 receipts",
                "maxReceiveCount",
            ),
            (Attributes { fifo: true, ..good() }, "q", "FIFO", "standard queue"),
            (good(), "q.fifo", "FIFO", "standard queue"),
            (Attributes { kms_key: Some("alias/aws/sqs".into()), ..good() }, "q", "alias/aws/sqs", "SSE-SQS"),
            (Attributes { has_policy: false, ..good() }, "q", "no policy", "policy --only queue"),
            (Attributes { delay: secs(3600), ..good() }, "q", "for 1 h at first", "DelaySeconds=0"),
        ] {
            let findings = of_attributes(&attributes, &queue(name));
            assert_eq!((findings.len(), findings[0].level, findings[1].level), (2, Level::Ok, Level::Warn));
            assert!(findings[1].what.contains(what) && findings[1].fix.contains(fix), "{findings:?}");
        }
        assert_eq!(
            of_attributes(&Attributes::default(), &queue("q")).len(),
            2,
            "what is not said is not warned of"
        );
    }

    #[test]
    fn each_failure_names_its_fix() {
        for (cause, kind, fix) in [
            ("no-queue", Kind::Config, "aws sqs get-queue-url --queue-name trail"),
            ("queue-denied", Kind::Permission, "\"Resource\":\"arn:aws:sqs:us-west-2:444455556666:trail\""),
            ("kms-denied", Kind::Permission, "kms:Decrypt"),
            ("wrong-region", Kind::Config, "region in its host"),
            ("not-sqs", Kind::Config, "captive portal"),
            ("access-key", Kind::Permission, "`credentials`"),
            ("clock", Kind::Unavailable, "timedatectl"),
            ("refused", Kind::Config, "`queue_url`"),
            ("dns", Kind::Unavailable, "interface endpoint"),
            ("slow-down", Kind::Unavailable, "route"),
        ] {
            let fault = Fault::new(Class::Retry, cause, "the whole text".to_owned());
            let finding = of_fault(&fault, &queue("trail"), Some("arn:aws:iam::1:user/x"));
            assert_eq!((finding.probe, finding.level), (QUEUE, Level::Fail(kind)), "{cause}");
            assert!(finding.fix.contains(fix) && finding.why == "the whole text", "{cause}: {finding:?}");
        }
    }
}
