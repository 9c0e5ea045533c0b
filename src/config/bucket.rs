//! The bucket and everything before `AWSLogs/`: operators write `name`, `name/`, `name/folder` or
//! `s3://name/folder`, and paste key prefixes from consoles and documentation.

use super::fault::quoted;
use super::table::Read;
use crate::limits;

/// Splits `name`, `name/folder` or `s3://name/folder`; the folder comes without slashes at its ends.
pub(super) fn bucket_and_folder(text: &str) -> Read<(&str, &str)> {
    let (scheme, rest) = match text.split_once("://") {
        Some(("s3" | "S3", rest)) => (true, rest),
        Some(_) => {
            return Err("must be a bucket name, not a URL: write \"NAME\" or \"NAME/FOLDER\"".to_owned());
        }
        None => (false, text),
    };
    let (name, folder) = rest.split_once('/').unwrap_or((rest, ""));
    if !scheme && text.starts_with("arn:") {
        let name = name.rsplit(':').next().unwrap_or("");
        return Err(format!("must be a bucket name, not an ARN: write {}", quoted(name)));
    }
    check_name(name)?;
    let folder = prefix_part(folder, |before| {
        let slash = if before.is_empty() { "" } else { "/" };
        format!("bucket = {}", quoted(&format!("{name}{slash}{before}")))
    })?;
    Ok((name, folder))
}

/// A `key_prefix` without the slashes at its ends.
pub(super) fn key_prefix(text: &str) -> Read<&str> {
    prefix_part(text, |before| format!("key_prefix = {}", quoted(before)))
}

/// `folder/key_prefix/`, or less, down to nothing.
pub(super) fn joined(folder: &str, key_prefix: &str) -> Read<Box<str>> {
    let mut prefix = String::new();
    for part in [folder, key_prefix].into_iter().filter(|part| !part.is_empty()) {
        prefix.push_str(part);
        prefix.push('/');
    }
    match prefix.len() <= limits::PREFIX_BYTES {
        true => Ok(prefix.into()),
        false => Err(format!("is too long: folder and key_prefix may have {} bytes", limits::PREFIX_BYTES)),
    }
}

/// Source: S3 User Guide, "General purpose bucket naming rules". Names that end in `-s3alias` are those of
/// access points, which answer listings and reads like a bucket, so they pass.
fn check_name(name: &str) -> Read<()> {
    let fault = |why: &str| Err(format!("{} is not a bucket name: {why}", quoted(name)));
    if !(3..=63).contains(&name.len()) {
        return fault("bucket names have 3 to 63 characters");
    }
    if !name.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'.' || c == b'-') {
        return fault("bucket names have only lower-case letters, digits, dots and hyphens");
    }
    if name.starts_with(['.', '-']) || name.ends_with(['.', '-']) {
        return fault("bucket names begin and end with a letter or a digit");
    }
    if name.contains("..") {
        return fault("bucket names have no two dots side by side");
    }
    if name.parse::<std::net::Ipv4Addr>().is_ok() {
        return fault("bucket names do not look like an IP address");
    }
    if ["xn--", "sthree-", "amzn-s3-demo-"].iter().any(|reserved| name.starts_with(reserved))
        || ["--ol-s3", ".mrap", "--x-s3", "--table-s3"].iter().any(|reserved| name.ends_with(reserved))
    {
        return fault("this beginning or ending is reserved by S3, and CloudTrail cannot deliver there");
    }
    Ok(())
}

/// CloudTrail itself puts `AWSLogs/` behind the prefix, so a prefix that holds it lists nothing. This also
/// holds for the landing-zone form `o-id/AWSLogs/o-id/…`, whose prefix is `o-id`.
fn prefix_part(text: &str, corrected: impl FnOnce(&str) -> String) -> Read<&str> {
    let part = text.trim_matches('/');
    if part.chars().any(char::is_control) {
        return Err(format!("{} has control characters", quoted(part)));
    }
    let segments: Vec<&str> = part.split('/').collect();
    let Some(at) = segments.iter().position(|segment| segment.eq_ignore_ascii_case("AWSLogs")) else {
        return Ok(part);
    };
    let before = segments[..at].join("/");
    let mut text = format!(
        "reaches into AWSLogs, which CloudTrail itself puts behind the prefix: write {}",
        corrected(&before)
    );
    let account = segments[at..].iter().find(|segment| is_account(segment));
    if let Some(account) = account {
        text.push_str(&format!(" and accounts = [\"{account}\"]"));
    }
    Err(text)
}

/// An AWS account id: twelve digits.
pub(super) fn is_account(text: &str) -> bool {
    text.len() == 12 && text.bytes().all(|c| c.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_is_written_in_five_ways() {
        for (written, name, folder) in [
            ("acme-cloudtrail", "acme-cloudtrail", ""),
            ("acme-cloudtrail/", "acme-cloudtrail", ""),
            ("acme-cloudtrail/folder", "acme-cloudtrail", "folder"),
            ("acme-cloudtrail/a/b//", "acme-cloudtrail", "a/b"),
            ("s3://acme-cloudtrail/folder/", "acme-cloudtrail", "folder"),
            ("s3://acme.logs", "acme.logs", ""),
            ("trail-metadata-s3alias", "trail-metadata-s3alias", ""),
        ] {
            assert_eq!(bucket_and_folder(written), Ok((name, folder)), "{written}");
        }
    }

    #[test]
    fn names_keep_the_rules_of_s3() {
        let long = "x".repeat(64);
        for wrong in [
            "",
            "ab",
            &long,
            "Acme",
            "acme_logs",
            "-acme",
            "acme-",
            ".acme",
            "acme.",
            "ac..me",
            "192.168.5.4",
            "xn--acme",
            "sthree-acme",
            "amzn-s3-demo-acme",
            "acme--ol-s3",
            "acme.mrap",
            "acme--use1-az4--x-s3",
            "ac me",
            "acmé",
            "/acme",
            "https://acme.s3.amazonaws.com",
            "arn:aws:s3:::acme",
        ] {
            assert!(bucket_and_folder(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_prefix_is_empty_or_ends_with_one_slash() {
        for (folder, key_prefix, whole) in
            [("", "", ""), ("a", "", "a/"), ("", "p", "p/"), ("a/b", "p", "a/b/p/"), ("o-abc", "", "o-abc/")]
        {
            assert_eq!(joined(folder, key_prefix).as_deref(), Ok(whole));
        }
        assert_eq!(key_prefix("/p/q/"), Ok("p/q"));
        assert_eq!(key_prefix("/"), Ok(""));
        assert_eq!(key_prefix("MyAWSLogs"), Ok("MyAWSLogs"));
        assert!(joined(&"x".repeat(600), "").is_err());
    }

    #[test]
    fn a_prefix_that_reaches_into_awslogs_is_told_what_to_write() {
        let fault = |text| key_prefix(text).unwrap_err();
        assert!(fault("AWSLogs").ends_with("write key_prefix = \"\""));
        assert!(fault("trail/AWSLogs/").ends_with("write key_prefix = \"trail\""));
        assert!(fault("o-abc/AWSLogs/o-abc").ends_with("write key_prefix = \"o-abc\""));
        assert!(
            fault("AWSLogs/123456789012/CloudTrail")
                .ends_with("key_prefix = \"\" and accounts = [\"123456789012\"]")
        );
        let fault = bucket_and_folder("acme/AWSLogs/").unwrap_err();
        assert!(fault.ends_with("write bucket = \"acme\""), "{fault}");
    }
}
