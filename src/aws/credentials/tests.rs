//! Keys over time: one renewal for many requests, refused and failing renewals, roles, chains and profiles against
//! scripted services.

use super::*;
use crate::config::{AccessKey, Credentials, Environment, Role, Secret, Source};
use crate::discover::testing;
use crate::net::scripted::{Reply, Server};

const HOUR: Duration = Duration::from_secs(3600);
const DATE: &str = "Date: Tue, 01 Jan 2030 00:00:00 GMT\r\n";
const HUSH: &str = "hush/K7MDENG+bPxRfiCYEXAMPLEKEY";

fn word(text: &str) -> Reply {
    Reply::new(200, DATE, text.as_bytes())
}

/// Token, role and keys for six hours.
fn metadata(id: &str) -> [Reply; 3] {
    let keys = format!(
        r#"{{"Code":"Success","AccessKeyId":"{id}","SecretAccessKey":"{HUSH}","Token":"{HUSH}","Expiration":"2030-01-01T06:00:00Z"}}"#
    );
    [word("t"), word("reader"), word(&keys)]
}

fn sts(id: &str) -> Reply {
    word(&format!(
        "<AssumeRoleResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><AssumeRoleResult>\
         <AssumedRoleUser><Arn>arn:x</Arn></AssumedRoleUser><Credentials><AccessKeyId>{id}</AccessKeyId>\
         <SecretAccessKey>{HUSH}</SecretAccessKey><SessionToken>{HUSH}&#61;</SessionToken>\
         <Expiration>2030-01-01T01:00:00Z</Expiration></Credentials></AssumeRoleResult></AssumeRoleResponse>"
    ))
}

fn base(server: &Server) -> hyper::Uri {
    format!("http://{}", server.address).parse().unwrap()
}

fn provider(credentials: Credentials, sts: &Server) -> Provider {
    Provider::new(
        &Source { credentials, sts: base(sts), ..testing::source("prod") },
        net::Client::plain(net::Timeouts::default()),
    )
}

fn role(external_id: Option<&str>) -> Role {
    Role {
        arn: "arn:aws:iam::111122223333:role/trail-reader".into(),
        external_id: external_id.map(Into::into),
        session_name: "trailspool".into(),
        duration: HOUR,
    }
}

/// Time passes without anybody waiting.
async fn pass(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}

async fn id(provider: &Provider) -> Result<String, Fault> {
    provider.keys().await.map(|keys| keys.access_key_id().to_owned())
}

#[tokio::test]
async fn many_requests_are_one_renewal() {
    let server = Server::start(metadata("ASIA1")).await;
    let provider = provider(Credentials::Ec2Role { metadata: base(&server) }, &server);
    let asked: Vec<_> = (0..20)
        .map(|_| {
            let provider = provider.clone();
            tokio::spawn(async move { id(&provider).await.unwrap() })
        })
        .collect();
    for asked in asked {
        assert_eq!(asked.await.unwrap(), "ASIA1");
    }
    assert_eq!(server.requests().len(), 3);
}

#[tokio::test]
async fn one_failure_is_one_try_for_all_who_wait() {
    let server = Server::start((0..20).map(|_| Reply::new(500, "", b""))).await;
    let provider = provider(Credentials::Ec2Role { metadata: base(&server) }, &server);
    let asked: Vec<_> = (0..20)
        .map(|_| {
            let provider = provider.clone();
            tokio::spawn(async move { id(&provider).await.unwrap_err() })
        })
        .collect();
    for asked in asked {
        let fault = asked.await.unwrap();
        assert_eq!((fault.class, fault.cause), (Class::Retry, "server"));
        assert!(fault.text.starts_with("credentials: the instance metadata service at "), "{}", fault.text);
    }
    assert_eq!(server.requests().len(), 1);
}

/// vectordotdev/vector#20314: after a failed renewal nothing was collected until a restart.
#[tokio::test]
async fn old_keys_serve_until_new_ones_come() {
    let script = [metadata("ASIA1").to_vec(), vec![Reply::new(500, "", b"")], metadata("ASIA2").to_vec()];
    let server = Server::start(script.concat()).await;
    let provider = provider(Credentials::Ec2Role { metadata: base(&server) }, &server);
    assert_eq!(id(&provider).await.unwrap(), "ASIA1");
    pass(5 * HOUR).await;
    assert_eq!(id(&provider).await.unwrap(), "ASIA1");
    assert_eq!(server.requests().len(), 3, "not yet due");
    pass(50 * HOUR / 60).await;
    assert_eq!(id(&provider).await.unwrap(), "ASIA1", "the renewal failed, the old keys hold");
    assert_eq!(id(&provider).await.unwrap(), "ASIA1");
    assert_eq!(server.requests().len(), 4, "and it is not tried again at once");
    pass(Duration::from_secs(2)).await;
    assert_eq!(id(&provider).await.unwrap(), "ASIA2");
    assert_eq!(id(&provider).await.unwrap(), "ASIA2");
    assert!(server.is_through());
}

#[tokio::test]
async fn without_good_keys_the_fault_stands_until_a_try_succeeds() {
    let script = [vec![Reply::new(404, "", b"")], metadata("ASIA1").to_vec()];
    let server = Server::start(script.concat()).await;
    let provider = provider(Credentials::Ec2Role { metadata: base(&server) }, &server);
    for _ in 0..3 {
        assert_eq!(provider.keys().await.unwrap_err().cause, "no-credentials");
    }
    assert_eq!(server.requests().len(), 1);
    pass(Duration::from_secs(2)).await;
    assert_eq!(id(&provider).await.unwrap(), "ASIA1");
}

#[tokio::test]
async fn expired_keys_are_renewed_once_whoever_says_so() {
    let script = [metadata("ASIA1"), metadata("ASIA2")].concat();
    let server = Server::start(script).await;
    let provider = provider(Credentials::Ec2Role { metadata: base(&server) }, &server);
    let old = provider.keys().await.unwrap();
    for _ in 0..5 {
        provider.refused(&old, Refusal::Expired);
        assert_eq!(id(&provider).await.unwrap(), "ASIA2");
    }
    assert!(server.is_through());
}

#[tokio::test]
async fn a_role_is_assumed_with_the_keys_of_the_method() {
    let instance = Server::start(metadata("ASIABASE")).await;
    let sts_server = Server::start([sts("ASIAROLE")]).await;
    let base = Box::new(Credentials::Ec2Role { metadata: base(&instance) });
    let provider = provider(Credentials::AssumeRole { base, role: role(Some("a/b=c")) }, &sts_server);
    let keys = provider.keys().await.unwrap();
    assert_eq!((keys.access_key_id(), keys.secret_access_key()), ("ASIAROLE", HUSH));
    assert_eq!(keys.session_token(), Some(&*format!("{HUSH}=")));
    assert_eq!(keys.expires(), httpdate::parse_http_date("Tue, 01 Jan 2030 01:00:00 GMT").ok());
    let request = &sts_server.requests()[0];
    assert!(request.starts_with("POST / HTTP/1.1\r\n"), "{request}");
    assert!(
        request.contains("Credential=ASIABASE/") && request.contains("/us-east-1/sts/aws4_request"),
        "{request}"
    );
    assert!(request.contains(&format!("x-amz-security-token: {HUSH}\r\n")), "{request}");
    assert!(
        request.ends_with(
            "\r\n\r\nAction=AssumeRole&Version=2011-06-15&RoleArn=arn%3Aaws%3Aiam%3A%3A111122223333%3Arole%2Ftrail-reader\
             &RoleSessionName=trailspool&DurationSeconds=3600&ExternalId=a%2Fb%3Dc"
        ),
        "{request}"
    );
    // By the server's clock they have an hour, whatever ours says.
    pass(40 * HOUR / 60).await;
    assert_eq!(id(&provider).await.unwrap(), "ASIAROLE");
    assert_eq!(sts_server.requests().len(), 1);
}

#[tokio::test]
async fn sts_is_asked_again_with_its_own_time() {
    let error = "<ErrorResponse><Error><Type>Sender</Type><Code>SignatureDoesNotMatch</Code><Message>Signature \
                 expired: 20150101T000000Z is now earlier than 20300101T000000Z</Message></Error></ErrorResponse>";
    let skewed = Reply::new(403, DATE, error.as_bytes());
    let server = Server::start([skewed.clone(), sts("ASIAROLE"), skewed.clone(), skewed]).await;
    let user = || {
        Box::new(Credentials::IamUser {
            access_key_id: "AKIAX".into(),
            secret_access_key: Secret::new(HUSH.into()),
        })
    };
    let one = provider(Credentials::AssumeRole { base: user(), role: role(None) }, &server);
    assert_eq!(id(&one).await.unwrap(), "ASIAROLE");
    let requests = server.requests();
    assert!(!requests[0].contains("x-amz-date: 20300101T0000"), "{}", requests[0]);
    assert!(requests[1].contains("x-amz-date: 20300101T0000"), "{}", requests[1]);
    let other = provider(Credentials::AssumeRole { base: user(), role: role(None) }, &server);
    assert_eq!(id(&other).await.unwrap_err().cause, "clock");
    assert!(server.is_through());
}

/// Status, code, message; class, cause, words of the advice.
#[tokio::test]
async fn each_refusal_of_sts_says_what_to_do() {
    for (status, code, message, class, cause, words) in [
        (
            403,
            "AccessDenied",
            "not authorized to perform: sts:AssumeRole",
            Class::Denied,
            "role-denied",
            "trust policy",
        ),
        (403, "InvalidClientTokenId", "", Class::Denied, "access-key", "access key AKIAX is not known"),
        (
            403,
            "SignatureDoesNotMatch",
            "The request signature",
            Class::Denied,
            "signature",
            "secret access key",
        ),
        (
            403,
            "SignatureDoesNotMatch",
            "Credential should be scoped to a valid region",
            Class::Config,
            "config",
            "another region",
        ),
        (403, "ExpiredToken", "", Class::Denied, "expired", "has expired"),
        (403, "RegionDisabledException", "", Class::Config, "config", "turned off in this region"),
        (400, "ValidationError", "MaxSessionDuration", Class::Config, "config", "MaxSessionDuration"),
        (400, "Throttling", "", Class::Retry, "slow-down", "slow down"),
        (500, "InternalFailure", "", Class::Retry, "server", "failed"),
        (404, "", "", Class::Config, "config", "check sts_endpoint"),
        (418, "New", "", Class::Config, "refused", "New"),
    ] {
        let error = format!(
            "<ErrorResponse><Error><Type>Sender</Type><Code>{code}</Code><Message>{message}</Message></Error></ErrorResponse>"
        );
        let server = Server::start([Reply::new(status, "", error.as_bytes())]).await;
        let user = Credentials::IamUser {
            access_key_id: "AKIAX".into(),
            secret_access_key: Secret::new(HUSH.into()),
        };
        let assuming = Credentials::AssumeRole { base: Box::new(user), role: role(None) };
        let fault = provider(assuming, &server).keys().await.unwrap_err();
        assert_eq!((&fault.class, fault.cause), (&class, cause), "{fault}");
        assert!(fault.text.starts_with("credentials: assuming role arn:aws:iam::"), "{fault}");
        assert!(fault.text.contains(words), "{fault}");
    }
}

#[tokio::test]
async fn what_is_no_answer_of_sts_is_a_fault() {
    for body in
        ["", "<html><body>sign in</body></html>", "<AssumeRoleResponse><AssumeRoleResult><Credentials>", "{}"]
    {
        let server = Server::start([word(body)]).await;
        let user = Credentials::IamUser {
            access_key_id: "AKIAX".into(),
            secret_access_key: Secret::new(HUSH.into()),
        };
        let assuming = Credentials::AssumeRole { base: Box::new(user), role: role(None) };
        let fault = provider(assuming, &server).keys().await.unwrap_err();
        assert_eq!((&fault.class, fault.cause), (&Class::Retry, "bad-answer"), "{fault}");
    }
}

#[tokio::test]
async fn whose_keys_these_are() {
    let server = Server::start([word(
        "<GetCallerIdentityResponse><GetCallerIdentityResult><Arn>arn:aws:iam::111122223333:user/collector</Arn>\
         <UserId>AIDAX</UserId><Account>111122223333</Account></GetCallerIdentityResult></GetCallerIdentityResponse>",
    )])
    .await;
    let user =
        Credentials::IamUser { access_key_id: "AKIAX".into(), secret_access_key: Secret::new(HUSH.into()) };
    let identity = provider(user, &server).identity().await.unwrap();
    let expected =
        Identity { account: "111122223333".into(), arn: "arn:aws:iam::111122223333:user/collector".into() };
    assert_eq!(identity, expected);
    assert!(server.requests()[0].ends_with("Action=GetCallerIdentity&Version=2011-06-15"));
}

/// An environment whose files are in a folder of their own.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Place {
        Place(tempfile::tempdir().unwrap())
    }

    fn environment(&self) -> Environment {
        Environment {
            credentials_file: Some(self.0.path().join("credentials")),
            config_file: Some(self.0.path().join("config")),
            ..Environment::default()
        }
    }

    fn write(&self, name: &str, text: &str, mode: u32) {
        use std::os::unix::fs::PermissionsExt;
        std::fs::write(self.0.path().join(name), text).unwrap();
        std::fs::set_permissions(self.0.path().join(name), std::fs::Permissions::from_mode(mode)).unwrap();
    }
}

#[tokio::test]
async fn the_default_is_the_first_that_has_credentials() {
    let (instance, container) = (Server::start(metadata("ASIAINSTANCE")).await, Server::start([]).await);
    let place = Place::new();
    let mut environment = Environment { metadata: Some(base(&instance)), ..place.environment() };
    let first = |environment: &Environment| {
        let provider = provider(Credentials::Default(Arc::new(environment.clone())), &container);
        async move { id(&provider).await }
    };
    assert_eq!(first(&environment).await.unwrap(), "ASIAINSTANCE");

    let keys = r#"{"AccessKeyId":"ASIATASK","SecretAccessKey":"s","Token":"t"}"#;
    let task = Server::start([word(keys)]).await;
    environment.container =
        Some(config::Container { url: base(&task), authorization: config::Authorization::None });
    assert_eq!(first(&environment).await.unwrap(), "ASIATASK");

    let profile = format!("[default]\naws_access_key_id = AKIAPROFILE\naws_secret_access_key = {HUSH}\n");
    place.write("credentials", &profile, 0o600);
    assert_eq!(first(&environment).await.unwrap(), "AKIAPROFILE");

    environment.keys = Some(AccessKey {
        id: "AKIAENVIRONMENT".into(),
        secret: Secret::new(HUSH.into()),
        session_token: None,
    });
    assert_eq!(first(&environment).await.unwrap(), "AKIAENVIRONMENT");
}

#[tokio::test]
async fn a_default_that_finds_nothing_says_what_each_said() {
    let place = Place::new();
    let nobody = hyper::Uri::from_static("http://127.0.0.1:9");
    let environment = Environment { metadata: Some(nobody), ..place.environment() };
    let server = Server::start([]).await;
    let of = |environment: Environment| provider(Credentials::Default(Arc::new(environment)), &server);
    let fault = of(environment.clone()).keys().await.unwrap_err();
    assert_eq!((&fault.class, fault.cause), (&Class::Config, "no-credentials"));
    let said = [
        "credentials: none were found: ",
        "environment: $AWS_ACCESS_KEY_ID is not set; ",
        "profile: there is no profile default in ",
        "container: neither $AWS_CONTAINER_CREDENTIALS_RELATIVE_URI nor ",
        "instance: the instance metadata service at 127.0.0.1:9: 127.0.0.1:9 refuses the connection",
    ];
    let found: Vec<_> = said.iter().map(|part| fault.text.find(part)).collect();
    assert!(found.iter().all(Option::is_some) && found.is_sorted(), "{fault}");

    let off = of(Environment { metadata: None, ..environment.clone() }).keys().await.unwrap_err();
    assert!(off.text.ends_with("instance: $AWS_EC2_METADATA_DISABLED is true"), "{off}");

    // What is set up but fails is not passed over.
    place.write("credentials", &format!("[default]\naws_secret_access_key = {HUSH}\n"), 0o644);
    let open = of(environment.clone()).keys().await.unwrap_err();
    assert!(open.text.contains("profile: ") && open.text.contains("chmod 600"), "{open}");
    place.write("credentials", "", 0o600);
    let named = of(Environment { profile: Some("audit".into()), ..environment }).keys().await.unwrap_err();
    assert!(
        named.text.contains("profile: there is no profile audit in ") && !named.text.contains("instance"),
        "{named}"
    );
}

#[tokio::test]
async fn a_profile_assumes_its_roles_and_is_read_anew() {
    let place = Place::new();
    let sts_server = Server::start([sts("ASIAINNER"), sts("ASIAOUTER")]).await;
    place.write(
        "credentials",
        &format!("[user]\naws_access_key_id = AKIA1\naws_secret_access_key = {HUSH}\n"),
        0o600,
    );
    place.write(
        "config",
        "[profile outer]\nrole_arn = arn:outer\nsource_profile = inner\n[profile inner]\nrole_arn = arn:inner\n\
         source_profile = user\n",
        0o644,
    );
    let environment = Arc::new(place.environment());
    let outer = Credentials::Profile { name: "outer".into(), environment: environment.clone() };
    assert_eq!(id(&provider(outer, &sts_server)).await.unwrap(), "ASIAOUTER");
    let requests = sts_server.requests();
    assert!(requests[0].contains("Credential=AKIA1/") && requests[0].contains("RoleArn=arn%3Ainner"));
    assert!(requests[1].contains("Credential=ASIAINNER/") && requests[1].contains("RoleArn=arn%3Aouter"));

    let user = provider(Credentials::Profile { name: "user".into(), environment }, &sts_server);
    let old = user.keys().await.unwrap();
    place.write("credentials", "[user]\naws_access_key_id = AKIA2\naws_secret_access_key = new\n", 0o600);
    assert_eq!(id(&user).await.unwrap(), "AKIA1");
    user.refused(&old, Refusal::Expired);
    assert_eq!(id(&user).await.unwrap(), "AKIA2");

    // A server that does not know them: others may have been put in their place since.
    let old = user.keys().await.unwrap();
    pass(Duration::from_secs(60)).await;
    user.refused(&old, Refusal::Unknown);
    assert_eq!(id(&user).await.unwrap(), "AKIA2", "there are no others");
    place.write("credentials", "[user]\naws_access_key_id = AKIA3\naws_secret_access_key = new\n", 0o600);
    pass(Duration::from_secs(60)).await;
    user.refused(&old, Refusal::Unknown);
    assert_eq!(id(&user).await.unwrap(), "AKIA3");
}

#[tokio::test]
async fn no_secret_is_ever_printed() {
    let server =
        Server::start([metadata("ASIA1").to_vec(), vec![Reply::new(404, "", HUSH.as_bytes())]].concat())
            .await;
    let place = Place::new();
    place.write(
        "credentials",
        &format!("[default]\naws_access_key_id = A\naws_secret_access_key = {HUSH}\n"),
        0o600,
    );
    let secret = || Secret::new(HUSH.into());
    let environment = Arc::new(Environment {
        keys: Some(AccessKey { id: "A".into(), secret: secret(), session_token: Some(secret()) }),
        container: Some(config::Container {
            url: base(&server),
            authorization: config::Authorization::Token(secret()),
        }),
        ..place.environment()
    });
    let user = Credentials::IamUser { access_key_id: "AKIAX".into(), secret_access_key: secret() };
    let mut printed = String::new();
    for credentials in [
        Credentials::Ec2Role { metadata: base(&server) },
        Credentials::Ecs(environment.container.clone().unwrap()),
        Credentials::Profile { name: "default".into(), environment: environment.clone() },
        Credentials::Default(environment.clone()),
        Credentials::AssumeRole { base: Box::new(user), role: role(None) },
    ] {
        let provider = provider(credentials, &server);
        let keys = provider.keys().await;
        printed += &format!("{keys:?} {provider:?} {:?}\n", provider.0.origin.credentials);
        if let Ok(keys) = keys {
            printed += &format!("{:?}", Issued { keys: (*keys).clone(), life: None });
        }
    }
    assert!(printed.contains("ASIA1") && printed.contains("AKIAX") && !printed.contains("hush"), "{printed}");
}
