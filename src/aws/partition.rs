//! Partitions and regions of AWS, and which endpoints exist in each: facts, not templates. The name of a
//! FIPS endpoint can be spelt for any region, but most of those names do not exist.
//!
//! Source: botocore 1.44.5, `data/partitions.json` (regions and labels) and the named variants of
//! `data/endpoints.json`. That file lacks the FIPS dual-stack endpoints of GovCloud (Storage Gateway User Guide,
//! "Network and firewall requirements") and the dual-stack ones of ap-east-2 and ap-southeast-6 (the image registry of
//! Kubernetes is served from them). `tests/interop/regions.py` holds each row against botocore.

/// A part of AWS with regions, accounts and ARNs of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Partition {
    /// The commercial regions.
    Aws,
    /// GovCloud (US)
    AwsUsGov,
    /// China
    AwsCn,
    /// Isolated: C2S
    AwsIso,
    /// Isolated: SC2S
    AwsIsoB,
    /// Isolated: ADC-E
    AwsIsoE,
    /// Isolated: HCI
    AwsIsoF,
    /// European Sovereign Cloud
    AwsEusc,
}

use Partition::{Aws, AwsCn, AwsEusc, AwsIso, AwsIsoB, AwsIsoE, AwsIsoF, AwsUsGov};

impl Partition {
    /// Every partition.
    pub const ALL: [Partition; 8] = [Aws, AwsUsGov, AwsCn, AwsIso, AwsIsoB, AwsIsoE, AwsIsoF, AwsEusc];

    /// The partition of a region, also of one that [`REGIONS`] does not have yet: by its prefix.
    pub fn of(region: &str) -> Partition {
        let named = Partition::ALL.into_iter().find(|partition| match partition.region_prefix() {
            "" => false,
            prefix => region.starts_with(prefix),
        });
        named.unwrap_or(Aws)
    }

    /// Second field of its ARNs, e.g. `aws-us-gov`.
    pub fn arn(self) -> &'static str {
        self.facts().0
    }

    /// What host names end with, e.g. `amazonaws.com.cn`.
    pub fn dns_suffix(self) -> &'static str {
        self.facts().1
    }

    fn region_prefix(self) -> &'static str {
        self.facts().2
    }

    /// Field of ARNs, end of host names, beginning of region names.
    fn facts(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Aws => ("aws", "amazonaws.com", ""),
            AwsUsGov => ("aws-us-gov", "amazonaws.com", "us-gov-"),
            AwsCn => ("aws-cn", "amazonaws.com.cn", "cn-"),
            AwsIso => ("aws-iso", "c2s.ic.gov", "us-iso-"),
            AwsIsoB => ("aws-iso-b", "sc2s.sgov.gov", "us-isob-"),
            AwsIsoE => ("aws-iso-e", "cloud.adc-e.uk", "eu-isoe-"),
            AwsIsoF => ("aws-iso-f", "csp.hci.ic.gov", "us-isof-"),
            AwsEusc => ("aws-eusc", "amazonaws.eu", "eusc-"),
        }
    }
}

/// Which kind of S3 endpoint.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Flavor {
    /// With cryptography validated under FIPS 140.
    pub fips: bool,
    /// By IPv4 and IPv6.
    pub dualstack: bool,
}

/// One region: a row of [`REGIONS`].
#[derive(Debug, PartialEq, Eq)]
pub struct Region {
    /// `us-west-2`
    pub name: &'static str,
    /// AWS's name for people: `US West (Oregon)`
    pub label: &'static str,
    /// Where it belongs.
    pub partition: Partition,
    endpoints: Endpoints,
}

/// What exists in a region besides the plain endpoints of S3, SQS and STS, which all have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Endpoints {
    s3_fips: bool,
    s3_dualstack: bool,
    s3_fips_dualstack: bool,
    sqs_fips: Fips,
    sts_fips: Fips,
}

/// The FIPS endpoint of SQS or STS in a region.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fips {
    /// There is none.
    Not,
    /// `sqs-fips.REGION`
    Own,
    /// The plain endpoint is one.
    Plain,
}

impl Region {
    /// Host of S3, e.g. `s3-fips.dualstack.us-west-2.amazonaws.com`; `None`: this region has none of that flavor.
    pub fn s3(&self, flavor: Flavor) -> Option<String> {
        let (exists, service) = match (flavor.fips, flavor.dualstack) {
            (false, false) => (true, "s3"),
            (true, false) => (self.endpoints.s3_fips, "s3-fips"),
            (false, true) => (self.endpoints.s3_dualstack, "s3.dualstack"),
            (true, true) => (self.endpoints.s3_fips_dualstack, "s3-fips.dualstack"),
        };
        exists.then(|| self.host(service))
    }

    /// Host of SQS; `None`: there is no FIPS endpoint.
    pub fn sqs(&self, fips: bool) -> Option<String> {
        self.service("sqs", "sqs-fips", fips, self.endpoints.sqs_fips)
    }

    /// Host of STS, the regional one; `None`: there is no FIPS endpoint.
    pub fn sts(&self, fips: bool) -> Option<String> {
        self.service("sts", "sts-fips", fips, self.endpoints.sts_fips)
    }

    fn service(&self, plain: &str, own: &str, fips: bool, exists: Fips) -> Option<String> {
        match (fips, exists) {
            (false, _) | (true, Fips::Plain) => Some(self.host(plain)),
            (true, Fips::Own) => Some(self.host(own)),
            (true, Fips::Not) => None,
        }
    }

    fn host(&self, service: &str) -> String {
        format!("{service}.{}.{}", self.name, self.partition.dns_suffix())
    }
}

/// The row of a region.
pub fn find(region: &str) -> Option<&'static Region> {
    REGIONS.iter().find(|row| row.name == region)
}

/// Whether what stands in a host name where AWS's have the region is one: of the table, or, in a domain of AWS's, one
/// that is newer.
pub fn names_region(host: &str, label: &str) -> bool {
    let of_aws = || {
        let mut ends = Partition::ALL.into_iter().map(Partition::dns_suffix).chain(["api.aws"]);
        ends.any(|end| host.strip_suffix(end).is_some_and(|rest| rest.ends_with('.')))
    };
    find(label).is_some() || label.contains('-') && of_aws()
}

const PLAIN: Endpoints = Endpoints {
    s3_fips: false,
    s3_dualstack: false,
    s3_fips_dualstack: false,
    sqs_fips: Fips::Not,
    sts_fips: Fips::Not,
};
const DUAL: Endpoints = Endpoints { s3_dualstack: true, ..PLAIN };
const CANADA: Endpoints = Endpoints { s3_fips: true, s3_fips_dualstack: true, sqs_fips: Fips::Own, ..DUAL };
const US: Endpoints = Endpoints { sts_fips: Fips::Own, ..CANADA };
const GOV: Endpoints = Endpoints { sqs_fips: Fips::Plain, sts_fips: Fips::Plain, ..CANADA };
const ISO: Endpoints = Endpoints { s3_fips: true, s3_fips_dualstack: true, ..ISO_F };
const ISO_F: Endpoints = Endpoints { sqs_fips: Fips::Plain, ..PLAIN };

const fn row(name: &'static str, label: &'static str, partition: Partition, endpoints: Endpoints) -> Region {
    Region { name, label, partition, endpoints }
}

/// Every region, in the order of partitions and names.
#[rustfmt::skip]
pub const REGIONS: &[Region] = &[
    row("af-south-1",      "Africa (Cape Town)",                     Aws,      DUAL),
    row("ap-east-1",       "Asia Pacific (Hong Kong)",               Aws,      DUAL),
    row("ap-east-2",       "Asia Pacific (Taipei)",                  Aws,      DUAL),
    row("ap-northeast-1",  "Asia Pacific (Tokyo)",                   Aws,      DUAL),
    row("ap-northeast-2",  "Asia Pacific (Seoul)",                   Aws,      DUAL),
    row("ap-northeast-3",  "Asia Pacific (Osaka)",                   Aws,      DUAL),
    row("ap-south-1",      "Asia Pacific (Mumbai)",                  Aws,      DUAL),
    row("ap-south-2",      "Asia Pacific (Hyderabad)",               Aws,      DUAL),
    row("ap-southeast-1",  "Asia Pacific (Singapore)",               Aws,      DUAL),
    row("ap-southeast-2",  "Asia Pacific (Sydney)",                  Aws,      DUAL),
    row("ap-southeast-3",  "Asia Pacific (Jakarta)",                 Aws,      DUAL),
    row("ap-southeast-4",  "Asia Pacific (Melbourne)",               Aws,      DUAL),
    row("ap-southeast-5",  "Asia Pacific (Malaysia)",                Aws,      DUAL),
    row("ap-southeast-6",  "Asia Pacific (New Zealand)",             Aws,      DUAL),
    row("ap-southeast-7",  "Asia Pacific (Thailand)",                Aws,      DUAL),
    row("ca-central-1",    "Canada (Central)",                       Aws,      CANADA),
    row("ca-west-1",       "Canada West (Calgary)",                  Aws,      CANADA),
    row("eu-central-1",    "Europe (Frankfurt)",                     Aws,      DUAL),
    row("eu-central-2",    "Europe (Zurich)",                        Aws,      DUAL),
    row("eu-north-1",      "Europe (Stockholm)",                     Aws,      DUAL),
    row("eu-south-1",      "Europe (Milan)",                         Aws,      DUAL),
    row("eu-south-2",      "Europe (Spain)",                         Aws,      DUAL),
    row("eu-west-1",       "Europe (Ireland)",                       Aws,      DUAL),
    row("eu-west-2",       "Europe (London)",                        Aws,      DUAL),
    row("eu-west-3",       "Europe (Paris)",                         Aws,      DUAL),
    row("il-central-1",    "Israel (Tel Aviv)",                      Aws,      DUAL),
    row("me-central-1",    "Middle East (UAE)",                      Aws,      DUAL),
    row("me-south-1",      "Middle East (Bahrain)",                  Aws,      DUAL),
    row("me-west-1",       "Middle East (Saudi Arabia)",             Aws,      PLAIN),
    row("mx-central-1",    "Mexico (Central)",                       Aws,      DUAL),
    row("sa-east-1",       "South America (Sao Paulo)",              Aws,      DUAL),
    row("sa-west-1",       "South America (Chile)",                  Aws,      PLAIN),
    row("us-east-1",       "US East (N. Virginia)",                  Aws,      US),
    row("us-east-2",       "US East (Ohio)",                         Aws,      US),
    row("us-west-1",       "US West (N. California)",                Aws,      US),
    row("us-west-2",       "US West (Oregon)",                       Aws,      US),
    row("us-gov-east-1",   "AWS GovCloud (US-East)",                 AwsUsGov, GOV),
    row("us-gov-west-1",   "AWS GovCloud (US-West)",                 AwsUsGov, GOV),
    row("cn-north-1",      "China (Beijing)",                        AwsCn,    DUAL),
    row("cn-northwest-1",  "China (Ningxia)",                        AwsCn,    DUAL),
    row("us-iso-east-1",   "US ISO East",                            AwsIso,   ISO),
    row("us-iso-west-1",   "US ISO WEST",                            AwsIso,   ISO),
    row("us-isob-east-1",  "US ISOB East (Ohio)",                    AwsIsoB,  ISO),
    row("us-isob-west-1",  "US ISOB West",                           AwsIsoB,  PLAIN),
    row("eu-isoe-west-1",  "EU ISOE West",                           AwsIsoE,  PLAIN),
    row("us-isof-east-1",  "US ISOF EAST",                           AwsIsoF,  ISO_F),
    row("us-isof-south-1", "US ISOF SOUTH",                          AwsIsoF,  ISO_F),
    row("eusc-de-east-1",  "AWS European Sovereign Cloud (Germany)", AwsEusc,  PLAIN),
];

#[cfg(test)]
mod tests {
    use super::*;

    const FLAVORS: [Flavor; 4] = [
        Flavor { fips: false, dualstack: false },
        Flavor { fips: true, dualstack: false },
        Flavor { fips: false, dualstack: true },
        Flavor { fips: true, dualstack: true },
    ];

    #[test]
    fn rows_stand_in_order_once_and_in_their_partition() {
        let key = |row: &Region| (Partition::ALL.iter().position(|p| *p == row.partition), row.name);
        assert!(REGIONS.windows(2).all(|rows| key(&rows[0]) < key(&rows[1])));
        for row in REGIONS {
            assert_eq!(Partition::of(row.name), row.partition, "{}", row.name);
            assert_eq!(find(row.name), Some(row));
            assert_eq!(REGIONS.iter().filter(|other| other.label == row.label).count(), 1, "{}", row.label);
        }
        assert!(Partition::ALL.iter().all(|p| REGIONS.iter().any(|row| row.partition == *p)));
        assert_eq!(find("us-west-9"), None);
    }

    #[test]
    fn no_two_endpoints_share_a_name() {
        let mut hosts: Vec<String> =
            REGIONS.iter().flat_map(|row| FLAVORS.iter().filter_map(|flavor| row.s3(*flavor))).collect();
        hosts.extend(REGIONS.iter().flat_map(|row| [row.sqs(false), row.sts(false)]).flatten());
        let count = hosts.len();
        hosts.sort();
        hosts.dedup();
        assert_eq!(hosts.len(), count);
    }

    #[test]
    fn endpoints_are_those_of_the_region() {
        let host = |region, fips, dualstack| find(region).unwrap().s3(Flavor { fips, dualstack });
        let name = |text: &str| Some(text.to_owned());
        assert_eq!(host("us-east-1", false, false), name("s3.us-east-1.amazonaws.com"));
        assert_eq!(host("us-gov-west-1", true, false), name("s3-fips.us-gov-west-1.amazonaws.com"));
        assert_eq!(host("ca-west-1", true, true), name("s3-fips.dualstack.ca-west-1.amazonaws.com"));
        assert_eq!(host("cn-north-1", false, true), name("s3.dualstack.cn-north-1.amazonaws.com.cn"));
        assert_eq!(host("us-isob-east-1", false, false), name("s3.us-isob-east-1.sc2s.sgov.gov"));
        assert_eq!(host("eu-west-1", true, false), None);
        assert_eq!(host("cn-north-1", true, true), None);
        assert_eq!(host("us-iso-east-1", false, true), None);
        let region = |region| find(region).unwrap();
        assert_eq!(region("us-east-1").sqs(true), name("sqs-fips.us-east-1.amazonaws.com"));
        assert_eq!(region("us-gov-east-1").sqs(true), name("sqs.us-gov-east-1.amazonaws.com"));
        assert_eq!(region("us-gov-east-1").sts(true), name("sts.us-gov-east-1.amazonaws.com"));
        assert_eq!(region("us-west-1").sts(true), name("sts-fips.us-west-1.amazonaws.com"));
        assert_eq!((region("ca-central-1").sts(true), region("eu-west-1").sqs(true)), (None, None));
    }

    #[test]
    fn a_region_newer_than_the_table_still_has_a_partition() {
        for (region, partition, arn) in [
            ("us-west-9", Aws, "aws"),
            ("us-gov-north-1", AwsUsGov, "aws-us-gov"),
            ("cn-south-9", AwsCn, "aws-cn"),
            ("us-isob-south-1", AwsIsoB, "aws-iso-b"),
            ("eusc-fr-west-1", AwsEusc, "aws-eusc"),
            ("garage", Aws, "aws"),
        ] {
            assert_eq!((Partition::of(region), partition.arn()), (partition, arn), "{region}");
        }
    }
}
