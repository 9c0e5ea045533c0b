//! `method = "default"`: environment, profile, container, instance; the first that has credentials gives them. One
//! that is set up but fails ends it: another identity than the one that was set up would be a surprise.

use super::profile::Failed;
use super::{Issued, Keys, Origin};
use crate::aws::fault::{Class, Fault};
use crate::config::{AccessKey, Environment, Secret};

pub(super) const NO_KEYS: &str = "$AWS_ACCESS_KEY_ID is not set";
pub(super) const NO_CONTAINER: &str =
    "neither $AWS_CONTAINER_CREDENTIALS_RELATIVE_URI nor $AWS_CONTAINER_CREDENTIALS_FULL_URI is set";
pub(super) const NO_INSTANCE: &str = "$AWS_EC2_METADATA_DISABLED is true";

/// Asks one after the other.
pub(super) async fn issue(origin: &Origin, from: &Environment) -> Result<Issued, Fault> {
    let mut said = String::new();
    if from.keys.is_some() {
        return environment(from);
    }
    said += &format!("environment: {NO_KEYS}; ");
    match origin.profile(from.profile.as_deref().unwrap_or("default"), from).await {
        Ok(issued) => return Ok(issued),
        Err(Failed::Absent(why)) if from.profile.is_none() => said += &format!("profile: {why}; "),
        Err(failed) => return Err(with(&said, "profile", failed.fault())),
    }
    if let Some(container) = &from.container {
        return origin.container(container).await.map_err(|fault| with(&said, "container", fault));
    }
    said += &format!("container: {NO_CONTAINER}; ");
    let instance = match &from.metadata {
        Some(metadata) => super::imds::issue(metadata, &origin.local).await,
        None => Err(absent(NO_INSTANCE)),
    };
    instance.map_err(|mut fault| {
        if fault.cause == "network" {
            // Nothing says that this is an instance at all.
            (fault.class, fault.cause) = (Class::Config, "no-credentials");
        }
        with(&format!("none were found: {said}"), "instance", fault)
    })
}

/// The keys in the environment.
pub(super) fn environment(from: &Environment) -> Result<Issued, Fault> {
    let AccessKey { id, secret, session_token } = from.keys.as_ref().ok_or_else(|| absent(NO_KEYS))?;
    let keys = Keys::new(id, secret.reveal(), session_token.as_ref().map(Secret::reveal), None);
    Ok(Issued { keys, life: None })
}

pub(super) fn absent(why: &str) -> Fault {
    Fault::new(Class::Config, "no-credentials", why.to_owned())
}

fn with(said: &str, place: &str, mut fault: Fault) -> Fault {
    fault.text.insert_str(0, &format!("{said}{place}: "));
    fault
}
