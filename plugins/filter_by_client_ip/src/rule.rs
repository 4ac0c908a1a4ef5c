//! Which clients are served, by address.
//!
//! An IPv4-mapped IPv6 address (`::ffff:192.0.2.1`) is the IPv4 address, in lists and for clients: which of the two a
//! client has depends only on the listener. Prefixes become sorted ranges without overlap, so that a list of thousands
//! costs one binary search.

use plugin_api::Error;
use std::net::IpAddr;

/// The two lists: denied clients, and allowed ones; if any are allowed, all others are denied.
pub(crate) struct ClientRule {
    allow: AddressSet,
    deny: AddressSet,
}

impl ClientRule {
    /// A rule with these lists.
    ///
    /// # Errors
    /// An entry that is neither an address nor a prefix, with its key.
    pub(crate) fn new(allow: &[String], deny: &[String]) -> Result<Self, Error> {
        Ok(Self {
            allow: AddressSet::new("allow", allow)?,
            deny: AddressSet::new("deny", deny)?,
        })
    }

    /// Whether `client` is served; a client without an address matches no list.
    pub(crate) fn serves(&self, client: Option<IpAddr>) -> bool {
        let is_in = |set: &AddressSet| client.is_some_and(|client| set.contains(client));
        !is_in(&self.deny) && (self.allow.is_empty() || is_in(&self.allow))
    }

    /// Whether all clients are served.
    pub(crate) fn is_empty(&self) -> bool {
        self.allow.is_empty() && self.deny.is_empty()
    }
}

/// Addresses of both families.
struct AddressSet {
    v4: Ranges,
    v6: Ranges,
}

impl AddressSet {
    fn new(key: &str, entries: &[String]) -> Result<Self, Error> {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for entry in entries {
            let prefix = Prefix::parse(entry)
                .map_err(|reason| Error::new(format!("{key}: `{entry}` {reason}")))?;
            match prefix.family {
                Family::V4 => v4.push(prefix.range()),
                Family::V6 => v6.push(prefix.range()),
            }
        }
        Ok(Self {
            v4: Ranges::new(v4),
            v6: Ranges::new(v6),
        })
    }

    fn contains(&self, address: IpAddr) -> bool {
        match address.to_canonical() {
            IpAddr::V4(address) => self.v4.contain(u32::from(address).into()),
            IpAddr::V6(address) => self.v6.contain(address.into()),
        }
    }

    fn is_empty(&self) -> bool {
        self.v4.0.is_empty() && self.v6.0.is_empty()
    }
}

/// The first and last address of each range; sorted, without overlap.
struct Ranges(Vec<(u128, u128)>);

impl Ranges {
    fn new(mut ranges: Vec<(u128, u128)>) -> Self {
        ranges.sort_unstable();
        ranges.dedup_by(|next, before| {
            let is_joined = next.0 <= before.1;
            if is_joined {
                before.1 = before.1.max(next.1);
            }
            is_joined
        });
        Self(ranges)
    }

    fn contain(&self, address: u128) -> bool {
        let behind = self.0.partition_point(|range| range.0 <= address);
        behind > 0 && address <= self.0[behind - 1].1
    }
}

#[derive(Clone, Copy)]
enum Family {
    V4,
    V6,
}

/// The addresses whose first `len` bits are those of `first`.
struct Prefix {
    family: Family,
    first: u128,
    len: u32,
}

const NEITHER: &str = "is neither an address nor a prefix such as 192.0.2.0/24";
const BEYOND: &str = "has bits beyond the length of its prefix";

/// The length of the prefix of IPv4-mapped addresses.
const MAPPED_LEN: u32 = 96;

impl Prefix {
    fn parse(text: &str) -> Result<Self, &'static str> {
        let (address, len) = match text.split_once('/') {
            Some((address, len)) => (address, Some(decimal(len).ok_or(NEITHER)?)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| NEITHER)?;
        let bits = if address.is_ipv4() { 32 } else { 128 };
        let len = len.unwrap_or(bits);
        if len > bits {
            return Err(NEITHER);
        }
        let prefix = Self::of(address, len);
        if prefix.first & prefix.host_mask() != 0 {
            return Err(BEYOND);
        }
        Ok(prefix)
    }

    fn of(address: IpAddr, len: u32) -> Self {
        let v4 = |bits: u32, len| Self {
            family: Family::V4,
            first: bits.into(),
            len,
        };
        match address {
            IpAddr::V4(address) => v4(address.into(), len),
            IpAddr::V6(address) => match address.to_ipv4_mapped() {
                Some(mapped) if len >= MAPPED_LEN => v4(mapped.into(), len - MAPPED_LEN),
                _ => Self {
                    family: Family::V6,
                    first: address.into(),
                    len,
                },
            },
        }
    }

    /// The bits that the prefix does not determine.
    fn host_mask(&self) -> u128 {
        let ones = match self.family {
            Family::V4 => u128::from(u32::MAX),
            Family::V6 => u128::MAX,
        };
        let open = ones.count_ones() - self.len;
        u128::MAX
            .checked_shl(open)
            .map_or(ones, |fixed| ones & !fixed)
    }

    fn range(&self) -> (u128, u128) {
        (self.first, self.first | self.host_mask())
    }
}

/// Digits only: `parse` would accept a plus sign.
fn decimal(text: &str) -> Option<u32> {
    let is_decimal = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| is_decimal)
}

#[cfg(test)]
mod tests {
    use super::ClientRule;

    fn rule(allow: &[&str], deny: &[&str]) -> Result<ClientRule, plugin_api::Error> {
        let owned = |list: &[&str]| list.iter().map(|&each| each.to_owned()).collect::<Vec<_>>();
        ClientRule::new(&owned(allow), &owned(deny))
    }

    fn assert_serves(rule: &ClientRule, table: &[(&str, bool)]) {
        for (client, expected) in table {
            let served = rule.serves(Some(client.parse().unwrap()));
            assert_eq!(served, *expected, "{client}");
        }
    }

    #[test]
    fn denies_addresses_and_prefixes_of_both_families() {
        let rule = rule(
            &[],
            &["192.0.2.7", "198.51.100.0/24", "2001:db8::/32", "::1"],
        )
        .unwrap();
        assert_serves(
            &rule,
            &[
                ("192.0.2.7", false),
                ("192.0.2.6", true),
                ("192.0.2.8", true),
                ("198.51.99.255", true),
                ("198.51.100.0", false),
                ("198.51.100.255", false),
                ("198.51.101.0", true),
                ("2001:db8::", false),
                ("2001:db8:ffff:ffff:ffff:ffff:ffff:ffff", false),
                ("2001:db9::", true),
                ("::1", false),
                ("::2", true),
            ],
        );
    }

    #[test]
    fn an_allow_list_denies_all_others_and_deny_takes_precedence() {
        let rule = rule(&["10.0.0.0/8", "::1"], &["10.1.0.0/16"]).unwrap();
        assert_serves(
            &rule,
            &[
                ("10.0.0.1", true),
                ("10.1.2.3", false),
                ("11.0.0.0", false),
                ("::1", true),
                ("::", false),
            ],
        );
        assert!(!rule.serves(None));
    }

    #[test]
    fn without_lists_all_clients_are_served() {
        let rule = rule(&[], &[]).unwrap();
        assert!(rule.is_empty() && rule.serves(None));
        assert_serves(&rule, &[("127.0.0.1", true), ("::1", true)]);
    }

    #[test]
    fn mapped_addresses_match_as_ipv4() {
        let rule = rule(&[], &["192.0.2.1", "::ffff:198.51.100.0/120"]).unwrap();
        assert_serves(
            &rule,
            &[
                ("::ffff:192.0.2.1", false),
                ("198.51.100.9", false),
                ("::ffff:198.51.100.9", false),
                ("::ffff:198.51.101.9", true),
                ("::192.0.2.1", true),
            ],
        );
    }

    #[test]
    fn every_length_denies_its_own_family_only() {
        let v4 = rule(&[], &["0.0.0.0/0"]).unwrap();
        assert_serves(
            &v4,
            &[("0.0.0.0", false), ("255.255.255.255", false), ("::", true)],
        );
        let v6 = rule(&[], &["::/0"]).unwrap();
        assert_serves(
            &v6,
            &[
                ("::", false),
                ("ffff::", false),
                ("::ffff:1.2.3.4", true),
                ("1.2.3.4", true),
            ],
        );
        let single = rule(&[], &["192.0.2.1/32", "::1/128"]).unwrap();
        assert_serves(
            &single,
            &[("192.0.2.1", false), ("192.0.2.2", true), ("::1", false)],
        );
    }

    #[test]
    fn overlapping_prefixes_are_one() {
        let rule = rule(
            &[],
            &["10.0.0.0/8", "10.2.0.0/16", "10.255.255.255", "9.0.0.0/8"],
        )
        .unwrap();
        assert_serves(
            &rule,
            &[
                ("9.0.0.0", false),
                ("10.2.255.255", false),
                ("10.3.0.0", false),
                ("10.255.255.255", false),
                ("11.0.0.0", true),
                ("8.255.255.255", true),
            ],
        );
    }

    #[test]
    fn refuses_invalid_addresses_with_their_key() {
        for (entry, reason) in [
            ("", super::NEITHER),
            ("localhost", super::NEITHER),
            ("1.2.3", super::NEITHER),
            ("1.2.3.4/33", super::NEITHER),
            ("1.2.3.4/+8", super::NEITHER),
            ("1.2.3.4/", super::NEITHER),
            ("::/129", super::NEITHER),
            ("[::1]", super::NEITHER),
            ("192.0.2.7/24", super::BEYOND),
            ("2001:db8::1/32", super::BEYOND),
            ("::ffff:192.0.2.7/120", super::BEYOND),
        ] {
            let refused = rule(&[], &[entry]).err().unwrap();
            assert_eq!(refused.message(), format!("deny: `{entry}` {reason}"));
        }
        let refused = rule(&["x"], &[]).err().unwrap();
        assert!(refused.message().starts_with("allow: "));
    }
}
