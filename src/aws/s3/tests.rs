//! S3 against scripted servers.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use super::*;
use crate::aws::control::now;
use crate::config::{self, Credentials, Endpoint, Secret, Source};
use crate::net::scripted::{Reply, Server};
use crate::net::{Client, Options, Proxies, Proxy, Timeouts};

pub(crate) const TIMEOUTS: Timeouts = Timeouts {
    connect: Duration::from_secs(5),
    first_byte: Duration::from_secs(5),
    stall: Duration::from_millis(200),
};

/// A source with every default, at this endpoint.
fn source(endpoint: Endpoint, bucket: &str) -> Source {
    let text = format!(
        "[[source]]\nname = \"prod\"\nbucket = {bucket:?}\nregion = \"us-east-1\"\n[source.credentials]\nmethod = \
         \"ec2-role\"\n[[output]]\nname = \"out\"\nkind = \"stdout\"\n"
    );
    let config = config::parse(&text, Path::new("test.toml"), &|_| None).unwrap();
    let credentials = Credentials::IamUser {
        access_key_id: "AKIAIOSFODNN7EXAMPLE".into(),
        secret_access_key: Secret::new("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY".into()),
    };
    Source { endpoint, credentials, ..config.sources.into_iter().next().unwrap() }
}

fn endpoint(tls: bool, host: &str, port: Option<u16>, path_style: bool) -> Endpoint {
    Endpoint { tls, host: host.into(), port, path_style }
}

/// The bucket `acme` at a scripted server.
pub(crate) fn at(address: SocketAddr) -> S3 {
    let endpoint = endpoint(false, "127.0.0.1", Some(address.port()), true);
    of(&source(endpoint, "acme"))
}

fn of(source: &Source) -> S3 {
    through(source, Proxies::default())
}

fn through(source: &Source, proxies: Proxies) -> S3 {
    let client = Client::new(Options { timeouts: TIMEOUTS, proxies, ..Default::default() }).unwrap();
    S3::new(source, client.clone(), Provider::new(source, client))
}

async fn list(s3: &S3) -> Result<(Vec<String>, ListEnd), Fault> {
    let mut keys = Vec::new();
    let end = s3
        .list(&ListRequest { prefix: "AWSLogs/", ..Default::default() }, &mut |listed| {
            keys.push(format!("{listed:?}"));
            ControlFlow::Continue(())
        })
        .await?;
    Ok((keys, end))
}

#[test]
fn a_bucket_is_a_sub_domain_unless_that_cannot_work() {
    for (endpoint, bucket, base) in [
        (
            endpoint(true, "s3.us-east-1.amazonaws.com", None, false),
            "acme",
            "https://acme.s3.us-east-1.amazonaws.com",
        ),
        (
            endpoint(true, "s3.us-east-1.amazonaws.com", None, true),
            "acme",
            "https://s3.us-east-1.amazonaws.com/acme",
        ),
        (
            endpoint(true, "s3.us-east-1.amazonaws.com", None, false),
            "a.b",
            "https://s3.us-east-1.amazonaws.com/a.b",
        ),
        (endpoint(false, "minio", Some(9000), false), "a.b", "http://a.b.minio:9000"),
        (endpoint(false, "127.0.0.1", Some(9000), false), "acme", "http://127.0.0.1:9000/acme"),
        (endpoint(false, "[::1]", Some(9000), false), "acme", "http://[::1]:9000/acme"),
    ] {
        assert_eq!(&*of(&source(endpoint, bucket)).0.target().base, base);
    }
}

#[tokio::test]
async fn a_listing_asks_for_what_it_should() {
    let page = b"<ListBucketResult><Contents><Key>k</Key><Size>7</Size></Contents></ListBucketResult>";
    let server = Server::start([Reply::new(200, "", page)]).await;
    let request = ListRequest {
        prefix: "a b/",
        delimiter: true,
        start_after: Some("a b/c+d"),
        continuation: Some("x=/+"),
        max_keys: Some(5),
    };
    let mut keys = 0;
    let end = at(server.address)
        .list(&request, &mut |listed| {
            assert_eq!(listed, Listed::Key { key: "k", size: 7 });
            keys += 1;
            ControlFlow::Continue(())
        })
        .await;
    assert_eq!((end.unwrap(), keys), (ListEnd::Complete, 1));
    let head = &server.requests()[0];
    let target = "GET /acme/?list-type=2&prefix=a%20b%2F&encoding-type=url&delimiter=%2F&start-after=a%20b%2Fc%2Bd\
                  &continuation-token=x%3D%2F%2B&max-keys=5 HTTP/1.1\r\n";
    assert!(head.starts_with(target), "{head}");
    let host = format!("host: 127.0.0.1:{}\r\n", server.address.port());
    for header in
        [&*host, "user-agent: trailspool/", "x-amz-date: ", "authorization: AWS4-HMAC-SHA256 Credential=AKIA"]
    {
        assert!(head.contains(header), "{header} in {head}");
    }
    assert!(!head.contains("accept-encoding"), "{head}");
}

#[tokio::test]
async fn a_key_is_sent_as_it_is_signed() {
    let server = Server::start([Reply::new(200, "ETag: \"e\"\r\n", b"x")]).await;
    at(server.address).get("/a//b c+%ä/./..", None).await.unwrap();
    let head = &server.requests()[0];
    assert!(head.starts_with("GET /acme//a//b%20c%2B%25%C3%A4/./.. HTTP/1.1\r\n"), "{head}");
}

/// Source: S3 User Guide, "Downloading objects from Requester Pays buckets".
#[tokio::test]
async fn a_requester_that_pays_says_so_in_every_signed_request() {
    let empty = Reply::new(200, "", b"<ListBucketResult/>");
    let server = Server::start([empty.clone(), Reply::new(200, "", b"x"), empty]).await;
    let endpoint = endpoint(false, "127.0.0.1", Some(server.address.port()), true);
    let source = Source { request_payer: true, ..source(endpoint, "acme") };
    let s3 = of(&source);
    list(&s3).await.unwrap();
    s3.get("k", None).await.unwrap();
    list(&at(server.address)).await.unwrap();
    let requests = server.requests();
    for head in &requests[..2] {
        assert!(head.contains("x-amz-request-payer: requester\r\n"), "{head}");
        assert!(head.contains(";x-amz-request-payer,"), "signed: {head}");
    }
    assert!(!requests[2].contains("request-payer"), "{}", requests[2]);
}

#[tokio::test]
async fn a_wrong_clock_is_corrected_by_the_servers_date_at_once_and_for_good() {
    let skewed = Reply::new(
        403,
        "Date: Wed, 21 Oct 2015 07:28:00 GMT\r\n",
        b"<Error><Code>RequestTimeTooSkewed</Code></Error>",
    );
    let empty = Reply::new(200, "", b"<ListBucketResult/>");
    let server = Server::start([skewed, empty.clone(), empty]).await;
    let s3 = at(server.address);
    assert_eq!(list(&s3).await.unwrap().1, ListEnd::Complete);
    assert_eq!(list(&s3.clone()).await.unwrap().1, ListEnd::Complete);
    let requests = server.requests();
    assert!(!requests[0].contains("x-amz-date: 20151021T07"), "{}", requests[0]);
    assert!(requests[1].contains("x-amz-date: 20151021T072"), "{}", requests[1]);
    assert!(requests[2].contains("x-amz-date: 20151021T07"), "{}", requests[2]);
}

#[tokio::test]
async fn a_clock_that_cannot_be_corrected_ends_after_one_more_try() {
    let skewed = Reply::new(
        403,
        "Date: Wed, 21 Oct 2015 07:28:00 GMT\r\n",
        b"<Error><Code>RequestTimeTooSkewed</Code></Error>",
    );
    let server = Server::start([skewed.clone(), skewed]).await;
    assert_eq!(list(&at(server.address)).await.unwrap_err().cause, "clock");
    assert!(server.is_through());
}

/// The bucket `acme` at AWS's endpoint in us-east-1, where a scripted proxy answers for all hosts.
fn at_aws(proxy: SocketAddr) -> S3 {
    let endpoint = endpoint(false, "s3.us-east-1.amazonaws.com", None, false);
    let proxy = Proxy::new(format!("http://{proxy}").parse().unwrap(), None).unwrap();
    through(&source(endpoint, "acme"), Proxies::all(proxy))
}

/// Graylog2/graylog-plugin-aws#3, durch/rust-s3#18: a 301 was not understood.
#[tokio::test]
async fn a_bucket_in_another_region_is_followed_there_and_stays_followed() {
    let redirect = |endpoint: &str| {
        format!("<Error><Code>PermanentRedirect</Code><Endpoint>{endpoint}</Endpoint></Error>")
    };
    let malformed = "<Error><Code>AuthorizationHeaderMalformed</Code><Region>eu-west-1</Region></Error>";
    let header = "x-amz-bucket-region: eu-west-1\r\n";
    for wrong in [
        Reply::new(301, header, b""),
        Reply::new(301, "", redirect("acme.s3-eu-west-1.amazonaws.com").as_bytes()),
        Reply::new(301, "", redirect("acme.s3.eu-west-1.amazonaws.com").as_bytes()),
        Reply::new(307, header, b"<Error><Code>TemporaryRedirect</Code></Error>"),
        Reply::new(400, "", malformed.as_bytes()),
    ] {
        let empty = Reply::new(200, "", b"<ListBucketResult/>");
        let server = Server::start([wrong.clone(), empty, Reply::new(200, "", b"x")]).await;
        let s3 = at_aws(server.address);
        assert_eq!(s3.warnings(), []);
        list(&s3).await.unwrap();
        s3.clone().get("k", None).await.unwrap();
        let heads = server.requests();
        for (head, region) in heads.iter().zip(["us-east-1", "eu-west-1", "eu-west-1"]) {
            let host = format!("acme.s3.{region}.amazonaws.com");
            assert!(head.starts_with(&format!("GET http://{host}/")), "{wrong:?}: {head}");
            assert!(head.contains(&format!("host: {host}\r\n")), "{head}");
            assert!(head.contains(&format!("/{region}/s3/aws4_request")), "{head}");
        }
        let [Warning { cause: "wrong-region", text }] = &s3.warnings()[..] else { panic!() };
        assert!(text.contains("write `region = \"eu-west-1\"` in [[source]] prod"), "{text}");
    }
}

#[tokio::test]
async fn with_an_endpoint_of_its_own_only_the_signature_follows() {
    let wrong = "<Error><Code>AuthorizationHeaderMalformed</Code><Region>garage</Region></Error>";
    let empty = Reply::new(200, "", b"<ListBucketResult/>");
    let server = Server::start([Reply::new(400, "", wrong.as_bytes()), empty]).await;
    let s3 = at(server.address);
    list(&s3).await.unwrap();
    assert!(server.requests()[1].contains("/garage/s3/aws4_request"), "{}", server.requests()[1]);
    assert_eq!(s3.warnings().len(), 1);
}

#[tokio::test]
async fn a_region_without_such_an_endpoint_is_not_followed() {
    let nowhere = Reply::new(301, "x-amz-bucket-region: xx-nowhere-1\r\n", b"");
    let server = Server::start([nowhere]).await;
    let fault = list(&at_aws(server.address)).await.unwrap_err();
    assert_eq!(fault.class, Class::WrongRegion("xx-nowhere-1".into()));
    assert!(server.is_through());
}

#[tokio::test]
async fn redirects_in_a_circle_end() {
    let to = |region: &str| Reply::new(301, &format!("x-amz-bucket-region: {region}\r\n"), b"");
    let server = Server::start([to("eu-west-1"), to("us-east-1"), to("eu-west-1"), to("us-east-1")]).await;
    let s3 = at_aws(server.address);
    for _ in 0..2 {
        assert_eq!(list(&s3).await.unwrap_err().cause, "wrong-region");
    }
    assert!(server.is_through());
}

#[tokio::test]
async fn a_large_skew_is_warned_of_while_answers_are_good() {
    let date = |ahead: u64| {
        let date = httpdate::fmt_http_date(now() + Duration::from_secs(ahead));
        Reply::new(200, &format!("Date: {date}\r\n"), b"<ListBucketResult/>")
    };
    let server = Server::start([date(400), date(0)]).await;
    let s3 = at(server.address);
    list(&s3).await.unwrap();
    let [Warning { cause: "clock", text }] = &s3.warnings()[..] else { panic!() };
    assert!(text.contains("6 minutes behind") && text.contains("NTP"), "{text}");
    list(&s3).await.unwrap();
    assert_eq!(s3.warnings(), [], "somebody set it right");
}

fn role_keys(id: &str) -> Reply {
    let keys = format!(r#"{{"AccessKeyId":"{id}","SecretAccessKey":"s","Token":"token-of-{id}"}}"#);
    Reply::new(200, "", keys.as_bytes())
}

/// The bucket at a scripted server, with the keys of an instance's role from another.
fn with_role(s3: &Server, metadata: &Server) -> S3 {
    let endpoint = endpoint(false, "127.0.0.1", Some(s3.address.port()), true);
    let metadata = format!("http://{}", metadata.address).parse().unwrap();
    of(&Source { credentials: Credentials::Ec2Role { metadata }, ..source(endpoint, "acme") })
}

const EXPIRED: &[u8] =
    b"<Error><Code>ExpiredToken</Code><Message>The provided token has expired.</Message></Error>";

#[tokio::test]
async fn expired_keys_are_renewed_and_the_request_sent_once_more() {
    let (t, r) = (Reply::new(200, "", b"t"), Reply::new(200, "", b"r"));
    let metadata = Server::start([
        t.clone(),
        r.clone(),
        role_keys("ASIAOLD"),
        t.clone(),
        r.clone(),
        role_keys("ASIANEW"),
    ])
    .await;
    let empty = Reply::new(200, "", b"<ListBucketResult/>");
    let server = Server::start([Reply::new(400, "", EXPIRED), empty.clone(), empty]).await;
    let s3 = with_role(&server, &metadata);
    assert_eq!(list(&s3).await.unwrap().1, ListEnd::Complete);
    assert_eq!(list(&s3).await.unwrap().1, ListEnd::Complete);
    let requests = server.requests();
    for (request, id) in requests.iter().zip(["ASIAOLD", "ASIANEW", "ASIANEW"]) {
        assert!(request.contains(&format!("Credential={id}/")), "{request}");
        assert!(request.contains(&format!("x-amz-security-token: token-of-{id}\r\n")), "{request}");
    }
    assert!(metadata.is_through() && server.is_through());
}

/// Another tool put a new key into the place of an old one, and deleted that.
#[tokio::test]
async fn keys_that_are_not_known_any_more_are_asked_for_anew() {
    const UNKNOWN: &[u8] =
        b"<Error><Code>InvalidAccessKeyId</Code><Message>It does not exist.</Message></Error>";
    let (t, r) = (Reply::new(200, "", b"t"), Reply::new(200, "", b"r"));
    let keys = |id| [t.clone(), r.clone(), role_keys(id)];
    let metadata = Server::start([keys("ASIAOLD"), keys("ASIANEW")].concat()).await;
    let (empty, unknown) = (Reply::new(200, "", b"<ListBucketResult/>"), Reply::new(403, "", UNKNOWN));
    let server = Server::start([unknown.clone(), unknown, empty]).await;
    let s3 = with_role(&server, &metadata);
    assert_eq!(list(&s3).await.unwrap_err().cause, "access-key", "they came a moment ago");
    tokio::time::pause();
    tokio::time::advance(std::time::Duration::from_secs(60)).await;
    tokio::time::resume();
    assert_eq!(list(&s3).await.unwrap().1, ListEnd::Complete);
    for (request, id) in server.requests().iter().zip(["ASIAOLD", "ASIAOLD", "ASIANEW"]) {
        assert!(request.contains(&format!("Credential={id}/")), "{request}");
    }
    assert!(metadata.is_through() && server.is_through());
}

#[tokio::test]
async fn keys_that_stay_expired_end_after_one_renewal() {
    let (t, r) = (Reply::new(200, "", b"t"), Reply::new(200, "", b"r"));
    let keys = |id| [t.clone(), r.clone(), role_keys(id)];
    for (second, requests, words) in [("ASIAOLD", 1, "there is no newer one"), ("ASIANEW", 2, "ExpiredToken")]
    {
        let metadata = Server::start([keys("ASIAOLD"), keys(second)].concat()).await;
        let server = Server::start([Reply::new(400, "", EXPIRED), Reply::new(400, "", EXPIRED)]).await;
        let fault = list(&with_role(&server, &metadata)).await.unwrap_err();
        assert_eq!((&fault.class, fault.cause), (&Class::Denied, "expired"), "{fault}");
        assert!(fault.text.contains(words), "{fault}");
        assert_eq!(server.requests().len(), requests);
    }
    // An IAM user's keys are not renewed by anybody but the operator.
    let server = Server::start([Reply::new(400, "", EXPIRED)]).await;
    assert_eq!(list(&at(server.address)).await.unwrap_err().cause, "expired");
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn what_a_listing_cannot_be_is_a_fault() {
    for (reply, class, cause) in [
        (Reply::new(200, "", b""), Class::Retry, "bad-answer"),
        (Reply::new(200, "", b"<ListBucketResult><Contents><Key>"), Class::Retry, "bad-answer"),
        (Reply::new(200, "", b"<Error><Code>InternalError</Code></Error>"), Class::Retry, "server"),
        (
            Reply::new(200, "Content-Type: text/html\r\n", b"<!DOCTYPE html><html><body>"),
            Class::Config,
            "not-s3",
        ),
        (Reply::announcing(1000, 200, "", b"<ListBucketResult>").then_close(), Class::Retry, "closed"),
        (Reply::announcing(1000, 200, "", b"<ListBucketResult>").then_hang(), Class::Retry, "timeout"),
        (
            Reply::announcing(1000, 403, "", b"<Error><Code>AccessDenied</Code>").then_close(),
            Class::Denied,
            "list-denied",
        ),
    ] {
        let server = Server::start([reply.clone()]).await;
        let fault = list(&at(server.address)).await.unwrap_err();
        assert_eq!((&fault.class, fault.cause), (&class, cause), "{reply:?}: {fault}");
    }
}

#[tokio::test]
async fn only_the_same_version_is_continued_and_only_where_asked() {
    let range = "Content-Range: bytes 5-9/10\r\nETag: \"v1\"\r\n";
    for (reply, class) in [
        (Reply::new(206, range, b"56789"), None),
        (Reply::new(206, "Content-Range: bytes 5-9/10\r\n", b"56789"), None),
        (Reply::new(206, "Content-Range: bytes 5-9/10\r\nETag: \"v2\"\r\n", b"56789"), Some(Class::Restart)),
        (Reply::new(206, "Content-Range: bytes 0-9/10\r\n", b"0123456789"), Some(Class::Restart)),
        (Reply::new(206, "", b"56789"), Some(Class::Restart)),
        (Reply::new(200, "ETag: \"v1\"\r\n", b"0123456789"), Some(Class::Restart)),
        (Reply::new(412, "", b""), Some(Class::Restart)),
    ] {
        let server = Server::start([reply.clone()]).await;
        match (at(server.address).get("k", Some((5, "\"v1\""))).await, class) {
            (Ok(body), None) => assert_eq!(body.len, Some(10)),
            (Err(fault), Some(class)) => assert_eq!(fault.class, class, "{reply:?}"),
            (got, _) => panic!("{reply:?}: {got:?}"),
        }
        let head = &server.requests()[0];
        assert!(head.contains("range: bytes=5-\r\n") && head.contains("if-match: \"v1\"\r\n"), "{head}");
        assert!(head.contains("SignedHeaders=host;if-match;range;"), "{head}");
    }
}

#[tokio::test]
async fn a_portals_page_is_no_object() {
    let server = Server::start([Reply::new(200, "Content-Type: text/html\r\n", b"<p>Sign in")]).await;
    assert_eq!(at(server.address).get("k", None).await.unwrap_err().cause, "not-s3");
}
