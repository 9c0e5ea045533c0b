//! Region and endpoint of a bucket: region codes, the labels older collectors showed for them, and the
//! S3 URLs that people paste from documentation.

use std::net::IpAddr;

use super::Endpoint;
use super::fault::{nearest, quoted};
use super::table::Read;
use crate::aws::partition::{self, Flavor, Partition};

/// A region as it was written, understood.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Region {
    /// The code, e.g. `us-west-2`.
    pub(super) code: Box<str>,
    /// What its URL says of the endpoint, where it was given as one.
    pub(super) flavor: Flavor,
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

/// Reads a region: a code, a label or a pasted S3 URL. Without an endpoint of its own the region must be one
/// of the table; with one (`free`), it may be newer, and an S3-compatible store may call it anything.
pub(super) fn region(text: &str, free: bool) -> Read<Region> {
    let text = text.trim();
    let loose = |c: u8| c.is_ascii_alphanumeric() || c == b'-' || c == b'_';
    match written(text) {
        Some(region) => {
            let region = region?;
            if !free && partition::find(&region.code).is_none() {
                return Err(not_in_table(&region.code));
            }
            Ok(region)
        }
        None if free && (1..=64).contains(&text.len()) && text.bytes().all(loose) => Ok(Region::plain(text)),
        None => {
            let near = near(text).map(|code| format!("; did you mean {}?", quoted(code)));
            Err(format!(
                "{} is not a region{}",
                quoted(text),
                near.as_deref().unwrap_or(": write the code of the bucket's region, such as \"us-west-2\"")
            ))
        }
    }
}

/// A region that events are collected from: a code or a label. It may be newer than the table, since no
/// endpoint of it is needed; the second value says whether the table has it.
pub(super) fn event_region(text: &str) -> Read<(Box<str>, bool)> {
    let Region { code, .. } = written(text.trim()).unwrap_or_else(|| region(text, false))?;
    let known = partition::find(&code).is_some();
    Ok((code, known))
}

/// The endpoint of AWS's S3 in a region of the table. `path_style` is what was written, if anything was.
///
/// # Errors
/// The key at fault and what is wrong with it.
pub(super) fn of_region(
    code: &str,
    flavor: Flavor,
    bucket: &str,
    path_style: Option<bool>,
) -> Result<Endpoint, (&'static str, String)> {
    let row = partition::find(code).ok_or_else(|| ("region", not_in_table(code)))?;
    let host = row.s3(flavor).ok_or_else(|| no_such_endpoint(row, flavor))?.into_boxed_str();
    // A certificate for *.s3.REGION.amazonaws.com does not cover a bucket name that has dots itself.
    let path_style = path_style.unwrap_or(bucket.contains('.'));
    Ok(Endpoint { tls: true, host, port: None, path_style })
}

/// The regional endpoint of AWS STS.
pub(super) fn sts_of_region(region: &str, fips: bool) -> Read<hyper::Uri> {
    let host = match partition::find(region) {
        Some(row) => row.sts(fips).ok_or_else(|| {
            format!("AWS STS has no FIPS endpoint in {region}: name that of another region with sts_endpoint")
        })?,
        None => format!("sts.{region}.{}", Partition::of(region).dns_suffix()),
    };
    url(&format!("https://{host}"))
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

impl Region {
    fn plain(code: &str) -> Region {
        Region { code: code.into(), flavor: Flavor::default(), website: false }
    }
}

/// A region as people write it, known or not; `None`: it looks like nothing of the kind.
fn written(text: &str) -> Option<Read<Region>> {
    if is_code(text) {
        return Some(Ok(Region::plain(text)));
    }
    let old = LABELS.iter().find(|(label, _)| label.eq_ignore_ascii_case(text)).map(|(_, code)| *code);
    let of_table = || partition::REGIONS.iter().find(|row| row.label.eq_ignore_ascii_case(text));
    if let Some(code) = old.or_else(|| of_table().map(|row| row.name)) {
        return Some(Ok(Region::plain(code)));
    }
    let lower = text.to_ascii_lowercase();
    Partition::ALL
        .iter()
        .any(|partition| lower.contains(&format!(".{}", partition.dns_suffix())))
        .then(|| region_of_url(&lower))
}

fn not_in_table(code: &str) -> String {
    let near = near(code).map(|code| format!("did you mean {}? ", quoted(code))).unwrap_or_default();
    format!(
        "{} is not in this version's table of regions (trailspool regions prints it): {near}If it is newer than this \
         version, write endpoint = \"https://s3.{code}.{}\" as well",
        quoted(code),
        Partition::of(code).dns_suffix()
    )
}

fn no_such_endpoint(row: &partition::Region, flavor: Flavor) -> (&'static str, String) {
    let fips = Flavor { fips: true, dualstack: false };
    let (key, kind, lacking) = match flavor {
        Flavor { fips: true, dualstack: false } => ("fips", "FIPS", flavor),
        Flavor { fips: true, .. } if row.s3(fips).is_none() => ("fips", "FIPS", fips),
        Flavor { fips: true, .. } => ("dualstack", "FIPS dual-stack", flavor),
        Flavor { fips: false, .. } => ("dualstack", "dual-stack", flavor),
    };
    let others: Vec<&str> = partition::REGIONS
        .iter()
        .filter(|other| other.partition == row.partition && other.s3(lacking).is_some())
        .map(|other| other.name)
        .collect();
    let others = match others.len() {
        0 => String::new(),
        1..=12 => format!(" (there is one in {})", others.join(", ")),
        _ => " (other regions have one)".to_owned(),
    };
    let text = format!(
        "S3 has no {kind} endpoint in {} that this version knows{others}: remove {key}, or name an endpoint of your \
         own with endpoint",
        row.name
    );
    (key, text)
}

fn near(text: &str) -> Option<&'static str> {
    let codes: Vec<&'static str> = partition::REGIONS.iter().map(|row| row.name).collect();
    nearest(&text.to_ascii_lowercase(), &codes)
}

/// `us-west-2`, `us-gov-west-1`, `cn-northwest-1`: the shape.
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
/// `s3.dualstack.us-west-2.…`, `s3-fips.us-gov-west-1.…`, `s3-fips-us-gov-west-1.…`, `s3-fips.dualstack.us-east-1.…`,
/// `s3-website-us-west-2.…`, `s3-website.us-gov-west-1.…`, `s3.cn-north-1.amazonaws.com.cn`. `text` is lower-case.
fn region_of_url(text: &str) -> Read<Region> {
    let rest = text.split_once("://").map_or(text, |(_, rest)| rest);
    let host = rest.split(['/', '?', '#', ':']).next().unwrap_or("");
    let unknown =
        || format!("{} is not the S3 URL of a region: write its code, such as \"us-west-2\"", quoted(text));
    let service = Partition::ALL
        .iter()
        .find_map(|partition| host.strip_suffix(partition.dns_suffix())?.strip_suffix('.'))
        .ok_or_else(unknown)?;
    let mut rest = service.strip_prefix("s3").ok_or_else(|| {
        format!(
            "{} is not the S3 URL of a region: name the bucket in bucket, and the region by its code",
            quoted(text)
        )
    })?;
    let mut has = |word: &str| match rest.strip_prefix(word) {
        Some(after) => {
            rest = after;
            true
        }
        None => false,
    };
    let (website, fips) = (has("-website"), has("-fips"));
    let dualstack = has(".dualstack");
    let flavor = Flavor { fips, dualstack };
    let code = match rest.strip_prefix(['.', '-']).unwrap_or(rest) {
        "" | "external-1" if !website && flavor == Flavor::default() => "us-east-1",
        code if is_code(code) => code,
        _ => return Err(unknown()),
    };
    Ok(Region { code: code.into(), flavor, website })
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIPS: Flavor = Flavor { fips: true, dualstack: false };
    const DUAL: Flavor = Flavor { fips: false, dualstack: true };

    #[test]
    fn sts_is_in_the_regions_partition() {
        for (region, fips, host) in [
            ("eu-west-1", false, "sts.eu-west-1.amazonaws.com"),
            ("us-east-1", true, "sts-fips.us-east-1.amazonaws.com"),
            ("us-gov-west-1", true, "sts.us-gov-west-1.amazonaws.com"),
            ("cn-north-1", false, "sts.cn-north-1.amazonaws.com.cn"),
            ("us-isob-east-1", false, "sts.us-isob-east-1.sc2s.sgov.gov"),
            ("eusc-de-east-9", false, "sts.eusc-de-east-9.amazonaws.eu"),
        ] {
            assert_eq!(sts_of_region(region, fips).unwrap().to_string(), format!("https://{host}/"));
        }
        assert!(sts_of_region("ca-central-1", true).unwrap_err().contains("sts_endpoint"));
    }

    fn code(text: &str) -> String {
        region(text, false).unwrap().code.into()
    }

    #[test]
    fn codes_are_those_of_the_table() {
        for row in partition::REGIONS {
            assert_eq!(code(row.name), row.name);
        }
        for wrong in
            ["", "us", "us-west", "us-west-", "us-west2", "uswest-2", "us-west-2a", "US-WEST-2x", "-1"]
        {
            assert!(region(wrong, false).is_err(), "{wrong}");
        }
        assert!(region("us-west2", false).unwrap_err().contains("did you mean \"us-west-2\"?"));
        assert!(region("garage", false).is_err());
        assert_eq!(region("garage", true).unwrap().code.as_ref(), "garage");
    }

    #[test]
    fn a_region_newer_than_the_table_needs_its_endpoint() {
        for (code, endpoint) in [
            ("us-west-9", "\"https://s3.us-west-9.amazonaws.com\""),
            ("cn-south-1", "\"https://s3.cn-south-1.amazonaws.com.cn\""),
            ("us-isof-west-1", "\"https://s3.us-isof-west-1.csp.hci.ic.gov\""),
        ] {
            let fault = region(code, false).unwrap_err();
            assert!(fault.contains("not in this version's table") && fault.contains(endpoint), "{fault}");
            assert_eq!(region(code, true).unwrap().code.as_ref(), code);
            assert_eq!(event_region(code), Ok((code.into(), false)));
        }
        assert!(region("us-west-9", false).unwrap_err().contains("did you mean \"us-west-"));
        assert!(region("s3.us-west-9.amazonaws.com", false).is_err());
    }

    #[test]
    fn labels_are_understood() {
        for (label, region) in LABELS {
            assert_eq!(code(label), region);
            assert_eq!(code(&label.to_lowercase()), region);
        }
        for row in partition::REGIONS {
            assert_eq!(code(row.label), row.name);
            assert_eq!(event_region(row.label), Ok((row.name.into(), true)));
        }
    }

    #[test]
    fn pasted_urls_are_understood() {
        for row in partition::REGIONS {
            for (fips, dualstack) in [(false, false), (false, true), (true, false), (true, true)] {
                let flavor = Flavor { fips, dualstack };
                let Some(host) = row.s3(flavor) else { continue };
                let expected = || Region { code: row.name.into(), flavor, website: false };
                assert_eq!(region(&host, false), Ok(expected()));
                assert_eq!(region(&format!("https://{}/bucket", host.to_uppercase()), false), Ok(expected()));
            }
        }
        for (url, region) in [
            ("https://s3-us-west-2.amazonaws.com", "us-west-2"),
            ("http://s3.us-west-2.amazonaws.com/", "us-west-2"),
            ("s3.amazonaws.com", "us-east-1"),
            ("https://s3-external-1.amazonaws.com", "us-east-1"),
            ("s3-us-gov-west-1.amazonaws.com", "us-gov-west-1"),
            ("https://s3.cn-north-1.amazonaws.com.cn/bucket", "cn-north-1"),
        ] {
            assert_eq!(super::region(url, false), Ok(Region::plain(region)), "{url}");
        }
        let old_fips = region("s3-fips-us-gov-west-1.amazonaws.com", false).unwrap();
        assert_eq!((old_fips.code.as_ref(), old_fips.flavor), ("us-gov-west-1", FIPS));
        for url in ["s3-website.us-gov-west-1.amazonaws.com", "http://s3-website-us-gov-west-1.amazonaws.com"]
        {
            let region = region(url, false).unwrap();
            assert_eq!((region.code.as_ref(), region.website), ("us-gov-west-1", true));
        }
        for wrong in [
            "https://sqs.us-west-2.amazonaws.com",
            "https://acme.s3.us-west-2.amazonaws.com",
            "https://s3.us-west-2.amazonaws.com.example.com",
            "s3-website.amazonaws.com",
            "s3-fips.amazonaws.com",
            "s3.dualstack.amazonaws.com",
        ] {
            assert!(super::region(wrong, false).is_err(), "{wrong}");
        }
    }

    #[test]
    fn hosts_follow_partition_and_flavor() {
        let host = |region, flavor| of_region(region, flavor, "acme", None).unwrap().host;
        let plain = Flavor::default();
        assert_eq!(host("us-west-2", plain).as_ref(), "s3.us-west-2.amazonaws.com");
        assert_eq!(host("us-gov-west-1", FIPS).as_ref(), "s3-fips.us-gov-west-1.amazonaws.com");
        assert_eq!(host("cn-north-1", DUAL).as_ref(), "s3.dualstack.cn-north-1.amazonaws.com.cn");
        assert_eq!(host("us-iso-east-1", plain).as_ref(), "s3.us-iso-east-1.c2s.ic.gov");
    }

    #[test]
    fn an_endpoint_that_does_not_exist_is_told_with_the_regions_that_have_one() {
        let both = Flavor { fips: true, dualstack: true };
        for (region, flavor, key, part) in [
            ("eu-west-1", FIPS, "fips", "no FIPS endpoint in eu-west-1"),
            (
                "eu-west-1",
                FIPS,
                "fips",
                "(there is one in ca-central-1, ca-west-1, us-east-1, us-east-2, us-west-1, us-west-2)",
            ),
            ("eu-west-1", both, "fips", "no FIPS endpoint in eu-west-1"),
            ("cn-north-1", FIPS, "fips", "that this version knows: remove fips, or"),
            ("us-iso-east-1", DUAL, "dualstack", "no dual-stack endpoint in us-iso-east-1"),
            ("us-isob-west-1", both, "fips", "(there is one in us-isob-east-1)"),
            ("sa-west-1", DUAL, "dualstack", "(other regions have one)"),
        ] {
            let (at, text) = of_region(region, flavor, "acme", None).unwrap_err();
            assert!(at == key && text.contains(part), "{region}: {at}: {text}");
        }
        assert_eq!(of_region("us-west-9", FIPS, "acme", None).unwrap_err().0, "region");
    }

    #[test]
    fn path_style_is_chosen_where_host_style_cannot_work() {
        let aws =
            |bucket, written| of_region("us-west-2", Flavor::default(), bucket, written).unwrap().path_style;
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
