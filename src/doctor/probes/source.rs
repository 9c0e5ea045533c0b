//! One source from the name of its server to the records of its newest object.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Uri, header};
use http_body_util::Full;
use tokio::time::timeout;

use super::super::advice::{self, About};
use super::super::finding::{Blocked, Finding, Kind, Notes, Part, Section};
use super::bucket::Bucket;
use super::{PART, TIME_IS_UP, TIMEOUTS, network, newest, queue};
use crate::aws::credentials::Provider;
use crate::aws::partition::Partition;
use crate::aws::s3::S3;
use crate::aws::{Class, Fault};
use crate::config;
use crate::decode::{Broken, Decoder, Failure, Record, Sink};
use crate::discover::key::{self, LogKey};
use crate::net::{self, Client, Options};

/// In the order of the report. A queue's follow.
const PROBES: [&str; 14] = [
    "dns",
    "tcp",
    "tls",
    "answer",
    "clock",
    "credentials",
    "list",
    "region",
    "objects",
    "key-prefix",
    "polling",
    "newest",
    "get",
    "decode",
];
/// Bytes of a region's name in an answer.
const REGION_BYTES: usize = 32;
/// Characters that are shown of a server's own name.
const SERVER_CHARACTERS: usize = 40;
/// A clock that is further off is worth a warning.
const SKEW: Duration = Duration::from_secs(60);
/// Getting keys, and asking STS whose they are.
pub(super) const KEYS: Duration = Duration::from_secs(8);
pub(super) const IDENTITY: Duration = Duration::from_secs(4);
/// S3 refuses signatures that are further off. Source: S3 API Reference, `RequestTimeTooSkewed`.
const SKEW_REFUSED: Duration = Duration::from_secs(15 * 60);

/// Probes a source.
pub(in crate::doctor) async fn source(source: config::Source, spool: Option<config::Spool>) -> Section {
    let part = Part::Source(source.name.clone());
    let (notes, of_queue) = (Notes::default(), Notes::default());
    let (ca_file, proxies) = (source.ca_file.as_deref(), source.proxies.clone());
    let (because, because_of_queue) =
        match Client::new(Options { ca_file, identity: None, proxies, timeouts: TIMEOUTS }) {
            Ok(client) => {
                let provider = Provider::new(&source, client.clone());
                let queue = timeout(PART, queue::probe(&source, &client, &provider, &of_queue));
                let (bucket, queue) =
                    tokio::join!(timeout(PART, probe(&source, &client, &provider, spool, &notes)), queue);
                (why_not(bucket), why_not(queue))
            }
            Err(error) => {
                let what = "there is nobody to trust";
                notes.add(Finding::fail("tls", Kind::Config, what, error.to_string(), "correct `ca_file`"));
                let because = "there is no client without trust";
                (because.to_owned(), because.to_owned())
            }
        };
    let mut section = notes.finish(part.clone(), &PROBES, &because);
    if source.queue_url.is_some() {
        section.findings.extend(of_queue.finish(part, &queue::PROBES, &because_of_queue).findings);
    }
    section
}

/// Why what is left was not tested.
fn why_not(end: Result<Result<(), Blocked>, tokio::time::error::Elapsed>) -> String {
    match end {
        Ok(Ok(())) => String::new(),
        Ok(Err(Blocked(because))) => because,
        Err(_) => TIME_IS_UP.to_owned(),
    }
}

async fn probe(
    source: &config::Source,
    client: &Client,
    provider: &Provider,
    spool: Option<config::Spool>,
    notes: &Notes,
) -> Result<(), Blocked> {
    let s3 = S3::new(source, client.clone(), provider.clone());
    let Ok(base) = format!("{}/", s3.base_url()).parse::<Uri>() else {
        let finding = Finding::fail(
            "dns",
            Kind::Config,
            format!("{} is no address of a server", s3.base_url()),
            "",
            "check `endpoint` and `bucket`",
        );
        return Err(notes.block(finding, "there is no address"));
    };
    let proxy = source.proxies.of(&base);
    network::reach(client, proxy, &base, "`region` and `endpoint`", Duration::ZERO, notes).await?;
    let answer = answer(client, &base, notes).await?;
    let ahead = clock(&answer, notes);

    let named = answer.get("x-amz-bucket-region").and_then(|value| value.to_str().ok());
    let named = named.filter(|name| name.len() <= REGION_BYTES && key::is_region(name));
    let who = credentials(source, &s3, provider, notes).await?;

    // A wrong region is followed: what comes after is tested in the right one.
    let listed = Bucket::new(&s3).folders(&logs_of(&source.prefix)).await;
    region(source, &s3, named, listed.as_ref().err(), notes);
    let top = match listed {
        Ok(top) => top,
        Err(fault) => return Err(list_failed(source, &s3, &who, &fault, notes)),
    };
    notes.add(who.accepted());
    notes.add(Finding::ok("list", format!("bucket {} may be listed", source.bucket)));

    let found = Bucket::new(&s3).survey(source, top, notes).await?;
    let newest = newest::probe(&Bucket::new(&s3), source, &found, now() + ahead, notes).await?;
    read(source, &s3, &who, &newest, spool, notes).await
}

fn logs_of(prefix: &str) -> String {
    format!("{prefix}AWSLogs/")
}

/// Asks for the bucket without a signature: whatever the status is, the answer has the server's date, and S3's names
/// the bucket's region even to strangers. Source: S3 API Reference, "HeadBucket".
async fn answer(client: &Client, base: &Uri, notes: &Notes) -> Result<HeaderMap, Blocked> {
    let mut request = Request::new(Full::<Bytes>::default());
    *request.method_mut() = Method::HEAD;
    request.uri_mut().clone_from(base);
    let host = base.host().unwrap_or_default();
    match client.request(request).await {
        Ok(answer) => {
            let server = answer.headers().get(header::SERVER).and_then(|value| value.to_str().ok());
            let server = server.map_or_else(String::new, |name| {
                format!(" ({})", name.chars().take(SERVER_CHARACTERS).collect::<String>())
            });
            notes.add(Finding::ok("answer", format!("{host}{server} answers requests")));
            Ok(answer.into_parts().0.headers)
        }
        Err(error) => {
            let (kind, fix) = match error.kind() {
                net::Kind::NotHttp => {
                    (Kind::Config, "check `endpoint`: the scheme and the port must be those of an S3 server")
                }
                _ => (
                    Kind::Unavailable,
                    "run the check again; if it stays so, see whether a firewall or a proxy lets connections through but no \
                     requests",
                ),
            };
            let finding =
                Finding::fail("answer", kind, format!("{host} does not answer"), error.to_string(), fix);
            Err(notes.block(finding, format!("{host} does not answer")))
        }
    }
}

/// How much the server's clock is ahead of this machine's.
fn clock(answer: &HeaderMap, notes: &Notes) -> time::Duration {
    let date = answer.get(header::DATE).and_then(|value| value.to_str().ok());
    let Some(theirs) = date.and_then(|date| httpdate::parse_http_date(date).ok()) else {
        notes.add(Finding::not_tested("clock", "the server's answer has no date"));
        return time::Duration::ZERO;
    };
    let ahead = time::OffsetDateTime::from(theirs) - now();
    notes.add(skew(ahead));
    ahead
}

fn skew(ahead: time::Duration) -> Finding {
    let seconds = ahead.whole_seconds();
    let apart = ahead.unsigned_abs();
    let what = match seconds {
        ..0 => format!("this machine's clock is {} s ahead of the server's", seconds.unsigned_abs()),
        0 => "this machine's clock is the server's to the second".to_owned(),
        1.. => format!("this machine's clock is {seconds} s behind the server's"),
    };
    if apart < SKEW {
        return Finding::ok("clock", what);
    }
    let why = match apart < SKEW_REFUSED {
        true => "S3 tolerates 15 minutes; certificates and the time stamps of other logs do not",
        false => {
            "S3 refuses such signatures; the agent signs with the server's time instead, but certificates may be \
             refused for it"
        }
    };
    Finding::warn(
        "clock",
        what,
        why,
        "set the clock: `timedatectl set-ntp true`, and see whether NTP gets out",
    )
}

/// Compares the configured region with the one that was followed to, or that the server named to a stranger.
fn region(source: &config::Source, s3: &S3, named: Option<&str>, fault: Option<&Fault>, notes: &Notes) {
    let config::Source { name, bucket, region, .. } = source;
    let followed = s3.region();
    let right = match fault.map(|fault| &fault.class) {
        Some(Class::WrongRegion(right)) => right,
        _ if *followed != **region => &*followed,
        _ => named.unwrap_or(region),
    };
    if right == &**region {
        // S3 refuses for want of permission only in the bucket's own region.
        if fault.is_none_or(|fault| fault.cause == "list-denied") {
            notes.add(Finding::ok("region", format!("bucket {bucket} is in {region}")));
        }
        return;
    }
    let what = format!("bucket {bucket} is in region {right}, not in {region}");
    let fix = format!("set `region = \"{right}\"` in [[source]] {name}");
    notes.add(match fault.filter(|fault| fault.cause == "wrong-region") {
        Some(fault) => Finding::fail("region", Kind::Config, what, fault.said.to_string(), fix),
        None => {
            let why = "the server says so; the agent follows it there, with a detour at each start";
            Finding::warn("region", what, why, fix)
        }
    });
}

/// Whose keys sign the requests.
struct Who {
    access_key_id: Box<str>,
    /// Where STS tells.
    arn: Option<Box<str>>,
}

impl Who {
    /// S3 took a request with these keys.
    fn accepted(&self) -> Finding {
        let what = match &self.arn {
            Some(arn) => format!("access key {} is accepted: {arn}", self.access_key_id),
            None => format!("access key {} is accepted", self.access_key_id),
        };
        Finding::ok("credentials", what)
    }
}

/// Gets the keys, and asks whose they are. That STS does not answer is no failure: many networks let S3 alone through.
async fn credentials(
    source: &config::Source,
    s3: &S3,
    provider: &Provider,
    notes: &Notes,
) -> Result<Who, Blocked> {
    let keys = match timeout(KEYS, provider.keys()).await {
        Ok(Ok(keys)) => keys,
        Ok(Err(fault)) => {
            let (none, endpoint) = (Who { access_key_id: "".into(), arn: None }, s3.endpoint());
            let about = about(source, &endpoint, &none, None);
            let finding = advice::of_fault("credentials", &fault, "getting credentials", &about);
            return Err(notes.block(finding, "there are no credentials"));
        }
        Err(_) => {
            let finding = Finding::fail(
                "credentials",
                Kind::Unavailable,
                "there are no credentials yet",
                format!("waited {} s for where they come from", KEYS.as_secs()),
                "see whether the metadata service, STS or the credential_process of [source.credentials] answers",
            );
            return Err(notes.block(finding, "there are no credentials"));
        }
    };
    let asked = if has_sts(source) { timeout(IDENTITY, provider.identity()).await.ok() } else { None };
    let arn = asked.and_then(Result::ok).map(|identity| identity.arn);
    Ok(Who { access_key_id: keys.access_key_id().into(), arn })
}

/// AWS's STS knows nothing of the keys of an S3-compatible store.
pub(super) fn has_sts(source: &config::Source) -> bool {
    let suffix = Partition::of(&source.region).dns_suffix();
    let is_aws = |host: &str| host.ends_with(suffix);
    is_aws(&source.endpoint.host) || !source.sts.host().is_some_and(is_aws)
}

fn list_failed(source: &config::Source, s3: &S3, who: &Who, fault: &Fault, notes: &Notes) -> Blocked {
    let endpoint = s3.endpoint();
    let about = about(source, &endpoint, who, None);
    let doing = format!("listing bucket {}", source.bucket);
    if advice::is_of_credentials(fault.cause) {
        return notes.block(
            advice::of_fault("credentials", fault, &doing, &about),
            "the credentials are not accepted",
        );
    }
    // S3 looks at the signature before it looks at permissions.
    if fault.cause == "list-denied" {
        notes.add(who.accepted());
    }
    notes.block(advice::of_fault("list", fault, &doing, &about), "the bucket cannot be listed")
}

fn about<'a>(
    source: &'a config::Source,
    endpoint: &'a str,
    who: &'a Who,
    kms_key: Option<&'a str>,
) -> About<'a> {
    let config::Source { bucket, region, prefix, .. } = source;
    About { bucket, region, prefix, endpoint, who: who.arn.as_deref(), kms_key }
}

/// Reads the newest object and decodes it.
async fn read(
    source: &config::Source,
    s3: &S3,
    who: &Who,
    key: &LogKey,
    spool: Option<config::Spool>,
    notes: &Notes,
) -> Result<(), Blocked> {
    let key = key.as_str();
    let mut answer = match s3.get(key, None).await {
        Ok(answer) => answer,
        Err(fault) => return Err(get_failed(source, s3, who, key, fault, notes).await),
    };
    let Some(spool) = spool else { return Err(Blocked("[spool] has faults".to_owned())) };
    let mut decoder = Decoder::new(spool.max_record_bytes, spool.max_object_bytes);
    let mut records = Records::default();
    decoder.start();
    let (mut read, mut result) = (0, Ok(()));
    loop {
        match answer.body.chunk().await {
            Ok(Some(bytes)) => {
                read += bytes.len();
                result = result.and_then(|()| decoder.feed(&bytes, &mut records));
            }
            Ok(None) => break,
            Err(error) => {
                let fault = s3.body_fault(key, &error);
                return Err(get_failed(source, s3, who, key, fault, notes).await);
            }
        }
    }
    notes.add(Finding::ok("get", format!("{key} is read: {read} bytes")));
    let decoded = result.and_then(|()| decoder.finish(&mut records).map(|_| ()));
    notes.add(match decoded {
        Ok(()) if records.broken == 0 => Finding::ok("decode", format!("it holds {} records", records.whole)),
        Ok(()) => Finding::warn(
            "decode",
            format!("it holds {} records and {} that cannot be used", records.whole, records.broken),
            "records that are no JSON objects, or are too long or too deep, are set aside",
            "look at the object; the rest is collected",
        ),
        Err(Failure::Object(error)) => Finding::warn(
            "decode",
            format!("{key} cannot be decoded"),
            error.to_string(),
            "look at the object: it would be set aside with its bytes; others may be whole",
        ),
        Err(Failure::Sink(never)) => match never {},
    });
    Ok(())
}

async fn get_failed(
    source: &config::Source,
    s3: &S3,
    who: &Who,
    key: &str,
    fault: Fault,
    notes: &Notes,
) -> Blocked {
    let doing = format!("reading {key:?}");
    // wazuh/wazuh#13885: without kms:Decrypt S3 may say AccessDenied and no more. The head of an object takes no KMS
    // permission, and tells how it is encrypted.
    let head = match fault.cause {
        "denied" | "kms-denied" => s3.head(key).await.ok(),
        _ => None,
    };
    let text = |name| head.as_ref()?.get(name)?.to_str().ok();
    let kms = text("x-amz-server-side-encryption").is_some_and(|kind| kind.starts_with("aws:kms"));
    let endpoint = s3.endpoint();
    let about = about(source, &endpoint, who, text("x-amz-server-side-encryption-aws-kms-key-id"));
    let fault = if kms { Fault { cause: "kms-denied", ..fault } } else { fault };
    notes.block(advice::of_fault("get", &fault, &doing, &about), "the newest object cannot be read")
}

/// Counts.
#[derive(Default)]
struct Records {
    whole: u64,
    broken: u64,
}

impl Sink for Records {
    type Error = std::convert::Infallible;

    fn record(&mut self, _: u32, _: Record<'_>) -> Result<(), Self::Error> {
        self.whole += 1;
        Ok(())
    }

    fn broken(&mut self, _: u32, _: Broken, _: &[u8], last: bool) -> Result<(), Self::Error> {
        self.broken += u64::from(last);
        Ok(())
    }
}

#[allow(clippy::disallowed_methods, reason = "the doctor compares this machine's clock with the server's")]
fn now() -> time::OffsetDateTime {
    SystemTime::now().into()
}

#[cfg(test)]
mod tests {
    use super::super::super::finding::Level;
    use super::*;

    #[test]
    fn a_clock_that_is_off_is_a_warning_that_says_which_way() {
        for (seconds, level, words) in [
            (0, Level::Ok, "to the second"),
            (59, Level::Ok, "59 s behind"),
            (-59, Level::Ok, "59 s ahead"),
            (60, Level::Warn, "60 s behind"),
            (-7200, Level::Warn, "7200 s ahead"),
            (i64::MIN, Level::Warn, "ahead"),
        ] {
            let finding = skew(time::Duration::seconds(seconds));
            assert_eq!(finding.level, level, "{seconds}");
            assert!(finding.what.contains(words), "{finding:?}");
        }
    }
}
