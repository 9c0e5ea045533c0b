//! A record for each type and each of its forms, as AWS documents or writes them.

use super::*;
use crate::discover::testing;

fn attributor(form: config::Attribution, default_domain: &str) -> Attributor {
    let source =
        Source { attribution: form, default_domain: default_domain.into(), ..testing::source("prod") };
    Attributor::new(&source)
}

fn record(identity: &str) -> Vec<u8> {
    format!(r#"{{"eventVersion":"1.08","userIdentity":{identity},"eventName":"GetObject"}}"#).into_bytes()
}

/// Short account, fully qualified account with a default domain, kind.
type Expected = Option<(&'static str, &'static str, Kind)>;

const CASES: &[(&str, &str, Expected)] = &[
    (
        "an IAM user",
        r#"{"type":"IAMUser","principalId":"AIDAEXAMPLE","arn":"arn:aws:iam::111122223333:user/jsmith","accountId":"111122223333","accessKeyId":"AKIAEXAMPLE","userName":"jsmith"}"#,
        Some(("jsmith", "jsmith@corp.example.com", Kind::IamUser)),
    ),
    (
        "an IAM user named by a mail address",
        r#"{"type":"IAMUser","userName":"jsmith@sales.example.net"}"#,
        Some(("jsmith", "jsmith@sales.example.net", Kind::IamUser)),
    ),
    (
        "an IAM user below a path, without userName",
        r#"{"type":"IAMUser","principalId":"AIDAEXAMPLE","arn":"arn:aws-us-gov:iam::111122223333:user/division/jsmith"}"#,
        Some(("jsmith", "jsmith@corp.example.com", Kind::IamUser)),
    ),
    (
        "a failed sign-in with an unknown user name",
        r#"{"type":"IAMUser","accountId":"111122223333","accessKeyId":"","userName":"HIDDEN_DUE_TO_SECURITY_REASONS"}"#,
        None,
    ),
    (
        "a failed sign-in of a known user",
        r#"{"type":"IAMUser","principalId":"AIDAEXAMPLE","arn":"arn:aws:iam::111122223333:user/jsmith","userName":"HIDDEN_DUE_TO_SECURITY_REASONS"}"#,
        Some(("jsmith", "jsmith@corp.example.com", Kind::IamUser)),
    ),
    (
        "a person of IAM Identity Center",
        r#"{"type":"AssumedRole","principalId":"AROAEXAMPLE:jsmith@corp.example.com","arn":"arn:aws:sts::111122223333:assumed-role/AWSReservedSSO_Admin_0123456789abcdef/jsmith@corp.example.com","sessionContext":{"sessionIssuer":{"type":"Role","arn":"arn:aws:iam::111122223333:role/aws-reserved/sso.amazonaws.com/AWSReservedSSO_Admin_0123456789abcdef","userName":"AWSReservedSSO_Admin_0123456789abcdef"}}}"#,
        Some(("jsmith", "jsmith@corp.example.com", Kind::AssumedRole)),
    ),
    (
        "a session with a plain name",
        r#"{"type":"AssumedRole","principalId":"AROAEXAMPLE:jsmith","arn":"arn:aws:sts::111122223333:assumed-role/Developer/jsmith"}"#,
        Some(("jsmith", "jsmith@corp.example.com", Kind::AssumedRole)),
    ),
    (
        "a session without principalId",
        r#"{"type":"AssumedRole","arn":"arn:aws:sts::111122223333:assumed-role/Developer/jsmith"}"#,
        Some(("jsmith", "jsmith@corp.example.com", Kind::AssumedRole)),
    ),
    (
        "a source identity, which the session's name cannot hide",
        r#"{"type":"AssumedRole","principalId":"AROAEXAMPLE:somebody.else","sessionContext":{"sourceIdentity":"jsmith@corp.example.com","sessionIssuer":{"userName":"Developer"}}}"#,
        Some(("jsmith", "jsmith@corp.example.com", Kind::AssumedRole)),
    ),
    (
        "an EC2 instance",
        r#"{"type":"AssumedRole","principalId":"AROAEXAMPLE:i-0dbc91f429e48eeed","arn":"arn:aws:sts::111122223333:assumed-role/web/i-0dbc91f429e48eeed","sessionContext":{"sessionIssuer":{"type":"Role","userName":"web"},"ec2RoleDelivery":"2.0"}}"#,
        Some(("web", "web", Kind::AssumedRole)),
    ),
    (
        "a session that an SDK named, of an old record without issuer",
        r#"{"type":"AssumedRole","principalId":"AROAEXAMPLE:botocore-session-1688990797","arn":"arn:aws:sts::111122223333:assumed-role/loader/botocore-session-1688990797"}"#,
        Some(("loader", "loader", Kind::AssumedRole)),
    ),
    (
        "a service-linked role",
        r#"{"type":"AssumedRole","principalId":"AROAEXAMPLE:SLRManagement","sessionContext":{"sessionIssuer":{"type":"Role","userName":"AWSServiceRoleForRDS"}},"invokedBy":"rds.amazonaws.com"}"#,
        Some(("AWSServiceRoleForRDS", "AWSServiceRoleForRDS", Kind::AssumedRole)),
    ),
    (
        "a role",
        r#"{"type":"Role","principalId":"AROAEXAMPLE","arn":"arn:aws:iam::111122223333:role/service/loader","accountId":"111122223333"}"#,
        Some(("loader", "loader", Kind::Role)),
    ),
    (
        "a federated user",
        r#"{"type":"FederatedUser","principalId":"111122223333:jsmith","arn":"arn:aws:sts::111122223333:federated-user/jsmith","sessionContext":{"sessionIssuer":{"type":"IAMUser","userName":"broker"}}}"#,
        Some(("jsmith", "jsmith@corp.example.com", Kind::FederatedUser)),
    ),
    (
        "a SAML user",
        r#"{"type":"SAMLUser","principalId":"bdGOnTesti4+ExamplexL/jEvs=:SamlExample","userName":"SamlExample","identityProvider":"bdGOnTesti4+ExamplexL/jEvs="}"#,
        Some(("SamlExample", "SamlExample@corp.example.com", Kind::SamlUser)),
    ),
    (
        "a SAML user of a Windows domain",
        r#"{"type":"SAMLUser","userName":"CORP\\jsmith"}"#,
        Some(("jsmith", "jsmith@CORP", Kind::SamlUser)),
    ),
    (
        "a web identity user",
        r#"{"type":"WebIdentityUser","principalId":"accounts.google.com:application.apps.googleusercontent.com:114","identityProvider":"accounts.google.com"}"#,
        Some(("114", "114@corp.example.com", Kind::WebIdentityUser)),
    ),
    (
        "a service account of a cluster",
        r#"{"type":"WebIdentityUser","userName":"system:serviceaccount:prod:loader","identityProvider":"arn:aws:iam::111122223333:oidc-provider/oidc.eks.eu-west-1.amazonaws.com/id/AB"}"#,
        Some((
            "system:serviceaccount:prod:loader",
            "system:serviceaccount:prod:loader",
            Kind::WebIdentityUser,
        )),
    ),
    (
        "an Identity Center user, as it is now",
        r#"{"type":"IdentityCenterUser","accountId":"111122223333","onBehalfOf":{"userId":"544894e8-80c1-707f-60e3-3ba6510dfac1","identityStoreArn":"arn:aws:identitystore::111122223333:identitystore/d-9067642ac7"},"credentialId":"90e292de"}"#,
        Some((
            "544894e8-80c1-707f-60e3-3ba6510dfac1",
            "544894e8-80c1-707f-60e3-3ba6510dfac1",
            Kind::IdentityCenterUser,
        )),
    ),
    (
        "an Identity Center user, as it was",
        r#"{"type":"IdentityCenterUser","userName":"jsmith","onBehalfOf":{"userId":"544894e8"}}"#,
        Some(("jsmith", "jsmith@corp.example.com", Kind::IdentityCenterUser)),
    ),
    (
        "a directory's user",
        r#"{"type":"Directory","userName":"jsmith","accountId":"111122223333"}"#,
        Some(("jsmith", "jsmith@corp.example.com", Kind::Directory)),
    ),
    (
        "root",
        r#"{"type":"Root","principalId":"111122223333","arn":"arn:aws:iam::111122223333:root","accountId":"111122223333","userName":"acme-prod"}"#,
        Some(("root", "root", Kind::Root)),
    ),
    (
        "another account",
        r#"{"type":"AWSAccount","principalId":"AIDAEXAMPLE","accountId":"444455556666"}"#,
        Some(("444455556666", "444455556666", Kind::AwsAccount)),
    ),
    (
        "a session of another account",
        r#"{"type":"AWSAccount","principalId":"AROAEXAMPLE:jsmith","accountId":"444455556666"}"#,
        Some(("jsmith", "jsmith@corp.example.com", Kind::AwsAccount)),
    ),
    (
        "an instance of another account",
        r#"{"type":"AWSAccount","principalId":"AROAEXAMPLE:i-0dbc91f429e48eeed","accountId":"444455556666"}"#,
        Some(("444455556666", "444455556666", Kind::AwsAccount)),
    ),
    (
        "a service",
        r#"{"type":"AWSService","invokedBy":"config.amazonaws.com"}"#,
        Some(("config.amazonaws.com", "config.amazonaws.com", Kind::AwsService)),
    ),
    (
        "an unknown identity with a name",
        r#"{"type":"Unknown","principalId":"544894e8","accountId":"111122223333","userName":"jsmith@corp.example.com"}"#,
        Some(("jsmith", "jsmith@corp.example.com", Kind::Unknown)),
    ),
    (
        "a type of later years",
        r#"{"type":"Agent","principalId":"AROAEXAMPLE:jsmith"}"#,
        Some(("jsmith", "jsmith@corp.example.com", Kind::Unknown)),
    ),
    (
        "a service event, which has no type",
        r#"{"accountId":"111122223333","invokedBy":"secretsmanager.amazonaws.com"}"#,
        Some(("secretsmanager.amazonaws.com", "secretsmanager.amazonaws.com", Kind::Unknown)),
    ),
    ("an identity that names nobody", r#"{"type":"Unknown"}"#, None),
    ("an empty name", r#"{"type":"IAMUser","userName":""}"#, None),
    ("a name that is none", r#"{"type":"IAMUser","userName":["jsmith"]}"#, None),
    ("a control character in a name", r#"{"type":"IAMUser","userName":"j\u000asmith"}"#, None),
    (
        "a mark at either end is no domain's",
        r#"{"type":"Directory","userName":"@jsmith"}"#,
        Some(("@jsmith", "@jsmith@corp.example.com", Kind::Directory)),
    ),
    ("no identity", "null", None),
    ("what is no JSON", r#"{"type":"IAMUser" "userName":"jsmith"}"#, None),
];

#[test]
fn each_type_of_identity_has_its_account() {
    let short = attributor(config::Attribution::ShortName, "corp.example.com");
    let qualified = attributor(config::Attribution::FullyQualified, "corp.example.com");
    for (what, identity, expected) in CASES {
        let record = record(identity);
        let account = |found: &Attribution| (found.account().to_owned(), found.kind());
        let found = (short.attribute(&record), qualified.attribute(&record));
        let expected =
            expected.map(|(short, qualified, kind)| ((short.into(), kind), (qualified.into(), kind)));
        let (short, qualified) = (found.0.as_ref().map(account), found.1.as_ref().map(account));
        assert_eq!((short, qualified), expected.unzip(), "{what}");
    }
    for (label, kind) in Kind::ALL {
        assert_eq!((Kind::of(label.as_bytes()), kind.label()), (kind, label));
        assert!(CASES.iter().any(|(.., expected)| expected.is_some_and(|(.., of)| of == kind)), "{label}");
    }
}

#[test]
fn a_short_name_still_says_its_own_domain_but_no_default_one() {
    let identity = r#"{"type":"IAMUser","userName":"jsmith@sales.example.net","arn":"arn:aws:iam::111122223333:user/jsmith@sales.example.net"}"#;
    let short = attributor(config::Attribution::ShortName, "corp.example.com");
    let found = short.attribute(&record(identity)).unwrap();
    assert_eq!((found.account(), found.name()), ("jsmith", "jsmith"));
    assert_eq!(found.domain(), Some("sales.example.net"));
    assert_eq!(found.principal(), Some("arn:aws:iam::111122223333:user/jsmith@sales.example.net"));
    let found = short.attribute(&record(r#"{"type":"IAMUser","userName":"jsmith"}"#)).unwrap();
    assert_eq!((found.account(), found.domain(), found.principal()), ("jsmith", None, None));
}

#[test]
fn without_a_default_domain_a_bare_name_stays_bare() {
    let qualified = attributor(config::Attribution::FullyQualified, "");
    let found = qualified.attribute(&record(r#"{"type":"IAMUser","userName":"jsmith"}"#)).unwrap();
    assert_eq!((found.account(), found.domain()), ("jsmith", None));
}

#[test]
fn attribution_can_be_turned_off_and_a_removed_source_has_none() {
    let jsmith = record(r#"{"type":"IAMUser","userName":"jsmith"}"#);
    assert_eq!(attributor(config::Attribution::None, "").attribute(&jsmith), None);
    let source = Source { attribution: config::Attribution::ShortName, ..testing::source("prod") };
    let all = Attributors::new(&[source]);
    assert!(all.attribute("prod", &jsmith).is_some());
    assert_eq!(all.attribute("gone", &jsmith), None);
}

#[test]
fn a_name_that_is_too_long_is_none_and_a_principal_that_is_too_long_is_left_out() {
    let short = attributor(config::Attribution::ShortName, "");
    let long = "x".repeat(limits::ACCOUNT_BYTES + 1);
    assert_eq!(short.attribute(&record(&format!(r#"{{"type":"IAMUser","userName":"{long}"}}"#))), None);
    let longest = "x".repeat(limits::ACCOUNT_BYTES);
    let identity =
        format!(r#"{{"type":"IAMUser","userName":"{longest}","principalId":"{longest}{longest}"}}"#);
    let found = short.attribute(&record(&identity)).unwrap();
    assert_eq!((found.account(), found.principal()), (&*longest, None));
    let huge = format!(r#"{{"type":"IAMUser","userName":"{}"}}"#, "\\u0041".repeat(100_000));
    assert_eq!(short.attribute(&record(&huge)), None);
}

/// A directory that knows nobody and remembers what it was asked.
#[derive(Default)]
struct Asks(std::sync::Mutex<Vec<(Option<std::string::String>, Option<std::string::String>)>>);

impl Lookup for Asks {
    fn find(&self, Asked { name, address }: Asked<'_>) -> Option<Arc<Entry>> {
        self.0.lock().unwrap().push((name.map(str::to_owned), address.map(str::to_owned)));
        None
    }
}

#[test]
fn a_directory_is_asked_for_people_and_for_a_name_with_its_domain_as_a_whole() {
    let ask = |form, default_domain: &str, identity: &str| {
        let source =
            Source { attribution: form, default_domain: default_domain.into(), ..testing::source("prod") };
        let asks = Arc::new(Asks::default());
        let all = Attributors::new(&[source]).with_directory(Some(asks.clone()));
        assert_eq!(all.attribute("prod", &record(identity)).unwrap().directory(), None);
        asks.0.lock().unwrap().pop()
    };
    let text = |text: &str| Some(text.to_owned());
    let user = |name: &str| format!(r#"{{"type":"IAMUser","userName":{name:?}}}"#);
    let short = config::Attribution::ShortName;
    let full = config::Attribution::FullyQualified;
    let domain = "corp.example.com";
    for (form, default, name, asked) in [
        (short, "", "jsmith", (text("jsmith"), None)),
        (short, domain, "jsmith", (text("jsmith"), None)),
        (full, domain, "jsmith", (text("jsmith"), text("jsmith@corp.example.com"))),
        // somebody else's jsmith is not ours
        (short, domain, "jsmith@partner.example.net", (None, text("jsmith@partner.example.net"))),
        (full, domain, "jsmith@partner.example.net", (None, text("jsmith@partner.example.net"))),
        (short, "", "CORP\\jsmith", (text("jsmith"), None)),
    ] {
        assert_eq!(ask(form, default, &user(name)), Some(asked), "{name}");
    }
    for nobody in [
        r#"{"type":"Root","arn":"arn:aws:iam::111122223333:root"}"#,
        r#"{"type":"AWSService","invokedBy":"config.amazonaws.com"}"#,
        r#"{"type":"AssumedRole","principalId":"AROAEXAMPLE:i-0123456789abcdef0","arn":"arn:aws:sts::111122223333:assumed-role/web/i-0123456789abcdef0"}"#,
        r#"{"type":"AWSAccount","accountId":"111122223333"}"#,
    ] {
        assert_eq!(ask(full, domain, nobody), None, "{nobody}");
    }
}
