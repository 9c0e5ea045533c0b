//! Profiles of the files that AWS's tools share: which keys a profile means, and which roles are assumed with them.
//! The files are read anew each time, for other tools renew what is in them.
//!
//! Source: AWS SDKs and Tools Reference Guide, "Assume role credential provider", "Using shared config and credentials
//! files".

use std::io;
use std::path::Path;
use std::time::Duration;

use zeroize::Zeroizing;

use super::Keys;
use super::ini::{self, File};
use crate::aws::control::clip;
use crate::aws::fault::{Class, Fault};
use crate::config::{self, Environment, Role};
use crate::limits;

const SESSION: Duration = Duration::from_secs(3600);
const SESSION_NAME: &str = "trailspool";
/// Ways to log in that need a person, or that this agent does not know.
const UNUSABLE: [(&str, &str); 4] = [
    ("mfa_serial", "asks for a person's second factor, which a service does not have"),
    ("sso_session", "asks a person to log in (SSO)"),
    ("sso_start_url", "asks a person to log in (SSO)"),
    ("web_identity_token_file", "is a web identity, which this version does not support"),
];

/// What a profile comes to.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) base: Base,
    /// Each assumed with the keys before it.
    pub(super) roles: Vec<Role>,
}

/// Where the first keys come from.
#[derive(Debug)]
pub(super) enum Base {
    Keys(Keys),
    /// A command line. It may hold a secret.
    Process(config::Secret),
    Environment,
    Instance,
    Container,
}

/// Why a profile gives no keys.
#[derive(Debug)]
pub(super) enum Failed {
    /// There is no such profile, and nobody asked for it by name.
    Absent(String),
    Fault(Fault),
}

impl Failed {
    pub(super) fn fault(self) -> Fault {
        match self {
            Failed::Absent(why) => Fault::new(Class::Config, "no-credentials", why),
            Failed::Fault(fault) => fault,
        }
    }
}

impl From<Fault> for Failed {
    fn from(fault: Fault) -> Failed {
        Failed::Fault(fault)
    }
}

/// Reads the files and follows the profile.
pub(super) fn plan(name: &str, environment: &Environment) -> Result<Plan, Failed> {
    let files = Files {
        credentials: Text::read(environment.credentials_file.as_deref(), true)?,
        config: Text::read(environment.config_file.as_deref(), false)?,
    };
    if !files.has(name) {
        return Err(Failed::Absent(format!(
            "there is no profile {} in {}",
            clip(name),
            files.names(environment)
        )));
    }
    Ok(files.follow(name)?)
}

struct Files<'e> {
    credentials: Text<'e>,
    config: Text<'e>,
}

/// A file's text; empty when it is not there.
struct Text<'e> {
    path: &'e Path,
    bytes: Zeroizing<Vec<u8>>,
    /// Others may read it: what mends that.
    open: Option<String>,
}

impl Text<'_> {
    /// `secrets`: the file is for secrets, so others may never read it.
    fn read(path: Option<&Path>, secrets: bool) -> Result<Text<'_>, Fault> {
        let Some(path) = path else {
            return Ok(Text { path: Path::new(""), bytes: Zeroizing::default(), open: None });
        };
        let bytes = match config::bounded(path, limits::PROFILES_BYTES) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Zeroizing::default(),
            read => read.map_err(|error| unusable(path, &format!("cannot be read: {error}")))?,
        };
        let open = config::readable_by_others(path);
        if let (true, Some(why)) = (secrets, &open) {
            return Err(unusable(path, why));
        }
        if std::str::from_utf8(&bytes).is_err() {
            return Err(unusable(path, "is not UTF-8 text"));
        }
        Ok(Text { path, bytes, open })
    }

    fn text(&self) -> &str {
        std::str::from_utf8(&self.bytes).unwrap_or_default() // checked when it was read
    }
}

impl Files<'_> {
    fn has(&self, name: &str) -> bool {
        ini::has(self.credentials.text(), File::Credentials, name)
            || ini::has(self.config.text(), File::Config, name)
    }

    /// A value that is not empty. The credentials file comes first.
    fn value(&self, name: &str, key: &str) -> Option<&str> {
        let set = |value: Option<&'_ str>| value.is_some_and(|value| !value.is_empty());
        let first = ini::value(self.credentials.text(), File::Credentials, name, key);
        let second = ini::value(self.config.text(), File::Config, name, key);
        if set(first) { first } else { second.filter(|value| !value.is_empty()) }
    }

    fn names(&self, environment: &Environment) -> String {
        let paths = [&environment.credentials_file, &environment.config_file];
        let names: Vec<String> =
            paths.into_iter().flatten().map(|path| clip(&path.to_string_lossy())).collect();
        names.join(" or ")
    }

    fn follow(&self, name: &str) -> Result<Plan, Fault> {
        let mut visited: heapless::Vec<&str, { limits::PROFILE_CHAIN }> = heapless::Vec::new();
        let mut roles = Vec::new();
        let mut name = name;
        let base = loop {
            if visited.contains(&name) {
                return Err(broken(name, "refers back to itself by source_profile"));
            }
            let first = visited.is_empty();
            if visited.push(name).is_err() {
                return Err(broken(
                    name,
                    &format!("comes after {} others, which is too many", visited.len()),
                ));
            }
            if !self.has(name) {
                return Err(broken(name, "is named by source_profile, but is not there"));
            }
            // A profile that others build on gives its own keys, if it has any.
            if !first && let Some(keys) = self.keys(name)? {
                break Base::Keys(keys);
            }
            let Some(role) = self.role(name)? else { break self.base(name)? };
            roles.push(role);
            match (self.value(name, "source_profile"), self.value(name, "credential_source")) {
                (Some(_), Some(_)) => {
                    return Err(broken(
                        name,
                        "has source_profile and credential_source: only one may be there",
                    ));
                }
                (Some(own), None) if own == name => break self.base(name)?,
                (Some(other), None) => name = other,
                (None, Some(source)) => break self.source(name, source)?,
                (None, None) => {
                    return Err(broken(
                        name,
                        "has role_arn, but neither source_profile nor credential_source",
                    ));
                }
            }
        };
        roles.reverse();
        Ok(Plan { base, roles })
    }

    fn base(&self, name: &str) -> Result<Base, Fault> {
        if let Some(keys) = self.keys(name)? {
            return Ok(Base::Keys(keys));
        }
        if let Some(command) = self.value(name, "credential_process") {
            return Ok(Base::Process(config::Secret::new(command.to_owned())));
        }
        Err(broken(name, self.unusable_way(name).unwrap_or("has no credentials")))
    }

    fn source(&self, name: &str, source: &str) -> Result<Base, Fault> {
        match source {
            "Environment" => Ok(Base::Environment),
            "Ec2InstanceMetadata" => Ok(Base::Instance),
            "EcsContainer" => Ok(Base::Container),
            _ => {
                let right = "Environment, Ec2InstanceMetadata or EcsContainer";
                Err(broken(name, &format!("has a credential_source that is none of {right}")))
            }
        }
    }

    fn keys(&self, name: &str) -> Result<Option<Keys>, Fault> {
        let id = self.value(name, "aws_access_key_id");
        let secret = self.value(name, "aws_secret_access_key");
        let (id, secret) = match (id, secret) {
            (None, None) => return Ok(None),
            (Some(id), Some(secret)) => (id, secret),
            _ => return Err(broken(name, "has only one of aws_access_key_id and aws_secret_access_key")),
        };
        let token = self.value(name, "aws_session_token");
        let from_config = |key| {
            ini::value(self.config.text(), File::Config, name, key).is_some_and(|value| !value.is_empty())
        };
        if let Some(why) = &self.config.open
            && (from_config("aws_secret_access_key") || from_config("aws_session_token"))
        {
            return Err(unusable(
                self.config.path,
                &format!("holds a secret of profile {} and {why}", clip(name)),
            ));
        }
        let good = |value: &str, most| value.len() <= most && value.bytes().all(|c| c.is_ascii_graphic());
        let most = limits::SECRET_BYTES as usize;
        if !good(id, limits::ACCESS_KEY_ID_BYTES)
            || !good(secret, most)
            || !token.is_none_or(|token| good(token, most))
        {
            return Err(broken(name, "has keys that are too long or have characters that no key has"));
        }
        Ok(Some(Keys::new(id, secret, token, None)))
    }

    fn role(&self, name: &str) -> Result<Option<Role>, Fault> {
        let Some(arn) = self.value(name, "role_arn") else { return Ok(None) };
        if let Some(why) = self.unusable_way(name) {
            return Err(broken(name, why));
        }
        let seconds = match self.value(name, "duration_seconds").map(str::parse::<u64>) {
            None => SESSION,
            Some(Ok(seconds @ 900..=43_200)) => Duration::from_secs(seconds),
            Some(_) => return Err(broken(name, "has a duration_seconds that is not from 900 to 43200")),
        };
        Ok(Some(Role {
            arn: arn.into(),
            external_id: self.value(name, "external_id").map(Into::into),
            session_name: self.value(name, "role_session_name").unwrap_or(SESSION_NAME).into(),
            duration: seconds,
        }))
    }

    fn unusable_way(&self, name: &str) -> Option<&'static str> {
        UNUSABLE.into_iter().find(|(key, _)| self.value(name, key).is_some()).map(|(_, why)| why)
    }
}

fn broken(name: &str, why: &str) -> Fault {
    Fault::new(Class::Config, "credentials", format!("profile {} {why}", clip(name)))
}

fn unusable(path: &Path, why: &str) -> Fault {
    Fault::new(Class::Config, "credentials", format!("{} {why}", clip(&path.to_string_lossy())))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    struct Lab {
        _folder: tempfile::TempDir,
        environment: Environment,
    }

    impl Lab {
        fn new(credentials: &str, config: &str) -> Lab {
            let folder = tempfile::tempdir().unwrap();
            let file = |name: &str, text: &str, mode| {
                let path = folder.path().join(name);
                fs::write(&path, text).unwrap();
                fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
                Some(path)
            };
            let environment = Environment {
                credentials_file: file("credentials", credentials, 0o600),
                config_file: file("config", config, 0o644),
                ..Environment::default()
            };
            Lab { _folder: folder, environment }
        }

        fn plan(&self, name: &str) -> Result<Plan, String> {
            plan(name, &self.environment).map_err(|failed| {
                let fault = failed.fault();
                assert!(!format!("{fault} {fault:?}").contains("hush"), "{fault}");
                fault.text
            })
        }
    }

    fn id(base: &Base) -> &str {
        let Base::Keys(keys) = base else { panic!("{base:?}") };
        keys.access_key_id()
    }

    const KEYS: &str = "[default]\naws_access_key_id = AKIADEFAULT\naws_secret_access_key = hush\n\
                        [both]\naws_access_key_id = AKIABOTH\naws_secret_access_key = hush\n";

    #[test]
    fn a_profile_has_keys_or_a_command() {
        let lab = Lab::new(
            &format!(
                "{KEYS}[temporary]\naws_access_key_id=ASIA\naws_secret_access_key=hush\naws_session_token=hush-hush\n"
            ),
            "[profile tool]\ncredential_process = /opt/tool --secret hush\n[default]\naws_access_key_id = AKIAOTHER\n",
        );
        assert_eq!(id(&lab.plan("default").unwrap().base), "AKIADEFAULT");
        let Base::Keys(keys) = lab.plan("temporary").unwrap().base else { panic!() };
        assert_eq!((keys.secret_access_key(), keys.session_token()), ("hush", Some("hush-hush")));
        let tool = lab.plan("tool").unwrap();
        assert!(!format!("{tool:?} {keys:?}").contains("hush"));
        assert!(matches!(tool.base, Base::Process(command) if command.reveal() == "/opt/tool --secret hush"));
    }

    #[test]
    fn roles_are_assumed_from_the_innermost_profile_outwards() {
        let lab = Lab::new(
            KEYS,
            "[profile outer]\nrole_arn = arn:outer\nsource_profile = inner\nexternal_id = e\nrole_session_name = me\n\
             duration_seconds = 900\n[profile inner]\nrole_arn = arn:inner\nsource_profile = default\n\
             [profile both]\nrole_arn = arn:both\nsource_profile = both\n\
             [profile on-both]\nrole_arn = arn:on-both\nsource_profile = both\n\
             [profile instance]\nrole_arn = arn:i\ncredential_source = Ec2InstanceMetadata\n\
             [profile container]\nrole_arn = arn:c\ncredential_source = EcsContainer\n\
             [profile environment]\nrole_arn = arn:e\ncredential_source = Environment\n",
        );
        let arns = |plan: &Plan| plan.roles.iter().map(|role| role.arn.to_string()).collect::<Vec<_>>();
        let outer = lab.plan("outer").unwrap();
        assert_eq!(
            (id(&outer.base), arns(&outer)),
            ("AKIADEFAULT", vec!["arn:inner".into(), "arn:outer".into()])
        );
        let role = &outer.roles[1];
        assert_eq!((role.external_id.as_deref(), &*role.session_name), (Some("e"), "me"));
        assert_eq!((role.duration, outer.roles[0].duration), (Duration::from_secs(900), SESSION));
        // A profile may build on its own keys; one that is built upon gives them as they are.
        let both = lab.plan("both").unwrap();
        assert_eq!((id(&both.base), arns(&both)), ("AKIABOTH", vec!["arn:both".into()]));
        let on_both = lab.plan("on-both").unwrap();
        assert_eq!((id(&on_both.base), arns(&on_both)), ("AKIABOTH", vec!["arn:on-both".into()]));
        assert!(matches!(lab.plan("instance").unwrap().base, Base::Instance));
        assert!(matches!(lab.plan("container").unwrap().base, Base::Container));
        assert!(matches!(lab.plan("environment").unwrap().base, Base::Environment));
    }

    #[test]
    fn what_is_wrong_with_a_profile_is_told_by_its_name() {
        let mut config = String::from(
            "[profile a]\nrole_arn = r\nsource_profile = b\n[profile b]\nrole_arn = r\nsource_profile = a\n\
             [profile lost]\nrole_arn = r\nsource_profile = none\n[profile bare]\nregion = x\n\
             [profile half]\naws_access_key_id = A\n[profile alone]\nrole_arn = r\n\
             [profile two]\nrole_arn = r\nsource_profile = default\ncredential_source = Environment\n\
             [profile odd]\nrole_arn = r\ncredential_source = hush\n[profile sso]\nsso_session = s\n\
             [profile mfa]\nrole_arn = r\nsource_profile = default\nmfa_serial = m\n\
             [profile web]\nrole_arn = r\nweb_identity_token_file = t\n\
             [profile long]\nrole_arn = r\nsource_profile = default\nduration_seconds = 99999\n\
             [profile umlaut]\naws_access_key_id = A\naws_secret_access_key = hüsh hush\n",
        );
        for n in 0..10 {
            config += &format!("[profile p{n}]\nrole_arn = r\nsource_profile = p{}\n", n + 1);
        }
        let lab = Lab::new(KEYS, &config);
        for (name, words) in [
            ("a", "profile a refers back to itself"),
            ("lost", "profile none is named by source_profile, but is not there"),
            ("bare", "profile bare has no credentials"),
            ("half", "profile half has only one of"),
            ("alone", "neither source_profile nor credential_source"),
            ("two", "only one may be there"),
            ("odd", "none of Environment, "),
            ("sso", "profile sso asks a person to log in"),
            ("mfa", "second factor"),
            ("web", "web identity"),
            ("long", "900 to 43200"),
            ("p0", "profile p8 comes after 8 others"),
            ("umlaut", "may be read by others"),
            ("none", "there is no profile none in "),
        ] {
            let text = lab.plan(name).unwrap_err();
            assert!(text.contains(words), "{name}: {text}");
        }
    }

    #[test]
    fn a_file_of_secrets_that_others_may_read_is_refused_with_the_cure() {
        let lab = Lab::new(KEYS, "[profile a]\naws_access_key_id = A\naws_secret_access_key = hush\n");
        let config = lab.environment.config_file.clone().unwrap();
        let text = lab.plan("a").unwrap_err();
        assert!(text.contains(&format!("chmod 600 '{}'", config.display())), "{text}");
        assert!(lab.plan("default").is_ok(), "no secret of this profile stands in the open file");
        fs::set_permissions(&config, fs::Permissions::from_mode(0o600)).unwrap();
        assert!(lab.plan("a").is_ok());
        let credentials = lab.environment.credentials_file.clone().unwrap();
        fs::set_permissions(&credentials, fs::Permissions::from_mode(0o640)).unwrap();
        let text = lab.plan("default").unwrap_err();
        assert!(text.contains(&format!("(mode 0640): chmod 600 '{}'", credentials.display())), "{text}");
    }

    #[test]
    fn files_that_are_not_there_or_not_text_are_told_apart() {
        let none = Environment {
            credentials_file: Some("/nowhere/credentials".into()),
            config_file: Some("/nowhere/config".into()),
            ..Environment::default()
        };
        let Err(Failed::Absent(text)) = plan("default", &none) else { panic!() };
        assert_eq!(text, "there is no profile default in /nowhere/credentials or /nowhere/config");
        let lab = Lab::new(KEYS, "");
        fs::write(lab.environment.config_file.as_ref().unwrap(), b"[profile \xff]\n").unwrap();
        assert!(lab.plan("default").unwrap_err().ends_with("config is not UTF-8 text"));
        fs::write(lab.environment.config_file.as_ref().unwrap(), vec![b'#'; 600_000]).unwrap();
        assert!(lab.plan("default").unwrap_err().contains("longer than 512 KiB"));
    }
}
