//! S3's and STS's XML answers as a sequence of elements closed, in constant memory. What holds: nesting is at most
//! [`limits::XML_DEPTH`], the text of one element at most [`limits::XML_EVENT_BYTES`]; no DTD is obeyed.

use quick_xml::escape::resolve_predefined_entity;
use quick_xml::events::Event;
use zeroize::Zeroizing;

use crate::limits;

/// Stands for bytes that are not UTF-8. A noncharacter that XML 1.0 forbids, so no key can hold it.
pub(super) const NOT_UTF8: char = '\u{FFFF}';

/// The elements that are read. Namespaces are not told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tag {
    ListBucketResult,
    Contents,
    Key,
    Size,
    CommonPrefixes,
    Prefix,
    IsTruncated,
    NextContinuationToken,
    EncodingType,
    Error,
    Code,
    Message,
    Region,
    Endpoint,
    Credentials,
    AccessKeyId,
    SecretAccessKey,
    SessionToken,
    Expiration,
    GetCallerIdentityResult,
    Account,
    Arn,
    Html,
    Other,
}

impl Tag {
    fn of(local_name: &str) -> Tag {
        match local_name {
            "ListBucketResult" => Tag::ListBucketResult,
            "Contents" => Tag::Contents,
            "Key" => Tag::Key,
            "Size" => Tag::Size,
            "CommonPrefixes" => Tag::CommonPrefixes,
            "Prefix" => Tag::Prefix,
            "IsTruncated" => Tag::IsTruncated,
            "NextContinuationToken" => Tag::NextContinuationToken,
            "EncodingType" => Tag::EncodingType,
            "Error" => Tag::Error,
            "Code" => Tag::Code,
            "Message" => Tag::Message,
            "Region" => Tag::Region,
            "Endpoint" => Tag::Endpoint,
            "Credentials" => Tag::Credentials,
            "AccessKeyId" => Tag::AccessKeyId,
            "SecretAccessKey" => Tag::SecretAccessKey,
            "SessionToken" => Tag::SessionToken,
            "Expiration" => Tag::Expiration,
            "GetCallerIdentityResult" => Tag::GetCallerIdentityResult,
            "Account" => Tag::Account,
            "Arn" => Tag::Arn,
            name if name.eq_ignore_ascii_case("html") => Tag::Html,
            _ => Tag::Other,
        }
    }
}

/// What an event amounts to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Seen<'a> {
    /// Nothing yet.
    Nothing,
    /// An element begins. `depth` 0 is the root.
    Open { depth: usize, tag: Tag },
    /// An element ends. `text` is what stood in it, with references resolved; `None` when that is too long
    /// or cannot be resolved. `parent` of the root is [`Tag::Other`].
    Close { depth: usize, parent: Tag, tag: Tag, text: Option<&'a str> },
}

/// Nested deeper than [`limits::XML_DEPTH`].
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooDeep;

/// The path to where the reader stands, and the text of the innermost element.
#[derive(Debug)]
pub(super) struct Elements {
    path: heapless::Vec<Tag, { limits::XML_DEPTH }>,
    text: Zeroizing<String>,
    text_is_whole: bool,
}

impl Elements {
    pub(super) fn new() -> Elements {
        Elements { path: heapless::Vec::new(), text: Zeroizing::default(), text_is_whole: true }
    }

    /// With room for every text there may be: growing would leave copies of a secret behind.
    pub(super) fn for_secrets() -> Elements {
        let text = Zeroizing::new(String::with_capacity(limits::XML_EVENT_BYTES));
        Elements { text, ..Elements::new() }
    }

    pub(super) fn event(&mut self, event: &Event<'_>) -> Result<Seen<'_>, TooDeep> {
        match event {
            Event::Start(start) => {
                let tag = Tag::of(start.local_name().into_inner());
                self.path.push(tag).map_err(|_| TooDeep)?;
                self.text.clear();
                self.text_is_whole = true;
                return Ok(Seen::Open { depth: self.path.len() - 1, tag });
            }
            Event::End(_) => {
                let Some(tag) = self.path.pop() else { return Ok(Seen::Nothing) };
                let parent = self.path.last().copied().unwrap_or(Tag::Other);
                let text = self.text_is_whole.then_some(self.text.as_str());
                return Ok(Seen::Close { depth: self.path.len(), parent, tag, text });
            }
            Event::Text(text) => self.push(text),
            Event::CData(text) => self.push(text),
            Event::GeneralRef(reference) => match resolve(reference) {
                Some(character) => self.push(character.encode_utf8(&mut [0; 4])),
                None => self.text_is_whole = false,
            },
            _ => {}
        }
        Ok(Seen::Nothing)
    }

    fn push(&mut self, text: &str) {
        if self.text.len() + text.len() <= limits::XML_EVENT_BYTES {
            self.text.push_str(text);
        } else {
            self.text_is_whole = false;
        }
    }
}

/// `amp`, `lt`, … and `#10`, `#x1F`. S3 writes control characters of keys so, although XML 1.0 forbids them.
fn resolve(reference: &str) -> Option<char> {
    if let Some(number) = reference.strip_prefix('#') {
        let code = match number.strip_prefix('x') {
            Some(hex) => u32::from_str_radix(hex, 16),
            None => number.parse(),
        };
        return char::from_u32(code.ok()?);
    }
    resolve_predefined_entity(reference)?.chars().next()
}
