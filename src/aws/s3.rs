//! S3 of one source: ListObjectsV2 and GetObject.

use std::ops::ControlFlow;

use super::fault::Fault;
use crate::{config, net};

/// One bucket, as one source reaches it. A clone shares connections and the learnt clock offset.
#[derive(Debug, Clone)]
pub struct S3 {}

/// What to list.
#[derive(Debug, Clone, Copy, Default)]
pub struct ListRequest<'a> {
    /// Only keys that begin so. Raw, not URL-encoded, as everywhere.
    pub prefix: &'a str,
    /// Group by `/` after the prefix.
    pub delimiter: bool,
    /// Only keys after this one.
    pub start_after: Option<&'a str>,
    /// Where the page before ended.
    pub continuation: Option<&'a str>,
    /// Entries on the page; `None`: the server's 1,000.
    pub max_keys: Option<u16>,
}

/// One entry of a listing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listed<'a> {
    /// An object.
    Key {
        /// At most [`crate::limits::KEY_BYTES`] bytes.
        key: &'a str,
        /// Bytes.
        size: u64,
    },
    /// A common prefix, up to and with the `/`.
    Prefix(&'a str),
    /// An entry that cannot be used, and why. To be counted and reported.
    Bad(&'static str),
}

/// How a page ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListEnd {
    /// Nothing comes after it.
    Complete,
    /// The next page begins here.
    More {
        /// For [`ListRequest::continuation`].
        continuation: Box<str>,
    },
    /// The callback stopped it.
    Stopped,
}

/// An object on its way.
#[derive(Debug)]
pub struct GetBody {
    /// Length of the whole object in bytes, where the server said it.
    pub len: Option<u64>,
    /// For resuming; without one a broken body cannot be resumed.
    pub etag: Option<Box<str>>,
    /// The bytes, from the offset asked for.
    pub body: net::Body,
}

impl S3 {
    /// The bucket of a source, reached over `client` (made with the source's `ca_file`).
    pub fn new(source: &config::Source, client: net::Client) -> S3 {
        let _ = (source, client);
        todo!()
    }

    /// One page of a listing. `visit` is called for each entry as it comes.
    ///
    /// # Errors
    /// Entries visited before a fault are right, but the page is not whole.
    pub async fn list(
        &self,
        request: &ListRequest<'_>,
        visit: &mut (dyn FnMut(Listed<'_>) -> ControlFlow<()> + Send),
    ) -> Result<ListEnd, Fault> {
        let _ = (request, visit);
        todo!()
    }

    /// Begins to read an object; `resume`: from this byte, if its ETag is still this one.
    ///
    /// # Errors
    /// [`super::Class::Restart`] when a resumed object is another one now.
    pub async fn get(&self, key: &str, resume: Option<(u64, &str)>) -> Result<GetBody, Fault> {
        let _ = (key, resume);
        todo!()
    }
}
