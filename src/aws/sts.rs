//! AWS STS: assume a role, and ask whose keys these are. Requests are POSTed forms, so that nothing of them stands in
//! a URL; each is signed with the server's time once that is known to differ.
//!
//! Source: AWS STS API Reference, AssumeRole, GetCallerIdentity, "Common Errors".

use std::fmt::{self, Write as _};
use std::time::SystemTime;

use bytes::Bytes;
use http::{Uri, header};
use quick_xml::Reader;
use quick_xml::events::Event;

use super::control::{About, Answer, Service};
use super::credentials::{Issued, Keys, document};
use super::fault::{Class, ErrorDocument, Fault};
use super::partition;
use super::sigv4::{Scope, encode_query};
use super::xml::{Elements, Seen, Tag};
use crate::{config, limits, net};

/// Whose keys they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Twelve digits.
    pub account: Box<str>,
    /// E.g. `arn:aws:sts::111122223333:assumed-role/trail-reader/trailspool`.
    pub arn: Box<str>,
}

/// The STS endpoint of one source.
#[derive(Debug)]
pub(super) struct Sts(Service);

impl Sts {
    /// `region`: the source's, for which requests are signed if the endpoint does not say where it is.
    pub(super) fn new(endpoint: &Uri, region: &str, client: net::Client) -> Sts {
        let host = endpoint.host().unwrap_or("").to_ascii_lowercase();
        let scope = Scope::new("sts", region_of(&host).unwrap_or(region));
        Sts(Service::new(endpoint.clone(), scope, client, limits::CREDENTIALS_BYTES))
    }

    /// Keys of a session of the role.
    pub(super) async fn assume_role(&self, keys: &Keys, role: &config::Role) -> Result<Issued, Fault> {
        let on = On { sts: self, keys, role: Some(role) };
        let mut form = String::from("Action=AssumeRole&Version=2011-06-15");
        let mut add = |name: &str, value: &str| {
            let _ = write!(form, "&{name}={}", encode_query(value)); // a String takes anything
        };
        add("RoleArn", &role.arn);
        add("RoleSessionName", &role.session_name);
        add("DurationSeconds", &role.duration.as_secs().to_string());
        if let Some(id) = &role.external_id {
            add("ExternalId", id);
        }
        let answer = self.ask(&on, form).await?;
        let found = read(&answer.body);
        let missing = || on.bad_answer();
        let (id, secret) = (found.access_key_id.ok_or_else(missing)?, found.secret.ok_or_else(missing)?);
        let (token, end) = (found.token.ok_or_else(missing)?, found.expiration.ok_or_else(missing)?);
        let end = document::time(&end, "Expiration").map_err(|_| on.bad_answer())?;
        let keys = Keys::new(&id, secret.reveal(), Some(token.reveal()), Some(end));
        Ok(Issued::at(answer.date, keys))
    }

    /// Everybody may ask this.
    pub(super) async fn caller_identity(&self, keys: &Keys) -> Result<Identity, Fault> {
        let on = On { sts: self, keys, role: None };
        let answer = self.ask(&on, "Action=GetCallerIdentity&Version=2011-06-15".to_owned()).await?;
        let found = read(&answer.body);
        match (found.account, found.arn) {
            (Some(account), Some(arn)) => Ok(Identity { account, arn }),
            _ => Err(on.bad_answer()),
        }
    }

    async fn ask(&self, on: &On<'_>, form: String) -> Result<Answer, Fault> {
        let headers = [
            (header::CONTENT_TYPE, "application/x-www-form-urlencoded; charset=utf-8"),
            (header::ACCEPT, "text/xml"),
        ];
        self.0.post(on, &headers, Bytes::from(form), on.keys).await
    }
}

/// What a host says of its region. Source: AWS General Reference, "AWS STS endpoints"; VPC User Guide, "Interface
/// endpoints" (their names).
fn region_of(host: &str) -> Option<&str> {
    let labels: Vec<&str> = host.split('.').collect();
    match labels[..] {
        ["sts", "amazonaws", "com"] => Some("us-east-1"),
        ["sts" | "sts-fips", region, _, ..] | [_, "sts" | "sts-fips", region, "vpce", ..]
            if partition::names_region(host, region) =>
        {
            Some(region)
        }
        _ => None,
    }
}

/// What a request is about.
struct On<'a> {
    sts: &'a Sts,
    keys: &'a Keys,
    role: Option<&'a config::Role>,
}

impl fmt::Display for On<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = self.sts.0.host();
        match self.role {
            Some(role) => write!(f, "assuming role {} at {host}", role.arn),
            None => write!(f, "asking {host} whose access key {} is", self.keys.access_key_id()),
        }
    }
}

impl About for On<'_> {
    fn refused(&self, answer: &Answer) -> Fault {
        let document = ErrorDocument::parse(&answer.body);
        let row = self.classify(answer.status.as_u16(), &document, answer.date);
        answer.fault(self, row, &document.said(answer.status))
    }
}

impl On<'_> {
    fn bad_answer(&self) -> Fault {
        let why =
            "the answer is not that of AWS STS: does a proxy change it, or is sts_endpoint something else?";
        Fault::new(Class::Retry, "bad-answer", format!("{self}: {why}"))
    }

    /// The table: class, metric label and advice.
    fn classify(
        &self,
        status: u16,
        document: &ErrorDocument,
        date: SystemTime,
    ) -> (Class, &'static str, String) {
        let (id, role) = (self.keys.access_key_id(), self.role);
        let message = document.message();
        match (document.code(), status) {
            ("Throttling" | "ThrottlingException" | "RequestLimitExceeded" | "SlowDown", _) | (_, 429 | 503) => {
                (Class::Retry, "slow-down", "STS asks to slow down; nothing to do unless it lasts".into())
            }
            (_, 500..) => (Class::Retry, "server", "the server failed; nothing to do unless it lasts".into()),
            ("RequestExpired" | "RequestTimeTooSkewed", _) => skewed(date),
            // STS says so of a time that is too far off, too.
            ("SignatureDoesNotMatch", _)
                if message.starts_with("Signature expired") || message.starts_with("Signature not yet current") =>
            {
                skewed(date)
            }
            ("SignatureDoesNotMatch", _) if message.contains("scoped to a valid region") => (
                Class::Config,
                "config",
                "the endpoint is of another region than the source: name it as AWS does \
                 (https://sts.REGION.amazonaws.com), so that its region is known"
                    .into(),
            ),
            ("SignatureDoesNotMatch", _) => (
                Class::Denied,
                "signature",
                format!("the secret access key does not belong to access key {id}, or a proxy changes requests"),
            ),
            ("InvalidClientTokenId" | "UnrecognizedClientException", _) => (
                Class::Denied,
                "access-key",
                format!("access key {id} is not known: deleted, mistyped, or of another AWS partition?"),
            ),
            ("ExpiredToken" | "ExpiredTokenException", _) => {
                (Class::Denied, "expired", format!("access key {id} has expired: renew where it comes from"))
            }
            ("AccessDenied" | "AccessDeniedException", _) => match role {
                Some(role) => (Class::Denied, "role-denied", role_denied(role)),
                None => (Class::Denied, "denied", "a policy forbids sts:GetCallerIdentity".into()),
            },
            ("RegionDisabledException", _) => (
                Class::Config,
                "config",
                "the role's account has STS turned off in this region: turn it on (IAM, account settings), or set \
                 sts_endpoint to another region's"
                    .into(),
            ),
            ("ValidationError", _) if role.is_some() => (
                Class::Config,
                "config",
                "the role's ARN, its session name, external id or duration is not accepted".into(),
            ),
            ("", _) => (
                Class::Config,
                "config",
                "that is not AWS STS: check sts_endpoint, and what stands in between".into(),
            ),
            _ => (Class::Config, "refused", "STS refuses the request".into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// cloud-custodian#4874: an endpoint of another region, asked in the source's.
    #[test]
    fn requests_are_signed_for_the_region_of_the_endpoint() {
        for (host, region) in [
            ("sts.amazonaws.com", Some("us-east-1")),
            ("sts.us-west-2.amazonaws.com", Some("us-west-2")),
            ("sts-fips.us-east-1.amazonaws.com", Some("us-east-1")),
            ("sts.cn-north-1.amazonaws.com.cn", Some("cn-north-1")),
            ("sts.eu-west-1.api.aws", Some("eu-west-1")),
            ("vpce-0abc-1.sts.eu-west-1.vpce.amazonaws.com", Some("eu-west-1")),
            ("127.0.0.1", None),
            ("sts.example.com", None),
            ("sts.my-corp.example.com", None),
            ("sts.xx-new-1.amazonaws.com", Some("xx-new-1")),
            ("sts", None),
        ] {
            assert_eq!(region_of(host), region, "{host}");
        }
    }
}

fn skewed(date: SystemTime) -> (Class, &'static str, String) {
    let why = "this machine's clock differs too much from the server's: set it right (NTP)";
    (Class::ClockSkew(date), "clock", why.into())
}

fn role_denied(role: &config::Role) -> String {
    let external = match &role.external_id {
        Some(_) => "expect this external id",
        None => "not ask for an external id, unless one is set with external_id",
    };
    format!(
        "it may not be assumed: the policy of whoever assumes it must allow sts:AssumeRole on {}, and the role's trust \
         policy must name them and {external}; or the role does not exist",
        role.arn
    )
}

/// What an answer says, as far as it can be read.
#[derive(Default)]
struct Found {
    access_key_id: Option<Box<str>>,
    secret: Option<config::Secret>,
    token: Option<config::Secret>,
    expiration: Option<Box<str>>,
    account: Option<Box<str>>,
    arn: Option<Box<str>>,
}

fn read(body: &[u8]) -> Found {
    let mut found = Found::default();
    let mut reader = Reader::from_reader(body);
    let mut elements = Elements::for_secrets();
    loop {
        let event = match reader.read_event() {
            Ok(Event::Eof) | Err(_) => return found,
            Ok(event) => event,
        };
        let Ok(seen) = elements.event(&event) else { return found };
        let Seen::Close { parent, tag, text: Some(text), .. } = seen else { continue };
        let text = text.trim();
        if text.is_empty() || !text.bytes().all(|c| c.is_ascii_graphic()) {
            continue;
        }
        match (parent, tag) {
            (Tag::Credentials, Tag::AccessKeyId) => found.access_key_id = Some(text.into()),
            (Tag::Credentials, Tag::SecretAccessKey) => found.secret = Some(config::Secret::new(text.into())),
            (Tag::Credentials, Tag::SessionToken) => found.token = Some(config::Secret::new(text.into())),
            (Tag::Credentials, Tag::Expiration) => found.expiration = Some(text.into()),
            (Tag::GetCallerIdentityResult, Tag::Account) => found.account = Some(text.into()),
            (Tag::GetCallerIdentityResult, Tag::Arn) => found.arn = Some(text.into()),
            _ => {}
        }
    }
}
