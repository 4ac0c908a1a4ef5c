//! Responses built byte by byte: valid ones, all of their prefixes, and hostile ones.

use super::{DnsAnswer, HEADER_LEN, MessageError, query, read, wire_name};
use crate::config::Family;
use std::net::IpAddr;

const HOST: &str = "www.a.example";
/// A pointer to the queried name.
const TO_QUESTION: [u8; 2] = [0xc0, HEADER_LEN as u8];

fn name(host: &str) -> Vec<u8> {
    wire_name(host).unwrap()
}

fn record(owner: &[u8], kind: u16, ttl: u32, data: &[u8]) -> Vec<u8> {
    let mut record = owner.to_vec();
    record.extend(kind.to_be_bytes());
    record.extend(1u16.to_be_bytes());
    record.extend(ttl.to_be_bytes());
    record.extend((data.len() as u16).to_be_bytes());
    record.extend(data);
    record
}

fn soa(ttl: u32, minimum: u32) -> Vec<u8> {
    let mut data = [name("ns.a.example"), name("admin.a.example")].concat();
    data.extend([0; 16]);
    data.extend(minimum.to_be_bytes());
    record(&name("a.example"), 6, ttl, &data)
}

fn response(rcode: u8, answers: &[Vec<u8>], authorities: &[Vec<u8>]) -> Vec<u8> {
    let mut message = query(HOST, Family::Ipv4).unwrap();
    (message[2], message[3]) = (0x81, 0x80 | rcode);
    message[7] = answers.len() as u8;
    message[9] = authorities.len() as u8;
    message.extend(answers.concat());
    message.extend(authorities.concat());
    message
}

fn answer(message: &[u8]) -> Result<DnsAnswer, MessageError> {
    read(message, HOST, Family::Ipv4)
}

fn addresses(texts: &[&str], ttl: u32) -> Result<DnsAnswer, MessageError> {
    let parsed = texts.iter().map(|text| text.parse::<IpAddr>().unwrap());
    Ok(DnsAnswer::Addresses(parsed.collect(), ttl))
}

#[test]
fn a_query_is_that_of_the_rfc() {
    // RFC 8484 §4.1.1, without its line breaks.
    let expected = b"\0\0\x01\0\0\x01\0\0\0\0\0\0\x03www\x07example\x03com\0\0\x01\0\x01";
    let asked = query("www.Example.com.", Family::Ipv4).unwrap();
    assert_eq!(asked, expected);
}

#[test]
fn names_that_dns_cannot_express_are_not_queried() {
    let long_label = "a".repeat(64);
    let long_name = vec!["a".repeat(63); 4].join(".");
    for host in ["", ".", "a..b", ".a", &long_label, &long_name] {
        assert_eq!(query(host, Family::Ipv6), None, "{host}");
    }
    let longest = [
        &*"a".repeat(63),
        &"b".repeat(63),
        &"c".repeat(63),
        &"d".repeat(61),
    ]
    .join(".");
    assert_eq!(longest.len(), 253);
    assert!(query(&longest, Family::Ipv6).is_some());
}

#[test]
fn parses_addresses_and_the_shortest_lifetime() {
    let records = [
        record(&TO_QUESTION, 1, 300, &[192, 0, 2, 1]),
        record(&name("WWW.A.EXAMPLE"), 1, 60, &[192, 0, 2, 2]),
        record(&name("other.example"), 1, 5, &[192, 0, 2, 3]),
        record(&TO_QUESTION, 16, 1, b"\x04text"),
    ];
    let message = response(0, &records, &[]);
    assert_eq!(answer(&message), addresses(&["192.0.2.1", "192.0.2.2"], 60));
}

#[test]
fn reads_ipv6() {
    let mut message = query(HOST, Family::Ipv6).unwrap();
    (message[2], message[7]) = (0x80, 1);
    let ip: std::net::Ipv6Addr = "2001:db8::1".parse().unwrap();
    message.extend(record(&TO_QUESTION, 28, 7, &ip.octets()));
    assert_eq!(
        read(&message, HOST, Family::Ipv6),
        addresses(&["2001:db8::1"], 7)
    );
    assert_eq!(answer(&message), Err(MessageError::NotAnAnswer));
}

#[test]
fn follows_aliases_in_any_order() {
    let records = [
        record(&name("c.example"), 1, 300, &[192, 0, 2, 1]),
        record(&name("b.example"), 5, 20, &name("C.example")),
        record(&TO_QUESTION, 5, 60, &name("b.example")),
    ];
    let message = response(0, &records, &[]);
    assert_eq!(answer(&message), addresses(&["192.0.2.1"], 20));
}

#[test]
fn alias_loops_end() {
    let records = [
        record(&TO_QUESTION, 5, 60, &name("b.example")),
        record(&name("b.example"), 5, 60, &TO_QUESTION),
    ];
    let message = response(0, &records, &[]);
    assert_eq!(answer(&message), Err(MessageError::TooManyAliases));
}

#[test]
fn a_negative_answer_has_the_lifetime_of_its_zone() {
    for rcode in [0, 3] {
        let denial = |authorities: &[Vec<u8>]| answer(&response(rcode, &[], authorities));
        assert_eq!(denial(&[soa(600, 30)]), Ok(DnsAnswer::Nothing(Some(30))));
        assert_eq!(denial(&[soa(10, 30)]), Ok(DnsAnswer::Nothing(Some(10))));
        assert_eq!(denial(&[]), Ok(DnsAnswer::Nothing(None)));
    }
    let alias = record(&TO_QUESTION, 5, 60, &name("b.example"));
    let message = response(3, &[alias], &[soa(600, 30)]);
    assert_eq!(answer(&message), Ok(DnsAnswer::Nothing(Some(30))));
}

#[test]
fn a_resolver_failure_is_not_a_negative_answer() {
    for rcode in [1, 2, 4, 5] {
        let message = response(rcode, &[], &[]);
        assert_eq!(answer(&message), Err(MessageError::Refused(rcode)));
    }
}

#[test]
fn a_lifetime_above_31_bits_is_zero() {
    let records = [record(&TO_QUESTION, 1, 0x8000_0000, &[192, 0, 2, 1])];
    assert_eq!(
        answer(&response(0, &records, &[])),
        addresses(&["192.0.2.1"], 0)
    );
}

#[test]
fn every_prefix_is_refused() {
    let records = [
        record(&TO_QUESTION, 5, 60, &name("b.example")),
        record(&name("b.example"), 1, 60, &[192, 0, 2, 1]),
    ];
    let whole = response(0, &records, &[soa(600, 30)]);
    assert!(answer(&whole).is_ok());
    for len in 0..whole.len() {
        assert_eq!(
            answer(&whole[..len]),
            Err(MessageError::CutOff),
            "{len} bytes"
        );
    }
}

#[test]
fn no_changed_byte_panics() {
    let records = [
        record(&TO_QUESTION, 5, 60, &name("b.example")),
        record(&name("b.example"), 1, 60, &[192, 0, 2, 1]),
    ];
    let whole = response(0, &records, &[soa(600, 30)]);
    for at in 0..whole.len() {
        for byte in 0..=255 {
            let mut changed = whole.clone();
            changed[at] = byte;
            // Terminates, and with a result.
            drop(answer(&changed));
        }
    }
}

#[test]
fn responses_to_other_queries_are_refused() {
    let whole = response(0, &[record(&TO_QUESTION, 1, 60, &[192, 0, 2, 1])], &[]);
    let changed = |at: usize, byte: u8| {
        let mut message = whole.clone();
        message[at] = byte;
        answer(&message)
    };
    for (at, byte, what) in [
        (2, 0x01, "a question"),
        (2, 0x83, "a truncated response"),
        (5, 0, "no question"),
        (5, 2, "two questions"),
        (HEADER_LEN + 1, b'x', "another name"),
        (HEADER_LEN + 16, 28, "another type"),
        (HEADER_LEN + 18, 3, "another class"),
    ] {
        assert_eq!(changed(at, byte), Err(MessageError::NotAnAnswer), "{what}");
    }
}

#[test]
fn misleading_names_are_refused() {
    let here = query(HOST, Family::Ipv4).unwrap().len() as u8;
    let endless = {
        let mut owner = Vec::new();
        for _ in 0..5 {
            owner.push(63);
            owner.extend([b'a'; 63]);
        }
        owner.push(0);
        owner
    };
    for (owner, what) in [
        (vec![0xc0, here], "to itself"),
        (vec![0xc0, here + 2], "forwards"),
        (vec![1, b'a', 0xc0, here], "to its own beginning"),
        (vec![0xff, 0xff], "beyond the end"),
        (vec![0x40, 0], "an unknown kind of label"),
        (vec![0x80, 0], "another unknown kind of label"),
        (endless, "too long"),
    ] {
        let message = response(0, &[record(&owner, 1, 60, &[192, 0, 2, 1])], &[]);
        assert_eq!(answer(&message), Err(MessageError::BadName), "{what}");
    }
}

#[test]
fn a_long_chain_of_pointers_is_refused() {
    // A skipped record contains the chain, in which each pointer leads to the previous one.
    let start = query(HOST, Family::Ipv4).unwrap().len() + 12;
    for (len, expected) in [(126, true), (127, false)] {
        let targets = (0..len).map(|index| match index {
            0 => HEADER_LEN,
            _ => start + 2 * (index - 1),
        });
        let pointer = |target: usize| (0xc000 | target as u16).to_be_bytes();
        let chain: Vec<u8> = targets.flat_map(pointer).collect();
        let owner = pointer(start + 2 * (len - 1));
        let records = [
            record(&TO_QUESTION, 16, 60, &chain),
            record(&owner, 1, 60, &[192, 0, 2, 1]),
        ];
        let read = answer(&response(0, &records, &[]));
        match expected {
            true => assert_eq!(read, addresses(&["192.0.2.1"], 60)),
            false => assert_eq!(read, Err(MessageError::BadName)),
        }
    }
}

#[test]
fn data_that_does_not_fit_its_type_is_refused() {
    for (kind, data) in [
        (1, &[192, 0, 2][..]),
        (1, &[192, 0, 2, 1, 0]),
        (28, &[0; 15]),
        (5, &[0, 0]),
        (5, &[0xc0, 12, 0]),
    ] {
        let message = response(0, &[record(&TO_QUESTION, kind, 60, data)], &[]);
        assert_eq!(
            answer(&message),
            Err(MessageError::BadRecord),
            "type {kind}"
        );
    }
    let short_soa = record(&TO_QUESTION, 6, 60, &[0, 0, 0, 0, 0, 0]);
    assert!(answer(&response(0, &[], &[short_soa])).is_err());
}
