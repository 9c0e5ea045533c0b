//! What was noted of a record's members, against what a look at its bytes finds.

use super::Record;
use super::field::{self, Field};

/// Panics unless the record's members are those that its bytes have.
pub fn check(record: Record<'_>) {
    let mut sought = field::members(record.bytes);
    for member in record.members() {
        match sought.next() {
            // A literal that is none: the search ends there.
            Some((b"", Field::Unreadable)) => return assert_eq!(member.value(), Field::Unreadable),
            found => {
                assert_eq!(found, Some((member.key, member.value())));
                assert_eq!(member.key_has_escapes, member.key.contains(&b'\\'));
            }
        }
    }
    assert_eq!(sought.next(), None);
}
