//! The role of an ECS task or an EKS pod, from its agent. Where that may be is checked by the configuration.
//!
//! Source: AWS SDKs and Tools Reference Guide, "Container credential provider".

use bytes::Bytes;
use http::{HeaderValue, Request, StatusCode, header};
use http_body_util::Full;
use zeroize::Zeroizing;

use super::Issued;
use super::document::{self, Form, NoKeys};
use crate::aws::control::{NoAnswer, ask, clip};
use crate::aws::fault::{Class, Fault};
use crate::config::{self, Authorization};
use crate::{limits, net};

/// Asks for the keys.
pub(super) async fn issue(container: &config::Container, client: &net::Client) -> Result<Issued, Fault> {
    let host = container.url.authority().map_or("", |authority| authority.as_str());
    let on = format!("the container credentials at {}", clip(host));
    let mut request = Request::get(container.url.clone())
        .body(Full::<Bytes>::default())
        .map_err(|why| NoAnswer::Unsendable(why.to_string()).fault(&on))?;
    if let Some(token) = authorization(&container.authorization)? {
        request.headers_mut().insert(header::AUTHORIZATION, token);
    }
    let answer = ask(client, request).await.map_err(|why| why.fault(&on))?;
    let read = document::read(&answer.body, Form::Service, answer.date);
    let (class, cause, why) = match (answer.status, read) {
        (StatusCode::OK, Ok(issued)) => return Ok(issued),
        (_, Err(why @ NoKeys::Refused { .. })) => (Class::Denied, "role-denied", why.to_string()),
        (StatusCode::OK, Err(why)) => (Class::Retry, "bad-answer", why.to_string()),
        (status, _) if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS => {
            (Class::Retry, "server", format!("HTTP {}", status.as_u16()))
        }
        (status, _) => {
            let why = format!("HTTP {}: does the task or the pod have a role?", status.as_u16());
            (Class::Denied, "role-denied", why)
        }
    };
    Err(Fault::new(class, cause, format!("{on}: {why}")))
}

/// The header's value. A file is read each time, for its token is replaced now and then.
fn authorization(authorization: &Authorization) -> Result<Option<HeaderValue>, Fault> {
    let value = match authorization {
        Authorization::None => return Ok(None),
        Authorization::Token(token) => HeaderValue::from_str(token.reveal()).ok(),
        Authorization::File(path) => {
            let bytes = config::bounded(path, limits::SECRET_BYTES).map_err(|error| {
                let text = format!("$AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE {}: {error}", path.display());
                Fault::new(Class::Config, "credentials", text)
            })?;
            let token: &Zeroizing<Vec<u8>> = &bytes;
            HeaderValue::from_bytes(token.trim_ascii_end()).ok()
        }
    };
    let Some(mut value) = value.filter(|value| !value.is_empty()) else {
        let text = "the container's authorization token is empty or cannot stand in a header".to_owned();
        return Err(Fault::new(Class::Config, "credentials", text));
    };
    value.set_sensitive(true);
    Ok(Some(value))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::{Container, Secret};
    use crate::net::scripted::{Reply, Server};

    const KEYS: &[u8] =
        br#"{"RoleArn":"arn:aws:iam::1:role/x","AccessKeyId":"ASIAX","SecretAccessKey":"hush",
        "Token":"hush-hush","Expiration":"2030-01-01T06:00:00Z"}"#;

    async fn issue_from(server: &Server, authorization: Authorization) -> Result<Issued, Fault> {
        let url = format!("http://{}/v2/credentials/1?a=b", server.address).parse().unwrap();
        let short = Duration::from_secs(2);
        let timeouts = net::Timeouts { connect: short, first_byte: short, stall: short };
        issue(&Container { url, authorization }, &net::Client::plain(timeouts)).await
    }

    #[tokio::test]
    async fn the_token_is_sent_along_and_read_anew_from_its_file() {
        let server = Server::start((0..4).map(|_| Reply::new(200, "", KEYS))).await;
        issue_from(&server, Authorization::None).await.unwrap();
        issue_from(&server, Authorization::Token(Secret::new("Basic abc".into()))).await.unwrap();
        let file = tempfile::NamedTempFile::new().unwrap();
        for token in ["first\n", "second"] {
            std::fs::write(file.path(), token).unwrap();
            let issued = issue_from(&server, Authorization::File(file.path().into())).await.unwrap();
            assert_eq!(issued.keys.session_token(), Some("hush-hush"));
        }
        let requests = server.requests();
        assert!(requests.iter().all(|request| request.starts_with("GET /v2/credentials/1?a=b HTTP/1.1\r\n")));
        assert!(!requests[0].contains("authorization"));
        for (request, token) in requests[1..].iter().zip(["Basic abc", "first", "second"]) {
            assert!(request.contains(&format!("authorization: {token}\r\n")), "{request}");
        }
    }

    #[tokio::test]
    async fn a_token_that_cannot_be_sent_is_told_without_it() {
        let server = Server::start([]).await;
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "hush\nhush").unwrap();
        for authorization in [
            Authorization::Token(Secret::new("hush\r\nx: y".into())),
            Authorization::File(file.path().into()),
            Authorization::File("/nowhere/hash".into()),
        ] {
            let fault = issue_from(&server, authorization).await.unwrap_err();
            assert_eq!(fault.cause, "credentials");
            assert!(!fault.text.contains("hush"), "{fault}");
        }
    }

    #[tokio::test]
    async fn refusals_are_told_apart() {
        for (reply, class, words) in [
            (
                Reply::new(400, "", br#"{"code":"NoIdInRequest","message":"no id"}"#),
                Class::Denied,
                "NoIdInRequest: no id",
            ),
            (Reply::new(404, "", b""), Class::Denied, "have a role?"),
            (Reply::new(500, "", b"oops"), Class::Retry, "HTTP 500"),
            (Reply::new(429, "", b""), Class::Retry, "HTTP 429"),
            (Reply::new(200, "", b"<html>"), Class::Retry, "not a JSON document"),
            (Reply::new(200, "", b""), Class::Retry, "not a JSON document"),
        ] {
            let server = Server::start([reply]).await;
            let fault = issue_from(&server, Authorization::None).await.unwrap_err();
            assert_eq!(fault.class, class, "{fault}");
            assert!(fault.text.starts_with("the container credentials at 127.0.0.1:"), "{fault}");
            assert!(fault.text.contains(words), "{fault}");
        }
    }
}
