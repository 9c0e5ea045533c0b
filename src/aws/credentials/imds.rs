//! The role of an EC2 instance, from its metadata service: a session token (IMDSv2), the role's name, its keys.
//! Version 1, without the token, is never used: it answers whoever can make this machine send a GET.
//!
//! Source: Amazon EC2 User Guide, "Use the Instance Metadata Service to access instance metadata".

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, StatusCode, Uri};
use http_body_util::Full;

use super::Issued;
use super::document::{self, Form, NoKeys};
use crate::aws::control::{Answer, NoAnswer, ask, clip};
use crate::aws::fault::{Class, Fault};
use crate::net;

/// The service is on the host: it answers in milliseconds, or not at all.
pub(super) const TIMEOUTS: net::Timeouts = net::Timeouts {
    connect: Duration::from_secs(2),
    first_byte: Duration::from_secs(4),
    stall: Duration::from_secs(4),
};

const TOKEN: &str = "/latest/api/token";
const ROLES: &str = "/latest/meta-data/iam/security-credentials/";
const TOKEN_HEADER: &str = "x-aws-ec2-metadata-token";
const TTL_HEADER: &str = "x-aws-ec2-metadata-token-ttl-seconds";
/// The token is used for the next two requests.
const TTL: &str = "60";

/// Asks the service at `base` for the keys of the instance's role.
pub(super) async fn issue(base: &Uri, client: &net::Client) -> Result<Issued, Fault> {
    let service = Service { base, client };
    let token = service.token().await?;
    let role = service.role(&token).await?;
    let answer = service.get(&format!("{ROLES}{role}"), &token).await?;
    if answer.status != StatusCode::OK {
        return Err(service.status(answer.status, "the role's credentials"));
    }
    document::read(&answer.body, Form::Service, answer.date).map_err(|why| match why {
        NoKeys::Refused { .. } => service.fault(
            Class::Denied,
            "role-denied",
            &format!("role {role} gives no credentials, {why}: does its trust policy let ec2.amazonaws.com assume it?"),
        ),
        why => service.fault(Class::Retry, "bad-answer", &why.to_string()),
    })
}

struct Service<'a> {
    base: &'a Uri,
    client: &'a net::Client,
}

impl Service<'_> {
    async fn token(&self) -> Result<HeaderValue, Fault> {
        let request = self.request(Method::PUT, TOKEN).header(TTL_HEADER, TTL);
        let answer = match self.send(request).await {
            Err(NoAnswer::Net(error)) => return Err(self.no_token(&error)),
            answer => answer.map_err(|why| why.fault(self))?,
        };
        match answer.status {
            StatusCode::OK => {}
            StatusCode::FORBIDDEN => {
                return Err(self.fault(
                    Class::Config,
                    "no-credentials",
                    "it refuses: is it turned off for this instance (HttpEndpoint)?",
                ));
            }
            StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED => {
                let why = "it gives no session token (IMDSv2), and without one it is not used";
                return Err(self.fault(Class::Config, "no-credentials", why));
            }
            status => return Err(self.status(status, "a session token")),
        }
        let token = answer.word().and_then(|token| HeaderValue::from_str(token).ok());
        let mut token = token.ok_or_else(|| self.not_metadata("no session token"))?;
        token.set_sensitive(true);
        Ok(token)
    }

    /// The answer to the token's request, and no other, is sent with a limit of network hops, 1 unless it is set: the
    /// connection works, but behind a container's bridge the answer never comes (wazuh/wazuh#22218,
    /// aws/amazon-cloudwatch-agent#249).
    fn no_token(&self, error: &net::Error) -> Fault {
        match error.kind() {
            net::Kind::FirstByteTimeout | net::Kind::Stall => self.fault(
                Class::Config,
                "hop-limit",
                "it takes connections, but its answer with the session token does not get here: inside a container \
                 that is the hop limit; set the instance's HttpPutResponseHopLimit to 2 (aws ec2 \
                 modify-instance-metadata-options --http-put-response-hop-limit 2), or use the host's network",
            ),
            net::Kind::Refused | net::Kind::Unreachable | net::Kind::ConnectTimeout => {
                let why = format!("{error}; is this an EC2 instance?");
                self.fault(Class::Retry, "network", &why)
            }
            _ => Fault::of_net(self, error),
        }
    }

    async fn role(&self, token: &HeaderValue) -> Result<String, Fault> {
        let answer = self.get(ROLES, token).await?;
        match answer.status {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND => {
                let why = "the instance has no role: attach an instance profile to it";
                return Err(self.fault(Class::Denied, "no-credentials", why));
            }
            status => return Err(self.status(status, "the role's name")),
        }
        let good = |c: u8| c.is_ascii_alphanumeric() || b"_+=,.@-".contains(&c);
        match answer.word().filter(|name| name.len() <= 128 && name.bytes().all(good)) {
            Some(name) => Ok(name.to_owned()),
            None => Err(self.not_metadata("no role's name")),
        }
    }

    async fn get(&self, path: &str, token: &HeaderValue) -> Result<Answer, Fault> {
        let request = self.request(Method::GET, path).header(TOKEN_HEADER, token.clone());
        self.send(request).await.map_err(|why| why.fault(self))
    }

    fn request(&self, method: Method, path: &str) -> http::request::Builder {
        let base = self.base.to_string();
        Request::builder().method(method).uri(format!("{}{path}", base.trim_end_matches('/')))
    }

    async fn send(&self, request: http::request::Builder) -> Result<Answer, NoAnswer> {
        let request =
            request.body(Full::<Bytes>::default()).map_err(|why| NoAnswer::Unsendable(why.to_string()))?;
        ask(self.client, request).await
    }

    fn status(&self, status: StatusCode, what: &str) -> Fault {
        let why = format!("asked for {what} it answers HTTP {}", status.as_u16());
        self.fault(Class::Retry, if status.is_server_error() { "server" } else { "bad-answer" }, &why)
    }

    fn not_metadata(&self, what: &str) -> Fault {
        let why = format!(
            "{what} is in its answer: is that a metadata service, or does something else answer for it?"
        );
        self.fault(Class::Retry, "bad-answer", &why)
    }

    fn fault(&self, class: Class, cause: &'static str, why: &str) -> Fault {
        Fault::new(class, cause, format!("{self}: {why}"))
    }
}

impl std::fmt::Display for Service<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let host = self.base.authority().map_or("", |authority| authority.as_str());
        write!(f, "the instance metadata service at {}", clip(host))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::scripted::{Reply, Server};

    const KEYS: &[u8] =
        br#"{"Code":"Success","AccessKeyId":"ASIAX","SecretAccessKey":"hush","Token":"hush-hush",
        "Expiration":"2030-01-01T06:00:00Z"}"#;

    fn ok(body: &[u8]) -> Reply {
        Reply::new(200, "", body)
    }

    async fn issue_from(server: &Server) -> Result<Issued, Fault> {
        let short = Duration::from_millis(300);
        let timeouts = net::Timeouts { connect: short, first_byte: short, stall: short };
        let base = format!("http://{}", server.address).parse().unwrap();
        issue(&base, &net::Client::plain(timeouts)).await
    }

    #[tokio::test]
    async fn token_role_and_keys_are_asked_for_in_this_order() {
        let dated = Reply::new(200, "Date: Tue, 01 Jan 2030 00:00:00 GMT\r\n", KEYS);
        let server = Server::start([ok(b"to-ken=="), ok(b"trail-reader\n"), dated]).await;
        let issued = issue_from(&server).await.unwrap();
        assert_eq!((issued.keys.access_key_id(), issued.keys.secret_access_key()), ("ASIAX", "hush"));
        assert_eq!(issued.life, Some(Duration::from_secs(6 * 3600)));
        let [token, role, keys] = &server.requests()[..] else { panic!("three requests") };
        assert!(token.starts_with("PUT /latest/api/token HTTP/1.1\r\n"), "{token}");
        assert!(token.contains("x-aws-ec2-metadata-token-ttl-seconds: 60\r\n"), "{token}");
        assert!(role.starts_with("GET /latest/meta-data/iam/security-credentials/ HTTP/1.1\r\n"), "{role}");
        assert!(keys.starts_with("GET /latest/meta-data/iam/security-credentials/trail-reader HTTP/1.1\r\n"));
        for request in [role, keys] {
            assert!(request.contains("x-aws-ec2-metadata-token: to-ken==\r\n"), "{request}");
        }
    }

    /// wazuh/wazuh#22218, aws/amazon-cloudwatch-agent#249
    #[tokio::test]
    async fn a_token_that_never_arrives_is_the_hop_limit() {
        let server = Server::start([Reply::raw(b"").then_hang()]).await;
        let fault = issue_from(&server).await.unwrap_err();
        assert_eq!((fault.class, fault.cause), (Class::Config, "hop-limit"));
        assert!(fault.text.contains("HttpPutResponseHopLimit to 2"), "{}", fault.text);
        assert_eq!(server.requests().len(), 1, "version 1 is not tried");
    }

    #[tokio::test]
    async fn nobody_there_is_not_the_hop_limit() {
        let base = "http://127.0.0.1:9".parse().unwrap();
        let fault = issue(&base, &net::Client::plain(TIMEOUTS)).await.unwrap_err();
        assert_eq!(fault.cause, "network");
        assert!(fault.text.contains("is this an EC2 instance?"), "{}", fault.text);
    }

    #[tokio::test]
    async fn each_refusal_says_what_to_do() {
        let denied = br#"{"Code":"AssumeRoleUnauthorizedAccess","Message":"EC2 cannot assume the role x."}"#;
        for (script, class, cause, words) in [
            (vec![Reply::new(403, "", b"")], Class::Config, "no-credentials", "HttpEndpoint"),
            (vec![Reply::new(404, "", b"")], Class::Config, "no-credentials", "IMDSv2"),
            (vec![Reply::new(500, "", b"")], Class::Retry, "server", "HTTP 500"),
            (
                vec![ok(b"<html>sign in</html> here")],
                Class::Retry,
                "bad-answer",
                "is that a metadata service",
            ),
            (
                vec![ok(b"t"), Reply::new(404, "", b"")],
                Class::Denied,
                "no-credentials",
                "attach an instance profile",
            ),
            (vec![ok(b"t"), ok(b"../../user-data")], Class::Retry, "bad-answer", "no role's name"),
            (vec![ok(b"t"), ok(b"r"), Reply::new(401, "", b"")], Class::Retry, "bad-answer", "HTTP 401"),
            (vec![ok(b"t"), ok(b"r"), ok(denied)], Class::Denied, "role-denied", "trust policy"),
            (vec![ok(b"t"), ok(b"r"), ok(b"{}")], Class::Retry, "bad-answer", "has no AccessKeyId"),
            (vec![ok(b"t"), ok(b"r"), ok(&KEYS[..80])], Class::Retry, "bad-answer", "not a JSON document"),
            (vec![ok(b"t"), ok(b"r"), ok(&[b' '; 20_000])], Class::Retry, "bad-answer", "longer than 16384"),
        ] {
            let server = Server::start(script).await;
            let fault = issue_from(&server).await.unwrap_err();
            assert_eq!((&fault.class, fault.cause), (&class, cause), "{fault}");
            assert!(fault.text.starts_with("the instance metadata service at 127.0.0.1:"), "{fault}");
            assert!(fault.text.contains(words), "{fault}");
            assert!(!format!("{fault} {fault:?}").contains("hush"), "{fault}");
        }
    }
}
