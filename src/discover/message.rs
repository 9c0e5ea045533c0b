//! What a message of the queue says: which objects are new. A core.
//!
//! Every shape in which S3 and CloudTrail tell of objects is read, and every entry of each (other collectors read
//! `Records[0]` alone):
//!
//! | shape | keys |
//! |---|---|
//! | S3 event: `{"Records":[{"eventName":"ObjectCreated:Put","s3":{"bucket":{"name":…},"object":{"key":…,"size":…}}}]}` | form-urlencoded: `+` is a blank |
//! | EventBridge: `{"detail-type":"Object Created","detail":{"bucket":{"name":…},"object":{"key":…,"size":…}}}` | as they are |
//! | CloudTrail: `{"s3Bucket":…,"s3ObjectKey":[…]}` | as they are |
//! | any of these in `{"Type":"Notification","Message":"…"}`, as SNS delivers unless delivery is raw | |
//! | `{"Event":"s3:TestEvent"}`, and the text `CloudTrail validation message.` | none: somebody tries whether messages arrive |
//!
//! Sources: Amazon S3 User Guide, "Event message structure", "EventBridge event message structure"; AWS CloudTrail User
//! Guide, "Configuring Amazon SNS notifications for CloudTrail"; Amazon SNS Developer Guide, "Amazon SNS message and JSON
//! formats".

use std::fmt;

use percent_encoding::percent_decode;

use super::key::{LogKey, NotALog};
use crate::decode::members::{Misshapen, elements, members, string};
use crate::decode::text::{self, unescape};
use crate::limits;

/// Envelopes inside each other.
const ENVELOPES: u32 = 3;

/// What a message is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// These objects are new, in the order of the message; none, if it tells of something else that happened to
    /// objects.
    Objects(Vec<Object>),
    /// It says nothing: a trail or a notification was set up.
    Test,
}

/// An object as a message names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    /// Bucket name.
    pub bucket: Box<str>,
    /// The raw key: not URL-encoded.
    pub key: Box<str>,
    /// Bytes, where the message says so.
    pub size: Option<u64>,
}

/// Why a message cannot be read: it never will.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unreadable {
    /// It is neither JSON nor one of the known texts.
    NotJson,
    /// It is JSON of another shape.
    NotANotice,
    /// It names an object by a bucket or key that cannot be one.
    BadKey,
    /// It names more objects than [`limits::MESSAGE_OBJECTS`].
    TooMany,
    /// SNS asks whether the queue wants its messages.
    Confirmation,
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Unreadable::NotJson => "it is no JSON",
            Unreadable::NotANotice => {
                "it tells of no object in a form that S3, EventBridge, SNS or CloudTrail use: who sends to this queue?"
            }
            Unreadable::BadKey => "it names an object by a key that cannot be one",
            Unreadable::TooMany => "it names more objects than a message can",
            Unreadable::Confirmation => {
                "SNS asks to confirm a subscription: open the SubscribeURL in it, or subscribe from the queue's own account"
            }
        })
    }
}

impl From<Misshapen> for Unreadable {
    fn from(_: Misshapen) -> Unreadable {
        Unreadable::NotJson
    }
}

/// Reads the body of a message.
///
/// # Errors
/// See [`Unreadable`].
pub fn read(body: &[u8]) -> Result<Message, Unreadable> {
    let mut inner: Vec<u8>;
    let mut text = body;
    for _ in 0..ENVELOPES {
        let trimmed = text.trim_ascii();
        if trimmed == b"CloudTrail validation message." {
            return Ok(Message::Test);
        }
        let parts = Parts::of(trimmed)?;
        let Some(message) = parts.message.filter(|_| parts.is_envelope()) else { return parts.read() };
        if parts.is(parts.kind, "SubscriptionConfirmation") || parts.is(parts.kind, "UnsubscribeConfirmation")
        {
            return Err(Unreadable::Confirmation);
        }
        inner = plain(message)?;
        text = &inner;
    }
    Err(Unreadable::NotANotice)
}

/// The members that tell the shapes apart: raw values.
#[derive(Default)]
struct Parts<'a> {
    kind: Option<&'a [u8]>,
    message: Option<&'a [u8]>,
    event: Option<&'a [u8]>,
    records: Option<&'a [u8]>,
    detail_type: Option<&'a [u8]>,
    detail: Option<&'a [u8]>,
    bucket: Option<&'a [u8]>,
    keys: Option<&'a [u8]>,
}

impl<'a> Parts<'a> {
    fn of(object: &'a [u8]) -> Result<Parts<'a>, Unreadable> {
        let mut parts = Parts::default();
        for member in members(object)? {
            let (name, value) = member?;
            let place = match name {
                b"Type" => &mut parts.kind,
                b"Message" => &mut parts.message,
                b"Event" => &mut parts.event,
                b"Records" => &mut parts.records,
                b"detail-type" => &mut parts.detail_type,
                b"detail" => &mut parts.detail,
                b"s3Bucket" => &mut parts.bucket,
                b"s3ObjectKey" => &mut parts.keys,
                _ => continue,
            };
            *place = Some(value);
        }
        Ok(parts)
    }

    fn is_envelope(&self) -> bool {
        let types = ["Notification", "SubscriptionConfirmation", "UnsubscribeConfirmation"];
        types.into_iter().any(|name| self.is(self.kind, name))
    }

    fn is(&self, value: Option<&[u8]>, plain: &str) -> bool {
        value.and_then(string).is_some_and(|raw| text::is(raw, plain.as_bytes()))
    }

    fn read(&self) -> Result<Message, Unreadable> {
        let mut objects = Objects::default();
        if let Some(records) = self.records {
            for record in elements(records).map_err(|_| Unreadable::NotANotice)? {
                objects.event(record?)?;
            }
        } else if let Some(detail) = self.detail.filter(|_| self.detail_type.is_some()) {
            if self.is(self.detail_type, "Object Created") {
                objects.of_s3(detail, Form::Raw)?;
            }
        } else if let (Some(bucket), Some(keys)) = (self.bucket, self.keys) {
            match elements(keys) {
                Ok(keys) => {
                    for key in keys {
                        objects.push(bucket, key?, None, Form::Raw)?;
                    }
                }
                Err(_) => objects.push(bucket, keys, None, Form::Raw)?,
            }
        } else if self.is(self.event, "s3:TestEvent") {
            return Ok(Message::Test);
        } else {
            return Err(Unreadable::NotANotice);
        }
        Ok(Message::Objects(objects.0))
    }
}

/// How keys are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Raw,
    UrlEncoded,
}

#[derive(Default)]
struct Objects(Vec<Object>);

impl Objects {
    /// One of an S3 event's records.
    fn event(&mut self, record: &[u8]) -> Result<(), Unreadable> {
        let [name, s3] = find(record, ["eventName", "s3"])?;
        let (Some(name), Some(s3)) = (name.and_then(string), s3) else { return Err(Unreadable::NotANotice) };
        let created =
            |name: &[u8]| name.starts_with(b"ObjectCreated:") || name.starts_with(b"s3:ObjectCreated:");
        match created(name) {
            true => self.of_s3(s3, Form::UrlEncoded),
            false => Ok(()),
        }
    }

    /// `{"bucket":{"name":…},"object":{"key":…,"size":…}}`
    fn of_s3(&mut self, value: &[u8], form: Form) -> Result<(), Unreadable> {
        let [Some(bucket), Some(object)] = find(value, ["bucket", "object"])? else {
            return Err(Unreadable::NotANotice);
        };
        let [Some(name)] = find(bucket, ["name"])? else { return Err(Unreadable::NotANotice) };
        let [Some(key), size] = find(object, ["key", "size"])? else { return Err(Unreadable::NotANotice) };
        let size = size.and_then(|size| std::str::from_utf8(size).ok()?.parse().ok());
        self.push(name, key, size, form)
    }

    fn push(&mut self, bucket: &[u8], key: &[u8], size: Option<u64>, form: Form) -> Result<(), Unreadable> {
        if self.0.len() == limits::MESSAGE_OBJECTS {
            return Err(Unreadable::TooMany);
        }
        let key = plain(key)?;
        let key = match form {
            Form::Raw => key,
            Form::UrlEncoded => {
                let blanks: Vec<u8> =
                    key.iter().map(|&byte| if byte == b'+' { b' ' } else { byte }).collect();
                percent_decode(&blanks).collect()
            }
        };
        let text =
            |bytes| String::from_utf8(bytes).map(String::into_boxed_str).map_err(|_| Unreadable::BadKey);
        let (bucket, key) = (text(plain(bucket)?)?, text(key)?);
        if bucket.is_empty() || key.is_empty() || key.len() > limits::KEY_BYTES {
            return Err(Unreadable::BadKey);
        }
        self.0.push(Object { bucket, key, size });
        Ok(())
    }
}

/// The raw values of these members.
fn find<'a, const N: usize>(object: &'a [u8], names: [&str; N]) -> Result<[Option<&'a [u8]>; N], Unreadable> {
    let mut found = [None; N];
    for member in members(object).map_err(|_| Unreadable::NotANotice)? {
        let (name, value) = member?;
        if let Some(at) = names.iter().position(|wanted| wanted.as_bytes() == name) {
            found[at] = Some(value);
        }
    }
    Ok(found)
}

/// A string's text.
fn plain(value: &[u8]) -> Result<Vec<u8>, Unreadable> {
    let raw = string(value).ok_or(Unreadable::NotANotice)?;
    let mut buffer = Vec::new();
    unescape(raw, &mut buffer).map(<[u8]>::to_vec).map_err(|_| Unreadable::NotJson)
}

/// What a source makes of an object that a message names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sorted {
    /// A log that the source selects.
    Log(LogKey),
    /// In its folders, but no log.
    NotALog(NotALog),
    /// A log of an account or a region that it does not select.
    NotSelected,
    /// In another bucket, or outside the source's prefix.
    Foreign,
}

/// Sorts an object for the source of this bucket, prefix (empty, or up to and with a `/`), accounts and regions (empty:
/// all).
pub fn sort(
    object: &Object,
    bucket: &str,
    prefix: &str,
    accounts: &[Box<str>],
    regions: &[Box<str>],
) -> Sorted {
    let below = object.key.strip_prefix(prefix).is_some_and(|rest| rest.starts_with("AWSLogs/"));
    if *object.bucket != *bucket || !below {
        return Sorted::Foreign;
    }
    match LogKey::parse(&object.key) {
        // A folder named AWSLogs inside the source's own: a listing does not go there.
        Ok(key) if key.prefix() != prefix => Sorted::Foreign,
        Ok(key) => {
            let selected =
                |list: &[Box<str>], name: &str| list.is_empty() || list.iter().any(|own| **own == *name);
            match selected(accounts, key.account()) && selected(regions, key.region()) {
                true => Sorted::Log(key),
                false => Sorted::NotSelected,
            }
        }
        Err(why) => Sorted::NotALog(why),
    }
}

#[cfg(test)]
mod tests;
