//! From what failed to what to do: one table for answers of S3, one for the network. A core.

use super::finding::{Finding, Kind};
use crate::aws::Fault;
use crate::aws::partition::Partition;
use crate::net;

/// A request to S3, for texts.
#[derive(Debug, Clone, Copy)]
pub struct About<'a> {
    /// The bucket's name.
    pub bucket: &'a str,
    /// The configured region.
    pub region: &'a str,
    /// Everything before `AWSLogs/`.
    pub prefix: &'a str,
    /// Host and port.
    pub endpoint: &'a str,
    /// ARN of who signs, where that is known.
    pub who: Option<&'a str>,
    /// ARN of the KMS key, where the object told.
    pub kms_key: Option<&'a str>,
}

/// Causes that are the credentials' fault.
pub fn is_of_credentials(cause: &str) -> bool {
    matches!(cause, "signature" | "access-key" | "expired")
}

/// A failed request as a finding; `doing`: the operation as a noun, e.g. `listing bucket acme`.
pub fn of_fault(probe: &'static str, fault: &Fault, doing: &str, about: &About<'_>) -> Finding {
    let About { bucket, region, endpoint, .. } = about;
    let policy =
        about.who.map_or_else(|| "the IAM policy".to_owned(), |arn| format!("the IAM policy of {arn}"));
    let (kind, what, fix) = match fault.cause {
        "signature" => (
            Kind::Permission,
            "the secret access key is not the one of this access key id".to_owned(),
            "write the secret that belongs to `access_key_id` into the secret's file, whole and alone; when it is \
             certainly right, a proxy in between changes requests"
                .to_owned(),
        ),
        "access-key" => (
            Kind::Permission,
            "the access key id is not known".to_owned(),
            "check `access_key_id`: was it deleted or made inactive, mistyped, or is it of another partition (GovCloud, \
             China)? `aws iam list-access-keys --user-name USER` shows a user's"
                .to_owned(),
        ),
        "expired" => (
            Kind::Permission,
            "the credentials have expired".to_owned(),
            "renew them where they come from, or use the access key of an IAM user".to_owned(),
        ),
        "no-credentials" => (
            Kind::Config,
            "there are no credentials".to_owned(),
            "give the place that [source.credentials] names some, or name another `method` there".to_owned(),
        ),
        "credentials" => (
            Kind::Config,
            "the credentials cannot be used".to_owned(),
            "mend what is named there; [source.credentials] says where they come from".to_owned(),
        ),
        "role-denied" => (
            Kind::Permission,
            "the role may not be used".to_owned(),
            "the role's trust policy must name who assumes it, with the same external id, and that one's own policy must \
             allow sts:AssumeRole: `trailspool policy --only trust` and `--only assume` print both"
                .to_owned(),
        ),
        "hop-limit" => (
            Kind::Config,
            "the instance's metadata service does not answer through a container's network".to_owned(),
            "raise its hop limit: `aws ec2 modify-instance-metadata-options --instance-id ID \
             --http-put-response-hop-limit 2`"
                .to_owned(),
        ),
        "list-denied" => (
            Kind::Permission,
            format!("{doing} is not allowed"),
            format!(
                "add to {policy}: {} (`trailspool policy` prints all of it); if it is there, look for a Deny in the \
                 bucket policy, a permissions boundary or an organisation's policy; a Requester Pays bucket refuses with \
                 the same words: set `request_payer = \"requester\"`",
                statement("s3:ListBucket", region, bucket, "")
            ),
        ),
        "kms-denied" => (
            Kind::Permission,
            format!("{doing} is not allowed: it is encrypted with a KMS key that may not be used"),
            format!(
                "add to {policy}: `{{\"Effect\":\"Allow\",\"Action\":\"kms:Decrypt\",\"Resource\":\"{}\"}}`, and allow \
                 the same in the key's own policy when the key is another account's",
                about.kms_key.unwrap_or("ARN-OF-THE-KEY")
            ),
        ),
        "denied" => (
            Kind::Permission,
            format!("{doing} is not allowed"),
            format!(
                "add to {policy}: {} (`trailspool policy` prints all of it); if it is there, look for a Deny in the \
                 bucket policy; or the object belongs to another account (it was copied, and the bucket's Object Ownership is \"Object writer\"): set that to \
                 \"Bucket owner enforced\"",
                statement("s3:GetObject", region, bucket, &format!("/{}AWSLogs/*", about.prefix))
            ),
        ),
        "no-bucket" => (
            Kind::Config,
            format!("there is no bucket {bucket} at {endpoint}"),
            "correct `bucket`: its name stands in the trail's settings under \"Storage location\"".to_owned(),
        ),
        "wrong-region" => (
            Kind::Config,
            format!("bucket {bucket} is not served by {endpoint} in region {region}"),
            format!(
                "set `region` to the bucket's: `aws s3api get-bucket-location --bucket {bucket}` tells it (null is \
                 us-east-1); and check `endpoint`"
            ),
        ),
        "not-s3" | "not-http" => (
            Kind::Config,
            format!("{endpoint} does not answer as S3 does"),
            "remove `endpoint` unless it is meant, never name a website endpoint there, and see whether a proxy or a \
             captive portal answers instead"
                .to_owned(),
        ),
        "clock" => (
            Kind::Unavailable,
            "this machine's clock is too far from the server's".to_owned(),
            "set the clock: `timedatectl set-ntp true`".to_owned(),
        ),
        "archived" => (
            Kind::Permission,
            format!("{doing} is not possible: the object is archived"),
            "restore it from Glacier, or have the lifecycle rule archive later than the agent may lag".to_owned(),
        ),
        "gone" => (
            Kind::Unavailable,
            format!("{doing} finds nothing: it was removed just now"),
            "run the check again; if it stays so, something removes logs as soon as they are there".to_owned(),
        ),
        "slow-down" | "server" | "bad-answer" | "network" | "dns" | "conn-refused" | "no-route"
        | "connect-timeout" | "timeout" | "tls" | "reset" | "closed" => {
            (Kind::Unavailable, format!("{doing} fails"), "run the check again; the agent itself tries on".to_owned())
        }
        _ => (
            Kind::Config,
            format!("{doing} is refused"),
            "check `bucket`, `region` and `endpoint` of this source".to_owned(),
        ),
    };
    let why = if fault.said.is_empty() { fault.text.clone() } else { fault.said.to_string() };
    Finding::fail(probe, kind, what, why, fix)
}

/// A connection that cannot be made, though TCP to the server, or to the proxy before it, could.
pub fn unreachable(probe: &'static str, error: &net::Error, host: &str, port: u16, setting: &str) -> Finding {
    use net::Kind as Net;
    let show = format!("`openssl s_client -connect {host}:{port} -servername {host} </dev/null`");
    let not_accepted = format!("the certificate of {host} is not accepted");
    let (kind, what, fix) = match error.kind() {
        Net::UnknownIssuer => (
            Kind::Config,
            not_accepted,
            format!(
                "a proxy that intercepts TLS, or a private CA: name the certificate of its CA in `ca_file`; {show} shows who \
                 signed"
            ),
        ),
        Net::WrongName => (
            Kind::Config,
            not_accepted,
            format!("check {setting}; a bucket with dots in its name needs `path_style = true`"),
        ),
        Net::Expired | Net::NotYetValid => (
            Kind::Unavailable,
            not_accepted,
            format!(
                "see whether this machine's clock is right (`timedatectl`); if it is, {host} needs a new certificate"
            ),
        ),
        Net::Clock => {
            (Kind::Unavailable, not_accepted, "set the clock: `timedatectl set-ntp true`".to_owned())
        }
        Net::Certificate => (Kind::Config, not_accepted, format!("{show} shows it")),
        Net::ClientCertificate => (
            Kind::Permission,
            format!("{host} talks to nobody without a client certificate that it trusts"),
            "set `client_cert_file` and `client_key_file`; if they are set, check whether the server trusts who signed \
             the certificate, and its time"
                .to_owned(),
        ),
        _ if error.is_unanswered() => (
            Kind::Permission,
            format!("{host} ends the connection after the TLS handshake"),
            "if the server wants a client certificate, set `client_cert_file` and `client_key_file`, or check whether it \
             trusts them"
                .to_owned(),
        ),
        Net::NoTrust => (
            Kind::Config,
            format!("{host} cannot be verified: this system has no CA certificates"),
            "install the `ca-certificates` package, or name a file of them in `ca_file`".to_owned(),
        ),
        Net::ProxyAuth => (
            Kind::Permission,
            "the proxy wants a user name and a password".to_owned(),
            "write them into its URL, percent-encoded: `http://USER:PASSWORD@HOST:PORT`".to_owned(),
        ),
        Net::ProxyRefused => (
            Kind::Permission,
            format!("the proxy does not let connections to {host} through"),
            format!(
                "have CONNECT to {host}:{port} allowed there, or add {host} to NO_PROXY (or write `proxy = \"none\"`) if it \
                 can be reached directly"
            ),
        ),
        Net::NotAProxy => (
            Kind::Config,
            "what should be a proxy is none".to_owned(),
            "check `proxy` (or HTTPS_PROXY): host and port must be those of an HTTP proxy that knows CONNECT"
                .to_owned(),
        ),
        Net::ProxyFailed | Net::Proxy => (
            Kind::Unavailable,
            format!("the proxy gives no connection to {host}"),
            format!("try it: `curl -v --proxy PROXY https://{host}:{port}/`; its log may say more"),
        ),
        _ => (
            Kind::Unavailable,
            format!("the TLS connection to {host} fails"),
            format!(
                "check {setting} (is TLS spoken on port {port}?) and whether a proxy or a firewall stands in between; {show} \
                 tries the same"
            ),
        ),
    };
    Finding::fail(probe, kind, what, error.detail(), fix)
}

/// A statement of an IAM policy, to be copied.
fn statement(action: &str, region: &str, bucket: &str, path: &str) -> String {
    let partition = Partition::of(region).arn();
    format!(
        "`{{\"Effect\":\"Allow\",\"Action\":\"{action}\",\"Resource\":\"arn:{partition}:s3:::{bucket}{path}\"}}`"
    )
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::*;
    use crate::aws::Class;

    const ABOUT: About<'_> = About {
        bucket: "acme",
        region: "us-gov-west-1",
        prefix: "trail/",
        endpoint: "s3.example",
        who: None,
        kms_key: None,
    };

    fn finding(cause: &'static str, about: &About<'_>) -> Finding {
        let fault = Fault {
            class: Class::Denied,
            cause,
            text: "the whole text".to_owned(),
            said: "HTTP 403 Said".into(),
            retry_after: None,
        };
        of_fault("list", &fault, "listing bucket acme", about)
    }

    /// Cause, kind, a part of what, a part of the fix.
    #[test]
    fn the_table() {
        for (cause, kind, what, fix) in [
            ("signature", Kind::Permission, "secret access key", "`access_key_id`"),
            ("access-key", Kind::Permission, "not known", "list-access-keys"),
            ("expired", Kind::Permission, "expired", "renew"),
            ("no-credentials", Kind::Config, "no credentials", "`method`"),
            ("credentials", Kind::Config, "cannot be used", "[source.credentials]"),
            ("role-denied", Kind::Permission, "role", "--only trust"),
            ("hop-limit", Kind::Config, "container", "hop-limit 2"),
            (
                "list-denied",
                Kind::Permission,
                "listing bucket acme is not allowed",
                r#"`{"Effect":"Allow","Action":"s3:ListBucket","Resource":"arn:aws-us-gov:s3:::acme"}`"#,
            ),
            (
                "denied",
                Kind::Permission,
                "not allowed",
                r#"`{"Effect":"Allow","Action":"s3:GetObject","Resource":"arn:aws-us-gov:s3:::acme/trail/AWSLogs/*"}`"#,
            ),
            ("kms-denied", Kind::Permission, "KMS", r#""kms:Decrypt","Resource":"ARN-OF-THE-KEY""#),
            ("no-bucket", Kind::Config, "no bucket acme at s3.example", "`bucket`"),
            ("wrong-region", Kind::Config, "not served", "get-bucket-location"),
            ("not-s3", Kind::Config, "s3.example does not answer as S3 does", "`endpoint`"),
            ("clock", Kind::Unavailable, "clock", "timedatectl"),
            ("archived", Kind::Permission, "archived", "restore"),
            ("gone", Kind::Unavailable, "removed", "again"),
            ("slow-down", Kind::Unavailable, "listing bucket acme fails", "again"),
            ("timeout", Kind::Unavailable, "fails", "again"),
            ("closed", Kind::Unavailable, "fails", "again"),
            ("refused", Kind::Config, "refused", "`endpoint`"),
            ("some day", Kind::Config, "refused", "`endpoint`"),
        ] {
            let finding = finding(cause, &ABOUT);
            assert_eq!(finding.level, Level::Fail(kind), "{cause}");
            assert!(finding.what.contains(what), "{cause}: {}", finding.what);
            assert!(finding.fix.contains(fix), "{cause}: {}", finding.fix);
            assert_eq!(finding.why, "HTTP 403 Said");
        }
    }

    #[test]
    fn a_key_that_is_known_is_named() {
        let about = About {
            kms_key: Some("arn:aws:kms:us-east-1:1:key/k"),
            who: Some("arn:aws:iam::1:user/u"),
            ..ABOUT
        };
        assert!(
            finding("list-denied", &about)
                .fix
                .starts_with("add to the IAM policy of arn:aws:iam::1:user/u: `{")
        );
        assert!(finding("kms-denied", &about).fix.contains(r#""Resource":"arn:aws:kms:us-east-1:1:key/k""#));
    }
}
