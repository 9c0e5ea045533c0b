//! The policies that a source needs, filled in, as AWS takes them: least privilege, in the source's partition,
//! below the source's prefix. A core: a source goes in, JSON documents come out.
//!
//! Requests that need permissions: ListObjectsV2 (`s3:ListBucket`) and GetObject below `PREFIX/AWSLogs/`, with a
//! KMS key `kms:Decrypt`, with a queue the four requests on it, with a role `sts:AssumeRole`. A Requester Pays
//! bucket needs no permission of its own.
//!
//! Sources: Service Authorization Reference, "Actions, resources, and condition keys for Amazon S3"; IAM User
//! Guide, "IAM policy elements: Variables and tags" (how `*`, `?` and `$` are written as themselves); S3 User Guide,
//! "Configuring event notifications using object key name filtering".

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::json::Json;
use crate::aws::partition::Partition;
use crate::config::{Credentials, Queue, Role, Source};

/// What is known besides the source itself, whose credentials say whether a role is assumed.
#[derive(Debug, Default, Clone, Copy)]
pub struct Setup<'a> {
    /// Who signs requests with the source's credentials: an IAM user or role.
    pub principal: Option<&'a Principal>,
    /// The KMS key that encrypts the objects.
    pub kms_key: Option<&'a KmsKey>,
}

/// The policies of one source.
#[derive(Debug)]
pub struct Policies {
    /// In the order in which they are set up.
    pub documents: Vec<Document>,
    /// What could not be printed and what it takes, one sentence each.
    pub notes: Vec<String>,
}

/// One JSON document.
#[derive(Debug)]
pub struct Document {
    /// Which one.
    pub kind: Kind,
    /// What it is and where it belongs, one line.
    pub heading: String,
    /// The document, indented, in ASCII, without a newline at its end.
    pub json: String,
}

/// The kinds of documents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// What the reader (user or role) may do.
    Iam,
    /// What the base credentials may do when a role is assumed.
    Assume,
    /// Who may assume the role.
    Trust,
    /// Statements for the bucket's policy.
    Bucket,
    /// Statement for the KMS key's policy.
    Key,
    /// Statements for the queue's policy.
    Queue,
    /// The bucket's notification configuration.
    Notification,
}

impl Kind {
    /// Every kind, and its word on the command line.
    pub const ALL: [(&'static str, Kind); 7] = [
        ("iam", Kind::Iam),
        ("assume", Kind::Assume),
        ("trust", Kind::Trust),
        ("bucket", Kind::Bucket),
        ("key", Kind::Key),
        ("queue", Kind::Queue),
        ("notification", Kind::Notification),
    ];
}

/// The ARN of an IAM user or role, or of an account as a whole (`…:root`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal(Box<str>);

/// The ARN of a KMS key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KmsKey(Box<str>);

impl Principal {
    /// Reads an ARN.
    ///
    /// # Errors
    /// A sentence that says what to write.
    pub fn parse(text: &str) -> Result<Principal, String> {
        let wrong = || {
            format!(
                "'{text}' is not the ARN of who reads: write that of an IAM user or role, such as \
                 arn:aws:iam::111122223333:user/NAME"
            )
        };
        let [partition, service, "", account, resource] = fields(text).ok_or_else(wrong)? else {
            return Err(wrong());
        };
        let kind = resource.split_once('/').filter(|(_, name)| !name.is_empty());
        match (service, kind) {
            _ if !is_account(account) => Err(wrong()),
            ("sts", Some(("assumed-role", session))) => {
                let role = session.split('/').next().unwrap_or("");
                Err(format!(
                    "'{text}' is a session, which a policy cannot name for long: write the ARN of its role, which ends \
                     with {role}, such as arn:{partition}:iam::{account}:role/{role}"
                ))
            }
            ("iam", Some(("user" | "role", _))) => Ok(Principal(text.into())),
            ("iam", None) if resource == "root" => Ok(Principal(text.into())),
            _ => Err(wrong()),
        }
    }
}

impl KmsKey {
    /// Reads an ARN. An alias does not do: a policy names keys by their ids.
    ///
    /// # Errors
    /// A sentence that says what to write.
    pub fn parse(text: &str) -> Result<KmsKey, String> {
        match fields(text) {
            Some([_, "kms", region, account, resource])
                if !region.is_empty()
                    && is_account(account)
                    && resource.strip_prefix("key/").is_some_and(|id| !id.is_empty()) =>
            {
                Ok(KmsKey(text.into()))
            }
            _ => Err(format!(
                "'{text}' is not the ARN of a KMS key: write one such as \
                 arn:aws:kms:us-west-2:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab (an alias does not do)"
            )),
        }
    }
}

/// The documents that a source needs, as far as `setup` is known.
///
/// # Errors
/// A sentence, when something in `setup` or the queue cannot go with the source: it belongs to another partition.
pub fn policies(source: &Source, setup: &Setup<'_>) -> Result<Policies, String> {
    let own = Partition::of(&source.region);
    let role = match &source.credentials {
        Credentials::AssumeRole { role, .. } => Some(role),
        _ => None,
    };
    let arns = [
        ("the principal", setup.principal.map(|principal| partition(&principal.0))),
        ("the KMS key", setup.kms_key.map(|key| partition(&key.0))),
        ("the role", role.map(|role| partition(&role.arn))),
        ("the queue", source.queue_url.as_ref().map(|queue| Partition::of(&queue.region).arn())),
    ];
    for (what, other) in arns {
        if let Some(other) = other.filter(|other| *other != own.arn()) {
            return Err(format!(
                "source {}: its bucket is in partition {}, but {what} is in {other}: partitions do not share permissions",
                source.name,
                own.arn()
            ));
        }
    }
    let queue = source.queue_url.as_ref();
    let writer = Writer { source, setup, role, partition: own, queue, found: Policies::new() };
    Ok(writer.all())
}

impl Policies {
    fn new() -> Policies {
        Policies { documents: Vec::new(), notes: Vec::new() }
    }
}

struct Writer<'a> {
    source: &'a Source,
    setup: &'a Setup<'a>,
    role: Option<&'a Role>,
    partition: Partition,
    queue: Option<&'a Queue>,
    found: Policies,
}

impl Writer<'_> {
    fn all(mut self) -> Policies {
        self.iam();
        if let Some(role) = self.role {
            self.assume(role);
            self.trust(role);
        }
        self.bucket();
        if let Some(queue) = self.queue {
            self.queue(queue);
            self.notification(queue);
        }
        self.found
    }

    /// The identity that reads: the role if one is assumed.
    fn reader(&self) -> Option<String> {
        let role = self.role.map(|role| role.arn.to_string());
        role.or_else(|| self.setup.principal.map(|principal| principal.0.to_string()))
    }

    fn iam(&mut self) {
        let mut statements = vec![self.list(None), self.get(None)];
        if let Some(key) = self.setup.kms_key {
            statements.push(allow("DecryptTrailLogs", None, &["kms:Decrypt"], (*key.0).into()));
        }
        if let Some(queue) = self.queue {
            statements.push(receive(None, &queue.arn()));
        }
        let whom = match self.role {
            Some(role) => format!("the role {}", role.arn),
            None => match self.setup.principal {
                Some(principal) => principal.0.to_string(),
                None => "the IAM user or role whose credentials the source uses".to_owned(),
            },
        };
        self.document(Kind::Iam, format!("IAM policy: attach it to {whom}"), policy(statements));
        if self.source.bucket.ends_with("-s3alias") {
            self.note(
                "the bucket is named by an access point's alias, which policies do not take: put the access \
                       point's ARN and the bucket's own name in its place",
            );
        }
        if self.setup.kms_key.is_none() {
            self.note("if the objects are encrypted with a KMS key of your own, name it with --kms-key ARN");
        }
        if self.source.request_payer {
            self.note("the requester pays: requests and transfer go on the bill of the reader's account");
        }
    }

    fn assume(&mut self, role: &Role) {
        let statement = allow("AssumeReaderRole", None, &["sts:AssumeRole"], (*role.arn).into());
        let heading = "IAM policy to assume the role: attach it to who the source's credentials belong to";
        self.document(Kind::Assume, heading.to_owned(), policy(vec![statement]));
    }

    fn trust(&mut self, role: &Role) {
        let Some(principal) = self.setup.principal else {
            return self.note("for the role's trust policy, name who assumes it with --principal ARN");
        };
        let mut statement = vec![
            ("Sid", "AssumeReaderRole".into()),
            ("Effect", "Allow".into()),
            ("Principal", one("AWS", &*principal.0)),
            ("Action", "sts:AssumeRole".into()),
        ];
        if let Some(id) = &role.external_id {
            statement.push(("Condition", one("StringEquals", one("sts:ExternalId", &**id))));
        }
        let heading = format!("trust policy of the role {}", role.arn);
        self.document(Kind::Trust, heading, policy(vec![Json::Object(statement)]));
    }

    /// Statements on the resources, for a reader in another account.
    fn bucket(&mut self) {
        let Some(reader) = self.reader() else {
            return self.note(
                "if the bucket belongs to another account, its policy must allow the reader too: name the reader with \
                 --principal ARN",
            );
        };
        let statements = vec![self.list(Some(&reader)), self.get(Some(&reader))];
        let heading = format!(
            "statements for the policy of bucket {}, needed if it belongs to another account: add them to those that \
             are there (CloudTrail writes by them)",
            self.source.bucket
        );
        self.document(Kind::Bucket, heading, policy(statements));
        if self.setup.kms_key.is_some() {
            let statement = allow("DecryptTrailLogs", Some(&reader), &["kms:Decrypt"], "*".into());
            let heading = "statement for the KMS key's own policy, needed if the key belongs to another account: add it \
                           to those that are there";
            self.document(Kind::Key, heading.to_owned(), policy(vec![statement]));
        }
    }

    fn queue(&mut self, queue: &Queue) {
        let queue = queue.arn();
        let bucket = self.bucket_arn();
        let mut statements = vec![Json::Object(vec![
            ("Sid", "BucketNotifications".into()),
            ("Effect", "Allow".into()),
            ("Principal", one("Service", "s3.amazonaws.com")),
            ("Action", "sqs:SendMessage".into()),
            ("Resource", queue.as_str().into()),
            ("Condition", one("ArnEquals", one("aws:SourceArn", bucket))),
        ])];
        if let Some(reader) = self.reader() {
            statements.push(receive(Some(&reader), &queue));
        }
        self.document(Kind::Queue, format!("policy of the queue {queue}"), policy(statements));
    }

    /// Filters are exact and URL-encoded, unlike the patterns of policies.
    fn notification(&mut self, queue: &Queue) {
        const PREFIX: &AsciiSet =
            &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~').remove(b'/').remove(b' ');
        let prefix = format!("{}AWSLogs/", self.source.prefix);
        let prefix = utf8_percent_encode(&prefix, PREFIX).to_string().replace(' ', "+");
        let rule =
            |name: &str, value: &str| Json::Object(vec![("Name", name.into()), ("Value", value.into())]);
        let rules = Json::List(vec![rule("prefix", &prefix), rule("suffix", ".json.gz")]);
        let configuration = Json::Object(vec![
            ("Id", format!("trailspool-{}", self.source.name).into()),
            ("QueueArn", queue.arn().into()),
            ("Events", Json::List(vec!["s3:ObjectCreated:*".into()])),
            ("Filter", one("Key", one("FilterRules", rules))),
        ]);
        let heading = format!(
            "notification configuration of bucket {}: add it to what is there, since setting it replaces all",
            self.source.bucket
        );
        let whole = Json::Object(vec![("QueueConfigurations", Json::List(vec![configuration]))]);
        self.document(Kind::Notification, heading, whole);
        if queue.is_fifo() {
            self.note("S3 tells no FIFO queue of objects: make a standard one");
        }
        if queue.region != self.source.region {
            self.note(
                "S3 tells only queues in the bucket's own region: to this one the bucket's notifications must go by an \
                 SNS topic or EventBridge, which its policy must allow instead",
            );
        }
    }

    fn list(&self, principal: Option<&str>) -> Json {
        let mut statement = allow("ListTrailLogs", principal, &["s3:ListBucket"], self.bucket_arn().into());
        let pattern = format!("{}AWSLogs/*", literal(&self.source.prefix));
        if let Json::Object(members) = &mut statement {
            members
                .push(("Condition", one("StringLike", one("s3:prefix", Json::List(vec![pattern.into()])))));
        }
        statement
    }

    fn get(&self, principal: Option<&str>) -> Json {
        let objects = format!("{}/{}AWSLogs/*", self.bucket_arn(), literal(&self.source.prefix));
        allow("ReadTrailLogs", principal, &["s3:GetObject"], objects.into())
    }

    fn bucket_arn(&self) -> String {
        format!("arn:{}:s3:::{}", self.partition.arn(), self.source.bucket)
    }

    fn document(&mut self, kind: Kind, heading: String, json: Json) {
        let heading = format!("source {}: {heading}", self.source.name);
        self.found.documents.push(Document { kind, heading, json: json.to_string() });
    }

    fn note(&mut self, text: &str) {
        self.found.notes.push(format!("source {}: {text}", self.source.name));
    }
}

fn policy(statements: Vec<Json>) -> Json {
    // Without this version `${*}` would stand for itself.
    Json::Object(vec![("Version", "2012-10-17".into()), ("Statement", Json::List(statements))])
}

fn receive(principal: Option<&str>, queue: &str) -> Json {
    let actions =
        ["sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:ChangeMessageVisibility", "sqs:GetQueueAttributes"];
    allow("ReceiveNotifications", principal, &actions, queue.into())
}

fn allow(sid: &str, principal: Option<&str>, actions: &[&str], resource: Json) -> Json {
    let mut members = vec![("Sid", sid.into()), ("Effect", "Allow".into())];
    if let Some(principal) = principal {
        members.push(("Principal", one("AWS", principal)));
    }
    let action = match actions {
        [action] => (*action).into(),
        several => Json::List(several.iter().map(|action| (*action).into()).collect()),
    };
    members.extend([("Action", action), ("Resource", resource)]);
    Json::Object(members)
}

fn one(name: &'static str, value: impl Into<Json>) -> Json {
    Json::Object(vec![(name, value.into())])
}

/// Text that stands for itself in a pattern of a policy. Source: IAM User Guide, "IAM policy elements: Variables
/// and tags", special characters.
fn literal(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut out, c| {
        match c {
            '*' | '?' | '$' => out.extend(['$', '{', c, '}']),
            c => out.push(c),
        }
        out
    })
}

/// The fields of `arn:PARTITION:SERVICE:REGION:ACCOUNT:RESOURCE`. `None`: it has not the shape, or holds what a policy
/// would take for a pattern.
fn fields(arn: &str) -> Option<[&str; 5]> {
    let plain = |c: char| c.is_ascii_graphic() && !"*?$\"\\'".contains(c);
    let rest = arn.strip_prefix("arn:").filter(|rest| rest.chars().all(plain))?;
    let mut fields = rest.splitn(5, ':');
    let mut next = || fields.next();
    Some([next()?, next()?, next()?, next()?, next()?])
}

fn partition(arn: &str) -> &str {
    arn.split(':').nth(1).unwrap_or("")
}

fn is_account(text: &str) -> bool {
    text.len() == 12 && text.bytes().all(|c| c.is_ascii_digit())
}

#[cfg(test)]
mod tests;
