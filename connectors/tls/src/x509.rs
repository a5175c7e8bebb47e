//! Reads the fields of an X.509 certificate that rustls does not expose: validity, public key,
//! names, usages.
//!
//! It accepts well-formed certificates and skips unknown fields. It verifies nothing: rustls checks
//! the signatures. [`super::client_verifier`], [`super::server_verifier`] and [`super::signature`]
//! use it.

use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::sign::CertifiedKey;
use std::net::{Ipv4Addr, Ipv6Addr};

const SEQUENCE: u8 = 0x30;
const OCTET_STRING: u8 = 0x04;
const BIT_STRING: u8 = 0x03;
const BOOLEAN: u8 = 0x01;
const OBJECT: u8 = 0x06;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
/// Context tags of a certificate: its version, and its extensions.
const VERSION: u8 = 0xa0;
const EXTENSIONS: u8 = 0xa3;
/// Kinds of alternative names.
const EMAIL: u8 = 0x81;
const DNS: u8 = 0x82;
const URI: u8 = 0x86;
const ADDRESS: u8 = 0x87;
/// Object identifiers, encoded: subjectAltName, extKeyUsage, and of its values: any, serverAuth,
/// clientAuth.
const ALTERNATIVE_NAMES: &[u8] = &[0x55, 0x1d, 0x11];
const EXTENDED_USAGE: &[u8] = &[0x55, 0x1d, 0x25];
const ANY_USAGE: &[u8] = &[0x55, 0x1d, 0x25, 0x00];
const SERVER_USAGE: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 1];
const CLIENT_USAGE: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 2];

/// What a certificate is used for.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Usage {
    Server,
    Client,
}

/// Fields of a certificate.
#[derive(Debug)]
pub(crate) struct X509<'a> {
    /// Valid from and to, seconds since 1970.
    not_before: i64,
    not_after: i64,
    /// The algorithm of the public key, without its tag and length.
    pub(crate) key_algorithm: &'a [u8],
    /// The public key.
    pub(crate) key: &'a [u8],
    usages: Option<Vec<&'a [u8]>>,
    /// The alternative names, as Go prints them.
    pub(crate) names: Vec<String>,
    /// The subject, without its tag and length.
    subject: &'a [u8],
}

/// A tag, its content, and both with the length between them.
struct Element<'a> {
    tag: u8,
    content: &'a [u8],
}

/// Reads elements one after the other.
struct Elements<'a>(&'a [u8]);

impl<'a> Iterator for Elements<'a> {
    type Item = Element<'a>;

    fn next(&mut self) -> Option<Element<'a>> {
        let (&tag, rest) = self.0.split_first()?;
        let (&short, mut rest) = rest.split_first()?;
        let mut length = usize::from(short);
        if short >= 0x80 {
            let digits = usize::from(short & 0x7f);
            // A certificate is far below 16 MiB.
            if digits == 0 || digits > 3 || rest.len() < digits {
                return None;
            }
            let (bytes, after) = rest.split_at(digits);
            length = bytes.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte));
            rest = after;
        }
        if rest.len() < length {
            return None;
        }
        let (content, after) = rest.split_at(length);
        self.0 = after;
        Some(Element { tag, content })
    }
}

impl<'a> Elements<'a> {
    /// The content of the next element, which must have this tag.
    fn expect(&mut self, tag: u8) -> Option<&'a [u8]> {
        self.next().filter(|element| element.tag == tag).map(|element| element.content)
    }
}

impl<'a> X509<'a> {
    /// Reads a certificate; `None` if it is not one.
    pub(crate) fn read(der: &'a CertificateDer<'_>) -> Option<X509<'a>> {
        let whole = Elements(der.as_ref()).expect(SEQUENCE)?;
        let signed = Elements(whole).expect(SEQUENCE)?;
        let mut fields = Elements(signed);
        if fields.0.first() == Some(&VERSION) {
            fields.next()?;
        }
        // The serial number, the algorithm of the signature, and the issuer.
        fields.next()?;
        fields.expect(SEQUENCE)?;
        fields.expect(SEQUENCE)?;
        let mut validity = Elements(fields.expect(SEQUENCE)?);
        let not_before = seconds(&validity.next()?)?;
        let not_after = seconds(&validity.next()?)?;
        let subject = fields.expect(SEQUENCE)?;
        let mut public_key = Elements(fields.expect(SEQUENCE)?);
        let key_algorithm = public_key.expect(SEQUENCE)?;
        // The first byte says how many bits of the last one are unused: none.
        let key = public_key.expect(BIT_STRING)?.strip_prefix(&[0])?;
        let mut read =
            X509 { not_before, not_after, key_algorithm, key, usages: None, names: Vec::new(), subject };
        if let Some(extensions) = fields.find(|element| element.tag == EXTENSIONS) {
            read.extensions(extensions.content);
        }
        Some(read)
    }

    fn extensions(&mut self, content: &'a [u8]) {
        let Some(list) = Elements(content).expect(SEQUENCE) else { return };
        for extension in Elements(list) {
            let mut parts = Elements(extension.content);
            let Some(object) = parts.expect(OBJECT) else { continue };
            let mut value = parts.next();
            if value.as_ref().is_some_and(|value| value.tag == BOOLEAN) {
                value = parts.next();
            }
            let Some(value) = value.filter(|value| value.tag == OCTET_STRING) else { continue };
            let Some(inner) = Elements(value.content).expect(SEQUENCE) else { continue };
            if object == ALTERNATIVE_NAMES {
                self.names = Elements(inner).filter_map(|name| printed_name(&name)).collect();
            } else if object == EXTENDED_USAGE {
                self.usages = Some(Elements(inner).map(|usage| usage.content).collect());
            }
        }
    }

    /// Whether the certificate is valid at this time.
    pub(crate) fn is_valid_at(&self, now: UnixTime) -> bool {
        let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        (self.not_before..=self.not_after).contains(&now)
    }

    /// Whether the certificate may be used for this. One that names no usage may.
    pub(crate) fn allows(&self, usage: Usage) -> bool {
        let wanted = match usage {
            Usage::Server => SERVER_USAGE,
            Usage::Client => CLIENT_USAGE,
        };
        self.usages.as_ref().is_none_or(|all| all.iter().any(|one| *one == wanted || *one == ANY_USAGE))
    }
}

/// The texts in the subject of a certificate, whatever they name, in its order; none if it is not a
/// certificate.
pub fn subject_values(der: &CertificateDer<'_>) -> Vec<String> {
    let Some(read) = X509::read(der) else { return Vec::new() };
    let attributes = Elements(read.subject).flat_map(|set| Elements(set.content));
    let value = |attribute: Element<'_>| {
        // The first part says what it names.
        let value = Elements(attribute.content).nth(1)?;
        String::from_utf8(value.content.to_vec()).ok()
    };
    attributes.filter_map(value).collect()
}

/// Whether the key of the pair is that of its certificate, which rustls could not read.
pub(crate) fn has_key_of(pair: &CertifiedKey) -> bool {
    let Some(certificate) = pair.cert.first() else { return false };
    let Some(read) = X509::read(certificate) else { return false };
    let Some(public) = pair.key.public_key() else { return false };
    public.as_ref().ends_with(read.key) && certificate_version_is_1(certificate)
}

/// Whether the certificate names no version, which means 1.
fn certificate_version_is_1(der: &CertificateDer<'_>) -> bool {
    let signed = Elements(der.as_ref()).expect(SEQUENCE).and_then(|whole| Elements(whole).expect(SEQUENCE));
    signed.is_some_and(|signed| signed.first() != Some(&VERSION))
}

fn printed_name(name: &Element<'_>) -> Option<String> {
    match name.tag {
        EMAIL | DNS | URI => std::str::from_utf8(name.content).ok().map(str::to_owned),
        ADDRESS => {
            let four = <[u8; 4]>::try_from(name.content).map(|bytes| Ipv4Addr::from(bytes).to_string());
            let six = || <[u8; 16]>::try_from(name.content).map(|bytes| Ipv6Addr::from(bytes).to_string());
            four.or_else(|_| six()).ok()
        }
        _ => None,
    }
}

/// A time of a certificate in seconds since 1970. Both forms end with `Z`; the shorter one has two
/// digits for the years 1950 to 2049.
fn seconds(time: &Element<'_>) -> Option<i64> {
    let text = std::str::from_utf8(time.content).ok()?.strip_suffix('Z')?;
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let (year, rest) = match time.tag {
        UTC_TIME if text.len() == 12 => {
            let short: i64 = text[..2].parse().ok()?;
            (if short < 50 { 2000 + short } else { 1900 + short }, &text[2..])
        }
        GENERALIZED_TIME if text.len() == 14 => (text[..4].parse().ok()?, &text[4..]),
        _ => return None,
    };
    let number = |at: usize| rest[at..at + 2].parse::<i64>().ok();
    let days = days_since_1970(year, number(0)?, number(2)?);
    Some(((days * 24 + number(4)?) * 60 + number(6)?) * 60 + number(8)?)
}

/// The number of days from 1970-01-01 to a date of the Gregorian calendar. Years are counted from
/// March, so that the leap day is the last one.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read() {
        let read = |tag, text: &str| seconds(&Element { tag, content: text.as_bytes() });
        assert_eq!(read(UTC_TIME, "700101000000Z"), Some(0));
        assert_eq!(read(UTC_TIME, "000229235959Z"), Some(951_868_799));
        assert_eq!(read(UTC_TIME, "491231235959Z"), Some(2_524_607_999));
        assert_eq!(read(GENERALIZED_TIME, "20720625091507Z"), Some(3_234_071_707));
        assert_eq!(read(GENERALIZED_TIME, "720625091507Z"), None);
        assert_eq!(read(UTC_TIME, "7001010000Z"), None);
        assert_eq!(read(UTC_TIME, "70010100000aZ"), None);
    }

    #[test]
    fn the_subject_is_read() {
        let pem = include_bytes!("../../tests/data/discovery/oci-instance.pem");
        let certificate = crate::pem::certificates(pem).unwrap().remove(0);
        let values = subject_values(&certificate);
        assert_eq!(values.len(), 5);
        assert_eq!(values[..2], ["ocid1.instance.oc1..i", "opc-certtype:instance"]);
        assert!(subject_values(&CertificateDer::from(&b"no"[..])).is_empty());
    }

    #[test]
    fn what_is_cut_is_no_certificate() {
        for bytes in [&[][..], &[0x30], &[0x30, 0x84, 0xff], &[0x30, 0x82, 0xff, 0xff, 0], &[0x30, 0x80]] {
            assert!(X509::read(&CertificateDer::from(bytes)).is_none(), "{bytes:?}");
        }
    }
}
