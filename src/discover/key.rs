//! The CloudTrail key grammar, parsed once into [`LogKey`]; nothing downstream handles raw key strings.
//!
//! ```text
//! [prefix/]AWSLogs/[o-orgid/]<account>/<KIND>/<region>/YYYY/MM/DD/
//!     <account>_<KIND>_<region>_YYYYMMDDTHHmmZ_<letters and digits>.json[.gz]
//! ```
//!
//! Sources: CloudTrail User Guide, "Finding your CloudTrail log files" (folders, kinds, `O-ID` level),
//! "CloudTrail log file examples" (file name: 16 characters that "software should ignore"), "CloudTrail
//! digest file structure" (digests: seconds in the stamp, two regions, also a `_backfill` ending).
//!
//! A key is read from its end, where the grammar is fixed, so the prefix may hold anything: slashes, an
//! organisation's id (`o-id/AWSLogs/o-id/…`), even a folder named `AWSLogs`.
//!
//! Strict where a digest or another service's file could be taken for a log: the kind's folder must be
//! one of the collected kinds, and the file's name must repeat that same kind. Lenient where buckets
//! differ in practice: account and region of the file's name need not be those of the folders (copies
//! and organisation trails), nor its date the folder's (label and delivery fall on either side of
//! midnight); the suffix may have any length; `.json` is what re-packing leaves behind. The folders
//! decide in every such case.

use std::fmt;
use std::sync::Arc;

use time::{Date, Month, PrimitiveDateTime, Time};

use crate::limits;

/// The kinds of log file that are collected. Each has its own folder beside the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Management and data events.
    Events,
    /// Unusual activity that CloudTrail found.
    Insight,
    /// Network activity events of VPC endpoints.
    NetworkActivity,
}

impl Kind {
    /// All kinds, in the order of their folders in a listing.
    pub const ALL: [Kind; 3] = [Kind::Insight, Kind::NetworkActivity, Kind::Events];

    /// The folder's name, which the file's name repeats.
    pub fn folder(self) -> &'static str {
        match self {
            Kind::Events => "CloudTrail",
            Kind::Insight => "CloudTrail-Insight",
            Kind::NetworkActivity => "CloudTrail-NetworkActivity",
        }
    }

    /// The kind whose folder has this name.
    pub fn of_folder(name: &str) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| kind.folder() == name)
    }
}

/// Why a key is not a log to collect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NotALog {
    /// A digest: the hashes of an hour's log files.
    Digest,
    /// Aggregated data events: summaries, not records.
    Aggregated,
    /// A folder marker: an empty object whose key ends with `/`.
    Folder,
    /// Something else, such as AWS Config, VPC flow logs or a load balancer.
    OtherService,
    /// In a folder of logs, but the path or the file's name does not follow the grammar.
    Name,
}

impl NotALog {
    /// All reasons; a reason's place is its [`NotALog::index`].
    pub const ALL: [NotALog; 5] =
        [NotALog::Digest, NotALog::Aggregated, NotALog::Folder, NotALog::OtherService, NotALog::Name];

    /// The reason as a metric label.
    pub fn label(self) -> &'static str {
        match self {
            NotALog::Digest => "digest",
            NotALog::Aggregated => "aggregated",
            NotALog::Folder => "folder",
            NotALog::OtherService => "other-service",
            NotALog::Name => "name",
        }
    }

    /// Place in [`NotALog::ALL`].
    pub fn index(self) -> usize {
        self as usize
    }
}

impl fmt::Display for NotALog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            NotALog::Digest => "a digest, not a log",
            NotALog::Aggregated => "aggregated events, not a log",
            NotALog::Folder => "a folder marker",
            NotALog::OtherService => "not a CloudTrail object",
            NotALog::Name => "does not have the path and name of a CloudTrail log file",
        })
    }
}

impl std::error::Error for NotALog {}

/// The key of a log object. Owns the one string; every part is a view of it.
#[derive(Clone, PartialEq, Eq)]
pub struct LogKey {
    text: Arc<str>,
    /// Where `AWSLogs/` begins; what stands before it is the prefix.
    logs: u16,
    /// Where the account's folder begins.
    account: u16,
    /// Where the region's folder begins and ends.
    region: (u16, u16),
    kind: Kind,
    day: Date,
    stamp: PrimitiveDateTime,
}

const _: () = assert!(limits::KEY_BYTES <= u16::MAX as usize);

const LOGS: &str = "AWSLogs";
const ACCOUNT_DIGITS: usize = 12;

impl LogKey {
    /// Parses a raw (not URL-encoded) key.
    pub fn parse(key: &str) -> Result<LogKey, NotALog> {
        if key.len() > limits::KEY_BYTES {
            return Err(NotALog::Name);
        }
        read_backwards(key).ok_or_else(|| why_not(key))
    }

    /// The whole key.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The whole key, given away.
    pub fn into_text(self) -> Arc<str> {
        self.text
    }

    /// Everything before `AWSLogs/`: empty, or ends with `/`.
    pub fn prefix(&self) -> &str {
        self.slice(0, self.logs)
    }

    /// The organisation's folder (`o-…`), where the trail has one.
    pub fn org(&self) -> Option<&str> {
        let above = self.slice(self.logs, self.account);
        above.strip_prefix(LOGS)?.strip_prefix('/')?.strip_suffix('/')
    }

    /// The account of the folder, 12 digits.
    pub fn account(&self) -> &str {
        let from = usize::from(self.account);
        &self.text[from..from + ACCOUNT_DIGITS]
    }

    /// The kind of log.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The region of the folder, e.g. `us-gov-west-1`.
    pub fn region(&self) -> &str {
        self.slice(self.region.0, self.region.1)
    }

    /// The stream that the object belongs to: the key up to and with `<region>/`.
    pub fn stream(&self) -> &str {
        self.slice(0, self.region.1 + 1)
    }

    /// The day partition, from the folders.
    pub fn day(&self) -> Date {
        self.day
    }

    /// The five-minute label of the file's name, UTC.
    pub fn stamp(&self) -> PrimitiveDateTime {
        self.stamp
    }

    fn slice(&self, from: u16, to: u16) -> &str {
        &self.text[usize::from(from)..usize::from(to)]
    }
}

impl fmt::Debug for LogKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LogKey").field(&self.text).finish()
    }
}

/// Is this the name of an account's folder?
pub fn is_account(name: &str) -> bool {
    name.len() == ACCOUNT_DIGITS && name.bytes().all(|b| b.is_ascii_digit())
}

/// Is this the name of an organisation's folder? (AWS: `o-` and 10 to 32 lower-case letters or digits;
/// the length is not checked.)
pub fn is_org(name: &str) -> bool {
    name.strip_prefix("o-")
        .is_some_and(|id| !id.is_empty() && id.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()))
}

/// Can this be a region's name? Any partition: `us-east-1`, `us-gov-west-1`, `cn-north-1`, `eusc-de-east-1`.
pub fn is_region(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

fn read_backwards(key: &str) -> Option<LogKey> {
    let (rest, file) = key.rsplit_once('/')?;
    let (rest, day) = rest.rsplit_once('/')?;
    let (rest, month) = rest.rsplit_once('/')?;
    let (rest, year) = rest.rsplit_once('/')?;
    let region_end = rest.len();
    let (rest, region) = rest.rsplit_once('/')?;
    let region_from = rest.len() + 1;
    let (rest, kind) = rest.rsplit_once('/')?;
    let (above, account) = rest.rsplit_once('/')?;

    let account_from = above.len() + 1;
    let above = match above.rsplit_once('/') {
        Some((logs, org)) if is_org(org) => logs,
        _ => above,
    };
    let prefix = above.strip_suffix(LOGS)?;
    if !(prefix.is_empty() || prefix.ends_with('/')) || !is_account(account) || !is_region(region) {
        return None;
    }
    let kind = Kind::of_folder(kind)?;
    Some(LogKey {
        text: key.into(),
        logs: prefix.len() as u16,
        account: account_from as u16,
        region: (region_from as u16, region_end as u16),
        kind,
        day: date(year, month, day)?,
        stamp: stamp_of_file(file, kind)?,
    })
}

/// `<account>_<KIND>_<region>_YYYYMMDDTHHmmZ_<suffix>.json[.gz]`
fn stamp_of_file(file: &str, kind: Kind) -> Option<PrimitiveDateTime> {
    let name = file.strip_suffix(".gz").unwrap_or(file).strip_suffix(".json")?;
    let mut parts = name.split('_');
    let mut part = || parts.next();
    let (account, named, region, stamp, suffix) = (part()?, part()?, part()?, part()?, part()?);
    let whole = part().is_none()
        && is_account(account)
        && named == kind.folder()
        && is_region(region)
        && !suffix.is_empty()
        && suffix.bytes().all(|b| b.is_ascii_alphanumeric());
    if whole { read_stamp(stamp) } else { None }
}

/// `YYYYMMDDTHHmmZ`
fn read_stamp(text: &str) -> Option<PrimitiveDateTime> {
    let b = text.as_bytes();
    if b.len() != 14 || b[8] != b'T' || b[13] != b'Z' {
        return None;
    }
    // get(): a multi-byte character may straddle any of these places.
    let date = date(text.get(..4)?, text.get(4..6)?, text.get(6..8)?)?;
    let time = Time::from_hms(number(text.get(9..11)?, 2)?, number(text.get(11..13)?, 2)?, 0).ok()?;
    Some(PrimitiveDateTime::new(date, time))
}

fn date(year: &str, month: &str, day: &str) -> Option<Date> {
    let month = Month::try_from(number::<u8>(month, 2)?).ok()?;
    Date::from_calendar_date(number(year, 4)?, month, number(day, 2)?).ok()
}

/// Exactly `digits` decimal digits (`str::parse` alone would take a sign).
fn number<N: std::str::FromStr>(text: &str, digits: usize) -> Option<N> {
    if text.len() != digits || !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}

/// Sorts a key that does not parse, for the counters.
fn why_not(key: &str) -> NotALog {
    let has = |folder: &str| key.split('/').any(|part| part == folder);
    let file = key.rsplit('/').next().unwrap_or(key);
    if file.is_empty() || file.ends_with("_$folder$") {
        NotALog::Folder
    } else if has("CloudTrail-Digest") || file.contains("_CloudTrail-Digest_") {
        NotALog::Digest
    } else if has("CloudTrail-Aggregated") || file.contains("_CloudTrail-Aggregated_") {
        NotALog::Aggregated
    } else if Kind::ALL.into_iter().any(|kind| has(kind.folder())) {
        NotALog::Name
    } else {
        NotALog::OtherService
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PLAIN: &str = "AWSLogs/111122223333/CloudTrail/us-east-2/2015/08/01/\
                         111122223333_CloudTrail_us-east-2_20150801T0210Z_Mu0KsOhtH1ar15ZZ.json.gz";

    #[test]
    fn the_example_of_the_user_guide_has_these_parts() {
        let key = LogKey::parse(PLAIN).unwrap();
        assert_eq!(key.prefix(), "");
        assert_eq!(key.org(), None);
        assert_eq!(key.account(), "111122223333");
        assert_eq!(key.kind(), Kind::Events);
        assert_eq!(key.region(), "us-east-2");
        assert_eq!(key.stream(), "AWSLogs/111122223333/CloudTrail/us-east-2/");
        assert_eq!(key.day(), Date::from_calendar_date(2015, Month::August, 1).unwrap());
        assert_eq!(key.stamp().to_string(), "2015-08-01 2:10:00.0");
        assert_eq!(key.as_str(), PLAIN);
    }

    #[test]
    fn every_place_of_an_organisations_id_is_understood() {
        let rest = "111122223333/CloudTrail-Insight/ca-central-1/2020/09/23/\
                    111122223333_CloudTrail-Insight_ca-central-1_20200923T0516Z_KL5e9VCV2SS7IqzB.json.gz";
        for (above, prefix, org) in [
            ("AWSLogs/o-fxozgwu6rc/", "", Some("o-fxozgwu6rc")),
            ("o-fxozgwu6rc/AWSLogs/o-fxozgwu6rc/", "o-fxozgwu6rc/", Some("o-fxozgwu6rc")),
            ("o-fxozgwu6rc/AWSLogs/", "o-fxozgwu6rc/", None),
            ("a/b c/ü/AWSLogs/", "a/b c/ü/", None),
            ("AWSLogs/AWSLogs/", "AWSLogs/", None),
            ("AWSLogs/o-a1/AWSLogs/", "AWSLogs/o-a1/", None),
            ("AWSLogs/AWSLogs/o-a1/", "AWSLogs/", Some("o-a1")),
            ("/AWSLogs/", "/", None),
        ] {
            let key = LogKey::parse(&format!("{above}{rest}")).unwrap();
            assert_eq!((key.prefix(), key.org()), (prefix, org), "{above}");
            assert_eq!((key.account(), key.kind()), ("111122223333", Kind::Insight));
        }
    }

    #[test]
    fn gov_china_and_sovereign_regions_are_regions() {
        for region in ["us-gov-west-1", "cn-north-1", "us-iso-east-1", "eusc-de-east-1", "ap-southeast-7"] {
            let key = PLAIN.replace("us-east-2", region);
            assert_eq!(LogKey::parse(&key).unwrap().region(), region);
        }
    }

    #[test]
    fn folders_decide_where_the_name_of_the_file_differs() {
        let key = LogKey::parse(
            "AWSLogs/111122223333/CloudTrail/us-east-2/2015/08/01/\
             444455556666_CloudTrail_eu-west-1_20150731T2355Z_abc.json",
        )
        .unwrap();
        assert_eq!((key.account(), key.region()), ("111122223333", "us-east-2"));
        assert_eq!(key.day().to_string(), "2015-08-01");
        assert_eq!(key.stamp().date().to_string(), "2015-07-31");
    }

    #[test]
    fn what_is_not_a_log_says_why() {
        let digest_file = "111122223333_CloudTrail-Digest_us-east-2_trail_us-east-2_20150817T150131Z";
        for (key, why) in [
            (
                format!("AWSLogs/111122223333/CloudTrail-Digest/us-east-2/2015/08/17/{digest_file}.json.gz"),
                NotALog::Digest,
            ),
            (
                format!("AWSLogs/1/CloudTrail-Digest/us-east-2/2015/08/17/{digest_file}_backfill.json.gz"),
                NotALog::Digest,
            ),
            // A digest that was copied into a folder of logs, and one with the name of a log.
            (
                format!("AWSLogs/111122223333/CloudTrail/us-east-2/2015/08/17/{digest_file}.json.gz"),
                NotALog::Digest,
            ),
            (PLAIN.replace("_CloudTrail_", "_CloudTrail-Digest_"), NotALog::Digest),
            (PLAIN.replace("/CloudTrail/", "/CloudTrail-Digest/"), NotALog::Digest),
            (PLAIN.replace("CloudTrail", "CloudTrail-Aggregated"), NotALog::Aggregated),
            ("AWSLogs/111122223333/CloudTrail/us-east-2/2015/08/".to_owned(), NotALog::Folder),
            ("AWSLogs/111122223333/CloudTrail_$folder$".to_owned(), NotALog::Folder),
            (
                "AWSLogs/111122223333/Config/us-east-2/2020/9/3/ConfigHistory/\
                 111122223333_Config_us-east-2_ConfigHistory_AWS::S3::Bucket_20200903T000000Z_1.json.gz"
                    .to_owned(),
                NotALog::OtherService,
            ),
            (
                "AWSLogs/111122223333/vpcflowlogs/us-east-2/2020/09/03/\
                 111122223333_vpcflowlogs_us-east-2_fl-0a_20200903T0000Z_12ab34cd.log.gz"
                    .to_owned(),
                NotALog::OtherService,
            ),
            (PLAIN.replace("CloudTrail", "GuardDuty"), NotALog::OtherService),
            (PLAIN.replace("CloudTrail", "elasticloadbalancing"), NotALog::OtherService),
            (
                PLAIN.replace("/CloudTrail/", "/CloudTrail-Insight/"),
                NotALog::Name, // the two kinds differ
            ),
            (PLAIN.replace("AWSLogs", "xAWSLogs"), NotALog::Name),
            (PLAIN.replace("0801T0210Z", "0801T2460Z"), NotALog::Name),
            (PLAIN.replace("/08/01/", "/8/1/"), NotALog::Name),
            (PLAIN.replace("/08/01/", "/02/30/"), NotALog::Name),
            (PLAIN.replace("/2015/", "/+015/"), NotALog::Name),
            (PLAIN.replace("Mu0KsOhtH1ar15ZZ", ""), NotALog::Name),
            (PLAIN.replace("Mu0KsOhtH1ar15ZZ", "a_b"), NotALog::Name),
            (PLAIN.replace(".json.gz", ".json.gz.tmp"), NotALog::Name),
            (PLAIN.replace("111122223333/", "1111/"), NotALog::Name),
            (format!("{}/{PLAIN}", "p".repeat(limits::KEY_BYTES)), NotALog::Name),
            (String::new(), NotALog::Folder),
        ] {
            assert_eq!(LogKey::parse(&key), Err(why), "{key}");
        }
    }

    #[test]
    fn labels_and_places_of_the_reasons_are_distinct() {
        for (place, why) in NotALog::ALL.into_iter().enumerate() {
            assert_eq!(why.index(), place);
            assert_eq!(NotALog::ALL.iter().filter(|other| other.label() == why.label()).count(), 1);
        }
    }

    proptest! {
        /// Whatever stands before `AWSLogs/`, the parts that a key was made of come back.
        #[test]
        fn parts_come_back(
            prefix in "(([a-zA-Z0-9!ü -]{0,9}|AWSLogs|o-[a-z0-9]{10}|CloudTrail|[0-9]{12})/){0,4}",
            org in proptest::option::of("o-[a-z0-9]{10,32}"),
            account in "[0-9]{12}",
            kind in proptest::sample::select(Kind::ALL.to_vec()),
            region in "[a-z]{2}(-gov)?-[a-z]{4,9}-[1-9]",
            julian in 2_456_000i32..2_500_000,
            hour in 0u8..24,
            minute in 0u8..60,
            suffix in "[A-Za-z0-9]{16}",
            gz in any::<bool>(),
        ) {
            let day = Date::from_julian_day(julian).unwrap();
            let (y, m, d) = (day.year(), u8::from(day.month()), day.day());
            let folder = kind.folder();
            let above = org.as_ref().map_or(String::new(), |org| format!("{org}/"));
            let stream = format!("{prefix}AWSLogs/{above}{account}/{folder}/{region}/");
            let end = if gz { ".gz" } else { "" };
            let text = format!(
                "{stream}{y:04}/{m:02}/{d:02}/\
                 {account}_{folder}_{region}_{y:04}{m:02}{d:02}T{hour:02}{minute:02}Z_{suffix}.json{end}"
            );
            let key = LogKey::parse(&text).unwrap();
            prop_assert_eq!(key.prefix(), prefix);
            prop_assert_eq!(key.org(), org.as_deref());
            prop_assert_eq!(key.account(), account);
            prop_assert_eq!(key.kind(), kind);
            prop_assert_eq!(key.region(), region);
            prop_assert_eq!(key.stream(), stream);
            prop_assert_eq!(key.day(), day);
            prop_assert_eq!(key.stamp(), PrimitiveDateTime::new(day, Time::from_hms(hour, minute, 0).unwrap()));
            prop_assert_eq!(key.as_str(), text);
        }

        /// No text panics; damage to a good key either leaves a key whose parts are views of it, or is refused.
        #[test]
        fn any_text_is_read_or_refused(text in "\\PC{0,80}", at in 0usize..130, byte in any::<char>()) {
            let _ = LogKey::parse(&text);
            let mut damaged: Vec<char> = PLAIN.chars().collect();
            let at = at % damaged.len();
            damaged[at] = byte;
            let damaged: String = damaged.into_iter().collect();
            if let Ok(key) = LogKey::parse(&damaged) {
                prop_assert!(damaged.starts_with(key.stream()));
                let end = format!("{}/{}/", key.kind().folder(), key.region());
                prop_assert!(key.stream().ends_with(&end));
            }
        }
    }
}
