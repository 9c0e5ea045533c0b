//! Which account stands behind a record: what is derived from its `userIdentity`, for the envelope and for the
//! fields that outputs send along. The record itself stays as it is.
//!
//! | `type` | account | without a domain of its own |
//! |---|---|---|
//! | `IAMUser` | `userName`, else the last part of the ARN | `default_domain` |
//! | `AssumedRole` | the source identity, else the session's name, else (machines) the role's name | `default_domain`, but not for roles |
//! | `FederatedUser` | the federated name in the ARN or in `principalId` | `default_domain` |
//! | `SAMLUser`, `WebIdentityUser`, `Directory` | `userName`, else what stands behind the last colon of `principalId` | `default_domain` |
//! | `IdentityCenterUser` | `userName` (older records), else `onBehalfOf.userId` | `default_domain`, but not for an id |
//! | `Role` | the role's name | none |
//! | `Root` | `root` | none |
//! | `AWSAccount` | the session's name, else the id of the account | `default_domain`, but not for an id |
//! | `AWSService` | `invokedBy` | none |
//! | `Unknown`, none, and types of later years | `userName`, the session's name, `invokedBy`: the first that is there | `default_domain`, but not for a service |
//!
//! A name of the form `jsmith@corp.example.com` or `CORP\jsmith` carries its domain. The short name is what is left
//! without it; the fully qualified one is always written `jsmith@corp.example.com`, with `default_domain` where the name
//! carries none.
//!
//! A *source identity* comes first because a role's session cannot change it, while whoever assumes a role chooses the
//! session's name. Names of sessions that an SDK, an EC2 instance or a service-linked role made up name no account: the
//! role does.
//!
//! A directory, where one is configured, may say more of an account ([`crate::directory`]); that goes along beside what is
//! derived, and changes nothing of it.
//!
//! No account is derived from a name that CloudTrail hides (sign-ins that failed with a wrong user name), that holds
//! control characters, or that is longer than any account's. Source of the types and their members: CloudTrail User
//! Guide, "CloudTrail userIdentity element"; of source identities: IAM User Guide, "Monitor and control actions taken
//! with assumed roles".

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use heapless::String;

use crate::config::{self, Source};
use crate::decode::field::{self, Field, Path};
use crate::decode::text;
use crate::directory::{Asked, Entry, Lookup};
use crate::limits;

/// What CloudTrail writes in place of a user name that may be a password typed into the wrong box.
const HIDDEN: &str = "HIDDEN_DUE_TO_SECURITY_REASONS";

/// The account behind one record. Its texts hold no control characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attribution {
    /// `NAME`, or `NAME@DOMAIN`.
    qualified: String<{ limits::ACCOUNT_BYTES }>,
    name_bytes: usize,
    short: bool,
    kind: Kind,
    principal: String<{ limits::PRINCIPAL_BYTES }>,
    belongs: bool,
    /// The domain is the name's own, and not `default_domain`.
    own_domain: bool,
    directory: Option<Arc<Entry>>,
}

impl Attribution {
    /// `jsmith`, or `jsmith@corp.example.com` when accounts are to be fully qualified and a domain is known.
    pub fn account(&self) -> &str {
        if self.short { self.name() } else { &self.qualified }
    }

    /// `jsmith`
    pub fn name(&self) -> &str {
        &self.qualified[..self.name_bytes]
    }

    /// `corp.example.com`: the name's own, or `default_domain` when accounts are to be fully qualified.
    pub fn domain(&self) -> Option<&str> {
        self.qualified.get(self.name_bytes + 1..)
    }

    /// Of which type the identity is.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The identity's ARN, else its `principalId`, as the record has it.
    pub fn principal(&self) -> Option<&str> {
        Some(&*self.principal).filter(|principal| !principal.is_empty())
    }

    /// What a directory says of the account, if one is asked and it is known already.
    pub fn directory(&self) -> Option<&Entry> {
        self.directory.as_deref()
    }

    /// The same without that: what the record alone says.
    pub fn derived(&self) -> Attribution {
        Attribution { directory: None, ..self.clone() }
    }

    /// How a directory is asked for the account. `None`: no directory has it, because it is a service's, a role's or an
    /// id of AWS's.
    ///
    /// A name with a domain is another one than the same name without: it is only asked for as a whole. A domain without
    /// a dot, as in `CORP\jsmith`, is no part of an address, and stands for the directory's own.
    pub fn asked(&self) -> Option<Asked<'_>> {
        let address = self.domain().filter(|domain| domain.contains('.')).map(|_| &*self.qualified);
        let name = (address.is_none() || !self.own_domain).then(|| self.name());
        self.belongs.then_some(Asked { name, address })
    }
}

/// `userIdentity.type`
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The account's root user.
    Root,
    /// An IAM user.
    IamUser,
    /// A session of a role.
    AssumedRole,
    /// A role by itself.
    Role,
    /// A session of `GetFederationToken`.
    FederatedUser,
    /// Somebody who calls `AssumeRoleWithSAML`.
    SamlUser,
    /// Somebody who calls `AssumeRoleWithWebIdentity`.
    WebIdentityUser,
    /// Somebody for whom IAM Identity Center speaks.
    IdentityCenterUser,
    /// A user of a directory service.
    Directory,
    /// Another AWS account.
    AwsAccount,
    /// A service of AWS.
    AwsService,
    /// `Unknown`, none, or one that this version does not know.
    #[default]
    Unknown,
}

impl Kind {
    /// Every kind with the name that CloudTrail gives it.
    pub const ALL: [(&str, Kind); 12] = [
        ("IAMUser", Kind::IamUser),
        ("AssumedRole", Kind::AssumedRole),
        ("AWSService", Kind::AwsService),
        ("Root", Kind::Root),
        ("Role", Kind::Role),
        ("FederatedUser", Kind::FederatedUser),
        ("SAMLUser", Kind::SamlUser),
        ("WebIdentityUser", Kind::WebIdentityUser),
        ("IdentityCenterUser", Kind::IdentityCenterUser),
        ("Directory", Kind::Directory),
        ("AWSAccount", Kind::AwsAccount),
        ("Unknown", Kind::Unknown),
    ];

    /// The name that CloudTrail gives it.
    pub fn label(self) -> &'static str {
        Kind::ALL.iter().find(|(_, kind)| *kind == self).map_or("Unknown", |(label, _)| label)
    }

    fn of(name: &[u8]) -> Kind {
        Kind::ALL
            .iter()
            .find(|(label, _)| text::is(name, label.as_bytes()))
            .map_or(Kind::Unknown, |(_, kind)| *kind)
    }
}

/// Derives the accounts of one source's records.
#[derive(Debug, Clone)]
pub struct Attributor {
    identity: Path,
    form: config::Attribution,
    default_domain: Box<str>,
}

impl Attributor {
    /// As the source is configured.
    pub fn new(source: &Source) -> Attributor {
        Attributor {
            identity: Path::new("userIdentity"),
            form: source.attribution,
            default_domain: source.default_domain.clone(),
        }
    }

    /// The account behind a record. `None`: nobody is named, or attribution is off. Reads the record up to its
    /// `userIdentity` and that once.
    pub fn attribute(&self, record: &[u8]) -> Option<Attribution> {
        if self.form == config::Attribution::None {
            return None;
        }
        let Field::Object(identity) = field::find(record, &self.identity) else { return None };
        let identity = Identity::read(identity);
        let Account { name, belongs } = identity.account()?;
        let (name, own) = cut(&name);
        let short = self.form == config::Attribution::ShortName;
        let default = Some(&*self.default_domain).filter(|domain| belongs && !short && !domain.is_empty());
        let mut qualified = String::new();
        qualified.push_str(name).ok()?;
        if let Some(domain) = own.or(default) {
            qualified.push('@').ok()?;
            qualified.push_str(domain).ok()?;
        }
        let mut principal = String::new();
        // One that is too long is longer than any of AWS's, and says nothing that the account does not.
        let _ = principal.push_str(&identity.arn.or(identity.principal_id).unwrap_or_default());
        Some(Attribution {
            qualified,
            name_bytes: name.len(),
            short,
            kind: identity.kind,
            principal,
            belongs,
            own_domain: own.is_some(),
            directory: None,
        })
    }
}

/// Those of all sources, by name, and who knows more of the accounts.
#[derive(Clone, Default)]
pub struct Attributors {
    sources: Box<[(Box<str>, Attributor)]>,
    directory: Option<Arc<dyn Lookup>>,
}

impl Attributors {
    /// One for each source.
    pub fn new(sources: &[Source]) -> Attributors {
        let sources = sources.iter().map(|source| (source.name.clone(), Attributor::new(source))).collect();
        Attributors { sources, directory: None }
    }

    /// The same, with a directory that is asked for accounts.
    pub fn with_directory(self, directory: Option<Arc<dyn Lookup>>) -> Attributors {
        Attributors { directory, ..self }
    }

    /// The account behind a record of this source. `None` also for a source that left the configuration while its
    /// records waited.
    pub fn attribute(&self, source: &str, record: &[u8]) -> Option<Attribution> {
        let (_, attributor) = self.sources.iter().find(|(name, _)| **name == *source)?;
        let mut attribution = attributor.attribute(record)?;
        if let (Some(directory), Some(asked)) = (&self.directory, attribution.asked()) {
            attribution.directory = directory.find(asked);
        }
        Some(attribution)
    }
}

impl fmt::Debug for Attributors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Attributors").field("sources", &self.sources).finish_non_exhaustive()
    }
}

struct Account<'a> {
    name: Cow<'a, str>,
    /// It may be one of the default domain's accounts: it is no service, no role, no id of AWS's.
    belongs: bool,
}

/// What matters of a `userIdentity`. An empty, hidden or unusable text is as good as none.
#[derive(Default)]
struct Identity<'a> {
    kind: Kind,
    user_name: Option<Cow<'a, str>>,
    arn: Option<Cow<'a, str>>,
    principal_id: Option<Cow<'a, str>>,
    account_id: Option<Cow<'a, str>>,
    invoked_by: Option<Cow<'a, str>>,
    source_identity: Option<Cow<'a, str>>,
    /// Name of the role that a session is of.
    issuer: Option<Cow<'a, str>>,
    /// `onBehalfOf.userId`
    user_id: Option<Cow<'a, str>>,
}

impl<'a> Identity<'a> {
    fn read(object: &'a [u8]) -> Identity<'a> {
        let mut identity = Identity::default();
        for (key, value) in field::members(object) {
            match (key, value) {
                (b"type", Field::Text(raw)) => identity.kind = Kind::of(raw),
                (b"userName", value) => identity.user_name = plain(value),
                (b"arn", value) => identity.arn = plain(value),
                (b"principalId", value) => identity.principal_id = plain(value),
                (b"accountId", value) => identity.account_id = plain(value),
                (b"invokedBy", value) => identity.invoked_by = plain(value),
                (b"sessionContext", Field::Object(session)) => identity.read_session(session),
                (b"onBehalfOf", Field::Object(whom)) => {
                    identity.user_id = member(whom, b"userId").and_then(plain);
                }
                _ => {}
            }
        }
        identity
    }

    fn read_session(&mut self, session: &'a [u8]) {
        for (key, value) in field::members(session) {
            match (key, value) {
                (b"sourceIdentity", value) => self.source_identity = plain(value),
                (b"sessionIssuer", Field::Object(issuer)) => {
                    self.issuer = member(issuer, b"userName").and_then(plain);
                }
                _ => {}
            }
        }
    }

    fn account(&self) -> Option<Account<'a>> {
        match self.kind {
            Kind::Root => foreign(Some("root".into())),
            Kind::IamUser => {
                own(self.user_name.clone().or_else(|| self.last_of_arn(":user/")).or_else(|| self.session()))
            }
            Kind::AssumedRole => self.assumed_role(),
            Kind::Role => foreign(self.last_of_arn(":role/").or_else(|| self.user_name.clone())),
            Kind::FederatedUser => own(self.last_of_arn(":federated-user/").or_else(|| self.session())),
            Kind::SamlUser | Kind::WebIdentityUser | Kind::Directory => {
                own(self.user_name.clone().or_else(|| self.session()))
            }
            Kind::IdentityCenterUser => own(self.user_name.clone()).or_else(|| foreign(self.user_id.clone())),
            Kind::AwsAccount => own(self.session().filter(|name| !is_made_up(name)))
                .or_else(|| foreign(self.account_id.clone())),
            Kind::AwsService => foreign(self.invoked_by.clone()),
            Kind::Unknown => own(self.user_name.clone().or_else(|| self.session()))
                .or_else(|| foreign(self.invoked_by.clone())),
        }
    }

    fn assumed_role(&self) -> Option<Account<'a>> {
        if self.source_identity.is_some() {
            return own(self.source_identity.clone());
        }
        let role = self.role();
        let session = self.session().or_else(|| self.last_of_arn(":assumed-role/"));
        let linked = role.as_deref().is_some_and(|role| role.starts_with("AWSServiceRoleFor"));
        match session {
            Some(session) if !linked && !is_made_up(&session) => own(Some(session)),
            // Test events of other tools name the role so.
            session => foreign(role.or(session).or_else(|| self.user_name.clone())),
        }
    }

    fn role(&self) -> Option<Cow<'a, str>> {
        self.issuer.clone().or_else(|| {
            let (_, role) = self.arn.as_deref()?.split_once(":assumed-role/")?;
            let (role, _) = role.rsplit_once('/')?;
            Some(role.to_owned().into())
        })
    }

    /// `AROAEXAMPLE:session` → `session`
    fn session(&self) -> Option<Cow<'a, str>> {
        behind(self.principal_id.as_ref()?, ':')
    }

    /// `arn:aws:iam::111122223333:user/division/jsmith` → `jsmith`
    fn last_of_arn(&self, kind: &str) -> Option<Cow<'a, str>> {
        let arn = self.arn.as_ref()?;
        if arn.contains(kind) { behind(arn, '/') } else { None }
    }
}

/// Of a directory, as far as it is known.
fn own(name: Option<Cow<'_, str>>) -> Option<Account<'_>> {
    let name = name?;
    // `system:serviceaccount:prod:loader` of a cluster's token, for instance
    let belongs = !name.contains(':');
    Some(Account { name, belongs })
}

/// AWS's own, in no directory.
fn foreign(name: Option<Cow<'_, str>>) -> Option<Account<'_>> {
    Some(Account { name: name?, belongs: false })
}

/// Whether a session was named by a program: by an EC2 instance's id, or as SDKs name sessions that nobody named.
fn is_made_up(session: &str) -> bool {
    const SDKS: [&str; 4] = ["botocore-session-", "aws-go-sdk-", "aws-sdk-java-", "aws-sdk-js-"];
    let digits = |text: &str| text.len() >= 10 && text.bytes().all(|byte| byte.is_ascii_digit());
    let instance = session.strip_prefix("i-").is_some_and(|id| {
        matches!(id.len(), 8 | 17) && id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    });
    instance || digits(session) || SDKS.iter().any(|sdk| session.strip_prefix(sdk).is_some_and(digits))
}

/// Name and domain.
fn cut(name: &str) -> (&str, Option<&str>) {
    let whole = |(name, domain): &(&str, &str)| !name.is_empty() && !domain.is_empty();
    if let Some((name, domain)) = name.rsplit_once('@').filter(whole) {
        return (name, Some(domain));
    }
    match name.split_once('\\').map(|(domain, name)| (name, domain)).filter(whole) {
        Some((name, domain)) => (name, Some(domain)),
        None => (name, None),
    }
}

/// What stands behind the last `mark`.
fn behind<'a>(text: &Cow<'a, str>, mark: char) -> Option<Cow<'a, str>> {
    let at = text.rfind(mark)? + mark.len_utf8();
    match text {
        Cow::Borrowed(text) => text.get(at..).map(Cow::Borrowed),
        Cow::Owned(text) => text.get(at..).map(|text| Cow::Owned(text.to_owned())),
    }
    .filter(|text| is_name(text))
}

fn member<'a>(object: &'a [u8], wanted: &[u8]) -> Option<Field<'a>> {
    field::members(object).find(|(key, _)| *key == wanted).map(|(_, value)| value)
}

/// A text that can be, or hold, a name.
fn plain(field: Field<'_>) -> Option<Cow<'_, str>> {
    let Field::Text(raw) = field else { return None };
    // An escape takes six bytes for one.
    if raw.len() > 6 * limits::PRINCIPAL_BYTES {
        return None;
    }
    let text = match memchr::memchr(b'\\', raw) {
        None => Cow::Borrowed(std::str::from_utf8(raw).ok()?),
        Some(_) => {
            let mut buffer = Vec::new();
            Cow::Owned(std::str::from_utf8(text::unescape(raw, &mut buffer).ok()?).ok()?.to_owned())
        }
    };
    Some(text).filter(|text| is_name(text))
}

fn is_name(text: &str) -> bool {
    let ascii = text.bytes().fold((true, true), |(all, plain), byte| {
        (all & byte.is_ascii(), plain & (byte >= b' ') & (byte != 0x7f))
    });
    let plain = ascii.1 && (ascii.0 || !text.chars().any(char::is_control));
    plain && !text.is_empty() && text != HIDDEN
}

#[cfg(test)]
mod tests;
