//! The name of a certificate's issuer, for the sentence that says whom this machine does not trust. A core.
//!
//! Reads as much of X.509 as stands before that name, out of bytes that a stranger sent: everything else of a
//! certificate is left to webpki. Source: RFC 5280, section 4.1; X.690 for the lengths.

const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const OID: u8 = 0x06;
const INTEGER: u8 = 0x02;
/// `[0] EXPLICIT Version`
const VERSION: u8 = 0xa0;
const BMP_STRING: u8 = 0x1e;
const COMMON_NAME: &[u8] = &[0x55, 4, 3];
const ORGANISATION: &[u8] = &[0x55, 4, 10];
/// Characters of a name that are shown.
const SHOWN: usize = 64;

/// Common name and organisation of the issuer of a DER certificate, e.g. `"Proxy CA" (Acme Ltd)`.
pub(super) fn issuer(certificate: &[u8]) -> Option<String> {
    let mut certificate = Der(Der(certificate).take(SEQUENCE)?);
    let mut body = Der(certificate.take(SEQUENCE)?);
    let (mut tag, _) = body.next()?;
    if tag == VERSION {
        (tag, _) = body.next()?;
    }
    (tag == INTEGER).then_some(())?; // the serial number
    body.take(SEQUENCE)?; // the algorithm
    let mut name = Der(body.take(SEQUENCE)?);
    let (mut common_name, mut organisation) = (None, None);
    while let Some(set) = name.take(SET) {
        let mut attribute = Der(Der(set).take(SEQUENCE)?);
        let kind = attribute.take(OID)?;
        let (tag, value) = attribute.next()?;
        match kind {
            COMMON_NAME => common_name = Some(text(tag, value)),
            ORGANISATION => organisation = Some(text(tag, value)),
            _ => {}
        }
    }
    match (common_name, organisation) {
        (Some(name), Some(organisation)) => Some(format!("{name:?} ({organisation})")),
        (Some(name), None) | (None, Some(name)) => Some(format!("{name:?}")),
        (None, None) => None,
    }
}

fn text(tag: u8, value: &[u8]) -> String {
    let text = match tag {
        BMP_STRING => {
            let units = value.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]]));
            char::decode_utf16(units).map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER)).take(SHOWN).collect()
        }
        _ => String::from_utf8_lossy(&value[..value.len().min(4 * SHOWN)]).into_owned(),
    };
    text.chars().filter(|c| !c.is_control()).take(SHOWN).collect()
}

/// Elements one after the other.
struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    fn next(&mut self) -> Option<(u8, &'a [u8])> {
        let (&[tag, first], mut rest) = self.0.split_first_chunk()?;
        let len = match first {
            0..=0x7f => usize::from(first),
            0x81..=0x84 => {
                let (bytes, after) = rest.split_at_checked(usize::from(first & 0x7f))?;
                rest = after;
                bytes.iter().fold(0, |len: usize, byte| len << 8 | usize::from(*byte))
            }
            _ => return None,
        };
        let (value, rest) = rest.split_at_checked(len)?;
        self.0 = rest;
        Some((tag, value))
    }

    fn take(&mut self, tag: u8) -> Option<&'a [u8]> {
        self.next().filter(|(found, _)| *found == tag).map(|(_, value)| value)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject;

    use super::*;

    fn server() -> CertificateDer<'static> {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/interop/tls/server.pem");
        CertificateDer::from_pem_file(path).unwrap()
    }

    fn element(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
        let value = parts.concat();
        let len = u16::try_from(value.len()).unwrap().to_be_bytes();
        [&[tag, 0x82][..], &len, &value].concat()
    }

    fn attribute(kind: &[u8], tag: u8, value: &[u8]) -> Vec<u8> {
        element(SET, &[&element(SEQUENCE, &[&element(OID, &[kind]), &element(tag, &[value])])])
    }

    fn certificate(name: &[&[u8]]) -> Vec<u8> {
        let body = element(
            SEQUENCE,
            &[&element(INTEGER, &[&[1]]), &element(SEQUENCE, &[]), &element(SEQUENCE, name)],
        );
        element(SEQUENCE, &[&body])
    }

    #[test]
    fn a_real_certificate_names_its_issuer() {
        assert_eq!(issuer(&server()).as_deref(), Some("\"trailspool test CA\""));
    }

    #[test]
    fn names_come_in_several_alphabets_and_are_cleaned() {
        let organisation = attribute(ORGANISATION, 0x0c, "Äcme\x1b[2J Ltd".as_bytes());
        let wide: Vec<u8> = "Proxy ΩA".encode_utf16().flat_map(u16::to_be_bytes).collect();
        let common_name = attribute(COMMON_NAME, BMP_STRING, &wide);
        let both = certificate(&[&attribute(&[0x55, 4, 6], 0x13, b"DE"), &organisation, &common_name]);
        assert_eq!(issuer(&both).as_deref(), Some("\"Proxy ΩA\" (Äcme[2J Ltd)"));
        assert_eq!(issuer(&certificate(&[&organisation])).as_deref(), Some("\"Äcme[2J Ltd\""));
        assert_eq!(issuer(&certificate(&[])), None);
        let long = issuer(&certificate(&[&attribute(COMMON_NAME, 0x0c, &[b'x'; 5000])])).unwrap();
        assert_eq!(long.len(), SHOWN + 2);
    }

    proptest! {
        #[test]
        fn whatever_a_stranger_sends_is_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = issuer(&bytes);
        }

        #[test]
        fn a_damaged_certificate_is_read_without_panic(at in 0usize..200, byte: u8, cut in 0usize..600) {
            let mut bytes = server().to_vec();
            bytes[at] = byte;
            bytes.truncate(cut);
            let _ = issuer(&bytes);
        }
    }
}
