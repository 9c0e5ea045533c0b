//! `[source.credentials]`: a method with its keys, and a role that is assumed with it.

use std::sync::Arc;
use std::time::Duration;

use hyper::Uri;
use toml::de::DeValue;

use super::endpoint::{base_url, sts_of_region};
use super::environment::{container, environment, metadata};
use super::fault::quoted;
use super::files::one_secret;
use super::load::Env;
use super::table::{Read, Table, choice, string};
use super::{Credentials, Role, Secret};
use crate::aws::partition::Partition;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Method {
    IamUser,
    Ec2Role,
    Ecs,
    Profile,
    Default,
}

const METHODS: [(&str, Method); 5] = [
    ("iam-user", Method::IamUser),
    ("ec2-role", Method::Ec2Role),
    ("ecs", Method::Ecs),
    ("profile", Method::Profile),
    ("default", Method::Default),
];
const IAM_USER_KEYS: [&str; 4] =
    ["access_key_id", "secret_key_file", "secret_key_credential", "secret_access_key"];

/// How long a session of an assumed role lasts: what every role allows, and the most that a role assumed by a role
/// may have. Source: AWS STS API Reference, AssumeRole.
const SESSION: Duration = Duration::from_secs(3600);
const SESSION_NAME: &str = "trailspool";

/// Reads the table; `region` is the source's, where that was understood, and `fips` whether STS has to be a FIPS
/// endpoint too. `None`: it has faults, and they are noted.
pub(super) fn credentials(
    mut table: Table<'_>,
    region: Option<&str>,
    fips: bool,
    env: Env<'_>,
) -> Option<(Credentials, Uri)> {
    let right = "method = \"iam-user\" (or \"ec2-role\", \"ecs\", \"profile\", \"default\")";
    let method = table.required("method", right, |value| choice(value, &METHODS));
    let base = match method {
        Some(Method::IamUser) => iam_user(&mut table, env),
        Some(other) => other_method(&mut table, other, env),
        None => None,
    };
    if method != Some(Method::IamUser) {
        only_with(&mut table, &IAM_USER_KEYS, "method = \"iam-user\"", method.is_some());
    }
    if method != Some(Method::Profile) {
        only_with(&mut table, &["profile"], "method = \"profile\"", method.is_some());
    }
    let written = table.get("sts_endpoint", |value| match string(value)? {
        "" => Ok(None),
        text => base_url(text).map(Some),
    });
    let written = written.flatten();
    let role = role(&mut table, region.filter(|_| written.is_none()));
    let assumes = matches!(method, Some(Method::Profile | Method::Default));
    let sts = match (written, region) {
        (Some(url), _) => Some(url),
        // The other methods ask STS for nothing that collecting needs.
        (None, Some(region)) => {
            sts_of_region(region, fips && (assumes || role.as_ref().is_some_and(Option::is_some)))
                .map_err(|text| table.fault("sts_endpoint", text))
                .ok()
        }
        (None, None) => None,
    };
    table.finish();
    let base = base?;
    let credentials = match role? {
        Some(role) => Credentials::AssumeRole { base: Box::new(base), role },
        None => base,
    };
    Some((credentials, sts?))
}

fn iam_user(table: &mut Table<'_>, env: Env<'_>) -> Option<Credentials> {
    let access_key_id =
        table.required("access_key_id", "access_key_id = \"AKIA…\"", |value| access_key_id(string(value)?));
    if table.value("secret_access_key").is_some() {
        table.fault(
            "secret_access_key",
            "a secret has no place in this file: write it to a file of its own with mode 0600 and name that with \
             secret_key_file, or pass a systemd credential and name that with secret_key_credential"
                .to_owned(),
        );
    }
    let secret = secret(table, env);
    Some(Credentials::IamUser { access_key_id: access_key_id?, secret_access_key: secret? })
}

/// The methods whose keys come from around the agent.
fn other_method(table: &mut Table<'_>, method: Method, env: Env<'_>) -> Option<Credentials> {
    let written = match method {
        Method::Profile => table.get("profile", |value| profile(string(value)?)),
        _ => None,
    };
    let read = || {
        match method {
        Method::Ec2Role => match metadata(env)? {
            Some(metadata) => Ok(Credentials::Ec2Role { metadata }),
            None => Err("needs the instance metadata service, which $AWS_EC2_METADATA_DISABLED turns off".to_owned()),
        },
        Method::Ecs => container(env)?.map(Credentials::Ecs).ok_or_else(|| {
            "needs what ECS and EKS set for their containers: neither $AWS_CONTAINER_CREDENTIALS_RELATIVE_URI nor \
             $AWS_CONTAINER_CREDENTIALS_FULL_URI is there; does the task have a role?"
                .to_owned()
        }),
        Method::Profile => {
            let environment = environment(env)?;
            if environment.credentials_file.is_none() && environment.config_file.is_none() {
                return Err("finds no files: set $AWS_SHARED_CREDENTIALS_FILE or $AWS_CONFIG_FILE, or $HOME, which a \
                            service may not have"
                    .to_owned());
            }
            let name = written.or_else(|| environment.profile.clone()).unwrap_or_else(|| "default".into());
            Ok(Credentials::Profile { name, environment: Arc::new(environment) })
        }
        _ => Ok(Credentials::Default(Arc::new(environment(env)?))),
    }
    };
    read().map_err(|text| table.fault("method", text)).ok()
}

/// Makes keys known that belong to another method or to `assume_role`; a fault where they stand nevertheless.
fn only_with(table: &mut Table<'_>, keys: &[&'static str], with: &str, fault: bool) {
    for key in keys {
        if table.value(key).is_some() && fault {
            table.fault(key, format!("goes with {with} only: remove it"));
        }
    }
}

/// The role to assume, if any; `None`: at fault.
fn role(table: &mut Table<'_>, region: Option<&str>) -> Option<Option<Role>> {
    let keys = ["external_id", "role_session_name"];
    let written = table.has("assume_role");
    let arn = table.get("assume_role", |value| match string(value)? {
        "" => Ok(None),
        text => role_arn(text, region).map(Some),
    });
    let Some(arn) = arn.flatten() else {
        // Where the role itself is at fault, what belongs to it is not.
        let empty = !written || table.value("assume_role").is_some_and(is_empty);
        for key in keys {
            let value = table.value(key);
            if empty && value.is_some_and(|value| !is_empty(value)) {
                table.fault(key, "goes with assume_role only: remove it".to_owned());
            }
        }
        return empty.then_some(None);
    };
    let external_id = table.get("external_id", |value| match string(value)? {
        "" => Ok(None),
        text => external_id(text).map(Some),
    });
    let session_name = table.or("role_session_name", SESSION_NAME, |value| session_name(string(value)?));
    Some(Some(Role {
        arn,
        external_id: external_id.flatten(),
        session_name: session_name.into(),
        duration: SESSION,
    }))
}

fn is_empty(value: &toml::Spanned<DeValue<'_>>) -> bool {
    matches!(value.get_ref(), DeValue::String(text) if text.is_empty())
}

/// Source: IAM User Guide, "IAM identifiers"; IAM API Reference, CreateRole.
fn role_arn(text: &str, region: Option<&str>) -> Read<Box<str>> {
    let wrong = || {
        let right = "write one such as \"arn:aws:iam::111122223333:role/trail-reader\"";
        format!("{} is not the ARN of a role: {right}", quoted(text))
    };
    let parts: Vec<&str> = text.splitn(6, ':').collect();
    let ["arn", partition_name, "iam", "", account, role] = parts[..] else { return Err(wrong()) };
    let named = role.strip_prefix("role/").and_then(|path| path.rsplit('/').next()).unwrap_or("");
    let good = |c: u8| c.is_ascii_alphanumeric() || b"_+=,.@-/".contains(&c);
    if !super::bucket::is_account(account)
        || !partition_name.starts_with("aws")
        || !(1..=64).contains(&named.len())
        || role.len() > 600
        || !role.bytes().all(good)
    {
        return Err(wrong());
    }
    match region.map(|region| (region, Partition::of(region).arn())) {
        Some((region, here)) if here != partition_name => Err(format!(
            "is in partition {partition_name}, but the source's region {region} is in {here}: a role works only in \
             its own"
        )),
        _ => Ok(text.into()),
    }
}

/// Source of both: AWS STS API Reference, AssumeRole.
fn external_id(text: &str) -> Read<Box<str>> {
    let good = |c: u8| c.is_ascii_alphanumeric() || b"_+=,.@:/-".contains(&c);
    match (2..=1224).contains(&text.len()) && text.bytes().all(good) {
        true => Ok(text.into()),
        false => Err("is no external id: it has 2 to 1224 of A-Z a-z 0-9 _ + = , . @ : / -".to_owned()),
    }
}

fn session_name(text: &str) -> Read<&str> {
    let good = |c: u8| c.is_ascii_alphanumeric() || b"_+=,.@-".contains(&c);
    match (2..=64).contains(&text.len()) && text.bytes().all(good) {
        true => Ok(text),
        false => {
            Err(format!("{} cannot name a session: write 2 to 64 of A-Z a-z 0-9 _ + = , . @ -", quoted(text)))
        }
    }
}

fn profile(text: &str) -> Read<Box<str>> {
    let bad = |c: char| c.is_control() || "[]\"'".contains(c);
    match text.is_empty() || text.len() > 128 || text.contains(bad) {
        true => Err("is not the name of a profile: write one such as \"default\"".to_owned()),
        false => Ok(text.into()),
    }
}

fn secret(table: &mut Table<'_>, env: Env<'_>) -> Option<Secret> {
    let keys = ["secret_key_file", "secret_key_credential"];
    if !keys.iter().any(|key| table.has(key)) && !table.has("secret_access_key") {
        let right = "secret_key_file = \"/PATH\" or secret_key_credential = \"NAME\"";
        table.missing("secret_key_file", right);
    }
    one_secret(table, keys, env("CREDENTIALS_DIRECTORY").as_deref())
}

/// Never repeated in a fault: the secret may stand here by mistake. Source of the length: IAM API, AccessKey;
/// S3-compatible stores have shorter ones.
fn access_key_id(text: &str) -> Read<Box<str>> {
    if text.starts_with("ASIA") && text.len() >= 16 {
        return Err("belongs to temporary credentials, which end by themselves: use the access key of an IAM user (AKIA…)".to_owned());
    }
    let good = |c: u8| c.is_ascii_alphanumeric() || b"_-".contains(&c);
    match (3..=128).contains(&text.len()) && text.bytes().all(good) {
        true => Ok(text.into()),
        false => {
            Err("is not an access key id: write the one of the IAM user, such as \"AKIAIOSFODNN7EXAMPLE\""
                .to_owned())
        }
    }
}
