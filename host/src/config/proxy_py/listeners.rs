//! `--hostnames`, `--ports`, `--unix-socket-path` and `--enable-proxy-protocol`: what they say of listeners.
//!
//! As in proxy.py, the proxy listens on each of the addresses at each of the ports, and a Unix socket stands in for
//! `--port`. All of them have the certificate of `--cert-file`, and all expect a PROXY protocol header if any does.

use toml::{Table, Value};

use crate::config::document::{Node, Place};
use crate::config::flags::Given;
use crate::config::settings::Settings;
use crate::config::{Flags, document};

/// The networks whose connections begin with a header: as in proxy.py, all.
const EVERYWHERE: [&str; 2] = ["0.0.0.0/0", "::/0"];

impl Flags {
    /// Where the listeners are. The first is that of `hostname` and `port`, unless these cannot say what it is.
    pub(in crate::config) fn put_listeners(&self, given: &mut Given) {
        let of = &self.proxy_py;
        let is_first_plain = of.unix_socket_path.is_none() && !of.enable_proxy_protocol;
        let mut further = self.tcp_listeners();
        if is_first_plain {
            given.text("hostname", "--hostname", &self.hostname);
            given.text("port", "--port", &self.port);
            further.remove(0);
            // With further ones, there is a first only if something says where.
            let is_said = self.hostname.is_some() || self.port.is_some() || self.config.is_some();
            if !further.is_empty() && !is_said {
                let port = Settings::default().port.0.to_string();
                given.text("port", "--ports", &Some(port));
            }
        }
        let path = of.unix_socket_path.as_deref();
        let path = path.and_then(|path| given.utf8("--unix-socket-path", path));
        let unix = path.map(|path| {
            let table = Table::from_iter([("path".to_owned(), Value::from(path))]);
            ("--unix-socket-path", table)
        });
        let tables = unix.into_iter().chain(further);
        let tables: Vec<Node> = tables
            .map(|(flag, table)| Node::new(Place::Flag(flag), self.completed(table).into()))
            .collect();
        if !tables.is_empty() {
            given.put("listeners", "--ports", document::Value::Array(tables));
        }
    }

    /// Those of TCP, each with the flag that adds it; the one of `--hostname` and `--port` is the first.
    fn tcp_listeners(&self) -> Vec<(&'static str, Table)> {
        let of = &self.proxy_py;
        let own_port = of
            .unix_socket_path
            .is_none()
            .then_some(("--port", self.port.as_ref()));
        let more_ports = of.ports.iter().map(|port| ("--ports", Some(port)));
        let ports: Vec<_> = own_port.into_iter().chain(more_ports).collect();
        let more = of.hostnames.iter().map(|name| ("--hostnames", Some(name)));
        let hostnames = [("--hostname", self.hostname.as_ref())]
            .into_iter()
            .chain(more);
        let mut tables = Vec::new();
        let default = Settings::default().hostname.0;
        let mut known: Vec<&str> = Vec::new();
        for (hostname_flag, hostname) in hostnames {
            // proxy.py listens once at an address that is given twice, or that is the default.
            let shown = hostname.map_or(&*default, |hostname| hostname.as_str());
            if known.contains(&shown) {
                continue;
            }
            known.push(shown);
            for (port_flag, port) in &ports {
                let mut table = Table::new();
                if let Some(hostname) = hostname {
                    table.insert("hostname".to_owned(), Value::from(hostname.as_str()));
                }
                let port = port.and_then(|port| port.trim().parse().ok());
                let port = port.unwrap_or(Settings::default().port.0 as i64);
                table.insert("port".to_owned(), Value::from(port));
                let flag = match *port_flag {
                    "--port" => hostname_flag,
                    flag => flag,
                };
                // `--port 1 --ports 1` is one listener; several that the system chooses ports for are several.
                if port == 0 || !tables.iter().any(|(_, known)| *known == table) {
                    tables.push((flag, table));
                }
            }
        }
        tables
    }

    /// The table of a listener, with what all have.
    fn completed(&self, mut table: Table) -> Table {
        if self.cert_file.is_some() {
            table.insert("kind".to_owned(), Value::from("https"));
        }
        if self.proxy_py.enable_proxy_protocol {
            let networks = EVERYWHERE.map(Value::from).to_vec();
            table.insert("proxy_protocol_from".to_owned(), Value::from(networks));
        }
        table
    }
}

#[cfg(test)]
mod tests {
    use crate::config::load::Sources;
    use crate::config::{Flags, ListenerKind};
    use clap::Parser;

    /// The endpoints, a star where TLS is spoken.
    fn endpoints(line: &str) -> Vec<String> {
        let args = ["proxy"].into_iter().chain(line.split_whitespace());
        let flags = Flags::try_parse_from(args).unwrap_or_else(|error| panic!("{error}"));
        let config = Sources::merge(&flags, [], None).config(&flags);
        let listeners = config.unwrap_or_else(|error| panic!("{error}")).listeners;
        let shown = listeners.iter().map(|listener| {
            let star = match listener.kind {
                ListenerKind::Https => "*",
                _ => "",
            };
            format!("{}{star}", listener.endpoint)
        });
        shown.collect()
    }

    #[test]
    fn every_address_is_combined_with_every_port() {
        for (line, expected) in [
            ("", &["::1:8899"][..]),
            ("--ports=9000", &["::1:8899", "::1:9000"]),
            ("--port 1 --ports=1 --ports=2", &["::1:1", "::1:2"]),
            ("--port 0 --ports=0", &["::1:0", "::1:0"]),
            (
                "--hostname 127.0.0.1 --hostnames=::1 --port=1 --ports=2",
                &["127.0.0.1:1", "127.0.0.1:2", "::1:1", "::1:2"],
            ),
            ("--unix-socket-path /s", &["unix:/s"]),
            ("--unix-socket-path /s --ports=2", &["unix:/s", "::1:2"]),
            (
                "--cert-file c --key-file k --port 1 --ports=2",
                &["::1:1*", "::1:2*"],
            ),
        ] {
            assert_eq!(endpoints(line), expected, "{line}");
        }
    }
}
