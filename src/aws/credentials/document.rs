//! Credentials as JSON: what the metadata service, a container's agent and a `credential_process` answer. A core.
//!
//! The parser recurses into what it ignores, so length and depth are checked before it sees anything. It leaves strings
//! escaped; they are unescaped here. Secrets are borrowed from the caller's wiped buffer until they are [`Keys`]: a
//! copy in a fixed array would stay behind on the stack.
//!
//! Sources: Amazon EC2 User Guide, "Retrieve security credentials from instance metadata"; Amazon ECS Developer Guide,
//! "Task IAM role"; AWS SDKs and Tools Reference Guide, "Process credential provider".

use std::fmt;
use std::time::SystemTime;

use serde::Deserialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use zeroize::Zeroizing;

use super::{Issued, Keys};
use crate::aws::control::clip;
use crate::decode::text::unescape;
use crate::limits;

/// Who wrote a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// A service: a `Code` other than `Success` is a refusal.
    Service,
    /// A `credential_process`: `Version` must be 1.
    Process,
}

/// Why there are no credentials in a document. Never holds a part of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoKeys {
    /// Longer than [`limits::CREDENTIALS_BYTES`].
    TooLong,
    /// Nested deeper than [`limits::CREDENTIALS_DEPTH`].
    TooDeep,
    /// It is not a JSON object with members of the right types and lengths.
    NotADocument,
    /// This member is missing.
    Missing(&'static str),
    /// This member has a value that it cannot have.
    Wrong(&'static str),
    /// The issuer says so.
    Refused {
        /// E.g. `AssumeRoleUnauthorizedAccess`; clipped.
        code: String,
        /// In words; clipped, may be empty.
        message: String,
    },
}

impl fmt::Display for NoKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NoKeys::TooLong => write!(f, "the answer is longer than {} bytes", limits::CREDENTIALS_BYTES),
            NoKeys::TooDeep => f.write_str("the answer is nested too deep"),
            NoKeys::NotADocument => f.write_str("the answer is not a JSON document with credentials"),
            NoKeys::Missing(member) => write!(f, "the answer has no {member}"),
            NoKeys::Wrong(member) => write!(f, "the answer has a {member} that cannot be used"),
            NoKeys::Refused { code, message } if message.is_empty() => write!(f, "refused ({code})"),
            NoKeys::Refused { code, message } => write!(f, "refused ({code}: {message})"),
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Document<'a> {
    version: Option<u32>,
    #[serde(alias = "code")]
    code: Option<heapless::String<64>>,
    #[serde(borrow, alias = "message")]
    message: Option<&'a str>,
    access_key_id: Option<heapless::String<{ limits::ACCESS_KEY_ID_BYTES }>>,
    #[serde(borrow)]
    secret_access_key: Option<&'a str>,
    #[serde(borrow, alias = "SessionToken")]
    token: Option<&'a str>,
    expiration: Option<heapless::String<64>>,
}

/// Reads a document. `now` is the issuer's time, by which the rest of the keys' life is known.
///
/// # Errors
/// When it holds no usable credentials.
pub fn read(bytes: &[u8], form: Form, now: SystemTime) -> Result<Issued, NoKeys> {
    check_shape(bytes)?;
    let (document, _) =
        serde_json_core::from_slice::<Document<'_>>(bytes).map_err(|_| NoKeys::NotADocument)?;
    if let Some(code) = document.code.as_deref().filter(|code| *code != "Success") {
        let message = plain(document.message.unwrap_or_default(), "Message").unwrap_or_default();
        return Err(NoKeys::Refused { code: clip(code), message: clip(&message) });
    }
    if form == Form::Process && document.version != Some(1) {
        let wrong = NoKeys::Wrong("Version (it must be the number 1)");
        return Err(document.version.map_or(NoKeys::Missing("Version"), |_| wrong));
    }
    let member = |value: Option<&str>, name| word(value.ok_or(NoKeys::Missing(name))?, name);
    let id = member(document.access_key_id.as_deref(), "AccessKeyId")?;
    let secret = member(document.secret_access_key, "SecretAccessKey")?;
    let token =
        document.token.filter(|token| !token.is_empty()).map(|token| word(token, "Token")).transpose()?;
    let expires = document.expiration.as_deref().map(|text| time(text, "Expiration")).transpose()?;
    let keys = Keys::new(&id, &secret, token.as_deref().map(String::as_str), expires);
    Ok(Issued::at(now, keys))
}

/// Length and nesting, before a parser that recurses.
fn check_shape(bytes: &[u8]) -> Result<(), NoKeys> {
    if bytes.len() > limits::CREDENTIALS_BYTES {
        return Err(NoKeys::TooLong);
    }
    let (mut depth, mut in_string, mut escaped) = (0usize, false, false);
    for byte in bytes {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'{' | b'[' if !in_string => depth += 1,
            b'}' | b']' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > limits::CREDENTIALS_DEPTH {
            return Err(NoKeys::TooDeep);
        }
    }
    Ok(())
}

/// A member's text.
fn plain(raw: &str, name: &'static str) -> Result<Zeroizing<String>, NoKeys> {
    let mut buffer = Zeroizing::new(Vec::new());
    let text = unescape(raw.as_bytes(), &mut buffer).map_err(|_| NoKeys::Wrong(name))?;
    let text = std::str::from_utf8(text).map_err(|_| NoKeys::Wrong(name))?;
    Ok(Zeroizing::new(text.to_owned()))
}

/// A member's text that goes into a header.
fn word(raw: &str, name: &'static str) -> Result<Zeroizing<String>, NoKeys> {
    let text = plain(raw, name)?;
    match !text.is_empty() && text.bytes().all(|c| c.is_ascii_graphic()) {
        true => Ok(text),
        false => Err(NoKeys::Wrong(name)),
    }
}

/// An RFC 3339 time.
pub(in crate::aws) fn time(text: &str, name: &'static str) -> Result<SystemTime, NoKeys> {
    let time = OffsetDateTime::parse(text.trim(), &Rfc3339).map_err(|_| NoKeys::Wrong(name))?;
    Ok(time.into())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    /// 2030-01-01T00:00:00Z
    const NEW_YEAR: Duration = Duration::from_secs(1_893_456_000);

    fn now() -> SystemTime {
        SystemTime::UNIX_EPOCH + NEW_YEAR
    }

    fn service(text: &str) -> Result<Issued, NoKeys> {
        read(text.as_bytes(), Form::Service, now())
    }

    /// The example of the EC2 User Guide.
    const METADATA: &str = r#"{
      "Code" : "Success",
      "LastUpdated" : "2029-12-31T23:16:26Z",
      "Type" : "AWS-HMAC",
      "AccessKeyId" : "ASIAIOSFODNN7EXAMPLE",
      "SecretAccessKey" : "wJalrXUtnFEMI\/K7MDENG/bPxRfiCYEXAMPLEKEY",
      "Token" : "token\u003d",
      "Expiration" : "2030-01-01T06:00:00Z"
    }"#;

    #[test]
    fn the_metadata_services_document() {
        let issued = service(METADATA).unwrap();
        assert_eq!(issued.keys.access_key_id(), "ASIAIOSFODNN7EXAMPLE");
        assert_eq!(issued.keys.secret_access_key(), "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY");
        assert_eq!(issued.keys.session_token(), Some("token="));
        assert_eq!(issued.life, Some(Duration::from_secs(6 * 3600)));
    }

    #[test]
    fn a_containers_and_a_process_document() {
        let container = r#"{"RoleArn":"arn:aws:iam::1:role/x","AccessKeyId":"A","SecretAccessKey":"S","Token":"T",
                            "Expiration":"2030-01-01T01:00:00.5+01:00","More":{"a":[1,{"b":null}]}}"#;
        assert_eq!(service(container).unwrap().life, Some(Duration::from_millis(500)));
        let process = |text: &str| read(text.as_bytes(), Form::Process, now());
        let issued = process(r#"{"Version":1,"AccessKeyId":"A","SecretAccessKey":"S"}"#).unwrap();
        assert_eq!((issued.keys.session_token(), issued.life), (None, None));
        let session =
            r#"{"Version":1,"AccessKeyId":"A","SecretAccessKey":"S","SessionToken":"T","Expiration":null}"#;
        assert_eq!(process(session).unwrap().keys.session_token(), Some("T"));
        assert_eq!(process(r#"{"AccessKeyId":"A","SecretAccessKey":"S"}"#), Err(NoKeys::Missing("Version")));
        assert!(matches!(process(r#"{"Version":2,"AccessKeyId":"A"}"#), Err(NoKeys::Wrong(_))));
        assert_eq!(process(r#"{"Version":"1"}"#), Err(NoKeys::NotADocument));
    }

    #[test]
    fn keys_that_have_ended_have_no_life_left() {
        let late = METADATA.replace("2030-01-01T06", "2029-01-01T06");
        assert_eq!(service(&late).unwrap().life, Some(Duration::ZERO));
    }

    #[test]
    fn a_refusal_is_passed_on_clipped() {
        for text in [
            r#"{"Code":"AssumeRoleUnauthorizedAccess","Message":"EC2 cannot assume the role x.\nSee\u0021"}"#,
            r#"{"code":"AssumeRoleUnauthorizedAccess","message":"EC2 cannot assume the role x.\nSee\u0021"}"#,
        ] {
            let said = service(text).unwrap_err().to_string();
            assert_eq!(said, "refused (AssumeRoleUnauthorizedAccess: EC2 cannot assume the role x. See!)");
        }
        assert_eq!(service(r#"{"Code":"Failed"}"#).unwrap_err().to_string(), "refused (Failed)");
    }

    #[test]
    fn what_is_no_document_is_told_without_repeating_it() {
        for (text, why) in [
            ("", NoKeys::NotADocument),
            ("null", NoKeys::NotADocument),
            ("[]", NoKeys::NotADocument),
            ("<html>", NoKeys::NotADocument),
            ("{", NoKeys::NotADocument),
            (r#"{"AccessKeyId":"A","SecretAccessKey":"hush"} x"#, NoKeys::NotADocument),
            (r#"{"AccessKeyId":"A","SecretAccessKey":"hush""#, NoKeys::NotADocument),
            (r#"{"AccessKeyId":5,"SecretAccessKey":"hush"}"#, NoKeys::NotADocument),
            (r#"{"AccessKeyId":"A","AccessKeyId":"B"}"#, NoKeys::NotADocument),
            ("{}", NoKeys::Missing("AccessKeyId")),
            (r#"{"AccessKeyId":"A"}"#, NoKeys::Missing("SecretAccessKey")),
            (r#"{"AccessKeyId":"A","SecretAccessKey":""}"#, NoKeys::Wrong("SecretAccessKey")),
            (r#"{"AccessKeyId":"A","SecretAccessKey":"hush\n"}"#, NoKeys::Wrong("SecretAccessKey")),
            (r#"{"AccessKeyId":"A","SecretAccessKey":"hush\q"}"#, NoKeys::Wrong("SecretAccessKey")),
            (r#"{"AccessKeyId":"A","SecretAccessKey":"s","Token":"hüsh"}"#, NoKeys::Wrong("Token")),
            (
                r#"{"AccessKeyId":"A","SecretAccessKey":"hush","Expiration":"soon"}"#,
                NoKeys::Wrong("Expiration"),
            ),
        ] {
            let got = service(text).unwrap_err();
            assert_eq!(got, why, "{text}");
            assert!(!format!("{got} {got:?}").contains("sh"), "{got}");
        }
    }

    #[test]
    fn length_and_depth_are_checked_before_the_parser() {
        let deep = format!(r#"{{"x":{}"#, "[".repeat(15_000));
        assert_eq!(service(&deep), Err(NoKeys::TooDeep));
        assert_eq!(service(&" ".repeat(limits::CREDENTIALS_BYTES + 1)), Err(NoKeys::TooLong));
        let quoted = format!(r#"{{"AccessKeyId":"A","SecretAccessKey":"S","x":"{}"}}"#, "[\\\"{".repeat(100));
        assert!(service(&quoted).is_ok());
        assert_eq!(
            service(&format!(r#"{{"AccessKeyId":"{}"}}"#, "A".repeat(129))),
            Err(NoKeys::NotADocument)
        );
    }

    proptest! {
        #[test]
        fn a_document_says_what_was_written(id in "[A-Z0-9]{1,128}", secret in "[!-~]{1,80}", token in "[!-~]{0,300}") {
            let text = serde_json::json!({"AccessKeyId": id, "SecretAccessKey": secret, "Token": token}).to_string();
            let keys = service(&text).unwrap().keys;
            prop_assert_eq!(keys.access_key_id(), id);
            prop_assert_eq!(keys.secret_access_key(), secret);
            prop_assert_eq!(keys.session_token().unwrap_or(""), token);
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), cut in 0..METADATA.len()) {
            let _ = read(&bytes, Form::Process, now());
            prop_assert!(service(&METADATA[..cut]).is_err());
        }
    }
}
