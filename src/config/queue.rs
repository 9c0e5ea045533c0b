//! `queue_url`: the queue that S3 tells of new objects, by the URL that SQS gave it.
//!
//! Source: Amazon SQS Developer Guide, "Queue and message identifiers" (URLs), "Amazon SQS endpoints" (the old names of
//! hosts); "Internetwork traffic privacy" (VPC endpoints).

use hyper::Uri;

use super::bucket::is_account;
use super::endpoint;
use super::table::Read;
use crate::aws::partition::{self, Partition};

/// Bytes of a queue's name, `.fifo` included. Source: SQS API Reference, "CreateQueue".
const NAME_BYTES: usize = 80;

/// A queue of SQS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Queue {
    /// As it was written: `https://sqs.us-west-2.amazonaws.com/111122223333/trail`.
    pub url: Uri,
    /// Where requests go: the URL's scheme and host, or the FIPS endpoint in its place.
    pub endpoint: Uri,
    /// Where it is: as the host says, or the bucket's region where the host does not tell.
    pub region: Box<str>,
    /// Twelve digits.
    pub account: Box<str>,
    /// The name alone.
    pub name: Box<str>,
}

impl Queue {
    /// Reads the URL of a queue; `region` is the bucket's.
    ///
    /// # Errors
    /// What is wrong and what to write, as the end of a sentence that begins with the key.
    pub fn parse(text: &str, region: &str) -> Result<Queue, String> {
        if let Some(url) = of_arn(text) {
            return Err(format!("is the queue's ARN: write its URL, \"{url}\""));
        }
        let url = endpoint::url(text)?;
        let right = || {
            "is not the URL of a queue: write https://sqs.REGION.amazonaws.com/ACCOUNT/NAME, as `aws sqs get-queue-url` \
             prints it"
                .to_owned()
        };
        // The parser drops what follows a '#'.
        if text.contains(['?', '#']) {
            return Err(right());
        }
        let (account, name) =
            url.path().strip_prefix('/').and_then(|path| path.split_once('/')).ok_or_else(right)?;
        let good = |c: u8| c.is_ascii_alphanumeric() || b"-_.".contains(&c);
        if !is_account(account) || !(1..=NAME_BYTES).contains(&name.len()) || !name.bytes().all(good) {
            return Err(right());
        }
        let host = url.host().unwrap_or("").to_ascii_lowercase();
        let (region, account, name) =
            (region_of(&host).unwrap_or(region).into(), account.into(), name.into());
        let endpoint =
            place(&url, url.authority().map_or("", |authority| authority.as_str())).ok_or_else(right)?;
        Ok(Queue { url, endpoint, region, account, name })
    }

    /// The same queue by the region's FIPS endpoint, if the URL names its plain one; another host stays.
    ///
    /// # Errors
    /// There is no FIPS endpoint, as the end of a sentence that begins with the key.
    fn by_fips(mut self) -> Result<Queue, String> {
        let Some(region) = partition::find(&self.region) else { return Ok(self) };
        let host = self.url.host().unwrap_or("");
        if !region.sqs(false).is_some_and(|plain| plain.eq_ignore_ascii_case(host)) {
            return Ok(self);
        }
        let fips = region.sqs(true).and_then(|host| place(&self.url, &host));
        let none = || format!("with fips = true: region {} has no FIPS endpoint of SQS", self.region);
        self.endpoint = fips.ok_or_else(none)?;
        Ok(self)
    }

    /// `arn:aws:sqs:us-west-2:111122223333:trail`
    pub fn arn(&self) -> String {
        let partition = Partition::of(&self.region).arn();
        format!("arn:{partition}:sqs:{}:{}:{}", self.region, self.account, self.name)
    }

    /// S3 tells no such queue of objects. Source: S3 User Guide, "Supported event destinations".
    pub fn is_fifo(&self) -> bool {
        self.name.ends_with(".fifo")
    }
}

/// The value of the key: `""` is none.
pub(super) fn queue_url(text: &str, region: &str, fips: bool) -> Read<Option<Queue>> {
    match (text, fips) {
        ("", _) => Ok(None),
        (text, false) => Queue::parse(text, region).map(Some),
        (text, true) => Queue::parse(text, region)?.by_fips().map(Some),
    }
}

/// The root of another host, or the same.
fn place(url: &Uri, authority: &str) -> Option<Uri> {
    format!("{}://{authority}/", url.scheme_str()?).parse().ok()
}

/// What a host says of its region.
fn region_of(host: &str) -> Option<&str> {
    let labels: Vec<&str> = host.split('.').collect();
    match labels[..] {
        ["sqs" | "sqs-fips", region, _, ..] if partition::names_region(host, region) => Some(region),
        [_, "sqs", region, "vpce", ..] => Some(region),
        ["queue", "amazonaws", "com"] => Some("us-east-1"),
        [region, "queue", "amazonaws", ..] => Some(region),
        _ => None,
    }
}

/// The URL of the queue that an ARN names.
fn of_arn(text: &str) -> Option<String> {
    let fields: Vec<&str> = text.strip_prefix("arn:")?.split(':').collect();
    let [_, "sqs", region, account, name] = fields[..] else { return None };
    let plain = |c: u8| c.is_ascii_alphanumeric() || b"-_.".contains(&c);
    let suffix = Partition::of(region).dns_suffix();
    [region, account, name]
        .iter()
        .all(|field| !field.is_empty() && field.bytes().all(plain))
        .then(|| format!("https://sqs.{region}.{suffix}/{account}/{name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queues_region_and_arn_come_from_its_url() {
        for (url, arn) in [
            (
                "https://sqs.us-gov-east-1.amazonaws.com/111122223333/q",
                "arn:aws-us-gov:sqs:us-gov-east-1:111122223333:q",
            ),
            (
                "https://us-west-2.queue.amazonaws.com/111122223333/q.fifo",
                "arn:aws:sqs:us-west-2:111122223333:q.fifo",
            ),
            ("https://queue.amazonaws.com/111122223333/q", "arn:aws:sqs:us-east-1:111122223333:q"),
            (
                "https://SQS-FIPS.us-east-2.amazonaws.com/111122223333/q",
                "arn:aws:sqs:us-east-2:111122223333:q",
            ),
            (
                "https://vpce-0a-1b.sqs.eu-west-1.vpce.amazonaws.com/111122223333/q",
                "arn:aws:sqs:eu-west-1:111122223333:q",
            ),
            (
                "https://sqs.cn-north-1.amazonaws.com.cn/111122223333/q",
                "arn:aws-cn:sqs:cn-north-1:111122223333:q",
            ),
            (
                "https://sqs.my-corp.example.com/111122223333/q",
                "arn:aws-us-gov:sqs:us-gov-west-1:111122223333:q",
            ),
            (
                "https://sqs.private.example.com/111122223333/q",
                "arn:aws-us-gov:sqs:us-gov-west-1:111122223333:q",
            ),
            ("http://127.0.0.1:9324/111122223333/q", "arn:aws-us-gov:sqs:us-gov-west-1:111122223333:q"),
        ] {
            let queue = Queue::parse(url, "us-gov-west-1").unwrap();
            assert_eq!((queue.arn(), queue.is_fifo()), (arn.to_owned(), url.ends_with(".fifo")), "{url}");
        }
    }

    #[test]
    fn requests_go_to_the_urls_host_or_to_the_fips_endpoint_in_its_place() {
        for (url, fips, endpoint) in [
            (
                "https://sqs.us-west-2.amazonaws.com/111122223333/q",
                false,
                "https://sqs.us-west-2.amazonaws.com/",
            ),
            (
                "https://SQS.us-west-2.amazonaws.com/111122223333/q",
                true,
                "https://sqs-fips.us-west-2.amazonaws.com/",
            ),
            (
                "https://sqs.us-gov-west-1.amazonaws.com/111122223333/q",
                true,
                "https://sqs.us-gov-west-1.amazonaws.com/",
            ),
            (
                "https://vpce-1.sqs.us-west-2.vpce.amazonaws.com/111122223333/q",
                true,
                "https://vpce-1.sqs.us-west-2.vpce.amazonaws.com/",
            ),
            ("http://127.0.0.1:9324/111122223333/q", true, "http://127.0.0.1:9324/"),
        ] {
            let queue = queue_url(url, "us-east-1", fips).unwrap().expect("a queue");
            assert_eq!(
                (queue.endpoint.to_string(), queue.url.to_string()),
                (endpoint.to_owned(), url.to_owned())
            );
        }
        let none =
            queue_url("https://sqs.eu-west-1.amazonaws.com/111122223333/q", "eu-west-1", true).unwrap_err();
        assert!(none.contains("eu-west-1 has no FIPS endpoint"), "{none}");
        assert_eq!(queue_url("", "us-east-1", true), Ok(None));
    }

    #[test]
    fn what_is_not_the_url_of_a_queue_is_answered_with_one() {
        let long = format!("https://h/111122223333/{}", "q".repeat(81));
        for (wrong, part) in [
            ("q", "https://HOST"),
            ("https://sqs.us-west-2.amazonaws.com", "as `aws sqs get-queue-url` prints it"),
            ("https://h/q", "/ACCOUNT/NAME"),
            ("https://h/1111/q", "/ACCOUNT/NAME"),
            ("https://h/111122223333/", "/ACCOUNT/NAME"),
            ("https://h/111122223333/a*", "/ACCOUNT/NAME"),
            ("https://h/111122223333/a/b", "/ACCOUNT/NAME"),
            ("https://h/111122223333/a?x=1", "/ACCOUNT/NAME"),
            ("https://h/111122223333/a#x", "/ACCOUNT/NAME"),
            (&long, "/ACCOUNT/NAME"),
            ("https://u:p@h/111122223333/q", "password"),
            (
                "arn:aws-cn:sqs:cn-north-1:111122223333:q",
                "\"https://sqs.cn-north-1.amazonaws.com.cn/111122223333/q\"",
            ),
        ] {
            let text = Queue::parse(wrong, "us-west-2").unwrap_err();
            assert!(text.contains(part), "{wrong}: {text}");
        }
    }
}
