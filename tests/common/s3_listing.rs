//! ListObjectsV2: one page of a listing, as S3 writes it.
//!
//! Source: Amazon S3 API Reference, "ListObjectsV2". A continuation token is the last key or common prefix of
//! the page before, in a form that shows when a client passes it on without encoding it.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::ops::Bound;

use bytes::Bytes;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

/// One page, as S3 writes it; `None` for a token that no page gave.
pub fn page(bucket: &str, objects: &BTreeMap<String, Bytes>, query: &Query) -> Option<Bytes> {
    let get = |name| query.get(name).unwrap_or("");
    let (prefix, delimiter) = (get("prefix"), get("delimiter"));
    let after = match query.get("continuation-token") {
        Some(token) => from_token(token)?,
        None => get("start-after").to_owned(),
    };
    let url = query.get("encoding-type") == Some("url");
    let text = |raw: &str| if url { url_encode(raw) } else { xml_escape(raw) };

    let (mut contents, mut common) = (String::new(), String::new());
    let (mut count, mut last, mut more) = (0, String::new(), false);
    let mut cursor = Bound::Excluded(after.clone());
    if prefix > after.as_str() {
        cursor = Bound::Included(prefix.to_owned());
    }
    while let Some((key, body)) = objects.range((cursor.clone(), Bound::Unbounded)).next() {
        let Some(rest) = key.strip_prefix(prefix) else { break };
        let rolled = match rest.find(delimiter) {
            Some(at) if !delimiter.is_empty() => Some(&key[..prefix.len() + at + delimiter.len()]),
            _ => None,
        };
        // A token that ends in a common prefix has that prefix behind it altogether.
        if rolled.is_some_and(|rolled| rolled == after && query.get("continuation-token").is_some()) {
            cursor = Bound::Included(behind(&after));
            continue;
        }
        if count == max_keys(query) {
            more = true;
            break;
        }
        count += 1;
        match rolled {
            Some(rolled) => {
                let _ = write!(common, "<CommonPrefixes><Prefix>{}</Prefix></CommonPrefixes>", text(rolled));
                last = rolled.to_owned();
                cursor = Bound::Included(behind(rolled));
            }
            None => {
                let _ = write!(
                    contents,
                    "<Contents><Key>{}</Key><LastModified>2026-02-03T10:11:12.000Z</LastModified><ETag>{}</ETag><ChecksumAlgorithm>CRC64NVME</ChecksumAlgorithm><ChecksumType>FULL_OBJECT</ChecksumType><Size>{}</Size><StorageClass>STANDARD</StorageClass></Contents>",
                    text(key),
                    xml_escape(&etag(body)),
                    body.len()
                );
                last = key.clone();
                cursor = Bound::Excluded(key.clone());
            }
        }
    }

    let mut xml = head(bucket, query, &text, count, more.then_some(last.as_str()));
    xml.push_str(&contents);
    xml.push_str(&common);
    xml.push_str("</ListBucketResult>");
    Some(xml.into())
}

/// What stands before the entries; `last` is the last entry of a page that has a next one.
fn head(
    bucket: &str,
    query: &Query,
    text: &dyn Fn(&str) -> String,
    count: usize,
    last: Option<&str>,
) -> String {
    let mut xml = String::from(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">",
    );
    let mut field = |name: &str, value: &str| {
        let _ = write!(xml, "<{name}>{value}</{name}>");
    };
    field("Name", &xml_escape(bucket));
    field("Prefix", &text(query.get("prefix").unwrap_or("")));
    if let Some(token) = query.get("continuation-token") {
        field("ContinuationToken", &xml_escape(token));
    }
    if let Some(last) = last {
        field("NextContinuationToken", &to_token(last));
    }
    if let Some(start_after) = query.get("start-after") {
        field("StartAfter", &text(start_after));
    }
    field("KeyCount", &count.to_string());
    field("MaxKeys", &max_keys(query).to_string());
    if let Some(delimiter) = query.get("delimiter") {
        field("Delimiter", &text(delimiter));
    }
    if let Some(encoding) = query.get("encoding-type") {
        field("EncodingType", encoding);
    }
    field("IsTruncated", if last.is_some() { "true" } else { "false" });
    xml
}

fn max_keys(query: &Query) -> usize {
    query.get("max-keys").and_then(|n| n.parse().ok()).unwrap_or(1000).min(1000)
}

/// The query's pairs, decoded. `+` is a plus sign here, as SigV4 clients write a space as `%20`.
pub struct Query(Vec<(String, String)>);

impl Query {
    pub fn parse(query: &str) -> Query {
        let decode = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
        let pairs = query.split('&').filter(|pair| !pair.is_empty());
        Query(
            pairs
                .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
                .map(|(n, v)| (decode(n), decode(v)))
                .collect(),
        )
    }
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }
}

/// The first string that is greater than everything beginning with `prefix` (which is not empty).
fn behind(prefix: &str) -> String {
    let mut chars: Vec<char> = prefix.chars().collect();
    let last = chars.pop().expect("a common prefix is not empty");
    chars.push(char::from_u32(last as u32 + 1).unwrap_or(char::MAX));
    chars.into_iter().collect()
}

/// Opaque to the client, with characters that must be encoded in a query.
fn to_token(last: &str) -> String {
    let mut token = String::from("1+/");
    last.bytes().for_each(|b| {
        let _ = write!(token, "{b:02x}");
    });
    token.push_str("==");
    token
}

fn from_token(token: &str) -> Option<String> {
    let hex = token.strip_prefix("1+/")?.strip_suffix("==")?;
    let byte = |i: usize| u8::from_str_radix(hex.get(i..i + 2)?, 16).ok();
    String::from_utf8((0..hex.len()).step_by(2).map(byte).collect::<Option<_>>()?).ok()
}

/// As S3 encodes keys for `encoding-type=url`: a space is `+`; `/`, `*`, `-`, `_` and `.` stay.
fn url_encode(raw: &str) -> String {
    const SET: &AsciiSet = &NON_ALPHANUMERIC.remove(b'/').remove(b'*').remove(b'-').remove(b'_').remove(b'.');
    utf8_percent_encode(raw, SET).to_string().replace("%20", "+")
}

/// Not MD5 as S3's, but as different for different bodies as the tests need.
pub fn etag(body: &[u8]) -> String {
    format!("\"{:08x}{:024x}\"", crc32fast::hash(body), body.len())
}

/// Text for between tags.
pub fn xml_escape(raw: &str) -> String {
    raw.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
