//! One page of ListObjectsV2, read as it streams in. [`Page`] is the core: it takes XML events and hands
//! out entries; [`read`] pulls the bytes for it.
//!
//! What holds: memory is bounded ([`limits::XML_EVENT_BYTES`], [`limits::LIST_PAGE_BYTES`]) whatever the answer;
//! every `Contents` and `CommonPrefixes` of a page becomes exactly one [`Listed`], a bad one too; only a page
//! that was read to its end counts as ended.
//!
//! Keys are asked for and read as plain XML text. `encoding-type=url` is not asked for: servers disagree on
//! whether they obey it and some say so only after the entries, so that a `%` in a key would mean two things.
//! An answer that says up front that it is URL-encoded is decoded.
//!
//! Source: S3 API Reference, "ListObjectsV2".

use std::borrow::Cow;
use std::ops::ControlFlow;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::{io, mem};

use bytes::{Buf, Bytes};
use percent_encoding::percent_decode_str;
use quick_xml::Reader;
use quick_xml::events::Event;
use tokio::io::{AsyncBufRead, AsyncRead, ReadBuf};

use super::fault::ErrorDocument;
use super::s3::{ListEnd, Listed};
use super::xml::{Elements, NOT_UTF8, Seen, Tag, TooDeep};
use crate::{limits, net};

/// Why a page is not whole.
#[derive(Debug)]
pub(super) enum PageError {
    /// The connection failed.
    Net(net::Error),
    /// The answer is an error after all, although its status said 200.
    Error(ErrorDocument),
    /// The answer is a web page.
    Html,
    /// The answer is XML, but no listing.
    NotAListing,
    /// The answer is not well-formed XML.
    NotXml(String),
    /// The answer ended before the listing did.
    Cut,
    /// One of the bounds was passed.
    TooLong,
    /// There are more pages, but no token to ask for them.
    NoContinuation,
    /// It says that it is URL-encoded, but only after the first entries.
    LateEncoding,
}

/// Where the bytes of a page come from.
pub(super) trait Chunks {
    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, net::Error>>;
}

impl Chunks for net::Body {
    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, net::Error>> {
        net::Body::poll_chunk(self, cx)
    }
}

/// Reads a page to its end or to where `visit` stops it.
pub(super) async fn read(
    source: impl Chunks + Unpin,
    visit: &mut (dyn FnMut(Listed<'_>) -> ControlFlow<()> + Send),
) -> Result<ListEnd, PageError> {
    let mut reader = Reader::from_reader(Feed::new(source));
    reader.config_mut().expand_empty_elements = true;
    let mut page = Page::new();
    let mut event_bytes = Vec::new();
    loop {
        event_bytes.clear();
        reader.get_mut().begin_event();
        match reader.read_event_into_async(&mut event_bytes).await {
            Ok(Event::Eof) => return page.end(),
            Ok(event) => {
                if page.event(&event, visit)?.is_break() {
                    return Ok(ListEnd::Stopped);
                }
            }
            Err(error) => {
                let failed = reader.get_mut().failed.take();
                return Err(failed.unwrap_or_else(|| PageError::NotXml(error.to_string())));
            }
        }
    }
}

/// Reads a page that is already in memory, as if it had come in these pieces. For tests and fuzzing: it must
/// neither panic nor wait, whatever the bytes; `Err` says why the page is not whole.
pub fn read_pieces<'a>(
    pieces: impl Iterator<Item = &'a [u8]> + Unpin,
    visit: &mut (dyn FnMut(Listed<'_>) -> ControlFlow<()> + Send),
) -> Result<ListEnd, String> {
    struct Pieces<I>(I);
    impl<'a, I: Iterator<Item = &'a [u8]>> Chunks for Pieces<I> {
        fn poll_chunk(&mut self, _: &mut Context<'_>) -> Poll<Result<Option<Bytes>, net::Error>> {
            Poll::Ready(Ok(self.0.by_ref().find(|piece| !piece.is_empty()).map(Bytes::copy_from_slice)))
        }
    }
    let reading = std::pin::pin!(read(Pieces(pieces), visit));
    match reading.poll(&mut Context::from_waker(std::task::Waker::noop())) {
        Poll::Ready(end) => end.map_err(|error| format!("{error:?}")),
        Poll::Pending => Err("it waits although every piece is there".into()),
    }
}

/// The core: what the events of one page say.
#[derive(Debug)]
struct Page {
    elements: Elements,
    error: Option<ErrorDocument>,
    /// The key or prefix of the entry that is open, as it stands in the XML.
    name: Option<String>,
    size: Option<u64>,
    /// Why the entry that is open cannot be used.
    bad: Option<&'static str>,
    url_encoded: bool,
    entries_begun: bool,
    truncated: bool,
    continuation: Option<Box<str>>,
    ended: bool,
}

const TOO_LONG: &str = "a key longer than S3 allows";
const UNREADABLE: &str = "a key that is far too long or holds an unknown entity";
const NOT_TEXT: &str = "a key that is not UTF-8";
const NO_NAME: &str = "an entry without a key";
const NO_SIZE: &str = "an entry without a size";

impl Page {
    fn new() -> Page {
        Page {
            elements: Elements::new(),
            error: None,
            name: None,
            size: None,
            bad: None,
            url_encoded: false,
            entries_begun: false,
            truncated: false,
            continuation: None,
            ended: false,
        }
    }

    fn event(
        &mut self,
        event: &Event<'_>,
        visit: &mut (dyn FnMut(Listed<'_>) -> ControlFlow<()> + Send),
    ) -> Result<ControlFlow<()>, PageError> {
        let seen = self.elements.event(event).map_err(|TooDeep| PageError::TooLong)?;
        match seen {
            Seen::Open { depth: 0, tag } => match tag {
                Tag::ListBucketResult => {}
                Tag::Error => self.error = Some(ErrorDocument::default()),
                Tag::Html => return Err(PageError::Html),
                _ => return Err(PageError::NotAListing),
            },
            Seen::Open { tag: Tag::Contents, .. } => {
                (self.name, self.size, self.bad, self.entries_begun) = (None, None, None, true);
            }
            Seen::Close { depth: 0, .. } => self.ended = true,
            Seen::Close { depth: 1, parent: Tag::Error, tag, text } => {
                if let (Some(error), Some(text)) = (&mut self.error, text) {
                    error.set(tag, text);
                }
            }
            Seen::Close { parent: Tag::Contents, tag: Tag::Key, text, .. } => match text {
                Some(text) => self.name = Some(text.to_owned()),
                None => self.bad = Some(UNREADABLE),
            },
            Seen::Close { parent: Tag::Contents, tag: Tag::Size, text, .. } => {
                self.size = text.and_then(|text| text.trim().parse().ok());
            }
            Seen::Close { depth: 1, tag: Tag::Contents, .. } => return Ok(self.contents(visit)),
            Seen::Close { parent: Tag::CommonPrefixes, tag: Tag::Prefix, text, .. } => {
                self.entries_begun = true;
                let prefix = text.ok_or(UNREADABLE).and_then(|text| decode(text, self.url_encoded));
                return Ok(match prefix {
                    Ok(prefix) => visit(Listed::Prefix(&prefix)),
                    Err(why) => visit(Listed::Bad(why)),
                });
            }
            Seen::Close { depth: 1, tag: Tag::IsTruncated, text, .. } => {
                self.truncated = text.is_some_and(|text| text.trim() == "true");
            }
            Seen::Close { depth: 1, tag: Tag::NextContinuationToken, text, .. } => {
                self.continuation = text.filter(|text| !text.is_empty()).map(Box::from);
            }
            Seen::Close { depth: 1, tag: Tag::EncodingType, text: Some("url"), .. } => {
                if self.entries_begun {
                    return Err(PageError::LateEncoding);
                }
                self.url_encoded = true;
            }
            Seen::Nothing | Seen::Open { .. } | Seen::Close { .. } => {}
        }
        Ok(ControlFlow::Continue(()))
    }

    fn contents(&mut self, visit: &mut (dyn FnMut(Listed<'_>) -> ControlFlow<()> + Send)) -> ControlFlow<()> {
        let name = self.name.take();
        let key = match self.bad.take() {
            Some(why) => Err(why),
            None => name.as_deref().ok_or(NO_NAME).and_then(|name| decode(name, self.url_encoded)),
        };
        match (key, self.size) {
            (Ok(key), Some(size)) => visit(Listed::Key { key: &key, size }),
            (Ok(_), None) => visit(Listed::Bad(NO_SIZE)),
            (Err(why), _) => visit(Listed::Bad(why)),
        }
    }

    fn end(self) -> Result<ListEnd, PageError> {
        match (self.ended, self.error, self.truncated, self.continuation) {
            (false, ..) => Err(PageError::Cut),
            (true, Some(error), ..) => Err(PageError::Error(error)),
            (true, None, false, _) => Ok(ListEnd::Complete),
            (true, None, true, Some(continuation)) => Ok(ListEnd::More { continuation }),
            (true, None, true, None) => Err(PageError::NoContinuation),
        }
    }
}

/// The key or prefix that an element's text stands for. URL-encoded means as in a form: `+` is a space.
fn decode(text: &str, url_encoded: bool) -> Result<Cow<'_, str>, &'static str> {
    let name = if url_encoded {
        let spaced = text.replace('+', " ");
        Cow::Owned(percent_decode_str(&spaced).decode_utf8().map_err(|_| NOT_TEXT)?.into_owned())
    } else {
        Cow::Borrowed(text)
    };
    if name.is_empty() {
        Err(NO_NAME)
    } else if name.contains(NOT_UTF8) {
        Err(NOT_TEXT)
    } else if name.len() > limits::KEY_BYTES {
        Err(TOO_LONG)
    } else {
        Ok(name)
    }
}

/// The bytes of a page for the XML reader: counted, and with [`NOT_UTF8`] in place of what is not UTF-8, for
/// one such key must not hide the page's others.
struct Feed<S> {
    source: S,
    chunk: Bytes,
    /// The beginning of a character that goes on in the next chunk.
    split: heapless::Vec<u8, 3>,
    event_bytes: usize,
    page_bytes: u64,
    ended: bool,
    failed: Option<PageError>,
}

impl<S: Chunks> Feed<S> {
    fn new(source: S) -> Feed<S> {
        let (chunk, split) = (Bytes::new(), heapless::Vec::new());
        Feed { source, chunk, split, event_bytes: 0, page_bytes: 0, ended: false, failed: None }
    }

    fn begin_event(&mut self) {
        self.event_bytes = 0;
    }

    fn fail(&mut self, why: PageError) -> io::Error {
        self.failed = Some(why);
        io::Error::other("the page cannot be read")
    }

    fn utf8(&mut self, chunk: Bytes) -> Bytes {
        if self.split.is_empty() && str::from_utf8(&chunk).is_ok() {
            return chunk;
        }
        let joined = [&self.split, &chunk[..]].concat();
        self.split.clear();
        let mut text = String::with_capacity(joined.len());
        let mut at = 0;
        for piece in joined.utf8_chunks() {
            text.push_str(piece.valid());
            at += piece.valid().len() + piece.invalid().len();
            let incomplete =
                || str::from_utf8(piece.invalid()).is_err_and(|error| error.error_len().is_none());
            if at == joined.len() && incomplete() {
                self.split = heapless::Vec::from_slice(piece.invalid()).unwrap_or_default(); // at most 3 bytes
            } else if !piece.invalid().is_empty() {
                text.push(NOT_UTF8);
            }
        }
        text.into()
    }
}

impl<S: Chunks + Unpin> AsyncBufRead for Feed<S> {
    fn poll_fill_buf(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<&[u8]>> {
        let this = self.get_mut();
        let room = limits::XML_EVENT_BYTES - this.event_bytes;
        if room == 0 {
            return Poll::Ready(Err(this.fail(PageError::TooLong)));
        }
        while this.chunk.is_empty() && !this.ended {
            match ready!(this.source.poll_chunk(cx)) {
                Err(error) => return Poll::Ready(Err(this.fail(PageError::Net(error)))),
                Ok(Some(chunk)) => {
                    this.page_bytes += chunk.len() as u64;
                    if this.page_bytes > limits::LIST_PAGE_BYTES {
                        return Poll::Ready(Err(this.fail(PageError::TooLong)));
                    }
                    this.chunk = this.utf8(chunk);
                }
                Ok(None) => {
                    this.ended = true;
                    if !mem::take(&mut this.split).is_empty() {
                        this.chunk = NOT_UTF8.to_string().into();
                    }
                }
            }
        }
        Poll::Ready(Ok(&this.chunk[..this.chunk.len().min(room)]))
    }

    fn consume(self: Pin<&mut Self>, bytes: usize) {
        let this = self.get_mut();
        this.chunk.advance(bytes);
        this.event_bytes += bytes;
    }
}

/// What `AsyncBufRead` asks for; the XML reader does not use it.
impl<S: Chunks + Unpin> AsyncRead for Feed<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let bytes = ready!(self.as_mut().poll_fill_buf(cx))?;
        let taken = bytes.len().min(into.remaining());
        into.put_slice(&bytes[..taken]);
        self.consume(taken);
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What a page gave, one line an entry.
    fn parse_pieces(page: &[u8], piece: usize) -> (Vec<String>, Result<ListEnd, String>) {
        let mut entries = Vec::new();
        let end = read_pieces(page.chunks(piece.max(1)), &mut |listed| {
            entries.push(match listed {
                Listed::Key { key, size } => format!("{key} {size}"),
                Listed::Prefix(prefix) => format!("{prefix} /"),
                Listed::Bad(why) => format!("bad: {why}"),
            });
            ControlFlow::Continue(())
        });
        (entries, end)
    }

    /// The same whatever the pieces.
    fn parse(page: impl AsRef<[u8]>) -> (Vec<String>, Result<ListEnd, String>) {
        let whole = parse_pieces(page.as_ref(), usize::MAX);
        for piece in [1, 2, 3, 7, 64] {
            assert_eq!(parse_pieces(page.as_ref(), piece), whole, "in pieces of {piece}");
        }
        whole
    }

    fn result(inner: &str) -> String {
        format!(
            "<ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">{inner}</ListBucketResult>"
        )
    }

    fn contents(key: &str) -> String {
        format!("<Contents><Key>{key}</Key><Size>1</Size></Contents>")
    }

    #[test]
    fn a_page_as_aws_writes_it() {
        let (entries, end) = parse(
            r#"<?xml version="1.0" encoding="UTF-8"?>
<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>b</Name><Prefix>AWSLogs/</Prefix>
<NextContinuationToken>1ueGcxLPRx1Tr/XYExHnhbYLgveDs2J/wm36Hy4vbOwM=</NextContinuationToken><KeyCount>2</KeyCount>
<MaxKeys>2</MaxKeys><Delimiter>/</Delimiter><IsTruncated>true</IsTruncated>
<Contents><Key>AWSLogs/1.json.gz</Key><LastModified>2023-11-26T17:50:30.000Z</LastModified>
<ETag>&quot;70ee1738b6b21e2c8a43f3a5ab0eee71&quot;</ETag><Size>434234</Size><StorageClass>STANDARD</StorageClass>
<Owner><ID>canonical</ID><DisplayName>somebody</DisplayName></Owner></Contents>
<CommonPrefixes><Prefix>AWSLogs/123456789012/</Prefix></CommonPrefixes></ListBucketResult>"#,
        );
        assert_eq!(entries, ["AWSLogs/1.json.gz 434234", "AWSLogs/123456789012/ /"]);
        let continuation = "1ueGcxLPRx1Tr/XYExHnhbYLgveDs2J/wm36Hy4vbOwM=".into();
        assert_eq!(end, Ok(ListEnd::More { continuation }));
    }

    #[test]
    fn an_empty_bucket_is_complete() {
        for page in [result("<IsTruncated>false</IsTruncated>"), "<ListBucketResult/>".into(), result("")] {
            assert_eq!(parse(page), (vec![], Ok(ListEnd::Complete)));
        }
    }

    #[test]
    fn keys_are_their_text_whatever_xml_makes_of_it() {
        for (xml, key) in [
            ("a&amp;b&lt;c&gt;d&quot;e&apos;f&#39;g&#x27;h", "a&b<c>d\"e'f'g'h"),
            ("<![CDATA[a<b>&amp;]]>c", "a<b>&amp;c"),
            (" a  b ", " a  b "),
            ("a+b%20c%2B", "a+b%20c%2B"),
            ("ä日本😀", "ä日本😀"),
            ("&#xE4;&#26085;", "ä日"),
            ("a&#x1;b&#10;c", "a\u{1}b\nc"),
            ("a<!-- no -->b", "ab"),
        ] {
            assert_eq!(parse(result(&contents(xml))).0, [format!("{key} 1")], "{xml}");
        }
    }

    #[test]
    fn namespaces_and_a_byte_order_mark_do_not_matter() {
        let page = "\u{FEFF}<s3:ListBucketResult xmlns:s3=\"x\"><s3:Contents><s3:Size>5</s3:Size><s3:Key>k</s3:Key>\
                    </s3:Contents></s3:ListBucketResult>";
        assert_eq!(parse(page), (vec!["k 5".into()], Ok(ListEnd::Complete)));
    }

    #[test]
    fn a_page_that_says_so_first_is_url_decoded() {
        let encoded = "<EncodingType>url</EncodingType>";
        let page = result(&(encoded.to_owned() + &contents("a+b%2Bc%25%C3%A4") + &contents("%FF")));
        assert_eq!(parse(page).0, ["a b+c%ä 1", &format!("bad: {NOT_TEXT}")]);
        assert_eq!(parse(result(&(contents("a+b") + encoded))).1, Err("LateEncoding".into()));
    }

    #[test]
    fn a_bad_entry_is_reported_and_hides_no_other() {
        let long = "x".repeat(limits::KEY_BYTES + 1);
        let longest = &long[1..];
        let far_too_long = contents(&"y&amp;".repeat(limits::XML_EVENT_BYTES));
        for (bad, why) in [
            (contents(&long).into_bytes(), TOO_LONG),
            (far_too_long.into_bytes(), UNREADABLE),
            (contents("").into_bytes(), NO_NAME),
            (contents("a&unknown;b").into_bytes(), UNREADABLE),
            (b"<Contents><Size>1</Size></Contents>".to_vec(), NO_NAME),
            (b"<Contents><Key>k</Key></Contents>".to_vec(), NO_SIZE),
            (b"<Contents><Key>k</Key><Size>-1</Size></Contents>".to_vec(), NO_SIZE),
            (b"<Contents><Key>k\xFFk</Key><Size>1</Size></Contents>".to_vec(), NOT_TEXT),
            (b"<Contents><Key>k\xE3\x81</Key><Size>1</Size></Contents>".to_vec(), NOT_TEXT),
            (b"<CommonPrefixes><Prefix>\xF0/</Prefix></CommonPrefixes>".to_vec(), NOT_TEXT),
            (b"<CommonPrefixes><Prefix></Prefix></CommonPrefixes>".to_vec(), NO_NAME),
        ] {
            let mut page = b"<ListBucketResult>".to_vec();
            page.extend_from_slice(contents(longest).as_bytes());
            page.extend_from_slice(&bad);
            page.extend_from_slice(contents("good").as_bytes());
            page.extend_from_slice(b"</ListBucketResult>");
            let (entries, end) = parse(page);
            assert_eq!(entries, [format!("{longest} 1"), format!("bad: {why}"), "good 1".into()]);
            assert_eq!(end, Ok(ListEnd::Complete));
        }
    }

    #[test]
    fn a_page_that_is_not_whole_is_never_an_end() {
        let whole = result(&contents("k"));
        for cut in 0..whole.len() {
            assert!(parse_pieces(&whole.as_bytes()[..cut], 10).1.is_err(), "{}", &whole[..cut]);
        }
        assert_eq!(parse("").1, Err("Cut".into()));
        assert_eq!(parse(result("<IsTruncated>true</IsTruncated>")).1, Err("NoContinuation".into()));
    }

    #[test]
    fn what_is_no_listing_is_told_apart() {
        let error = parse("<Error><Code>SlowDown</Code><Message>Reduce</Message></Error>").1.unwrap_err();
        assert!(error.starts_with("Error(") && error.contains("SlowDown"), "{error}");
        assert_eq!(parse("<!DOCTYPE html><html><p>hi<br></html>").1, Err("Html".into()));
        assert_eq!(parse("<HTML><p>hi</HTML>").1, Err("Html".into()));
        assert_eq!(parse("<ListAllMyBucketsResult/>").1, Err("NotAListing".into()));
        assert!(
            parse("<ListBucketResult><Contents></Key></ListBucketResult>")
                .1
                .unwrap_err()
                .starts_with("NotXml")
        );
    }

    #[test]
    fn memory_is_bounded_whatever_comes() {
        let long = limits::XML_EVENT_BYTES + 1;
        for page in [
            "<".to_owned() + &"a".repeat(long),
            " ".repeat(long),
            "<!--".to_owned() + &" ".repeat(long),
            "<!DOCTYPE ".to_owned() + &"a".repeat(long),
            "<ListBucketResult>&".to_owned() + &"a".repeat(long),
            "<ListBucketResult>".to_owned() + &"<a>".repeat(limits::XML_DEPTH),
        ] {
            assert_eq!(parse_pieces(page.as_bytes(), 1000).1, Err("TooLong".into()), "{}", &page[..20]);
        }
        let entry = contents(&"k".repeat(1000));
        let entries = limits::LIST_PAGE_BYTES as usize / entry.len() + 1;
        let page = result(&entry.repeat(entries));
        assert_eq!(parse_pieces(page.as_bytes(), 30_000).1, Err("TooLong".into()));
    }

    #[test]
    fn the_caller_can_stop() {
        let page = result(&(contents("a") + &contents("b") + &contents("c")));
        let mut seen = 0;
        let end = read_pieces([page.as_bytes()].into_iter(), &mut |_| {
            seen += 1;
            if seen == 2 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        assert_eq!((seen, end), (2, Ok(ListEnd::Stopped)));
    }

    proptest! {
        #[test]
        fn every_key_comes_back_as_it_was(
            keys in prop::collection::vec("[^\u{FFFE}\u{FFFF}]{1,200}", 0..20),
            piece in 1usize..300,
        ) {
            let escape = |key: &String| key.chars().map(|c| match c {
                '<' | '>' | '&' | '\r' => format!("&#{};", c as u32),
                c => c.to_string(),
            }).collect::<String>();
            let page = result(&keys.iter().map(|key| contents(&escape(key))).collect::<String>());
            let (entries, end) = parse_pieces(page.as_bytes(), piece);
            prop_assert_eq!(entries, keys.iter().map(|key| format!("{key} 1")).collect::<Vec<_>>());
            prop_assert_eq!(end, Ok(ListEnd::Complete));
        }

        #[test]
        fn pieces_never_matter(
            page in prop::collection::vec(prop::sample::select(vec![
                &b"<Contents>"[..], b"</Contents>", b"<Key>", b"</Key>", b"<Size>7</Size>", b"<CommonPrefixes>", b"<Prefix/>",
                b"</CommonPrefixes>", b"<!--", b"-->", b"<![CDATA[", b"]]>", b"<?", b"?>", b"<!", b">", b"<", b"&", b"&amp;", b";",
                b"&#x", b"\xE3\x81", b"\xFF", b"\xEF\xBB\xBF", b"key", b"\"", b"<Error>", b"</ListBucketResult>",
            ]), 0..40),
            piece in 1usize..20,
        ) {
            let page = [&b"<ListBucketResult>"[..], &page.concat()].concat();
            prop_assert_eq!(parse_pieces(&page, piece), parse_pieces(&page, usize::MAX));
        }
    }
}
