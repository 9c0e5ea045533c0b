//! From a key to its bytes: signed GETs that go on where they broke off, and the hand-over of what they
//! bring to the thread that decodes.

pub mod body;
pub mod get;

pub use body::{BodyReader, FetchFailed, Slot};
pub use get::fetch;
