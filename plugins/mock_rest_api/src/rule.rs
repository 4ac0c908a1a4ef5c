//! The answers of the mocked API.

use crate::config::MockAnswer;
use plugin_api::{Error, canonical_host};
use serde::de::IgnoredAny;
use std::collections::HashMap;

/// The API of one host.
pub(crate) struct Api {
    host: String,
    routes: HashMap<String, MockAnswer>,
}

impl Api {
    /// The API of `host`, with answers by path.
    ///
    /// # Errors
    /// An invalid host or path, a status that is not final, text that is not JSON.
    pub(crate) fn new(host: &str, routes: HashMap<String, MockAnswer>) -> Result<Self, Error> {
        let host = canonical_host(host)
            .map_err(|_| Error::new(format!("host: `{host}` is not a host name")))?;
        for (path, route) in &routes {
            check(path, route).map_err(|reason| Error::new(format!("routes.{path}: {reason}")))?;
        }
        Ok(Self {
            host: host.into_owned(),
            routes,
        })
    }

    /// Whether requests for `host`, in its canonical form, are answered.
    pub(crate) fn is_at(&self, host: &str) -> bool {
        host == self.host
    }

    /// The answer to `path`; the query is ignored.
    pub(crate) fn route(&self, path: &str) -> Option<&MockAnswer> {
        let path = path.split_once('?').map_or(path, |(path, _)| path);
        self.routes.get(path)
    }
}

fn check(path: &str, route: &MockAnswer) -> Result<(), String> {
    if !path.starts_with('/') || path.contains(['?', '#']) {
        return Err("is not a path without query, such as /v1/users/".to_owned());
    }
    if !(200..=599).contains(&route.status) {
        let status = route.status;
        return Err(format!("status: {status} is not from 200 to 599"));
    }
    match serde_json::from_str::<IgnoredAny>(&route.json) {
        Ok(_) => Ok(()),
        Err(error) => Err(format!("json: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::Api;
    use crate::config::MockAnswer;
    use std::collections::HashMap;

    fn api(host: &str, path: &str, status: u16, json: &str) -> Result<Api, plugin_api::Error> {
        let json = json.to_owned();
        Api::new(
            host,
            HashMap::from([(path.to_owned(), MockAnswer { status, json })]),
        )
    }

    #[test]
    fn finds_a_route_by_path_without_query() {
        let api = api("Api.Example.", "/a/", 201, "[]").unwrap();
        assert!(api.is_at("api.example"));
        assert!(!api.is_at("b.api.example") && !api.is_at("example"));
        for (path, is_route) in [
            ("/a/", true),
            ("/a/?page=2", true),
            ("/a", false),
            ("/a//", false),
            ("/", false),
            ("/?/a/", false),
        ] {
            assert_eq!(api.route(path).is_some(), is_route, "{path}");
        }
    }

    #[test]
    fn refuses_invalid_routes() {
        let refused = |path, status, json| {
            let refused = api("a", path, status, json).err().unwrap();
            refused.message().to_owned()
        };
        let no_path = "routes.a: is not a path without query, such as /v1/users/";
        assert_eq!(refused("a", 200, "1"), no_path);
        assert!(refused("/a?b", 200, "1").contains("without query"));
        let status = "routes./a: status: 100 is not from 200 to 599";
        assert_eq!(refused("/a", 100, "1"), status);
        let json = refused("/a", 200, "{'a': 1}");
        assert!(json.starts_with("routes./a: json: "), "{json}");
        assert!(refused("/a", 200, "1 2").contains("trailing characters"));
        assert!(api("a b", "/", 200, "1").is_err());
    }
}
