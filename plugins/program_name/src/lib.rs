//! Shows in the access log which program on this machine sent a request.
//!
//! ```toml
//! [[plugins]]
//! library = "libprogram_name.so"
//! name = "ProgramName"
//! config = { max_wait_ms = 200 }   # the default
//! ```
//!
//! ```text
//! 127.0.0.1:45286 - GET example.com:80/ - 200 OK - 1256 bytes - 12.34 ms - program=curl
//! ```
//!
//! Only for clients on loopback addresses, and only on Linux. The first request of a connection waits while the
//! processes are searched, which takes milliseconds; later ones do not. `program=?` means that the program cannot be
//! identified: it belongs to another user and the proxy does not run as root, it is in another PID namespace, or it was
//! not found in time.

mod config;
mod lookup;
mod process;
mod rule;
mod seen;

use config::Config;
use lookup::Lookups;
use plugin_api::prelude::*;
use seen::ProgramCache;
use std::net::SocketAddr;
use std::sync::Arc;

struct ProgramName {
    /// None on systems without /proc.
    lookups: Option<Lookups>,
    seen: ProgramCache,
}

#[filter]
impl Filter for ProgramName {
    const CONFIG_SCHEMA: &'static str = config::SCHEMA;
    type Config = Config;

    fn new(config: Config) -> Result<Self, Error> {
        let max_wait = config.max_wait()?;
        let lookups = match cfg!(target_os = "linux") {
            true => Some(Lookups::start(max_wait)?),
            false => None,
        };
        if lookups.is_none() {
            warn!("programs can be identified only on Linux: this plugin has no effect here");
        }
        Ok(Self {
            lookups,
            seen: ProgramCache::new(),
        })
    }

    fn before_upstream_connection(&self, exchange: &mut Exchange<'_, Self>) -> Outcome {
        if self.lookups.is_none() || local_client(exchange).is_none() {
            return proceed();
        }
        match self.seen.program(exchange.connection_id()) {
            Some(program) => {
                exchange.add_log_field("program", program);
                proceed()
            }
            None => Ok(Flow::Async),
        }
    }

    async fn before_upstream_connection_async(&self, exchange: &mut Exchange<'_, Self>) -> Outcome {
        if let (Some(lookups), Some(client)) = (&self.lookups, local_client(exchange)) {
            let program = lookups.program(client).await;
            let program: Arc<str> = program.as_deref().unwrap_or("?").into();
            self.seen
                .remember(exchange.connection_id(), program.clone());
            exchange.add_log_field("program", program);
        }
        proceed()
    }
}

fn local_client(exchange: &Exchange<'_, ProgramName>) -> Option<SocketAddr> {
    exchange
        .client()
        .filter(|client| client.ip().to_canonical().is_loopback())
}

export_plugins!(ProgramName);

#[cfg(test)]
mod tests {
    use super::ProgramName;
    use plugin_api::testing::{configured, get};

    #[test]
    #[cfg(target_os = "linux")]
    fn logs_the_program_of_a_local_client_and_caches_it() {
        use std::fs;
        use std::net::{TcpListener, TcpStream};

        let filter: ProgramName = configured("max_wait_ms = 2000").unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let address = client.local_addr().unwrap();
        let own_name = fs::read_to_string("/proc/self/comm").unwrap();
        let noted = [("program".to_owned(), own_name.trim_end().to_owned())];
        let first = get("http://a.example/").client(address).run(&filter);
        assert_eq!(first.log_fields(), noted);
        drop(client);
        let second = get("http://a.example/").client(address).run(&filter);
        assert_eq!(second.log_fields(), noted, "of the same connection");
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn logs_unknown_programs() {
        let filter: ProgramName = configured("").unwrap();
        let run = get("http://a.example/")
            .client("127.0.0.1:1".parse().unwrap())
            .run(&filter);
        assert_eq!(run.log_fields(), [("program".to_owned(), "?".to_owned())]);
    }

    #[test]
    fn logs_nothing_for_remote_clients() {
        let filter: ProgramName = configured("").unwrap();
        let run = get("http://a.example/")
            .client("192.0.2.7:45286".parse().unwrap())
            .run(&filter);
        assert!(run.log_fields().is_empty());
    }

    #[test]
    fn refuses_a_wait_out_of_range() {
        let refused = configured::<ProgramName>("max_wait_ms = 5000")
            .err()
            .unwrap();
        let reason = "max_wait_ms: 5000 is not from 1 to 2000";
        assert_eq!(refused.message(), reason);
    }
}
