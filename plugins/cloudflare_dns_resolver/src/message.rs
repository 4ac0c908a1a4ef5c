//! DNS messages (RFC 1035 §4), as far as queries for addresses need them: bytes in, values out.
//!
//! Responses are untrusted: everything is checked, nothing is repaired, and loops of compression pointers end, because
//! a pointer may only lead backwards.

use crate::config::Family;
use std::fmt;
use std::net::IpAddr;

const TYPE_A: u16 = 1;
const TYPE_CNAME: u16 = 5;
const TYPE_SOA: u16 = 6;
const TYPE_AAAA: u16 = 28;
const CLASS_IN: u16 = 1;
const HEADER_LEN: usize = 12;
const FLAG_RESPONSE: u16 = 0x8000;
const FLAG_TRUNCATED: u16 = 0x0200;
const FLAG_RECURSION_DESIRED: u16 = 0x0100;
const RCODE: u16 = 0x000f;
const NAME_ERROR: u16 = 3;
/// The maximum length of a name on the wire, in bytes (RFC 1035 §2.3.4).
const MAX_NAME_LEN: usize = 255;
const MAX_LABEL_LEN: usize = 63;
/// The maximum number of pointers in a name: its maximum number of labels, so that chains of them cost little.
const MAX_POINTERS: usize = 127;
/// The maximum length of a chain of aliases; real zones need fewer.
const MAX_ALIASES: usize = 16;

/// The content of a response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum DnsAnswer {
    /// Addresses, with their time to live in seconds.
    Addresses(Vec<IpAddr>, u32),
    /// No address of this family, or no such name; with the time to live in seconds if the response has one (RFC 2308).
    Nothing(Option<u32>),
}

/// Why a message is not a valid response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MessageError {
    /// It is truncated.
    CutOff,
    /// A name is too long, points forwards, or has a label of an unknown kind.
    BadName,
    /// The data of a record does not fit its type.
    BadRecord,
    /// It is not a response, is truncated, or answers another query.
    NotAnAnswer,
    /// The resolver failed, with this response code.
    Refused(u8),
    /// The aliases form a loop or too long a chain.
    TooManyAliases,
}

impl DnsAnswer {
    /// The same after `seconds` in a cache.
    pub(crate) fn aged(self, seconds: u32) -> Self {
        match self {
            Self::Addresses(addresses, ttl) => {
                Self::Addresses(addresses, ttl.saturating_sub(seconds))
            }
            Self::Nothing(ttl) => Self::Nothing(ttl.map(|ttl| ttl.saturating_sub(seconds))),
        }
    }
}

impl fmt::Display for MessageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::CutOff => "the message is truncated",
            Self::BadName => "the message contains an invalid name",
            Self::BadRecord => "the message contains a record with data of another type",
            Self::NotAnAnswer => "the message does not answer the question",
            Self::TooManyAliases => "it contains only aliases",
            Self::Refused(code) => return write!(f, "it reports the error code {code}"),
        })
    }
}

impl std::error::Error for MessageError {}

impl Family {
    fn record_type(self) -> u16 {
        match self {
            Self::Ipv4 => TYPE_A,
            Self::Ipv6 => TYPE_AAAA,
        }
    }
}

/// A query for the addresses of `host`; none if DNS cannot express that name. The id is 0, so that equal queries are
/// equal bytes (RFC 8484 §4.1).
pub(crate) fn query(host: &str, family: Family) -> Option<Vec<u8>> {
    let mut message = vec![0; HEADER_LEN];
    message[2..4].copy_from_slice(&FLAG_RECURSION_DESIRED.to_be_bytes());
    message[5] = 1;
    message.extend(wire_name(host)?);
    message.extend(family.record_type().to_be_bytes());
    message.extend(CLASS_IN.to_be_bytes());
    Some(message)
}

/// A name as length-prefixed labels in lower case, in which names are compared here.
fn wire_name(host: &str) -> Option<Vec<u8>> {
    let host = host.strip_suffix('.').unwrap_or(host);
    let mut name = Vec::with_capacity(host.len() + 2);
    for label in host.split('.') {
        let len = u8::try_from(label.len()).ok()?;
        if label.is_empty() || label.len() > MAX_LABEL_LEN {
            return None;
        }
        name.push(len);
        name.extend(label.bytes().map(|byte| byte.to_ascii_lowercase()));
    }
    name.push(0);
    (name.len() <= MAX_NAME_LEN).then_some(name)
}

/// Parses the response to a query for the addresses of `host`.
///
/// # Errors
/// It is not a valid response to that query.
pub(crate) fn read(response: &[u8], host: &str, family: Family) -> Result<DnsAnswer, MessageError> {
    let mut reader = MessageReader {
        message: response,
        at: 0,
    };
    let name = wire_name(host).ok_or(MessageError::BadName)?;
    let header = DnsHeader::read(&mut reader)?;
    if reader.name()? != name || reader.u16()? != family.record_type() || reader.u16()? != CLASS_IN
    {
        return Err(MessageError::NotAnAnswer);
    }
    let answers = reader.records(header.answers)?;
    let authorities = reader.records(header.authorities)?;
    let followed = follow(name, &answers)?;
    Ok(match followed.addresses.is_empty() {
        false => DnsAnswer::Addresses(followed.addresses, followed.ttl),
        true => DnsAnswer::Nothing(negative_ttl(&authorities)),
    })
}

struct DnsHeader {
    answers: u16,
    authorities: u16,
}

impl DnsHeader {
    fn read(reader: &mut MessageReader<'_>) -> Result<Self, MessageError> {
        let (_id, flags, questions) = (reader.u16()?, reader.u16()?, reader.u16()?);
        let (answers, authorities, _additionals) = (reader.u16()?, reader.u16()?, reader.u16()?);
        if flags & FLAG_RESPONSE == 0 || flags & FLAG_TRUNCATED != 0 {
            return Err(MessageError::NotAnAnswer);
        }
        match flags & RCODE {
            0 | NAME_ERROR => {}
            code => return Err(MessageError::Refused(code as u8)),
        }
        if questions != 1 {
            return Err(MessageError::NotAnAnswer);
        }
        Ok(Self {
            answers,
            authorities,
        })
    }
}

/// A record of a supported type.
struct DnsRecord {
    owner: Vec<u8>,
    ttl: u32,
    data: RecordData,
}

enum RecordData {
    Address(IpAddr),
    Alias(Vec<u8>),
    /// The start of a zone: the time to live of its negative answers, in seconds.
    Zone(u32),
}

struct ResolvedName {
    addresses: Vec<IpAddr>,
    ttl: u32,
}

/// The addresses of `name`, following its aliases, with the shortest time to live of the records.
fn follow(mut name: Vec<u8>, records: &[DnsRecord]) -> Result<ResolvedName, MessageError> {
    let mut ttl = u32::MAX;
    for _ in 0..=MAX_ALIASES {
        let mut addresses = Vec::new();
        let mut alias = None;
        for record in records.iter().filter(|record| record.owner == name) {
            match &record.data {
                RecordData::Address(ip) => addresses.push(*ip),
                RecordData::Alias(target) => alias = Some(target.clone()),
                RecordData::Zone(_) => continue,
            }
            ttl = ttl.min(record.ttl);
        }
        match alias {
            Some(target) if addresses.is_empty() => name = target,
            _ => return Ok(ResolvedName { addresses, ttl }),
        }
    }
    Err(MessageError::TooManyAliases)
}

/// The time to live of a negative answer, in seconds (RFC 2308 §5).
fn negative_ttl(authorities: &[DnsRecord]) -> Option<u32> {
    authorities.iter().find_map(|record| match record.data {
        RecordData::Zone(minimum) => Some(record.ttl.min(minimum)),
        _ => None,
    })
}

/// A position in a message.
struct MessageReader<'m> {
    message: &'m [u8],
    at: usize,
}

impl<'m> MessageReader<'m> {
    fn take(&mut self, len: usize) -> Result<&'m [u8], MessageError> {
        let rest = self.message.get(self.at..).unwrap_or_default();
        let taken = rest.get(..len).ok_or(MessageError::CutOff)?;
        self.at += len;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], MessageError> {
        let taken = self.take(N)?.first_chunk();
        taken.copied().ok_or(MessageError::CutOff)
    }

    fn u16(&mut self) -> Result<u16, MessageError> {
        self.array().map(u16::from_be_bytes)
    }

    fn u32(&mut self) -> Result<u32, MessageError> {
        self.array().map(u32::from_be_bytes)
    }

    /// Reads a name, in lower case and with pointers followed (RFC 1035 §4.1.4); moves behind it.
    fn name(&mut self) -> Result<Vec<u8>, MessageError> {
        let mut name = Vec::new();
        // Pointers must lead to before this position, so that they terminate.
        let mut start = self.at;
        let mut behind = None;
        let mut pointers = 0;
        loop {
            let [len] = self.array()?;
            match (len >> 6, len & 0x3f) {
                (0, 0) => break,
                (0, _) => {
                    let label = self.take(len.into())?;
                    name.push(len);
                    name.extend(label.iter().map(u8::to_ascii_lowercase));
                }
                (3, high) => {
                    let [low] = self.array()?;
                    let target = usize::from(u16::from_be_bytes([high, low]));
                    pointers += 1;
                    if target >= start || pointers > MAX_POINTERS {
                        return Err(MessageError::BadName);
                    }
                    behind.get_or_insert(self.at);
                    (self.at, start) = (target, target);
                }
                _ => return Err(MessageError::BadName),
            }
            if name.len() >= MAX_NAME_LEN {
                return Err(MessageError::BadName);
            }
        }
        name.push(0);
        self.at = behind.unwrap_or(self.at);
        Ok(name)
    }

    /// Reads this many records; those of other types and classes are skipped.
    fn records(&mut self, count: u16) -> Result<Vec<DnsRecord>, MessageError> {
        let mut records = Vec::new();
        for _ in 0..count {
            records.extend(self.record()?);
        }
        Ok(records)
    }

    fn record(&mut self) -> Result<Option<DnsRecord>, MessageError> {
        let owner = self.name()?;
        let (kind, class, ttl, len) = (self.u16()?, self.u16()?, self.u32()?, self.u16()?);
        let start = self.at;
        let bytes = self.take(len.into())?;
        let end = self.at;
        if class != CLASS_IN {
            return Ok(None);
        }
        let data = match kind {
            TYPE_A => {
                let octets = <[u8; 4]>::try_from(bytes).map_err(|_| MessageError::BadRecord)?;
                RecordData::Address(IpAddr::from(octets))
            }
            TYPE_AAAA => {
                let octets = <[u8; 16]>::try_from(bytes).map_err(|_| MessageError::BadRecord)?;
                RecordData::Address(IpAddr::from(octets))
            }
            TYPE_CNAME => {
                self.at = start;
                RecordData::Alias(self.name()?)
            }
            TYPE_SOA => {
                self.at = start;
                // Primary server, mailbox, serial, refresh, retry, expire.
                self.name()?;
                self.name()?;
                self.take(16)?;
                RecordData::Zone(self.u32()?)
            }
            _ => return Ok(None),
        };
        if self.at != end {
            return Err(MessageError::BadRecord);
        }
        // A value above 31 bits counts as 0 (RFC 2181 §8).
        let ttl = if ttl > i32::MAX as u32 { 0 } else { ttl };
        Ok(Some(DnsRecord { owner, ttl, data }))
    }
}

#[cfg(test)]
mod tests;
