//! The table of S3's errors, and reports of what went wrong with them elsewhere.

use super::*;

const LIST: Operation<'_> = Operation::List { prefix: "AWSLogs/" };
const GET: Operation<'_> = Operation::Get { key: "folder/AWSLogs/1/k.json.gz" };
const DATE: &str = "Wed, 21 Oct 2015 07:28:00 GMT";

fn fault(operation: Operation<'_>, status: u16, headers: &[(&'static str, &str)], body: &str) -> Fault {
    let on = On { operation, bucket: "acme", region: "us-east-1", endpoint: "s3.amazonaws.com" };
    let headers =
        headers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
    Fault::of_answer(&on, StatusCode::from_u16(status).unwrap(), &headers, body.as_bytes())
}

fn xml(code: &str, rest: &str) -> String {
    format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code>{rest}</Error>")
}

/// Operation, status, code, the rest of the document; class, cause, words of the advice.
#[test]
fn the_table() {
    use Class::{Config, Denied, Gone, Restart, Retry};
    let expecting = "<Message>The authorization header is malformed; the region 'us-east-1' is wrong; expecting \
                     'us-west-2'</Message>";
    // wazuh/wazuh#13885, boto/boto3#2952, aws/aws-cli#6713: a KMS denial looks like a plain one.
    let kms = "<Message>User: arn:aws:iam::1:user/x is not authorized to perform: kms:Decrypt on this \
               resource</Message>";
    let sse_c = "<Message>The object was stored using a form of Server Side Encryption. The correct parameters must be \
                 provided to retrieve the object.</Message>";
    let west = || Class::WrongRegion("us-west-2".into());
    for (operation, status, code, rest, class, cause, advice) in [
        (
            LIST,
            301,
            "PermanentRedirect",
            "<Endpoint>acme.s3-us-west-2.amazonaws.com</Endpoint>",
            west(),
            "wrong-region",
            "us-west-2",
        ),
        (
            LIST,
            301,
            "PermanentRedirect",
            "<Endpoint>acme.s3.us-west-2.amazonaws.com</Endpoint>",
            west(),
            "wrong-region",
            "us-west-2",
        ),
        (
            LIST,
            301,
            "PermanentRedirect",
            "<Endpoint>s3.amazonaws.com</Endpoint>",
            Config,
            "wrong-region",
            "`region`",
        ),
        (
            GET,
            400,
            "AuthorizationHeaderMalformed",
            "<Region>us-west-2</Region>",
            west(),
            "wrong-region",
            "us-west-2",
        ),
        (
            GET,
            400,
            "AuthorizationHeaderMalformed",
            expecting,
            west(),
            "wrong-region",
            "region = \"us-west-2\"",
        ),
        (GET, 400, "IllegalLocationConstraintException", "", Config, "wrong-region", "`region`"),
        (
            GET,
            400,
            "AuthorizationHeaderMalformed",
            "<Region>us-east-1</Region>",
            Config,
            "wrong-region",
            "`endpoint`",
        ),
        (GET, 307, "TemporaryRedirect", "<Region>us-east-1</Region>", Retry, "server", "so new"),
        (GET, 403, "SignatureDoesNotMatch", "", Denied, "signature", "secret access key"),
        (GET, 403, "InvalidAccessKeyId", "", Denied, "access-key", "access_key_id"),
        (GET, 400, "ExpiredToken", "", Denied, "expired", "renew"),
        (GET, 403, "ExpiredTokenException", "", Denied, "expired", "renew"),
        (GET, 403, "InvalidClientTokenId", "", Denied, "access-key", "access_key_id"),
        (GET, 403, "InvalidSignatureException", "", Denied, "signature", "secret access key"),
        (LIST, 403, "NotSignedUp", "", Denied, "account", "AWS Support"),
        (LIST, 403, "AllAccessDisabled", "", Denied, "account", "AWS Support"),
        (GET, 403, "RegionDisabledException", "", Denied, "region-disabled", "us-east-1"),
        (GET, 400, "KmsAccessDenied", "", Denied, "kms-denied", "KMS key"),
        (GET, 400, "KMS.ThrottlingException", "", Retry, "slow-down", "slow down"),
        (GET, 403, "OverLimit", "", Retry, "slow-down", "slow down"),
        (GET, 400, "InvalidRequest", sse_c, Denied, "customer-key", "SSE-C"),
        (LIST, 404, "NoSuchAccessPoint", "", Config, "no-bucket", "no bucket"),
        (LIST, 403, "AccessDenied", "", Denied, "list-denied", "s3:ListBucket on bucket acme"),
        (GET, 403, "AccessDenied", "", Denied, "denied", "s3:GetObject on acme/folder/*"),
        (GET, 403, "AccessDenied", kms, Denied, "kms-denied", "kms:Decrypt"),
        (GET, 400, "KMS.DisabledException", "", Denied, "kms-denied", "KMS key"),
        (GET, 403, "InvalidObjectState", "", Denied, "archived", "restore"),
        (LIST, 404, "NoSuchBucket", "", Config, "no-bucket", "no bucket acme"),
        (GET, 404, "NoSuchKey", "", Gone, "gone", "not there"),
        (GET, 412, "PreconditionFailed", "", Restart, "changed", "replaced"),
        (GET, 416, "InvalidRange", "", Restart, "changed", "replaced"),
        (LIST, 503, "SlowDown", "", Retry, "slow-down", "slow down"),
        (LIST, 200, "SlowDown", "", Retry, "slow-down", "slow down"),
        (LIST, 500, "InternalError", "", Retry, "server", "failed"),
        (GET, 400, "RequestTimeout", "", Retry, "server", "failed"),
        (LIST, 405, "MethodNotAllowed", "", Config, "not-s3", "`endpoint`"),
        (LIST, 400, "InvalidArgument", "", Config, "refused", "configuration"),
    ] {
        let fault = fault(operation, status, &[("date", DATE)], &xml(code, rest));
        assert_eq!((&fault.class, fault.cause), (&class, cause), "{status} {code} {rest}: {fault}");
        assert!(fault.text.contains(advice) && fault.text.contains(code), "{fault}");
        assert!(fault.text.contains("bucket acme"), "{fault}");
    }
}

#[test]
fn a_status_without_a_document_is_enough() {
    for (operation, status, class, cause) in [
        (LIST, 301, Class::Config, "wrong-region"),
        (LIST, 403, Class::Denied, "list-denied"),
        (GET, 403, Class::Denied, "denied"),
        (GET, 404, Class::Gone, "gone"),
        (LIST, 404, Class::Config, "not-s3"),
        (GET, 407, Class::Config, "proxy-auth"),
        (GET, 412, Class::Restart, "changed"),
        (GET, 418, Class::Config, "refused"),
        (GET, 429, Class::Retry, "slow-down"),
        (GET, 500, Class::Retry, "server"),
        (GET, 502, Class::Retry, "server"),
        (GET, 503, Class::Retry, "slow-down"),
        (GET, 599, Class::Retry, "server"),
    ] {
        let fault = fault(operation, status, &[], "");
        assert_eq!((&fault.class, fault.cause), (&class, cause), "{status}: {fault}");
    }
}

/// Graylog2/graylog-plugin-aws#3, durch/rust-s3#18: a 301 was not understood.
#[test]
fn the_header_names_the_right_region_first() {
    let header = [("x-amz-bucket-region", "eu-central-1")];
    let body = xml("PermanentRedirect", "<Endpoint>b.s3-us-west-2.amazonaws.com</Endpoint>");
    assert_eq!(fault(LIST, 301, &header, &body).class, Class::WrongRegion("eu-central-1".into()));
    assert_eq!(fault(LIST, 301, &header, "").class, Class::WrongRegion("eu-central-1".into()));
    assert_eq!(fault(LIST, 301, &[("x-amz-bucket-region", "EU;rm")], "").class, Class::Config);
}

#[test]
fn a_wrong_clock_comes_with_the_servers_date() {
    let date = httpdate::parse_http_date(DATE).unwrap();
    let skewed = fault(GET, 403, &[("date", DATE)], &xml("RequestTimeTooSkewed", ""));
    assert_eq!((&skewed.class, skewed.cause), (&Class::ClockSkew(date), "clock"));
    assert!(skewed.is_transient());
    assert_eq!(fault(GET, 403, &[], &xml("RequestTimeTooSkewed", "")).class, Class::Denied);
    // As STS and SQS say it.
    let sts = "<Message>Signature expired: 20151021T070000Z is now earlier than 20151021T071300Z</Message>";
    let skewed = fault(GET, 403, &[("date", DATE)], &xml("SignatureDoesNotMatch", sts));
    assert_eq!((skewed.class, skewed.cause), (Class::ClockSkew(date), "clock"));
}

#[test]
fn retry_after_is_taken_along() {
    let slow =
        |value| fault(GET, 503, &[("retry-after", value), ("date", DATE)], &xml("SlowDown", "")).retry_after;
    assert_eq!(slow("7"), Some(Duration::from_secs(7)));
    assert_eq!(slow("Wed, 21 Oct 2015 07:28:30 GMT"), Some(Duration::from_secs(30)));
    assert_eq!(slow("soon"), None);
}

#[test]
fn a_web_page_is_no_s3() {
    for (headers, body) in [
        (&[("content-type", "text/html; charset=utf-8")][..], "<p>Sign in"),
        (&[], "\n<!doctype HTML><html>"),
        (&[], "<html><h1>403 Forbidden</h1></html>"),
    ] {
        for status in [302, 403, 404] {
            let fault = fault(LIST, status, headers, body);
            assert_eq!((&fault.class, fault.cause), (&Class::Config, "not-s3"), "{status}: {fault}");
            assert!(fault.text.contains("s3.amazonaws.com") && fault.text.contains("website"), "{fault}");
        }
        assert_eq!(fault(LIST, 502, headers, body).class, Class::Retry);
    }
}

#[test]
fn remote_text_is_clipped_cleaned_and_may_be_cut_off() {
    let long = xml("SlowDown", &format!("<Message>a&#10;b\x1B[2J{}</Message>", "x".repeat(5000)));
    let said = fault(GET, 503, &[], &long).text;
    assert!(said.len() < 700 && !said.contains(char::is_control), "{said}");
    let cut = fault(GET, 503, &[], "<Error><Code>SlowDown</Code><Message>Redu");
    assert_eq!(cut.cause, "slow-down");
    assert_eq!(fault(GET, 403, &[], &"<a>".repeat(100)).cause, "denied");
}
