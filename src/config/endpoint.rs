//! Region and endpoint of a bucket: region codes, the labels older collectors showed for them, and the
//! S3 URLs that people paste from documentation.

use std::net::IpAddr;

use super::Endpoint;
use super::fault::{nearest, quoted};
use super::table::Read;

/// A region as it was written, understood.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Region {
    /// The code, e.g. `us-west-2`.
    pub(super) code: Box<str>,
    /// It was given as a website endpoint, which cannot answer signed requests.
    pub(super) website: bool,
}

/// Labels of older collectors.
const LABELS: [(&str, &str); 17] = [
    ("US_STANDARD", "us-east-1"),
    ("US_EAST_OHIO", "us-east-2"),
    ("US_WEST_N_CALIFORNIA", "us-west-1"),
    ("US_WEST_OREGON", "us-west-2"),
    ("CA_CENTRAL", "ca-central-1"),
    ("EU_IRELAND", "eu-west-1"),
    ("EU_LONDON", "eu-west-2"),
    ("EU_PARIS", "eu-west-3"),
    ("EU_FRANKFURT", "eu-central-1"),
    ("AP_MUMBAI", "ap-south-1"),
    ("AP_SEOUL", "ap-northeast-2"),
    ("AP_SINGAPORE", "ap-southeast-1"),
    ("AP_SYDNEY", "ap-southeast-2"),
    ("AP_TOKYO", "ap-northeast-1"),
    ("SA_SAO_PAULO", "sa-east-1"),
    ("US East (GovCloud)", "us-gov-east-1"),
    ("US West (GovCloud)", "us-gov-west-1"),
];

/// Reads a region: a code, a label or a pasted S3 URL. With an endpoint of its own (`free`), an
/// S3-compatible store may call its region anything.
pub(super) fn region(text: &str, free: bool) -> Read<Region> {
    let found = |code: &str, website| Ok(Region { code: code.into(), website });
    let text = text.trim();
    if is_code(text) {
        return found(text, false);
    }
    if let Some((_, code)) = LABELS.iter().find(|(label, _)| label.eq_ignore_ascii_case(text)) {
        return found(code, false);
    }
    if text.contains(".amazonaws.com") {
        return region_of_url(text);
    }
    let loose = |c: u8| c.is_ascii_alphanumeric() || c == b'-' || c == b'_';
    if free && (1..=64).contains(&text.len()) && text.bytes().all(loose) {
        return found(text, false);
    }
    let codes = LABELS.map(|(_, code)| code);
    let near =
        nearest(&text.to_ascii_lowercase(), &codes).map(|code| format!("; did you mean {}?", quoted(code)));
    Err(format!(
        "{} is not a region{}",
        quoted(text),
        near.as_deref().unwrap_or(": write the code of the bucket's region, such as \"us-west-2\"")
    ))
}

/// A region that events are collected from: a code or a label.
pub(super) fn event_region(text: &str) -> Read<Box<str>> {
    match region(text, false)? {
        Region { website: false, code } if !text.contains('.') => Ok(code),
        Region { code, .. } => Err(format!("must be a region code here: write {}", quoted(&code))),
    }
}

/// The S3 endpoint of a region. Until a source names its own, the host is AWS's.
/// `path_style` is what was written, if anything was.
pub(super) fn of_region(region: &str, bucket: &str, path_style: Option<bool>) -> Read<Endpoint> {
    let domain = match region {
        code if code.starts_with("cn-") => "amazonaws.com.cn",
        code if code.contains("-iso") || code.starts_with("eusc-") => {
            return Err(format!(
                "the endpoints of {} are not known to this version: write endpoint = \"https://…\"",
                quoted(code)
            ));
        }
        _ => "amazonaws.com",
    };
    let host = format!("s3.{region}.{domain}").into_boxed_str();
    // A certificate for *.s3.REGION.amazonaws.com does not cover a bucket name that has dots itself.
    let path_style = path_style.unwrap_or(bucket.contains('.'));
    Ok(Endpoint { tls: true, host, port: None, path_style })
}

/// The partition of a region, by which ARNs begin, and the domain of its endpoints. Source: AWS SDKs'
/// `partitions.json`.
pub(super) fn partition(region: &str) -> (&'static str, &'static str) {
    const PARTITIONS: [(&str, &str, &str); 7] = [
        ("cn-", "aws-cn", "amazonaws.com.cn"),
        ("us-gov-", "aws-us-gov", "amazonaws.com"),
        ("us-iso-", "aws-iso", "c2s.ic.gov"),
        ("us-isob-", "aws-iso-b", "sc2s.sgov.gov"),
        ("eu-isoe-", "aws-iso-e", "cloud.adc-e.uk"),
        ("us-isof-", "aws-iso-f", "csp.hci.ic.gov"),
        ("eusc-", "aws-eusc", "amazonaws.eu"),
    ];
    let found = PARTITIONS.iter().find(|(prefix, ..)| region.starts_with(prefix));
    found.map_or(("aws", "amazonaws.com"), |(_, name, domain)| (name, domain))
}

/// The regional endpoint of AWS STS.
pub(super) fn sts_of_region(region: &str) -> Read<hyper::Uri> {
    url(&format!("https://sts.{region}.{}", partition(region).1))
}

/// An endpoint without a path, as written: `http://HOST[:PORT]` or `https://HOST[:PORT]`.
pub(super) fn base_url(text: &str) -> Read<hyper::Uri> {
    let url = url(text)?;
    match url.path() != "/" || url.query().is_some() || text.contains(['?', '#']) {
        true => Err("must end after the host and port: a path or a query has no place here".to_owned()),
        false => Ok(url),
    }
}

/// An endpoint as written: `http://HOST[:PORT]` or `https://HOST[:PORT]`. Buckets can be part of a host
/// name only where names resolve: an IP address always gets path style, a name without dots does unless
/// `path_style = false` is written.
pub(super) fn of_url(text: &str, bucket: &str, path_style: Option<bool>) -> Read<Endpoint> {
    let url = base_url(text)?;
    let tls = url.scheme_str() == Some("https");
    let host = url.host().unwrap_or("");
    let is_ip = host.starts_with('[') || host.parse::<IpAddr>().is_ok();
    let dotted = tls && bucket.contains('.');
    let path_style = is_ip || path_style.unwrap_or(dotted || !host.contains('.'));
    let port = url.port_u16().filter(|port| *port != if tls { 443 } else { 80 });
    Ok(Endpoint { tls, host: host.to_ascii_lowercase().into(), port, path_style })
}

/// An absolute `http://` or `https://` URL with a host and without user and password. Its text is never
/// repeated in a fault: it may hold a token.
pub(super) fn url(text: &str) -> Read<hyper::Uri> {
    let right = "write http://HOST[:PORT] or https://HOST[:PORT]";
    let url: hyper::Uri = text.parse().map_err(|error| format!("is not a URL ({error}); {right}"))?;
    if !matches!(url.scheme_str(), Some("http" | "https")) {
        return Err(format!("is not a URL that this can use; {right}"));
    }
    let authority = url.authority().map_or("", |authority| authority.as_str());
    if authority.contains('@') {
        return Err("has a user name or a password in its URL: remove it".to_owned());
    }
    let host = url.host().unwrap_or("");
    let name = host.trim_start_matches('[').trim_end_matches(']');
    let bracketed = name.len() != host.len();
    let valid = match bracketed {
        true => name.parse::<std::net::Ipv6Addr>().is_ok(),
        false => !name.is_empty() && name.bytes().all(|c| c.is_ascii_alphanumeric() || b".-_".contains(&c)),
    };
    if !valid {
        return Err(format!("has no valid host name; {right}"));
    }
    // "host:" and "host:99999" leave a port that the parser does not give.
    let port = authority.strip_prefix(host).unwrap_or("");
    if !port.is_empty() && url.port_u16().is_none_or(|port| port == 0) {
        return Err("has no valid port: write one from 1 to 65535, or none".to_owned());
    }
    Ok(url)
}

/// `us-west-2`, `us-gov-west-1`, `cn-northwest-1`: the shape, so that new regions work without an update.
fn is_code(text: &str) -> bool {
    let parts: Vec<&str> = text.split('-').collect();
    let Some((number, words)) = parts.split_last() else { return false };
    text.len() <= 32
        && (2..=4).contains(&words.len())
        && words.iter().all(|word| word.len() >= 2 && word.bytes().all(|c| c.is_ascii_lowercase()))
        && (1..=2).contains(&number.len())
        && number.bytes().all(|c| c.is_ascii_digit())
}

/// Forms seen: `s3.amazonaws.com`, `s3-us-west-2.amazonaws.com`, `s3.us-west-2.amazonaws.com`,
/// `s3-website-us-west-2.…`, `s3-website.us-gov-west-1.…`, `s3.cn-north-1.amazonaws.com.cn`.
fn region_of_url(text: &str) -> Read<Region> {
    let lower = text.to_ascii_lowercase();
    let rest = lower.split_once("://").map_or(lower.as_str(), |(_, rest)| rest);
    let host = rest.split(['/', '?', '#', ':']).next().unwrap_or("");
    let unknown =
        || format!("{} is not the S3 URL of a region: write its code, such as \"us-west-2\"", quoted(text));
    let service = host
        .strip_suffix(".amazonaws.com")
        .or_else(|| host.strip_suffix(".amazonaws.com.cn"))
        .ok_or_else(unknown)?;
    if service.contains("fips") {
        return Err("names a FIPS endpoint, which is not supported in this version: write the region's code"
            .to_owned());
    }
    if service.contains("dualstack") {
        return Err(
            "names a dual-stack endpoint, which is not supported in this version: write the region's code"
                .to_owned(),
        );
    }
    let website = service.starts_with("s3-website");
    let rest =
        service.strip_prefix("s3-website").or_else(|| service.strip_prefix("s3")).ok_or_else(|| {
            format!(
                "{} is not the S3 URL of a region: name the bucket in bucket, and the region by its code",
                quoted(text)
            )
        })?;
    let code = match rest.trim_start_matches(['.', '-']) {
        "" | "external-1" if !website => "us-east-1",
        code if is_code(code) => code,
        _ => return Err(unknown()),
    };
    Ok(Region { code: code.into(), website })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sts_is_in_the_regions_partition() {
        for (region, partition_name, host) in [
            ("eu-west-1", "aws", "sts.eu-west-1.amazonaws.com"),
            ("us-gov-west-1", "aws-us-gov", "sts.us-gov-west-1.amazonaws.com"),
            ("cn-north-1", "aws-cn", "sts.cn-north-1.amazonaws.com.cn"),
            ("us-iso-east-1", "aws-iso", "sts.us-iso-east-1.c2s.ic.gov"),
            ("us-isob-east-1", "aws-iso-b", "sts.us-isob-east-1.sc2s.sgov.gov"),
            ("eusc-de-east-1", "aws-eusc", "sts.eusc-de-east-1.amazonaws.eu"),
        ] {
            assert_eq!(partition(region).0, partition_name);
            assert_eq!(sts_of_region(region).unwrap().to_string(), format!("https://{host}/"));
        }
    }

    fn code(text: &str) -> String {
        region(text, false).unwrap().code.into()
    }

    #[test]
    fn codes_pass_by_their_shape() {
        for text in [
            "us-west-2",
            "us-gov-east-1",
            "cn-northwest-1",
            "ap-southeast-7",
            "mx-central-1",
            "us-iso-east-1",
        ] {
            assert_eq!(code(text), text);
        }
        for wrong in [
            "",
            "us",
            "us-west",
            "us-west-",
            "us-west2",
            "uswest-2",
            "us-west-2a",
            "US-WEST-2x",
            "-1",
            "a-b-1",
        ] {
            assert!(region(wrong, false).is_err(), "{wrong}");
        }
        assert!(region("us-west2", false).unwrap_err().contains("did you mean \"us-west-2\"?"));
        assert!(region("garage", false).is_err());
        assert_eq!(region("garage", true).unwrap().code.as_ref(), "garage");
    }

    #[test]
    fn old_labels_are_understood() {
        for (label, region) in LABELS {
            assert_eq!(code(label), region);
            assert_eq!(code(&label.to_lowercase()), region);
        }
    }

    #[test]
    fn pasted_urls_are_understood() {
        for (url, region) in [
            ("https://s3-us-west-2.amazonaws.com", "us-west-2"),
            ("http://s3.us-west-2.amazonaws.com/", "us-west-2"),
            ("s3.amazonaws.com", "us-east-1"),
            ("https://s3-external-1.amazonaws.com", "us-east-1"),
            ("s3-us-gov-west-1.amazonaws.com", "us-gov-west-1"),
            ("https://s3.cn-north-1.amazonaws.com.cn/bucket", "cn-north-1"),
        ] {
            assert_eq!(
                super::region(url, false),
                Ok(Region { code: region.into(), website: false }),
                "{url}"
            );
        }
        for url in ["s3-website.us-gov-west-1.amazonaws.com", "http://s3-website-us-gov-west-1.amazonaws.com"]
        {
            assert_eq!(super::region(url, false), Ok(Region { code: "us-gov-west-1".into(), website: true }));
        }
        for wrong in [
            "https://sqs.us-west-2.amazonaws.com",
            "https://acme.s3.us-west-2.amazonaws.com",
            "https://s3.us-west-2.amazonaws.com.example.com",
            "s3-fips.us-gov-west-1.amazonaws.com",
            "s3.dualstack.us-west-2.amazonaws.com",
            "s3-website.amazonaws.com",
        ] {
            assert!(super::region(wrong, false).is_err(), "{wrong}");
        }
    }

    #[test]
    fn hosts_follow_the_partition() {
        let host = |region| of_region(region, "acme", None).unwrap().host;
        assert_eq!(host("us-west-2").as_ref(), "s3.us-west-2.amazonaws.com");
        assert_eq!(host("us-gov-west-1").as_ref(), "s3.us-gov-west-1.amazonaws.com");
        assert_eq!(host("cn-north-1").as_ref(), "s3.cn-north-1.amazonaws.com.cn");
        assert!(of_region("us-iso-east-1", "acme", None).is_err());
    }

    #[test]
    fn path_style_is_chosen_where_host_style_cannot_work() {
        let aws = |bucket, written| of_region("us-west-2", bucket, written).unwrap().path_style;
        assert!(!aws("acme", None) && aws("acme", Some(true)));
        assert!(aws("acme.logs", None) && !aws("acme.logs", Some(false)));
        let own = |url, bucket, written| of_url(url, bucket, written).unwrap().path_style;
        assert!(own("http://127.0.0.1:9000", "acme", None) && own("http://[::1]:9000", "acme", Some(false)));
        assert!(own("http://minio:9000", "acme", None) && !own("http://minio:9000", "acme", Some(false)));
        assert!(
            !own("https://s3.example.com", "acme", None) && own("https://s3.example.com", "acme.logs", None)
        );
        assert!(!own("http://s3.example.com", "acme.logs", None));
    }

    #[test]
    fn an_endpoint_is_scheme_host_and_port() {
        let parsed = of_url("http://127.0.0.1:9000", "acme", None).unwrap();
        let expected = Endpoint { tls: false, host: "127.0.0.1".into(), port: Some(9000), path_style: true };
        assert_eq!(parsed, expected);
        let parsed = of_url("https://S3.Example.com:443/", "acme", None).unwrap();
        assert_eq!((parsed.tls, parsed.host.as_ref(), parsed.port), (true, "s3.example.com", None));
        assert_eq!(of_url("https://[::1]:9000", "acme", None).unwrap().host.as_ref(), "[::1]");
        for wrong in [
            "",
            "127.0.0.1:9000",
            "ftp://host",
            "http://",
            "http://host/path",
            "http://host/?q",
            "http://host#f",
            "http://user:pw@host",
            "http://host:0",
            "http://host:99999",
            "http://host:",
            "http://[::1",
            "http://a b",
            "http://[nonsense]",
            "http:///x",
            "http://ho!st",
        ] {
            assert!(of_url(wrong, "acme", None).is_err(), "{wrong}");
        }
    }
}
