//! The keys of connections: everything that distinguishes them. Look-up by a borrowed key allocates nothing.

use std::hash::{Hash, Hasher};
use std::net::IpAddr;

use hashbrown::Equivalent;

use super::parent::Parent;
use super::route::Route;
use super::tls::{HttpVersions, TlsNumber};
use crate::http1::Scheme;

/// The key of a connection: routes with the same key can share connections.
#[derive(Clone, Copy, Debug)]
pub(super) struct KeyRef<'a> {
    /// Empty for a parent that accepts requests for any host.
    host: &'a str,
    port: u16,
    scheme: Scheme,
    versions: HttpVersions,
    tls: TlsNumber,
    /// None for most routes, so that hashing and comparing them is cheap.
    detour: Option<DetourRef<'a>>,
}

/// What is unusual about a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct DetourRef<'a> {
    front: Option<&'a str>,
    parent: Option<&'a Parent>,
    addresses: &'a [IpAddr],
    source: Option<IpAddr>,
    is_absolute: bool,
}

/// An owned [`KeyRef`].
#[derive(Debug)]
pub(super) struct Key {
    host: String,
    port: u16,
    scheme: Scheme,
    versions: HttpVersions,
    tls: TlsNumber,
    detour: Option<Box<Detour>>,
}

#[derive(Debug)]
struct Detour {
    front: Option<String>,
    parent: Option<Parent>,
    addresses: Vec<IpAddr>,
    source: Option<IpAddr>,
    is_absolute: bool,
}

impl<'a> KeyRef<'a> {
    pub(super) fn of(route: &Route<'a>) -> Self {
        let (host, port) = match route.is_absolute_form() {
            true => ("", 0),
            false => (route.host, route.port),
        };
        let is_unusual = route.parent.is_some()
            || route.source.is_some()
            || route.is_absolute
            || route.front.is_some()
            || !route.addresses.is_empty();
        Self {
            host,
            port,
            scheme: route.scheme,
            versions: match route.scheme {
                Scheme::Http => HttpVersions::Http1,
                Scheme::Https => route.versions,
            },
            tls: match (route.scheme, route.parent) {
                (Scheme::Http, None) => TlsNumber::NONE,
                _ => route.tls,
            },
            detour: is_unusual.then_some(DetourRef {
                front: route.front,
                parent: route.parent,
                addresses: match route.parent {
                    Some(_) => &[],
                    None => route.addresses,
                },
                source: route.source,
                // A parent gets the host in its canonical form, and resolves it itself.
                is_absolute: route.is_absolute && route.parent.is_none(),
            }),
        }
    }

    /// The key of a single destination and of any version of HTTP, even if a parent accepts requests for any host.
    pub(super) fn of_destination(route: &Route<'a>) -> Self {
        Self {
            host: route.host,
            port: route.port,
            versions: HttpVersions::Http1,
            ..Self::of(route)
        }
    }

    pub(super) fn to_key(self) -> Key {
        Key {
            host: self.host.to_owned(),
            port: self.port,
            scheme: self.scheme,
            versions: self.versions,
            tls: self.tls,
            detour: self.detour.map(|detour| {
                Box::new(Detour {
                    front: detour.front.map(str::to_owned),
                    parent: detour.parent.cloned(),
                    addresses: detour.addresses.to_vec(),
                    source: detour.source,
                    is_absolute: detour.is_absolute,
                })
            }),
        }
    }
}

impl Key {
    pub(super) fn as_ref(&self) -> KeyRef<'_> {
        KeyRef {
            host: &self.host,
            port: self.port,
            scheme: self.scheme,
            versions: self.versions,
            tls: self.tls,
            detour: self.detour.as_deref().map(|detour| DetourRef {
                front: detour.front.as_deref(),
                parent: detour.parent.as_ref(),
                addresses: &detour.addresses,
                source: detour.source,
                is_absolute: detour.is_absolute,
            }),
        }
    }
}

/// Hashes what differs between ordinary routes, and the rest only if there is any.
impl Hash for KeyRef<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.host.hash(state);
        self.port.hash(state);
        if let Some(detour) = &self.detour {
            detour.hash(state);
        }
    }
}

impl PartialEq for KeyRef<'_> {
    fn eq(&self, other: &Self) -> bool {
        let is_same_end = self.port == other.port
            && self.scheme == other.scheme
            && self.versions == other.versions
            && self.tls == other.tls
            && self.host == other.host;
        is_same_end
            && match (&self.detour, &other.detour) {
                (None, None) => true,
                (one, other) => one == other,
            }
    }
}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_ref().hash(state);
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.as_ref() == other.as_ref()
    }
}

impl Eq for Key {}

impl Equivalent<Key> for KeyRef<'_> {
    fn equivalent(&self, key: &Key) -> bool {
        *self == key.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(key: impl Hash) -> u64 {
        let mut hasher = std::hash::DefaultHasher::new();
        key.hash(&mut hasher);
        hasher.finish()
    }

    fn share(one: &Route<'_>, other: &Route<'_>) -> bool {
        let (one, other) = (KeyRef::of(one), KeyRef::of(other));
        assert_eq!(hash(one), hash(one.to_key()));
        assert!(one.equivalent(&one.to_key()));
        one.equivalent(&other.to_key())
    }

    #[test]
    fn routes_share_connections_only_if_everything_is_the_same() {
        let parent = |url| Parent::parse(url).unwrap();
        let (http, named) = (parent("http://p:1"), parent("http://u:a@p:1"));
        let (other_user, other_port) = (parent("http://v:a@p:1"), parent("http://p:2"));
        let (socks, tls) = (parent("socks5://p:1"), parent("https://p:1"));
        let addresses = ["127.0.0.1".parse().unwrap(), "127.0.0.2".parse().unwrap()];
        let direct = Route::direct("a", 80);
        let secure = Route {
            scheme: Scheme::Https,
            ..direct
        };
        let through = |parent| Route {
            parent: Some(parent),
            ..direct
        };
        let over = |addresses| Route {
            addresses,
            ..direct
        };
        let from = |address: &str| Route {
            source: address.parse().ok(),
            ..direct
        };
        let tunnel = Route {
            is_tunnel: true,
            ..through(&http)
        };
        let routes = [
            direct,
            Route {
                is_absolute: true,
                ..direct
            },
            Route::direct("b", 80),
            Route::direct("a", 81),
            secure,
            Route {
                versions: HttpVersions::Any,
                ..secure
            },
            through(&http),
            through(&named),
            through(&other_user),
            through(&other_port),
            through(&socks),
            through(&tls),
            Route {
                parent: Some(&http),
                ..secure
            },
            tunnel,
            over(&addresses),
            over(&addresses[1..]),
            from("127.0.0.1"),
            from("::1"),
            Route {
                front: Some("b"),
                ..secure
            },
            Route {
                versions: HttpVersions::Unnamed,
                ..secure
            },
        ];
        for (row, one) in routes.iter().enumerate() {
            for (column, other) in routes.iter().enumerate() {
                assert_eq!(share(one, other), row == column, "{one:?} {other:?}");
            }
        }
    }

    #[test]
    fn offered_versions_do_not_matter_without_tls() {
        let parent = Parent::parse("https://p:1").unwrap();
        let direct = Route::direct("a", 80);
        let through = Route {
            parent: Some(&parent),
            ..direct
        };
        for route in [direct, through] {
            let any = Route {
                versions: HttpVersions::Any,
                ..route
            };
            assert!(share(&route, &any));
        }
    }

    #[test]
    fn a_destination_is_one_host_in_any_version() {
        let parent = Parent::parse("http://p:1").unwrap();
        let to = |host| Route {
            parent: Some(&parent),
            ..Route::direct(host, 80)
        };
        let key = |route: &Route<'_>| KeyRef::of_destination(route).to_key();
        assert!(key(&to("a")) == key(&to("a")));
        assert!(key(&to("a")) != key(&to("b")));
        assert!(key(&to("a")) != key(&Route::direct("a", 80)));
        let secure = Route {
            scheme: Scheme::Https,
            ..Route::direct("a", 80)
        };
        let any = Route {
            versions: HttpVersions::Any,
            ..secure
        };
        assert!(key(&secure) == key(&any));
    }

    #[test]
    fn a_parent_that_gets_requests_serves_every_host() {
        let parent = Parent::parse("http://p:1").unwrap();
        let to = |host, scheme| Route {
            scheme,
            parent: Some(&parent),
            ..Route::direct(host, 80)
        };
        assert!(share(&to("a", Scheme::Http), &to("b", Scheme::Http)));
        assert!(!share(&to("a", Scheme::Https), &to("b", Scheme::Https)));
    }
}
