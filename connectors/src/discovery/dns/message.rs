//! The DNS wire format (RFC 1035, 2782, 3596, 6891): encodes questions and decodes answers, as far
//! as lookups need them. [`super::resolver`] sends them.

use super::resolver::LookupError;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The numbers of the record types.
pub(super) const A: u16 = 1;
pub(super) const NS: u16 = 2;
const CNAME: u16 = 5;
pub(super) const MX: u16 = 15;
pub(super) const AAAA: u16 = 28;
pub(super) const SRV: u16 = 33;
const OPT: u16 = 41;

/// The class of internet records.
const INTERNET: u16 = 1;

/// The flag of a recursive query, and those of an answer.
const RECURSION_DESIRED: u16 = 0x0100;
const IS_ANSWER: u16 = 0x8000;
const IS_TRUNCATED: u16 = 0x0200;

/// The result codes: no error, and no such name.
pub(super) const NO_ERROR: u8 = 0;
pub(super) const NO_SUCH_NAME: u8 = 3;

/// Bytes of the longest name in the wire format.
const NAME_BYTES: usize = 255;

/// Bytes of an answer over UDP that a question offers to take.
pub(super) const UDP_BYTES: u16 = 4096;

/// A record of an answer.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Record {
    /// A or AAAA.
    Address(IpAddr),
    /// SRV.
    Server(Server),
    /// MX: the host, which ends with a dot.
    MailServer(String),
    /// NS: the host, which ends with a dot.
    NameServer(String),
}

/// The target of an SRV record.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Server {
    /// The host, which ends with a dot.
    pub(super) host: String,
    /// The port.
    pub(super) port: u16,
}

/// What a DNS server answered to one question.
#[derive(Debug, PartialEq)]
pub(super) struct Answer {
    /// The result code.
    pub(super) code: u8,
    /// Whether records are missing, because the answer would be too large.
    pub(super) truncated: bool,
    /// The records of the types above.
    pub(super) records: Vec<Record>,
}

/// A question for the records of `name`; `extended` adds that larger answers are taken (EDNS).
pub(super) fn question(
    id: u16,
    name: &str,
    record_type: u16,
    extended: bool,
) -> Result<Vec<u8>, LookupError> {
    let not_a_name = || LookupError::NotAName(name.to_owned());
    let mut out = Vec::with_capacity(64);
    for word in [id, RECURSION_DESIRED, 1, 0, 0, u16::from(extended)] {
        out.extend_from_slice(&word.to_be_bytes());
    }
    let start = out.len();
    for label in name.trim_end_matches('.').split('.').filter(|_| name != ".") {
        // Longer labels would be read as references to other places of the message.
        let length = u8::try_from(label.len()).ok().filter(|n| (1..64).contains(n));
        out.push(length.ok_or_else(not_a_name)?);
        out.extend_from_slice(label.as_bytes());
    }
    out.push(0);
    if out.len() - start > NAME_BYTES {
        return Err(not_a_name());
    }
    out.extend_from_slice(&record_type.to_be_bytes());
    out.extend_from_slice(&INTERNET.to_be_bytes());
    if extended {
        // The root's name, then the size in place of a class, no flags, no options.
        out.push(0);
        for word in [OPT, UDP_BYTES, 0, 0, 0] {
            out.extend_from_slice(&word.to_be_bytes());
        }
    }
    Ok(out)
}

/// Reads the answer to the question `id`. `None`: not an answer to it, or damaged.
pub(super) fn answer(id: u16, bytes: &[u8]) -> Option<Answer> {
    let mut reader = Reader { bytes, at: 0 };
    let its_id = reader.u16()?;
    let flags = reader.u16()?;
    if its_id != id || flags & IS_ANSWER == 0 {
        return None;
    }
    let questions = reader.u16()?;
    let count = reader.u16()?;
    // The counts of the two sections that no target is made of.
    reader.take(4)?;
    let truncated = flags & IS_TRUNCATED != 0;
    let code = (flags & 15) as u8;
    for _ in 0..questions {
        // The question is repeated; only its length matters.
        reader.name()?;
        reader.take(4)?;
    }
    let mut records = Vec::new();
    // An answer that was cut may end anywhere, and is asked for again anyway.
    for _ in 0..if truncated { 0 } else { count } {
        records.extend(reader.record()?);
    }
    Some(Answer { code, truncated, records })
}

/// Reads a message; names refer to earlier places of it.
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let taken = self.bytes.get(self.at..self.at.checked_add(n)?)?;
        self.at += n;
        Some(taken)
    }

    fn u16(&mut self) -> Option<u16> {
        self.take(2).map(|b| u16::from_be_bytes([b[0], b[1]]))
    }

    /// A record; `Some(None)` for one of another type.
    #[expect(clippy::option_option, reason = "the outer one is damage, the inner one another type")]
    fn record(&mut self) -> Option<Option<Record>> {
        self.name()?;
        let record_type = self.u16()?;
        self.take(6)?;
        let length = usize::from(self.u16()?);
        // The end that the record says itself counts, so that a type that is not known is skipped
        // as a whole.
        let end = self.at.checked_add(length).filter(|end| *end <= self.bytes.len())?;
        let record = match record_type {
            A => Some(Record::Address(IpAddr::V4(Ipv4Addr::from(<[u8; 4]>::try_from(self.take(4)?).ok()?)))),
            AAAA => {
                Some(Record::Address(IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(self.take(16)?).ok()?))))
            }
            SRV => {
                // Priority and weight mean nothing to a list of targets.
                self.take(4)?;
                let port = self.u16()?;
                Some(Record::Server(Server { host: self.name()?, port }))
            }
            MX => {
                self.take(2)?;
                Some(Record::MailServer(self.name()?))
            }
            NS => Some(Record::NameServer(self.name()?)),
            // The server has followed it, and what it leads to is in the same answer.
            CNAME => None,
            other => {
                tracing::warn!(
                    target: "discovery", record_type = other,
                    "ignored a record of a DNS answer, whose type makes no target"
                );
                None
            }
        };
        self.at = end;
        Some(record)
    }

    /// A name, with a dot at its end. It may go on at an earlier place, so its length is limited.
    fn name(&mut self) -> Option<String> {
        let mut name = String::new();
        let mut length = 0;
        let mut after = None;
        loop {
            let first = self.take(1)?[0];
            match first >> 6 {
                0 if first == 0 => break,
                0 => {
                    let label = self.take(usize::from(first))?;
                    length += label.len() + 1;
                    push_label(&mut name, label);
                }
                3 => {
                    let place = usize::from(first & 63) << 8 | usize::from(self.take(1)?[0]);
                    // The message goes on after the first reference; those inside it are elsewhere.
                    after = after.or(Some(self.at));
                    // Counts against the length, so that references in a circle end.
                    length += 1;
                    self.at = place;
                }
                _ => return None,
            }
            if length > NAME_BYTES {
                return None;
            }
        }
        self.at = after.unwrap_or(self.at);
        if name.is_empty() {
            name.push('.');
        }
        Some(name)
    }
}

/// Appends a label in the form of zone files, where some characters have a backslash before them.
fn push_label(name: &mut String, label: &[u8]) {
    for byte in label {
        match byte {
            b'.' | b' ' | b'\'' | b'@' | b';' | b'(' | b')' | b'"' | b'\\' => {
                name.push('\\');
                name.push(char::from(*byte));
            }
            b'!'..=b'~' => name.push(char::from(*byte)),
            _ => name.push_str(&format!("\\{byte:03}")),
        }
    }
    name.push('.');
}
