//! Messages of LDAP: what is asked, and what the directory answers. A core; the encoding is `yasna`'s.
//!
//! Source: RFC 4511, sections 4.1 (messages and results), 4.2 (bind), 4.5 (search), 4.12 and 4.14 (StartTLS), 5.1 (the
//! encoding: BER with definite lengths).
//!
//! An account is a value of an assertion in a filter, bytes with their length, and never part of a filter's text: it
//! needs no escapes (RFC 4515), and whatever an attacker calls a session, it is compared and not read.
//!
//! What a directory may add behind the known parts of an answer is not looked at (section 4).

use yasna::{ASN1Error, ASN1ErrorKind, ASN1Result, BERReader, DERWriter, Tag};
use zeroize::Zeroizing;

use super::entry::Asked;
use crate::limits;

/// `1.3.6.1.4.1.1466.20037`. Source: RFC 4511, section 4.14.1.
const START_TLS: &[u8] = b"1.3.6.1.4.1.1466.20037";
/// No attributes. Source: RFC 4511, section 4.5.1.8.
const NO_ATTRIBUTES: &str = "1.1";
/// Entries that are asked for: a second one says that the account is not the only one of its name.
const ENTRIES: i64 = 2;
const VERSION: i64 = 3;
/// `SEQUENCE`, what every message is.
const MESSAGE: u8 = 0x30;
/// Bytes of a directory's own words that are kept.
const SAID_BYTES: usize = 300;

const BIND: u64 = 0;
const BOUND: u64 = 1;
const UNBIND: u64 = 2;
const SEARCH: u64 = 3;
const ENTRY: u64 = 4;
const DONE: u64 = 5;
const REFERENCE: u64 = 19;
const EXTENDED: u64 = 23;
const EXTENDED_ANSWER: u64 = 24;

/// Says who is there: a name and a password, or nobody in particular.
pub fn bind(id: i64, who: Option<(&str, &str)>) -> Zeroizing<Vec<u8>> {
    let (name, password) = who.unwrap_or_default();
    // The password is the last thing in the message. Where that grows, copies of it stay behind: so there are only
    // zeros, and the password is put over them.
    let filler = vec![0; password.len()];
    let mut message = Zeroizing::new(request(id, BIND, |writer| {
        writer.write_sequence(|writer| {
            writer.next().write_i64(VERSION);
            writer.next().write_bytes(name.as_bytes());
            writer.next().write_tagged_implicit(Tag::context(0), |writer| writer.write_bytes(&filler));
        });
    }));
    let start = message.len() - password.len();
    message[start..].copy_from_slice(password.as_bytes());
    message
}

/// Asks for TLS on a plain connection.
pub fn start_tls(id: i64) -> Vec<u8> {
    request(id, EXTENDED, |writer| {
        writer.write_sequence(|writer| {
            writer.next().write_tagged_implicit(Tag::context(0), |writer| writer.write_bytes(START_TLS));
        });
    })
}

/// Says good-bye.
pub fn unbind(id: i64) -> Vec<u8> {
    request(id, UNBIND, |writer| writer.write_null())
}

/// What an account is looked up by.
#[derive(Debug, Clone, Copy)]
pub struct Search<'a> {
    /// Below which entry.
    pub base: &'a str,
    /// Attributes that hold short names.
    pub match_name: &'a [Box<str>],
    /// Attributes that hold names with their domain.
    pub match_address: &'a [Box<str>],
    /// Attributes that are wanted.
    pub attributes: &'a [Box<str>],
    /// How long the directory may search.
    pub seconds: u64,
}

impl Search<'_> {
    /// Asks for the entries of an account. `None`: there is no attribute to compare it with.
    pub fn account(&self, id: i64, asked: Asked<'_>) -> Option<Vec<u8>> {
        let by_name =
            asked.name.into_iter().flat_map(|name| self.match_name.iter().map(move |by| (by, name)));
        let by_address =
            asked.address.into_iter().flat_map(|name| self.match_address.iter().map(move |by| (by, name)));
        let terms: Vec<(&Box<str>, &str)> = by_name.chain(by_address).collect();
        let filter = |writer: DERWriter<'_>| {
            writer.write_tagged_implicit(Tag::context(1), |writer| {
                writer.write_set_of(|writer| {
                    for (attribute, value) in &terms {
                        writer.next().write_tagged_implicit(Tag::context(3), |writer| {
                            writer.write_sequence(|writer| {
                                writer.next().write_bytes(attribute.as_bytes());
                                writer.next().write_bytes(value.as_bytes());
                            });
                        });
                    }
                });
            });
        };
        let below = 2;
        (!terms.is_empty())
            .then(|| self.search(id, below, self.attributes.iter().map(|name| &**name), filter))
    }

    /// Asks whether the base is there.
    pub fn base(&self, id: i64) -> Vec<u8> {
        let filter = |writer: DERWriter<'_>| {
            writer.write_tagged_implicit(Tag::context(7), |writer| writer.write_bytes(b"objectClass"));
        };
        self.search(id, 0, [NO_ATTRIBUTES].into_iter(), filter)
    }

    fn search<'n>(
        &self,
        id: i64,
        scope: i64,
        attributes: impl Iterator<Item = &'n str>,
        filter: impl FnOnce(DERWriter<'_>),
    ) -> Vec<u8> {
        let never = 0; // aliases are not followed
        request(id, SEARCH, |writer| {
            writer.write_sequence(|writer| {
                writer.next().write_bytes(self.base.as_bytes());
                writer.next().write_enum(scope);
                writer.next().write_enum(never);
                writer.next().write_i64(ENTRIES);
                writer.next().write_u64(self.seconds);
                writer.next().write_bool(false); // values, too
                filter(writer.next());
                writer.next().write_sequence_of(|writer| {
                    attributes.for_each(|name| writer.next().write_bytes(name.as_bytes()));
                });
            });
        })
    }
}

fn request(id: i64, operation: u64, body: impl FnOnce(DERWriter<'_>)) -> Vec<u8> {
    yasna::construct_der(|writer| {
        writer.write_sequence(|writer| {
            writer.next().write_i64(id);
            writer.next().write_tagged_implicit(Tag::application(operation), body);
        });
    })
}

/// What is no message of LDAP, or a longer one than there should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed(pub &'static str);

/// Bytes of the whole message that begins so; `None`: more of it must be there to tell.
///
/// # Errors
/// It begins as no message does, or is longer than [`limits::DIRECTORY_MESSAGE_BYTES`].
pub fn len_of(head: &[u8]) -> Result<Option<usize>, Malformed> {
    let (first, rest) = match *head {
        [] => return Ok(None),
        [MESSAGE] => return Ok(None),
        [MESSAGE, first, ref rest @ ..] => (first, rest),
        _ => return Err(Malformed("it does not speak LDAP")),
    };
    let (before, len) = match first {
        ..=0x7f => (2, usize::from(first)),
        0x81..=0x84 => {
            let count = usize::from(first & 0x7f);
            let Some(bytes) = rest.get(..count) else { return Ok(None) };
            let len = bytes.iter().fold(0u32, |len, byte| len << 8 | u32::from(*byte));
            (2 + count, usize::try_from(len).unwrap_or(usize::MAX))
        }
        _ => return Err(Malformed("a message has a length that LDAP does not have")),
    };
    match before.checked_add(len).filter(|len| *len <= limits::DIRECTORY_MESSAGE_BYTES) {
        Some(len) => Ok(Some(len)),
        None => Err(Malformed("a message is longer than any answer should be")),
    }
}

/// How an operation ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// 0: well. Source: RFC 4511, appendix A.
    pub code: i64,
    /// The directory's own words, bounded, without control characters.
    pub said: String,
}

/// One message of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// To [`bind`].
    Bound(Outcome),
    /// To [`start_tls`]; without having been asked: the directory ends the connection.
    Extended(Outcome),
    /// An entry: for each wanted attribute its first value, if it has one that is text.
    Entry(Vec<Option<String>>),
    /// Another directory may know more.
    Reference,
    /// The end of a search.
    Done(Outcome),
}

/// Reads one whole message, and of entries the `wanted` attributes: the number of the request, and the answer.
///
/// # Errors
/// It is no answer.
pub fn read(message: &[u8], wanted: &[Box<str>]) -> Result<(i64, Answer), Malformed> {
    let mut found = None;
    // What stands behind the answer ends the reading with an error: then the answer is there all the same.
    let _ = yasna::parse_ber(message, |reader| {
        reader.read_sequence(|reader| {
            let id = reader.next().read_i64()?;
            found = Some((id, answer(reader.next(), wanted)?));
            Ok(())
        })
    });
    found.ok_or(Malformed("it sends what is no answer in LDAP"))
}

fn answer(reader: BERReader<'_, '_>, wanted: &[Box<str>]) -> ASN1Result<Answer> {
    let tag = reader.lookahead_tag()?;
    let of = |operation| tag == Tag::application(operation);
    let body = |reader: BERReader<'_, '_>| reader.read_tagged_implicit(tag, outcome);
    match () {
        () if of(ENTRY) => {
            Ok(Answer::Entry(reader.read_tagged_implicit(tag, |reader| entry(reader, wanted))?))
        }
        () if of(BOUND) => body(reader).map(Answer::Bound),
        () if of(DONE) => body(reader).map(Answer::Done),
        () if of(EXTENDED_ANSWER) => body(reader).map(Answer::Extended),
        () if of(REFERENCE) => Ok(Answer::Reference),
        () => Err(ASN1Error::new(ASN1ErrorKind::Invalid)),
    }
}

fn outcome(reader: BERReader<'_, '_>) -> ASN1Result<Outcome> {
    let mut found = None;
    let read = reader.read_sequence(|reader| {
        let code = reader.next().read_enum()?;
        reader.next().read_bytes()?; // the part of the name that was found
        let said = reader.next().read_bytes()?;
        found = Some(Outcome { code, said: words(&said) });
        Ok(())
    });
    match found {
        Some(outcome) => Ok(outcome),
        None => read.and(Err(ASN1Error::new(ASN1ErrorKind::Invalid))),
    }
}

fn entry(reader: BERReader<'_, '_>, wanted: &[Box<str>]) -> ASN1Result<Vec<Option<String>>> {
    let mut values = vec![None; wanted.len()];
    reader.read_sequence(|reader| {
        reader.next().read_bytes()?; // its name
        reader.next().read_sequence_of(|reader| {
            reader.read_sequence(|reader| {
                let name = reader.next().read_bytes()?;
                let place = wanted.iter().position(|wanted| name.eq_ignore_ascii_case(wanted.as_bytes()));
                let mut first = None;
                reader.next().read_set_of(|reader| {
                    let value = reader.read_bytes()?;
                    first.get_or_insert(value);
                    Ok(())
                })?;
                if let (Some(place), Some(value)) = (place, first) {
                    values[place] = String::from_utf8(value).ok();
                }
                Ok(())
            })
        })
    })?;
    Ok(values)
}

fn words(said: &[u8]) -> String {
    let text = String::from_utf8_lossy(&said[..said.len().min(SAID_BYTES)]);
    let clean = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    clean.collect::<String>().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn names(names: &[&str]) -> Vec<Box<str>> {
        names.iter().map(|&name| name.into()).collect()
    }

    /// The bytes of text in hexadecimal, with spaces.
    fn hex(text: &str) -> Vec<u8> {
        text.split_whitespace().map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect()
    }

    fn message(id: u8, tag: u8, body: &[u8]) -> Vec<u8> {
        let op = element(tag, body);
        element(0x30, &[&[2, 1, id][..], &op].concat())
    }

    /// With a length of four bytes, as Active Directory writes them.
    fn element(tag: u8, body: &[u8]) -> Vec<u8> {
        [&[tag, 0x84][..], &(body.len() as u32).to_be_bytes(), body].concat()
    }

    #[test]
    fn a_bind_is_as_the_rfc_has_it_and_ends_with_the_password() {
        let got = bind(1, Some(("cn=a", "pw")));
        assert_eq!(*got, hex("30 12 02 01 01 60 0d 02 01 03 04 04 63 6e 3d 61 80 02 70 77"));
        assert_eq!(*bind(1, None), hex("30 0c 02 01 01 60 07 02 01 03 04 00 80 00"));
        let long = "p".repeat(300);
        assert!(bind(1, Some(("cn=a", &long))).ends_with(long.as_bytes()));
    }

    #[test]
    fn tls_is_asked_for_by_its_name_and_a_good_bye_is_short() {
        let got = start_tls(2);
        assert!(got.starts_with(&hex("30 1d 02 01 02 77 18 80 16")) && got.ends_with(START_TLS));
        assert_eq!(unbind(3), hex("30 05 02 01 03 42 00"));
    }

    #[test]
    fn an_account_is_compared_and_never_read() {
        let (by_name, by_address) = (names(&["uid"]), names(&["mail"]));
        let search = Search {
            base: "dc=x",
            match_name: &by_name,
            match_address: &by_address,
            attributes: &by_address,
            seconds: 5,
        };
        let evil = "*)(uid=*";
        let got = search.account(7, Asked { name: Some(evil), address: None }).unwrap();
        let term = [&[0xa3, 15, 4, 3][..], b"uid", &[4, 8], evil.as_bytes()].concat();
        assert!(got.windows(term.len()).any(|part| part == term), "{got:x?}");
        let both = search.account(7, Asked { name: Some("j"), address: Some("j@x") }).unwrap();
        let terms = [
            &[0xa1, 23, 0xa3, 8, 4, 3][..],
            b"uid",
            &[4, 1],
            b"j",
            &[0xa3, 11, 4, 4],
            b"mail",
            &[4, 3],
            b"j@x",
        ];
        let terms = terms.concat();
        assert!(both.windows(terms.len()).any(|part| part == terms), "{both:x?}");
        let nothing = Search { match_address: &[], ..search };
        assert_eq!(nothing.account(7, Asked { name: None, address: Some("j@x") }), None);
    }

    #[test]
    fn lengths_are_known_early_and_bounded() {
        for (head, len) in [
            ("", Ok(None)),
            ("30", Ok(None)),
            ("30 0c", Ok(Some(14))),
            ("30 82 01", Ok(None)),
            ("30 82 01 00 02", Ok(Some(260))),
            ("30 84 00 00 00 10", Ok(Some(22))),
        ] {
            assert_eq!(len_of(&hex(head)), len, "{head}");
        }
        for bad in ["48 54", "30 80", "30 85 00 00 00 00 01", "30 84 ff ff ff ff", "30 83 01 00 00"] {
            assert!(len_of(&hex(bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_entry_gives_the_first_value_of_what_is_wanted() {
        let attribute = |name: &str, values: &[&[u8]]| {
            let values: Vec<u8> = values.iter().flat_map(|value| element(4, value)).collect();
            element(0x30, &[element(4, name.as_bytes()), element(0x31, &values)].concat())
        };
        let attributes = [
            attribute("SAMACCOUNTNAME", &[b"jsmith"]),
            attribute("cn", &[b"John"]),
            attribute("mail", &[b"one@x", b"two@x"]),
            attribute("photo", &[&[0xff]]),
            attribute("none", &[]),
        ]
        .concat();
        let body = [element(4, b"cn=John,dc=x"), element(0x30, &attributes)].concat();
        let wanted = names(&["sAMAccountName", "mail", "photo", "none", "sn"]);
        let got = read(&message(9, 0x64, &body), &wanted).unwrap();
        let text = |text: &str| Some(text.to_owned());
        assert_eq!(got, (9, Answer::Entry(vec![text("jsmith"), text("one@x"), None, None, None])));
    }

    #[test]
    fn an_outcome_is_read_whatever_stands_behind_it() {
        // 49, "", "80090308: LdapErr…\0", a referral of no use, and a control
        let mut body = hex("0a 01 31 04 00");
        body.extend(element(4, b"80090308: data 52e, v4563\0"));
        let want = Outcome { code: 49, said: "80090308: data 52e, v4563".to_owned() };
        assert_eq!(read(&message(1, 0x61, &body), &[]), Ok((1, Answer::Bound(want.clone()))));
        body.extend(element(0xa3, &element(4, b"ldap://elsewhere")));
        assert_eq!(read(&message(1, 0x65, &body), &[]), Ok((1, Answer::Done(want))));
        let with_control = element(0x30, &[hex("02 01 01 65 07 0a 01 00 04 00 04 00 a0 02 30 00")].concat());
        let well = Outcome { code: 0, said: String::new() };
        assert_eq!(read(&with_control, &[]), Ok((1, Answer::Done(well))));
        let reference = message(1, 0x73, &element(4, b"ldap://elsewhere/"));
        assert_eq!(read(&reference, &[]), Ok((1, Answer::Reference)));
    }

    #[test]
    fn what_is_no_answer_is_said_to_be_none() {
        let deep = (0..2000).fold(Vec::new(), |inner, _| element(0x24, &inner));
        for bytes in
            [vec![], hex("30 00"), hex("30 03 02 01 01"), message(1, 0x60, &[]), message(1, 0x64, &deep)]
        {
            assert!(read(&bytes, &names(&["mail"])).is_err(), "{bytes:x?}");
        }
    }

    proptest! {
        #[test]
        fn whatever_a_stranger_sends_is_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = (len_of(&bytes), read(&bytes, &names(&["mail"])));
        }
    }
}
