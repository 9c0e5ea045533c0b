//! Where a listing stands, and its last page: how a listing goes on after each page, whatever ended it.
//!
//! A page that ended whole goes on with the server's token; one that was stopped or broke off goes on behind
//! its last entry. Only entries of the kind that is listed, keys or folders, say how far it came: a page has all its keys
//! before all its folders, so a key that lies beside folders has none of those before it behind it. A server whose pages
//! do not advance is a fault, so every listing ends.

use std::ops::ControlFlow;

use crate::aws::s3::{ListRequest, Listed};
use crate::aws::{Class, Fault};
use crate::limits;

/// Empty pages in a row that promise more. S3 may send some; it does not send this many.
const EMPTY_PAGES: u32 = 100;

/// Where a listing stands, and its last page.
pub(super) struct Listing {
    pub(super) prefix: String,
    folders: bool,
    /// Go on behind this...
    pub(super) after: Option<String>,
    /// ...unless the page before ended with a token.
    pub(super) token: Option<Box<str>>,
    pub(super) complete: bool,
    /// Last entry of the other kind, on the last page that had any.
    beside: String,
    empty_pages: u32,
    pub(super) page: Page,
}

impl Listing {
    pub(super) fn folders(prefix: String) -> Listing {
        Listing {
            prefix,
            folders: true,
            after: None,
            token: None,
            complete: false,
            beside: String::new(),
            empty_pages: 0,
            page: Page::default(),
        }
    }

    pub(super) fn keys(prefix: String, after: String) -> Listing {
        Listing { folders: false, after: Some(after), ..Listing::folders(prefix) }
    }

    pub(super) fn split(&mut self) -> (ListRequest<'_>, &mut Page) {
        let request = ListRequest {
            prefix: &self.prefix,
            delimiter: self.folders,
            start_after: self.after.as_deref().filter(|_| self.token.is_none()),
            continuation: self.token.as_deref(),
            max_keys: None,
        };
        (request, &mut self.page)
    }

    /// Takes over how far the page came; whether that is any further.
    pub(super) fn advance(&mut self) -> Result<bool, Fault> {
        let (last, beside) = (std::mem::take(&mut self.page.last), std::mem::take(&mut self.page.beside));
        if last.is_empty() && beside.is_empty() {
            self.empty_pages += 1;
            if self.empty_pages > EMPTY_PAGES {
                return Err(self.bad_answer("sends empty pages without end"));
            }
            return Ok(false);
        }
        self.empty_pages = 0;
        let repeats = !beside.is_empty() && self.token.is_some() && beside <= self.beside;
        if repeats || self.after.as_ref().is_some_and(|after| !last.is_empty() && last <= *after) {
            return Err(self.bad_answer("does not list in the order of the keys, or ignores `start-after`"));
        }
        if !beside.is_empty() {
            self.beside = beside;
        }
        if last.is_empty() {
            return Ok(false);
        }
        self.after = Some(last);
        Ok(true)
    }

    fn bad_answer(&self, what: &str) -> Fault {
        Fault {
            class: Class::Config,
            cause: "bad-answer",
            text: format!("the listing of \"{}\" cannot be followed: the server {what}", self.prefix),
            said: Box::default(),
            retry_after: None,
        }
    }
}

/// The names of one page, without the prefix that all have in common.
#[derive(Default)]
pub(super) struct Page {
    text: String,
    /// End of each name in `text`, and the object's size.
    entries: Vec<(u32, u64)>,
    /// Everything of the kind that is listed was seen up to this.
    last: String,
    /// The last entry of the other kind.
    beside: String,
    /// Entries that could not be used, since the listing began or whoever counts them took them.
    pub(super) bad: u64,
}

impl Page {
    pub(super) fn clear(&mut self) {
        self.text.clear();
        self.entries.clear();
        self.last.clear();
        self.beside.clear();
    }

    pub(super) fn take(&mut self, request: &ListRequest<'_>, entry: Listed<'_>) -> ControlFlow<()> {
        let (text, size) = match entry {
            Listed::Key { key, size } => (key, size),
            Listed::Prefix(folder) => (folder, 0),
            Listed::Bad(_) => {
                self.bad += 1;
                return ControlFlow::Continue(());
            }
        };
        let folder = matches!(entry, Listed::Prefix(_));
        let Some(name) = text.strip_prefix(request.prefix).filter(|_| text.len() <= limits::KEY_BYTES) else {
            self.bad += 1;
            return ControlFlow::Continue(());
        };
        if folder != request.delimiter {
            self.beside.clear();
            self.beside.push_str(text);
            return ControlFlow::Continue(());
        }
        let name = name.strip_suffix('/').filter(|_| folder).unwrap_or(name);
        if self.entries.len() == limits::LIST_PAGE_KEYS
            || self.text.len() + name.len() > limits::LIST_PAGE_TEXT
        {
            return ControlFlow::Break(());
        }
        self.text.push_str(name);
        self.entries.push((self.text.len() as u32, size));
        self.last.clear();
        match text.strip_suffix('/') {
            // '0' is the byte behind '/': all keys of this folder sort before it, and no other folder's.
            Some(text) if folder => self.last.extend([text, "0"]),
            _ => self.last.push_str(text),
        }
        ControlFlow::Continue(())
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn entry(&self, at: usize) -> (&str, u64) {
        let from = if at == 0 { 0 } else { self.entries[at - 1].0 as usize };
        let (to, size) = self.entries[at];
        (&self.text[from..to as usize], size)
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        (0..self.len()).map(|at| self.entry(at).0)
    }
}
