//! CloudTrail-like records from a seed: the services, identities, sizes and oddities of real ones.
//!
//! Everything is text from templates, never a serialised value, because real records are not uniform
//! either: `\u003d` stands beside `=`, floats are written `1.688560107857E9`, empty answers are `null`.

use std::fmt::Write;

use fastrand::Rng;
use time::Date;

/// Where and when the records of one object happened, and who acts in it.
pub struct Scene<'a> {
    /// Twelve digits.
    pub account: &'a str,
    /// e.g. `eu-central-1`
    pub region: &'a str,
    /// Day of the object's label.
    pub day: Date,
    /// Minutes since midnight of the object's label.
    pub minute: u32,
    /// `userIdentity` objects; a real object has few.
    pub actors: Vec<String>,
    /// Rows of [`EVENTS`] that occur; a real object has few.
    pub events: Vec<&'static Event>,
}

/// One kind of event: what a template needs.
pub struct Event {
    source: &'static str,
    name: &'static str,
    read_only: bool,
    request: &'static str,
    response: &'static str,
    extra: &'static str,
    kind: &'static str,
}

impl<'a> Scene<'a> {
    /// Picks the actors and the kinds of event for one object.
    pub fn new(rng: &mut Rng, account: &'a str, region: &'a str, day: Date, minute: u32) -> Scene<'a> {
        let actors = (0..rng.usize(1..=3).div_ceil(2)).map(|_| identity(rng, account)).collect();
        let events = (0..rng.usize(1..=3).div_ceil(2)).map(|_| &EVENTS[rng.usize(..EVENTS.len())]).collect();
        Scene { account, region, day, minute, actors, events }
    }

    /// One record, compact, as CloudTrail writes it.
    pub fn record(&self, rng: &mut Rng) -> String {
        let event = self.events[rng.usize(..self.events.len())];
        let minute = (self.minute + rng.u32(0..5)).min(1439);
        let mut out = String::with_capacity(1600);
        let actor = &self.actors[rng.usize(..self.actors.len())];
        let _ = write!(
            out,
            r#"{{"eventVersion":"1.{}","userIdentity":{actor},"eventTime":"{}T{:02}:{:02}:{:02}Z","eventSource":"{}","eventName":"{}","awsRegion":"{}","sourceIPAddress":"{}","userAgent":"{}","#,
            ["08", "09", "10", "11"][rng.usize(..4)],
            self.day,
            minute / 60,
            minute % 60,
            rng.u32(0..60),
            event.source,
            event.name,
            self.region,
            address(rng),
            AGENTS[rng.usize(..AGENTS.len())],
        );
        let denied = rng.u32(0..12) == 0;
        if denied {
            let (code, message) = ERRORS[rng.usize(..ERRORS.len())];
            self.expand(rng, &format!(r#""errorCode":"{code}","errorMessage":"{message}","#), &mut out);
        }
        out.push_str(r#""requestParameters":"#);
        self.expand(rng, event.request, &mut out);
        out.push_str(r#","responseElements":"#);
        self.expand(rng, if denied { "null" } else { event.response }, &mut out);
        if !event.extra.is_empty() {
            out.push(',');
            self.expand(rng, event.extra, &mut out);
        }
        let category = if event.kind == "Data" { "Data" } else { "Management" };
        let kind = if event.kind == "Data" { "AwsApiCall" } else { event.kind };
        self.expand(
            rng,
            &format!(
                r#","requestID":"<u>","eventID":"<u>","readOnly":{},"eventType":"{kind}","managementEvent":{},"recipientAccountId":"<a>","eventCategory":"{category}""#,
                event.read_only,
                category == "Management",
            ),
            &mut out,
        );
        if kind == "AwsApiCall" && rng.bool() {
            let _ = write!(
                out,
                r#","tlsDetails":{{"tlsVersion":"TLSv1.3","cipherSuite":"TLS_AES_128_GCM_SHA256","clientProvidedHostHeader":"{}.{}.amazonaws.com"}}"#,
                event.source.split('.').next().unwrap_or(""),
                self.region
            );
        }
        out.push('}');
        out
    }

    /// Fills a template: `<a>` account, `<r>` region, `<u>` uuid, `<f>` float, `<x8>` hex digits,
    /// `<b40>` base64 characters, `<n1000>` a number below, `<*3:text>` the text one to three times
    /// with commas between (not nested).
    fn expand(&self, rng: &mut Rng, template: &str, out: &mut String) {
        let mut rest = template;
        while let Some(start) = rest.find('<') {
            out.push_str(&rest[..start]);
            rest = &rest[start + 1..];
            if let Some(repeated) = rest.strip_prefix('*') {
                let (most, body) = repeated.split_once(':').expect("a count and a colon");
                let (body, after) = body.split_once("*>").expect("an end");
                let times = rng.usize(1..=most.parse().expect("a count"));
                for i in 0..times {
                    if i > 0 {
                        out.push(',');
                    }
                    self.expand(rng, body, out);
                }
                rest = after;
                continue;
            }
            let (slot, after) = rest.split_once('>').expect("an end");
            rest = after;
            let number = || slot[1..].parse::<usize>().expect("a number");
            match slot.as_bytes()[0] {
                b'a' => out.push_str(self.account),
                b'r' => out.push_str(self.region),
                b'u' => uuid(rng, out),
                b'f' => {
                    let _ = write!(out, "1.{}E9", rng.u64(688_000_000_000..=799_999_999_999));
                }
                b'x' => letters(rng, b"0123456789abcdef", number(), out),
                b'b' => letters(rng, BASE64, number(), out),
                b'n' => {
                    let _ = write!(out, "{}", rng.usize(..number()));
                }
                _ => panic!("unknown slot <{slot}>"),
            }
        }
        out.push_str(rest);
    }
}

const BASE64: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const UPPER: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

fn letters(rng: &mut Rng, alphabet: &[u8], count: usize, out: &mut String) {
    for _ in 0..count {
        out.push(char::from(alphabet[rng.usize(..alphabet.len())]));
    }
}

fn uuid(rng: &mut Rng, out: &mut String) {
    let (a, b) = (rng.u64(..), rng.u64(..));
    let _ = write!(
        out,
        "{:08x}-{:04x}-4{:03x}-{:04x}-{:012x}",
        a >> 32,
        (a >> 16) & 0xffff,
        a & 0xfff,
        0x8000 | (b >> 48) & 0x3fff,
        b & 0xffff_ffff_ffff
    );
}

fn address(rng: &mut Rng) -> String {
    match rng.u32(0..6) {
        0 => ["cloudformation.amazonaws.com", "autoscaling.amazonaws.com", "AWS Internal"][rng.usize(..3)]
            .into(),
        1 => format!("2a05:d014:{:x}:{:x}::{:x}", rng.u16(..), rng.u16(..), rng.u16(..)),
        _ => format!("10.{}.{}.{}", rng.u8(..), rng.u8(..), rng.u8(..)),
    }
}

/// A `userIdentity`, of every type that CloudTrail documents.
fn identity(rng: &mut Rng, account: &str) -> String {
    let mut id = String::new();
    letters(rng, UPPER, 16, &mut id);
    let user = USERS[rng.usize(..USERS.len())];
    let (h, m, s) = (rng.u32(0..24), rng.u32(0..60), rng.u32(0..60));
    match rng.u32(0..14) {
        0 => format!(
            r#"{{"type":"Root","principalId":"{account}","arn":"arn:aws:iam::{account}:root","accountId":"{account}","accessKeyId":""}}"#
        ),
        1 | 2 => format!(
            r#"{{"type":"IAMUser","principalId":"AIDA{id}","arn":"arn:aws:iam::{account}:user/{user}","accountId":"{account}","accessKeyId":"AKIA{id}","userName":"{user}"}}"#
        ),
        3 | 4 => r#"{"type":"AWSService","invokedBy":"autoscaling.amazonaws.com"}"#.into(),
        5 => format!(
            r#"{{"type":"AWSAccount","principalId":"AROA{id}:{user}","accountId":"{}"}}"#,
            rng.u64(100_000_000_000..999_999_999_999)
        ),
        6 => format!(
            r#"{{"type":"FederatedUser","principalId":"{account}:{user}","arn":"arn:aws:sts::{account}:federated-user/{user}","accountId":"{account}","accessKeyId":"ASIA{id}","sessionContext":{{"sessionIssuer":{{"type":"IAMUser","principalId":"AIDA{id}","arn":"arn:aws:iam::{account}:user/{user}","accountId":"{account}","userName":"{user}"}}}}}}"#
        ),
        7 => format!(
            r#"{{"type":"SAMLUser","principalId":"b2pzdGVpbg\u003d\u003d:{user}@corp.example.com","userName":"{user}@corp.example.com","identityProvider":"b2pzdGVpbg\u003d\u003d"}}"#
        ),
        8 => format!(
            r#"{{"type":"WebIdentityUser","principalId":"accounts.google.com:{id}.apps.googleusercontent.com:{id}","userName":"{id}","identityProvider":"accounts.google.com"}}"#
        ),
        9 => format!(
            r#"{{"type":"IdentityCenterUser","accountId":"{account}","onBehalfOf":{{"userId":"{id}","identityStoreArn":"arn:aws:identitystore::{account}:identitystore/d-9067642ac7"}},"credentialId":"{id}"}}"#
        ),
        10 => format!(
            r#"{{"type":"Unknown","principalId":"{account}","arn":"","accountId":"{account}","accessKeyId":"","userName":"HIDDEN_DUE_TO_SECURITY_REASONS"}}"#
        ),
        _ => format!(
            r#"{{"type":"AssumedRole","principalId":"AROA{id}:{user}@example.com","arn":"arn:aws:sts::{account}:assumed-role/AWSReservedSSO_Admin_{id}/{user}@example.com","accountId":"{account}","accessKeyId":"ASIA{id}","sessionContext":{{"sessionIssuer":{{"type":"Role","principalId":"AROA{id}","arn":"arn:aws:iam::{account}:role/aws-reserved/sso.amazonaws.com/AWSReservedSSO_Admin_{id}","accountId":"{account}","userName":"AWSReservedSSO_Admin_{id}"}},"attributes":{{"creationDate":"2026-02-03T{h:02}:{m:02}:{s:02}Z","mfaAuthenticated":"false"}}}}}}"#
        ),
    }
}

/// In JSON text, so what must be escaped is: the last two are `Łukasz` written with an escape and plainly.
const USERS: &[&str] = &[
    "jsmith",
    "deploy-bot",
    "m.müller",
    "backup",
    "O'Brien",
    "佐藤",
    "CORP\\\\svc-scan",
    "\\u0141ukasz",
    "Łukasz",
];

const AGENTS: &[&str] = &[
    "aws-cli/2.15.30 Python/3.11.8 Linux/6.1.0-18-amd64 exe/x86_64.debian.12 prompt/off command/ec2.describe-instances",
    "Boto3/1.34.69 md/Botocore#1.34.69 ua/2.0 os/linux#6.1.79-99.167.amzn2023.x86_64 md/arch#x86_64 lang/python#3.9.16 md/pyimpl#CPython cfg/retry-mode#legacy Botocore/1.34.69",
    "[S3Console/0.4, aws-internal/3 aws-sdk-java/1.12.488 Linux/5.4.247-169.350.amzn2int.x86_64 OpenJDK_64-Bit_Server_VM/25.372-b08 java/1.8.0_372 vendor/Oracle_Corporation cfg/retry-mode/standard]",
    "APN/1.0 HashiCorp/1.0 Terraform/1.7.4 (+https://www.terraform.io) terraform-provider-aws/5.40.0 (+https://registry.terraform.io/providers/hashicorp/aws) aws-sdk-go-v2/1.25.3 os/linux lang/go#1.21.8 md/GOOS#linux md/GOARCH#amd64",
    "Mozilla/5.0 (X11; Linux x86_64; rv:123.0) Gecko/20100101 Firefox/123.0",
    "autoscaling.amazonaws.com",
    "kubernetes/1.29 \\\"quoted\\\" \\\\ back\\/slash\\ttab",
    "console.amazonaws.com",
];

const ERRORS: &[(&str, &str)] = &[
    (
        "AccessDenied",
        "User: arn:aws:iam::<a>:user/x is not authorized to perform: s3:GetObject because no identity-based policy allows the s3:GetObject action",
    ),
    (
        "Client.UnauthorizedOperation",
        "You are not authorized to perform this operation. Encoded authorization failure message: <b160>",
    ),
    ("ThrottlingException", "Rate exceeded"),
    ("NoSuchBucketPolicy", "The bucket policy does not exist"),
];

const fn event(
    source: &'static str,
    name: &'static str,
    read_only: bool,
    request: &'static str,
    response: &'static str,
) -> Event {
    Event { source, name, read_only, request, response, extra: "", kind: "AwsApiCall" }
}

/// The kinds of event, with their templates (see [`Scene::expand`]).
pub const EVENTS: &[Event] = &[
    event(
        "ec2.amazonaws.com",
        "DescribeInstances",
        true,
        r#"{"maxResults":1000,"instancesSet":{},"filterSet":{"items":[{"name":"tag:aws:autoscaling:groupName","valueSet":{"items":[<*8:{"value":"asg-<x8>"}*>]}}]}}"#,
        "null",
    ),
    event(
        "ec2.amazonaws.com",
        "RunInstances",
        false,
        r#"{"instancesSet":{"items":[{"imageId":"ami-<x17>","minCount":1,"maxCount":<n9>}]},"instanceType":"m5.large","blockDeviceMapping":{},"userData":"\u003csensitiveDataRemoved\u003e","disableApiTermination":false,"clientToken":"<u>","tagSpecificationSet":{"items":[{"resourceType":"instance","tags":[{"key":"Größe","value":"mittel \u0026 mehr"},{"key":"cost","value":"<n9999>"}]}]}}"#,
        r#"{"requestId":"<u>","reservationId":"r-<x17>","ownerId":"<a>","groupSet":{},"instancesSet":{"items":[<*2:{"instanceId":"i-<x17>","imageId":"ami-<x17>","instanceState":{"code":0,"name":"pending"},"privateDnsName":"ip-10-0-<n255>-<n255>.<r>.compute.internal","amiLaunchIndex":0,"launchTime":1709000000000,"placement":{"availabilityZone":"<r>a","tenancy":"default"},"monitoring":{"state":"disabled"},"subnetId":"subnet-<x17>","vpcId":"vpc-<x17>","ebsOptimized":true,"enaSupport":true}*>]}}"#,
    ),
    event("sts.amazonaws.com", "GetCallerIdentity", true, "null", "null"),
    Event {
        source: "sts.amazonaws.com",
        name: "AssumeRole",
        read_only: true,
        request: r#"{"roleArn":"arn:aws:iam::<a>:role/ci-<n50>","roleSessionName":"session-<x8>","durationSeconds":3600,"policy":"{\"Version\":\"2012-10-17\",\"Statement\":[{\"Effect\":\"Allow\",\"Action\":\"s3:*\",\"Resource\":\"*\"}]}"}"#,
        response: r#"{"credentials":{"accessKeyId":"ASIA<x16>","sessionToken":"<b160>\u003d\u003d","expiration":"Feb 3, 2026, 4:18:25 PM"},"assumedRoleUser":{"assumedRoleId":"AROA<x17>:session","arn":"arn:aws:sts::<a>:assumed-role/ci/session"}}"#,
        extra: r#""resources":[{"accountId":"<a>","type":"AWS::IAM::Role","ARN":"arn:aws:iam::<a>:role/ci"}],"sharedEventID":"<u>""#,
        kind: "AwsApiCall",
    },
    Event {
        source: "s3.amazonaws.com",
        name: "GetObject",
        read_only: true,
        request: r#"{"bucketName":"data-<x8>","Host":"data-<x8>.s3.<r>.amazonaws.com","key":"year\u003d2026/month\u003d02/part-<n99999>.snappy.parquet"}"#,
        response: "null",
        extra: r#""additionalEventData":{"SignatureVersion":"SigV4","CipherSuite":"TLS_AES_128_GCM_SHA256","bytesTransferredIn":0,"AuthenticationMethod":"AuthHeader","x-amz-id-2":"<b75>\u003d","bytesTransferredOut":<n99999>.0},"resources":[{"type":"AWS::S3::Object","ARN":"arn:aws:s3:::data-<x8>/x"},{"accountId":"<a>","type":"AWS::S3::Bucket","ARN":"arn:aws:s3:::data-<x8>"}]"#,
        kind: "Data",
    },
    Event {
        source: "s3.amazonaws.com",
        name: "PutObject",
        read_only: false,
        request: r#"{"bucketName":"uploads","Host":"uploads.s3.<r>.amazonaws.com","key":"Übergabe/Bericht <n9999> – final.pdf","x-amz-acl":"bucket-owner-full-control"}"#,
        response: r#"{"x-amz-server-side-encryption":"AES256"}"#,
        extra: r#""additionalEventData":{"SignatureVersion":"SigV4","CipherSuite":"ECDHE-RSA-AES128-GCM-SHA256","bytesTransferredIn":<n99999>,"SSEApplied":"Default_SSE_S3","x-amz-id-2":"<b75>=","bytesTransferredOut":0}"#,
        kind: "Data",
    },
    event(
        "kms.amazonaws.com",
        "Decrypt",
        true,
        r#"{"encryptionContext":{"aws:cloudtrail:arn":"arn:aws:cloudtrail:<r>:<a>:trail/main","aws:s3:arn":"arn:aws:s3:::logs/AWSLogs/<a>"},"encryptionAlgorithm":"SYMMETRIC_DEFAULT"}"#,
        "null",
    ),
    event(
        "logs.amazonaws.com",
        "CreateLogStream",
        false,
        r#"{"logGroupName":"/aws/lambda/ingest","logStreamName":"2026/02/03/[$LATEST]<x32>"}"#,
        "null",
    ),
    event("dynamodb.amazonaws.com", "DescribeTable", true, r#"{"tableName":"orders-<n99>"}"#, "null"),
    event(
        "lambda.amazonaws.com",
        "UpdateFunctionConfiguration20150331v2",
        false,
        r#"{"functionName":"fn-<x8>","environment":{},"layers":[]}"#,
        r#"{"functionName":"fn-<x8>","functionArn":"arn:aws:lambda:<r>:<a>:function:fn","runtime":"python3.12","codeSize":<n999999>,"lastModified":"2026-02-03T10:11:12.000+0000","codeSha256":"<b43>\u003d","version":"$LATEST","tracingConfig":{"mode":"PassThrough"},"revisionId":"<u>","snapStart":{"applyOn":"None","optimizationStatus":"Off"}}"#,
    ),
    event(
        "iam.amazonaws.com",
        "PutRolePolicy",
        false,
        r#"{"roleName":"app","policyName":"inline","policyDocument":"{\n  \"Version\": \"2012-10-17\",\n  \"Statement\": [\n    {\"Effect\": \"Allow\", \"Action\": [\"s3:Get*\", \"s3:List*\"], \"Resource\": \"arn:aws:s3:::b/*\"}\n  ]\n}"}"#,
        "null",
    ),
    Event {
        source: "signin.amazonaws.com",
        name: "ConsoleLogin",
        read_only: false,
        request: "null",
        response: r#"{"ConsoleLogin":"Success"}"#,
        extra: r#""additionalEventData":{"LoginTo":"https://console.aws.amazon.com/console/home?hashArgs\u003d%23\u0026isauthcode\u003dtrue","MobileVersion":"No","MFAUsed":"Yes"}"#,
        kind: "AwsConsoleSignIn",
    },
    event(
        "rds.amazonaws.com",
        "DescribeDBInstances",
        true,
        r#"{"dBInstanceIdentifier":"db-<n99>","maxRecords":100}"#,
        "null",
    ),
    event(
        "ecs.amazonaws.com",
        "RegisterTaskDefinition",
        false,
        r#"{"family":"web","containerDefinitions":[{"name":"web","image":"<a>.dkr.ecr.<r>.amazonaws.com/web:<x40>","essential":true,"portMappings":[{"containerPort":8080}],"environment":[<*6:{"name":"VAR_<n99>","value":"v-<x16>"}*>]}]}"#,
        r#"{"taskDefinition":{"taskDefinitionArn":"arn:aws:ecs:<r>:<a>:task-definition/web:<n99>","revision":<n99>,"status":"ACTIVE","registeredAt":<f>,"volumes":[],"compatibilities":["EC2"]}}"#,
    ),
    event(
        "ecs.amazonaws.com",
        "SubmitTaskStateChange",
        false,
        r#"{"cluster":"main","task":"arn:aws:ecs:<r>:<a>:task/main/<x32>","status":"STOPPED","executionStoppedAt":<f>,"pullStartedAt":<f>,"containers":[]}"#,
        r#"{"acknowledgment":"<u>"}"#,
    ),
    Event {
        source: "autoscaling.amazonaws.com",
        name: "TerminateInstances",
        read_only: false,
        request: r#"{"instancesSet":{"items":[{"instanceId":"i-<x17>"}]}}"#,
        response: r#"{"requestId":"<u>","instancesSet":{"items":[{"instanceId":"i-<x17>","currentState":{"code":32,"name":"shutting-down"},"previousState":{"code":16,"name":"running"}}]}}"#,
        extra: r#""sharedEventID":"<u>""#,
        kind: "AwsServiceEvent",
    },
    event(
        "secretsmanager.amazonaws.com",
        "GetSecretValue",
        true,
        r#"{"secretId":"arn:aws:secretsmanager:<r>:<a>:secret:db-<x6>"}"#,
        "null",
    ),
    event(
        "ssm.amazonaws.com",
        "UpdateInstanceInformation",
        false,
        r#"{"instanceId":"i-<x17>","agentVersion":"3.2.2303.0","agentStatus":"Active","platformType":"Linux","platformName":"Amazon Linux","platformVersion":"2023","iPAddress":"10.0.<n255>.<n255>","computerName":"ip-10-0-0-1.<r>.compute.internal","agentName":"amazon-ssm-agent","availabilityZone":"<r>b","sSMConnectionChannel":"ssmmessages"}"#,
        "null",
    ),
];
