//! Answers of a scripted SQS: what is asked, and what a refusal means.

use super::*;
use crate::config::{Credentials, Secret, Source};
use crate::discover::testing;
use crate::net::scripted::{Reply, Server};

const URL: &str = "http://127.0.0.1:1/444455556666/trail-queue";

fn json(status: u16, body: &str) -> Reply {
    Reply::new(status, "Content-Type: application/x-amz-json-1.0\r\n", body.as_bytes())
}

fn refusal(status: u16, code: &str, message: &str) -> Reply {
    let body = serde_json::json!({"__type": format!("com.amazonaws.sqs#{code}"), "message": message});
    json(status, &body.to_string())
}

/// The queue at a scripted server, with these credentials.
fn with(server: &Server, credentials: Credentials) -> Sqs {
    let client = net::Client::plain(net::Timeouts::default());
    let source = Source { credentials, ..testing::source("prod") };
    let url = URL.replace("127.0.0.1:1", &server.address.to_string());
    let queue = Queue::parse(&url, "us-west-2").unwrap();
    Sqs::new(&queue, client.clone(), Provider::new(&source, client))
}

fn at(server: &Server) -> Sqs {
    with(
        server,
        Credentials::IamUser {
            access_key_id: "AKIAIOSFODNN7EXAMPLE".into(),
            secret_access_key: Secret::new("hush".into()),
        },
    )
}

async fn fault(reply: Reply) -> Fault {
    let server = Server::start([reply]).await;
    at(&server).attributes().await.unwrap_err()
}

#[tokio::test]
async fn a_request_names_the_queue_and_is_signed_for_its_region() {
    let attributes = r#"{"Attributes":{"ApproximateNumberOfMessages":"12","ApproximateNumberOfMessagesNotVisible":"3",
        "ApproximateNumberOfMessagesDelayed":"0","VisibilityTimeout":"300","MessageRetentionPeriod":"345600",
        "DelaySeconds":"0","KmsMasterKeyId":"alias/trail","Policy":"{\"Version\":\"2012-10-17\"}","FifoQueue":"true",
        "RedrivePolicy":"{\"deadLetterTargetArn\":\"arn:aws:sqs:us-west-2:444455556666:dead\",\"maxReceiveCount\":\"10\"}",
        "NewInLaterVersions":"x"},"ResponseMetadata":{}}"#;
    let server = Server::start([json(200, attributes)]).await;
    let found = at(&server).attributes().await.unwrap();
    let expected = Attributes {
        waiting: Some(12),
        in_flight: Some(3),
        delayed: Some(0),
        visibility: Some(Duration::from_secs(300)),
        retention: Some(Duration::from_secs(345_600)),
        delay: Some(Duration::ZERO),
        redrive: Some(("arn:aws:sqs:us-west-2:444455556666:dead".into(), 10)),
        kms_key: Some("alias/trail".into()),
        fifo: true,
        has_policy: true,
    };
    assert_eq!(found, expected);
    let request = &server.requests()[0];
    for part in [
        "POST / HTTP/1.1\r\n",
        "x-amz-target: AmazonSQS.GetQueueAttributes\r\n",
        "content-type: application/x-amz-json-1.0\r\n",
        "/us-west-2/sqs/aws4_request, SignedHeaders=content-type;host;x-amz-date;x-amz-target, ",
        &format!(
            "{{\"QueueUrl\":\"http://{}/444455556666/trail-queue\",\"AttributeNames\":[\"All\"]}}",
            server.address
        ),
    ] {
        assert!(request.contains(part), "{part} is not in {request}");
    }
}

/// The number of a redrive policy comes with quotes or without; what is not said is not known.
#[tokio::test]
async fn attributes_may_be_missing_or_written_otherwise() {
    let some = r#"{"Attributes":{"RedrivePolicy":"{\"maxReceiveCount\":3,\"deadLetterTargetArn\":\"a\"}","VisibilityTimeout":"x"}}"#;
    for (body, redrive) in [(some, Some(("a".into(), 3))), ("{}", None)] {
        let server = Server::start([json(200, body)]).await;
        let expected = Attributes { redrive, ..Attributes::default() };
        assert_eq!(at(&server).attributes().await.unwrap(), expected, "{body}");
    }
    for body in ["", "<xml/>", "[]", "{\"Attributes\":{\"a\":1}}", "{\"Attributes\":{\"a\":\"\\x\"}}"] {
        assert_eq!(fault(json(200, body)).await.cause, "bad-answer", "{body}");
    }
}

/// Status, code, message; class, cause, words of the advice.
#[tokio::test]
async fn the_table() {
    use Class::{Config, Denied, Gone, Retry};
    let denied = "User: arn:aws:iam::1:user/x is not authorized to perform: sqs:getqueueattributes on resource: \
                  arn:aws:sqs:us-west-2:444455556666:trail-queue because no resource-based policy allows it";
    let kms =
        "User: arn:aws:iam::1:user/x is not authorized to perform: kms:Decrypt on resource: arn:aws:kms:…";
    for (status, code, message, class, cause, advice) in [
        (400, "QueueDoesNotExist", "", Config, "no-queue", "no queue trail-queue of account 444455556666"),
        (
            400,
            "AWS.SimpleQueueService.NonExistentQueue",
            "",
            Config,
            "no-queue",
            "get-queue-url --queue-name trail-queue",
        ),
        (400, "InvalidAddress", "", Config, "no-queue", "region us-west-2"),
        (
            403,
            "AccessDeniedException",
            denied,
            Denied,
            "queue-denied",
            "allow sqs:GetQueueAttributes on arn:aws:sqs:us-west-2:444455556666:trail-queue",
        ),
        (403, "AccessDenied", "", Denied, "queue-denied", "another account's"),
        (400, "KmsAccessDenied", kms, Denied, "kms-denied", "kms:Decrypt"),
        (400, "AccessDeniedException", kms, Denied, "kms-denied", "kms:Decrypt"),
        (400, "KMS.DisabledException", "", Denied, "kms-denied", "disabled"),
        (400, "KmsThrottled", "", Retry, "slow-down", "slow down"),
        (400, "RequestThrottled", "", Retry, "slow-down", "slow down"),
        (400, "ThrottlingException", "", Retry, "slow-down", "slow down"),
        (403, "OverLimit", "", Retry, "over-limit", "120,000"),
        (
            403,
            "SignatureDoesNotMatch",
            "Credential should be scoped to a valid region. ",
            Config,
            "wrong-region",
            "signed for region us-west-2",
        ),
        (
            403,
            "SignatureDoesNotMatch",
            "The request signature we calculated does not match",
            Denied,
            "signature",
            "secret access key",
        ),
        (403, "InvalidClientTokenId", "", Denied, "access-key", "`access_key_id`"),
        (403, "UnrecognizedClientException", "", Denied, "access-key", "`access_key_id`"),
        (403, "ExpiredTokenException", "", Denied, "expired", "renew"),
        (400, "ReceiptHandleIsInvalid", "", Gone, "gone", "not in flight"),
        (
            400,
            "InvalidParameterValue",
            "Value AQ for parameter ReceiptHandle is invalid. Reason: The receipt handle has expired.",
            Gone,
            "gone",
            "not in flight",
        ),
        (500, "InternalError", "", Retry, "server", "nothing to do"),
        (503, "ServiceUnavailable", "", Retry, "slow-down", "slow down"),
        (404, "UnknownOperationException", "", Config, "not-sqs", "does not serve SQS"),
        (400, "InvalidParameterValue", "x", Config, "refused", "`queue_url`"),
    ] {
        let fault = fault(refusal(status, code, message)).await;
        assert_eq!((&fault.class, fault.cause), (&class, cause), "{status} {code}: {fault}");
        assert!(fault.text.contains(advice) && fault.text.contains("/444455556666/trail-queue"), "{fault}");
        assert!(fault.said.starts_with(&format!("HTTP {status} ")), "{}", fault.said);
    }
}

#[tokio::test]
async fn what_is_not_sqs_says_so() {
    let html = "Content-Type: text/html\r\n";
    let query = "x-amzn-query-error: AWS.SimpleQueueService.NonExistentQueue;Sender\r\n";
    let xml = b"<ErrorResponse><Error><Code>InvalidClientTokenId</Code></Error></ErrorResponse>";
    for (reply, cause) in [
        (Reply::new(403, html, b"<html>Please log in"), "not-sqs"),
        (Reply::new(404, "", b"Not Found"), "not-sqs"),
        (Reply::new(200, html, b"<html>Please log in"), "bad-answer"),
        (Reply::new(502, html, b"<html>Bad Gateway"), "server"),
        (Reply::new(403, "", b""), "queue-denied"),
        (Reply::new(407, "", b""), "proxy-auth"),
        (Reply::new(400, query, b""), "no-queue"),
        (Reply::new(403, "", xml), "access-key"),
        (Reply::raw(b"SSH-2.0\r\n\r\n"), "not-http"),
    ] {
        let fault = fault(reply.clone()).await;
        assert_eq!(fault.cause, cause, "{reply:?}: {fault}");
    }
}

#[tokio::test]
async fn a_wrong_clock_is_corrected_once() {
    let date = "Date: Wed, 21 Oct 2015 07:28:00 GMT\r\n";
    let skewed = |code: &str, message: &str| {
        Reply::new(403, date, format!("{{\"__type\":\"x#{code}\",\"message\":\"{message}\"}}").as_bytes())
    };
    for skewed in [
        skewed("SignatureDoesNotMatch", "Signature expired: 20261125T000000Z is now earlier than"),
        skewed("AccessDenied", "Signature not yet current: x"),
        skewed("RequestTimeTooSkewed", ""),
    ] {
        let server = Server::start([skewed.clone(), json(200, "{}"), json(200, "{}")]).await;
        let sqs = at(&server);
        sqs.attributes().await.unwrap();
        sqs.attributes().await.unwrap();
        let signed = |request: &String| request.contains("x-amz-date: 20151021T07");
        assert_eq!(server.requests().iter().map(signed).collect::<Vec<_>>(), [false, true, true]);

        let server = Server::start([skewed.clone(), skewed]).await;
        assert_eq!(at(&server).attributes().await.unwrap_err().cause, "clock");
    }
}

#[tokio::test]
async fn expired_keys_are_renewed_once() {
    let keys = |id: &str| {
        let text = format!(
            "{{\"Code\":\"Success\",\"AccessKeyId\":\"{id}\",\"SecretAccessKey\":\"s\",\"Token\":\"t\"}}"
        );
        Reply::new(200, "", text.as_bytes())
    };
    let word = |text: &str| Reply::new(200, "", text.as_bytes());
    let metadata =
        Server::start([word("t"), word("r"), keys("ASIA1"), word("t"), word("r"), keys("ASIA2")]).await;
    let credentials =
        Credentials::Ec2Role { metadata: format!("http://{}", metadata.address).parse().unwrap() };
    let server = Server::start([refusal(403, "ExpiredToken", ""), json(200, "{}")]).await;
    with(&server, credentials).attributes().await.unwrap();
    let requests = server.requests();
    assert!(requests[0].contains("=ASIA1/") && requests[1].contains("=ASIA2/"), "{requests:?}");
}

const WAIT: Duration = Duration::from_secs(20);
const HIDDEN: Duration = Duration::from_secs(120);

#[tokio::test]
async fn messages_are_received_as_they_were_sent() {
    let body = "{\"s3Bucket\":\"b\",\"s3ObjectKey\":[\"ü \\\\ \\\"\"]}\n";
    let answer = serde_json::json!({"Messages": [
        {"MessageId": "m-1", "ReceiptHandle": "AQEB/+=", "Body": body, "MD5OfBody": "x",
         "Attributes": {"ApproximateReceiveCount": "3"}},
        {"MessageId": "m-2", "ReceiptHandle": "b", "Body": ""},
    ]});
    let server =
        Server::start([json(200, &answer.to_string()), json(200, "{}"), json(200, "{\"Messages\":[]}")])
            .await;
    let sqs = at(&server);
    let message = |id: &str, receipt: &str, receives, body: &str| Message {
        id: id.into(),
        receipt: receipt.into(),
        receives,
        body: body.as_bytes().to_vec(),
    };
    let expected = [message("m-1", "AQEB/+=", 3, body), message("m-2", "b", 1, "")];
    assert_eq!(sqs.receive(10, WAIT, HIDDEN).await.unwrap(), expected);
    assert_eq!(sqs.receive(1, WAIT, HIDDEN).await.unwrap(), []);
    assert_eq!(sqs.receive(1, WAIT, HIDDEN).await.unwrap(), []);
    let request = &server.requests()[0];
    for part in [
        "x-amz-target: AmazonSQS.ReceiveMessage\r\n",
        "\"MaxNumberOfMessages\":10,\"WaitTimeSeconds\":20,\"VisibilityTimeout\":120,\"AttributeNames\":[\"ApproximateReceiveCount\"]}",
    ] {
        assert!(request.contains(part), "{part} is not in {request}");
    }
}

#[tokio::test]
async fn an_answer_that_holds_no_usable_messages_is_a_fault() {
    let message =
        |receipt: &str| format!("{{\"MessageId\":\"m\",\"ReceiptHandle\":\"{receipt}\",\"Body\":\"b\"}}");
    for body in [
        "",
        "{\"Messages\":{}}",
        "{\"Messages\":[1]}",
        "{\"Messages\":[{}]}",
        &format!("{{\"Messages\":[{}]}}", message("")),
        &format!("{{\"Messages\":[{}]}}", message("a b")),
        &format!("{{\"Messages\":[{}]}}", message("a\\\"")),
        &format!("{{\"Messages\":[{}]}}", vec![message("a"); 11].join(",")),
        &format!("{{\"Messages\":[{}", message("a")),
    ] {
        let server = Server::start([json(200, body)]).await;
        assert_eq!(at(&server).receive(10, WAIT, HIDDEN).await.unwrap_err().cause, "bad-answer", "{body}");
    }
    let long = vec![b' '; limits::SQS_ANSWER_BYTES + 1];
    let server = Server::start([Reply::new(200, "", &long)]).await;
    assert_eq!(at(&server).receive(10, WAIT, HIDDEN).await.unwrap_err().cause, "bad-answer");
}

/// The longest message there is, every character of it written as an escape.
#[tokio::test]
async fn the_longest_message_is_received() {
    let body = format!(
        "{{\"Messages\":[{{\"MessageId\":\"m\",\"ReceiptHandle\":\"r\",\"Body\":\"{}\"}}]}}",
        "\\u00fc".repeat(512 * 1024)
    );
    let server = Server::start([json(200, &body)]).await;
    let messages = at(&server).receive(1, WAIT, HIDDEN).await.unwrap();
    assert_eq!(messages[0].body.len(), 1024 * 1024);
}

#[tokio::test]
async fn each_message_of_a_batch_has_its_own_outcome() {
    let receipts: Vec<Box<str>> = ["a", "b", "c", "d"].map(Into::into).into();
    let answer = r#"{"Failed":[{"Id":"1","SenderFault":true,"Code":"ReceiptHandleIsInvalid","Message":"x"},
        {"Id":"2","SenderFault":false,"Code":"InternalError"}],"Successful":[{"Id":"0"}]}"#;
    let server =
        Server::start([json(200, answer), json(200, answer), refusal(403, "AccessDenied", "")]).await;
    let sqs = at(&server);
    let classes = |outcomes: Vec<Result<(), Fault>>| -> Vec<Option<Class>> {
        outcomes.into_iter().map(|outcome| outcome.err().map(|fault| fault.class)).collect()
    };
    // The fourth is not spoken of.
    let expected = [None, Some(Class::Gone), Some(Class::Retry), Some(Class::Retry)];
    assert_eq!(classes(sqs.delete(&receipts).await.unwrap()), expected);
    assert_eq!(classes(sqs.hide(&receipts, HIDDEN).await.unwrap()), expected);
    let denied = sqs.delete(&receipts).await.unwrap_err();
    assert!(denied.cause == "queue-denied" && denied.text.contains("allow sqs:DeleteMessage on"), "{denied}");
    let requests = server.requests();
    assert!(
        requests[0].contains("AmazonSQS.DeleteMessageBatch")
            && requests[0].contains("{\"Id\":\"3\",\"ReceiptHandle\":\"d\"}]}")
    );
    let hidden = "{\"Id\":\"0\",\"ReceiptHandle\":\"a\",\"VisibilityTimeout\":120},";
    assert!(requests[1].contains("AmazonSQS.ChangeMessageVisibilityBatch") && requests[1].contains(hidden));
}

#[tokio::test]
async fn an_answer_to_a_batch_that_speaks_of_others_is_a_fault() {
    for body in ["[]", "{\"Successful\":[{\"Id\":\"1\"}]}", "{\"Failed\":[{}]}", "{\"Failed\":1}"] {
        let server = Server::start([json(200, body)]).await;
        assert_eq!(at(&server).delete(&["a".into()]).await.unwrap_err().cause, "bad-answer", "{body}");
    }
}
