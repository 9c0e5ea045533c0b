//! What the environment says about AWS credentials: the variables that AWS's own tools agree on, read once into
//! their final types. Their values may be secrets and are never repeated in a fault.
//!
//! Source: AWS SDKs and Tools Reference Guide, "Settings reference" and "Container credential provider".

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

use hyper::Uri;

use super::endpoint::{base_url, url};
use super::load::Env;
use super::table::Read;
use super::{AccessKey, Authorization, Container, Environment, Secret};
use crate::limits;

/// The instance metadata service. Source: Amazon EC2 User Guide, "Use the Instance Metadata Service".
const METADATA_IPV4: &str = "http://169.254.169.254";
const METADATA_IPV6: &str = "http://[fd00:ec2::254]";
/// Where ECS serves a task's credentials. Source: Amazon ECS Developer Guide, "Task IAM role".
const ECS: &str = "http://169.254.170.2";
/// Hosts besides loopback that may be asked for credentials without TLS: ECS's and EKS's own agents.
const AGENTS: [IpAddr; 3] = [
    IpAddr::V4(Ipv4Addr::new(169, 254, 170, 2)),
    IpAddr::V4(Ipv4Addr::new(169, 254, 170, 23)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23)),
];

/// Everything, for the methods that may use any of it.
pub(super) fn environment(env: Env<'_>) -> Read<Environment> {
    Ok(Environment {
        keys: keys(env)?,
        profile: set(env, "AWS_PROFILE").map(Into::into),
        credentials_file: shared_file(env, "AWS_SHARED_CREDENTIALS_FILE", ".aws/credentials")?,
        config_file: shared_file(env, "AWS_CONFIG_FILE", ".aws/config")?,
        container: container(env)?,
        metadata: metadata(env)?,
    })
}

/// Where the instance metadata service is; `None`: it is not to be asked.
pub(super) fn metadata(env: Env<'_>) -> Read<Option<Uri>> {
    if set(env, "AWS_EC2_METADATA_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true")) {
        return Ok(None);
    }
    if let Some(endpoint) = set(env, "AWS_EC2_METADATA_SERVICE_ENDPOINT") {
        let named = |text| format!("$AWS_EC2_METADATA_SERVICE_ENDPOINT {text}");
        let endpoint = base_url(&endpoint).map_err(named)?;
        return match endpoint.scheme_str() {
            Some("http") => Ok(Some(endpoint)),
            _ => Err(named("must begin with http://: the metadata service has no TLS".to_owned())),
        };
    }
    let mode = set(env, "AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE").unwrap_or_default();
    let usual = if mode.eq_ignore_ascii_case("ipv6") { METADATA_IPV6 } else { METADATA_IPV4 };
    base_url(usual).map(Some)
}

/// Where a container's credentials are; `None`: this is no such container.
pub(super) fn container(env: Env<'_>) -> Read<Option<Container>> {
    let relative = set(env, "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI");
    let full = set(env, "AWS_CONTAINER_CREDENTIALS_FULL_URI");
    let url = match (relative, full) {
        (Some(path), _) => relative_url(&path)?,
        (None, Some(url)) => full_url(&url)?,
        (None, None) => return Ok(None),
    };
    let file = set(env, "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE");
    let authorization = match (file, set(env, "AWS_CONTAINER_AUTHORIZATION_TOKEN")) {
        (Some(path), _) => Authorization::File(absolute("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", path)?),
        (None, Some(token)) => {
            Authorization::Token(secret("AWS_CONTAINER_AUTHORIZATION_TOKEN", token, true)?)
        }
        (None, None) => Authorization::None,
    };
    Ok(Some(Container { url, authorization }))
}

fn relative_url(path: &str) -> Read<Uri> {
    let named = |text: String| format!("$AWS_CONTAINER_CREDENTIALS_RELATIVE_URI {text}");
    match path.starts_with('/') {
        true => url(&format!("{ECS}{path}")).map_err(named),
        false => Err(named("must begin with /".to_owned())),
    }
}

/// Anybody who can set the variable could have credentials asked for, and the token sent, in the clear: without
/// TLS only to this machine and to the agents of ECS and EKS.
fn full_url(text: &str) -> Read<Uri> {
    let named = |text: String| format!("$AWS_CONTAINER_CREDENTIALS_FULL_URI {text}");
    let url = url(text).map_err(named)?;
    let host = url.host().unwrap_or("").trim_matches(['[', ']']);
    let near = host.eq_ignore_ascii_case("localhost")
        || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback() || AGENTS.contains(&address));
    match url.scheme_str() == Some("https") || near {
        true => Ok(url),
        false => Err(named(
            "names a host that credentials may not be fetched from without TLS: only loopback, 169.254.170.2, \
             169.254.170.23 and fd00:ec2::23 may, others need https://"
                .to_owned(),
        )),
    }
}

fn keys(env: Env<'_>) -> Read<Option<AccessKey>> {
    let Some(id) = set(env, "AWS_ACCESS_KEY_ID") else { return Ok(None) };
    let Some(key) = set(env, "AWS_SECRET_ACCESS_KEY") else {
        return Err(
            "$AWS_ACCESS_KEY_ID is set but $AWS_SECRET_ACCESS_KEY is not: set both or neither".to_owned()
        );
    };
    let token = set(env, "AWS_SESSION_TOKEN").map(|token| secret("AWS_SESSION_TOKEN", token, false));
    if id.len() > limits::ACCESS_KEY_ID_BYTES || !id.bytes().all(|c| c.is_ascii_graphic()) {
        return Err("$AWS_ACCESS_KEY_ID is not an access key id".to_owned());
    }
    let secret = secret("AWS_SECRET_ACCESS_KEY", key, false)?;
    Ok(Some(AccessKey { id: id.into(), secret, session_token: token.transpose()? }))
}

/// `spaces`: an Authorization header has a scheme before the token.
fn secret(name: &str, value: String, spaces: bool) -> Read<Secret> {
    let secret = Secret::new(value);
    let text = secret.reveal();
    let good = |c: u8| c.is_ascii_graphic() || (spaces && c == b' ');
    match text.len() as u64 <= limits::SECRET_BYTES && text.bytes().all(good) {
        true => Ok(secret),
        false => Err(format!("${name} is too long or has characters that no such secret has")),
    }
}

fn shared_file(env: Env<'_>, name: &str, usual: &str) -> Read<Option<PathBuf>> {
    let home = set(env, "HOME").map(PathBuf::from).filter(|home| home.is_absolute());
    match (set(env, name), home) {
        (None, home) => Ok(home.map(|home| home.join(usual))),
        (Some(path), Some(home)) if path.starts_with("~/") => Ok(Some(home.join(&path[2..]))),
        (Some(path), _) => absolute(name, path).map(Some),
    }
}

fn absolute(name: &str, path: String) -> Read<PathBuf> {
    super::files::absolute(&path).map_err(|text| format!("${name} {text}"))
}

/// A variable that is there and not empty.
fn set(env: Env<'_>, name: &str) -> Option<String> {
    env(name).filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Read<Environment> {
        environment(&|name| variables.iter().find(|(n, _)| *n == name).map(|(_, value)| value.to_string()))
    }

    fn url_of(variables: &[(&str, &str)]) -> Read<String> {
        Ok(read(variables)?.container.expect("a container").url.to_string())
    }

    #[test]
    fn without_variables_there_is_only_the_instance() {
        let found = read(&[("AWS_PROFILE", ""), ("AWS_ACCESS_KEY_ID", "")]).unwrap();
        assert!(found.keys.is_none() && found.profile.is_none() && found.container.is_none());
        assert!(found.credentials_file.is_none() && found.config_file.is_none());
        assert_eq!(found.metadata.unwrap().to_string(), "http://169.254.169.254/");
    }

    #[test]
    fn the_shared_files_are_below_home_unless_they_are_named() {
        let found = read(&[("HOME", "/home/a"), ("AWS_CONFIG_FILE", "~/x")]).unwrap();
        assert_eq!(found.credentials_file, Some("/home/a/.aws/credentials".into()));
        assert_eq!(found.config_file, Some("/home/a/x".into()));
        let named = read(&[("AWS_SHARED_CREDENTIALS_FILE", "/etc/aws")]).unwrap();
        assert_eq!(named.credentials_file, Some("/etc/aws".into()));
        assert!(read(&[("AWS_CONFIG_FILE", "x")]).unwrap_err().starts_with("$AWS_CONFIG_FILE must be"));
    }

    #[test]
    fn the_metadata_service_can_be_elsewhere_or_off() {
        let at = |variables: &[(&str, &str)]| {
            read(variables).map(|found| found.metadata.map(|url| url.to_string()))
        };
        assert_eq!(at(&[("AWS_EC2_METADATA_DISABLED", "True")]), Ok(None));
        assert_eq!(
            at(&[("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://[fd00:ec2::254]")]),
            Ok(Some("http://[fd00:ec2::254]/".into()))
        );
        assert_eq!(
            at(&[("AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE", "IPv6")]),
            Ok(Some("http://[fd00:ec2::254]/".into()))
        );
        for wrong in ["https://169.254.169.254", "169.254.169.254", "http://h/path"] {
            let text = at(&[("AWS_EC2_METADATA_SERVICE_ENDPOINT", wrong)]).unwrap_err();
            assert!(text.starts_with("$AWS_EC2_METADATA_SERVICE_ENDPOINT "), "{text}");
        }
    }

    #[test]
    fn a_containers_credentials_come_from_near_or_over_tls() {
        let relative = |path| url_of(&[("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", path)]);
        assert_eq!(relative("/v2/credentials/1?id=2").unwrap(), "http://169.254.170.2/v2/credentials/1?id=2");
        assert!(relative("v2").is_err() && relative("@evil.example.com/").is_err());
        let full = |url| url_of(&[("AWS_CONTAINER_CREDENTIALS_FULL_URI", url)]);
        for near in [
            "http://127.0.0.1:51679/v1/credentials",
            "http://localhost/x",
            "http://[::1]:8080/x",
            "http://169.254.170.2/x",
            "http://169.254.170.23/v1/credentials",
            "http://[fd00:ec2::23]/v1/credentials",
            "https://credentials.example.com/x",
        ] {
            assert_eq!(full(near).unwrap(), near);
        }
        for far in [
            "http://169.254.169.254/x",
            "http://127.0.0.1.example.com/",
            "http://10.0.0.1/",
            "ftp://127.0.0.1/",
        ] {
            assert!(full(far).unwrap_err().starts_with("$AWS_CONTAINER_CREDENTIALS_FULL_URI "), "{far}");
        }
    }

    #[test]
    fn secrets_are_whole_and_not_repeated() {
        assert!(read(&[("AWS_ACCESS_KEY_ID", "AKIA")]).unwrap_err().contains("set both or neither"));
        let id = ("AWS_ACCESS_KEY_ID", "ASIAEXAMPLE");
        for (name, value) in [("AWS_SECRET_ACCESS_KEY", "hush\nhush"), ("AWS_SECRET_ACCESS_KEY", "hüsh")] {
            let text = read(&[id, (name, value)]).unwrap_err();
            assert!(text.contains(name) && !text.contains("sh\n") && !text.contains("hüsh"), "{text}");
        }
        let both = [id, ("AWS_SECRET_ACCESS_KEY", "hush-1"), ("AWS_SESSION_TOKEN", "hush-2")];
        let found = read(&both).unwrap();
        let keys = found.keys.as_ref().unwrap();
        let token = keys.session_token.as_ref().map(Secret::reveal);
        assert_eq!((&*keys.id, keys.secret.reveal(), token), ("ASIAEXAMPLE", "hush-1", Some("hush-2")));
        assert!(!format!("{found:?}").contains("hush"));
        let token = [
            ("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "/x"),
            ("AWS_CONTAINER_AUTHORIZATION_TOKEN", "Basic hush"),
        ];
        assert!(matches!(read(&token).unwrap().container.unwrap().authorization, Authorization::Token(_)));
    }
}
